/* Matrix products in percent of the measured peak: B packed before, B as a linear layer stores it ([n][k]) and B row by
 * row ([k][n]), the last two packed during the product; and the same with A stored column by column, as it is in the
 * gradient of a weight (both factors are [k][..]).
 *
 *   bench_gemm [--threads N] [--rounds N] [--only NAME] [SHAPES_FILE]
 *
 * The ways are measured in turn, round after round, so that a slow moment of the machine meets each alike. For each:
 * the median in GFLOP/s, in percent of the peak, and the percent that the best tenth of the rounds reaches.
 * HFBENCH_ISA lowers the instruction set. */
#include "base/memory.h"
#include "kernels/gemm.h"
#include "rounds.h"

enum { WAY_COUNT = 4 };
static const char *const way_names[WAY_COUNT] = {"packed", "[n][k]", "[k][n]", "A^T"};

typedef struct gemm_call {
  hfb_gemm gemm;
  hfb_pool *pool;
} gemm_call;

static void run_gemm(void *context) {
  const gemm_call *call = context;
  bench_require(hfb_gemm_run(&call->gemm, hfb_cpu()->isa, call->pool));
}

static float *make_matrix(int64_t elements) {
  float *matrix = NULL;
  bench_require(hfb_mem_alloc_aligned((size_t)elements * sizeof(float), 64, &matrix));
  for (int64_t i = 0; i < elements; i++) matrix[i] = (float)(i % 13 - 6) * 0.125f;
  return matrix;
}

static void bench_shape_run(const bench_shape *shape, bench_session *session) {
  const int64_t m = shape->value[0], n = shape->value[1], k = shape->value[2];
  const hfb_isa isa = hfb_cpu()->isa;
  float *a = make_matrix(m * k), *b = make_matrix(k * n), *c = make_matrix(m * n);
  void *memory = NULL;
  hfb_packed_b *packed = NULL;
  bench_require(hfb_mem_alloc_aligned(hfb_gemm_packed_bytes(HFB_F32, k, n, isa), 64, &memory));
  bench_require(hfb_gemm_pack_b(HFB_F32, k, n, b, 1, k, isa, session->pool, memory, &packed));

  gemm_call calls[WAY_COUNT];
  for (int way = 0; way < WAY_COUNT; way++) {
    calls[way] = (gemm_call){.gemm = {.dtype = HFB_F32, .m = m, .n = n, .k = k, .batch = 1, .a = a, .a_row_stride = k,
                                      .a_col_stride = 1, .b = b, .b_row_stride = 1, .b_col_stride = k, .c = c,
                                      .c_row_stride = n, .alpha = 1},
                             .pool = session->pool};
  }
  calls[0].gemm.packed_b = packed;
  for (int way = 2; way < WAY_COUNT; way++) {
    calls[way].gemm.b_row_stride = n;
    calls[way].gemm.b_col_stride = 1;
  }
  calls[3].gemm.a_row_stride = 1;
  calls[3].gemm.a_col_stride = m;

  static double ns[WAY_COUNT][MAX_ROUNDS];
  for (int way = 0; way < WAY_COUNT; way++) run_gemm(&calls[way]);
  for (int round = 0; round < session->options.rounds; round++) {
    for (int way = 0; way < WAY_COUNT; way++) ns[way][round] = bench_sample_ns(run_gemm, &calls[way]);
  }
  bench_session_update_peak(session);
  const double flops = 2.0 * (double)m * (double)n * (double)k;
  printf("%-24s %6lld %6lld %6lld", shape->name, (long long)m, (long long)n, (long long)k);
  for (int way = 0; way < WAY_COUNT; way++) bench_print_rate(session, flops, ns[way]);
  printf("\n");
  fflush(stdout);
  hfb_gemm_packed_destroy(packed);
  hfb_mem_free(memory);
  hfb_mem_free(a);
  hfb_mem_free(b);
  hfb_mem_free(c);
}

int main(int argc, char **argv) {
  bench_session session = bench_session_open(argc, argv, HFB_BENCH_SHAPES "/gemm.txt");
  printf("%-24s %6s %6s %6s", "", "m", "n", "k");
  for (int way = 0; way < WAY_COUNT; way++) printf("  | %7s %6s %6s", way_names[way], "median", "best");
  printf("\n");
  bench_shape shape;
  while (bench_shape_next(&session, 3, &shape)) bench_shape_run(&shape, &session);
  bench_session_close(&session);
  return 0;
}
