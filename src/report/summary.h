/* The last lines of a run: how many passed, and the geometric mean of the speed-ups. */
#ifndef HFB_REPORT_SUMMARY_H
#define HFB_REPORT_SUMMARY_H

#include "base/strbuf.h"
#include "bench/row.h"

/* Speed-ups below 1 count as they are. Rows that did not pass are in no mean; they are counted and named. */
typedef struct hfb_summary {
  int row_count, pass_count;
  int speedup_count;          /* rows in the means below */
  double geomean, low, high;  /* of the speed-ups; smallest and largest; NaN without any */
  double compile_cold_mean_s; /* NaN without any */
  double compression_mean;
  int64_t tensor_count, tensor_close_count; /* compared in accuracy checks, and of these: plainly close to eager */
} hfb_summary;

hfb_status hfb_summarize(const hfb_row *rows, int count, hfb_summary *out_summary) HFB_MUST_USE;

/* Up to four lines of text. */
void hfb_summary_print(hfb_strbuf *text, unsigned phases, const hfb_summary *summary, const hfb_row *rows);
json_t *hfb_summary_json(const hfb_summary *summary); /* new reference; NULL when out of memory */

#endif
