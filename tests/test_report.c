/* Rows as CSV, JSON, markdown and text; files that survive a full disk. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "report/files.h"
#include "report/summary.h"
#include "report/table.h"
#include "support/folder_fixture.h"

enum { BOTH = HFB_PHASE_ACCURACY | HFB_PHASE_PERFORMANCE };

static hfb_row make_row(const char *name, const char *status, double speedup) {
  hfb_row row;
  assert_int_equal(hfb_row_init(&row), HFB_OK);
  hfb_row_text(&row, HFB_COLUMN_DEVICE, "cpu");
  hfb_row_text(&row, HFB_COLUMN_NAME, name);
  hfb_row_int(&row, HFB_COLUMN_BATCH_SIZE, 4);
  hfb_row_text(&row, HFB_COLUMN_STATUS, status);
  hfb_row_text(&row, HFB_COLUMN_ACCURACY, "pass");
  hfb_row_real(&row, HFB_COLUMN_SPEEDUP, speedup);
  return row;
}

/* ---- Rows ---- */

static void test_row_fields(void **state) {
  (void)state;
  hfb_row row;
  assert_int_equal(hfb_row_init(&row), HFB_OK);
  double low, high;
  assert_false(hfb_row_has(&row, HFB_COLUMN_SPEEDUP));
  assert_true(isnan(hfb_row_get_real(&row, HFB_COLUMN_SPEEDUP)));
  assert_null(hfb_row_get_text(&row, HFB_COLUMN_NAME));
  assert_false(hfb_row_get_pair(&row, HFB_COLUMN_SPEEDUP_CI95, &low, &high));
  hfb_row_real(&row, HFB_COLUMN_SPEEDUP, 1.5);
  hfb_row_pair(&row, HFB_COLUMN_SPEEDUP_CI95, 1.4, 1.6);
  hfb_row_text(&row, HFB_COLUMN_NAME, "caf\xe9"); /* Latin-1: no UTF-8 */
  assert_true(hfb_row_get_real(&row, HFB_COLUMN_SPEEDUP) == 1.5);
  assert_true(hfb_row_get_pair(&row, HFB_COLUMN_SPEEDUP_CI95, &low, &high) && low == 1.4 && high == 1.6);
  assert_string_equal(hfb_row_get_text(&row, HFB_COLUMN_NAME), "caf?");
  hfb_row_real(&row, HFB_COLUMN_SPEEDUP, INFINITY); /* clears */
  hfb_row_pair(&row, HFB_COLUMN_SPEEDUP_CI95, 1.4, NAN);
  hfb_row_text(&row, HFB_COLUMN_NAME, NULL);
  assert_false(hfb_row_has(&row, HFB_COLUMN_SPEEDUP) || hfb_row_has(&row, HFB_COLUMN_SPEEDUP_CI95) ||
               hfb_row_has(&row, HFB_COLUMN_NAME));
  hfb_row_deinit(&row);
}

static void test_merge_takes_only_what_fits(void **state) {
  (void)state;
  hfb_row row;
  assert_int_equal(hfb_row_init(&row), HFB_OK);
  json_t *update = json_pack("{s:f, s:s, s:i, s:s, s:[f], s:s}", "speedup", 2.0, "eager_ms", "text", "name", 7,
                             "status", "pass", "speedup_ci95", 1.0, "no_such_field", "x");
  assert_non_null(update);
  hfb_row_merge(&row, update);
  hfb_row_merge(&row, NULL);
  json_decref(update);
  assert_true(hfb_row_get_real(&row, HFB_COLUMN_SPEEDUP) == 2.0);
  assert_string_equal(hfb_row_get_text(&row, HFB_COLUMN_STATUS), "pass");
  assert_int_equal(json_object_size(row.object), 2);
  hfb_row_deinit(&row);
}

/* ---- CSV ---- */

/* The columns of the reference harness, in its order. */
static void test_csv_starts_as_the_reference(void **state) {
  (void)state;
  const struct {
    unsigned phases;
    const char *start;
  } cases[] = {
      {HFB_PHASE_ACCURACY, "dev,name,batch_size,tag,accuracy,status,"},
      {HFB_PHASE_PERFORMANCE,
       "dev,name,batch_size,tag,speedup,abs_latency,compilation_latency,compression_ratio,eager_peak_mem,dynamo_peak_"
       "mem,"},
      {BOTH, "dev,name,batch_size,tag,accuracy,speedup,abs_latency,"},
  };
  for (size_t i = 0; i < 3; i++) {
    hfb_strbuf text;
    hfb_strbuf_init(&text);
    hfb_csv_header(&text, cases[i].phases);
    assert_memory_equal(hfb_strbuf_text(&text), cases[i].start, strlen(cases[i].start));
    hfb_strbuf_deinit(&text);
  }
}

/* Splits one line of CSV in place; returns the number of cells. */
static int split_csv(char *line, char *cells[], int limit) {
  int count = 0;
  for (char *at = line; count < limit;) {
    char *out = at;
    cells[count++] = out;
    bool quoted = *at == '"';
    if (quoted) at++;
    for (; *at && *at != '\n' && (quoted || *at != ','); at++) {
      if (quoted && *at == '"') {
        if (at[1] == '"') at++;
        else {
          quoted = false;
          continue;
        }
      }
      *out++ = *at;
    }
    bool more = *at == ',';
    *out = '\0';
    at++;
    if (!more) break;
  }
  return count;
}

static const char *csv_cell(unsigned phases, const hfb_row *row, const char *column) {
  static char header_line[8192], row_line[8192];
  char *names[128], *cells[128];
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_csv_header(&text, phases);
  snprintf(header_line, sizeof(header_line), "%s", hfb_strbuf_text(&text));
  hfb_strbuf_clear(&text);
  hfb_csv_row(&text, phases, row);
  snprintf(row_line, sizeof(row_line), "%s", hfb_strbuf_text(&text));
  hfb_strbuf_deinit(&text);
  int count = split_csv(header_line, names, 128);
  assert_int_equal(split_csv(row_line, cells, 128), count);
  for (int i = 0; i < count; i++) {
    if (strcmp(names[i], column) == 0) return cells[i];
  }
  fail_msg("no column %s", column);
  return NULL;
}

static void test_csv_values(void **state) {
  (void)state;
  hfb_row row = make_row("Bert", "fail_to_run", 1.25);
  hfb_row_text(&row, HFB_COLUMN_ERROR, "said \"no\", twice");
  hfb_row_pair(&row, HFB_COLUMN_SPEEDUP_CI95, 1.2, 1.3);
  hfb_row_real(&row, HFB_COLUMN_P_VALUE, 0.000001234);
  hfb_row_int(&row, HFB_COLUMN_PARAMETERS, 109514298);
  assert_string_equal(csv_cell(BOTH, &row, "speedup"), "1.250000");
  assert_string_equal(csv_cell(BOTH, &row, "speedup_ci95_low"), "1.200000");
  assert_string_equal(csv_cell(BOTH, &row, "speedup_ci95_high"), "1.300000");
  assert_string_equal(csv_cell(BOTH, &row, "p_value"), "1.234e-06");
  assert_string_equal(csv_cell(BOTH, &row, "parameters"), "109514298");
  assert_string_equal(csv_cell(BOTH, &row, "error"), "said \"no\", twice");
  assert_string_equal(csv_cell(BOTH, &row, "abs_latency"), "0.000000"); /* not measured: 0 in the harness's columns */
  assert_string_equal(csv_cell(BOTH, &row, "eager_ms"), "");            /* and nothing in ours */
  assert_string_equal(csv_cell(HFB_PHASE_ACCURACY, &row, "accuracy"), "pass");
  hfb_row_deinit(&row);
}

/* ---- JSON ---- */

static void test_json_row(void **state) {
  (void)state;
  hfb_row row = make_row("Bert", "pass", 1.25);
  hfb_row_json(&row, HFB_COLUMN_EAGER_SAMPLES, json_pack("[f, f]", 1.0, 2.0));
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  assert_int_equal(hfb_json_row(&text, HFB_PHASE_PERFORMANCE, &row), HFB_OK);
  const char *line = hfb_strbuf_text(&text);
  assert_ptr_equal(strchr(line, '\n'), line + text.length - 1); /* one line */
  json_t *object = json_loads(line, 0, NULL);
  assert_non_null(object);
  static const char *const demanded[] = {"name",
                                         "device",
                                         "mode",
                                         "precision",
                                         "batch_size",
                                         "seq_len",
                                         "backend",
                                         "status",
                                         "speedup",
                                         "speedup_ci95",
                                         "p_value",
                                         "eager_ms",
                                         "abs_latency",
                                         "compile_cold_s",
                                         "compile_warm_s",
                                         "eager_peak_mem",
                                         "dynamo_peak_mem",
                                         "planned_peak_mem",
                                         "gflops",
                                         "peak_pct",
                                         "eager_peak_pct",
                                         "kernels_run",
                                         "error"};
  for (size_t i = 0; i < sizeof(demanded) / sizeof(demanded[0]); i++) {
    if (!json_object_get(object, demanded[i])) fail_msg("field %s is missing", demanded[i]);
  }
  assert_true(json_number_value(json_object_get(object, "speedup")) == 1.25);
  assert_true(json_is_null(json_object_get(object, "eager_ms")));
  assert_int_equal(json_array_size(json_object_get(object, "eager_samples_ms")), 2);
  assert_null(json_object_get(object, "accuracy")); /* another phase */
  json_decref(object);
  hfb_strbuf_deinit(&text);
  hfb_row_deinit(&row);
}

/* ---- Tables and summary ---- */

static void test_tables(void **state) {
  (void)state;
  hfb_row rows[2] = {make_row("Bert", "pass", 1.25), make_row("Bart", "OOM", NAN)};
  hfb_row_pair(&rows[0], HFB_COLUMN_SPEEDUP_CI95, 1.2, 1.3);
  hfb_row_text(&rows[1], HFB_COLUMN_ERROR, "a | b");
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_table_header(&text, BOTH);
  size_t status_at = (size_t)(strstr(hfb_strbuf_text(&text), "status") - hfb_strbuf_text(&text));
  hfb_strbuf_clear(&text);
  hfb_table_row(&text, BOTH, &rows[0]);
  assert_non_null(strstr(hfb_strbuf_text(&text), "1.250x [1.200, 1.300]"));
  assert_string_equal(hfb_strbuf_text(&text) + status_at, "pass\n"); /* aligned with the header */
  static const char *const long_words[] = {"pass_due_to_skip", "fail_accuracy", "eager_two_runs_differ"};
  for (int i = 0; i < 3; i++) {
    hfb_row_text(&rows[0], HFB_COLUMN_ACCURACY, long_words[i]);
    hfb_row_text(&rows[0], HFB_COLUMN_STATUS, long_words[i]);
    hfb_strbuf_clear(&text);
    hfb_table_row(&text, BOTH, &rows[0]);
    assert_int_equal(strncmp(hfb_strbuf_text(&text) + status_at, long_words[i], strlen(long_words[i])), 0);
    assert_non_null(strstr(hfb_strbuf_text(&text), i == 0 ? "  skipped   " : "  failed    "));
  }
  hfb_row_text(&rows[0], HFB_COLUMN_ACCURACY, "pass");
  hfb_row_text(&rows[0], HFB_COLUMN_STATUS, "pass");
  hfb_strbuf_clear(&text);
  hfb_markdown_table(&text, BOTH, rows, 2);
  assert_non_null(strstr(hfb_strbuf_text(&text), "| Bert | 4 | pass |"));
  assert_non_null(strstr(hfb_strbuf_text(&text), "- Bart: a \\| b\n"));
  hfb_strbuf_deinit(&text);
  for (int i = 0; i < 2; i++) hfb_row_deinit(&rows[i]);
}

static void test_summary(void **state) {
  (void)state;
  hfb_row rows[4] = {make_row("A", "pass", 0.5), make_row("B", "pass", 2.0), make_row("C", "fail_accuracy", 100.0),
                     make_row("D", "pass_due_to_skip", 8.0)};
  hfb_row_int(&rows[0], HFB_COLUMN_TENSORS_TOTAL, 300);
  hfb_row_int(&rows[2], HFB_COLUMN_TENSORS_TOTAL, 100);
  hfb_row_int(&rows[2], HFB_COLUMN_TENSORS_NOT_CLOSE, 3);
  hfb_summary summary;
  assert_int_equal(hfb_summarize(rows, 4, &summary), HFB_OK);
  assert_true(summary.tensor_count == 400 && summary.tensor_close_count == 397);
  assert_int_equal(summary.pass_count, 3);
  assert_int_equal(summary.speedup_count, 3);
  assert_true(fabs(summary.geomean - 2.0) < 1e-12); /* 0.5 is not clipped, 100 is not counted */
  assert_true(summary.low == 0.5 && summary.high == 8.0);
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_summary_print(&text, BOTH, &summary, rows);
  assert_non_null(strstr(hfb_strbuf_text(&text), "3 of 4 pass; not: C (fail_accuracy)"));
  assert_non_null(strstr(hfb_strbuf_text(&text), "1 left out"));
  assert_non_null(strstr(hfb_strbuf_text(&text), "400 tensors compared, 99.25 % of them within"));
  hfb_strbuf_deinit(&text);
  assert_int_equal(hfb_summarize(rows, 0, &summary), HFB_OK);
  assert_true(isnan(summary.geomean));
  json_t *object = hfb_summary_json(&summary);
  assert_true(json_is_null(json_object_get(object, "speedup_geomean")));
  json_decref(object);
  for (int i = 0; i < 4; i++) hfb_row_deinit(&rows[i]);
}

/* ---- Files ---- */

static char *read_file(const char *path) {
  char *data;
  size_t bytes;
  assert_int_equal(hfb_file_read(path, 1 << 20, &data, &bytes), HFB_OK);
  return data;
}

static int count_lines(const char *path) {
  char *data = read_file(path);
  int count = 0;
  for (const char *at = data; *at; at++) count += *at == '\n';
  hfb_mem_free(data);
  return count;
}

static void test_files(void **state) {
  (void)state;
  char path[128], other[160];
  snprintf(path, sizeof(path), "%s/new/out.csv", own_folder);
  hfb_row rows[2] = {make_row("A", "pass", 0.5), make_row("B", "pass", 2.0)};
  hfb_result_files files;
  assert_int_equal(hfb_result_files_open(path, BOTH, false, &files), HFB_OK);
  assert_string_equal(files.csv_path, path);
  for (int i = 0; i < 2; i++) assert_int_equal(hfb_result_files_add(&files, &rows[i]), HFB_OK);
  assert_int_equal(hfb_result_files_finish(&files, rows, 2), HFB_OK);
  assert_int_equal(count_lines(files.csv_path), 3);
  assert_int_equal(count_lines(files.json_path), 2);
  assert_true(hfb_file_exists(files.markdown_path));
  hfb_result_files_close(&files);

  assert_int_equal(hfb_result_files_open(path, BOTH, true, &files), HFB_OK); /* goes on */
  assert_int_equal(hfb_result_files_add(&files, &rows[0]), HFB_OK);
  assert_int_equal(count_lines(files.csv_path), 4);
  hfb_result_files_close(&files);
  assert_int_equal(hfb_result_files_open(path, HFB_PHASE_ACCURACY, true, &files), HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "columns"));
  assert_int_equal(hfb_result_files_open(path, BOTH, false, &files), HFB_OK); /* replaces */
  assert_int_equal(count_lines(files.csv_path), 1);
  hfb_result_files_close(&files);

  snprintf(other, sizeof(other), "%s/out", own_folder); /* the ending is added */
  assert_int_equal(hfb_result_files_open(other, BOTH, false, &files), HFB_OK);
  assert_string_equal(files.csv_path + strlen(other), ".csv");
  hfb_result_files_close(&files);
  snprintf(other, sizeof(other), "%s/x.csv", path); /* a file in place of the folder */
  assert_int_equal(hfb_result_files_open(other, BOTH, false, &files), HFB_IO);
  for (int i = 0; i < 2; i++) hfb_row_deinit(&rows[i]);
}

/* A limit on the size of files stands in for a full disk: write fails in the same way, half-way through a row. */
static void test_full_disk(void **state) {
  (void)state;
  char path[128];
  snprintf(path, sizeof(path), "%s/full.csv", own_folder);
  hfb_row row = make_row("A", "pass", 0.5);
  hfb_result_files files;
  assert_int_equal(hfb_result_files_open(path, BOTH, false, &files), HFB_OK);
  assert_int_equal(hfb_result_files_add(&files, &row), HFB_OK);
  struct stat csv, json;
  assert_int_equal(stat(files.csv_path, &csv), 0);
  assert_int_equal(stat(files.json_path, &json), 0);
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit old, small;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  for (int in_json = 0; in_json < 2; in_json++) {
    small = old;
    small.rlim_cur = (rlim_t)(in_json ? json.st_size : csv.st_size) + 10;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    hfb_status status = hfb_result_files_add(&files, &row);
    char message[512];
    snprintf(message, sizeof(message), "%s", hfb_error_message());
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, HFB_IO);
    assert_non_null(strstr(message, own_folder));
    assert_int_equal(count_lines(files.csv_path), 2); /* both files as before */
    assert_int_equal(count_lines(files.json_path), 1);
  }
  assert_int_equal(hfb_result_files_add(&files, &row), HFB_OK); /* room again */
  assert_int_equal(count_lines(files.csv_path), 3);
  assert_int_equal(count_lines(files.json_path), 2);
  hfb_result_files_close(&files);
  hfb_row_deinit(&row);
}

/* ---- docs/results.md ---- */

static void test_every_column_is_documented(void **state) {
  (void)state;
  char *data = read_file(HFB_TEST_DATA "/../../docs/results.md");
  for (int i = 0; i < HFB_COLUMN_COUNT; i++) {
    const hfb_column_info *info = hfb_column_info_of((hfb_column)i);
    char line[1024];
    if (info->csv_name && strcmp(info->csv_name, info->name) != 0) {
      snprintf(line, sizeof(line), "| `%s` (CSV: `%s`) | %s |\n", info->name, info->csv_name, info->meaning);
    } else {
      snprintf(line, sizeof(line), "| `%s` | %s |\n", info->name, info->meaning);
    }
    if (!strstr(data, line)) fail_msg("docs/results.md lacks this line:\n%s", line);
  }
  hfb_mem_free(data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_row_fields),
      cmocka_unit_test(test_merge_takes_only_what_fits),
      cmocka_unit_test(test_csv_starts_as_the_reference),
      cmocka_unit_test(test_csv_values),
      cmocka_unit_test(test_json_row),
      cmocka_unit_test(test_tables),
      cmocka_unit_test(test_summary),
      cmocka_unit_test(test_files),
      cmocka_unit_test(test_full_disk),
      cmocka_unit_test(test_every_column_is_documented),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
