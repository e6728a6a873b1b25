#include "bench/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"

static int compare_doubles(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

static double sorted_quantile(const double *sorted, size_t count, double q) {
  if (count == 0) return NAN;
  double position = q * (double)(count - 1);
  size_t below = (size_t)position;
  if (below + 1 >= count) return sorted[count - 1];
  double part = position - (double)below;
  return part == 0.0 ? sorted[below] : sorted[below] + part * (sorted[below + 1] - sorted[below]);
}

hfb_status hfb_stats_quantile(const double *values, size_t count, double q, double *out_quantile) {
  *out_quantile = NAN;
  if (count == 0) return HFB_OK;
  double *sorted = NULL;
  HFB_TRY(hfb_mem_alloc(count, sizeof(*sorted), &sorted));
  memcpy(sorted, values, count * sizeof(*sorted));
  qsort(sorted, count, sizeof(*sorted), compare_doubles);
  *out_quantile = sorted_quantile(sorted, count, q);
  hfb_mem_free(sorted);
  return HFB_OK;
}

hfb_status hfb_stats_median(const double *values, size_t count, double *out_median) {
  return hfb_stats_quantile(values, count, 0.5, out_median);
}

double hfb_stats_normal_cdf(double z) { return 0.5 * erfc(-z / sqrt(2.0)); }

double hfb_stats_geomean(const double *values, size_t count) {
  double sum = 0.0;
  for (size_t i = 0; i < count; i++) sum += log(values[i]);
  return count == 0 ? NAN : exp(sum / (double)count);
}

/* Probabilities of every value of the statistic: each rank r is added with probability 1/2, so the generating function
 * is the product of (1 + x^r) / 2. out_p holds n*(n+1)/2 + 1 entries. */
static void signed_rank_probabilities(size_t n, double *out_p) {
  size_t total = n * (n + 1) / 2;
  memset(out_p, 0, (total + 1) * sizeof(*out_p));
  out_p[0] = 1.0;
  size_t reached = 0;
  for (size_t rank = 1; rank <= n; rank++) {
    reached += rank;
    for (size_t w = reached + 1; w-- > 0;) {
      double without = out_p[w], with = w >= rank ? out_p[w - rank] : 0.0;
      out_p[w] = 0.5 * (without + with);
    }
  }
}

static double signed_rank_mean(size_t n) { return (double)n * (double)(n + 1) / 4.0; }

static double signed_rank_variance(size_t n) { return (double)n * (double)(n + 1) * (double)(2 * n + 1) / 24.0; }

hfb_status hfb_stats_signed_rank_cdf(size_t n, double w, double *out_p) {
  double total = (double)n * (double)(n + 1) / 2.0;
  *out_p = w < 0.0 ? 0.0 : 1.0;
  if (w < 0.0 || w >= total) return HFB_OK;
  if (n > HFB_STATS_EXACT_PAIRS) {
    *out_p = hfb_stats_normal_cdf((floor(w) + 0.5 - signed_rank_mean(n)) / sqrt(signed_rank_variance(n)));
    return HFB_OK;
  }
  double *p = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)total + 1, sizeof(*p), &p));
  signed_rank_probabilities(n, p);
  double sum = 0.0;
  for (size_t i = 0; i <= (size_t)w; i++) sum += p[i];
  *out_p = sum;
  hfb_mem_free(p);
  return HFB_OK;
}

typedef struct ranked_difference {
  double magnitude;
  bool positive;
} ranked_difference;

static int compare_magnitudes(const void *left, const void *right) {
  double a = ((const ranked_difference *)left)->magnitude, b = ((const ranked_difference *)right)->magnitude;
  return (a > b) - (a < b);
}

/* Two-sided p-value of "the differences are symmetric about 0". Zeros are dropped (Wilcoxon); ties get mean ranks, and
 * then the normal approximation, since the exact table holds for distinct ranks only. */
static hfb_status signed_rank_test(const double *differences, size_t count, double *out_p) {
  *out_p = 1.0;
  ranked_difference *ranked = NULL;
  HFB_TRY(hfb_mem_alloc(count, sizeof(*ranked), &ranked));
  size_t n = 0;
  for (size_t i = 0; i < count; i++) {
    if (differences[i] == 0.0) continue;
    ranked[n++] = (ranked_difference){fabs(differences[i]), differences[i] > 0.0};
  }
  qsort(ranked, n, sizeof(*ranked), compare_magnitudes);
  double w_plus = 0.0, tie_term = 0.0;
  for (size_t start = 0, end; start < n; start = end) {
    for (end = start + 1; end < n && ranked[end].magnitude == ranked[start].magnitude;) end++;
    double ties = (double)(end - start), rank = 0.5 * (double)(start + 1 + end);
    for (size_t i = start; i < end; i++) w_plus += ranked[i].positive ? rank : 0.0;
    tie_term += ties * ties * ties - ties;
  }
  hfb_mem_free(ranked);
  if (n == 0) return HFB_OK;
  double total = (double)n * (double)(n + 1) / 2.0, smaller = fmin(w_plus, total - w_plus);
  double tail;
  if (tie_term == 0.0) {
    HFB_TRY(hfb_stats_signed_rank_cdf(n, smaller, &tail));
  } else {
    double variance = signed_rank_variance(n) - tie_term / 48.0;
    tail = hfb_stats_normal_cdf((smaller + 0.5 - signed_rank_mean(n)) / sqrt(variance));
  }
  *out_p = fmin(1.0, 2.0 * tail);
  return HFB_OK;
}

/* ---- The interval ---- */

typedef struct sorted_sample {
  double value;
  size_t pair;
} sorted_sample;

static int compare_samples(const void *left, const void *right) {
  double a = ((const sorted_sample *)left)->value, b = ((const sorted_sample *)right)->value;
  return (a > b) - (a < b);
}

static void sort_samples(const double *values, size_t count, sorted_sample *out_sorted) {
  for (size_t i = 0; i < count; i++) out_sorted[i] = (sorted_sample){values[i], i};
  qsort(out_sorted, count, sizeof(*out_sorted), compare_samples);
}

/* The median of `count` draws, in which pair i came up times[i] times. */
static double drawn_median(const sorted_sample *sorted, size_t count, const uint32_t *times) {
  size_t lower = (count - 1) / 2, upper = count / 2, seen = 0, at = 0;
  while ((seen += times[sorted[at].pair]) <= lower) at++;
  double low = sorted[at].value;
  while (seen <= upper) seen += times[sorted[++at].pair];
  return 0.5 * (low + sorted[at].value);
}

typedef struct bootstrap {
  sorted_sample *a, *b; /* sorted by value */
  uint32_t *times;
  double *ratios; /* HFB_STATS_RESAMPLES */
} bootstrap;

static void draw_ratios(const bootstrap *work, size_t count) {
  hfb_philox stream = hfb_philox_named(1, "bootstrap");
  uint64_t counter = 0;
  for (int draw = 0; draw < HFB_STATS_RESAMPLES; draw++) {
    memset(work->times, 0, count * sizeof(*work->times));
    for (size_t i = 0; i < count; i++) work->times[hfb_philox_below(stream, counter++, (int64_t)count)]++;
    work->ratios[draw] = drawn_median(work->a, count, work->times) / drawn_median(work->b, count, work->times);
  }
}

static hfb_status bootstrap_interval(const double *a, const double *b, size_t count, hfb_paired_ratio *out_ratio) {
  bootstrap work = {0};
  hfb_status status = hfb_mem_alloc(count, sizeof(*work.a), &work.a);
  if (status == HFB_OK) status = hfb_mem_alloc(count, sizeof(*work.b), &work.b);
  if (status == HFB_OK) status = hfb_mem_alloc(count, sizeof(*work.times), &work.times);
  if (status == HFB_OK) status = hfb_mem_alloc(HFB_STATS_RESAMPLES, sizeof(*work.ratios), &work.ratios);
  if (status == HFB_OK) {
    sort_samples(a, count, work.a);
    sort_samples(b, count, work.b);
    draw_ratios(&work, count);
    qsort(work.ratios, HFB_STATS_RESAMPLES, sizeof(*work.ratios), compare_doubles);
    out_ratio->low = sorted_quantile(work.ratios, HFB_STATS_RESAMPLES, 0.025);
    out_ratio->high = sorted_quantile(work.ratios, HFB_STATS_RESAMPLES, 0.975);
  }
  hfb_mem_free(work.a);
  hfb_mem_free(work.b);
  hfb_mem_free(work.times);
  hfb_mem_free(work.ratios);
  return status;
}

static hfb_status log_ratio_test(const double *a, const double *b, size_t count, double *out_p) {
  double *logs = NULL;
  HFB_TRY(hfb_mem_alloc(count, sizeof(*logs), &logs));
  for (size_t i = 0; i < count; i++) logs[i] = log(a[i] / b[i]);
  hfb_status status = signed_rank_test(logs, count, out_p);
  hfb_mem_free(logs);
  return status;
}

hfb_status hfb_stats_paired_ratio(const double *a, const double *b, size_t count, hfb_paired_ratio *out_ratio) {
  *out_ratio = (hfb_paired_ratio){NAN, NAN, NAN, NAN};
  if (count < 2) return HFB_FAIL(HFB_INVALID_ARGUMENT, "%zu pairs of samples: at least 2 are needed", count);
  for (size_t i = 0; i < count; i++) {
    if (!(a[i] > 0.0 && b[i] > 0.0 && isfinite(a[i]) && isfinite(b[i]))) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "sample %zu is not a positive time: %g and %g", i, a[i], b[i]);
    }
  }
  double median_a, median_b;
  HFB_TRY(hfb_stats_median(a, count, &median_a));
  HFB_TRY(hfb_stats_median(b, count, &median_b));
  HFB_TRY(log_ratio_test(a, b, count, &out_ratio->p_value));
  if (count >= HFB_STATS_INTERVAL_PAIRS) HFB_TRY(bootstrap_interval(a, b, count, out_ratio));
  out_ratio->ratio = median_a / median_b;
  return HFB_OK;
}
