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

/* ---- stored parameters ---- */

/* What a parameter of another dtype is computed with: `stored` holds the parameter, or a view of it, as it is stored;
 * the map of the rewrite is NULL for such a value, since every reader gets a cast of its own. */
typedef struct store_rewrite {
  hfb_rewrite rewrite;
  hfb_value **stored; /* by value id of the old graph; NULL: none */
} store_rewrite;

static void store_parameter(store_rewrite *s, const hfb_node *node, hfb_dtype dtype) {
  hfb_attr attrs[HFB_ATTR_COUNT];
  for (int i = 0; i < node->attr_count; i++) {
    attrs[i] = node->attrs[i];
    if (attrs[i].key == HFB_ATTR_DTYPE) attrs[i].u.dtype = dtype;
  }
  s->stored[node->results[0].id] = add_mapped(&s->rewrite, node, node->attr_count, attrs);
}

/* Ops that only select elements: what they give is stored as their input is. */
static bool selects_elements(hfb_op op) {
  return op == HFB_OP_RESHAPE || op == HFB_OP_TRANSPOSE || op == HFB_OP_SLICE;
}

/* Lookups read few rows of a large table: these are converted, and not the table. */
static bool looks_up(hfb_op op) { return op == HFB_OP_EMBEDDING || op == HFB_OP_GATHER || op == HFB_OP_TAKE_ALONG; }

/* The value of the new graph that a reader takes: converted anew for each of them, right before it. */
static hfb_value *converted(store_rewrite *s, const hfb_value *value, const char *scope) {
  hfb_value *stored = s->stored[value->id];
  if (!stored) return s->rewrite.map[value->id];
  const hfb_attr attrs[] = {{.key = HFB_ATTR_DTYPE, .u.dtype = value->dtype}, {.key = HFB_ATTR_SCOPE, .u.text = scope}};
  hfb_builder *b = &s->rewrite.b;
  char first = b->scope[0];
  b->scope[0] = '\0';
  hfb_value *cast = hfb_build(b, HFB_OP_CAST, 1, &stored, scope ? 2 : 1, attrs);
  b->scope[0] = first;
  return cast;
}

static void store_node(store_rewrite *s, const hfb_node *node) {
  hfb_rewrite *rewrite = &s->rewrite;
  const hfb_value *first = node->input_count > 0 ? node->inputs[0] : NULL;
  const bool selects = first && s->stored[first->id] && (selects_elements(node->op) || looks_up(node->op));
  for (int i = 0; i < node->input_count; i++) {
    const hfb_value *input = node->inputs[i];
    if (!s->stored[input->id]) continue;
    const bool as_stored = selects && i == 0;
    rewrite->map[input->id] =
        as_stored ? s->stored[input->id] : converted(s, input, hfb_node_text(node, HFB_ATTR_SCOPE, NULL));
  }
  hfb_rewrite_copy(rewrite, node);
  for (int i = 0; i < node->input_count; i++) {
    if (s->stored[node->inputs[i]->id]) rewrite->map[node->inputs[i]->id] = NULL;
  }
  if (!selects) return;
  hfb_value **result = &rewrite->map[node->results[0].id];
  s->stored[node->results[0].id] = *result;
  *result = NULL;
}

/* Outputs and updates are readers too. None of them is a stored parameter itself (check_stored), of which the list of
 * parameters needs what is stored. */
static void convert_results(store_rewrite *s) {
  const hfb_graph *from = s->rewrite.from;
  for (int i = 0; i < from->output_count + from->update_count; i++) {
    const int update = i - from->output_count;
    const hfb_value *value = update < 0 ? from->outputs[i].value : from->updates[update].value;
    if (s->stored[value->id]) s->rewrite.map[value->id] = converted(s, value, NULL);
  }
  for (int i = 0; i < from->parameter_count; i++) {
    const int id = from->parameters[i]->id;
    if (s->stored[id]) s->rewrite.map[id] = s->stored[id];
  }
}

static hfb_status check_stored(const hfb_graph *graph, const hfb_dtype *dtypes) {
  for (int i = 0; i < graph->parameter_count; i++) {
    const hfb_value *value = graph->parameters[i];
    const char *name = hfb_node_text(value->node, HFB_ATTR_NAME, "");
    if (dtypes[i] == value->dtype) continue;
    if (!hfb_dtype_is_float(dtypes[i]) || !hfb_dtype_is_float(value->dtype)) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "parameter '%s' is %s and cannot be stored as %s", name,
                      hfb_dtype_name(value->dtype), hfb_dtype_name(dtypes[i]));
    }
    bool is_result = false;
    for (int k = 0; k < graph->output_count; k++) is_result |= graph->outputs[k].value == value;
    for (int k = 0; k < graph->update_count; k++) {
      is_result |= graph->updates[k].parameter == value || graph->updates[k].value == value;
    }
    if (is_result) {
      return HFB_FAIL(HFB_UNSUPPORTED, "parameter '%s' is an output or updated: it is stored as it is computed", name);
    }
  }
  return HFB_OK;
}

hfb_status hfb_graph_store_parameters(const hfb_graph *graph, const hfb_dtype *dtypes, hfb_graph **out_graph) {
  store_rewrite s = {0};
  HFB_TRY(check_stored(graph, dtypes));
  HFB_TRY(hfb_rewrite_begin(&s.rewrite, graph));
  hfb_status status = hfb_mem_alloc((size_t)graph->value_count, sizeof(*s.stored), &s.stored);
  int parameter = 0; /* parameters are listed in the order of their nodes */
  for (int i = 0; i < graph->node_count && status == HFB_OK; i++) {
    const hfb_node *node = graph->nodes[i];
    const bool is_parameter = node->op == HFB_OP_PARAMETER;
    const hfb_dtype dtype = is_parameter ? dtypes[parameter++] : node->results[0].dtype;
    if (dtype == node->results[0].dtype) store_node(&s, node);
    else store_parameter(&s, node, dtype);
  }
  if (status == HFB_OK) {
    convert_results(&s);
    status = hfb_rewrite_finish(&s.rewrite, out_graph);
  }
  hfb_mem_free(s.stored);
  hfb_rewrite_deinit(&s.rewrite);
  return status;
}

/* ---- cost ---- */

/* Saturating, because a graph read from text may be of any size. */
static int64_t sum(int64_t a, int64_t b) {
  int64_t total;
  return __builtin_add_overflow(a, b, &total) ? INT64_MAX : total;
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
    cost.parameter_bytes = sum(cost.parameter_bytes, hfb_value_bytes(value));
    if (!hfb_node_int(value->node, HFB_ATTR_BUFFER)) {
      cost.parameter_count = sum(cost.parameter_count, hfb_shape_elements(&value->shape));
    }
  }
  for (int i = 0; i < graph->input_count; i++) {
    cost.input_bytes = sum(cost.input_bytes, hfb_value_bytes(graph->inputs[i]));
  }
  for (int i = 0; i < graph->output_count; i++) {
    cost.output_bytes = sum(cost.output_bytes, hfb_value_bytes(graph->outputs[i].value));
  }
  return cost;
}
