#include "bench/compare.h"

#include <math.h>

#include "device/convert.h"

/* Elements are looked at in blocks, converted to double on the way. A pass is cut into as many tasks as fit on the
 * stack, so that comparing never needs memory. */
enum { BLOCK_ELEMENTS = 512, SMALLEST_TASK_ELEMENTS = 1 << 15, MAX_TASKS = 128 };

/* From PyTorch's `same`. */
static const double LOOSE_TOLERANCE = 4e-2;
static const double SMALLEST_COSINE = 0.99;
static const double COSINE_EPS = 1e-6;

typedef struct rule_info {
  const char *name;
  bool passes;
  const char *meaning;
} rule_info;

static const rule_info rules[HFB_SAME_RULE_COUNT] = {
#define HFB_SAME(id, name, passes, meaning) [HFB_SAME_##id] = {name, passes, meaning},
#include "bench/compare.def"
#undef HFB_SAME
};

const char *hfb_same_rule_name(hfb_same_rule rule) {
  return rules[rule].name;
}
const char *hfb_same_rule_meaning(hfb_same_rule rule) {
  return rules[rule].meaning;
}

/* ---- Reading ---- */

/* Elements [first, first+count) in row-major order as doubles; strides as they come. */
static void load_block(const hfb_tensor *tensor, int64_t first, int count, double *out) {
  const hfb_shape *shape = &tensor->shape;
  int last = shape->rank - 1;
  int64_t element_bytes = (int64_t)hfb_dtype_bytes(tensor->dtype);
  if (shape->rank == 0 || hfb_tensor_is_contiguous(tensor)) {
    hfb_convert_row(tensor->dtype, (const char *)tensor->data + first * element_bytes, element_bytes, HFB_F64,
                    (char *)out, sizeof(double), count);
    return;
  }
  while (count > 0) {
    int64_t rest = first, offset = 0;
    for (int i = last; i >= 0; i--) {
      offset += rest % shape->dim[i] * tensor->strides[i];
      rest /= shape->dim[i];
    }
    int64_t row_rest = shape->dim[last] - first % shape->dim[last];
    int run = row_rest < count ? (int)row_rest : count;
    hfb_convert_row(tensor->dtype, (const char *)tensor->data + offset * element_bytes,
                    tensor->strides[last] * element_bytes, HFB_F64, (char *)out, sizeof(double), run);
    first += run;
    out += run;
    count -= run;
  }
}

/* Of an I64 tensor. */
static int64_t load_i64(const hfb_tensor *tensor, int64_t index) {
  int64_t offset = 0;
  for (int i = tensor->shape.rank - 1; i >= 0; i--) {
    offset += index % tensor->shape.dim[i] * tensor->strides[i];
    index /= tensor->shape.dim[i];
  }
  return ((const int64_t *)tensor->data)[offset];
}

/* ---- Sums over two tensors ---- */

/* What one pass over a pair of tensors gathers: `a` is measured against `b`. */
typedef struct pair_sums {
  double max_abs, max_b;
  double squares;             /* of a - b */
  double dot, norm_a, norm_b; /* for the cosine */
  int64_t worst_index;
  int64_t outside_count; /* |a - b| > tolerance + tolerance * |b| */
  int64_t nan_a, nan_b, infinite_a, infinite_b;
  int64_t undetermined_count, astray_count; /* left out of the above, NaN and infinities excepted */
  double undetermined_max;
} pair_sums;

typedef struct pair_pass {
  const hfb_tensor *a, *b;
  const hfb_undetermined *undetermined; /* NULL: no entry is */
  double tolerance;
  bool equal_nan;
  bool are_i64; /* may not fit a double: equality is decided on the integers themselves */
  int64_t count, task_elements;
  pair_sums *tasks;
} pair_pass;

static void count_not_finite(pair_sums *sums, double a, double b) {
  sums->nan_a += isnan(a);
  sums->nan_b += isnan(b);
  sums->infinite_a += isinf(a) != 0;
  sums->infinite_b += isinf(b) != 0;
}

static bool is_undetermined(const hfb_undetermined *undetermined, double gradient, double eager_gradient) {
  return fabs(gradient) < undetermined->resolution && !(gradient == 0 && eager_gradient == 0);
}

/* A NaN is astray. */
static void add_undetermined(const pair_pass *pass, pair_sums *sums, double a, double b) {
  double distance = fabs(a - b);
  count_not_finite(sums, a, b);
  sums->undetermined_count++;
  sums->undetermined_max = fmax(sums->undetermined_max, isnan(distance) ? INFINITY : distance);
  sums->astray_count += !(distance <= pass->undetermined->largest_distance + pass->tolerance * fabs(a));
}

static void add_element(const pair_pass *pass, pair_sums *sums, int64_t index, double a, double b) {
  bool nan_a = isnan(a), nan_b = isnan(b);
  count_not_finite(sums, a, b);
  sums->squares += (a - b) * (a - b);
  sums->dot += a * b;
  sums->norm_a += a * a;
  sums->norm_b += b * b;
  double size_b = fabs(b);
  if (size_b > sums->max_b && isfinite(b)) sums->max_b = size_b;
  bool identical = a == b && (!pass->are_i64 || load_i64(pass->a, index) == load_i64(pass->b, index));
  double difference = fabs(a - b);
  if (identical || (nan_a && nan_b))
    difference = 0;
  else if (!isfinite(difference))
    difference = INFINITY;
  else if (difference == 0)
    difference = 1; /* two integers that round to the same double */
  if (difference > sums->max_abs || sums->worst_index < 0) {
    sums->max_abs = difference;
    sums->worst_index = index;
  }
  bool close = identical || (nan_a && nan_b && pass->equal_nan) ||
               (isfinite(difference) && !nan_a && difference <= pass->tolerance + pass->tolerance * size_b);
  sums->outside_count += !close;
}

static void run_pair_task(void *context, int64_t task, int worker) {
  (void)worker;
  const pair_pass *pass = context;
  pair_sums sums = {.worst_index = -1};
  int64_t start = task * pass->task_elements;
  int64_t end = start + pass->task_elements < pass->count ? start + pass->task_elements : pass->count;
  double a[BLOCK_ELEMENTS], b[BLOCK_ELEMENTS], g[BLOCK_ELEMENTS], eager_g[BLOCK_ELEMENTS];
  for (int64_t first = start; first < end; first += BLOCK_ELEMENTS) {
    int count = end - first < BLOCK_ELEMENTS ? (int)(end - first) : BLOCK_ELEMENTS;
    load_block(pass->a, first, count, a);
    load_block(pass->b, first, count, b);
    if (pass->undetermined) {
      load_block(pass->undetermined->gradient, first, count, g);
      load_block(pass->undetermined->eager_gradient, first, count, eager_g);
    }
    for (int i = 0; i < count; i++) {
      if (pass->undetermined && is_undetermined(pass->undetermined, g[i], eager_g[i]))
        add_undetermined(pass, &sums, a[i], b[i]);
      else
        add_element(pass, &sums, first + i, a[i], b[i]);
    }
  }
  pass->tasks[task] = sums;
}

static void merge_sums(pair_sums *total, const pair_sums *part) {
  if (part->worst_index >= 0 && (part->max_abs > total->max_abs || total->worst_index < 0)) {
    total->max_abs = part->max_abs;
    total->worst_index = part->worst_index;
  }
  if (part->max_b > total->max_b) total->max_b = part->max_b;
  total->squares += part->squares;
  total->dot += part->dot;
  total->norm_a += part->norm_a;
  total->norm_b += part->norm_b;
  total->outside_count += part->outside_count;
  total->nan_a += part->nan_a;
  total->nan_b += part->nan_b;
  total->infinite_a += part->infinite_a;
  total->infinite_b += part->infinite_b;
  total->undetermined_count += part->undetermined_count;
  total->astray_count += part->astray_count;
  total->undetermined_max = fmax(total->undetermined_max, part->undetermined_max);
}

/* Shapes are equal. */
static pair_sums gather_sums(const hfb_tensor *a, const hfb_tensor *b, double tolerance, bool equal_nan,
                             const hfb_undetermined *undetermined, hfb_pool *pool) {
  pair_sums tasks[MAX_TASKS], total = {.worst_index = -1};
  pair_pass pass = {.a = a,
                    .b = b,
                    .undetermined = undetermined,
                    .tolerance = tolerance,
                    .equal_nan = equal_nan,
                    .tasks = tasks};
  pass.are_i64 = a->dtype == HFB_I64 && b->dtype == HFB_I64;
  pass.count = hfb_shape_elements(&a->shape);
  pass.task_elements = (pass.count + MAX_TASKS - 1) / MAX_TASKS;
  if (pass.task_elements < SMALLEST_TASK_ELEMENTS) pass.task_elements = SMALLEST_TASK_ELEMENTS;
  int64_t task_count = (pass.count + pass.task_elements - 1) / pass.task_elements;
  hfb_pool_run(pool, task_count, run_pair_task, &pass);
  for (int64_t i = 0; i < task_count; i++) merge_sums(&total, &tasks[i]);
  return total;
}

static double root_mean(double squares, int64_t count) { return count > 0 ? sqrt(squares / (double)count) : 0; }

/* NULL where all entries are to be compared. */
static const hfb_undetermined *usable(const hfb_undetermined *undetermined, const hfb_tensor *tensor) {
  bool fits = undetermined && hfb_shape_equal(&undetermined->gradient->shape, &tensor->shape) &&
              hfb_shape_equal(&undetermined->eager_gradient->shape, &tensor->shape);
  return fits ? undetermined : NULL;
}

/* ---- Measures ---- */

hfb_status hfb_distance_measure(const hfb_tensor *got, const hfb_tensor *expected, hfb_pool *pool,
                                hfb_distance *out_distance) {
  return hfb_distance_measure_determined(got, expected, NULL, pool, out_distance);
}

hfb_status hfb_distance_measure_determined(const hfb_tensor *got, const hfb_tensor *expected,
                                           const hfb_undetermined *undetermined, hfb_pool *pool,
                                           hfb_distance *out_distance) {
  if (!hfb_shape_equal(&got->shape, &expected->shape)) {
    char got_text[HFB_SHAPE_TEXT_BYTES], expected_text[HFB_SHAPE_TEXT_BYTES];
    return HFB_FAIL(HFB_MISMATCH, "shape %s instead of %s", hfb_shape_print(&got->shape, got_text, sizeof(got_text)),
                    hfb_shape_print(&expected->shape, expected_text, sizeof(expected_text)));
  }
  pair_sums sums = gather_sums(got, expected, 0, true, usable(undetermined, got), pool);
  int64_t count = hfb_shape_elements(&got->shape) - sums.undetermined_count;
  *out_distance = (hfb_distance){
      .count = count,
      .max_abs = sums.max_abs,
      .max_expected = sums.max_b,
      .scaled = sums.max_abs / (sums.max_b + 0.1),
      .rmse = root_mean(sums.squares, count),
      .rms_expected = root_mean(sums.norm_b, count),
      .worst_index = sums.worst_index,
      .nan_got = sums.nan_a,
      .nan_expected = sums.nan_b,
      .infinite_got = sums.infinite_a,
      .infinite_expected = sums.infinite_b,
  };
  return HFB_OK;
}

double hfb_gradient_error(const hfb_distance *distance, double largest_gradient) {
  return distance->max_abs == 0 ? 0 : distance->max_abs / (distance->max_expected + largest_gradient / 200);
}

/* ---- The rule of the harness ---- */

static hfb_same_result decide(hfb_same_result result, hfb_same_rule rule) {
  result.rule = rule;
  result.same = rules[rule].passes;
  return result;
}

/* How much further from float64 than the reference a result may be: noise dominates the RMSE of small tensors. */
static double error_multiplier(const hfb_tensor *reference, const hfb_tensor *got, const hfb_same_options *options) {
  const hfb_shape *shape = &reference->shape;
  int64_t count = hfb_shape_elements(shape);
  if (options->small_multiplier && count <= 10) return 10;
  if (options->small_multiplier && count <= 500) return 8;
  if (count < 1000 || options->tolerance >= 2e-2) return 3;
  if (shape->rank == 4 && shape->dim[2] == 1 && shape->dim[3] == 1) return 3;
  return got->dtype == HFB_BF16 || got->dtype == HFB_F16 ? 3 : 2;
}

static hfb_same_result decide_by_float64(hfb_same_result result, const hfb_tensor *reference, const hfb_tensor *got,
                                         const hfb_tensor *reference64, const hfb_same_options *options,
                                         hfb_pool *pool) {
  const hfb_undetermined *undetermined = usable(options->undetermined, got);
  pair_sums sums_reference = gather_sums(reference64, reference, 0, options->equal_nan, undetermined, pool);
  pair_sums sums_got = gather_sums(reference64, got, LOOSE_TOLERANCE, options->equal_nan, undetermined, pool);
  int64_t count = hfb_shape_elements(&got->shape) - sums_got.undetermined_count;
  result.error_reference = root_mean(sums_reference.squares, count);
  result.error_got = root_mean(sums_got.squares, count);
  result.multiplier = error_multiplier(reference, got, options);
  bool only_reference_has_nan = sums_got.nan_a == 0 && sums_got.nan_b == 0 && sums_reference.nan_b > 0;
  if (only_reference_has_nan && sums_got.outside_count == 0) return decide(result, HFB_SAME_BETTER);
  if (result.error_got <= result.multiplier * result.error_reference + options->tolerance / 10) {
    return decide(result, HFB_SAME_RMSE);
  }
  if (options->equal_nan && isnan(result.error_reference) && isnan(result.error_got)) {
    return decide(result, HFB_SAME_NAN_BOTH);
  }
  return decide(result, HFB_SAME_FAR);
}

hfb_same_result hfb_same(const hfb_tensor *reference, const hfb_tensor *got, const hfb_tensor *reference64,
                         const hfb_same_options *options, hfb_pool *pool) {
  hfb_same_result result = {0};
  if (reference->dtype != got->dtype) return decide(result, HFB_SAME_DTYPE);
  if (!hfb_shape_equal(&reference->shape, &got->shape)) return decide(result, HFB_SAME_SHAPE);
  bool equal_nan = options->equal_nan || options->cosine;
  bool has_float64 = reference64 && reference64->dtype == HFB_F64 && hfb_dtype_is_float(got->dtype) &&
                     hfb_shape_equal(&reference64->shape, &got->shape);
  const hfb_undetermined *undetermined = has_float64 ? usable(options->undetermined, got) : NULL;
  pair_sums sums = gather_sums(reference, got, options->tolerance, equal_nan, undetermined, pool);
  result.undetermined_count = sums.undetermined_count;
  result.max_abs = sums.max_abs;
  result.outside_count = sums.outside_count;
  result.nan_count = sums.nan_b;
  result.infinite_count = sums.infinite_b;
  if (sums.undetermined_count > 0) {
    pair_sums to_float64 = gather_sums(reference64, got, options->tolerance, equal_nan, undetermined, pool);
    result.undetermined_max = to_float64.undetermined_max;
    if (to_float64.astray_count > 0) return decide(result, HFB_SAME_ASTRAY);
  }
  if (sums.outside_count == 0) return decide(result, HFB_SAME_CLOSE);
  if (options->cosine) {
    double norms = fmax(sqrt(sums.norm_a), COSINE_EPS) * fmax(sqrt(sums.norm_b), COSINE_EPS);
    result.cosine = sums.dot / norms;
    return decide(result, result.cosine >= SMALLEST_COSINE ? HFB_SAME_COSINE : HFB_SAME_ANGLE);
  }
  if (!has_float64) return decide(result, HFB_SAME_VALUES);
  return decide_by_float64(result, reference, got, reference64, options, pool);
}
