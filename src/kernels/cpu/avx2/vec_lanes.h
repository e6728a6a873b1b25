/* Moving lanes, for the few kernels that do: masks from bytes, interleaving, reversing. */
#ifndef HFB_KERNELS_CPU_AVX2_VEC_LANES_H
#define HFB_KERNELS_CPU_AVX2_VEC_LANES_H

#include "kernels/cpu/avx2/vec.h"

/* Lanes whose byte is not 0; reads VEC_F32_LANES bytes. */
static inline vec_mask hfb_vec_mask_of_bytes(const uint8_t *bytes) {
  __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)bytes));
  return (vec_mask)_mm256_cmpgt_epi32(wide, _mm256_setzero_si256());
}

/* a0 b0 a1 b1 ... of the lower halves, of the upper halves. */
static inline vec_f32 hfb_vec_interleave_low(vec_f32 a, vec_f32 b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
static inline vec_f32 hfb_vec_interleave_high(vec_f32 a, vec_f32 b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
static inline vec_f32 hfb_vec_reverse(vec_f32 x) {
  return __builtin_shufflevector(x, x, 7, 6, 5, 4, 3, 2, 1, 0);
}

#endif
