/* How much memory a job will take, known from its graphs before a parameter is drawn. */
#ifndef HFB_BENCH_NEED_H
#define HFB_BENCH_NEED_H

#include "bench/job.h"

/* At the moment when most is taken. */
typedef struct hfb_memory_need {
  int64_t parameter_bytes; /* every copy that is alive then */
  int64_t optimizer_bytes;
  int64_t working_bytes;   /* of eager and the backend: tensors of a run, what their caches keep, rearranged weights,
                            * outputs that wait for the comparison; inputs */
  int64_t reference_bytes; /* all that is float64; in training with parameters and optimizer state */
  int64_t process_bytes;   /* the program, its graphs and what its threads need */
} hfb_memory_need;

/* What the process will hold: the sum of all, and what lies between. */
int64_t hfb_memory_need_total(const hfb_memory_need *need);

/* Of an accuracy check of `graph`; graph64: its reference (NULL: without one). */
hfb_status hfb_accuracy_need(const hfb_job *job, const hfb_graph *graph, const hfb_graph *graph64,
                             hfb_memory_need *out_need) HFB_MUST_USE;
/* shares_parameters: inference with one copy of the parameters for both engines. */
hfb_status hfb_performance_need(const hfb_job *job, const hfb_graph *graph, bool shares_parameters,
                                hfb_memory_need *out_need) HFB_MUST_USE;

/* Whether the job may take as much: job->memory_bytes, or what is free. */
bool hfb_memory_need_fits(const hfb_job *job, const hfb_memory_need *need);

/* HFB_OUT_OF_MEMORY with the figures, also of the same phase with weights in bf16 where that would need less. */
hfb_status hfb_memory_need_fail(const hfb_job *job, unsigned phase, const hfb_memory_need *need) HFB_MUST_USE;

#endif
