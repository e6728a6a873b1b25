#include "report/summary.h"

#include <math.h>

#include "base/memory.h"
#include "bench/runner.h"
#include "bench/stats.h"

static bool passes(const hfb_row *row) { return hfb_status_text_passes(hfb_row_get_text(row, HFB_COLUMN_STATUS)); }

static void add(double value, double *sum, int *count) {
  if (isnan(value)) return;
  *sum += value;
  ++*count;
}

hfb_status hfb_summarize(const hfb_row *rows, int count, hfb_summary *out_summary) {
  hfb_summary s = {.row_count = count, .geomean = NAN, .low = NAN, .high = NAN};
  double *speedups = NULL, compile_s = 0, compression = 0;
  int compile_count = 0, compression_count = 0;
  HFB_TRY(hfb_mem_alloc((size_t)count, sizeof(*speedups), &speedups));
  for (int i = 0; i < count; i++) {
    int64_t tensors = hfb_row_get_int(&rows[i], HFB_COLUMN_TENSORS_TOTAL);
    s.tensor_count += tensors;
    s.tensor_close_count += tensors - hfb_row_get_int(&rows[i], HFB_COLUMN_TENSORS_NOT_CLOSE);
    if (!passes(&rows[i])) continue;
    s.pass_count++;
    double speedup = hfb_row_get_real(&rows[i], HFB_COLUMN_SPEEDUP);
    if (!(speedup > 0)) continue;
    speedups[s.speedup_count++] = speedup;
    s.low = fmin(s.low, speedup); /* the other argument when one is NaN */
    s.high = fmax(s.high, speedup);
    add(hfb_row_get_real(&rows[i], HFB_COLUMN_COMPILE_COLD_S), &compile_s, &compile_count);
    add(hfb_row_get_real(&rows[i], HFB_COLUMN_COMPRESSION_RATIO), &compression, &compression_count);
  }
  s.geomean = hfb_stats_geomean(speedups, (size_t)s.speedup_count);
  s.compile_cold_mean_s = compile_count > 0 ? compile_s / compile_count : NAN;
  s.compression_mean = compression_count > 0 ? compression / compression_count : NAN;
  hfb_mem_free(speedups);
  *out_summary = s;
  return HFB_OK;
}

void hfb_summary_print(hfb_strbuf *text, unsigned phases, const hfb_summary *summary, const hfb_row *rows) {
  hfb_strbuf_printf(text, "%d of %d pass", summary->pass_count, summary->row_count);
  const char *before = "; not: ";
  for (int i = 0; i < summary->row_count; i++) {
    if (passes(&rows[i])) continue;
    const char *name = hfb_row_get_text(&rows[i], HFB_COLUMN_NAME),
               *status = hfb_row_get_text(&rows[i], HFB_COLUMN_STATUS);
    hfb_strbuf_printf(text, "%s%s (%s)", before, name ? name : "-", status ? status : "-");
    before = ", ";
  }
  hfb_strbuf_append(text, "\n");
  if (phases & HFB_PHASE_ACCURACY && summary->tensor_count > 0) {
    hfb_strbuf_printf(text, "%lld tensors compared, %.2f %% of them within the tolerance of eager in every element\n",
                      (long long)summary->tensor_count,
                      100.0 * (double)summary->tensor_close_count / (double)summary->tensor_count);
  }
  if (!(phases & HFB_PHASE_PERFORMANCE) || summary->speedup_count == 0) return;
  hfb_strbuf_printf(text, "speed-up over eager, geometric mean of %d rows that pass: %.3fx (from %.3fx to %.3fx)",
                    summary->speedup_count, summary->geomean, summary->low, summary->high);
  int excluded = summary->row_count - summary->speedup_count;
  if (excluded > 0) hfb_strbuf_printf(text, "; %d left out", excluded);
  hfb_strbuf_append(text, "\n");
  hfb_strbuf_printf(text, "cold compile %.2f s on average, peak memory of eager %.2f times the backend's\n",
                    summary->compile_cold_mean_s, summary->compression_mean);
}

static void set_real(json_t *object, const char *key, double value) {
  json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

json_t *hfb_summary_json(const hfb_summary *summary) {
  json_t *object = json_pack("{s:i, s:i, s:i, s:I, s:I}", "rows", summary->row_count, "passed", summary->pass_count,
                             "speedup_rows", summary->speedup_count, "tensors", (json_int_t)summary->tensor_count,
                             "tensors_close", (json_int_t)summary->tensor_close_count);
  if (!object) return NULL;
  set_real(object, "speedup_geomean", summary->geomean);
  set_real(object, "speedup_min", summary->low);
  set_real(object, "speedup_max", summary->high);
  set_real(object, "compile_cold_mean_s", summary->compile_cold_mean_s);
  set_real(object, "compression_ratio_mean", summary->compression_mean);
  return object;
}
