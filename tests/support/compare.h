/* Comparing a float32 result with float64, by the tolerance class of its op. */
#ifndef HFB_TESTS_SUPPORT_COMPARE_H
#define HFB_TESTS_SUPPORT_COMPARE_H

#include "device/tensor.h"
#include "ir/graph.h"

/* Returns true when every element of `got` is near enough to `expected` (same shape, f64 for float results); otherwise
 * describes the worst one in `text`. `magnitude`: the op applied to absolute inputs, f64, or NULL; sums are judged by
 * it, because the error of a sum follows the size of its terms.
 *
 *   EXACT     equal
 *   ROUND     1 ulp: what two correctly rounded operations may lose
 *   FUNCTION  4 ulp (the vector functions promise 2.5) and 1 ulp of the largest result below 64, since gelu, softmax
 *             and their like add terms of that size
 *   REDUCE    4 ulp of the magnitude or, without one, 8 ulp of the largest result
 *
 * nan equals nan; infinities must agree after rounding the expected value to the dtype of the result. */
bool compare_with_f64(const hfb_tensor *got, const hfb_tensor *expected, const hfb_tensor *magnitude,
                      hfb_tolerance tolerance, char *text, size_t text_bytes);

/* All elements equal (nan equals nan), any dtype and layout. */
bool compare_equal(const hfb_tensor *a, const hfb_tensor *b, char *text, size_t text_bytes);

/* max |a - b| <= tolerance * (max |b| + floor), for two results in f64; nan and infinities must agree. */
bool compare_close(const hfb_tensor *a, const hfb_tensor *b, double tolerance, double floor, char *text,
                   size_t text_bytes);

#endif
