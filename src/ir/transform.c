#include "ir/transform.h"

#include <string.h>

#include "ir/element.h"

hfb_status hfb_rewrite_begin(hfb_rewrite *rewrite, const hfb_graph *from) {
  *rewrite = (hfb_rewrite){.from = from};
  HFB_TRY(hfb_builder_init(&rewrite->b, from->name));
  hfb_status status = hfb_mem_alloc((size_t)from->value_count, sizeof(*rewrite->map), &rewrite->map);
  if (status != HFB_OK) hfb_rewrite_deinit(rewrite);
  return status;
}

void hfb_rewrite_deinit(hfb_rewrite *rewrite) {
  hfb_builder_deinit(&rewrite->b);
  hfb_mem_free(rewrite->map);
  rewrite->map = NULL;
}

/* Adds the node with its inputs mapped and these attributes, which hold its scope if it has one. */
static hfb_value *add_mapped(hfb_rewrite *rewrite, const hfb_node *node, int attr_count, const hfb_attr *attrs) {
  hfb_builder *b = &rewrite->b;
  if (b->status != HFB_OK) return NULL;
  hfb_value **inputs;
  if (hfb_mem_alloc((size_t)node->input_count, sizeof(*inputs), &inputs) != HFB_OK) {
    hfb_builder_fail(b, HFB_OUT_OF_MEMORY, "%s", hfb_error_message());
    return NULL;
  }
  for (int i = 0; i < node->input_count; i++) inputs[i] = rewrite->map[node->inputs[i]->id];
  char first = b->scope[0];
  b->scope[0] = '\0'; /* the pass's own scope is not the node's */
  hfb_value *value = hfb_build(b, node->op, node->input_count, inputs, attr_count, attrs);
  b->scope[0] = first;
  hfb_mem_free(inputs);
  return value;
}

static void map_results(hfb_rewrite *rewrite, const hfb_node *node, const hfb_value *copy) {
  for (int i = 0; copy && i < node->result_count; i++) rewrite->map[node->results[i].id] = &copy->node->results[i];
}

void hfb_rewrite_copy(hfb_rewrite *rewrite, const hfb_node *node) {
  map_results(rewrite, node, add_mapped(rewrite, node, node->attr_count, node->attrs));
}

/* Binding arrays go by position, so the new graph must list the same sources in the same order. */
static void check_order(hfb_rewrite *rewrite, const char *kind, int old_count, hfb_value *const *old_values,
                        int new_count, hfb_value *const *new_values) {
  bool same = old_count == new_count;
  for (int i = 0; same && i < old_count; i++) same = rewrite->map[old_values[i]->id] == new_values[i];
  if (!same) hfb_builder_fail(&rewrite->b, HFB_INTERNAL, "a rewrite changed the list of %ss", kind);
}

hfb_status hfb_rewrite_finish(hfb_rewrite *rewrite, hfb_graph **out_graph) {
  const hfb_graph *from = rewrite->from, *to = rewrite->b.graph;
  for (int i = 0; i < from->output_count; i++) {
    hfb_output_add(&rewrite->b, from->outputs[i].name, rewrite->map[from->outputs[i].value->id]);
  }
  for (int i = 0; i < from->update_count; i++) {
    hfb_update_add(&rewrite->b, rewrite->map[from->updates[i].parameter->id],
                   rewrite->map[from->updates[i].value->id]);
  }
  if (rewrite->b.status == HFB_OK) {
    check_order(rewrite, "input", from->input_count, from->inputs, to->input_count, to->inputs);
    check_order(rewrite, "parameter", from->parameter_count, from->parameters, to->parameter_count, to->parameters);
  }
  return hfb_builder_finish(&rewrite->b, out_graph);
}

/* ---- precision ---- */

/* The elements of an f32 constant in another floating-point dtype. Owned: hfb_mem_free. */
static hfb_status convert_data(const hfb_value *constant, const void *data, hfb_dtype dtype, void **out_data) {
  int64_t count = hfb_shape_elements(&constant->shape);
  HFB_TRY(hfb_mem_alloc((size_t)count, hfb_dtype_bytes(dtype), out_data));
  for (int64_t i = 0; i < count; i++) {
    hfb_element_set_float(dtype, *out_data, i, hfb_element_float(constant->dtype, data, i));
  }
  return HFB_OK;
}

static void convert_node(hfb_rewrite *rewrite, const hfb_node *node, hfb_dtype dtype) {
  hfb_attr attrs[HFB_ATTR_COUNT];
  void *data = NULL;
  bool is_f32 = node->results[0].dtype == HFB_F32; /* of several results, all are */
  for (int i = 0; i < node->attr_count; i++) {
    attrs[i] = node->attrs[i];
    if (attrs[i].key == HFB_ATTR_DTYPE && is_f32) attrs[i].u.dtype = dtype;
    if (attrs[i].key == HFB_ATTR_DATA && is_f32) {
      hfb_status status = convert_data(&node->results[0], attrs[i].u.data, dtype, &data);
      if (status != HFB_OK) hfb_builder_fail(&rewrite->b, status, "%s", hfb_error_message());
      attrs[i].u.data = data;
    }
  }
  map_results(rewrite, node, add_mapped(rewrite, node, node->attr_count, attrs));
  hfb_mem_free(data);
}

hfb_status hfb_graph_convert(const hfb_graph *graph, hfb_dtype dtype, hfb_graph **out_graph) {
  if (!hfb_dtype_is_float(dtype)) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "graph \"%s\" cannot be converted to %s; choose a floating-point dtype",
                    graph->name, hfb_dtype_name(dtype));
  }
  hfb_rewrite rewrite;
  HFB_TRY(hfb_rewrite_begin(&rewrite, graph));
  for (int i = 0; i < graph->node_count; i++) convert_node(&rewrite, graph->nodes[i], dtype);
  hfb_status status = hfb_rewrite_finish(&rewrite, out_graph);
  hfb_rewrite_deinit(&rewrite);
  return status;
}

/* ---- cost ---- */

/* Saturating, because a graph read from text may be of any size. */
static int64_t sum(int64_t a, int64_t b) {
  int64_t total;
  return __builtin_add_overflow(a, b, &total) ? INT64_MAX : total;
}

static int64_t value_bytes(const hfb_value *value) {
  return hfb_shape_elements(&value->shape) * (int64_t)hfb_dtype_bytes(value->dtype);
}

int64_t hfb_node_multiply_adds(const hfb_node *node) {
  if (hfb_op_info_of(node->op)->op_class != HFB_CLASS_CONTRACT) return 0;
  const hfb_shape *x = &node->inputs[0]->shape;
  bool transposed = node->op == HFB_OP_MATMUL && hfb_node_int(node, HFB_ATTR_TRANSPOSE_A);
  /* At most 2^60: the square of this number is no more than the product of the elements of both operands and the
   * result, each of which hfb_shape_check bounds by 2^40. */
  return hfb_shape_elements(&node->results[0].shape) * x->dim[x->rank - (transposed ? 2 : 1)];
}

hfb_cost hfb_graph_cost(const hfb_graph *graph) {
  hfb_cost cost = {0};
  for (int i = 0; i < graph->node_count; i++) {
    cost.multiply_adds = sum(cost.multiply_adds, hfb_node_multiply_adds(graph->nodes[i]));
  }
  for (int i = 0; i < graph->parameter_count; i++) {
    const hfb_value *value = graph->parameters[i];
    cost.parameter_bytes = sum(cost.parameter_bytes, value_bytes(value));
    if (!hfb_node_int(value->node, HFB_ATTR_BUFFER)) {
      cost.parameter_count = sum(cost.parameter_count, hfb_shape_elements(&value->shape));
    }
  }
  for (int i = 0; i < graph->input_count; i++) {
    cost.input_bytes = sum(cost.input_bytes, value_bytes(graph->inputs[i]));
  }
  for (int i = 0; i < graph->output_count; i++) {
    cost.output_bytes = sum(cost.output_bytes, value_bytes(graph->outputs[i].value));
  }
  return cost;
}
