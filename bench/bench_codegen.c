/* Generated loops that transformers spend their time in: nanoseconds for each element on one thread with rows in cache;
 * on all cores with tensors that no cache holds, in percent of the memory bandwidth measured beside them; and how long
 * the compiler takes. Best of several rounds. HFBENCH_ISA and HFBENCH_CC choose instruction set and compiler.
 * Usage: bench_codegen [rounds] [--show] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compile/codegen.h"
#include "compile/jit.h"
#include "kernels/peak.h"

enum { MAX_TERMS = 40, MAX_SLOTS = 8, MAX_STORES = 3, SITE_SLOT = 7, STATE_SLOT = 6, VECTOR_SLOT = 4 };

/* ---- the loops ----
 * Slots from VECTOR_SLOT on hold a few rows at most, those before it whole matrices. */

typedef struct built {
  hfb_loop loop;
  hfb_term terms[MAX_TERMS];
  hfb_store stores[MAX_STORES];
  hfb_dtype dtypes[MAX_SLOTS];
  int64_t sites[1];
} built;

static int add(built *b, hfb_term term) {
  b->terms[b->loop.term_count] = term;
  return b->loop.term_count++;
}

/* A matrix with the rows of the loop, or a vector along the row. */
static int load(built *b, int slot, bool matrix) {
  hfb_term term = {
      .kind = HFB_TERM_LOAD, .slot = slot, .args = {-1, -1, -1}, .strides = {matrix ? b->loop.extent[1] : 0, 1}};
  return add(b, term);
}

/* A number for the whole loop. */
static int load_scalar(built *b, int slot, int64_t offset) {
  return add(b, (hfb_term){.kind = HFB_TERM_LOAD,
                           .dtype = b->dtypes[slot],
                           .slot = slot,
                           .offset = offset,
                           .args = {-1, -1, -1},
                           .per_row = true});
}

static int op(built *b, hfb_op op, int x, int y) {
  return add(b, (hfb_term){.kind = HFB_TERM_OP,
                           .dtype = b->terms[x].dtype,
                           .op = op,
                           .args = {x, y, -1},
                           .per_row = b->terms[x].per_row && (y < 0 || b->terms[y].per_row)});
}

static int op_value(built *b, hfb_op number, int x, double value) {
  const int t = op(b, number, x, -1);
  b->terms[t].value = value;
  return t;
}

static int reduce(built *b, hfb_op op, int x) {
  return add(b, (hfb_term){.kind = HFB_TERM_REDUCE, .op = op, .args = {x, -1, -1}, .per_row = true});
}

/* A loop over rows of f32, without terms. */
static void begin(built *b, int64_t rows, int64_t columns) {
  memset(b, 0, sizeof *b);
  b->loop = (hfb_loop){.kind = HFB_LOOP_ROWS, .rank = 2, .extent = {rows, columns}, .slot_count = MAX_SLOTS};
  b->loop.terms = b->terms;
  b->loop.stores = b->stores;
  b->loop.slot_dtypes = b->dtypes; /* all f32 */
}

static void store(built *b, int slot, int term) {
  b->stores[b->loop.store_count++] = (hfb_store){.term = term, .slot = slot, .strides = {b->loop.extent[1], 1}};
}

static int cast(built *b, hfb_dtype dtype, int x) {
  const int t = op(b, HFB_OP_CAST, x, -1);
  b->terms[t].dtype = dtype;
  return t;
}

/* x / (1 - p) where the mask keeps it. */
static int dropout(built *b, int x, double p) {
  b->dtypes[STATE_SLOT] = b->dtypes[SITE_SLOT] = HFB_I64;
  b->loop.site_count = 1;
  b->loop.sites = b->sites;
  b->loop.site_slot = SITE_SLOT;
  const int index = add(b, (hfb_term){.kind = HFB_TERM_INDEX, .dtype = HFB_I64, .strides = {b->loop.extent[1], 1}});
  const int seed = load_scalar(b, STATE_SLOT, 0), step = load_scalar(b, STATE_SLOT, 1);
  const int keep = add(
      b,
      (hfb_term){
          .kind = HFB_TERM_OP, .dtype = HFB_BOOL, .op = HFB_OP_RANDOM_KEEP, .args = {index, seed, step}, .value = p});
  const int scaled = op_value(b, HFB_OP_MUL_SCALAR, x, 1 / (1 - p));
  const int zero = add(b, (hfb_term){.kind = HFB_TERM_SCALAR, .args = {-1, -1, -1}, .per_row = true});
  return add(b, (hfb_term){.kind = HFB_TERM_OP, .op = HFB_OP_WHERE, .args = {keep, scaled, zero}});
}

static int mean_of_row(built *b, int x) {
  return op_value(b, HFB_OP_MUL_SCALAR, reduce(b, HFB_OP_REDUCE_SUM, x), 1.0 / (double)b->loop.extent[1]);
}

static int centred(built *b, int x) {
  return op(b, HFB_OP_SUB, x, mean_of_row(b, x));
}

/* 1 / the deviation of a row with mean 0 */
static int scale_of_row(built *b, int x) {
  const int variance = mean_of_row(b, op(b, HFB_OP_MUL, x, x));
  return op(b, HFB_OP_RSQRT, op_value(b, HFB_OP_ADD_SCALAR, variance, 1e-12), -1);
}

static void store_layer_norm(built *b, int x) {
  const int from_mean = centred(b, x), normal = op(b, HFB_OP_MUL, from_mean, scale_of_row(b, from_mean));
  const int scaled = op(b, HFB_OP_MUL, normal, load(b, VECTOR_SLOT, false));
  store(b, 2, op(b, HFB_OP_ADD, scaled, load(b, VECTOR_SLOT + 1, false)));
}

/* out = layer_norm(x + residual), BERT-base */
static void build_add_layer_norm(built *b, int64_t rows) {
  begin(b, rows, 768);
  store_layer_norm(b, op(b, HFB_OP_ADD, load(b, 0, true), load(b, 1, true)));
}

/* out = layer_norm(dropout(x) + residual) */
static void build_dropout_add_layer_norm(built *b, int64_t rows) {
  begin(b, rows, 768);
  store_layer_norm(b, op(b, HFB_OP_ADD, dropout(b, load(b, 0, true), 0.1), load(b, 1, true)));
}

/* out = gelu(x + bias), BERT-base */
static void build_bias_gelu(built *b, int64_t rows) {
  begin(b, rows, 3072);
  const int x = op(b, HFB_OP_ADD, load(b, 0, true), load(b, VECTOR_SLOT, false));
  const int erf = op(b, HFB_OP_ERF, op_value(b, HFB_OP_MUL_SCALAR, x, 0.70710678118654752), -1);
  const int half = op_value(b, HFB_OP_MUL_SCALAR, x, 0.5);
  store(b, 2, op(b, HFB_OP_MUL, half, op_value(b, HFB_OP_ADD_SCALAR, erf, 1)));
}

/* out = softmax(x / 8 + mask), 512 keys */
static void build_masked_softmax(built *b, int64_t rows) {
  begin(b, rows, 512);
  const int scaled = op_value(b, HFB_OP_MUL_SCALAR, load(b, 0, true), 0.125);
  const int x = op(b, HFB_OP_ADD, scaled, load(b, VECTOR_SLOT, false));
  const int e = op(b, HFB_OP_EXP, op(b, HFB_OP_SUB, x, reduce(b, HFB_OP_REDUCE_MAX, x)), -1);
  store(b, 2, op(b, HFB_OP_DIV, e, reduce(b, HFB_OP_REDUCE_SUM, e)));
}

/* out = y (g - sum(g y)) */
static void build_softmax_backward(built *b, int64_t rows) {
  begin(b, rows, 512);
  const int g = load(b, 0, true), y = load(b, 1, true);
  const int sum = reduce(b, HFB_OP_REDUCE_SUM, op(b, HFB_OP_MUL, g, y));
  store(b, 2, op(b, HFB_OP_MUL, y, op(b, HFB_OP_SUB, g, sum)));
}

/* The gradient of layer_norm's input, as it is decomposed. */
static void build_layer_norm_backward(built *b, int64_t rows) {
  begin(b, rows, 768);
  const int from_mean = centred(b, load(b, 1, true)), scale = scale_of_row(b, from_mean);
  const int normal = op(b, HFB_OP_MUL, from_mean, scale);
  const int gw = op(b, HFB_OP_MUL, load(b, 0, true), load(b, VECTOR_SLOT, false));
  const int along = mean_of_row(b, op(b, HFB_OP_MUL, gw, normal));
  const int rest = op(b, HFB_OP_SUB, op(b, HFB_OP_SUB, gw, mean_of_row(b, gw)), op(b, HFB_OP_MUL, normal, along));
  store(b, 2, op(b, HFB_OP_MUL, rest, scale));
}

/* One value where the class is the target of the row. */
static void build_nll_loss_backward(built *b, int64_t rows) {
  begin(b, rows, 30522);
  b->dtypes[VECTOR_SLOT] = HFB_I64;
  const int class = add(b, (hfb_term){.kind = HFB_TERM_INDEX, .dtype = HFB_I64, .strides = {0, 1}});
  const int target = load_scalar(b, VECTOR_SLOT, 0), of_row = load_scalar(b, VECTOR_SLOT + 1, 0);
  b->terms[target].strides[0] = b->terms[of_row].strides[0] = 1;
  const int zero = add(b, (hfb_term){.kind = HFB_TERM_SCALAR, .args = {-1, -1, -1}, .per_row = true});
  const int is_target = op(b, HFB_OP_EQ, class, target);
  b->terms[is_target].dtype = HFB_BOOL;
  store(b, 2, add(b, (hfb_term){.kind = HFB_TERM_OP, .op = HFB_OP_WHERE, .args = {is_target, of_row, zero}}));
}

/* 1 - beta^step */
static int bias_correction(built *b, int step, double beta) {
  const int power = op(b, HFB_OP_EXP, op_value(b, HFB_OP_MUL_SCALAR, step, log(beta)), -1);
  return op_value(b, HFB_OP_ADD_SCALAR, op(b, HFB_OP_NEG, power, -1), 1);
}

/* Adam over a parameter and its two averages, in place. */
static void build_adam(built *b, int64_t rows) {
  begin(b, rows, 3072);
  b->dtypes[STATE_SLOT] = HFB_F64;
  const int p = load(b, 0, true), m = load(b, 1, true), v = load(b, 2, true), g = load(b, 3, true);
  const int step = load_scalar(b, STATE_SLOT, 0);
  const int mean = op(b, HFB_OP_ADD, m, op_value(b, HFB_OP_MUL_SCALAR, op(b, HFB_OP_SUB, g, m), 0.1));
  const int fresh = op(b, HFB_OP_MUL, op_value(b, HFB_OP_MUL_SCALAR, g, 0.001), g);
  const int square = op(b, HFB_OP_ADD, op_value(b, HFB_OP_MUL_SCALAR, v, 0.999), fresh);
  const int rate = add(
      b, (hfb_term){.kind = HFB_TERM_SCALAR, .dtype = HFB_F64, .args = {-1, -1, -1}, .value = 1e-3, .per_row = true});
  const int step_size = cast(b, HFB_F32, op(b, HFB_OP_DIV, rate, bias_correction(b, step, 0.9)));
  const int root = cast(b, HFB_F32, op(b, HFB_OP_SQRT, bias_correction(b, step, 0.999), -1));
  const int deviation = op(b, HFB_OP_DIV, op(b, HFB_OP_SQRT, square, -1), root);
  const int below = op_value(b, HFB_OP_ADD_SCALAR, deviation, 1e-8);
  const int change = op(b, HFB_OP_DIV, op(b, HFB_OP_MUL, mean, step_size), below);
  store(b, 0, op(b, HFB_OP_SUB, p, change));
  store(b, 1, mean);
  store(b, 2, square);
}

typedef struct bench_case {
  const char *name;
  void (*build)(built *b, int64_t rows);
  int64_t rows;      /* what fits into a cache of the first or second level */
  int64_t many_rows; /* what does not fit into any */
  int streams;       /* matrices read or written, each once */
} bench_case;

static const bench_case cases[] = {
    {"add_layer_norm", build_add_layer_norm, 64, 16384, 3},
    {"bias_gelu", build_bias_gelu, 64, 8192, 2},
    {"masked_softmax", build_masked_softmax, 128, 32768, 2},
    {"dropout_add_layer_norm", build_dropout_add_layer_norm, 64, 16384, 3},
    {"softmax_backward", build_softmax_backward, 128, 32768, 3},
    {"layer_norm_backward", build_layer_norm_backward, 64, 16384, 3},
    {"nll_loss_backward", build_nll_loss_backward, 4, 1024, 1},
    {"adam", build_adam, 16, 4096, 7},
};
enum { CASE_COUNT = sizeof cases / sizeof *cases, COMPILED_CASES = 3 };

/* ---- measuring ---- */

static hfb_status generate(const built *b, const char *name, hfb_isa isa, bool with_prelude, hfb_strbuf *out_code) {
  if (with_prelude) HFB_TRY(hfb_codegen_prelude(isa, out_code));
  return hfb_codegen_loop(&b->loop, name, name, isa, out_code);
}

/* A loop that is ready to run. */
typedef struct ready {
  built b;
  hfb_strbuf code;
  hfb_jit *jit;
  hfb_rows_fn run;
  void *slots[MAX_SLOTS];
} ready;

static hfb_status ready_slot(ready *r, int slot, const char *name) {
  const int64_t columns = r->b.loop.extent[1], rows = r->b.loop.extent[0];
  size_t elements = (size_t)(columns * (slot < VECTOR_SLOT ? rows : 2));
  if (elements < (size_t)rows) elements = (size_t)rows;
  bool is_used = slot == STATE_SLOT || slot == SITE_SLOT;
  for (int t = 0; t < r->b.loop.term_count; t++)
    is_used = is_used || (r->b.terms[t].kind == HFB_TERM_LOAD && r->b.terms[t].slot == slot);
  for (int i = 0; i < r->b.loop.store_count; i++) is_used = is_used || r->b.stores[i].slot == slot;
  if (!is_used) return HFB_OK;
  HFB_TRY(hfb_mem_alloc_aligned(elements * hfb_dtype_bytes(r->b.dtypes[slot]), 64, &r->slots[slot]));
  const hfb_philox random = hfb_philox_named(1, name);
  for (size_t i = 0; i < elements; i++) {
    if (r->b.dtypes[slot] == HFB_I64)
      ((int64_t *)r->slots[slot])[i] = (int64_t)i;
    else if (r->b.dtypes[slot] == HFB_F64)
      ((double *)r->slots[slot])[i] = 10;
    else
      ((float *)r->slots[slot])[i] = 4 * hfb_philox_uniform(random, i % 4096) + 0.125f;
  }
  return HFB_OK;
}

static hfb_status ready_init(ready *r, const bench_case *c, int64_t rows) {
  memset(r, 0, sizeof *r);
  hfb_strbuf_init(&r->code);
  c->build(&r->b, rows);
  HFB_TRY(generate(&r->b, c->name, hfb_cpu()->isa, true, &r->code));
  for (int s = 0; s < MAX_SLOTS; s++) HFB_TRY(ready_slot(r, s, c->name));
  const char *unit = hfb_strbuf_text(&r->code);
  HFB_TRY(hfb_jit_build(1, &unit, hfb_cpu()->isa, "", &r->jit, NULL));
  void *symbol = hfb_jit_symbol(r->jit, c->name);
  memcpy(&r->run, &symbol, sizeof r->run);
  return HFB_OK;
}

static void ready_deinit(ready *r) {
  hfb_jit_destroy(r->jit);
  for (int s = 0; s < MAX_SLOTS; s++) hfb_mem_free(r->slots[s]);
  hfb_strbuf_deinit(&r->code);
}

static double best_cached_ns(const ready *r, void *scratch, int rounds) {
  enum { CALLS = 50 };
  double best = INFINITY;
  for (int round = 0; round < rounds; round++) {
    const int64_t start = hfb_clock_ns();
    for (int i = 0; i < CALLS; i++) r->run(r->slots, 0, r->b.loop.extent[0], scratch);
    best = fmin(best, (double)(hfb_clock_ns() - start) / CALLS);
  }
  return best / (double)(r->b.loop.extent[0] * r->b.loop.extent[1]);
}

static hfb_status bench_cached(const bench_case *c, int rounds, bool show) {
  static ready r;
  void *scratch = NULL;
  hfb_status status = ready_init(&r, c, c->rows);
  if (status == HFB_OK) status = hfb_mem_alloc_aligned(hfb_loop_scratch_bytes(&r.b.loop) + 64, 64, &scratch);
  if (status == HFB_OK) {
    const int64_t *extent = r.b.loop.extent;
    printf("%-23s %5lld x %-5lld %7.3f ns/element\n", c->name, (long long)extent[0], (long long)extent[1],
           best_cached_ns(&r, scratch, rounds));
    char first_line[64];
    snprintf(first_line, sizeof first_line, "/* %s\n", c->name);
    if (show) printf("%s", strstr(hfb_strbuf_text(&r.code), first_line));
  }
  hfb_mem_free(scratch);
  ready_deinit(&r);
  return status;
}

/* ---- out of cache ---- */

typedef struct parts_job {
  const ready *r;
  hfb_pool *pool;
  int64_t parts;
} parts_job;

static void run_part(void *context, int64_t index, int worker) {
  const parts_job *job = context;
  const int64_t rows = job->r->b.loop.extent[0];
  job->r->run(job->r->slots, rows * index / job->parts, rows * (index + 1) / job->parts,
              hfb_pool_scratch(job->pool, worker));
}

static double best_streamed_ns(const ready *r, hfb_pool *pool, int rounds) {
  enum { PARTS_FOR_WORKER = 8 };
  parts_job job = {r, pool, (int64_t)hfb_pool_size(pool) * PARTS_FOR_WORKER};
  double best = INFINITY;
  for (int round = 0; round < rounds; round++) {
    const int64_t start = hfb_clock_ns();
    hfb_pool_run(pool, job.parts, run_part, &job);
    best = fmin(best, (double)(hfb_clock_ns() - start));
  }
  return best;
}

/* The bandwidth is measured before and after the loop, since both share the machine with others. */
static hfb_status bench_streamed(const bench_case *c, hfb_pool *pool, int rounds) {
  static ready r;
  double bandwidth = 0, again = 0;
  hfb_status status = ready_init(&r, c, c->many_rows);
  if (status == HFB_OK) status = hfb_pool_reserve_scratch(pool, hfb_loop_scratch_bytes(&r.b.loop) + 64);
  if (status == HFB_OK) status = hfb_peak_memory_bytes_per_s(pool, &bandwidth);
  if (status == HFB_OK) {
    const int64_t *extent = r.b.loop.extent;
    const double ns = best_streamed_ns(&r, pool, rounds), elements = (double)(extent[0] * extent[1]);
    const double rate = elements * c->streams * sizeof(float) / ns;
    status = hfb_peak_memory_bytes_per_s(pool, &again);
    printf("%-23s %5lld x %-5lld %7.3f ns/element, %5.1f GB/s, %3.0f%% of the memory's %.1f\n", c->name,
           (long long)extent[0], (long long)extent[1], ns / elements, rate, 100e9 * rate / fmax(bandwidth, again),
           fmax(bandwidth, again) / 1e9);
  }
  ready_deinit(&r);
  return status;
}

/* ---- compile time ---- */

/* Every kernel has a constant of its own: compilers merge equal functions. */
static hfb_status bench_compile_time(int kernels, int units, int rounds) {
  static built b;
  hfb_strbuf codes[2];
  const char *texts[2];
  double best_ms = INFINITY;
  const hfb_isa isa = hfb_cpu()->isa;
  hfb_status status = HFB_OK;
  for (int u = 0; u < units; u++) hfb_strbuf_init(&codes[u]);
  for (int u = 0; u < units && status == HFB_OK; u++) status = hfb_codegen_prelude(isa, &codes[u]);
  for (int k = 0; k < kernels && status == HFB_OK; k++) {
    char name[32];
    snprintf(name, sizeof name, "kernel_%d", k);
    cases[k % COMPILED_CASES].build(&b, 64);
    for (int t = 0; t < b.loop.term_count; t++) b.terms[t].value *= 1 + k / 16.0;
    status = generate(&b, name, isa, false, &codes[k % units]);
  }
  for (int u = 0; u < units; u++) texts[u] = hfb_strbuf_text(&codes[u]);
  for (int r = 0; r < rounds && status == HFB_OK; r++) {
    hfb_jit *jit = NULL;
    hfb_jit_stats stats;
    status = hfb_jit_build(units, texts, isa, "", &jit, &stats);
    if (status == HFB_OK) best_ms = fmin(best_ms, (double)(stats.cc_ns + stats.load_ns) / 1e6);
    hfb_jit_destroy(jit);
  }
  for (int u = 0; u < units; u++) hfb_strbuf_deinit(&codes[u]);
  if (status == HFB_OK)
    printf("compile %2d kernels in %d unit%s %6.0f ms\n", kernels, units, units > 1 ? "s" : " ", best_ms);
  return status;
}

int main(int argc, char **argv) {
  const bool show = argc > 1 && strcmp(argv[argc - 1], "--show") == 0;
  const int rounds = argc > 1 && atoi(argv[1]) > 0 ? atoi(argv[1]) : 9;
  const char *compiler = hfb_jit_compiler();
  printf("%s, %s, compiler %s\n", hfb_cpu()->model_name, hfb_isa_name(hfb_cpu()->isa), compiler ? compiler : "none");
  hfb_status status = HFB_OK;
  for (int i = 0; i < CASE_COUNT && status == HFB_OK; i++) status = bench_cached(&cases[i], rounds, show);
  hfb_pool *pool = NULL;
  if (status == HFB_OK) status = hfb_pool_create(0, &pool);
  if (status == HFB_OK) printf("%d threads, out of cache\n", hfb_pool_size(pool));
  for (int i = 0; i < CASE_COUNT && status == HFB_OK; i++) status = bench_streamed(&cases[i], pool, rounds);
  hfb_pool_destroy(pool);
  static const int latencies[][2] = {{1, 1}, {3, 1}, {30, 1}, {30, 2}};
  for (int i = 0; i < 4 && status == HFB_OK; i++) status = bench_compile_time(latencies[i][0], latencies[i][1], rounds);
  if (status != HFB_OK) fprintf(stderr, "bench_codegen: %s\n", hfb_error_message());
  return status == HFB_OK ? 0 : 1;
}
