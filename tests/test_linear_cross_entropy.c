/* linear_cross_entropy against its definition in double, on every instruction set; chunks, ignored rows, large logits,
 * results that nobody wants, numbers of threads. Arguments: [first seed] [number of seeds]. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "kernels/linear_cross_entropy.h"

static uint64_t first_seed = 1, seed_count = 60;

enum { IGNORE = -100, PAD = 5 };

typedef struct loss_case {
  uint64_t seed;
  hfb_linear_cross_entropy call;
  bool x_is_transposed, weight_is_transposed;
  float loss, *x, *weight, *bias, *x_gradient, *weight_gradient, *bias_gradient;
  int64_t *target;
} loss_case;

/* From definition. The magnitudes are the same sums of absolute values: what rounding errors are measured by. */
typedef struct expectation {
  double loss, loss_magnitude, logit_magnitude;
  double *x_gradient, *weight_gradient, *bias_gradient;
  double *x_magnitude, *weight_magnitude, *bias_magnitude;
} expectation;

static void need_ok(hfb_status status) {
  if (status != HFB_OK) fail_msg("%s", hfb_error_message());
}

static float *new_floats(int64_t count, float value) {
  float *floats = test_malloc((size_t)(count + 1) * sizeof(float));
  for (int64_t i = 0; i < count; i++) floats[i] = value;
  return floats;
}

/* Normal values; `scale` large makes logits that overflow without their maximum taken away. */
static float *new_random(uint64_t seed, const char *name, int64_t count, double scale) {
  float *floats = new_floats(count, 0);
  hfb_philox stream = hfb_philox_named(seed, name);
  for (int64_t i = 0; i < count; i++) {
    floats[i] = (float)((double)(hfb_philox_below(stream, (uint64_t)i, 4001) - 2000) * 0.001 * scale);
  }
  return floats;
}

static loss_case make_case(uint64_t seed, int64_t rows, int64_t classes, int64_t features, double scale,
                           int ignored_of_8) {
  loss_case c = {.seed = seed, .x_is_transposed = seed % 3 == 1, .weight_is_transposed = seed % 5 == 2};
  const int64_t x_pad = rows + PAD, weight_pad = classes + PAD, feature_pad = features + PAD;
  c.x = new_random(seed, "x", x_pad * feature_pad, scale);
  c.weight = new_random(seed, "weight", weight_pad * feature_pad, 1);
  c.bias = seed % 2 ? new_random(seed, "bias", classes, 1) : NULL;
  c.target = test_malloc((size_t)(2 * rows + 1) * sizeof(int64_t));
  hfb_philox stream = hfb_philox_named(seed, "target");
  for (int64_t i = 0; i < rows; i++) {
    const bool is_ignored = hfb_philox_below(stream, (uint64_t)(2 * i), 8) < ignored_of_8;
    c.target[2 * i] = is_ignored ? IGNORE : hfb_philox_below(stream, (uint64_t)(2 * i + 1), classes);
    c.target[2 * i + 1] = INT64_MAX;
  }
  c.x_gradient = new_floats(rows * features, NAN);
  c.weight_gradient = new_floats(classes * features, NAN);
  c.bias_gradient = new_floats(classes, NAN);
  c.call = (hfb_linear_cross_entropy){
      .rows = rows,
      .classes = classes,
      .features = features,
      .x = c.x,
      .x_row_stride = c.x_is_transposed ? 1 : feature_pad,
      .x_col_stride = c.x_is_transposed ? x_pad : 1,
      .weight = c.weight,
      .weight_row_stride = c.weight_is_transposed ? 1 : feature_pad,
      .weight_col_stride = c.weight_is_transposed ? weight_pad : 1,
      .bias = c.bias,
      .target = c.target,
      .target_stride = 2,
      .ignore_index = IGNORE,
      .g = seed % 4 == 3 ? -2.5f : 1.0f,
      .x_gradient = c.x_gradient,
      .weight_gradient = c.weight_gradient,
      .bias_gradient = c.bias_gradient,
  };
  return c;
}

static void destroy_case(loss_case *c) {
  float *blocks[] = {c->x, c->weight, c->bias, c->x_gradient, c->weight_gradient, c->bias_gradient};
  for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
    if (blocks[i]) test_free(blocks[i]);
  }
  test_free(c->target);
}

static double x_at(const loss_case *c, int64_t row, int64_t i) {
  return (double)c->x[row * c->call.x_row_stride + i * c->call.x_col_stride];
}

static double weight_at(const loss_case *c, int64_t class, int64_t i) {
  return (double)c->weight[class * c->call.weight_row_stride + i * c->call.weight_col_stride];
}

/* One row that counts: adds its loss and gradients. `slopes` has room for the classes. */
static void expect_row(const loss_case *c, int64_t row, double factor, double *slopes, expectation *e) {
  const hfb_linear_cross_entropy *call = &c->call;
  const int64_t target = c->target[2 * row], features = call->features;
  double max = -INFINITY, sum = 0;
  for (int64_t class = 0; class < call->classes; class++) {
    slopes[class] = c->bias ? (double)c->bias[class] : 0;
    double size = fabs(slopes[class]);
    for (int64_t i = 0; i < features; i++) {
      slopes[class] += x_at(c, row, i) * weight_at(c, class, i);
      size += fabs(x_at(c, row, i) * weight_at(c, class, i));
    }
    e->logit_magnitude = fmax(e->logit_magnitude, size);
    max = fmax(max, slopes[class]);
  }
  for (int64_t class = 0; class < call->classes; class++) sum += exp(slopes[class] - max);
  e->loss += max + log(sum) - slopes[target];
  e->loss_magnitude += fabs(max) + fabs(slopes[target]) + 1;
  for (int64_t class = 0; class < call->classes; class++) {
    const double p = exp(slopes[class] - max) / sum, slope = factor * (p - (class == target));
    const double size = fabs(factor) * (p + (class == target));
    e->bias_gradient[class] += slope;
    e->bias_magnitude[class] += size;
    for (int64_t i = 0; i < features; i++) {
      e->x_gradient[row * features + i] += slope * weight_at(c, class, i);
      e->x_magnitude[row * features + i] += size * fabs(weight_at(c, class, i));
      e->weight_gradient[class * features + i] += slope * x_at(c, row, i);
      e->weight_magnitude[class * features + i] += size * fabs(x_at(c, row, i));
    }
  }
}

static expectation expect(const loss_case *c) {
  const hfb_linear_cross_entropy *call = &c->call;
  const size_t x_count = (size_t)(call->rows * call->features), weight_count = (size_t)(call->classes * call->features);
  const size_t classes = (size_t)call->classes;
  expectation e = {.x_gradient = test_calloc(x_count + 1, sizeof(double)),
                   .x_magnitude = test_calloc(x_count + 1, sizeof(double)),
                   .weight_gradient = test_calloc(weight_count + 1, sizeof(double)),
                   .weight_magnitude = test_calloc(weight_count + 1, sizeof(double)),
                   .bias_gradient = test_calloc(classes + 1, sizeof(double)),
                   .bias_magnitude = test_calloc(classes + 1, sizeof(double))};
  double *slopes = test_calloc(classes + 1, sizeof(double));
  int64_t counted = 0;
  for (int64_t row = 0; row < call->rows; row++) counted += c->target[2 * row] != IGNORE;
  for (int64_t row = 0; row < call->rows; row++) {
    if (c->target[2 * row] != IGNORE) expect_row(c, row, (double)call->g / (double)counted, slopes, &e);
  }
  e.loss /= (double)counted;
  e.loss_magnitude /= (double)counted;
  test_free(slopes);
  return e;
}

static void destroy_expectation(expectation *e) {
  test_free(e->x_gradient);
  test_free(e->x_magnitude);
  test_free(e->weight_gradient);
  test_free(e->weight_magnitude);
  test_free(e->bias_gradient);
  test_free(e->bias_magnitude);
}

/* The relative error of a probability is the absolute error of two logits, its own and the largest: for each 2 ulp of
 * the terms that a logit adds up, besides 16 ulp for exp and the sums. */
static void compare(const char *what, const loss_case *c, int64_t count, const float *got, const double *expected,
                    const double *magnitude, double logit_magnitude) {
  for (int64_t i = 0; i < count; i++) {
    const double bound = 0x1p-24 * (16 + 4 * logit_magnitude) * magnitude[i] + 1e-37;
    if (!(fabs((double)got[i] - expected[i]) <= bound)) {
      fail_msg("seed %llu, %lld rows, %lld classes, %lld features: %s[%lld] is %.9g, not %.9g +- %.2g",
               (unsigned long long)c->seed, (long long)c->call.rows, (long long)c->call.classes,
               (long long)c->call.features, what, (long long)i, (double)got[i], expected[i], bound);
    }
  }
}

static void check_case(loss_case *c, hfb_isa isa, hfb_pool *pool) {
  const hfb_linear_cross_entropy *call = &c->call;
  c->call.loss = &c->loss;
  need_ok(hfb_linear_cross_entropy_run(call, isa, pool));
  expectation e = expect(c);
  if (isnan(e.loss)) {
    assert_true(isnan(c->loss));
  } else {
    compare("loss", c, 1, &c->loss, &e.loss, &e.loss_magnitude, e.logit_magnitude);
  }
  compare("x gradient", c, call->rows * call->features, c->x_gradient, e.x_gradient, e.x_magnitude, e.logit_magnitude);
  compare("weight gradient", c, call->classes * call->features, c->weight_gradient, e.weight_gradient,
          e.weight_magnitude, e.logit_magnitude);
  compare("bias gradient", c, call->classes, c->bias_gradient, e.bias_gradient, e.bias_magnitude, e.logit_magnitude);
  destroy_expectation(&e);
}

static void test_random_cases(void **state) {
  (void)state;
  static const int64_t rows[] = {1, 2, 3, 15, 16, 17, 33, 64, 130};
  static const int64_t classes[] = {1, 2, 3, 15, 16, 17, 33, 100, 257, 700};
  static const int64_t features[] = {1, 2, 5, 16, 31, 64};
  hfb_pool *pool;
  need_ok(hfb_pool_create(3, &pool));
  for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++) {
    hfb_philox stream = hfb_philox_named(seed, "shape");
    const int64_t r = rows[hfb_philox_below(stream, 0, 9)], v = classes[hfb_philox_below(stream, 1, 10)];
    const int64_t d = features[hfb_philox_below(stream, 2, 6)];
    const int ignored_of_8 = (int)hfb_philox_below(stream, 3, 4) * 2;
    for (hfb_isa isa = HFB_ISA_GENERIC; isa <= hfb_cpu()->isa && isa <= HFB_ISA_AVX512; isa++) {
      loss_case c = make_case(seed, r, v, d, 1, ignored_of_8);
      check_case(&c, isa, seed % 2 ? pool : NULL);
      destroy_case(&c);
    }
  }
  hfb_pool_destroy(pool);
}

/* More rows than any chunk has, more classes than a block, neither a multiple. */
static void test_chunks_and_blocks_add_up(void **state) {
  (void)state;
  static const int64_t shapes[][3] = {{1100, 70, 9}, {531, 4099, 3}, {40, 8300, 5}};
  hfb_pool *pool;
  need_ok(hfb_pool_create(2, &pool));
  for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
    loss_case c = make_case(3 + i, shapes[i][0], shapes[i][1], shapes[i][2], 1, 2);
    check_case(&c, hfb_cpu()->isa, pool);
    destroy_case(&c);
  }
  hfb_pool_destroy(pool);
}

static void test_large_logits_do_not_overflow(void **state) {
  (void)state;
  loss_case c = make_case(1, 40, 300, 16, 1e4, 1);
  check_case(&c, hfb_cpu()->isa, NULL);
  assert_true(isfinite(c.loss) && c.loss > 1000);
  destroy_case(&c);
}

static void test_without_targets_the_loss_is_nan_and_nothing_changes(void **state) {
  (void)state;
  loss_case c = make_case(1, 40, 30, 16, 1, 8);
  check_case(&c, hfb_cpu()->isa, NULL);
  assert_true(isnan(c.loss) && c.x_gradient[0] == 0 && c.weight_gradient[0] == 0 && c.bias_gradient[29] == 0);
  destroy_case(&c);
  c = make_case(1, 0, 30, 16, 1, 0);
  check_case(&c, hfb_cpu()->isa, NULL);
  assert_true(isnan(c.loss) && c.weight_gradient[0] == 0);
  destroy_case(&c);
}

static void test_one_class_is_certain(void **state) {
  (void)state;
  loss_case c = make_case(1, 20, 1, 16, 1, 0);
  check_case(&c, hfb_cpu()->isa, NULL);
  assert_true(c.loss == 0);
  for (int i = 0; i < 16; i++) assert_true(c.weight_gradient[i] == 0);
  destroy_case(&c);
}

static void test_wrong_targets_are_refused(void **state) {
  (void)state;
  loss_case c = make_case(1, 20, 10, 16, 1, 0);
  c.call.loss = &c.loss;
  c.target[2 * 7] = 10;
  assert_int_equal(hfb_linear_cross_entropy_run(&c.call, hfb_cpu()->isa, NULL), HFB_INVALID_ARGUMENT);
  assert_non_null(strstr(hfb_error_message(), "target 10 is outside [0,10)"));
  c.target[2 * 7] = -1;
  assert_int_equal(hfb_linear_cross_entropy_run(&c.call, hfb_cpu()->isa, NULL), HFB_INVALID_ARGUMENT);
  destroy_case(&c);
}

static void need_equal_floats(const char *what, int64_t count, const float *a, const float *b) {
  if (count > 0 && memcmp(a, b, (size_t)count * sizeof(float)) != 0) fail_msg("%s differs", what);
}

static void need_equal_results(const loss_case *a, const loss_case *b) {
  need_equal_floats("loss", 1, &a->loss, &b->loss);
  need_equal_floats("x gradient", a->call.rows * a->call.features, a->x_gradient, b->x_gradient);
  need_equal_floats("weight gradient", a->call.classes * a->call.features, a->weight_gradient, b->weight_gradient);
  need_equal_floats("bias gradient", a->call.classes, a->bias_gradient, b->bias_gradient);
}

static void test_threads_do_not_change_a_bit(void **state) {
  (void)state;
  for (hfb_isa isa = HFB_ISA_GENERIC; isa <= hfb_cpu()->isa && isa <= HFB_ISA_AVX512; isa++) {
    loss_case alone = make_case(5, 700, 5003, 40, 1, 1);
    alone.call.loss = &alone.loss;
    need_ok(hfb_linear_cross_entropy_run(&alone.call, isa, NULL));
    for (int threads = 1; threads <= 4; threads++) {
      hfb_pool *pool;
      need_ok(hfb_pool_create(threads, &pool));
      loss_case c = make_case(5, 700, 5003, 40, 1, 1);
      c.call.loss = &c.loss;
      need_ok(hfb_linear_cross_entropy_run(&c.call, isa, pool));
      need_equal_results(&c, &alone);
      destroy_case(&c);
      hfb_pool_destroy(pool);
    }
    destroy_case(&alone);
  }
}

/* What is not wanted is not needed for the rest. */
static void test_each_gradient_may_be_left_out(void **state) {
  (void)state;
  loss_case all = make_case(7, 150, 333, 20, 1, 1);
  all.call.loss = &all.loss;
  need_ok(hfb_linear_cross_entropy_run(&all.call, hfb_cpu()->isa, NULL));
  for (int wanted = 0; wanted < 8; wanted++) {
    loss_case c = make_case(7, 150, 333, 20, 1, 1);
    c.call.loss = &c.loss;
    if (!(wanted & 1)) c.call.x_gradient = NULL;
    if (!(wanted & 2)) c.call.weight_gradient = NULL;
    if (!(wanted & 4)) c.call.bias_gradient = NULL;
    need_ok(hfb_linear_cross_entropy_run(&c.call, hfb_cpu()->isa, NULL));
    need_equal_floats("loss", 1, &c.loss, &all.loss);
    if (wanted & 1) need_equal_floats("x gradient", 150 * 20, c.x_gradient, all.x_gradient);
    if (wanted & 2) need_equal_floats("weight gradient", 333 * 20, c.weight_gradient, all.weight_gradient);
    if (wanted & 4) need_equal_floats("bias gradient", 333, c.bias_gradient, all.bias_gradient);
    assert_true((wanted & 1) || isnan(c.x_gradient[0]));
    assert_true((wanted & 2) || isnan(c.weight_gradient[0]));
    assert_true((wanted & 4) || isnan(c.bias_gradient[0]));
    destroy_case(&c);
  }
  destroy_case(&all);
}

static void test_failed_allocations_are_reported(void **state) {
  (void)state;
  loss_case c = make_case(3, 50, 100, 20, 1, 1);
  c.call.loss = &c.loss;
  hfb_status status = HFB_OUT_OF_MEMORY;
  int64_t failures = -1;
  for (int64_t nth = 1; status == HFB_OUT_OF_MEMORY; nth++, failures++) {
    hfb_mem_fail_at(nth, 0);
    status = hfb_linear_cross_entropy_run(&c.call, hfb_cpu()->isa, NULL);
    hfb_mem_fail_at(0, 0);
  }
  need_ok(status);
  assert_true(failures >= 3); /* logits, losses, column sums, and what the products take */
  destroy_case(&c);
}

int main(int argc, char **argv) {
  if (argc > 1) first_seed = strtoull(argv[1], NULL, 10);
  if (argc > 2) seed_count = strtoull(argv[2], NULL, 10);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_cases),
      cmocka_unit_test(test_chunks_and_blocks_add_up),
      cmocka_unit_test(test_large_logits_do_not_overflow),
      cmocka_unit_test(test_without_targets_the_loss_is_nan_and_nothing_changes),
      cmocka_unit_test(test_one_class_is_certain),
      cmocka_unit_test(test_wrong_targets_are_refused),
      cmocka_unit_test(test_threads_do_not_change_a_bit),
      cmocka_unit_test(test_each_gradient_may_be_left_out),
      cmocka_unit_test(test_failed_allocations_are_reported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
