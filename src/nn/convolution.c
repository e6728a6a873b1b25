/* Convolutions along the tokens of a sequence: sums over shifted copies, and products of overlapping windows. */
#include <math.h>

#include "nn/nn.h"

static bool kernel_fits(hfb_nn *nn, int64_t kernel) {
  if (kernel % 2 == 1 && kernel <= HFB_NN_KERNEL_MAX) return true;
  hfb_builder_fail(nn->b, HFB_UNSUPPORTED,
                   "a convolution kernel of %lld tokens is not implemented; odd ones up to %d are", (long long)kernel,
                   HFB_NN_KERNEL_MAX);
  return false;
}

/* shifted[j][:, t] = x[:, t + j - kernel/2], zeros beyond the ends. */
static void shift(hfb_nn *nn, hfb_value *x, int64_t kernel, hfb_value **shifted) {
  int64_t length = x->shape.dim[1];
  hfb_value *padded = hfb_pad(nn->b, x, 1, kernel / 2, kernel / 2, 0);
  for (int64_t j = 0; j < kernel; j++) shifted[j] = hfb_slice(nn->b, padded, 1, j, j + length);
}

hfb_value *hfb_nn_windows(hfb_nn *nn, hfb_value *x, int64_t kernel) {
  hfb_value *shifted[HFB_NN_KERNEL_MAX];
  if (x == NULL || !kernel_fits(nn, kernel)) return NULL;
  shift(nn, x, kernel, shifted);
  return hfb_concat(nn->b, (int)kernel, shifted, 2);
}

hfb_value *hfb_nn_window_sum(hfb_nn *nn, hfb_value *x, int64_t kernel, hfb_value *const *weights) {
  hfb_value *shifted[HFB_NN_KERNEL_MAX];
  if (x == NULL || !kernel_fits(nn, kernel)) return NULL;
  shift(nn, x, kernel, shifted);
  hfb_value *sum = hfb_mul(nn->b, shifted[0], weights[0]);
  for (int64_t j = 1; j < kernel; j++) sum = hfb_add(nn->b, sum, hfb_mul(nn->b, shifted[j], weights[j]));
  return sum;
}

hfb_value *hfb_nn_depthwise_convolution(hfb_nn *nn, const char *name, hfb_value *x, int64_t kernel) {
  hfb_value *weights[HFB_NN_KERNEL_MAX];
  if (x == NULL || !kernel_fits(nn, kernel)) return NULL;
  int64_t width = x->shape.dim[2];
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *weight =
      hfb_parameter(nn->b, "weight", hfb_shape_of(3, (int64_t[]){width, 1, kernel}), hfb_init_normal(nn->init_std));
  hfb_scope_pop(nn->b);
  for (int64_t j = 0; j < kernel; j++) {
    weights[j] = hfb_reshape(nn->b, hfb_slice(nn->b, weight, 2, j, j + 1), 1, &width);
  }
  return hfb_nn_window_sum(nn, x, kernel, weights);
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
  return hfb_linear_op(nn->b, hfb_nn_windows(nn, x, kernel), matrix, bias, true);
}

/* ---- channels last: a window is one run of memory, so a convolution is a product of overlapping rows ---- */

/* Windows of `kernel` tokens, every `stride` tokens: [..,T,C] -> [..,count,kernel*C], a view. */
static hfb_value *token_windows(hfb_nn *nn, hfb_value *x, int64_t kernel, int64_t stride) {
  hfb_shape flat = x->shape;
  int64_t channels = flat.dim[flat.rank - 1];
  flat.rank--;
  flat.dim[flat.rank - 1] *= channels;
  return hfb_unfold(nn->b, hfb_reshape(nn->b, x, flat.rank, flat.dim), kernel * channels, stride * channels);
}

hfb_value *hfb_nn_strided_convolution(hfb_nn *nn, const char *name, hfb_value *x, const hfb_nn_conv1d_shape *how) {
  hfb_builder *b = nn->b;
  if (x == NULL) return NULL;
  int64_t tokens = x->shape.dim[1], in = x->shape.dim[2], out = how->out_features;
  hfb_scope_push(b, "%s", name);
  hfb_value *weight = hfb_parameter(b, "weight", hfb_shape_of(3, (int64_t[]){out, in, how->kernel}), how->weight);
  hfb_value *bias = how->with_bias ? hfb_parameter(b, "bias", hfb_shape_of(1, &out), how->bias) : NULL;
  hfb_scope_pop(b);
  if (tokens < how->kernel) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "%s: a kernel of %lld on %lld tokens; give longer inputs", name,
                     (long long)how->kernel, (long long)tokens);
    return NULL;
  }
  if (in > 1) weight = hfb_transpose(b, weight, (int[]){0, 2, 1});
  hfb_value *matrix = hfb_reshape(b, weight, 2, (int64_t[]){out, how->kernel * in});
  return hfb_linear_op(b, token_windows(nn, x, how->kernel, how->stride), matrix, bias, true);
}

hfb_value *hfb_nn_grouped_convolution(hfb_nn *nn, hfb_value *x, hfb_value *weight, hfb_value *scale, hfb_value *bias,
                                      int64_t groups) {
  hfb_builder *b = nn->b;
  if (x == NULL || weight == NULL || scale == NULL) return NULL;
  int64_t batch = x->shape.dim[0], tokens = x->shape.dim[1], width = x->shape.dim[2], kernel = weight->shape.dim[2];
  int64_t own = width / groups, padded = tokens + kernel - 1;
  hfb_value *wide = hfb_pad(b, x, 1, kernel / 2, kernel - 1 - kernel / 2, 0);
  wide = hfb_reshape(b, wide, 4, (int64_t[]){batch, padded, groups, own});
  wide = hfb_transpose(b, wide, (int[]){0, 2, 1, 3});
  hfb_value *windows = token_windows(nn, wide, kernel, 1);
  hfb_value *matrices = hfb_reshape(b, weight, 4, (int64_t[]){groups, own, own, kernel});
  matrices = hfb_transpose(b, matrices, (int[]){0, 1, 3, 2});
  /* The product is what copies the matrices. The gradient of `scale` is added up along rows, then along channels. */
  hfb_value *scales = hfb_expand(b, hfb_reshape(b, scale, 2, (int64_t[]){kernel, 1}), 2, (int64_t[]){kernel, own});
  matrices = hfb_mul(b, matrices, scales);
  matrices = hfb_reshape(b, matrices, 3, (int64_t[]){groups, own, kernel * own});
  hfb_value *y = hfb_transpose(b, hfb_matmul(b, windows, matrices, false, true), (int[]){0, 2, 1, 3});
  y = hfb_reshape(b, y, 3, (int64_t[]){batch, tokens, width});
  return hfb_add(b, y, bias);
}

hfb_value *hfb_nn_instance_norm(hfb_nn *nn, const char *name, hfb_value *x, double eps) {
  if (x == NULL) return NULL;
  hfb_shape channels = hfb_shape_of(1, &x->shape.dim[2]);
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *weight = hfb_parameter(nn->b, "weight", channels, hfb_init_constant(1));
  hfb_value *bias = hfb_parameter(nn->b, "bias", channels, hfb_init_constant(0));
  hfb_scope_pop(nn->b);
  return hfb_instance_norm_op(nn->b, x, weight, bias, eps);
}
