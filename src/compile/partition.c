#include "compile/partition.h"

#include <string.h>

#include "compile/block_gather.h"
#include "compile/passes.h"

static hfb_op_class class_of(const hfb_node *node) { return hfb_op_info_of(node->op)->op_class; }

/* What an attention kernel computes tile by tile and never stores. */
static bool is_score_source(const hfb_node *node) {
  return node->op == HFB_OP_MATMUL || node->op == HFB_OP_ATTENTION_SCORES_BACKWARD;
}

static const hfb_node *score_source(const hfb_value *value, const hfb_shape *shape, int depth) {
  enum { DEEPEST = 12 };
  const hfb_node *node = value->node, *found = NULL;
  if (is_score_source(node)) return node;
  if (depth > DEEPEST || class_of(node) != HFB_CLASS_ELEMENTWISE) return NULL;
  for (int i = 0; i < node->input_count; i++) {
    if (!hfb_shape_equal(&node->inputs[i]->shape, shape)) continue; /* masks and biases broadcast */
    const hfb_node *source = score_source(node->inputs[i], shape, depth + 1);
    if (source && found && source != found) return NULL;
    if (source) found = source;
  }
  return found;
}

const hfb_node *hfb_score_source(const hfb_value *scores) { return score_source(scores, &scores->shape, 0); }

static bool has_source(const hfb_value *scores, hfb_op op) {
  const hfb_node *source = hfb_score_source(scores);
  return scores->dtype == HFB_F32 && source && source->op == op;
}

/* Which inputs of an attention op are scores, and what they come from. */
typedef struct score_input {
  hfb_op op;
  int input;
  hfb_op source;
} score_input;

static const score_input score_inputs[] = {
    {HFB_OP_ATTENTION, 0, HFB_OP_MATMUL},
    {HFB_OP_ATTENTION_SCORES_BACKWARD, 0, HFB_OP_MATMUL},
    {HFB_OP_ATTENTION_BACKWARD, 0, HFB_OP_ATTENTION_SCORES_BACKWARD},
    {HFB_OP_ATTENTION_BACKWARD, 1, HFB_OP_MATMUL},
};

enum { SCORE_INPUT_COUNT = sizeof score_inputs / sizeof score_inputs[0] };

static bool is_score_input(const hfb_node *node, int input) {
  for (int i = 0; i < SCORE_INPUT_COUNT; i++) {
    if (score_inputs[i].op == node->op && score_inputs[i].input == input) return true;
  }
  return false;
}

bool hfb_is_attention(const hfb_node *node) {
  bool is = false;
  for (int i = 0; i < SCORE_INPUT_COUNT; i++) {
    if (score_inputs[i].op != node->op) continue;
    is = has_source(node->inputs[score_inputs[i].input], score_inputs[i].source);
    if (!is) return false;
  }
  return is;
}

/* Generated loops have no 16-bit floats. */
static bool is_half(hfb_dtype dtype) { return dtype == HFB_BF16 || dtype == HFB_F16; }

static bool touches_half(const hfb_node *node) {
  for (int i = 0; i < node->input_count; i++) {
    if (is_half(node->inputs[i]->dtype)) return true;
  }
  return is_half(node->results[0].dtype);
}

bool hfb_is_kernel_step(const hfb_node *node) {
  const hfb_op_class op_class = class_of(node);
  if (op_class != HFB_CLASS_SOURCE && op_class != HFB_CLASS_CONTRACT && op_class != HFB_CLASS_MOVE &&
      touches_half(node))
    return true;
  switch (node->op) {
    case HFB_OP_CUMSUM:
    case HFB_OP_ARGMAX:
    case HFB_OP_ARGSORT:
    case HFB_OP_RANDOM_NORMAL:
    case HFB_OP_CONCAT:
    case HFB_OP_PAD:
    case HFB_OP_FFT2_REAL:
    case HFB_OP_INSTANCE_NORM:
    case HFB_OP_INSTANCE_NORM_BACKWARD:
    case HFB_OP_UNFOLD_BACKWARD:
    case HFB_OP_CTC_LOSS:
    case HFB_OP_CTC_LOSS_BACKWARD:
    case HFB_OP_EMBEDDING:
    case HFB_OP_GATHER_BACKWARD:
    case HFB_OP_TAKE_ALONG_BACKWARD:
    case HFB_OP_LINEAR_CROSS_ENTROPY:
      return true;
    case HFB_OP_ATTENTION:
    case HFB_OP_ATTENTION_SCORES_BACKWARD:
    case HFB_OP_ATTENTION_BACKWARD:
      return !hfb_is_attention(node);
    case HFB_OP_REDUCE_SUM:
    case HFB_OP_REDUCE_MAX:
      return hfb_reduces_leading(node);
    default:
      return false;
  }
}

bool hfb_is_step(const hfb_node *node) {
  return class_of(node) == HFB_CLASS_CONTRACT || hfb_is_attention(node) || hfb_is_kernel_step(node);
}

/* Lives in the tiles of a loop where it can: a product, or what attention does not store. */
static bool is_tiled(const hfb_node *node) {
  return class_of(node) == HFB_CLASS_CONTRACT ||
         (node->op == HFB_OP_ATTENTION_SCORES_BACKWARD && hfb_is_attention(node));
}

static bool is_outside(const hfb_value *value) {
  const hfb_op op = value->node->op;
  return op == HFB_OP_PARAMETER || op == HFB_OP_INPUT ||
         (op == HFB_OP_CONSTANT && (hfb_shape_elements(&value->shape) != 1 || is_half(value->dtype)));
}

/* Made of iotas and scalars by a few cheap ops: computed wherever it is used. */
static bool is_free(const hfb_value *value, int depth) {
  const hfb_node *node = value->node;
  switch (node->op) {
    case HFB_OP_FULL:
    case HFB_OP_IOTA:
      return true;
    case HFB_OP_CONSTANT:
      return hfb_shape_elements(&value->shape) == 1;
    default:
      break;
  }
  const hfb_op_class op_class = class_of(node);
  if (depth > 6 || (op_class != HFB_CLASS_ELEMENTWISE && op_class != HFB_CLASS_MOVE) || hfb_is_kernel_step(node))
    return false;
  if (hfb_op_info_of(node->op)->tolerance == HFB_TOL_FUNCTION) return false;
  for (int i = 0; i < node->input_count; i++) {
    if (!is_free(node->inputs[i], depth + 1)) return false;
  }
  return true;
}

hfb_status hfb_partition_create(const hfb_graph *graph, hfb_partition **out_partition) {
  hfb_partition *p = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof *p, &p));
  p->graph = graph;
  const size_t values = (size_t)graph->value_count + 1;
  hfb_status status = hfb_users_init(graph, &p->users);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->forced);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->no_tile);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(hfb_node *), &p->reduce);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->is_score);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->by_blocks);
  if (status == HFB_OK) status = hfb_block_gathers_find(graph, &p->users, p->by_blocks);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(hfb_value *), &p->root);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(hfb_value *), &p->tile);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof *p->chains, &p->chains);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->is_leaf);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->no_extra);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->is_update);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->is_extra);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->has_extras);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->rows_only);
  if (status != HFB_OK) {
    hfb_partition_destroy(p);
    return status;
  }
  for (int i = 0; i < graph->update_count; i++) p->is_update[graph->updates[i].value->id] = true;
  *out_partition = p;
  return HFB_OK;
}

void hfb_partition_destroy(hfb_partition *partition) {
  if (!partition) return;
  hfb_users_deinit(&partition->users);
  hfb_mem_free(partition->forced);
  hfb_mem_free(partition->no_tile);
  hfb_mem_free(partition->reduce);
  hfb_mem_free(partition->is_score);
  hfb_mem_free(partition->by_blocks);
  hfb_mem_free(partition->root);
  hfb_mem_free(partition->tile);
  hfb_mem_free(partition->chains);
  hfb_mem_free(partition->is_leaf);
  hfb_mem_free(partition->no_extra);
  hfb_mem_free(partition->is_update);
  hfb_mem_free(partition->is_extra);
  hfb_mem_free(partition->has_extras);
  hfb_mem_free(partition->rows_only);
  hfb_mem_free(partition);
}

bool hfb_partition_is_stored(const hfb_partition *partition, const hfb_value *value) {
  return is_outside(value) || partition->is_extra[value->id] ||
         (partition->root[value->id] == value && !partition->is_score[value->id]);
}

/* ---- what must be stored ---------------------------------------- */

/* The transpose among the users of a value; NULL when there is none, or two different ones, or when somebody outside of
 * the graph reads the value too. */
static const hfb_node *transposing_user(const hfb_partition *p, const hfb_value *value) {
  const hfb_node *found = NULL;
  if (hfb_users_escapes(&p->users, value)) return NULL;
  for (int u = 0; u < hfb_users_count(&p->users, value); u++) {
    const hfb_node *user = hfb_users_at(&p->users, value, u);
    if (user->op != HFB_OP_TRANSPOSE) continue;
    if (found) return NULL; /* equal transposes are one node */
    found = user;
  }
  return found;
}

/* The result of attention, [batch, heads, query, dim], is mostly transposed to [batch, query, heads, dim] and merged;
 * what an embedding of relative positions gives, [query, key, heads], to [heads, query, key]. Stored in the order of
 * the transposed value at once, it is read row by row. */
static void choose_strides(const hfb_partition *p, const hfb_value *value, int64_t *out_strides) {
  hfb_shape_strides(&value->shape, out_strides);
  const bool attention = hfb_is_attention(value->node) && value->shape.rank == value->node->inputs[0]->shape.rank;
  if (!attention && (value->node->op != HFB_OP_GATHER || hfb_is_kernel_step(value->node))) return;
  const hfb_node *user = transposing_user(p, value);
  if (!user) return;
  int count = 0;
  int64_t transposed[HFB_MAX_RANK];
  const int64_t *perm = hfb_node_ints(user, HFB_ATTR_PERM, &count);
  if (attention && perm[count - 1] != count - 1) return; /* the kernel writes unit-stride rows */
  hfb_shape_strides(&user->results[0].shape, transposed);
  for (int i = 0; i < count; i++) out_strides[perm[i]] = transposed[i];
}

/* Walks movement ops down to the first value that is stored or will be; forces it. A movement result that no strided
 * view can show is forced itself. */
static void force_operand(hfb_partition *p, const hfb_value *value) {
  const hfb_value *chain[64];
  int length = 0;
  const hfb_value *base = value;
  while (class_of(base->node) == HFB_CLASS_MOVE && !hfb_is_kernel_step(base->node) && !p->forced[base->id] &&
         length < 64) {
    chain[length++] = base;
    base = base->node->inputs[0];
  }
  if (p->by_blocks[base->id]) {
    force_operand(p, base->node->inputs[0]);
    force_operand(p, base->node->inputs[1]);
    return;
  }
  if (!is_outside(base)) p->forced[base->id] = true;
  hfb_view view = {.base = base}, next;
  choose_strides(p, base, view.strides);
  while (length > 0) {
    const hfb_value *step = chain[--length];
    if (!hfb_view_through(step->node, &view, &next)) {
      p->forced[step->id] = true;
      next.base = step;
      next.offset = 0;
      hfb_shape_strides(&step->shape, next.strides);
    }
    view = next;
  }
}

/* A product that only `sum` reads. */
static bool adds_product(const hfb_partition *p, const hfb_node *sum, const hfb_value *apart_from) {
  for (int i = 0; i < sum->input_count; i++) {
    const hfb_value *input = sum->inputs[i];
    if (input == apart_from || class_of(input->node) != HFB_CLASS_CONTRACT) continue;
    if (p->users.use_counts[input->id] == 1 && hfb_shape_equal(&input->shape, &sum->results[0].shape)) return true;
  }
  return false;
}

/* Sums of many products, as the gradient of a weight that all layers share: each sum so far is stored, so that the next
 * product can be added to it by its epilogue. In one loop over all of them, every product would be kept until the last
 * one is there. */
static void force_running_sums(hfb_partition *p) {
  for (int i = 0; i < p->graph->node_count; i++) {
    const hfb_node *node = p->graph->nodes[i];
    const hfb_value *sum = &node->results[0];
    if (node->op != HFB_OP_ADD || p->users.use_counts[sum->id] != 1 || hfb_users_count(&p->users, sum) != 1) continue;
    const hfb_node *next = hfb_users_at(&p->users, sum, 0);
    if (next->op == HFB_OP_ADD && adds_product(p, node, NULL) && adds_product(p, next, sum)) p->forced[sum->id] = true;
  }
}

static void force_operands(hfb_partition *p) {
  for (int i = 0; i < p->graph->node_count; i++) {
    const hfb_node *node = p->graph->nodes[i];
    if (!hfb_is_step(node)) continue;
    const bool attention = hfb_is_attention(node);
    for (int k = 0; k < node->input_count; k++) {
      if (attention && is_score_input(node, k)) {
        p->is_score[node->inputs[k]->id] = true;
      } else {
        force_operand(p, node->inputs[k]);
      }
    }
  }
  for (int i = 0; i < p->graph->output_count; i++) force_operand(p, p->graph->outputs[i].value);
  for (int i = 0; i < p->graph->update_count; i++) {
    if (!is_outside(p->graph->updates[i].value)) p->forced[p->graph->updates[i].value->id] = true;
  }
}

/* ---- the sweep ---------------------------------------- */

static bool is_dead(const hfb_partition *p, const hfb_node *node) {
  return node->result_count == 1 && p->users.use_counts[node->results[0].id] == 0;
}

/* What ends the loop that a user belongs to; NULL for a step, and for what is computed in each of its own readers. */
static const hfb_value *root_of_user(const hfb_partition *p, const hfb_node *user) {
  return hfb_is_step(user) ? NULL : p->root[user->results[0].id];
}

/* The one root of all users; NULL when there are several, or when a user is a step. */
static const hfb_value *common_root(const hfb_partition *p, const hfb_value *value) {
  const hfb_value *common = NULL;
  for (int u = 0; u < hfb_users_count(&p->users, value); u++) {
    const hfb_node *user = hfb_users_at(&p->users, value, u);
    if (is_dead(p, user)) continue;
    const hfb_value *root = root_of_user(p, user);
    if (!root || (common && common != root)) return NULL;
    common = root;
  }
  return common;
}

/* An elementary function on few elements that a loop would evaluate again for many: better stored. */
static bool dear_to_repeat(const hfb_value *value, const hfb_value *root) {
  const int rank = value->shape.rank;
  return hfb_op_info_of(value->node->op)->tolerance == HFB_TOL_FUNCTION && rank > 0 && value->shape.dim[rank - 1] > 1 &&
         hfb_shape_elements(&value->shape) * 4 <= hfb_shape_elements(&root->shape);
}

/* Where a value without storage is needed first. */
typedef struct first_reader {
  const hfb_value *root; /* ends the loop; NULL: a step reads it first */
  int node;              /* that the loop or step stands at in the schedule */
} first_reader;

/* False when the readers are too far away to be found. */
static bool find_first_reader(const hfb_partition *p, const hfb_value *value, int depth, first_reader *first) {
  enum { DEEPEST = 12 };
  if (depth > DEEPEST) return false;
  for (int u = 0; u < hfb_users_count(&p->users, value); u++) {
    const hfb_node *user = hfb_users_at(&p->users, value, u);
    if (is_dead(p, user)) continue;
    const hfb_value *root = root_of_user(p, user);
    if (!root && !hfb_is_step(user)) {
      if (!find_first_reader(p, &user->results[0], depth + 1, first)) return false;
      continue;
    }
    const int node = root ? root->node->id : user->id;
    if (node < first->node) *first = (first_reader){root, node};
  }
  return true;
}

/* A loop stores beside its root what has the root's shape. */
static bool may_store_beside(const hfb_partition *p, const hfb_value *value, const hfb_value *root) {
  return !p->no_extra[value->id] && !p->is_score[root->id] && !p->tile[root->id] && !hfb_is_step(root->node) &&
         hfb_shape_equal(&root->shape, &value->shape);
}

/* The loop that needs a value of several readers first and can store it for the others; NULL: none. */
static const hfb_value *storing_reader(const hfb_partition *p, const hfb_value *value) {
  first_reader first = {.node = p->graph->node_count};
  if (p->forced[value->id] || hfb_users_escapes(&p->users, value)) return NULL;
  if (!find_first_reader(p, value, 0, &first) || !first.root) return NULL;
  const int root = first.root->id;
  const bool fits = may_store_beside(p, value, first.root) && !p->reduce[root] && !p->has_extras[root] &&
                    !p->is_update[root] && first.root->dtype == value->dtype;
  return fits ? first.root : NULL;
}

static void store_extra(hfb_partition *p, const hfb_value *value, const hfb_value *root) {
  p->root[value->id] = root;
  p->is_extra[value->id] = true;
  p->has_extras[root->id] = true;
}

static void assign_tiled(hfb_partition *p, const hfb_value *value, const hfb_value *common) {
  const bool may_store = !common && class_of(value->node) == HFB_CLASS_CONTRACT && !p->no_tile[value->id];
  const hfb_value *storing = may_store ? storing_reader(p, value) : NULL;
  if (storing) {
    store_extra(p, value, storing);
    p->tile[storing->id] = value;
    return;
  }
  const bool fits = common && !p->forced[value->id] && !p->no_tile[value->id] && !p->tile[common->id] &&
                    !p->reduce[common->id] && !p->rows_only[common->id] && !p->is_update[common->id] &&
                    !hfb_is_step(common->node) && common->dtype == value->dtype &&
                    hfb_shape_elements(&common->shape) == hfb_shape_elements(&value->shape);
  p->root[value->id] = fits ? common : value;
  if (fits) p->tile[common->id] = value;
}

/* Extent of the one axis that a canonical reduction has. */
static int64_t reduced_extent(const hfb_node *node) {
  int count = 0;
  return node->inputs[0]->shape.dim[hfb_node_ints(node, HFB_ATTR_AXES, &count)[0]];
}

/* A loop has one inner dimension. When reductions over two extents meet in one loop, as in a mean of row losses, what
 * the outer one reduces is stored, so that each has a loop; forced now, it takes effect with the next sweep. */
static bool reduce_fits(hfb_partition *p, const hfb_node *node, const hfb_value *root) {
  const hfb_node *other = p->reduce[root->id];
  if (!other || reduced_extent(other) == reduced_extent(node)) return true;
  const hfb_value *boundary = other->inputs[0];
  if (is_outside(boundary) || p->forced[boundary->id]) return false;
  p->forced[boundary->id] = true;
  p->again = true;
  return true;
}

/* What escapes, of the shape of what the loop ends with. What can be the epilogue of a product is better stored by
 * that. */
static bool fits_as_extra(const hfb_partition *p, const hfb_value *value, const hfb_value *common) {
  return common && hfb_users_escapes(&p->users, value) && class_of(value->node) == HFB_CLASS_ELEMENTWISE &&
         !p->chains[value->id].is_epilogue && !hfb_is_step(value->node) && may_store_beside(p, value, common);
}

static void assign_root(hfb_partition *p, const hfb_value *value) {
  const hfb_node *node = value->node;
  const hfb_op_class op_class = class_of(node);
  if (p->users.use_counts[value->id] == 0 || is_outside(value) || p->by_blocks[value->id]) return;
  const hfb_value *common = common_root(p, value);
  if (is_tiled(node)) {
    assign_tiled(p, value, common);
  } else if (fits_as_extra(p, value, common)) {
    store_extra(p, value, common);
    p->rows_only[common->id] = true;
  } else if (p->forced[value->id] || p->is_score[value->id] || hfb_is_step(node)) {
    p->root[value->id] = value;
  } else if (op_class == HFB_CLASS_MOVE) {
    p->root[value->id] = common; /* several users: each looks through it */
  } else if (common && !dear_to_repeat(value, common) &&
             !(op_class == HFB_CLASS_REDUCE && (p->tile[common->id] || !reduce_fits(p, node, common)))) {
    p->root[value->id] = common;
  } else if (!is_free(value, 0) && (common || !hfb_chain_is_recomputed(&p->users, p->chains, value))) {
    const hfb_value *storing = common || op_class != HFB_CLASS_ELEMENTWISE ? NULL : storing_reader(p, value);
    if (storing) store_extra(p, value, storing);
    else p->root[value->id] = value;
  }
  const hfb_value *root = p->root[value->id];
  if (op_class == HFB_CLASS_REDUCE && root && !hfb_is_step(node)) p->reduce[root->id] = node;
}

static void find_chains(hfb_partition *p) {
  for (int i = 0; i < p->graph->node_count; i++) {
    const hfb_node *node = p->graph->nodes[i];
    const hfb_op_class op_class = class_of(node);
    const bool work = hfb_is_step(node) || op_class == HFB_CLASS_REDUCE || op_class == HFB_CLASS_GATHER;
    for (int r = 0; r < node->result_count; r++) {
      const hfb_value *value = &node->results[r];
      p->is_leaf[value->id] = work || is_outside(value) || p->forced[value->id] || p->is_score[value->id];
    }
  }
  hfb_chains_find(p->graph, &p->users, p->is_leaf, p->chains);
}

void hfb_partition_sweep(hfb_partition *p) {
  const size_t values = (size_t)p->graph->value_count;
  memset(p->root, 0, values * sizeof *p->root);
  memset(p->tile, 0, values * sizeof *p->tile);
  memset(p->reduce, 0, values * sizeof *p->reduce);
  memset(p->is_extra, 0, values * sizeof *p->is_extra);
  memset(p->has_extras, 0, values * sizeof *p->has_extras);
  memset(p->rows_only, 0, values * sizeof *p->rows_only);
  p->again = false;
  force_operands(p);
  force_running_sums(p);
  find_chains(p);
  for (int i = p->graph->node_count - 1; i >= 0; i--) {
    const hfb_node *node = p->graph->nodes[i];
    for (int r = node->result_count - 1; r >= 0; r--) assign_root(p, &node->results[r]);
  }
  if (p->again) hfb_partition_sweep(p); /* ends: every time one more value is forced */
}

/* ---- storage ---------------------------------------- */

bool hfb_partition_view(const hfb_partition *partition, const hfb_storage *storage, const hfb_value *value,
                        hfb_view *out_view, const hfb_value **out_blocker) {
  if (hfb_partition_is_stored(partition, value)) {
    out_view->base = value;
    out_view->offset = 0;
    memcpy(out_view->strides, storage[value->id].strides, sizeof out_view->strides);
    return true;
  }
  hfb_view input;
  *out_blocker = value;
  if (class_of(value->node) != HFB_CLASS_MOVE || hfb_is_kernel_step(value->node)) return false;
  if (!hfb_partition_view(partition, storage, value->node->inputs[0], &input, out_blocker)) return false;
  *out_blocker = value;
  return hfb_view_through(value->node, &input, out_view);
}

static const hfb_value *storage_behind(const hfb_partition *p, const hfb_value *value) {
  while (!hfb_partition_is_stored(p, value)) value = value->node->inputs[0];
  return value;
}

void hfb_partition_assign_storage(const hfb_partition *p, hfb_storage *storage) {
  const hfb_graph *graph = p->graph;
  int constants = 0;
  memset(storage, 0, (size_t)graph->value_count * sizeof *storage);
  for (int i = 0; i < graph->node_count; i++) {
    for (int r = 0; r < graph->nodes[i]->result_count; r++) {
      const hfb_value *value = &graph->nodes[i]->results[r];
      if (!hfb_partition_is_stored(p, value)) continue;
      hfb_storage *s = &storage[value->id];
      choose_strides(p, value, s->strides);
      s->bytes = hfb_value_bytes(value);
      s->kind = HFB_STORAGE_ARENA;
      if (value->node->op == HFB_OP_CONSTANT && is_outside(value))
        s->kind = HFB_STORAGE_CONSTANT, s->index = constants++;
    }
  }
  for (int i = 0; i < graph->input_count; i++) {
    storage[graph->inputs[i]->id].kind = HFB_STORAGE_INPUT;
    storage[graph->inputs[i]->id].index = i;
  }
  for (int i = 0; i < graph->parameter_count; i++) {
    storage[graph->parameters[i]->id].kind = HFB_STORAGE_PARAMETER;
    storage[graph->parameters[i]->id].index = i;
  }
  for (int i = 0; i < graph->output_count; i++) {
    hfb_storage *s = &storage[storage_behind(p, graph->outputs[i].value)->id];
    if (s->kind == HFB_STORAGE_ARENA) s->kind = HFB_STORAGE_OUTPUT;
  }
}
