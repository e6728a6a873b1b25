/* Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): counter-based, so any
 * element can be drawn without the ones before it, in any order, on any device. */
#ifndef HFB_BASE_RNG_H
#define HFB_BASE_RNG_H

#include <stdbool.h>
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

/* Masks of random ops. Element `index` of the stream (seed, step, site) is a word of Philox with the seed for a key and
 * the counter {block mod 2^32, block / 2^32, step mod 2^32, site}, where block = index / 64 * 16 + index % 16, and word
 * number index / 16 % 4. So 64 elements in a row are four vectors of 16 lanes of one evaluation. */
uint32_t hfb_random_word(int64_t seed, int64_t step, int64_t site, int64_t index);
/* The element is kept where (word >> 8) >= threshold; threshold / 2^24 is p, rounded up. */
uint32_t hfb_random_threshold(double p);
bool hfb_random_keeps(int64_t seed, int64_t step, int64_t site, int64_t index, uint32_t threshold);

/* Elements first .. first + count - 1 of the stream (seed, step, site) in normal numbers: Box-Muller on each half of
 * Philox with the seed for a key and the counter {block mod 2^32, block / 2^32, step mod 2^32, site}, where block is
 * index / 4, computed in double and rounded to float. */
void hfb_random_normal_fill(int64_t seed, int64_t step, int64_t site, int64_t first, int64_t count, float *out);

#endif
