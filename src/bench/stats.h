/* Statistics of paired samples: what a speed-up row states beyond its medians.
 *
 * Times on a shared machine have outliers on one side only, so nothing here is a mean. The speed-up is the ratio of two
 * medians; its interval comes from drawing pairs again and again (the percentile bootstrap: Efron & Tibshirani, "An
 * Introduction to the Bootstrap", chapter 13), pairs and not samples, because both samples of a pair were taken under
 * the same conditions. Percentiles do not change under the logarithm, so it is the interval of the log-ratio too. The
 * p-value is that of Wilcoxon's signed-rank test on the log-ratios of the pairs. */
#ifndef HFB_BENCH_STATS_H
#define HFB_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { HFB_STATS_INTERVAL_PAIRS = 6, HFB_STATS_RESAMPLES = 4000 };

/* Of the values in any order; the mean of the middle two for an even count. NaN for none. Sorts a copy. */
hfb_status hfb_stats_median(const double *values, size_t count, double *out_median) HFB_MUST_USE;

/* Linear interpolation between order statistics (type 7 of Hyndman & Fan, R's default); 0 <= q <= 1. */
hfb_status hfb_stats_quantile(const double *values, size_t count, double q, double *out_quantile) HFB_MUST_USE;

/* Standard normal distribution. */
double hfb_stats_normal_cdf(double z);

/* How a compares with b: positive samples, a[i] and b[i] taken side by side. */
typedef struct hfb_paired_ratio {
  double ratio;     /* median(a) / median(b) */
  double low, high; /* its 95 % interval; NaN below HFB_STATS_INTERVAL_PAIRS pairs, which cannot support one */
  double p_value;   /* two-sided, of "the ratio is 1"; 1 when all pairs are equal */
} hfb_paired_ratio;

/* Equal samples give equal results: the drawing has a fixed seed. HFB_INVALID_ARGUMENT for fewer than 2 pairs, or a
 * sample that is not positive. */
hfb_status hfb_stats_paired_ratio(const double *a, const double *b, size_t count,
                                  hfb_paired_ratio *out_ratio) HFB_MUST_USE;

/* P(W <= w) of the signed-rank statistic of n untied differences when signs are fair: exact up to
 * HFB_STATS_EXACT_PAIRS, then the normal approximation with continuity correction. */
enum { HFB_STATS_EXACT_PAIRS = 200 };
hfb_status hfb_stats_signed_rank_cdf(size_t n, double w, double *out_p) HFB_MUST_USE;

/* exp(mean(log(values))); NaN for none. Values must be positive. */
double hfb_stats_geomean(const double *values, size_t count);

#endif
