/* Attention on every instruction set against the plain formula in double.
 * Arguments: [first seed] [number of seeds]. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/attention.h"
#include "support/keep_factor.h"
#include "support/strided.h"

static const float guard_value = -77777.0f;
static uint64_t first_seed = 1, seed_count = 250;

typedef struct attention_case {
  hfb_attention attention;
  strided q, k, v, out;
  float *lse;
  int64_t random_state[2];
  hfb_isa isa;
} attention_case;

/* The same value for every way of cutting the scores into blocks. */
static double mask_value(const hfb_attention *a, int64_t batch, int64_t head, int64_t row, int64_t col) {
  if ((row * 7 + col * 3 + batch + head) % 5 == 0) return -INFINITY;
  return 0.25 * (double)((row - col) % 9) + (a->causal ? 1 : 0);
}

static void add_mask(const void *context, float *scores, int64_t ld, int64_t batch, int64_t head, int64_t row,
                     int64_t rows, int64_t col, int64_t cols) {
  const hfb_attention *a = context;
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < cols; j++) {
      scores[i * ld + j] += (float)mask_value(a, batch, head, row + i, col + j);
    }
  }
}

/* What dropout does to a probability. */
static double keep_factor_at(const hfb_attention *a, int64_t batch, int64_t head, int64_t row, int64_t col) {
  const int64_t index = ((batch * a->heads + head) * a->query_count + row) * a->key_count + col;
  return keep_factor(a->dropout_p, a->random_state, a->dropout_site, index);
}

typedef struct exact_values {
  double *scores, *magnitudes; /* for each key: the score, later its weight, and the sum of the sizes of its terms */
  double *out, *bounds;        /* for each element of the row: value and allowed error */
} exact_values;

typedef struct exact_number {
  double value, bound;
} exact_number;

/* One row of the formula, in double. A float score, and its distance from the largest, is wrong by a few eps times the
 * sizes of its terms; its weight changes by that factor, and the result by the weight times the distance of v from the
 * result. What is left is the rounding of exp and of the sum over v, a random walk. The errors of the
 * scores, weighted and with those of a random walk over head_dim terms, move the log-sum-exp, which is returned. */
static exact_number exact_row(const hfb_attention *a, int64_t batch, int64_t head, int64_t row,
                              const exact_values *values) {
  const float *q = a->q + strided_offset(a->q_strides, batch, head, row);
  const double eps = 0x1p-24;
  double max = -INFINITY, sum = 0;
  for (int64_t j = 0; j < a->key_count; j++) {
    const float *k = a->k + strided_offset(a->k_strides, batch, head, j);
    double score = 0, magnitude = 0;
    for (int64_t d = 0; d < a->head_dim; d++) {
      score += (double)q[d] * (double)k[d];
      magnitude += fabs((double)q[d] * (double)k[d]);
    }
    const double mask = a->modify ? mask_value(a, batch, head, row, j) : 0;
    score = score * (double)a->scale + mask;
    if (a->causal && j > row + a->key_count - a->query_count) score = -INFINITY;
    values->scores[j] = score;
    values->magnitudes[j] = magnitude * (double)a->scale + (isinf(mask) ? 0 : fabs(mask));
    if (score > max) max = score;
  }
  exact_number lse = {0, 0};
  for (int64_t j = 0; j < a->key_count; j++) {
    values->magnitudes[j] += values->scores[j] == -INFINITY ? 0 : max - values->scores[j];
    sum += values->scores[j] = exp(values->scores[j] - max);
    lse.bound += values->scores[j] * values->magnitudes[j];
  }
  lse.value = max + log(sum);
  lse.bound = eps * ((4 + sqrt((double)a->head_dim)) * lse.bound / sum + 2 * fabs(max) + 4 * log(sum) + 16);
  for (int64_t i = 0; i < a->value_dim; i++) {
    double value = 0, size = 0, sensitivity = 0, sizes = 0;
    for (int64_t j = 0; j < a->key_count; j++) {
      const double v = (double)a->v[strided_offset(a->v_strides, batch, head, j) + i];
      const double kept = values->scores[j] * keep_factor_at(a, batch, head, row, j);
      value += kept * v;
      size += kept * fabs(v);
      sizes += fabs(v);
    }
    value /= sum;
    for (int64_t j = 0; j < a->key_count; j++) {
      const double v = (double)a->v[strided_offset(a->v_strides, batch, head, j) + i];
      const double factor = keep_factor_at(a, batch, head, row, j);
      sensitivity += values->scores[j] * values->magnitudes[j] * fabs(factor * v - value);
    }
    values->out[i] = a->key_count == 0 ? 0 : value;
    values->bounds[i] = (eps * (16 + 2 * sqrt((double)a->key_count)) * size + 4 * eps * sensitivity) / sum;
    values->bounds[i] += 0x1p-126 * sizes; /* weights that are too small for a float */
  }
  return lse;
}

/* The log-sum-exp of a hidden row is -inf or nan. */
static bool is_lse(double got, exact_number want) {
  return isfinite(want.value) ? fabs(got - want.value) <= want.bound : isnan(got) || got == -INFINITY;
}

static void check_row(const attention_case *c, uint64_t seed, int64_t batch, int64_t head, int64_t row,
                      const exact_values *values) {
  const hfb_attention *a = &c->attention;
  const exact_number lse = exact_row(a, batch, head, row, values);
  if (a->lse) {
    const double got = (double)a->lse[(batch * a->heads + head) * a->query_count + row];
    if (!is_lse(got, lse)) {
      print_message("seed %llu, %s: lse[%lld][%lld][%lld] is %.9g, expected %.9g, bound %.2g\n",
                    (unsigned long long)seed, hfb_isa_name(c->isa), (long long)batch, (long long)head, (long long)row,
                    got, lse.value, lse.bound);
      fail();
    }
  }
  for (int64_t i = 0; i < a->value_dim; i++) {
    const double got = (double)a->out[strided_offset(a->out_strides, batch, head, row) + i], want = values->out[i];
    if (isnan(want) ? isnan(got) : fabs(got - want) <= values->bounds[i]) continue;
    print_message("seed %llu, %s: batch %lld heads %lld q %lld k %lld dims %lld %lld causal %d modify %d "
                  "dropout %g: out[%lld][%lld][%lld][%lld] is %.9g, expected %.9g, bound %.2g\n",
                  (unsigned long long)seed, hfb_isa_name(c->isa), (long long)a->batch, (long long)a->heads,
                  (long long)a->query_count, (long long)a->key_count, (long long)a->head_dim, (long long)a->value_dim,
                  a->causal, a->modify != NULL, a->dropout_p, (long long)batch, (long long)head, (long long)row,
                  (long long)i, got, want, values->bounds[i]);
    fail();
  }
}

/* Every element of the result, and nothing else, is written. */
static void check_result(const attention_case *c, uint64_t seed) {
  const hfb_attention *a = &c->attention;
  const size_t key_bytes = ((size_t)a->key_count + 1) * sizeof(double);
  const size_t value_bytes = ((size_t)a->value_dim + 1) * sizeof(double);
  const exact_values values = {test_malloc(key_bytes), test_malloc(key_bytes), test_malloc(value_bytes),
                               test_malloc(value_bytes)};
  char *is_written = test_calloc((size_t)c->out.elements, 1);
  for (int64_t batch = 0; batch < a->batch; batch++) {
    for (int64_t head = 0; head < a->heads; head++) {
      for (int64_t row = 0; row < a->query_count; row++) {
        check_row(c, seed, batch, head, row, &values);
        memset(is_written + STRIDED_GUARD_ELEMENTS + strided_offset(a->out_strides, batch, head, row), 1,
               (size_t)a->value_dim);
      }
    }
  }
  for (int64_t i = 0; i < c->out.elements; i++) assert_true(is_written[i] || c->out.memory[i] == guard_value);
  test_free(values.scores);
  test_free(values.magnitudes);
  test_free(values.out);
  test_free(values.bounds);
  test_free(is_written);
}

static void set_output(attention_case *c, uint64_t seed) {
  hfb_attention *a = &c->attention;
  const hfb_philox stream = hfb_philox_named(seed, "out");
  c->out = strided_create_filled(stream, a->batch, a->heads, a->query_count, a->value_dim, guard_value);
  a->out = c->out.start;
  memcpy(a->out_strides, c->out.strides, sizeof a->out_strides);
}

static attention_case make_case(uint64_t seed, float value_scale) {
  const hfb_philox stream = hfb_philox_named(seed, "attention");
  const int64_t lengths[] = {1, 2, 3, 8, 9, 16, 17, 33, 48, 49, 64, 70, 129, 200};
  const int64_t dims[] = {1, 2, 5, 8, 16, 17, 24, 32, 48, 64, 80};
  uint64_t next = 0;
#define BELOW(bound) hfb_philox_below(stream, next++, (bound))
  attention_case c = {0};
  hfb_attention *a = &c.attention;
  a->batch = 1 + BELOW(3);
  a->heads = 1 + BELOW(4);
  a->query_count = lengths[BELOW(14)];
  a->key_count = BELOW(2) ? a->query_count : lengths[BELOW(14)];
  a->head_dim = dims[BELOW(11)];
  a->value_dim = BELOW(2) ? a->head_dim : dims[BELOW(11)];
  a->scale = BELOW(2) ? 1.0f / sqrtf((float)a->head_dim) : 1.0f;
  a->causal = (int)BELOW(2);
  c.isa = (hfb_isa)BELOW(3);
  c.q = strided_create(hfb_philox_named(seed, "q"), a->batch, a->heads, a->query_count, a->head_dim, value_scale);
  c.k = strided_create(hfb_philox_named(seed, "k"), a->batch, a->heads, a->key_count, a->head_dim, value_scale);
  c.v = strided_create(hfb_philox_named(seed, "v"), a->batch, a->heads, a->key_count, a->value_dim, 1.0f);
  a->q = c.q.start, a->k = c.k.start, a->v = c.v.start;
  memcpy(a->q_strides, c.q.strides, sizeof a->q_strides);
  memcpy(a->k_strides, c.k.strides, sizeof a->k_strides);
  memcpy(a->v_strides, c.v.strides, sizeof a->v_strides);
  set_output(&c, seed);
  if (BELOW(3) == 0) a->modify = add_mask;
  if (BELOW(2)) a->dropout_p = 0.1 * (double)(1 + BELOW(6));
  if (BELOW(2)) {
    c.lse = test_malloc((size_t)(a->batch * a->heads * a->query_count) * sizeof(float));
    a->lse = c.lse;
  }
  a->dropout_site = BELOW(10);
  c.random_state[0] = (int64_t)(seed * 0x9E3779B97F4A7C15u);
  c.random_state[1] = (int64_t)seed;
#undef BELOW
  return c;
}

/* Frees the tensors; the case may be a copy, but only one of the copies is destroyed. */
static void destroy_case(attention_case *c) {
  strided *tensors[] = {&c->q, &c->k, &c->v, &c->out};
  for (int i = 0; i < 4; i++) strided_destroy(tensors[i]);
  test_free(c->lse);
}

static void run_seeds(uint64_t count, float value_scale) {
  hfb_pool *pools[4] = {NULL};
  const int threads[4] = {0, 1, 2, 5};
  for (int i = 1; i < 4; i++) assert_int_equal(hfb_pool_create(threads[i], &pools[i]), HFB_OK);
  for (uint64_t seed = first_seed; seed < first_seed + count; seed++) {
    attention_case c = make_case(seed, value_scale);
    c.attention.modify_context = &c.attention;
    c.attention.random_state = c.random_state;
    assert_int_equal(hfb_attention_run(&c.attention, c.isa, pools[seed % 4]), HFB_OK);
    check_result(&c, seed);
    destroy_case(&c);
  }
  for (int i = 1; i < 4; i++) hfb_pool_destroy(pools[i]);
}

static void test_random_cases(void **state) { run_seeds(seed_count, 1.0f); }

/* Scores of several hundred: the softmax is nearly a choice of one key, and exp would overflow without the maximum. */
static void test_large_scores(void **state) { run_seeds(seed_count / 4, 12.0f); }

static hfb_attention plain(int64_t queries, int64_t keys, int64_t dim, const float *q, const float *k, const float *v,
                           float *out) {
  return (hfb_attention){.batch = 1, .heads = 1, .query_count = queries, .key_count = keys, .head_dim = dim,
                         .value_dim = dim, .q = q, .k = k, .v = v, .out = out, .q_strides = {0, 0, dim},
                         .k_strides = {0, 0, dim}, .v_strides = {0, 0, dim}, .out_strides = {0, 0, dim}, .scale = 1};
}

static void set_row_minus_infinity(const void *context, float *scores, int64_t ld, int64_t batch, int64_t head,
                                   int64_t row, int64_t rows, int64_t col, int64_t cols) {
  const int64_t masked_row = *(const int64_t *)context;
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < cols; j++) {
      if (row + i == masked_row) scores[i * ld + j] = -INFINITY;
    }
  }
}

/* A row without any key is nan, a nan stays in its row, and the other rows do not notice. */
static void test_special_rows(void **state) {
  enum { QUERIES = 20, KEYS = 50, DIM = 16 };
  float q[QUERIES * DIM], k[KEYS * DIM], v[KEYS * DIM], out[QUERIES * DIM];
  const hfb_philox stream = hfb_philox_named(3, "special");
  for (int i = 0; i < QUERIES * DIM; i++) q[i] = (float)hfb_philox_normal(stream, (uint64_t)i);
  for (int i = 0; i < KEYS * DIM; i++) {
    k[i] = (float)hfb_philox_normal(stream, 1000 + (uint64_t)i);
    v[i] = 1.0f;
  }
  q[4 * DIM + 3] = NAN;
  const int64_t masked_row = 7;
  for (hfb_isa isa = HFB_ISA_GENERIC; isa <= HFB_ISA_AVX512; isa++) {
    for (int64_t queries = 8; queries <= QUERIES; queries += QUERIES - 8) { /* unpacked and packed */
      hfb_attention a = plain(queries, KEYS, DIM, q, k, v, out);
      a.modify = set_row_minus_infinity;
      a.modify_context = &masked_row;
      assert_int_equal(hfb_attention_run(&a, isa, NULL), HFB_OK);
      for (int64_t i = 0; i < queries * DIM; i++) {
        if (i / DIM == 4 || i / DIM == masked_row) {
          assert_true(isnan(out[i]));
        } else {
          assert_true(fabsf(out[i] - 1.0f) <= 1e-6f);
        }
      }
    }
  }
}

/* More queries than keys: with a causal mask the first rows see no key and are nan. No keys at all: zeros. */
static void test_empty_rows(void **state) {
  enum { QUERIES = 30, KEYS = 11, DIM = 8 };
  float q[QUERIES * DIM], k[KEYS * DIM], v[KEYS * DIM], out[QUERIES * DIM];
  for (int i = 0; i < QUERIES * DIM; i++) q[i] = 0.1f;
  for (int i = 0; i < KEYS * DIM; i++) k[i] = v[i] = 2.0f;
  for (hfb_isa isa = HFB_ISA_GENERIC; isa <= HFB_ISA_AVX512; isa++) {
    hfb_attention a = plain(QUERIES, KEYS, DIM, q, k, v, out);
    a.causal = 1;
    assert_int_equal(hfb_attention_run(&a, isa, NULL), HFB_OK);
    for (int i = 0; i < QUERIES * DIM; i++) {
      assert_true(i / DIM < QUERIES - KEYS ? isnan(out[i]) : fabsf(out[i] - 2.0f) <= 1e-6f);
    }
    float lse[QUERIES];
    a.key_count = 0;
    a.lse = lse;
    assert_int_equal(hfb_attention_run(&a, isa, NULL), HFB_OK);
    for (int i = 0; i < QUERIES * DIM; i++) assert_true(out[i] == 0 && lse[i / DIM] == -INFINITY);
    a.query_count = 0;
    assert_int_equal(hfb_attention_run(&a, isa, NULL), HFB_OK);
  }
}

/* Long enough for several blocks of rows and of keys; bit for bit the same for each number of threads. */
static void test_threads_do_not_matter(void **state) {
  attention_case c = {.isa = hfb_cpu()->isa};
  hfb_attention *a = &c.attention;
  *a = (hfb_attention){.batch = 1, .heads = 3, .query_count = 400, .key_count = 1700, .head_dim = 40, .value_dim = 64,
                       .scale = 0.15f, .causal = 1, .dropout_p = 0.2, .random_state = c.random_state};
  const size_t lse_bytes = 3 * 400 * sizeof(float);
  c.lse = a->lse = test_malloc(lse_bytes);
  c.q = strided_create(hfb_philox_named(1, "q"), 1, 3, 400, 40, 1);
  c.k = strided_create(hfb_philox_named(1, "k"), 1, 3, 1700, 40, 1);
  c.v = strided_create(hfb_philox_named(1, "v"), 1, 3, 1700, 64, 1);
  a->q = c.q.start, a->k = c.k.start, a->v = c.v.start;
  memcpy(a->q_strides, c.q.strides, sizeof a->q_strides);
  memcpy(a->k_strides, c.k.strides, sizeof a->k_strides);
  memcpy(a->v_strides, c.v.strides, sizeof a->v_strides);
  set_output(&c, 1);
  assert_int_equal(hfb_attention_run(a, c.isa, NULL), HFB_OK);
  check_result(&c, 0);
  const size_t bytes = (size_t)c.out.elements * sizeof(float);
  float *want = test_malloc(bytes), *want_lse = test_malloc(lse_bytes);
  memcpy(want, c.out.memory, bytes);
  memcpy(want_lse, c.lse, lse_bytes);
  for (int threads = 1; threads <= 5; threads++) {
    hfb_pool *pool = NULL;
    assert_int_equal(hfb_pool_create(threads, &pool), HFB_OK);
    assert_int_equal(hfb_attention_run(a, c.isa, pool), HFB_OK);
    assert_memory_equal(c.out.memory, want, bytes);
    assert_memory_equal(c.lse, want_lse, lse_bytes);
    hfb_pool_destroy(pool);
  }
  test_free(want);
  test_free(want_lse);
  destroy_case(&c);
}

static void test_bad_calls(void **state) {
  float x[4] = {0};
  hfb_attention a = plain(1, 1, 4, x, x, x, x);
  a.key_count = -2;
  assert_int_equal(hfb_attention_run(&a, HFB_ISA_GENERIC, NULL), HFB_INVALID_ARGUMENT);
  a.key_count = 1;
  assert_int_equal(hfb_attention_run(&a, HFB_ISA_GENERIC, NULL), HFB_OK);
  const double bad_p[] = {1, -0.1, NAN};
  const int64_t random_state[2] = {1, 2};
  a.random_state = random_state;
  for (int i = 0; i < 3; i++) {
    a.dropout_p = bad_p[i];
    assert_int_equal(hfb_attention_run(&a, HFB_ISA_GENERIC, NULL), HFB_INVALID_ARGUMENT);
  }
  a.dropout_p = 0.5;
  a.random_state = NULL;
  assert_int_equal(hfb_attention_run(&a, HFB_ISA_GENERIC, NULL), HFB_INVALID_ARGUMENT);
}

int main(int argc, char **argv) {
  if (argc > 1) first_seed = strtoull(argv[1], NULL, 10);
  if (argc > 2) seed_count = strtoull(argv[2], NULL, 10);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_cases), cmocka_unit_test(test_large_scores),
      cmocka_unit_test(test_special_rows), cmocka_unit_test(test_empty_rows),
      cmocka_unit_test(test_threads_do_not_matter), cmocka_unit_test(test_bad_calls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
