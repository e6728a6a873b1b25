/* Shape rules of movement, indexed reads and composites. */
#include <inttypes.h>

#include "ir/shape_rules.h"

/* ---- movement ---- */

hfb_status hfb_infer_reshape(hfb_node *node) {
  hfb_shape shape;
  HFB_TRY(hfb_rule_read_shape(node, &shape));
  int64_t have = hfb_shape_elements(&node->inputs[0]->shape), want = hfb_shape_elements(&shape);
  if (have != want) {
    hfb_type_text text;
    return HFB_FAIL(HFB_MISMATCH, "%" PRId64 " elements do not fill shape %s (%" PRId64 " elements)", have,
                    hfb_rule_print_shape(&shape, &text), want);
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

hfb_status hfb_infer_transpose(hfb_node *node) {
  const hfb_shape *shape = &node->inputs[0]->shape;
  const int64_t *perm;
  HFB_TRY(hfb_rule_read_per_dim(node, HFB_ATTR_PERM, shape->rank, &perm));
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
  hfb_rule_set_result(node, node->inputs[0]->dtype, result);
  return HFB_OK;
}

hfb_status hfb_infer_slice(hfb_node *node) {
  hfb_shape shape = node->inputs[0]->shape;
  const int64_t *starts, *limits, *steps;
  HFB_TRY(hfb_rule_read_per_dim(node, HFB_ATTR_STARTS, shape.rank, &starts));
  HFB_TRY(hfb_rule_read_per_dim(node, HFB_ATTR_LIMITS, shape.rank, &limits));
  HFB_TRY(hfb_rule_read_per_dim(node, HFB_ATTR_STEPS, shape.rank, &steps));
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
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

hfb_status hfb_infer_expand(hfb_node *node) {
  const hfb_shape *from = &node->inputs[0]->shape;
  hfb_shape to;
  HFB_TRY(hfb_rule_read_shape(node, &to));
  bool fits = to.rank >= from->rank;
  for (int i = 0; fits && i < from->rank; i++) {
    fits = from->dim[i] == 1 || from->dim[i] == to.dim[i + to.rank - from->rank];
  }
  if (!fits) {
    hfb_type_text text;
    return HFB_FAIL(HFB_MISMATCH, "it cannot be expanded to %s; only dimensions of size 1 and new leading ones grow",
                    hfb_rule_print_shape(&to, &text));
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, to);
  return HFB_OK;
}

hfb_status hfb_infer_concat(hfb_node *node) {
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, node->input_count - 1));
  hfb_shape shape = node->inputs[0]->shape;
  int axis;
  HFB_TRY(hfb_rule_read_axis(node, shape.rank, &axis));
  for (int i = 1; i < node->input_count; i++) {
    hfb_shape next = node->inputs[i]->shape;
    HFB_TRY(hfb_rule_need_rank(node, i, shape.rank));
    int64_t extent = next.dim[axis];
    next.dim[axis] = shape.dim[axis];
    if (!hfb_shape_equal(&next, &shape)) {
      return HFB_FAIL(HFB_MISMATCH, "input %d differs from input 0 in a dimension other than axis %d", i, axis);
    }
    shape.dim[axis] += extent;
    HFB_TRY(hfb_shape_check(&shape)); /* here, because many terms could overflow */
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

hfb_status hfb_infer_pad(hfb_node *node) {
  hfb_shape shape = node->inputs[0]->shape;
  const int64_t *before, *behind;
  HFB_TRY(hfb_rule_read_per_dim(node, HFB_ATTR_STARTS, shape.rank, &before));
  HFB_TRY(hfb_rule_read_per_dim(node, HFB_ATTR_LIMITS, shape.rank, &behind));
  HFB_TRY(hfb_rule_check_value(node, node->inputs[0]->dtype));
  for (int i = 0; i < shape.rank; i++) {
    if (before[i] < 0 || behind[i] < 0 || before[i] > INT64_C(1) << 40 || behind[i] > INT64_C(1) << 40) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "axis %d: padding by %" PRId64 " and %" PRId64 "; it must lie in 0 to 2^40",
                      i, before[i], behind[i]);
    }
    shape.dim[i] += before[i] + behind[i];
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

/* Windows of an extent: how many; fails when none fits. */
static hfb_status count_windows(const hfb_node *node, int64_t extent, int64_t window, int64_t *out_count) {
  int64_t step = hfb_node_int(node, HFB_ATTR_STEP);
  if (window < 1 || window > extent) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "a window of %" PRId64 " in an extent of %" PRId64, window, extent);
  }
  if (step < 1) return HFB_FAIL(HFB_INVALID_ARGUMENT, "step is %" PRId64 "; it must be at least 1", step);
  *out_count = (extent - window) / step + 1;
  return HFB_OK;
}

hfb_status hfb_infer_unfold(hfb_node *node) {
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 1));
  hfb_shape shape = node->inputs[0]->shape;
  int64_t window = hfb_node_int(node, HFB_ATTR_WINDOW), count;
  if (shape.rank == HFB_MAX_RANK) {
    return HFB_FAIL(HFB_MISMATCH, "the result would have rank %d; at most %d is supported", shape.rank + 1,
                    HFB_MAX_RANK);
  }
  HFB_TRY(count_windows(node, shape.dim[shape.rank - 1], window, &count));
  shape.dim[shape.rank - 1] = count;
  shape.dim[shape.rank++] = window;
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

hfb_status hfb_infer_unfold_backward(hfb_node *node) {
  hfb_shape shape;
  int64_t count;
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 2));
  HFB_TRY(hfb_rule_read_shape(node, &shape));
  hfb_shape windows = node->inputs[0]->shape, wanted = shape;
  if (shape.rank != windows.rank - 1) {
    return HFB_FAIL(HFB_MISMATCH, "a shape of rank %d for windows of rank %d", shape.rank, windows.rank);
  }
  int64_t window = windows.dim[windows.rank - 1];
  HFB_TRY(count_windows(node, shape.dim[shape.rank - 1], window, &count));
  wanted.dim[shape.rank - 1] = count;
  wanted.dim[wanted.rank++] = window;
  if (!hfb_shape_equal(&wanted, &windows)) {
    hfb_type_text text;
    return HFB_FAIL(HFB_MISMATCH, "the windows of this shape are %s", hfb_rule_print_shape(&wanted, &text));
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

/* ---- indexed reads ---- */

hfb_status hfb_infer_gather(hfb_node *node) {
  HFB_TRY(hfb_rule_need_dtype(node, 1, HFB_I64));
  const hfb_shape *shape = &node->inputs[0]->shape, *index = &node->inputs[1]->shape;
  int axis;
  HFB_TRY(hfb_rule_read_axis(node, shape->rank, &axis));
  if (shape->rank - 1 + index->rank > HFB_MAX_RANK) {
    return HFB_FAIL(HFB_MISMATCH, "the result would have rank %d; at most %d is supported",
                    shape->rank - 1 + index->rank, HFB_MAX_RANK);
  }
  hfb_shape result = {0};
  for (int i = 0; i < axis; i++) result.dim[result.rank++] = shape->dim[i];
  for (int i = 0; i < index->rank; i++) result.dim[result.rank++] = index->dim[i];
  for (int i = axis + 1; i < shape->rank; i++) result.dim[result.rank++] = shape->dim[i];
  hfb_rule_set_result(node, node->inputs[0]->dtype, result);
  return HFB_OK;
}

hfb_status hfb_infer_take_along(hfb_node *node) {
  HFB_TRY(hfb_rule_need_dtype(node, 1, HFB_I64));
  const hfb_shape *shape = &node->inputs[0]->shape, *index = &node->inputs[1]->shape;
  int axis;
  HFB_TRY(hfb_rule_read_axis(node, shape->rank, &axis));
  HFB_TRY(hfb_rule_need_rank(node, 1, shape->rank));
  for (int i = 0; i < shape->rank; i++) {
    if (i != axis && index->dim[i] > shape->dim[i]) {
      return HFB_FAIL(HFB_MISMATCH, "axis %d: an index of extent %" PRId64 " into an extent of %" PRId64, i,
                      index->dim[i], shape->dim[i]);
    }
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, *index);
  return HFB_OK;
}

hfb_status hfb_infer_embedding(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_dtype(node, 1, HFB_I64));
  HFB_TRY(hfb_rule_need_rank(node, 0, 2));
  const hfb_shape *table = &node->inputs[0]->shape;
  int64_t padding = hfb_node_int(node, HFB_ATTR_PADDING_IDX);
  if (padding < -1 || padding >= table->dim[0]) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "padding_idx %" PRId64 " is no row of %" PRId64 " (-1: none)", padding,
                    table->dim[0]);
  }
  hfb_shape shape = node->inputs[1]->shape;
  if (shape.rank == HFB_MAX_RANK) {
    return HFB_FAIL(HFB_MISMATCH, "the result would have rank %d; at most %d is supported", shape.rank + 1,
                    HFB_MAX_RANK);
  }
  shape.dim[shape.rank++] = table->dim[1];
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

/* ---- composites ---- */

/* x[..,D] and vectors of D: weight and, for layer_norm, bias. */
hfb_status hfb_infer_norm(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, node->input_count - 1));
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 1));
  HFB_TRY(hfb_rule_check_eps(node));
  const hfb_shape *shape = &node->inputs[0]->shape;
  int64_t features = shape->dim[shape->rank - 1];
  for (int i = 1; i < node->input_count; i++) {
    HFB_TRY(hfb_rule_need_rank(node, i, 1));
    if (node->inputs[i]->shape.dim[0] != features) {
      return HFB_FAIL(HFB_MISMATCH, "input %d has %" PRId64 " elements for %" PRId64 " features", i,
                      node->inputs[i]->shape.dim[0], features);
    }
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, *shape);
  return HFB_OK;
}

/* x[..,T,C] and vectors of C. */
hfb_status hfb_infer_instance_norm(hfb_node *node) {
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 2));
  return hfb_infer_norm(node);
}

/* Log-probabilities, lengths and targets are inputs first..first+2; sets *out_probs to the first of them. */
static hfb_status check_alignment(const hfb_node *node, int first, const hfb_value **out_probs) {
  HFB_TRY(hfb_rule_need_float(node, first));
  HFB_TRY(hfb_rule_need_rank(node, first, 3));
  HFB_TRY(hfb_rule_need_dtype(node, first + 1, HFB_I64));
  HFB_TRY(hfb_rule_need_rank(node, first + 1, 1));
  HFB_TRY(hfb_rule_need_dtype(node, first + 2, HFB_I64));
  HFB_TRY(hfb_rule_need_rank(node, first + 2, 2));
  *out_probs = node->inputs[first];
  int64_t batch = (*out_probs)->shape.dim[0], classes = (*out_probs)->shape.dim[2];
  for (int i = first + 1; i < first + 3; i++) {
    int64_t rows = node->inputs[i]->shape.dim[0];
    if (rows != batch) {
      return HFB_FAIL(HFB_MISMATCH, "input %d has %" PRId64 " rows for a batch of %" PRId64, i, rows, batch);
    }
  }
  bool ignored;
  int64_t blank = hfb_node_int(node, HFB_ATTR_BLANK);
  if (blank < 0 || blank >= classes) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "blank %" PRId64 " is none of %" PRId64 " classes", blank, classes);
  }
  return hfb_rule_read_flag(node, HFB_ATTR_ZERO_INFINITY, &ignored);
}

hfb_status hfb_infer_ctc_loss(hfb_node *node) {
  const hfb_value *probs;
  HFB_TRY(check_alignment(node, 0, &probs));
  hfb_rule_set_result(node, probs->dtype, hfb_shape_of(1, probs->shape.dim));
  return HFB_OK;
}

hfb_status hfb_infer_ctc_loss_backward(hfb_node *node) {
  const hfb_value *probs;
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 1));
  HFB_TRY(hfb_rule_need_rank(node, 0, 1));
  HFB_TRY(check_alignment(node, 1, &probs));
  if (node->inputs[0]->shape.dim[0] != probs->shape.dim[0]) {
    return HFB_FAIL(HFB_MISMATCH, "%" PRId64 " gradients for a batch of %" PRId64, node->inputs[0]->shape.dim[0],
                    probs->shape.dim[0]);
  }
  hfb_rule_set_result(node, probs->dtype, probs->shape);
  return HFB_OK;
}

hfb_status hfb_infer_nll_loss(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_dtype(node, 1, HFB_I64));
  HFB_TRY(hfb_rule_need_rank(node, 0, 2));
  HFB_TRY(hfb_rule_need_rank(node, 1, 1));
  int64_t rows = node->inputs[0]->shape.dim[0], targets = node->inputs[1]->shape.dim[0];
  if (rows != targets) return HFB_FAIL(HFB_MISMATCH, "%" PRId64 " targets for %" PRId64 " rows", targets, rows);
  HFB_TRY(hfb_rule_check_ignore_index(node));
  hfb_rule_set_result(node, node->inputs[0]->dtype, (hfb_shape){0});
  return HFB_OK;
}

hfb_status hfb_infer_pair_loss(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 1));
  if (!hfb_shape_equal(&node->inputs[0]->shape, &node->inputs[1]->shape)) {
    return HFB_FAIL(HFB_MISMATCH, "both shapes must be equal");
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, (hfb_shape){0});
  return HFB_OK;
}

hfb_status hfb_infer_fft2_real(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 2));
  hfb_rule_set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}
