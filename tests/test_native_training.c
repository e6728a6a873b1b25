/* Training steps on native: several in a row against eager and float64, the same bits again, parameters that are
 * swapped and handed on, errors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "compile/native.h"
#include "eager/eager.h"
#include "ir/transform.h"
#include "support/need_ok.h"
#include "support/train_models.h"

enum { STEPS = 3, MAX_THREADS = 3 };

static char cache_dir[64];
static hfb_device *devices[MAX_THREADS + 1]; /* by number of threads */

static int set_up(void **state) {
  snprintf(cache_dir, sizeof cache_dir, "/tmp/hfb_test_cache_XXXXXX");
  if (!mkdtemp(cache_dir)) return -1;
  for (int threads = 1; threads <= MAX_THREADS; threads++) {
    if (hfb_device_cpu_create(threads, 0, &devices[threads]) != HFB_OK) return -1;
  }
  return 0;
}

static int tear_down(void **state) {
  char command[128];
  for (int threads = 1; threads <= MAX_THREADS; threads++) hfb_device_destroy(devices[threads]);
  snprintf(command, sizeof command, "rm -rf '%s'", cache_dir);
  return system(command);
}

static const char *name_of(const hfb_value *value) { return hfb_node_text(value->node, HFB_ATTR_NAME, "?"); }

/* ---- running ---------------------------------------- */

/* Which tokens the attention mask of a test hides: the first ones of odd sequences, or the last ones. */
typedef enum padding { PADDING_RIGHT, PADDING_LEFT } padding;

typedef struct setting {
  const hfb_backend *backend;
  bool reference;
  int threads;
  int64_t seed; /* of the masks; parameters and inputs are always the same */
  padding padding;
} setting;

static setting on_native(void) { return (setting){.backend = hfb_backend_native(), .threads = 2, .seed = 7}; }

/* A program with what is bound to it. */
typedef struct session {
  const hfb_graph *graph;
  setting how;
  hfb_device *device;
  hfb_program *program;
  hfb_tensor *inputs, *parameters, *outputs;
} session;

/* Near what models start with: matrices small, weights of norms around 1; no state is negative. */
static double draw(const hfb_value *parameter, hfb_philox stream, int64_t index, int64_t seed) {
  const char *name = name_of(parameter);
  const double normal = hfb_philox_normal(stream, (uint64_t)index);
  if (strcmp(name, HFB_RANDOM_STATE) == 0) return index == 0 ? (double)seed : 0;
  if (strncmp(name, "optimizer/", 10) == 0) return 0;
  if (strcmp(name, "square") == 0) return 0.01 * normal * normal;
  if (parameter->shape.rank != 1) return 0.08 * normal;
  return 0.1 * normal + (strstr(name, "weight") != NULL);
}

static double draw_input(const hfb_value *input, hfb_philox stream, int64_t index, padding padding) {
  const char *name = name_of(input);
  if (hfb_dtype_is_float(input->dtype)) return hfb_philox_normal(stream, (uint64_t)index);
  if (strcmp(name, "attention_mask") == 0) {
    const int64_t token = index % TRAIN_MODEL_SEQ, row = index / TRAIN_MODEL_SEQ, hidden = row % 2 * 9;
    return padding == PADDING_LEFT ? token >= hidden : token < TRAIN_MODEL_SEQ - hidden;
  }
  if (strstr(name, "labels") && index % 5 == 3) return -100; /* no target there */
  const bool is_position = input->shape.rank == 1;
  return (double)hfb_philox_below(stream, (uint64_t)index, is_position ? TRAIN_MODEL_SEQ : TRAIN_MODEL_VOCAB);
}

static void fill(session *s, const hfb_value *value, hfb_tensor *tensor) {
  const int64_t count = hfb_shape_elements(&value->shape);
  const hfb_philox stream = hfb_philox_named(3, name_of(value));
  double *values = calloc((size_t)count + 1, sizeof *values);
  for (int64_t i = 0; i < count; i++) {
    values[i] = value->node->op == HFB_OP_INPUT ? draw_input(value, stream, i, s->how.padding)
                                                : draw(value, stream, i, s->how.seed);
  }
  const hfb_tensor source = hfb_tensor_borrow(HFB_F64, &value->shape, values);
  need_ok(hfb_tensor_copy(&source, tensor, NULL), "copy");
  free(values);
}

/* Gives all parameters their first values. */
static void start_over(session *s) {
  for (int i = 0; i < s->graph->parameter_count; i++) fill(s, s->graph->parameters[i], &s->parameters[i]);
}

static void make_tensors(session *s, int count, hfb_value *const *values, hfb_tensor **out_tensors) {
  *out_tensors = calloc((size_t)count + 1, sizeof **out_tensors);
  for (int i = 0; i < count; i++) {
    need_ok(hfb_tensor_create(s->device, values[i]->dtype, &values[i]->shape, &(*out_tensors)[i]), "tensor");
    fill(s, values[i], &(*out_tensors)[i]);
  }
}

/* Without a program. */
static session session_prepare(const hfb_graph *graph, setting how) {
  session s = {.graph = graph, .how = how, .device = devices[how.threads]};
  make_tensors(&s, graph->input_count, graph->inputs, &s.inputs);
  make_tensors(&s, graph->parameter_count, graph->parameters, &s.parameters);
  s.outputs = calloc((size_t)graph->output_count + 1, sizeof *s.outputs);
  return s;
}

static hfb_status session_compile(session *s) {
  const hfb_backend_options options = {.reference = s->how.reference, .cache_dir = cache_dir};
  HFB_TRY(s->how.backend->compile(s->graph, s->device, &options, &s->program));
  return s->how.backend->bind_parameters(s->program, s->parameters);
}

static session session_open(const hfb_graph *graph, setting how) {
  session s = session_prepare(graph, how);
  need_ok(session_compile(&s), graph->name);
  return s;
}

static void release_outputs(session *s) {
  for (int i = 0; i < s->graph->output_count; i++) hfb_tensor_release(&s->outputs[i]);
}

static hfb_status session_run(session *s) {
  release_outputs(s);
  return s->how.backend->run(s->program, s->inputs, s->outputs);
}

static void session_close(session *s) {
  if (s->program) s->how.backend->destroy(s->program);
  release_outputs(s);
  for (int i = 0; i < s->graph->input_count; i++) hfb_tensor_release(&s->inputs[i]);
  for (int i = 0; i < s->graph->parameter_count; i++) hfb_tensor_release(&s->parameters[i]);
  free(s->inputs);
  free(s->parameters);
  free(s->outputs);
}

/* ---- what steps leave behind ---------------------------------------- */

/* All outputs and then all parameters after each step, element by element; every f32 and small integer is exact. */
typedef struct history {
  int64_t step_elements;
  double *values;
} history;

static int64_t step_elements(const hfb_graph *graph) {
  int64_t count = 0;
  for (int i = 0; i < graph->output_count; i++) count += hfb_shape_elements(&graph->outputs[i].value->shape);
  for (int i = 0; i < graph->parameter_count; i++) count += hfb_shape_elements(&graph->parameters[i]->shape);
  return count;
}

static double *append(const hfb_tensor *tensor, double *to) {
  const int64_t count = hfb_shape_elements(&tensor->shape);
  for (int64_t i = 0; i < count; i++) to[i] = hfb_tensor_get(tensor, i);
  return to + count;
}

static void record(const session *s, double *to) {
  for (int i = 0; i < s->graph->output_count; i++) to = append(&s->outputs[i], to);
  for (int i = 0; i < s->graph->parameter_count; i++) to = append(&s->parameters[i], to);
}

static history history_of_session(session *s) {
  history h = {.step_elements = step_elements(s->graph)};
  h.values = calloc((size_t)(STEPS * h.step_elements), sizeof *h.values);
  for (int step = 0; step < STEPS; step++) {
    need_ok(session_run(s), s->graph->name);
    record(s, h.values + step * h.step_elements);
  }
  return h;
}

static history history_of(const hfb_graph *graph, setting how) {
  session s = session_open(graph, how);
  const history h = history_of_session(&s);
  session_close(&s);
  return h;
}

static bool is_same(const history *a, const history *b) {
  return a->step_elements == b->step_elements &&
         memcmp(a->values, b->values, (size_t)(STEPS * a->step_elements) * sizeof *a->values) == 0;
}

static double loss(const history *h, int step) { return h->values[step * h->step_elements]; }

/* Tensor `index` of a step: outputs, then parameters. */
static const hfb_value *tensor_at(const hfb_graph *graph, int index) {
  return index < graph->output_count ? graph->outputs[index].value : graph->parameters[index - graph->output_count];
}

static const char *tensor_name(const hfb_graph *graph, int index) {
  return index < graph->output_count ? graph->outputs[index].name : name_of(tensor_at(graph, index));
}

/* Where a tensor stands in a step; -1: nowhere. */
static int64_t offset_of(const hfb_graph *graph, const char *name) {
  int64_t at = 0;
  for (int i = 0; i < graph->output_count + graph->parameter_count; i++) {
    if (strcmp(tensor_name(graph, i), name) == 0) return at;
    at += hfb_shape_elements(&tensor_at(graph, i)->shape);
  }
  return -1;
}

/* Root of the mean square of a - b, over the elements where `size` reaches `least`; size NULL: all. A difference that
 * is no number counts as infinite. */
static double distance(const double *a, const double *b, int64_t count, const double *size, double least) {
  double sum = 0;
  int64_t compared = 0;
  for (int64_t i = 0; i < count; i++) {
    if (size && size[i] < least) continue;
    const double difference = a[i] - b[i];
    sum += isnan(difference) ? INFINITY : difference * difference;
    compared++;
  }
  return compared ? sqrt(sum / (double)compared) : 0;
}

static double size_of(const double *a, int64_t count) {
  double size = 0;
  for (int64_t i = 0; i < count; i++) size = fmax(size, fabs(a[i]));
  return size;
}

/* ---- against float64 ---------------------------------------- */

/* native may be as far from float64 as eager's f32 is, times LIKE_EAGER, beside a few roundings of the largest element.
 * No bound on native alone could be small: Adam divides a gradient by its own size, so that rounding moves an element
 * with a gradient near 0 by as much as the learning rate, in either engine. */
static const double LIKE_EAGER = 4, ROUNDINGS = 4 * 0x1p-24;

static const char *const kinds[] = {"grad/", "optimizer/exp_avg/", "optimizer/exp_avg_sq/", ""};
enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

static int kind_of(const char *name) {
  int kind = 0;
  while (strncmp(name, kinds[kind], strlen(kinds[kind])) != 0) kind++;
  return kind;
}

/* One step of one engine, and of float64. */
typedef struct comparison {
  const hfb_graph *graph;
  const double *native, *eager, *exact;
  const double *first; /* exact, after the first step */
  double largest[KIND_COUNT]; /* element of all tensors of a kind */
} comparison;

static void find_largest(comparison *c) {
  int64_t at = 0;
  for (int i = 0; i < c->graph->output_count + c->graph->parameter_count; i++) {
    const int64_t count = hfb_shape_elements(&tensor_at(c->graph, i)->shape);
    double *largest = &c->largest[kind_of(tensor_name(c->graph, i))];
    *largest = fmax(*largest, size_of(c->exact + at, count));
    at += count;
  }
}

/* The mean of squares that Adam divided by in its first step, which moves an element by the sign of its gradient; NULL
 * when `name` is no parameter of Adam's. */
static const double *squares_of(const comparison *c, const char *name) {
  char whole[256];
  snprintf(whole, sizeof whole, "optimizer/exp_avg_sq/%s", name);
  const int64_t at = offset_of(c->graph, whole);
  return at < 0 ? NULL : c->first + at;
}

/* Of Adam's parameters those elements count whose gradients are not lost among larger ones of the tensor. A gradient
 * that is 0 but for rounding, as that of the bias of keys, has the errors of what cancels in it: it is measured by the
 * largest gradient. */
static void compare_tensor(const comparison *c, int index, int64_t at, int step) {
  const double LOST = 1e-3, CANCELLED = 1e-9;
  const hfb_value *value = tensor_at(c->graph, index);
  const char *name = tensor_name(c->graph, index);
  const int64_t count = hfb_shape_elements(&value->shape);
  const double *squares = squares_of(c, name), least = squares ? LOST * LOST * size_of(squares, count) : 0;
  const double error = distance(c->native + at, c->exact + at, count, squares, least),
               error_of_eager = distance(c->eager + at, c->exact + at, count, squares, least);
  const double largest = c->largest[kind_of(name)], own_size = size_of(c->exact + at, count),
               size = own_size < CANCELLED * largest ? largest : own_size;
  const double bound = hfb_dtype_is_float(value->dtype) ? LIKE_EAGER * error_of_eager + ROUNDINGS * size : 0;
  if (error <= bound) return;
  fail_msg("%s, step %d, %s: off by %.3g, eager by %.3g, largest element %.3g", c->graph->name, step, name, error,
           error_of_eager, own_size);
}

static void compare_with_f64(const hfb_graph *graph, const history *native, const history *eager,
                             const history *exact) {
  for (int step = 0; step < STEPS; step++) {
    const int64_t start = step * exact->step_elements;
    comparison c = {.graph = graph,
                    .native = native->values + start,
                    .eager = eager->values + start,
                    .exact = exact->values + start,
                    .first = exact->values};
    int64_t at = 0;
    find_largest(&c);
    for (int i = 0; i < graph->output_count + graph->parameter_count; i++) {
      compare_tensor(&c, i, at, step);
      at += hfb_shape_elements(&tensor_at(graph, i)->shape);
    }
  }
}

static hfb_graph *training_graph(const char *model, const char *config, hfb_training_options options) {
  hfb_graph *graph = NULL;
  const train_model *found = train_model_find(model);
  assert_non_null(found);
  need_ok(train_model_graph(found, config, &options, &graph), model);
  return graph;
}

/* The graph is taken over. */
static void check_steps(hfb_graph *graph, padding padding) {
  hfb_graph *wide = NULL;
  need_ok(hfb_graph_convert(graph, HFB_F64, &wide), graph->name);
  setting how = on_native(), on_eager = how, in_f64 = how;
  on_eager.backend = in_f64.backend = hfb_backend_eager();
  in_f64.reference = true;
  how.padding = on_eager.padding = in_f64.padding = padding;
  history native = history_of(graph, how), eager = history_of(graph, on_eager), exact = history_of(wide, in_f64);
  compare_with_f64(graph, &native, &eager, &exact);
  assert_true(loss(&exact, STEPS - 1) != loss(&exact, 0));
  free(native.values);
  free(eager.values);
  free(exact.values);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(graph);
}

static void steps_are_those_of_float64(void **state) {
  static const struct {
    const char *model;
    hfb_optimizer optimizer;
    bool gradients, checkpoint;
  } runs[] = {
      {"bert", HFB_OPTIMIZER_SGD, false, false},     {"bert", HFB_OPTIMIZER_ADAM, true, false},
      {"bert-mask", HFB_OPTIMIZER_SGD, false, true}, {"bert-qa", HFB_OPTIMIZER_ADAM, false, false},
      {"gpt2", HFB_OPTIMIZER_ADAM, false, false},    {"gpt2-mask", HFB_OPTIMIZER_SGD, true, true},
      {"bart", HFB_OPTIMIZER_SGD, true, false},      {"t5", HFB_OPTIMIZER_ADAM, false, false},
      {"albert", HFB_OPTIMIZER_ADAM, true, true},    {"opt", HFB_OPTIMIZER_SGD, false, false},
  };
  for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
    const hfb_training_options options = {.optimizer = runs[i].optimizer,
                                          .checkpoint_layers = runs[i].checkpoint,
                                          .output_gradients = runs[i].gradients};
    check_steps(training_graph(runs[i].model, NULL, options), PADDING_RIGHT);
  }
}

/* Left-padded sequences: the mask of causal attention hides all keys of their first rows, with finite numbers. */
static void rows_that_are_hidden_entirely_have_gradients_as_in_eager(void **state) {
  const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_SGD, .output_gradients = true};
  check_steps(training_graph("gpt2-mask", NULL, options), PADDING_LEFT);
  check_steps(training_graph("bert-mask", NULL, options), PADDING_LEFT);
  check_steps(training_graph("opt-mask", NULL, options), PADDING_LEFT);
}

/* ---- the same bits ---------------------------------------- */

static void check_repeats(const hfb_graph *graph) {
  history first = history_of(graph, on_native());
  for (int threads = 1; threads <= MAX_THREADS; threads++) {
    setting how = on_native();
    how.threads = threads;
    history again = history_of(graph, how);
    if (!is_same(&first, &again)) fail_msg("%s: other bits with %d threads", graph->name, threads);
    free(again.values);
  }
  setting other = on_native();
  other.seed++;
  history with_other_masks = history_of(graph, other);
  assert_true(fabs(loss(&first, 0) - loss(&with_other_masks, 0)) > 1e-4);
  free(with_other_masks.values);
  free(first.values);
}

static void a_step_is_the_same_whatever_the_number_of_threads(void **state) {
  static const char *const models[] = {"bert", "gpt2", "t5"};
  for (int i = 0; i < 3; i++) {
    const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_ADAM, .output_gradients = i == 0};
    hfb_graph *graph = training_graph(models[i], NULL, options);
    check_repeats(graph);
    hfb_graph_destroy(graph);
  }
}

/* A program keeps nothing of what it has trained: with the first values again it does the first steps again. */
static void parameters_can_be_given_their_first_values_again(void **state) {
  hfb_graph *graph = training_graph("gpt2", NULL, (hfb_training_options){.optimizer = HFB_OPTIMIZER_ADAM});
  session s = session_open(graph, on_native());
  history first = history_of_session(&s);
  start_over(&s);
  need_ok(s.how.backend->bind_parameters(s.program, s.parameters), "bind");
  history again = history_of_session(&s);
  assert_true(is_same(&first, &again));
  free(first.values);
  free(again.values);
  session_close(&s);
  hfb_graph_destroy(graph);
}

/* The masks are drawn again, and sums are made in the same order. */
static void checkpointing_changes_no_bit(void **state) {
  static const char *const models[] = {"bert", "gpt2", "bart"};
  for (int i = 0; i < 3; i++) {
    hfb_training_options options = {.optimizer = HFB_OPTIMIZER_SGD, .output_gradients = true};
    hfb_graph *keeps = training_graph(models[i], NULL, options);
    options.checkpoint_layers = true;
    hfb_graph *computes_again = training_graph(models[i], NULL, options);
    history kept = history_of(keeps, on_native()), recomputed = history_of(computes_again, on_native());
    if (!is_same(&kept, &recomputed)) fail_msg("%s: other bits with checkpointing", models[i]);
    free(kept.values);
    free(recomputed.values);
    hfb_graph_destroy(keeps);
    hfb_graph_destroy(computes_again);
  }
}

/* ---- gradients that are outputs ---------------------------------------- */

/* The gradients that are given are those that parameters were changed by: p - 0.01 g, but for one rounding. */
static void gradients_that_are_output_are_those_of_the_update(void **state) {
  const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_SGD, .output_gradients = true};
  hfb_graph *graph = training_graph("bert", NULL, options);
  history h = history_of(graph, on_native());
  int64_t compared = 0;
  for (int i = 1; i < graph->output_count; i++) {
    const int64_t gradient = offset_of(graph, graph->outputs[i].name),
                  parameter = offset_of(graph, graph->outputs[i].name + strlen("grad/"));
    assert_true(parameter >= 0);
    for (int64_t k = 0; k < hfb_shape_elements(&graph->outputs[i].value->shape); k++) {
      const double *before = h.values + (STEPS - 2) * h.step_elements, *after = before + h.step_elements;
      const double expected = before[parameter + k] - 0.01 * after[gradient + k];
      const double terms = fabs(before[parameter + k]) + fabs(0.01 * after[gradient + k]);
      if (!(fabs(after[parameter + k] - expected) <= 0x1p-23 * terms))
        fail_msg("%s, element %d: %.9g instead of %.9g", graph->outputs[i].name, (int)k, after[parameter + k],
                 expected);
      compared++;
    }
  }
  assert_true(compared > 100000);
  free(h.values);
  hfb_graph_destroy(graph);
}

/* ---- updates ---------------------------------------- */

static const struct {
  const char *name, *body;
} updates[] = {
#define UPDATE_CASE(name, copied, body) {name, body},
#include "support/update_cases.def"
#undef UPDATE_CASE
};
enum { UPDATE_COUNT = sizeof updates / sizeof updates[0] };

static hfb_graph *parse(const char *name, const char *body) {
  char text[2048];
  hfb_graph *graph = NULL;
  snprintf(text, sizeof text, "graph \"%s\" {\n%s}\n", name, body);
  need_ok(hfb_graph_parse(text, strlen(text), &graph), name);
  return graph;
}

/* Three runs of each, so that what one run leaves behind is what the next one reads. */
static void updates_are_those_of_eager(void **state) {
  for (int u = 0; u < UPDATE_COUNT; u++) {
    hfb_graph *graph = parse(updates[u].name, updates[u].body);
    setting how = on_native();
    history native = history_of(graph, how);
    how.backend = hfb_backend_eager();
    history eager = history_of(graph, how);
    for (int step = 0; step < STEPS; step++) {
      int64_t at = step * eager.step_elements;
      for (int i = 0; i < graph->output_count + graph->parameter_count; i++) {
        const int64_t count = hfb_shape_elements(&tensor_at(graph, i)->shape);
        const double error = distance(native.values + at, eager.values + at, count, NULL, 0),
                     size = size_of(eager.values + at, count);
        if (!(error <= 1e-6 * size))
          fail_msg("\"%s\", run %d, %s: off by %g of %g", updates[u].name, step, tensor_name(graph, i), error, size);
        at += count;
      }
    }
    free(native.values);
    free(eager.values);
    hfb_graph_destroy(graph);
  }
}

/* ---- errors ---------------------------------------- */

static void refuse_input(session *s, const char *name, int64_t element, int64_t value) {
  const int index = hfb_graph_find_input(s->graph, name);
  assert_true(index >= 0);
  int64_t *ids = s->inputs[index].data, kept = ids[element];
  ids[element] = value;
  assert_int_equal(session_run(s), HFB_INVALID_ARGUMENT);
  ids[element] = kept;
}

/* Ids are looked at before anything runs, so that no parameter has changed; a wrong label is refused too. */
static void ids_outside_their_table_are_refused(void **state) {
  hfb_graph *graph = training_graph("bert", NULL, (hfb_training_options){.optimizer = HFB_OPTIMIZER_ADAM});
  session s = session_open(graph, on_native());
  const size_t bytes = (size_t)step_elements(graph) * sizeof(double);
  double *before = malloc(bytes), *after = malloc(bytes);
  need_ok(session_run(&s), "run");
  record(&s, before);
  hfb_tensor *outputs = s.outputs; /* a failed run gives none: those of the first are kept for `record` */
  s.outputs = calloc((size_t)graph->output_count, sizeof *s.outputs);
  refuse_input(&s, "input_ids", 5, TRAIN_MODEL_VOCAB);
  assert_non_null(strstr(hfb_error_message(), "input_ids"));
  refuse_input(&s, "input_ids", 147, -1);
  free(s.outputs);
  s.outputs = outputs;
  record(&s, after);
  assert_memory_equal(before, after, bytes);
  refuse_input(&s, "labels", 4, TRAIN_MODEL_VOCAB);
  refuse_input(&s, "labels", 4, -1);
  free(before);
  free(after);
  session_close(&s);
  hfb_graph_destroy(graph);
}

/* Compiles, binds and runs with parameters and inputs of `s`; gives everything back. */
static hfb_status whole_life(session *s) {
  hfb_status status = session_compile(s);
  if (status == HFB_OK) status = session_run(s);
  if (s->program) s->how.backend->destroy(s->program);
  s->program = NULL;
  release_outputs(s);
  return status;
}

/* Each of about 200 allocations fails, with all that follow: an error each time, and nothing is lost. */
static void check_failing_allocations(hfb_graph *graph) {
  session s = session_prepare(graph, on_native());
  need_ok(whole_life(&s), graph->name); /* compiled code is in the cache now */
  const int64_t allocated = hfb_device_memory(s.device).allocated_bytes;
  hfb_device_empty_cache(s.device); /* else most would not be asked for again */
  hfb_mem_fail_at(0, 0);
  need_ok(whole_life(&s), graph->name);
  const int64_t allocations = hfb_mem_fail_at(0, 0);
  int failures = 0;
  assert_true(allocations > 50);
  for (int64_t nth = 1; nth <= allocations; nth += 1 + allocations / 200) {
    hfb_device_empty_cache(s.device);
    hfb_mem_fail_at(nth, 1);
    const hfb_status status = whole_life(&s);
    hfb_mem_fail_at(0, 0);
    failures += status != HFB_OK;
    if (status != HFB_OK) assert_int_equal(status, HFB_OUT_OF_MEMORY);
    assert_int_equal(hfb_device_memory(s.device).allocated_bytes, allocated);
  }
  assert_true(failures > 25);
  session_close(&s);
  hfb_graph_destroy(graph);
}

static void failing_allocations_are_reported(void **state) {
  const hfb_training_options options = {.optimizer = HFB_OPTIMIZER_ADAM, .output_gradients = true};
  check_failing_allocations(training_graph("bert", "num_hidden_layers=1 ", options));
  for (int u = 0; u < UPDATE_COUNT; u++) {
    if (strcmp(updates[u].name, "swapped") == 0) check_failing_allocations(parse("swapped", updates[u].body));
  }
}

/* What a run needs is known before the first one, optimizer and all; updates in place take no memory of their own. */
static void memory_is_as_planned(void **state) {
  hfb_graph *graph = training_graph("bert", NULL, (hfb_training_options){.optimizer = HFB_OPTIMIZER_SGD});
  session s = session_open(graph, on_native());
  hfb_program_stats stats;
  const int64_t before = hfb_device_memory(s.device).allocated_bytes;
  hfb_device_reset_peak(s.device);
  need_ok(session_run(&s), "run");
  s.how.backend->stats(s.program, &stats);
  const int64_t used = hfb_device_memory(s.device).peak_bytes - before;
  assert_true(used > 0);
  if (used > stats.planned_peak_bytes + 4096)
    fail_msg("%lld bytes used, %lld planned", (long long)used, (long long)stats.planned_peak_bytes);
  release_outputs(&s);
  assert_int_equal(hfb_device_memory(s.device).allocated_bytes, before);
  session_close(&s);
  hfb_graph_destroy(graph);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steps_are_those_of_float64),
      cmocka_unit_test(rows_that_are_hidden_entirely_have_gradients_as_in_eager),
      cmocka_unit_test(a_step_is_the_same_whatever_the_number_of_threads),
      cmocka_unit_test(parameters_can_be_given_their_first_values_again),
      cmocka_unit_test(checkpointing_changes_no_bit),
      cmocka_unit_test(gradients_that_are_output_are_those_of_the_update),
      cmocka_unit_test(updates_are_those_of_eager),
      cmocka_unit_test(ids_outside_their_table_are_refused),
      cmocka_unit_test(failing_allocations_are_reported),
      cmocka_unit_test(memory_is_as_planned),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
