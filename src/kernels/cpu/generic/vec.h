/* The vector layer in the compilers' portable vectors: 4 floats, the baseline of x86-64 and AArch64. No fused
 * multiply-add is assumed. See cpu/README.md for the contract. */
#ifndef HFB_KERNELS_CPU_GENERIC_VEC_H
#define HFB_KERNELS_CPU_GENERIC_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/unroll.h"

typedef float vec_f32 __attribute__((vector_size(16)));
typedef int32_t vec_i32 __attribute__((vector_size(16)));
typedef uint32_t vec_u32 __attribute__((vector_size(16)));
typedef uint64_t vec_u64 __attribute__((vector_size(16)));
typedef vec_i32 vec_mask; /* 0 or -1 in each lane */

enum { VEC_F32_LANES = 4 };

static inline vec_f32 hfb_vec_zero(void) { return (vec_f32){0}; }
static inline vec_f32 hfb_vec_set1(float x) { return (vec_f32){x, x, x, x}; }
static inline vec_f32 hfb_vec_load(const float *p) {
  vec_f32 v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline void hfb_vec_store(float *p, vec_f32 v) { memcpy(p, &v, sizeof v); }

static inline vec_mask hfb_vec_first_lanes(int64_t count) {
  const vec_i32 lane = {0, 1, 2, 3};
  const int32_t n = (int32_t)count;
  return lane < (vec_i32){n, n, n, n};
}
static inline vec_f32 hfb_vec_load_partial(const float *p, int64_t count) {
  vec_f32 v = hfb_vec_zero();
  for (int64_t i = 0; i < count; i++) v[i] = p[i];
  return v;
}
static inline void hfb_vec_store_partial(float *p, vec_f32 v, int64_t count) {
  for (int64_t i = 0; i < count; i++) p[i] = v[i];
}

static inline vec_mask hfb_vec_lt(vec_f32 a, vec_f32 b) { return (vec_mask)(a < b); }
static inline vec_mask hfb_vec_le(vec_f32 a, vec_f32 b) { return (vec_mask)(a <= b); }
static inline vec_mask hfb_vec_eq(vec_f32 a, vec_f32 b) { return (vec_mask)(a == b); }
static inline vec_f32 hfb_vec_select(vec_mask mask, vec_f32 yes, vec_f32 no) {
  return (vec_f32)((mask & (vec_i32)yes) | (~mask & (vec_i32)no));
}

static inline vec_mask hfb_vec_gt_bits(vec_u32 a, vec_u32 b) { return (vec_mask)(a > b); }
static inline vec_u64 hfb_vec_mul_wide(vec_u64 a, vec_u64 b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
static inline vec_u64 hfb_vec_xor3(vec_u64 a, vec_u64 b, vec_u64 c) { return a ^ b ^ c; }
static inline vec_u32 hfb_vec_zip_low(vec_u64 even, vec_u64 odd) {
  return (vec_u32)__builtin_shufflevector((vec_u32)even, (vec_u32)odd, 0, 4, 2, 6);
}

static inline vec_f32 hfb_vec_fma(vec_f32 a, vec_f32 b, vec_f32 c) { return a * b + c; }
static inline vec_f32 hfb_vec_fnma(vec_f32 a, vec_f32 b, vec_f32 c) { return c - a * b; }
static inline vec_f32 hfb_vec_max(vec_f32 a, vec_f32 b) { return hfb_vec_select(hfb_vec_lt(b, a), a, b); }
static inline vec_f32 hfb_vec_min(vec_f32 a, vec_f32 b) { return hfb_vec_select(hfb_vec_lt(a, b), a, b); }
static inline vec_f32 hfb_vec_sqrt(vec_f32 x) {
  for (int i = 0; i < VEC_F32_LANES; i++) x[i] = sqrtf(x[i]);
  return x;
}

static inline vec_u32 hfb_vec_bits(vec_f32 x) { return (vec_u32)x; }
static inline vec_f32 hfb_vec_from_bits(vec_u32 x) { return (vec_f32)x; }
static inline vec_u32 hfb_vec_set1_bits(uint32_t x) { return (vec_u32){x, x, x, x}; }
static inline vec_f32 hfb_vec_from_i32(vec_i32 x) { return __builtin_convertvector(x, vec_f32); }

/* Adding 2^23 to a magnitude pushes its fraction out, with the rounding of the hardware (to nearest even). From 2^23 on
 * there is no fraction; such values and nan pass through. */
static inline vec_f32 hfb_vec_round(vec_f32 x) {
  const vec_f32 shift = hfb_vec_set1(0x1p23f);
  vec_f32 magnitude = (vec_f32)((vec_u32)x & 0x7fffffffu);
  vec_f32 rounded = (magnitude + shift) - shift;
  rounded = (vec_f32)((vec_u32)rounded | ((vec_u32)x & 0x80000000u));
  return hfb_vec_select(hfb_vec_lt(magnitude, shift), rounded, x);
}
static inline vec_i32 hfb_vec_to_i32(vec_f32 x) { return __builtin_convertvector(hfb_vec_round(x), vec_i32); }
static inline vec_f32 hfb_vec_floor(vec_f32 x) {
  for (int i = 0; i < VEC_F32_LANES; i++) x[i] = floorf(x[i]);
  return x;
}

/* x * 2^n for integral n in [-252, 254], subnormal results included: two exact powers, so only the last product
 * rounds. */
static inline vec_f32 hfb_vec_scale2(vec_f32 x, vec_f32 n) {
  vec_i32 whole = hfb_vec_to_i32(n);
  vec_i32 half = whole >> 1;
  vec_f32 low = (vec_f32)((vec_u32)(half + 127) << 23);
  vec_f32 high = (vec_f32)((vec_u32)(whole - half + 127) << 23);
  return x * low * high;
}

static inline float hfb_vec_hsum(vec_f32 x) { return (x[0] + x[2]) + (x[1] + x[3]); }
/* out[i] is the sum of the lanes of x[i]. */
static inline void hfb_vec_hsum4(const vec_f32 x[4], float out[4]) {
  for (int i = 0; i < 4; i++) out[i] = hfb_vec_hsum(x[i]);
}
static inline float hfb_vec_hmax(vec_f32 x) {
  float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
}
static inline float hfb_vec_hmin(vec_f32 x) {
  float a = x[0] < x[2] ? x[0] : x[2], b = x[1] < x[3] ? x[1] : x[3];
  return a < b ? a : b;
}

/* rows[i] lane j becomes rows[j] lane i. */
HFB_ALWAYS_INLINE void hfb_vec_transpose(vec_f32 rows[VEC_F32_LANES]) {
  vec_f32 a = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
  vec_f32 b = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
  vec_f32 c = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
  vec_f32 d = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
  rows[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  rows[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  rows[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  rows[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

#include "kernels/cpu/vec_math.h"

#endif
