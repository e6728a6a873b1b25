/* native on every case of support/op_cases.def against float64, on each instruction set; whole graphs against eager;
 * parameters, ids and memory. Generated code is compiled anew: no cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "compile/native.h"
#include "eager/eager.h"
#include "ir/transform.h"
#include "support/compare.h"
#include "support/graph_run.h"
#include "support/op_cases.h"

static const uint64_t SEED = 11;
static const hfb_backend_options no_cache = {.cache_dir = ""};
static hfb_device *device;

static int set_up(void **state) {
  (void)state;
  return hfb_device_cpu_create(2, 0, &device) == HFB_OK ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  hfb_device_destroy(device);
  return 0;
}

/* ---- every op ---------------------------------------- */

static hfb_status run_backend(const hfb_backend *backend, const hfb_graph *graph, const hfb_tensor *inputs,
                              const hfb_tensor *parameters, hfb_tensor *outputs) {
  hfb_program *program = NULL;
  HFB_TRY(backend->compile(graph, device, &no_cache, &program));
  hfb_status status = backend->bind_parameters(program, parameters);
  if (status == HFB_OK) status = backend->run(program, inputs, outputs);
  backend->destroy(program);
  return status;
}

/* Sums of terms of both signs: judged by the size of the terms. */
static bool is_sum(hfb_op op) {
  return op == HFB_OP_MATMUL || op == HFB_OP_LINEAR || op == HFB_OP_REDUCE_SUM || op == HFB_OP_REDUCE_MEAN ||
         op == HFB_OP_CUMSUM || op == HFB_OP_NLL_LOSS;
}

/* Describes in `text` the first result that is wrong; leaves it empty when all are right. */
static void compare_results(const op_case *c, hfb_dtype dtype, int count, const hfb_tensor *got,
                            const hfb_tensor *expected, const hfb_tensor *magnitude, char *text, size_t bytes) {
  const hfb_tolerance tolerance = hfb_op_info_of(c->op)->tolerance;
  for (int i = 0; i < count && !text[0]; i++) {
    char why[256];
    const bool good = dtype == HFB_F64
                          ? compare_close(&got[i], &expected[i], 1e-12, 1, why, sizeof why)
                          : compare_with_f64(&got[i], &expected[i], is_sum(c->op) ? &magnitude[i] : NULL, tolerance,
                                             why, sizeof why);
    if (!good) snprintf(text, bytes, "%s, result %d: %s", hfb_dtype_name(dtype), i, why);
  }
}

/* Empty text when the case is right in the dtype that native computes in, F32 or F64, what is wrong otherwise. */
static void check_case(const char *line, hfb_dtype dtype, char *text, size_t bytes) {
  op_case c;
  hfb_graph *graph = NULL, *wide = NULL;
  op_case_data data = {0}, wide_data = {0}, wide_absolute = {0};
  hfb_tensor got[OP_CASE_MAX_RESULTS] = {{0}}, expected[OP_CASE_MAX_RESULTS] = {{0}};
  hfb_tensor magnitude[OP_CASE_MAX_RESULTS] = {{0}};
  text[0] = '\0';
  hfb_status status = op_case_parse(line, &c);
  if (status == HFB_OK) status = op_case_build(&c, &graph);
  if (status == HFB_OK) status = hfb_graph_convert(graph, HFB_F64, &wide);
  if (status == HFB_OK) status = op_case_make_inputs(&c, graph, device, SEED, false, &data);
  if (status == HFB_OK) status = op_case_make_inputs(&c, wide, device, SEED, false, &wide_data);
  if (status == HFB_OK) status = op_case_make_inputs(&c, wide, device, SEED, true, &wide_absolute);
  if (status == HFB_OK)
    status = graph_run(wide, device, HFB_ISA_GENERIC, true, wide_data.inputs, wide_data.parameters, expected);
  if (status == HFB_OK)
    status = graph_run(wide, device, HFB_ISA_GENERIC, true, wide_absolute.inputs, wide_absolute.parameters, magnitude);
  if (status == HFB_OK) {
    const bool f64 = dtype == HFB_F64;
    const op_case_data *given = f64 ? &wide_data : &data;
    status = run_backend(hfb_backend_native(), f64 ? wide : graph, given->inputs, given->parameters, got);
  }
  if (status != HFB_OK) snprintf(text, bytes, "%s", hfb_error_message());
  else compare_results(&c, dtype, graph->output_count, got, expected, magnitude, text, bytes);
  for (int i = 0; i < OP_CASE_MAX_RESULTS; i++) {
    hfb_tensor_release(&got[i]);
    hfb_tensor_release(&expected[i]);
    hfb_tensor_release(&magnitude[i]);
  }
  op_case_release(&data);
  op_case_release(&wide_data);
  op_case_release(&wide_absolute);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(graph);
}

/* Every stride-th case; returns how many are wrong and prints them. */
static int check_cases(hfb_dtype dtype, int stride) {
  int wrong = 0;
  for (int i = 0; i < op_case_count(); i += stride) {
    char text[512];
    check_case(op_case_line(i), dtype, text, sizeof text);
    if (!text[0]) continue;
    wrong++;
    fprintf(stderr, "\"%s\" (isa %s, seed %llu): %s\n", op_case_line(i), hfb_isa_name(hfb_cpu()->isa),
            (unsigned long long)SEED, text);
  }
  return wrong;
}

static void every_op_is_right(void **state) {
  (void)state;
  assert_int_equal(check_cases(HFB_F32, 1), 0);
}

static void ops_are_right_in_f64(void **state) {
  (void)state;
  assert_int_equal(check_cases(HFB_F64, 2), 0);
}

/* The instruction set is detected once for each process, so lower ones are tested in processes of their own. */
static void check_isa(const char *isa) {
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    setenv("HFBENCH_ISA", isa, 1);
    execl("/proc/self/exe", "test_native", "--cases", (char *)NULL);
    _exit(127);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

static void ops_are_right_on_avx2(void **state) {
  (void)state;
  if (hfb_cpu()->isa_max < HFB_ISA_AVX2) skip();
  check_isa("avx2");
}

static void ops_are_right_on_the_generic_level(void **state) {
  (void)state;
  check_isa("generic");
}

/* ---- whole graphs ---------------------------------------- */

typedef struct bound_graph {
  hfb_graph *graph;
  hfb_tensor inputs[8], parameters[16];
} bound_graph;

static void fill(hfb_tensor *tensor, const hfb_value *value, int64_t id_bound) {
  assert_int_equal(hfb_tensor_create(device, value->dtype, &value->shape, tensor), HFB_OK);
  const char *name = hfb_node_text(value->node, HFB_ATTR_NAME, "");
  const hfb_philox stream = hfb_philox_named(SEED, name);
  for (int64_t i = 0; i < hfb_shape_elements(&value->shape); i++) {
    if (value->dtype == HFB_I64) ((int64_t *)tensor->data)[i] = hfb_philox_below(stream, (uint64_t)i, id_bound);
    else ((float *)tensor->data)[i] = (float)hfb_philox_normal(stream, (uint64_t)i) * 0.5f;
  }
}

static bound_graph bind_text(const char *text, int64_t id_bound) {
  bound_graph b = {0};
  if (hfb_graph_parse(text, strlen(text), &b.graph) != HFB_OK) fail_msg("%s", hfb_error_message());
  for (int i = 0; i < b.graph->input_count; i++) fill(&b.inputs[i], b.graph->inputs[i], id_bound);
  for (int i = 0; i < b.graph->parameter_count; i++) fill(&b.parameters[i], b.graph->parameters[i], id_bound);
  return b;
}

static void release_graph(bound_graph *b) {
  for (int i = 0; i < b->graph->input_count; i++) hfb_tensor_release(&b->inputs[i]);
  for (int i = 0; i < b->graph->parameter_count; i++) hfb_tensor_release(&b->parameters[i]);
  hfb_graph_destroy(b->graph);
}

static void expect_native_equals_eager(const char *text, double tolerance) {
  bound_graph b = bind_text(text, 5);
  hfb_tensor native[4], eager[4];
  if (run_backend(hfb_backend_eager(), b.graph, b.inputs, b.parameters, eager) != HFB_OK)
    fail_msg("%s", hfb_error_message());
  if (run_backend(hfb_backend_native(), b.graph, b.inputs, b.parameters, native) != HFB_OK)
    fail_msg("%s", hfb_error_message());
  for (int i = 0; i < b.graph->output_count; i++) {
    char why[256];
    if (!compare_close(&native[i], &eager[i], tolerance, 1e-3, why, sizeof why))
      fail_msg("%s: %s", b.graph->outputs[i].name, why);
    hfb_tensor_release(&native[i]);
    hfb_tensor_release(&eager[i]);
  }
  release_graph(&b);
}

#define PARAMETER(id, name, shape)   \
  "%" id " = parameter(name=\"" name \
  "\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[" shape "]\n"

/* Embedding, pre-norm, q/k/v, masked causal attention, residuals, gated activation, loss: one layer of everything. */
static const char layer[] =
    "graph \"layer\" {\n"
    "%0 = input(name=\"ids\") : i64[2,19]\n"
    "%1 = input(name=\"mask\") : f32[2,1,1,19]\n"
    PARAMETER("2", "wte", "5,24")
    PARAMETER("3", "g", "24")
    PARAMETER("4", "h", "24")
        PARAMETER("5", "wq", "24,24")
        PARAMETER("6", "bq", "24")
        PARAMETER("7", "wo", "24,24")
        PARAMETER("8", "wi", "40,24")
    PARAMETER("9", "wf", "24,40")
    "%10 = embedding(%2, %0; padding_idx=-1) : f32[2,19,24]\n"
    "%11 = layer_norm(%10, %3, %4; eps=1e-5) : f32[2,19,24]\n"
    "%12 = linear(%11, %5, %6; transpose_b=1) : f32[2,19,24]\n"
    "%13 = reshape(%12) : f32[2,19,3,8]\n"
    "%14 = transpose(%13; perm=[0,2,1,3]) : f32[2,3,19,8]\n"
    "%15 = matmul(%14, %14; transpose_a=0, transpose_b=1) : f32[2,3,19,19]\n"
    "%16 = mul_scalar(%15; value=0.35) : f32[2,3,19,19]\n"
    "%17 = iota(axis=1) : i64[19,19]\n"
    "%18 = iota(axis=0) : i64[19,19]\n"
    "%19 = le(%17, %18) : bool[19,19]\n"
    "%20 = full(value=-3.4028234663852886e+38) : f32[]\n"
    "%21 = where(%19, %16, %20) : f32[2,3,19,19]\n"
    "%22 = add(%21, %1) : f32[2,3,19,19]\n"
    "%23 = softmax(%22; axis=3) : f32[2,3,19,19]\n"
    "%24 = matmul(%23, %14; transpose_a=0, transpose_b=0) : f32[2,3,19,8]\n"
    "%25 = transpose(%24; perm=[0,2,1,3]) : f32[2,19,3,8]\n"
    "%26 = reshape(%25) : f32[2,19,24]\n"
    "%27 = linear(%26, %7; transpose_b=1) : f32[2,19,24]\n"
    "%28 = add(%10, %27) : f32[2,19,24]\n"
    "%29 = rms_norm(%28, %3; eps=1e-6) : f32[2,19,24]\n"
    "%30 = linear(%29, %8; transpose_b=1) : f32[2,19,40]\n"
    "%31 = gelu_tanh(%30) : f32[2,19,40]\n"
    "%32 = linear(%31, %9; transpose_b=1) : f32[2,19,24]\n"
    "%33 = add(%28, %32) : f32[2,19,24]\n"
    "%34 = linear(%33, %2; transpose_b=1) : f32[2,19,5]\n"
    "%35 = reshape(%34) : f32[38,5]\n"
    "%36 = log_softmax(%35; axis=1) : f32[38,5]\n"
    "%37 = reshape(%0) : i64[38]\n"
    "%38 = nll_loss(%36, %37; ignore_index=-100) : f32[]\n"
    "output \"loss\" = %38\noutput \"logits\" = %34\noutput \"key\" = %14\n}\n";

static void a_whole_layer_equals_eager(void **state) {
  (void)state;
  expect_native_equals_eager(layer, 2e-5);
}

/* Every kind of value can be an output: an input, a parameter, a constant, a view, a scalar made of nothing. */
static void anything_can_be_an_output(void **state) {
  (void)state;
  expect_native_equals_eager("graph \"outputs\" {\n"
                             "%0 = input(name=\"x\") : f32[3,4]\n" PARAMETER("1", "w", "4,2")
                             "%2 = transpose(%0; perm=[1,0]) : f32[4,3]\n"
                             "%3 = iota(axis=0) : f32[5]\n"
                             "output \"x\" = %0\noutput \"w\" = %1\noutput \"xt\" = %2\noutput \"iota\" = %3\n}\n",
                             0);
}

static void parameters_can_change_between_runs(void **state) {
  (void)state;
  bound_graph b = bind_text("graph \"linear\" {\n%0 = input(name=\"x\") : f32[4,8]\n" PARAMETER("1", "w", "8,8")
                            "%2 = linear(%0, %1; transpose_b=1) : f32[4,8]\noutput \"y\" = %2\n}\n", 5);
  const hfb_backend *native = hfb_backend_native();
  hfb_program *program = NULL;
  hfb_tensor first, second;
  assert_int_equal(native->compile(b.graph, device, &no_cache, &program), HFB_OK);
  assert_int_equal(native->bind_parameters(program, b.parameters), HFB_OK);
  assert_int_equal(native->run(program, b.inputs, &first), HFB_OK);
  for (int i = 0; i < 64; i++) ((float *)b.parameters[0].data)[i] *= 2; /* the packed copy is stale now */
  assert_int_equal(native->bind_parameters(program, b.parameters), HFB_OK);
  assert_int_equal(native->run(program, b.inputs, &second), HFB_OK);
  for (int i = 0; i < 32; i++) assert_float_equal(hfb_tensor_get(&second, i), 2 * hfb_tensor_get(&first, i), 1e-6);
  hfb_tensor_release(&first);
  hfb_tensor_release(&second);
  native->destroy(program);
  release_graph(&b);
}

static void ids_outside_their_table_are_refused(void **state) {
  (void)state;
  bound_graph b = bind_text("graph \"ids\" {\n%0 = input(name=\"ids\") : i64[2,3]\n" PARAMETER("1", "table", "5,4")
                            "%2 = embedding(%1, %0; padding_idx=-1) : f32[2,3,4]\noutput \"y\" = %2\n}\n", 5);
  hfb_tensor output;
  ((int64_t *)b.inputs[0].data)[4] = 5;
  assert_int_equal(run_backend(hfb_backend_native(), b.graph, b.inputs, b.parameters, &output), HFB_INVALID_ARGUMENT);
  assert_non_null(strstr(hfb_error_message(), "ids"));
  ((int64_t *)b.inputs[0].data)[4] = -1;
  assert_int_equal(run_backend(hfb_backend_native(), b.graph, b.inputs, b.parameters, &output), HFB_INVALID_ARGUMENT);
  release_graph(&b);
}

/* Both engines refuse what is not the graph's: said by name, and before an element is read. The block has no more than
 * the expanded row, so that address sanitizers see who reads on. */
static void inputs_that_do_not_fit_are_refused(void **state) {
  (void)state;
  static const hfb_shape wanted = {.rank = 2, .dim = {2, 3}}, turned = {.rank = 2, .dim = {3, 2}};
  bound_graph b = bind_text("graph \"ids\" {\n%0 = input(name=\"ids\") : i64[2,3]\n" PARAMETER("1", "table", "5,4")
                            "%2 = embedding(%1, %0; padding_idx=-1) : f32[2,3,4]\noutput \"y\" = %2\n}\n", 5);
  int64_t *row = calloc(3, sizeof *row);
  assert_non_null(row);
  hfb_tensor expanded = hfb_tensor_borrow(HFB_I64, &wanted, row), wrong_table = b.parameters[0];
  expanded.strides[0] = 0;
  wrong_table.strides[0] = 1;
  wrong_table.strides[1] = 5;
  const struct {
    hfb_tensor ids, table;
    const char *message;
  } cases[] = {{expanded, b.parameters[0], "ids must be row-major; copy it first"},
               {hfb_tensor_borrow(HFB_BOOL, &wanted, row), b.parameters[0], "ids must be i64[2,3], but bool[2,3]"},
               {hfb_tensor_borrow(HFB_I64, &turned, row), b.parameters[0], "ids must be i64[2,3], but i64[3,2]"},
               {b.inputs[0], wrong_table, "table must be row-major; copy it first"},
               {b.inputs[0], b.inputs[0], "table must be f32[5,4], but i64[2,3]"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const hfb_backend *const engines[] = {hfb_backend_native(), hfb_backend_eager()};
    for (size_t e = 0; e < 2; e++) {
      hfb_tensor output;
      assert_int_equal(run_backend(engines[e], b.graph, &cases[i].ids, &cases[i].table, &output), HFB_MISMATCH);
      if (!strstr(hfb_error_message(), cases[i].message)) fail_msg("%s: %s", engines[e]->name, hfb_error_message());
    }
  }
  free(row);
  release_graph(&b);
}

/* Peak memory of a run is what was planned, and all of it comes back. */
static void memory_is_as_planned(void **state) {
  (void)state;
  bound_graph b = bind_text(layer, 5);
  const hfb_backend *native = hfb_backend_native();
  hfb_program *program = NULL;
  hfb_program_stats stats;
  hfb_tensor outputs[3];
  assert_int_equal(native->compile(b.graph, device, &no_cache, &program), HFB_OK);
  assert_int_equal(native->bind_parameters(program, b.parameters), HFB_OK);
  const int64_t before = hfb_device_memory(device).allocated_bytes;
  hfb_device_reset_peak(device);
  assert_int_equal(native->run(program, b.inputs, outputs), HFB_OK);
  native->stats(program, &stats);
  assert_true(stats.kernels_run > 0);
  int64_t output_bytes = 0;
  for (int i = 0; i < 3; i++) {
    output_bytes += 4096 + (int64_t)hfb_tensor_bytes(&outputs[i]);
    hfb_tensor_release(&outputs[i]);
  }
  assert_true(hfb_device_memory(device).peak_bytes - before <= stats.planned_peak_bytes + output_bytes + 4096);
  assert_int_equal(hfb_device_memory(device).allocated_bytes, before);
  native->destroy(program);
  release_graph(&b);
}

/* Each allocation in turn fails: compile or run must say so, and give back what they had. */
static void failing_allocations_are_reported(void **state) {
  (void)state;
  bound_graph b = bind_text("graph \"small\" {\n%0 = input(name=\"x\") : f32[4,8]\n" PARAMETER("1", "w", "8,8")
                            "%2 = linear(%0, %1; transpose_b=1) : f32[4,8]\n"
                            "%3 = softmax(%2; axis=1) : f32[4,8]\n"
                            "output \"y\" = %3\n}\n", 5);
  const int64_t before = hfb_device_memory(device).allocated_bytes;
  int failures = 0;
  for (int64_t nth = 1; nth < 4000; nth += nth < 40 ? 1 : 37) {
    hfb_tensor output;
    hfb_mem_fail_at(nth, 1);
    const hfb_status status = run_backend(hfb_backend_native(), b.graph, b.inputs, b.parameters, &output);
    const int64_t made = hfb_mem_fail_at(0, 0);
    if (status == HFB_OK) {
      hfb_tensor_release(&output);
      if (made < nth) break;
      continue;
    }
    failures++;
    assert_int_equal(status, HFB_OUT_OF_MEMORY);
  }
  assert_true(failures > 10);
  assert_int_equal(hfb_device_memory(device).allocated_bytes, before);
  release_graph(&b);
}

static void without_a_compiler_it_says_so(void **state) {
  (void)state;
  const pid_t child = fork();
  if (child == 0) {
    setenv("HFBENCH_CC", "/nonexistent/cc", 1);
    execl("/proc/self/exe", "test_native", "--no-compiler", (char *)NULL);
    _exit(127);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(WEXITSTATUS(status), 0);
}

static int no_compiler(void) {
  static const char text[] =
      "graph \"g\" {\n%0 = input(name=\"x\") : f32[4]\n%1 = exp(%0) : f32[4]\noutput \"y\" = %1\n}\n";
  hfb_graph *graph = NULL;
  hfb_program *program = NULL;
  if (set_up(NULL) != 0 || hfb_graph_parse(text, sizeof text - 1, &graph) != HFB_OK) return 1;
  const hfb_status status = hfb_backend_native()->compile(graph, device, &no_cache, &program);
  hfb_graph_destroy(graph);
  tear_down(NULL);
  return status == HFB_COMPILE && strstr(hfb_error_message(), "HFBENCH_CC") ? 0 : 2;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--no-compiler") == 0) return no_compiler();
  if (argc > 1) return set_up(NULL) != 0 || check_cases(HFB_F32, 3) != 0;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_op_is_right),
      cmocka_unit_test(ops_are_right_in_f64),
      cmocka_unit_test(ops_are_right_on_avx2),
      cmocka_unit_test(ops_are_right_on_the_generic_level),
      cmocka_unit_test(a_whole_layer_equals_eager),
      cmocka_unit_test(anything_can_be_an_output),
      cmocka_unit_test(parameters_can_change_between_runs),
      cmocka_unit_test(ids_outside_their_table_are_refused),
      cmocka_unit_test(inputs_that_do_not_fit_are_refused),
      cmocka_unit_test(memory_is_as_planned),
      cmocka_unit_test(failing_allocations_are_reported),
      cmocka_unit_test(without_a_compiler_it_says_so),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
