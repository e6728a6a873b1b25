/* Bytes of bool tensors as masks of the vector layer. */
#ifndef HFB_KERNELS_CPU_AVX2_VEC_BYTES_H
#define HFB_KERNELS_CPU_AVX2_VEC_BYTES_H

#include "kernels/cpu/avx2/vec.h"

/* Lanes whose byte is not 0; reads VEC_F32_LANES bytes. */
static inline vec_mask hfb_vec_mask_of_bytes(const uint8_t *bytes) {
  __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)bytes));
  return (vec_mask)_mm256_cmpgt_epi32(wide, _mm256_setzero_si256());
}

#endif
