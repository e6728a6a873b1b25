/* run: models through eager and a backend; rows on the screen and in files as they come. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "bench/child.h"
#include "bench/runner.h"
#include "cli/cli.h"
#include "cli/select_args.h"
#include "cli/training_args.h"
#include "report/files.h"
#include "report/summary.h"
#include "report/table.h"

enum { PATH_BYTES = 4096 };

/* The quick look: an encoder with a masked head and one with spans, a decoder, an encoder-decoder, shared weights'
 * opposite (a small generator), and Fourier mixing instead of attention. All fit into two minutes on two cores. */
static const char *const quick_models[] = {"BertForMaskedLM",    "DistilBertForQuestionAnswering",
                                           "DistillGPT2",        "ElectraForCausalLM",
                                           "GoogleFnet",         "T5Small"};
enum { QUICK_COUNT = sizeof(quick_models) / sizeof(quick_models[0]), QUICK_BATCH = 1 };
static const double quick_timing_budget_s = 4.0;

typedef struct run_output {
  bool json, quiet, distances, says_progress;
  bool progress_line; /* stderr is a terminal */
  bool line_is_shown;
  bool has_warned; /* that rows cannot be saved */
  unsigned phases;
  hfb_result_files files;
  bool has_files;
  hfb_row *rows; /* owned */
  bool *saved;
  int row_count, row_capacity;
  int announced; /* index of the model that --progress last announced */
  hfb_status status; /* of keeping rows in memory */
} run_output;

/* ---- While it runs ---- */

static void clear_line(run_output *out) {
  if (out->line_is_shown) fputs("\r\033[K", stderr);
  out->line_is_shown = false;
}

/* A line that is longer would wrap, and could not be cleared. */
static int terminal_width(void) {
  struct winsize size;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

static void on_progress(void *context, const hfb_run_progress *p) {
  run_output *out = context;
  if (out->says_progress && p->index != out->announced) {
    clear_line(out);
    fprintf(stderr, "%d/%d %s\n", p->index + 1, p->count, p->model->name);
    out->announced = p->index;
  }
  if (!out->progress_line) return;
  char part[32] = "", line[256];
  if (p->total > 0) snprintf(part, sizeof(part), " %d/%d", p->done + 1, p->total);
  snprintf(line, sizeof(line), "[%d/%d] %s: %s, %s%s  %d:%02d", p->index + 1, p->count, p->model->name,
           p->phase == HFB_PHASE_ACCURACY ? "accuracy" : "speed", hfb_stage_text(p->stage), part, (int)p->run_s / 60,
           (int)p->run_s % 60);
  fprintf(stderr, "\r\033[K%.*s", terminal_width() - 1, line);
  out->line_is_shown = true;
}

static void print_row(run_output *out, const hfb_row *row) {
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_status status = HFB_OK;
  if (out->json) {
    status = hfb_json_row(&text, out->phases, row);
  } else {
    hfb_table_row(&text, out->phases, row);
    if (out->distances) hfb_distance_table(&text, row);
  }
  if (status == HFB_OK) fputs(hfb_strbuf_text(&text), stdout);
  fflush(stdout); /* a row that is out is not lost, and no child may inherit it */
  hfb_strbuf_deinit(&text);
}

static hfb_status keep_row(run_output *out, const hfb_row *row, bool saved) {
  if (out->row_count == out->row_capacity) {
    int capacity = out->row_capacity * 2 + 8;
    HFB_TRY(hfb_mem_grow(&out->rows, (size_t)capacity, sizeof(*out->rows)));
    HFB_TRY(hfb_mem_grow(&out->saved, (size_t)capacity, sizeof(*out->saved)));
    out->row_capacity = capacity;
  }
  out->rows[out->row_count] = (hfb_row){json_incref(row->object)};
  out->saved[out->row_count++] = saved;
  return HFB_OK;
}

static void on_row(void *context, const hfb_row *row) {
  run_output *out = context;
  clear_line(out);
  bool saved = true;
  if (out->has_files && hfb_result_files_add(&out->files, row) != HFB_OK) {
    saved = false;
    if (!out->has_warned) fprintf(stderr, "hfbench: %s; going on, unsaved rows are kept\n", hfb_error_message());
    out->has_warned = true;
  }
  print_row(out, row);
  hfb_status status = keep_row(out, row, saved);
  if (out->status == HFB_OK) out->status = status;
}

/* ---- At the end ---- */

/* A second try for the rows that could not be written; what fails again is printed, so that nothing is lost. */
static int save_the_rest(run_output *out) {
  int lost = 0;
  for (int i = 0; i < out->row_count; i++) {
    if (out->saved[i] || hfb_result_files_add(&out->files, &out->rows[i]) == HFB_OK) continue;
    if (lost++ == 0) {
      fprintf(stderr, "hfbench: %s; make room or name another place with --output%s\n", hfb_error_message(),
              out->json ? "" : "; the rows that could not be saved follow on standard output as JSON");
    }
    hfb_strbuf text;
    hfb_strbuf_init(&text);
    if (!out->json && hfb_json_row(&text, out->phases, &out->rows[i]) == HFB_OK) fputs(hfb_strbuf_text(&text), stdout);
    hfb_strbuf_deinit(&text);
  }
  return lost > 0 ? HFB_EXIT_FAILURE : HFB_EXIT_OK;
}

static int finish_files(run_output *out) {
  if (!out->has_files) return HFB_EXIT_OK;
  int code = save_the_rest(out);
  hfb_status status = hfb_result_files_finish(&out->files, out->rows, out->row_count);
  if (status != HFB_OK && code == HFB_EXIT_OK) code = hfb_cli_failure(status);
  if (code == HFB_EXIT_OK && !out->quiet && !out->json) printf("results: %s, .jsonl, .md\n", out->files.csv_path);
  return code;
}

static void print_summary(const run_output *out) {
  hfb_summary summary;
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  if (hfb_summarize(out->rows, out->row_count, &summary) == HFB_OK) {
    hfb_summary_print(&text, out->phases, &summary, out->rows);
    fprintf(stdout, "\n%s", hfb_strbuf_text(&text));
  }
  hfb_strbuf_deinit(&text);
}

/* Of the last one the interruption may have left a part only. */
static int complete_rows(const run_output *out) {
  const char *last = out->row_count > 0 ? hfb_row_get_text(&out->rows[out->row_count - 1], HFB_COLUMN_STATUS) : NULL;
  return out->row_count - (last && strcmp(last, "interrupted") == 0);
}

static int finish(run_output *out, hfb_status run_status) {
  clear_line(out);
  if (!out->json) print_summary(out);
  int code = finish_files(out);
  if (run_status == HFB_INTERRUPTED) {
    fprintf(stderr, "hfbench: interrupted; complete rows: %d\n", complete_rows(out));
    return 128 + hfb_interrupted();
  }
  if (run_status != HFB_OK) return hfb_cli_failure(run_status);
  if (out->status != HFB_OK) return hfb_cli_failure(out->status);
  for (int i = 0; i < out->row_count; i++) {
    if (!hfb_status_text_passes(hfb_row_get_text(&out->rows[i], HFB_COLUMN_STATUS))) return HFB_EXIT_FAILURE;
  }
  return code;
}

static void output_deinit(run_output *out) {
  for (int i = 0; i < out->row_count; i++) hfb_row_deinit(&out->rows[i]);
  hfb_mem_free(out->rows);
  hfb_mem_free(out->saved);
  hfb_result_files_close(&out->files);
}

/* ---- Before it starts ---- */

/* The reference harness's names, in a folder of their own for each run unless one is named. */
static hfb_status results_path(const hfb_args *args, unsigned phases, char path[PATH_BYTES]) {
  const char *output = hfb_args_text(args, HFB_OPT_OUTPUT), *folder = hfb_args_text(args, HFB_OPT_OUTPUT_DIRECTORY);
  const char *kind = phases == HFB_PHASE_ACCURACY      ? "accuracy"
                     : phases == HFB_PHASE_PERFORMANCE ? "speedup"
                                                       : "results";
  char name[128], fresh[64] = "";
  snprintf(name, sizeof(name), "%s_%s.csv", kind, hfb_args_text(args, HFB_OPT_BACKEND));
  if (!output && !folder) {
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(fresh, sizeof(fresh), "results/%Y-%m-%dT%H-%M-%S", &local);
    size_t length = strlen(fresh);
    for (int i = 2; hfb_file_exists(fresh) && i < 1000; i++) snprintf(fresh + length, sizeof(fresh) - length, "-%d", i);
    folder = fresh;
  }
  bool joins = folder && !(output && output[0] == '/');
  int length = snprintf(path, PATH_BYTES, "%s%s%s", joins ? folder : "", joins ? "/" : "", output ? output : name);
  if (length >= PATH_BYTES)
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "--output: the path is longer than %d bytes", PATH_BYTES);
  return HFB_OK;
}

static const char *engine_name_at(void *context, size_t index) {
  (void)context;
  return hfb_engine_at((int)index)->name;
}

/* Options that say what to measure or how: with one of them it is no quick look any more. */
static bool is_quick_look(const hfb_args *args) {
  static const hfb_option_id deciding[] = {HFB_OPT_ACCURACY,   HFB_OPT_PERFORMANCE, HFB_OPT_INFERENCE,
                                           HFB_OPT_TRAINING,   HFB_OPT_BATCH_SIZE,  HFB_OPT_SEQ_LEN,
                                           HFB_OPT_ITERATIONS, HFB_OPT_REPEAT,      HFB_OPT_NO_SKIP};
  for (size_t i = 0; i < sizeof(deciding) / sizeof(deciding[0]); i++) {
    if (hfb_args_given(args, deciding[i])) return false;
  }
  return !hfb_cli_selects(args);
}

static hfb_status take_quick_models(const hfb_model_row ***out_models, int *out_count) {
  const hfb_model_row **models = NULL;
  HFB_TRY(hfb_mem_alloc(QUICK_COUNT, sizeof(*models), &models));
  for (int i = 0; i < QUICK_COUNT; i++) {
    hfb_status status = hfb_model_find(quick_models[i], &models[i]);
    if (status != HFB_OK) {
      hfb_mem_free(models);
      return status;
    }
  }
  *out_models = models;
  *out_count = QUICK_COUNT;
  return HFB_OK;
}

static void fill_plan(const hfb_args *args, bool quick, hfb_run_plan *plan) {
  bool accuracy = hfb_args_flag(args, HFB_OPT_ACCURACY), performance = hfb_args_flag(args, HFB_OPT_PERFORMANCE);
  plan->phases = (performance ? 0 : HFB_PHASE_ACCURACY) | (accuracy ? 0 : HFB_PHASE_PERFORMANCE);
  plan->batch = quick ? QUICK_BATCH : hfb_args_int(args, HFB_OPT_BATCH_SIZE);
  plan->seq_len = hfb_args_int(args, HFB_OPT_SEQ_LEN);
  plan->timeout_s = hfb_args_real(args, HFB_OPT_TIMEOUT);
  plan->memory_bytes = (int64_t)(hfb_args_real(args, HFB_OPT_MEMORY_LIMIT) * 1e9);
  plan->tag = hfb_args_text(args, HFB_OPT_TAG);
  plan->pass_stderr = hfb_args_flag(args, HFB_OPT_VERBOSE);
  plan->job.precision = strcmp(hfb_args_text(args, HFB_OPT_PRECISION), "f64") == 0 ? HFB_F64 : HFB_F32;
  plan->job.threads = (int)hfb_args_int(args, HFB_OPT_THREADS);
  plan->job.seed = (uint64_t)hfb_args_int(args, HFB_OPT_SEED);
  plan->job.iterations = quick ? 1 : (int)hfb_args_int(args, HFB_OPT_ITERATIONS);
  plan->job.repeat = (int)hfb_args_int(args, HFB_OPT_REPEAT);
  plan->job.calls = (int)hfb_args_int(args, HFB_OPT_ITERATIONS_PER_RUN);
  plan->job.no_skip = hfb_args_flag(args, HFB_OPT_NO_SKIP);
  plan->job.timing_budget_s = quick ? quick_timing_budget_s : 0.0;
}

/* How weights are stored; a usage error for a mode in which there is no choice. */
static int fill_weights(const hfb_args *args, hfb_run_plan *plan) {
  const char *weights = hfb_args_text(args, HFB_OPT_WEIGHTS);
  if (!weights) return HFB_EXIT_OK;
  if (plan->job.training) {
    return hfb_cli_usage_error("--weights is about inference: training steps update parameters in the precision that "
                               "they compute in; leave it out");
  }
  if (plan->job.precision != HFB_F32) {
    return hfb_cli_usage_error("--weights is about inference in f32: with --precision %s leave it out",
                               hfb_dtype_name(plan->job.precision));
  }
  if (strcmp(weights, "bf16") == 0) plan->job.weights = HFB_BF16;
  return HFB_EXIT_OK;
}

static void print_opening(const hfb_run_plan *plan, bool quick) {
  const hfb_cpu_info *cpu = hfb_cpu();
  printf("%s against eager, %s, %s, %d threads, %s (%s)\n", plan->job.engine->name, hfb_job_mode(&plan->job),
         hfb_dtype_name(plan->job.precision), plan->job.threads > 0 ? plan->job.threads : cpu->core_count,
         cpu->model_name, hfb_isa_name(cpu->isa));
  if (quick)
    printf("a quick look at %d models, batch %d; all of them: hfbench run --inference\n", QUICK_COUNT, QUICK_BATCH);
  hfb_strbuf header;
  hfb_strbuf_init(&header);
  hfb_table_header(&header, plan->phases);
  printf("\n%s", hfb_strbuf_text(&header));
  hfb_strbuf_deinit(&header);
  fflush(stdout);
}

/* "." or a path that ends in a slash: files would be called "..csv" or ".csv". */
static bool names_a_folder(const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  return !name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int open_files(const hfb_args *args, run_output *out) {
  if (hfb_args_flag(args, HFB_OPT_DISABLE_OUTPUT)) return HFB_EXIT_OK;
  const char *output = hfb_args_text(args, HFB_OPT_OUTPUT);
  if (output && names_a_folder(output)) {
    return hfb_cli_usage_error("--output '%s' names a folder: name a file, or give --output-directory", output);
  }
  char path[PATH_BYTES];
  hfb_status status = results_path(args, out->phases, path);
  if (status == HFB_OK) {
    status = hfb_result_files_open(path, out->phases, hfb_args_flag(args, HFB_OPT_RETAIN_OUTPUT), &out->files);
  }
  out->has_files = status == HFB_OK;
  return status == HFB_OK ? HFB_EXIT_OK : hfb_cli_failure(status);
}

static int run_plan(const hfb_args *args, hfb_run_plan *plan, bool quick) {
  run_output out = {
      .json = hfb_args_flag(args, HFB_OPT_JSON),
      .quiet = hfb_args_flag(args, HFB_OPT_QUIET),
      .distances = hfb_args_flag(args, HFB_OPT_DISTANCES),
      .says_progress = hfb_args_flag(args, HFB_OPT_PROGRESS),
      .phases = plan->phases,
      .announced = -1,
  };
  out.progress_line = !out.quiet && isatty(STDERR_FILENO);
  int code = open_files(args, &out);
  if (code == HFB_EXIT_OK) {
    if (!out.json) print_opening(plan, quick);
    hfb_interrupt_install();
    const hfb_run_sink sink = {on_progress, on_row, &out};
    code = finish(&out, hfb_run(plan, &sink));
  }
  output_deinit(&out);
  return code;
}

int hfb_cmd_run(const hfb_args *args) {
  const char *name = hfb_args_text(args, HFB_OPT_BACKEND);
  hfb_run_plan plan = {.job.engine = hfb_engine_find(name)};
  if (!plan.job.engine) return hfb_cli_unknown("backend", name, engine_name_at, NULL, (size_t)hfb_engine_count());
  int code = hfb_cli_training(args, &plan.job, &plan.suite_optimizer);
  if (code != HFB_EXIT_OK) return code;
  bool quick = is_quick_look(args);
  const hfb_model_row **models = NULL;
  if (quick) {
    hfb_status status = take_quick_models(&models, &plan.model_count);
    if (status != HFB_OK) return hfb_cli_failure(status);
  } else {
    code = hfb_cli_select(args, hfb_args_flag(args, HFB_OPT_NO_SKIP), &models, &plan.model_count);
    if (code != HFB_EXIT_OK) return code;
  }
  plan.models = models;
  fill_plan(args, quick, &plan);
  code = fill_weights(args, &plan);
  if (code == HFB_EXIT_OK) code = run_plan(args, &plan, quick);
  hfb_mem_free(models);
  return code;
}
