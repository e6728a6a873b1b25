/* The ops that compilers match, in float64, against the plain ops that they stand for: attention with and without
 * dropout and its gradients, also where a mask hides whole rows; the loss of a linear layer and its gradients. In each
 * graph the outputs come in pairs. */
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "support/compare.h"
#include "support/device_fixture.h"
#include "support/graph_run.h"

static const uint64_t SEED = 5;

enum { MAX_INPUTS = 8, MAX_OUTPUTS = 12 };

/* Rows of the mask [..,keys]: visible, or hidden as a whole by a finite value. */
static double mask_value(int64_t row) {
  static const double values[] = {0, -(double)FLT_MAX, 0, -1e300, -2000};
  return values[row % 5];
}

/* Normal floats; the mask; integers in [-1, 7): classes, -1 is the one that is ignored; or any random state. */
static hfb_tensor fill(const hfb_value *value) {
  hfb_tensor tensor;
  const char *name = hfb_node_text(value->node, HFB_ATTR_NAME, "");
  hfb_philox stream = hfb_philox_named(SEED, name);
  assert_int_equal(hfb_tensor_create(device, value->dtype, &value->shape, &tensor), HFB_OK);
  for (int64_t i = 0; i < hfb_shape_elements(&value->shape); i++) {
    if (strcmp(name, "mask") == 0) ((double *)tensor.data)[i] = mask_value(i / value->shape.dim[1]);
    else if (value->dtype == HFB_F64) ((double *)tensor.data)[i] = hfb_philox_normal(stream, (uint64_t)i);
    else ((int64_t *)tensor.data)[i] = hfb_philox_below(stream, (uint64_t)i, 8) - 1;
  }
  return tensor;
}

static void check_pairs(const char *text) {
  hfb_graph *graph;
  hfb_tensor inputs[MAX_INPUTS], outputs[MAX_OUTPUTS];
  char why[256];
  if (hfb_graph_parse(text, strlen(text), &graph) != HFB_OK) fail_msg("%s\nin\n%s", hfb_error_message(), text);
  assert_true(graph->input_count <= MAX_INPUTS && graph->output_count <= MAX_OUTPUTS && graph->output_count % 2 == 0);
  for (int i = 0; i < graph->input_count; i++) inputs[i] = fill(graph->inputs[i]);
  if (graph_run(graph, device, HFB_ISA_GENERIC, true, inputs, NULL, outputs) != HFB_OK) {
    fail_msg("%s", hfb_error_message());
  }
  for (int i = 0; i < graph->output_count; i += 2) {
    if (!compare_close(&outputs[i], &outputs[i + 1], 1e-14, 1, why, sizeof(why))) {
      fail_msg("%s of %s (seed %llu): %s", graph->outputs[i].name, graph->name, (unsigned long long)SEED, why);
    }
  }
  for (int i = 0; i < graph->output_count; i++) hfb_tensor_release(&outputs[i]);
  for (int i = 0; i < graph->input_count; i++) hfb_tensor_release(&inputs[i]);
  hfb_graph_destroy(graph);
}

/* `state` stands for the state among the inputs of matched ops: nothing when p is 0. */
static void check_attention(double p, const char *state) {
  char text[4096];
  snprintf(text, sizeof(text),
           "graph \"attention\" {\n"
           "%%visible = input(name=\"scores\") : f64[2,3,9,11]\n"
           "%%mask = input(name=\"mask\") : f64[9,11]\n"
           "%%q = input(name=\"q\") : f64[2,3,9,4]\n"
           "%%k = input(name=\"k\") : f64[2,3,11,4]\n"
           "%%v = input(name=\"v\") : f64[2,3,11,5]\n"
           "%%g = input(name=\"g\") : f64[2,3,9,5]\n"
           "%%state = input(name=\"state\") : i64[2]\n"
           "%%scores = add(%%visible, %%mask) : f64[2,3,9,11]\n"
           "%%weights = softmax(%%scores; axis=3) : f64[2,3,9,11]\n"
           "%%dropped = dropout(%%weights, %%state; p=%g, site=3) : f64[2,3,9,11]\n"
           "%%o = matmul(%%dropped, %%v; transpose_a=0, transpose_b=0) : f64[2,3,9,5]\n"
           "%%gd = matmul(%%g, %%v; transpose_a=0, transpose_b=1) : f64[2,3,9,11]\n"
           "%%gw = dropout(%%gd, %%state; p=%g, site=3) : f64[2,3,9,11]\n"
           "%%d = softmax_backward(%%gw, %%weights; axis=3) : f64[2,3,9,11]\n"
           "%%dq = matmul(%%d, %%k; transpose_a=0, transpose_b=0) : f64[2,3,9,4]\n"
           "%%dk = matmul(%%d, %%q; transpose_a=1, transpose_b=0) : f64[2,3,11,4]\n"
           "%%dv = matmul(%%dropped, %%g; transpose_a=1, transpose_b=0) : f64[2,3,11,5]\n"
           "%%mo, %%lse = attention(%%scores, %%v%s; p=%g, site=3) : f64[2,3,9,5], f64[2,3,9]\n"
           "%%go = mul(%%g, %%mo) : f64[2,3,9,5]\n"
           "%%delta = reduce_sum(%%go; axes=[3], keepdim=0) : f64[2,3,9]\n"
           "%%md = attention_scores_backward(%%scores, %%lse, %%delta, %%g, %%v%s; p=%g, site=3) : f64[2,3,9,11]\n"
           "%%mq, %%mk, %%mv = attention_backward(%%md, %%scores, %%lse, %%q, %%k, %%g%s; p=%g, site=3) : "
           "f64[2,3,9,4], f64[2,3,11,4], f64[2,3,11,5]\n"
           "output \"o\" = %%mo output \"plain o\" = %%o output \"d\" = %%md output \"plain d\" = %%d\n"
           "output \"dq\" = %%mq output \"plain dq\" = %%dq output \"dk\" = %%mk output \"plain dk\" = %%dk\n"
           "output \"dv\" = %%mv output \"plain dv\" = %%dv\n}\n",
           p, p, state, p, state, p, state, p);
  check_pairs(text);
}

static void test_attention(void **state) {
  (void)state;
  check_attention(0, "");
}

static void test_attention_with_dropout(void **state) {
  (void)state;
  check_attention(0.125, ", %state");
  check_attention(0.75, ", %state");
}

/* bias: "" or ", %b" */
static void check_loss(const char *bias) {
  char text[2048];
  snprintf(text, sizeof(text),
           "graph \"loss\" {\n"
           "%%x = input(name=\"x\") : f64[20,5]\n"
           "%%w = input(name=\"w\") : f64[7,5]\n"
           "%%b = input(name=\"b\") : f64[7]\n"
           "%%t = input(name=\"t\") : i64[20]\n"
           "%%g = input(name=\"g\") : f64[]\n"
           "%%logits = linear(%%x, %%w%s; transpose_b=1) : f64[20,7]\n"
           "%%y = log_softmax(%%logits; axis=1) : f64[20,7]\n"
           "%%loss = nll_loss(%%y, %%t; ignore_index=-1) : f64[]\n"
           "%%dy = nll_loss_backward(%%g, %%t; ignore_index=-1) : f64[20,7]\n"
           "%%d = log_softmax_backward(%%dy, %%y; axis=1) : f64[20,7]\n"
           "%%dx = matmul(%%d, %%w; transpose_a=0, transpose_b=0) : f64[20,5]\n"
           "%%dw = matmul(%%d, %%x; transpose_a=1, transpose_b=0) : f64[7,5]\n"
           "%%db = reduce_sum(%%d; axes=[0], keepdim=0) : f64[7]\n"
           "%%ml, %%mx, %%mw, %%mb = linear_cross_entropy(%%x, %%w, %%t, %%g%s; ignore_index=-1) : f64[], f64[20,5], "
           "f64[7,5], f64[7]\n"
           "output \"loss\" = %%ml output \"plain loss\" = %%loss output \"dx\" = %%mx output \"plain dx\" = %%dx\n"
           "output \"dw\" = %%mw output \"plain dw\" = %%dw output \"db\" = %%mb output \"plain db\" = %%db\n}\n",
           bias, bias);
  check_pairs(text);
}

static void test_linear_cross_entropy(void **state) {
  (void)state;
  check_loss("");
  check_loss(", %b");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_attention),
      cmocka_unit_test(test_attention_with_dropout),
      cmocka_unit_test(test_linear_cross_entropy),
  };
  return cmocka_run_group_tests(tests, set_up_threads, tear_down);
}
