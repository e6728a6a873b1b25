#include "ir/graph.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "ir/shape.h"

hfb_status hfb_graph_create(const char *name, hfb_graph **out_graph) {
  hfb_graph *graph;
  HFB_TRY(hfb_mem_alloc(1, sizeof(*graph), &graph));
  hfb_arena_init(&graph->arena);
  graph->name = hfb_arena_strdup(&graph->arena, name);
  if (!graph->name) {
    hfb_graph_destroy(graph);
    return HFB_OUT_OF_MEMORY;
  }
  *out_graph = graph;
  return HFB_OK;
}

void hfb_graph_destroy(hfb_graph *graph) {
  if (!graph) return;
  hfb_arena_deinit(&graph->arena);
  hfb_mem_free(graph);
}

/* Room for one more element in an array of the arena. The outgrown copies stay behind: at most as much again. */
static hfb_status reserve_one(hfb_arena *arena, void *array_address, int count, int *capacity, size_t element_bytes) {
  if (count < *capacity) return HFB_OK;
  int grown_capacity = *capacity ? 2 * *capacity : 16;
  void *grown = hfb_arena_alloc(arena, (size_t)grown_capacity, element_bytes);
  if (!grown) return HFB_OUT_OF_MEMORY;
  void *old;
  memcpy(&old, array_address, sizeof(old));
  if (count > 0) memcpy(grown, old, (size_t)count * element_bytes);
  memcpy(array_address, &grown, sizeof(grown));
  *capacity = grown_capacity;
  return HFB_OK;
}

static int compare_attr_keys(const void *a, const void *b) {
  return (int)((const hfb_attr *)a)->key - (int)((const hfb_attr *)b)->key;
}

/* Copies what one attribute points to into the arena. `result` gives the size of DATA. */
static hfb_status copy_attr_payload(hfb_arena *arena, const hfb_value *result, hfb_attr *attr) {
  switch (hfb_attr_kind_of(attr->key)) {
    case HFB_ATTR_KIND_INTS: {
      size_t bytes = (size_t)attr->u.ints.count * sizeof(int64_t);
      int64_t *values = hfb_arena_alloc(arena, bytes, 1);
      if (!values) return HFB_OUT_OF_MEMORY;
      if (bytes) memcpy(values, attr->u.ints.values, bytes);
      attr->u.ints.values = values;
      return HFB_OK;
    }
    case HFB_ATTR_KIND_TEXT:
      attr->u.text = hfb_arena_strdup(arena, attr->u.text);
      return attr->u.text ? HFB_OK : HFB_OUT_OF_MEMORY;
    case HFB_ATTR_KIND_DATA: {
      size_t bytes = (size_t)hfb_value_bytes(result);
      void *data = hfb_arena_alloc(arena, bytes, 1);
      if (!data) return HFB_OUT_OF_MEMORY;
      if (bytes) memcpy(data, attr->u.data, bytes);
      attr->u.data = data;
      return HFB_OK;
    }
    case HFB_ATTR_KIND_INT:
    case HFB_ATTR_KIND_FLOAT:
    case HFB_ATTR_KIND_DTYPE: return HFB_OK;
  }
  return HFB_OK;
}

/* A deep copy of a checked node. */
static hfb_status copy_node(hfb_arena *arena, const hfb_node *from, hfb_node **out_node) {
  hfb_node *node = hfb_arena_alloc(arena, 1, sizeof(*node));
  if (!node) return HFB_OUT_OF_MEMORY;
  *node = *from;
  node->inputs = hfb_arena_alloc(arena, (size_t)node->input_count, sizeof(hfb_value *));
  node->results = hfb_arena_alloc(arena, (size_t)node->result_count, sizeof(hfb_value));
  node->attrs = hfb_arena_alloc(arena, (size_t)node->attr_count, sizeof(hfb_attr));
  if (!node->inputs || !node->results || !node->attrs) return HFB_OUT_OF_MEMORY;
  for (int i = 0; i < node->input_count; i++) node->inputs[i] = from->inputs[i];
  for (int i = 0; i < node->result_count; i++) {
    node->results[i] = from->results[i];
    node->results[i].node = node;
  }
  for (int i = 0; i < node->attr_count; i++) {
    node->attrs[i] = from->attrs[i];
    HFB_TRY(copy_attr_payload(arena, &node->results[0], &node->attrs[i]));
  }
  qsort(node->attrs, (size_t)node->attr_count, sizeof(hfb_attr), compare_attr_keys);
  *out_node = node;
  return HFB_OK;
}

static bool owns_value(const hfb_graph *graph, const hfb_value *value) {
  const hfb_node *node = value->node;
  return node->id >= 0 && node->id < graph->node_count && graph->nodes[node->id] == node;
}

/* A list of named sources that a node joins, or NULL. */
typedef struct named_list {
  hfb_value ***values;
  int *count, *capacity;
  hfb_names *names;
} named_list;

static bool named_list_of(hfb_graph *graph, hfb_op op, named_list *out_list) {
  if (op == HFB_OP_INPUT) {
    *out_list = (named_list){&graph->inputs, &graph->input_count, &graph->input_capacity, &graph->input_names};
    return true;
  }
  if (op == HFB_OP_PARAMETER) {
    *out_list =
        (named_list){&graph->parameters, &graph->parameter_count, &graph->parameter_capacity, &graph->parameter_names};
    return true;
  }
  return false;
}

static hfb_status reserve_named(hfb_graph *graph, const hfb_node *node, const named_list *list) {
  const char *name = hfb_node_text(node, HFB_ATTR_NAME, "");
  if (hfb_names_find(list->names, name) >= 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "graph \"%s\": %s \"%s\" exists already", graph->name,
                    hfb_op_info_of(node->op)->name, name);
  }
  HFB_TRY(hfb_names_reserve(list->names, &graph->arena));
  return reserve_one(&graph->arena, list->values, *list->count, list->capacity, sizeof(hfb_value *));
}

hfb_status hfb_graph_add(hfb_graph *graph, hfb_op op, int input_count, hfb_value *const *inputs, int attr_count,
                         const hfb_attr *attrs, hfb_node **out_node) {
  /* Everything that can be wrong is found on this stand-in, before the graph is touched. */
  hfb_value results[HFB_MAX_RESULTS] = {0};
  hfb_node probe = {.op = op,
                    .id = graph->node_count,
                    .input_count = input_count,
                    .result_count = (unsigned)op < HFB_OP_COUNT ? hfb_op_info_of(op)->result_count : 0,
                    .attr_count = attr_count,
                    .inputs = (hfb_value **)inputs,
                    .results = results,
                    .attrs = (hfb_attr *)attrs};
  HFB_TRY(hfb_node_infer(&probe));
  for (int i = 0; i < input_count; i++) {
    if (!owns_value(graph, inputs[i])) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "graph \"%s\": input %d of %s is a value of another graph", graph->name, i,
                      hfb_op_info_of(op)->name);
    }
  }
  for (int i = 0; i < probe.result_count; i++) {
    results[i].result = i;
    results[i].id = graph->value_count + i;
  }
  named_list list;
  bool named = named_list_of(graph, op, &list);
  if (named) HFB_TRY(reserve_named(graph, &probe, &list));
  HFB_TRY(reserve_one(&graph->arena, &graph->nodes, graph->node_count, &graph->node_capacity, sizeof(hfb_node *)));
  hfb_node *node;
  HFB_TRY(copy_node(&graph->arena, &probe, &node));

  graph->nodes[graph->node_count++] = node;
  graph->value_count += node->result_count;
  if (named) {
    hfb_names_add(list.names, hfb_node_text(node, HFB_ATTR_NAME, ""), *list.count);
    (*list.values)[(*list.count)++] = &node->results[0];
  }
  if (out_node) *out_node = node;
  return HFB_OK;
}

hfb_status hfb_graph_add_output(hfb_graph *graph, const char *name, hfb_value *value) {
  if (!name[0]) return HFB_FAIL(HFB_INVALID_ARGUMENT, "graph \"%s\": an output without a name", graph->name);
  if (!owns_value(graph, value)) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "graph \"%s\": output \"%s\" is a value of another graph", graph->name, name);
  }
  if (hfb_names_find(&graph->output_names, name) >= 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "graph \"%s\": output \"%s\" exists already", graph->name, name);
  }
  HFB_TRY(hfb_names_reserve(&graph->output_names, &graph->arena));
  HFB_TRY(
      reserve_one(&graph->arena, &graph->outputs, graph->output_count, &graph->output_capacity, sizeof(hfb_output)));
  const char *copy = hfb_arena_strdup(&graph->arena, name);
  if (!copy) return HFB_OUT_OF_MEMORY;
  hfb_names_add(&graph->output_names, copy, graph->output_count);
  graph->outputs[graph->output_count++] = (hfb_output){copy, value};
  return HFB_OK;
}

hfb_status hfb_graph_add_update(hfb_graph *graph, hfb_value *parameter, hfb_value *value) {
  if (!owns_value(graph, parameter) || !owns_value(graph, value) || parameter->node->op != HFB_OP_PARAMETER) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "graph \"%s\": an update of something that is no parameter of it",
                    graph->name);
  }
  const char *name = hfb_node_text(parameter->node, HFB_ATTR_NAME, "");
  if (value->dtype != parameter->dtype || !hfb_shape_equal(&value->shape, &parameter->shape)) {
    char have[HFB_SHAPE_TEXT_BYTES], want[HFB_SHAPE_TEXT_BYTES];
    return HFB_FAIL(HFB_MISMATCH, "graph \"%s\": parameter \"%s\" is %s%s, its update %s%s", graph->name, name,
                    hfb_dtype_name(parameter->dtype), hfb_shape_print(&parameter->shape, want, sizeof(want)),
                    hfb_dtype_name(value->dtype), hfb_shape_print(&value->shape, have, sizeof(have)));
  }
  for (int i = 0; i < graph->update_count; i++) {
    if (graph->updates[i].parameter == parameter) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "graph \"%s\": parameter \"%s\" is updated twice", graph->name, name);
    }
  }
  HFB_TRY(
      reserve_one(&graph->arena, &graph->updates, graph->update_count, &graph->update_capacity, sizeof(hfb_update)));
  graph->updates[graph->update_count++] = (hfb_update){parameter, value};
  return HFB_OK;
}

int hfb_graph_find_input(const hfb_graph *graph, const char *name) {
  return hfb_names_find(&graph->input_names, name);
}

int hfb_graph_find_parameter(const hfb_graph *graph, const char *name) {
  return hfb_names_find(&graph->parameter_names, name);
}

int hfb_graph_find_output(const hfb_graph *graph, const char *name) {
  return hfb_names_find(&graph->output_names, name);
}

const hfb_attr *hfb_node_attr(const hfb_node *node, hfb_attr_key key) {
  for (int i = 0; i < node->attr_count; i++) {
    if (node->attrs[i].key == key) return &node->attrs[i];
  }
  return NULL;
}

int64_t hfb_value_bytes(const hfb_value *value) {
  return hfb_shape_elements(&value->shape) * (int64_t)hfb_dtype_bytes(value->dtype);
}

int64_t hfb_node_int(const hfb_node *node, hfb_attr_key key) {
  const hfb_attr *attr = hfb_node_attr(node, key);
  assert(attr && hfb_attr_kind_of(key) == HFB_ATTR_KIND_INT);
  return attr->u.i;
}

double hfb_node_float(const hfb_node *node, hfb_attr_key key) {
  const hfb_attr *attr = hfb_node_attr(node, key);
  assert(attr && hfb_attr_kind_of(key) == HFB_ATTR_KIND_FLOAT);
  return attr->u.f;
}

const int64_t *hfb_node_ints(const hfb_node *node, hfb_attr_key key, int *out_count) {
  const hfb_attr *attr = hfb_node_attr(node, key);
  assert(attr && hfb_attr_kind_of(key) == HFB_ATTR_KIND_INTS);
  if (out_count) *out_count = attr->u.ints.count;
  return attr->u.ints.values;
}

const char *hfb_node_text(const hfb_node *node, hfb_attr_key key, const char *fallback) {
  const hfb_attr *attr = hfb_node_attr(node, key);
  assert(hfb_attr_kind_of(key) == HFB_ATTR_KIND_TEXT);
  return attr ? attr->u.text : fallback;
}

hfb_status hfb_graph_use_counts(const hfb_graph *graph, int **out_counts) {
  int *counts;
  HFB_TRY(hfb_mem_alloc((size_t)graph->value_count, sizeof(int), &counts));
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    for (int j = 0; j < node->input_count; j++) counts[node->inputs[j]->id]++;
  }
  for (int i = 0; i < graph->output_count; i++) counts[graph->outputs[i].value->id]++;
  for (int i = 0; i < graph->update_count; i++) counts[graph->updates[i].value->id]++;
  *out_counts = counts;
  return HFB_OK;
}
