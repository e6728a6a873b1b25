/* Bytes of bool tensors as masks of the vector layer. */
#ifndef HFB_KERNELS_CPU_AVX512_VEC_BYTES_H
#define HFB_KERNELS_CPU_AVX512_VEC_BYTES_H

#include "kernels/cpu/avx512/vec.h"

/* Lanes whose byte is not 0; reads VEC_F32_LANES bytes. */
static inline vec_mask hfb_vec_mask_of_bytes(const uint8_t *bytes) {
  __m128i loaded = _mm_loadu_si128((const __m128i *)bytes);
  return _mm_test_epi8_mask(loaded, loaded);
}

#endif
