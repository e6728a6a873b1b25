/* Statistics of paired samples: what a speed-up row states beyond its medians.
 *
 * Times on a shared machine have outliers on one side only, so nothing here is a mean: the interval and the p-value come
 * from Wilcoxon's signed-rank statistic of the log-ratios (Hollander & Wolfe, "Nonparametric Statistical Methods",
 * chapter 3), and the estimate that belongs to them is the Hodges-Lehmann median of pairwise averages. */
#ifndef HFB_BENCH_STATS_H
#define HFB_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { HFB_STATS_PAIRS_MAX = 5000 }; /* n*(n+1)/2 pairwise averages are kept: 100 MB */

/* Of the values in any order; the mean of the middle two for an even count. NaN for none. Sorts a copy. */
hfb_status hfb_stats_median(const double *values, size_t count, double *out_median) HFB_MUST_USE;

/* Linear interpolation between order statistics (type 7 of Hyndman & Fan, R's default); 0 <= q <= 1. */
hfb_status hfb_stats_quantile(const double *values, size_t count, double q, double *out_quantile) HFB_MUST_USE;

/* Standard normal distribution. */
double hfb_stats_normal_cdf(double z);
double hfb_stats_normal_quantile(double p); /* 0 < p < 1 */

/* The ratio a[i]/b[i] of positive samples taken side by side. */
typedef struct hfb_paired_ratio {
  double ratio_of_medians; /* median(a) / median(b) */
  double ratio;            /* Hodges-Lehmann estimate of the ratio */
  double low, high;        /* 95 % interval of `ratio`; NaN below 6 pairs, where none exists at that level */
  double p_value;          /* two-sided, of "the ratio is 1"; 1 when all pairs are equal */
} hfb_paired_ratio;

/* HFB_INVALID_ARGUMENT for fewer than 2 or more than HFB_STATS_PAIRS_MAX pairs, or a sample that is not positive. */
hfb_status hfb_stats_paired_ratio(const double *a, const double *b, size_t count, hfb_paired_ratio *out_ratio) HFB_MUST_USE;

/* P(W <= w) of the signed-rank statistic of n untied differences when signs are fair: exact up to
 * HFB_STATS_EXACT_PAIRS, then the normal approximation with continuity correction. */
enum { HFB_STATS_EXACT_PAIRS = 200 };
hfb_status hfb_stats_signed_rank_cdf(size_t n, double w, double *out_p) HFB_MUST_USE;

/* exp(mean(log(values))); NaN for none. Values must be positive. */
double hfb_stats_geomean(const double *values, size_t count);

#endif
