/* A run always has a row for every model, whatever its jobs do. The jobs here are stand-ins for measurements. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "bench/child.h"
#include "bench/runner.h"

enum { MODELS_MAX = 4 };

typedef struct collected {
  hfb_row rows[MODELS_MAX];
  int count, progress_count;
  int kill_after_rows; /* raise SIGINT when so many rows are there; 0: never */
  bool kill_in_performance;
} collected;

static void on_row(void *context, const hfb_row *row) {
  collected *c = context;
  assert_true(c->count < MODELS_MAX);
  c->rows[c->count++] = (hfb_row){json_deep_copy(row->object)};
  if (c->count == c->kill_after_rows) raise(SIGINT);
}

static void on_progress(void *context, const hfb_run_progress *progress) {
  collected *c = context;
  c->progress_count++;
  assert_non_null(progress->model);
  assert_true(progress->index < progress->count && progress->run_s >= progress->model_s);
  if (c->kill_in_performance && progress->phase == HFB_PHASE_PERFORMANCE && progress->stage == HFB_STAGE_TIMING) {
    c->kill_in_performance = false;
    raise(SIGINT);
  }
}

static void collected_deinit(collected *c) {
  for (int i = 0; i < c->count; i++) hfb_row_deinit(&c->rows[i]);
}

static hfb_status run(unsigned phases, hfb_measure_fn accuracy, hfb_measure_fn performance, double timeout_s,
                      int models, collected *c) {
  const hfb_model_row *list[MODELS_MAX];
  for (int i = 0; i < models; i++) list[i] = hfb_model_row_at(i);
  const hfb_run_plan plan = {
      .models = list,
      .model_count = models,
      .phases = phases,
      .job = {.engine = hfb_engine_find("nothing"), .precision = HFB_F32, .threads = 1, .repeat = 6, .calls = 1},
      .timeout_s = timeout_s,
      .tag = "test",
      .accuracy = accuracy,
      .performance = performance,
      .without_peak = true,
  };
  const hfb_run_sink sink = {on_progress, on_row, c};
  return hfb_run(&plan, &sink);
}

static void assert_text(const hfb_row *row, hfb_column column, const char *expected) {
  const char *got = hfb_row_get_text(row, column);
  if (!got) fail_msg("%s is missing", hfb_column_info_of(column)->name);
  assert_string_equal(got, expected);
}

static void assert_contains(const hfb_row *row, hfb_column column, const char *part) {
  const char *got = hfb_row_get_text(row, column);
  if (!got || !strstr(got, part))
    fail_msg("%s is '%s', without '%s'", hfb_column_info_of(column)->name, got ? got : "", part);
}

/* ---- Jobs ---- */

static hfb_status accuracy_passes(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_monitor_stage(monitor, HFB_STAGE_COMPARE);
  hfb_row_text(row, HFB_COLUMN_ACCURACY, "pass");
  hfb_row_int(row, HFB_COLUMN_ACCURACY_BATCH_SIZE, job->batch);
  return HFB_OK;
}

static hfb_status accuracy_is_off(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_row_text(row, HFB_COLUMN_ACCURACY, "fail_accuracy");
  hfb_row_text(row, HFB_COLUMN_ERROR, "logits: far");
  return HFB_OK;
}

/* Tells what a training step is made up of. */
static hfb_status accuracy_tells_job(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_monitor_stage(monitor, HFB_STAGE_COMPARE);
  char text[96];
  snprintf(text, sizeof(text), "%s %s %s %s %s", hfb_job_mode(job), hfb_optimizer_name(job->optimizer),
           job->eval_mode ? "eval" : "train", job->no_dropout ? "off" : "on",
           job->checkpoint_layers ? "layers" : "all");
  hfb_row_text(row, HFB_COLUMN_ACCURACY, "pass");
  hfb_row_text(row, HFB_COLUMN_ACCURACY_STATUS_REASON, text);
  hfb_job_describe_training(job, row);
  return HFB_OK;
}

static hfb_status performance_measures(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_monitor_stage(monitor, HFB_STAGE_TIMING);
  if (!hfb_file_exists(job->cache_dir)) return HFB_FAIL(HFB_INTERNAL, "no cache folder");
  char path[1024];
  snprintf(path, sizeof(path), "%s/entry", job->cache_dir);
  HFB_TRY(hfb_file_write_atomic(path, "x", 1));
  hfb_row_real(row, HFB_COLUMN_SPEEDUP, 1.5);
  hfb_row_text(row, HFB_COLUMN_TAG, job->cache_dir); /* a way out for what the test wants to know */
  return HFB_OK;
}

static hfb_status fails_in_warmup(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_row_real(row, HFB_COLUMN_EAGER_PEAK_MEM, 0.25);
  hfb_monitor_stage(monitor, HFB_STAGE_COMPILE);
  return HFB_FAIL(HFB_COMPILE, "no compiler: install gcc");
}

static hfb_status runs_out_of_memory(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_monitor_stage(monitor, HFB_STAGE_EAGER_1);
  return HFB_FAIL(HFB_OUT_OF_MEMORY, "5 GB are too much");
}

static hfb_status is_unsupported(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_monitor_stage(monitor, HFB_STAGE_LOAD);
  return HFB_FAIL(HFB_UNSUPPORTED, "hidden_act 'swish9' is not implemented");
}

/* What was measured before the crash stays in the row. */
static hfb_status crashes(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_row_real(row, HFB_COLUMN_EAGER_PEAK_MEM, 0.25);
  hfb_monitor_stage(monitor, HFB_STAGE_COMPILED_WARMUP);
  fprintf(stderr, "first line\nassertion 'x' failed\n");
  signal(SIGABRT, SIG_DFL);
  kill(getpid(), SIGABRT);
  return HFB_OK;
}

static hfb_status only_the_first_crashes(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  if (job->model == hfb_model_row_at(0)) return crashes(job, monitor, row);
  return performance_measures(job, monitor, row);
}

static hfb_status hangs(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_monitor_step(monitor, HFB_STAGE_TIMING, 3, 30);
  for (;;) pause();
  return HFB_OK;
}

static hfb_status leaves(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  hfb_monitor_stage(monitor, HFB_STAGE_TIMING);
  _exit(3);
}

/* ---- Tests ---- */

static void test_both_phases(void **state) {
  (void)state;
  collected c = {0};
  assert_int_equal(run(HFB_PHASE_ACCURACY | HFB_PHASE_PERFORMANCE, accuracy_passes, performance_measures, 60, 2, &c),
                   HFB_OK);
  assert_int_equal(c.count, 2);
  for (int i = 0; i < 2; i++) {
    const hfb_model_row *model = hfb_model_row_at(i);
    assert_text(&c.rows[i], HFB_COLUMN_NAME, model->name);
    assert_text(&c.rows[i], HFB_COLUMN_STATUS, "pass");
    assert_text(&c.rows[i], HFB_COLUMN_ACCURACY, "pass");
    assert_int_equal(hfb_row_get_int(&c.rows[i], HFB_COLUMN_ACCURACY_BATCH_SIZE), 1);
    assert_int_equal(hfb_row_get_int(&c.rows[i], HFB_COLUMN_BATCH_SIZE), model->default_batch);
    assert_true(hfb_row_get_real(&c.rows[i], HFB_COLUMN_SPEEDUP) == 1.5);
    assert_false(hfb_row_has(&c.rows[i], HFB_COLUMN_ERROR));
    /* The folder for compiled code is a new one for every model and gone afterwards. */
    assert_false(hfb_file_exists(hfb_row_get_text(&c.rows[i], HFB_COLUMN_TAG)));
  }
  assert_string_not_equal(hfb_row_get_text(&c.rows[0], HFB_COLUMN_TAG), hfb_row_get_text(&c.rows[1], HFB_COLUMN_TAG));
  assert_true(c.progress_count >= 4);
  collected_deinit(&c);
}

static void check_one(unsigned phase, hfb_measure_fn job, double timeout_s, const char *status, const char *error) {
  collected c = {0};
  assert_int_equal(run(phase, job, job, timeout_s, 1, &c), HFB_OK);
  assert_int_equal(c.count, 1);
  assert_text(&c.rows[0], HFB_COLUMN_STATUS, status);
  assert_contains(&c.rows[0], HFB_COLUMN_ERROR, error);
  if (phase == HFB_PHASE_ACCURACY) assert_text(&c.rows[0], HFB_COLUMN_ACCURACY, status);
  assert_text(&c.rows[0], HFB_COLUMN_TAG, "test");
  assert_false(hfb_status_text_passes(status));
  collected_deinit(&c);
}

static void test_failures_become_statuses(void **state) {
  (void)state;
  check_one(HFB_PHASE_ACCURACY, accuracy_is_off, 60, "fail_accuracy", "logits: far");
  check_one(HFB_PHASE_ACCURACY, runs_out_of_memory, 60, "eager_1st_run_OOM", "5 GB are too much");
  check_one(HFB_PHASE_ACCURACY, is_unsupported, 60, "model_fail_to_load", "swish9");
  check_one(HFB_PHASE_PERFORMANCE, fails_in_warmup, 60, "warmup_failed", "install gcc");
  check_one(HFB_PHASE_PERFORMANCE, leaves, 60, "fail_to_run", "exit code 3");
  check_one(HFB_PHASE_PERFORMANCE, hangs, 0.5, "timeout", "out of time after 0.5 s in \"timing\"");
  check_one(HFB_PHASE_ACCURACY, hangs, 0.5, "timeout", "out of time");
}

static void test_crash(void **state) {
  (void)state;
  collected c = {0};
  assert_int_equal(run(HFB_PHASE_PERFORMANCE, NULL, only_the_first_crashes, 60, 2, &c), HFB_OK);
  assert_int_equal(c.count, 2);
  assert_text(&c.rows[0], HFB_COLUMN_STATUS, "warmup_failed");
  assert_contains(&c.rows[0], HFB_COLUMN_ERROR, "killed by signal 6");
  assert_contains(&c.rows[0], HFB_COLUMN_ERROR, "in \"compiled warm-up\": assertion 'x' failed");
  assert_contains(&c.rows[0], HFB_COLUMN_EXIT, "signal 6");
  assert_true(hfb_row_get_real(&c.rows[0], HFB_COLUMN_EAGER_PEAK_MEM) == 0.25);
  assert_text(&c.rows[1], HFB_COLUMN_STATUS, "pass");
  collected_deinit(&c);
}

/* A failed check does not keep the model from being timed, but the row does not pass. */
static void test_accuracy_decides(void **state) {
  (void)state;
  collected c = {0};
  assert_int_equal(run(HFB_PHASE_ACCURACY | HFB_PHASE_PERFORMANCE, accuracy_is_off, performance_measures, 60, 1, &c),
                   HFB_OK);
  assert_text(&c.rows[0], HFB_COLUMN_STATUS, "fail_accuracy");
  assert_true(hfb_row_get_real(&c.rows[0], HFB_COLUMN_SPEEDUP) == 1.5);
  collected_deinit(&c);
  collected d = {0};
  assert_int_equal(run(HFB_PHASE_ACCURACY | HFB_PHASE_PERFORMANCE, is_unsupported, performance_measures, 60, 1, &d),
                   HFB_OK);
  assert_text(&d.rows[0], HFB_COLUMN_STATUS, "model_fail_to_load");
  assert_false(hfb_row_has(&d.rows[0], HFB_COLUMN_SPEEDUP)); /* hopeless: not tried */
  collected_deinit(&d);
}

/* The signal is remembered by the process, so each of these ends the run of its own child process. */
static int interrupt_after_one_row(void *context, hfb_child_link *link) {
  (void)context;
  hfb_interrupt_install();
  collected c = {.kill_after_rows = 1};
  hfb_status status = run(HFB_PHASE_ACCURACY, accuracy_passes, NULL, 60, 3, &c);
  hfb_child_send(link, status == HFB_INTERRUPTED && c.count == 1 ? "ok" : "wrong");
  return 0;
}

static int interrupt_in_second_phase(void *context, hfb_child_link *link) {
  (void)context;
  hfb_interrupt_install();
  collected c = {.kill_in_performance = true};
  hfb_status status = run(HFB_PHASE_ACCURACY | HFB_PHASE_PERFORMANCE, accuracy_passes, hangs, 60, 3, &c);
  bool kept = c.count == 1 && strcmp(hfb_row_get_text(&c.rows[0], HFB_COLUMN_ACCURACY), "pass") == 0 &&
              strcmp(hfb_row_get_text(&c.rows[0], HFB_COLUMN_STATUS), "interrupted") == 0;
  hfb_child_send(link, status == HFB_INTERRUPTED && kept ? "ok" : "wrong");
  return 0;
}

static int interrupt_in_first_phase(void *context, hfb_child_link *link) {
  (void)context;
  hfb_interrupt_install();
  collected c = {.kill_in_performance = true};
  hfb_status status = run(HFB_PHASE_PERFORMANCE, NULL, hangs, 60, 3, &c);
  hfb_child_send(link, status == HFB_INTERRUPTED && c.count == 0 ? "ok" : "wrong");
  return 0;
}

static void keep_line(void *context, const char *line) {
  if (line) snprintf(context, 32, "%s", line);
}

static void test_interrupt_keeps_rows(void **state) {
  (void)state;
  const hfb_child_fn jobs[] = {interrupt_after_one_row, interrupt_in_second_phase, interrupt_in_first_phase};
  for (size_t i = 0; i < 3; i++) {
    char line[32] = "";
    hfb_child_result result;
    const hfb_child_options options = {.timeout_s = 60};
    assert_int_equal(hfb_child_run(jobs[i], NULL, &options, keep_line, line, &result), HFB_OK);
    assert_int_equal(result.end, HFB_CHILD_EXITED);
    assert_string_equal(line, "ok");
  }
}

static void test_bad_scratch_folder(void **state) {
  (void)state;
  setenv("TMPDIR", "/nonexistent/folder", 1);
  collected c = {0};
  assert_int_equal(run(HFB_PHASE_PERFORMANCE, NULL, performance_measures, 60, 1, &c), HFB_IO);
  assert_non_null(strstr(hfb_error_message(), "TMPDIR"));
  unsetenv("TMPDIR");
}

/* The suite's optimizer for each model, and eval mode in the accuracy check of a model that is evaluated only. */
static void test_training_jobs(void **state) {
  (void)state;
  static const char *const names[] = {"BertForMaskedLM", "MobileBertForMaskedLM", "M2M100ForConditionalGeneration"};
  static const char *const suite[] = {"training adam train on all", "training none train on all",
                                      "training sgd eval on all"};
  static const char *const chosen[] = {"training sgd train off layers", "training sgd train off layers",
                                       "training sgd eval off layers"};
  const hfb_model_row *list[3];
  for (int i = 0; i < 3; i++) assert_int_equal(hfb_model_find(names[i], &list[i]), HFB_OK);
  for (int pass = 0; pass < 2; pass++) {
    collected c = {0};
    hfb_run_plan plan = {.models = list,
                         .model_count = 3,
                         .phases = HFB_PHASE_ACCURACY,
                         .job = {.engine = hfb_engine_find("nothing"), .precision = HFB_F32, .training = true},
                         .suite_optimizer = pass == 0,
                         .timeout_s = 20,
                         .accuracy = accuracy_tells_job};
    plan.job.optimizer = HFB_OPTIMIZER_SGD;
    plan.job.no_dropout = plan.job.checkpoint_layers = pass == 1;
    const hfb_run_sink sink = {on_progress, on_row, &c};
    assert_int_equal(hfb_run(&plan, &sink), HFB_OK);
    for (int i = 0; i < 3; i++) {
      assert_text(&c.rows[i], HFB_COLUMN_MODE, "training");
      assert_text(&c.rows[i], HFB_COLUMN_ACCURACY_STATUS_REASON, pass == 0 ? suite[i] : chosen[i]);
      assert_text(&c.rows[i], HFB_COLUMN_DROPOUT, i == 2 ? "eval mode" : pass == 0 ? "on" : "off");
      assert_text(&c.rows[i], HFB_COLUMN_CHECKPOINTING, pass == 0 ? "off" : "layers");
    }
    collected_deinit(&c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_training_jobs),
      cmocka_unit_test(test_both_phases),      cmocka_unit_test(test_failures_become_statuses),
      cmocka_unit_test(test_crash),            cmocka_unit_test(test_accuracy_decides),
      cmocka_unit_test(test_interrupt_keeps_rows), cmocka_unit_test(test_bad_scratch_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
