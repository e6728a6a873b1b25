/* Updates of parameters in eager: in place where that is allowed, copied where it is not, and the values of both; the
 * search for the first op that gives nan or inf. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "eager/eager.h"
#include "support/compare.h"
#include "support/device_fixture.h"
#include "support/graph_run.h"

enum { MAX_TENSORS = 4 };

#define PARAMETER(name) \
  "%" name " = parameter(name=\"" name "\", init=0, init_a=0, init_b=0, padding_idx=-1, trainable=1, buffer=0)"
#define X "%x = input(name=\"x\") : f32[30,30]\n"
#define P PARAMETER("p") " : f32[30,30]\n"
#define Q PARAMETER("q") " : f32[30,30]\n"
#define R PARAMETER("r") " : f32[30,30]\n"
#define ADAM                                                                                    \
  "%n, %m, %s = adam(%p, %q, %r, %x, %t; learning_rate=0.1, beta1=0.9, beta2=0.99, eps=0.1) : " \
  "f32[30,30], f32[30,30], f32[30,30]"

/* Matrices of 3600 bytes. planned_bytes says what is updated in place: a result that is not takes memory. */
static const struct {
  const char *name, *text;
  int64_t planned_bytes;
} cases[] = {
    {"a step", X P "%s = mul_scalar(%x; value=0.1):f32[30,30] %n = sub(%p, %s):f32[30,30] update %p = %n", 3600},
    {"read before", X P "%e = exp(%p):f32[30,30] %n = sub(%p, %e):f32[30,30] update %p = %n", 3600},
    {"read later", X P "%n = sub(%p, %x):f32[30,30] %e = exp(%p):f32[30,30] output \"e\" = %e update %p = %n", 3600},
    {"a view is read later",
     P "%v = transpose(%p; perm=[1,0]):f32[30,30] %n = sub(%p, %v):f32[30,30] update %p = %n", 3600},
    {"the old value is output", X P "%n = sub(%p, %x):f32[30,30] output \"old\" = %p update %p = %n", 3600},
    {"a view of the old value is output",
     X P "%n = sub(%p, %x):f32[30,30] %v = reshape(%p):f32[900] output \"old\" = %v update %p = %n", 3600},
    {"the new value is output", X P "%n = sub(%p, %x):f32[30,30] output \"new\" = %n update %p = %n", 0},
    {"the new value is read", X P "%n = sub(%p, %x):f32[30,30] %e = exp(%n):f32[30,30] output \"e\" = %e "
     "update %p = %n", 0},
    {"not the first input", X P "%n = sub(%x, %p):f32[30,30] update %p = %n", 3600},
    {"copied and output", X P "%n = sub(%x, %p):f32[30,30] output \"n\" = %n update %p = %n", 0},
    {"both inputs", P "%n = mul(%p, %p):f32[30,30] update %p = %n", 3600},
    {"made through views", X P "%u = reshape(%p):f32[900] %v = reshape(%x):f32[900] %s = sub(%u, %v):f32[900] "
     "%n = reshape(%s):f32[30,30] update %p = %n", 3600},
    {"swapped", P Q "update %p = %q update %q = %p", 7200},
    {"handed on", X P Q "update %q = %p update %p = %x", 3600},
    {"handed on in place", X P Q "%n = sub(%p, %x):f32[30,30] update %p = %n update %q = %p", 7200},
    {"the new value in two", X P Q "%n = sub(%p, %x):f32[30,30] update %q = %n update %p = %n", 0},
    {"each of the other", P Q "%n = sub(%p, %q):f32[30,30] %m = sub(%q, %p):f32[30,30] update %p = %n update %q = %m",
     3600},
    {"an input", X P "update %p = %x", 0},
    {"transposed", P "%t = transpose(%p; perm=[1,0]):f32[30,30] update %p = %t", 3600},
    {"part of a value", X P "%c = concat(%x, %p; axis=0):f32[60,30] "
     "%n = slice(%c; starts=[15,0], limits=[45,30], steps=[1,1]):f32[30,30] update %p = %n", 7200},
    {"broadcast", X P "%f = full(value=3):f32[1,30] %n = expand(%f):f32[30,30] update %p = %n", 120},
    {"itself", X P "%n = sub(%p, %x):f32[30,30] output \"n\" = %n update %p = %p", 0},
    {"sgd", X P "%n = sgd(%p, %x; learning_rate=0.1):f32[30,30] update %p = %n", 0},
    {"adam", X P Q R "%t = full(value=3):f64[] " ADAM " update %p = %n update %q = %m update %r = %s", 8},
    {"adam, the moments are forgotten", X P Q R "%t = full(value=3):f64[] " ADAM " update %p = %n", 7208},
    {"adam, a moment is output", X P Q R "%t = full(value=3):f64[] " ADAM
     " output \"q\" = %q update %p = %n update %q = %m update %r = %s", 3608},
    {"one of three results is read",
     X P PARAMETER("w") " : f32[30]\n"
     "%a, %n, %b = layer_norm_backward(%x, %p, %w; eps=0.1):f32[30,30], f32[30], f32[30] "
     "%c = concat(%x, %x; axis=0):f32[60,30] output \"c\" = %c update %w = %n", 3840},
    {"the others are given back",
     X P PARAMETER("w") " : f32[30]\n"
     "%a, %n, %b = layer_norm_backward(%x, %p, %w; eps=0.1):f32[30,30], f32[30], f32[30] "
     "%c = concat(%x, %x; axis=0):f32[60,30] %e = exp(%c):f32[60,30] output \"e\" = %e update %w = %n", 7320},
    {"a result that nobody reads", X P "%e = exp(%x):f32[30,30] %n = sub(%p, %x):f32[30,30] update %p = %n", 3600},
};
enum { CASE_COUNT = sizeof(cases) / sizeof(cases[0]) };

static hfb_graph *parse(const char *text) {
  char whole[2048];
  hfb_graph *graph;
  snprintf(whole, sizeof(whole), "graph \"updates\" {\n%s\n}", text);
  need_ok(hfb_graph_parse(whole, strlen(whole), &graph), text);
  return graph;
}

static hfb_tensor new_tensor(const hfb_value *value, uint64_t seed) {
  hfb_tensor tensor;
  need_ok(hfb_tensor_create(device, value->dtype, &value->shape, &tensor), "tensor");
  hfb_philox stream = hfb_philox_named(seed, "updates");
  const bool is_square = strcmp(hfb_node_text(value->node, HFB_ATTR_NAME, ""), "r") == 0; /* adam takes its root */
  for (int64_t i = 0; i < hfb_shape_elements(&value->shape); i++) {
    float element = (float)(hfb_philox_below(stream, (uint64_t)i, 2001) - 1000) * 0.001f;
    if (is_square) element *= element;
    ((float *)tensor.data)[i] = element;
  }
  return tensor;
}

static void release_all(int count, hfb_tensor *tensors) {
  for (int i = 0; i < count; i++) hfb_tensor_release(&tensors[i]);
}

typedef struct binding {
  hfb_graph *graph;
  hfb_tensor inputs[MAX_TENSORS], parameters[MAX_TENSORS];
} binding;

static binding bind(const char *text) {
  binding k = {.graph = parse(text)};
  assert_true(k.graph->input_count <= MAX_TENSORS && k.graph->parameter_count <= MAX_TENSORS);
  for (int i = 0; i < k.graph->input_count; i++) k.inputs[i] = new_tensor(k.graph->inputs[i], 100 + (uint64_t)i);
  for (int i = 0; i < k.graph->parameter_count; i++) k.parameters[i] = new_tensor(k.graph->parameters[i], (uint64_t)i);
  return k;
}

static void unbind(binding *k) {
  release_all(k->graph->input_count, k->inputs);
  release_all(k->graph->parameter_count, k->parameters);
  hfb_graph_destroy(k->graph);
  assert_int_equal(hfb_device_memory(device).allocated_bytes, 0);
}

/* What a run should give: the outputs and, behind them, what each parameter holds afterwards. Every node runs on
 * parameters that nothing writes. */
static void expect(const binding *k, const char *text, bool reference, hfb_tensor *out_tensors) {
  hfb_graph *pure = parse(text);
  for (int i = 0; i < pure->parameter_count; i++) {
    hfb_value *value = pure->parameters[i];
    for (int u = 0; u < pure->update_count; u++) {
      if (pure->updates[u].parameter == pure->parameters[i]) value = pure->updates[u].value;
    }
    char name[32];
    snprintf(name, sizeof(name), "parameter %d", i);
    need_ok(hfb_graph_add_output(pure, name, value), text);
  }
  hfb_tensor shared[2 * MAX_TENSORS];
  need_ok(graph_run(pure, device, hfb_cpu()->isa, reference, k->inputs, k->parameters, shared), text);
  for (int i = 0; i < pure->output_count; i++) {
    need_ok(hfb_tensor_create(device, shared[i].dtype, &shared[i].shape, &out_tensors[i]), text);
    need_ok(hfb_tensor_copy(&shared[i], &out_tensors[i], NULL), text);
  }
  release_all(pure->output_count, shared);
  hfb_graph_destroy(pure);
}

static void compare_all(const char *what, int step, int count, const hfb_tensor *got, const hfb_tensor *expected) {
  char text[256];
  for (int i = 0; i < count; i++) {
    if (!compare_equal(&got[i], &expected[i], text, sizeof(text))) fail_msg("%s, step %d, %d: %s", what, step, i, text);
  }
}

static hfb_program *compile(const binding *k, const hfb_backend_options *options) {
  hfb_program *program;
  need_ok(hfb_backend_eager()->compile(k->graph, device, options, &program), k->graph->name);
  need_ok(hfb_backend_eager()->bind_parameters(program, k->parameters), k->graph->name);
  return program;
}

static int64_t planned_bytes(const hfb_program *program) {
  hfb_program_stats stats;
  hfb_backend_eager()->stats(program, &stats);
  return stats.planned_peak_bytes;
}

/* Three runs are three steps, each from where the last one ended. */
static void check_steps(const char *name, const char *text, bool reference) {
  binding k = bind(text);
  const int outputs = k.graph->output_count, parameters = k.graph->parameter_count;
  hfb_program *program = compile(&k, &(hfb_backend_options){.reference = reference});
  for (int step = 0; step < 3; step++) {
    hfb_tensor expected[2 * MAX_TENSORS], got[MAX_TENSORS];
    expect(&k, text, reference, expected);
    need_ok(hfb_backend_eager()->run(program, k.inputs, got), name);
    compare_all(name, step, outputs, got, expected);
    compare_all(name, step, parameters, k.parameters, expected + outputs);
    release_all(outputs, got);
    release_all(outputs + parameters, expected);
  }
  hfb_backend_eager()->destroy(program);
  unbind(&k);
}

static void test_updates_see_old_values_only(void **state) {
  (void)state;
  for (int i = 0; i < CASE_COUNT; i++) {
    check_steps(cases[i].name, cases[i].text, false);
    check_steps(cases[i].name, cases[i].text, true);
  }
}

static void test_updates_in_place_take_no_memory(void **state) {
  (void)state;
  for (int i = 0; i < CASE_COUNT; i++) {
    binding k = bind(cases[i].text);
    hfb_program *program = compile(&k, NULL);
    if (planned_bytes(program) != cases[i].planned_bytes) {
      fail_msg("%s: %lld bytes planned, not %lld", cases[i].name, (long long)planned_bytes(program),
               (long long)cases[i].planned_bytes);
    }
    hfb_tensor outputs[MAX_TENSORS];
    int64_t before = hfb_device_memory(device).allocated_bytes, output_bytes = 0;
    hfb_device_reset_peak(device);
    need_ok(hfb_backend_eager()->run(program, k.inputs, outputs), cases[i].name);
    int64_t peak_bytes = hfb_device_memory(device).peak_bytes - before;
    for (int o = 0; o < k.graph->output_count; o++) output_bytes += (int64_t)hfb_tensor_bytes(&outputs[o]);
    if (peak_bytes > cases[i].planned_bytes + output_bytes || peak_bytes < cases[i].planned_bytes) {
      fail_msg("%s: %lld bytes at the peak", cases[i].name, (long long)peak_bytes);
    }
    release_all(k.graph->output_count, outputs);
    hfb_backend_eager()->destroy(program);
    unbind(&k);
  }
}

/* Every allocation of a run fails once. The parameters that are not updated stay; a later run from restored ones
 * succeeds, so nothing of the failed run was left behind. */
static void fail_each_allocation(const char *name, const char *text) {
  binding k = bind(text);
  const int outputs = k.graph->output_count, parameters = k.graph->parameter_count;
  hfb_program *program = compile(&k, NULL);
  hfb_tensor expected[2 * MAX_TENSORS], got[MAX_TENSORS];
  expect(&k, text, false, expected);
  int64_t before = hfb_device_memory(device).allocated_bytes;
  hfb_status status = HFB_OUT_OF_MEMORY;
  for (int64_t nth = 1; status != HFB_OK; nth++) {
    for (int i = 0; i < parameters; i++) {
      hfb_tensor again = new_tensor(k.graph->parameters[i], (uint64_t)i);
      need_ok(hfb_tensor_copy(&again, &k.parameters[i], NULL), name);
      hfb_tensor_release(&again);
    }
    hfb_device_empty_cache(device);
    hfb_mem_fail_at(nth, 0);
    status = hfb_backend_eager()->run(program, k.inputs, got);
    hfb_mem_fail_at(0, 0);
    if (status == HFB_OK) break;
    assert_int_equal(status, HFB_OUT_OF_MEMORY);
    assert_int_equal(hfb_device_memory(device).allocated_bytes, before);
    assert_true(nth < 100);
  }
  compare_all(name, 0, outputs, got, expected);
  compare_all(name, 0, parameters, k.parameters, expected + outputs);
  release_all(outputs, got);
  release_all(outputs + parameters, expected);
  hfb_backend_eager()->destroy(program);
  unbind(&k);
}

static void test_a_failed_run_leaves_nothing_behind(void **state) {
  (void)state;
  for (int i = 0; i < CASE_COUNT; i++) fail_each_allocation(cases[i].name, cases[i].text);
}

/* Half the squared distance of p to x has the gradient p - x: each step of 0.1 leaves nine tenths of the distance. */
static void test_descent_converges(void **state) {
  (void)state;
  binding k = bind(X P "%g = sub(%p, %x):f32[30,30] %s = mul_scalar(%g; value=0.1):f32[30,30] "
                       "%n = sub(%p, %s):f32[30,30] %e = mul(%g, %g):f32[30,30] "
                       "%l = reduce_sum(%e; axes=[0,1], keepdim=0):f32[] output \"loss\" = %l update %p = %n");
  hfb_program *program = compile(&k, NULL);
  double first_loss = 0, loss = INFINITY;
  for (int step = 0; step < 60; step++) {
    hfb_tensor output;
    need_ok(hfb_backend_eager()->run(program, k.inputs, &output), "step");
    if (step == 0) first_loss = hfb_tensor_get(&output, 0);
    if (!(hfb_tensor_get(&output, 0) < loss)) fail_msg("step %d does not lower the loss %g", step, loss);
    loss = hfb_tensor_get(&output, 0);
    hfb_tensor_release(&output);
  }
  assert_true(fabs(loss / (first_loss * pow(0.81, 59)) - 1) < 1e-2);
  hfb_backend_eager()->destroy(program);
  unbind(&k);
}

/* ---- find_nonfinite ---- */

#define LARGE "%l = full(value=3e38):f32[30,30]\n"

static const struct {
  const char *text, *message; /* NULL: the run succeeds */
} searches[] = {
    {X "%n = log(%x; scope=\"layer.3\"):f32[30,30] %e = exp(%n):f32[30,30] output \"y\" = %e",
     "layer.3: log gives nan (node 1; its inputs are finite)"},
    {X "%z = mul_scalar(%x; value=0):f32[30,30] %d = div(%x, %z):f32[30,30] output \"y\" = %d",
     "updates: div gives inf"},
    {LARGE "%d = mul(%l, %l):f32[30,30] output \"y\" = %d", "updates: mul gives inf"},
    {LARGE X "%d = mul(%l, %l; scope=\"first\"):f32[30,30] %s = sub(%d, %d; scope=\"second\"):f32[30,30] "
           "output \"y\" = %s", "first: mul gives inf"},
    {LARGE P "%a = mul_scalar(%p; value=0):f32[30,30] %n = sub(%p, %l; scope=\"fine\"):f32[30,30] update %p = %n",
     NULL},
    {P "%e = mul_scalar(%p; value=1e30):f32[30,30] %s = mul_scalar(%e; value=1e9, scope=\"s\"):f32[30,30] "
       "update %p = %s", "s: mul_scalar gives inf"},
    {X P "%n = mul_scalar(%p; value=1e39, scope=\"in place\"):f32[30,30] update %p = %n",
     "in place: mul_scalar gives inf"},
    /* A mask of -inf, built as models do, and the softmax over it. */
    {X "%z = full(value=0):f32[30,30] %b = lt(%x, %z):bool[30,30] %i = full(value=-inf):f32[30,30] "
       "%m = where(%b, %i, %z):f32[30,30] %s = add(%x, %m):f32[30,30] %y = softmax(%s; axis=1):f32[30,30] "
       "output \"y\" = %y", NULL},
    {X "%p = pad(%x; starts=[1,0], limits=[0,0], value=-inf):f32[31,30] output \"y\" = %p", NULL},
    {X "%t = transpose(%x; perm=[1,0]):f32[30,30] %l = log(%t; scope=\"strided\"):f32[30,30] output \"y\" = %l",
     "strided: log gives nan"},
    {X "%i = cast(%x):i64[30,30] %f = cast(%i):f64[30,30] %z = mul_scalar(%f; value=0):f64[30,30] "
       "%l = log(%z; scope=\"wide\"):f64[30,30] output \"y\" = %l", "wide: log gives inf"},
};

static void test_the_first_op_that_is_not_finite_is_named(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof(searches) / sizeof(searches[0]); i++) {
    binding k = bind(searches[i].text);
    int64_t before = hfb_device_memory(device).allocated_bytes;
    for (int is_on = 0; is_on < 2; is_on++) {
      hfb_tensor outputs[MAX_TENSORS];
      hfb_program *program = compile(&k, &(hfb_backend_options){.find_nonfinite = is_on});
      hfb_status status = hfb_backend_eager()->run(program, k.inputs, outputs);
      if (is_on && searches[i].message) {
        assert_int_equal(status, HFB_MISMATCH);
        if (strncmp(hfb_error_message(), searches[i].message, strlen(searches[i].message)) != 0) {
          fail_msg("\"%s\" instead of \"%s\"", hfb_error_message(), searches[i].message);
        }
      } else {
        need_ok(status, searches[i].text);
        release_all(k.graph->output_count, outputs);
      }
      assert_int_equal(hfb_device_memory(device).allocated_bytes, before);
      hfb_backend_eager()->destroy(program);
      for (int p = 0; p < k.graph->parameter_count; p++) {
        hfb_tensor_release(&k.parameters[p]);
        k.parameters[p] = new_tensor(k.graph->parameters[p], (uint64_t)p);
      }
    }
    unbind(&k);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_updates_see_old_values_only),
      cmocka_unit_test(test_updates_in_place_take_no_memory),
      cmocka_unit_test(test_a_failed_run_leaves_nothing_behind),
      cmocka_unit_test(test_descent_converges),
      cmocka_unit_test(test_the_first_op_that_is_not_finite_is_named),
  };
  return cmocka_run_group_tests(tests, set_up_threads, tear_down);
}
