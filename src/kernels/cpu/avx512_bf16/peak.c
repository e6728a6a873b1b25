#include "kernels/cpu/avx512/vec.h"
#include "kernels/peak_isa.h"

enum { CHAINS = 16 }; /* independent: they hide the latency */

double hfb_peak_bf16_avx512_bf16(int64_t steps, float *sink) {
  const __m512bh factor = (__m512bh)_mm512_set1_epi32(0x3f803f80); /* 1.0 twice */
  const __m512bh term = (__m512bh)_mm512_set1_ps(*sink);
  vec_f32 x[CHAINS];
  HFB_UNROLL for (int i = 0; i < CHAINS; i++) x[i] = hfb_vec_set1(*sink * (float)i);
  HFB_NO_UNROLL for (int64_t step = 0; step < steps; step++) {
    HFB_UNROLL for (int i = 0; i < CHAINS; i++) x[i] = _mm512_dpbf16_ps(x[i], factor, term);
  }
  HFB_UNROLL for (int i = 1; i < CHAINS; i++) x[0] = x[0] + x[i];
  *sink = hfb_vec_hsum(x[0]);
  return 4.0 * VEC_F32_LANES * CHAINS * (double)steps;
}
