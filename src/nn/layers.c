#include <stdio.h>

#include "nn/nn.h"

hfb_init hfb_init_constant(double value) {
  return (hfb_init){.kind = HFB_INIT_CONSTANT, .a = value, .padding_idx = -1};
}

hfb_init hfb_init_normal(double deviation) {
  return (hfb_init){.kind = HFB_INIT_NORMAL, .b = deviation, .padding_idx = -1};
}

/* Parameter "name.part" of the scope. */
static hfb_value *module_parameter(hfb_nn *nn, const char *name, const char *part, hfb_shape shape, hfb_init init) {
  char full[128];
  snprintf(full, sizeof full, "%s.%s", name, part);
  return hfb_parameter(nn->b, full, shape, init);
}

static hfb_shape vector(int64_t width) {
  return hfb_shape_of(1, (int64_t[]){width});
}

static hfb_shape matrix(int64_t rows, int64_t columns) {
  return hfb_shape_of(2, (int64_t[]){rows, columns});
}

static int64_t last_dim(const hfb_value *x) {
  return x->shape.rank > 0 ? x->shape.dim[x->shape.rank - 1] : 1;
}

static hfb_value *linear_weight(hfb_nn *nn, const char *name, int64_t in, int64_t out, double deviation) {
  return module_parameter(nn, name, "weight", matrix(out, in), hfb_init_normal(deviation));
}

static hfb_value *bias_of(hfb_nn *nn, const char *name, int64_t out) {
  return module_parameter(nn, name, "bias", vector(out), hfb_init_constant(0));
}

hfb_value *hfb_nn_linear(hfb_nn *nn, const char *name, hfb_value *x, int64_t out_features, bool with_bias) {
  if (x == NULL) return NULL;
  hfb_value *weight = linear_weight(nn, name, last_dim(x), out_features, nn->init_std);
  hfb_value *bias = with_bias ? bias_of(nn, name, out_features) : NULL;
  if (weight == NULL || (with_bias && bias == NULL)) return NULL;
  return hfb_linear_op(nn->b, x, weight, bias, true);
}

void hfb_nn_linear_declare(hfb_nn *nn, const char *name, int64_t in_features, int64_t out_features, bool with_bias) {
  linear_weight(nn, name, in_features, out_features, nn->init_std);
  if (with_bias) bias_of(nn, name, out_features);
}

hfb_value *hfb_nn_conv1d(hfb_nn *nn, const char *name, hfb_value *x, int64_t out_features, double deviation) {
  if (x == NULL) return NULL;
  hfb_value *weight =
      module_parameter(nn, name, "weight", matrix(last_dim(x), out_features), hfb_init_normal(deviation));
  hfb_value *bias = bias_of(nn, name, out_features);
  return weight == NULL || bias == NULL ? NULL : hfb_linear_op(nn->b, x, weight, bias, false);
}

hfb_value *hfb_nn_embedding_weight(hfb_nn *nn, const char *name, int64_t rows, int64_t width, int64_t padding_idx) {
  if (padding_idx >= rows) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "padding id %lld lies outside the %lld rows of '%s'",
                     (long long)padding_idx, (long long)rows, name);
    return NULL;
  }
  hfb_init init = hfb_init_normal(nn->init_std);
  init.padding_idx = padding_idx;
  return module_parameter(nn, name, "weight", matrix(rows, width), init);
}

hfb_value *hfb_nn_embedding(hfb_nn *nn, const char *name, hfb_value *ids, int64_t rows, int64_t width,
                            int64_t padding_idx) {
  hfb_value *table = hfb_nn_embedding_weight(nn, name, rows, width, padding_idx);
  return hfb_embedding(nn->b, table, ids, padding_idx);
}

hfb_value *hfb_nn_layer_norm(hfb_nn *nn, const char *name, hfb_value *x, double eps) {
  if (x == NULL) return NULL;
  hfb_value *weight = module_parameter(nn, name, "weight", vector(last_dim(x)), hfb_init_constant(1));
  hfb_value *bias = bias_of(nn, name, last_dim(x));
  return hfb_layer_norm_op(nn->b, x, weight, bias, eps);
}

void hfb_nn_layer_norm_declare(hfb_nn *nn, const char *name, int64_t width) {
  module_parameter(nn, name, "weight", vector(width), hfb_init_constant(1));
  bias_of(nn, name, width);
}
