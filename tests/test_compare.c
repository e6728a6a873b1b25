/* Tensor distances and the harness's rule, against values worked out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "bench/compare.h"

static hfb_tensor vector(hfb_dtype dtype, int64_t count, void *data) {
  hfb_shape shape = hfb_shape_of(1, &count);
  return hfb_tensor_borrow(dtype, &shape, data);
}

#define F32(...) vector(HFB_F32, sizeof((float[]){__VA_ARGS__}) / sizeof(float), (float[]){__VA_ARGS__})
#define F64(...) vector(HFB_F64, sizeof((double[]){__VA_ARGS__}) / sizeof(double), (double[]){__VA_ARGS__})
#define I64(...) vector(HFB_I64, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static hfb_distance distance(hfb_tensor got, hfb_tensor expected) {
  hfb_distance d;
  assert_int_equal(hfb_distance_measure(&got, &expected, NULL, &d), HFB_OK);
  return d;
}

static void assert_near(double got, double want) {
  if (!(fabs(got - want) <= 1e-12 * fabs(want))) fail_msg("%.17g instead of %.17g", got, want);
}

/* ---- Distances ---- */

static void test_distance(void **state) {
  (void)state;
  hfb_distance d = distance(F32(1, 2, -3, 4), F64(1, 2.5, -3, 3));
  assert_int_equal(d.count, 4);
  assert_near(d.max_abs, 1);
  assert_near(d.max_expected, 3);
  assert_near(d.scaled, 1 / 3.1);
  assert_near(d.rmse, sqrt(1.25 / 4));
  assert_int_equal(d.worst_index, 3);
  /* The largest size is of what is expected, by magnitude; a zero tensor is measured against 0.1. */
  assert_near(distance(F32(9), F32(-9)).scaled, 18 / 9.1);
  assert_near(distance(F64(0.05), F64(0)).scaled, 0.5);
  d = distance(F32(7, 7), F32(7, 7));
  assert_true(d.max_abs == 0 && d.scaled == 0 && d.worst_index == 0);
}

static void test_distance_of_values_that_are_not_finite(void **state) {
  (void)state;
  float inf = INFINITY, nan = NAN;
  hfb_distance d = distance(F32(inf, -inf, nan, 1), F32(inf, -inf, nan, 1));
  assert_true(d.max_abs == 0 && d.scaled == 0);
  assert_int_equal(d.infinite_got, 2);
  assert_int_equal(d.nan_expected, 1);
  assert_near(d.max_expected, 1);
  assert_true(isinf(distance(F32(inf), F32(-inf)).scaled));
  assert_true(isinf(distance(F32(1, nan), F32(1, 2)).scaled));
  assert_true(isinf(distance(F32(1, 2), F32(1, nan)).scaled));
  assert_true(isinf(distance(F32(1, 2), F32(1, inf)).scaled));
  assert_int_equal(distance(F32(1, nan), F32(1, 2)).worst_index, 1);
  assert_true(isnan(distance(F32(1, nan), F32(1, 2)).rmse));
}

static void test_distance_of_shapes(void **state) {
  (void)state;
  hfb_tensor a = F32(1, 2), b = F32(1, 2, 3);
  hfb_distance d;
  assert_int_equal(hfb_distance_measure(&a, &b, NULL, &d), HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "[2] instead of [3]"));
  hfb_shape empty = hfb_shape_of(2, (int64_t[]){3, 0}), scalar = hfb_shape_of(0, NULL);
  a = hfb_tensor_borrow(HFB_F32, &empty, NULL);
  d = distance(a, a);
  assert_true(d.count == 0 && d.scaled == 0 && d.rmse == 0 && d.worst_index == -1);
  float one = 1, two = 2;
  assert_near(distance(hfb_tensor_borrow(HFB_F32, &scalar, &one), hfb_tensor_borrow(HFB_F32, &scalar, &two)).max_abs,
              1);
}

/* A transposed view against its row-major copy, at a size that takes several blocks and tasks. */
static void test_distance_of_views(void **state) {
  (void)state;
  enum { ROWS = 301, COLUMNS = 407 };
  float *data = malloc(ROWS * COLUMNS * sizeof(float));
  double *copy = malloc(ROWS * COLUMNS * sizeof(double));
  assert_true(data && copy);
  hfb_philox stream = hfb_philox_named(3, "views");
  double squares = 0, worst = 0, largest = 0;
  int64_t worst_index = 0;
  for (int r = 0; r < ROWS; r++) {
    for (int c = 0; c < COLUMNS; c++) {
      int64_t index = (int64_t)r * COLUMNS + c;
      data[(int64_t)c * ROWS + r] = (float)hfb_philox_normal(stream, (uint64_t)index);
      copy[index] = hfb_philox_normal(stream, (uint64_t)index) + 1e-3 * hfb_philox_uniform(stream, (uint64_t)index);
      double difference = fabs(data[(int64_t)c * ROWS + r] - copy[index]);
      squares += difference * difference;
      if (difference > worst) {
        worst = difference;
        worst_index = index;
      }
      largest = fmax(largest, fabs(copy[index]));
    }
  }
  hfb_shape shape = hfb_shape_of(2, (int64_t[]){ROWS, COLUMNS});
  hfb_tensor view = hfb_tensor_borrow(HFB_F32, &shape, data), plain = hfb_tensor_borrow(HFB_F64, &shape, copy);
  view.strides[0] = 1;
  view.strides[1] = ROWS;
  hfb_distance d = distance(view, plain);
  assert_true(d.max_abs == worst && d.max_expected == largest);
  assert_int_equal(d.worst_index, worst_index);
  assert_true(fabs(d.rmse - sqrt(squares / (ROWS * COLUMNS))) < 1e-12);
  /* Threads change nothing, not one bit. */
  for (int threads = 1; threads <= 3; threads++) {
    hfb_pool *pool = NULL;
    hfb_distance with_pool;
    assert_int_equal(hfb_pool_create(threads, &pool), HFB_OK);
    assert_int_equal(hfb_distance_measure(&view, &plain, pool, &with_pool), HFB_OK);
    assert_true(with_pool.rmse == d.rmse && with_pool.max_abs == d.max_abs && with_pool.worst_index == d.worst_index);
    hfb_pool_destroy(pool);
  }
  free(copy);
  free(data);
}

/* ---- The rule of the harness ---- */

static hfb_same_result same(hfb_tensor reference, hfb_tensor got, const hfb_tensor *reference64,
                            hfb_same_options options) {
  return hfb_same(&reference, &got, reference64, &options, NULL);
}

static void assert_rule(hfb_same_result result, hfb_same_rule rule) {
  if (result.rule != rule) fail_msg("%s instead of %s", hfb_same_rule_name(result.rule), hfb_same_rule_name(rule));
}

static void test_same_within_tolerance(void **state) {
  (void)state;
  const hfb_same_options tol = {.tolerance = 1e-3};
  /* |ref - got| <= tol + tol |got|: the size is that of the result, not of the reference. */
  hfb_same_result r = same(F32(10.0109f), F32(10), NULL, tol);
  assert_true(r.same && r.rule == HFB_SAME_CLOSE && r.outside_count == 0);
  assert_rule(same(F32(10.0111f), F32(10), NULL, tol), HFB_SAME_VALUES);
  assert_rule(same(F32(0.0011f, 5), F32(0, 5), NULL, tol), HFB_SAME_VALUES);
  assert_rule(same(F32(1), I64(1), NULL, tol), HFB_SAME_DTYPE);
  assert_rule(same(F32(1, 2), F32(1), NULL, tol), HFB_SAME_SHAPE);
  r = same(F32(1, 2, 3), F32(1, 3, 5), NULL, tol);
  assert_int_equal(r.outside_count, 2);
  assert_false(r.same);
  assert_near(r.max_abs, 2);
}

static void test_same_bit_for_bit(void **state) {
  (void)state;
  const hfb_same_options exact = {.equal_nan = true};
  assert_rule(same(F32(1, INFINITY, NAN), F32(1, INFINITY, NAN), NULL, exact), HFB_SAME_CLOSE);
  assert_rule(same(F32(1), F32(nextafterf(1, 2)), NULL, exact), HFB_SAME_VALUES);
  assert_rule(same(F32(INFINITY), F32(-INFINITY), NULL, exact), HFB_SAME_VALUES);
  /* 2^53 and 2^53 + 1 are one double. */
  assert_rule(same(I64(9007199254740992), I64(9007199254740993), NULL, exact), HFB_SAME_VALUES);
  assert_rule(same(I64(9007199254740993), I64(9007199254740993), NULL, exact), HFB_SAME_CLOSE);
}

static void test_same_nan(void **state) {
  (void)state;
  const hfb_same_options strict = {.tolerance = 1e-3}, equal = {.tolerance = 1e-3, .equal_nan = true};
  assert_rule(same(F32(1, NAN), F32(1, NAN), NULL, strict), HFB_SAME_VALUES);
  assert_rule(same(F32(1, NAN), F32(1, NAN), NULL, equal), HFB_SAME_CLOSE);
  /* The reference engine gave NaN where float64 has a number: a result near float64 is better, not worse. */
  hfb_tensor exact = F64(1, 2);
  assert_rule(same(F32(1, NAN), F32(1, 2.05f), &exact, equal), HFB_SAME_BETTER);
  assert_rule(same(F32(1, NAN), F32(1, 2.2f), &exact, equal), HFB_SAME_FAR);
  assert_rule(same(F32(1, 2), F32(1, NAN), &exact, equal), HFB_SAME_FAR);
  /* NaN in both, but at different places. */
  assert_rule(same(F32(NAN, 2), F32(1, NAN), &exact, equal), HFB_SAME_NAN_BOTH);
  assert_rule(same(F32(NAN, 2), F32(1, NAN), &exact, strict), HFB_SAME_FAR);
}

/* Four thousand elements, the reference off by e_ref everywhere, the result by e_got. */
static hfb_same_result rmse_case(hfb_dtype dtype, int64_t count, double e_ref, double e_got, hfb_same_options options) {
  static float reference[4096], got[4096];
  static double exact[4096];
  for (int i = 0; i < count; i++) {
    exact[i] = 0;
    reference[i] = (float)e_ref;
    got[i] = (float)-e_got;
  }
  hfb_tensor a = vector(dtype, count, reference), b = vector(dtype, count, got), c = vector(HFB_F64, count, exact);
  return hfb_same(&a, &b, &c, &options, NULL);
}

static void test_same_by_float64(void **state) {
  (void)state;
  hfb_same_options o = {.tolerance = 1e-3};
  /* E_got <= 2 E_ref + tol / 10 */
  hfb_same_result r = rmse_case(HFB_F32, 4096, 0.1, 0.2, o);
  assert_rule(r, HFB_SAME_RMSE);
  assert_true(r.multiplier == 2 && fabs(r.error_reference - 0.1) < 1e-8 && fabs(r.error_got - 0.2) < 1e-8);
  assert_rule(rmse_case(HFB_F32, 4096, 0.1, 0.20005, o), HFB_SAME_RMSE);
  assert_rule(rmse_case(HFB_F32, 4096, 0.1, 0.2002, o), HFB_SAME_FAR);
  assert_rule(rmse_case(HFB_F32, 1000, 0.1, 0.25, o), HFB_SAME_FAR);
  assert_rule(rmse_case(HFB_F32, 999, 0.1, 0.29, o), HFB_SAME_RMSE);
  assert_rule(rmse_case(HFB_F32, 999, 0.1, 0.31, o), HFB_SAME_FAR);
  o.tolerance = 2e-2;
  assert_rule(rmse_case(HFB_F32, 4096, 0.1, 0.29, o), HFB_SAME_RMSE);
  o = (hfb_same_options){.tolerance = 1e-3, .small_multiplier = true};
  assert_rule(rmse_case(HFB_F32, 10, 0.1, 0.99, o), HFB_SAME_RMSE);
  assert_rule(rmse_case(HFB_F32, 11, 0.1, 0.99, o), HFB_SAME_FAR);
  assert_rule(rmse_case(HFB_F32, 500, 0.1, 0.79, o), HFB_SAME_RMSE);
  assert_rule(rmse_case(HFB_F32, 501, 0.1, 0.79, o), HFB_SAME_FAR);
  /* Integers are not rescued, and neither is anything without a float64 run. */
  hfb_tensor exact = F64(1, 2), single = F32(1, 2);
  assert_rule(same(I64(1, 2), I64(1, 3), &exact, o), HFB_SAME_VALUES);
  assert_rule(same(F32(1, 2.5f), F32(1, 2), &single, o), HFB_SAME_VALUES);
  assert_rule(same(F32(1, 2.5f), F32(1, 2), &exact, o), HFB_SAME_RMSE);
}

static void test_same_by_cosine(void **state) {
  (void)state;
  const hfb_same_options o = {.tolerance = 1e-3, .cosine = true};
  hfb_same_result r = same(F32(1, 0), F32(3, 0.1f), NULL, o);
  assert_rule(r, HFB_SAME_COSINE);
  assert_true(fabs(r.cosine - 3 / sqrt(9.01)) < 1e-6);
  assert_rule(same(F32(1, 0), F32(1, 0.2f), NULL, o), HFB_SAME_ANGLE);
  assert_rule(same(F32(0, 0, NAN), F32(0, 0, NAN), NULL, o), HFB_SAME_CLOSE);
  assert_rule(same(F32(1, NAN), F32(2, NAN), NULL, o), HFB_SAME_ANGLE);
}

/* ---- Entries that rounding decides ---- */

/* Of one step of Adam with learning rate 0.01; the first entry is determined, the last has `gradient`. */
static float eager_gradient = 1e-9f;

static hfb_same_result step_case(double gradient, float eager, float got) {
  double gradients[2] = {-0.5, gradient};
  hfb_tensor g = vector(HFB_F64, 2, gradients), g32 = F32(-0.5f, eager_gradient), exact = F64(1, 0.51);
  const hfb_undetermined undetermined = {
      .gradient = &g, .eager_gradient = &g32, .resolution = 1e-7, .largest_distance = 0.0202};
  const hfb_same_options o = {.tolerance = 1e-2, .equal_nan = true, .undetermined = &undetermined};
  return same(F32(1, eager), F32(1, got), &exact, o);
}

static void test_undetermined_step(void **state) {
  (void)state;
  hfb_same_result r = step_case(-1e-9, 0.51f, 0.49f); /* the opposite way */
  assert_rule(r, HFB_SAME_CLOSE);
  assert_true(r.undetermined_count == 1 && r.outside_count == 0 && r.max_abs == 0);
  assert_true(fabs(r.undetermined_max - 0.02) < 1e-7);
  r = step_case(1e-6, 0.51f, 0.49f);
  assert_rule(r, HFB_SAME_FAR);
  assert_true(r.undetermined_count == 0 && r.outside_count == 1);
  assert_rule(step_case(0, 0.51f, 0.49f), HFB_SAME_CLOSE); /* a sum that is 0 by chance */
  eager_gradient = 0;
  assert_rule(step_case(0, 0.51f, 0.49f), HFB_SAME_FAR); /* a sum of nothing */
  assert_rule(step_case(1e-9, 0.51f, 0.49f), HFB_SAME_CLOSE);
  eager_gradient = 1;
  assert_rule(step_case(1e-9, 0.51f, 0.49f), HFB_SAME_CLOSE);
  assert_rule(step_case(NAN, 0.51f, 0.49f), HFB_SAME_FAR);
  /* Bounded: 0.0202 and the tolerance of 0.51. */
  assert_rule(step_case(1e-9, 0.51f, 0.485f), HFB_SAME_CLOSE);
  assert_rule(step_case(1e-9, 0.51f, 0.4845f), HFB_SAME_ASTRAY);
  r = step_case(1e-9, 0.51f, 0.48f); /* three steps */
  assert_rule(r, HFB_SAME_ASTRAY);
  assert_true(!r.same && fabs(r.undetermined_max - 0.03) < 1e-7);
  assert_rule(step_case(1e-9, 0.48f, 0.48f), HFB_SAME_ASTRAY); /* though eager agrees */
  assert_rule(step_case(1e-9, 0.51f, NAN), HFB_SAME_ASTRAY);
  assert_rule(step_case(1e-9, NAN, NAN), HFB_SAME_ASTRAY);
  assert_rule(step_case(1e-9, 0.51f, -INFINITY), HFB_SAME_ASTRAY);
}

static void test_undetermined_step_needs_float64(void **state) {
  (void)state;
  hfb_tensor gradient = F64(1e-9), other = F64(1e-9, 1e-9), exact = F64(0.51);
  hfb_undetermined undetermined = {
      .gradient = &gradient, .eager_gradient = &gradient, .resolution = 1e-7, .largest_distance = 0.0202};
  const hfb_same_options o = {.tolerance = 1e-2, .undetermined = &undetermined};
  assert_rule(same(F32(0.51f), F32(0.49f), &exact, o), HFB_SAME_CLOSE);
  assert_rule(same(F32(0.51f), F32(0.49f), NULL, o), HFB_SAME_VALUES);
  undetermined.gradient = &other;
  assert_rule(same(F32(0.51f), F32(0.49f), &exact, o), HFB_SAME_FAR);
}

enum { STEP_ELEMENTS = 3 << 15 }; /* three tasks of a pass, one of them with undetermined entries alone */

/* Entries off as in rmse_case, but those of the second third and every other one of the last are undetermined and off
 * by 0.02 in eager, by `off` in the result. */
static hfb_same_result rmse_step_case(double e_ref, double e_got, double off, hfb_distance *out_distance) {
  static float reference[STEP_ELEMENTS], got[STEP_ELEMENTS];
  static double exact[STEP_ELEMENTS], gradients[STEP_ELEMENTS];
  for (int i = 0; i < STEP_ELEMENTS; i++) {
    bool left_out = i / (STEP_ELEMENTS / 3) == 1 || (i / (STEP_ELEMENTS / 3) == 2 && i % 2);
    gradients[i] = left_out ? -1e-9 : 0.25;
    reference[i] = (float)(left_out ? 0.02 : e_ref);
    got[i] = (float)-(left_out ? off : e_got);
  }
  hfb_tensor a = vector(HFB_F32, STEP_ELEMENTS, reference), b = vector(HFB_F32, STEP_ELEMENTS, got),
             c = vector(HFB_F64, STEP_ELEMENTS, exact), g = vector(HFB_F64, STEP_ELEMENTS, gradients);
  const hfb_undetermined undetermined = {
      .gradient = &g, .eager_gradient = &g, .resolution = 1e-7, .largest_distance = 0.0202};
  const hfb_same_options o = {.tolerance = 1e-3, .undetermined = &undetermined};
  assert_int_equal(hfb_distance_measure_determined(&b, &c, &undetermined, NULL, out_distance), HFB_OK);
  return hfb_same(&a, &b, &c, &o, NULL);
}

static void test_undetermined_steps_by_float64(void **state) {
  (void)state;
  hfb_distance d;
  hfb_same_result r = rmse_step_case(0.004, 0.008, 0.02, &d);
  assert_rule(r, HFB_SAME_RMSE);
  assert_int_equal(r.undetermined_count, STEP_ELEMENTS / 2);
  assert_int_equal(r.outside_count, STEP_ELEMENTS / 2);
  assert_true(fabs(r.max_abs - 0.012) < 1e-8);
  assert_true(fabs(r.error_reference - 0.004) < 1e-9 && fabs(r.error_got - 0.008) < 1e-9);
  assert_true(d.count == STEP_ELEMENTS / 2 && fabs(d.rmse - 0.008) < 1e-9 && fabs(d.max_abs - 0.008) < 1e-9);
  assert_true(fabs(d.scaled - 0.08) < 1e-8 && d.worst_index == 0);
  /* Eager's distances where rounding decides, larger than all others, allow nothing elsewhere. */
  assert_rule(rmse_step_case(0.004, 0.009, 0, &d), HFB_SAME_FAR);
  assert_rule(rmse_step_case(0.004, 0.008, 0.03, &d), HFB_SAME_ASTRAY);
}

static void test_rules_have_texts(void **state) {
  (void)state;
  for (int i = 0; i < HFB_SAME_RULE_COUNT; i++) {
    assert_true(strlen(hfb_same_rule_name((hfb_same_rule)i)) > 0);
    assert_true(strlen(hfb_same_rule_meaning((hfb_same_rule)i)) > 10);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_distance),           cmocka_unit_test(test_distance_of_values_that_are_not_finite),
      cmocka_unit_test(test_distance_of_shapes), cmocka_unit_test(test_distance_of_views),
      cmocka_unit_test(test_same_within_tolerance),
      cmocka_unit_test(test_same_bit_for_bit),   cmocka_unit_test(test_same_nan),
      cmocka_unit_test(test_same_by_float64),    cmocka_unit_test(test_same_by_cosine),
      cmocka_unit_test(test_undetermined_step),  cmocka_unit_test(test_undetermined_step_needs_float64),
      cmocka_unit_test(test_undetermined_steps_by_float64),
      cmocka_unit_test(test_rules_have_texts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
