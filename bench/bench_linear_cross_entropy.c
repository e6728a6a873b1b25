/* linear_cross_entropy beside the three products that it is made of (logits, gradients of x and of the weight), each
 * over all rows at once and without the softmax, in percent of the measured peak.
 *
 *   bench_linear_cross_entropy [--threads N] [--rounds N] [--only NAME] [SHAPES_FILE]
 *
 * Both are measured in turn, round after round. For each: the median in GFLOP/s, in percent of the peak, and the
 * percent that the best tenth of the rounds reaches; behind them the median of the ratio in a round. HFBENCH_ISA lowers
 * the instruction set. */
#include "base/memory.h"
#include "kernels/gemm.h"
#include "kernels/linear_cross_entropy.h"
#include "rounds.h"

enum { PRODUCT_COUNT = 3 };

typedef struct head {
  hfb_linear_cross_entropy call;
  hfb_gemm products[PRODUCT_COUNT]; /* logits, gradient of x, gradient of the weight */
  hfb_pool *pool;
} head;

static void run_kernel(void *context) {
  const head *h = context;
  bench_require(hfb_linear_cross_entropy_run(&h->call, hfb_cpu()->isa, h->pool));
}

static void run_products(void *context) {
  const head *h = context;
  for (int i = 0; i < PRODUCT_COUNT; i++) bench_require(hfb_gemm_run(&h->products[i], hfb_cpu()->isa, h->pool));
}

static float *make_matrix(int64_t elements) {
  float *matrix = NULL;
  bench_require(hfb_mem_alloc_aligned((size_t)elements * sizeof(float), 64, &matrix));
  for (int64_t i = 0; i < elements; i++) matrix[i] = (float)(i % 13 - 6) * 0.03f;
  return matrix;
}

static hfb_gemm make_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_col,
                             const float *b, int64_t b_row, int64_t b_col, float *c) {
  return (hfb_gemm){.dtype = HFB_F32, .m = m, .n = n, .k = k, .batch = 1, .a = a, .a_row_stride = a_row,
                    .a_col_stride = a_col, .b = b, .b_row_stride = b_row, .b_col_stride = b_col, .c = c,
                    .c_row_stride = n, .alpha = 1};
}

static void bench_shape_run(const bench_shape *shape, bench_session *session) {
  const int64_t rows = shape->value[0], classes = shape->value[1], features = shape->value[2];
  float *x = make_matrix(rows * features), *weight = make_matrix(classes * features), *bias = make_matrix(classes);
  float *logits = make_matrix(rows * classes), *x_gradient = make_matrix(rows * features);
  float *weight_gradient = make_matrix(classes * features), *bias_gradient = make_matrix(classes), loss;
  int64_t *target = NULL;
  bench_require(hfb_mem_alloc((size_t)rows, sizeof(*target), &target));
  for (int64_t i = 0; i < rows; i++) target[i] = i * 7919 % classes;
  head h = {
      .call = {.rows = rows, .classes = classes, .features = features, .x = x, .x_row_stride = features,
               .x_col_stride = 1, .weight = weight, .weight_row_stride = features, .weight_col_stride = 1,
               .bias = bias, .target = target, .target_stride = 1, .ignore_index = -100, .g = 1, .loss = &loss,
               .x_gradient = x_gradient, .weight_gradient = weight_gradient, .bias_gradient = bias_gradient},
      .products = {make_product(rows, classes, features, x, features, 1, weight, 1, features, logits),
                   make_product(rows, features, classes, logits, classes, 1, weight, features, 1, x_gradient),
                   make_product(classes, features, rows, logits, 1, classes, x, features, 1, weight_gradient)},
      .pool = session->pool,
  };

  static double kernel_ns[MAX_ROUNDS], products_ns[MAX_ROUNDS], ratio[MAX_ROUNDS];
  run_kernel(&h);
  run_products(&h);
  for (int round = 0; round < session->options.rounds; round++) {
    kernel_ns[round] = bench_sample_ns(run_kernel, &h);
    products_ns[round] = bench_sample_ns(run_products, &h);
    ratio[round] = products_ns[round] / kernel_ns[round];
  }
  bench_session_update_peak(session);
  const double flops = 6.0 * (double)rows * (double)classes * (double)features;
  printf("%-18s %6lld %7lld %5lld", shape->name, (long long)rows, (long long)classes, (long long)features);
  bench_print_rate(session, flops, kernel_ns);
  bench_print_rate(session, flops, products_ns);
  printf("  | %5.1f%%\n", 100 * bench_quantile(ratio, session->options.rounds, 0.5));
  fflush(stdout);
  float *blocks[] = {x, weight, bias, logits, x_gradient, weight_gradient, bias_gradient};
  for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) hfb_mem_free(blocks[i]);
  hfb_mem_free(target);
}

int main(int argc, char **argv) {
  bench_session session = bench_session_open(argc, argv, HFB_BENCH_SHAPES "/linear_cross_entropy.txt");
  printf("%-18s %6s %7s %5s", "", "rows", "classes", "feat.");
  printf("  | %7s %6s %6s  | %7s %6s %6s  | ratio\n", "kernel", "median", "best", "plain", "median", "best");
  bench_shape shape;
  while (bench_shape_next(&session, 3, &shape)) bench_shape_run(&shape, &session);
  bench_session_close(&session);
  return 0;
}
