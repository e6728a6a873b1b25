/* The verifier finds every kind of damage. Each case breaks one thing in a good graph. */
#include "test_ir_support.h"

static const char text[] =
    "graph \"g\" {\n"
    "  %0 = input(name=\"a\") : f32[2,3]\n"
    "  %1 = input(name=\"b\") : f32[2,3]\n"
    "  %2 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[3]\n"
    "  %3 = add(%0, %2) : f32[2,3]\n"
    "  %4 = softmax(%3; axis=1, scope=\"s\") : f32[2,3]\n"
    "  %5 = mul_scalar(%2; value=2) : f32[3]\n"
    "  output \"x\" = %4\n"
    "  output \"y\" = %3\n"
    "  update %2 = %5\n"
    "}\n";

enum { ADD = 3, SOFTMAX = 4 };

typedef void (*damage_fn)(hfb_graph *graph);

static hfb_node *node_at(hfb_graph *graph, int index) {
  return graph->nodes[index];
}

static void wrong_node_id(hfb_graph *graph) {
  node_at(graph, ADD)->id = 2;
}
static void negative_node_id(hfb_graph *graph) {
  node_at(graph, ADD)->id = -1;
}
static void missing_node(hfb_graph *graph) {
  graph->nodes[ADD] = NULL;
}
static void swapped_nodes(hfb_graph *graph) {
  hfb_node *node = graph->nodes[ADD];
  graph->nodes[ADD] = graph->nodes[SOFTMAX];
  graph->nodes[SOFTMAX] = node;
}
static void swapped_and_renumbered(hfb_graph *graph) {
  swapped_nodes(graph);
  graph->nodes[ADD]->id = ADD;
  graph->nodes[SOFTMAX]->id = SOFTMAX;
}
static void unknown_op(hfb_graph *graph) {
  node_at(graph, ADD)->op = HFB_OP_COUNT;
}
static void other_op(hfb_graph *graph) {
  node_at(graph, ADD)->op = HFB_OP_EQ;
}
static void op_of_other_arity(hfb_graph *graph) {
  node_at(graph, ADD)->op = HFB_OP_NEG;
}
static void missing_input(hfb_graph *graph) {
  node_at(graph, ADD)->inputs[1] = NULL;
}
static void input_is_itself(hfb_graph *graph) {
  node_at(graph, ADD)->inputs[1] = &node_at(graph, ADD)->results[0];
}
static void input_is_later(hfb_graph *graph) {
  node_at(graph, ADD)->inputs[1] = &node_at(graph, SOFTMAX)->results[0];
}
static void input_of_another_graph(hfb_graph *graph) {
  static hfb_value results[1];
  static hfb_node stranger;
  stranger = *graph->nodes[0];
  stranger.results = results;
  results[0] = graph->nodes[0]->results[0];
  results[0].node = &stranger;
  node_at(graph, ADD)->inputs[0] = &results[0];
}
static void input_is_a_copy(hfb_graph *graph) {
  static hfb_value copy;
  copy = graph->nodes[0]->results[0];
  node_at(graph, ADD)->inputs[0] = &copy;
}
static void one_input_too_few(hfb_graph *graph) {
  node_at(graph, ADD)->input_count = 1;
}
static void wrong_shape(hfb_graph *graph) {
  node_at(graph, ADD)->results[0].shape.dim[1] = 4;
}
static void wrong_rank(hfb_graph *graph) {
  node_at(graph, SOFTMAX)->results[0].shape.rank = 1;
}
static void wrong_dtype(hfb_graph *graph) {
  node_at(graph, SOFTMAX)->results[0].dtype = HFB_F64;
}
static void wrong_source_dtype(hfb_graph *graph) {
  node_at(graph, 0)->results[0].dtype = HFB_I64;
}
static void wrong_value_id(hfb_graph *graph) {
  node_at(graph, ADD)->results[0].id = 4;
}
static void wrong_result_index(hfb_graph *graph) {
  node_at(graph, ADD)->results[0].result = 1;
}
static void wrong_producer(hfb_graph *graph) {
  node_at(graph, SOFTMAX)->results[0].node = graph->nodes[0];
}
static void wrong_result_count(hfb_graph *graph) {
  node_at(graph, ADD)->result_count = 2;
}
static void value_count_too_large(hfb_graph *graph) {
  graph->value_count++;
}
static void attribute_missing(hfb_graph *graph) {
  node_at(graph, SOFTMAX)->attr_count = 0;
}
static void attribute_out_of_range(hfb_graph *graph) {
  node_at(graph, SOFTMAX)->attrs[0].u.i = 2;
}
static void attribute_of_another_op(hfb_graph *graph) {
  node_at(graph, SOFTMAX)->attrs[0].key = HFB_ATTR_EPS;
}
static void attribute_twice(hfb_graph *graph) {
  hfb_node *node = node_at(graph, SOFTMAX);
  node->attrs[1] = node->attrs[0];
}
static void attributes_unsorted(hfb_graph *graph) {
  hfb_node *node = node_at(graph, SOFTMAX);
  hfb_attr first = node->attrs[0];
  node->attrs[0] = node->attrs[1];
  node->attrs[1] = first;
}
static void inputs_swapped(hfb_graph *graph) {
  hfb_value *first = graph->inputs[0];
  graph->inputs[0] = graph->inputs[1];
  graph->inputs[1] = first;
}
static void input_not_listed(hfb_graph *graph) {
  graph->input_count--;
}
static void parameter_not_listed(hfb_graph *graph) {
  graph->parameter_count = 0;
}
static void listed_input_is_no_input(hfb_graph *graph) {
  graph->inputs[1] = &node_at(graph, ADD)->results[0];
}
static void parameter_listed_twice(hfb_graph *graph) {
  graph->parameters[graph->parameter_count++] = graph->parameters[0];
}
static void same_name_twice(hfb_graph *graph) {
  for (int i = 0; i < graph->nodes[1]->attr_count; i++) {
    if (graph->nodes[1]->attrs[i].key == HFB_ATTR_NAME) graph->nodes[1]->attrs[i].u.text = "a";
  }
}
static void name_without_entry(hfb_graph *graph) {
  for (int i = 0; i < graph->nodes[2]->attr_count; i++) {
    if (graph->nodes[2]->attrs[i].key == HFB_ATTR_NAME) graph->nodes[2]->attrs[i].u.text = "v";
  }
}
static void same_output_name_twice(hfb_graph *graph) {
  graph->outputs[1].name = "x";
}
static void output_without_name(hfb_graph *graph) {
  graph->outputs[1].name = NULL;
}
static void output_without_value(hfb_graph *graph) {
  graph->outputs[0].value = NULL;
}
static void output_of_another_graph(hfb_graph *graph) {
  static hfb_value copy;
  copy = *graph->outputs[0].value;
  graph->outputs[0].value = &copy;
}
static void output_not_listed(hfb_graph *graph) {
  graph->output_count--;
}
static void update_of_an_input(hfb_graph *graph) {
  graph->updates[0].parameter = graph->inputs[0];
}
static void update_of_an_inner_value(hfb_graph *graph) {
  graph->updates[0].parameter = graph->updates[0].value;
}
static void update_of_nothing(hfb_graph *graph) {
  graph->updates[0].parameter = NULL;
}
static void update_without_value(hfb_graph *graph) {
  graph->updates[0].value = NULL;
}
static void update_of_another_shape(hfb_graph *graph) {
  graph->updates[0].value = graph->outputs[0].value;
}
static void update_of_another_graph(hfb_graph *graph) {
  static hfb_value copy;
  copy = *graph->updates[0].value;
  graph->updates[0].value = &copy;
}
static void parameter_updated_twice(hfb_graph *graph) {
  static hfb_update twice[2];
  twice[0] = twice[1] = graph->updates[0];
  graph->updates = twice;
  graph->update_count = 2;
}

static const struct {
  damage_fn damage;
  const char *message;
} cases[] = {
    {wrong_node_id, "node 2 (add): it stands at position 3"},
    {negative_node_id, "node -1 (add): it stands at position 3"},
    {missing_node, "graph \"g\": node 3 is missing"},
    {swapped_nodes, "node 4 (softmax): it stands at position 3"},
    {swapped_and_renumbered, "node 3 (softmax): input 0 is no result of an earlier node"},
    {unknown_op, "there is no op"},
    {other_op, "node 3 (eq): result 0 is f32[2,3] where the rule gives bool[2,3]"},
    {op_of_other_arity, "2 inputs given; it takes 1"},
    {missing_input, "node 3 (add): input 1 is no result of an earlier node"},
    {input_is_itself, "node 3 (add): input 1 is no result of an earlier node"},
    {input_is_later, "node 3 (add): input 1 is no result of an earlier node"},
    {input_of_another_graph, "node 3 (add): input 0 is no result of an earlier node"},
    {input_is_a_copy, "node 3 (add): input 0 is no result of an earlier node"},
    {one_input_too_few, "1 inputs given; it takes 2"},
    {wrong_shape, "node 3 (add): result 0 is f32[2,4] where the rule gives f32[2,3]"},
    {wrong_rank, "node 4 (softmax): result 0 is f32[2] where the rule gives f32[2,3]"},
    {wrong_dtype, "node 4 (softmax): result 0 is f64[2,3] where the rule gives f32[2,3]"},
    {wrong_source_dtype, "node 0 (input): result 0 is i64[2,3] where the rule gives f32[2,3]"},
    {wrong_value_id, "node 3 (add): value id 4; 3 is next"},
    {wrong_result_index, "node 3 (add): result 0 points elsewhere"},
    {wrong_producer, "node 4 (softmax): result 0 points elsewhere"},
    {wrong_result_count, "2 results; the op table has 1"},
    {value_count_too_large, "graph \"g\": 6 values counted, 7 recorded"},
    {attribute_missing, "attribute axis is missing"},
    {attribute_out_of_range, "node 4: s: softmax(f32[2,3]): axis 2 does not exist"},
    {attribute_of_another_op, "it has no attribute eps"},
    {attribute_twice, "node 4 (softmax): attribute axis does not stand in key order"},
    {attributes_unsorted, "node 4 (softmax): attribute axis does not stand in key order"},
    {inputs_swapped, "node 0 (input): it is not number 0 of the inputs"},
    {input_not_listed, "node 1 (input): it is not number 1 of the inputs"},
    {parameter_not_listed, "node 2 (parameter): it is not number 0 of the parameters"},
    {listed_input_is_no_input, "node 1 (input): it is not number 1 of the inputs"},
    {parameter_listed_twice, "2 parameters listed under 1 names for 1 nodes"},
    {same_name_twice, "node 1 (input): the name \"a\" leads to another input"},
    {name_without_entry, "node 2 (parameter): the name \"v\" leads to another parameter"},
    {same_output_name_twice, "the name of output 1 is missing or used twice"},
    {output_without_name, "the name of output 1 is missing or used twice"},
    {output_without_value, "output \"x\" is no value of this graph"},
    {output_of_another_graph, "output \"x\" is no value of this graph"},
    {output_not_listed, "1 outputs under 2 names"},
    {update_of_an_input, "update 0 is not sound"},
    {update_of_an_inner_value, "update 0 is not sound"},
    {update_of_nothing, "update 0 is not sound"},
    {update_without_value, "update 0 is not sound"},
    {update_of_another_shape, "update 0 is not sound"},
    {update_of_another_graph, "update 0 is not sound"},
    {parameter_updated_twice, "update 1 is not sound"},
};

static void test_good_graphs_pass(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(text);
  assert_int_equal(hfb_graph_verify(graph), HFB_OK);
  hfb_graph_destroy(graph);
  assert_int_equal(hfb_graph_create("empty", &graph), HFB_OK);
  assert_int_equal(hfb_graph_verify(graph), HFB_OK);
  ir_assert_prints(graph, "graph \"empty\" {\n}\n");
  hfb_graph_destroy(graph);
  hfb_graph_destroy(NULL);
}

static void test_every_damage_is_found(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    hfb_graph *graph = ir_parse(text);
    cases[i].damage(graph);
    if (hfb_graph_verify(graph) == HFB_OK) fail_msg("not found: %s", cases[i].message);
    ir_assert_message(cases[i].message);
    hfb_graph_destroy(graph);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_good_graphs_pass),
      cmocka_unit_test(test_every_damage_is_found),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
