/* How far apart two tensors are: the measures of accuracy checks and of `verify`.
 *
 * All arithmetic is in double, in blocks whose borders depend on the element count alone: results do not depend on the
 * number of threads. Tensors may have any strides; shapes must be equal. */
#ifndef HFB_BENCH_COMPARE_H
#define HFB_BENCH_COMPARE_H

#include "device/tensor.h"

/* Distances of `got` from `expected`. Entries where both are NaN, or the same infinity, count as equal. */
typedef struct hfb_distance {
  int64_t count;       /* entries that were measured */
  double max_abs;      /* largest |got - expected|; infinite when an entry is not finite in only one of them */
  double max_expected; /* largest finite |expected|; 0 for an empty tensor */
  double scaled;       /* max_abs / (max_expected + 0.1): the error that `verify` reports */
  double rmse;         /* root of the mean squared difference; NaN when an entry of either is NaN */
  double rms_expected; /* root of the mean squared expected entry */
  int64_t worst_index; /* row-major position of max_abs, the first one; -1 when nothing was measured */
  int64_t nan_got, nan_expected;
  int64_t infinite_got, infinite_expected;
} hfb_distance;

/* HFB_MISMATCH when shapes differ. Dtypes may differ. */
hfb_status hfb_distance_measure(const hfb_tensor *got, const hfb_tensor *expected, hfb_pool *pool,
                                hfb_distance *out_distance) HFB_MUST_USE;

/* Entries of an updated parameter that are bounded instead of compared, because rounding alone decides in which
 * direction an optimizer moves them: those whose float64 gradient is below a resolution in magnitude. One that is 0 in
 * float64 and in eager has no terms (the row of an embedding that no token takes): the entry is compared. */
typedef struct hfb_undetermined {
  const hfb_tensor *gradient; /* of the float64 run */
  const hfb_tensor *eager_gradient;
  double resolution;
  double largest_distance;    /* that steps can put between such an entry and float64's */
} hfb_undetermined;

/* Over the other entries alone; `undetermined` may be NULL. NaN and infinities are counted in all. */
hfb_status hfb_distance_measure_determined(const hfb_tensor *got, const hfb_tensor *expected,
                                           const hfb_undetermined *undetermined, hfb_pool *pool,
                                           hfb_distance *out_distance) HFB_MUST_USE;

/* The error of a gradient: max_abs / (max_expected + G / 200), where G is the largest entry of all gradients that were
 * expected. So a gradient that is tiny beside all others may be wrong by what is tiny for them. 0 when all are zero. */
double hfb_gradient_error(const hfb_distance *distance, double largest_gradient);

/* The rule of PyTorch's benchmark harness (torch/_dynamo/utils.py, `same`): close enough to the reference engine, or no
 * further from float64 than the reference engine is, up to a factor. */
typedef struct hfb_same_options {
  double tolerance;      /* absolute and relative */
  bool equal_nan;        /* NaN equals NaN; the harness sets it except with --float32 */
  bool cosine;           /* instead of the float64 rule: cosine similarity >= 0.99 */
  bool small_multiplier; /* larger factors for small tensors: GPT2ForSequenceClassification, BertForMaskedLM */
  const hfb_undetermined *undetermined; /* only with float64 and equal shapes; NULL: all entries are compared */
} hfb_same_options;

typedef enum hfb_same_rule {
#define HFB_SAME(id, name, passes, meaning) HFB_SAME_##id,
#include "bench/compare.def"
#undef HFB_SAME
  HFB_SAME_RULE_COUNT
} hfb_same_rule;

typedef struct hfb_same_result {
  bool same;
  hfb_same_rule rule;     /* the rule that decided */
  int64_t outside_count;  /* entries with |ref - got| > tolerance + tolerance*|got| */
  int64_t undetermined_count; /* entries that are left out of all of this, except NaN and infinities */
  double undetermined_max;    /* largest |f64 - got| of these */
  int64_t nan_count, infinite_count; /* entries of got */
  double max_abs;         /* largest |ref - got|, as hfb_distance */
  double error_reference; /* RMSE of ref to float64; 0 without float64 */
  double error_got;       /* RMSE of got to float64; 0 without float64 */
  double multiplier;      /* factor allowed by the RMSE rule */
  double cosine;          /* similarity; only with options.cosine */
} hfb_same_result;

/* `reference64` may be NULL, and is used only when it is F64 and `got` is a float. Never fails: shapes or dtypes that
 * differ are a result. */
hfb_same_result hfb_same(const hfb_tensor *reference, const hfb_tensor *got, const hfb_tensor *reference64,
                         const hfb_same_options *options, hfb_pool *pool);

const char *hfb_same_rule_name(hfb_same_rule rule);    /* "rmse" */
const char *hfb_same_rule_meaning(hfb_same_rule rule); /* for messages */

#endif
