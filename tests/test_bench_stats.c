/* Statistics against published values and against simulation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "bench/stats.h"

static void assert_near(double got, double expected, double tolerance) {
  if (!(fabs(got - expected) <= tolerance)) fail_msg("got %.17g, expected %.17g within %g", got, expected, tolerance);
}

static void test_quantiles(void **state) {
  (void)state;
  double value;
  assert_int_equal(hfb_stats_median((double[]){3, 1, 2}, 3, &value), HFB_OK);
  assert_near(value, 2, 0);
  assert_int_equal(hfb_stats_median((double[]){4, 1, 3, 2}, 4, &value), HFB_OK);
  assert_near(value, 2.5, 0);
  assert_int_equal(hfb_stats_median(NULL, 0, &value), HFB_OK);
  assert_true(isnan(value));
  /* R: quantile(c(1,2,3,4,10), c(.25,.9)) is 2 and 7.6. */
  const double five[] = {10, 3, 1, 4, 2};
  assert_int_equal(hfb_stats_quantile(five, 5, 0.25, &value), HFB_OK);
  assert_near(value, 2, 1e-15);
  assert_int_equal(hfb_stats_quantile(five, 5, 0.9, &value), HFB_OK);
  assert_near(value, 7.6, 1e-14);
  assert_int_equal(hfb_stats_quantile(five, 5, 1.0, &value), HFB_OK);
  assert_near(value, 10, 0);
}

static void test_normal(void **state) {
  (void)state;
  assert_near(hfb_stats_normal_cdf(0), 0.5, 0);
  assert_near(hfb_stats_normal_cdf(1.959963984540054), 0.975, 1e-15);
  assert_near(hfb_stats_normal_cdf(-3), 0.0013498980316300945, 1e-17);
  assert_near(hfb_stats_normal_quantile(0.975), 1.959963984540054, 1e-13);
  assert_near(hfb_stats_normal_quantile(0.5), 0.0, 1e-13);
}

/* Critical values of the two-sided test, from the tables of Wilcoxon and Wilcox (1964). */
static void test_signed_rank_table(void **state) {
  (void)state;
  static const struct {
    size_t n;
    double critical; /* largest w with a two-sided p of at most 0.05 */
  } table[] = {{6, 0}, {7, 2}, {8, 3}, {10, 8}, {15, 25}, {20, 52}, {25, 89}, {30, 137}};
  for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
    double at, after;
    assert_int_equal(hfb_stats_signed_rank_cdf(table[i].n, table[i].critical, &at), HFB_OK);
    assert_int_equal(hfb_stats_signed_rank_cdf(table[i].n, table[i].critical + 1, &after), HFB_OK);
    if (!(2 * at <= 0.05 && 2 * after > 0.05)) fail_msg("n=%zu: %g and %g", table[i].n, 2 * at, 2 * after);
  }
  double p;
  assert_int_equal(hfb_stats_signed_rank_cdf(4, 3, &p), HFB_OK); /* 0,1,2,3 and 1+2: 5 of 16 subsets */
  assert_near(p, 5.0 / 16.0, 1e-15);
  assert_int_equal(hfb_stats_signed_rank_cdf(4, 10, &p), HFB_OK);
  assert_near(p, 1.0, 0);
  assert_int_equal(hfb_stats_signed_rank_cdf(4, -1, &p), HFB_OK);
  assert_near(p, 0.0, 0);
  /* The normal approximation takes over smoothly. */
  double exact, approximate;
  const double n = HFB_STATS_EXACT_PAIRS, offset = 2 * sqrt(n * (n + 1) * (2 * n + 1) / 24);
  assert_int_equal(hfb_stats_signed_rank_cdf((size_t)n, n * (n + 1) / 4 - offset, &exact), HFB_OK);
  assert_int_equal(hfb_stats_signed_rank_cdf((size_t)n + 1, (n + 1) * (n + 2) / 4 - offset * 1.0075, &approximate), HFB_OK);
  assert_near(exact, approximate, 5e-4);
}

static void test_paired_ratio_known(void **state) {
  (void)state;
  /* log-ratios 0.1 .. 0.8 once each, all positive: p = 2/2^8, estimate the middle. */
  double a[8], b[8];
  for (int i = 0; i < 8; i++) {
    a[i] = exp(0.1 * (i + 1));
    b[i] = 1.0;
  }
  hfb_paired_ratio ratio;
  assert_int_equal(hfb_stats_paired_ratio(a, b, 8, &ratio), HFB_OK);
  assert_near(ratio.p_value, 2.0 / 256.0, 1e-15);
  assert_near(log(ratio.ratio), 0.45, 1e-12);
  assert_near(ratio.ratio_of_medians, 0.5 * (exp(0.4) + exp(0.5)), 1e-12);
  /* n = 8: k = 4; the 4th smallest pairwise average of 0.1 .. 0.8 is 0.2 (0.1, 0.15, 0.2, 0.2). */
  assert_near(log(ratio.low), 0.2, 1e-12);
  assert_near(log(ratio.high), 0.7, 1e-12);

  /* Equal sides: nothing to see. */
  assert_int_equal(hfb_stats_paired_ratio(b, b, 8, &ratio), HFB_OK);
  assert_near(ratio.ratio, 1.0, 0);
  assert_near(ratio.p_value, 1.0, 0);

  /* Five pairs cannot support 95 %, but have a p-value. */
  assert_int_equal(hfb_stats_paired_ratio(a, b, 5, &ratio), HFB_OK);
  assert_true(isnan(ratio.low) && isnan(ratio.high));
  assert_near(ratio.p_value, 2.0 / 32.0, 1e-15);

  assert_int_equal(hfb_stats_paired_ratio(a, b, 1, &ratio), HFB_INVALID_ARGUMENT);
  a[3] = 0.0;
  assert_int_equal(hfb_stats_paired_ratio(a, b, 8, &ratio), HFB_INVALID_ARGUMENT);
}

/* One wild sample must not move the answer far. */
static void test_paired_ratio_outlier(void **state) {
  (void)state;
  double a[30], b[30];
  hfb_philox stream = hfb_philox_named(7, "outlier");
  for (uint64_t i = 0; i < 30; i++) {
    b[i] = exp(0.01 * hfb_philox_normal(stream, 2 * i));
    a[i] = 1.5 * exp(0.01 * hfb_philox_normal(stream, 2 * i + 1));
  }
  a[11] *= 20.0;
  hfb_paired_ratio ratio;
  assert_int_equal(hfb_stats_paired_ratio(a, b, 30, &ratio), HFB_OK);
  assert_near(ratio.ratio, 1.5, 0.015);
  assert_true(ratio.low > 1.48 && ratio.high < 1.52 && ratio.p_value < 1e-6);
}

/* Of 95 % intervals, 95 % contain the truth; of true null hypotheses, 5 % are rejected. Noise: normal in the log with
 * a drift that both sides share. 2000 trials: the binomial deviation is 0.5 %. */
static void coverage(size_t n, uint64_t seed) {
  enum { TRIALS = 2000 };
  int covered = 0, rejected = 0;
  double a[256], b[256];
  for (uint64_t trial = 0; trial < TRIALS; trial++) {
    hfb_philox stream = hfb_philox_named(seed + trial, "coverage");
    for (uint64_t i = 0; i < n; i++) {
      double drift = 1.0 + 0.3 * (double)i / (double)n;
      a[i] = 1.2 * drift * exp(0.05 * hfb_philox_normal(stream, 2 * i));
      b[i] = drift * exp(0.05 * hfb_philox_normal(stream, 2 * i + 1));
    }
    hfb_paired_ratio ratio;
    assert_int_equal(hfb_stats_paired_ratio(a, b, n, &ratio), HFB_OK);
    covered += ratio.low <= 1.2 && 1.2 <= ratio.high;
    for (uint64_t i = 0; i < n; i++) a[i] /= 1.2;
    assert_int_equal(hfb_stats_paired_ratio(a, b, n, &ratio), HFB_OK);
    rejected += ratio.p_value < 0.05;
  }
  double share = (double)covered / TRIALS, false_alarms = (double)rejected / TRIALS;
  if (share < 0.935 || share > 0.985) fail_msg("n=%zu seed=%llu: coverage %g", n, (unsigned long long)seed, share);
  if (false_alarms > 0.065) fail_msg("n=%zu seed=%llu: false alarms %g", n, (unsigned long long)seed, false_alarms);
}

static void test_coverage(void **state) {
  (void)state;
  coverage(6, 1000);
  coverage(30, 2000);
}

static void test_coverage_normal_branch(void **state) {
  (void)state;
  /* Above the exact table: a few trials only, each sorts 25000 averages. */
  double a[250], b[250];
  int covered = 0;
  for (uint64_t trial = 0; trial < 200; trial++) {
    hfb_philox stream = hfb_philox_named(trial, "large");
    for (uint64_t i = 0; i < 250; i++) {
      a[i] = exp(0.1 * hfb_philox_normal(stream, 2 * i));
      b[i] = exp(0.1 * hfb_philox_normal(stream, 2 * i + 1));
    }
    hfb_paired_ratio ratio;
    assert_int_equal(hfb_stats_paired_ratio(a, b, 250, &ratio), HFB_OK);
    covered += ratio.low <= 1.0 && 1.0 <= ratio.high;
  }
  assert_true(covered >= 180 && covered < 200);
}

static void test_geomean(void **state) {
  (void)state;
  assert_near(hfb_stats_geomean((double[]){0.5, 2.0, 8.0}, 3), 2.0, 1e-15);
  assert_true(isnan(hfb_stats_geomean(NULL, 0)));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_quantiles),
      cmocka_unit_test(test_normal),
      cmocka_unit_test(test_signed_rank_table),
      cmocka_unit_test(test_paired_ratio_known),
      cmocka_unit_test(test_paired_ratio_outlier),
      cmocka_unit_test(test_coverage),
      cmocka_unit_test(test_coverage_normal_branch),
      cmocka_unit_test(test_geomean),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
