#include "compile/causal.h"

/* Far below any real score, and below what float32 scores times finfo.min / 2 may reach. */
static const double masked_below = -1e30;

/* Reshapes and expansions that leave the last two dimensions as they are. */
static const hfb_value *behind_views(const hfb_value *value) {
  while (value->node->op == HFB_OP_RESHAPE || value->node->op == HFB_OP_EXPAND) {
    const hfb_shape *from = &value->node->inputs[0]->shape, *to = &value->shape;
    if (from->rank < 2 || to->rank < 2) return value;
    if (from->dim[from->rank - 1] != to->dim[to->rank - 1] || from->dim[from->rank - 2] != to->dim[to->rank - 2])
      return value;
    value = value->node->inputs[0];
  }
  return value;
}

static bool is_iota_along(const hfb_value *value, int from_end) {
  value = behind_views(value);
  return value->node->op == HFB_OP_IOTA && hfb_node_int(value->node, HFB_ATTR_AXIS) == value->shape.rank - from_end;
}

bool hfb_is_causal_keep(const hfb_value *value) {
  value = behind_views(value);
  const hfb_node *node = value->node;
  const int rank = value->shape.rank;
  return node->op == HFB_OP_LE && rank >= 2 && value->shape.dim[rank - 1] == value->shape.dim[rank - 2] &&
         is_iota_along(node->inputs[0], 1) && is_iota_along(node->inputs[1], 2);
}

static bool is_masking_where(const hfb_node *node) {
  if (node->op != HFB_OP_WHERE) return false;
  const hfb_node *masked = node->inputs[2]->node;
  return masked->op == HFB_OP_FULL && hfb_node_float(masked, HFB_ATTR_VALUE) <= masked_below;
}

bool hfb_is_causal_where(const hfb_node *node) { return is_masking_where(node) && hfb_is_causal_keep(node->inputs[0]); }

/* True nowhere beyond the diagonal: causal, and perhaps no padding either. */
static bool implies_causal(const hfb_value *keep) {
  if (hfb_is_causal_keep(keep)) return true;
  const hfb_node *node = behind_views(keep)->node;
  return node->op == HFB_OP_AND && (implies_causal(node->inputs[0]) || implies_causal(node->inputs[1]));
}

bool hfb_is_causal_scores(const hfb_value *scores) {
  const hfb_node *node = behind_views(scores)->node;
  if (is_masking_where(node)) return implies_causal(node->inputs[0]);
  return node->op == HFB_OP_ADD && (hfb_is_causal_scores(node->inputs[0]) || hfb_is_causal_scores(node->inputs[1]));
}
