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
  assert_int_equal(hfb_stats_signed_rank_cdf((size_t)n + 1, (n + 1) * (n + 2) / 4 - offset * 1.0075, &approximate),
                   HFB_OK);
  assert_near(exact, approximate, 5e-4);
}

static void test_paired_ratio_known(void **state) {
  (void)state;
  /* log-ratios 0.1 .. 0.8, all positive: p = 2/2^8. */
  double a[8], b[8];
  for (int i = 0; i < 8; i++) {
    a[i] = exp(0.1 * (i + 1));
    b[i] = 1.0;
  }
  hfb_paired_ratio ratio, again;
  assert_int_equal(hfb_stats_paired_ratio(a, b, 8, &ratio), HFB_OK);
  assert_near(ratio.p_value, 2.0 / 256.0, 1e-15);
  assert_near(ratio.ratio, 0.5 * (exp(0.4) + exp(0.5)), 1e-12);
  assert_true(ratio.low > exp(0.1) && ratio.low < ratio.ratio && ratio.ratio < ratio.high && ratio.high < exp(0.8));
  assert_int_equal(hfb_stats_paired_ratio(a, b, 8, &again), HFB_OK);
  assert_near(again.low, ratio.low, 0);
  assert_near(again.high, ratio.high, 0);

  /* The other way round the interval turns over. */
  assert_int_equal(hfb_stats_paired_ratio(b, a, 8, &again), HFB_OK);
  assert_near(again.low, 1 / ratio.high, 1e-12);
  assert_near(again.p_value, ratio.p_value, 0);

  /* Samples that all agree have an interval of one point. */
  const double same[] = {2, 2, 2, 2, 2, 2, 2};
  assert_int_equal(hfb_stats_paired_ratio(same, b, 7, &ratio), HFB_OK);
  assert_near(ratio.low, 2, 0);
  assert_near(ratio.high, 2, 0);

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
  a[3] = INFINITY;
  assert_int_equal(hfb_stats_paired_ratio(a, b, 8, &ratio), HFB_INVALID_ARGUMENT);
}

/* Ties get mean ranks: 2, 2, 4, -2, 5, so the smaller sum is 2, its mean 7.5 and its variance 13.75 - 24/48. With the
 * continuity correction z = -5 / sqrt(13.25), twice its tail is 0.169564. */
static void test_ties(void **state) {
  (void)state;
  const double logs[] = {1, 1, 2, -1, 3};
  double a[5], b[5];
  for (int i = 0; i < 5; i++) {
    a[i] = exp2(logs[i]); /* log(2) times the value, exactly tied */
    b[i] = 1;
  }
  hfb_paired_ratio ratio;
  assert_int_equal(hfb_stats_paired_ratio(a, b, 5, &ratio), HFB_OK);
  assert_near(ratio.p_value, 0.169564, 1e-6);
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

/* Of 95 % intervals, 95 % contain the truth; of true null hypotheses, 5 % are rejected. Noise: normal in the log, with
 * a drift that both sides share and, in the second round, one sample in four slowed down by another process. */
static void coverage(size_t n, double slow_share, uint64_t seed) {
  enum { TRIALS = 400 }; /* the binomial deviation of the share is 1.1 % */
  int covered = 0, rejected = 0;
  double a[64], b[64];
  for (uint64_t trial = 0; trial < TRIALS; trial++) {
    hfb_philox noise = hfb_philox_named(seed + trial, "noise"), slow = hfb_philox_named(seed + trial, "slow");
    for (uint64_t i = 0; i < n; i++) {
      double drift = 1.0 + 0.3 * (double)i / (double)n;
      a[i] = 1.2 * drift * exp(0.05 * hfb_philox_normal(noise, 2 * i));
      b[i] = drift * exp(0.05 * hfb_philox_normal(noise, 2 * i + 1));
      if (hfb_philox_uniform(slow, 2 * i) < slow_share) a[i] *= 1.5;
      if (hfb_philox_uniform(slow, 2 * i + 1) < slow_share) b[i] *= 1.5;
    }
    hfb_paired_ratio ratio;
    assert_int_equal(hfb_stats_paired_ratio(a, b, n, &ratio), HFB_OK);
    assert_true(ratio.low <= ratio.ratio && ratio.ratio <= ratio.high);
    covered += ratio.low <= 1.2 && 1.2 <= ratio.high;
    for (uint64_t i = 0; i < n; i++) a[i] /= 1.2;
    assert_int_equal(hfb_stats_paired_ratio(a, b, n, &ratio), HFB_OK);
    rejected += ratio.p_value < 0.05;
  }
  double share = (double)covered / TRIALS, false_alarms = (double)rejected / TRIALS;
  print_message("n=%zu slow=%g: coverage %.3f, false alarms %.3f\n", n, slow_share, share, false_alarms);
  if (share < 0.92 || share > 0.995) fail_msg("n=%zu seed=%llu: coverage %g", n, (unsigned long long)seed, share);
  if (false_alarms > 0.085) fail_msg("n=%zu seed=%llu: false alarms %g", n, (unsigned long long)seed, false_alarms);
}

static void test_coverage(void **state) {
  (void)state;
  coverage(6, 0, 1000);
  coverage(10, 0, 1500);
  coverage(30, 0, 2000);
  coverage(30, 0.25, 3000);
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
      cmocka_unit_test(test_ties),
      cmocka_unit_test(test_paired_ratio_outlier),
      cmocka_unit_test(test_coverage),
      cmocka_unit_test(test_geomean),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
