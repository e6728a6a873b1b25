#include "support/compare.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

static const double ULP = 0x1p-23; /* relative distance of neighbouring floats, at most */

static bool shapes_agree(const hfb_tensor *a, const hfb_tensor *b, char *text, size_t text_bytes) {
  if (hfb_shape_equal(&a->shape, &b->shape)) return true;
  snprintf(text, text_bytes, "the shapes differ");
  return false;
}

static double largest_finite(const hfb_tensor *tensor) {
  double largest = 0;
  for (int64_t i = 0; i < hfb_shape_elements(&tensor->shape); i++) {
    double value = fabs(hfb_tensor_get(tensor, i));
    if (isfinite(value) && value > largest) largest = value;
  }
  return largest;
}

static double allowed_error(hfb_tolerance tolerance, double expected, double largest, const double *magnitude) {
  switch (tolerance) {
    case HFB_TOL_EXACT: return 0;
    case HFB_TOL_ROUND: return ULP * fabs(expected) + 0x1p-149;
    case HFB_TOL_FUNCTION: return 4 * ULP * fabs(expected) + ULP * fmin(largest, 64) + 0x1p-149;
    case HFB_TOL_REDUCE: return magnitude ? 4 * ULP * fabs(*magnitude) : 8 * ULP * largest;
  }
  return 0;
}

bool compare_with_f64(const hfb_tensor *got, const hfb_tensor *expected, const hfb_tensor *magnitude,
                      hfb_tolerance tolerance, char *text, size_t text_bytes) {
  if (!shapes_agree(got, expected, text, text_bytes)) return false;
  double largest = largest_finite(expected), worst = 0;
  bool is_good = true;
  for (int64_t i = 0; i < hfb_shape_elements(&got->shape); i++) {
    double actual = hfb_tensor_get(got, i), exact = hfb_tensor_get(expected, i);
    double rounded = got->dtype == HFB_F32 ? (double)(float)exact : exact;
    if (isnan(actual) && isnan(rounded)) continue;
    if (actual == rounded) continue;
    if (got->dtype == HFB_F32 && actual == 0 && fabs(exact) < (double)FLT_MIN) continue; /* as base/thread.h says */
    double scale = magnitude ? hfb_tensor_get(magnitude, i) : 0;
    double allowed = allowed_error(tolerance, exact, largest, magnitude ? &scale : NULL);
    double error = fabs(actual - exact);
    if (error <= allowed) continue;
    double badness = isfinite(error) && allowed > 0 ? error / allowed : INFINITY;
    if (is_good || badness > worst) {
      snprintf(text, text_bytes, "element %lld is %.9g instead of %.9g, off by %.3g where %.3g is allowed",
               (long long)i, actual, exact, error, allowed);
      worst = badness;
    }
    is_good = false;
  }
  return is_good;
}

bool compare_equal(const hfb_tensor *a, const hfb_tensor *b, char *text, size_t text_bytes) {
  if (!shapes_agree(a, b, text, text_bytes)) return false;
  for (int64_t i = 0; i < hfb_shape_elements(&a->shape); i++) {
    double x = hfb_tensor_get(a, i), y = hfb_tensor_get(b, i);
    if (x == y || (isnan(x) && isnan(y))) continue;
    snprintf(text, text_bytes, "element %lld is %.17g here and %.17g there", (long long)i, x, y);
    return false;
  }
  return true;
}

bool compare_close(const hfb_tensor *a, const hfb_tensor *b, double tolerance, double floor, char *text,
                   size_t text_bytes) {
  if (!shapes_agree(a, b, text, text_bytes)) return false;
  double allowed = tolerance * (largest_finite(b) + floor);
  for (int64_t i = 0; i < hfb_shape_elements(&a->shape); i++) {
    double x = hfb_tensor_get(a, i), y = hfb_tensor_get(b, i);
    if (x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= allowed) continue;
    snprintf(text, text_bytes, "element %lld is %.17g instead of %.17g, where %.3g is allowed", (long long)i, x, y,
             allowed);
    return false;
  }
  return true;
}
