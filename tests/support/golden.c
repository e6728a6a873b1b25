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

/* The compared tensors are the outputs that case.json lists, one by one. */
static bool has_all_outputs(const char *folder, const hfb_verify_result *result) {
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
    fprintf(stderr, " %s differs by %.3g at %lld", worst->name, worst->distance.scaled,
            (long long)worst->distance.worst_index);
  }
  if (result->verdict == HFB_VERDICT_PASS) fprintf(stderr, " outputs other than those of case.json, or another order");
  fprintf(stderr, " %s\n", result->reason);
}

static bool passes(const char *folder, const hfb_verify_options *options) {
  hfb_verify_result result;
  hfb_verify_case(options, folder, &result);
  bool good = result.verdict == HFB_VERDICT_PASS && has_all_outputs(folder, &result);
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
