/* The command verify: its lines, its JSON and its exit codes. */
#include <fcntl.h>
#include <jansson.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "support/scratch.h"

#define GOLDEN HFB_TEST_DATA "/golden/"

static scratch folder; /* captured output, and the compiler's cache */

typedef struct outcome {
  int code; /* exit code; -1: it died */
  char *out, *err;
} outcome;

static char *read_file(const char *path) {
  char *text = NULL;
  size_t bytes = 0;
  assert_int_equal(hfb_file_read(path, 1 << 24, &text, &bytes), HFB_OK);
  return text;
}

/* "hfbench verify" with the arguments, up to NULL, in a process of its own. */
static outcome run_verify(const char *first, ...) {
  char *argv[16] = {"hfbench", "verify", (char *)first};
  int argc = first ? 3 : 2;
  va_list args;
  va_start(args, first);
  for (char *next; first && argc < 16 && (next = va_arg(args, char *)) != NULL;) argv[argc++] = next;
  va_end(args);
  char out_path[256], err_path[256];
  snprintf(out_path, sizeof(out_path), "%s", scratch_path(&folder, "out"));
  snprintf(err_path, sizeof(err_path), "%s", scratch_path(&folder, "err"));
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    int out = open(out_path, O_CREAT | O_TRUNC | O_WRONLY, 0600),
        err = open(err_path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0) _exit(99);
    int code = hfb_cli_main(argc, argv);
    fflush(NULL);
    _exit(code);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return (outcome){WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(out_path), read_file(err_path)};
}

static void free_outcome(outcome *o) {
  hfb_mem_free(o->out);
  hfb_mem_free(o->err);
}

/* The whole of stdout matches the extended regular expression. */
static void assert_prints(outcome o, int code, const char *pattern) {
  regex_t regex;
  assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
  if (o.code != code || regexec(&regex, o.out, 0, NULL, 0) != 0) {
    fail_msg("code %d, stdout:\n%s\nstderr:\n%s\nwanted code %d and %s", o.code, o.out, o.err, code, pattern);
  }
  regfree(&regex);
  free_outcome(&o);
}

#define ERROR "[0-9.]+(e-[0-9]+)?"

static void test_one_line_for_each_case(void **state) {
  (void)state;
  assert_prints(run_verify(GOLDEN "BertForMaskedLM", GOLDEN "T5Small/", NULL), 0,
                "^PASS BertForMaskedLM " ERROR " eval/(loss|logits)\nPASS T5Small " ERROR " eval/[a-z_0-9/]+\n$");
  assert_prints(run_verify("--backend", "eager", GOLDEN "BertForMaskedLM", NULL), 0,
                "^PASS BertForMaskedLM " ERROR " eval/(loss|logits)\n$");
  assert_prints(run_verify("--backend", "native", "--precision", "f64", "--tol", "1e-6", GOLDEN "GoogleFnet", NULL), 0,
                "^PASS GoogleFnet " ERROR " eval/(loss|logits)\n$");
}

static void test_failures_do_not_stop_the_rest(void **state) {
  (void)state;
  scratch broken = scratch_create();
  static const char *const files[] = {"model.safetensors", "inputs.safetensors", "expected.safetensors"};
  for (int i = 0; i < 3; i++) scratch_copy(&broken, files[i], GOLDEN "BertForMaskedLM");
  const char *config = "{\"architectures\": [\"BertForEverything\"]}";
  scratch_write(&broken, "config.json", config, strlen(config));
  assert_prints(run_verify("/nonexistent/x", broken.folder, GOLDEN "BertForMaskedLM", NULL), 1,
                "^FAIL x nan - cannot open '/nonexistent/x/config.json': [^\n]+\n"
                "SKIP hfb_test_[A-Za-z0-9]+ [^\n]*BertForEverything[^\n]*\n"
                "PASS BertForMaskedLM " ERROR " eval/[a-z]+\n$");
  scratch_destroy(&broken);
}

static void test_tolerance_and_engine(void **state) {
  (void)state;
  assert_prints(run_verify("--tol", "1e-9", GOLDEN "BertForMaskedLM", NULL), 1,
                "^FAIL BertForMaskedLM " ERROR " eval/[a-z]+ \\((eager|native)\\)\n$");
  assert_prints(run_verify("--tol", "1e-9", "--backend", "eager", GOLDEN "BertForMaskedLM", NULL), 1,
                "^FAIL BertForMaskedLM " ERROR " eval/[a-z]+\n$");
}

static void test_json(void **state) {
  (void)state;
  outcome o = run_verify("--json", GOLDEN "BertForMaskedLM", NULL);
  assert_int_equal(o.code, 0);
  const char *engines[] = {"eager", "native"};
  const char *at = o.out;
  for (int i = 0; i < 2; i++) {
    size_t length = strcspn(at, "\n");
    json_t *row = json_loadb(at, length, 0, NULL);
    assert_non_null(row);
    assert_string_equal(json_string_value(json_object_get(row, "case")), "BertForMaskedLM");
    assert_string_equal(json_string_value(json_object_get(row, "backend")), engines[i]);
    assert_string_equal(json_string_value(json_object_get(row, "verdict")), "PASS");
    assert_true(json_real_value(json_object_get(row, "error")) < 1e-5);
    assert_int_equal(json_array_size(json_object_get(row, "tensors")), 2);
    json_decref(row);
    at += length + 1;
  }
  assert_string_equal(at, "");
  free_outcome(&o);
}

static void test_training(void **state) {
  (void)state;
  assert_prints(run_verify("--training", GOLDEN "BertForMaskedLM", GOLDEN "T5Small", NULL), 0,
                "^PASS BertForMaskedLM " ERROR " (train|grad)/[a-zA-Z_0-9./]+ median of gradients " ERROR "\n"
                "PASS T5Small " ERROR " (train|grad)/[a-zA-Z_0-9./]+ median of gradients " ERROR "\n$");
  assert_prints(run_verify("--training", "--grad-tol", "1e-9", "--backend", "eager", GOLDEN "BertForMaskedLM", NULL), 1,
                "^FAIL BertForMaskedLM " ERROR " grad/[a-zA-Z_0-9.]+ median of gradients " ERROR "\n$");
  outcome o = run_verify("--training", "--json", "--backend", "eager", GOLDEN "BertForMaskedLM", NULL);
  json_t *row = json_loads(o.out, 0, NULL);
  assert_int_equal(o.code, 0);
  assert_string_equal(json_string_value(json_object_get(row, "mode")), "training");
  assert_int_equal(json_integer_value(json_object_get(row, "gradients")), 42);
  assert_int_equal(json_array_size(json_object_get(row, "tensors")), 44);
  double median = json_real_value(json_object_get(row, "gradient_median"));
  assert_true(median > 0 && median < 1e-5);
  json_decref(row);
  free_outcome(&o);
}

static void test_usage_errors(void **state) {
  (void)state;
  assert_prints(run_verify(NULL), 2, "^$");
  assert_prints(run_verify("--backend", "nativ", "x", NULL), 2, "^$");
  assert_prints(run_verify("--precision", "f8", "x", NULL), 2, "^$");
  assert_prints(run_verify("--tol", "-1", "x", NULL), 2, "^$");
  assert_prints(run_verify("--grad-tol", "1", "x", NULL), 2, "^$"); /* without --training */
  assert_prints(run_verify("--write", "file", "x", "y", NULL), 2, "^$");
  assert_prints(run_verify("--repeat", "3", "x", NULL), 2, "^$");
}

static void test_write(void **state) {
  (void)state;
  char path[256];
  snprintf(path, sizeof(path), "%s", scratch_path(&folder, "written.safetensors"));
  assert_prints(run_verify("--write", path, GOLDEN "BertForMaskedLM", NULL), 0, "^PASS BertForMaskedLM [^\n]+\n$");
  tensor_list written = tensor_list_read(folder.folder, "written.safetensors");
  assert_int_equal(written.count, 2);
  assert_int_equal(tensor_list_find(&written, "eval/logits")->storage, HFB_STORAGE_F32);
  hfb_safetensors_destroy(written.file);
  assert_prints(run_verify("--write", "/nonexistent/f", GOLDEN "BertForMaskedLM", NULL), 1,
                "^FAIL BertForMaskedLM nan - cannot write '/nonexistent/f': [^\n]+\n$");
}

static int make_folder(void **state) {
  (void)state;
  folder = scratch_create();
  return setenv("HFBENCH_CACHE", folder.folder, 1);
}

static int remove_folder(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof(command), "rm -rf '%s'", folder.folder);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_line_for_each_case), cmocka_unit_test(test_failures_do_not_stop_the_rest),
      cmocka_unit_test(test_tolerance_and_engine),   cmocka_unit_test(test_json),
      cmocka_unit_test(test_usage_errors),           cmocka_unit_test(test_write),
      cmocka_unit_test(test_training),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
