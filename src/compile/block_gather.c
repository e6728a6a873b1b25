#include "compile/block_gather.h"

#include <string.h>

#include "compile/partition.h"

enum { LONGEST_CHAIN = 16 };

static bool is_view(const hfb_node *node) {
  return node->op == HFB_OP_RESHAPE || node->op == HFB_OP_TRANSPOSE || node->op == HFB_OP_SLICE ||
         node->op == HFB_OP_EXPAND;
}

/* The gather of matrix rows behind views, and how the operand would lie in its result. */
static const hfb_node *gather_behind(const hfb_value *operand, hfb_view *out_view) {
  const hfb_node *chain[LONGEST_CHAIN];
  int length = 0;
  for (; is_view(operand->node); operand = operand->node->inputs[0]) {
    if (length == LONGEST_CHAIN) return NULL;
    chain[length++] = operand->node;
  }
  const hfb_node *gather = operand->node;
  if (gather->op != HFB_OP_GATHER || hfb_node_int(gather, HFB_ATTR_AXIS) != 0) return NULL;
  if (gather->inputs[0]->shape.rank != 2 || gather->inputs[0]->dtype != HFB_F32) return NULL;
  hfb_view view = {.base = operand}, next;
  hfb_shape_strides(&operand->shape, view.strides);
  while (length > 0) {
    if (!hfb_view_through(chain[--length], &view, &next)) return NULL;
    view = next;
  }
  *out_view = view;
  return gather;
}

bool hfb_block_gather_of(const hfb_value *operand, bool swapped, hfb_block_gather *out_gather) {
  const int rank = operand->shape.rank;
  hfb_view view;
  if (rank != 3 && rank != 4) return false;
  const hfb_node *gather = gather_behind(operand, &view);
  if (!gather || view.offset != 0) return false;
  const int key_dim = rank - (swapped ? 1 : 2), width_dim = rank - (swapped ? 2 : 1);
  const int64_t row = gather->inputs[0]->shape.dim[1], keys = operand->shape.dim[key_dim];
  const int64_t key_stride = view.strides[key_dim], width = operand->shape.dim[width_dim];
  if (view.strides[width_dim] != 1 || key_stride <= 0 || row % key_stride != 0) return false;
  hfb_block_gather found = {.gather = gather, .rows = row / key_stride, .key_stride = key_stride};
  if (keys % found.rows != 0) return false;
  int64_t within = width; /* elements from the first to the last that a head reads of a key */
  for (int d = 0; d < rank - 2; d++) {
    const int64_t stride = operand->shape.dim[d] == 1 ? 0 : view.strides[d];
    const int which = rank == 4 ? d : 1;
    if (stride % row == 0) {
      found.number_strides[which] = stride / row;
    } else if (which == 1) {
      found.head_stride = stride;
      within += stride * (operand->shape.dim[d] - 1);
    } else {
      return false;
    }
  }
  if (within > key_stride) return false;
  *out_gather = found;
  return true;
}

bool hfb_block_gather_agree(const hfb_block_gather *keys, const hfb_block_gather *values) {
  return keys->gather->inputs[1] == values->gather->inputs[1] && keys->rows == values->rows &&
         memcmp(keys->number_strides, values->number_strides, sizeof keys->number_strides) == 0 &&
         keys->gather->inputs[0]->shape.dim[0] == values->gather->inputs[0]->shape.dim[0];
}

/* ---- who reads them ---------------------------------------- */

typedef struct finder {
  const hfb_graph *graph;
  const hfb_users *users;
  bool *by_blocks;        /* by value id */
  bool *is_score_product; /* by node id */
} finder;

/* Keys and values that an attention step reads; those of the scores' product come first. */
typedef struct operands {
  const hfb_value *keys[2], *values; /* keys[1] NULL: the step has none of its own */
  bool swapped;                      /* keys[0] is [..,d,keys] */
} operands;

static bool is_attention_step(const hfb_node *node) {
  return (node->op == HFB_OP_ATTENTION || node->op == HFB_OP_ATTENTION_BACKWARD) && hfb_is_attention(node);
}

static const hfb_node *product_of(const hfb_node *step) {
  return hfb_score_source(step->inputs[step->op == HFB_OP_ATTENTION ? 0 : 1]);
}

static operands operands_of(const hfb_node *step) {
  const bool forward = step->op == HFB_OP_ATTENTION;
  const hfb_node *product = product_of(step);
  return (operands){.keys = {product->inputs[1], forward ? NULL : step->inputs[4]},
                    .values = forward ? step->inputs[1] : hfb_score_source(step->inputs[0])->inputs[4],
                    .swapped = !hfb_node_int(product, HFB_ATTR_TRANSPOSE_B)};
}

static bool reads_rows(const finder *f, const hfb_node *user, const hfb_value *value) {
  switch (user->op) {
    case HFB_OP_MATMUL:
      return f->is_score_product[user->id] && user->inputs[0] != value;
    case HFB_OP_ATTENTION:
      return hfb_is_attention(user) && user->inputs[1] == value;
    case HFB_OP_ATTENTION_SCORES_BACKWARD:
    case HFB_OP_ATTENTION_BACKWARD:
      return hfb_is_attention(user) && user->inputs[4] == value && user->inputs[3] != value && user->inputs[5] != value;
    default:
      return false;
  }
}

/* Attention steps alone read the value, as keys or values. */
static bool has_only_rows_read(const finder *f, const hfb_value *value) {
  if (hfb_users_escapes(f->users, value)) return false;
  for (int u = 0; u < hfb_users_count(f->users, value); u++) {
    const hfb_node *user = hfb_users_at(f->users, value, u);
    if (!(is_view(user) ? has_only_rows_read(f, &user->results[0]) : reads_rows(f, user, value))) return false;
  }
  return true;
}

/* The value of by_blocks for what is behind an operand; NULL when that is no gather. */
static bool *mark_of(const finder *f, const hfb_value *operand) {
  hfb_view view;
  const hfb_node *gather = operand ? gather_behind(operand, &view) : NULL;
  return gather ? &f->by_blocks[gather->results[0].id] : NULL;
}

static bool reads_blocks(const operands *o) {
  hfb_block_gather keys, values, again;
  if (!hfb_block_gather_of(o->keys[0], o->swapped, &keys)) return false;
  if (!hfb_block_gather_of(o->values, false, &values) || !hfb_block_gather_agree(&keys, &values)) return false;
  return !o->keys[1] || (hfb_block_gather_of(o->keys[1], false, &again) && again.gather == keys.gather);
}

/* Every step reads all of its operands by blocks, or none; so one that cannot decides for those that share operands. */
static bool settle_step(const finder *f, const hfb_node *step) {
  const operands o = operands_of(step);
  const hfb_value *const all[] = {o.keys[0], o.keys[1], o.values};
  bool is_any = false, is_all = reads_blocks(&o);
  for (int i = 0; i < 3; i++) {
    const bool *mark = mark_of(f, all[i]);
    is_any |= mark && *mark;
    is_all &= !all[i] || (mark && *mark);
  }
  if (!is_any || is_all) return false;
  for (int i = 0; i < 3; i++) {
    bool *mark = mark_of(f, all[i]);
    if (mark) *mark = false;
  }
  return true;
}

hfb_status hfb_block_gathers_find(const hfb_graph *graph, const hfb_users *users, bool *by_blocks) {
  finder f = {.graph = graph, .users = users, .by_blocks = by_blocks};
  HFB_TRY(hfb_mem_alloc((size_t)graph->node_count + 1, sizeof(bool), &f.is_score_product));
  for (int i = 0; i < graph->node_count; i++) {
    if (is_attention_step(graph->nodes[i])) f.is_score_product[product_of(graph->nodes[i])->id] = true;
  }
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_value *value = &graph->nodes[i]->results[0];
    if (graph->nodes[i]->op == HFB_OP_GATHER) by_blocks[value->id] = has_only_rows_read(&f, value);
  }
  for (bool again = true; again;) { /* ends: every time a mark is taken away */
    again = false;
    for (int i = 0; i < graph->node_count; i++) {
      if (is_attention_step(graph->nodes[i])) again |= settle_step(&f, graph->nodes[i]);
    }
  }
  hfb_mem_free(f.is_score_product);
  return HFB_OK;
}
