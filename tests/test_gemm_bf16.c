/* Matrix products that read B as bf16: the very result of B in f32, since its values are the same and sums are exact,
 * for every layout, size, instruction set and number of threads; and packing gives the same panels bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "base/rng.h"
#include "kernels/gemm.h"
#include "kernels/gemm_widen.h"
#include "support/need_ok.h"

enum { CASES = 400 };

typedef struct product {
  int64_t m, n, k, b_row_stride, b_col_stride, b_elements;
  float *a, *b, *got, *want, bias[512];
  uint16_t *narrow;
  bool a_is_transposed, has_bias;
} product;

static int64_t pick(hfb_philox stream, uint64_t *at, const int64_t *values, int64_t count) {
  return values[hfb_philox_below(stream, (*at)++, count)];
}
#define PICK(...) pick(stream, &at, (const int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static float *small_integers(hfb_philox stream, uint64_t *at, int64_t count) {
  float *values = calloc((size_t)count + 1, sizeof(float));
  assert_non_null(values);
  for (int64_t i = 0; i < count; i++) values[i] = (float)(hfb_philox_below(stream, (*at)++, 17) - 8);
  return values;
}

static product make_product(uint64_t seed) {
  const hfb_philox stream = hfb_philox_named(seed, "bf16");
  uint64_t at = 0;
  product p = {.m = PICK(1, 2, 3, 8, 16, 17, 64, 100, 130, 300),
               .n = PICK(1, 2, 4, 5, 16, 17, 33, 48, 64, 65, 130, 333),
               .k = PICK(1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200, 400, 769)};
  const int64_t layout = PICK(0, 0, 1, 1, 2), pad = PICK(0, 0, 1, 5);
  p.b_row_stride = layout == 0 ? p.n + pad : layout == 1 ? 1 : 2 * p.n + pad;
  p.b_col_stride = layout == 0 ? 1 : layout == 1 ? p.k + pad : 2;
  p.b_elements = layout == 1 ? p.n * p.b_col_stride : p.k * p.b_row_stride;
  p.a_is_transposed = PICK(0, 0, 1);
  p.has_bias = PICK(0, 1);
  p.a = small_integers(stream, &at, p.m * p.k);
  p.b = small_integers(stream, &at, p.b_elements);
  p.got = calloc((size_t)(p.m * p.n), sizeof(float));
  p.want = calloc((size_t)(p.m * p.n), sizeof(float));
  p.narrow = calloc((size_t)p.b_elements + 1, sizeof(uint16_t));
  assert_true(p.got && p.want && p.narrow);
  for (int64_t i = 0; i < p.b_elements; i++) p.narrow[i] = hfb_f32_to_bf16(p.b[i]);
  for (int64_t i = 0; i < p.n; i++) p.bias[i] = (float)(i % 23);
  return p;
}

static void release(product *p) {
  free(p->a);
  free(p->b);
  free(p->got);
  free(p->want);
  free(p->narrow);
}

static hfb_gemm gemm_of(const product *p, bool is_bf16) {
  return (hfb_gemm){.dtype = HFB_F32,
                    .m = p->m,
                    .n = p->n,
                    .k = p->k,
                    .batch = 1,
                    .a = p->a,
                    .a_row_stride = p->a_is_transposed ? 1 : p->k,
                    .a_col_stride = p->a_is_transposed ? p->m : 1,
                    .b = is_bf16 ? (const void *)p->narrow : p->b,
                    .b_is_bf16 = is_bf16,
                    .b_row_stride = p->b_row_stride,
                    .b_col_stride = p->b_col_stride,
                    .c = is_bf16 ? p->got : p->want,
                    .c_row_stride = p->n,
                    .alpha = 1.0f,
                    .bias = p->has_bias ? p->bias : NULL};
}

static void test_products(void **state) {
  (void)state;
  hfb_pool *pool = NULL;
  need_ok(hfb_pool_create(3, &pool), "pool");
  for (uint64_t seed = 0; seed < CASES; seed++) {
    product p = make_product(seed);
    const hfb_isa isa = (hfb_isa)(seed % 3);
    const hfb_gemm wide = gemm_of(&p, false), narrow = gemm_of(&p, true);
    need_ok(hfb_gemm_run(&wide, isa, pool), "f32");
    need_ok(hfb_gemm_run(&narrow, isa, seed % 2 ? pool : NULL), "bf16");
    if (memcmp(p.got, p.want, (size_t)(p.m * p.n) * sizeof(float)) != 0) {
      fail_msg("seed %d: m %d, n %d, k %d differ", (int)seed, (int)p.m, (int)p.n, (int)p.k);
    }
    release(&p);
  }
  hfb_pool_destroy(pool);
}

/* Three matrices in a row. */
static void test_batch(void **state) {
  (void)state;
  enum { B = 3, M = 5, N = 7, K = 33 };
  float a[B * M * K], got[B * M * N], want[B * M * N], b[B * K * N];
  uint16_t narrow[B * K * N];
  for (int i = 0; i < B * M * K; i++) a[i] = (float)(i % 5 - 2);
  for (int i = 0; i < B * K * N; i++) narrow[i] = hfb_f32_to_bf16(b[i] = (float)(i % 7 - 3));
  hfb_gemm gemm = {.dtype = HFB_F32, .m = M, .n = N, .k = K, .batch = B, .a = a, .a_row_stride = K, .a_col_stride = 1,
                   .b = b, .b_row_stride = N, .b_col_stride = 1, .c = want, .c_row_stride = N, .batch_rank = 1,
                   .batch_dims = {B}, .a_batch_strides = {M * K}, .b_batch_strides = {K * N},
                   .c_batch_strides = {M * N}, .alpha = 1.0f};
  need_ok(hfb_gemm_run(&gemm, hfb_cpu()->isa, NULL), "f32");
  gemm.b = narrow;
  gemm.b_is_bf16 = 1;
  gemm.c = got;
  need_ok(hfb_gemm_run(&gemm, hfb_cpu()->isa, NULL), "bf16");
  assert_memory_equal(got, want, sizeof(got));
}

/* Every bit pattern, also NaN and subnormals: packed as conversion and packing one after the other do. */
static void test_panels(void **state) {
  (void)state;
  enum { K = 256, N = 256, WIDEST = 64 };
  const hfb_gemm_isa *kernels = hfb_gemm_isa_select(HFB_F32, hfb_cpu()->isa);
  const int64_t width = hfb_gemm_panel_width(kernels, N);
  static uint16_t narrow[K * N];
  static float wide[K * N];
  static _Alignas(64) float got[K * (N + WIDEST)], want[K * (N + WIDEST)];
  for (int i = 0; i < K * N; i++) narrow[i] = (uint16_t)i;
  hfb_bf16_row_to_f32(narrow, K * N, wide);
  for (int i = 0; i < K * N; i++) {
    const float one = hfb_bf16_to_f32(narrow[i]);
    assert_memory_equal(&one, &wide[i], sizeof(one));
  }
  for (int layout = 0; layout < 2; layout++) {
    const int64_t row_stride = layout == 0 ? N : 1, col_stride = layout == 0 ? 1 : K;
    kernels->pack_b(wide, row_stride, col_stride, K, N - 3, width, want);
    hfb_gemm_pack_bf16(kernels, narrow, row_stride, col_stride, K, N - 3, width, got);
    assert_memory_equal(got, want, (size_t)((N - 3 + width - 1) / width * width * K) * sizeof(float));
  }
}

static void test_bad_calls(void **state) {
  (void)state;
  double d[1] = {0};
  const hfb_gemm gemm = {.dtype = HFB_F64, .m = 1, .n = 1, .k = 1, .batch = 1, .a = d, .b = d, .c = d, .b_is_bf16 = 1};
  assert_int_equal(hfb_gemm_run(&gemm, HFB_ISA_GENERIC, NULL), HFB_UNSUPPORTED);
  if (!strstr(hfb_error_message(), "only f32 products widen B")) fail_msg("%s", hfb_error_message());
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_products),
      cmocka_unit_test(test_batch),
      cmocka_unit_test(test_panels),
      cmocka_unit_test(test_bad_calls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
