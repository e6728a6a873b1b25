/* What the compiler makes of training graphs: patterns of both directions, what is never stored, where parameters are
 * written, and how much memory a step plans. Graphs are planned, not run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compile/passes.h"
#include "compile/recompute.h"
#include "compile/schedule.h"
#include "support/need_ok.h"
#include "support/train_models.h"

typedef struct compiled {
  hfb_graph *graph; /* of primitives */
  hfb_schedule *schedule;
} compiled;

static hfb_graph *pass(hfb_graph *graph, hfb_status (*run)(const hfb_graph *, hfb_graph **)) {
  hfb_graph *out = NULL;
  need_ok(run(graph, &out), graph->name);
  need_ok(hfb_graph_verify(out), graph->name);
  hfb_graph_destroy(graph);
  return out;
}

/* Takes the graph over. As native does, but for the choice of the last pass. */
static compiled compile_graph(hfb_graph *graph, bool recompute) {
  compiled c = {0};
  c.graph = pass(graph, hfb_pass_simplify);
  c.graph = pass(c.graph, hfb_pass_attention);
  c.graph = pass(c.graph, hfb_pass_loss);
  c.graph = pass(c.graph, hfb_pass_decompose);
  c.graph = pass(c.graph, hfb_pass_fold);
  c.graph = pass(c.graph, hfb_pass_simplify);
  if (recompute) c.graph = pass(c.graph, hfb_pass_recompute);
  need_ok(hfb_schedule_create(c.graph, &c.schedule), c.graph->name);
  need_ok(hfb_memory_plan(c.schedule), c.graph->name);
  return c;
}

static void compiled_free(compiled *c) {
  hfb_schedule_destroy(c->schedule);
  hfb_graph_destroy(c->graph);
}

static hfb_graph *training_graph(const char *model, const char *config, hfb_training_options options) {
  hfb_graph *graph = NULL;
  const train_model *found = train_model_find(model);
  assert_non_null(found);
  need_ok(train_model_graph(found, config, &options, &graph), model);
  return graph;
}

static compiled compile_model(const char *model, const char *config, hfb_optimizer optimizer) {
  return compile_graph(training_graph(model, config, (hfb_training_options){.optimizer = optimizer}), true);
}

static hfb_graph *parse(const char *text) {
  hfb_graph *graph = NULL;
  need_ok(hfb_graph_parse(text, strlen(text), &graph), text);
  return graph;
}

static const char *name_of(const hfb_value *value) { return hfb_node_text(value->node, HFB_ATTR_NAME, "?"); }

static int count_steps(const hfb_schedule *s, hfb_step_kind kind) {
  int count = 0;
  for (int i = 0; i < s->step_count; i++) count += s->steps[i].kind == kind;
  return count;
}

static int count_kernels(const hfb_schedule *s, hfb_op op) {
  int count = 0;
  for (int i = 0; i < s->step_count; i++) count += s->steps[i].kind == HFB_STEP_KERNEL && s->steps[i].node->op == op;
  return count;
}

static bool reads(const hfb_step *step, const hfb_value *value) {
  for (int k = 0; k < step->operand_count; k++) {
    if (step->operands[k] == value) return true;
  }
  return false;
}

/* The step that writes the value; -1: none. */
static int maker_of(const hfb_schedule *s, const hfb_value *value) {
  for (int i = 0; i < s->step_count; i++) {
    for (int r = 0; r < s->steps[i].result_count; r++) {
      if (s->steps[i].results[r] == value) return i;
    }
  }
  return -1;
}

/* ---- every schedule ---------------------------------------- */

static bool is_copied(const hfb_schedule *s, const hfb_update *update) {
  for (int i = 0; i < s->copied_update_count; i++) {
    if (s->copied_updates[i] == update) return true;
  }
  return false;
}

/* What is read was written by an earlier step, and nobody reads a parameter after its new value was written over it. */
static void check_order(const hfb_schedule *s) {
  for (int i = 0; i < s->step_count; i++) {
    for (int k = 0; k < s->steps[i].operand_count; k++) {
      const hfb_value *operand = s->steps[i].operands[k];
      const hfb_op op = operand->node->op;
      const bool outside = op == HFB_OP_INPUT || op == HFB_OP_PARAMETER || op == HFB_OP_CONSTANT;
      const int maker = maker_of(s, operand);
      if (maker < 0 && !outside && hfb_shape_elements(&operand->shape) > 0)
        fail_msg("%s: step %d reads %%%d, which nothing writes", s->graph->name, i, operand->id);
      if (maker >= i) fail_msg("%s: step %d reads %%%d, which step %d writes", s->graph->name, i, operand->id, maker);
    }
  }
  for (int u = 0; u < s->graph->update_count; u++) {
    const hfb_update *update = &s->graph->updates[u];
    const int maker = maker_of(s, update->value);
    if (maker < 0 || is_copied(s, update)) continue;
    assert_int_equal(s->storage[update->value->id].kind, HFB_STORAGE_PARAMETER);
    assert_int_equal(s->storage[update->value->id].index, s->storage[update->parameter->id].index);
    for (int i = maker + 1; i < s->step_count; i++) {
      if (reads(&s->steps[i], update->parameter))
        fail_msg("%s: step %d reads %s after step %d wrote it", s->graph->name, i, name_of(update->parameter), maker);
    }
  }
}

static bool is_placed(const hfb_storage *storage) {
  return (storage->kind == HFB_STORAGE_ARENA || storage->kind == HFB_STORAGE_OUTPUT) && storage->bytes > 0;
}

/* Outputs lie in their own memory and live to the end; what lies there before them does not reach into the arena. */
static void check_place(const hfb_schedule *s, const hfb_storage *storage) {
  const int64_t end = storage->offset + storage->bytes;
  assert_true(storage->offset >= 0 && end <= s->output_bytes + s->arena_bytes);
  assert_true(storage->offset >= s->output_bytes || end <= s->output_bytes);
  if (storage->kind != HFB_STORAGE_OUTPUT) return;
  assert_true(end <= s->output_bytes);
  assert_int_equal(storage->last_step, s->step_count);
}

/* No two values that live at the same time may share bytes; a step's result may lie over an operand that dies in it,
 * when they are read and written element by element. */
static void check_lives(const hfb_schedule *s) {
  for (int i = 0; i < s->step_count; i++) {
    for (int r = 0; r < s->steps[i].result_count; r++) {
      const hfb_value *value = s->steps[i].results[r];
      const hfb_storage *written = &s->storage[value->id];
      if (!is_placed(written)) continue;
      check_place(s, written);
      for (int n = 0; n < s->graph->node_count; n++) {
        for (int q = 0; q < s->graph->nodes[n]->result_count; q++) {
          const hfb_value *other_value = &s->graph->nodes[n]->results[q];
          const hfb_storage *other = &s->storage[other_value->id];
          if (other == written || !is_placed(other)) continue;
          if (other->first_step > i || other->last_step < i) continue;
          if (other->offset + other->bytes <= written->offset || written->offset + written->bytes <= other->offset)
            continue;
          const bool taken_over = other->last_step == i && other->first_step < i &&
                                  s->steps[i].kind == HFB_STEP_ROWS &&
                                  hfb_step_overwrites_safely(&s->steps[i], other_value, value);
          if (taken_over) continue;
          fail_msg("%s: %%%d lies over %%%d in step %d", s->graph->name, value->id, other_value->id, i);
        }
      }
    }
  }
}

static void check_loops(const hfb_schedule *s) {
  for (int i = 0; i < s->step_count; i++) {
    for (int c = 0; c < HFB_STEP_MAX_LOOPS; c++) {
      if (s->steps[i].code[c].loop) need_ok(hfb_loop_verify(s->steps[i].code[c].loop), "loop");
    }
  }
}

static void check_schedule(const hfb_schedule *s) {
  check_order(s);
  check_lives(s);
  check_loops(s);
}

/* ---- patterns ---------------------------------------- */

/* T5's self attention adds a bias that is learned, so the gradient of the scores is needed as a matrix, summed over the
 * batch: only cross attention, which has none, is fused. Question answering has no product of tokens and vocabulary. */
static const struct {
  const char *model;
  int attention, attention_backward, losses;
  bool stores_scores;
} patterns[] = {
    {"bert", 2, 2, 1, false},  {"bert-mask", 2, 2, 1, false}, {"bert-qa", 2, 2, 0, false},
    {"gpt2", 2, 2, 1, false},  {"gpt2-mask", 2, 2, 1, false}, {"bart", 6, 6, 1, false},
    {"t5", 2, 2, 1, true},     {"albert", 3, 3, 1, false},    {"opt", 2, 2, 1, false},
};
enum { PATTERN_COUNT = sizeof patterns / sizeof patterns[0] };

static const hfb_optimizer optimizers[] = {HFB_OPTIMIZER_SGD, HFB_OPTIMIZER_ADAM};

static bool is_stored(const hfb_schedule *s, const hfb_value *value) {
  const hfb_storage_kind kind = s->storage[value->id].kind;
  return (kind == HFB_STORAGE_ARENA || kind == HFB_STORAGE_OUTPUT) && maker_of(s, value) >= 0;
}

static bool is_scores(const hfb_value *value) {
  const int64_t scores = (int64_t)TRAIN_MODEL_BATCH * TRAIN_MODEL_HEADS * TRAIN_MODEL_SEQ * TRAIN_MODEL_SEQ;
  return hfb_shape_elements(&value->shape) == scores;
}

/* A loss of the next token has logits of one row less for each sequence. */
static bool is_logits(const hfb_value *value) {
  const int64_t elements = hfb_shape_elements(&value->shape);
  return elements % TRAIN_MODEL_VOCAB == 0 &&
         elements / TRAIN_MODEL_VOCAB >= (int64_t)TRAIN_MODEL_BATCH * (TRAIN_MODEL_SEQ - 1);
}

/* How many values that `is` says are so get memory. */
static int count_stored(const hfb_schedule *s, bool (*is)(const hfb_value *)) {
  int count = 0;
  for (int i = 0; i < s->graph->node_count; i++) {
    for (int r = 0; r < s->graph->nodes[i]->result_count; r++) {
      const hfb_value *value = &s->graph->nodes[i]->results[r];
      count += is(value) && is_stored(s, value);
    }
  }
  return count;
}

static bool is_random_mask(const hfb_value *value) { return value->node->op == HFB_OP_RANDOM_KEEP; }

static bool is_mask_of_hidden(const hfb_value *value) {
  return value->dtype == HFB_BOOL && hfb_shape_elements(&value->shape) >= 128 * TRAIN_MODEL_SEQ;
}

static void attention_and_loss_are_found(void **state) {
  for (int i = 0; i < PATTERN_COUNT * 2; i++) {
    const hfb_training_options options = {.optimizer = optimizers[i % 2]};
    compiled c = compile_graph(training_graph(patterns[i / 2].model, NULL, options), true);
    const hfb_schedule *s = c.schedule;
    check_schedule(s);
    const char *model = patterns[i / 2].model;
    const int found[] = {count_steps(s, HFB_STEP_ATTENTION), count_steps(s, HFB_STEP_ATTENTION_BACKWARD),
                         count_kernels(s, HFB_OP_LINEAR_CROSS_ENTROPY)};
    const int wanted[] = {patterns[i / 2].attention, patterns[i / 2].attention_backward, patterns[i / 2].losses};
    for (int k = 0; k < 3; k++) {
      if (found[k] != wanted[k]) fail_msg("%s: pattern %d found %d times, not %d", model, k, found[k], wanted[k]);
    }
    /* An attention that did not become a step would be a kernel on stored scores. */
    assert_int_equal(count_kernels(s, HFB_OP_ATTENTION) + count_kernels(s, HFB_OP_ATTENTION_BACKWARD) +
                         count_kernels(s, HFB_OP_ATTENTION_SCORES_BACKWARD), 0);
    if ((count_stored(s, is_scores) > 0) != patterns[i / 2].stores_scores)
      fail_msg("%s: %d matrices of queries x keys are stored", model, count_stored(s, is_scores));
    if (count_stored(s, is_logits) != 0) fail_msg("%s: %d logits are stored", model, count_stored(s, is_logits));
    if (count_stored(s, is_random_mask) + count_stored(s, is_mask_of_hidden) != 0)
      fail_msg("%s: %d random masks and %d other ones are stored", model, count_stored(s, is_random_mask),
               count_stored(s, is_mask_of_hidden));
    compiled_free(&c);
  }
}

/* Every attention step of a model with dropout draws its masks itself, forward and backward the same. */
static void attention_draws_its_masks_itself(void **state) {
  compiled c = compile_model("gpt2", NULL, HFB_OPTIMIZER_SGD);
  int64_t sites[8];
  int forward = 0, backward = 0;
  for (int i = 0; i < c.schedule->step_count; i++) {
    const hfb_step *step = &c.schedule->steps[i];
    const bool is_backward = step->kind == HFB_STEP_ATTENTION_BACKWARD;
    if (step->kind != HFB_STEP_ATTENTION && !is_backward) continue;
    assert_true(step->causal);
    assert_true(hfb_node_float(step->node, HFB_ATTR_P) == 0.2);
    const int64_t site = hfb_node_int(step->node, HFB_ATTR_SITE);
    if (is_backward) assert_int_equal(site, sites[forward - ++backward]); /* layers in the other order */
    else sites[forward++] = site;
  }
  assert_int_equal(forward, 2);
  assert_int_equal(backward, 2);
  assert_int_not_equal(sites[0], sites[1]);
  compiled_free(&c);
}

/* Logits that are an output exist anyway. */
static void logits_that_are_output_are_computed(void **state) {
  const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_SGD, .keep_outputs = true};
  compiled c = compile_graph(training_graph("bert", NULL, options), true);
  check_schedule(c.schedule);
  assert_int_equal(count_kernels(c.schedule, HFB_OP_LINEAR_CROSS_ENTROPY), 0);
  assert_int_equal(count_steps(c.schedule, HFB_STEP_ATTENTION_BACKWARD), 2);
  assert_true(count_stored(c.schedule, is_logits) > 0);
  compiled_free(&c);
}

/* The last "site=" of the graph is the backward pass of the first dropout. With another number there, that is no longer
 * the gradient of an attention that drops the same probabilities, and must not be taken for one. */
static void another_mask_in_the_backward_pass_is_no_match(void **state) {
  const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_SGD};
  hfb_graph *graph = training_graph("bert", "hidden_dropout_prob=0 ", options);
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  need_ok(hfb_graph_print(graph, &text), "print");
  hfb_graph_destroy(graph);
  char *copy = strdup(hfb_strbuf_text(&text)), *at = NULL;
  hfb_strbuf_deinit(&text);
  for (char *next = strstr(copy, "site="); next; next = strstr(next + 1, "site=")) at = next;
  assert_non_null(at);
  assert_true(at[5] >= '0' && at[5] <= '9');
  at[5] = at[5] == '9' ? '8' : (char)(at[5] + 1);
  compiled c = compile_graph(parse(copy), true);
  free(copy);
  check_schedule(c.schedule);
  assert_int_equal(count_steps(c.schedule, HFB_STEP_ATTENTION), 1);
  assert_int_equal(count_steps(c.schedule, HFB_STEP_ATTENTION_BACKWARD), 1);
  assert_true(count_stored(c.schedule, is_scores) > 0);
  compiled_free(&c);
}

/* ---- parameters ---------------------------------------- */

static const struct {
  const char *name, *body;
  int copied;
} updates[] = {
#define UPDATE_CASE(name, copied, body) {name, body, copied},
#include "support/update_cases.def"
#undef UPDATE_CASE
};
enum { UPDATE_COUNT = sizeof updates / sizeof updates[0] };

static void updates_are_copied_only_when_the_old_value_is_needed(void **state) {
  int wrong = 0;
  for (int i = 0; i < UPDATE_COUNT; i++) {
    char text[2048];
    snprintf(text, sizeof text, "graph \"%s\" {\n%s}\n", updates[i].name, updates[i].body);
    compiled c = compile_graph(parse(text), true);
    check_schedule(c.schedule);
    const int copied = c.schedule->copied_update_count;
    if (copied != updates[i].copied) {
      fprintf(stderr, "%s: %d updates are copied, not %d\n", updates[i].name, copied, updates[i].copied);
      wrong++;
    }
    compiled_free(&c);
  }
  assert_int_equal(wrong, 0);
}

/* All but the count of Adam's steps, one number, which loops all over the graph read as it was. */
static void models_are_updated_in_place(void **state) {
  for (int i = 0; i < PATTERN_COUNT * 2; i++) {
    const hfb_training_options options = {.optimizer = optimizers[i % 2], .checkpoint_layers = i / 2 % 2 == 0};
    compiled c = compile_graph(training_graph(patterns[i / 2].model, NULL, options), true);
    const hfb_schedule *s = c.schedule;
    for (int u = 0; u < s->copied_update_count; u++) {
      const char *name = name_of(s->copied_updates[u]->parameter);
      if (strcmp(name, "optimizer/step") != 0) fail_msg("%s: %s is copied", patterns[i / 2].model, name);
    }
    assert_true(s->graph->update_count > 20);
    compiled_free(&c);
  }
}

static const hfb_update *update_named(const hfb_graph *graph, const char *prefix, const char *name) {
  char whole[256];
  snprintf(whole, sizeof whole, "%s%s", prefix, name);
  for (int u = 0; u < graph->update_count; u++) {
    if (strcmp(name_of(graph->updates[u].parameter), whole) == 0) return &graph->updates[u];
  }
  return NULL;
}

/* Adam reads parameter, moments and gradient once and writes the three where they stood. */
static void adam_is_one_loop_for_each_parameter(void **state) {
  for (int i = 0; i < PATTERN_COUNT; i++) {
    compiled c = compile_model(patterns[i].model, NULL, HFB_OPTIMIZER_ADAM);
    const hfb_schedule *s = c.schedule;
    int parameters = 0;
    for (int u = 0; u < s->graph->update_count; u++) {
      const char *name = name_of(s->graph->updates[u].parameter);
      const hfb_update *mean = update_named(s->graph, "optimizer/exp_avg/", name);
      if (!mean) continue;
      const hfb_update *square = update_named(s->graph, "optimizer/exp_avg_sq/", name);
      assert_non_null(square);
      parameters++;
      const int maker = maker_of(s, s->graph->updates[u].value);
      assert_true(maker >= 0);
      if (s->steps[maker].kind != HFB_STEP_ROWS || s->steps[maker].result_count != 3)
        fail_msg("%s: %s is written by a step of kind %d with %d results", patterns[i].model, name,
                 s->steps[maker].kind, s->steps[maker].result_count);
      assert_int_equal(maker_of(s, mean->value), maker);
      assert_int_equal(maker_of(s, square->value), maker);
    }
    assert_true(parameters > 10);
    compiled_free(&c);
  }
}

/* A parameter is written as soon as its gradient is there, so that gradients do not pile up until the end. */
static void gradients_live_shortly(void **state) {
  compiled c = compile_model("bert", "num_hidden_layers=6 ", HFB_OPTIMIZER_ADAM);
  const hfb_schedule *s = c.schedule;
  int64_t all = 0, peak = 0, *live = calloc((size_t)s->step_count, sizeof *live);
  for (int u = 0; u < s->graph->update_count; u++) {
    const hfb_update *update = &s->graph->updates[u];
    if (!update_named(s->graph, "optimizer/exp_avg/", name_of(update->parameter))) continue;
    const int maker = maker_of(s, update->value);
    for (int k = 0; k < s->steps[maker].operand_count; k++) {
      const hfb_value *operand = s->steps[maker].operands[k];
      const hfb_storage *storage = &s->storage[operand->id];
      if (storage->kind != HFB_STORAGE_ARENA || !hfb_shape_equal(&operand->shape, &update->parameter->shape)) continue;
      all += storage->bytes;
      for (int i = storage->first_step; i <= storage->last_step; i++) live[i] += storage->bytes;
    }
  }
  for (int i = 0; i < s->step_count; i++) peak = live[i] > peak ? live[i] : peak;
  free(live);
  const int64_t weights = INT64_C(6) * (4 * 128 * 128 + 2 * 128 * 160) * 4;
  assert_true(all >= weights);
  if (peak * 10 > all) fail_msg("%lld of %lld bytes of gradients live at a time", (long long)peak, (long long)all);
  compiled_free(&c);
}

/* ---- memory ---------------------------------------- */

static int64_t planned_bytes(const char *model, const char *config, hfb_training_options options, bool recompute) {
  compiled c = compile_graph(training_graph(model, config, options), recompute);
  check_schedule(c.schedule);
  const int64_t bytes = c.schedule->arena_bytes;
  compiled_free(&c);
  return bytes;
}

static void cheap_values_are_computed_again_rather_than_kept(void **state) {
  static const char *const models[] = {"bert", "gpt2", "bart", "opt"};
  for (int i = 0; i < 4; i++) {
    const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_SGD};
    const int64_t kept = planned_bytes(models[i], NULL, options, false),
                  again = planned_bytes(models[i], NULL, options, true);
    if (again >= kept)
      fail_msg("%s: %lld bytes with recomputation, %lld without", models[i], (long long)again, (long long)kept);
  }
}

/* In inference there is nothing to compute again. */
static void inference_is_left_alone(void **state) {
  hfb_graph *graph = parse("graph \"inference\" {\n%x = input(name=\"x\") : f32[400,400]\n"
                           "%e = exp(%x) : f32[400,400]\n"
                           "%y = matmul(%e, %x; transpose_a=0, transpose_b=0) : f32[400,400]\n"
                           "%z = matmul(%e, %y; transpose_a=0, transpose_b=0) : f32[400,400]\n"
                           "output \"z\" = %z\n}\n");
  hfb_graph *out = NULL;
  need_ok(hfb_pass_recompute(graph, &out), "recompute");
  assert_int_equal(out->node_count, graph->node_count);
  hfb_graph_destroy(out);
  hfb_graph_destroy(graph);
}

static void checkpointing_saves_memory(void **state) {
  static const struct {
    const char *model, *config;
  } deep[] = {{"bert", "num_hidden_layers=6 "}, {"gpt2", "n_layer=6 "}, {"bart", "encoder_layers=4 decoder_layers=4 "}};
  for (int i = 0; i < 3; i++) {
    const hfb_training_options keep = {.optimizer = HFB_OPTIMIZER_SGD},
                               again = {.optimizer = HFB_OPTIMIZER_SGD, .checkpoint_layers = true};
    const int64_t kept = planned_bytes(deep[i].model, deep[i].config, keep, true),
                  recomputed = planned_bytes(deep[i].model, deep[i].config, again, true);
    if (recomputed * 4 > kept * 3)
      fail_msg("%s: %lld bytes with checkpointing, %lld without", deep[i].model, (long long)recomputed,
               (long long)kept);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(attention_and_loss_are_found),
      cmocka_unit_test(attention_draws_its_masks_itself),
      cmocka_unit_test(logits_that_are_output_are_computed),
      cmocka_unit_test(another_mask_in_the_backward_pass_is_no_match),
      cmocka_unit_test(updates_are_copied_only_when_the_old_value_is_needed),
      cmocka_unit_test(models_are_updated_in_place),
      cmocka_unit_test(adam_is_one_loop_for_each_parameter),
      cmocka_unit_test(gradients_live_shortly),
      cmocka_unit_test(cheap_values_are_computed_again_rather_than_kept),
      cmocka_unit_test(inference_is_left_alone),
      cmocka_unit_test(checkpointing_saves_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
