/* Training steps: which optimizer the suite takes for a model, and the graph of one step. */
#ifndef HFB_BENCH_TRAINING_H
#define HFB_BENCH_TRAINING_H

#include "grad/training.h"
#include "models/model.h"

/* What the reference harness steps the model with: SGD or nothing for those on its lists, Adam for all others. */
hfb_optimizer hfb_suite_optimizer(const hfb_model_row *model);

/* Builds the model, adds what makes it a training step, and converts all to `precision` (F32 or F64). The loss is the
 * first output; for a class without one it is the mean of the first output, as "loss" in front of the others. */
hfb_status hfb_training_step_graph(const hfb_model_request *request, const hfb_training_options *options,
                                   hfb_dtype precision, hfb_graph **out_graph) HFB_MUST_USE;

/* Its forward pass alone, with the same loss. */
hfb_status hfb_training_loss_graph(const hfb_model_request *request, hfb_dtype precision,
                                   hfb_graph **out_graph) HFB_MUST_USE;

/* Takes `graph` (f32) over and gives it in `precision`. */
hfb_status hfb_graph_in_precision(hfb_graph *graph, hfb_dtype precision, hfb_graph **out_graph) HFB_MUST_USE;

/* Name of graph->parameters[index]. */
const char *hfb_graph_parameter_name(const hfb_graph *graph, int index);
/* Whether training may change it: no buffer, not frozen. */
bool hfb_graph_parameter_is_trainable(const hfb_graph *graph, int index);
/* Whether it is state of the optimizer. */
bool hfb_graph_parameter_is_of_optimizer(const hfb_graph *graph, int index);
/* Bytes of all of that state; of all gradients that are outputs. */
int64_t hfb_graph_optimizer_bytes(const hfb_graph *graph);
int64_t hfb_graph_gradient_bytes(const hfb_graph *graph);
/* Index of the output that holds its gradient; -1 when the loss does not depend on it. */
int hfb_graph_find_gradient(const hfb_graph *graph, const char *parameter);

#endif
