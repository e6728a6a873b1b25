/* Shape rules of sources, elementwise ops, reductions and contractions, and the entry to all rules. */
#include "ir/shape.h"

#include <inttypes.h>
#include <stdio.h>

#include "ir/shape_rules.h"

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
  HFB_TRY(hfb_rule_read_flag(node, HFB_ATTR_TRAINABLE, &flag));
  return hfb_rule_read_flag(node, HFB_ATTR_BUFFER, &flag);
}

hfb_status hfb_infer_source(hfb_node *node) {
  hfb_shape shape;
  HFB_TRY(hfb_rule_read_shape(node, &shape));
  hfb_dtype dtype = hfb_node_attr(node, HFB_ATTR_DTYPE)->u.dtype;
  const hfb_attr *data = hfb_node_attr(node, HFB_ATTR_DATA);
  if (data && !data->u.data && hfb_shape_elements(&shape) > 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute data is missing its elements");
  }
  if (node->op == HFB_OP_PARAMETER) HFB_TRY(check_parameter(node, &shape));
  if (node->op == HFB_OP_FULL) HFB_TRY(hfb_rule_check_value(node, dtype));
  if (node->op == HFB_OP_IOTA) {
    int axis;
    HFB_TRY(hfb_rule_read_axis(node, shape.rank, &axis));
    if (dtype == HFB_BOOL) return HFB_FAIL(HFB_INVALID_ARGUMENT, "it counts in numbers, not in bool");
  }
  hfb_rule_set_result(node, dtype, shape);
  return HFB_OK;
}

/* ---- elementwise ---- */

hfb_status hfb_infer_unary(hfb_node *node) {
  HFB_TRY(hfb_rule_need_number(node, 0));
  if (hfb_node_attr(node, HFB_ATTR_VALUE)) HFB_TRY(hfb_rule_check_value(node, node->inputs[0]->dtype));
  hfb_rule_set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

hfb_status hfb_infer_unary_float(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  int axis;
  if (hfb_node_attr(node, HFB_ATTR_AXIS)) HFB_TRY(hfb_rule_read_axis(node, node->inputs[0]->shape.rank, &axis));
  hfb_rule_set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

hfb_status hfb_infer_unary_bool(hfb_node *node) {
  HFB_TRY(hfb_rule_need_dtype(node, 0, HFB_BOOL));
  hfb_rule_set_result(node, HFB_BOOL, node->inputs[0]->shape);
  return HFB_OK;
}

hfb_status hfb_infer_cast(hfb_node *node) {
  hfb_rule_set_result(node, hfb_node_attr(node, HFB_ATTR_DTYPE)->u.dtype, node->inputs[0]->shape);
  return HFB_OK;
}

hfb_status hfb_infer_binary(hfb_node *node) {
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 1));
  HFB_TRY(hfb_rule_need_number(node, 0));
  hfb_shape shape;
  HFB_TRY(hfb_rule_broadcast_inputs(node, 0, 1, &shape));
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

hfb_status hfb_infer_binary_float(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  return hfb_infer_binary(node);
}

hfb_status hfb_infer_binary_bool(hfb_node *node) {
  HFB_TRY(hfb_rule_need_dtype(node, 0, HFB_BOOL));
  HFB_TRY(hfb_rule_need_dtype(node, 1, HFB_BOOL));
  hfb_shape shape;
  HFB_TRY(hfb_rule_broadcast_inputs(node, 0, 1, &shape));
  hfb_rule_set_result(node, HFB_BOOL, shape);
  return HFB_OK;
}

hfb_status hfb_infer_compare(hfb_node *node) {
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 1));
  hfb_shape shape;
  HFB_TRY(hfb_rule_broadcast_inputs(node, 0, 1, &shape));
  hfb_rule_set_result(node, HFB_BOOL, shape);
  return HFB_OK;
}

hfb_status hfb_infer_where(hfb_node *node) {
  HFB_TRY(hfb_rule_need_dtype(node, 0, HFB_BOOL));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 1, 2));
  hfb_shape shape;
  HFB_TRY(hfb_rule_broadcast_inputs(node, 0, 2, &shape));
  hfb_rule_set_result(node, node->inputs[1]->dtype, shape);
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

hfb_status hfb_infer_reduce(hfb_node *node) {
  const hfb_shape *shape = &node->inputs[0]->shape;
  HFB_TRY(node->op == HFB_OP_REDUCE_MEAN ? hfb_rule_need_float(node, 0) : hfb_rule_need_number(node, 0));
  int count;
  const int64_t *axes = hfb_node_ints(node, HFB_ATTR_AXES, &count);
  if (count == 0) return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute axes is empty; name at least one");
  uint32_t mask = 0;
  for (int i = 0; i < count; i++) {
    if (axes[i] < 0 || axes[i] >= shape->rank) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "axis %" PRId64 " does not exist; the rank is %d", axes[i], shape->rank);
    }
    if (i > 0 && axes[i] <= axes[i - 1]) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "axis %" PRId64 " follows %" PRId64 "; axes must ascend", axes[i],
                      axes[i - 1]);
    }
    if (node->op == HFB_OP_REDUCE_MAX) HFB_TRY(need_extent(shape, (int)axes[i]));
    mask |= UINT32_C(1) << axes[i];
  }
  bool keepdim;
  HFB_TRY(hfb_rule_read_flag(node, HFB_ATTR_KEEPDIM, &keepdim));
  hfb_rule_set_result(node, node->inputs[0]->dtype, drop_axes(shape, mask, keepdim));
  return HFB_OK;
}

hfb_status hfb_infer_argmax(hfb_node *node) {
  const hfb_shape *shape = &node->inputs[0]->shape;
  HFB_TRY(hfb_rule_need_number(node, 0));
  int axis;
  HFB_TRY(hfb_rule_read_axis(node, shape->rank, &axis));
  HFB_TRY(need_extent(shape, axis));
  bool keepdim;
  HFB_TRY(hfb_rule_read_flag(node, HFB_ATTR_KEEPDIM, &keepdim));
  hfb_rule_set_result(node, HFB_I64, drop_axes(shape, UINT32_C(1) << axis, keepdim));
  return HFB_OK;
}

hfb_status hfb_infer_cumsum(hfb_node *node) {
  HFB_TRY(hfb_rule_need_number(node, 0));
  int axis;
  HFB_TRY(hfb_rule_read_axis(node, node->inputs[0]->shape.rank, &axis));
  hfb_rule_set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

hfb_status hfb_infer_argsort(hfb_node *node) {
  const hfb_value *x = node->inputs[0];
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 1));
  if (x->dtype != HFB_I64 && x->dtype != HFB_I32) {
    return HFB_FAIL(HFB_MISMATCH, "input 0 is %s; it must be i64 or i32", hfb_dtype_name(x->dtype));
  }
  hfb_rule_set_result(node, HFB_I64, x->shape);
  return HFB_OK;
}

/* ---- contractions ---- */

hfb_status hfb_infer_matmul(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  const bool is_wide = node->inputs[0]->dtype == HFB_F32 || node->inputs[0]->dtype == HFB_F64;
  if (!is_wide || node->inputs[1]->dtype != HFB_BF16) HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 1));
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 2));
  HFB_TRY(hfb_rule_need_rank_at_least(node, 1, 2));
  bool transpose_a, transpose_b;
  HFB_TRY(hfb_rule_read_flag(node, HFB_ATTR_TRANSPOSE_A, &transpose_a));
  HFB_TRY(hfb_rule_read_flag(node, HFB_ATTR_TRANSPOSE_B, &transpose_b));
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
    hfb_type_text ta, tb;
    return HFB_FAIL(HFB_MISMATCH, "batch dimensions %s and %s cannot be broadcast", hfb_rule_print_shape(&a, &ta),
                    hfb_rule_print_shape(&b, &tb));
  }
  shape.dim[shape.rank++] = m;
  shape.dim[shape.rank++] = n;
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

hfb_status hfb_infer_linear(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, node->input_count - 1));
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 1));
  HFB_TRY(hfb_rule_need_rank(node, 1, 2));
  bool transpose;
  HFB_TRY(hfb_rule_read_flag(node, HFB_ATTR_TRANSPOSE_B, &transpose));
  hfb_shape shape = node->inputs[0]->shape;
  const hfb_shape *weight = &node->inputs[1]->shape;
  int64_t k = shape.dim[shape.rank - 1], weight_k = weight->dim[transpose ? 1 : 0], n = weight->dim[transpose ? 0 : 1];
  if (k != weight_k) {
    return HFB_FAIL(HFB_MISMATCH, "%" PRId64 " features against a weight for %" PRId64, k, weight_k);
  }
  if (node->input_count == 3) {
    HFB_TRY(hfb_rule_need_rank(node, 2, 1));
    int64_t bias = node->inputs[2]->shape.dim[0];
    if (bias != n) return HFB_FAIL(HFB_MISMATCH, "a bias of %" PRId64 " for %" PRId64 " outputs", bias, n);
  }
  shape.dim[shape.rank - 1] = n;
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

/* ---- entry ---- */

typedef hfb_status (*infer_fn)(hfb_node *node);

static const infer_fn rules[HFB_OP_COUNT] = {
#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, gradient, expression, \
               tolerance)                                                                                         \
  [HFB_OP_##id] = hfb_infer_##infer,
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
  char inputs[SHOWN_INPUTS * sizeof(hfb_type_text) + 32];
  size_t used = 0;
  inputs[0] = '\0';
  for (int i = 0; i < node->input_count && i < SHOWN_INPUTS; i++) {
    hfb_type_text text;
    used += (size_t)snprintf(inputs + used, sizeof(inputs) - used, "%s%s", i ? ", " : "",
                             node->inputs[i] ? hfb_rule_print_type(node->inputs[i], &text) : "nothing");
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
