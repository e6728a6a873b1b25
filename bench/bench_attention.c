/* Attention in percent of the measured peak.
 *
 *   bench_attention [--threads N] [--rounds N] [--only NAME] [SHAPES_FILE]
 *
 * FLOPs are those of the two products without a mask (4 * queries * keys * dim for each head), so a causal mask shows
 * as a rate above that of the same shape without one. Milliseconds and rate are medians; "best" is the best tenth of
 * the rounds. HFBENCH_ISA lowers the instruction set. */
#include <math.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "kernels/attention.h"
#include "kernels/peak.h"
#include "rounds.h"

typedef struct attention_call {
  hfb_attention attention;
  hfb_pool *pool;
} attention_call;

static void require(hfb_status status) {
  if (status == HFB_OK) return;
  fprintf(stderr, "bench_attention: %s\n", hfb_error_message());
  exit(1);
}

static void run_attention(void *context) {
  const attention_call *call = context;
  require(hfb_attention_run(&call->attention, hfb_cpu()->isa, call->pool));
}

/* [batch][sequence][heads][dim], as a projection leaves it. */
static float *make_tensor(int64_t batch, int64_t heads, int64_t sequence, int64_t dim, int64_t out_strides[3]) {
  const int64_t elements = batch * heads * sequence * dim;
  float *tensor = NULL;
  require(hfb_mem_alloc_aligned((size_t)elements * sizeof(float), 64, &tensor));
  for (int64_t i = 0; i < elements; i++) tensor[i] = (float)(i % 13 - 6) * 0.25f;
  out_strides[0] = sequence * heads * dim;
  out_strides[1] = dim;
  out_strides[2] = heads * dim;
  return tensor;
}

static void bench_shape_run(const bench_shape *shape, const bench_options *options, hfb_pool *pool, double *peak) {
  const int64_t batch = shape->value[0], heads = shape->value[1], queries = shape->value[2], keys = shape->value[3];
  const int64_t dim = shape->value[4];
  attention_call call = {.attention = {.batch = batch, .heads = heads, .query_count = queries, .key_count = keys,
                                       .head_dim = dim, .value_dim = dim, .scale = 1.0f / sqrtf((float)dim),
                                       .causal = (int)shape->value[5]},
                         .pool = pool};
  hfb_attention *attention = &call.attention;
  float *q = make_tensor(batch, heads, queries, dim, attention->q_strides);
  float *k = make_tensor(batch, heads, keys, dim, attention->k_strides);
  float *v = make_tensor(batch, heads, keys, dim, attention->v_strides);
  float *out = make_tensor(batch, heads, queries, dim, attention->out_strides);
  attention->q = q, attention->k = k, attention->v = v, attention->out = out;

  static double ns[MAX_ROUNDS];
  run_attention(&call);
  for (int round = 0; round < options->rounds; round++) ns[round] = bench_sample_ns(run_attention, &call);
  const double peak_now = hfb_peak_f32_flops(hfb_cpu()->isa, pool);
  if (peak_now > *peak) *peak = peak_now;
  const double flops = 4.0 * (double)(batch * heads) * (double)queries * (double)keys * (double)dim;
  const double median_ns = bench_quantile(ns, options->rounds, 0.5), best_ns = bench_quantile(ns, options->rounds, 0.1);
  printf("%-24s %5lld %5lld %7lld %5lld %4lld %6d  | %9.3f ms %7.1f %5.1f%% %5.1f%%\n", shape->name, (long long)batch,
         (long long)heads, (long long)queries, (long long)keys, (long long)dim, attention->causal, median_ns * 1e-6,
         flops / median_ns, flops / median_ns * 1e11 / *peak, flops / best_ns * 1e11 / *peak);
  fflush(stdout);
  hfb_mem_free(q);
  hfb_mem_free(k);
  hfb_mem_free(v);
  hfb_mem_free(out);
}

int main(int argc, char **argv) {
  const bench_options options = bench_options_parse(argc, argv, HFB_BENCH_SHAPES "/attention.txt");
  FILE *file = fopen(options.shapes, "r");
  if (!file) {
    fprintf(stderr, "bench_attention: cannot read %s\n", options.shapes);
    return 1;
  }
  hfb_pool *pool = NULL;
  require(hfb_pool_create(options.threads, &pool));
  double peak = hfb_peak_f32_flops(hfb_cpu()->isa, pool);
  printf("%s, %d threads, f32 peak %.1f GFLOP/s (measured)\n", hfb_isa_name(hfb_cpu()->isa), hfb_pool_size(pool),
         peak * 1e-9);
  printf("%-24s %5s %5s %7s %5s %4s %6s  | %12s %7s %6s %6s\n", "", "batch", "heads", "queries", "keys", "dim",
         "causal", "median", "GFLOP/s", "median", "best");
  bench_shape shape;
  while (bench_shape_next(file, &options, 6, &shape)) bench_shape_run(&shape, &options, pool, &peak);
  fclose(file);
  hfb_pool_destroy(pool);
  return 0;
}
