#include "base/half.h"

#include <string.h>

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

float hfb_bf16_to_f32(uint16_t bits) { return float_of((uint32_t)bits << 16); }

void hfb_bf16_row_to_f32(const uint16_t *from, int64_t count, float *to) {
  enum { LANES = 8 };
  typedef uint16_t narrow_vec __attribute__((vector_size(LANES * 2)));
  typedef uint32_t wide_vec __attribute__((vector_size(LANES * 4)));
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    narrow_vec bits;
    memcpy(&bits, from + i, sizeof(bits));
    const wide_vec wide = __builtin_convertvector(bits, wide_vec) << 16;
    memcpy(to + i, &wide, sizeof(wide));
  }
  for (; i < count; i++) to[i] = hfb_bf16_to_f32(from[i]);
}

uint16_t hfb_f32_to_bf16(float value) {
  uint32_t bits = bits_of(value);
  /* A NaN stays one: rounding could carry its payload into the exponent, truncation could clear it. */
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x0040u);
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return (uint16_t)(bits >> 16);
}

float hfb_f16_to_f32(uint16_t bits) {
  uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
  uint32_t exponent = (bits >> 10) & 0x1fu;
  uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1f) return float_of(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
  /* Zero and subnormals: mantissa * 2^-24 is exact in f32. */
  float magnitude = (float)mantissa * 0x1p-24f;
  return float_of(sign | bits_of(magnitude));
}

uint16_t hfb_f32_to_f16(float value) {
  uint32_t bits = bits_of(value);
  uint32_t sign = (bits >> 16) & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); /* 2^16 and above */
  if (magnitude < 0x38800000u) { /* below 2^-14: subnormal or zero */
    if (magnitude < 0x33000000u) return (uint16_t)sign; /* below half of the smallest subnormal */
    uint32_t shift = 126 - (magnitude >> 23); /* so that one unit is 2^-24 */
    uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    uint32_t result = mantissa >> shift;
    uint32_t rest = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
    if (rest > half || (rest == half && (result & 1u))) result++;
    return (uint16_t)(sign | result);
  }
  /* Normal numbers: rounding may carry into the exponent, up to infinity, which is what the format wants. */
  uint32_t result = magnitude - (112u << 23);
  result += 0xfffu + ((result >> 13) & 1u);
  return (uint16_t)(sign | result >> 13);
}
