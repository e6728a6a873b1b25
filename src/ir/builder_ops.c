/* The builder's functions for ops with inputs: attributes filled in, axes from the end resolved. */
#include <inttypes.h>

#include "ir/builder.h"

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

static hfb_attr int_attr(hfb_attr_key key, int64_t value) {
  return (hfb_attr){.key = key, .u.i = value};
}

static hfb_attr float_attr(hfb_attr_key key, double value) {
  return (hfb_attr){.key = key, .u.f = value};
}

static hfb_attr ints_attr(hfb_attr_key key, int count, const int64_t *values) {
  return (hfb_attr){.key = key, .u.ints = {count, values}};
}

static hfb_value *build_1(hfb_builder *b, hfb_op op, hfb_value *x, int attr_count, const hfb_attr *attrs) {
  return hfb_build(b, op, 1, (hfb_value *[]){x}, attr_count, attrs);
}

/* Counts a negative axis from the end. One that is out of range stays so: the shape rule refuses it by name. */
static int64_t resolve_axis(const hfb_value *x, int axis) {
  return x && axis < 0 && axis >= -x->shape.rank ? axis + x->shape.rank : axis;
}

static hfb_attr axis_attr(const hfb_value *x, int axis) {
  return int_attr(HFB_ATTR_AXIS, resolve_axis(x, axis));
}

/* For functions that index the dimensions of x themselves. */
static bool axis_exists(hfb_builder *b, hfb_op op, const hfb_value *x, int64_t axis) {
  if (!x) return true; /* hfb_build reports it */
  if (axis >= 0 && axis < x->shape.rank) return true;
  hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "%s: axis %" PRId64 " does not exist; the rank is %d",
                   hfb_op_info_of(op)->name, axis, x->shape.rank);
  return false;
}

static bool rank_fits(hfb_builder *b, hfb_op op, int rank) {
  if (rank >= 0 && rank <= HFB_MAX_RANK) return true;
  hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "%s: rank %d; ranks go from 0 to %d", hfb_op_info_of(op)->name, rank,
                   HFB_MAX_RANK);
  return false;
}

/* ---- elementwise ---- */

hfb_value *hfb_unary(hfb_builder *b, hfb_op op, hfb_value *x) {
  return build_1(b, op, x, 0, NULL);
}

hfb_value *hfb_binary(hfb_builder *b, hfb_op op, hfb_value *x, hfb_value *y) {
  return hfb_build(b, op, 2, (hfb_value *[]){x, y}, 0, NULL);
}

hfb_value *hfb_add(hfb_builder *b, hfb_value *x, hfb_value *y) {
  return hfb_binary(b, HFB_OP_ADD, x, y);
}
hfb_value *hfb_sub(hfb_builder *b, hfb_value *x, hfb_value *y) {
  return hfb_binary(b, HFB_OP_SUB, x, y);
}
hfb_value *hfb_mul(hfb_builder *b, hfb_value *x, hfb_value *y) {
  return hfb_binary(b, HFB_OP_MUL, x, y);
}
hfb_value *hfb_div(hfb_builder *b, hfb_value *x, hfb_value *y) {
  return hfb_binary(b, HFB_OP_DIV, x, y);
}

hfb_value *hfb_add_scalar(hfb_builder *b, hfb_value *x, double value) {
  hfb_attr attr = float_attr(HFB_ATTR_VALUE, value);
  return build_1(b, HFB_OP_ADD_SCALAR, x, 1, &attr);
}

hfb_value *hfb_mul_scalar(hfb_builder *b, hfb_value *x, double value) {
  hfb_attr attr = float_attr(HFB_ATTR_VALUE, value);
  return build_1(b, HFB_OP_MUL_SCALAR, x, 1, &attr);
}

hfb_value *hfb_cast(hfb_builder *b, hfb_value *x, hfb_dtype dtype) {
  if (x && x->dtype == dtype) return x;
  hfb_attr attr = {.key = HFB_ATTR_DTYPE, .u.dtype = dtype};
  return build_1(b, HFB_OP_CAST, x, 1, &attr);
}

hfb_value *hfb_where(hfb_builder *b, hfb_value *condition, hfb_value *x, hfb_value *y) {
  return hfb_build(b, HFB_OP_WHERE, 3, (hfb_value *[]){condition, x, y}, 0, NULL);
}

/* ---- reductions ---- */

hfb_value *hfb_reduce(hfb_builder *b, hfb_op op, hfb_value *x, int axis_count, const int *axes, bool keepdim) {
  if (!rank_fits(b, op, axis_count)) return NULL;
  int64_t sorted[HFB_MAX_RANK];
  for (int i = 0; i < axis_count; i++) {
    int64_t axis = resolve_axis(x, axes[i]);
    int at = i;
    for (; at > 0 && sorted[at - 1] > axis; at--) sorted[at] = sorted[at - 1];
    sorted[at] = axis;
  }
  hfb_attr attrs[] = {ints_attr(HFB_ATTR_AXES, axis_count, sorted), int_attr(HFB_ATTR_KEEPDIM, keepdim)};
  return build_1(b, op, x, COUNT_OF(attrs), attrs);
}

hfb_value *hfb_argmax(hfb_builder *b, hfb_value *x, int axis, bool keepdim) {
  hfb_attr attrs[] = {axis_attr(x, axis), int_attr(HFB_ATTR_KEEPDIM, keepdim)};
  return build_1(b, HFB_OP_ARGMAX, x, COUNT_OF(attrs), attrs);
}

hfb_value *hfb_cumsum(hfb_builder *b, hfb_value *x, int axis) {
  hfb_attr attr = axis_attr(x, axis);
  return build_1(b, HFB_OP_CUMSUM, x, 1, &attr);
}

hfb_value *hfb_argsort(hfb_builder *b, hfb_value *x) {
  return hfb_unary(b, HFB_OP_ARGSORT, x);
}

/* ---- contractions ---- */

hfb_value *hfb_matmul(hfb_builder *b, hfb_value *x, hfb_value *y, bool transpose_x, bool transpose_y) {
  hfb_attr attrs[] = {int_attr(HFB_ATTR_TRANSPOSE_A, transpose_x), int_attr(HFB_ATTR_TRANSPOSE_B, transpose_y)};
  return hfb_build(b, HFB_OP_MATMUL, 2, (hfb_value *[]){x, y}, COUNT_OF(attrs), attrs);
}

hfb_value *hfb_linear_op(hfb_builder *b, hfb_value *x, hfb_value *weight, hfb_value *bias, bool weight_is_nk) {
  hfb_attr attr = int_attr(HFB_ATTR_TRANSPOSE_B, weight_is_nk);
  return hfb_build(b, HFB_OP_LINEAR, bias ? 3 : 2, (hfb_value *[]){x, weight, bias}, 1, &attr);
}

/* ---- movement ---- */

hfb_value *hfb_reshape(hfb_builder *b, hfb_value *x, int rank, const int64_t *dims) {
  if (!rank_fits(b, HFB_OP_RESHAPE, rank)) return NULL;
  hfb_shape shape = hfb_shape_of(rank, dims);
  int free_dim = -1;
  for (int i = 0; i < rank && x; i++) {
    if (dims[i] != -1) continue;
    if (free_dim >= 0) {
      hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "reshape: dimensions %d and %d are both -1", free_dim, i);
      return NULL;
    }
    free_dim = i;
  }
  if (free_dim >= 0) {
    shape.dim[free_dim] = 1;
    if (hfb_shape_check(&shape) == HFB_OK) { /* if not, the shape rule says so */
      int64_t known = hfb_shape_elements(&shape), have = hfb_shape_elements(&x->shape);
      if (known == 0 || have % known != 0) {
        hfb_builder_fail(b, HFB_MISMATCH, "reshape: %" PRId64 " elements do not divide by %" PRId64, have, known);
        return NULL;
      }
      shape.dim[free_dim] = have / known;
    }
  }
  hfb_attr attr = ints_attr(HFB_ATTR_SHAPE, rank, shape.dim);
  return build_1(b, HFB_OP_RESHAPE, x, 1, &attr);
}

hfb_value *hfb_transpose(hfb_builder *b, hfb_value *x, const int *perm) {
  int rank = x ? x->shape.rank : 0;
  int64_t resolved[HFB_MAX_RANK];
  for (int i = 0; i < rank; i++) resolved[i] = resolve_axis(x, perm[i]);
  hfb_attr attr = ints_attr(HFB_ATTR_PERM, rank, resolved);
  return build_1(b, HFB_OP_TRANSPOSE, x, 1, &attr);
}

hfb_value *hfb_slice(hfb_builder *b, hfb_value *x, int axis, int64_t start, int64_t limit) {
  int rank = x ? x->shape.rank : 0;
  int64_t resolved = resolve_axis(x, axis), starts[HFB_MAX_RANK], limits[HFB_MAX_RANK], steps[HFB_MAX_RANK];
  if (!axis_exists(b, HFB_OP_SLICE, x, resolved)) return NULL;
  for (int i = 0; i < rank; i++) {
    starts[i] = i == resolved ? start : 0;
    limits[i] = i == resolved ? limit : x->shape.dim[i];
    steps[i] = 1;
  }
  hfb_attr attrs[] = {ints_attr(HFB_ATTR_STARTS, rank, starts), ints_attr(HFB_ATTR_LIMITS, rank, limits),
                      ints_attr(HFB_ATTR_STEPS, rank, steps)};
  return build_1(b, HFB_OP_SLICE, x, COUNT_OF(attrs), attrs);
}

hfb_value *hfb_expand(hfb_builder *b, hfb_value *x, int rank, const int64_t *dims) {
  if (!rank_fits(b, HFB_OP_EXPAND, rank)) return NULL;
  hfb_shape shape = hfb_shape_of(rank, dims);
  int lead = x ? rank - x->shape.rank : 0;
  for (int i = 0; i < rank && x; i++) {
    if (shape.dim[i] == -1 && i >= lead) shape.dim[i] = x->shape.dim[i - lead];
  }
  hfb_attr attr = ints_attr(HFB_ATTR_SHAPE, rank, shape.dim);
  return build_1(b, HFB_OP_EXPAND, x, 1, &attr);
}

hfb_value *hfb_concat(hfb_builder *b, int count, hfb_value *const *values, int axis) {
  hfb_attr attr = axis_attr(count > 0 ? values[0] : NULL, axis);
  return hfb_build(b, HFB_OP_CONCAT, count, values, 1, &attr);
}

hfb_value *hfb_pad(hfb_builder *b, hfb_value *x, int axis, int64_t before, int64_t after, double value) {
  int rank = x ? x->shape.rank : 0;
  int64_t resolved = resolve_axis(x, axis), starts[HFB_MAX_RANK], limits[HFB_MAX_RANK];
  if (!axis_exists(b, HFB_OP_PAD, x, resolved)) return NULL;
  for (int i = 0; i < rank; i++) {
    starts[i] = i == resolved ? before : 0;
    limits[i] = i == resolved ? after : 0;
  }
  hfb_attr attrs[] = {ints_attr(HFB_ATTR_STARTS, rank, starts), ints_attr(HFB_ATTR_LIMITS, rank, limits),
                      float_attr(HFB_ATTR_VALUE, value)};
  return build_1(b, HFB_OP_PAD, x, COUNT_OF(attrs), attrs);
}

hfb_value *hfb_unfold(hfb_builder *b, hfb_value *x, int64_t window, int64_t step) {
  hfb_attr attrs[] = {int_attr(HFB_ATTR_WINDOW, window), int_attr(HFB_ATTR_STEP, step)};
  return build_1(b, HFB_OP_UNFOLD, x, COUNT_OF(attrs), attrs);
}

/* ---- indexed reads ---- */

hfb_value *hfb_gather(hfb_builder *b, hfb_value *x, hfb_value *index, int axis) {
  hfb_attr attr = axis_attr(x, axis);
  return hfb_build(b, HFB_OP_GATHER, 2, (hfb_value *[]){x, index}, 1, &attr);
}

hfb_value *hfb_take_along(hfb_builder *b, hfb_value *x, hfb_value *index, int axis) {
  hfb_attr attr = axis_attr(x, axis);
  return hfb_build(b, HFB_OP_TAKE_ALONG, 2, (hfb_value *[]){x, index}, 1, &attr);
}

hfb_value *hfb_embedding(hfb_builder *b, hfb_value *table, hfb_value *ids, int64_t padding_idx) {
  hfb_attr attr = int_attr(HFB_ATTR_PADDING_IDX, padding_idx);
  return hfb_build(b, HFB_OP_EMBEDDING, 2, (hfb_value *[]){table, ids}, 1, &attr);
}

/* ---- composites ---- */

hfb_value *hfb_softmax(hfb_builder *b, hfb_value *x, int axis) {
  hfb_attr attr = axis_attr(x, axis);
  return build_1(b, HFB_OP_SOFTMAX, x, 1, &attr);
}

hfb_value *hfb_log_softmax(hfb_builder *b, hfb_value *x, int axis) {
  hfb_attr attr = axis_attr(x, axis);
  return build_1(b, HFB_OP_LOG_SOFTMAX, x, 1, &attr);
}

hfb_value *hfb_layer_norm_op(hfb_builder *b, hfb_value *x, hfb_value *weight, hfb_value *bias, double eps) {
  hfb_attr attr = float_attr(HFB_ATTR_EPS, eps);
  return hfb_build(b, HFB_OP_LAYER_NORM, 3, (hfb_value *[]){x, weight, bias}, 1, &attr);
}

hfb_value *hfb_rms_norm_op(hfb_builder *b, hfb_value *x, hfb_value *weight, double eps) {
  hfb_attr attr = float_attr(HFB_ATTR_EPS, eps);
  return hfb_build(b, HFB_OP_RMS_NORM, 2, (hfb_value *[]){x, weight}, 1, &attr);
}

hfb_value *hfb_instance_norm_op(hfb_builder *b, hfb_value *x, hfb_value *weight, hfb_value *bias, double eps) {
  hfb_attr attr = float_attr(HFB_ATTR_EPS, eps);
  return hfb_build(b, HFB_OP_INSTANCE_NORM, 3, (hfb_value *[]){x, weight, bias}, 1, &attr);
}

hfb_value *hfb_ctc_loss(hfb_builder *b, hfb_value *log_probs, hfb_value *lengths, hfb_value *targets, int64_t blank,
                        bool zero_infinity) {
  hfb_attr attrs[] = {int_attr(HFB_ATTR_BLANK, blank), int_attr(HFB_ATTR_ZERO_INFINITY, zero_infinity)};
  return hfb_build(b, HFB_OP_CTC_LOSS, 3, (hfb_value *[]){log_probs, lengths, targets}, COUNT_OF(attrs), attrs);
}

hfb_value *hfb_nll_loss(hfb_builder *b, hfb_value *log_probs, hfb_value *target, int64_t ignore_index) {
  hfb_attr attr = int_attr(HFB_ATTR_IGNORE_INDEX, ignore_index);
  return hfb_build(b, HFB_OP_NLL_LOSS, 2, (hfb_value *[]){log_probs, target}, 1, &attr);
}

hfb_value *hfb_pair_loss(hfb_builder *b, hfb_op op, hfb_value *x, hfb_value *target) {
  return hfb_binary(b, op, x, target);
}

hfb_value *hfb_fft2_real(hfb_builder *b, hfb_value *x) {
  return hfb_unary(b, HFB_OP_FFT2_REAL, x);
}

/* ---- random ---- */

hfb_value *hfb_dropout(hfb_builder *b, hfb_value *x, double p) {
  hfb_attr attrs[] = {float_attr(HFB_ATTR_P, p), int_attr(HFB_ATTR_SITE, b->site_count++)};
  hfb_value *state = hfb_random_state(b);
  return hfb_build(b, HFB_OP_DROPOUT, 2, (hfb_value *[]){x, state}, 2, attrs);
}

/* Element `index` of the state, a scalar. */
static hfb_value *state_word(hfb_builder *b, hfb_value *state, int64_t index) {
  return hfb_reshape(b, hfb_slice(b, state, 0, index, index + 1), 0, NULL);
}

hfb_value *hfb_random_keep(hfb_builder *b, hfb_value *state, hfb_shape shape, double p, int64_t site) {
  hfb_attr attrs[] = {float_attr(HFB_ATTR_P, p), int_attr(HFB_ATTR_SITE, site)};
  hfb_shape flat = hfb_shape_of(1, (int64_t[]){hfb_shape_elements(&shape)});
  hfb_value *index = hfb_reshape(b, hfb_iota(b, HFB_I64, flat, 0), shape.rank, shape.dim);
  hfb_value *seed = state_word(b, state, 0), *step = state_word(b, state, 1);
  return hfb_build(b, HFB_OP_RANDOM_KEEP, 3, (hfb_value *[]){index, seed, step}, 2, attrs);
}

hfb_value *hfb_random_mask(hfb_builder *b, hfb_shape shape, double p) {
  hfb_value *state = hfb_random_state(b);
  return hfb_random_keep(b, state, shape, p, b->site_count++);
}

hfb_value *hfb_random_normal(hfb_builder *b, hfb_shape shape) {
  hfb_attr attrs[] = {ints_attr(HFB_ATTR_SHAPE, shape.rank, shape.dim),
                      {.key = HFB_ATTR_DTYPE, .u.dtype = HFB_F32},
                      int_attr(HFB_ATTR_SITE, b->site_count++)};
  hfb_value *state = hfb_random_state(b);
  return hfb_build(b, HFB_OP_RANDOM_NORMAL, 1, &state, COUNT_OF(attrs), attrs);
}
