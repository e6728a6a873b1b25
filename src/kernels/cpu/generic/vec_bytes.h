/* Bytes of bool tensors as masks of the vector layer. */
#ifndef HFB_KERNELS_CPU_GENERIC_VEC_BYTES_H
#define HFB_KERNELS_CPU_GENERIC_VEC_BYTES_H

#include "kernels/cpu/generic/vec.h"

/* Lanes whose byte is not 0; reads VEC_F32_LANES bytes. */
static inline vec_mask hfb_vec_mask_of_bytes(const uint8_t *bytes) {
  const vec_i32 wide = {bytes[0], bytes[1], bytes[2], bytes[3]};
  return (vec_mask)(wide > 0);
}

#endif
