/* Framework ops in primitives: one function for each row of ops.def that names one in column `decompose`, those of
 * backward ops and optimizers in decompose_backward.c. */
#include <math.h>
#include <stdio.h>

#include "ir/decompose_rules.h"
#include "ir/transform.h"

/* ---- pieces ---- */

hfb_value *hfb_piece_reduce_axis(hfb_builder *b, hfb_op op, hfb_value *x, int axis) {
  return hfb_reduce(b, op, x, 1, &axis, true);
}

static hfb_value *divide_by_count(hfb_builder *b, hfb_value *total, hfb_dtype dtype, int64_t count) {
  return hfb_div(b, total, hfb_scalar(b, dtype, (double)count)); /* the mean of nothing is 0/0, as in a framework */
}

hfb_value *hfb_piece_mean_last(hfb_builder *b, hfb_value *x, hfb_dtype dtype, int64_t features) {
  return divide_by_count(b, hfb_piece_reduce_axis(b, HFB_OP_REDUCE_SUM, x, -1), dtype, features);
}

/* The mean of all elements, a scalar. */
static hfb_value *mean_all(hfb_builder *b, hfb_value *x, hfb_dtype dtype, const hfb_shape *shape) {
  static const int axes[HFB_MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  hfb_value *total = shape->rank > 0 ? hfb_reduce(b, HFB_OP_REDUCE_SUM, x, shape->rank, axes, false) : x;
  return divide_by_count(b, total, dtype, hfb_shape_elements(shape));
}

/* log(1 + e) for e in [0, 1], to the last bits also when e is tiny: W. Kahan's correction, as in D. Goldberg, "What
 * every computer scientist should know about floating-point arithmetic", 1991, theorem 4. */
static hfb_value *log1p_value(hfb_builder *b, hfb_value *e, hfb_dtype dtype) {
  hfb_value *u = hfb_add_scalar(b, e, 1);
  hfb_value *lost = hfb_binary(b, HFB_OP_EQ, u, hfb_scalar(b, dtype, 1));
  hfb_value *log = hfb_unary(b, HFB_OP_LOG, u);
  hfb_value *correction = hfb_div(b, e, hfb_add_scalar(b, u, -1));
  return hfb_where(b, lost, e, hfb_mul(b, log, correction));
}

hfb_value *hfb_piece_sigmoid(hfb_builder *b, hfb_value *x, hfb_dtype dtype) {
  hfb_value *e = hfb_unary(b, HFB_OP_EXP, hfb_unary(b, HFB_OP_NEG, x));
  hfb_value *denominator = hfb_add_scalar(b, e, 1);
  return hfb_div(b, hfb_scalar(b, dtype, 1), denominator);
}

/* ---- activations ---- */

void hfb_decompose_relu(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  out[0] = hfb_binary(b, HFB_OP_MAXIMUM, in[0], hfb_scalar(b, in[0]->dtype, 0));
}

void hfb_decompose_sigmoid(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  out[0] = hfb_piece_sigmoid(b, in[0], in[0]->dtype);
}

void hfb_decompose_silu(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  out[0] = hfb_mul(b, in[0], hfb_piece_sigmoid(b, in[0], in[0]->dtype));
}

void hfb_decompose_gelu(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *erf = hfb_unary(b, HFB_OP_ERF, hfb_mul_scalar(b, in[0], M_SQRT1_2));
  hfb_value *gate = hfb_add_scalar(b, erf, 1);
  out[0] = hfb_mul(b, hfb_mul_scalar(b, in[0], 0.5), gate);
}

/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
void hfb_decompose_gelu_tanh(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *x = in[0], *cube = hfb_mul(b, hfb_mul(b, x, x), x);
  hfb_value *inner = hfb_mul_scalar(b, hfb_add(b, x, hfb_mul_scalar(b, cube, 0.044715)), M_SQRT2 * M_2_SQRTPI / 2);
  hfb_value *gate = hfb_add_scalar(b, hfb_unary(b, HFB_OP_TANH, inner), 1);
  out[0] = hfb_mul(b, hfb_mul_scalar(b, x, 0.5), gate);
}

void hfb_decompose_quick_gelu(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  out[0] = hfb_mul(b, in[0], hfb_piece_sigmoid(b, hfb_mul_scalar(b, in[0], 1.702), in[0]->dtype));
}

/* ---- reductions, contractions, indexed reads ---- */

void hfb_decompose_reduce_mean(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  int count;
  const int64_t *axes64 = hfb_node_ints(node, HFB_ATTR_AXES, &count);
  int axes[HFB_MAX_RANK];
  int64_t elements = 1;
  for (int i = 0; i < count; i++) {
    axes[i] = (int)axes64[i];
    elements *= in[0]->shape.dim[axes[i]];
  }
  hfb_value *total = hfb_reduce(b, HFB_OP_REDUCE_SUM, in[0], count, axes, hfb_node_int(node, HFB_ATTR_KEEPDIM) != 0);
  out[0] = divide_by_count(b, total, in[0]->dtype, elements);
}

void hfb_decompose_linear(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  const hfb_shape *result = &node->results[0].shape;
  hfb_value *x = in[0];
  bool is_vector = x->shape.rank == 1; /* matmul takes matrices */
  if (is_vector) x = hfb_reshape(b, x, 2, (int64_t[]){1, x->shape.dim[0]});
  x = hfb_matmul(b, x, in[1], false, hfb_node_int(node, HFB_ATTR_TRANSPOSE_B) != 0);
  if (is_vector) x = hfb_reshape(b, x, result->rank, result->dim);
  out[0] = node->input_count == 3 ? hfb_add(b, x, in[2]) : x;
}

void hfb_decompose_embedding(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  out[0] = hfb_gather(b, in[0], in[1], 0);
}

/* ---- softmax ---- */

/* x - max(x), which keeps exp from overflowing. */
static hfb_value *shift_by_max(hfb_builder *b, hfb_value *x, int axis) {
  return hfb_sub(b, x, hfb_piece_reduce_axis(b, HFB_OP_REDUCE_MAX, x, axis));
}

void hfb_decompose_softmax(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  int axis = (int)hfb_node_int(node, HFB_ATTR_AXIS);
  if (in[0]->shape.dim[axis] == 0) { /* nothing to normalise, and no largest */
    out[0] = in[0];
    return;
  }
  hfb_value *e = hfb_unary(b, HFB_OP_EXP, shift_by_max(b, in[0], axis));
  out[0] = hfb_div(b, e, hfb_piece_reduce_axis(b, HFB_OP_REDUCE_SUM, e, axis));
}

void hfb_decompose_log_softmax(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  int axis = (int)hfb_node_int(node, HFB_ATTR_AXIS);
  if (in[0]->shape.dim[axis] == 0) {
    out[0] = in[0];
    return;
  }
  hfb_value *shifted = shift_by_max(b, in[0], axis);
  hfb_value *total = hfb_piece_reduce_axis(b, HFB_OP_REDUCE_SUM, hfb_unary(b, HFB_OP_EXP, shifted), axis);
  out[0] = hfb_sub(b, shifted, hfb_unary(b, HFB_OP_LOG, total));
}

/* ---- norms ---- */

/* Two passes: the mean is taken off before squaring, so that a large mean costs no digits. */
hfb_piece_rows hfb_piece_normalize(hfb_builder *b, hfb_value *x, double eps, bool has_mean) {
  hfb_dtype dtype = x->dtype;
  int64_t features = x->shape.dim[x->shape.rank - 1];
  hfb_value *centred = has_mean ? hfb_sub(b, x, hfb_piece_mean_last(b, x, dtype, features)) : x;
  hfb_value *mean = hfb_piece_mean_last(b, hfb_mul(b, centred, centred), dtype, features);
  hfb_value *scale = hfb_unary(b, HFB_OP_RSQRT, hfb_add_scalar(b, mean, eps));
  return (hfb_piece_rows){.scale = scale, .normal = hfb_mul(b, centred, scale)};
}

void hfb_decompose_layer_norm(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *normal = hfb_piece_normalize(b, in[0], hfb_node_float(node, HFB_ATTR_EPS), true).normal;
  out[0] = hfb_add(b, hfb_mul(b, normal, in[1]), in[2]);
}

void hfb_decompose_rms_norm(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *normal = hfb_piece_normalize(b, in[0], hfb_node_float(node, HFB_ATTR_EPS), false).normal;
  out[0] = hfb_mul(b, normal, in[1]);
}

hfb_value *hfb_piece_mean_channels(hfb_builder *b, hfb_value *x, hfb_dtype dtype, int64_t length) {
  return divide_by_count(b, hfb_piece_reduce_axis(b, HFB_OP_REDUCE_SUM, x, -2), dtype, length);
}

hfb_piece_rows hfb_piece_normalize_channels(hfb_builder *b, hfb_value *x, double eps) {
  hfb_dtype dtype = x->dtype;
  int64_t length = x->shape.dim[x->shape.rank - 2];
  hfb_value *centred = hfb_sub(b, x, hfb_piece_mean_channels(b, x, dtype, length));
  hfb_value *mean = hfb_piece_mean_channels(b, hfb_mul(b, centred, centred), dtype, length);
  hfb_value *scale = hfb_unary(b, HFB_OP_RSQRT, hfb_add_scalar(b, mean, eps));
  return (hfb_piece_rows){.scale = scale, .normal = hfb_mul(b, centred, scale)};
}

void hfb_decompose_instance_norm(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *normal = hfb_piece_normalize_channels(b, in[0], hfb_node_float(node, HFB_ATTR_EPS)).normal;
  out[0] = hfb_add(b, hfb_mul(b, normal, in[1]), in[2]);
}

/* ---- losses ---- */

hfb_value *hfb_piece_is_counted(hfb_builder *b, hfb_value *target, int64_t ignore_index) {
  return hfb_binary(b, HFB_OP_NE, target, hfb_scalar(b, HFB_I64, (double)ignore_index));
}

hfb_value *hfb_piece_count(hfb_builder *b, hfb_value *is_counted, hfb_dtype dtype) {
  hfb_value *count = hfb_reduce(b, HFB_OP_REDUCE_SUM, hfb_cast(b, is_counted, HFB_I64), 1, (int[]){0}, false);
  return hfb_cast(b, count, dtype);
}

void hfb_decompose_nll_loss(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_dtype dtype = in[0]->dtype;
  int64_t rows = in[0]->shape.dim[0];
  /* An ignored target may lie outside the classes: row 0 is read in its place and thrown away. */
  hfb_value *counts = hfb_piece_is_counted(b, in[1], hfb_node_int(node, HFB_ATTR_IGNORE_INDEX));
  hfb_value *index = hfb_where(b, counts, in[1], hfb_scalar(b, HFB_I64, 0));
  hfb_value *picked = hfb_take_along(b, in[0], hfb_reshape(b, index, 2, (int64_t[]){rows, 1}), 1);
  hfb_value *loss = hfb_unary(b, HFB_OP_NEG, hfb_reshape(b, picked, 1, &rows));
  hfb_value *kept = hfb_where(b, counts, loss, hfb_scalar(b, dtype, 0));
  hfb_value *total = hfb_reduce(b, HFB_OP_REDUCE_SUM, kept, 1, (int[]){0}, false);
  out[0] = hfb_div(b, total, hfb_piece_count(b, counts, dtype));
}

/* mean(max(x, 0) - x t + log(1 + exp(-|x|))): exp never overflows. */
void hfb_decompose_bce_with_logits(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *x = in[0], *target = in[1];
  hfb_dtype dtype = x->dtype;
  hfb_value *e = hfb_unary(b, HFB_OP_EXP, hfb_unary(b, HFB_OP_NEG, hfb_unary(b, HFB_OP_ABS, x)));
  hfb_value *positive = hfb_binary(b, HFB_OP_MAXIMUM, x, hfb_scalar(b, dtype, 0));
  hfb_value *linear = hfb_sub(b, positive, hfb_mul(b, x, target));
  out[0] = mean_all(b, hfb_add(b, linear, log1p_value(b, e, dtype)), dtype, &x->shape);
}

void hfb_decompose_mse_loss(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *difference = hfb_sub(b, in[0], in[1]);
  out[0] = mean_all(b, hfb_mul(b, difference, difference), in[0]->dtype, &in[0]->shape);
}

/* ---- Fourier ---- */

typedef struct dft_matrices {
  hfb_value *cosine, *sine; /* [n,n], symmetric: cos and sin of 2 pi i j / n */
} dft_matrices;

/* The angle is reduced in integers, i j mod n, and evaluated in f64 whatever `dtype` is, so that large i j cost no
 * digits. Rounding (i j + 1/2) / n to f64 never crosses a whole number while i j < 2^50, so truncating it is an exact
 * integer division. */
static dft_matrices build_dft(hfb_builder *b, int64_t n, hfb_dtype dtype) {
  hfb_shape shape = hfb_shape_of(2, (int64_t[]){n, n});
  hfb_value *row = hfb_iota(b, HFB_I64, shape, 0), *column = hfb_iota(b, HFB_I64, shape, 1);
  hfb_value *product = hfb_mul(b, row, column);
  hfb_value *ratio = hfb_mul_scalar(b, hfb_add_scalar(b, hfb_cast(b, product, HFB_F64), 0.5), 1.0 / (double)n);
  hfb_value *whole = hfb_mul_scalar(b, hfb_cast(b, ratio, HFB_I64), (double)n);
  hfb_value *angle = hfb_mul_scalar(b, hfb_cast(b, hfb_sub(b, product, whole), HFB_F64), 2 * M_PI / (double)n);
  hfb_value *cosine = hfb_cast(b, hfb_unary(b, HFB_OP_COS, angle), dtype);
  hfb_value *sine = hfb_cast(b, hfb_unary(b, HFB_OP_SIN, angle), dtype);
  return (dft_matrices){cosine, sine};
}

/* With F = C - iS for each dimension, Re(F_rows x F_columns) = C_rows x C_columns - S_rows x S_columns. */
void hfb_decompose_fft2_real(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_value *x = in[0];
  const hfb_shape *shape = &x->shape;
  if (hfb_shape_elements(shape) == 0) {
    out[0] = x;
    return;
  }
  int64_t row_count = shape->dim[shape->rank - 2], column_count = shape->dim[shape->rank - 1];
  dft_matrices rows = build_dft(b, row_count, x->dtype);
  dft_matrices columns = row_count == column_count ? rows : build_dft(b, column_count, x->dtype);
  hfb_value *real = hfb_matmul(b, rows.cosine, hfb_matmul(b, x, columns.cosine, false, false), false, false);
  hfb_value *imaginary = hfb_matmul(b, rows.sine, hfb_matmul(b, x, columns.sine, false, false), false, false);
  out[0] = hfb_sub(b, real, imaginary);
}

/* ---- entry ---- */

void hfb_decompose_self(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out) {
  hfb_builder_fail(b, HFB_INTERNAL, "%s is a primitive", hfb_op_info_of(node->op)->name);
}

static const hfb_decompose_fn rules[HFB_OP_COUNT] = {
#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, gradient, expression, \
               tolerance)                                                                                         \
  [HFB_OP_##id] = hfb_decompose_##decompose,
#include "ir/ops.def"
#undef HFB_OP
};

/* Framework kernels compute bf16 and f16 in f32 and round once, at the end; so do their decompositions. Contractions
 * and copies are primitives that do so themselves. */
static bool computes_in_f32(const hfb_op_info *info, hfb_dtype dtype) {
  return (dtype == HFB_BF16 || dtype == HFB_F16) && info->tolerance != HFB_TOL_EXACT &&
         info->op_class != HFB_CLASS_CONTRACT;
}

/* The value that stands for `result`: rounded to its dtype, checked against its type. NULL after a failure. */
static hfb_value *finish_result(hfb_builder *b, const hfb_op_info *info, hfb_value *value, const hfb_value *result) {
  if (value && hfb_dtype_is_float(value->dtype) && computes_in_f32(info, result->dtype)) {
    value = hfb_cast(b, value, result->dtype);
  }
  if (b->status != HFB_OK) return NULL;
  if (value && value->dtype == result->dtype && hfb_shape_equal(&value->shape, &result->shape)) return value;
  hfb_builder_fail(b, HFB_INTERNAL, "the decomposition of %s has another type than its result %d", info->name,
                   result->result);
  return NULL;
}

static void decompose_mapped(hfb_rewrite *rewrite, const hfb_node *node) {
  enum { MAX_INPUTS = 5 };
  hfb_builder *b = &rewrite->b;
  const hfb_op_info *info = hfb_op_info_of(node->op);
  hfb_value *in[MAX_INPUTS] = {0}, *out[HFB_MAX_RESULTS] = {0};
  for (int i = 0; i < node->input_count; i++) {
    in[i] = rewrite->map[node->inputs[i]->id];
    if (!in[i]) {
      hfb_builder_fail(b, HFB_INTERNAL, "%s: input %d was not copied before it was used", info->name, i);
      return;
    }
    if (computes_in_f32(info, in[i]->dtype)) in[i] = hfb_cast(b, in[i], HFB_F32);
    if (!in[i]) return;
  }
  rules[node->op](b, node, in, out);
  for (int i = 0; i < node->result_count; i++) {
    const hfb_value *result = &node->results[i];
    rewrite->map[result->id] = finish_result(b, info, out[i], result);
  }
}

void hfb_decompose_node(hfb_rewrite *rewrite, const hfb_node *node) {
  if (rules[node->op] == hfb_decompose_self) {
    hfb_rewrite_copy(rewrite, node);
    return;
  }
  hfb_builder *b = &rewrite->b;
  if (b->status != HFB_OK) return;
  char scope[HFB_SCOPE_BYTES]; /* what comes of a node is profiled under its scope */
  snprintf(scope, sizeof(scope), "%s", b->scope);
  snprintf(b->scope, sizeof(b->scope), "%s", hfb_node_text(node, HFB_ATTR_SCOPE, ""));
  decompose_mapped(rewrite, node);
  snprintf(b->scope, sizeof(b->scope), "%s", scope);
}

hfb_status hfb_graph_decompose(const hfb_graph *graph, hfb_graph **out_graph) {
  hfb_rewrite rewrite;
  HFB_TRY(hfb_rewrite_begin(&rewrite, graph));
  for (int i = 0; i < graph->node_count; i++) hfb_decompose_node(&rewrite, graph->nodes[i]);
  hfb_status status = hfb_rewrite_finish(&rewrite, out_graph);
  hfb_rewrite_deinit(&rewrite);
  return status;
}
