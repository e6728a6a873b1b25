#include "report/table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/runner.h"

enum { ACCURACY_WIDTH = 8 };

/* A column of the table for people: title, width on a terminal, and how a row shows in it. */
typedef struct cell_column {
  const char *title;
  int width; /* negative: left-aligned */
  unsigned phase;
  void (*print)(const hfb_row *row, char *text, size_t bytes);
} cell_column;

static void print_real(const hfb_row *row, hfb_column column, const char *format, double scale, char *text,
                       size_t bytes) {
  double value = hfb_row_get_real(row, column);
  if (isnan(value)) snprintf(text, bytes, "-");
  else snprintf(text, bytes, format, value * scale);
}

static void print_name(const hfb_row *row, char *text, size_t bytes) {
  const char *name = hfb_row_get_text(row, HFB_COLUMN_NAME);
  snprintf(text, bytes, "%s", name ? name : "-");
}

static void print_batch(const hfb_row *row, char *text, size_t bytes) {
  print_real(row, HFB_COLUMN_BATCH_SIZE, "%.0f", 1, text, bytes);
}

/* In a word: the column `status` has the reason why there was no pass. */
static void print_accuracy(const hfb_row *row, char *text, size_t bytes) {
  const char *status = hfb_row_get_text(row, HFB_COLUMN_ACCURACY);
  bool is_pass = hfb_status_text_passes(status), is_short = status && strlen(status) <= ACCURACY_WIDTH;
  snprintf(text, bytes, "%s", !status ? "-" : is_short ? status : is_pass ? "skipped" : "failed");
}

static void print_error(const hfb_row *row, char *text, size_t bytes) {
  print_real(row, HFB_COLUMN_ERROR_BACKEND, "%.1e", 1, text, bytes);
}

static void print_eager_ms(const hfb_row *row, char *text, size_t bytes) {
  print_real(row, HFB_COLUMN_EAGER_MS, "%.4g", 1, text, bytes);
}

static void print_ms(const hfb_row *row, char *text, size_t bytes) {
  print_real(row, HFB_COLUMN_ABS_LATENCY, "%.4g", 1, text, bytes);
}

/* The speed-up with its interval: 1.420x [1.391, 1.448]. */
static void print_speedup(const hfb_row *row, char *text, size_t bytes) {
  double speedup = hfb_row_get_real(row, HFB_COLUMN_SPEEDUP), low, high;
  if (isnan(speedup)) snprintf(text, bytes, "-");
  else if (hfb_row_get_pair(row, HFB_COLUMN_SPEEDUP_CI95, &low, &high)) {
    snprintf(text, bytes, "%.3fx [%.3f, %.3f]", speedup, low, high);
  } else {
    snprintf(text, bytes, "%.3fx", speedup);
  }
}

static void print_peak_pct(const hfb_row *row, char *text, size_t bytes) {
  print_real(row, HFB_COLUMN_PEAK_PCT, "%.0f%%", 1, text, bytes);
}

static void print_eager_peak_pct(const hfb_row *row, char *text, size_t bytes) {
  print_real(row, HFB_COLUMN_EAGER_PEAK_PCT, "%.0f%%", 1, text, bytes);
}

static void print_compile(const hfb_row *row, char *text, size_t bytes) {
  print_real(row, HFB_COLUMN_COMPILE_COLD_S, "%.2f", 1, text, bytes);
}

static void print_memory(const hfb_row *row, char *text, size_t bytes) {
  print_real(row, HFB_COLUMN_DYNAMO_PEAK_MEM, "%.2f", 1, text, bytes);
}

static void print_eager_memory(const hfb_row *row, char *text, size_t bytes) {
  print_real(row, HFB_COLUMN_EAGER_PEAK_MEM, "%.2f", 1, text, bytes);
}

static void print_status(const hfb_row *row, char *text, size_t bytes) {
  const char *status = hfb_row_get_text(row, HFB_COLUMN_STATUS);
  snprintf(text, bytes, "%s", status ? status : "-");
}

static const cell_column cells[] = {
    {"model", -39, HFB_PHASE_ANY, print_name},
    {"batch", 5, HFB_PHASE_ANY, print_batch},
    {"accuracy", -ACCURACY_WIDTH, HFB_PHASE_ACCURACY, print_accuracy},
    {"error", 7, HFB_PHASE_ACCURACY, print_error},
    {"eager ms", 9, HFB_PHASE_PERFORMANCE, print_eager_ms},
    {"ms", 9, HFB_PHASE_PERFORMANCE, print_ms},
    {"speed-up [95 %]", -23, HFB_PHASE_PERFORMANCE, print_speedup},
    {"eager peak", 10, HFB_PHASE_PERFORMANCE, print_eager_peak_pct},
    {"peak", 5, HFB_PHASE_PERFORMANCE, print_peak_pct},
    {"compile s", 9, HFB_PHASE_PERFORMANCE, print_compile},
    {"eager GB", 8, HFB_PHASE_PERFORMANCE, print_eager_memory},
    {"GB", 6, HFB_PHASE_PERFORMANCE, print_memory},
    {"status", -1, HFB_PHASE_ANY, print_status},
};
enum { CELL_COUNT = sizeof(cells) / sizeof(cells[0]), CELL_BYTES = 128 };

static bool is_shown(const cell_column *cell, unsigned phases) {
  return cell->phase == HFB_PHASE_ANY || cell->phase & phases;
}

static void end_line(hfb_strbuf *text) {
  while (text->length > 0 && text->data[text->length - 1] == ' ') text->data[--text->length] = '\0';
  hfb_strbuf_append(text, "\n");
}

void hfb_table_header(hfb_strbuf *text, unsigned phases) {
  for (int i = 0; i < CELL_COUNT; i++) {
    if (is_shown(&cells[i], phases)) hfb_strbuf_printf(text, "%*s  ", cells[i].width, cells[i].title);
  }
  end_line(text);
}

/* Below a row: its error, or what there is to know of a pass that was not plain, the first that there is. */
static const char *remark_of(const hfb_row *row) {
  static const hfb_column remarks[] = {HFB_COLUMN_ERROR, HFB_COLUMN_ACCURACY_STATUS_REASON, HFB_COLUMN_TIMING_NOTE};
  const char *remark = NULL;
  for (size_t i = 0; i < sizeof(remarks) / sizeof(remarks[0]) && !remark; i++)
    remark = hfb_row_get_text(row, remarks[i]);
  return remark;
}

void hfb_table_row(hfb_strbuf *text, unsigned phases, const hfb_row *row) {
  for (int i = 0; i < CELL_COUNT; i++) {
    if (!is_shown(&cells[i], phases)) continue;
    char cell[CELL_BYTES];
    cells[i].print(row, cell, sizeof(cell));
    hfb_strbuf_printf(text, "%*s  ", cells[i].width, cell);
  }
  end_line(text);
  const char *remark = remark_of(row);
  if (remark) hfb_strbuf_printf(text, "    %s\n", remark);
}

/* Markdown takes | for a border and a line break for the end of the row. */
static void append_markdown(hfb_strbuf *text, const char *cell) {
  for (const char *at = cell; *at; at++) {
    if (*at == '|') hfb_strbuf_append(text, "\\|");
    else hfb_strbuf_append_bytes(text, *at == '\n' || *at == '\r' ? " " : at, 1);
  }
}

void hfb_markdown_table(hfb_strbuf *text, unsigned phases, const hfb_row *rows, int count) {
  for (int i = 0; i < CELL_COUNT; i++) {
    if (is_shown(&cells[i], phases)) hfb_strbuf_printf(text, "| %s ", cells[i].title);
  }
  hfb_strbuf_append(text, "|\n");
  for (int i = 0; i < CELL_COUNT; i++) {
    if (is_shown(&cells[i], phases)) hfb_strbuf_append(text, cells[i].width < 0 ? "|---" : "|---:");
  }
  hfb_strbuf_append(text, "|\n");
  for (int r = 0; r < count; r++) {
    for (int i = 0; i < CELL_COUNT; i++) {
      if (!is_shown(&cells[i], phases)) continue;
      char cell[CELL_BYTES];
      cells[i].print(&rows[r], cell, sizeof(cell));
      hfb_strbuf_append(text, "| ");
      append_markdown(text, cell);
      hfb_strbuf_append(text, " ");
    }
    hfb_strbuf_append(text, "|\n");
  }
  for (int r = 0; r < count; r++) {
    const char *remark = remark_of(&rows[r]), *name = hfb_row_get_text(&rows[r], HFB_COLUMN_NAME);
    if (!remark) continue;
    hfb_strbuf_printf(text, "\n- %s: ", name ? name : "-");
    append_markdown(text, remark);
    hfb_strbuf_append(text, "\n");
  }
}

static double distance_of(const json_t *tensor, const char *side) {
  const json_t *value = json_object_get(json_object_get(tensor, side), "scaled");
  return json_is_number(value) ? json_number_value(value) : NAN;
}

void hfb_distance_table(hfb_strbuf *text, const hfb_row *row) {
  const json_t *tensors = json_object_get(row->object, hfb_column_info_of(HFB_COLUMN_TENSORS)->name);
  if (json_array_size(tensors) == 0) return;
  hfb_strbuf_printf(text, "    %-44s %-22s %12s %12s  rule\n", "output", "shape", "eager-f64", "backend-f64");
  for (size_t i = 0; i < json_array_size(tensors); i++) {
    const json_t *tensor = json_array_get(tensors, i);
    const char *name = json_string_value(json_object_get(tensor, "name"));
    const char *shape = json_string_value(json_object_get(tensor, "shape"));
    const char *rule = json_string_value(json_object_get(tensor, "rule"));
    hfb_strbuf_printf(text, "    %-44s %-22s %12.3e %12.3e  %s\n", name ? name : "-", shape ? shape : "-",
                      distance_of(tensor, "eager_to_f64"), distance_of(tensor, "backend_to_f64"), rule ? rule : "-");
  }
}
