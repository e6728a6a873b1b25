/* Element types, shapes, the op table and the rule of every op. */
#include "test_ir_support.h"

#include <stdlib.h>

static void test_dtypes(void **state) {
  (void)state;
  for (int i = 0; i < HFB_DTYPE_COUNT; i++) {
    hfb_dtype parsed;
    assert_true(hfb_dtype_parse(hfb_dtype_name((hfb_dtype)i), &parsed));
    assert_int_equal(parsed, i);
  }
  hfb_dtype dtype;
  assert_false(hfb_dtype_parse("f33", &dtype));
  assert_int_equal(hfb_dtype_bytes(HFB_BF16), 2);
  assert_int_equal(hfb_dtype_bytes(HFB_I64), 8);
  assert_true(hfb_dtype_is_float(HFB_F16) && !hfb_dtype_is_float(HFB_I32) && !hfb_dtype_is_float(HFB_BOOL));
  assert_true(hfb_dtype_is_int(HFB_U8) && !hfb_dtype_is_int(HFB_BOOL) && !hfb_dtype_is_int(HFB_F64));
  assert_string_equal(hfb_dtype_name((hfb_dtype)99), "unknown_dtype");
}

static void test_shapes(void **state) {
  (void)state;
  hfb_shape a = hfb_shape_of(3, (int64_t[]){4, 1, 3}), b = hfb_shape_of(2, (int64_t[]){5, 1}), out;
  assert_int_equal(hfb_shape_elements(&a), 12);
  assert_int_equal(hfb_shape_elements(&(hfb_shape){0}), 1);
  assert_true(hfb_shape_broadcast(&a, &b, &out));
  hfb_shape both = hfb_shape_of(3, (int64_t[]){4, 5, 3});
  assert_true(hfb_shape_equal(&out, &both));
  assert_true(hfb_shape_broadcast(&b, &a, &out));
  assert_true(hfb_shape_equal(&out, &both));
  assert_false(hfb_shape_equal(&a, &both));
  assert_false(hfb_shape_equal(&a, &b));
  int64_t strides[HFB_MAX_RANK];
  hfb_shape_strides(&both, strides);
  assert_true(strides[0] == 15 && strides[1] == 3 && strides[2] == 1);
  char text[HFB_SHAPE_TEXT_BYTES];
  assert_string_equal(hfb_shape_print(&both, text, sizeof(text)), "[4,5,3]");
  assert_string_equal(hfb_shape_print(&(hfb_shape){0}, text, sizeof(text)), "[]");
  hfb_shape widest = {.rank = 8};
  for (int i = 0; i < 8; i++) widest.dim[i] = INT64_MIN;
  hfb_shape_print(&widest, text, sizeof(text));
  assert_int_equal(text[strlen(text) - 1], ']');
  char tiny[4];
  hfb_shape_print(&both, tiny, sizeof(tiny));
  assert_true(strlen(tiny) < sizeof(tiny));
}

static void test_shape_limits(void **state) {
  (void)state;
  hfb_shape at_limit = hfb_shape_of(2, (int64_t[]){1 << 20, 1 << 20});
  assert_int_equal(hfb_shape_check(&at_limit), HFB_OK);
  hfb_shape over = hfb_shape_of(3, (int64_t[]){1 << 20, 1 << 20, 2});
  assert_int_equal(hfb_shape_check(&over), HFB_OUT_OF_MEMORY);
  ir_assert_message("shape [1048576,1048576,2] has more than 2^40 elements: at least 2199.02 GB");
  hfb_shape wraps = hfb_shape_of(3, (int64_t[]){INT64_MAX, INT64_MAX, 2});
  assert_int_equal(hfb_shape_check(&wraps), HFB_OUT_OF_MEMORY);
  hfb_shape hidden = hfb_shape_of(3, (int64_t[]){0, INT64_MAX, INT64_MAX});
  assert_int_equal(hfb_shape_check(&hidden), HFB_OUT_OF_MEMORY);
  hfb_shape deep = {.rank = 9}, negative_rank = {.rank = -1}, negative = hfb_shape_of(1, (int64_t[]){-1});
  assert_int_equal(hfb_shape_check(&deep), HFB_INVALID_ARGUMENT);
  assert_int_equal(hfb_shape_check(&negative_rank), HFB_INVALID_ARGUMENT);
  assert_int_equal(hfb_shape_check(&negative), HFB_INVALID_ARGUMENT);
  ir_assert_message("shape [-1] has a negative extent");
}

static void test_every_case(void **state) {
  (void)state;
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  for (int i = 0; i < IR_CASE_COUNT; i++) {
    const ir_case *c = &ir_cases[i];
    hfb_strbuf_clear(&text);
    ir_case_text(c, &text);
    hfb_graph *graph = NULL;
    hfb_status status = hfb_graph_parse(hfb_strbuf_text(&text), text.length, &graph);
    if (!c->message) {
      if (status != HFB_OK) fail_msg("refused: %s\n%s", hfb_error_message(), hfb_strbuf_text(&text));
      assert_int_equal(hfb_graph_verify(graph), HFB_OK);
    } else {
      if (status == HFB_OK) fail_msg("accepted:\n%s", hfb_strbuf_text(&text));
      if (!strstr(hfb_error_message(), c->message)) {
        fail_msg("the message is\n  %s\nwithout\n  %s", hfb_error_message(), c->message);
      }
    }
    hfb_graph_destroy(graph);
  }
  hfb_strbuf_deinit(&text);
}

static void test_every_op_has_cases(void **state) {
  (void)state;
  for (int op = 0; op < HFB_OP_COUNT; op++) {
    int good = 0, bad = 0;
    for (int i = 0; i < IR_CASE_COUNT; i++) {
      if (ir_cases[i].op == (hfb_op)op) *(ir_cases[i].message ? &bad : &good) += 1;
    }
    if (good == 0 || bad == 0) {
      fail_msg("op %s has %d good and %d bad cases in test_ir_cases.def", hfb_op_info_of((hfb_op)op)->name, good, bad);
    }
  }
}

/* The last node of a good case, whose attributes and inputs the next tests damage. */
static const hfb_node *case_node(const hfb_graph *graph) {
  return graph->nodes[graph->node_count - 1];
}

static hfb_status add_again(hfb_graph *graph, const hfb_node *node, int input_count, int attr_count,
                            const hfb_attr *attrs) {
  int nodes = graph->node_count, values = graph->value_count;
  hfb_node *added;
  hfb_status status = hfb_graph_add(graph, node->op, input_count, node->inputs, attr_count, attrs, &added);
  if (status != HFB_OK) { /* the graph is unchanged */
    assert_int_equal(graph->node_count, nodes);
    assert_int_equal(graph->value_count, values);
    assert_int_equal(hfb_graph_verify(graph), HFB_OK);
  }
  return status;
}

static void damage_attrs(hfb_graph *graph, const hfb_node *node) {
  const hfb_op_info *info = hfb_op_info_of(node->op);
  hfb_attr attrs[HFB_ATTR_COUNT + 1];
  for (int i = 0; i < node->attr_count; i++) { /* missing */
    int kept = 0;
    for (int j = 0; j < node->attr_count; j++) {
      if (j != i) attrs[kept++] = node->attrs[j];
    }
    if (node->attrs[i].key == HFB_ATTR_SCOPE) continue;
    assert_int_not_equal(add_again(graph, node, node->input_count, kept, attrs), HFB_OK);
    ir_assert_message("is missing");
    ir_assert_message(info->name);
  }
  if (node->attr_count > 0) { /* twice */
    memcpy(attrs, node->attrs, sizeof(*attrs) * (size_t)node->attr_count);
    attrs[node->attr_count] = node->attrs[0];
    assert_int_not_equal(add_again(graph, node, node->input_count, node->attr_count + 1, attrs), HFB_OK);
    ir_assert_message("is given twice");
  }
  for (int key = 0; key < HFB_ATTR_COUNT; key++) { /* not of this op */
    if (key == HFB_ATTR_SCOPE || key == HFB_ATTR_REGION || (info->attributes >> key & 1)) continue;
    if (node->attr_count > 0) memcpy(attrs, node->attrs, sizeof(*attrs) * (size_t)node->attr_count);
    attrs[node->attr_count] = (hfb_attr){.key = (hfb_attr_key)key};
    assert_int_not_equal(add_again(graph, node, node->input_count, node->attr_count + 1, attrs), HFB_OK);
    ir_assert_message("it has no attribute");
  }
}

static void test_table_rules_of_every_op(void **state) {
  (void)state;
  for (int i = 0; i < IR_CASE_COUNT; i++) {
    if (ir_cases[i].message) continue;
    hfb_graph *graph = ir_case_graph(&ir_cases[i]);
    const hfb_node *node = case_node(graph);
    const hfb_op_info *info = hfb_op_info_of(node->op);
    damage_attrs(graph, node);
    if (info->min_inputs > 0) {
      assert_int_not_equal(add_again(graph, node, info->min_inputs - 1, node->attr_count, node->attrs), HFB_OK);
      ir_assert_message("inputs given; it takes");
      hfb_value *none[8] = {0}; /* a hole in the inputs */
      hfb_node *added;
      assert_int_not_equal(
          hfb_graph_add(graph, node->op, info->min_inputs, none, node->attr_count, node->attrs, &added), HFB_OK);
      ir_assert_message("input 0 is missing");
    }
    hfb_graph_destroy(graph);
  }
}

static void test_attribute_payloads(void **state) {
  (void)state;
  hfb_graph *graph;
  assert_int_equal(hfb_graph_create("g", &graph), HFB_OK);
  int64_t dims[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  hfb_attr attrs[] = {{.key = HFB_ATTR_NAME, .u.text = "x"},
                      {.key = HFB_ATTR_SHAPE, .u.ints = {2, dims}},
                      {.key = HFB_ATTR_DTYPE, .u.dtype = HFB_F32},
                      {.key = HFB_ATTR_SCOPE, .u.text = "s"}};
  hfb_attr good[4];
  memcpy(good, attrs, sizeof(good));
  hfb_node *node;
  attrs[0].u.text = NULL;
  assert_int_equal(hfb_graph_add(graph, HFB_OP_INPUT, 0, NULL, 4, attrs, &node), HFB_INVALID_ARGUMENT);
  ir_assert_message("attribute name has no text");
  memcpy(attrs, good, sizeof(good));
  attrs[1].u.ints.count = 9;
  assert_int_equal(hfb_graph_add(graph, HFB_OP_INPUT, 0, NULL, 4, attrs, &node), HFB_INVALID_ARGUMENT);
  ir_assert_message("attribute shape has 9 values");
  attrs[1].u.ints.count = 1;
  attrs[1].u.ints.values = NULL;
  assert_int_equal(hfb_graph_add(graph, HFB_OP_INPUT, 0, NULL, 4, attrs, &node), HFB_INVALID_ARGUMENT);
  attrs[1].u.ints.count = -1;
  assert_int_equal(hfb_graph_add(graph, HFB_OP_INPUT, 0, NULL, 4, attrs, &node), HFB_INVALID_ARGUMENT);
  memcpy(attrs, good, sizeof(good));
  attrs[2].u.dtype = (hfb_dtype)77;
  assert_int_equal(hfb_graph_add(graph, HFB_OP_INPUT, 0, NULL, 4, attrs, &node), HFB_INVALID_ARGUMENT);
  ir_assert_message("which is no dtype");
  memcpy(attrs, good, sizeof(good));
  char scope[HFB_SCOPE_BYTES + 1];
  memset(scope, 'a', sizeof(scope));
  scope[HFB_SCOPE_BYTES] = '\0';
  attrs[3].u.text = scope;
  assert_int_equal(hfb_graph_add(graph, HFB_OP_INPUT, 0, NULL, 4, attrs, &node), HFB_INVALID_ARGUMENT);
  ir_assert_message("attribute scope is longer than 255 bytes");
  scope[HFB_SCOPE_BYTES - 1] = '\0';
  assert_int_equal(hfb_graph_add(graph, HFB_OP_INPUT, 0, NULL, 4, attrs, &node), HFB_OK);
  attrs[0].key = (hfb_attr_key)1000;
  assert_int_equal(hfb_graph_add(graph, HFB_OP_INPUT, 0, NULL, 4, attrs, &node), HFB_INVALID_ARGUMENT);
  ir_assert_message("there is no attribute 1000");
  assert_int_equal(hfb_graph_add(graph, (hfb_op)1000, 0, NULL, 0, NULL, &node), HFB_INVALID_ARGUMENT);
  ir_assert_message("there is no op 1000");
  hfb_graph_destroy(graph);
}

static void test_attributes_are_copied_and_sorted(void **state) {
  (void)state;
  hfb_graph *graph;
  assert_int_equal(hfb_graph_create("g", &graph), HFB_OK);
  char name[] = "table";
  int64_t dims[] = {2, 2};
  int32_t data[] = {1, 2, 3, 4};
  hfb_attr attrs[] = {{.key = HFB_ATTR_SCOPE, .u.text = name},
                      {.key = HFB_ATTR_DATA, .u.data = data},
                      {.key = HFB_ATTR_DTYPE, .u.dtype = HFB_I32},
                      {.key = HFB_ATTR_SHAPE, .u.ints = {2, dims}}};
  hfb_node *node;
  assert_int_equal(hfb_graph_add(graph, HFB_OP_CONSTANT, 0, NULL, 4, attrs, &node), HFB_OK);
  name[0] = 'X';
  dims[0] = 99;
  data[3] = 99;
  assert_string_equal(hfb_node_text(node, HFB_ATTR_SCOPE, ""), "table");
  int count;
  assert_int_equal(hfb_node_ints(node, HFB_ATTR_SHAPE, &count)[0], 2);
  assert_int_equal(count, 2);
  assert_int_equal(((const int32_t *)hfb_node_attr(node, HFB_ATTR_DATA)->u.data)[3], 4);
  for (int i = 1; i < node->attr_count; i++) assert_true(node->attrs[i - 1].key < node->attrs[i].key);
  assert_null(hfb_node_attr(node, HFB_ATTR_NAME));
  assert_string_equal(hfb_node_text(node, HFB_ATTR_NAME, "fallback"), "fallback");
  hfb_graph_destroy(graph);
}

static void test_names_are_unique_and_found(void **state) {
  (void)state;
  hfb_builder b;
  assert_int_equal(hfb_builder_init(&b, "names"), HFB_OK);
  char name[32];
  hfb_value *last = NULL;
  for (int i = 0; i < 500; i++) { /* through several growths of the tables */
    snprintf(name, sizeof(name), "value.%d", i);
    last = hfb_input(&b, name, HFB_F32, (hfb_shape){0});
    hfb_parameter(&b, name, hfb_shape_of(1, (int64_t[]){i}), (hfb_init){.padding_idx = -1});
    hfb_output_add(&b, name, last);
  }
  for (int i = 0; i < 500; i++) {
    snprintf(name, sizeof(name), "value.%d", i);
    assert_int_equal(hfb_graph_find_input(b.graph, name), i);
    assert_int_equal(hfb_graph_find_parameter(b.graph, name), i);
    assert_int_equal(hfb_graph_find_output(b.graph, name), i);
    assert_int_equal(b.graph->parameters[i]->shape.dim[0], i);
  }
  assert_int_equal(hfb_graph_find_input(b.graph, "value.500"), -1);
  assert_int_equal(hfb_graph_add_output(b.graph, "value.7", last), HFB_INVALID_ARGUMENT);
  ir_assert_message("output \"value.7\" exists already");
  assert_int_equal(hfb_graph_add_output(b.graph, "", last), HFB_INVALID_ARGUMENT);
  assert_null(hfb_input(&b, "value.7", HFB_F32, (hfb_shape){0}));
  ir_assert_message("input \"value.7\" exists already");
  hfb_builder_deinit(&b);
}

static void test_values_of_other_graphs_are_refused(void **state) {
  (void)state;
  hfb_builder one, two;
  assert_int_equal(hfb_builder_init(&one, "one"), HFB_OK);
  assert_int_equal(hfb_builder_init(&two, "two"), HFB_OK);
  hfb_value *x = hfb_input(&one, "x", HFB_F32, (hfb_shape){0});
  hfb_input(&two, "x", HFB_F32, (hfb_shape){0});
  hfb_node *node;
  assert_int_equal(hfb_graph_add(two.graph, HFB_OP_NEG, 1, &x, 0, NULL, &node), HFB_INVALID_ARGUMENT);
  ir_assert_message("graph \"two\": input 0 of neg is a value of another graph");
  assert_int_equal(hfb_graph_add_output(two.graph, "x", x), HFB_INVALID_ARGUMENT);
  hfb_builder_deinit(&one);
  hfb_builder_deinit(&two);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_dtypes),
      cmocka_unit_test(test_shapes),
      cmocka_unit_test(test_shape_limits),
      cmocka_unit_test(test_every_case),
      cmocka_unit_test(test_every_op_has_cases),
      cmocka_unit_test(test_table_rules_of_every_op),
      cmocka_unit_test(test_attribute_payloads),
      cmocka_unit_test(test_attributes_are_copied_and_sorted),
      cmocka_unit_test(test_names_are_unique_and_found),
      cmocka_unit_test(test_values_of_other_graphs_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
