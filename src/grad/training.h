/* The training graph: forward, loss, backward and the optimizer's step in one graph.
 *
 * Outputs: "loss" (the first output of the forward graph), with options.keep_outputs all others too, with
 * options.output_gradients, or without an optimizer, "grad/<parameter>" for every trainable parameter that the loss
 * depends on. Parameters: those of the forward graph in their order, then the optimizer's state ("optimizer/step"
 * f64[], "optimizer/exp_avg/<name>", "optimizer/exp_avg_sq/<name>", buffers that start at 0). Updates: every trainable
 * parameter that has a gradient, the optimizer's state, and the random state, whose step grows by one. Optimizer nodes
 * stand behind all backward nodes, as a framework runs them. */
#ifndef HFB_GRAD_TRAINING_H
#define HFB_GRAD_TRAINING_H

#include "ir/graph.h"

typedef enum hfb_optimizer {
#define HFB_OPTIMIZER(id, name, help) HFB_OPTIMIZER_##id,
#include "grad/optimizers.def"
#undef HFB_OPTIMIZER
  HFB_OPTIMIZER_COUNT
} hfb_optimizer;

/* Of an output: the gradient of the parameter whose name follows. */
#define HFB_GRADIENT_PREFIX "grad/"

const char *hfb_optimizer_name(hfb_optimizer optimizer);
bool hfb_optimizer_parse(const char *name, hfb_optimizer *out_optimizer);

typedef struct hfb_training_options {
  hfb_optimizer optimizer;
  bool checkpoint_layers; /* see backward.h */
  bool output_gradients;
  bool keep_outputs;
} hfb_training_options;

/* HFB_INVALID_ARGUMENT when the first output is no float scalar (the class has no loss, or no labels were given);
 * HFB_INVALID_ARGUMENT when an optimizer is asked for and no trainable parameter has a gradient. */
hfb_status hfb_training_graph(const hfb_graph *forward, const hfb_training_options *options,
                              hfb_graph **out_graph) HFB_MUST_USE;

#endif
