/* The part of the vector layer that matrix products need, for double: 2 lanes. */
#ifndef HFB_KERNELS_CPU_GENERIC_VEC_F64_H
#define HFB_KERNELS_CPU_GENERIC_VEC_F64_H

#include <stdint.h>
#include <string.h>

#include "kernels/cpu/unroll.h"

typedef double vec_f64 __attribute__((vector_size(16)));

enum { VEC_F64_LANES = 2 };

static inline vec_f64 hfb_vec_f64_zero(void) { return (vec_f64){0}; }
static inline vec_f64 hfb_vec_f64_set1(double x) { return (vec_f64){x, x}; }
static inline vec_f64 hfb_vec_f64_load(const double *p) {
  vec_f64 v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline void hfb_vec_f64_store(double *p, vec_f64 v) { memcpy(p, &v, sizeof v); }
static inline vec_f64 hfb_vec_f64_load_partial(const double *p, int64_t count) {
  vec_f64 v = hfb_vec_f64_zero();
  for (int64_t i = 0; i < count; i++) v[i] = p[i];
  return v;
}
static inline void hfb_vec_f64_store_partial(double *p, vec_f64 v, int64_t count) {
  for (int64_t i = 0; i < count; i++) p[i] = v[i];
}
static inline vec_f64 hfb_vec_f64_fma(vec_f64 a, vec_f64 b, vec_f64 c) { return a * b + c; }
static inline double hfb_vec_f64_hsum(vec_f64 x) { return x[0] + x[1]; }
/* out[i] is the sum of the lanes of x[i]. */
static inline void hfb_vec_f64_hsum4(const vec_f64 x[4], double out[4]) {
  for (int i = 0; i < 4; i++) out[i] = hfb_vec_f64_hsum(x[i]);
}

HFB_ALWAYS_INLINE void hfb_vec_f64_transpose(vec_f64 rows[VEC_F64_LANES]) {
  vec_f64 first = __builtin_shufflevector(rows[0], rows[1], 0, 2);
  rows[1] = __builtin_shufflevector(rows[0], rows[1], 1, 3);
  rows[0] = first;
}

#endif
