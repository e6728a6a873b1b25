/* Philox against the known answers of its authors, and the distributions drawn from it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

/* Random123, tests/kat_vectors, philox4x32 with 10 rounds. */
static void test_known_answers(void **state) {
  (void)state;
  static const struct {
    uint32_t counter[4], key[2], expected[4];
  } cases[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    uint32_t out[4];
    hfb_philox_4x32(cases[i].key, cases[i].counter, out);
    assert_memory_equal(out, cases[i].expected, sizeof(out));
  }
}

static void test_block_is_the_published_function(void **state) {
  (void)state;
  hfb_philox stream = {.key = {0x12345678, 0x9abcdef0}};
  const uint32_t counter[4] = {0xfffffffe, 0x7, 0, 0};
  uint32_t expected[4], got[4];
  hfb_philox_4x32(stream.key, counter, expected);
  hfb_philox_block(stream, 0x7fffffffeull, got);
  assert_memory_equal(got, expected, sizeof(got));
  for (uint64_t word = 0; word < 4; word++) {
    assert_int_equal(hfb_philox_u32(stream, 0x7fffffffeull * 4 + word), expected[word]);
  }
}

static void test_streams_are_told_apart(void **state) {
  (void)state;
  static const struct {
    uint64_t seed;
    const char *name;
  } streams[] = {{0, ""}, {1, ""}, {1337, "a"}, {1337, "b"}, {1338, "a"}, {1337, "a.weight"}, {1ull << 32, "a"}};
  enum { COUNT = sizeof(streams) / sizeof(streams[0]) };
  for (size_t i = 0; i < COUNT; i++) {
    hfb_philox one = hfb_philox_named(streams[i].seed, streams[i].name);
    for (size_t j = 0; j < COUNT; j++) {
      hfb_philox other = hfb_philox_named(streams[j].seed, streams[j].name);
      assert_int_equal(memcmp(&one, &other, sizeof(one)) == 0, i == j);
    }
  }
}

static void test_uniform_moments(void **state) {
  (void)state;
  enum { COUNT = 1 << 20 };
  hfb_philox stream = hfb_philox_named(7, "uniform");
  double sum = 0, sum_of_squares = 0, sum_of_neighbours = 0, previous = 0;
  for (uint64_t i = 0; i < COUNT; i++) {
    double value = hfb_philox_uniform(stream, i);
    assert_true(value >= 0.0 && value < 1.0);
    sum += value;
    sum_of_squares += value * value;
    sum_of_neighbours += (value - 0.5) * (previous - 0.5);
    previous = value;
  }
  /* Five standard errors of each estimate. */
  assert_true(fabs(sum / COUNT - 0.5) < 5 * sqrt(1.0 / 12 / COUNT));
  assert_true(fabs(sum_of_squares / COUNT - 1.0 / 3) < 5 * sqrt(4.0 / 45 / COUNT));
  assert_true(fabs(sum_of_neighbours / COUNT) < 5 * (1.0 / 12) / sqrt(COUNT));
}

static void test_normal_moments_and_tails(void **state) {
  (void)state;
  enum { COUNT = 1 << 20 };
  hfb_philox stream = hfb_philox_named(7, "normal");
  double moments[5] = {0}, pairs = 0, previous = 0;
  int64_t beyond_two = 0;
  for (uint64_t i = 0; i < COUNT; i++) {
    double value = hfb_philox_normal(stream, i), power = 1;
    for (int m = 0; m < 5; m++, power *= value) moments[m] += power / COUNT;
    beyond_two += fabs(value) > 2;
    pairs += value * previous / COUNT;
    previous = value;
  }
  /* Five standard errors; Var(x^k) of a normal is 1, 2, 15, 96. */
  double error = 5 / sqrt(COUNT);
  assert_true(fabs(moments[1]) < error);
  assert_true(fabs(moments[2] - 1) < error * sqrt(2));
  assert_true(fabs(moments[3]) < error * sqrt(15));
  assert_true(fabs(moments[4] - 3) < error * sqrt(96));
  assert_true(fabs(pairs) < error);
  double expected = erfc(2 / sqrt(2));
  assert_true(fabs((double)beyond_two / COUNT - expected) < error * sqrt(expected));
}

static void test_normal_fill_equals_single_draws(void **state) {
  (void)state;
  hfb_philox stream = hfb_philox_named(3, "fill");
  for (uint64_t first = 0; first < 9; first++) {
    for (size_t count = 0; count < 40; count++) {
      float got[48];
      for (size_t i = 0; i < 48; i++) got[i] = -1234.0f;
      hfb_philox_normal_fill(stream, first, count, 0.02, got);
      for (size_t i = 0; i < 48; i++) {
        float expected = i < count ? (float)(0.02 * hfb_philox_normal(stream, first + i)) : -1234.0f;
        assert_memory_equal(&got[i], &expected, sizeof(expected));
      }
    }
  }
}

static void test_below_stays_below_and_is_even(void **state) {
  (void)state;
  hfb_philox stream = hfb_philox_named(11, "below");
  static const int64_t bounds[] = {1, 2, 3, 10, 30522, 1ll << 31, (1ll << 40) + 7, INT64_MAX};
  for (size_t b = 0; b < sizeof(bounds) / sizeof(bounds[0]); b++) {
    int64_t lower_half = 0;
    for (uint64_t i = 0; i < 20000; i++) {
      int64_t value = hfb_philox_below(stream, i, bounds[b]);
      assert_in_range(value, 0, bounds[b] - 1);
      lower_half += value < bounds[b] / 2;
    }
    double share = (double)(bounds[b] / 2) / (double)bounds[b];
    assert_true(fabs((double)lower_half / 20000 - share) <= 5 * sqrt(share * (1 - share) / 20000));
  }
  int64_t counts[10] = {0};
  for (uint64_t i = 0; i < 100000; i++) counts[hfb_philox_below(stream, i, 10)]++;
  double chi_square = 0;
  for (int i = 0; i < 10; i++) chi_square += pow((double)counts[i] - 10000, 2) / 10000;
  assert_true(chi_square < 33.7); /* 9 degrees of freedom, p = 0.0001 */
}

/* ---- masks ---- */

/* 64 elements in a row are the four words of 16 blocks: word w of block k is at index k + 16 w. */
static void test_words_of_masks_lie_sixteen_apart(void **state) {
  (void)state;
  const int64_t seed = INT64_C(0x123456789abcdef0), step = (INT64_C(5) << 32) + 77, site = 2147483647;
  static const int64_t groups[] = {0, 1, 1000, INT64_C(1) << 28, (INT64_C(1) << 40) + 3};
  for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
    for (int64_t lane = 0; lane < 16; lane++) {
      uint64_t block = (uint64_t)groups[g] * 16 + (uint64_t)lane;
      const uint32_t key[2] = {0x9abcdef0, 0x12345678};
      const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 77, 2147483647};
      uint32_t words[4];
      hfb_philox_4x32(key, counter, words);
      for (int64_t word = 0; word < 4; word++) {
        int64_t index = groups[g] * 64 + word * 16 + lane;
        assert_int_equal(hfb_random_word(seed, step, site, index), words[word]);
      }
    }
  }
}

/* Each half of a block is a pair of normal numbers; where a fill begins and ends does not matter. */
static void test_normal_numbers_of_a_site(void **state) {
  (void)state;
  enum { COUNT = 200000 };
  const int64_t seed = INT64_C(0x123456789abcdef0), step = (INT64_C(5) << 32) + 77, site = 2147483647;
  const uint32_t key[2] = {0x9abcdef0, 0x12345678};
  static float all[COUNT];
  double sum = 0, squares = 0, products = 0;
  hfb_random_normal_fill(seed, step, site, 0, COUNT, all);
  for (uint32_t block = 0; block < 64; block++) {
    const uint32_t counter[4] = {block, 0, 77, 2147483647};
    uint32_t words[4];
    hfb_philox_4x32(key, counter, words);
    for (int i = 0; i < 4; i++) {
      double unit = ((double)words[i & 2] + 0.5) * 0x1p-32, angle = 2 * acos(-1) * (words[(i & 2) + 1] * 0x1p-32);
      double expected = sqrt(-2 * log(unit)) * (i % 2 == 0 ? cos(angle) : sin(angle));
      assert_float_equal(all[4 * block + (uint32_t)i], expected, 1e-6);
    }
  }
  for (int64_t first = 0; first < 9; first++) {
    for (int64_t count = 0; count < 9; count++) {
      float some[9];
      hfb_random_normal_fill(seed, step, site, first, count, some);
      assert_memory_equal(some, all + first, (size_t)count * sizeof(float));
    }
  }
  for (int i = 0; i < COUNT; i++) {
    sum += all[i];
    squares += (double)all[i] * all[i];
    if (i > 0) products += (double)all[i] * all[i - 1];
  }
  assert_true(fabs(sum / COUNT) < 4 / sqrt(COUNT)); /* 4 deviations of each mean */
  assert_true(fabs(squares / COUNT - 1) < 4 * sqrt(2.0 / COUNT));
  assert_true(fabs(products / COUNT) < 4 / sqrt(COUNT));
}

static void test_threshold_is_p_rounded_up(void **state) {
  (void)state;
  assert_int_equal(hfb_random_threshold(0), 0);
  assert_int_equal(hfb_random_threshold(0.5), 1 << 23);
  assert_int_equal(hfb_random_threshold(0x1p-24), 1);
  assert_int_equal(hfb_random_threshold(0x1p-60), 1);
  assert_int_equal(hfb_random_threshold(0.1), 1677722); /* 0.1 * 2^24 = 1677721.6 */
  assert_int_equal(hfb_random_threshold(1 - 0x1p-24), (1 << 24) - 1);
  for (int64_t i = 0; i < 1000; i++) { /* the decision is word >> 8 against the threshold */
    uint32_t top = hfb_random_word(3, 4, 5, i) >> 8;
    assert_true(hfb_random_keeps(3, 4, 5, i, top));
    assert_false(hfb_random_keeps(3, 4, 5, i, top + 1));
    assert_true(hfb_random_keeps(3, 4, 5, i, 0));
  }
}

static void test_share_of_kept_elements(void **state) {
  (void)state;
  enum { COUNT = 1 << 18 };
  static const double chances[] = {0.01, 0.1, 0.3, 0.5, 0.9};
  for (size_t c = 0; c < sizeof(chances) / sizeof(chances[0]); c++) {
    uint32_t threshold = hfb_random_threshold(chances[c]);
    for (int64_t site = 0; site < 3; site++) {
      int64_t kept = 0;
      for (int64_t i = 0; i < COUNT; i++) kept += hfb_random_keeps(1337, 1, site, i, threshold);
      double expected = 1 - chances[c], error = sqrt(expected * chances[c] / COUNT);
      assert_true(fabs((double)kept / COUNT - expected) < 5 * error);
    }
  }
}

/* Masks of one half of another seed, step or site, or shifted against each other, agree in half of the places. */
static void test_masks_are_independent(void **state) {
  (void)state;
  enum { COUNT = 1 << 18 };
  static const struct {
    int64_t seed, step, site, shift;
  } others[] = {{1338, 1, 0, 0}, {1337 + (INT64_C(1) << 32), 1, 0, 0}, {1337, 2, 0, 0},  {1337, 0, 1, 0},
                {1337, 1, 1, 0}, {1337, 1, 2, 0},                      {1337, 1, 0, 1},  {1337, 1, 0, 16},
                {1337, 1, 0, 64}, {1337, 1, 0, 768}};
  uint32_t half = hfb_random_threshold(0.5);
  for (size_t o = 0; o < sizeof(others) / sizeof(others[0]); o++) {
    int64_t equal = 0;
    for (int64_t i = 0; i < COUNT; i++) {
      bool other = hfb_random_keeps(others[o].seed, others[o].step, others[o].site, i + others[o].shift, half);
      equal += hfb_random_keeps(1337, 1, 0, i, half) == other;
    }
    assert_true(fabs((double)equal / COUNT - 0.5) < 5 * 0.5 / sqrt(COUNT));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_known_answers),
      cmocka_unit_test(test_block_is_the_published_function),
      cmocka_unit_test(test_streams_are_told_apart),
      cmocka_unit_test(test_uniform_moments),
      cmocka_unit_test(test_normal_moments_and_tails),
      cmocka_unit_test(test_normal_fill_equals_single_draws),
      cmocka_unit_test(test_below_stays_below_and_is_even),
      cmocka_unit_test(test_words_of_masks_lie_sixteen_apart),
      cmocka_unit_test(test_normal_numbers_of_a_site),
      cmocka_unit_test(test_threshold_is_p_rounded_up),
      cmocka_unit_test(test_share_of_kept_elements),
      cmocka_unit_test(test_masks_are_independent),
  };
  return cmocka_run_group_tests_name("base_rng", tests, NULL, NULL);
}
