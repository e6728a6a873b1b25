#include "kernels/cpu/vec_unary.h"

void hfb_vec_unary(hfb_isa isa, hfb_vec_function function, const float *x, float *y, int64_t count) {
#if defined(__x86_64__)
  if (isa >= HFB_ISA_AVX512) {
    hfb_vec_unary_avx512(function, x, y, count);
    return;
  }
  if (isa >= HFB_ISA_AVX2) {
    hfb_vec_unary_avx2(function, x, y, count);
    return;
  }
#endif
  hfb_vec_unary_generic(function, x, y, count);
}
