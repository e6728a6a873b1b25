/* Tiny models with dropout at its real rate, and graphs run on eager with parameters that are drawn by name: what tests
 * of training graphs start from. */
#ifndef HFB_TESTS_SUPPORT_GRAD_MODELS_H
#define HFB_TESTS_SUPPORT_GRAD_MODELS_H

#include "hfbench/backend.h"
#include "models/model.h"

typedef struct grad_model {
  const char *class_name, *model_type, *config; /* as hfb_config_create */
} grad_model;

extern const grad_model grad_models[];
extern const int grad_model_count;

/* The forward graph for input_ids and labels of [2,12], in training. */
hfb_status grad_model_build(const grad_model *model, hfb_graph **out_graph) HFB_MUST_USE;

/* What a run of a graph needs, and what it leaves: parameters are drawn from `seed` and their names, optimizer state is
 * 0, the random state {seed, 0}; integer inputs are drawn below `bound`. Updates change `parameters`. */
typedef struct grad_run {
  const hfb_graph *graph;
  hfb_program *program;
  hfb_program_stats stats;
  hfb_tensor *inputs, *parameters, *outputs;
} grad_run;

hfb_status grad_run_open(const hfb_graph *graph, hfb_device *device, bool reference, int64_t seed, int64_t bound,
                         grad_run *out_run) HFB_MUST_USE;
/* One step; the outputs of the step before are released. */
hfb_status grad_run_step(grad_run *run) HFB_MUST_USE;
void grad_run_close(grad_run *run);
const hfb_tensor *grad_run_output(const grad_run *run, const char *name);    /* NULL when there is none */
const hfb_tensor *grad_run_parameter(const grad_run *run, const char *name); /* the same */

#endif
