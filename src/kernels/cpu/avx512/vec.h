/* The vector layer for AVX-512: 16 floats. The same names exist in avx2/vec.h and generic/vec.h, so that a kernel is
 * written once, in a *_tmpl.c, and compiled in each folder. cpu/README.md lists the contract. */
#ifndef HFB_KERNELS_CPU_AVX512_VEC_H
#define HFB_KERNELS_CPU_AVX512_VEC_H

#include <immintrin.h>
#include <stdint.h>

#include "kernels/cpu/unroll.h"

typedef __m512 vec_f32;
typedef int32_t vec_i32 __attribute__((vector_size(64)));
typedef uint32_t vec_u32 __attribute__((vector_size(64)));
typedef uint64_t vec_u64 __attribute__((vector_size(64)));
typedef __mmask16 vec_mask;

enum { VEC_F32_LANES = 16 };

static inline vec_f32 hfb_vec_zero(void) { return _mm512_setzero_ps(); }
static inline vec_f32 hfb_vec_set1(float x) { return _mm512_set1_ps(x); }
static inline vec_f32 hfb_vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void hfb_vec_store(float *p, vec_f32 v) { _mm512_storeu_ps(p, v); }

static inline vec_mask hfb_vec_first_lanes(int64_t count) { return (vec_mask)((1u << count) - 1u); }
static inline vec_f32 hfb_vec_load_partial(const float *p, int64_t count) {
  return _mm512_maskz_loadu_ps(hfb_vec_first_lanes(count), p);
}
static inline void hfb_vec_store_partial(float *p, vec_f32 v, int64_t count) {
  _mm512_mask_storeu_ps(p, hfb_vec_first_lanes(count), v);
}

static inline vec_f32 hfb_vec_fma(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec_f32 hfb_vec_fnma(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vec_f32 hfb_vec_max(vec_f32 a, vec_f32 b) { return _mm512_max_ps(a, b); }
static inline vec_f32 hfb_vec_min(vec_f32 a, vec_f32 b) { return _mm512_min_ps(a, b); }
static inline vec_f32 hfb_vec_sqrt(vec_f32 x) { return _mm512_sqrt_ps(x); }
static inline vec_f32 hfb_vec_round(vec_f32 x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vec_f32 hfb_vec_floor(vec_f32 x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

static inline vec_u32 hfb_vec_bits(vec_f32 x) { return (vec_u32)x; }
static inline vec_f32 hfb_vec_from_bits(vec_u32 x) { return (vec_f32)x; }
static inline vec_u32 hfb_vec_set1_bits(uint32_t x) { return (vec_u32)_mm512_set1_epi32((int32_t)x); }
static inline vec_f32 hfb_vec_from_i32(vec_i32 x) { return _mm512_cvtepi32_ps((__m512i)x); }
static inline vec_i32 hfb_vec_to_i32(vec_f32 x) { return (vec_i32)_mm512_cvtps_epi32(x); }

static inline vec_mask hfb_vec_lt(vec_f32 a, vec_f32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vec_mask hfb_vec_le(vec_f32 a, vec_f32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline vec_mask hfb_vec_eq(vec_f32 a, vec_f32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline vec_f32 hfb_vec_select(vec_mask mask, vec_f32 yes, vec_f32 no) {
  return _mm512_mask_blend_ps(mask, no, yes);
}

static inline vec_mask hfb_vec_gt_bits(vec_u32 a, vec_u32 b) { return _mm512_cmpgt_epu32_mask((__m512i)a, (__m512i)b); }
/* a * b of the low halves of the 64-bit lanes. */
static inline vec_u64 hfb_vec_mul_wide(vec_u64 a, vec_u64 b) {
  return (vec_u64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
}
static inline vec_u64 hfb_vec_xor3(vec_u64 a, vec_u64 b, vec_u64 c) {
  return (vec_u64)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
}
/* The low halves of the 64-bit lanes, taken in turn from `even` and `odd`. */
static inline vec_u32 hfb_vec_zip_low(vec_u64 even, vec_u64 odd) {
  return (vec_u32)_mm512_mask_shuffle_epi32((__m512i)even, 0xaaaa, (__m512i)odd, _MM_PERM_CCAA);
}

/* x * 2^n for integral n, rounded once, subnormal results included. */
static inline vec_f32 hfb_vec_scale2(vec_f32 x, vec_f32 n) { return _mm512_scalef_ps(x, n); }

static inline float hfb_vec_hsum(vec_f32 x) { return _mm512_reduce_add_ps(x); }
/* out[i] is the sum of the lanes of x[i]. */
static inline void hfb_vec_hsum4(const vec_f32 x[4], float out[4]) {
  vec_f32 low = _mm512_add_ps(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
  vec_f32 high = _mm512_add_ps(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
  vec_f32 quads = _mm512_add_ps((vec_f32)_mm512_unpacklo_pd((__m512d)low, (__m512d)high),
                                (vec_f32)_mm512_unpackhi_pd((__m512d)low, (__m512d)high));
  __m256 half = _mm256_add_ps(_mm512_castps512_ps256(quads), _mm512_extractf32x8_ps(quads, 1));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
static inline float hfb_vec_hmax(vec_f32 x) { return _mm512_reduce_max_ps(x); }
static inline float hfb_vec_hmin(vec_f32 x) { return _mm512_reduce_min_ps(x); }

/* rows[i] lane j becomes rows[j] lane i: by pairs, by quads, then 128-bit blocks twice. */
HFB_ALWAYS_INLINE void hfb_vec_transpose(vec_f32 rows[VEC_F32_LANES]) {
  vec_f32 t[16];
  HFB_UNROLL for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  HFB_UNROLL for (int i = 0; i < 16; i += 4) {
    rows[i] = (vec_f32)_mm512_unpacklo_pd((__m512d)t[i], (__m512d)t[i + 2]);
    rows[i + 1] = (vec_f32)_mm512_unpackhi_pd((__m512d)t[i], (__m512d)t[i + 2]);
    rows[i + 2] = (vec_f32)_mm512_unpacklo_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
    rows[i + 3] = (vec_f32)_mm512_unpackhi_pd((__m512d)t[i + 1], (__m512d)t[i + 3]);
  }
  HFB_UNROLL for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_f32x4(rows[i], rows[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(rows[i], rows[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(rows[i + 8], rows[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(rows[i + 8], rows[i + 12], 0xdd);
  }
  HFB_UNROLL for (int i = 0; i < 8; i++) {
    rows[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    rows[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
  }
}

#include "kernels/cpu/vec_math.h"

#endif
