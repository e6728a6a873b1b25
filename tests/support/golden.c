#include "support/golden.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/engine.h"

hfb_verify_options golden_options(const char *engine, hfb_dtype precision, const char *cache_dir) {
  return (hfb_verify_options){
      .backend = hfb_engine_find(engine)->backend(),
      .precision = precision,
      .tolerance = precision == HFB_F64 ? 1e-6 : 1e-5,
      .threads = 2,
      .cache_dir = cache_dir,
  };
}

hfb_verify_options golden_training_options(const char *engine, hfb_dtype precision, const char *cache_dir) {
  hfb_verify_options options = golden_options(engine, precision, cache_dir);
  options.training = true;
  options.gradient_tolerance = precision == HFB_F64 ? 1e-6 : 2e-4;
  return options;
}

static bool is_listed(const json_t *names, const char *prefix, const char *name) {
  size_t length = strlen(prefix), i;
  json_t *listed;
  if (strncmp(name, prefix, length) != 0) return false;
  json_array_foreach(names, i, listed) {
    if (strcmp(name + length, json_string_value(listed)) == 0) return true;
  }
  return false;
}

/* The compared tensors are the outputs that case.json lists for training, and every gradient that it lists. */
static bool has_all_of_training(const char *folder, const hfb_verify_options *options,
                                const hfb_verify_result *result) {
  char path[1024];
  snprintf(path, sizeof(path), "%s/case.json", folder);
  json_t *facts = json_load_file(path, 0, NULL), *shape;
  const json_t *outputs = json_object_get(facts, "train_outputs");
  int gradients = 0, compared = 0;
  const char *name;
  json_object_foreach(json_object_get(facts, "expected"), name, shape) gradients += strncmp(name, "grad/", 5) == 0;
  /* A class without a loss has one all the same, which its outputs do not list. */
  bool has_loss = is_listed(outputs, "train/", "train/loss"), good = gradients > 0;
  for (int i = 0; i < result->tensor_count && good; i++) {
    const hfb_verify_tensor *tensor = &result->tensors[i];
    bool is_added_loss = !has_loss && strcmp(tensor->name, "train/loss") == 0;
    compared += tensor->is_gradient;
    good = tensor->is_gradient || is_added_loss || is_listed(outputs, "train/", tensor->name);
  }
  good = good && compared == gradients && result->gradient_count == gradients &&
         result->tensor_count == gradients + (int)json_array_size(outputs) + !has_loss &&
         result->gradient_median <= (options->precision == HFB_F64 ? 1e-6 : 1e-5);
  json_decref(facts);
  return good;
}

/* The compared tensors are the outputs that case.json lists, one by one. */
static bool has_all_outputs(const char *folder, const hfb_verify_options *options, const hfb_verify_result *result) {
  if (options->training) return has_all_of_training(folder, options, result);
  char path[1024];
  snprintf(path, sizeof(path), "%s/case.json", folder);
  json_t *facts = json_load_file(path, 0, NULL);
  json_t *outputs = json_object_get(facts, "eval_outputs");
  bool same = json_is_array(outputs) && result->output_count == (int)json_array_size(outputs) &&
              result->tensor_count == result->output_count;
  for (int i = 0; same && i < result->output_count; i++) {
    const char *name = json_string_value(json_array_get(outputs, (size_t)i));
    same = strncmp(result->tensors[i].name, "eval/", 5) == 0 && name && strcmp(result->tensors[i].name + 5, name) == 0;
  }
  json_decref(facts);
  return same;
}

static void print_failure(const char *folder, const hfb_verify_options *options, const hfb_verify_result *result) {
  fprintf(stderr, "%s %s (%s, %s):", hfb_verdict_name(result->verdict), folder, options->backend->name,
          hfb_dtype_name(options->precision));
  if (result->worst >= 0) {
    const hfb_verify_tensor *worst = &result->tensors[result->worst];
    fprintf(stderr, " %s differs by %.3g at %lld", worst->name, worst->error,
            (long long)worst->distance.worst_index);
  }
  if (result->verdict == HFB_VERDICT_PASS) fprintf(stderr, " tensors other than those of case.json, or another order");
  fprintf(stderr, " %s\n", result->reason);
}

static bool passes(const char *folder, const hfb_verify_options *options) {
  hfb_verify_result result;
  hfb_verify_case(options, folder, &result);
  bool good = result.verdict == HFB_VERDICT_PASS && has_all_outputs(folder, options, &result);
  if (!good) print_failure(folder, options, &result);
  hfb_verify_result_deinit(&result);
  return good;
}

int golden_failures(const char *folder, int least, const hfb_verify_options *options) {
  struct dirent **entries;
  int count = scandir(folder, &entries, NULL, alphasort), cases = 0, failures = 0;
  for (int i = 0; i < count; i++) {
    char path[800];
    struct stat info;
    snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
    if (entries[i]->d_name[0] != '.' && stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
      cases++;
      failures += !passes(path, options);
    }
    free(entries[i]);
  }
  if (count >= 0) free(entries);
  if (cases >= least) return failures;
  fprintf(stderr, "%s holds %d cases, at least %d are expected\n", folder, cases, least);
  return -1;
}
