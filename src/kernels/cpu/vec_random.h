/* Masks of random ops (base/rng.h) on the vector layer: 64 elements in a row for one evaluation of Philox on 16
 * counters. Included after <isa>/vec.h.
 *
 * A counter has a 64-bit lane, in whose low half each of its words lives: that is where the widening multiplication
 * takes its operands from, so the low half of a product needs no masking and the high half one shift. */
#ifndef HFB_KERNELS_CPU_VEC_RANDOM_H
#define HFB_KERNELS_CPU_VEC_RANDOM_H

#include <stdint.h>
#include <string.h>

enum {
  VEC_RANDOM_GROUP = 64,                                    /* elements */
  VEC_RANDOM_VECTORS = VEC_RANDOM_GROUP / VEC_F32_LANES,    /* of such a group */
  VEC_RANDOM_COUNTERS = 16,
  VEC_RANDOM_ROUNDS = 10,
};

typedef struct vec_random {
  uint64_t keys[VEC_RANDOM_ROUNDS][2]; /* as wide as the lanes that they are spread over */
  uint64_t step, site;
} vec_random;

static inline vec_random hfb_vec_random_start(int64_t seed, int64_t step, int64_t site) {
  vec_random random = {.step = (uint32_t)step, .site = (uint32_t)site};
  for (uint32_t round = 0; round < VEC_RANDOM_ROUNDS; round++) {
    random.keys[round][0] = (uint32_t)((uint32_t)seed + round * 0x9E3779B9u);
    random.keys[round][1] = (uint32_t)((uint32_t)((uint64_t)seed >> 32) + round * 0xBB67AE85u);
  }
  return random;
}

/* The four words of the counters first, first + 2, first + 4 .. */
HFB_ALWAYS_INLINE void hfb_vec_random_lanes(const vec_random *random, uint64_t first, vec_u64 words[4]) {
  static const uint64_t steps[8] = {0, 2, 4, 6, 8, 10, 12, 14};
  const vec_u64 zero = {0};
  vec_u64 c0, c1 = zero + (first >> 32), c2 = zero + random->step, c3 = zero + random->site;
  memcpy(&c0, steps, sizeof(c0));
  c0 += (uint32_t)first;
  HFB_UNROLL for (int round = 0; round < VEC_RANDOM_ROUNDS; round++) {
    const vec_u64 product0 = hfb_vec_mul_wide(zero + 0xD2511F53u, c0);
    const vec_u64 product1 = hfb_vec_mul_wide(zero + 0xCD9E8D57u, c2);
    c0 = hfb_vec_xor3(product1 >> 32, c1, zero + random->keys[round][0]);
    c1 = product1;
    c2 = hfb_vec_xor3(product0 >> 32, c3, zero + random->keys[round][1]);
    c3 = product0;
  }
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

/* hfb_random_word of the elements [64 * group, 64 * group + 64). */
HFB_ALWAYS_INLINE void hfb_vec_random_group(const vec_random *random, int64_t group, vec_u32 out[VEC_RANDOM_VECTORS]) {
  HFB_UNROLL for (int part = 0; part < VEC_RANDOM_COUNTERS / VEC_F32_LANES; part++) {
    const uint64_t first = (uint64_t)group * VEC_RANDOM_COUNTERS + (uint64_t)(part * VEC_F32_LANES);
    vec_u64 even[4], odd[4];
    hfb_vec_random_lanes(random, first, even);
    hfb_vec_random_lanes(random, first + 1, odd);
    HFB_UNROLL for (int word = 0; word < 4; word++) {
      out[word * (VEC_RANDOM_COUNTERS / VEC_F32_LANES) + part] = hfb_vec_zip_low(even[word], odd[word]);
    }
  }
}

#endif
