#include "bench/draw.h"

#include <math.h>
#include <string.h>

#include "base/cpu.h"

/* Philox blocks handled together, each of four words and four elements. Loops of constant length over local arrays are
 * what compilers turn into vector code at -O2. */
enum { LANES = 32, ELEMENTS = 4 * LANES };

#define INLINE static inline __attribute__((always_inline))

/* Words of blocks first..first+LANES-1; words[k][i] is word k of block i. As hfb_philox_block, lane by lane. */
INLINE void draw_words(hfb_philox stream, uint64_t first, uint32_t words[4][LANES]) {
  uint32_t *c0 = words[0], *c1 = words[1], *c2 = words[2], *c3 = words[3];
  uint32_t k0 = stream.key[0], k1 = stream.key[1];
  for (int i = 0; i < LANES; i++) {
    c0[i] = (uint32_t)(first + (uint64_t)i);
    c1[i] = (uint32_t)((first + (uint64_t)i) >> 32);
    c2[i] = c3[i] = 0;
  }
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < LANES; i++) {
      uint64_t product0 = (uint64_t)0xD2511F53u * c0[i];
      uint64_t product1 = (uint64_t)0xCD9E8D57u * c2[i];
      c0[i] = (uint32_t)(product1 >> 32) ^ c1[i] ^ k0;
      c1[i] = (uint32_t)product1;
      c2[i] = (uint32_t)(product0 >> 32) ^ c3[i] ^ k1;
      c3[i] = (uint32_t)product0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

INLINE double f64_of_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

INLINE uint64_t bits_of_f64(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

/* A word as a double, without the conversion of unsigned integers that vector units lack. */
INLINE double f64_of_u32(uint32_t word) {
  return (double)(int32_t)(word ^ 0x80000000u) + 0x1p31;
}

/* Logarithm of x = m * 2^e with sqrt(1/2) <= m < sqrt(2): 2 atanh(s), s = (m-1)/(m+1), |s| < 0.172, by its series. The
 * first term left out is below 1e-14 of the result. No cancellation near x = 1, where e = 0. */
INLINE double log_positive(double x) {
  const uint64_t sqrt_half = 0x3FE6A09E667F3BCDull;
  uint64_t bits = bits_of_f64(x) - sqrt_half;
  /* The exponent as a double: 52 low bits of 2^52 hold an integer. */
  double e = f64_of_bits(0x4330000000000000ull | (bits + (1023ull << 52)) >> 52) - (0x1p52 + 1023);
  double m = f64_of_bits((bits & 0xFFFFFFFFFFFFFull) + sqrt_half);
  double s = (m - 1) / (m + 1), q = s * s;
  double p = 1.0 / 17;
  p = p * q + 1.0 / 15;
  p = p * q + 1.0 / 13;
  p = p * q + 1.0 / 11;
  p = p * q + 1.0 / 9;
  p = p * q + 1.0 / 7;
  p = p * q + 1.0 / 5;
  p = p * q + 1.0 / 3;
  return e * 0.69314718055994530942 + 2 * (s + s * q * p);
}

/* Box-Muller: radius from the first word, angle 2 pi w / 2^32 from the second. The angle is reduced exactly, on the
 * integer, to a quadrant and |t| <= pi/4; there the Taylor series of sine and cosine err by less than 1e-13. */
INLINE void normal_pair(uint32_t radius_word, uint32_t angle_word, double *out_cos, double *out_sin) {
  double x = (f64_of_u32(radius_word) + 0.5) * 0x1p-32;
  double radius = sqrt(-2 * log_positive(x));
  uint32_t quadrant = (angle_word + 0x20000000u) >> 30;
  double t = (double)(int32_t)(angle_word - (quadrant << 30)) * (6.283185307179586477 * 0x1p-32);
  double q = t * t;
  double s = -1.0 / 1307674368000;
  s = s * q + 1.0 / 6227020800;
  s = s * q - 1.0 / 39916800;
  s = s * q + 1.0 / 362880;
  s = s * q - 1.0 / 5040;
  s = s * q + 1.0 / 120;
  s = s * q - 1.0 / 6;
  s = t + t * q * s;
  double c = -1.0 / 87178291200;
  c = c * q + 1.0 / 479001600;
  c = c * q - 1.0 / 3628800;
  c = c * q + 1.0 / 40320;
  c = c * q - 1.0 / 720;
  c = c * q + 1.0 / 24;
  c = c * q - 1.0 / 2;
  c = 1 + q * c;
  /* Quadrant 0: (c, s), 1: (-s, c), 2: (-c, -s), 3: (s, -c), by bits: no branch, no blend. */
  uint64_t swap = 0 - (uint64_t)(quadrant & 1);
  uint64_t cos_sign = (uint64_t)((quadrant + 1) >> 1 & 1) << 63, sin_sign = (uint64_t)(quadrant >> 1) << 63;
  uint64_t cos_bits = bits_of_f64(c), sin_bits = bits_of_f64(s);
  uint64_t mixed = (cos_bits ^ sin_bits) & swap;
  *out_cos = radius * f64_of_bits(cos_bits ^ mixed ^ cos_sign);
  *out_sin = radius * f64_of_bits(sin_bits ^ mixed ^ sin_sign);
}

/* ELEMENTS elements from `first`, a multiple of four. */
INLINE void draw_group(hfb_philox stream, uint64_t first, double mean, double deviation, float *out) {
  uint32_t words[4][LANES];
  double values[4][LANES];
  draw_words(stream, first / 4, words);
  for (int k = 0; k < 4; k += 2) {
    for (int i = 0; i < LANES; i++) normal_pair(words[k][i], words[k + 1][i], &values[k][i], &values[k + 1][i]);
  }
  for (int i = 0; i < LANES; i++) {
    for (int k = 0; k < 4; k++) out[4 * i + k] = (float)(mean + deviation * values[k][i]);
  }
}

INLINE void draw_groups(hfb_philox stream, uint64_t first, size_t groups, double mean, double deviation, float *out) {
  for (; groups > 0; groups--, first += ELEMENTS, out += ELEMENTS) draw_group(stream, first, mean, deviation, out);
}

/* ---- One instance for each instruction set; equal bits from all of them ---- */

typedef void (*draw_fn)(hfb_philox stream, uint64_t first, size_t groups, double mean, double deviation, float *out);

static void draw_groups_generic(hfb_philox stream, uint64_t first, size_t groups, double mean, double deviation,
                                float *out) {
  draw_groups(stream, first, groups, mean, deviation, out);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void draw_groups_avx2(hfb_philox stream, uint64_t first, size_t groups,
                                                             double mean, double deviation, float *out) {
  draw_groups(stream, first, groups, mean, deviation, out);
}

__attribute__((target("avx512f,avx512dq,avx512vl"))) static void draw_groups_avx512(hfb_philox stream, uint64_t first,
                                                                                    size_t groups, double mean,
                                                                                    double deviation, float *out) {
  draw_groups(stream, first, groups, mean, deviation, out);
}

static draw_fn select_draw(void) {
  hfb_isa isa = hfb_cpu()->isa;
  if (isa >= HFB_ISA_AVX512) return draw_groups_avx512;
  return isa >= HFB_ISA_AVX2 ? draw_groups_avx2 : draw_groups_generic;
}
#else
static draw_fn select_draw(void) {
  return draw_groups_generic;
}
#endif

/* ---- Any range ---- */

static size_t smaller(size_t a, size_t b) {
  return a < b ? a : b;
}

void hfb_draw_normal(hfb_philox stream, uint64_t first, size_t count, double mean, double deviation, float *out) {
  draw_fn draw = select_draw();
  float group[ELEMENTS];
  size_t skip = first % 4;
  if (skip != 0 && count > 0) {
    draw(stream, first - skip, 1, mean, deviation, group);
    size_t head = smaller(count, ELEMENTS - skip);
    memcpy(out, group + skip, head * sizeof(float));
    first += head;
    count -= head;
    out += head;
  }
  size_t whole = count / ELEMENTS, rest = count % ELEMENTS;
  draw(stream, first, whole, mean, deviation, out);
  if (rest == 0) return;
  draw(stream, first + whole * ELEMENTS, 1, mean, deviation, group);
  memcpy(out + whole * ELEMENTS, group, rest * sizeof(float));
}

/* A draw within two deviations: 95 of 100 elements keep their first one. */
static double draw_within_two(hfb_philox stream, uint64_t index) {
  double value = hfb_philox_normal(stream, index);
  for (uint32_t attempt = 1; fabs(value) > 2; attempt++) {
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), attempt, 0};
    uint32_t words[4];
    double unused;
    hfb_philox_4x32(stream.key, counter, words);
    normal_pair(words[0], words[1], &value, &unused);
  }
  return value;
}

void hfb_draw_truncated(hfb_philox stream, uint64_t first, size_t count, double mean, double deviation, float *out) {
  hfb_draw_normal(stream, first, count, 0, 1, out);
  for (size_t i = 0; i < count; i++) {
    /* A float next to 2 may have been rounded from either side: the double decides. */
    double value = fabsf(out[i]) < 1.9999f ? out[i] : draw_within_two(stream, first + i);
    out[i] = (float)(mean + deviation * value);
  }
}

void hfb_draw_uniform(hfb_philox stream, uint64_t first, size_t count, double low, double high, float *out) {
  uint32_t words[4];
  for (size_t i = 0; i < count; i++) {
    uint64_t index = first + i;
    if (i == 0 || index % 4 == 0) hfb_philox_block(stream, index / 4, words);
    out[i] = (float)(low + (high - low) * ((double)(words[index % 4] >> 8) * 0x1p-24));
  }
}
