/* The eager engine: equal to running node by node, honest about memory, clean after failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "eager/eager.h"
#include "ir/transform.h"
#include "support/compare.h"
#include "support/device_fixture.h"
#include "support/graph_run.h"
#include "support/op_cases.h"

static const uint64_t SEED = 11;

static hfb_program *compile(const hfb_graph *graph, const hfb_backend_options *options, const hfb_tensor *parameters) {
  hfb_program *program;
  need_ok(hfb_backend_eager()->compile(graph, device, options, &program), graph->name);
  need_ok(hfb_backend_eager()->bind_parameters(program, parameters), graph->name);
  return program;
}

static hfb_program_stats stats_of(const hfb_program *program) {
  hfb_program_stats stats;
  hfb_backend_eager()->stats(program, &stats);
  return stats;
}

static void check_case(const op_case *c, const hfb_graph *graph, bool reference) {
  op_case_data data;
  hfb_tensor expected[OP_CASE_MAX_RESULTS], first[OP_CASE_MAX_RESULTS], second[OP_CASE_MAX_RESULTS];
  char text[256];
  hfb_backend_options options = {.reference = reference};
  need_ok(op_case_make_inputs(c, graph, device, SEED, false, &data), c->text);
  need_ok(graph_run(graph, device, hfb_cpu()->isa, reference, data.inputs, data.parameters, expected), c->text);
  hfb_program *program = compile(graph, &options, data.parameters);
  need_ok(hfb_backend_eager()->run(program, data.inputs, first), c->text);
  need_ok(hfb_backend_eager()->run(program, data.inputs, second), c->text);
  for (int i = 0; i < graph->output_count; i++) {
    if (!compare_equal(&first[i], &expected[i], text, sizeof(text))) {
      fail_msg("\"%s\", eager, result %d: %s", c->text, i, text);
    }
    if (!compare_equal(&first[i], &second[i], text, sizeof(text))) {
      fail_msg("\"%s\", run again, result %d: %s", c->text, i, text);
    }
    hfb_tensor_release(&expected[i]);
    hfb_tensor_release(&first[i]);
    hfb_tensor_release(&second[i]);
  }
  hfb_backend_eager()->destroy(program);
  op_case_release(&data);
}

static void test_every_case_equals_its_kernels(void **state) {
  (void)state;
  for (int i = 0; i < op_case_count(); i++) {
    op_case c;
    hfb_graph *graph, *wide;
    need_ok(op_case_parse(op_case_line(i), &c), op_case_line(i));
    need_ok(op_case_build(&c, &graph), c.text);
    need_ok(hfb_graph_convert(graph, HFB_F64, &wide), c.text);
    check_case(&c, graph, false);
    check_case(&c, wide, false);
    check_case(&c, wide, true);
    hfb_graph_destroy(wide);
    hfb_graph_destroy(graph);
  }
  assert_int_equal(hfb_device_memory(device).allocated_bytes, 0);
}

/* Attention-like: a parameter, views, a softmax, intermediates that die at different times. */
static hfb_graph *build_block(int64_t tokens, int64_t width) {
  hfb_builder b;
  hfb_graph *graph;
  need_ok(hfb_builder_init(&b, "block"), "init");
  hfb_scope_push(&b, "layer");
  hfb_value *x = hfb_input(&b, "x", HFB_F32, hfb_shape_of(2, (int64_t[]){tokens, width}));
  hfb_value *ids = hfb_input(&b, "ids", HFB_I64, hfb_shape_of(1, (int64_t[]){tokens}));
  hfb_init init = {.kind = HFB_INIT_NORMAL, .b = 0.1, .padding_idx = -1};
  hfb_value *weight = hfb_parameter(&b, "weight", hfb_shape_of(2, (int64_t[]){width, width}), init);
  hfb_value *table = hfb_parameter(&b, "table", hfb_shape_of(2, (int64_t[]){10, width}), init);
  hfb_value *ones = hfb_full(&b, HFB_F32, hfb_shape_of(1, (int64_t[]){width}), 1);
  hfb_value *sum = hfb_add(&b, x, hfb_embedding(&b, table, ids, -1));
  hfb_value *normal = hfb_layer_norm_op(&b, sum, ones, hfb_mul_scalar(&b, ones, 0), 1e-5);
  hfb_value *query = hfb_linear_op(&b, normal, weight, NULL, true);
  hfb_value *heads = hfb_transpose(&b, hfb_reshape(&b, query, 3, (int64_t[]){tokens, 2, -1}), (int[]){1, 0, 2});
  hfb_value *weights = hfb_softmax(&b, hfb_matmul(&b, heads, heads, false, true), -1);
  hfb_value *mixed = hfb_transpose(&b, hfb_matmul(&b, weights, heads, false, false), (int[]){1, 0, 2});
  hfb_value *out = hfb_add(&b, sum, hfb_reshape(&b, mixed, 2, (int64_t[]){tokens, -1}));
  hfb_output_add(&b, "out", hfb_unary(&b, HFB_OP_GELU, out));
  hfb_output_add(&b, "heads", heads);
  hfb_output_add(&b, "query", query);
  hfb_scope_pop(&b);
  need_ok(hfb_builder_finish(&b, &graph), "finish");
  hfb_builder_deinit(&b);
  return graph;
}

enum { BLOCK_OUTPUTS = 3 };

typedef struct block {
  hfb_graph *graph;
  hfb_tensor inputs[2], parameters[2];
} block;

static block make_block(void) {
  block k = {.graph = build_block(24, 32)};
  static const op_case as_floats = {
      .text = "block", .input_count = 2, .inputs = {{.kind = 'f'}, {.kind = 'i', .bound = 10}}};
  op_case_data data;
  need_ok(op_case_make_inputs(&as_floats, k.graph, device, SEED, false, &data), "inputs");
  for (int i = 0; i < 2; i++) {
    k.inputs[i] = data.inputs[i];
    k.parameters[i] = data.parameters[i];
  }
  return k;
}

static void release_all(int count, hfb_tensor *tensors) {
  for (int i = 0; i < count; i++) hfb_tensor_release(&tensors[i]);
}

static void release_block(block *k) {
  release_all(2, k->inputs);
  release_all(2, k->parameters);
  hfb_graph_destroy(k->graph);
  assert_int_equal(hfb_device_memory(device).allocated_bytes, 0);
}

static void test_outputs_outlive_the_program(void **state) {
  (void)state;
  block k = make_block();
  hfb_tensor outputs[BLOCK_OUTPUTS], expected[BLOCK_OUTPUTS];
  char text[256];
  hfb_program *program = compile(k.graph, NULL, k.parameters);
  need_ok(graph_run(k.graph, device, hfb_cpu()->isa, false, k.inputs, k.parameters, expected), "expected");
  need_ok(hfb_backend_eager()->run(program, k.inputs, outputs), "run");
  hfb_backend_eager()->destroy(program);
  for (int i = 0; i < BLOCK_OUTPUTS; i++) {
    if (!compare_equal(&outputs[i], &expected[i], text, sizeof(text))) fail_msg("output %d: %s", i, text);
  }
  /* "heads" is a view of "query": one buffer, two references. */
  assert_ptr_equal(outputs[1].buffer, outputs[2].buffer);
  assert_int_equal(hfb_tensor_references(&outputs[1]), 2);
  release_all(BLOCK_OUTPUTS, outputs);
  release_all(BLOCK_OUTPUTS, expected);
  release_block(&k);
}

static void test_the_peak_is_known_beforehand(void **state) {
  (void)state;
  /* A chain whose output is the last thing made: then the measured peak is the planned one, plus the output if the
   * planned peak is reached at the end. */
  hfb_builder b;
  hfb_graph *graph;
  hfb_program *program;
  need_ok(hfb_builder_init(&b, "chain"), "init");
  hfb_value *x = hfb_input(&b, "x", HFB_F32, hfb_shape_of(2, (int64_t[]){40, 50}));
  hfb_value *a = hfb_unary(&b, HFB_OP_EXP, x);                            /* 8000 bytes live: a */
  hfb_value *c = hfb_concat(&b, 3, (hfb_value *[]){a, a, a}, 0);          /* 32000: a c */
  hfb_value *view = hfb_slice(&b, c, 0, 0, 40);
  hfb_value *d = hfb_add(&b, view, a);                                    /* 40000: a c d, then a and c go */
  hfb_output_add(&b, "sum", hfb_reduce(&b, HFB_OP_REDUCE_SUM, d, 2, (int[]){0, 1}, false));
  need_ok(hfb_builder_finish(&b, &graph), "finish");
  hfb_builder_deinit(&b);
  need_ok(hfb_backend_eager()->compile(graph, device, NULL, &program), "compile");
  assert_int_equal(stats_of(program).planned_peak_bytes, 40000);

  hfb_tensor input, output;
  need_ok(hfb_tensor_create(device, HFB_F32, &x->shape, &input), "input");
  memset(input.data, 0, hfb_tensor_bytes(&input));
  hfb_device_reset_peak(device);
  int64_t before = hfb_device_memory(device).allocated_bytes;
  need_ok(hfb_backend_eager()->run(program, &input, &output), "run");
  assert_int_equal(hfb_device_memory(device).peak_bytes - before, 40000);
  assert_true(hfb_tensor_get(&output, 0) == 40 * 50 * 2);
  assert_int_equal(hfb_device_memory(device).allocated_bytes - before, 4);
  assert_int_equal(stats_of(program).kernels_run, 4);
  hfb_tensor_release(&input);
  hfb_tensor_release(&output);
  hfb_backend_eager()->destroy(program);
  hfb_graph_destroy(graph);
}

static void test_outputs_never_alias_what_others_own(void **state) {
  (void)state;
  hfb_builder b;
  hfb_graph *graph;
  need_ok(hfb_builder_init(&b, "aliases"), "init");
  hfb_value *x = hfb_input(&b, "x", HFB_F32, hfb_shape_of(2, (int64_t[]){3, 4}));
  hfb_init init = {.kind = HFB_INIT_NORMAL, .padding_idx = -1};
  hfb_value *weight = hfb_parameter(&b, "weight", hfb_shape_of(1, (int64_t[]){4}), init);
  hfb_output_add(&b, "input", x);
  hfb_output_add(&b, "view", hfb_transpose(&b, x, (int[]){1, 0}));
  hfb_output_add(&b, "parameter", weight);
  hfb_output_add(&b, "constant", hfb_constant_i64(&b, hfb_shape_of(1, (int64_t[]){2}), (int64_t[]){5, -6}));
  need_ok(hfb_builder_finish(&b, &graph), "finish");
  hfb_builder_deinit(&b);

  float x_data[12], weight_data[4] = {9, 8, 7, 6};
  for (int i = 0; i < 12; i++) x_data[i] = (float)i;
  hfb_tensor input = hfb_tensor_borrow(HFB_F32, &x->shape, x_data), outputs[4];
  hfb_tensor parameter = hfb_tensor_borrow(HFB_F32, &weight->shape, weight_data);
  hfb_program *program = compile(graph, NULL, &parameter);
  need_ok(hfb_backend_eager()->run(program, &input, outputs), "run");
  hfb_backend_eager()->destroy(program);
  hfb_graph_destroy(graph);
  memset(x_data, 0, sizeof(x_data));
  memset(weight_data, 0, sizeof(weight_data));
  for (int i = 0; i < 12; i++) {
    assert_true(hfb_tensor_get(&outputs[0], i) == i);
    assert_true(hfb_tensor_get(&outputs[1], i) == i % 3 * 4 + i / 3);
  }
  assert_true(hfb_tensor_get(&outputs[2], 3) == 6);
  assert_true(hfb_tensor_get(&outputs[3], 1) == -6);
  release_all(4, outputs);
}

static void test_nodes_are_timed_on_request(void **state) {
  (void)state;
  block k = make_block();
  hfb_tensor outputs[BLOCK_OUTPUTS];
  hfb_program *plain = compile(k.graph, NULL, k.parameters);
  assert_null(hfb_backend_eager()->profile(plain));
  hfb_backend_eager()->destroy(plain);
  hfb_program *program = compile(k.graph, &(hfb_backend_options){.profile = true}, k.parameters);
  need_ok(hfb_backend_eager()->run(program, k.inputs, outputs), "run");
  release_all(BLOCK_OUTPUTS, outputs);
  const int64_t *node_ns = hfb_backend_eager()->profile(program);
  for (int i = 0; i < k.graph->node_count; i++) {
    hfb_op op = k.graph->nodes[i]->op;
    if (op == HFB_OP_INPUT || op == HFB_OP_PARAMETER || op == HFB_OP_TRANSPOSE) assert_int_equal(node_ns[i], 0);
    if (op == HFB_OP_MATMUL || op == HFB_OP_SOFTMAX || op == HFB_OP_FULL) assert_true(node_ns[i] > 0);
  }
  hfb_backend_eager()->destroy(program);
  release_block(&k);
}

static void test_a_run_that_runs_out_of_memory_leaves_nothing(void **state) {
  (void)state;
  block k = make_block();
  hfb_tensor outputs[BLOCK_OUTPUTS];
  hfb_program *program = compile(k.graph, NULL, k.parameters);
  int64_t before = hfb_device_memory(device).allocated_bytes;
  int failures = 0;
  for (int64_t nth = 1;; nth++) {
    hfb_device_empty_cache(device);
    hfb_mem_fail_at(nth, 1);
    hfb_status status = hfb_backend_eager()->run(program, k.inputs, outputs);
    hfb_mem_fail_at(0, 0);
    if (status == HFB_OK) break;
    failures++;
    assert_int_equal(status, HFB_OUT_OF_MEMORY);
    assert_int_equal(hfb_device_memory(device).allocated_bytes, before);
    assert_true(nth < 1000);
  }
  assert_true(failures >= 20); /* two host blocks for each result of at least ten kernels */
  release_all(BLOCK_OUTPUTS, outputs);
  assert_int_equal(hfb_device_memory(device).allocated_bytes, before);
  hfb_backend_eager()->destroy(program);
  release_block(&k);
}

static void test_a_compile_that_runs_out_of_memory_leaves_nothing(void **state) {
  (void)state;
  block k = make_block();
  hfb_status status = HFB_OUT_OF_MEMORY;
  int64_t nth = 0;
  while (status == HFB_OUT_OF_MEMORY) {
    hfb_program *program;
    hfb_mem_fail_at(++nth, 0);
    status = hfb_backend_eager()->compile(k.graph, device, &(hfb_backend_options){.profile = true}, &program);
    hfb_mem_fail_at(0, 0);
    if (status == HFB_OK) hfb_backend_eager()->destroy(program);
    if (status != HFB_OK) assert_null(program);
  }
  assert_int_equal(status, HFB_OK);
  assert_true(nth > 4);
  release_block(&k);
}

static void test_a_memory_limit_stops_a_run(void **state) {
  (void)state;
  block k = make_block();
  hfb_device *small;
  hfb_program *program;
  hfb_tensor outputs[BLOCK_OUTPUTS];
  need_ok(hfb_device_cpu_create(1, 8000, &small), "device");
  need_ok(hfb_backend_eager()->compile(k.graph, small, NULL, &program), "compile");
  need_ok(hfb_backend_eager()->bind_parameters(program, k.parameters), "bind");
  assert_int_equal(hfb_backend_eager()->run(program, k.inputs, outputs), HFB_OUT_OF_MEMORY);
  assert_non_null(strstr(hfb_error_message(), "limit of 8000 bytes"));
  assert_int_equal(hfb_device_memory(small).allocated_bytes, 0);
  hfb_backend_eager()->destroy(program);
  hfb_device_destroy(small);
  release_block(&k);
}

static void test_wrong_bindings_are_refused_by_name(void **state) {
  (void)state;
  block k = make_block();
  hfb_program *program;
  hfb_tensor outputs[BLOCK_OUTPUTS];
  need_ok(hfb_backend_eager()->compile(k.graph, device, NULL, &program), "compile");
  assert_int_equal(hfb_backend_eager()->run(program, k.inputs, outputs), HFB_INVALID_ARGUMENT);
  assert_non_null(strstr(hfb_error_message(), "before its parameters are bound"));

  hfb_tensor swapped[2] = {k.parameters[1], k.parameters[0]};
  assert_int_equal(hfb_backend_eager()->bind_parameters(program, swapped), HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "layer.weight must be f32[32,32], but f32[10,32] was given"));
  need_ok(hfb_backend_eager()->bind_parameters(program, k.parameters), "bind");

  hfb_tensor inputs[2] = {k.inputs[0], k.inputs[0]};
  assert_int_equal(hfb_backend_eager()->run(program, inputs, outputs), HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "ids must be i64[24], but f32[24,32] was given"));
  inputs[1] = k.inputs[1];
  inputs[0].strides[0] = 1;
  assert_int_equal(hfb_backend_eager()->run(program, inputs, outputs), HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "x must be row-major"));

  ((int64_t *)k.inputs[1].data)[3] = 10;
  assert_int_equal(hfb_backend_eager()->run(program, k.inputs, outputs), HFB_INVALID_ARGUMENT);
  assert_non_null(strstr(hfb_error_message(), "embedding: index 10 is outside [0,10)"));
  assert_non_null(strstr(hfb_error_message(), "layer, node"));
  hfb_backend_eager()->destroy(program);
  release_block(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_case_equals_its_kernels),
      cmocka_unit_test(test_outputs_outlive_the_program),
      cmocka_unit_test(test_the_peak_is_known_beforehand),
      cmocka_unit_test(test_outputs_never_alias_what_others_own),
      cmocka_unit_test(test_nodes_are_timed_on_request),
      cmocka_unit_test(test_a_run_that_runs_out_of_memory_leaves_nothing),
      cmocka_unit_test(test_a_compile_that_runs_out_of_memory_leaves_nothing),
      cmocka_unit_test(test_a_memory_limit_stops_a_run),
      cmocka_unit_test(test_wrong_bindings_are_refused_by_name),
  };
  return cmocka_run_group_tests(tests, set_up_threads, tear_down);
}
