/* The training graph: what it holds, what a step leaves behind, and the gradients of whole models. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "grad/training.h"
#include "ir/transform.h"
#include "support/compare.h"
#include "support/device_fixture.h"
#include "support/golden.h"
#include "support/grad_check.h"
#include "support/grad_models.h"

static const int64_t SEED = 9;
enum { VOCABULARY = 61 };

static hfb_graph *build_model(const char *model_type) {
  hfb_graph *graph = NULL;
  for (int i = 0; i < grad_model_count; i++) {
    if (strcmp(grad_models[i].model_type, model_type) == 0) need_ok(grad_model_build(&grad_models[i], &graph), "model");
  }
  assert_non_null(graph);
  return graph;
}

static hfb_graph *train(const hfb_graph *forward, hfb_training_options options) {
  hfb_graph *graph;
  need_ok(hfb_training_graph(forward, &options, &graph), forward->name);
  return graph;
}

static const char *name_of(const hfb_value *parameter) { return hfb_node_text(parameter->node, HFB_ATTR_NAME, ""); }

static const hfb_value *updated_value(const hfb_graph *graph, const char *parameter) {
  for (int i = 0; i < graph->update_count; i++) {
    if (strcmp(name_of(graph->updates[i].parameter), parameter) == 0) return graph->updates[i].value;
  }
  return NULL;
}

static int count_gradients(const hfb_graph *graph) {
  int count = 0;
  for (int i = 0; i < graph->output_count; i++) count += strncmp(graph->outputs[i].name, "grad/", 5) == 0;
  return count;
}

/* ---- what the graph holds ---- */

/* Inputs, then parameters in their order, then the optimizer's state. */
static void check_sources(const hfb_graph *forward, const hfb_graph *graph) {
  assert_int_equal(graph->input_count, forward->input_count);
  for (int i = 0; i < forward->input_count; i++) {
    assert_string_equal(name_of(graph->inputs[i]), name_of(forward->inputs[i]));
  }
  for (int i = 0; i < graph->parameter_count; i++) {
    const char *name = name_of(graph->parameters[i]);
    if (i < forward->parameter_count) assert_string_equal(name, name_of(forward->parameters[i]));
    if (i < forward->parameter_count) continue;
    assert_int_equal(strncmp(name, "optimizer/", 10), 0);
    assert_true(hfb_node_int(graph->parameters[i]->node, HFB_ATTR_BUFFER) != 0);
    assert_false(hfb_node_int(graph->parameters[i]->node, HFB_ATTR_TRAINABLE) != 0);
    assert_non_null(updated_value(graph, name));
  }
}

static void check_graph(const hfb_graph *forward, hfb_training_options options) {
  hfb_graph *graph = train(forward, options);
  check_sources(forward, graph);
  const hfb_node *dead = grad_dead_node(graph, 0);
  if (dead) fail_msg("%s: nothing needs %s", forward->name, hfb_op_info_of(dead->op)->name);
  bool gives_gradients = options.output_gradients || options.optimizer == HFB_OPTIMIZER_NONE;
  assert_string_equal(graph->outputs[0].name, "loss");
  assert_int_equal(count_gradients(graph) > 0, gives_gradients);
  int others = graph->output_count - 1 - count_gradients(graph);
  assert_int_equal(others, options.keep_outputs ? forward->output_count - 1 : 0);
  assert_non_null(updated_value(graph, HFB_RANDOM_STATE));
  if (options.optimizer == HFB_OPTIMIZER_NONE) assert_int_equal(graph->update_count, 1);
  bool in_optimizer = false;
  for (int i = 0; i < graph->node_count; i++) {
    hfb_op op = graph->nodes[i]->op;
    in_optimizer |= op == HFB_OP_SGD || op == HFB_OP_ADAM;
    if (in_optimizer) assert_false(hfb_op_info_of(op)->op_class == HFB_CLASS_CONTRACT);
  }
  assert_int_equal(in_optimizer, options.optimizer != HFB_OPTIMIZER_NONE);
  hfb_graph_destroy(graph);
}

static void test_graphs_hold_what_was_asked_for(void **state) {
  (void)state;
  for (int m = 0; m < grad_model_count; m++) {
    hfb_graph *forward;
    need_ok(grad_model_build(&grad_models[m], &forward), grad_models[m].class_name);
    for (int i = 0; i < HFB_OPTIMIZER_COUNT * 8; i++) {
      check_graph(forward, (hfb_training_options){.optimizer = (hfb_optimizer)(i / 8),
                                                  .checkpoint_layers = i & 1,
                                                  .output_gradients = i & 2,
                                                  .keep_outputs = i & 4});
    }
    hfb_graph_destroy(forward);
  }
}

static bool has_op(const hfb_graph *graph, hfb_op op) {
  bool found = false;
  for (int i = 0; i < graph->node_count; i++) found |= graph->nodes[i]->op == op;
  return found;
}

static void test_outputs_that_are_not_kept_cost_nothing(void **state) {
  (void)state;
  const hfb_init trained = {.padding_idx = -1};
  hfb_builder b;
  hfb_graph *forward;
  need_ok(hfb_builder_init(&b, "two outputs"), "builder");
  hfb_value *x = hfb_parameter(&b, "w", hfb_shape_of(1, (int64_t[]){4}), trained);
  hfb_output_add(&b, "loss", hfb_reduce(&b, HFB_OP_REDUCE_SUM, x, 1, (int[]){0}, false));
  hfb_output_add(&b, "other", hfb_unary(&b, HFB_OP_COS, x));
  need_ok(hfb_builder_finish(&b, &forward), "forward");
  hfb_graph *kept = train(forward, (hfb_training_options){.optimizer = HFB_OPTIMIZER_SGD, .keep_outputs = true});
  hfb_graph *dropped = train(forward, (hfb_training_options){.optimizer = HFB_OPTIMIZER_SGD});
  assert_true(has_op(kept, HFB_OP_COS));
  assert_string_equal(kept->outputs[1].name, "other");
  assert_false(has_op(dropped, HFB_OP_COS));
  hfb_graph_destroy(kept);
  hfb_graph_destroy(dropped);
  hfb_graph_destroy(forward);
}

static void test_frozen_and_idle_parameters_have_no_gradient(void **state) {
  (void)state;
  const hfb_init trained = {.padding_idx = -1}, frozen = {.padding_idx = -1, .frozen = true},
                 buffer = {.padding_idx = -1, .buffer = true};
  hfb_shape four = hfb_shape_of(1, (int64_t[]){4});
  hfb_builder b;
  hfb_graph *forward;
  need_ok(hfb_builder_init(&b, "kinds"), "builder");
  hfb_value *x = hfb_parameter(&b, "trained", four, trained);
  hfb_parameter(&b, "idle", four, trained);
  x = hfb_mul(&b, x, hfb_parameter(&b, "frozen", four, frozen));
  x = hfb_mul(&b, x, hfb_parameter(&b, "buffer", four, buffer));
  hfb_output_add(&b, "loss", hfb_reduce(&b, HFB_OP_REDUCE_SUM, x, 1, (int[]){0}, false));
  need_ok(hfb_builder_finish(&b, &forward), "forward");
  hfb_graph *graph = train(forward, (hfb_training_options){.optimizer = HFB_OPTIMIZER_SGD, .output_gradients = true});
  assert_int_equal(graph->output_count, 2);
  assert_string_equal(graph->outputs[1].name, "grad/trained");
  assert_int_equal(graph->update_count, 1);
  assert_non_null(updated_value(graph, "trained"));
  assert_int_equal(graph->parameter_count, 4);
  hfb_graph_destroy(graph);
  hfb_graph_destroy(forward);
}

/* ---- what a step leaves behind ---- */

/* torch.optim's formulas, written out for one element. */
typedef struct element {
  double parameter, mean, square;
} element;

static void step_by_formula(hfb_optimizer optimizer, element *e, double gradient, int step) {
  if (optimizer == HFB_OPTIMIZER_SGD) e->parameter -= 0.01 * gradient;
  if (optimizer != HFB_OPTIMIZER_ADAM) return;
  e->mean = 0.9 * e->mean + 0.1 * gradient;
  e->square = 0.999 * e->square + 0.001 * gradient * gradient;
  double mean = e->mean / (1 - pow(0.9, step)), square = e->square / (1 - pow(0.999, step));
  e->parameter -= 0.01 * mean / (sqrt(square) + 1e-8);
}

static void check_random_state(const grad_run *run, int step) {
  const hfb_tensor *random = grad_run_parameter(run, HFB_RANDOM_STATE);
  assert_non_null(random);
  assert_true(hfb_tensor_get(random, 0) == SEED);
  assert_true(hfb_tensor_get(random, 1) == step);
}

/* Element k of parameter i after the step must be what the formula makes of it. Returns how many were compared. */
static int check_parameter(const grad_run *run, hfb_optimizer optimizer, int step, int i, element *elements) {
  char name[256];
  snprintf(name, sizeof(name), "grad/%s", name_of(run->graph->parameters[i]));
  const hfb_tensor *gradient = grad_run_output(run, name);
  int64_t count = gradient ? hfb_shape_elements(&gradient->shape) : 0;
  for (int64_t k = 0; k < count; k++) {
    step_by_formula(optimizer, &elements[k], hfb_tensor_get(gradient, k), step);
    double got = hfb_tensor_get(&run->parameters[i], k), expected = elements[k].parameter;
    if (fabs(got - expected) <= 1e-9) continue; /* a NaN is not near anything */
    fail_msg("%s, step %d, element %d: %.17g instead of %.17g", name, step, (int)k, got, expected);
  }
  return (int)count;
}

/* Three steps in f64: every element of every parameter follows the formula for the gradients that the steps gave. */
static void check_steps(hfb_optimizer optimizer) {
  enum { STEPS = 3 };
  hfb_graph *forward = build_model("bert"), *wide;
  hfb_graph *graph = train(forward, (hfb_training_options){.optimizer = optimizer, .output_gradients = true});
  grad_run run;
  need_ok(hfb_graph_convert(graph, HFB_F64, &wide), "f64");
  need_ok(grad_run_open(wide, device, true, SEED, VOCABULARY, &run), "run");
  int compared = 0;
  element **elements = calloc((size_t)wide->parameter_count, sizeof(*elements));
  for (int i = 0; i < wide->parameter_count; i++) {
    int64_t count = hfb_shape_elements(&run.parameters[i].shape);
    elements[i] = calloc((size_t)count, sizeof(element));
    for (int64_t k = 0; k < count; k++) elements[i][k].parameter = hfb_tensor_get(&run.parameters[i], k);
  }
  for (int step = 1; step <= STEPS; step++) {
    need_ok(grad_run_step(&run), "step");
    check_random_state(&run, step);
    for (int i = 0; i < wide->parameter_count; i++) compared += check_parameter(&run, optimizer, step, i, elements[i]);
  }
  assert_true(compared > 1000);
  const hfb_tensor *steps_done = grad_run_parameter(&run, "optimizer/step");
  assert_int_equal(steps_done != NULL, optimizer == HFB_OPTIMIZER_ADAM);
  if (steps_done) assert_true(hfb_tensor_get(steps_done, 0) == STEPS);
  for (int i = 0; i < wide->parameter_count; i++) free(elements[i]);
  free(elements);
  grad_run_close(&run);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(graph);
  hfb_graph_destroy(forward);
}

static void test_steps_follow_the_formulas(void **state) {
  (void)state;
  for (int i = 0; i < HFB_OPTIMIZER_COUNT; i++) check_steps((hfb_optimizer)i);
}

/* The masks are functions of seed and step: one seed gives the same losses, another does not. */
static void test_training_repeats(void **state) {
  (void)state;
  hfb_graph *forward = build_model("bert");
  hfb_graph *graph = train(forward, (hfb_training_options){.optimizer = HFB_OPTIMIZER_ADAM});
  double losses[3][4];
  for (int i = 0; i < 3; i++) {
    grad_run run;
    need_ok(grad_run_open(graph, device, false, i < 2 ? SEED : SEED + 1, VOCABULARY, &run), "run");
    for (int step = 0; step < 4; step++) {
      need_ok(grad_run_step(&run), "step");
      losses[i][step] = hfb_tensor_get(&run.outputs[0], 0);
    }
    grad_run_close(&run);
  }
  assert_memory_equal(losses[0], losses[1], sizeof(losses[0]));
  assert_true(losses[0][0] != losses[2][0]);
  assert_true(losses[0][3] < losses[0][0]);
  hfb_graph_destroy(graph);
  hfb_graph_destroy(forward);
}

/* ---- whole models ---- */

/* Loss and all gradients of transformers, computed there in f64 and stored in f32. */
static void test_gradients_are_those_of_transformers(void **state) {
  (void)state;
  static const char *const cases[] = {"BertForMaskedLM", "T5Small", "DistillGPT2", "AlbertForPreTraining",
                                      "GoogleFnet"};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    char folder[512];
    hfb_verify_result result;
    hfb_verify_options options = golden_options("eager", HFB_F64, "");
    options.training = true;
    options.gradient_tolerance = 1e-6;
    snprintf(folder, sizeof(folder), "%s/golden/%s", HFB_TEST_DATA, cases[i]);
    hfb_verify_case(&options, folder, &result);
    const char *worst = result.worst >= 0 ? result.tensors[result.worst].name : "nothing";
    if (result.verdict != HFB_VERDICT_PASS) fail_msg("%s: %s (%s)", cases[i], worst, result.reason);
    assert_true(result.gradient_count > 20);
    hfb_verify_result_deinit(&result);
  }
}

/* ---- errors ---- */

static void expect_failure(const hfb_graph *forward, hfb_optimizer optimizer, const char *part) {
  hfb_graph *graph = NULL;
  assert_int_equal(hfb_training_graph(forward, &(hfb_training_options){.optimizer = optimizer}, &graph),
                   HFB_INVALID_ARGUMENT);
  assert_null(graph);
  if (!strstr(hfb_error_message(), part)) fail_msg("the message is \"%s\", without \"%s\"", hfb_error_message(), part);
}

static void test_errors_say_what_is_wrong(void **state) {
  (void)state;
  const char *const texts[] = {
      "graph \"empty\" {\n}\n",
      "graph \"logits\" {\n  %0 = input(name=\"x\") : f32[2]\n  output \"logits\" = %0\n}\n",
      "graph \"count\" {\n  %0 = input(name=\"n\") : i64[]\n  output \"n\" = %0\n}\n",
      "graph \"idle\" {\n  %0 = input(name=\"x\") : f32[]\n  output \"loss\" = %0\n}\n",
  };
  const char *const parts[] = {"empty has no outputs", "its first output \"logits\" is f32[2]",
                               "its first output \"n\" is i64[]",
                               "optimizer sgd has nothing to do: the loss depends on none of 0 trainable parameters"};
  for (int i = 0; i < 4; i++) {
    hfb_graph *forward;
    need_ok(hfb_graph_parse(texts[i], strlen(texts[i]), &forward), texts[i]);
    expect_failure(forward, HFB_OPTIMIZER_SGD, parts[i]);
    hfb_graph_destroy(forward);
  }
}

static void test_optimizers_have_names(void **state) {
  (void)state;
  hfb_optimizer optimizer;
  for (int i = 0; i < HFB_OPTIMIZER_COUNT; i++) {
    assert_true(hfb_optimizer_parse(hfb_optimizer_name((hfb_optimizer)i), &optimizer));
    assert_int_equal(optimizer, i);
  }
  assert_false(hfb_optimizer_parse("adamw", &optimizer));
}

/* Every allocation fails once: an error each time, and nothing leaks (which sanitizers see). */
static void test_out_of_memory_is_reported(void **state) {
  (void)state;
  hfb_graph *forward = build_model("gpt2"), *graph = NULL;
  const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_ADAM, .checkpoint_layers = true};
  hfb_mem_fail_at(0, 0);
  need_ok(hfb_training_graph(forward, &options, &graph), "training");
  int64_t allocations = hfb_mem_fail_at(0, 0);
  hfb_graph_destroy(graph);
  assert_true(allocations > 10);
  for (int64_t n = 1; n <= allocations; n += 1 + allocations / 200) {
    hfb_mem_fail_at(n, 0);
    hfb_status status = hfb_training_graph(forward, &options, &graph);
    hfb_mem_fail_at(0, 0);
    assert_int_equal(status, HFB_OUT_OF_MEMORY);
  }
  hfb_graph_destroy(forward);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_graphs_hold_what_was_asked_for),
      cmocka_unit_test(test_outputs_that_are_not_kept_cost_nothing),
      cmocka_unit_test(test_frozen_and_idle_parameters_have_no_gradient),
      cmocka_unit_test(test_steps_follow_the_formulas),
      cmocka_unit_test(test_training_repeats),
      cmocka_unit_test(test_gradients_are_those_of_transformers),
      cmocka_unit_test(test_errors_say_what_is_wrong),
      cmocka_unit_test(test_optimizers_have_names),
      cmocka_unit_test(test_out_of_memory_is_reported),
  };
  return cmocka_run_group_tests(tests, set_up_one_thread, tear_down);
}
