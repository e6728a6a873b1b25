/* What is to be measured, how far it is, and the pieces that every measurement needs: the model with weights and
 * inputs, and an engine that is ready to run it. */
#ifndef HFB_BENCH_JOB_H
#define HFB_BENCH_JOB_H

#include "bench/engine.h"
#include "bench/parameters.h"
#include "bench/row.h"
#include "bench/training.h"
#include "ir/transform.h"

typedef struct hfb_job {
  const hfb_model_row *model;
  const hfb_engine *engine;
  hfb_dtype precision; /* F32 or F64 */
  hfb_dtype weights;   /* BF16: inference in F32 with matrices and tables of parameters stored so; else as precision */
  int64_t batch, seq_len;
  int threads; /* as hfb_pool_create */
  uint64_t seed;
  int64_t memory_bytes;    /* limit of each device; 0: none */
  bool no_skip;            /* accuracy of models for which the suite does without, too */
  /* Training steps instead of forward passes; the four below are for these. */
  bool training;
  bool eval_mode;         /* the model as it is built for inference, without dropout, is differentiated */
  bool no_dropout;        /* the model as it is built for training, with all probabilities 0 */
  bool checkpoint_layers; /* activation checkpointing */
  hfb_optimizer optimizer;
  int iterations;          /* accuracy: runs (in training: steps) of each side; the last one counts */
  int repeat;              /* performance: pairs of samples */
  int calls;               /* performance: model calls in one sample */
  double timing_budget_s;  /* performance: fewer pairs when they would take longer, but at least 6; 0: no limit */
  double machine_gflops;   /* 0: unknown */
  const char *cache_dir;   /* performance: an empty folder for the compiler's cache */
} hfb_job;

typedef enum hfb_stage {
#define HFB_STAGE(id, text, failed, out_of_memory) HFB_STAGE_##id,
#include "bench/stages.def"
#undef HFB_STAGE
  HFB_STAGE_COUNT
} hfb_stage;

/* Element type of stored weights. */
hfb_dtype hfb_job_weights(const hfb_job *job);
/* "inference" or "training". */
const char *hfb_job_mode(const hfb_job *job);
/* What the suite allows between eager and a backend. */
double hfb_job_tolerance(const hfb_job *job);
/* How a training step is made up: "on", "off" or "eval mode"; "layers" or "off". */
const char *hfb_job_dropout(const hfb_job *job);
const char *hfb_job_checkpointing(const hfb_job *job);
/* Columns that say so; nothing in inference. */
void hfb_job_describe_training(const hfb_job *job, hfb_row *row);

const char *hfb_stage_text(hfb_stage stage);
/* The status string of a row that ends in this stage. `cause` tells out of memory, and in LOAD unsupported models. */
const char *hfb_stage_status(hfb_stage stage, hfb_status cause);

/* Told whenever a job goes on: `done` of `total` within the stage, 0 of 0 when it has no parts. */
typedef struct hfb_monitor {
  void (*report)(void *context, hfb_stage stage, int done, int total);
  void *context;
} hfb_monitor;
void hfb_monitor_stage(const hfb_monitor *monitor, hfb_stage stage);
void hfb_monitor_step(const hfb_monitor *monitor, hfb_stage stage, int done, int total);

/* ---- The model with everything it reads ---- */

typedef struct hfb_workload {
  hfb_config *config;
  hfb_graph *graph;
  hfb_device *device; /* holds parameters and inputs; engines have devices of their own */
  hfb_parameters parameters; /* shared by the sides; none: each side has its own */
  hfb_tensor *inputs; /* graph->input_count */
} hfb_workload;

/* Graph of the job, which needs no more than model, batch, seq_len, precision and what says how a training step is made
 * up: a forward pass, or a training step, with the gradients as outputs if asked for. out_config may be NULL. */
hfb_status hfb_job_graph(const hfb_job *job, bool output_gradients, hfb_config **out_config,
                         hfb_graph **out_graph) HFB_MUST_USE;

/* Of `graph`, which is that of the job, at nominal size: what activation checkpointing computes again is no work that
 * the step needs. */
hfb_status hfb_job_multiply_adds(const hfb_job *job, const hfb_graph *graph, int64_t *out_count) HFB_MUST_USE;

/* What the job's graph gives in float64. In inference it reads the parameters of `graph` as they are stored and widens
 * each where it is used, so that a run has one float64 weight at a time; training changes them, so that there they are
 * float64. */
hfb_status hfb_job_reference_graph(const hfb_job *job, const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* The forward pass of the job's training step, its loss the first output; random ops draw as in the step. */
hfb_status hfb_job_loss_graph(const hfb_job *job, hfb_graph **out_graph) HFB_MUST_USE;

/* The graph alone. HFB_UNSUPPORTED for a precision that the model does not allow, or bf16 weights in another mode. */
hfb_status hfb_workload_init(const hfb_job *job, bool output_gradients, hfb_workload *out_workload) HFB_MUST_USE;
/* The rest: device, inputs, and parameters that sides share, which training, whose runs change them, does not allow. */
hfb_status hfb_workload_fill(const hfb_job *job, bool shares_parameters, hfb_workload *workload) HFB_MUST_USE;
void hfb_workload_deinit(hfb_workload *workload); /* a cleared struct is allowed */

/* Inputs of a suite row in the order of its graph, drawn from (seed, input name, element). Real inputs get whole
 * numbers too, in the precision of the graph. out_inputs has graph->input_count entries; on failure none is owned. */
hfb_status hfb_inputs_draw(const hfb_model_row *model, const hfb_config *config, const hfb_graph *graph, int64_t batch,
                           int64_t seq_len, uint64_t seed, hfb_device *device, hfb_tensor *out_inputs) HFB_MUST_USE;

/* ---- An engine with the model on a device of its own ---- */

typedef struct hfb_side {
  const hfb_backend *backend;
  const hfb_graph *graph;
  hfb_device *device;
  hfb_program *program;
  hfb_tensor *outputs;  /* of the last run; graph->output_count */
  hfb_parameters own;   /* what the runs change, on the side's device; none when parameters are shared */
  int64_t open_ns;      /* time to compile and bind */
  int64_t run_count;    /* since it was opened */
} hfb_side;

/* Compiles and binds. `parameters` must outlive the side; NULL: the side draws its own from `seed` and keeps them until
 * it is closed, and its program may rearrange them (options.owns_parameters). */
hfb_status hfb_side_open(hfb_side *side, const hfb_backend *backend, const hfb_graph *graph,
                         const hfb_parameters *parameters, uint64_t seed, const hfb_backend_options *options,
                         int threads, int64_t memory_bytes) HFB_MUST_USE;
/* The same with what the job says: the workload's parameters, or its own where that has none. */
hfb_status hfb_side_open_job(hfb_side *side, const hfb_backend *backend, const hfb_job *job, const hfb_workload *work,
                             const hfb_backend_options *options) HFB_MUST_USE;
/* Draws the side's own parameters again, as they were when it was opened, and counts its runs from 0: for training that
 * has diverged. The program stays. The outputs of the run before must have been dropped or taken; after a failure the
 * side can only be closed. */
hfb_status hfb_side_restart(hfb_side *side, uint64_t seed) HFB_MUST_USE;
/* Runs once; the outputs of the run before must have been dropped or taken. */
hfb_status hfb_side_run(hfb_side *side, const hfb_tensor *inputs) HFB_MUST_USE;
void hfb_side_drop_outputs(hfb_side *side);
/* Frees the program and the optimizer's state; outputs and parameters stay until the side is closed. */
void hfb_side_drop_program(hfb_side *side);
hfb_program_stats hfb_side_stats(const hfb_side *side);
/* Bytes now and at the peak, with the scratch memory of kernels. */
int64_t hfb_side_peak_bytes(const hfb_side *side);
void hfb_side_close(hfb_side *side); /* a cleared struct is allowed */

/* ---- The two measurements ---- */

/* Both fill the row's fields of their phase. On failure, what was known is in the row, and the last reported stage says
 * where it happened. */
hfb_status hfb_accuracy_measure(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) HFB_MUST_USE;
hfb_status hfb_performance_measure(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) HFB_MUST_USE;

#endif
