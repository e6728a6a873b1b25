/* Weights that native keeps in the layout of its products, in the memory that they were bound in. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "bench/parameters.h"
#include "compile/native.h"
#include "support/need_ok.h"

enum { SEED = 5, THREADS = 2 };

#define PARAMETER(id, name, shape)   \
  "%" id " = parameter(name=\"" name \
  "\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[" shape "]\n"

/* "columns" has two columns beyond its panels, "rows" is stored the other way round, "shared" serves two products, and
 * "table" is looked up as well. The others must stay as they are: a matrix of too few columns, an output. */
static const char graph_text[] =
    "graph \"packing\" {\n"
    "%0 = input(name=\"x\") : f32[20,48]\n"
    "%1 = input(name=\"ids\") : i64[20]\n"
    PARAMETER("2", "columns", "130,48") PARAMETER("3", "rows", "130,192") PARAMETER("4", "shared", "192,192")
    PARAMETER("5", "table", "192,192") PARAMETER("6", "narrow", "2,192") PARAMETER("7", "shown", "192,192")
    "%8 = linear(%0, %2; transpose_b=1) : f32[20,130]\n"
    "%9 = matmul(%8, %3; transpose_a=0, transpose_b=0) : f32[20,192]\n"
    "%10 = linear(%9, %4; transpose_b=1) : f32[20,192]\n"
    "%11 = tanh(%10) : f32[20,192]\n"
    "%12 = linear(%11, %4; transpose_b=1) : f32[20,192]\n"
    "%13 = gather(%5, %1; axis=0) : f32[20,192]\n"
    "%14 = add(%12, %13) : f32[20,192]\n"
    "%15 = linear(%14, %7; transpose_b=1) : f32[20,192]\n"
    "%16 = linear(%15, %5; transpose_b=1) : f32[20,192]\n"
    "%17 = linear(%15, %6; transpose_b=1) : f32[20,2]\n"
    "output \"logits\" = %16\n"
    "output \"few\" = %17\n"
    "output \"weight\" = %7\n}\n";
enum { PARAMETERS = 6, OUTPUTS = 3 };
static const bool is_rearranged[PARAMETERS] = {true, true, true, true, false, false};

typedef struct fixture {
  hfb_graph *graph;
  hfb_device *device;
  hfb_parameters parameters, originals;
  hfb_tensor inputs[2];
} fixture;

static fixture open_fixture(void) {
  fixture f = {0};
  need_ok(hfb_graph_parse(graph_text, strlen(graph_text), &f.graph), "graph");
  need_ok(hfb_device_cpu_create(THREADS, 0, &f.device), "device");
  need_ok(hfb_parameters_draw(f.graph, f.device, SEED, &f.parameters), "parameters");
  need_ok(hfb_parameters_draw(f.graph, f.device, SEED, &f.originals), "originals");
  for (int i = 0; i < 2; i++) {
    need_ok(hfb_tensor_create(f.device, f.graph->inputs[i]->dtype, &f.graph->inputs[i]->shape, &f.inputs[i]), "input");
  }
  for (int i = 0; i < 20 * 48; i++) ((float *)f.inputs[0].data)[i] = (float)(i % 17 - 8) * 0.0625f;
  for (int i = 0; i < 20; i++) ((int64_t *)f.inputs[1].data)[i] = (i * 37) % 192;
  return f;
}

static void close_fixture(fixture *f) {
  for (int i = 0; i < 2; i++) hfb_tensor_release(&f->inputs[i]);
  hfb_parameters_deinit(&f->parameters);
  hfb_parameters_deinit(&f->originals);
  hfb_device_destroy(f->device);
  hfb_graph_destroy(f->graph);
}

static void release(hfb_tensor *outputs) {
  for (int i = 0; i < OUTPUTS; i++) hfb_tensor_release(&outputs[i]);
}

static void run_once(fixture *f, hfb_program *program, hfb_tensor *outputs) {
  need_ok(hfb_backend_native()->bind_parameters(program, f->parameters.tensors), "bind");
  need_ok(hfb_backend_native()->run(program, f->inputs, outputs), "run");
}

static bool is_as_drawn(const fixture *f, int parameter) {
  const hfb_tensor *tensor = &f->parameters.tensors[parameter];
  return memcmp(tensor->data, f->originals.tensors[parameter].data, hfb_tensor_bytes(tensor)) == 0;
}

static hfb_program *compile(fixture *f, bool owns_parameters) {
  const hfb_backend_options options = {.cache_dir = "", .owns_parameters = owns_parameters};
  hfb_program *program = NULL;
  need_ok(hfb_backend_native()->compile(f->graph, f->device, &options, &program), "compile");
  return program;
}

/* Results do not depend on where the weights are; without ownership no parameter is touched and none is copied. */
static void only_what_products_alone_read_is_rearranged(void **state) {
  const hfb_backend *native = hfb_backend_native();
  fixture f = open_fixture();
  hfb_tensor want[OUTPUTS], got[OUTPUTS];
  hfb_program_stats stats = {0};
  hfb_program *program = compile(&f, false);
  run_once(&f, program, want);
  native->stats(program, &stats);
  assert_int_equal(stats.packed_bytes, 0);
  for (int i = 0; i < PARAMETERS; i++) assert_true(is_as_drawn(&f, i));
  native->destroy(program);

  program = compile(&f, true);
  run_once(&f, program, got);
  for (int i = 0; i < PARAMETERS; i++) {
    if (is_as_drawn(&f, i) == is_rearranged[i]) fail_msg("parameter %d: rearranged or not, against expectation", i);
  }
  for (int i = 0; i < OUTPUTS; i++) assert_memory_equal(want[i].data, got[i].data, hfb_tensor_bytes(&want[i]));
  release(got);

  for (int i = 0; i < PARAMETERS; i++) { /* bound again, row-major */
    memcpy(f.parameters.tensors[i].data, f.originals.tensors[i].data, hfb_tensor_bytes(&f.originals.tensors[i]));
  }
  run_once(&f, program, got);
  for (int i = 0; i < OUTPUTS; i++) assert_memory_equal(want[i].data, got[i].data, hfb_tensor_bytes(&want[i]));
  native->destroy(program);
  release(got);
  release(want);
  close_fixture(&f);
}

/* Beside the parameters there is one panel for what is left over of "columns"; while it packs, room for one matrix. */
static void packing_takes_no_second_copy(void **state) {
  const hfb_backend *native = hfb_backend_native();
  fixture f = open_fixture();
  const hfb_backend_options options = {.cache_dir = "", .owns_parameters = true};
  hfb_program_memory memory;
  hfb_program_stats stats = {0};
  need_ok(native->plan(f.graph, THREADS, &options, &memory), "plan");
  hfb_program *program = compile(&f, true);
  const int64_t before = hfb_device_memory(f.device).allocated_bytes;
  hfb_device_reset_peak(f.device);
  need_ok(native->bind_parameters(program, f.parameters.tensors), "bind");
  native->stats(program, &stats);
  assert_int_equal(hfb_device_memory(f.device).allocated_bytes - before, stats.packed_bytes);
  assert_int_equal(memory.packed_bytes, stats.packed_bytes);
  assert_true(stats.packed_bytes <= 64 * 48 * 4);
  assert_true(hfb_device_memory(f.device).peak_bytes - before <= 192 * 192 * 4 + 64 * 48 * 4);
  native->destroy(program);
  assert_int_equal(hfb_device_memory(f.device).allocated_bytes, before);
  close_fixture(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_what_products_alone_read_is_rearranged),
      cmocka_unit_test(packing_takes_no_second_copy),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
