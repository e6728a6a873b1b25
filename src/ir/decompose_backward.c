/* Backward ops, dropout and optimizers in primitives. Formulas are those of PyTorch's kernels (ATen/native/cpu,
 * tools/autograd/derivatives.yaml) and of torch.optim, unless said otherwise. */
#include <math.h>

#include "ir/decompose_rules.h"

static hfb_value *zero_of(hfb_builder *b, const hfb_value *like) {
  return hfb_scalar(b, like->dtype, 0);
}

/* 1 - x */
static hfb_value *one_minus(hfb_builder *b, hfb_value *x) {
  return hfb_add_scalar(b, hfb_unary(b, HFB_OP_NEG, x), 1);
}

/* ---- random ---- */

void hfb_decompose_dropout(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  double p = hfb_node_float(node, HFB_ATTR_P);
  hfb_value *keep = hfb_random_keep(b, in[1], in[0]->shape, p, hfb_node_int(node, HFB_ATTR_SITE));
  hfb_value *scaled = hfb_mul_scalar(b, in[0], 1 / (1 - p));
  out[0] = hfb_where(b, keep, scaled, zero_of(b, in[0]));
}

/* ---- activations: in[0] is g, in[1] the x or y of the forward op ---- */

/* x <= 0 ? 0 : g: where x is nan, g passes, as in threshold_backward. */
void hfb_decompose_relu_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *zero = zero_of(b, in[0]);
  out[0] = hfb_where(b, hfb_binary(b, HFB_OP_LE, in[1], zero), zero, in[0]);
}

void hfb_decompose_sigmoid_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  out[0] = hfb_mul(b, hfb_mul(b, in[0], one_minus(b, in[1])), in[1]);
}

void hfb_decompose_tanh_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  out[0] = hfb_mul(b, in[0], one_minus(b, hfb_mul(b, in[1], in[1])));
}

/* s = sigmoid(x) and its derivative s (1 - s), both to the last bits also where s or 1 - s is tiny: with e = exp(-|x|)
 * they are 1 / (1 + e) or e / (1 + e), and e / (1 + e)^2. */
typedef struct sigmoid_pair {
  hfb_value *s, *slope;
} sigmoid_pair;

static sigmoid_pair sigmoid_and_slope(hfb_builder *b, hfb_value *x, hfb_dtype dtype) {
  hfb_value *e = hfb_unary(b, HFB_OP_EXP, hfb_unary(b, HFB_OP_NEG, hfb_unary(b, HFB_OP_ABS, x)));
  hfb_value *one = hfb_scalar(b, dtype, 1);
  hfb_value *large = hfb_div(b, one, hfb_add_scalar(b, e, 1));
  hfb_value *small = hfb_mul(b, e, large);
  hfb_value *is_negative = hfb_binary(b, HFB_OP_LT, x, hfb_scalar(b, dtype, 0));
  hfb_value *s = hfb_where(b, is_negative, small, large);
  return (sigmoid_pair){.s = s, .slope = hfb_mul(b, small, large)};
}

/* The gradient of x sigmoid(u): g (s + x s' u'). du may be NULL, for a slope of 1. */
static hfb_value *gate_gradient(hfb_builder *b, hfb_value *g, hfb_value *x, hfb_value *u, hfb_value *du) {
  sigmoid_pair gate = sigmoid_and_slope(b, u, g->dtype);
  hfb_value *inner = hfb_mul(b, x, gate.slope);
  if (du) inner = hfb_mul(b, inner, du);
  return hfb_mul(b, g, hfb_add(b, gate.s, inner));
}

void hfb_decompose_silu_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  out[0] = gate_gradient(b, in[0], in[1], in[1], NULL);
}

void hfb_decompose_quick_gelu_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *u = hfb_mul_scalar(b, in[1], 1.702);
  out[0] = gate_gradient(b, in[0], u, u, NULL); /* x u' = u */
}

/* (1 + tanh(v)) / 2 = sigmoid(2 v), so gelu_tanh is x sigmoid(u) with u = sqrt(8/pi) (x + 0.044715 x^3). */
void hfb_decompose_gelu_tanh_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  const double scale = M_SQRT2 * M_2_SQRTPI, kappa = 0.044715;
  hfb_value *x = in[1], *square = hfb_mul(b, x, x);
  hfb_value *u = hfb_mul(b, x, hfb_add_scalar(b, hfb_mul_scalar(b, square, scale * kappa), scale));
  hfb_value *du = hfb_add_scalar(b, hfb_mul_scalar(b, square, 3 * scale * kappa), scale);
  out[0] = gate_gradient(b, in[0], x, u, du);
}

/* g (Phi(x) + x phi(x)), the normal distribution and its density. */
void hfb_decompose_gelu_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *g = in[0], *x = in[1];
  hfb_value *erf = hfb_unary(b, HFB_OP_ERF, hfb_mul_scalar(b, x, M_SQRT1_2));
  hfb_value *distribution = hfb_mul_scalar(b, hfb_add_scalar(b, erf, 1), 0.5);
  hfb_value *bell = hfb_unary(b, HFB_OP_EXP, hfb_mul_scalar(b, hfb_mul(b, x, x), -0.5));
  hfb_value *density = hfb_mul_scalar(b, bell, M_2_SQRTPI * M_SQRT1_2 * 0.5);
  out[0] = hfb_mul(b, g, hfb_add(b, distribution, hfb_mul(b, x, density)));
}

/* ---- softmax: in[0] is g, in[1] the result of the forward op ---- */

void hfb_decompose_softmax_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  int axis = (int)hfb_node_int(node, HFB_ATTR_AXIS);
  hfb_value *sum = hfb_piece_reduce_axis(b, HFB_OP_REDUCE_SUM, hfb_mul(b, in[0], in[1]), axis);
  out[0] = hfb_mul(b, in[1], hfb_sub(b, in[0], sum));
}

void hfb_decompose_log_softmax_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  int axis = (int)hfb_node_int(node, HFB_ATTR_AXIS);
  hfb_value *sum = hfb_piece_reduce_axis(b, HFB_OP_REDUCE_SUM, in[0], axis);
  hfb_value *y = hfb_unary(b, HFB_OP_EXP, in[1]);
  out[0] = hfb_sub(b, in[0], hfb_mul(b, y, sum));
}

/* ---- norms: g, x, weight ---- */

/* The sum over all dimensions but the last. */
static hfb_value *sum_rows(hfb_builder *b, hfb_value *x, int rank) {
  static const int axes[HFB_MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  return rank > 1 ? hfb_reduce(b, HFB_OP_REDUCE_SUM, x, rank - 1, axes, false) : x;
}

/* dx = scale (gw - [mean(gw)] - normal mean(gw normal)) with gw = g weight; dweight = sum of g normal. */
static void norm_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, bool has_mean, hfb_value **out) {
  hfb_dtype dtype = in[0]->dtype;
  int rank = in[0]->shape.rank;
  int64_t features = in[0]->shape.dim[rank - 1];
  hfb_piece_rows rows = hfb_piece_normalize(b, in[1], hfb_node_float(node, HFB_ATTR_EPS), has_mean);
  hfb_value *gw = hfb_mul(b, in[0], in[2]);
  hfb_value *along = hfb_piece_mean_last(b, hfb_mul(b, gw, rows.normal), dtype, features);
  hfb_value *rest = has_mean ? hfb_sub(b, gw, hfb_piece_mean_last(b, gw, dtype, features)) : gw;
  rest = hfb_sub(b, rest, hfb_mul(b, rows.normal, along));
  out[0] = hfb_mul(b, rest, rows.scale);
  out[1] = sum_rows(b, hfb_mul(b, in[0], rows.normal), rank);
  if (has_mean) out[2] = sum_rows(b, in[0], rank);
}

void hfb_decompose_layer_norm_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  norm_backward(b, node, in, true, out);
}

void hfb_decompose_rms_norm_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  norm_backward(b, node, in, false, out);
}

/* As norm_backward, with means over T of x[..,T,C]; the weight is a factor of whole channels. */
void hfb_decompose_instance_norm_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in,
                                          hfb_value **out) {
  hfb_dtype dtype = in[0]->dtype;
  int rank = in[0]->shape.rank;
  int64_t length = in[0]->shape.dim[rank - 2];
  hfb_piece_rows rows = hfb_piece_normalize_channels(b, in[1], hfb_node_float(node, HFB_ATTR_EPS));
  hfb_value *product = hfb_mul(b, in[0], rows.normal);
  hfb_value *along = hfb_piece_mean_channels(b, product, dtype, length);
  hfb_value *rest = hfb_sub(b, in[0], hfb_piece_mean_channels(b, in[0], dtype, length));
  rest = hfb_sub(b, rest, hfb_mul(b, rows.normal, along));
  out[0] = hfb_mul(b, rest, hfb_mul(b, rows.scale, in[2]));
  out[1] = sum_rows(b, product, rank);
  out[2] = sum_rows(b, in[0], rank);
}

/* ---- indexed ---- */

/* Gradients of padding tokens become 0 before they are added up: there are fewer of them than rows of the table. */
void hfb_decompose_embedding_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  int64_t padding = hfb_node_int(node, HFB_ATTR_PADDING_IDX);
  const hfb_shape *table = &node->results[0].shape;
  hfb_value *g = in[0], *ids = in[1];
  if (padding >= 0) {
    hfb_shape column = ids->shape;
    column.dim[column.rank++] = 1;
    hfb_value *is_padding = hfb_binary(b, HFB_OP_EQ, ids, hfb_scalar(b, HFB_I64, (double)padding));
    is_padding = hfb_reshape(b, is_padding, column.rank, column.dim);
    g = hfb_where(b, is_padding, zero_of(b, in[0]), g);
  }
  hfb_attr attrs[] = {{.key = HFB_ATTR_SHAPE, .u.ints = {table->rank, table->dim}}, {.key = HFB_ATTR_AXIS, .u.i = 0}};
  out[0] = hfb_build(b, HFB_OP_GATHER_BACKWARD, 2, (hfb_value *[]){g, ids}, 2, attrs);
}

/* ---- losses ---- */

/* Where nothing is counted, no row takes part, and the 0/0 of the mean reaches no element. */
void hfb_decompose_nll_loss_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *g = in[0], *target = in[1];
  const hfb_shape *shape = &node->results[0].shape;
  int64_t column[] = {shape->dim[0], 1};
  hfb_value *is_counted = hfb_piece_is_counted(b, target, hfb_node_int(node, HFB_ATTR_IGNORE_INDEX));
  hfb_value *count = hfb_piece_count(b, is_counted, g->dtype);
  hfb_value *share = hfb_div(b, hfb_unary(b, HFB_OP_NEG, g), count);
  hfb_value *zero = zero_of(b, g);
  hfb_value *of_row = hfb_reshape(b, hfb_where(b, is_counted, share, zero), 2, column);
  hfb_value *class = hfb_iota(b, HFB_I64, hfb_shape_of(1, &shape->dim[1]), 0);
  hfb_value *is_target = hfb_binary(b, HFB_OP_EQ, class, hfb_reshape(b, target, 2, column));
  out[0] = hfb_where(b, is_target, of_row, zero);
}

/* difference g / n */
static hfb_value *mean_gradient(hfb_builder *b, hfb_value *difference, hfb_value *g, const hfb_shape *shape) {
  hfb_value *n = hfb_scalar(b, g->dtype, (double)hfb_shape_elements(shape));
  return hfb_mul(b, difference, hfb_div(b, g, n));
}

void hfb_decompose_bce_with_logits_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in,
                                            hfb_value **out) {
  hfb_value *difference = hfb_sub(b, hfb_piece_sigmoid(b, in[1], in[1]->dtype), in[2]);
  out[0] = mean_gradient(b, difference, in[0], &in[1]->shape);
}

void hfb_decompose_mse_loss_backward(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *difference = hfb_mul_scalar(b, hfb_sub(b, in[1], in[2]), 2);
  out[0] = mean_gradient(b, difference, in[0], &in[1]->shape);
}

/* ---- optimizers ---- */

void hfb_decompose_sgd(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  out[0] = hfb_sub(b, in[0], hfb_mul_scalar(b, in[1], hfb_node_float(node, HFB_ATTR_LEARNING_RATE)));
}

/* 1 - beta^step in f64; step counts from 1, so beta = 0 gives 1. */
static hfb_value *bias_correction(hfb_builder *b, hfb_value *step, double beta) {
  if (beta == 0) return hfb_scalar(b, HFB_F64, 1);
  return one_minus(b, hfb_unary(b, HFB_OP_EXP, hfb_mul_scalar(b, step, log(beta))));
}

/* _single_tensor_adam of torch/optim/adam.py, the path that is neither capturable nor differentiable: scalars in f64,
 * rounded once when they meet a tensor. */
void hfb_decompose_adam(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *parameter = in[0], *g = in[3], *step = in[4];
  hfb_dtype dtype = parameter->dtype;
  double beta1 = hfb_node_float(node, HFB_ATTR_BETA1), beta2 = hfb_node_float(node, HFB_ATTR_BETA2);
  hfb_value *mean = hfb_add(b, in[1], hfb_mul_scalar(b, hfb_sub(b, g, in[1]), 1 - beta1));
  hfb_value *decayed = hfb_mul_scalar(b, in[2], beta2);
  hfb_value *square = hfb_add(b, decayed, hfb_mul(b, hfb_mul_scalar(b, g, 1 - beta2), g));

  hfb_value *rate = hfb_scalar(b, HFB_F64, hfb_node_float(node, HFB_ATTR_LEARNING_RATE));
  hfb_value *step_size = hfb_cast(b, hfb_div(b, rate, bias_correction(b, step, beta1)), dtype);
  hfb_value *root = hfb_cast(b, hfb_unary(b, HFB_OP_SQRT, bias_correction(b, step, beta2)), dtype);
  hfb_value *denominator = hfb_div(b, hfb_unary(b, HFB_OP_SQRT, square), root);
  denominator = hfb_add_scalar(b, denominator, hfb_node_float(node, HFB_ATTR_EPS));
  hfb_value *change = hfb_div(b, hfb_mul(b, mean, step_size), denominator);
  out[0] = hfb_sub(b, parameter, change);
  out[1] = mean;
  out[2] = square;
}
