#include "kernels/peak.h"

#include "base/clock.h"
#include "base/memory.h"
#include "kernels/peak_isa.h"

enum {
  ROUNDS = 50,
  ROUND_NS = 2 * 1000 * 1000, /* shorter than a time slice: some rounds run undisturbed on a busy machine too */
  PIECES_PER_THREAD = 4,      /* of a round; the pool balances them */
  TRIAD_ROUNDS = 20,
  TRIAD_PIECE_BYTES = 1024 * 1024,
};

static const int64_t triad_array_min_bytes = 32 << 20, triad_array_max_bytes = 256 << 20;

/* ---- arithmetic ---- */

typedef struct loop_job {
  hfb_peak_loop loop;
  int64_t steps;
  double flops_per_piece;
} loop_job;

static void run_piece(void *context, int64_t index, int worker) {
  const loop_job *job = context;
  float sink = 0.5f;
  job->loop(job->steps, &sink);
  __asm__ volatile("" : : "m"(sink));
}

static double measure_loop(hfb_peak_loop loop, hfb_pool *pool) {
  loop_job job = {.loop = loop, .steps = 1000};
  int64_t piece_ns = 0;
  while (piece_ns < ROUND_NS / PIECES_PER_THREAD) { /* long enough to forget the clock and the pool */
    job.steps *= 2;
    float sink = 0.5f;
    const int64_t start_ns = hfb_clock_ns();
    job.flops_per_piece = loop(job.steps, &sink);
    piece_ns = hfb_clock_ns() - start_ns;
    __asm__ volatile("" : : "m"(sink));
  }
  const int64_t pieces = (int64_t)hfb_pool_size(pool) * PIECES_PER_THREAD;
  double best = 0;
  for (int round = 0; round < ROUNDS; round++) {
    const int64_t start_ns = hfb_clock_ns();
    hfb_pool_run(pool, pieces, run_piece, &job);
    const double rate = job.flops_per_piece * (double)pieces / (double)(hfb_clock_ns() - start_ns) * 1e9;
    if (rate > best) best = rate;
  }
  return best;
}

static hfb_isa within_machine(hfb_isa isa) { return isa < hfb_cpu()->isa ? isa : hfb_cpu()->isa; }

double hfb_peak_f32_flops(hfb_isa isa, hfb_pool *pool) {
  isa = within_machine(isa);
#if defined(__x86_64__)
  if (isa >= HFB_ISA_AVX512) return measure_loop(hfb_peak_f32_avx512, pool);
  if (isa >= HFB_ISA_AVX2) return measure_loop(hfb_peak_f32_avx2, pool);
#endif
  return measure_loop(hfb_peak_f32_generic, pool);
}

double hfb_peak_f64_flops(hfb_isa isa, hfb_pool *pool) {
  isa = within_machine(isa);
#if defined(__x86_64__)
  if (isa >= HFB_ISA_AVX512) return measure_loop(hfb_peak_f64_avx512, pool);
  if (isa >= HFB_ISA_AVX2) return measure_loop(hfb_peak_f64_avx2, pool);
#endif
  return measure_loop(hfb_peak_f64_generic, pool);
}

double hfb_peak_bf16_flops(hfb_isa isa, hfb_pool *pool) {
#if defined(__x86_64__)
  if (within_machine(isa) >= HFB_ISA_AVX512_BF16) return measure_loop(hfb_peak_bf16_avx512_bf16, pool);
#endif
  return 0;
}

/* ---- memory ---- */

typedef struct triad_job {
  float *a;
  const float *b, *c;
} triad_job;

typedef float triad_vec __attribute__((vector_size(16)));

static void run_triad(void *context, int64_t index, int worker) {
  const triad_job *job = context;
  const int64_t count = TRIAD_PIECE_BYTES / (int64_t)sizeof(triad_vec);
  triad_vec *a = (triad_vec *)job->a + index * count;
  const triad_vec *b = (const triad_vec *)job->b + index * count, *c = (const triad_vec *)job->c + index * count;
  const triad_vec scale = {3, 3, 3, 3};
  for (int64_t i = 0; i < count; i++) a[i] = b[i] + scale * c[i];
}

static void fill_triad(void *context, int64_t index, int worker) {
  const triad_job *job = context;
  const int64_t count = TRIAD_PIECE_BYTES / (int64_t)sizeof(float);
  float *b = (float *)job->b + index * count, *c = (float *)job->c + index * count;
  for (int64_t i = 0; i < count; i++) job->a[index * count + i] = 0, b[i] = 1, c[i] = 2;
}

hfb_status hfb_peak_memory_bytes_per_s(hfb_pool *pool, double *out_bytes_per_s) {
  /* Each array as large as the last-level cache: three of them cannot stay in it. */
  int64_t array_bytes = hfb_cpu()->l3_bytes / TRIAD_PIECE_BYTES * TRIAD_PIECE_BYTES;
  if (array_bytes < triad_array_min_bytes) array_bytes = triad_array_min_bytes;
  if (array_bytes > triad_array_max_bytes) array_bytes = triad_array_max_bytes;
  float *arrays = NULL;
  HFB_TRY(hfb_mem_alloc_aligned(3 * (size_t)array_bytes, 64, &arrays));
  const int64_t elements = array_bytes / (int64_t)sizeof(float);
  triad_job job = {.a = arrays, .b = arrays + elements, .c = arrays + 2 * elements};
  const int64_t pieces = array_bytes / TRIAD_PIECE_BYTES;
  hfb_pool_run(pool, pieces, fill_triad, &job);
  double best = 0;
  for (int round = 0; round < TRIAD_ROUNDS; round++) {
    const int64_t start_ns = hfb_clock_ns();
    hfb_pool_run(pool, pieces, run_triad, &job);
    const double rate = 3.0 * (double)array_bytes / (double)(hfb_clock_ns() - start_ns) * 1e9;
    if (rate > best) best = rate;
  }
  hfb_mem_free(arrays);
  *out_bytes_per_s = best;
  return HFB_OK;
}
