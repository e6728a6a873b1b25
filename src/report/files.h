/* Result files: CSV, JSON lines and markdown, side by side. Rows are appended as they are measured, each with one
 * write; a write that fails is taken back, so that no file ends in half a row. */
#ifndef HFB_REPORT_FILES_H
#define HFB_REPORT_FILES_H

#include "base/strbuf.h"
#include "bench/row.h"

/* One row of CSV (RFC 4180 quoting), or the header. */
void hfb_csv_header(hfb_strbuf *text, unsigned phases);
void hfb_csv_row(hfb_strbuf *text, unsigned phases, const hfb_row *row);

/* One row as one line of JSON. */
hfb_status hfb_json_row(hfb_strbuf *text, unsigned phases, const hfb_row *row) HFB_MUST_USE;

typedef struct hfb_result_files {
  char *csv_path, *json_path, *markdown_path; /* owned */
  unsigned phases;
} hfb_result_files;

/* Creates the folders and the files, so that a place that cannot be written is known before anything is measured.
 * `csv_path` ends in .csv or gets that ending; the others differ from it in the ending alone. Existing files are
 * replaced, or continued when `retain`: then the CSV must have the columns of these phases. */
hfb_status hfb_result_files_open(const char *csv_path, unsigned phases, bool retain,
                                 hfb_result_files *out_files) HFB_MUST_USE;

/* On failure neither file has the row; it may be added again. */
hfb_status hfb_result_files_add(hfb_result_files *files, const hfb_row *row) HFB_MUST_USE;

/* Writes the markdown file: a title, the table, the summary. */
hfb_status hfb_result_files_finish(const hfb_result_files *files, const hfb_row *rows, int count) HFB_MUST_USE;

void hfb_result_files_close(hfb_result_files *files); /* a cleared struct is allowed */

#endif
