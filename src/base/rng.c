#include "base/rng.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

enum { PHILOX_ROUNDS = 10 };

hfb_philox hfb_philox_named(uint64_t seed, const char *name) {
  uint64_t hash = XXH3_64bits_withSeed(name, strlen(name), seed);
  return (hfb_philox){.key = {(uint32_t)hash, (uint32_t)(hash >> 32)}};
}

void hfb_philox_4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]) {
  /* Multipliers and Weyl increments of table 2 and section 4.3 of the paper. */
  uint32_t k0 = key[0], k1 = key[1];
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  for (int round = 0; round < PHILOX_ROUNDS; round++) {
    uint64_t product0 = (uint64_t)0xD2511F53u * c0;
    uint64_t product1 = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)product1;
    c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)product0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

void hfb_philox_block(hfb_philox stream, uint64_t counter, uint32_t out[4]) {
  const uint32_t words[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
  hfb_philox_4x32(stream.key, words, out);
}

uint32_t hfb_philox_u32(hfb_philox stream, uint64_t index) {
  uint32_t words[4];
  hfb_philox_block(stream, index / 4, words);
  return words[index % 4];
}

float hfb_philox_uniform(hfb_philox stream, uint64_t index) {
  return (float)(hfb_philox_u32(stream, index) >> 8) * 0x1p-24f;
}

/* Box-Muller on one half of a block: the pair gives a cosine (even element) and a sine (odd element). */
typedef struct polar_point {
  double radius;
  double angle;
} polar_point;

static polar_point polar_of(const uint32_t pair[2]) {
  double unit = ((double)pair[0] + 0.5) * 0x1p-32; /* never 0 */
  return (polar_point){sqrt(-2.0 * log(unit)), 6.283185307179586477 * ((double)pair[1] * 0x1p-32)};
}

double hfb_philox_normal(hfb_philox stream, uint64_t index) {
  uint32_t words[4];
  hfb_philox_block(stream, index / 4, words);
  polar_point point = polar_of(words + (index & 2));
  return point.radius * ((index & 1) ? sin(point.angle) : cos(point.angle));
}

void hfb_philox_normal_fill(hfb_philox stream, uint64_t first_index, size_t count, double deviation, float *out) {
  uint64_t index = first_index, end = first_index + count;
  uint32_t words[4];
  for (; index < end && index % 4 != 0; index++) *out++ = (float)(deviation * hfb_philox_normal(stream, index));
  for (; end - index >= 4; index += 4, out += 4) {
    hfb_philox_block(stream, index / 4, words);
    polar_point first = polar_of(words), second = polar_of(words + 2);
    out[0] = (float)(deviation * (first.radius * cos(first.angle)));
    out[1] = (float)(deviation * (first.radius * sin(first.angle)));
    out[2] = (float)(deviation * (second.radius * cos(second.angle)));
    out[3] = (float)(deviation * (second.radius * sin(second.angle)));
  }
  for (; index < end; index++) *out++ = (float)(deviation * hfb_philox_normal(stream, index));
}

int64_t hfb_philox_below(hfb_philox stream, uint64_t index, int64_t bound) {
  uint32_t words[4];
  hfb_philox_block(stream, index / 2, words);
  const uint32_t *pair = words + 2 * (index & 1);
  uint64_t random = (uint64_t)pair[1] << 32 | pair[0];
  return (int64_t)((unsigned __int128)random * (uint64_t)bound >> 64);
}

/* The four words of one block of the stream (seed, step, site). */
static void random_block(int64_t seed, int64_t step, int64_t site, uint64_t block, uint32_t words[4]) {
  const uint32_t key[2] = {(uint32_t)seed, (uint32_t)((uint64_t)seed >> 32)};
  const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)step, (uint32_t)site};
  hfb_philox_4x32(key, counter, words);
}

uint32_t hfb_random_word(int64_t seed, int64_t step, int64_t site, int64_t index) {
  const uint64_t at = (uint64_t)index;
  uint32_t words[4];
  random_block(seed, step, site, at / 64 * 16 + at % 16, words);
  return words[at / 16 % 4];
}

uint32_t hfb_random_threshold(double p) {
  return (uint32_t)ceil(p * 0x1p24);
}

bool hfb_random_keeps(int64_t seed, int64_t step, int64_t site, int64_t index, uint32_t threshold) {
  return hfb_random_word(seed, step, site, index) >> 8 >= threshold;
}

void hfb_random_normal_fill(int64_t seed, int64_t step, int64_t site, int64_t first, int64_t count, float *out) {
  uint32_t words[4];
  polar_point point = {0};
  for (int64_t i = 0; i < count; i++) {
    const uint64_t at = (uint64_t)(first + i);
    if (i == 0 || at % 4 == 0) random_block(seed, step, site, at / 4, words);
    if (i == 0 || at % 2 == 0) point = polar_of(words + (at & 2));
    out[i] = (float)(point.radius * ((at & 1) ? sin(point.angle) : cos(point.angle)));
  }
}
