#include <string.h>

#include "ir/graph.h"
#include "ir/shape.h"

static hfb_status at_node(const hfb_node *node, hfb_status status) {
  bool known = (unsigned)node->op < HFB_OP_COUNT;
  hfb_error_prefix("node %d (%s)", node->id, known ? hfb_op_info_of(node->op)->name : "unknown op");
  return status;
}

/* A damaged graph is a bug of whatever made it. */
#define NODE_FAIL(node, ...) at_node((node), HFB_FAIL(HFB_INTERNAL, __VA_ARGS__))

/* A value that is a result of an earlier node of this graph. */
static bool value_is_sound(const hfb_graph *graph, const hfb_value *value, int before_node) {
  if (!value || !value->node) return false;
  const hfb_node *node = value->node;
  return node->id >= 0 && node->id < before_node && graph->nodes[node->id] == node && value->result >= 0 &&
         value->result < node->result_count && &node->results[value->result] == value;
}

static hfb_status verify_attrs(const hfb_node *node) {
  for (int i = 1; i < node->attr_count; i++) {
    if (node->attrs[i - 1].key >= node->attrs[i].key) {
      return NODE_FAIL(node, "attribute %s does not stand in key order", hfb_attr_name(node->attrs[i].key));
    }
  }
  return HFB_OK;
}

/* The results are what the shape rule gives, and carry dense ids. */
static hfb_status verify_results(const hfb_node *node, int *value_count) {
  hfb_value inferred[HFB_MAX_RESULTS] = {0};
  hfb_node probe = *node;
  probe.results = inferred;
  hfb_status status = hfb_node_infer(&probe);
  if (status != HFB_OK) {
    hfb_error_prefix("node %d", node->id);
    return status;
  }
  for (int i = 0; i < node->result_count; i++) {
    const hfb_value *result = &node->results[i];
    if (result->node != node || result->result != i) return NODE_FAIL(node, "result %d points elsewhere", i);
    if (result->id != *value_count) return NODE_FAIL(node, "value id %d; %d is next", result->id, *value_count);
    if (result->dtype != inferred[i].dtype || !hfb_shape_equal(&result->shape, &inferred[i].shape)) {
      char have[HFB_SHAPE_TEXT_BYTES], want[HFB_SHAPE_TEXT_BYTES];
      return NODE_FAIL(node, "result %d is %s%s where the rule gives %s%s", i, hfb_dtype_name(result->dtype),
                       hfb_shape_print(&result->shape, have, sizeof(have)), hfb_dtype_name(inferred[i].dtype),
                       hfb_shape_print(&inferred[i].shape, want, sizeof(want)));
    }
    (*value_count)++;
  }
  return HFB_OK;
}

static hfb_status verify_node(const hfb_graph *graph, int index, int *value_count) {
  const hfb_node *node = graph->nodes[index];
  if (!node) return HFB_FAIL(HFB_INTERNAL, "graph \"%s\": node %d is missing", graph->name, index);
  if (node->id != index) return NODE_FAIL(node, "it stands at position %d", index);
  for (int i = 0; i < node->input_count; i++) {
    if (!value_is_sound(graph, node->inputs[i], index)) {
      return NODE_FAIL(node, "input %d is no result of an earlier node", i);
    }
  }
  HFB_TRY(verify_attrs(node));
  return verify_results(node, value_count);
}

/* The list of inputs or parameters is exactly the nodes of that op, in order, under unique names. */
static hfb_status verify_sources(const hfb_graph *graph, hfb_op op, int count, hfb_value *const *values,
                                 const hfb_names *names) {
  const char *kind = hfb_op_info_of(op)->name;
  int next = 0;
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    if (node->op != op) continue;
    if (next >= count || values[next] != &node->results[0]) {
      return NODE_FAIL(node, "it is not number %d of the %ss", next, kind);
    }
    const char *name = hfb_node_text(node, HFB_ATTR_NAME, "");
    if (hfb_names_find(names, name) != next) return NODE_FAIL(node, "the name \"%s\" leads to another %s", name, kind);
    next++;
  }
  if (next != count || names->count != count) {
    return HFB_FAIL(HFB_INTERNAL, "graph \"%s\": %d %ss listed under %d names for %d nodes", graph->name, count, kind,
                    names->count, next);
  }
  return HFB_OK;
}

static hfb_status verify_outputs(const hfb_graph *graph) {
  for (int i = 0; i < graph->output_count; i++) {
    const hfb_output *output = &graph->outputs[i];
    if (!output->name || !output->name[0] || hfb_names_find(&graph->output_names, output->name) != i) {
      return HFB_FAIL(HFB_INTERNAL, "graph \"%s\": the name of output %d is missing or used twice", graph->name, i);
    }
    if (!value_is_sound(graph, output->value, graph->node_count)) {
      return HFB_FAIL(HFB_INTERNAL, "graph \"%s\": output \"%s\" is no value of this graph", graph->name, output->name);
    }
  }
  if (graph->output_names.count != graph->output_count) {
    return HFB_FAIL(HFB_INTERNAL, "graph \"%s\": %d outputs under %d names", graph->name, graph->output_count,
                    graph->output_names.count);
  }
  return HFB_OK;
}

static hfb_status verify_updates(const hfb_graph *graph) {
  for (int i = 0; i < graph->update_count; i++) {
    const hfb_value *parameter = graph->updates[i].parameter, *value = graph->updates[i].value;
    bool sound = value_is_sound(graph, parameter, graph->node_count) && parameter->node->op == HFB_OP_PARAMETER &&
                 value_is_sound(graph, value, graph->node_count) && value->dtype == parameter->dtype &&
                 hfb_shape_equal(&value->shape, &parameter->shape);
    for (int k = 0; k < i; k++) sound = sound && graph->updates[k].parameter != parameter;
    if (!sound) return HFB_FAIL(HFB_INTERNAL, "graph \"%s\": update %d is not sound", graph->name, i);
  }
  return HFB_OK;
}

hfb_status hfb_graph_verify(const hfb_graph *graph) {
  int value_count = 0;
  for (int i = 0; i < graph->node_count; i++) HFB_TRY(verify_node(graph, i, &value_count));
  if (value_count != graph->value_count) {
    return HFB_FAIL(HFB_INTERNAL, "graph \"%s\": %d values counted, %d recorded", graph->name, value_count,
                    graph->value_count);
  }
  HFB_TRY(verify_sources(graph, HFB_OP_INPUT, graph->input_count, graph->inputs, &graph->input_names));
  HFB_TRY(verify_sources(graph, HFB_OP_PARAMETER, graph->parameter_count, graph->parameters, &graph->parameter_names));
  HFB_TRY(verify_outputs(graph));
  return verify_updates(graph);
}
