/* Matrix products on every instruction set against plain loops. The factors hold small integers, so every partial sum
 * is exact in float and the results must be equal, whatever the order of the additions.
 * Arguments: [first seed] [number of seeds]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "kernels/gemm.h"

enum { MAX_RANK = 3, GUARD_ELEMENTS = 64 };

static uint64_t first_seed = 1, seed_count = 1200;

/* ---- memory whose end is the end of a page, with nothing behind ---- */

typedef struct fenced {
  char *pages, *data;
  size_t mapped_bytes, bytes;
} fenced;

static fenced fenced_create(size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  fenced f = {.bytes = bytes, .mapped_bytes = (bytes + page - 1) / page * page + page};
  f.pages = mmap(NULL, f.mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(f.pages != MAP_FAILED);
  assert_int_equal(mprotect(f.pages + f.mapped_bytes - page, page, PROT_NONE), 0);
  f.data = f.pages + f.mapped_bytes - page - bytes;
  return f;
}

static void fenced_destroy(fenced *f) { munmap(f->pages, f->mapped_bytes); }

/* ---- a random case ---- */

typedef struct random_source {
  hfb_philox stream;
  uint64_t next;
} random_source;

static int64_t below(random_source *random, int64_t bound) {
  return hfb_philox_below(random->stream, random->next++, bound);
}

static int64_t pick(random_source *random, const int64_t *values, size_t count) {
  return values[below(random, (int64_t)count)];
}
#define PICK(random, ...) \
  pick((random), (const int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

typedef struct matrix {
  fenced memory;
  int64_t row_stride, col_stride;
  int64_t batch_strides[6];
} matrix;

typedef struct gemm_case {
  hfb_gemm gemm;
  hfb_isa isa;
  matrix a, b, c;
  fenced bias;
  int64_t batch_dims[MAX_RANK];
  bool is_packed, has_epilogue;
} gemm_case;

static double element(hfb_dtype dtype, const void *p, int64_t i) {
  return dtype == HFB_F32 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}

static void set_element(hfb_dtype dtype, void *p, int64_t i, double value) {
  if (dtype == HFB_F32) {
    ((float *)p)[i] = (float)value;
  } else {
    ((double *)p)[i] = value;
  }
}

/* A factor of rows x cols with integers in [-8, 8]; layout 0: row-major, 1: column-major, 2: neither; padded or not;
 * a batch dimension is sometimes broadcast (stride 0). */
static matrix make_factor(random_source *random, const gemm_case *c, int64_t rows, int64_t cols) {
  matrix m = {0};
  const int64_t layout = PICK(random, 0, 0, 0, 1, 1, 1, 2), pad = PICK(random, 0, 0, 1, 3, 16);
  int64_t extent;
  if (layout == 0) {
    m.row_stride = cols + pad, m.col_stride = 1;
    extent = rows * m.row_stride;
  } else if (layout == 1) {
    m.row_stride = 1, m.col_stride = rows + pad;
    extent = cols * m.col_stride;
  } else {
    m.col_stride = 2, m.row_stride = 2 * cols + pad;
    extent = rows * m.row_stride;
  }
  int64_t elements = extent;
  for (int d = c->gemm.batch_rank - 1; d >= 0; d--) {
    const bool is_broadcast = below(random, 4) == 0;
    m.batch_strides[d] = is_broadcast ? 0 : elements;
    if (!is_broadcast) elements *= c->gemm.batch_dims[d];
  }
  m.memory = fenced_create((size_t)elements * hfb_dtype_bytes(c->gemm.dtype));
  for (int64_t i = 0; i < elements; i++) {
    set_element(c->gemm.dtype, m.memory.data, i, (double)(below(random, 17) - 8));
  }
  return m;
}

static const double guard_value = -77777.0;

static matrix make_result(random_source *random, const gemm_case *c) {
  matrix m = {.row_stride = c->gemm.n + PICK(random, 0, 0, 1, 7, 16), .col_stride = 1};
  int64_t elements = c->gemm.m * m.row_stride;
  for (int d = c->gemm.batch_rank - 1; d >= 0; d--) {
    m.batch_strides[d] = elements;
    elements *= c->gemm.batch_dims[d];
  }
  elements += 2 * GUARD_ELEMENTS;
  m.memory = fenced_create((size_t)elements * hfb_dtype_bytes(c->gemm.dtype));
  for (int64_t i = 0; i < elements; i++) set_element(c->gemm.dtype, m.memory.data, i, guard_value);
  return m;
}

static char *result_start(const gemm_case *c) {
  return c->c.memory.data + GUARD_ELEMENTS * hfb_dtype_bytes(c->gemm.dtype);
}

/* What the epilogue sees is checked, and what it does (x becomes 2x + 1) shows whether it saw each element once. */
static void check_epilogue(const void *context, void *tile, int64_t ldc, int64_t batch, int64_t row, int64_t rows,
                           int64_t col, int64_t cols) {
  const gemm_case *c = context;
  assert_true(batch >= 0 && batch < c->gemm.batch && rows > 0 && cols > 0);
  assert_true(row >= 0 && row + rows <= c->gemm.m && col >= 0 && col + cols <= c->gemm.n);
  assert_true(ldc == c->c.row_stride);
  int64_t offset = row * ldc + col;
  for (int d = c->gemm.batch_rank - 1, rest = (int)batch; d >= 0; rest /= (int)c->gemm.batch_dims[d], d--) {
    offset += rest % c->gemm.batch_dims[d] * c->c.batch_strides[d];
  }
  assert_ptr_equal(tile, result_start(c) + offset * (int64_t)hfb_dtype_bytes(c->gemm.dtype));
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < cols; j++) {
      set_element(c->gemm.dtype, tile, i * ldc + j, 2 * element(c->gemm.dtype, tile, i * ldc + j) + 1);
    }
  }
}

static gemm_case make_case(uint64_t seed) {
  random_source random = {hfb_philox_named(seed, "gemm"), 0};
  gemm_case c = {0};
  hfb_gemm *g = &c.gemm;
  g->dtype = below(&random, 4) == 0 ? HFB_F64 : HFB_F32;
  c.isa = (hfb_isa)below(&random, 3);
  const bool has_epilogue = below(&random, 2), is_packed = below(&random, 3) == 0;
  g->m = PICK(&random, 0, 1, 2, 3, 5, 8, 13, 14, 16, 17, 23, 64, 65, 79, 81, 130, 300);
  g->n = PICK(&random, 0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 47, 48, 49, 64, 95, 97, 144, 200, 333);
  g->k = PICK(&random, 0, 1, 2, 7, 8, 15, 16, 17, 31, 64, 65, 100, 191, 200, 383, 400, 769, 1600);
  g->batch_rank = is_packed ? 0 : (int)PICK(&random, 0, 0, 0, 1, 2, 3);
  while (g->m * g->n * g->k > 4000000) g->k /= 2;
  g->batch = 1;
  for (int d = 0; d < g->batch_rank; d++) g->batch *= g->batch_dims[d] = 1 + below(&random, 3);
  c.a = make_factor(&random, &c, g->m, g->k);
  c.b = make_factor(&random, &c, g->k, g->n);
  c.c = make_result(&random, &c);
  g->a = c.a.memory.data, g->a_row_stride = c.a.row_stride, g->a_col_stride = c.a.col_stride;
  g->b = c.b.memory.data, g->b_row_stride = c.b.row_stride, g->b_col_stride = c.b.col_stride;
  g->c = result_start(&c), g->c_row_stride = c.c.row_stride;
  memcpy(g->a_batch_strides, c.a.batch_strides, sizeof g->a_batch_strides);
  memcpy(g->b_batch_strides, c.b.batch_strides, sizeof g->b_batch_strides);
  memcpy(g->c_batch_strides, c.c.batch_strides, sizeof g->c_batch_strides);
  g->alpha = below(&random, 3) == 0 ? 0.5f : 1.0f;
  g->accumulate = below(&random, 3) == 0;
  c.bias = fenced_create((size_t)g->n * sizeof(float));
  for (int64_t j = 0; j < g->n; j++) set_element(HFB_F32, c.bias.data, j, (double)(below(&random, 101) - 50));
  if (g->dtype == HFB_F32 && below(&random, 2)) g->bias = (const float *)c.bias.data;
  c.has_epilogue = has_epilogue;
  c.is_packed = is_packed;
  return c;
}

static void destroy_case(gemm_case *c) {
  fenced_destroy(&c->a.memory);
  fenced_destroy(&c->b.memory);
  fenced_destroy(&c->c.memory);
  fenced_destroy(&c->bias);
}

/* The whole memory of C as it has to be, guards and padding included. */
static char *expected_result(const gemm_case *c) {
  const hfb_gemm *g = &c->gemm;
  char *expected = test_malloc(c->c.memory.bytes + 1);
  memcpy(expected, c->c.memory.data, c->c.memory.bytes);
  for (int64_t batch = 0; batch < g->batch; batch++) {
    int64_t a = 0, b = 0, to = GUARD_ELEMENTS, rest = batch;
    for (int d = g->batch_rank - 1; d >= 0; rest /= g->batch_dims[d], d--) {
      a += rest % g->batch_dims[d] * c->a.batch_strides[d];
      b += rest % g->batch_dims[d] * c->b.batch_strides[d];
      to += rest % g->batch_dims[d] * c->c.batch_strides[d];
    }
    for (int64_t i = 0; i < g->m; i++) {
      for (int64_t j = 0; j < g->n; j++) {
        double sum = 0;
        for (int64_t k = 0; k < g->k; k++) {
          sum += element(g->dtype, g->a, a + i * c->a.row_stride + k * c->a.col_stride) *
                 element(g->dtype, g->b, b + k * c->b.row_stride + j * c->b.col_stride);
        }
        sum *= (double)g->alpha;
        if (g->accumulate) sum += guard_value;
        if (g->bias) sum += (double)g->bias[j];
        set_element(g->dtype, expected, to + i * c->c.row_stride + j, c->has_epilogue ? 2 * sum + 1 : sum);
      }
    }
  }
  return expected;
}

static void print_case(uint64_t seed, const gemm_case *c) {
  const hfb_gemm *g = &c->gemm;
  print_message("seed %llu: %s %s m %lld n %lld k %lld batch %lld a (%lld,%lld) b (%lld,%lld) alpha %g accumulate %d "
                "bias %d epilogue %d packed %d\n",
                (unsigned long long)seed, hfb_dtype_name(g->dtype), hfb_isa_name(c->isa), (long long)g->m,
                (long long)g->n, (long long)g->k, (long long)g->batch, (long long)g->a_row_stride,
                (long long)g->a_col_stride, (long long)g->b_row_stride, (long long)g->b_col_stride, (double)g->alpha,
                g->accumulate, g->bias != NULL, c->has_epilogue, c->is_packed);
}

static void run_case(uint64_t seed, hfb_pool *pool) {
  gemm_case c = make_case(seed);
  char *expected = expected_result(&c);
  c.gemm.epilogue = c.has_epilogue ? check_epilogue : NULL;
  c.gemm.epilogue_context = &c;
  hfb_packed_b *packed = NULL;
  void *memory = NULL;
  if (c.is_packed) {
    const size_t bytes = hfb_gemm_packed_bytes(c.gemm.dtype, c.gemm.k, c.gemm.n, c.isa);
    assert_int_equal(hfb_mem_alloc_aligned(bytes, 64, &memory), HFB_OK);
    assert_int_equal(hfb_gemm_pack_b(c.gemm.dtype, c.gemm.k, c.gemm.n, c.gemm.b, c.gemm.b_row_stride,
                                     c.gemm.b_col_stride, c.isa, pool, memory, &packed),
                     HFB_OK);
    c.gemm.packed_b = packed;
    c.gemm.b = NULL;
  }
  assert_int_equal(hfb_gemm_run(&c.gemm, c.isa, pool), HFB_OK);
  for (int64_t i = 0; i < (int64_t)(c.c.memory.bytes / hfb_dtype_bytes(c.gemm.dtype)); i++) {
    const double got = element(c.gemm.dtype, c.c.memory.data, i), want = element(c.gemm.dtype, expected, i);
    if (got == want) continue;
    print_case(seed, &c);
    print_message("element %lld of C's memory (%d guard elements): got %g, expected %g\n", (long long)i, GUARD_ELEMENTS,
                  got, want);
    fail();
  }
  hfb_gemm_packed_destroy(packed);
  hfb_mem_free(memory);
  test_free(expected);
  destroy_case(&c);
}

static void test_random_cases(void **state) {
  hfb_pool *pools[4] = {NULL};
  const int threads[4] = {0, 1, 2, 5};
  for (int i = 1; i < 4; i++) assert_int_equal(hfb_pool_create(threads[i], &pools[i]), HFB_OK);
  for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++) run_case(seed, pools[seed % 4]);
  for (int i = 1; i < 4; i++) hfb_pool_destroy(pools[i]);
}

/* ---- rounding, with values of every size ---- */

typedef struct float_problem {
  int64_t m, n, k;
  float *a, *b;
} float_problem;

static float_problem make_problem(int64_t m, int64_t n, int64_t k) {
  float_problem p = {.m = m, .n = n, .k = k};
  const hfb_philox stream = hfb_philox_named(7, "rounding");
  p.a = test_malloc((size_t)(m * k) * sizeof(float));
  p.b = test_malloc((size_t)(k * n) * sizeof(float));
  for (int64_t i = 0; i < m * k; i++) p.a[i] = (float)hfb_philox_normal(stream, (uint64_t)i);
  for (int64_t i = 0; i < k * n; i++) p.b[i] = (float)hfb_philox_normal(stream, (uint64_t)(m * k + i));
  return p;
}

static void destroy_problem(float_problem *p) {
  test_free(p->a);
  test_free(p->b);
}

/* B is stored as [n][k], the layout of a linear layer's weight; A as [m][k] or, as for a weight's gradient, [k][m]. */
static hfb_gemm product_of(const float_problem *p, bool a_is_transposed, float *c) {
  return (hfb_gemm){.dtype = HFB_F32, .m = p->m, .n = p->n, .k = p->k, .batch = 1, .a = p->a,
                    .a_row_stride = a_is_transposed ? 1 : p->k, .a_col_stride = a_is_transposed ? p->m : 1, .b = p->b,
                    .b_row_stride = 1, .b_col_stride = p->k, .c = c, .c_row_stride = p->n, .alpha = 1};
}

/* |error| <= k eps sum |a||b| / 8: a tenth of the worst case, several times what blocked sums reach. */
static void check_rounding(const float_problem *p, const hfb_gemm *gemm, const float *c) {
  for (int64_t i = 0; i < p->m * p->n; i++) {
    double sum = 0, magnitude = 0;
    for (int64_t k = 0; k < p->k; k++) {
      const double a = (double)p->a[i / p->n * gemm->a_row_stride + k * gemm->a_col_stride];
      const double term = a * (double)p->b[i % p->n * p->k + k];
      sum += term;
      magnitude += term < 0 ? -term : term;
    }
    const double error = (double)c[i] - sum;
    assert_true((error < 0 ? -error : error) <= (double)p->k * 0x1p-24 * magnitude / 8);
  }
}

/* The last but one is packed in several stages when A is transposed. */
static void test_rounding(void **state) {
  const int64_t shapes[][3] = {{70, 100, 1600}, {9, 50, 3072}, {18, 3100, 900}, {128, 3, 768}};
  for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
    float_problem p = make_problem(shapes[s][0], shapes[s][1], shapes[s][2]);
    float *c = test_malloc((size_t)(p.m * p.n) * sizeof(float));
    for (int way = 0; way < 2 * (HFB_ISA_AVX512 + 1); way++) {
      const hfb_gemm gemm = product_of(&p, way % 2, c);
      assert_int_equal(hfb_gemm_run(&gemm, (hfb_isa)(way / 2), NULL), HFB_OK);
      check_rounding(&p, &gemm, c);
    }
    test_free(c);
    destroy_problem(&p);
  }
}

/* Bit for bit the same with 1 to 5 threads and without a pool: B packed before and not, A transposed. */
static void test_threads_do_not_matter(void **state) {
  const int64_t shapes[][3] = {{500, 700, 1000}, {12, 1500, 800}, {1000, 3, 900}, {100, 3100, 900}};
  for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
    float_problem p = make_problem(shapes[s][0], shapes[s][1], shapes[s][2]);
    const size_t bytes = (size_t)(p.m * p.n) * sizeof(float);
    float *want[3] = {test_malloc(bytes), test_malloc(bytes), test_malloc(bytes)}, *got = test_malloc(bytes);
    void *memory = NULL;
    hfb_packed_b *packed = NULL;
    const hfb_isa isa = hfb_cpu()->isa;
    assert_int_equal(hfb_mem_alloc_aligned(hfb_gemm_packed_bytes(HFB_F32, p.k, p.n, isa), 64, &memory), HFB_OK);
    assert_int_equal(hfb_gemm_pack_b(HFB_F32, p.k, p.n, p.b, 1, p.k, isa, NULL, memory, &packed), HFB_OK);
    for (int threads = 0; threads <= 5; threads++) {
      hfb_pool *pool = NULL;
      if (threads > 0) assert_int_equal(hfb_pool_create(threads, &pool), HFB_OK);
      for (int way = 0; way < 3; way++) {
        hfb_gemm gemm = product_of(&p, way == 2, threads == 0 ? want[way] : got);
        if (way == 1) gemm.packed_b = packed;
        assert_int_equal(hfb_gemm_run(&gemm, isa, pool), HFB_OK);
        if (threads > 0) assert_memory_equal(got, want[way], bytes);
      }
      hfb_pool_destroy(pool);
    }
    hfb_gemm_packed_destroy(packed);
    hfb_mem_free(memory);
    for (int way = 0; way < 3; way++) test_free(want[way]);
    test_free(got);
    destroy_problem(&p);
  }
}

/* One matrix packed in its own memory: products as with a packed copy, bit for bit, and its columns come back. */
static void check_in_place(int64_t k, int64_t n, bool by_columns, hfb_isa isa, hfb_pool *pool) {
  enum { ROWS = 20 };
  const int64_t row_stride = by_columns ? 1 : n, col_stride = by_columns ? k : 1;
  float_problem p = make_problem(ROWS, n, k);
  float *b = NULL, *copy = NULL, *columns = test_malloc((size_t)(n * k) * sizeof(float));
  void *memory = NULL, *work = NULL, *rest = NULL;
  int64_t *ids = test_malloc((size_t)n * sizeof *ids);
  assert_int_equal(hfb_mem_alloc_aligned((size_t)(k * n) * sizeof(float), 64, &b), HFB_OK);
  assert_int_equal(hfb_mem_alloc_aligned((size_t)(k * n) * sizeof(float), 64, &copy), HFB_OK);
  memcpy(b, p.b, (size_t)(k * n) * sizeof(float));
  memcpy(copy, p.b, (size_t)(k * n) * sizeof(float));
  hfb_packed_b *packed = NULL, *in_place = NULL;
  assert_int_equal(hfb_mem_alloc_aligned(hfb_gemm_packed_bytes(HFB_F32, k, n, isa), 64, &memory), HFB_OK);
  assert_int_equal(hfb_gemm_pack_b(HFB_F32, k, n, copy, row_stride, col_stride, isa, pool, memory, &packed), HFB_OK);
  const hfb_gemm_in_place plan = hfb_gemm_plan_in_place(HFB_F32, k, n, row_stride, col_stride, isa, pool);
  assert_true(plan.is_possible);
  if (n % 64 == 0) assert_true(plan.rest_bytes == 0); /* whole vectors of every instruction set */
  assert_int_equal(hfb_mem_alloc_aligned(plan.work_bytes, 64, &work), HFB_OK);
  if (plan.rest_bytes) assert_int_equal(hfb_mem_alloc_aligned(plan.rest_bytes, 64, &rest), HFB_OK);
  assert_int_equal(
      hfb_gemm_pack_b_in_place(HFB_F32, k, n, b, row_stride, col_stride, isa, pool, work, rest, &in_place), HFB_OK);

  const size_t bytes = (size_t)(ROWS * n) * sizeof(float);
  float *want = test_malloc(bytes), *got = test_malloc(bytes);
  for (int way = 0; way < 2; way++) {
    hfb_gemm gemm = product_of(&p, false, way == 0 ? want : got);
    gemm.packed_b = way == 0 ? packed : in_place;
    assert_int_equal(hfb_gemm_run(&gemm, isa, pool), HFB_OK);
  }
  assert_memory_equal(want, got, bytes);
  for (int64_t i = 0; i < n; i++) ids[i] = n - 1 - i;
  hfb_gemm_unpack_columns(in_place, ids, n, pool, columns);
  for (int64_t i = 0; i < n * k; i++) {
    assert_true(columns[i] == copy[i % k * row_stride + (n - 1 - i / k) * col_stride]);
  }
  const int64_t outside[2] = {-1, n};
  hfb_gemm_unpack_columns(in_place, outside, 2, NULL, columns);
  assert_true(columns[0] == copy[0] && columns[k] == copy[(n - 1) * col_stride]);
  hfb_gemm_packed_destroy(packed);
  hfb_gemm_packed_destroy(in_place);
  hfb_mem_free(memory);
  hfb_mem_free(work);
  hfb_mem_free(rest);
  hfb_mem_free(b);
  hfb_mem_free(copy);
  test_free(columns);
  test_free(ids);
  test_free(want);
  test_free(got);
  destroy_problem(&p);
}

static void test_packed_in_place(void **state) {
  const int64_t shapes[][2] = {{1, 64}, {100, 64}, {33, 192}, {768, 128}, {900, 130}, {17, 1000}, {800, 1037},
                               {70, 1024}};
  hfb_pool *pool = NULL;
  assert_int_equal(hfb_pool_create(3, &pool), HFB_OK);
  for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
    for (int way = 0; way < 4; way++) {
      for (int isa = 0; isa <= (int)hfb_cpu()->isa; isa++) {
        check_in_place(shapes[s][0], shapes[s][1], way % 2, (hfb_isa)isa, way < 2 ? NULL : pool);
      }
    }
  }
  hfb_pool_destroy(pool);
}

static void test_bad_calls(void **state) {
  float a[4] = {1, 2, 3, 4}, c[4];
  hfb_gemm good = {.dtype = HFB_F32, .m = 2, .n = 2, .k = 2, .batch = 1, .a = a, .a_row_stride = 2, .a_col_stride = 1,
                   .b = a, .b_row_stride = 2, .b_col_stride = 1, .c = c, .c_row_stride = 2, .alpha = 1};
  assert_int_equal(hfb_gemm_run(&good, HFB_ISA_GENERIC, NULL), HFB_OK);
  hfb_gemm bad = good;
  bad.dtype = HFB_I32;
  assert_int_equal(hfb_gemm_run(&bad, HFB_ISA_GENERIC, NULL), HFB_UNSUPPORTED);
  bad = good;
  bad.k = -1;
  assert_int_equal(hfb_gemm_run(&bad, HFB_ISA_GENERIC, NULL), HFB_INVALID_ARGUMENT);
  bad = good;
  bad.batch = 3;
  assert_int_equal(hfb_gemm_run(&bad, HFB_ISA_GENERIC, NULL), HFB_INVALID_ARGUMENT);
  _Alignas(64) float memory[64];
  hfb_packed_b *packed = NULL;
  assert_true(hfb_gemm_packed_bytes(HFB_F32, 2, 2, HFB_ISA_GENERIC) <= sizeof memory);
  assert_int_equal(hfb_gemm_pack_b(HFB_F32, 2, 2, a, 2, 1, HFB_ISA_GENERIC, NULL, memory + 1, &packed),
                   HFB_INVALID_ARGUMENT);
  assert_int_equal(hfb_gemm_pack_b(HFB_F32, 2, 2, a, 2, 1, HFB_ISA_GENERIC, NULL, memory, &packed), HFB_OK);
  bad = good;
  bad.packed_b = packed;
  bad.k = 1;
  assert_int_equal(hfb_gemm_run(&bad, HFB_ISA_GENERIC, NULL), HFB_MISMATCH);
  if (hfb_cpu()->isa > HFB_ISA_GENERIC) {
    bad.k = 2;
    assert_int_equal(hfb_gemm_run(&bad, HFB_ISA_AVX2, NULL), HFB_MISMATCH);
  }
  hfb_gemm_packed_destroy(packed);
  hfb_packed_b *in_place = NULL;
  assert_false(hfb_gemm_plan_in_place(HFB_F32, 2, 64, 65, 1, HFB_ISA_GENERIC, NULL).is_possible); /* gaps */
  assert_false(hfb_gemm_plan_in_place(HFB_F32, 2, 1, 1, 2, HFB_ISA_GENERIC, NULL).is_possible);   /* no whole panel */
  assert_int_equal(hfb_gemm_pack_b_in_place(HFB_F32, 2, 1, memory, 1, 2, HFB_ISA_GENERIC, NULL, memory, memory,
                                            &in_place),
                   HFB_INVALID_ARGUMENT);
}

int main(int argc, char **argv) {
  if (argc > 1) first_seed = strtoull(argv[1], NULL, 10);
  if (argc > 2) seed_count = strtoull(argv[2], NULL, 10);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_cases),
      cmocka_unit_test(test_rounding),
      cmocka_unit_test(test_threads_do_not_matter),
      cmocka_unit_test(test_packed_in_place),
      cmocka_unit_test(test_bad_calls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
