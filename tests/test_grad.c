/* The backward pass as a whole: sums of several uses, what has no gradient, scopes, checkpointing, errors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "grad/backward.h"
#include "grad/training.h"
#include "support/compare.h"
#include "support/device_fixture.h"
#include "support/grad_check.h"
#include "support/grad_models.h"

static const int64_t SEED = 5;

/* ---- small graphs ---- */

static const hfb_init plain = {.kind = HFB_INIT_NORMAL, .b = 1, .padding_idx = -1};

static hfb_value *vector(hfb_builder *b, const char *name) {
  return hfb_parameter_named(b, name, HFB_F64, hfb_shape_of(1, (int64_t[]){4}), plain);
}

static hfb_value *sum(hfb_builder *b, hfb_value *x) {
  return hfb_reduce(b, HFB_OP_REDUCE_SUM, x, 1, (int[]){0}, false);
}

static void begin(hfb_builder *b) { need_ok(hfb_builder_init(b, "test"), "builder"); }

/* L = sum(exp(w) v) + sum(w w): w is used three times, once as both inputs of one node. */
static void test_uses_of_one_value_add_up(void **state) {
  (void)state;
  hfb_builder b;
  hfb_graph *graph;
  grad_run run;
  hfb_value *gradients[2];
  begin(&b);
  hfb_value *w = vector(&b, "w"), *v = vector(&b, "v"), *e = hfb_unary(&b, HFB_OP_EXP, w);
  hfb_value *first = sum(&b, hfb_mul(&b, e, v)), *second = sum(&b, hfb_mul(&b, w, w));
  hfb_value *loss = hfb_add(&b, first, second);
  hfb_backward(&b, loss, 2, (hfb_value *[]){w, v}, NULL, gradients);
  hfb_output_add(&b, "dw", gradients[0]);
  hfb_output_add(&b, "dv", gradients[1]);
  hfb_output_add(&b, "e", e);
  need_ok(hfb_builder_finish(&b, &graph), "graph");
  need_ok(grad_run_open(graph, device, true, SEED, 1, &run), "run");
  need_ok(grad_run_step(&run), "run");
  for (int i = 0; i < 4; i++) {
    double at_w = hfb_tensor_get(&run.parameters[0], i), at_v = hfb_tensor_get(&run.parameters[1], i);
    double slope = hfb_tensor_get(&run.outputs[2], i);
    assert_true(fabs(hfb_tensor_get(&run.outputs[0], i) - (slope * at_v + 2 * at_w)) < 1e-14);
    assert_true(hfb_tensor_get(&run.outputs[1], i) == slope);
  }
  grad_run_close(&run);
  hfb_graph_destroy(graph);
}

static void test_values_without_a_path_have_none(void **state) {
  (void)state;
  hfb_builder b;
  begin(&b);
  hfb_value *w = vector(&b, "w"), *idle = vector(&b, "idle"), *late;
  hfb_value *side = hfb_unary(&b, HFB_OP_EXP, idle), *middle = hfb_mul_scalar(&b, w, 3), *loss = sum(&b, middle);
  late = hfb_unary(&b, HFB_OP_NEG, w); /* behind the loss */
  hfb_value *values[] = {idle, side, middle, w, loss, late}, *gradients[6];
  hfb_backward(&b, loss, 6, values, NULL, gradients);
  assert_int_equal(b.status, HFB_OK);
  assert_null(gradients[0]);
  assert_null(gradients[1]);
  assert_non_null(gradients[2]);
  assert_non_null(gradients[3]);
  assert_int_equal(gradients[4]->shape.rank, 0);
  assert_null(gradients[5]);
  hfb_builder_deinit(&b);
}

static void test_nothing_is_built_when_nothing_depends(void **state) {
  (void)state;
  hfb_builder b;
  begin(&b);
  hfb_value *w = vector(&b, "w"), *idle = vector(&b, "idle"), *gradient;
  hfb_value *loss = sum(&b, w);
  int before = b.graph->node_count;
  hfb_backward(&b, loss, 1, &idle, NULL, &gradient);
  assert_null(gradient);
  assert_int_equal(b.graph->node_count, before);
  hfb_builder_deinit(&b);
}

static void test_backward_nodes_carry_the_scope_of_their_node(void **state) {
  (void)state;
  hfb_builder b;
  begin(&b);
  hfb_scope_push(&b, "model");
  hfb_value *w = vector(&b, "w"), *gradient;
  hfb_scope_push(&b, "inner");
  hfb_value *y = hfb_unary(&b, HFB_OP_GELU, w);
  hfb_scope_pop(&b);
  hfb_value *loss = sum(&b, y);
  hfb_backward(&b, loss, 1, &w, NULL, &gradient);
  assert_int_equal(b.status, HFB_OK);
  assert_string_equal(hfb_node_text(gradient->node, HFB_ATTR_SCOPE, ""), "model.inner");
  assert_string_equal(hfb_node_text(gradient->node->inputs[0]->node, HFB_ATTR_SCOPE, ""), "model");
  assert_string_equal(b.scope, "model");
  hfb_scope_pop(&b);
  hfb_builder_deinit(&b);
}

/* ---- errors ---- */

static void expect_failure(hfb_builder *b, hfb_status status, const char *part) {
  hfb_graph *graph = NULL;
  assert_int_equal(b->status, status);
  if (!strstr(b->message, part)) fail_msg("the message is \"%s\", without \"%s\"", b->message, part);
  assert_int_equal(hfb_builder_finish(b, &graph), status);
  hfb_builder_deinit(b);
}

static void test_errors_say_what_is_wrong(void **state) {
  (void)state;
  hfb_builder b;
  hfb_value *w, *gradient, *ids;
  begin(&b);
  w = vector(&b, "w");
  hfb_backward(&b, w, 1, &w, NULL, &gradient);
  assert_null(gradient);
  expect_failure(&b, HFB_INVALID_ARGUMENT, "the loss is f64[4]");

  begin(&b);
  w = vector(&b, "w");
  hfb_backward(&b, sum(&b, hfb_cast(&b, w, HFB_I64)), 1, &w, NULL, &gradient);
  expect_failure(&b, HFB_INVALID_ARGUMENT, "the loss is i64[]");

  begin(&b);
  ids = hfb_input(&b, "ids", HFB_I64, hfb_shape_of(1, (int64_t[]){4}));
  hfb_backward(&b, sum(&b, vector(&b, "w")), 1, &ids, NULL, &gradient);
  expect_failure(&b, HFB_INVALID_ARGUMENT, "value 0 has no gradient: it is i64");

  begin(&b);
  w = vector(&b, "w");
  hfb_scope_push(&b, "odd");
  hfb_value *odd = hfb_binary(&b, HFB_OP_GELU_BACKWARD, w, w);
  hfb_scope_pop(&b);
  hfb_backward(&b, sum(&b, odd), 1, &w, NULL, &gradient);
  expect_failure(&b, HFB_UNSUPPORTED, "odd: gelu_backward cannot be differentiated");
}

/* An op without a rule is in nobody's way when no gradient goes through it. */
static void test_ops_without_a_rule_may_stand_aside(void **state) {
  (void)state;
  hfb_builder b;
  begin(&b);
  hfb_value *w = vector(&b, "w"), *v = vector(&b, "v"), *gradient;
  hfb_value *aside = hfb_binary(&b, HFB_OP_GELU_BACKWARD, v, v);
  hfb_backward(&b, sum(&b, hfb_mul(&b, w, aside)), 1, &w, NULL, &gradient);
  assert_int_equal(b.status, HFB_OK);
  assert_ptr_equal(gradient->node->inputs[1], aside);
  hfb_builder_deinit(&b);
}

/* ---- checkpointing ---- */

static hfb_graph *training_graph(const hfb_graph *forward, bool checkpoint_layers) {
  const hfb_training_options options = {.checkpoint_layers = checkpoint_layers, .output_gradients = true};
  hfb_graph *graph;
  need_ok(hfb_training_graph(forward, &options, &graph), forward->name);
  return graph;
}

static int count_recomputed(const hfb_graph *graph) {
  int count = 0;
  for (int i = 0; i < graph->node_count; i++) count += hfb_node_attr(graph->nodes[i], HFB_ATTR_REGION) != NULL;
  return count;
}

/* Dropout is on, so equal bits mean equal masks too. */
static void check_equal_bits(const hfb_graph *kept, const hfb_graph *recomputed, int64_t *out_kept_bytes,
                             int64_t *out_recomputed_bytes) {
  grad_run a, b;
  char text[256];
  need_ok(grad_run_open(kept, device, false, SEED, 61, &a), kept->name);
  need_ok(grad_run_open(recomputed, device, false, SEED, 61, &b), kept->name);
  need_ok(grad_run_step(&a), kept->name);
  need_ok(grad_run_step(&b), kept->name);
  assert_int_equal(kept->output_count, recomputed->output_count);
  for (int i = 0; i < kept->output_count; i++) {
    assert_string_equal(kept->outputs[i].name, recomputed->outputs[i].name);
    if (!compare_equal(&a.outputs[i], &b.outputs[i], text, sizeof(text))) {
      fail_msg("%s, %s: %s", kept->name, kept->outputs[i].name, text);
    }
  }
  *out_kept_bytes = a.stats.planned_peak_bytes;
  *out_recomputed_bytes = b.stats.planned_peak_bytes;
  grad_run_close(&a);
  grad_run_close(&b);
}

static void test_checkpointing_gives_the_same_bits(void **state) {
  (void)state;
  for (int i = 0; i < grad_model_count; i++) {
    hfb_graph *forward;
    int64_t kept_bytes, recomputed_bytes;
    need_ok(grad_model_build(&grad_models[i], &forward), grad_models[i].class_name);
    assert_true(hfb_graph_find_parameter(forward, HFB_RANDOM_STATE) >= 0);
    hfb_graph *kept = training_graph(forward, false), *recomputed = training_graph(forward, true);
    assert_int_equal(count_recomputed(kept), 0);
    assert_true(count_recomputed(recomputed) > 0);
    assert_null(grad_dead_node(recomputed, 0));
    check_equal_bits(kept, recomputed, &kept_bytes, &recomputed_bytes);
    print_message("%s: %d nodes keep %lld KiB, %d nodes %lld KiB\n", grad_models[i].class_name, kept->node_count,
                  (long long)kept_bytes / 1024, recomputed->node_count, (long long)recomputed_bytes / 1024);
    bool shares_scopes = strcmp(grad_models[i].model_type, "albert") == 0; /* all its layers are one */
    if (!shares_scopes) assert_true(recomputed_bytes < kept_bytes * 3 / 4);
    hfb_graph_destroy(kept);
    hfb_graph_destroy(recomputed);
    hfb_graph_destroy(forward);
  }
}

/* h = gelu(x w) in layer 0 and again in layer 1 of h: the copies have a region each, their inputs from outside are the
 * kept values, parameters are not copied. */
static void test_copies_stand_in_regions_of_their_own(void **state) {
  (void)state;
  static const hfb_backward_options options = {.checkpoint_layers = true};
  hfb_builder b;
  hfb_value *h, *weights[2], *gradients[2], *boundary[2];
  begin(&b);
  h = hfb_input(&b, "x", HFB_F64, hfb_shape_of(1, (int64_t[]){4}));
  for (int i = 0; i < 2; i++) {
    boundary[i] = h;
    hfb_scope_push(&b, "layer.%d.inner.7", i);
    weights[i] = hfb_parameter(&b, "w", hfb_shape_of(1, (int64_t[]){4}), plain);
    h = hfb_unary(&b, HFB_OP_GELU, hfb_mul(&b, h, hfb_cast(&b, weights[i], HFB_F64)));
    hfb_scope_pop(&b);
  }
  int forward_nodes = b.graph->node_count + 1;
  hfb_backward(&b, sum(&b, h), 2, weights, &options, gradients);
  assert_int_equal(b.status, HFB_OK);
  int copies[3] = {0};
  for (int i = forward_nodes; i < b.graph->node_count; i++) {
    const hfb_node *node = b.graph->nodes[i];
    const hfb_attr *region = hfb_node_attr(node, HFB_ATTR_REGION);
    assert_int_not_equal(node->op, HFB_OP_PARAMETER);
    if (!region) continue;
    assert_in_range(region->u.i, 1, 2);
    copies[region->u.i]++;
    if (node->op == HFB_OP_MUL) assert_ptr_equal(node->inputs[0], boundary[region->u.i - 1]);
  }
  assert_int_equal(copies[1], 3);
  assert_int_equal(copies[2], 3);
  hfb_builder_deinit(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_uses_of_one_value_add_up),
      cmocka_unit_test(test_values_without_a_path_have_none),
      cmocka_unit_test(test_nothing_is_built_when_nothing_depends),
      cmocka_unit_test(test_backward_nodes_carry_the_scope_of_their_node),
      cmocka_unit_test(test_errors_say_what_is_wrong),
      cmocka_unit_test(test_ops_without_a_rule_may_stand_aside),
      cmocka_unit_test(test_checkpointing_gives_the_same_bits),
      cmocka_unit_test(test_copies_stand_in_regions_of_their_own),
  };
  return cmocka_run_group_tests(tests, set_up_one_thread, tear_down);
}
