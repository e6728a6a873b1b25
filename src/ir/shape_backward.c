/* Shape rules of random ops, backward ops, optimizers and the ops that compilers match. */
#include <inttypes.h>
#include <math.h>

#include "ir/shape_rules.h"

static void set_result_at(hfb_node *node, int result, hfb_dtype dtype, hfb_shape shape) {
  node->results[result].dtype = dtype;
  node->results[result].shape = shape;
}

static hfb_status need_equal_shapes(const hfb_node *node, int a, int b) {
  if (hfb_shape_equal(&node->inputs[a]->shape, &node->inputs[b]->shape)) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "inputs %d and %d must have the same shape", a, b);
}

static hfb_status need_shape(const hfb_node *node, int input, const hfb_shape *wanted) {
  const hfb_shape *shape = &node->inputs[input]->shape;
  if (hfb_shape_equal(shape, wanted)) return HFB_OK;
  hfb_type_text have, want;
  return HFB_FAIL(HFB_MISMATCH, "input %d is %s, not %s", input, hfb_rule_print_shape(shape, &have),
                  hfb_rule_print_shape(wanted, &want));
}

/* ---- random ---- */

/* The stream, and the probability of ops that have one. */
static hfb_status check_site(const hfb_node *node) {
  const hfb_attr *chance = hfb_node_attr(node, HFB_ATTR_P);
  double p = chance ? chance->u.f : 0;
  if (!(p >= 0 && p < 1)) return HFB_FAIL(HFB_INVALID_ARGUMENT, "p is %g; it must lie in [0, 1)", p);
  int64_t site = hfb_node_int(node, HFB_ATTR_SITE);
  if (site >= 0 && site <= INT32_MAX) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "site %" PRId64 " is not between 0 and 2^31 - 1", site);
}

static hfb_status need_state(const hfb_node *node, int input) {
  hfb_shape two = hfb_shape_of(1, (int64_t[]){2});
  HFB_TRY(hfb_rule_need_dtype(node, input, HFB_I64));
  return need_shape(node, input, &two);
}

hfb_status hfb_infer_random_keep(hfb_node *node) {
  hfb_shape shape;
  for (int i = 0; i < 3; i++) HFB_TRY(hfb_rule_need_dtype(node, i, HFB_I64));
  HFB_TRY(check_site(node));
  HFB_TRY(hfb_rule_broadcast_inputs(node, 0, 2, &shape));
  hfb_rule_set_result(node, HFB_BOOL, shape);
  return HFB_OK;
}

hfb_status hfb_infer_dropout(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(need_state(node, 1));
  HFB_TRY(check_site(node));
  hfb_rule_set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

hfb_status hfb_infer_random_normal(hfb_node *node) {
  hfb_shape shape;
  HFB_TRY(need_state(node, 0));
  HFB_TRY(check_site(node));
  HFB_TRY(hfb_rule_read_shape(node, &shape));
  hfb_dtype dtype = hfb_node_attr(node, HFB_ATTR_DTYPE)->u.dtype;
  if (!hfb_dtype_is_float(dtype)) {
    return HFB_FAIL(HFB_MISMATCH, "its result must have a floating-point dtype, not %s", hfb_dtype_name(dtype));
  }
  hfb_rule_set_result(node, dtype, shape);
  return HFB_OK;
}

/* ---- backward ---- */

hfb_status hfb_infer_backward_pair(hfb_node *node) {
  int axis;
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 1));
  HFB_TRY(need_equal_shapes(node, 0, 1));
  if (hfb_node_attr(node, HFB_ATTR_AXIS)) HFB_TRY(hfb_rule_read_axis(node, node->inputs[0]->shape.rank, &axis));
  hfb_rule_set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

hfb_status hfb_infer_norm_backward(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 2));
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 1));
  HFB_TRY(need_equal_shapes(node, 0, 1));
  HFB_TRY(hfb_rule_check_eps(node));
  const hfb_value *g = node->inputs[0];
  hfb_shape features = hfb_shape_of(1, &g->shape.dim[g->shape.rank - 1]);
  HFB_TRY(need_shape(node, 2, &features));
  set_result_at(node, 0, g->dtype, g->shape);
  for (int i = 1; i < node->result_count; i++) set_result_at(node, i, g->dtype, features);
  return HFB_OK;
}

hfb_status hfb_infer_instance_norm_backward(hfb_node *node) {
  HFB_TRY(hfb_rule_need_rank_at_least(node, 0, 2));
  return hfb_infer_norm_backward(node);
}

hfb_status hfb_infer_gather_backward(hfb_node *node) {
  hfb_shape shape, wanted = {0};
  int axis;
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_dtype(node, 1, HFB_I64));
  HFB_TRY(hfb_rule_read_shape(node, &shape));
  HFB_TRY(hfb_rule_read_axis(node, shape.rank, &axis));
  const hfb_shape *index = &node->inputs[1]->shape;
  if (shape.rank - 1 + index->rank > HFB_MAX_RANK) {
    return HFB_FAIL(HFB_MISMATCH, "a gradient of rank %d; at most %d is supported", shape.rank - 1 + index->rank,
                    HFB_MAX_RANK);
  }
  for (int i = 0; i < axis; i++) wanted.dim[wanted.rank++] = shape.dim[i];
  for (int i = 0; i < index->rank; i++) wanted.dim[wanted.rank++] = index->dim[i];
  for (int i = axis + 1; i < shape.rank; i++) wanted.dim[wanted.rank++] = shape.dim[i];
  HFB_TRY(need_shape(node, 0, &wanted));
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

hfb_status hfb_infer_take_along_backward(hfb_node *node) {
  hfb_shape shape;
  int axis;
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_dtype(node, 1, HFB_I64));
  HFB_TRY(need_equal_shapes(node, 0, 1));
  HFB_TRY(hfb_rule_read_shape(node, &shape));
  HFB_TRY(hfb_rule_read_axis(node, shape.rank, &axis));
  HFB_TRY(hfb_rule_need_rank(node, 1, shape.rank));
  for (int i = 0; i < shape.rank; i++) {
    int64_t extent = node->inputs[1]->shape.dim[i];
    if (i != axis && extent > shape.dim[i]) {
      return HFB_FAIL(HFB_MISMATCH, "axis %d: an index of extent %" PRId64 " into an extent of %" PRId64, i, extent,
                      shape.dim[i]);
    }
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

hfb_status hfb_infer_embedding_backward(hfb_node *node) {
  hfb_shape table;
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_dtype(node, 1, HFB_I64));
  HFB_TRY(hfb_rule_read_shape(node, &table));
  if (table.rank != 2) return HFB_FAIL(HFB_MISMATCH, "a table of rank %d; it must be 2", table.rank);
  hfb_shape wanted = node->inputs[1]->shape;
  if (wanted.rank == HFB_MAX_RANK) return HFB_FAIL(HFB_MISMATCH, "ids of rank %d", wanted.rank);
  wanted.dim[wanted.rank++] = table.dim[1];
  HFB_TRY(need_shape(node, 0, &wanted));
  int64_t padding = hfb_node_int(node, HFB_ATTR_PADDING_IDX);
  if (padding < -1 || padding >= table.dim[0]) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "padding_idx %" PRId64 " is no row of %" PRId64 " (-1: none)", padding,
                    table.dim[0]);
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, table);
  return HFB_OK;
}

hfb_status hfb_infer_nll_loss_backward(hfb_node *node) {
  hfb_shape shape;
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_rank(node, 0, 0));
  HFB_TRY(hfb_rule_need_dtype(node, 1, HFB_I64));
  HFB_TRY(hfb_rule_read_shape(node, &shape));
  if (shape.rank != 2) return HFB_FAIL(HFB_MISMATCH, "log-probabilities of rank %d; it must be 2", shape.rank);
  hfb_shape rows = hfb_shape_of(1, shape.dim);
  HFB_TRY(need_shape(node, 1, &rows));
  HFB_TRY(hfb_rule_check_ignore_index(node));
  hfb_rule_set_result(node, node->inputs[0]->dtype, shape);
  return HFB_OK;
}

hfb_status hfb_infer_pair_loss_backward(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_rank(node, 0, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 2));
  HFB_TRY(need_equal_shapes(node, 1, 2));
  hfb_rule_set_result(node, node->inputs[1]->dtype, node->inputs[1]->shape);
  return HFB_OK;
}

/* ---- optimizers ---- */

static hfb_status check_rate(const hfb_node *node) {
  double rate = hfb_node_float(node, HFB_ATTR_LEARNING_RATE);
  if (isfinite(rate)) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "learning_rate is %g; it must be finite", rate);
}

hfb_status hfb_infer_sgd(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 1));
  HFB_TRY(need_equal_shapes(node, 0, 1));
  HFB_TRY(check_rate(node));
  hfb_rule_set_result(node, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

hfb_status hfb_infer_adam(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 3));
  for (int i = 1; i < 4; i++) HFB_TRY(need_equal_shapes(node, 0, i));
  HFB_TRY(hfb_rule_need_dtype(node, 4, HFB_F64));
  HFB_TRY(hfb_rule_need_rank(node, 4, 0));
  HFB_TRY(check_rate(node));
  HFB_TRY(hfb_rule_check_eps(node));
  for (int i = 0; i < 2; i++) {
    double beta = hfb_node_float(node, i == 0 ? HFB_ATTR_BETA1 : HFB_ATTR_BETA2);
    if (!(beta >= 0 && beta < 1)) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "beta%d is %g; it must lie in [0, 1)", i + 1, beta);
    }
  }
  for (int i = 0; i < 3; i++) set_result_at(node, i, node->inputs[0]->dtype, node->inputs[0]->shape);
  return HFB_OK;
}

/* ---- attention ---- */

/* Input `input` is [.., rows, columns] with the leading dimensions of the scores [.., Q, K]; *out_columns is set. */
static hfb_status need_rows(const hfb_node *node, int input, const hfb_shape *scores, int64_t rows,
                            int64_t *out_columns) {
  hfb_shape wanted = *scores;
  HFB_TRY(hfb_rule_need_rank(node, input, scores->rank));
  *out_columns = node->inputs[input]->shape.dim[scores->rank - 1];
  wanted.dim[scores->rank - 2] = rows;
  wanted.dim[scores->rank - 1] = *out_columns;
  return need_shape(node, input, &wanted);
}

/* The scores are input `input`; *out_statistics is [.., Q]. The state is given exactly when P > 0. */
static hfb_status check_scores(const hfb_node *node, int input, hfb_shape *out_scores, hfb_shape *out_statistics) {
  int inputs = hfb_op_info_of(node->op)->min_inputs;
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, inputs - 1));
  HFB_TRY(hfb_rule_need_rank_at_least(node, input, 2));
  HFB_TRY(check_site(node));
  if ((hfb_node_float(node, HFB_ATTR_P) > 0) != (node->input_count > inputs)) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "the random state is given exactly when p > 0");
  }
  if (node->input_count > inputs) HFB_TRY(need_state(node, inputs));
  *out_scores = node->inputs[input]->shape;
  *out_statistics = *out_scores;
  out_statistics->rank--;
  return HFB_OK;
}

hfb_status hfb_infer_attention(hfb_node *node) {
  hfb_shape scores, statistics;
  int64_t width;
  HFB_TRY(check_scores(node, 0, &scores, &statistics));
  HFB_TRY(need_rows(node, 1, &scores, scores.dim[scores.rank - 1], &width));
  hfb_shape out = scores;
  out.dim[scores.rank - 1] = width;
  set_result_at(node, 0, node->inputs[0]->dtype, out);
  set_result_at(node, 1, node->inputs[0]->dtype, statistics);
  return HFB_OK;
}

hfb_status hfb_infer_attention_scores_backward(hfb_node *node) {
  hfb_shape scores, statistics;
  int64_t width, value_width;
  HFB_TRY(check_scores(node, 0, &scores, &statistics));
  HFB_TRY(need_shape(node, 1, &statistics));
  HFB_TRY(need_shape(node, 2, &statistics));
  HFB_TRY(need_rows(node, 3, &scores, scores.dim[scores.rank - 2], &width));
  HFB_TRY(need_rows(node, 4, &scores, scores.dim[scores.rank - 1], &value_width));
  if (width != value_width) {
    return HFB_FAIL(HFB_MISMATCH, "values of width %" PRId64 ", their gradient of %" PRId64, value_width, width);
  }
  hfb_rule_set_result(node, node->inputs[0]->dtype, scores);
  return HFB_OK;
}

hfb_status hfb_infer_attention_backward(hfb_node *node) {
  hfb_shape scores, statistics;
  int64_t width, key_width, value_width;
  HFB_TRY(check_scores(node, 1, &scores, &statistics));
  HFB_TRY(need_equal_shapes(node, 0, 1));
  HFB_TRY(need_shape(node, 2, &statistics));
  int64_t queries = scores.dim[scores.rank - 2], keys = scores.dim[scores.rank - 1];
  HFB_TRY(need_rows(node, 3, &scores, queries, &width));
  HFB_TRY(need_rows(node, 4, &scores, keys, &key_width));
  HFB_TRY(need_rows(node, 5, &scores, queries, &value_width));
  if (width != key_width) {
    return HFB_FAIL(HFB_MISMATCH, "queries of width %" PRId64 ", keys of %" PRId64, width, key_width);
  }
  hfb_shape values = node->inputs[4]->shape;
  values.dim[values.rank - 1] = value_width;
  set_result_at(node, 0, node->inputs[0]->dtype, node->inputs[3]->shape);
  set_result_at(node, 1, node->inputs[0]->dtype, node->inputs[4]->shape);
  set_result_at(node, 2, node->inputs[0]->dtype, values);
  return HFB_OK;
}

/* ---- linear and cross entropy ---- */

hfb_status hfb_infer_linear_cross_entropy(hfb_node *node) {
  HFB_TRY(hfb_rule_need_float(node, 0));
  HFB_TRY(hfb_rule_need_equal_dtypes(node, 0, 1));
  HFB_TRY(hfb_rule_need_rank(node, 0, 2));
  HFB_TRY(hfb_rule_need_rank(node, 1, 2));
  HFB_TRY(hfb_rule_need_dtype(node, 2, HFB_I64));
  HFB_TRY(hfb_rule_need_dtype(node, 3, node->inputs[0]->dtype));
  HFB_TRY(hfb_rule_need_rank(node, 3, 0));
  HFB_TRY(hfb_rule_check_ignore_index(node));
  const hfb_value *x = node->inputs[0], *weight = node->inputs[1];
  if (x->shape.dim[1] != weight->shape.dim[1]) {
    return HFB_FAIL(HFB_MISMATCH, "%" PRId64 " features against a weight for %" PRId64, x->shape.dim[1],
                    weight->shape.dim[1]);
  }
  hfb_shape rows = hfb_shape_of(1, x->shape.dim), classes = hfb_shape_of(1, weight->shape.dim);
  HFB_TRY(need_shape(node, 2, &rows));
  if (node->input_count == 5) {
    HFB_TRY(hfb_rule_need_dtype(node, 4, x->dtype));
    HFB_TRY(need_shape(node, 4, &classes));
  }
  set_result_at(node, 0, x->dtype, (hfb_shape){0});
  set_result_at(node, 1, x->dtype, x->shape);
  set_result_at(node, 2, x->dtype, weight->shape);
  set_result_at(node, 3, x->dtype, classes);
  return HFB_OK;
}
