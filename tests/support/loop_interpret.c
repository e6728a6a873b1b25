#include "support/loop_interpret.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"

typedef struct interpreter {
  const hfb_loop *loop;
  void *const *slots;
  loop_value *values; /* [term][inner index], one at least: values of the row exist even if it is empty */
  int64_t width;
  int64_t index[HFB_LOOP_MAX_RANK]; /* the current point */
} interpreter;

static const loop_value unknown = {.unknown = true};

/* ---- errors ---- */

/* Adds the error of `ulps` units in the last place, and what flushing a subnormal result to zero may do. */
static loop_value rounded(hfb_dtype dtype, double value, double error, double ulps) {
  const double unit = dtype == HFB_F32 ? 0x1p-23 : 0x1p-50; /* f64 is compared with f64: both sides round */
  const double tiny = dtype == HFB_F32 ? 1.2e-38 : 2.3e-308, largest = dtype == HFB_F32 ? FLT_MAX : DBL_MAX;
  if (isnan(value) || isinf(value)) return (loop_value){.value = value, .unknown = !(error < INFINITY)};
  error += fabs(value) * unit * ulps;
  if (fabs(value) < 2 * tiny) error += tiny;
  if (fabs(value) + error >= largest) return unknown;
  return (loop_value){.value = value, .error = error, .unknown = !(error < INFINITY)};
}

/* An exact float result. */
static loop_value exact(double value, double error) {
  return (loop_value){.value = value, .error = error};
}
static loop_value integer(int64_t value) {
  return (loop_value){.integer = value};
}

static loop_value wrapped(hfb_dtype dtype, uint64_t value) {
  if (dtype == HFB_I32) return integer((int32_t)(uint32_t)value);
  if (dtype == HFB_U8) return integer((uint8_t)value);
  return integer((int64_t)value);
}

/* ---- one operation ---- */

static loop_value unary_float(const hfb_term *term, loop_value a) {
  const hfb_dtype dtype = term->dtype;
  const double x = a.value, e = a.error;
  switch (term->op) {
    case HFB_OP_NEG: return exact(-x, e);
    case HFB_OP_ABS: return exact(fabs(x), e);
    case HFB_OP_EXP: return rounded(dtype, exp(x), exp(x) < INFINITY ? exp(x) * expm1(e) : 0, 2.5);
    case HFB_OP_LOG:
      if (e > 0 && x < 2 * e) return unknown;
      return rounded(dtype, log(x), e > 0 ? -log1p(-e / x) : 0, 2.5);
    case HFB_OP_SQRT: /* LLVM 14 takes 1 / sqrt(-0) for positive and simplifies what follows by it */
      if ((e > 0 && x < 2 * e) || (x == 0 && signbit(x))) return unknown;
      return rounded(dtype, sqrt(x), e > 0 ? sqrt(x) - sqrt(x - e) : 0, 1);
    case HFB_OP_RSQRT:
      if ((e > 0 && x < 2 * e) || (x == 0 && signbit(x))) return unknown;
      return rounded(dtype, 1 / sqrt(x), e > 0 ? 1 / sqrt(x - e) - 1 / sqrt(x) : 0, 2);
    case HFB_OP_SIN: return rounded(dtype, sin(x), e, 2.5);
    case HFB_OP_COS: return rounded(dtype, cos(x), e, 2.5);
    case HFB_OP_TANH: return rounded(dtype, tanh(x), e, 2.5);
    case HFB_OP_ERF: return rounded(dtype, erf(x), 1.13 * e, 2.5);
    case HFB_OP_ADD_SCALAR: {
      const double value = dtype == HFB_F32 ? (float)term->value : term->value;
      return rounded(dtype, x + value, e, 1);
    }
    case HFB_OP_MUL_SCALAR: {
      const double value = dtype == HFB_F32 ? (float)term->value : term->value;
      return rounded(dtype, x * value, e * fabs(value), 1);
    }
    default: return unknown;
  }
}

static loop_value binary_float(const hfb_term *term, loop_value a, loop_value b) {
  const double x = a.value, y = b.value;
  switch (term->op) {
    case HFB_OP_ADD: return rounded(term->dtype, x + y, a.error + b.error, 1);
    case HFB_OP_SUB: return rounded(term->dtype, x - y, a.error + b.error, 1);
    case HFB_OP_MUL:
      if ((a.error > 0 && isinf(y) && fabs(x) <= a.error) || (b.error > 0 && isinf(x) && fabs(y) <= b.error))
        return unknown;
      return rounded(term->dtype, x * y,
                     isfinite(x * y) ? fabs(x) * b.error + fabs(y) * a.error + a.error * b.error : 0, 1);
    case HFB_OP_DIV:
      if (b.error > 0 && fabs(y) < 2 * b.error) return unknown;
      if (y == 0 && a.error > 0 && fabs(x) <= a.error) return unknown;
      return rounded(
          term->dtype, x / y,
          y != 0 && isfinite(x / y) && isfinite(y) ? (a.error + fabs(x / y) * b.error) / (fabs(y) - b.error) : 0, 1);
    case HFB_OP_MAXIMUM: return exact(isnan(x) || isnan(y) ? NAN : fmax(x, y), fmax(a.error, b.error));
    case HFB_OP_MINIMUM: return exact(isnan(x) || isnan(y) ? NAN : fmin(x, y), fmax(a.error, b.error));
    default: return unknown;
  }
}

static loop_value operate_integer(const hfb_term *term, loop_value a, loop_value b) {
  const int64_t x = a.integer, y = b.integer, value = (int64_t)term->value;
  switch (term->op) {
    case HFB_OP_NEG: return wrapped(term->dtype, -(uint64_t)x);
    case HFB_OP_ABS: return wrapped(term->dtype, x < 0 ? -(uint64_t)x : (uint64_t)x);
    case HFB_OP_ADD_SCALAR: return wrapped(term->dtype, (uint64_t)x + (uint64_t)value);
    case HFB_OP_MUL_SCALAR: return wrapped(term->dtype, (uint64_t)x * (uint64_t)value);
    case HFB_OP_ADD: return wrapped(term->dtype, (uint64_t)x + (uint64_t)y);
    case HFB_OP_SUB: return wrapped(term->dtype, (uint64_t)x - (uint64_t)y);
    case HFB_OP_MUL: return wrapped(term->dtype, (uint64_t)x * (uint64_t)y);
    case HFB_OP_MAXIMUM: return integer(x > y ? x : y);
    case HFB_OP_MINIMUM: return integer(x < y ? x : y);
    case HFB_OP_NOT: return integer(!x);
    case HFB_OP_AND: return integer(x & y);
    case HFB_OP_OR: return integer(x | y);
    default: return unknown;
  }
}

static loop_value compare(hfb_op op, hfb_dtype dtype, loop_value a, loop_value b) {
  double x = a.value, y = b.value;
  if (!hfb_dtype_is_float(dtype)) {
    x = a.integer < b.integer ? 0 : 1; /* the order, without the rounding of large integers */
    y = a.integer == b.integer ? 1 : a.integer < b.integer ? 1 : 0;
  } else if (a.error + b.error > 0 && fabs(x - y) <= a.error + b.error) {
    return unknown;
  }
  return integer(op == HFB_OP_EQ ? x == y : op == HFB_OP_NE ? x != y : op == HFB_OP_LT ? x < y : x <= y);
}

static loop_value cast_float(hfb_dtype to, loop_value a) {
  const double limit = to == HFB_I32 ? 0x1p31 : to == HFB_U8 ? 0x1p8 : 0x1p62;
  if (to == HFB_F32) return rounded(to, (double)(float)a.value, a.error, 1);
  if (to == HFB_F64) return exact(a.value, a.error);
  if (to == HFB_BOOL) return a.error > 0 && fabs(a.value) <= a.error ? unknown : integer(a.value != 0);
  if (!(fabs(a.value) + a.error < limit) || (to == HFB_U8 && a.value < 0)) return unknown;
  if (trunc(a.value - a.error) != trunc(a.value + a.error)) return unknown;
  return integer((int64_t)a.value);
}

static loop_value cast(hfb_dtype from, hfb_dtype to, loop_value a) {
  if (hfb_dtype_is_float(from)) return cast_float(to, a);
  if (hfb_dtype_is_float(to)) return rounded(to, (double)a.integer, 0, 1);
  if (to == HFB_BOOL) return integer(a.integer != 0);
  return wrapped(to, (uint64_t)a.integer);
}

static loop_value operate(const interpreter *in, const hfb_term *term, const loop_value args[3]) {
  const hfb_dtype from = in->loop->terms[term->args[0]].dtype;
  if (args[0].unknown || args[1].unknown || args[2].unknown) {
    if (term->op != HFB_OP_WHERE || args[0].unknown) return unknown;
    return args[0].integer ? args[1] : args[2];
  }
  switch (term->op) {
    case HFB_OP_WHERE: return args[0].integer ? args[1] : args[2];
    case HFB_OP_RANDOM_KEEP:
      return integer(hfb_random_keeps(args[1].integer, args[2].integer, in->loop->sites[term->site], args[0].integer,
                                      hfb_random_threshold(term->value)));
    case HFB_OP_CAST: return cast(from, term->dtype, args[0]);
    case HFB_OP_EQ:
    case HFB_OP_NE:
    case HFB_OP_LT:
    case HFB_OP_LE: return compare(term->op, from, args[0], args[1]);
    default:
      if (!hfb_dtype_is_float(term->dtype)) return operate_integer(term, args[0], args[1]);
      return hfb_op_info_of(term->op)->max_inputs == 1 ? unary_float(term, args[0])
                                                       : binary_float(term, args[0], args[1]);
  }
}

/* ---- the other terms ---- */

static int64_t affine(const interpreter *in, int64_t offset, const int64_t *strides) {
  for (int d = 0; d < in->loop->rank; d++) offset += in->index[d] * strides[d];
  return offset;
}

static int64_t tile_offset(const interpreter *in) {
  const int rank = in->loop->rank;
  return in->index[rank - 2] * in->loop->extent[rank - 1] + in->index[rank - 1];
}

static loop_value read_slot(const interpreter *in, int slot, int64_t offset) {
  const void *data = in->slots[slot];
  switch (in->loop->slot_dtypes[slot]) {
    case HFB_F32: return exact(((const float *)data)[offset], 0);
    case HFB_F64: return exact(((const double *)data)[offset], 0);
    case HFB_I64: return integer(((const int64_t *)data)[offset]);
    case HFB_I32: return integer(((const int32_t *)data)[offset]);
    default: return integer(((const uint8_t *)data)[offset]);
  }
}

/* Whether a store needs this value at this point: not when every use is outside of its window. */
static bool is_used(const interpreter *in, int t) {
  for (int u = t + 1; u < in->loop->term_count; u++) {
    const hfb_term *user = &in->loop->terms[u];
    for (int i = 0; i < 3; i++) {
      if (user->kind == HFB_TERM_SCALAR || user->kind == HFB_TERM_INDEX || user->args[i] != t) continue;
      if (user->kind == HFB_TERM_REDUCE) return true;
      const int64_t at = user->kind == HFB_TERM_PADDED ? in->index[user->pad_dim] : 0;
      if (user->kind == HFB_TERM_PADDED && (at < user->low || at >= user->high)) continue;
      if (is_used(in, u)) return true;
    }
  }
  for (int s = 0; s < in->loop->store_count; s++) {
    if (in->loop->stores[s].term == t) return true;
  }
  return false;
}

static loop_value load(const interpreter *in, int t, loop_value index) {
  const hfb_term *term = &in->loop->terms[t];
  if (!is_used(in, t) || index.unknown) return unknown;
  if (term->slot == 0 && in->loop->kind != HFB_LOOP_ROWS) return read_slot(in, 0, tile_offset(in));
  return read_slot(in, term->slot, affine(in, term->offset, term->strides) + index.integer * term->index_stride);
}

static loop_value literal(hfb_dtype dtype, double value) {
  if (dtype == HFB_F32) return exact((float)value, 0);
  if (dtype == HFB_F64) return exact(value, 0);
  return integer((int64_t)value);
}

static loop_value reduce(const interpreter *in, const hfb_term *term) {
  const int64_t count = in->loop->extent[in->loop->rank - 1];
  const loop_value *x = in->values + term->args[0] * in->width;
  const bool is_float = hfb_dtype_is_float(term->dtype), sum = term->op == HFB_OP_REDUCE_SUM;
  loop_value total = is_float ? exact(sum ? 0 : -INFINITY, 0) : integer(sum ? 0 : INT64_MIN);
  double size = 0;
  for (int64_t i = 0; i < count; i++) {
    if (x[i].unknown) return unknown;
    size += fabs(x[i].value);
    if (!sum) {
      total.value = isnan(x[i].value) || isnan(total.value) ? NAN : fmax(total.value, x[i].value);
      total.error = fmax(total.error, x[i].error);
      if (x[i].integer > total.integer) total.integer = x[i].integer;
    } else {
      total.value += x[i].value;
      total.error += x[i].error;
      total.integer = (int64_t)((uint64_t)total.integer + (uint64_t)x[i].integer);
    }
  }
  if (!is_float) return wrapped(term->dtype, (uint64_t)total.integer);
  if (!sum) return total;
  if (isfinite(size) && size > FLT_MAX && term->dtype == HFB_F32) return unknown; /* a partial sum may overflow */
  const double unit = term->dtype == HFB_F32 ? 0x1p-24 : 0x1p-51;
  return rounded(term->dtype, total.value, total.error + (isfinite(size) ? size * unit * (double)count : 0), 1);
}

static loop_value evaluate(const interpreter *in, int t) {
  const hfb_term *term = &in->loop->terms[t];
  const int64_t at = in->index[in->loop->rank - 1];
  loop_value args[3] = {{0}};
  for (int i = 0; i < 3; i++) {
    const bool has_args = term->kind != HFB_TERM_SCALAR && term->kind != HFB_TERM_INDEX;
    if (has_args && term->args[i] >= 0) args[i] = in->values[term->args[i] * in->width + at];
  }
  switch (term->kind) {
    case HFB_TERM_LOAD: return load(in, t, args[0]);
    case HFB_TERM_SCALAR: return literal(term->dtype, term->value);
    case HFB_TERM_INDEX: {
      const int64_t index = affine(in, term->offset, term->strides);
      return hfb_dtype_is_float(term->dtype) ? exact((double)index, 0) : wrapped(term->dtype, (uint64_t)index);
    }
    case HFB_TERM_OP: return operate(in, term, args);
    case HFB_TERM_PADDED: {
      const int64_t index = in->index[term->pad_dim];
      return index >= term->low && index < term->high ? args[0] : literal(term->dtype, term->value);
    }
    default: return unknown;
  }
}

/* A whole row, term by term: reductions need all of their operand. */
static void interpret_row(interpreter *in, loop_stored_fn stored, void *context) {
  const hfb_loop *loop = in->loop;
  const int inner = loop->rank - 1;
  const int64_t count = loop->extent[inner];
  for (int t = 0; t < loop->term_count; t++) {
    const bool reduced = loop->terms[t].kind == HFB_TERM_REDUCE;
    const loop_value result = reduced ? reduce(in, &loop->terms[t]) : unknown;
    for (int64_t i = 0; i < (loop->terms[t].per_row ? in->width : count); i++) {
      in->index[inner] = i;
      in->values[t * in->width + i] = reduced ? result : evaluate(in, t);
    }
  }
  for (int s = 0; s < loop->store_count; s++) {
    const hfb_store *store = &loop->stores[s];
    const bool once = loop->terms[store->term].per_row && store->strides[inner] == 0;
    for (int64_t i = 0; i < (once ? 1 : count); i++) {
      in->index[inner] = i;
      const bool tile = store->slot == 0 && loop->kind != HFB_LOOP_ROWS;
      stored(context, s, tile ? tile_offset(in) : affine(in, store->offset, store->strides),
             in->values[store->term * in->width + i]);
    }
  }
}

hfb_status loop_interpret(const hfb_loop *loop, void *const *slots, int64_t batch, int64_t head, loop_stored_fn stored,
                          void *context) {
  interpreter in = {.loop = loop, .slots = slots};
  const int fixed = loop->kind == HFB_LOOP_TILE ? 1 : loop->kind == HFB_LOOP_SCORE ? 2 : 0; /* given dimensions */
  int64_t rows = 1;
  for (int d = fixed; d + 1 < loop->rank; d++) rows *= loop->extent[d];
  in.width = loop->extent[loop->rank - 1] > 0 ? loop->extent[loop->rank - 1] : 1;
  HFB_TRY(hfb_mem_alloc((size_t)loop->term_count, (size_t)in.width * sizeof *in.values, &in.values));
  for (int64_t row = 0; row < rows; row++) {
    int64_t rest = row;
    for (int d = loop->rank - 2; d >= fixed; d--) {
      in.index[d] = rest % loop->extent[d];
      rest /= loop->extent[d];
    }
    if (fixed >= 1) in.index[0] = batch;
    if (fixed == 2) in.index[1] = head;
    interpret_row(&in, stored, context);
  }
  hfb_mem_free(in.values);
  return HFB_OK;
}
