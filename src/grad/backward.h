/* Reverse-mode differentiation: appends the backward nodes of a scalar to the graph that a builder holds.
 *
 * Column `gradient` of ops.def names the rule of each op; rules.h says what a rule gets and gives. Rules build
 * framework ops (layer_norm_backward ..), so that an op-by-op engine runs what a framework's autograd would run. */
#ifndef HFB_GRAD_BACKWARD_H
#define HFB_GRAD_BACKWARD_H

#include "ir/builder.h"

typedef struct hfb_backward_options {
  /* Activation checkpointing: what a layer computes is not kept for the backward pass but computed again from the
   * layer's inputs, just before it is needed, in nodes of a region of their own. A layer is everything under a scope
   * that ends in a number ("bert.encoder.layer.3"), the outermost such scope, as in transformers'
   * gradient_checkpointing. All nodes of the layer are copied; what no rule uses is for a later pass to drop. */
  bool checkpoint_layers;
} hfb_backward_options;

/* Gradients of the float scalar `loss` by each of `values` (floats). out_gradients[i] has the type of values[i], or is
 * NULL when the loss does not depend on it. A value that is used several times gets the sum, added in the order of the
 * backward pass. Errors are sticky in the builder: HFB_UNSUPPORTED for an op without a rule on the way. Backward nodes
 * carry the scope of the node that they differentiate. options may be NULL. */
void hfb_backward(hfb_builder *b, hfb_value *loss, int count, hfb_value *const *values,
                  const hfb_backward_options *options, hfb_value **out_gradients);

#endif
