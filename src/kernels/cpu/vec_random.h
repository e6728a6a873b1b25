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
  VEC_RANDOM_MOST_GROUPS = VEC_F32_LANES >= 16 ? 2 : 1,     /* whose states fit the registers together */
  VEC_RANDOM_MOST_CHAINS = 2 * VEC_RANDOM_MOST_GROUPS,
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

/* One round on the counters of `chains` vectors: turn by turn, so that each hides the latency of the others. */
HFB_ALWAYS_INLINE void hfb_vec_random_round(const int chains, const uint64_t keys[2], vec_u64 (*words)[4]) {
  const vec_u64 zero = {0};
  vec_u64 product0[VEC_RANDOM_MOST_CHAINS], product1[VEC_RANDOM_MOST_CHAINS];
  HFB_UNROLL for (int i = 0; i < chains; i++) product1[i] = hfb_vec_mul_wide(zero + 0xCD9E8D57u, words[i][2]);
  HFB_UNROLL for (int i = 0; i < chains; i++) product0[i] = hfb_vec_mul_wide(zero + 0xD2511F53u, words[i][0]);
  HFB_UNROLL for (int i = 0; i < chains; i++) {
    words[i][0] = hfb_vec_xor3(product1[i] >> 32, words[i][1], zero + keys[0]);
  }
  HFB_UNROLL for (int i = 0; i < chains; i++) {
    words[i][2] = hfb_vec_xor3(product0[i] >> 32, words[i][3], zero + keys[1]);
  }
  HFB_UNROLL for (int i = 0; i < chains; i++) words[i][1] = product1[i];
  HFB_UNROLL for (int i = 0; i < chains; i++) words[i][3] = product0[i];
}

/* hfb_random_word of the elements [64 * group, 64 * (group + groups)), for a constant number of groups, at most
 * VEC_RANDOM_MOST_GROUPS. Each part of a group has two chains, of its even counters and of its odd ones. */
HFB_ALWAYS_INLINE void hfb_vec_random_groups(const vec_random *random, int64_t group, const int groups, vec_u32 *out) {
  static const uint64_t even_lanes[VEC_RANDOM_COUNTERS / 2] = {0, 2, 4, 6, 8, 10, 12, 14};
  const int parts = VEC_RANDOM_COUNTERS / VEC_F32_LANES;
  const vec_u64 zero = {0};
  HFB_UNROLL for (int part = 0; part < parts; part++) {
    vec_u64 lanes, words[VEC_RANDOM_MOST_CHAINS][4];
    memcpy(&lanes, even_lanes, sizeof lanes);
    HFB_UNROLL for (int i = 0; i < 2 * groups; i++) {
      const uint64_t first = (uint64_t)(group + i / 2) * VEC_RANDOM_COUNTERS + (uint64_t)(part * VEC_F32_LANES);
      words[i][0] = lanes + (first + (uint64_t)(i % 2));
      words[i][1] = zero + (first >> 32);
      words[i][2] = zero + random->step;
      words[i][3] = zero + random->site;
    }
    HFB_UNROLL for (int round = 0; round < VEC_RANDOM_ROUNDS; round++) {
      hfb_vec_random_round(2 * groups, random->keys[round], words);
    }
    HFB_UNROLL for (int i = 0; i < groups; i++) {
      HFB_UNROLL for (int word = 0; word < 4; word++) {
        out[(i * 4 + word) * parts + part] = hfb_vec_zip_low(words[2 * i][word], words[2 * i + 1][word]);
      }
    }
  }
}

/* hfb_random_word of the elements [64 * group, 64 * group + 64). */
HFB_ALWAYS_INLINE void hfb_vec_random_group(const vec_random *random, int64_t group, vec_u32 out[VEC_RANDOM_VECTORS]) {
  hfb_vec_random_groups(random, group, 1, out);
}

#endif
