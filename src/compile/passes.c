#include "compile/passes.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

#include "device/tensor.h"
#include "ir/transform.h"
#include "kernels/kernel.h"

/* Below this, a loop that reads its rows with a stride costs less than a step of its own. */
enum { LEADING_MIN_ELEMENTS = 4096 };

/* ---- common subexpressions ---------------------------------------- */

typedef struct node_table {
  hfb_node **slots; /* open addressing, power of two */
  uint64_t mask;
} node_table;

static size_t constant_bytes(const hfb_node *node) {
  return (size_t)hfb_value_bytes(&node->results[0]);
}

static void hash_bytes(XXH64_hash_t *hash, const void *data, size_t bytes) {
  *hash = XXH64(data, bytes, *hash);
}

static uint64_t node_hash(const hfb_node *node) {
  XXH64_hash_t hash = (XXH64_hash_t)node->op;
  for (int i = 0; i < node->input_count; i++) hash_bytes(&hash, &node->inputs[i]->id, sizeof(int));
  hash_bytes(&hash, &node->results[0].dtype, sizeof(hfb_dtype));
  hash_bytes(&hash, node->results[0].shape.dim, (size_t)node->results[0].shape.rank * sizeof(int64_t));
  return hash;
}

static bool attr_equal(const hfb_node *node, const hfb_attr *a, const hfb_attr *b) {
  switch (hfb_attr_kind_of(a->key)) {
    case HFB_ATTR_KIND_INT:
      return a->u.i == b->u.i;
    case HFB_ATTR_KIND_FLOAT:
      return memcmp(&a->u.f, &b->u.f, sizeof a->u.f) == 0;
    case HFB_ATTR_KIND_INTS:
      return a->u.ints.count == b->u.ints.count &&
             memcmp(a->u.ints.values, b->u.ints.values, (size_t)a->u.ints.count * sizeof(int64_t)) == 0;
    case HFB_ATTR_KIND_DTYPE:
      return a->u.dtype == b->u.dtype;
    case HFB_ATTR_KIND_TEXT:
      return strcmp(a->u.text, b->u.text) == 0;
    case HFB_ATTR_KIND_DATA:
      return memcmp(a->u.data, b->u.data, constant_bytes(node)) == 0;
  }
  return false;
}

static int64_t region_of(const hfb_node *node) {
  const hfb_attr *attr = hfb_node_attr(node, HFB_ATTR_REGION);
  return attr ? attr->u.i : 0;
}

static bool node_same(const hfb_node *a, const hfb_node *b) {
  if (a->op != b->op || a->input_count != b->input_count) return false;
  for (int i = 0; i < a->input_count; i++) {
    if (a->inputs[i] != b->inputs[i]) return false;
  }
  if (region_of(a) != region_of(b)) return false;
  if (a->results[0].dtype != b->results[0].dtype || !hfb_shape_equal(&a->results[0].shape, &b->results[0].shape))
    return false;
  for (int i = 0; i < a->attr_count; i++) {
    if (a->attrs[i].key == HFB_ATTR_SCOPE || a->attrs[i].key == HFB_ATTR_REGION) continue;
    const hfb_attr *other = hfb_node_attr(b, a->attrs[i].key);
    if (!other || !attr_equal(a, &a->attrs[i], other)) return false;
  }
  return true;
}

/* The node of the table that equals `node`, or `node` itself after adding it. */
static hfb_node *table_intern(node_table *table, hfb_node *node) {
  for (uint64_t i = node_hash(node) & table->mask;; i = (i + 1) & table->mask) {
    if (!table->slots[i]) table->slots[i] = node;
    if (node_same(table->slots[i], node)) return table->slots[i];
  }
}

/* ---- liveness ---------------------------------------- */

static hfb_status live_nodes(const hfb_graph *graph, bool **out_live) {
  bool *live = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)graph->node_count + 1, sizeof(bool), &live));
  for (int i = 0; i < graph->output_count; i++) live[graph->outputs[i].value->node->id] = true;
  for (int i = 0; i < graph->update_count; i++) live[graph->updates[i].value->node->id] = true;
  for (int i = graph->node_count - 1; i >= 0; i--) {
    const hfb_node *node = graph->nodes[i];
    if (node->op == HFB_OP_INPUT || node->op == HFB_OP_PARAMETER) live[i] = true; /* binding orders stay */
    if (!live[i]) continue;
    for (int k = 0; k < node->input_count; k++) live[node->inputs[k]->node->id] = true;
  }
  *out_live = live;
  return HFB_OK;
}

/* ---- simplify ---------------------------------------- */

bool hfb_reduces_leading(const hfb_node *node) {
  int count = 0;
  if (node->op != HFB_OP_REDUCE_SUM && node->op != HFB_OP_REDUCE_MAX) return false;
  const int64_t *axes = hfb_node_ints(node, HFB_ATTR_AXES, &count);
  const hfb_value *input = node->inputs[0];
  if (count == input->shape.rank || input->dtype != HFB_F32) return false;
  for (int i = 0; i < count; i++) {
    if (axes[i] != i) return false;
  }
  return hfb_shape_elements(&input->shape) >= LEADING_MIN_ELEMENTS;
}

/* A reduction over several axes: the axes move behind the others, merge into one, and that one is reduced. */
static hfb_value *reduce_one_axis(hfb_builder *b, const hfb_node *node, hfb_value *input) {
  int axis_count = 0;
  const int64_t *axes = hfb_node_ints(node, HFB_ATTR_AXES, &axis_count);
  const bool keepdim = hfb_node_int(node, HFB_ATTR_KEEPDIM) != 0;
  const int rank = input->shape.rank;
  bool reduced[HFB_MAX_RANK] = {false};
  for (int i = 0; i < axis_count; i++) reduced[axes[i]] = true;

  int perm[HFB_MAX_RANK], kept = 0;
  int64_t dims[HFB_MAX_RANK], inner = 1;
  for (int d = 0; d < rank; d++) {
    if (!reduced[d]) perm[kept] = d, dims[kept++] = input->shape.dim[d];
  }
  for (int d = 0, at = kept; d < rank; d++) {
    if (reduced[d]) perm[at++] = d, inner *= input->shape.dim[d];
  }
  dims[kept] = inner;
  hfb_value *x = hfb_reshape(b, hfb_transpose(b, input, perm), kept + 1, dims);
  x = hfb_reduce(b, node->op, x, 1, &kept, false);
  if (!keepdim || !x) return x;
  return hfb_reshape(b, x, node->results[0].shape.rank, node->results[0].shape.dim);
}

static bool identity_perm(const hfb_node *node) {
  int count = 0;
  const int64_t *perm = hfb_node_ints(node, HFB_ATTR_PERM, &count);
  for (int i = 0; i < count; i++) {
    if (perm[i] != i) return false;
  }
  return true;
}

/* A value of the new graph that equals the node's result, or NULL when the node must be copied. */
static hfb_value *simplified(hfb_rewrite *rewrite, const hfb_node *node) {
  if (node->input_count == 0) return NULL;
  hfb_value *x = rewrite->map[node->inputs[0]->id];
  const hfb_value *result = &node->results[0];
  if (!x) return NULL;
  switch (node->op) {
    case HFB_OP_RESHAPE:
      if (hfb_shape_equal(&x->shape, &result->shape)) return x;
      if (x->node->op == HFB_OP_RESHAPE) {
        return hfb_reshape(&rewrite->b, x->node->inputs[0], result->shape.rank, result->shape.dim);
      }
      return NULL;
    case HFB_OP_TRANSPOSE:
      return identity_perm(node) ? x : NULL;
    case HFB_OP_EXPAND:
    case HFB_OP_SLICE:
      return hfb_shape_equal(&x->shape, &result->shape) ? x : NULL;
    case HFB_OP_CAST:
      return x->dtype == result->dtype ? x : NULL;
    case HFB_OP_MUL_SCALAR:
      return hfb_node_float(node, HFB_ATTR_VALUE) == 1.0 ? x : NULL;
    case HFB_OP_ADD_SCALAR: /* -0 + 0 is +0, so floats keep it */
      return hfb_node_float(node, HFB_ATTR_VALUE) == 0.0 && !hfb_dtype_is_float(x->dtype) ? x : NULL;
    case HFB_OP_CONCAT:
      return node->input_count == 1 ? x : NULL;
    case HFB_OP_REDUCE_SUM:
    case HFB_OP_REDUCE_MAX: {
      int axis_count = 0;
      hfb_node_ints(node, HFB_ATTR_AXES, &axis_count);
      return axis_count > 1 && !hfb_reduces_leading(node) ? reduce_one_axis(&rewrite->b, node, x) : NULL;
    }
    default:
      return NULL;
  }
}

/* After new nodes were appended: equal earlier ones take their place. The duplicates stay behind, dead, and are not
 * copied by the next pass. */
static void intern_new_nodes(hfb_rewrite *rewrite, node_table *table, const hfb_node *node) {
  hfb_value *value = rewrite->map[node->results[0].id];
  if (!value || node->op == HFB_OP_INPUT || node->op == HFB_OP_PARAMETER) return;
  hfb_node *same = table_intern(table, value->node);
  for (int r = 0; r < node->result_count; r++) {
    hfb_value *mapped = rewrite->map[node->results[r].id];
    if (mapped->node == value->node) rewrite->map[node->results[r].id] = &same->results[mapped->result];
  }
}

hfb_status hfb_pass_simplify(const hfb_graph *graph, hfb_graph **out_graph) {
  bool *live = NULL;
  node_table table = {0};
  hfb_rewrite rewrite;
  hfb_status status = live_nodes(graph, &live);
  uint64_t slots = 64;
  while (slots < (uint64_t)graph->node_count * 8) slots *= 2;
  table.mask = slots - 1;
  if (status == HFB_OK) status = hfb_mem_alloc(slots, sizeof(hfb_node *), &table.slots);
  if (status == HFB_OK) {
    status = hfb_rewrite_begin(&rewrite, graph);
    if (status == HFB_OK) {
      for (int i = 0; i < graph->node_count; i++) {
        const hfb_node *node = graph->nodes[i];
        if (!live[i]) continue;
        hfb_value *replacement = simplified(&rewrite, node);
        if (replacement) {
          rewrite.map[node->results[0].id] = replacement;
        } else {
          hfb_rewrite_copy(&rewrite, node);
        }
        intern_new_nodes(&rewrite, &table, node);
      }
      status = hfb_rewrite_finish(&rewrite, out_graph);
      hfb_rewrite_deinit(&rewrite);
    }
  }
  hfb_mem_free(table.slots);
  hfb_mem_free(live);
  return status;
}

/* ---- constant folding ---------------------------------------- */

enum { FOLD_MAX_ELEMENTS = 4096, FOLD_MAX_INPUTS = 4 };

static bool is_small_constant(const hfb_value *value) {
  return value->node->op == HFB_OP_CONSTANT && hfb_shape_elements(&value->shape) <= FOLD_MAX_ELEMENTS * 4;
}

/* A node of the new graph with constants for inputs: runs its reference kernel, makes a constant of the result. */
static hfb_status fold_node(hfb_rewrite *rewrite, const hfb_node *node) {
  hfb_value *result = rewrite->map[node->results[0].id];
  hfb_node *made = result->node;
  hfb_tensor inputs[FOLD_MAX_INPUTS], output;
  void *data = NULL;
  const size_t bytes = (size_t)hfb_value_bytes(result);
  HFB_TRY(hfb_mem_alloc_aligned(bytes ? bytes : 1, 64, &data));
  output = hfb_tensor_borrow(result->dtype, &result->shape, data);
  for (int i = 0; i < made->input_count; i++) {
    const hfb_value *in = made->inputs[i];
    inputs[i] = hfb_tensor_borrow(in->dtype, &in->shape, (void *)hfb_node_attr(in->node, HFB_ATTR_DATA)->u.data);
  }
  const hfb_kernel_call call = {made, made->input_count, 1, inputs, &output, NULL};
  const hfb_kernel *kernel = hfb_kernel_select(&call, HFB_ISA_GENERIC, true);
  hfb_status status = kernel ? kernel->run(&call)
                             : HFB_FAIL(HFB_INTERNAL, "no reference kernel for %s", hfb_op_info_of(made->op)->name);
  if (status == HFB_OK) {
    hfb_attr attrs[3] = {{.key = HFB_ATTR_SHAPE}, {.key = HFB_ATTR_DTYPE}, {.key = HFB_ATTR_DATA}};
    attrs[0].u.ints.count = result->shape.rank;
    attrs[0].u.ints.values = result->shape.dim;
    attrs[1].u.dtype = result->dtype;
    attrs[2].u.data = data;
    hfb_node *constant = NULL;
    status = hfb_graph_add(rewrite->b.graph, HFB_OP_CONSTANT, 0, NULL, 3, attrs, &constant);
    if (status == HFB_OK) rewrite->map[node->results[0].id] = &constant->results[0];
  }
  hfb_mem_free(data);
  return status;
}

static bool can_fold(const hfb_rewrite *rewrite, const hfb_node *node) {
  if (node->input_count == 0 || node->input_count > FOLD_MAX_INPUTS || node->result_count != 1) return false;
  if (hfb_shape_elements(&node->results[0].shape) > FOLD_MAX_ELEMENTS) return false;
  for (int i = 0; i < node->input_count; i++) {
    if (!is_small_constant(rewrite->map[node->inputs[i]->id])) return false;
  }
  return true;
}

hfb_status hfb_pass_fold(const hfb_graph *graph, hfb_graph **out_graph) {
  hfb_rewrite rewrite;
  HFB_TRY(hfb_rewrite_begin(&rewrite, graph));
  hfb_status status = HFB_OK;
  for (int i = 0; i < graph->node_count && status == HFB_OK; i++) {
    const hfb_node *node = graph->nodes[i];
    const bool foldable = rewrite.b.status == HFB_OK && can_fold(&rewrite, node);
    hfb_rewrite_copy(&rewrite, node);
    if (foldable && rewrite.b.status == HFB_OK) status = fold_node(&rewrite, node);
  }
  if (status == HFB_OK) status = hfb_rewrite_finish(&rewrite, out_graph);
  hfb_rewrite_deinit(&rewrite);
  return status;
}

/* ---- decomposition ---------------------------------------- */

/* Ops whose kernels beat the loops of their decomposition: transforms, and sums along columns. */
static bool stays_whole(hfb_op op) {
  return op == HFB_OP_FFT2_REAL || op == HFB_OP_INSTANCE_NORM || op == HFB_OP_INSTANCE_NORM_BACKWARD;
}

hfb_status hfb_pass_decompose(const hfb_graph *graph, hfb_graph **out_graph) {
  hfb_rewrite rewrite;
  HFB_TRY(hfb_rewrite_begin(&rewrite, graph));
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    if (stays_whole(node->op) || hfb_op_info_of(node->op)->level != HFB_LEVEL_FRAMEWORK) {
      hfb_rewrite_copy(&rewrite, node);
    } else {
      hfb_decompose_node(&rewrite, node);
    }
  }
  hfb_status status = hfb_rewrite_finish(&rewrite, out_graph);
  hfb_rewrite_deinit(&rewrite);
  return status;
}
