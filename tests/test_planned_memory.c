/* native never plans more memory than eager: every model at its full size, batch 1, inference and training. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "bench/job.h"
#include "compile/native.h"
#include "eager/plan.h"

static int64_t value_bytes(const hfb_value *value) {
  return hfb_shape_elements(&value->shape) * (int64_t)hfb_dtype_bytes(value->dtype);
}

static const hfb_eager_storage *storage_of(const hfb_eager_plan *plan, const hfb_value *value) {
  return &plan->storages[plan->places[value->id].storage];
}

/* The most that the tensors of a run of eager hold at a time, outputs from where they are made included. */
static int64_t eager_peak(const hfb_eager_plan *plan, const hfb_graph *graph) {
  int64_t live = 0, peak = 0;
  for (int i = 0; i < plan->step_count; i++) {
    const hfb_eager_step *step = &plan->steps[i];
    for (int k = 0; k < step->node->result_count; k++) {
      const hfb_eager_storage *storage = storage_of(plan, &step->node->results[k]);
      if (storage->kind == HFB_EAGER_RESULT) live += value_bytes(storage->value);
    }
    if (live > peak) peak = live;
    for (int k = 0; k < step->release_count; k++)
      live -= value_bytes(plan->storages[plan->releases[step->first_release + k]].value);
  }
  for (int i = 0; i < graph->output_count; i++) {
    if (storage_of(plan, graph->outputs[i].value)->kind != HFB_EAGER_RESULT)
      live += value_bytes(graph->outputs[i].value);
  }
  return live > peak ? live : peak;
}

/* Inputs, parameters and what the graph holds are the same for both. native aligns each output to 64 bytes, and fills
 * the last panels of rearranged weights up to whole vectors: less than a thousandth of the parameters. Its figure
 * includes the scratch of loops and the logits that a loss takes in chunks. */
static bool is_below(const hfb_model_row *model, bool training) {
  hfb_job job = {.model = model, .precision = HFB_F32, .batch = 1, .seq_len = model->seq_len, .training = training};
  if (training) job.optimizer = hfb_suite_optimizer(model);
  const hfb_backend_options options = {.owns_parameters = true};
  hfb_graph *graph = NULL;
  hfb_eager_plan plan = {0};
  hfb_program_memory native = {0};
  hfb_status status = hfb_job_graph(&job, false, NULL, &graph);
  if (status == HFB_OK) status = hfb_eager_plan_init(graph, hfb_cpu()->isa, false, &plan);
  if (status == HFB_OK) status = hfb_backend_native()->plan(graph, 1, &options, &native);
  if (status != HFB_OK) fail_msg("%s: %s", model->name, hfb_error_message());
  const int64_t eager = eager_peak(&plan, graph), got = native.run_bytes + native.packed_bytes;
  const int64_t parameters = hfb_graph_cost(graph).parameter_count * (int64_t)sizeof(float);
  const bool is_below = got <= eager + parameters / 1000 + 64 * graph->output_count;
  if (!is_below)
    fprintf(stderr, "%s, %s: native plans %lld bytes, eager %lld, beside %lld of parameters\n", model->name,
            hfb_job_mode(&job), (long long)got, (long long)eager, (long long)parameters);
  hfb_eager_plan_deinit(&plan);
  hfb_graph_destroy(graph);
  return is_below;
}

static void check_all(bool training) {
  int above = 0, count = hfb_model_row_count();
  for (int i = 0; i < count; i++) above += !is_below(hfb_model_row_at(i), training);
  assert_true(count > 0);
  assert_int_equal(above, 0);
}

static void inference_needs_no_more_than_eager(void **state) { check_all(false); }

static void training_needs_no_more_than_eager(void **state) { check_all(true); }

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(inference_needs_no_more_than_eager),
      cmocka_unit_test(training_needs_no_more_than_eager),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
