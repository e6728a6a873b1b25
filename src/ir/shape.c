#include "ir/shape.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* "f32[4,8]", for messages. */
typedef struct type_text {
  char text[16 + HFB_SHAPE_TEXT_BYTES];
} type_text;

static const char *print_type(const hfb_value *value, type_text *out_text) {
  char shape[HFB_SHAPE_TEXT_BYTES];
  snprintf(out_text->text, sizeof(out_text->text), "%s%s", hfb_dtype_name(value->dtype),
           hfb_shape_print(&value->shape, shape, sizeof(shape)));
  return out_text->text;
}

static const char *print_shape(const hfb_shape *shape, type_text *out_text) {
  return hfb_shape_print(shape, out_text->text, sizeof(out_text->text));
}

static void set_result(hfb_node *node, hfb_dtype dtype, hfb_shape shape) {
  node->results[0].dtype = dtype;
  node->results[0].shape = shape;
}

/* ---- checks shared by the rules ---- */

static hfb_status need_float(const hfb_node *node, int input) {
  hfb_dtype dtype = node->inputs[input]->dtype;
  if (hfb_dtype_is_float(dtype)) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d is %s; it must have a floating-point dtype (cast it)", input,
                  hfb_dtype_name(dtype));
}

static hfb_status need_number(const hfb_node *node, int input) {
  hfb_dtype dtype = node->inputs[input]->dtype;
  if (dtype != HFB_BOOL) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d is bool; it must be a number (cast it)", input);
}

static hfb_status need_dtype(const hfb_node *node, int input, hfb_dtype wanted) {
  hfb_dtype dtype = node->inputs[input]->dtype;
  if (dtype == wanted) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d is %s; it must be %s", input, hfb_dtype_name(dtype), hfb_dtype_name(wanted));
}

/* Inputs first..last have one dtype: nothing is promoted. */
static hfb_status need_equal_dtypes(const hfb_node *node, int first, int last) {
  hfb_dtype wanted = node->inputs[first]->dtype;
  for (int i = first + 1; i <= last; i++) {
    hfb_dtype dtype = node->inputs[i]->dtype;
    if (dtype != wanted) {
      return HFB_FAIL(HFB_MISMATCH, "input %d is %s but input %d is %s; dtypes must agree (nothing is promoted)", i,
                      hfb_dtype_name(dtype), first, hfb_dtype_name(wanted));
    }
  }
  return HFB_OK;
}

static hfb_status need_rank_at_least(const hfb_node *node, int input, int rank) {
  if (node->inputs[input]->shape.rank >= rank) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d has rank %d; it must have at least %d", input,
                  node->inputs[input]->shape.rank, rank);
}

static hfb_status need_rank(const hfb_node *node, int input, int rank) {
  if (node->inputs[input]->shape.rank == rank) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d has rank %d; it must have %d", input, node->inputs[input]->shape.rank, rank);
}

static hfb_status read_flag(const hfb_node *node, hfb_attr_key key, bool *out_flag) {
  int64_t value = hfb_node_int(node, key);
  if (value != 0 && value != 1) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s is %" PRId64 "; it must be 0 or 1", hfb_attr_name(key), value);
  }
  *out_flag = value != 0;
  return HFB_OK;
}

static hfb_status read_axis(const hfb_node *node, int rank, int *out_axis) {
  int64_t axis = hfb_node_int(node, HFB_ATTR_AXIS);
  if (axis < 0 || axis >= rank) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "axis %" PRId64 " does not exist; the rank is %d", axis, rank);
  }
  *out_axis = (int)axis;
  return HFB_OK;
}

/* An attribute with one value for each dimension. */
static hfb_status read_per_dim(const hfb_node *node, hfb_attr_key key, int rank, const int64_t **out_values) {
  int count;
  *out_values = hfb_node_ints(node, key, &count);
  if (count != rank) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s has %d values for %d dimensions", hfb_attr_name(key), count, rank);
  }
  return HFB_OK;
}

static hfb_status read_shape(const hfb_node *node, hfb_shape *out_shape) {
  int count;
  const int64_t *dims = hfb_node_ints(node, HFB_ATTR_SHAPE, &count);
  *out_shape = hfb_shape_of(count, dims);
  return hfb_shape_check(out_shape);
}

static hfb_status check_eps(const hfb_node *node) {
  double eps = hfb_node_float(node, HFB_ATTR_EPS);
  if (eps >= 0 && isfinite(eps)) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "eps is %g; it must be finite and not negative", eps);
}

/* The VALUE attribute, which must be representable: integers take whole numbers in range, bool takes 0 and 1. */
static hfb_status check_value(const hfb_node *node, hfb_dtype dtype) {
  static const struct {
    hfb_dtype dtype;
    double low, high; /* low <= value < high */
  } ranges[] = {
      {HFB_I64, -0x1p63, 0x1p63}, {HFB_I32, -0x1p31, 0x1p31}, {HFB_U8, 0, 256}, {HFB_BOOL, 0, 2}};
  double value = hfb_node_float(node, HFB_ATTR_VALUE);
  for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
    if (ranges[i].dtype == dtype && !(value >= ranges[i].low && value < ranges[i].high && value == trunc(value))) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "value %.17g cannot be represented in %s", value, hfb_dtype_name(dtype));
    }
  }
  return HFB_OK;
}

static hfb_status broadcast_inputs(const hfb_node *node, int first, int last, hfb_shape *out_shape) {
  *out_shape = node->inputs[first]->shape;
  for (int i = first + 1; i <= last; i++) {
    hfb_shape so_far = *out_shape;
    if (!hfb_shape_broadcast(&so_far, &node->inputs[i]->shape, out_shape)) {
      type_text a, b;
      return HFB_FAIL(HFB_MISMATCH, "shapes %s and %s cannot be broadcast", print_shape(&so_far, &a),
                      print_shape(&node->inputs[i]->shape, &b));
    }
  }
  return HFB_OK;
}

/* ---- sources ---- */

static hfb_status check_parameter(const hfb_node *node, const hfb_shape *shape) {
  int64_t init = hfb_node_int(node, HFB_ATTR_INIT);
  if (init < 0 || init >= HFB_INIT_COUNT) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "init is %" PRId64 ", which is no kind of initialisation", init);
  }
  int64_t padding = hfb_node_int(node, HFB_ATTR_PADDING_IDX);
  int64_t rows = shape->rank > 0 ? shape->dim[0] : 0;
  if (padding < -1 || padding >= rows) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "padding_idx %" PRId64 " is no row of %" PRId64 " (-1: none)", padding, rows);
  }
  bool flag;
  HFB_TRY(read_flag(node, HFB_ATTR_TRAINABLE, &flag));
  return read_flag(node, HFB_ATTR_BUFFER, &flag);
}

static hfb_status infer_source(hfb_node *node) {
  hfb_shape shape;
  HFB_TRY(read_shape(node, &shape));
  hfb_dtype dtype = hfb_node_attr(node, HFB_ATTR_DTYPE)->u.dtype;
  const hfb_attr *data = hfb_node_attr(node, HFB_ATTR_DATA);
  if (data && !data->u.data && hfb_shape_elements(&shape) > 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute data is missing its elements");
  }
  if (node->op == HFB_OP_PARAMETER) HFB_TRY(check_parameter(node, &shape));
  if (node->op == HFB_OP_FULL) HFB_TRY(check_value(node, dtype));
  if (node->op == HFB_OP_IOTA) {
    int axis;
    HFB_TRY(read_axis(node, shape.rank, &axis));
    if (dtype == HFB_BOOL) return HFB_FAIL(HFB_INVALID_ARGUMENT, "it counts in numbers, not in bool");
  }
  set_result(node, dtype, shape);
  return HFB_OK;
}

/* ---- elementwise ---- */

static hfb_status infer_unary(hfb_node *node) {
  HFB_TRY(need_number(node, 0));
  if (hfb_node_attr(node, HFB_ATTR_VALUE)) HFB_TRY(check_value(node, node->inputs[0]->dtype));
  set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

static hfb_status infer_unary_float(hfb_node *node) {
  HFB_TRY(need_float(node, 0));
  int axis;
  if (hfb_node_attr(node, HFB_ATTR_AXIS)) HFB_TRY(read_axis(node, node->inputs[0]->shape.rank, &axis));
  set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

static hfb_status infer_unary_bool(hfb_node *node) {
  HFB_TRY(need_dtype(node, 0, HFB_BOOL));
  set_result(node, HFB_BOOL, node->inputs[0]->shape);
  return HFB_OK;
}

static hfb_status infer_cast(hfb_node *node) {
  set_result(node, hfb_node_attr(node, HFB_ATTR_DTYPE)->u.dtype, node->inputs[0]->shape);
  return HFB_OK;
}

static hfb_status infer_binary(hfb_node *node) {
  HFB_TRY(need_equal_dtypes(node, 0, 1));
  HFB_TRY(need_number(node, 0));
  hfb_shape shape;
  HFB_TRY(broadcast_inputs(node, 0, 1, &shape));
  set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

static hfb_status infer_binary_float(hfb_node *node) {
  HFB_TRY(need_float(node, 0));
  return infer_binary(node);
}

static hfb_status infer_binary_bool(hfb_node *node) {
  HFB_TRY(need_dtype(node, 0, HFB_BOOL));
  HFB_TRY(need_dtype(node, 1, HFB_BOOL));
  hfb_shape shape;
  HFB_TRY(broadcast_inputs(node, 0, 1, &shape));
  set_result(node, HFB_BOOL, shape);
  return HFB_OK;
}

static hfb_status infer_compare(hfb_node *node) {
  HFB_TRY(need_equal_dtypes(node, 0, 1));
  hfb_shape shape;
  HFB_TRY(broadcast_inputs(node, 0, 1, &shape));
  set_result(node, HFB_BOOL, shape);
  return HFB_OK;
}

static hfb_status infer_where(hfb_node *node) {
  HFB_TRY(need_dtype(node, 0, HFB_BOOL));
  HFB_TRY(need_equal_dtypes(node, 1, 2));
  hfb_shape shape;
  HFB_TRY(broadcast_inputs(node, 0, 2, &shape));
  set_result(node, node->inputs[1]->dtype, shape);
  return HFB_OK;
}

/* ---- reductions ---- */

/* The largest of no elements does not exist. */
static hfb_status need_extent(const hfb_shape *shape, int axis) {
  if (shape->dim[axis] > 0) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "axis %d has no elements to choose from", axis);
}

static hfb_shape drop_axes(const hfb_shape *shape, uint32_t axis_mask, bool keepdim) {
  hfb_shape result = {0};
  for (int i = 0; i < shape->rank; i++) {
    bool reduced = axis_mask >> i & 1;
    if (!reduced) result.dim[result.rank++] = shape->dim[i];
    if (reduced && keepdim) result.dim[result.rank++] = 1;
  }
  return result;
}

static hfb_status infer_reduce(hfb_node *node) {
  const hfb_shape *shape = &node->inputs[0]->shape;
  HFB_TRY(node->op == HFB_OP_REDUCE_MEAN ? need_float(node, 0) : need_number(node, 0));
  int count;
  const int64_t *axes = hfb_node_ints(node, HFB_ATTR_AXES, &count);
  if (count == 0) return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute axes is empty; name at least one");
  uint32_t mask = 0;
  for (int i = 0; i < count; i++) {
    if (axes[i] < 0 || axes[i] >= shape->rank) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "axis %" PRId64 " does not exist; the rank is %d", axes[i], shape->rank);
    }
    if (i > 0 && axes[i] <= axes[i - 1]) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "axis %" PRId64 " follows %" PRId64 "; axes must ascend", axes[i], axes[i - 1]);
    }
    if (node->op == HFB_OP_REDUCE_MAX) HFB_TRY(need_extent(shape, (int)axes[i]));
    mask |= UINT32_C(1) << axes[i];
  }
  bool keepdim;
  HFB_TRY(read_flag(node, HFB_ATTR_KEEPDIM, &keepdim));
  set_result(node, node->inputs[0]->dtype, drop_axes(shape, mask, keepdim));
  return HFB_OK;
}

static hfb_status infer_argmax(hfb_node *node) {
  const hfb_shape *shape = &node->inputs[0]->shape;
  HFB_TRY(need_number(node, 0));
  int axis;
  HFB_TRY(read_axis(node, shape->rank, &axis));
  HFB_TRY(need_extent(shape, axis));
  bool keepdim;
  HFB_TRY(read_flag(node, HFB_ATTR_KEEPDIM, &keepdim));
  set_result(node, HFB_I64, drop_axes(shape, UINT32_C(1) << axis, keepdim));
  return HFB_OK;
}

static hfb_status infer_cumsum(hfb_node *node) {
  HFB_TRY(need_number(node, 0));
  int axis;
  HFB_TRY(read_axis(node, node->inputs[0]->shape.rank, &axis));
  set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

/* ---- contractions ---- */

static hfb_status infer_matmul(hfb_node *node) {
  HFB_TRY(need_float(node, 0));
  HFB_TRY(need_equal_dtypes(node, 0, 1));
  HFB_TRY(need_rank_at_least(node, 0, 2));
  HFB_TRY(need_rank_at_least(node, 1, 2));
  bool transpose_a, transpose_b;
  HFB_TRY(read_flag(node, HFB_ATTR_TRANSPOSE_A, &transpose_a));
  HFB_TRY(read_flag(node, HFB_ATTR_TRANSPOSE_B, &transpose_b));
  hfb_shape a = node->inputs[0]->shape, b = node->inputs[1]->shape;
  int64_t m = a.dim[a.rank - (transpose_a ? 1 : 2)], ka = a.dim[a.rank - (transpose_a ? 2 : 1)];
  int64_t n = b.dim[b.rank - (transpose_b ? 2 : 1)], kb = b.dim[b.rank - (transpose_b ? 1 : 2)];
  if (ka != kb) {
    return HFB_FAIL(HFB_MISMATCH, "%" PRId64 " columns of input 0 against %" PRId64 " rows of input 1%s", ka, kb,
                    transpose_a || transpose_b ? " (after transposing)" : "");
  }
  a.rank -= 2;
  b.rank -= 2;
  hfb_shape shape;
  if (!hfb_shape_broadcast(&a, &b, &shape)) {
    type_text ta, tb;
    return HFB_FAIL(HFB_MISMATCH, "batch dimensions %s and %s cannot be broadcast", print_shape(&a, &ta),
                    print_shape(&b, &tb));
  }
  shape.dim[shape.rank++] = m;
  shape.dim[shape.rank++] = n;
  set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

static hfb_status infer_linear(hfb_node *node) {
  HFB_TRY(need_float(node, 0));
  HFB_TRY(need_equal_dtypes(node, 0, node->input_count - 1));
  HFB_TRY(need_rank_at_least(node, 0, 1));
  HFB_TRY(need_rank(node, 1, 2));
  bool transpose;
  HFB_TRY(read_flag(node, HFB_ATTR_TRANSPOSE_B, &transpose));
  hfb_shape shape = node->inputs[0]->shape;
  const hfb_shape *weight = &node->inputs[1]->shape;
  int64_t k = shape.dim[shape.rank - 1], weight_k = weight->dim[transpose ? 1 : 0], n = weight->dim[transpose ? 0 : 1];
  if (k != weight_k) {
    return HFB_FAIL(HFB_MISMATCH, "%" PRId64 " features against a weight for %" PRId64, k, weight_k);
  }
  if (node->input_count == 3) {
    HFB_TRY(need_rank(node, 2, 1));
    int64_t bias = node->inputs[2]->shape.dim[0];
    if (bias != n) return HFB_FAIL(HFB_MISMATCH, "a bias of %" PRId64 " for %" PRId64 " outputs", bias, n);
  }
  shape.dim[shape.rank - 1] = n;
  set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

/* ---- movement ---- */

static hfb_status infer_reshape(hfb_node *node) {
  hfb_shape shape;
  HFB_TRY(read_shape(node, &shape));
  int64_t have = hfb_shape_elements(&node->inputs[0]->shape), want = hfb_shape_elements(&shape);
  if (have != want) {
    type_text text;
    return HFB_FAIL(HFB_MISMATCH, "%" PRId64 " elements do not fill shape %s (%" PRId64 " elements)", have,
                    print_shape(&shape, &text), want);
  }
  set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

static hfb_status infer_transpose(hfb_node *node) {
  const hfb_shape *shape = &node->inputs[0]->shape;
  const int64_t *perm;
  HFB_TRY(read_per_dim(node, HFB_ATTR_PERM, shape->rank, &perm));
  hfb_shape result = {.rank = shape->rank};
  uint32_t seen = 0;
  for (int i = 0; i < shape->rank; i++) {
    if (perm[i] < 0 || perm[i] >= shape->rank || (seen >> perm[i] & 1)) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "perm[%d] is %" PRId64 "; perm must name each of %d dimensions once", i,
                      perm[i], shape->rank);
    }
    seen |= UINT32_C(1) << perm[i];
    result.dim[i] = shape->dim[perm[i]];
  }
  set_result(node, node->inputs[0]->dtype, result);
  return HFB_OK;
}

static hfb_status infer_slice(hfb_node *node) {
  hfb_shape shape = node->inputs[0]->shape;
  const int64_t *starts, *limits, *steps;
  HFB_TRY(read_per_dim(node, HFB_ATTR_STARTS, shape.rank, &starts));
  HFB_TRY(read_per_dim(node, HFB_ATTR_LIMITS, shape.rank, &limits));
  HFB_TRY(read_per_dim(node, HFB_ATTR_STEPS, shape.rank, &steps));
  for (int i = 0; i < shape.rank; i++) {
    if (starts[i] < 0 || limits[i] < starts[i] || limits[i] > shape.dim[i]) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT,
                      "axis %d: %" PRId64 " to %" PRId64 " does not lie within an extent of %" PRId64, i, starts[i],
                      limits[i], shape.dim[i]);
    }
    if (steps[i] < 1) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "axis %d: step %" PRId64 "; it must be at least 1", i, steps[i]);
    }
    int64_t length = limits[i] - starts[i];
    shape.dim[i] = length == 0 ? 0 : (length - 1) / steps[i] + 1;
  }
  set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

static hfb_status infer_expand(hfb_node *node) {
  const hfb_shape *from = &node->inputs[0]->shape;
  hfb_shape to;
  HFB_TRY(read_shape(node, &to));
  bool fits = to.rank >= from->rank;
  for (int i = 0; fits && i < from->rank; i++) {
    fits = from->dim[i] == 1 || from->dim[i] == to.dim[i + to.rank - from->rank];
  }
  if (!fits) {
    type_text text;
    return HFB_FAIL(HFB_MISMATCH, "it cannot be expanded to %s; only dimensions of size 1 and new leading ones grow",
                    print_shape(&to, &text));
  }
  set_result(node, node->inputs[0]->dtype, to);
  return HFB_OK;
}

static hfb_status infer_concat(hfb_node *node) {
  HFB_TRY(need_equal_dtypes(node, 0, node->input_count - 1));
  hfb_shape shape = node->inputs[0]->shape;
  int axis;
  HFB_TRY(read_axis(node, shape.rank, &axis));
  for (int i = 1; i < node->input_count; i++) {
    hfb_shape next = node->inputs[i]->shape;
    HFB_TRY(need_rank(node, i, shape.rank));
    int64_t extent = next.dim[axis];
    next.dim[axis] = shape.dim[axis];
    if (!hfb_shape_equal(&next, &shape)) {
      return HFB_FAIL(HFB_MISMATCH, "input %d differs from input 0 in a dimension other than axis %d", i, axis);
    }
    shape.dim[axis] += extent;
    HFB_TRY(hfb_shape_check(&shape)); /* here, because many terms could overflow */
  }
  set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

static hfb_status infer_pad(hfb_node *node) {
  hfb_shape shape = node->inputs[0]->shape;
  const int64_t *before, *behind;
  HFB_TRY(read_per_dim(node, HFB_ATTR_STARTS, shape.rank, &before));
  HFB_TRY(read_per_dim(node, HFB_ATTR_LIMITS, shape.rank, &behind));
  HFB_TRY(check_value(node, node->inputs[0]->dtype));
  for (int i = 0; i < shape.rank; i++) {
    if (before[i] < 0 || behind[i] < 0 || before[i] > INT64_C(1) << 40 || behind[i] > INT64_C(1) << 40) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "axis %d: padding by %" PRId64 " and %" PRId64 "; it must lie in 0 to 2^40", i,
                      before[i], behind[i]);
    }
    shape.dim[i] += before[i] + behind[i];
  }
  set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

/* ---- indexed reads ---- */

static hfb_status infer_gather(hfb_node *node) {
  HFB_TRY(need_dtype(node, 1, HFB_I64));
  const hfb_shape *shape = &node->inputs[0]->shape, *index = &node->inputs[1]->shape;
  int axis;
  HFB_TRY(read_axis(node, shape->rank, &axis));
  if (shape->rank - 1 + index->rank > HFB_MAX_RANK) {
    return HFB_FAIL(HFB_MISMATCH, "the result would have rank %d; at most %d is supported", shape->rank - 1 + index->rank,
                    HFB_MAX_RANK);
  }
  hfb_shape result = {0};
  for (int i = 0; i < axis; i++) result.dim[result.rank++] = shape->dim[i];
  for (int i = 0; i < index->rank; i++) result.dim[result.rank++] = index->dim[i];
  for (int i = axis + 1; i < shape->rank; i++) result.dim[result.rank++] = shape->dim[i];
  set_result(node, node->inputs[0]->dtype, result);
  return HFB_OK;
}

static hfb_status infer_take_along(hfb_node *node) {
  HFB_TRY(need_dtype(node, 1, HFB_I64));
  const hfb_shape *shape = &node->inputs[0]->shape, *index = &node->inputs[1]->shape;
  int axis;
  HFB_TRY(read_axis(node, shape->rank, &axis));
  HFB_TRY(need_rank(node, 1, shape->rank));
  for (int i = 0; i < shape->rank; i++) {
    if (i != axis && index->dim[i] > shape->dim[i]) {
      return HFB_FAIL(HFB_MISMATCH, "axis %d: an index of extent %" PRId64 " into an extent of %" PRId64, i, index->dim[i],
                      shape->dim[i]);
    }
  }
  set_result(node, node->inputs[0]->dtype, *index);
  return HFB_OK;
}

static hfb_status infer_embedding(hfb_node *node) {
  HFB_TRY(need_float(node, 0));
  HFB_TRY(need_dtype(node, 1, HFB_I64));
  HFB_TRY(need_rank(node, 0, 2));
  const hfb_shape *table = &node->inputs[0]->shape;
  int64_t padding = hfb_node_int(node, HFB_ATTR_PADDING_IDX);
  if (padding < -1 || padding >= table->dim[0]) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "padding_idx %" PRId64 " is no row of %" PRId64 " (-1: none)", padding,
                    table->dim[0]);
  }
  hfb_shape shape = node->inputs[1]->shape;
  if (shape.rank == HFB_MAX_RANK) {
    return HFB_FAIL(HFB_MISMATCH, "the result would have rank %d; at most %d is supported", shape.rank + 1, HFB_MAX_RANK);
  }
  shape.dim[shape.rank++] = table->dim[1];
  set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

/* ---- composites ---- */

/* x[..,D] and vectors of D: weight and, for layer_norm, bias. */
static hfb_status infer_norm(hfb_node *node) {
  HFB_TRY(need_float(node, 0));
  HFB_TRY(need_equal_dtypes(node, 0, node->input_count - 1));
  HFB_TRY(need_rank_at_least(node, 0, 1));
  HFB_TRY(check_eps(node));
  const hfb_shape *shape = &node->inputs[0]->shape;
  int64_t features = shape->dim[shape->rank - 1];
  for (int i = 1; i < node->input_count; i++) {
    HFB_TRY(need_rank(node, i, 1));
    if (node->inputs[i]->shape.dim[0] != features) {
      return HFB_FAIL(HFB_MISMATCH, "input %d has %" PRId64 " elements for %" PRId64 " features", i,
                      node->inputs[i]->shape.dim[0], features);
    }
  }
  set_result(node, node->inputs[0]->dtype, *shape);
  return HFB_OK;
}

static hfb_status infer_nll_loss(hfb_node *node) {
  HFB_TRY(need_float(node, 0));
  HFB_TRY(need_dtype(node, 1, HFB_I64));
  HFB_TRY(need_rank(node, 0, 2));
  HFB_TRY(need_rank(node, 1, 1));
  int64_t rows = node->inputs[0]->shape.dim[0], targets = node->inputs[1]->shape.dim[0];
  if (rows != targets) return HFB_FAIL(HFB_MISMATCH, "%" PRId64 " targets for %" PRId64 " rows", targets, rows);
  set_result(node, node->inputs[0]->dtype, (hfb_shape){0});
  return HFB_OK;
}

static hfb_status infer_pair_loss(hfb_node *node) {
  HFB_TRY(need_float(node, 0));
  HFB_TRY(need_equal_dtypes(node, 0, 1));
  if (!hfb_shape_equal(&node->inputs[0]->shape, &node->inputs[1]->shape)) {
    return HFB_FAIL(HFB_MISMATCH, "both shapes must be equal");
  }
  set_result(node, node->inputs[0]->dtype, (hfb_shape){0});
  return HFB_OK;
}

static hfb_status infer_fft2_real(hfb_node *node) {
  HFB_TRY(need_float(node, 0));
  HFB_TRY(need_rank_at_least(node, 0, 2));
  set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

/* ---- entry ---- */

typedef hfb_status (*infer_fn)(hfb_node *node);

static const infer_fn rules[HFB_OP_COUNT] = {
#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, expression, tolerance) \
  [HFB_OP_##id] = infer_##infer,
#include "ir/ops.def"
#undef HFB_OP
};

static hfb_status check_and_infer(hfb_node *node) {
  HFB_TRY(hfb_node_check(node));
  HFB_TRY(rules[node->op](node));
  for (int i = 0; i < node->result_count; i++) HFB_TRY(hfb_shape_check(&node->results[i].shape));
  return HFB_OK;
}

/* Puts "scope: op(input types): " in front of the recorded message. */
static void prefix_with_node(const hfb_node *node) {
  enum { SHOWN_INPUTS = 4 };
  char inputs[SHOWN_INPUTS * sizeof(type_text) + 32];
  size_t used = 0;
  inputs[0] = '\0';
  for (int i = 0; i < node->input_count && i < SHOWN_INPUTS; i++) {
    type_text text;
    used += (size_t)snprintf(inputs + used, sizeof(inputs) - used, "%s%s", i ? ", " : "",
                             node->inputs[i] ? print_type(node->inputs[i], &text) : "nothing");
  }
  if (node->input_count > SHOWN_INPUTS) snprintf(inputs + used, sizeof(inputs) - used, ", ...");
  const char *op = (unsigned)node->op < HFB_OP_COUNT ? hfb_op_info_of(node->op)->name : "unknown";
  const char *label = "";
  for (int i = 0; i < node->attr_count; i++) {
    hfb_attr_key key = node->attrs[i].key;
    bool better = key == HFB_ATTR_NAME || (key == HFB_ATTR_SCOPE && !label[0]); /* a name contains its scope */
    if (better && node->attrs[i].u.text) label = node->attrs[i].u.text;
  }
  hfb_error_prefix("%.200s%s%s(%s)", label, label[0] ? ": " : "", op, inputs);
}

hfb_status hfb_node_infer(hfb_node *node) {
  hfb_status status = check_and_infer(node);
  if (status != HFB_OK) prefix_with_node(node);
  return status;
}
