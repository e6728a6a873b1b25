/* The text form: printing and parsing are inverse, bad text is refused with its line, no allocation failure is lost. */
#include "test_ir_support.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

/* Prints, parses what was printed and prints that. */
static void assert_round_trip(const hfb_graph *graph) {
  hfb_strbuf first;
  hfb_strbuf_init(&first);
  assert_int_equal(hfb_graph_print(graph, &first), HFB_OK);
  hfb_graph *again = ir_parse(hfb_strbuf_text(&first));
  assert_int_equal(hfb_graph_verify(again), HFB_OK);
  assert_int_equal(again->node_count, graph->node_count);
  assert_int_equal(again->output_count, graph->output_count);
  assert_int_equal(again->update_count, graph->update_count);
  ir_assert_prints(again, hfb_strbuf_text(&first));
  hfb_graph_destroy(again);
  hfb_strbuf_deinit(&first);
}

static void test_every_case_prints_and_parses_back(void **state) {
  (void)state;
  for (int i = 0; i < IR_CASE_COUNT; i++) {
    if (ir_cases[i].message) continue;
    hfb_graph *graph = ir_case_graph(&ir_cases[i]);
    assert_round_trip(graph);
    hfb_graph_destroy(graph);
  }
}

static const char tiny[] =
    "graph \"tiny \\\"quoted\\\" \\x01\\x0a\\x1f\\x7f\" {\n"
    "  %0 = input(name=\"ids\") : i64[2,3]\n"
    "  %1 = parameter(name=\"table\", padding_idx=-1, init=1, init_a=0, init_b=0.02, trainable=1, buffer=0) : "
    "f32[9,4]\n"
    "  %2 = embedding(%1, %0; padding_idx=-1, scope=\"m.0\") : f32[2,3,4]\n"
    "  %3 = constant(data=[0.100000001,nan,-inf,-0]) : f32[4]\n"
    "  %4 = add(%2, %3) : f32[2,3,4]\n"
    "  %5 = layer_norm(%4, %3, %3; eps=9.9999999999999998e-13) : f32[2,3,4]\n"
    "  %6 = slice(%5; starts=[0,0,0], limits=[2,3,3], steps=[1,2,1]) : f32[2,2,3]\n"
    "  %7 = cast(%6) : bf16[2,2,3]\n"
    "  %8 = concat(%7, %7, %7; axis=0) : bf16[6,2,3]\n"
    "  output \"hidden\" = %5\n"
    "  output \"last \\\\\" = %8\n"
    "  output \"again\" = %5\n"
    "}\n";

static const char trained[] =
    "graph \"trained\" {\n"
    "  %0 = parameter(name=\"w\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[3]\n"
    "  %1 = parameter(name=\"mean\", padding_idx=-1, init=0, init_a=0, init_b=0, trainable=0, buffer=1) : f32[3]\n"
    "  %2 = parameter(name=\"square\", padding_idx=-1, init=0, init_a=0, init_b=0, trainable=0, buffer=1) : f32[3]\n"
    "  %3 = parameter(name=\"step\", padding_idx=-1, init=0, init_a=0, init_b=0, trainable=0, buffer=1) : f64[]\n"
    "  %4 = parameter(name=\"random_state\", padding_idx=-1, init=6, init_a=0, init_b=0, trainable=0, buffer=1) : "
    "i64[2]\n"
    "  %5 = input(name=\"g\") : f32[3]\n"
    "  %6 = dropout(%5, %4; p=0.10000000000000001, site=0) : f32[3]\n"
    "  %7 = add_scalar(%3; value=1) : f64[]\n"
    "  %8, %9, %10 = adam(%0, %1, %2, %6, %7; eps=0.5, learning_rate=0.125, beta1=0.5, beta2=0.75) : f32[3], f32[3], "
    "f32[3]\n"
    "  output \"old\" = %0\n"
    "  output \"new\" = %8\n"
    "  update %0 = %8\n"
    "  update %2 = %10\n"
    "  update %1 = %9\n"
    "  update %3 = %7\n"
    "}\n";

/* Several results of one node, and updates in the order in which they were added. */
static void test_updates_print_and_parse_back(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(trained);
  ir_assert_prints(graph, trained);
  assert_round_trip(graph);
  assert_int_equal(graph->update_count, 4);
  assert_ptr_equal(graph->updates[1].parameter, graph->parameters[2]);
  assert_ptr_equal(graph->updates[1].value, &graph->nodes[8]->results[2]);
  assert_int_equal(graph->nodes[8]->results[2].result, 2);
  hfb_graph_destroy(graph);
}

static void test_canonical_text_is_a_fixed_point(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(tiny);
  ir_assert_prints(graph, tiny);
  assert_string_equal(graph->name, "tiny \"quoted\" \x01\n\x1f\x7f");
  assert_int_equal(graph->input_count, 1);
  assert_int_equal(graph->parameter_count, 1);
  assert_string_equal(graph->outputs[1].name, "last \\");
  assert_ptr_equal(graph->outputs[0].value, graph->outputs[2].value);
  const float *data = hfb_node_attr(graph->nodes[3], HFB_ATTR_DATA)->u.data;
  assert_true(data[0] == 0.1f && isnan(data[1]) && data[2] == -INFINITY && data[3] == 0 && signbit(data[3]));
  hfb_graph_destroy(graph);
}

static void test_free_form(void **state) {
  (void)state;
  hfb_graph *graph = ir_parse(
      "# a graph by hand\n"
      "graph\"g\"{%x=input(name=\"x\"):f32[ 2 , 3 ]%y_2=softmax(%x;scope=\"s\",axis=1):f32[2,3] # rows\n"
      "output\"o\"=%y_2 %unused = neg ( %x ) : f32 [2,3] } # end");
  ir_assert_prints(graph,
                   "graph \"g\" {\n"
                   "  %0 = input(name=\"x\") : f32[2,3]\n"
                   "  %1 = softmax(%0; axis=1, scope=\"s\") : f32[2,3]\n"
                   "  %2 = neg(%0) : f32[2,3]\n"
                   "  output \"o\" = %1\n"
                   "}\n");
  hfb_graph_destroy(graph);
}

static void test_constants_keep_every_bit(void **state) {
  (void)state;
  enum { COUNT = 600 };
  static const hfb_dtype dtypes[] = {HFB_F32, HFB_F64, HFB_BF16, HFB_F16, HFB_I64, HFB_I32, HFB_U8};
  for (size_t d = 0; d < sizeof(dtypes) / sizeof(dtypes[0]); d++) {
    uint64_t bits = 88172645463325252u; /* xorshift64 (Marsaglia, 2003), so that all exponents and signs occur */
    unsigned char data[COUNT * 8];
    for (size_t i = 0; i < sizeof(data); i++) {
      bits ^= bits << 13;
      bits ^= bits >> 7;
      bits ^= bits << 17;
      data[i] = (unsigned char)bits;
    }
    hfb_builder b;
    assert_int_equal(hfb_builder_init(&b, "bits"), HFB_OK);
    hfb_value *value = hfb_constant(&b, dtypes[d], hfb_shape_of(1, (int64_t[]){COUNT}), data);
    assert_non_null(value);
    hfb_strbuf text;
    hfb_strbuf_init(&text);
    assert_int_equal(hfb_graph_print(b.graph, &text), HFB_OK);
    hfb_graph *again = ir_parse(hfb_strbuf_text(&text));
    const unsigned char *back = hfb_node_attr(again->nodes[0], HFB_ATTR_DATA)->u.data;
    size_t bytes = hfb_dtype_bytes(dtypes[d]);
    int checked = 0;
    for (int i = 0; i < COUNT; i++) {
      const unsigned char *x = data + (size_t)i * bytes, *y = back + (size_t)i * bytes;
      uint64_t word = 0;
      memcpy(&word, x, bytes);
      bool is_nan = (dtypes[d] == HFB_F32 && (word & 0x7fffffff) > 0x7f800000) ||
                    (dtypes[d] == HFB_F64 && (word & INT64_MAX) > 0x7ff0000000000000) ||
                    (dtypes[d] == HFB_BF16 && (word & 0x7fff) > 0x7f80) ||
                    (dtypes[d] == HFB_F16 && (word & 0x7fff) > 0x7c00);
      if (is_nan) continue; /* a nan stays one, its payload is not written */
      assert_memory_equal(x, y, bytes);
      checked++;
    }
    assert_in_range(checked, COUNT * 9 / 10, COUNT);
    hfb_graph_destroy(again);
    hfb_strbuf_deinit(&text);
    hfb_builder_deinit(&b);
  }
}

#define X "%x = input(name=\"x\") : f32[2,3]\n"
#define W "%w = parameter(name=\"w\", padding_idx=-1, init=0, init_a=0, init_b=0, trainable=1, buffer=0) : f32[3]\n"

static const struct {
  const char *text, *message;
} bad_texts[] = {
    {"", "line 1: expected graph but the text ends"},
    {"graf \"g\" {}", "line 1: expected graph, not graf"},
    {"graph g {}", "line 1: expected '\"' before 'g {}'"},
    {"graph \"g {}", "line 1: a text without a closing '\"'"},
    {"graph \"g\n\" {}", "line 1: a text without a closing '\"'"},
    {"graph \"\\q\" {}", "is no escape"},
    {"graph \"\\x00\" {}", "is no escape"},
    {"graph \"\\xg0\" {}", "is no escape"},
    {"graph \"\\x", "is no escape"},
    {"graph \"g\"", "line 1: expected '{' but the text ends"},
    {"graph \"g\" {\n", "line 2: expected output but the text ends"},
    {"graph \"g\" {\n} x", "line 2: text behind the closing '}': 'x'"},
    {"graph \"g\" {\n\n  input \"x\" }", "line 3: expected output or update, not input"},
    {"graph \"g\" {\n  % = neg() : f32[] }", "line 2: '%' without the name of a value"},
    {"graph \"g\" {\n" X "%x = neg(%x) : f32[2,3] }", "line 3: value %x is defined twice"},
    {"graph \"g\" {\n" X "%y, %y = neg(%x) : f32[2,3] }", "line 3: value %y is defined twice"},
    {"graph \"g\" {\n" X "%y, %z = neg(%x) : f32[2,3] }", "line 3: neg has 1 results, not 2"},
    {"graph \"g\" {\n" X "%a,%b,%c,%d,%e = neg(%x) : f32[2,3] }", "line 3: more than 4 results"},
    {"graph \"g\" {\n" X "%y = neg(%y) : f32[2,3] }", "line 3: value %y is used before it is defined"},
    {"graph \"g\" {\n" X "%y = softmix(%x; axis=1) : f32[2,3] }",
     "there is no op \"softmix\"; did you mean \"softmax\"?"},
    {"graph \"g\" {\n" X "%y = qqqqqqqq(%x) : f32[2,3] }", "line 3: there is no op \"qqqqqqqq\""},
    {"graph \"g\" {\n" X "%y = softmax(%x; axs=1) : f32[2,3] }",
     "there is no attribute \"axs\"; did you mean \"axis\"?"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1, axis=1) : f32[2,3] }", "line 3: attribute axis is given twice"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=one) : f32[2,3] }", "line 3: expected a whole number before 'one)"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=9223372036854775808) : f32[2,3] }", "does not fit in 64 bits"},
    {"graph \"g\" {\n" X "%y = softmax(%x, axis=1) : f32[2,3] }", "attributes follow ';'"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis 1) : f32[2,3] }", "line 3: expected '=' before '1)"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1 : f32[2,3] }", "line 3: expected ')' before ': f32"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1,) : f32[2,3] }", "line 3: expected an attribute before ')"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1) f32[2,3] }", "line 3: expected ':' before 'f32"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1) : f33[2,3] }", "line 3: there is no dtype f33"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1) : f32 }", "line 3: expected '[' before '}'"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1) : f32[2 3] }", "line 3: expected ',' before '3] }'"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1) : f32[1,1,1,1,1,1,1,1,1] }", "a list of more than 8 numbers"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1) : f32[3,3] }", "result %y of softmax is f32[2,3], not f32[3,3]"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=1) : f64[2,3] }", "result %y of softmax is f32[2,3], not f64[2,3]"},
    {"graph \"g\" {\n" X "%y = softmax(%x; axis=2) : f32[2,3] }", "line 3: softmax(f32[2,3]): axis 2 does not exist"},
    {"graph \"g\" {\n" X "%y = reshape(%x; shape=[6]) : f32[6] }", "attribute shape is given by the result type"},
    {"graph \"g\" {\n" X "%y = cast(%x; dtype=f64) : f64[2,3] }", "attribute dtype is given by the result type"},
    {"graph \"g\" {\n" X "%y = input(name=\"x\") : f32[] }", "line 3: graph \"g\": input \"x\" exists already"},
    {"graph \"g\" {\n%c = constant(data=[1,2) : f32[2] }", "line 2: expected ')' before '}'"},
    {"graph \"g\" {\n%c = constant(data=[1,2) : f32 }", "line 2: expected ']' but the text ends"},
    {"graph \"g\" {\n%c = constant(data=[1,]) : f32[2] }", "line 2: expected a number before ']"},
    {"graph \"g\" {\n%c = constant(data=[1.5,2]) : i64[2] }", "line 2: expected ',' before '.5,2"},
    {"graph \"g\" {\n%c = constant(data=[1,2]) : f32[1099511627776] }", "fewer elements than the 1099511627776"},
    {"graph \"g\" {\n%c = constant(data=[1 #]\n) : f32[1] }", "data goes on after the 1 elements of its type"},
    {"graph \"g\" {\n%c = constant(data=[1,#]\n) : f32[2] }", "line 3: expected a number before ')"},
    {"graph \"g\" {\n" X "output \"x\" = %x\noutput \"x\" = %x }", "line 4: graph \"g\": output \"x\" exists already"},
    {"graph \"g\" {\n" X "output \"\" = %x }", "an output without a name"},
    {"graph \"g\" {\n" X "output \"x\" = %z }", "line 3: value %z is used before it is defined"},
    {"graph \"g\" {\n" X "output x = %x }", "line 3: expected '\"' before 'x = %x }'"},
    {"graph \"g\" {\n" X "update %x = %x }", "line 3: graph \"g\": an update of something that is no parameter of it"},
    {"graph \"g\" {\n" X W "update %w = %x }", "parameter \"w\" is f32[3], its update f32[2,3]"},
    {"graph \"g\" {\n" X W "%y = cast(%w) : f64[3]\nupdate %w = %y }", "parameter \"w\" is f32[3], its update f64[3]"},
    {"graph \"g\" {\n" X W "update %w = %w\nupdate %w = %w }",
     "line 5: graph \"g\": parameter \"w\" is updated twice"},
    {"graph \"g\" {\n" X W "update %w = %z }", "line 4: value %z is used before it is defined"},
    {"graph \"g\" {\n" X W "update %z = %w }", "line 4: value %z is used before it is defined"},
    {"graph \"g\" {\n" X W "update %w %w }", "line 4: expected '=' before '%w }'"},
    {"graph \"g\" {\n" X W "update \"w\" = %w }", "line 4: expected '%' before '\"w\""},
    {"graph \"g\" {\n%aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa = neg() : f32[] }",
     "line 2: a value is longer than 63 bytes"},
};

static void test_bad_texts_are_refused_by_line(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof(bad_texts) / sizeof(bad_texts[0]); i++) {
    hfb_graph *graph = NULL;
    if (hfb_graph_parse(bad_texts[i].text, strlen(bad_texts[i].text), &graph) == HFB_OK) {
      fail_msg("accepted: %s", bad_texts[i].text);
    }
    assert_null(graph);
    ir_assert_message(bad_texts[i].message);
  }
}

/* Cut anywhere, the text is refused, and nothing behind its end is read (the copies are exact, for the sanitizer). */
static void test_every_prefix_is_refused(void **state) {
  (void)state;
  size_t whole = strlen(tiny) - 1; /* the last newline is free */
  for (size_t length = 0; length < whole; length++) {
    char *copy = malloc(length + 1);
    memcpy(copy, tiny, length);
    char *exact = realloc(copy, length > 0 ? length : 1);
    hfb_graph *graph = NULL;
    assert_int_not_equal(hfb_graph_parse(exact, length, &graph), HFB_OK);
    assert_null(graph);
    ir_assert_message("line ");
    free(exact);
  }
}

static void test_nul_bytes_are_refused(void **state) {
  (void)state;
  char text[sizeof(tiny)];
  memcpy(text, tiny, sizeof(tiny));
  text[60] = '\0';
  hfb_graph *graph = NULL;
  assert_int_equal(hfb_graph_parse(text, sizeof(tiny) - 1, &graph), HFB_CORRUPT);
  ir_assert_message("line 2: a NUL byte");
}

/* A long graph parses in time that grows with its length, not faster. */
static void test_many_nodes_and_names(void **state) {
  (void)state;
  enum { COUNT = 20000 };
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_strbuf_append(&text, "graph \"long\" {\n");
  for (int i = 0; i < COUNT; i++) hfb_strbuf_printf(&text, "%%v%d = input(name=\"x%d\") : f32[2]\n", i, i);
  hfb_strbuf_append(&text, "%all = concat(%v0");
  for (int i = 1; i < COUNT; i++) hfb_strbuf_printf(&text, ",%%v%d", i);
  hfb_strbuf_printf(&text, "; axis=0) : f32[%d]\noutput \"all\" = %%all }", 2 * COUNT);
  assert_int_equal(hfb_strbuf_status(&text), HFB_OK);
  hfb_graph *graph = ir_parse(hfb_strbuf_text(&text));
  assert_int_equal(graph->input_count, COUNT);
  assert_int_equal(graph->nodes[COUNT]->input_count, COUNT);
  assert_round_trip(graph);
  hfb_graph_destroy(graph);
  hfb_strbuf_deinit(&text);
}

/* Parse, print, decompose, convert and build with the nth allocation failing. True when nothing failed. */
static bool run_with_faults(const char *source) {
  hfb_graph *graph = NULL, *other = NULL;
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_status status = hfb_graph_parse(source, strlen(source), &graph);
  if (status == HFB_OK) status = hfb_graph_print(graph, &text);
  if (status == HFB_OK) status = hfb_graph_decompose(graph, &other);
  hfb_graph_destroy(other);
  other = NULL;
  if (status == HFB_OK) status = hfb_graph_convert(graph, HFB_F64, &other);
  hfb_graph_destroy(other);
  int *counts = NULL;
  if (status == HFB_OK) status = hfb_graph_use_counts(graph, &counts);
  hfb_mem_free(counts);
  if (status == HFB_OK) {
    hfb_builder b;
    hfb_graph *built = NULL;
    status = hfb_builder_init(&b, "built");
    for (int i = 0; i < 100; i++) {
      char name[16];
      snprintf(name, sizeof(name), "x%d", i);
      hfb_value *x = hfb_input(&b, name, HFB_F32, hfb_shape_of(1, (int64_t[]){4}));
      hfb_output_add(
          &b, name,
          hfb_add(&b, x, hfb_parameter(&b, name, hfb_shape_of(1, (int64_t[]){4}), (hfb_init){.padding_idx = -1})));
    }
    if (status == HFB_OK) status = hfb_builder_finish(&b, &built);
    hfb_builder_deinit(&b);
    hfb_graph_destroy(built);
  }
  if (status != HFB_OK) {
    assert_int_equal(status, HFB_OUT_OF_MEMORY);
    ir_assert_message("out of memory");
  }
  hfb_graph_destroy(graph);
  hfb_strbuf_deinit(&text);
  return status == HFB_OK;
}

static void test_every_failing_allocation_is_reported(void **state) {
  (void)state;
  for (int run = 0; run < 4; run++) {
    int nth = 1, sticky = run % 2;
    for (;; nth++) {
      hfb_mem_fail_at(nth, sticky);
      bool passed = run_with_faults(run < 2 ? tiny : trained);
      int64_t used = hfb_mem_fail_at(0, 0);
      if (passed) {
        assert_true(used < nth); /* the fault was never reached */
        break;
      }
    }
    assert_true(nth > 20);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_case_prints_and_parses_back),
      cmocka_unit_test(test_canonical_text_is_a_fixed_point),
      cmocka_unit_test(test_updates_print_and_parse_back),
      cmocka_unit_test(test_free_form),
      cmocka_unit_test(test_constants_keep_every_bit),
      cmocka_unit_test(test_bad_texts_are_refused_by_line),
      cmocka_unit_test(test_every_prefix_is_refused),
      cmocka_unit_test(test_nul_bytes_are_refused),
      cmocka_unit_test(test_many_nodes_and_names),
      cmocka_unit_test(test_every_failing_allocation_is_reported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
