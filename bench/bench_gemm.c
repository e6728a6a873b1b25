/* Matrix products in percent of the measured peak: B packed before, B as a linear layer stores it ([n][k]) and B row by
 * row ([k][n]), the last two packed during the product; and the same with A stored column by column, as it is in the
 * gradient of a weight (both factors are [k][..]).
 *
 *   bench_gemm [--threads N] [--rounds N] [--only NAME] [SHAPES_FILE]
 *
 * The ways are measured in turn, round after round, so that a slow moment of the machine meets each alike. For each:
 * the median in GFLOP/s, in percent of the peak, and the percent that the best tenth of the rounds reaches.
 * HFBENCH_ISA lowers the instruction set. */
#include "base/cpu.h"
#include "base/memory.h"
#include "kernels/gemm.h"
#include "kernels/peak.h"
#include "rounds.h"

enum { WAY_COUNT = 4 };
static const char *const way_names[WAY_COUNT] = {"packed", "[n][k]", "[k][n]", "A^T"};

typedef struct gemm_call {
  hfb_gemm gemm;
  hfb_pool *pool;
} gemm_call;

static void require(hfb_status status) {
  if (status == HFB_OK) return;
  fprintf(stderr, "bench_gemm: %s\n", hfb_error_message());
  exit(1);
}

static void run_gemm(void *context) {
  const gemm_call *call = context;
  require(hfb_gemm_run(&call->gemm, hfb_cpu()->isa, call->pool));
}

static float *make_matrix(int64_t elements) {
  float *matrix = NULL;
  require(hfb_mem_alloc_aligned((size_t)elements * sizeof(float), 64, &matrix));
  for (int64_t i = 0; i < elements; i++) matrix[i] = (float)(i % 13 - 6) * 0.125f;
  return matrix;
}

static void bench_shape_run(const bench_shape *shape, const bench_options *options, hfb_pool *pool, double *peak) {
  const int64_t m = shape->value[0], n = shape->value[1], k = shape->value[2];
  const hfb_isa isa = hfb_cpu()->isa;
  float *a = make_matrix(m * k), *b = make_matrix(k * n), *c = make_matrix(m * n);
  void *memory = NULL;
  hfb_packed_b *packed = NULL;
  require(hfb_mem_alloc_aligned(hfb_gemm_packed_bytes(HFB_F32, k, n, isa), 64, &memory));
  require(hfb_gemm_pack_b(HFB_F32, k, n, b, 1, k, isa, pool, memory, &packed));

  gemm_call calls[WAY_COUNT];
  for (int way = 0; way < WAY_COUNT; way++) {
    calls[way] = (gemm_call){.gemm = {.dtype = HFB_F32, .m = m, .n = n, .k = k, .batch = 1, .a = a, .a_row_stride = k,
                                      .a_col_stride = 1, .b = b, .b_row_stride = 1, .b_col_stride = k, .c = c,
                                      .c_row_stride = n, .alpha = 1},
                             .pool = pool};
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
  for (int round = 0; round < options->rounds; round++) {
    for (int way = 0; way < WAY_COUNT; way++) ns[way][round] = bench_sample_ns(run_gemm, &calls[way]);
  }
  const double peak_now = hfb_peak_f32_flops(isa, pool);
  if (peak_now > *peak) *peak = peak_now;
  const double flops = 2.0 * (double)m * (double)n * (double)k;
  printf("%-24s %6lld %6lld %6lld", shape->name, (long long)m, (long long)n, (long long)k);
  for (int way = 0; way < WAY_COUNT; way++) {
    const double median = flops / bench_quantile(ns[way], options->rounds, 0.5);
    const double best = flops / bench_quantile(ns[way], options->rounds, 0.1);
    printf("  | %7.1f %5.1f%% %5.1f%%", median, median * 1e11 / *peak, best * 1e11 / *peak);
  }
  printf("\n");
  fflush(stdout);
  hfb_gemm_packed_destroy(packed);
  hfb_mem_free(memory);
  hfb_mem_free(a);
  hfb_mem_free(b);
  hfb_mem_free(c);
}

int main(int argc, char **argv) {
  const bench_options options = bench_options_parse(argc, argv, HFB_BENCH_SHAPES "/gemm.txt");
  FILE *file = fopen(options.shapes, "r");
  if (!file) {
    fprintf(stderr, "bench_gemm: cannot read %s\n", options.shapes);
    return 1;
  }
  hfb_pool *pool = NULL;
  require(hfb_pool_create(options.threads, &pool));
  double peak = hfb_peak_f32_flops(hfb_cpu()->isa, pool);
  printf("%s, %d threads, f32 peak %.1f GFLOP/s (measured)\n", hfb_isa_name(hfb_cpu()->isa), hfb_pool_size(pool),
         peak * 1e-9);
  printf("%-24s %6s %6s %6s", "", "m", "n", "k");
  for (int way = 0; way < WAY_COUNT; way++) printf("  | %7s %6s %6s", way_names[way], "median", "best");
  printf("\n");
  bench_shape shape;
  while (bench_shape_next(file, &options, 3, &shape)) bench_shape_run(&shape, &options, pool, &peak);
  fclose(file);
  hfb_pool_destroy(pool);
  return 0;
}
