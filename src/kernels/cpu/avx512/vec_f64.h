/* The part of the vector layer that matrix products need, for double: 8 lanes. */
#ifndef HFB_KERNELS_CPU_AVX512_VEC_F64_H
#define HFB_KERNELS_CPU_AVX512_VEC_F64_H

#include <immintrin.h>
#include <stdint.h>

#include "kernels/cpu/unroll.h"

typedef __m512d vec_f64;

enum { VEC_F64_LANES = 8 };

static inline vec_f64 hfb_vec_f64_zero(void) { return _mm512_setzero_pd(); }
static inline vec_f64 hfb_vec_f64_set1(double x) { return _mm512_set1_pd(x); }
static inline vec_f64 hfb_vec_f64_load(const double *p) { return _mm512_loadu_pd(p); }
static inline void hfb_vec_f64_store(double *p, vec_f64 v) { _mm512_storeu_pd(p, v); }
static inline vec_f64 hfb_vec_f64_load_partial(const double *p, int64_t count) {
  return _mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1u), p);
}
static inline void hfb_vec_f64_store_partial(double *p, vec_f64 v, int64_t count) {
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << count) - 1u), v);
}
static inline vec_f64 hfb_vec_f64_fma(vec_f64 a, vec_f64 b, vec_f64 c) { return _mm512_fmadd_pd(a, b, c); }
static inline double hfb_vec_f64_hsum(vec_f64 x) { return _mm512_reduce_add_pd(x); }
/* out[i] is the sum of the lanes of x[i]. */
static inline void hfb_vec_f64_hsum4(const vec_f64 x[4], double out[4]) {
  for (int i = 0; i < 4; i++) out[i] = hfb_vec_f64_hsum(x[i]);
}

HFB_ALWAYS_INLINE void hfb_vec_f64_transpose(vec_f64 rows[VEC_F64_LANES]) {
  vec_f64 t[8];
  HFB_UNROLL for (int i = 0; i < 8; i += 2) {
    t[i] = _mm512_unpacklo_pd(rows[i], rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_pd(rows[i], rows[i + 1]);
  }
  HFB_UNROLL for (int i = 0; i < 2; i++) {
    rows[i] = _mm512_shuffle_f64x2(t[i], t[i + 2], 0x88);
    rows[i + 2] = _mm512_shuffle_f64x2(t[i], t[i + 2], 0xdd);
    rows[i + 4] = _mm512_shuffle_f64x2(t[i + 4], t[i + 6], 0x88);
    rows[i + 6] = _mm512_shuffle_f64x2(t[i + 4], t[i + 6], 0xdd);
  }
  HFB_UNROLL for (int i = 0; i < 4; i++) {
    vec_f64 even = _mm512_shuffle_f64x2(rows[i], rows[i + 4], 0x88);
    rows[i + 4] = _mm512_shuffle_f64x2(rows[i], rows[i + 4], 0xdd);
    rows[i] = even;
  }
}

#endif
