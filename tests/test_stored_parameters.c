/* Graphs whose parameters are stored in another dtype than they are computed in, for every row of the suite at the
 * small sizes of its stored case: the float64 reference that widens float32 parameters where they are read gives the
 * very bits of the one that has them all in float64; engines compute with weights in bf16. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/compare.h"
#include "bench/job.h"
#include "compile/native.h"
#include "eager/eager.h"
#include "ir/builder.h"
#include "ir/transform.h"
#include "support/device_fixture.h"

enum { BATCH = 2, SEED = 11, MOST_PARAMETERS = 1024 };

typedef struct small_model {
  const hfb_model_row *row;
  hfb_config *config;
  hfb_graph *graph; /* f32 */
} small_model;

/* False when the row has no stored case. */
static bool make_model(const hfb_model_row *row, small_model *out_model) {
  char path[512];
  snprintf(path, sizeof(path), "%s/golden/%s/config.json", HFB_TEST_DATA, row->name);
  if (access(path, R_OK) != 0) return false;
  *out_model = (small_model){.row = row};
  need_ok(hfb_config_load(path, NULL, &out_model->config), row->name);
  hfb_suite_input suite[HFB_SUITE_INPUT_MAX];
  hfb_model_input inputs[HFB_SUITE_INPUT_MAX];
  int count = 0;
  const int64_t seq = row->ids == HFB_IDS_PIXELS || row->ids == HFB_IDS_WAVES ? row->seq_len : 8;
  need_ok(hfb_model_suite_inputs(row, out_model->config, BATCH, seq, suite, &count), row->name);
  for (int i = 0; i < count; i++) inputs[i] = suite[i].input;
  const hfb_model_request request = {
      .class_name = row->class_name, .config = out_model->config, .input_count = count, .inputs = inputs};
  need_ok(hfb_model_build(&request, &out_model->graph), row->name);
  return true;
}

static void release_model(small_model *model) {
  hfb_graph_destroy(model->graph);
  hfb_config_destroy(model->config);
}

static hfb_graph *in_f64(const hfb_graph *graph) {
  hfb_graph *wide = NULL;
  need_ok(hfb_graph_convert(graph, HFB_F64, &wide), graph->name);
  return wide;
}

/* The parameters of `graph` in the dtypes that `like` has for them. */
static hfb_graph *stored_like(const hfb_graph *graph, const hfb_graph *like) {
  hfb_dtype dtypes[MOST_PARAMETERS];
  hfb_graph *stored = NULL;
  assert_true(graph->parameter_count <= MOST_PARAMETERS);
  for (int i = 0; i < graph->parameter_count; i++) dtypes[i] = like->parameters[i]->dtype;
  need_ok(hfb_graph_store_parameters(graph, dtypes, &stored), graph->name);
  return stored;
}

/* Inputs that `graph` has in float64 are float64 here too. */
static void draw_inputs(const small_model *model, const hfb_graph *graph, hfb_tensor *out_inputs) {
  const int64_t seq = model->row->ids == HFB_IDS_PIXELS || model->row->ids == HFB_IDS_WAVES ? model->row->seq_len : 8;
  need_ok(hfb_inputs_draw(model->row, model->config, graph, BATCH, seq, SEED, device, out_inputs), model->row->name);
}

/* One run of the plain kernels. */
static void run_reference(const small_model *model, const hfb_graph *graph, hfb_side *side) {
  const hfb_backend_options options = {.reference = true};
  hfb_tensor inputs[HFB_SUITE_INPUT_MAX];
  draw_inputs(model, graph, inputs);
  need_ok(hfb_side_open(side, hfb_backend_eager(), graph, NULL, SEED, &options, 2, 0), model->row->name);
  need_ok(hfb_side_run(side, inputs), model->row->name);
  for (int i = 0; i < graph->input_count; i++) hfb_tensor_release(&inputs[i]);
}

/* Matrices and tables in bf16, as a job stores them. */
static hfb_graph *with_bf16_weights(const hfb_graph *graph) {
  hfb_dtype dtypes[MOST_PARAMETERS];
  hfb_graph *stored = NULL;
  for (int i = 0; i < graph->parameter_count; i++) {
    const hfb_value *value = graph->parameters[i];
    const bool is_weight = value->shape.rank >= 2 && hfb_node_int(value->node, HFB_ATTR_BUFFER) == 0;
    dtypes[i] = is_weight && value->dtype == HFB_F32 ? HFB_BF16 : value->dtype;
  }
  need_ok(hfb_graph_store_parameters(graph, dtypes, &stored), graph->name);
  return stored;
}

/* Products whose weight is stored as bf16. */
static int cast_product_count(const hfb_graph *graph) {
  int count = 0;
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    if (node->op != HFB_OP_LINEAR || node->inputs[1]->node->op != HFB_OP_CAST) continue;
    count += node->inputs[1]->node->inputs[0]->dtype == HFB_BF16;
  }
  return count;
}

static void run_side(const small_model *model, const hfb_graph *graph, const hfb_backend *backend, hfb_side *side) {
  const hfb_backend_options options = {.cache_dir = ""};
  hfb_tensor inputs[HFB_SUITE_INPUT_MAX];
  draw_inputs(model, graph, inputs);
  need_ok(hfb_side_open(side, backend, graph, NULL, SEED, &options, 2, 0), model->row->name);
  need_ok(hfb_side_run(side, inputs), model->row->name);
  for (int i = 0; i < graph->input_count; i++) hfb_tensor_release(&inputs[i]);
}

static void need_equal_outputs(const char *name, const hfb_side *a, const hfb_side *b) {
  for (int i = 0; i < a->graph->output_count; i++) {
    const hfb_tensor *x = &a->outputs[i], *y = &b->outputs[i];
    hfb_tensor packed_x, packed_y;
    assert_int_equal(x->dtype, y->dtype);
    need_ok(hfb_tensor_pack(x, device, &packed_x), name);
    need_ok(hfb_tensor_pack(y, device, &packed_y), name);
    if (memcmp(packed_x.data, packed_y.data, hfb_tensor_bytes(&packed_x)) != 0) {
      fail_msg("%s: output %s differs", name, a->graph->outputs[i].name);
    }
    hfb_tensor_release(&packed_x);
    hfb_tensor_release(&packed_y);
  }
}

static void test_streamed_reference_has_the_same_bits(void **state) {
  (void)state;
  int checked = 0;
  for (int m = 0; m < hfb_model_row_count(); m++) {
    small_model model;
    if (!make_model(hfb_model_row_at(m), &model)) continue;
    hfb_graph *wide = in_f64(model.graph), *streamed = stored_like(wide, model.graph);
    hfb_side a, b;
    run_reference(&model, wide, &a);
    run_reference(&model, streamed, &b);
    need_equal_outputs(model.row->name, &a, &b);
    hfb_side_close(&a);
    hfb_side_close(&b);
    hfb_graph_destroy(streamed);
    hfb_graph_destroy(wide);
    release_model(&model);
    checked++;
  }
  assert_true(checked >= 50);
}

/* The 52 rows of the suite with bf16 weights, at the same sizes: native, which reads them as they are, and eager, which
 * widens each where it is used, are both near float64 of the same weights. */
static void test_bf16_weights(void **state) {
  (void)state;
  int checked = 0, products = 0;
  for (int m = 0; m < hfb_model_row_count(); m++) {
    small_model model;
    if (hfb_model_row_at(m)->flags & HFB_MODEL_MORE || !make_model(hfb_model_row_at(m), &model)) continue;
    hfb_graph *narrow = with_bf16_weights(model.graph), *wide = NULL;
    need_ok(hfb_graph_convert(narrow, HFB_F64, &wide), model.row->name);
    products += cast_product_count(narrow);
    hfb_side reference, sides[2];
    run_reference(&model, wide, &reference);
    run_side(&model, narrow, hfb_backend_eager(), &sides[0]);
    run_side(&model, narrow, hfb_backend_native(), &sides[1]);
    for (int side = 0; side < 2; side++) {
      for (int i = 0; i < narrow->output_count; i++) {
        hfb_distance distance;
        need_ok(hfb_distance_measure(&sides[side].outputs[i], &reference.outputs[i], NULL, &distance), model.row->name);
        if (!(distance.scaled <= 1e-4)) {
          fail_msg("%s, %s: output %s is %g away", model.row->name, sides[side].backend->name,
                   narrow->outputs[i].name, distance.scaled);
        }
      }
    }
    hfb_side_close(&reference);
    for (int side = 0; side < 2; side++) hfb_side_close(&sides[side]);
    hfb_graph_destroy(wide);
    hfb_graph_destroy(narrow);
    release_model(&model);
    checked++;
  }
  assert_true(checked >= 45);
  assert_true(products >= 400);
}

/* A head of 20 MB: native's peak stays below what a copy of it in f32 would take. */
static void test_native_makes_no_copy(void **state) {
  (void)state;
  hfb_builder b;
  hfb_graph *graph = NULL;
  need_ok(hfb_builder_init(&b, "head"), "builder");
  hfb_value *x = hfb_input(&b, "x", HFB_F32, hfb_shape_of(2, (int64_t[]){4, 256}));
  hfb_value *w = hfb_parameter(&b, "w", hfb_shape_of(2, (int64_t[]){40000, 256}),
                               (hfb_init){.kind = HFB_INIT_NORMAL, .b = 1, .padding_idx = -1});
  hfb_output_add(&b, "y", hfb_linear_op(&b, x, w, NULL, true));
  need_ok(hfb_builder_finish(&b, &graph), "graph");
  hfb_graph *narrow = with_bf16_weights(graph);
  const int64_t copy_bytes = 40000 * 256 * 4;
  hfb_program_memory eager, native;
  need_ok(hfb_backend_eager()->plan(narrow, 2, NULL, &eager), "eager");
  need_ok(hfb_backend_native()->plan(narrow, 2, NULL, &native), "native");
  assert_true(eager.run_bytes > copy_bytes);
  assert_true(native.run_bytes + native.packed_bytes < copy_bytes / 8);
  hfb_tensor input, output;
  hfb_parameters parameters;
  hfb_program *program = NULL;
  const hfb_backend_options options = {.cache_dir = ""};
  need_ok(hfb_tensor_create(device, HFB_F32, &x->shape, &input), "input");
  for (int i = 0; i < 4 * 256; i++) ((float *)input.data)[i] = (float)(i % 3);
  need_ok(hfb_parameters_draw(narrow, device, SEED, &parameters), "parameters");
  need_ok(hfb_backend_native()->compile(narrow, device, &options, &program), "compile");
  need_ok(hfb_backend_native()->bind_parameters(program, parameters.tensors), "bind");
  hfb_device_empty_cache(device);
  const int64_t before = hfb_device_memory(device).allocated_bytes;
  hfb_device_reset_peak(device);
  need_ok(hfb_backend_native()->run(program, &input, &output), "run");
  assert_true(hfb_device_memory(device).peak_bytes - before < copy_bytes / 8);
  hfb_tensor_release(&output);
  hfb_backend_native()->destroy(program);
  hfb_parameters_deinit(&parameters);
  hfb_tensor_release(&input);
  hfb_graph_destroy(narrow);
  hfb_graph_destroy(graph);
  hfb_builder_deinit(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_streamed_reference_has_the_same_bits),
      cmocka_unit_test(test_bf16_weights),
      cmocka_unit_test(test_native_makes_no_copy),
  };
  return cmocka_run_group_tests(tests, set_up_threads, tear_down);
}
