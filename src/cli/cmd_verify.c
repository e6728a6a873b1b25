/* verify: stored cases against engines, each pair in a child process of its own, so that a crash is one FAIL line. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "bench/child.h"
#include "bench/engine.h"
#include "bench/verify.h"
#include "cli/cli.h"

/* ---- The report of one case on one engine: a JSON object, on a line from child to parent ---- */

typedef struct case_job {
  hfb_verify_options options;
  const char *engine;
  const char *dir;
  const char *name;
} case_job;

static const size_t line_flags = JSON_COMPACT | JSON_REAL_PRECISION(9);

/* JSON has no infinity. */
static json_t *json_number(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

static json_t *tensor_json(const hfb_verify_tensor *tensor) {
  const hfb_distance *d = &tensor->distance;
  return json_pack("{s:s, s:o, s:o, s:o, s:o, s:I, s:I}", "name", tensor->name, "error", json_number(tensor->error),
                   "max_abs", json_number(d->max_abs), "max_expected", json_number(d->max_expected), "rmse",
                   json_number(d->rmse), "elements", (json_int_t)d->count, "worst_index", (json_int_t)d->worst_index);
}

static json_t *report_json(const case_job *job, const char *verdict, const char *reason) {
  json_t *report = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:n, s:n, s:s}", "case", job->name, "dir", job->dir,
                             "backend", job->engine, "precision", hfb_dtype_name(job->options.precision), "mode",
                             job->options.training ? "training" : "inference", "verdict", verdict, "tolerance",
                             job->options.tolerance, "error", "tensor", "reason", reason);
  if (job->options.training) {
    json_object_set_new(report, "gradient_tolerance", json_real(job->options.gradient_tolerance));
  }
  return report;
}

static json_t *result_json(const case_job *job, const hfb_verify_result *result) {
  json_t *report = report_json(job, hfb_verdict_name(result->verdict), result->reason);
  json_t *tensors = json_array();
  for (int i = 0; i < result->tensor_count; i++) json_array_append_new(tensors, tensor_json(&result->tensors[i]));
  if (result->worst >= 0) {
    const hfb_verify_tensor *worst = &result->tensors[result->worst];
    json_object_set_new(report, "error", json_number(worst->error));
    json_object_set_new(report, "tensor", json_string(worst->name));
  }
  if (job->options.training) {
    json_object_set_new(report, "gradients", json_integer(result->gradient_count));
    json_object_set_new(report, "gradient_median", json_number(result->gradient_median));
  }
  json_object_set_new(report, "outputs", json_integer(result->output_count));
  json_object_set_new(report, "tensors", tensors);
  return report;
}

static int run_case(void *context, hfb_child_link *link) {
  const case_job *job = context;
  hfb_verify_result result;
  hfb_verify_case(&job->options, job->dir, &result);
  json_t *report = result_json(job, &result);
  char *line = json_dumps(report, line_flags);
  if (line) hfb_child_send(link, line);
  free(line);
  json_decref(report);
  hfb_verify_result_deinit(&result);
  return line ? 0 : 1;
}

static void take_line(void *context, const char *line) {
  json_t **report = context;
  if (!line) return;
  json_decref(*report);
  *report = json_loads(line, 0, NULL);
}

/* What to say of a child that gave no report. */
static void describe_end(const hfb_child_result *end, hfb_strbuf *text) {
  if (end->out_of_memory) {
    hfb_strbuf_append(text, "out of memory: the process was killed");
  } else if (end->end == HFB_CHILD_SIGNALLED) {
    hfb_strbuf_printf(text, "the process died of signal %d (%s)", end->code, strsignal(end->code));
  } else if (end->end == HFB_CHILD_INTERRUPTED) {
    hfb_strbuf_append(text, "interrupted");
  } else {
    hfb_strbuf_printf(text, "the process ended with code %d and no result", end->code);
  }
  const char *last = end->stderr_tail;
  if (*last) hfb_strbuf_printf(text, ": %.200s", strlen(last) > 200 ? last + strlen(last) - 200 : last);
}

/* The report of the case; never NULL unless memory is exhausted. */
static json_t *measure_case(case_job *job) {
  json_t *report = NULL;
  hfb_child_result end = {0};
  const hfb_child_options options = {.pass_stderr = true};
  hfb_status status = hfb_child_run(run_case, job, &options, take_line, &report, &end);
  if (status == HFB_OK && report) return report;
  hfb_strbuf reason;
  hfb_strbuf_init(&reason);
  if (status != HFB_OK)
    hfb_strbuf_append(&reason, hfb_error_message());
  else
    describe_end(&end, &reason);
  report = report_json(job, hfb_verdict_name(HFB_VERDICT_FAIL), hfb_strbuf_text(&reason));
  hfb_strbuf_deinit(&reason);
  return report;
}

/* ---- Printing ---- */

static const char *text_of(const json_t *report, const char *key) {
  const char *text = json_string_value(json_object_get(report, key));
  return text ? text : "";
}

/* NaN when nothing could be compared, infinite when it is not finite. */
static double error_of(const json_t *report) {
  const json_t *error = json_object_get(report, "error");
  if (json_is_real(error)) return json_real_value(error);
  return *text_of(report, "tensor") ? INFINITY : NAN;
}

static bool is_verdict(const json_t *report, hfb_verdict verdict) {
  return strcmp(text_of(report, "verdict"), hfb_verdict_name(verdict)) == 0;
}

/* How bad a report is: a failure before a skip before a pass, then the error. */
static bool is_worse(const json_t *a, const json_t *b) {
  int rank_a = is_verdict(a, HFB_VERDICT_FAIL) ? 2 : is_verdict(a, HFB_VERDICT_SKIP);
  int rank_b = is_verdict(b, HFB_VERDICT_FAIL) ? 2 : is_verdict(b, HFB_VERDICT_SKIP);
  if (rank_a != rank_b) return rank_a > rank_b;
  return error_of(a) > error_of(b) || (isnan(error_of(a)) && !isnan(error_of(b)));
}

/* PASS|FAIL <case> <worst error> <tensor> [median of gradients <error>] [<why>], or SKIP <case> <why>. */
static void print_text(const json_t *report, bool name_engine) {
  const char *reason = text_of(report, "reason");
  printf("%s %s", text_of(report, "verdict"), text_of(report, "case"));
  if (is_verdict(report, HFB_VERDICT_SKIP)) {
    printf(" %s\n", reason);
    return;
  }
  const char *tensor = text_of(report, "tensor");
  printf(" %.3g %s", error_of(report), *tensor ? tensor : "-");
  const json_t *median = json_object_get(report, "gradient_median");
  if (json_is_real(median)) printf(" median of gradients %.3g", json_real_value(median));
  bool failed = is_verdict(report, HFB_VERDICT_FAIL);
  if (failed && name_engine) printf(" (%s)", text_of(report, "backend"));
  if (*reason) printf(" %s", reason);
  printf("\n");
}

static void print_json(const json_t *report) {
  json_dumpf(report, stdout, line_flags);
  printf("\n");
}

/* ---- The command ---- */

typedef struct verify_run {
  hfb_verify_options options;
  const hfb_engine *engines[2];
  int engine_count;
  bool json;
} verify_run;

/* The last component of a path, without slashes behind it; the path itself when that says nothing. */
static hfb_status case_name(const char *dir, char **out_name) {
  size_t end = strlen(dir);
  while (end > 1 && dir[end - 1] == '/') end--;
  size_t begin = end;
  while (begin > 0 && dir[begin - 1] != '/') begin--;
  HFB_TRY(hfb_mem_strdup(dir, out_name));
  bool says_nothing =
      begin == end || strncmp(dir + begin, ".", end - begin) == 0 || strncmp(dir + begin, "..", end - begin) == 0;
  if (says_nothing) return HFB_OK;
  memmove(*out_name, dir + begin, end - begin);
  (*out_name)[end - begin] = '\0';
  return HFB_OK;
}

/* All engines on one case; prints the worst of them, or all as JSON. */
static hfb_status verify_dir(const verify_run *run, const char *dir, bool *out_passes) {
  char *name = NULL;
  HFB_TRY(case_name(dir, &name));
  json_t *worst = NULL;
  bool engines_agree = true; /* on what is wrong: then it is the case's fault */
  for (int i = 0; i < run->engine_count && !hfb_interrupted(); i++) {
    case_job job = {.options = run->options, .engine = run->engines[i]->name, .dir = dir, .name = name};
    job.options.backend = run->engines[i]->backend();
    json_t *report = measure_case(&job);
    if (run->json) print_json(report);
    if (worst && strcmp(text_of(report, "reason"), text_of(worst, "reason")) != 0) engines_agree = false;
    if (*text_of(report, "tensor")) engines_agree = false;
    bool keep = !worst || is_worse(report, worst);
    json_decref(keep ? worst : report);
    if (keep) worst = report;
  }
  hfb_mem_free(name);
  *out_passes = worst && is_verdict(worst, HFB_VERDICT_PASS);
  if (worst && !run->json) print_text(worst, run->engine_count > 1 && !engines_agree);
  fflush(stdout); /* a line that is out is not lost, and no child may inherit it */
  json_decref(worst);
  return HFB_OK;
}

static const char *engine_name_at(void *context, size_t index) {
  (void)context;
  return hfb_engine_at((int)index)->name;
}

/* Without --backend both engines run: the compiler is right only where eager is. A file takes one result: native's. */
static int choose_engines(const hfb_args *args, verify_run *run) {
  const char *name = hfb_args_text(args, HFB_OPT_VERIFY_BACKEND);
  if (!name && !run->options.write_path) {
    run->engines[0] = hfb_engine_find("eager");
    run->engines[1] = hfb_engine_find("native");
    run->engine_count = 2;
    return HFB_EXIT_OK;
  }
  if (!name) name = "native";
  run->engines[0] = hfb_engine_find(name);
  run->engine_count = 1;
  if (run->engines[0]) return HFB_EXIT_OK;
  return hfb_cli_unknown("backend", name, engine_name_at, NULL, (size_t)hfb_engine_count());
}

int hfb_cmd_verify(const hfb_args *args) {
  verify_run run = {
      .options = {.training = hfb_args_flag(args, HFB_OPT_VERIFY_TRAINING),
                  .tolerance = hfb_args_real(args, HFB_OPT_TOL),
                  .gradient_tolerance = hfb_args_real(args, HFB_OPT_GRAD_TOL),
                  .write_path = hfb_args_text(args, HFB_OPT_WRITE)},
      .json = hfb_args_flag(args, HFB_OPT_JSON),
  };
  run.options.precision = strcmp(hfb_args_text(args, HFB_OPT_PRECISION), "f64") == 0 ? HFB_F64 : HFB_F32;
  if (hfb_args_given(args, HFB_OPT_THREADS)) run.options.threads = (int)hfb_args_int(args, HFB_OPT_THREADS);
  int code = choose_engines(args, &run);
  if (code != HFB_EXIT_OK) return code;
  int count = hfb_args_positional_count(args);
  if (run.options.write_path && count > 1) return hfb_cli_usage_error("--write takes one result: give one DIR");
  if (hfb_args_given(args, HFB_OPT_GRAD_TOL) && !run.options.training) {
    return hfb_cli_usage_error("--grad-tol is for gradients: give --training too");
  }
  hfb_interrupt_install();
  bool all_pass = true;
  for (int i = 0; i < count && !hfb_interrupted(); i++) {
    bool passes = false;
    hfb_status status = verify_dir(&run, hfb_args_positional(args, i), &passes);
    if (status != HFB_OK) return hfb_cli_failure(status);
    all_pass = all_pass && passes;
  }
  if (hfb_interrupted()) return HFB_EXIT_INTERRUPTED;
  return all_pass ? HFB_EXIT_OK : HFB_EXIT_FAILURE;
}
