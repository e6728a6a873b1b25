#include "bench/runner.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/build.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/strbuf.h"
#include "bench/child.h"
#include "bench/machine.h"
#include "bench/memory_limit.h"

enum { PATH_BYTES = 512, ERROR_BYTES = 1024 };

bool hfb_status_text_passes(const char *status) {
  return status && (strcmp(status, "pass") == 0 || strcmp(status, "pass_due_to_skip") == 0);
}

/* ---- The child's side ---- */

/* What a child sends, one JSON object in each line: where it is, the fields it has measured, and how it ended. */
typedef struct child_work {
  const hfb_job *job;
  hfb_measure_fn measure;
  hfb_child_link *link;
  hfb_row row;
  hfb_stage stage;
} child_work;

static void send_object(hfb_child_link *link, json_t *object) {
  char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
  if (text) hfb_child_send(link, text);
  free(text);
  json_decref(object);
}

static void send_row(const child_work *w) { send_object(w->link, json_pack("{s:O}", "row", w->row.object)); }

static void report_to_parent(void *context, hfb_stage stage, int done, int total) {
  child_work *w = context;
  if (stage != w->stage) send_row(w); /* what was measured so far survives whatever comes now */
  w->stage = stage;
  send_object(w->link, json_pack("{s:i, s:i, s:i}", "stage", (int)stage, "done", done, "total", total));
}

static int run_in_child(void *context, hfb_child_link *link) {
  child_work *w = context;
  w->link = link;
  if (hfb_row_init(&w->row) != HFB_OK) return 1;
  const hfb_monitor monitor = {report_to_parent, w};
  hfb_status status = w->measure(w->job, &monitor, &w->row);
  send_row(w);
  json_t *error = json_string(status == HFB_OK ? "" : hfb_error_message());
  send_object(link, json_pack("{s:i, s:o}", "end", (int)status, "error", error ? error : json_string("?")));
  hfb_row_deinit(&w->row);
  return 0;
}

/* ---- The parent's side ---- */

typedef struct run_state {
  const hfb_run_plan *plan;
  const hfb_run_sink *sink;
  int64_t start_ns, model_start_ns;
  hfb_run_progress progress;
  double machine_gflops;
  char scratch[PATH_BYTES]; /* folder for compiler caches; "" until it is made */

  /* Of the phase that runs */
  hfb_row *row;
  bool has_ended;
  hfb_status end_status;
  char error[ERROR_BYTES];
} run_state;

static void tell_progress(run_state *s) {
  if (!s->sink->progress) return;
  int64_t now = hfb_clock_ns();
  s->progress.run_s = (double)(now - s->start_ns) * 1e-9;
  s->progress.model_s = (double)(now - s->model_start_ns) * 1e-9;
  s->sink->progress(s->sink->context, &s->progress);
}

static int bounded_int(const json_t *object, const char *key, int fallback, int limit) {
  const json_t *value = json_object_get(object, key);
  json_int_t number = json_is_integer(value) ? json_integer_value(value) : fallback;
  return number < 0 || number >= limit ? fallback : (int)number;
}

static void take_line(void *context, const char *line) {
  run_state *s = context;
  json_t *message = line ? json_loads(line, 0, NULL) : NULL;
  if (message) {
    s->progress.stage = (hfb_stage)bounded_int(message, "stage", (int)s->progress.stage, HFB_STAGE_COUNT);
    s->progress.done = bounded_int(message, "done", 0, 1 << 30);
    s->progress.total = bounded_int(message, "total", 0, 1 << 30);
    hfb_row_merge(s->row, json_object_get(message, "row"));
    if (json_object_get(message, "end")) {
      const char *error = json_string_value(json_object_get(message, "error"));
      s->has_ended = true;
      s->end_status = (hfb_status)bounded_int(message, "end", HFB_INTERNAL, HFB_STATUS_COUNT);
      snprintf(s->error, sizeof(s->error), "%s", error ? error : "");
    }
    json_decref(message);
  }
  tell_progress(s);
}

/* The last line with anything in it. */
static const char *last_line(char *text) {
  size_t length = strlen(text);
  while (length > 0 && strchr("\n\r \t", text[length - 1])) text[--length] = '\0';
  char *newline = strrchr(text, '\n');
  return newline ? newline + 1 : text;
}

/* How the phase ended, as a status string of the harness; NULL when it was interrupted. Fills `error` and the row's
 * field `exit` where the child did not come to an end by itself. */
static const char *conclude(run_state *s, hfb_child_result *result) {
  hfb_stage stage = s->progress.stage;
  char how[160];
  if (result->end == HFB_CHILD_INTERRUPTED) return NULL;
  if (s->has_ended) {
    if (s->end_status == HFB_OK) return "pass";
    return hfb_stage_status(stage, s->end_status);
  }
  const char *said = last_line(result->stderr_tail), *status = hfb_stage_status(stage, HFB_INTERNAL);
  if (result->end == HFB_CHILD_TIMED_OUT) {
    snprintf(how, sizeof(how), "out of time after %g s", s->plan->timeout_s);
    status = "timeout";
  } else if (result->out_of_memory) {
    snprintf(how, sizeof(how), "killed by the kernel, which was out of memory");
    status = hfb_stage_status(stage, HFB_OUT_OF_MEMORY);
  } else if (result->end == HFB_CHILD_SIGNALLED) {
    snprintf(how, sizeof(how), "killed by signal %d (%s)", result->code, strsignal(result->code));
  } else {
    snprintf(how, sizeof(how), "ended with exit code %d", result->code);
  }
  snprintf(s->error, sizeof(s->error), "%s in \"%s\"%s%.600s", how, hfb_stage_text(stage), said[0] ? ": " : "", said);
  hfb_row_text(s->row, HFB_COLUMN_EXIT, how);
  return status;
}

static hfb_measure_fn measure_of(const hfb_run_plan *plan, unsigned phase) {
  if (phase == HFB_PHASE_ACCURACY) return plan->accuracy ? plan->accuracy : hfb_accuracy_measure;
  return plan->performance ? plan->performance : hfb_performance_measure;
}

static int64_t memory_of(const hfb_run_plan *plan) {
  return plan->memory_bytes > 0 ? plan->memory_bytes : hfb_memory_available_bytes();
}

static hfb_job job_of(const run_state *s, const hfb_model_row *model, unsigned phase) {
  const hfb_run_plan *plan = s->plan;
  hfb_job job = plan->job;
  job.model = model;
  job.batch = plan->batch > 0 ? plan->batch : phase == HFB_PHASE_ACCURACY ? 1 : model->default_batch;
  job.seq_len = plan->seq_len > 0 ? plan->seq_len : model->seq_len;
  job.memory_bytes = memory_of(plan);
  job.machine_gflops = s->machine_gflops;
  job.cache_dir = phase == HFB_PHASE_PERFORMANCE ? s->scratch : NULL;
  if (plan->suite_optimizer) job.optimizer = hfb_suite_optimizer(model);
  /* As in the reference harness: the accuracy of such a model is that of its eval mode. */
  if (phase == HFB_PHASE_ACCURACY && model->flags & HFB_MODEL_ONLY_EVAL) job.eval_mode = true;
  return job;
}

/* Runs one phase; *out_status is its status string, NULL when interrupted. */
static hfb_status run_phase(run_state *s, const hfb_model_row *model, unsigned phase, const char **out_status) {
  hfb_job job = job_of(s, model, phase);
  child_work work = {.job = &job, .measure = measure_of(s->plan, phase)};
  const hfb_child_options options = {s->plan->timeout_s, job.memory_bytes, s->plan->pass_stderr};
  s->progress.phase = phase;
  s->progress.stage = HFB_STAGE_LOAD;
  s->progress.done = s->progress.total = 0;
  s->has_ended = false;
  s->error[0] = '\0';
  tell_progress(s);
  hfb_child_result result;
  HFB_TRY(hfb_child_run(run_in_child, &work, &options, take_line, s, &result));
  *out_status = conclude(s, &result);
  if (phase == HFB_PHASE_ACCURACY && *out_status) {
    /* The check itself decides unless it failed to come to a verdict. */
    const char *verdict = hfb_row_get_text(s->row, HFB_COLUMN_ACCURACY);
    if (hfb_status_text_passes(*out_status) && verdict) *out_status = verdict;
    else hfb_row_text(s->row, HFB_COLUMN_ACCURACY, *out_status);
  }
  /* The first error is the cause; a later phase often only meets it again. */
  if (s->error[0] && !hfb_row_has(s->row, HFB_COLUMN_ERROR)) hfb_row_text(s->row, HFB_COLUMN_ERROR, s->error);
  return HFB_OK;
}

static void describe(const run_state *s, const hfb_model_row *model, hfb_row *row) {
  const hfb_run_plan *plan = s->plan;
  unsigned last_phase = plan->phases & HFB_PHASE_PERFORMANCE ? HFB_PHASE_PERFORMANCE : HFB_PHASE_ACCURACY;
  hfb_job job = job_of(s, model, last_phase);
  hfb_row_text(row, HFB_COLUMN_DEVICE, "cpu");
  hfb_row_text(row, HFB_COLUMN_NAME, model->name);
  hfb_row_int(row, HFB_COLUMN_BATCH_SIZE, job.batch);
  hfb_row_text(row, HFB_COLUMN_TAG, plan->tag);
  hfb_row_text(row, HFB_COLUMN_MODE, hfb_job_mode(&job));
  hfb_job_describe_training(&job, row);
  hfb_row_text(row, HFB_COLUMN_PRECISION, hfb_dtype_name(job.precision));
  hfb_row_text(row, HFB_COLUMN_WEIGHTS, hfb_dtype_name(hfb_job_weights(&job)));
  hfb_row_text(row, HFB_COLUMN_BACKEND, job.engine->name);
  hfb_row_int(row, HFB_COLUMN_SEQ_LEN, job.seq_len);
  hfb_row_int(row, HFB_COLUMN_THREADS, job.threads > 0 ? job.threads : hfb_cpu()->core_count);
  hfb_row_int(row, HFB_COLUMN_SEED, (int64_t)job.seed);
  hfb_row_text(row, HFB_COLUMN_CPU, hfb_cpu()->model_name);
  hfb_row_text(row, HFB_COLUMN_ISA, hfb_isa_name(hfb_cpu()->isa));
  hfb_row_text(row, HFB_COLUMN_VERSION, hfb_build_version());
}

static void finish_row(const run_state *s, hfb_row *row, const char *status) {
  char text[32];
  time_t now = time(NULL);
  struct tm utc;
  gmtime_r(&now, &utc);
  strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  hfb_row_text(row, HFB_COLUMN_STATUS, status);
  hfb_row_text(row, HFB_COLUMN_TIME, text);
  hfb_row_real(row, HFB_COLUMN_WALL_S, (double)(hfb_clock_ns() - s->model_start_ns) * 1e-9);
  s->sink->row(s->sink->context, row);
}

/* Nothing that comes later can work when the model itself cannot be made. */
static bool is_hopeless(const char *accuracy) {
  return strcmp(accuracy, "model_fail_to_load") == 0 || strcmp(accuracy, "eager_fail_to_run") == 0;
}

static hfb_status run_model(run_state *s, const hfb_model_row *model) {
  hfb_row row;
  HFB_TRY(hfb_row_init(&row));
  s->row = &row;
  s->model_start_ns = hfb_clock_ns();
  s->progress.model = model;
  describe(s, model, &row);
  const char *accuracy = NULL, *performance = NULL;
  bool wants_accuracy = s->plan->phases & HFB_PHASE_ACCURACY,
       wants_performance = s->plan->phases & HFB_PHASE_PERFORMANCE;
  hfb_status status = HFB_OK;
  if (wants_accuracy) status = run_phase(s, model, HFB_PHASE_ACCURACY, &accuracy);
  bool goes_on = wants_performance && status == HFB_OK && (!wants_accuracy || (accuracy && !is_hopeless(accuracy)));
  if (goes_on) status = run_phase(s, model, HFB_PHASE_PERFORMANCE, &performance);
  bool is_cut_short = (wants_accuracy && !accuracy) || (goes_on && !performance);
  if (status == HFB_OK && is_cut_short) {
    /* A phase that was finished is kept; a model of which none was has nothing to show. */
    if (accuracy) finish_row(s, &row, "interrupted");
  } else if (status == HFB_OK) {
    finish_row(s, &row, accuracy && !(hfb_status_text_passes(accuracy) && performance) ? accuracy : performance);
  }
  hfb_row_deinit(&row);
  s->row = NULL;
  return status;
}

/* ---- Before and after ---- */

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *position) {
  remove(path);
  return 0;
}

static void remove_tree(const char *path) { nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS); }

static hfb_status make_scratch(run_state *s) {
  const char *parent = getenv("TMPDIR");
  if (!parent || !parent[0]) parent = "/tmp";
  char path[PATH_BYTES];
  int length = snprintf(path, sizeof(path), "%s/hfbench-XXXXXX", parent);
  if (length >= (int)sizeof(path) || !mkdtemp(path)) {
    return HFB_FAIL(HFB_IO, "cannot make a temporary folder in '%s': %s; name another one in TMPDIR", parent,
                    strerror(errno));
  }
  memcpy(s->scratch, path, sizeof(path));
  return HFB_OK;
}

static int peak_in_child(void *context, hfb_child_link *link) {
  const hfb_job *job = context;
  double gflops = 0.0;
  if (hfb_machine_peak(job->precision, job->threads, &gflops) != HFB_OK) return 1;
  char line[64];
  snprintf(line, sizeof(line), "%.17g", gflops);
  hfb_child_send(link, line);
  return 0;
}

static void take_peak(void *context, const char *line) {
  if (line) *(double *)context = strtod(line, NULL);
}

/* In a child, since it starts threads and a process with threads must not fork. Without a peak the rows have none. */
static hfb_status measure_peak(run_state *s) {
  hfb_job job = s->plan->job;
  const hfb_child_options options = {.timeout_s = 60};
  hfb_child_result result;
  return hfb_child_run(peak_in_child, &job, &options, take_peak, &s->machine_gflops, &result);
}

static hfb_status run_models(run_state *s) {
  for (int i = 0; i < s->plan->model_count && !hfb_interrupted(); i++) {
    s->progress.index = i;
    /* Each model finds the cache empty: what one compiled would make the next one's cold compile a warm one. */
    if (s->plan->phases & HFB_PHASE_PERFORMANCE) HFB_TRY(make_scratch(s));
    hfb_status status = run_model(s, s->plan->models[i]);
    if (s->scratch[0]) remove_tree(s->scratch);
    s->scratch[0] = '\0';
    HFB_TRY(status);
  }
  return HFB_OK;
}

hfb_status hfb_run(const hfb_run_plan *plan, const hfb_run_sink *sink) {
  run_state s = {.plan = plan, .sink = sink, .start_ns = hfb_clock_ns()};
  s.progress.count = plan->model_count;
  if (plan->phases & HFB_PHASE_PERFORMANCE && !plan->without_peak) HFB_TRY(measure_peak(&s));
  HFB_TRY(run_models(&s));
  int number = hfb_interrupted();
  return number == 0 ? HFB_OK : HFB_FAIL(HFB_INTERRUPTED, "stopped by signal %d (%s)", number, strsignal(number));
}
