/* The vector layer for AVX2 with FMA: 8 floats. See cpu/README.md for the contract. */
#ifndef HFB_KERNELS_CPU_AVX2_VEC_H
#define HFB_KERNELS_CPU_AVX2_VEC_H

#include <immintrin.h>
#include <stdint.h>

#include "kernels/cpu/unroll.h"

typedef __m256 vec_f32;
typedef int32_t vec_i32 __attribute__((vector_size(32)));
typedef uint32_t vec_u32 __attribute__((vector_size(32)));
typedef uint64_t vec_u64 __attribute__((vector_size(32)));
typedef vec_i32 vec_mask; /* 0 or -1 in each lane */

enum { VEC_F32_LANES = 8 };

static inline vec_f32 hfb_vec_zero(void) { return _mm256_setzero_ps(); }
static inline vec_f32 hfb_vec_set1(float x) { return _mm256_set1_ps(x); }
static inline vec_f32 hfb_vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void hfb_vec_store(float *p, vec_f32 v) { _mm256_storeu_ps(p, v); }

static inline vec_mask hfb_vec_first_lanes(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (vec_mask)_mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)count), lane);
}
static inline vec_f32 hfb_vec_load_partial(const float *p, int64_t count) {
  return _mm256_maskload_ps(p, (__m256i)hfb_vec_first_lanes(count));
}
static inline void hfb_vec_store_partial(float *p, vec_f32 v, int64_t count) {
  _mm256_maskstore_ps(p, (__m256i)hfb_vec_first_lanes(count), v);
}

static inline vec_f32 hfb_vec_fma(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec_f32 hfb_vec_fnma(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vec_f32 hfb_vec_max(vec_f32 a, vec_f32 b) { return _mm256_max_ps(a, b); }
static inline vec_f32 hfb_vec_min(vec_f32 a, vec_f32 b) { return _mm256_min_ps(a, b); }
static inline vec_f32 hfb_vec_sqrt(vec_f32 x) { return _mm256_sqrt_ps(x); }
static inline vec_f32 hfb_vec_round(vec_f32 x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vec_f32 hfb_vec_floor(vec_f32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }

static inline vec_u32 hfb_vec_bits(vec_f32 x) { return (vec_u32)x; }
static inline vec_f32 hfb_vec_from_bits(vec_u32 x) { return (vec_f32)x; }
static inline vec_u32 hfb_vec_set1_bits(uint32_t x) { return (vec_u32)_mm256_set1_epi32((int32_t)x); }
static inline vec_f32 hfb_vec_from_i32(vec_i32 x) { return _mm256_cvtepi32_ps((__m256i)x); }
static inline vec_i32 hfb_vec_to_i32(vec_f32 x) { return (vec_i32)_mm256_cvtps_epi32(x); }

static inline vec_mask hfb_vec_lt(vec_f32 a, vec_f32 b) { return (vec_mask)_mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vec_mask hfb_vec_le(vec_f32 a, vec_f32 b) { return (vec_mask)_mm256_cmp_ps(a, b, _CMP_LE_OQ); }
static inline vec_mask hfb_vec_eq(vec_f32 a, vec_f32 b) { return (vec_mask)_mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
static inline vec_f32 hfb_vec_select(vec_mask mask, vec_f32 yes, vec_f32 no) {
  return _mm256_blendv_ps(no, yes, (__m256)mask);
}

static inline vec_mask hfb_vec_gt_bits(vec_u32 a, vec_u32 b) { return (vec_mask)(a > b); }
static inline vec_u64 hfb_vec_mul_wide(vec_u64 a, vec_u64 b) {
  return (vec_u64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
}
static inline vec_u64 hfb_vec_xor3(vec_u64 a, vec_u64 b, vec_u64 c) { return a ^ b ^ c; }
static inline vec_u32 hfb_vec_zip_low(vec_u64 even, vec_u64 odd) {
  return (vec_u32)_mm256_blend_epi32((__m256i)even, _mm256_slli_epi64((__m256i)odd, 32), 0xaa);
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

static inline float hfb_vec_hsum(vec_f32 x) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
/* out[i] is the sum of the lanes of x[i]. */
static inline void hfb_vec_hsum4(const vec_f32 x[4], float out[4]) {
  vec_f32 low = _mm256_add_ps(_mm256_unpacklo_ps(x[0], x[1]), _mm256_unpackhi_ps(x[0], x[1]));
  vec_f32 high = _mm256_add_ps(_mm256_unpacklo_ps(x[2], x[3]), _mm256_unpackhi_ps(x[2], x[3]));
  vec_f32 quads = _mm256_add_ps((vec_f32)_mm256_unpacklo_pd((__m256d)low, (__m256d)high),
                                (vec_f32)_mm256_unpackhi_pd((__m256d)low, (__m256d)high));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1)));
}
static inline float hfb_vec_hmax(vec_f32 x) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
static inline float hfb_vec_hmin(vec_f32 x) {
  __m128 s = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  s = _mm_min_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_min_ss(s, _mm_movehdup_ps(s)));
}

/* rows[i] lane j becomes rows[j] lane i. */
HFB_ALWAYS_INLINE void hfb_vec_transpose(vec_f32 rows[VEC_F32_LANES]) {
  vec_f32 t[8];
  HFB_UNROLL for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  HFB_UNROLL for (int i = 0; i < 8; i += 4) {
    rows[i] = (vec_f32)_mm256_unpacklo_pd((__m256d)t[i], (__m256d)t[i + 2]);
    rows[i + 1] = (vec_f32)_mm256_unpackhi_pd((__m256d)t[i], (__m256d)t[i + 2]);
    rows[i + 2] = (vec_f32)_mm256_unpacklo_pd((__m256d)t[i + 1], (__m256d)t[i + 3]);
    rows[i + 3] = (vec_f32)_mm256_unpackhi_pd((__m256d)t[i + 1], (__m256d)t[i + 3]);
  }
  HFB_UNROLL for (int i = 0; i < 4; i++) {
    vec_f32 low = _mm256_permute2f128_ps(rows[i], rows[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2f128_ps(rows[i], rows[i + 4], 0x31);
    rows[i] = low;
  }
}

#include "kernels/cpu/vec_math.h"

#endif
