/* Convolutions along the tokens of a sequence, composed from shifted copies and a product. */
#include <math.h>

#include "nn/nn.h"

hfb_value *hfb_nn_windows(hfb_nn *nn, hfb_value *x, int64_t kernel) {
  if (x == NULL) return NULL;
  enum { KERNEL_MAX = 64 };
  int64_t length = x->shape.dim[1];
  hfb_value *shifted[KERNEL_MAX];
  if (kernel > KERNEL_MAX || kernel % 2 == 0) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED,
                     "a convolution kernel of %lld tokens is not implemented; odd ones up to %d are", (long long)kernel,
                     KERNEL_MAX - 1);
    return NULL;
  }
  hfb_value *padded = hfb_pad(nn->b, x, 1, kernel / 2, kernel / 2, 0);
  for (int64_t i = 0; i < kernel; i++) shifted[i] = hfb_slice(nn->b, padded, 1, i, i + length);
  return hfb_concat(nn->b, (int)kernel, shifted, 2);
}

hfb_value *hfb_nn_convolution(hfb_nn *nn, const char *name, hfb_value *x, int64_t out_features, int64_t kernel) {
  if (x == NULL) return NULL;
  int64_t in = x->shape.dim[2];
  double bound = 1 / sqrt((double)(in * kernel)); /* nn.Conv1d starts weight and bias uniform in this range */
  hfb_init uniform = {.kind = HFB_INIT_UNIFORM, .a = -bound, .b = bound, .padding_idx = -1};
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *weight = hfb_parameter(nn->b, "weight", hfb_shape_of(3, (int64_t[]){out_features, in, kernel}), uniform);
  hfb_value *bias = hfb_parameter(nn->b, "bias", hfb_shape_of(1, &out_features), uniform);
  hfb_scope_pop(nn->b);
  hfb_value *by_token = hfb_transpose(nn->b, weight, (int[]){0, 2, 1});
  hfb_value *matrix = hfb_reshape(nn->b, by_token, 2, (int64_t[]){out_features, kernel * in});
  hfb_value *windows = hfb_nn_windows(nn, x, kernel);
  return hfb_linear_op(nn->b, windows, matrix, bias, true);
}
