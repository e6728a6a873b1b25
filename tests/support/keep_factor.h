/* Dropout as its definition has it, one element at a time. */
#ifndef HFB_TESTS_SUPPORT_KEEP_FACTOR_H
#define HFB_TESTS_SUPPORT_KEEP_FACTOR_H

#include "base/rng.h"

/* What dropout with probability p multiplies element `index` by; random_state is {seed, step}, unused when p is 0. */
static inline double keep_factor(double p, const int64_t *random_state, int64_t site, int64_t index) {
  if (p == 0) return 1;
  const uint32_t threshold = hfb_random_threshold(p);
  return hfb_random_keeps(random_state[0], random_state[1], site, index, threshold) ? 1 / (1 - p) : 0;
}

#endif
