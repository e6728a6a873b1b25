#include "report/files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "report/summary.h"
#include "report/table.h"

/* ---- CSV ---- */

static bool in_csv(const hfb_column_info *info, unsigned phases) {
  return info->csv_name && (info->phase == HFB_PHASE_ANY || info->phase & phases);
}

static void append_quoted(hfb_strbuf *text, const char *value) {
  if (!value[strcspn(value, ",\"\r\n")]) {
    hfb_strbuf_append(text, value);
    return;
  }
  hfb_strbuf_append(text, "\"");
  for (const char *at = value; *at; at++) {
    if (*at == '"') hfb_strbuf_append(text, "\"");
    hfb_strbuf_append_bytes(text, at, 1);
  }
  hfb_strbuf_append(text, "\"");
}

void hfb_csv_header(hfb_strbuf *text, unsigned phases) {
  const char *comma = "";
  for (int i = 0; i < HFB_COLUMN_COUNT; i++) {
    const hfb_column_info *info = hfb_column_info_of((hfb_column)i);
    if (!in_csv(info, phases)) continue;
    if (info->kind == HFB_COLUMN_PAIR)
      hfb_strbuf_printf(text, "%s%s_low,%s_high", comma, info->csv_name, info->csv_name);
    else hfb_strbuf_printf(text, "%s%s", comma, info->csv_name);
    comma = ",";
  }
  hfb_strbuf_append(text, "\n");
}

/* Six decimals, as the reference harness has; small values keep six digits instead. */
static void append_real(hfb_strbuf *text, double value) {
  hfb_strbuf_printf(text, value != 0 && fabs(value) < 0.1 ? "%.6g" : "%.6f", value);
}

static void append_value(hfb_strbuf *text, const hfb_row *row, hfb_column column) {
  const hfb_column_info *info = hfb_column_info_of(column);
  double low, high;
  if (info->kind == HFB_COLUMN_PAIR) {
    if (!hfb_row_get_pair(row, column, &low, &high)) {
      hfb_strbuf_append(text, ",");
      return;
    }
    append_real(text, low);
    hfb_strbuf_append(text, ",");
    append_real(text, high);
  } else if (!hfb_row_has(row, column)) {
    hfb_strbuf_append(text, info->missing);
  } else if (info->kind == HFB_COLUMN_TEXT) {
    append_quoted(text, hfb_row_get_text(row, column));
  } else if (info->kind == HFB_COLUMN_INT) {
    hfb_strbuf_printf(text, "%lld", (long long)hfb_row_get_int(row, column));
  } else {
    append_real(text, hfb_row_get_real(row, column));
  }
}

void hfb_csv_row(hfb_strbuf *text, unsigned phases, const hfb_row *row) {
  const char *comma = "";
  for (int i = 0; i < HFB_COLUMN_COUNT; i++) {
    if (!in_csv(hfb_column_info_of((hfb_column)i), phases)) continue;
    hfb_strbuf_append(text, comma);
    append_value(text, row, (hfb_column)i);
    comma = ",";
  }
  hfb_strbuf_append(text, "\n");
}

/* ---- JSON lines ---- */

hfb_status hfb_json_row(hfb_strbuf *text, unsigned phases, const hfb_row *row) {
  json_t *object = hfb_row_export(row, phases);
  char *line = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
  json_decref(object);
  if (!line) return HFB_FAIL(HFB_OUT_OF_MEMORY, "no memory to write a result row as JSON");
  hfb_strbuf_append(text, line);
  hfb_strbuf_append(text, "\n");
  free(line);
  return hfb_strbuf_status(text);
}

/* ---- Files ---- */

/* The size of a regular file, to which a failed append is taken back; -1 for a device or a pipe. */
static off_t size_of(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : -1;
}

static void take_back(const char *path, off_t size) {
  if (size >= 0 && truncate(path, size) != 0) hfb_error_prefix("'%s' ends in half a row", path);
}

static hfb_status check_same_columns(const char *path, const hfb_strbuf *header) {
  hfb_file_map map;
  HFB_TRY(hfb_file_map_open(path, &map));
  bool equal = map.bytes >= header->length && memcmp(map.data, header->data, header->length) == 0;
  bool empty = map.bytes == 0;
  hfb_file_map_close(&map);
  if (equal) return HFB_OK;
  if (empty) return hfb_file_append(path, header->data, header->length);
  return HFB_FAIL(HFB_MISMATCH, "'%s' has other columns than this run: name another file, or leave out --retain-output",
                  path);
}

static hfb_status start_csv(const hfb_result_files *files, bool retain) {
  hfb_strbuf header;
  hfb_strbuf_init(&header);
  hfb_csv_header(&header, files->phases);
  hfb_status status = hfb_strbuf_status(&header);
  if (status == HFB_OK && retain && hfb_file_exists(files->csv_path)) {
    status = check_same_columns(files->csv_path, &header);
  } else if (status == HFB_OK) {
    status = hfb_file_write_atomic(files->csv_path, header.data, header.length);
  }
  hfb_strbuf_deinit(&header);
  return status;
}

/* `path` with `ending` in place of the last `cut` characters. */
static hfb_status path_with_ending(const char *path, size_t cut, const char *ending, char **out_path) {
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_strbuf_append_bytes(&text, path, strlen(path) - cut);
  hfb_strbuf_append(&text, ending);
  hfb_status status = hfb_strbuf_status(&text);
  if (status == HFB_OK) status = hfb_mem_strdup(hfb_strbuf_text(&text), out_path);
  hfb_strbuf_deinit(&text);
  return status;
}

static hfb_status create_folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash || slash == path) return HFB_OK;
  char *folder = NULL;
  HFB_TRY(hfb_mem_strdup(path, &folder));
  folder[slash - path] = '\0';
  hfb_status status = hfb_dir_create(folder);
  hfb_mem_free(folder);
  return status;
}

hfb_status hfb_result_files_open(const char *csv_path, unsigned phases, bool retain, hfb_result_files *out_files) {
  hfb_result_files files = {.phases = phases};
  size_t length = strlen(csv_path), cut = length > 4 && strcmp(csv_path + length - 4, ".csv") == 0 ? 4 : 0;
  hfb_status status = path_with_ending(csv_path, cut, ".csv", &files.csv_path);
  if (status == HFB_OK) status = path_with_ending(csv_path, cut, ".jsonl", &files.json_path);
  if (status == HFB_OK) status = path_with_ending(csv_path, cut, ".md", &files.markdown_path);
  if (status == HFB_OK) status = create_folder_of(files.csv_path);
  if (status == HFB_OK) status = start_csv(&files, retain);
  if (status == HFB_OK && !retain) status = hfb_file_write_atomic(files.json_path, "", 0);
  if (status == HFB_OK) *out_files = files;
  else hfb_result_files_close(&files);
  return status;
}

hfb_status hfb_result_files_add(hfb_result_files *files, const hfb_row *row) {
  hfb_strbuf csv, json;
  hfb_strbuf_init(&csv);
  hfb_strbuf_init(&json);
  hfb_csv_row(&csv, files->phases, row);
  off_t csv_size = size_of(files->csv_path), json_size = size_of(files->json_path);
  hfb_status status = hfb_strbuf_status(&csv);
  if (status == HFB_OK) status = hfb_json_row(&json, files->phases, row);
  if (status == HFB_OK) status = hfb_file_append(files->json_path, json.data, json.length);
  if (status == HFB_OK) status = hfb_file_append(files->csv_path, csv.data, csv.length);
  if (status != HFB_OK) {
    take_back(files->json_path, json_size);
    take_back(files->csv_path, csv_size);
  }
  hfb_strbuf_deinit(&csv);
  hfb_strbuf_deinit(&json);
  return status;
}

static void write_title(hfb_strbuf *text, const hfb_row *rows, int count) {
  hfb_strbuf_append(text, "# hfbench results\n\n");
  if (count == 0) return;
  const hfb_row *row = &rows[0];
  const char *cpu = hfb_row_get_text(row, HFB_COLUMN_CPU), *isa = hfb_row_get_text(row, HFB_COLUMN_ISA);
  const char *backend = hfb_row_get_text(row, HFB_COLUMN_BACKEND), *mode = hfb_row_get_text(row, HFB_COLUMN_MODE);
  const char *precision = hfb_row_get_text(row, HFB_COLUMN_PRECISION),
             *version = hfb_row_get_text(row, HFB_COLUMN_VERSION);
  hfb_strbuf_printf(text, "%s against eager, %s, %s, %.0f threads on %s (%s), hfbench %s.\n\n", backend ? backend : "-",
                    mode ? mode : "-", precision ? precision : "-", hfb_row_get_real(row, HFB_COLUMN_THREADS),
                    cpu ? cpu : "-", isa ? isa : "-", version ? version : "-");
}

hfb_status hfb_result_files_finish(const hfb_result_files *files, const hfb_row *rows, int count) {
  hfb_summary summary;
  HFB_TRY(hfb_summarize(rows, count, &summary));
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  write_title(&text, rows, count);
  hfb_markdown_table(&text, files->phases, rows, count);
  hfb_strbuf_append(&text, "\n");
  hfb_summary_print(&text, files->phases, &summary, rows);
  hfb_status status = hfb_strbuf_status(&text);
  if (status == HFB_OK) status = hfb_file_write_atomic(files->markdown_path, text.data, text.length);
  hfb_strbuf_deinit(&text);
  return status;
}

void hfb_result_files_close(hfb_result_files *files) {
  hfb_mem_free(files->csv_path);
  hfb_mem_free(files->json_path);
  hfb_mem_free(files->markdown_path);
  *files = (hfb_result_files){0};
}
