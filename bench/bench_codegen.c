/* Generated loops: nanoseconds for each element of three loops that transformers spend their time in, rows in cache,
 * and how long the compiler takes. Best of several rounds. HFBENCH_ISA and HFBENCH_CC choose instruction set and
 * compiler. Usage: bench_codegen [rounds] [--show] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "compile/codegen.h"
#include "compile/jit.h"

enum { MAX_TERMS = 24, MAX_SLOTS = 8, COMPILED_KERNELS = 30 };

/* ---- three loops ---- */

typedef struct built {
  hfb_loop loop;
  hfb_term terms[MAX_TERMS];
  hfb_store stores[2];
  hfb_dtype dtypes[MAX_SLOTS];
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

static int op(built *b, hfb_op op, int x, int y) {
  return add(b, (hfb_term){.kind = HFB_TERM_OP,
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
static void begin(built *b, int64_t rows, int64_t columns, int slots) {
  memset(b, 0, sizeof *b);
  b->loop = (hfb_loop){.kind = HFB_LOOP_ROWS, .rank = 2, .extent = {rows, columns}, .slot_count = slots};
  b->loop.terms = b->terms;
  b->loop.stores = b->stores;
  b->loop.slot_dtypes = b->dtypes; /* all f32 */
}

static void store(built *b, int slot, int term) {
  b->stores[b->loop.store_count++] = (hfb_store){.term = term, .slot = slot, .strides = {b->loop.extent[1], 1}};
}

/* out = layer_norm(x + residual), BERT-base */
static void build_add_layer_norm(built *b, int64_t rows) {
  begin(b, rows, 768, 5);
  const int x = op(b, HFB_OP_ADD, load(b, 0, true), load(b, 1, true));
  const int mean = op_value(b, HFB_OP_MUL_SCALAR, reduce(b, HFB_OP_REDUCE_SUM, x), 1.0 / 768);
  const int centred = op(b, HFB_OP_SUB, x, mean);
  const int squares = reduce(b, HFB_OP_REDUCE_SUM, op(b, HFB_OP_MUL, centred, centred));
  const int variance = op_value(b, HFB_OP_MUL_SCALAR, squares, 1.0 / 768);
  const int scale = op(b, HFB_OP_RSQRT, op_value(b, HFB_OP_ADD_SCALAR, variance, 1e-12), -1);
  const int scaled = op(b, HFB_OP_MUL, op(b, HFB_OP_MUL, centred, scale), load(b, 2, false));
  store(b, 4, op(b, HFB_OP_ADD, scaled, load(b, 3, false)));
}

/* out = gelu(x + bias), BERT-base */
static void build_bias_gelu(built *b, int64_t rows) {
  begin(b, rows, 3072, 3);
  const int x = op(b, HFB_OP_ADD, load(b, 0, true), load(b, 1, false));
  const int erf = op(b, HFB_OP_ERF, op_value(b, HFB_OP_MUL_SCALAR, x, 0.70710678118654752), -1);
  const int half = op_value(b, HFB_OP_MUL_SCALAR, x, 0.5);
  store(b, 2, op(b, HFB_OP_MUL, half, op_value(b, HFB_OP_ADD_SCALAR, erf, 1)));
}

/* out = softmax(x / 8 + mask), 512 keys */
static void build_masked_softmax(built *b, int64_t rows) {
  begin(b, rows, 512, 3);
  const int scaled = op_value(b, HFB_OP_MUL_SCALAR, load(b, 0, true), 0.125);
  const int x = op(b, HFB_OP_ADD, scaled, load(b, 1, false));
  const int e = op(b, HFB_OP_EXP, op(b, HFB_OP_SUB, x, reduce(b, HFB_OP_REDUCE_MAX, x)), -1);
  store(b, 2, op(b, HFB_OP_DIV, e, reduce(b, HFB_OP_REDUCE_SUM, e)));
}

typedef struct bench_case {
  const char *name;
  void (*build)(built *b, int64_t rows);
  int64_t rows; /* what fits into a cache of the first or second level */
} bench_case;

static const bench_case cases[] = {
    {"add_layer_norm", build_add_layer_norm, 64},
    {"bias_gelu", build_bias_gelu, 64},
    {"masked_softmax", build_masked_softmax, 128},
};
enum { CASE_COUNT = sizeof cases / sizeof *cases };

/* ---- measuring ---- */

static hfb_status generate(const built *b, const char *name, hfb_isa isa, bool with_prelude, hfb_strbuf *out_code) {
  if (with_prelude) HFB_TRY(hfb_codegen_prelude(isa, out_code));
  return hfb_codegen_loop(&b->loop, name, name, isa, out_code);
}

static double best_ns(const built *b, hfb_rows_fn run, void *const *slots, void *scratch, int rounds) {
  enum { CALLS = 50 };
  double best = INFINITY;
  for (int r = 0; r < rounds; r++) {
    const int64_t start = hfb_clock_ns();
    for (int i = 0; i < CALLS; i++) run(slots, 0, b->loop.extent[0], scratch);
    best = fmin(best, (double)(hfb_clock_ns() - start) / CALLS);
  }
  return best / (double)(b->loop.extent[0] * b->loop.extent[1]);
}

static hfb_status bench_run_time(const bench_case *c, int rounds, bool show) {
  static built b;
  void *slots[MAX_SLOTS] = {NULL}, *scratch = NULL;
  hfb_strbuf code;
  hfb_jit *jit = NULL;
  const hfb_isa isa = hfb_cpu()->isa;
  c->build(&b, c->rows);
  hfb_strbuf_init(&code);
  hfb_status status = generate(&b, c->name, isa, true, &code);
  const size_t elements = (size_t)(b.loop.extent[0] * b.loop.extent[1]);
  for (int s = 0; s < b.loop.slot_count && status == HFB_OK; s++) {
    status = hfb_mem_alloc_aligned(elements * sizeof(float), 64, &slots[s]);
    const hfb_philox random = hfb_philox_named(1, c->name);
    for (size_t i = 0; i < elements && status == HFB_OK; i++)
      ((float *)slots[s])[i] = 4 * hfb_philox_uniform(random, i) - 2;
  }
  if (status == HFB_OK) status = hfb_mem_alloc_aligned(hfb_loop_scratch_bytes(&b.loop) + 64, 64, &scratch);
  const char *unit = hfb_strbuf_text(&code);
  if (status == HFB_OK) status = hfb_jit_build(1, &unit, isa, "", &jit, NULL);
  if (status == HFB_OK) {
    hfb_rows_fn run = NULL;
    void *symbol = hfb_jit_symbol(jit, c->name);
    memcpy(&run, &symbol, sizeof run);
    printf("%-16s %4lld x %-5lld %7.3f ns/element\n", c->name, (long long)b.loop.extent[0], (long long)b.loop.extent[1],
           best_ns(&b, run, slots, scratch, rounds));
    char first_line[64];
    snprintf(first_line, sizeof first_line, "/* %s\n", c->name);
    if (show) printf("%s", strstr(unit, first_line));
  }
  hfb_jit_destroy(jit);
  hfb_mem_free(scratch);
  for (int s = 0; s < MAX_SLOTS; s++) hfb_mem_free(slots[s]);
  hfb_strbuf_deinit(&code);
  return status;
}

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
    cases[k % CASE_COUNT].build(&b, 64);
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
  for (int i = 0; i < CASE_COUNT && status == HFB_OK; i++) status = bench_run_time(&cases[i], rounds, show);
  static const int latencies[][2] = {{1, 1}, {3, 1}, {30, 1}, {30, 2}};
  for (int i = 0; i < 4 && status == HFB_OK; i++) status = bench_compile_time(latencies[i][0], latencies[i][1], rounds);
  if (status != HFB_OK) fprintf(stderr, "bench_codegen: %s\n", hfb_error_message());
  return status == HFB_OK ? 0 : 1;
}
