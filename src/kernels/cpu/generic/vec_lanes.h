/* Moving lanes, for the few kernels that do: masks from bytes, interleaving, reversing. */
#ifndef HFB_KERNELS_CPU_GENERIC_VEC_LANES_H
#define HFB_KERNELS_CPU_GENERIC_VEC_LANES_H

#include "kernels/cpu/generic/vec.h"

/* Lanes whose byte is not 0; reads VEC_F32_LANES bytes. */
static inline vec_mask hfb_vec_mask_of_bytes(const uint8_t *bytes) {
  const vec_i32 wide = {bytes[0], bytes[1], bytes[2], bytes[3]};
  return (vec_mask)(wide > 0);
}

/* a0 b0 a1 b1 ... of the lower halves, of the upper halves. */
static inline vec_f32 hfb_vec_interleave_low(vec_f32 a, vec_f32 b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
static inline vec_f32 hfb_vec_interleave_high(vec_f32 a, vec_f32 b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
static inline vec_f32 hfb_vec_reverse(vec_f32 x) {
  return __builtin_shufflevector(x, x, 3, 2, 1, 0);
}

#endif
