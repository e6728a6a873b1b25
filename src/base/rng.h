/* Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): counter-based, so any
 * element can be drawn without the ones before it, in any order, on any device. */
#ifndef HFB_BASE_RNG_H
#define HFB_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct hfb_philox {
  uint32_t key[2];
} hfb_philox;

/* A stream named by a seed and a text (a parameter name, an op): equal arguments give equal streams. */
hfb_philox hfb_philox_named(uint64_t seed, const char *name);

/* The function of the paper: four words from a 128-bit counter and a 64-bit key. */
void hfb_philox_4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* The four words of one counter value. */
void hfb_philox_block(hfb_philox stream, uint64_t counter, uint32_t out[4]);

/* Element `index` of the stream. uniform: [0,1) with 24 bits; normal: Box-Muller, mean 0, deviation 1. */
uint32_t hfb_philox_u32(hfb_philox stream, uint64_t index);
float hfb_philox_uniform(hfb_philox stream, uint64_t index);
double hfb_philox_normal(hfb_philox stream, uint64_t index);

/* out[i] = deviation * element first_index + i of the normal stream, at less than half the cost of single draws. */
void hfb_philox_normal_fill(hfb_philox stream, uint64_t first_index, size_t count, double deviation, float *out);

/* Uniform integer in [0, bound) without modulo bias beyond 2^-32; bound > 0. */
int64_t hfb_philox_below(hfb_philox stream, uint64_t index, int64_t bound);

#endif
