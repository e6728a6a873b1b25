#include "compile/recompute.h"

#include <string.h>

#include "compile/partition.h"
#include "grad/training.h"
#include "ir/transform.h"

enum {
  COST_LIMIT = 32,     /* about an error function and its surroundings: less than a write to memory and a read */
  COST_FUNCTION = 12,  /* exp, erf, tanh: polynomials */
  COST_DIVISION = 4,
  COST_NEVER = 1 << 20,
  LARGE_SHARE = 16     /* a leaf this many times smaller than its reader is cheap to read again: a bias, row means */
};

static hfb_op_class class_of(const hfb_node *node) { return hfb_op_info_of(node->op)->op_class; }

static bool is_division(const hfb_node *node) {
  return node->op == HFB_OP_DIV || node->op == HFB_OP_SQRT || node->op == HFB_OP_RSQRT;
}

static bool is_function(const hfb_node *node) {
  return !is_division(node) && hfb_op_info_of(node->op)->tolerance == HFB_TOL_FUNCTION;
}

static int own_cost(const hfb_node *node) {
  if (node->op == HFB_OP_RANDOM_KEEP) return COST_NEVER; /* 140 instructions for a vector */
  return is_division(node) ? COST_DIVISION : is_function(node) ? COST_FUNCTION : 1;
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
  chain->has_function |= input->has_function;
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
  const hfb_op_class op_class = class_of(node);
  hfb_chain chain = {.cost = op_class == HFB_CLASS_ELEMENTWISE ? own_cost(node) : 0, .has_function = is_function(node)};
  if (op_class == HFB_CLASS_ELEMENTWISE || op_class == HFB_CLASS_MOVE) {
    for (int i = 0; i < node->input_count; i++) join(value, &chains[node->inputs[i]->id], &chain);
  }
  chain.is_epilogue = chain.leaf_is_tile;
  if (is_leaf[value->id] || (users->use_counts[value->id] > 1 && !is_inlinable(value, &chain))) {
    hfb_chain leaf = leaf_chain(users, value);
    leaf.is_epilogue = chain.is_epilogue;
    return leaf;
  }
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
  if (value->node->op == HFB_OP_RANDOM_KEEP) return !is_broadcast(users, value); /* masks are drawn again, not kept */
  return chain->leaf && chain->leaf != value && is_inlinable(value, chain) && !is_broadcast(users, value);
}

/* ---- the pass ---------------------------------------- */

enum { MIN_BYTES = 64 * 1024, RECOMPUTED_REGION = 1 << 20 };

typedef struct recompute {
  const hfb_graph *graph;
  hfb_users users;
  hfb_chain *chains;
  bool *is_leaf;
  int boundary;        /* id of the loss's node: later nodes are the backward pass */
  hfb_rewrite rewrite;
} recompute;

static bool has_user(const recompute *r, const hfb_value *value, bool late) {
  for (int i = 0; i < hfb_users_count(&r->users, value); i++) {
    if ((hfb_users_at(&r->users, value, i)->id > r->boundary) == late) return true;
  }
  return false;
}

/* Whether the backward pass reads the leaf through some other value than `value` too, so that it is kept anyway. */
static bool is_kept_anyway(const recompute *r, const hfb_value *leaf, const hfb_value *value) {
  for (int i = 0; i < hfb_users_count(&r->users, leaf); i++) {
    const hfb_node *user = hfb_users_at(&r->users, leaf, i);
    const hfb_value *result = &user->results[0];
    if (user->id > r->boundary) return true;
    if (result == value || r->is_leaf[result->id] || user->result_count != 1) continue;
    if (r->chains[result->id].leaf == leaf && is_kept_anyway(r, result, value)) return true;
  }
  return false;
}

static bool is_candidate(const recompute *r, const hfb_value *value) {
  const hfb_chain *chain = &r->chains[value->id];
  if (value->node->id > r->boundary || class_of(value->node) != HFB_CLASS_ELEMENTWISE) return false;
  if (!hfb_dtype_is_float(value->dtype) || hfb_users_escapes(&r->users, value)) return false;
  if (hfb_value_bytes(value) < MIN_BYTES) return false;
  if (!chain->leaf || chain->leaf == value || chain->has_function || !is_inlinable(value, chain)) return false;
  return has_user(r, value, false) && has_user(r, value, true) && is_kept_anyway(r, chain->leaf, value);
}

/* A copy of the value's chain, down to its leaves, in a region of its own: no later pass merges it with the first. */
static hfb_value *copy_chain(recompute *r, const hfb_value *value) {
  const hfb_node *node = value->node;
  const hfb_op_class op_class = class_of(node);
  if (r->is_leaf[value->id] || (op_class != HFB_CLASS_ELEMENTWISE && op_class != HFB_CLASS_MOVE))
    return r->rewrite.map[value->id];
  enum { MAX_INPUTS = 4 };
  hfb_value *inputs[MAX_INPUTS];
  hfb_attr attrs[HFB_ATTR_COUNT];
  int attr_count = 0;
  if (node->input_count > MAX_INPUTS) return r->rewrite.map[value->id];
  for (int i = 0; i < node->input_count; i++) inputs[i] = copy_chain(r, node->inputs[i]);
  for (int i = 0; i < node->attr_count; i++) {
    if (node->attrs[i].key != HFB_ATTR_REGION) attrs[attr_count++] = node->attrs[i];
  }
  attrs[attr_count++] = (hfb_attr){.key = HFB_ATTR_REGION, .u.i = RECOMPUTED_REGION};
  return hfb_build(&r->rewrite.b, node->op, node->input_count, inputs, attr_count, attrs);
}

/* The first late reader of a candidate gets the copy, and so do all after it. */
static void copy_candidates(recompute *r, const hfb_node *node, bool *is_copied) {
  for (int i = 0; i < node->input_count; i++) {
    const hfb_value *value = node->inputs[i];
    if (is_copied[value->id] || !is_candidate(r, value)) continue;
    is_copied[value->id] = true;
    r->rewrite.map[value->id] = copy_chain(r, value);
  }
}

static hfb_status rewrite_graph(recompute *r, hfb_graph **out_graph) {
  bool *is_copied = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)r->graph->value_count + 1, sizeof *is_copied, &is_copied));
  hfb_status status = hfb_rewrite_begin(&r->rewrite, r->graph);
  if (status == HFB_OK) {
    for (int i = 0; i < r->graph->node_count; i++) {
      if (i > r->boundary) copy_candidates(r, r->graph->nodes[i], is_copied);
      hfb_rewrite_copy(&r->rewrite, r->graph->nodes[i]);
    }
    status = hfb_rewrite_finish(&r->rewrite, out_graph);
    hfb_rewrite_deinit(&r->rewrite);
  }
  hfb_mem_free(is_copied);
  return status;
}

/* Parameters are updated, or gradients handed out: then what follows the loss is the backward pass. */
static bool is_training(const hfb_graph *graph) {
  for (int i = 1; i < graph->output_count; i++) {
    if (strncmp(graph->outputs[i].name, HFB_GRADIENT_PREFIX, strlen(HFB_GRADIENT_PREFIX)) == 0) return true;
  }
  return graph->update_count > 0 && graph->output_count > 0;
}

hfb_status hfb_pass_recompute(const hfb_graph *graph, hfb_graph **out_graph) {
  recompute r = {.graph = graph, .boundary = graph->node_count};
  const size_t values = (size_t)graph->value_count + 1;
  if (is_training(graph)) r.boundary = graph->outputs[0].value->node->id;
  hfb_status status = hfb_users_init(graph, &r.users);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof *r.chains, &r.chains);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof *r.is_leaf, &r.is_leaf);
  if (status == HFB_OK) {
    for (int i = 0; i < graph->node_count; i++) {
      const hfb_op_class op_class = class_of(graph->nodes[i]);
      const bool work = op_class == HFB_CLASS_REDUCE || op_class == HFB_CLASS_GATHER || op_class == HFB_CLASS_SOURCE ||
                        hfb_is_step(graph->nodes[i]);
      for (int k = 0; k < graph->nodes[i]->result_count; k++) r.is_leaf[graph->nodes[i]->results[k].id] = work;
    }
    hfb_chains_find(graph, &r.users, r.is_leaf, r.chains);
    for (int v = 0; v < graph->value_count; v++) {
      if (r.chains[v].leaf && r.chains[v].leaf->id == v) r.is_leaf[v] = true;
    }
    status = rewrite_graph(&r, out_graph);
  }
  hfb_users_deinit(&r.users);
  hfb_mem_free(r.chains);
  hfb_mem_free(r.is_leaf);
  return status;
}
