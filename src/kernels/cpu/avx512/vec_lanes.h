/* Moving lanes, for the few kernels that do: masks from bytes, interleaving, reversing. */
#ifndef HFB_KERNELS_CPU_AVX512_VEC_LANES_H
#define HFB_KERNELS_CPU_AVX512_VEC_LANES_H

#include "kernels/cpu/avx512/vec.h"

/* Lanes whose byte is not 0; reads VEC_F32_LANES bytes. */
static inline vec_mask hfb_vec_mask_of_bytes(const uint8_t *bytes) {
  __m128i loaded = _mm_loadu_si128((const __m128i *)bytes);
  return _mm_test_epi8_mask(loaded, loaded);
}

/* a0 b0 a1 b1 ... of the lower halves, of the upper halves. */
static inline vec_f32 hfb_vec_interleave_low(vec_f32 a, vec_f32 b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
static inline vec_f32 hfb_vec_interleave_high(vec_f32 a, vec_f32 b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
static inline vec_f32 hfb_vec_reverse(vec_f32 x) {
  return __builtin_shufflevector(x, x, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

#endif
