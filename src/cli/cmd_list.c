/* list: the suite. Nothing is built or measured, so it is instant. */
#include <jansson.h>
#include <string.h>

#include "base/memory.h"
#include "bench/training.h"
#include "cli/cli.h"
#include "cli/select_args.h"

static const struct {
  unsigned flag;
  const char *name;
} flag_names[] = {
    {HFB_MODEL_SKIP, "skip"},
    {HFB_MODEL_SKIP_CPU, "skip_cpu"},
    {HFB_MODEL_SKIP_ACCURACY_LARGE, "skip_accuracy"},
    {HFB_MODEL_ONLY_EVAL, "only_eval"},
    {HFB_MODEL_FP32_ONLY, "fp32_only"},
    {HFB_MODEL_CONTROL_FLOW, "control_flow"},
};
enum { FLAG_COUNT = sizeof(flag_names) / sizeof(flag_names[0]) };

/* The names of the reference suite, and those beyond its list, which `run` takes when they are asked for. */
static const char *group_of(const hfb_model_row *row) { return row->flags & HFB_MODEL_MORE ? "more" : "suite"; }

static json_t *row_json(const hfb_model_row *row) {
  json_t *flags = json_array();
  for (int i = 0; i < FLAG_COUNT; i++) {
    if (row->flags & flag_names[i].flag) json_array_append_new(flags, json_string(flag_names[i].name));
  }
  return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:s, s:o}", "name", row->name, "group", group_of(row),
                   "class", row->class_name, "config", row->config, "batch_size", row->default_batch, "seq_len",
                   row->seq_len, "tolerance", row->tol_inference, "tolerance_training", row->tol_training, "optimizer",
                   hfb_optimizer_name(hfb_suite_optimizer(row)), "flags", flags);
}

static int print_json(const hfb_model_row *const *models, int count) {
  json_t *array = json_array();
  for (int i = 0; i < count; i++) json_array_append_new(array, row_json(models[i]));
  int failed = json_dumpf(array, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
  putchar('\n');
  json_decref(array);
  return failed ? HFB_EXIT_FAILURE : HFB_EXIT_OK;
}

static void print_table(const hfb_model_row *const *models, int count) {
  printf("%-40s %-5s  %-40s %-30s %5s %7s  %s\n", "model", "group", "class", "configuration", "batch", "seq len",
         "flags");
  for (int i = 0; i < count; i++) {
    const hfb_model_row *row = models[i];
    printf("%-40s %-5s  %-40s %-30s %5d %7d", row->name, group_of(row), row->class_name, row->config,
           row->default_batch, row->seq_len);
    const char *separator = "  ";
    for (int f = 0; f < FLAG_COUNT; f++) {
      if (row->flags & flag_names[f].flag) {
        printf("%s%s", separator, flag_names[f].name);
        separator = " ";
      }
    }
    putchar('\n');
  }
}

int hfb_cmd_list(const hfb_args *args) {
  const hfb_model_row **models = NULL;
  int count = 0, code = hfb_cli_select(args, true, &models, &count);
  if (code != HFB_EXIT_OK) return code;
  if (hfb_args_flag(args, HFB_OPT_JSON)) code = print_json(models, count);
  else print_table(models, count);
  hfb_mem_free(models);
  return code;
}
