/* Steps of optimizers, element by element: results[i] may be inputs[i]. */
#include <math.h>

#include "kernels/kernel_impl.h"
#include "kernels/ref/wide.h"

hfb_status hfb_k_sgd__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  double rate = hfb_node_float(call->node, HFB_ATTR_LEARNING_RATE);
  int64_t count = hfb_shape_elements(&call->results[0].shape);
  for (int64_t i = 0; i < count; i++) wide.out[0][i] = wide.in[0][i] - rate * wide.in[1][i];
  return hfb_wide_end(call, &wide, HFB_OK);
}

/* torch/optim/adam.py, _single_tensor_adam: the path that is neither capturable nor differentiable. */
hfb_status hfb_k_adam__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  const hfb_node *node = call->node;
  double beta1 = hfb_node_float(node, HFB_ATTR_BETA1), beta2 = hfb_node_float(node, HFB_ATTR_BETA2);
  double eps = hfb_node_float(node, HFB_ATTR_EPS), step = wide.in[4][0];
  double step_size = hfb_node_float(node, HFB_ATTR_LEARNING_RATE) / (1 - pow(beta1, step));
  double root = sqrt(1 - pow(beta2, step));
  int64_t count = hfb_shape_elements(&call->results[0].shape);
  for (int64_t i = 0; i < count; i++) {
    double g = wide.in[3][i];
    double mean = wide.in[1][i] + (g - wide.in[1][i]) * (1 - beta1);
    double square = wide.in[2][i] * beta2 + (1 - beta2) * g * g;
    wide.out[0][i] = wide.in[0][i] - step_size * mean / (sqrt(square) / root + eps);
    wide.out[1][i] = mean;
    wide.out[2][i] = square;
  }
  return hfb_wide_end(call, &wide, HFB_OK);
}
