/* Random graphs: native in f64 and f32 against plain kernels in f64. A graph that fails is cut down to the nodes that
 * matter and printed with its seed. Arguments: [first seed] [seconds]. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "compile/native.h"
#include "eager/eager.h"
#include "ir/transform.h"
#include "support/graph_random.h"

enum { PARTS = 8 };

static const double F64_ALLOWED = 1e-9;
static const char *const REFERENCE = "the reference fails";
static uint64_t first_seed = 1;
static double seconds = 5;
static hfb_device *device;

/* ---- running and comparing ---------------------------------------- */

typedef struct tensors {
  hfb_tensor *inputs, *parameters, *outputs;
  const hfb_graph *graph;
} tensors;

static hfb_status tensors_make(const hfb_graph *graph, uint64_t seed, tensors *out) {
  *out = (tensors){.graph = graph};
  HFB_TRY(hfb_mem_alloc((size_t)graph->input_count + 1, sizeof(hfb_tensor), &out->inputs));
  HFB_TRY(hfb_mem_alloc((size_t)graph->parameter_count + 1, sizeof(hfb_tensor), &out->parameters));
  HFB_TRY(hfb_mem_alloc((size_t)graph->output_count + 1, sizeof(hfb_tensor), &out->outputs));
  for (int i = 0; i < graph->input_count; i++)
    HFB_TRY(random_graph_fill(graph->inputs[i], device, seed, &out->inputs[i]));
  for (int i = 0; i < graph->parameter_count; i++)
    HFB_TRY(random_graph_fill(graph->parameters[i], device, seed, &out->parameters[i]));
  return HFB_OK;
}

static void tensors_free(tensors *t) {
  for (int i = 0; t->inputs && i < t->graph->input_count; i++) hfb_tensor_release(&t->inputs[i]);
  for (int i = 0; t->parameters && i < t->graph->parameter_count; i++) hfb_tensor_release(&t->parameters[i]);
  for (int i = 0; t->outputs && i < t->graph->output_count; i++) hfb_tensor_release(&t->outputs[i]);
  hfb_mem_free(t->inputs);
  hfb_mem_free(t->parameters);
  hfb_mem_free(t->outputs);
}

static hfb_status run(const hfb_backend *backend, bool reference, const hfb_graph *graph, uint64_t seed, tensors *out) {
  const hfb_backend_options options = {.cache_dir = "", .reference = reference};
  hfb_program *program = NULL;
  hfb_status status = tensors_make(graph, seed, out);
  if (status == HFB_OK) status = backend->compile(graph, device, &options, &program);
  if (status == HFB_OK) status = backend->bind_parameters(program, out->parameters);
  if (status == HFB_OK) status = backend->run(program, out->inputs, out->outputs);
  backend->destroy(program);
  return status;
}

static bool is_close(const hfb_tensor *got, const hfb_tensor *expected, double allowed, char *why, size_t bytes) {
  if (!hfb_shape_equal(&got->shape, &expected->shape)) return snprintf(why, bytes, "the shapes differ"), false;
  for (int64_t i = 0; i < hfb_shape_elements(&got->shape); i++) {
    const double x = hfb_tensor_get(got, i), y = hfb_tensor_get(expected, i);
    if (x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= allowed) continue;
    snprintf(why, bytes, "element %lld is %.17g instead of %.17g, where %.3g is allowed", (long long)i, x, y, allowed);
    return false;
  }
  return true;
}

/* What a graph leaves behind is judged by number: outputs, then updated parameters. */
static int target_count(const hfb_graph *graph) {
  return graph->output_count + graph->update_count;
}

static const hfb_tensor *target_of(const tensors *t, const hfb_graph *graph, int target) {
  if (target < graph->output_count) return &t->outputs[target];
  int i = 0;
  while (graph->parameters[i] != graph->updates[target - graph->output_count].parameter) i++;
  return &t->parameters[i];
}

static bool is_updated(const hfb_graph *graph, const hfb_value *parameter) {
  for (int i = 0; i < graph->update_count; i++) {
    if (graph->updates[i].parameter == parameter) return true;
  }
  return false;
}

/* Parameters that no update names stay what they were. */
static bool others_are_kept(const tensors *t, uint64_t seed, char *why, size_t bytes) {
  for (int i = 0; i < t->graph->parameter_count; i++) {
    const hfb_value *parameter = t->graph->parameters[i];
    hfb_tensor before = {0};
    if (is_updated(t->graph, parameter)) continue;
    if (random_graph_fill(parameter, device, seed, &before) != HFB_OK) return false;
    const bool kept = is_close(&t->parameters[i], &before, 0, why, bytes);
    hfb_tensor_release(&before);
    if (!kept) return false;
  }
  return true;
}

/* -1 when native is right, else the target that is wrong; 0 as well when native fails altogether. */
static int check_graph(const hfb_graph *graph, const double *allowed_f32, uint64_t seed, char *why, size_t bytes) {
  hfb_graph *wide = NULL;
  tensors expected = {0}, f64 = {0}, f32 = {0};
  int wrong = -1;
  hfb_status status = hfb_graph_convert(graph, HFB_F64, &wide);
  if (status == HFB_OK) status = run(hfb_backend_eager(), true, wide, seed, &expected);
  if (status != HFB_OK) {
    snprintf(why, bytes, "%s: %s", REFERENCE, hfb_error_message());
    wrong = 0;
  } else if (run(hfb_backend_native(), false, wide, seed, &f64) != HFB_OK ||
             run(hfb_backend_native(), false, graph, seed, &f32) != HFB_OK) {
    snprintf(why, bytes, "%s", hfb_error_message());
    wrong = 0;
  }
  for (int i = 0; i < target_count(graph) && wrong < 0; i++) {
    const hfb_tensor *want = target_of(&expected, wide, i);
    if (!is_close(target_of(&f64, wide, i), want, F64_ALLOWED, why, bytes) ||
        !is_close(target_of(&f32, graph, i), want, allowed_f32[i], why, bytes))
      wrong = i;
  }
  if (wrong < 0 && (!others_are_kept(&f64, seed, why, bytes) || !others_are_kept(&f32, seed, why, bytes))) wrong = 0;
  tensors_free(&expected);
  tensors_free(&f64);
  tensors_free(&f32);
  hfb_graph_destroy(wide);
  return wrong;
}

/* ---- cutting down ---------------------------------------- */

/* The graph with some targets left out and some nodes replaced by inputs; only what the other targets need. */
static hfb_graph *reduced(const hfb_graph *graph, const bool *without, const bool *as_input) {
  hfb_rewrite rewrite;
  bool *live = calloc((size_t)graph->node_count + 1, sizeof *live);
  hfb_graph *out = NULL;
  if (!live || hfb_rewrite_begin(&rewrite, graph) != HFB_OK) return free(live), NULL;
  for (int i = 0; i < graph->output_count; i++) live[graph->outputs[i].value->node->id] |= !without[i];
  for (int i = 0; i < graph->update_count; i++) {
    live[graph->updates[i].value->node->id] |= !without[graph->output_count + i];
    live[graph->updates[i].parameter->node->id] |= !without[graph->output_count + i];
  }
  for (int i = graph->node_count - 1; i >= 0; i--) {
    for (int k = 0; live[i] && !as_input[i] && k < graph->nodes[i]->input_count; k++)
      live[graph->nodes[i]->inputs[k]->node->id] = true;
  }
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_value *value = &graph->nodes[i]->results[0];
    char name[32];
    snprintf(name, sizeof name, "cut%d_%d", i, 1);
    if (live[i] && as_input[i])
      rewrite.map[value->id] = hfb_input(&rewrite.b, name, value->dtype, value->shape);
    else if (live[i])
      hfb_rewrite_copy(&rewrite, graph->nodes[i]);
  }
  for (int i = 0; i < graph->output_count; i++) {
    if (!without[i]) hfb_output_add(&rewrite.b, graph->outputs[i].name, rewrite.map[graph->outputs[i].value->id]);
  }
  for (int i = 0; i < graph->update_count; i++) {
    const hfb_update *update = &graph->updates[i];
    if (without[graph->output_count + i]) continue;
    hfb_update_add(&rewrite.b, rewrite.map[update->parameter->id], rewrite.map[update->value->id]);
  }
  if (hfb_builder_finish(&rewrite.b, &out) != HFB_OK) out = NULL;
  hfb_rewrite_deinit(&rewrite);
  free(live);
  return out;
}

static bool still_fails(const hfb_graph *graph, const double *allowed_f32, uint64_t seed, const bool *without,
                        const bool *as_input) {
  char why[512];
  double allowed[2 * GRAPH_RANDOM_MAX_OUTPUTS];
  int kept = 0;
  for (int i = 0; i < target_count(graph); i++) {
    if (!without[i]) allowed[kept++] = allowed_f32[i];
  }
  hfb_graph *smaller = kept > 0 ? reduced(graph, without, as_input) : NULL;
  const bool fails = smaller && check_graph(smaller, allowed, seed, why, sizeof why) >= 0 && !strstr(why, REFERENCE);
  hfb_graph_destroy(smaller);
  return fails;
}

/* Only the wrong target, if that suffices; then every node that can be is replaced by an input, from the end. */
static void print_smallest(const hfb_graph *graph, const double *allowed_f32, int wrong, uint64_t seed) {
  bool *without = calloc((size_t)target_count(graph) + 1, sizeof(bool));
  bool *as_input = calloc((size_t)graph->node_count + 1, sizeof(bool));
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  if (without && as_input) {
    for (int i = 0; i < target_count(graph); i++) without[i] = i != wrong;
    if (!still_fails(graph, allowed_f32, seed, without, as_input))
      memset(without, 0, (size_t)target_count(graph) * sizeof(bool));
    for (int i = 0; i < target_count(graph); i++) {
      if (without[i]) continue;
      without[i] = true;
      without[i] = still_fails(graph, allowed_f32, seed, without, as_input);
    }
    for (int i = graph->node_count - 1; i >= 0; i--) {
      const hfb_node *node = graph->nodes[i];
      const hfb_dtype dtype = node->results[0].dtype;
      as_input[i] = node->input_count > 0 && node->result_count == 1 && (dtype == HFB_F32 || dtype == HFB_BOOL);
      if (as_input[i]) as_input[i] = still_fails(graph, allowed_f32, seed, without, as_input);
    }
    hfb_graph *smallest = reduced(graph, without, as_input);
    if (smallest && hfb_graph_print(smallest, &text) == HFB_OK) fprintf(stderr, "%s\n", hfb_strbuf_text(&text));
    hfb_graph_destroy(smallest);
  }
  hfb_strbuf_deinit(&text);
  free(without);
  free(as_input);
}

/* ---- the test ---------------------------------------- */

static bool seed_is_right(uint64_t seed) {
  random_graph random = {0};
  char why[512];
  if (random_graph_create(seed, PARTS, &random) != HFB_OK)
    fail_msg("seed %llu: %s", (unsigned long long)seed, hfb_error_message());
  const hfb_graph *graph = random.graph;
  double allowed[2 * GRAPH_RANDOM_MAX_OUTPUTS];
  memcpy(allowed, random.allowed_f32, (size_t)graph->output_count * sizeof *allowed);
  memcpy(allowed + graph->output_count, random.allowed_update_f32, (size_t)graph->update_count * sizeof *allowed);
  const int wrong = check_graph(graph, allowed, seed, why, sizeof why);
  if (wrong >= 0) {
    const bool is_output = wrong < graph->output_count;
    fprintf(stderr, "seed %llu, %s %d: %s\n", (unsigned long long)seed, is_output ? "output" : "update",
            is_output ? wrong : wrong - graph->output_count, why);
    print_smallest(graph, allowed, wrong, seed);
  }
  hfb_graph_destroy(random.graph);
  return wrong < 0;
}

static void random_graphs_are_right(void **state) {
  (void)state;
  const int64_t start = hfb_clock_ns();
  uint64_t seed = first_seed;
  int wrong = 0;
  while ((double)(hfb_clock_ns() - start) * 1e-9 < seconds) wrong += !seed_is_right(seed++);
  fprintf(stderr, "seeds %llu to %llu: %d wrong\n", (unsigned long long)first_seed, (unsigned long long)(seed - 1),
          wrong);
  assert_int_equal(wrong, 0);
}

int main(int argc, char **argv) {
  if (argc > 1) first_seed = strtoull(argv[1], NULL, 10);
  if (argc > 2) seconds = atof(argv[2]);
  if (hfb_device_cpu_create(2, 0, &device) != HFB_OK) return 1;
  const struct CMUnitTest tests[] = {cmocka_unit_test(random_graphs_are_right)};
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  hfb_device_destroy(device);
  return failed;
}
