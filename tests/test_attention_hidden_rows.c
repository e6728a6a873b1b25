/* native's gradients of attention where finite masks hide all keys of some queries, as left padding does, against the
 * plain ops in float64: softmax gives such a row equal probabilities, and so must what native makes of it. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "compile/native.h"
#include "compile/passes.h"
#include "ir/transform.h"
#include "support/compare.h"
#include "support/graph_run.h"

enum { MAX_INPUTS = 8, OUTPUTS = 4, DEVICES = 3 };

static const uint64_t SEED = 3;
static const double TOLERANCE = 1e-5;
static const hfb_backend_options no_cache = {.cache_dir = ""};
static const int thread_counts[DEVICES] = {2, 1, 4};
static hfb_device *devices[DEVICES];

static int set_up(void **state) {
  (void)state;
  for (int i = 0; i < DEVICES; i++) {
    if (hfb_device_cpu_create(thread_counts[i], 0, &devices[i]) != HFB_OK) return -1;
  }
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  for (int i = 0; i < DEVICES; i++) hfb_device_destroy(devices[i]);
  return 0;
}

/* Forward and backward as src/grad writes them; `scores` makes %scores of %product and %mask. */
static hfb_graph *make_graph(const char *scores, const char *mask_shape, double p) {
  char text[4096], dropout[512] = "";
  const char *dropped = "%weights", *gradient = "%gd";
  if (p > 0) {
    snprintf(dropout, sizeof dropout,
             "%%dropped = dropout(%%weights, %%state; p=%g, site=3) : f32[2,3,150,300]\n"
             "%%gw = dropout(%%gd, %%state; p=%g, site=3) : f32[2,3,150,300]\n", p, p);
    dropped = "%dropped", gradient = "%gw";
  }
  snprintf(text, sizeof text,
           "graph \"attention\" {\n"
           "%%q = input(name=\"q\") : f32[2,3,150,16]\n"
           "%%k = input(name=\"k\") : f32[2,3,300,16]\n"
           "%%v = input(name=\"v\") : f32[2,3,300,24]\n"
           "%%g = input(name=\"g\") : f32[2,3,150,24]\n"
           "%%mask = input(name=\"mask\") : f32[%s]\n"
           "%%state = input(name=\"state\") : i64[2]\n"
           "%%qk = matmul(%%q, %%k; transpose_a=0, transpose_b=1) : f32[2,3,150,300]\n"
           "%%product = mul_scalar(%%qk; value=0.25) : f32[2,3,150,300]\n"
           "%s"
           "%%weights = softmax(%%scores; axis=3) : f32[2,3,150,300]\n"
           "%%gd = matmul(%%g, %%v; transpose_a=0, transpose_b=1) : f32[2,3,150,300]\n"
           "%s"
           "%%o = matmul(%s, %%v; transpose_a=0, transpose_b=0) : f32[2,3,150,24]\n"
           "%%dscores = softmax_backward(%s, %%weights; axis=3) : f32[2,3,150,300]\n"
           "%%d = mul_scalar(%%dscores; value=0.25) : f32[2,3,150,300]\n"
           "%%dq = matmul(%%d, %%k; transpose_a=0, transpose_b=0) : f32[2,3,150,16]\n"
           "%%dk = matmul(%%d, %%q; transpose_a=1, transpose_b=0) : f32[2,3,300,16]\n"
           "%%dv = matmul(%s, %%g; transpose_a=1, transpose_b=0) : f32[2,3,300,24]\n"
           "output \"o\" = %%o output \"dq\" = %%dq output \"dk\" = %%dk output \"dv\" = %%dv\n}\n",
           mask_shape, scores, dropout, dropped, gradient, dropped);
  hfb_graph *graph = NULL;
  if (hfb_graph_parse(text, strlen(text), &graph) != HFB_OK) fail_msg("%s in\n%s", hfb_error_message(), text);
  return graph;
}

/* Of mask [batch,1,rows,keys]. With one row, the first batch is padding altogether. */
static float mask_value(const hfb_shape *shape, int64_t index) {
  const int64_t keys = shape->dim[3], key = index % keys, row = index / keys % shape->dim[2];
  const int64_t batch = index / keys / shape->dim[2];
  if (shape->dim[2] == 1) return batch == 0 || key < 40 ? -FLT_MAX : 0;
  switch ((row + 2 * batch) % 5) {
    case 1: return -FLT_MAX;
    case 2: return key % 3 == 1 ? -INFINITY : -1e30f;
    case 4: return key % 7 < 3 ? -FLT_MAX : 0;
    default: return 0;
  }
}

static hfb_tensor fill(hfb_device *device, const hfb_value *value) {
  const char *name = hfb_node_text(value->node, HFB_ATTR_NAME, "");
  const hfb_philox stream = hfb_philox_named(SEED, name);
  hfb_tensor tensor;
  assert_int_equal(hfb_tensor_create(device, value->dtype, &value->shape, &tensor), HFB_OK);
  for (int64_t i = 0; i < hfb_shape_elements(&value->shape); i++) {
    const float x = strcmp(name, "mask") == 0 ? mask_value(&value->shape, i)
                                              : (float)hfb_philox_normal(stream, (uint64_t)i);
    if (value->dtype == HFB_I64) ((int64_t *)tensor.data)[i] = 5 + i;
    else if (value->dtype == HFB_F64) ((double *)tensor.data)[i] = (double)x;
    else ((float *)tensor.data)[i] = x;
  }
  return tensor;
}

static void release(hfb_tensor *tensors, int count) {
  for (int i = 0; i < count; i++) hfb_tensor_release(&tensors[i]);
}

static void run_reference(const hfb_graph *graph, hfb_tensor *outputs) {
  hfb_graph *wide;
  hfb_tensor inputs[MAX_INPUTS];
  assert_int_equal(hfb_graph_convert(graph, HFB_F64, &wide), HFB_OK);
  for (int i = 0; i < wide->input_count; i++) inputs[i] = fill(devices[0], wide->inputs[i]);
  if (graph_run(wide, devices[0], HFB_ISA_GENERIC, true, inputs, NULL, outputs) != HFB_OK)
    fail_msg("%s", hfb_error_message());
  release(inputs, wide->input_count);
  hfb_graph_destroy(wide);
}

static void run_native(const hfb_graph *graph, hfb_device *device, hfb_tensor *outputs) {
  const hfb_backend *native = hfb_backend_native();
  hfb_program *program;
  hfb_tensor inputs[MAX_INPUTS];
  for (int i = 0; i < graph->input_count; i++) inputs[i] = fill(device, graph->inputs[i]);
  if (native->compile(graph, device, &no_cache, &program) != HFB_OK) fail_msg("%s", hfb_error_message());
  assert_int_equal(native->bind_parameters(program, NULL), HFB_OK);
  if (native->run(program, inputs, outputs) != HFB_OK) fail_msg("%s", hfb_error_message());
  release(inputs, graph->input_count);
  native->destroy(program);
}

/* Else the test would be one of plain ops. */
static void expect_matched(const hfb_graph *graph) {
  hfb_graph *matched;
  bool is_found = false;
  assert_int_equal(hfb_pass_attention(graph, &matched), HFB_OK);
  for (int i = 0; i < matched->node_count; i++) is_found |= matched->nodes[i]->op == HFB_OP_ATTENTION_BACKWARD;
  assert_true(is_found);
  hfb_graph_destroy(matched);
}

static void check(const char *scores, const char *mask_shape, double p) {
  hfb_graph *graph = make_graph(scores, mask_shape, p);
  hfb_tensor expected[OUTPUTS], first[OUTPUTS], got[OUTPUTS];
  char why[256];
  expect_matched(graph);
  run_reference(graph, expected);
  run_native(graph, devices[0], first);
  for (int i = 0; i < OUTPUTS; i++) {
    if (!compare_close(&first[i], &expected[i], TOLERANCE, 0, why, sizeof why))
      fail_msg("mask [%s], dropout %g, seed %llu: %s: %s", mask_shape, p, (unsigned long long)SEED,
               graph->outputs[i].name, why);
  }
  for (int d = 1; d < DEVICES; d++) {
    run_native(graph, devices[d], got);
    for (int i = 0; i < OUTPUTS; i++) {
      if (!compare_equal(&got[i], &first[i], why, sizeof why))
        fail_msg("mask [%s], dropout %g, %d threads against %d: %s: %s", mask_shape, p, thread_counts[d],
                 thread_counts[0], graph->outputs[i].name, why);
    }
    release(got, OUTPUTS);
  }
  release(first, OUTPUTS);
  release(expected, OUTPUTS);
  hfb_graph_destroy(graph);
}

static void test_added_mask(void **state) {
  const char *scores = "%scores = add(%product, %mask) : f32[2,3,150,300]\n";
  for (int dropout = 0; dropout < 2; dropout++) {
    check(scores, "2,1,1,300", 0.1 * dropout);
    check(scores, "2,1,150,300", 0.1 * dropout);
  }
}

/* As GPT-2 does it: later keys are replaced by the lowest float, then the padding is added. */
static void test_causal_with_padding(void **state) {
  const char *scores =
      "%column = iota(axis=1) : i64[150,300]\n"
      "%row = iota(axis=0) : i64[150,300]\n"
      "%past = le(%column, %row) : bool[150,300]\n"
      "%lowest = full(value=-3.4028234663852886e+38) : f32[]\n"
      "%causal = where(%past, %product, %lowest) : f32[2,3,150,300]\n"
      "%scores = add(%causal, %mask) : f32[2,3,150,300]\n";
  for (int dropout = 0; dropout < 2; dropout++) {
    check(scores, "2,1,1,300", 0.1 * dropout);
    check(scores, "2,1,150,300", 0.1 * dropout);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_added_mask),
      cmocka_unit_test(test_causal_with_padding),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
