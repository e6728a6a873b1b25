/* Included by <isa>/peak.c after vec.h and vec_f64.h, with PEAK_F32 and PEAK_F64 the names of the instances and
 * PEAK_CHAINS the number of independent multiply-adds: enough to hide their latency, few enough for the registers. */
#include "kernels/cpu/unroll.h"
#include "kernels/peak_isa.h"

double PEAK_F32(int64_t steps, float *sink) {
  /* Runtime values, so that nothing can be computed in advance; the fixed point of x * 0.5 + 1 keeps them normal. */
  const vec_f32 factor = hfb_vec_set1(*sink), term = hfb_vec_set1(*sink + *sink);
  vec_f32 x[PEAK_CHAINS];
  HFB_UNROLL for (int i = 0; i < PEAK_CHAINS; i++) x[i] = hfb_vec_set1(*sink * (float)i);
  HFB_NO_UNROLL for (int64_t step = 0; step < steps; step++) {
    HFB_UNROLL for (int i = 0; i < PEAK_CHAINS; i++) x[i] = hfb_vec_fma(x[i], factor, term);
  }
  HFB_UNROLL for (int i = 1; i < PEAK_CHAINS; i++) x[0] = x[0] + x[i];
  *sink = hfb_vec_hsum(x[0]);
  return 2.0 * VEC_F32_LANES * PEAK_CHAINS * (double)steps;
}

double PEAK_F64(int64_t steps, float *sink) {
  const vec_f64 factor = hfb_vec_f64_set1(*sink), term = hfb_vec_f64_set1(*sink + *sink);
  vec_f64 x[PEAK_CHAINS];
  HFB_UNROLL for (int i = 0; i < PEAK_CHAINS; i++) x[i] = hfb_vec_f64_set1(*sink * (float)i);
  HFB_NO_UNROLL for (int64_t step = 0; step < steps; step++) {
    HFB_UNROLL for (int i = 0; i < PEAK_CHAINS; i++) x[i] = hfb_vec_f64_fma(x[i], factor, term);
  }
  HFB_UNROLL for (int i = 1; i < PEAK_CHAINS; i++) x[0] = x[0] + x[i];
  *sink = (float)hfb_vec_f64_hsum(x[0]);
  return 2.0 * VEC_F64_LANES * PEAK_CHAINS * (double)steps;
}
