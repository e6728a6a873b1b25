#include "bench/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

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

/* Bisection on the distribution function: exact to the last bits, and nothing here is called in a loop. */
double hfb_stats_normal_quantile(double p) {
  double low = -40.0, high = 40.0;
  for (int step = 0; step < 200 && high - low > 1e-15; step++) {
    double middle = 0.5 * (low + high);
    if (hfb_stats_normal_cdf(middle) < p) low = middle;
    else high = middle;
  }
  return 0.5 * (low + high);
}

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

/* The largest k with P(W < k) <= 2.5 %: the interval runs from the k-th smallest to the k-th largest pairwise average,
 * counted from 1. 0 when no such interval exists (fewer than 6 pairs). */
static hfb_status interval_rank(size_t n, size_t *out_k) {
  if (n > HFB_STATS_EXACT_PAIRS) {
    double z = hfb_stats_normal_quantile(0.975);
    *out_k = (size_t)floor(signed_rank_mean(n) - z * sqrt(signed_rank_variance(n)));
    return HFB_OK;
  }
  size_t total = n * (n + 1) / 2;
  double *p = NULL, below = 0.0;
  HFB_TRY(hfb_mem_alloc(total + 1, sizeof(*p), &p));
  signed_rank_probabilities(n, p);
  size_t k = 0;
  while (k <= total && below + p[k] <= 0.025) below += p[k++];
  hfb_mem_free(p);
  *out_k = k;
  return HFB_OK;
}

hfb_status hfb_stats_paired_ratio(const double *a, const double *b, size_t count, hfb_paired_ratio *out_ratio) {
  *out_ratio = (hfb_paired_ratio){NAN, NAN, NAN, NAN, NAN};
  if (count < 2 || count > HFB_STATS_PAIRS_MAX) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%zu pairs of samples: between 2 and %d are needed", count, HFB_STATS_PAIRS_MAX);
  }
  for (size_t i = 0; i < count; i++) {
    if (!(a[i] > 0.0 && b[i] > 0.0 && isfinite(a[i]) && isfinite(b[i]))) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "sample %zu is not a positive time: %g and %g", i, a[i], b[i]);
    }
  }
  double median_a, median_b;
  HFB_TRY(hfb_stats_median(a, count, &median_a));
  HFB_TRY(hfb_stats_median(b, count, &median_b));
  size_t average_count = count * (count + 1) / 2, k = 0;
  double *logs = NULL;
  HFB_TRY(hfb_mem_alloc(count + average_count, sizeof(*logs), &logs));
  double *averages = logs + count;
  for (size_t i = 0, at = 0; i < count; i++) {
    logs[i] = log(a[i] / b[i]);
    for (size_t j = 0; j <= i; j++) averages[at++] = 0.5 * (logs[i] + logs[j]);
  }
  qsort(averages, average_count, sizeof(*averages), compare_doubles);
  hfb_status status = interval_rank(count, &k);
  if (status == HFB_OK) status = signed_rank_test(logs, count, &out_ratio->p_value);
  if (status == HFB_OK) {
    out_ratio->ratio_of_medians = median_a / median_b;
    out_ratio->ratio = exp(sorted_quantile(averages, average_count, 0.5));
    if (k > 0) {
      out_ratio->low = exp(averages[k - 1]);
      out_ratio->high = exp(averages[average_count - k]);
    }
  }
  hfb_mem_free(logs);
  return status;
}
