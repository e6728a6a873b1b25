/* Tables for people: aligned text for a terminal, and markdown. */
#ifndef HFB_REPORT_TABLE_H
#define HFB_REPORT_TABLE_H

#include "base/strbuf.h"
#include "bench/row.h"

/* Aligned text. Widths are fixed, so that a row can be printed as soon as it is measured. Columns of phases that did
 * not run are left out. Each function appends whole lines. */
void hfb_table_header(hfb_strbuf *text, unsigned phases);
void hfb_table_row(hfb_strbuf *text, unsigned phases, const hfb_row *row);

/* A markdown table with the same columns, and below it what rows have to say beside: why they did not pass, or what is
 * not plain in a pass. */
void hfb_markdown_table(hfb_strbuf *text, unsigned phases, const hfb_row *rows, int count);

/* Accuracy: the distances of every output to float64, eager's and the backend's. Nothing when the row has none. */
void hfb_distance_table(hfb_strbuf *text, const hfb_row *row);

#endif
