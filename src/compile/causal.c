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

bool hfb_is_causal_where(const hfb_node *node) {
  if (node->op != HFB_OP_WHERE || !hfb_is_causal_keep(node->inputs[0])) return false;
  const hfb_node *masked = node->inputs[2]->node;
  return masked->op == HFB_OP_FULL && hfb_node_float(masked, HFB_ATTR_VALUE) <= masked_below;
}

/* An input that reaches the scores through no product and no table: a mask that the user gives. */
static bool has_input_mask(const hfb_value *value, int depth) {
  const hfb_node *node = value->node;
  const hfb_op_class op_class = hfb_op_info_of(node->op)->op_class;
  if (node->op == HFB_OP_INPUT || depth > 64) return true;
  if (op_class == HFB_CLASS_CONTRACT || op_class == HFB_CLASS_GATHER) return false;
  for (int i = 0; i < node->input_count; i++) {
    if (has_input_mask(node->inputs[i], depth + 1)) return true;
  }
  return false;
}

static bool masks_the_future(const hfb_value *scores) {
  const hfb_node *node = behind_views(scores)->node;
  if (hfb_is_causal_where(node)) return true;
  return node->op == HFB_OP_ADD && (masks_the_future(node->inputs[0]) || masks_the_future(node->inputs[1]));
}

/* With padding as well, a row may be hidden entirely: its softmax then spreads over all keys, the future ones too. */
bool hfb_is_causal_scores(const hfb_value *scores) { return masks_the_future(scores) && !has_input_mask(scores, 0); }
