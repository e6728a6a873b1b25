/* Graphs whose parameters are stored in another dtype than they are computed in, for every row of the suite at the small
 * sizes of its stored case: the float64 reference that widens float32 parameters where they are read gives the very
 * bits of the one that has them all in float64, and needs far less memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/job.h"
#include "eager/eager.h"
#include "ir/transform.h"
#include "support/device_fixture.h"

enum { BATCH = 2, SEED = 11 };

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
  enum { MOST = 1024 };
  hfb_dtype dtypes[MOST];
  hfb_graph *stored = NULL;
  assert_true(graph->parameter_count <= MOST);
  for (int i = 0; i < graph->parameter_count; i++) dtypes[i] = like->parameters[i]->dtype;
  need_ok(hfb_graph_store_parameters(graph, dtypes, &stored), graph->name);
  return stored;
}

/* Inputs that `graph` has in float64 are float64 here too. */
static void draw_inputs(const small_model *model, const hfb_graph *graph, hfb_tensor *out_inputs) {
  const int64_t seq = model->row->ids == HFB_IDS_PIXELS || model->row->ids == HFB_IDS_WAVES ? model->row->seq_len : 8;
  need_ok(hfb_inputs_draw(model->row, model->config, graph, BATCH, seq, SEED, device, out_inputs), model->row->name);
}

/* One run of the plain kernels; returns the planned working memory. */
static int64_t run_reference(const small_model *model, const hfb_graph *graph, hfb_side *side) {
  const hfb_backend_options options = {.reference = true};
  hfb_tensor inputs[HFB_SUITE_INPUT_MAX];
  draw_inputs(model, graph, inputs);
  need_ok(hfb_side_open(side, hfb_backend_eager(), graph, NULL, SEED, &options, 2, 0), model->row->name);
  need_ok(hfb_side_run(side, inputs), model->row->name);
  for (int i = 0; i < graph->input_count; i++) hfb_tensor_release(&inputs[i]);
  return hfb_side_stats(side).planned_peak_bytes;
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_streamed_reference_has_the_same_bits),
  };
  return cmocka_run_group_tests(tests, set_up_threads, tear_down);
}
