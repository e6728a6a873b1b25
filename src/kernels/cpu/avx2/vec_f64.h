/* The part of the vector layer that matrix products need, for double: 4 lanes. */
#ifndef HFB_KERNELS_CPU_AVX2_VEC_F64_H
#define HFB_KERNELS_CPU_AVX2_VEC_F64_H

#include <immintrin.h>
#include <stdint.h>

#include "kernels/cpu/unroll.h"

typedef __m256d vec_f64;

enum { VEC_F64_LANES = 4 };

static inline vec_f64 hfb_vec_f64_zero(void) { return _mm256_setzero_pd(); }
static inline vec_f64 hfb_vec_f64_set1(double x) { return _mm256_set1_pd(x); }
static inline vec_f64 hfb_vec_f64_load(const double *p) { return _mm256_loadu_pd(p); }
static inline void hfb_vec_f64_store(double *p, vec_f64 v) { _mm256_storeu_pd(p, v); }
static inline __m256i hfb_vec_f64_first_lanes(int64_t count) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
static inline vec_f64 hfb_vec_f64_load_partial(const double *p, int64_t count) {
  return _mm256_maskload_pd(p, hfb_vec_f64_first_lanes(count));
}
static inline void hfb_vec_f64_store_partial(double *p, vec_f64 v, int64_t count) {
  _mm256_maskstore_pd(p, hfb_vec_f64_first_lanes(count), v);
}
static inline vec_f64 hfb_vec_f64_fma(vec_f64 a, vec_f64 b, vec_f64 c) { return _mm256_fmadd_pd(a, b, c); }
static inline double hfb_vec_f64_hsum(vec_f64 x) { return (x[0] + x[2]) + (x[1] + x[3]); }
/* out[i] is the sum of the lanes of x[i]. */
static inline void hfb_vec_f64_hsum4(const vec_f64 x[4], double out[4]) {
  for (int i = 0; i < 4; i++) out[i] = hfb_vec_f64_hsum(x[i]);
}

HFB_ALWAYS_INLINE void hfb_vec_f64_transpose(vec_f64 rows[VEC_F64_LANES]) {
  vec_f64 a = _mm256_unpacklo_pd(rows[0], rows[1]), b = _mm256_unpackhi_pd(rows[0], rows[1]);
  vec_f64 c = _mm256_unpacklo_pd(rows[2], rows[3]), d = _mm256_unpackhi_pd(rows[2], rows[3]);
  rows[0] = _mm256_permute2f128_pd(a, c, 0x20);
  rows[1] = _mm256_permute2f128_pd(b, d, 0x20);
  rows[2] = _mm256_permute2f128_pd(a, c, 0x31);
  rows[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

#endif
