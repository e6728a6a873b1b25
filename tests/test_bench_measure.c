/* The accuracy check and the timing on a real model of the suite, cut to a few tokens: eager against itself passes, and
 * engines that are wrong, lazy or broken are found out. The engines under test are eager with one fault each. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "bench/outcome.h"
#include "eager/eager.h"
#include "hfbench/hfbench.h"
#include "support/folder_fixture.h"

/* The smallest of the first models: 13.5 million parameters. */
static const char model_name[] = "ElectraForQuestionAnswering";

/* ---- Engines with a fault: eager's functions, changed in one place ---- */

static hfb_backend faulty; /* a copy of eager's table; its programs are eager's */

static const hfb_backend *faulty_backend(void) { return &faulty; }

static const hfb_engine faulty_engine = {"faulty", faulty_backend, false, "eager with a fault"};

static hfb_status run_then_scale(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs, float factor) {
  HFB_TRY(hfb_backend_eager()->run(program, inputs, outputs));
  const hfb_tensor *start_logits = &outputs[1]; /* may be every second element of a buffer */
  for (int64_t i = 0; i < start_logits->shape.dim[0]; i++) {
    for (int64_t j = 0; j < start_logits->shape.dim[1]; j++) {
      ((float *)start_logits->data)[i * start_logits->strides[0] + j * start_logits->strides[1]] *= factor;
    }
  }
  return HFB_OK;
}

static hfb_status run_wrong(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  return run_then_scale(program, inputs, outputs, 1.5f);
}

static hfb_status run_nan(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  return run_then_scale(program, inputs, outputs, NAN);
}

static hfb_status run_slightly_off(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  return run_then_scale(program, inputs, outputs, 1.00001f);
}

static hfb_status run_fails(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  return HFB_FAIL(HFB_INTERNAL, "the engine stumbled");
}

static void stats_of_nothing(const hfb_program *program, hfb_program_stats *out_stats) {
  hfb_backend_eager()->stats(program, out_stats);
  out_stats->kernels_run = 0;
}

/* ---- Set-up ---- */

static int reset_fault(void **state) {
  (void)state;
  faulty = *hfb_backend_eager();
  faulty.name = "faulty";
  return 0;
}

static hfb_job make_job(const hfb_engine *engine) {
  hfb_job job = {.engine = engine,
                 .precision = HFB_F32,
                 .batch = 2,
                 .seq_len = 8,
                 .threads = 2,
                 .seed = 1,
                 .iterations = 1,
                 .repeat = 6,
                 .calls = 2,
                 .cache_dir = own_folder};
  assert_int_equal(hfb_model_find(model_name, &job.model), HFB_OK);
  return job;
}

typedef struct trace {
  hfb_stage last;
  unsigned seen; /* bit of every stage */
} trace;

static void note_stage(void *context, hfb_stage stage, int done, int total) {
  trace *t = context;
  t->last = stage;
  t->seen |= 1u << stage;
  assert_true(done >= 0 && done <= total);
}

static hfb_status measure(hfb_status (*function)(const hfb_job *, const hfb_monitor *, hfb_row *), const hfb_job *job,
                          hfb_row *row, trace *t) {
  *t = (trace){0};
  const hfb_monitor monitor = {note_stage, t};
  assert_int_equal(hfb_row_init(row), HFB_OK);
  return function(job, &monitor, row);
}

/* ---- Hashes ---- */

/* Of the elements in row-major order, wherever they are; the first difference of two runs is found by them. */
static void test_hashes(void **state) {
  (void)state;
  hfb_device *device;
  assert_int_equal(hfb_device_cpu_create(1, 0, &device), HFB_OK);
  float rows[] = {1, 2, 3, 4, 5, 6}, columns[] = {1, 4, 2, 5, 3, 6};
  const hfb_shape shape = hfb_shape_of(2, (int64_t[]){2, 3});
  hfb_tensor plain = hfb_tensor_borrow(HFB_F32, &shape, rows), view = hfb_tensor_borrow(HFB_F32, &shape, columns);
  hfb_side side = {.device = device, .outputs = (hfb_tensor[]){plain, view}};
  hfb_outcome_item items[] = {
      {"a", HFB_OUTCOME_OUTPUT, 0}, {"b", HFB_OUTCOME_OUTPUT, 1}, {"c", HFB_OUTCOME_NO_GRADIENT, 0}};
  const hfb_outcome outcome = {.items = items, .count = 3};
  hfb_hash hashes[3];
  assert_int_equal(hfb_outcome_hashes(&outcome, &side, hashes), HFB_OK);
  assert_true(hashes[0].low != hashes[1].low && hashes[0].high != hashes[1].high);
  assert_true(hashes[2].low == 0 && hashes[2].high == 0);
  side.outputs[1].strides[0] = 1;
  side.outputs[1].strides[1] = 2;
  assert_int_equal(hfb_outcome_hashes(&outcome, &side, hashes), HFB_OK);
  assert_memory_equal(&hashes[0], &hashes[1], sizeof(hashes[0]));
  rows[4] = -0.0f;
  columns[3] = 0.0f; /* equal to it, but other bits */
  assert_int_equal(hfb_outcome_hashes(&outcome, &side, hashes), HFB_OK);
  assert_true(memcmp(&hashes[0], &hashes[1], sizeof(hashes[0])) != 0);
  hfb_device_destroy(device);
}

/* ---- Inputs ---- */

static void draw_inputs(const char *name, int64_t batch, int64_t seq, uint64_t seed, hfb_device *device,
                        hfb_graph **graph, hfb_config **config, hfb_tensor inputs[HFB_SUITE_INPUT_MAX]) {
  const hfb_model_row *row;
  assert_int_equal(hfb_model_find(name, &row), HFB_OK);
  const hfb_job job = {.model = row, .batch = batch, .seq_len = seq, .precision = HFB_F32};
  assert_int_equal(hfb_job_graph(&job, false, config, graph), HFB_OK);
  assert_int_equal(hfb_inputs_draw(row, *config, *graph, batch, seq, seed, device, inputs), HFB_OK);
}

/* Every row of the suite: within the suite's ranges, the same again with the same seed, others with another. */
static void test_inputs(void **state) {
  (void)state;
  hfb_device *device;
  assert_int_equal(hfb_device_cpu_create(1, 0, &device), HFB_OK);
  for (int m = 0; m < hfb_model_row_count(); m++) {
    const hfb_model_row *row = hfb_model_row_at(m);
    hfb_suite_input suite[HFB_SUITE_INPUT_MAX];
    hfb_tensor first[HFB_SUITE_INPUT_MAX], again[HFB_SUITE_INPUT_MAX], other[HFB_SUITE_INPUT_MAX];
    hfb_config *config;
    hfb_graph *graph;
    int count;
    bool takes_tokens = row->ids != HFB_IDS_PIXELS && row->ids != HFB_IDS_WAVES;
    int64_t seq = row->seq_len < 64 || !takes_tokens ? row->seq_len : 64;
    const hfb_job job = {.model = row, .batch = 2, .seq_len = seq, .precision = HFB_F32};
    assert_int_equal(hfb_job_graph(&job, false, &config, &graph), HFB_OK);
    assert_int_equal(hfb_model_suite_inputs(row, config, 2, seq, suite, &count), HFB_OK);
    assert_int_equal(hfb_inputs_draw(row, config, graph, 2, seq, 7, device, first), HFB_OK);
    assert_int_equal(hfb_inputs_draw(row, config, graph, 2, seq, 7, device, again), HFB_OK);
    assert_int_equal(hfb_inputs_draw(row, config, graph, 2, seq, 8, device, other), HFB_OK);
    bool any_differs = false;
    for (int i = 0; i < count; i++) {
      int64_t elements = hfb_shape_elements(&first[i].shape), row_length = elements / 2;
      size_t bytes = hfb_tensor_bytes(&first[i]);
      assert_memory_equal(first[i].data, again[i].data, bytes);
      any_differs = any_differs || memcmp(first[i].data, other[i].data, bytes) != 0;
      if (suite[i].copy_of >= 0) assert_memory_equal(first[i].data, first[suite[i].copy_of].data, bytes);
      for (int64_t e = 0; e < elements && suite[i].copy_of < 0; e++) {
        double value = hfb_tensor_get(&first[i], e);
        bool ends_row = suite[i].last >= 0 && e % row_length == row_length - 1;
        bool fits = ends_row ? value == (double)suite[i].last
                             : value >= (double)suite[i].low && value < (double)suite[i].high && value == floor(value);
        if (suite[i].normal) fits = fabs(value) < 7;
        if (suite[i].drawn > 0 && e % row_length >= suite[i].drawn) fits = value == -100;
        if (!fits) fail_msg("%s, %s: element %lld is %g", row->name, suite[i].input.name, (long long)e, value);
      }
    }
    assert_true(any_differs);
    for (int i = 0; i < count; i++) {
      hfb_tensor_release(&first[i]);
      hfb_tensor_release(&again[i]);
      hfb_tensor_release(&other[i]);
    }
    hfb_graph_destroy(graph);
    hfb_config_destroy(config);
  }
  hfb_device_destroy(device);
}

/* A row of a batch does not depend on how many follow it. */
static void test_inputs_of_batches_agree(void **state) {
  (void)state;
  hfb_device *device;
  hfb_graph *small, *large;
  hfb_config *config_small, *config_large;
  hfb_tensor a[HFB_SUITE_INPUT_MAX], b[HFB_SUITE_INPUT_MAX];
  assert_int_equal(hfb_device_cpu_create(1, 0, &device), HFB_OK);
  draw_inputs("BertForMaskedLM", 1, 16, 3, device, &small, &config_small, a);
  draw_inputs("BertForMaskedLM", 4, 16, 3, device, &large, &config_large, b);
  assert_memory_equal(a[0].data, b[0].data, 16 * sizeof(int64_t));
  for (int i = 0; i < small->input_count; i++) {
    hfb_tensor_release(&a[i]);
    hfb_tensor_release(&b[i]);
  }
  hfb_graph_destroy(small);
  hfb_graph_destroy(large);
  hfb_config_destroy(config_small);
  hfb_config_destroy(config_large);
  hfb_device_destroy(device);
}

/* ---- Accuracy ---- */

static void test_accuracy_of_engines(void **state) {
  (void)state;
  static const char *const names[] = {"nothing", "native"};
  for (size_t i = 0; i < 2; i++) {
    hfb_job job = make_job(hfb_engine_find(names[i]));
    hfb_row row;
    trace t;
    hfb_status status = measure(hfb_accuracy_measure, &job, &row, &t);
    if (status != HFB_OK) fail_msg("%s: %s", names[i], hfb_error_message());
    assert_string_equal(hfb_row_get_text(&row, HFB_COLUMN_ACCURACY), "pass");
    assert_false(hfb_row_has(&row, HFB_COLUMN_ERROR));
    assert_true(hfb_row_get_real(&row, HFB_COLUMN_ERROR_EAGER) < 1e-5);
    assert_true(hfb_row_get_real(&row, HFB_COLUMN_ERROR_BACKEND) < 1e-5);
    assert_true(hfb_row_get_real(&row, HFB_COLUMN_ERROR_BACKEND) > 0); /* float32 is not float64 */
    const unsigned expected = 1u << HFB_STAGE_LOAD | 1u << HFB_STAGE_REFERENCE | 1u << HFB_STAGE_EAGER_1 |
                              1u << HFB_STAGE_EAGER_2 | 1u << HFB_STAGE_COMPILED | 1u << HFB_STAGE_COMPARE;
    assert_int_equal(t.seen, expected);
    const json_t *tensors = json_object_get(row.object, "tensors");
    assert_int_equal(json_array_size(tensors), 3); /* sorted by name */
    assert_string_equal(json_string_value(json_object_get(json_array_get(tensors, 0), "name")), "end_logits");
    hfb_row_deinit(&row);
  }
}

/* In float64 eager's tuned kernels are compared with the plain ones. */
static void test_accuracy_in_f64(void **state) {
  (void)state;
  hfb_job job = make_job(hfb_engine_find("nothing"));
  job.precision = HFB_F64;
  hfb_row row;
  trace t;
  assert_int_equal(measure(hfb_accuracy_measure, &job, &row, &t), HFB_OK);
  assert_string_equal(hfb_row_get_text(&row, HFB_COLUMN_ACCURACY), "pass");
  assert_true(hfb_row_get_real(&row, HFB_COLUMN_ERROR_EAGER) < 1e-12);
  hfb_row_deinit(&row);
}

static void check_fault(const char *expected_status, const char *expected_text) {
  hfb_job job = make_job(&faulty_engine);
  hfb_row row;
  trace t;
  hfb_status status = measure(hfb_accuracy_measure, &job, &row, &t);
  const char *verdict =
      status == HFB_OK ? hfb_row_get_text(&row, HFB_COLUMN_ACCURACY) : hfb_stage_status(t.last, status);
  const char *text = status == HFB_OK ? hfb_row_get_text(&row, HFB_COLUMN_ERROR) : hfb_error_message();
  assert_string_equal(verdict, expected_status);
  if (!text || !strstr(text, expected_text)) fail_msg("'%s' does not contain '%s'", text ? text : "", expected_text);
  hfb_row_deinit(&row);
}

static void test_accuracy_finds_faults(void **state) {
  faulty.run = run_wrong;
  check_fault("fail_accuracy", "start_logits");
  reset_fault(state);
  faulty.run = run_nan;
  check_fault("fail_accuracy", "start_logits");
  reset_fault(state);
  faulty.run = run_fails;
  check_fault("fail_to_run", "the engine stumbled");
  reset_fault(state);
  faulty.stats = stats_of_nothing;
  check_fault("fail_to_run", "without running a kernel");
  reset_fault(state);
}

static void test_accuracy_accepts_rounding(void **state) {
  faulty.run = run_slightly_off;
  hfb_job job = make_job(&faulty_engine);
  hfb_row row;
  trace t;
  assert_int_equal(measure(hfb_accuracy_measure, &job, &row, &t), HFB_OK);
  assert_string_equal(hfb_row_get_text(&row, HFB_COLUMN_ACCURACY), "pass");
  assert_true(hfb_row_get_real(&row, HFB_COLUMN_ERROR_BACKEND) > hfb_row_get_real(&row, HFB_COLUMN_ERROR_EAGER));
  hfb_row_deinit(&row);
  reset_fault(state);
}

static void test_memory_limit(void **state) {
  (void)state;
  hfb_job job = make_job(hfb_engine_find("nothing"));
  job.memory_bytes = 20 << 20; /* the parameters alone take 54 MB */
  hfb_row row;
  trace t;
  assert_int_equal(measure(hfb_accuracy_measure, &job, &row, &t), HFB_OUT_OF_MEMORY);
  assert_int_equal(t.last, HFB_STAGE_LOAD);
  assert_string_equal(hfb_stage_status(t.last, HFB_OUT_OF_MEMORY), "OOM");
  hfb_row_deinit(&row);
}

/* ---- Performance ---- */

static double real_of(const hfb_row *row, hfb_column column) {
  double value = hfb_row_get_real(row, column);
  if (isnan(value)) fail_msg("%s is missing", hfb_column_info_of(column)->name);
  return value;
}

static void test_performance(void **state) {
  (void)state;
  static const char *const names[] = {"nothing", "native"};
  for (size_t i = 0; i < 2; i++) {
    hfb_job job = make_job(hfb_engine_find(names[i]));
    hfb_row row;
    trace t;
    hfb_status status = measure(hfb_performance_measure, &job, &row, &t);
    if (status != HFB_OK) fail_msg("%s: %s", names[i], hfb_error_message());
    double eager_ms = real_of(&row, HFB_COLUMN_EAGER_MS), ms = real_of(&row, HFB_COLUMN_ABS_LATENCY), low, high;
    double speedup = real_of(&row, HFB_COLUMN_SPEEDUP), gflops = real_of(&row, HFB_COLUMN_GFLOPS);
    assert_true(fabs(speedup - eager_ms / ms) < 1e-9 * speedup);
    assert_true(hfb_row_get_pair(&row, HFB_COLUMN_SPEEDUP_CI95, &low, &high) && low <= speedup && speedup <= high);
    assert_true(real_of(&row, HFB_COLUMN_P_VALUE) > 0 && real_of(&row, HFB_COLUMN_P_VALUE) <= 1);
    /* Two calls in a sample. */
    double work = 2e-9 * real_of(&row, HFB_COLUMN_MULTIPLY_ADDS);
    assert_true(fabs(gflops - work * 2 / (ms * 1e-3)) < 1e-9 * gflops);
    assert_true(fabs(real_of(&row, HFB_COLUMN_TOKENS_PER_S) - 16 * 2 / (ms * 1e-3)) < 1e-3);
    assert_int_equal(json_array_size(json_object_get(row.object, "samples_ms")), 6);
    assert_int_equal(json_array_size(json_object_get(row.object, "eager_samples_ms")), 6);
    assert_true(hfb_row_get_int(&row, HFB_COLUMN_KERNELS_RUN) > 10);
    double eager_gb = real_of(&row, HFB_COLUMN_EAGER_PEAK_MEM), gb = real_of(&row, HFB_COLUMN_DYNAMO_PEAK_MEM);
    double parameters_gb = real_of(&row, HFB_COLUMN_PARAMETER_MEM);
    assert_true(fabs(real_of(&row, HFB_COLUMN_COMPRESSION_RATIO) - eager_gb / gb) < 1e-9);
    assert_true(eager_gb > parameters_gb && gb > parameters_gb);
    assert_true(real_of(&row, HFB_COLUMN_EAGER_WORKING_MEM) > 0);
    if (strcmp(names[i], "nothing") == 0) {
      assert_true(eager_gb == gb); /* the same work needs the same memory */
      assert_true(real_of(&row, HFB_COLUMN_EAGER_WORKING_MEM) == real_of(&row, HFB_COLUMN_WORKING_MEM));
    } else {
      assert_true(real_of(&row, HFB_COLUMN_COMPILE_COLD_S) > 5 * real_of(&row, HFB_COLUMN_COMPILE_WARM_S));
      assert_true(real_of(&row, HFB_COLUMN_FIRST_RESULT_S) > real_of(&row, HFB_COLUMN_COMPILE_COLD_S));
      assert_true(real_of(&row, HFB_COLUMN_WORKING_MEM) < real_of(&row, HFB_COLUMN_EAGER_WORKING_MEM));
    }
    hfb_row_deinit(&row);
  }
}

static void check_timing_fault(const char *expected_status, const char *expected_text) {
  hfb_job job = make_job(&faulty_engine);
  hfb_row row;
  trace t;
  hfb_status status = measure(hfb_performance_measure, &job, &row, &t);
  assert_int_not_equal(status, HFB_OK);
  assert_string_equal(hfb_stage_status(t.last, status), expected_status);
  if (!strstr(hfb_error_message(), expected_text)) fail_msg("'%s' without '%s'", hfb_error_message(), expected_text);
  assert_false(hfb_row_has(&row, HFB_COLUMN_SPEEDUP)); /* no speed without a right answer */
  assert_true(hfb_row_has(&row, HFB_COLUMN_EAGER_PEAK_MEM));
  hfb_row_deinit(&row);
}

static void test_performance_finds_faults(void **state) {
  faulty.run = run_wrong;
  check_timing_fault("fail_accuracy", "start_logits");
  reset_fault(state);
  faulty.run = run_fails;
  check_timing_fault("warmup_failed", "the engine stumbled");
  reset_fault(state);
  faulty.stats = stats_of_nothing;
  check_timing_fault("fail_to_run", "did not do the work");
  reset_fault(state);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hashes),
      cmocka_unit_test(test_inputs),
      cmocka_unit_test(test_inputs_of_batches_agree),
      cmocka_unit_test(test_accuracy_of_engines),
      cmocka_unit_test(test_accuracy_in_f64),
      cmocka_unit_test_setup(test_accuracy_finds_faults, reset_fault),
      cmocka_unit_test_setup(test_accuracy_accepts_rounding, reset_fault),
      cmocka_unit_test(test_memory_limit),
      cmocka_unit_test(test_performance),
      cmocka_unit_test_setup(test_performance_finds_faults, reset_fault),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
