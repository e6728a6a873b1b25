/* Every conversion goes through double (from float types) or int64 (from integer types), both exact, in blocks that
 * stay in the first cache: eight loads and sixteen stores instead of 64 pairs. */
#include "device/convert.h"

#include "base/half.h"

/* Out of range and nan give the smallest integer, as the processor's own conversion does; in C it is undefined. */
static int64_t integer_of(double value) {
  return value >= -9223372036854775808.0 && value < 9223372036854775808.0 ? (int64_t)value : INT64_MIN;
}

#define DTYPE f32
#define WIDE double
#define T float
#define TO_WIDE(x) (x)
#define OF_F64(x) (float)(x)
#define OF_I64(x) (float)(x)
#include "device/convert_tmpl.c"

#define DTYPE f64
#define WIDE double
#define T double
#define TO_WIDE(x) (x)
#define OF_F64(x) (x)
#define OF_I64(x) (double)(x)
#include "device/convert_tmpl.c"

#define DTYPE bf16
#define WIDE double
#define T uint16_t
#define TO_WIDE(x) hfb_bf16_to_f32(x)
#define OF_F64(x) hfb_f32_to_bf16((float)(x))
#define OF_I64(x) hfb_f32_to_bf16((float)(x))
#include "device/convert_tmpl.c"

#define DTYPE f16
#define WIDE double
#define T uint16_t
#define TO_WIDE(x) hfb_f16_to_f32(x)
#define OF_F64(x) hfb_f32_to_f16((float)(x))
#define OF_I64(x) hfb_f32_to_f16((float)(x))
#include "device/convert_tmpl.c"

#define DTYPE i64
#define WIDE int64_t
#define T int64_t
#define TO_WIDE(x) (x)
#define OF_F64(x) integer_of(x)
#define OF_I64(x) (x)
#include "device/convert_tmpl.c"

#define DTYPE i32
#define WIDE int64_t
#define T int32_t
#define TO_WIDE(x) (x)
#define OF_F64(x) (int32_t)integer_of(x)
#define OF_I64(x) (int32_t)(x)
#include "device/convert_tmpl.c"

#define DTYPE u8
#define WIDE int64_t
#define T uint8_t
#define TO_WIDE(x) (x)
#define OF_F64(x) (uint8_t)integer_of(x)
#define OF_I64(x) (uint8_t)(x)
#include "device/convert_tmpl.c"

#define DTYPE boolean
#define WIDE int64_t
#define T uint8_t
#define TO_WIDE(x) (x)
#define OF_F64(x) ((x) != 0)
#define OF_I64(x) ((x) != 0)
#include "device/convert_tmpl.c"

typedef struct converter {
  void (*load)(const char *from, int64_t stride, void *wide, int64_t count);
  void (*store_f64)(const double *wide, char *to, int64_t stride, int64_t count);
  void (*store_i64)(const int64_t *wide, char *to, int64_t stride, int64_t count);
} converter;

static const converter converters[HFB_DTYPE_COUNT] = {
    [HFB_F32] = {load_f32, store_f64_f32, store_i64_f32},    [HFB_F64] = {load_f64, store_f64_f64, store_i64_f64},
    [HFB_BF16] = {load_bf16, store_f64_bf16, store_i64_bf16}, [HFB_F16] = {load_f16, store_f64_f16, store_i64_f16},
    [HFB_I64] = {load_i64, store_f64_i64, store_i64_i64},    [HFB_I32] = {load_i32, store_f64_i32, store_i64_i32},
    [HFB_U8] = {load_u8, store_f64_u8, store_i64_u8},
    [HFB_BOOL] = {load_boolean, store_f64_boolean, store_i64_boolean},
};

/* Rows without gaps in the pairs that weights are widened by: straight, as fast as memory. */
static bool widen_row(hfb_dtype from_dtype, const char *from, hfb_dtype to_dtype, char *to, int64_t count) {
  if (from_dtype == HFB_BF16 && to_dtype == HFB_F32) {
    hfb_bf16_row_to_f32((const uint16_t *)from, count, (float *)to);
    return true;
  }
  if (from_dtype != HFB_F32 || to_dtype != HFB_F64) return false;
  const float *values = (const float *)from;
  double *wide = (double *)to;
  for (int64_t i = 0; i < count; i++) wide[i] = values[i];
  return true;
}

void hfb_convert_row(hfb_dtype from_dtype, const char *from, int64_t from_stride, hfb_dtype to_dtype, char *to,
                     int64_t to_stride, int64_t count) {
  enum { BLOCK = 256 };
  union {
    double f64[BLOCK];
    int64_t i64[BLOCK];
  } wide;
  const bool has_gaps =
      from_stride != (int64_t)hfb_dtype_bytes(from_dtype) || to_stride != (int64_t)hfb_dtype_bytes(to_dtype);
  if (!has_gaps && widen_row(from_dtype, from, to_dtype, to, count)) return;
  bool from_float = hfb_dtype_is_float(from_dtype);
  for (int64_t begin = 0; begin < count; begin += BLOCK) {
    int64_t block = count - begin < BLOCK ? count - begin : BLOCK;
    char *target = to + begin * to_stride;
    converters[from_dtype].load(from + begin * from_stride, from_stride, &wide, block);
    if (from_float) {
      converters[to_dtype].store_f64(wide.f64, target, to_stride, block);
    } else {
      converters[to_dtype].store_i64(wide.i64, target, to_stride, block);
    }
  }
}
