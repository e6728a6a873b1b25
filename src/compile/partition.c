#include "compile/partition.h"

#include <string.h>

static hfb_op_class class_of(const hfb_node *node) { return hfb_op_info_of(node->op)->op_class; }

bool hfb_is_attention(const hfb_node *node) {
  return node->op == HFB_OP_MATMUL && node->inputs[0]->node->op == HFB_OP_SOFTMAX;
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
    case HFB_OP_CONCAT:
    case HFB_OP_PAD:
    case HFB_OP_FFT2_REAL:
      return true;
    default:
      return false;
  }
}

/* Its operands are read as strided views of storage. */
static bool is_step(const hfb_node *node) { return class_of(node) == HFB_CLASS_CONTRACT || hfb_is_kernel_step(node); }

static bool is_outside(const hfb_value *value) {
  const hfb_op op = value->node->op;
  return op == HFB_OP_PARAMETER || op == HFB_OP_INPUT ||
         (op == HFB_OP_CONSTANT && hfb_shape_elements(&value->shape) != 1);
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

/* Compressed rows: users of value v are users[user_begin[v] .. user_begin[v + 1]). */
static hfb_status collect_users(hfb_partition *p) {
  const hfb_graph *graph = p->graph;
  int *cursor = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)graph->value_count + 1, sizeof(int), &p->user_begin));
  for (int i = 0; i < graph->node_count; i++) {
    for (int k = 0; k < graph->nodes[i]->input_count; k++) p->user_begin[graph->nodes[i]->inputs[k]->id + 1]++;
  }
  for (int v = 0; v < graph->value_count; v++) p->user_begin[v + 1] += p->user_begin[v];
  HFB_TRY(hfb_mem_alloc((size_t)p->user_begin[graph->value_count] + 1, sizeof(hfb_node *), &p->users));
  HFB_TRY(hfb_mem_alloc((size_t)graph->value_count + 1, sizeof(int), &cursor));
  memcpy(cursor, p->user_begin, ((size_t)graph->value_count + 1) * sizeof(int));
  for (int i = 0; i < graph->node_count; i++) {
    for (int k = 0; k < graph->nodes[i]->input_count; k++)
      p->users[cursor[graph->nodes[i]->inputs[k]->id]++] = graph->nodes[i];
  }
  hfb_mem_free(cursor);
  return HFB_OK;
}

hfb_status hfb_partition_create(const hfb_graph *graph, hfb_partition **out_partition) {
  hfb_partition *p = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof *p, &p));
  p->graph = graph;
  const size_t values = (size_t)graph->value_count + 1;
  hfb_status status = hfb_graph_use_counts(graph, &p->use_counts);
  if (status == HFB_OK) status = collect_users(p);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->forced);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->no_tile);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(hfb_node *), &p->reduce);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(bool), &p->is_score);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(hfb_value *), &p->root);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof(hfb_value *), &p->tile);
  if (status != HFB_OK) {
    hfb_partition_destroy(p);
    return status;
  }
  *out_partition = p;
  return HFB_OK;
}

void hfb_partition_destroy(hfb_partition *partition) {
  if (!partition) return;
  hfb_mem_free(partition->use_counts);
  hfb_mem_free(partition->user_begin);
  hfb_mem_free(partition->users);
  hfb_mem_free(partition->forced);
  hfb_mem_free(partition->no_tile);
  hfb_mem_free(partition->reduce);
  hfb_mem_free(partition->is_score);
  hfb_mem_free(partition->root);
  hfb_mem_free(partition->tile);
  hfb_mem_free(partition);
}

bool hfb_partition_is_stored(const hfb_partition *partition, const hfb_value *value) {
  return is_outside(value) || (partition->root[value->id] == value && !partition->is_score[value->id]);
}

/* ---- what must be stored ---------------------------------------- */

/* The result of attention, [batch, heads, query, dim], is mostly transposed to [batch, query, heads, dim] and merged;
 * what an embedding of relative positions gives, [query, key, heads], to [heads, query, key]. Stored in the order of
 * the transposed value at once, it is read row by row. */
static void choose_strides(const hfb_partition *p, const hfb_value *value, int64_t *out_strides) {
  hfb_shape_strides(&value->shape, out_strides);
  const bool attention = hfb_is_attention(value->node);
  if (!attention && value->node->op != HFB_OP_GATHER) return;
  if (p->use_counts[value->id] != 1 || p->user_begin[value->id + 1] == p->user_begin[value->id]) return;
  const hfb_node *user = p->users[p->user_begin[value->id]];
  if (user->op != HFB_OP_TRANSPOSE) return;
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

static void force_operands(hfb_partition *p) {
  for (int i = 0; i < p->graph->node_count; i++) {
    const hfb_node *node = p->graph->nodes[i];
    if (!is_step(node)) continue;
    for (int k = 0; k < node->input_count; k++) {
      if (node->inputs[k]->node->op == HFB_OP_SOFTMAX) {
        p->is_score[node->inputs[k]->node->inputs[0]->id] = true;
      } else {
        force_operand(p, node->inputs[k]);
      }
    }
  }
  for (int i = 0; i < p->graph->output_count; i++) force_operand(p, p->graph->outputs[i].value);
}

/* ---- the sweep ---------------------------------------- */

/* The one root of all users; NULL when there are several, or when a user is a step. */
static const hfb_value *common_root(const hfb_partition *p, const hfb_value *value) {
  const hfb_value *common = NULL;
  for (int u = p->user_begin[value->id]; u < p->user_begin[value->id + 1]; u++) {
    const hfb_node *user = p->users[u];
    if (p->use_counts[user->results[0].id] == 0) continue; /* dead */
    const hfb_value *root = is_step(user) || user->op == HFB_OP_SOFTMAX ? NULL : p->root[user->results[0].id];
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

static void assign_contraction(hfb_partition *p, const hfb_value *value, const hfb_value *common) {
  const bool fits = common && !p->forced[value->id] && !p->no_tile[value->id] && !p->tile[common->id] &&
                    !p->reduce[common->id] && !hfb_is_attention(value->node) && !is_step(common->node) &&
                    common->dtype == value->dtype &&
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

static void assign_root(hfb_partition *p, const hfb_node *node) {
  const hfb_value *value = &node->results[0];
  const hfb_op_class op_class = class_of(node);
  if (p->use_counts[value->id] == 0 || is_outside(value) || node->op == HFB_OP_SOFTMAX) return;
  const hfb_value *common = common_root(p, value);
  if (op_class == HFB_CLASS_CONTRACT) {
    assign_contraction(p, value, common);
  } else if (p->forced[value->id] || p->is_score[value->id] || hfb_is_kernel_step(node)) {
    p->root[value->id] = value;
  } else if (op_class == HFB_CLASS_MOVE) {
    p->root[value->id] = common; /* several users: each looks through it */
  } else if (common && !dear_to_repeat(value, common) &&
             !(op_class == HFB_CLASS_REDUCE && (p->tile[common->id] || !reduce_fits(p, node, common)))) {
    p->root[value->id] = common;
  } else if (!is_free(value, 0)) {
    p->root[value->id] = value;
  }
  if (op_class == HFB_CLASS_REDUCE && p->root[value->id]) p->reduce[p->root[value->id]->id] = node;
}

void hfb_partition_sweep(hfb_partition *p) {
  const size_t values = (size_t)p->graph->value_count;
  memset(p->root, 0, values * sizeof *p->root);
  memset(p->tile, 0, values * sizeof *p->tile);
  memset(p->reduce, 0, values * sizeof *p->reduce);
  p->again = false;
  force_operands(p);
  for (int i = p->graph->node_count - 1; i >= 0; i--) assign_root(p, p->graph->nodes[i]);
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

int hfb_partition_assign_storage(const hfb_partition *p, hfb_storage *storage) {
  const hfb_graph *graph = p->graph;
  int constants = 0, outputs = 0;
  memset(storage, 0, (size_t)graph->value_count * sizeof *storage);
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_value *value = &graph->nodes[i]->results[0];
    if (!hfb_partition_is_stored(p, value)) continue;
    hfb_storage *s = &storage[value->id];
    choose_strides(p, value, s->strides);
    s->bytes = hfb_shape_elements(&value->shape) * (int64_t)hfb_dtype_bytes(value->dtype);
    s->kind = HFB_STORAGE_ARENA;
    if (value->node->op == HFB_OP_CONSTANT && is_outside(value)) s->kind = HFB_STORAGE_CONSTANT, s->index = constants++;
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
    if (s->kind == HFB_STORAGE_ARENA) s->kind = HFB_STORAGE_OUTPUT, s->index = outputs++;
  }
  return outputs;
}
