/* What the shape rules share. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "ir/shape_rules.h"

const char *hfb_rule_print_type(const hfb_value *value, hfb_type_text *out_text) {
  char shape[HFB_SHAPE_TEXT_BYTES];
  snprintf(out_text->text, sizeof(out_text->text), "%s%s", hfb_dtype_name(value->dtype),
           hfb_shape_print(&value->shape, shape, sizeof(shape)));
  return out_text->text;
}

const char *hfb_rule_print_shape(const hfb_shape *shape, hfb_type_text *out_text) {
  return hfb_shape_print(shape, out_text->text, sizeof(out_text->text));
}

void hfb_rule_set_result(hfb_node *node, hfb_dtype dtype, hfb_shape shape) {
  node->results[0].dtype = dtype;
  node->results[0].shape = shape;
}

hfb_status hfb_rule_need_float(const hfb_node *node, int input) {
  hfb_dtype dtype = node->inputs[input]->dtype;
  if (hfb_dtype_is_float(dtype)) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d is %s; it must have a floating-point dtype (cast it)", input,
                  hfb_dtype_name(dtype));
}

hfb_status hfb_rule_need_number(const hfb_node *node, int input) {
  hfb_dtype dtype = node->inputs[input]->dtype;
  if (dtype != HFB_BOOL) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d is bool; it must be a number (cast it)", input);
}

hfb_status hfb_rule_need_dtype(const hfb_node *node, int input, hfb_dtype wanted) {
  hfb_dtype dtype = node->inputs[input]->dtype;
  if (dtype == wanted) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d is %s; it must be %s", input, hfb_dtype_name(dtype), hfb_dtype_name(wanted));
}

hfb_status hfb_rule_need_equal_dtypes(const hfb_node *node, int first, int last) {
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

hfb_status hfb_rule_need_rank_at_least(const hfb_node *node, int input, int rank) {
  if (node->inputs[input]->shape.rank >= rank) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d has rank %d; it must have at least %d", input,
                  node->inputs[input]->shape.rank, rank);
}

hfb_status hfb_rule_need_rank(const hfb_node *node, int input, int rank) {
  if (node->inputs[input]->shape.rank == rank) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "input %d has rank %d; it must have %d", input, node->inputs[input]->shape.rank, rank);
}

hfb_status hfb_rule_read_flag(const hfb_node *node, hfb_attr_key key, bool *out_flag) {
  int64_t value = hfb_node_int(node, key);
  if (value != 0 && value != 1) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s is %" PRId64 "; it must be 0 or 1", hfb_attr_name(key), value);
  }
  *out_flag = value != 0;
  return HFB_OK;
}

hfb_status hfb_rule_read_axis(const hfb_node *node, int rank, int *out_axis) {
  int64_t axis = hfb_node_int(node, HFB_ATTR_AXIS);
  if (axis < 0 || axis >= rank) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "axis %" PRId64 " does not exist; the rank is %d", axis, rank);
  }
  *out_axis = (int)axis;
  return HFB_OK;
}

hfb_status hfb_rule_read_per_dim(const hfb_node *node, hfb_attr_key key, int rank, const int64_t **out_values) {
  int count;
  *out_values = hfb_node_ints(node, key, &count);
  if (count != rank) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s has %d values for %d dimensions", hfb_attr_name(key), count,
                    rank);
  }
  return HFB_OK;
}

hfb_status hfb_rule_read_shape(const hfb_node *node, hfb_shape *out_shape) {
  int count;
  const int64_t *dims = hfb_node_ints(node, HFB_ATTR_SHAPE, &count);
  *out_shape = hfb_shape_of(count, dims);
  return hfb_shape_check(out_shape);
}

hfb_status hfb_rule_check_eps(const hfb_node *node) {
  double eps = hfb_node_float(node, HFB_ATTR_EPS);
  if (eps >= 0 && isfinite(eps)) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "eps is %g; it must be finite and not negative", eps);
}

hfb_status hfb_rule_check_ignore_index(const hfb_node *node) {
  int64_t ignore = hfb_node_int(node, HFB_ATTR_IGNORE_INDEX), limit = INT64_C(1) << 53;
  if (ignore >= -limit && ignore <= limit) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "ignore_index %" PRId64 " is not between -2^53 and 2^53", ignore);
}

hfb_status hfb_rule_check_value(const hfb_node *node, hfb_dtype dtype) {
  static const struct {
    hfb_dtype dtype;
    double low, high; /* low <= value < high */
  } ranges[] = {{HFB_I64, -0x1p63, 0x1p63}, {HFB_I32, -0x1p31, 0x1p31}, {HFB_U8, 0, 256}, {HFB_BOOL, 0, 2}};
  double value = hfb_node_float(node, HFB_ATTR_VALUE);
  for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
    if (ranges[i].dtype == dtype && !(value >= ranges[i].low && value < ranges[i].high && value == trunc(value))) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "value %.17g cannot be represented in %s", value, hfb_dtype_name(dtype));
    }
  }
  return HFB_OK;
}

hfb_status hfb_rule_broadcast_inputs(const hfb_node *node, int first, int last, hfb_shape *out_shape) {
  *out_shape = node->inputs[first]->shape;
  for (int i = first + 1; i <= last; i++) {
    hfb_shape so_far = *out_shape;
    if (!hfb_shape_broadcast(&so_far, &node->inputs[i]->shape, out_shape)) {
      hfb_type_text a, b;
      return HFB_FAIL(HFB_MISMATCH, "shapes %s and %s cannot be broadcast", hfb_rule_print_shape(&so_far, &a),
                      hfb_rule_print_shape(&node->inputs[i]->shape, &b));
    }
  }
  return HFB_OK;
}
