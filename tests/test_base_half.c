/* Half floats: every bit pattern there and back, and rounding against a search for the nearest value. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "base/rng.h"

typedef struct format {
  float (*decode)(uint16_t bits);
  uint16_t (*encode)(float value);
  int mantissa_bits;
  int least_exponent; /* of the smallest subnormal, as a power of two */
  uint16_t infinity;
} format;

static const format formats[] = {
    {hfb_bf16_to_f32, hfb_f32_to_bf16, 7, -133, 0x7f80},
    {hfb_f16_to_f32, hfb_f32_to_f16, 10, -24, 0x7c00},
};
enum { FORMAT_COUNT = sizeof(formats) / sizeof(formats[0]) };

static void test_decode_follows_the_definition(void **state) {
  (void)state;
  for (int f = 0; f < FORMAT_COUNT; f++) {
    const format *half = &formats[f];
    uint32_t mantissa_range = 1u << half->mantissa_bits;
    for (uint32_t bits = 0; bits < half->infinity; bits++) {
      uint32_t exponent = bits / mantissa_range, mantissa = bits % mantissa_range;
      double expected = exponent == 0 ? ldexp(mantissa, half->least_exponent)
                                      : ldexp(mantissa + mantissa_range, half->least_exponent + (int)exponent - 1);
      assert_true((double)half->decode((uint16_t)bits) == expected);
      assert_true((double)half->decode((uint16_t)(bits | 0x8000u)) == -expected);
    }
    assert_true(isinf(half->decode(half->infinity)) && half->decode(half->infinity) > 0);
  }
}

static void test_every_pattern_survives_a_round_trip(void **state) {
  (void)state;
  for (int f = 0; f < FORMAT_COUNT; f++) {
    const format *half = &formats[f];
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
      float value = half->decode((uint16_t)bits);
      uint16_t back = half->encode(value);
      bool is_nan = (bits & 0x7fffu) > half->infinity;
      assert_int_equal(is_nan, isnan(value) != 0);
      if (is_nan) {
        assert_true((back & 0x7fffu) > half->infinity);
        assert_int_equal(back & 0x8000u, bits & 0x8000u);
      } else {
        assert_int_equal(back, bits);
      }
    }
  }
}

/* Between each two neighbours: below, at and above the middle. A tie goes to the even pattern. */
static void test_rounding_between_all_neighbours(void **state) {
  (void)state;
  for (int f = 0; f < FORMAT_COUNT; f++) {
    const format *half = &formats[f];
    for (uint32_t bits = 0; bits + 1 < half->infinity; bits++) {
      float low = half->decode((uint16_t)bits), high = half->decode((uint16_t)(bits + 1));
      float middle = (float)(((double)low + (double)high) / 2); /* exact: one bit more than the format has */
      uint16_t even = (uint16_t)(bits & 1 ? bits + 1 : bits);
      assert_int_equal(half->encode(middle), even);
      assert_int_equal(half->encode(nextafterf(middle, 0)), bits);
      assert_int_equal(half->encode(nextafterf(middle, INFINITY)), bits + 1);
      assert_int_equal(half->encode(-middle), even | 0x8000u);
      assert_int_equal(half->encode(nextafterf(-middle, -INFINITY)), (bits + 1) | 0x8000u);
    }
  }
}

static void test_overflow_and_underflow(void **state) {
  (void)state;
  assert_int_equal(hfb_f32_to_f16(65519.996f), 0x7bff);
  assert_int_equal(hfb_f32_to_f16(65520.0f), 0x7c00);
  assert_int_equal(hfb_f32_to_f16(1e30f), 0x7c00);
  assert_int_equal(hfb_f32_to_f16(-INFINITY), 0xfc00);
  assert_int_equal(hfb_f32_to_f16(0x1p-25f), 0);
  assert_int_equal(hfb_f32_to_f16(nextafterf(0x1p-25f, 1)), 1);
  assert_int_equal(hfb_f32_to_f16(-0x1p-149f), 0x8000);
  assert_int_equal(hfb_f32_to_bf16(INFINITY), 0x7f80);
  assert_int_equal(hfb_f32_to_bf16(0x1.fffffep127f), 0x7f80);
  assert_int_equal(hfb_f32_to_bf16(-0.0f), 0x8000);
}

/* A NaN whose payload sits in the low bits only must not turn into infinity. */
static void test_any_nan_stays_nan(void **state) {
  (void)state;
  hfb_philox stream = hfb_philox_named(1, "nan");
  for (uint64_t i = 0; i < 4096; i++) {
    uint32_t payload = i < 23 ? 1u << i : hfb_philox_u32(stream, i) & 0x7fffffu;
    if (payload == 0) continue;
    uint32_t bits = 0x7f800000u | payload | (uint32_t)(i & 1) << 31;
    float value;
    memcpy(&value, &bits, sizeof(value));
    assert_true((hfb_f32_to_f16(value) & 0x7fffu) > 0x7c00u);
    assert_true((hfb_f32_to_bf16(value) & 0x7fffu) > 0x7f80u);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_decode_follows_the_definition),
      cmocka_unit_test(test_every_pattern_survives_a_round_trip),
      cmocka_unit_test(test_rounding_between_all_neighbours),
      cmocka_unit_test(test_overflow_and_underflow),
      cmocka_unit_test(test_any_nan_stays_nan),
  };
  return cmocka_run_group_tests_name("base_half", tests, NULL, NULL);
}
