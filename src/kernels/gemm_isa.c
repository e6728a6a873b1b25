#include "kernels/gemm_isa.h"

#include <stddef.h>

const hfb_gemm_isa *hfb_gemm_isa_select(hfb_dtype dtype, hfb_isa isa) {
  if (dtype != HFB_F32 && dtype != HFB_F64) return NULL;
#if defined(__x86_64__)
  if (isa >= HFB_ISA_AVX512) return dtype == HFB_F32 ? &hfb_gemm_f32_avx512 : &hfb_gemm_f64_avx512;
  if (isa >= HFB_ISA_AVX2) return dtype == HFB_F32 ? &hfb_gemm_f32_avx2 : &hfb_gemm_f64_avx2;
#endif
  return dtype == HFB_F32 ? &hfb_gemm_f32_generic : &hfb_gemm_f64_generic;
}

int64_t hfb_gemm_panel_width(const hfb_gemm_isa *kernels, int64_t n) {
  int best = 0;
  double best_cost = 0;
  for (int vectors = 1; vectors <= HFB_GEMM_MAX_VECTORS; vectors++) {
    if (kernels->max_rows[vectors] == 0) continue;
    const int64_t width = (int64_t)vectors * kernels->lanes;
    const int64_t tail_vectors = (n % width + kernels->lanes - 1) / kernels->lanes;
    const double cost = (double)(n / width) * kernels->row_cost[vectors] + kernels->row_cost[tail_vectors];
    if (best == 0 || cost < best_cost) {
      best = vectors;
      best_cost = cost;
    }
  }
  return (int64_t)best * kernels->lanes;
}
