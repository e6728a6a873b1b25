#include "compile/recompute.h"

enum {
  COST_LIMIT = 32,     /* about an error function and its surroundings: less than a write to memory and a read */
  COST_FUNCTION = 12,  /* exp, erf, tanh: polynomials */
  COST_DIVISION = 4,
  COST_NEVER = 1 << 20,
  LARGE_SHARE = 16     /* a leaf this many times smaller than its reader is cheap to read again: a bias, row means */
};

static hfb_op_class class_of(const hfb_node *node) { return hfb_op_info_of(node->op)->op_class; }

static int own_cost(const hfb_node *node) {
  if (node->op == HFB_OP_RANDOM_KEEP) return COST_NEVER; /* 140 instructions for a vector */
  if (node->op == HFB_OP_DIV || node->op == HFB_OP_SQRT || node->op == HFB_OP_RSQRT) return COST_DIVISION;
  return hfb_op_info_of(node->op)->tolerance == HFB_TOL_FUNCTION ? COST_FUNCTION : 1;
}

static bool is_inlinable(const hfb_value *value, const hfb_chain *chain) {
  const hfb_op_class op_class = class_of(value->node);
  if (op_class != HFB_CLASS_ELEMENTWISE && op_class != HFB_CLASS_MOVE) return false;
  return !chain->many_leaves && !chain->leaf_is_tile && chain->cost <= COST_LIMIT;
}

/* Joins the chain of an input to that of `value`. */
static void join(const hfb_value *value, const hfb_chain *input, hfb_chain *chain) {
  chain->cost += input->cost;
  if (chain->cost > COST_NEVER) chain->cost = COST_NEVER;
  chain->many_leaves |= input->many_leaves;
  const hfb_value *leaf = input->leaf;
  if (!leaf || hfb_shape_elements(&leaf->shape) * LARGE_SHARE <= hfb_shape_elements(&value->shape)) return;
  if (chain->leaf && chain->leaf != leaf) chain->many_leaves = true;
  chain->leaf = leaf;
  chain->leaf_is_tile |= input->leaf_is_tile;
}

static hfb_chain leaf_chain(const hfb_users *users, const hfb_value *value) {
  const bool is_tile = class_of(value->node) == HFB_CLASS_CONTRACT && users->use_counts[value->id] == 1;
  return (hfb_chain){.leaf = value, .leaf_is_tile = is_tile, .cost = 1};
}

static hfb_chain chain_of(const hfb_users *users, const bool *is_leaf, const hfb_chain *chains,
                          const hfb_value *value) {
  const hfb_node *node = value->node;
  if (is_leaf[value->id]) return leaf_chain(users, value);
  hfb_chain chain = {.cost = class_of(node) == HFB_CLASS_ELEMENTWISE ? own_cost(node) : 0};
  for (int i = 0; i < node->input_count; i++) join(value, &chains[node->inputs[i]->id], &chain);
  if (users->use_counts[value->id] > 1 && !is_inlinable(value, &chain)) return leaf_chain(users, value);
  return chain;
}

void hfb_chains_find(const hfb_graph *graph, const hfb_users *users, const bool *is_leaf, hfb_chain *out_chains) {
  for (int i = 0; i < graph->node_count; i++) {
    for (int r = 0; r < graph->nodes[i]->result_count; r++) {
      const hfb_value *value = &graph->nodes[i]->results[r];
      out_chains[value->id] = chain_of(users, is_leaf, out_chains, value);
    }
  }
}

/* A small value that larger ones are computed from, a mask say, would be computed again for each of their elements. */
static bool is_broadcast(const hfb_users *users, const hfb_value *value) {
  for (int i = 0; i < hfb_users_count(users, value); i++) {
    const hfb_value *result = &hfb_users_at(users, value, i)->results[0];
    if (hfb_shape_elements(&result->shape) > hfb_shape_elements(&value->shape)) return true;
  }
  return false;
}

bool hfb_chain_is_recomputed(const hfb_users *users, const hfb_chain *chains, const hfb_value *value) {
  const hfb_chain *chain = &chains[value->id];
  return chain->leaf && chain->leaf != value && is_inlinable(value, chain) && !is_broadcast(users, value);
}
