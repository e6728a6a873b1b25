/* A whole run: every model and phase in a child process of its own; a row for every model, whatever happens. */
#ifndef HFB_BENCH_RUNNER_H
#define HFB_BENCH_RUNNER_H

#include "bench/job.h"

typedef struct hfb_run_progress {
  const hfb_model_row *model;
  int index, count; /* of the models */
  unsigned phase;   /* HFB_PHASE_ACCURACY or HFB_PHASE_PERFORMANCE */
  hfb_stage stage;
  int done, total;
  double model_s, run_s; /* since the model, the run started */
} hfb_run_progress;

/* Both are called in the parent. The row is borrowed. */
typedef struct hfb_run_sink {
  void (*progress)(void *context, const hfb_run_progress *progress); /* often; NULL: not wanted */
  void (*row)(void *context, const hfb_row *row);
  void *context;
} hfb_run_sink;

typedef hfb_status (*hfb_measure_fn)(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row);

typedef struct hfb_run_plan {
  const hfb_model_row *const *models;
  int model_count;
  unsigned phases; /* HFB_PHASE bits */
  hfb_job job;     /* model, batch, seq_len, cache_dir and machine_gflops are filled in for each child */
  bool suite_optimizer;   /* training: the suite's choice for each model instead of job.optimizer */
  int64_t batch;          /* 0: the suite's, and 1 for accuracy */
  int64_t seq_len;        /* 0: the suite's */
  double timeout_s;
  int64_t memory_bytes;   /* of a child; 0: what is free when it starts */
  const char *tag;        /* NULL: none */
  bool pass_stderr;
  hfb_measure_fn accuracy, performance; /* NULL: hfb_accuracy_measure, hfb_performance_measure */
  bool without_peak;      /* do not measure the machine first */
} hfb_run_plan;

/* HFB_INTERRUPTED after a signal: rows of finished models have been given to the sink, and also one of a model of
 * which a phase was finished. Other failures mean that nothing could be run at all. The process must have one thread.
 */
hfb_status hfb_run(const hfb_run_plan *plan, const hfb_run_sink *sink) HFB_MUST_USE;

/* "pass" or "pass_due_to_skip". */
bool hfb_status_text_passes(const char *status);

#endif
