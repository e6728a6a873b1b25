/* Generated code against plain evaluation, on every instruction set of this machine and with every compiler found.
 * Arguments: [first seed] [number of random loops]. */
#include <math.h>
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
#include "compile/codegen.h"
#include "compile/jit.h"
#include "support/loop_interpret.h"
#include "support/loop_random.h"

enum { CASES_IN_UNIT = 30, SPECIAL_COUNT = 20, FUNCTION_COLUMNS = 4096 + SPECIAL_COUNT };

static uint64_t first_seed = 1, seed_count = 180;

/* ---- instruction sets and compilers ---- */

/* Runs `test` for each pair; the last one is left in HFBENCH_CC. */
static void for_each_target(void (*test)(hfb_isa isa, const char *target)) {
  static const char *const compilers[] = {"gcc", "clang"};
  static const hfb_isa levels[] = {HFB_ISA_GENERIC, HFB_ISA_AVX2, HFB_ISA_AVX512};
  int targets = 0;
  for (size_t c = 0; c < sizeof compilers / sizeof *compilers; c++) {
    setenv("HFBENCH_CC", compilers[c], 1);
    if (!hfb_jit_compiler()) continue;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
      char target[64];
      if (levels[i] > hfb_cpu()->isa_max) continue;
      snprintf(target, sizeof target, "%s, %s", compilers[c], hfb_isa_name(levels[i]));
      test(levels[i], target);
      targets++;
    }
  }
  unsetenv("HFBENCH_CC");
  assert_true(targets > 0);
}

/* ---- memory at the end or at the beginning of pages, with nothing behind and in front ---- */

typedef struct fenced {
  char *pages, *data;
  size_t mapped_bytes, bytes;
} fenced;

static fenced fenced_create(size_t bytes, bool at_end) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes + page - 1) / page * page;
  fenced f = {.bytes = bytes, .mapped_bytes = inside + 2 * page};
  f.pages = mmap(NULL, f.mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(f.pages != MAP_FAILED);
  if (inside > 0) assert_int_equal(mprotect(f.pages + page, inside, PROT_READ | PROT_WRITE), 0);
  f.data = f.pages + page + (at_end ? inside - bytes : 0);
  memset(f.data, 0x5a, bytes);
  return f;
}

static void fenced_destroy(fenced *f) {
  if (f->pages) munmap(f->pages, f->mapped_bytes);
}

/* ---- what is expected ---- */

typedef struct expected_element {
  int store;
  int64_t offset;
  loop_value value;
} expected_element;

typedef struct expectation {
  expected_element *elements;
  size_t count, capacity;
} expectation;

static void expect_element(void *context, int store, int64_t offset, loop_value value) {
  expectation *e = context;
  if (e->count == e->capacity) {
    e->capacity = e->capacity ? 2 * e->capacity : 256;
    assert_int_equal(hfb_mem_grow(&e->elements, e->capacity, sizeof *e->elements), HFB_OK);
  }
  e->elements[e->count++] = (expected_element){store, offset, value};
}

static bool float_is_near(double got, loop_value wanted) {
  if (isnan(wanted.value)) return isnan(got);
  if (isinf(wanted.value)) return got == wanted.value;
  return fabs(got - wanted.value) <= wanted.error;
}

static bool element_is_right(hfb_dtype dtype, const void *data, loop_value wanted) {
  switch (dtype) {
    case HFB_F32: return float_is_near(*(const float *)data, wanted);
    case HFB_F64: return float_is_near(*(const double *)data, wanted);
    case HFB_I64: return *(const int64_t *)data == wanted.integer;
    case HFB_I32: return *(const int32_t *)data == wanted.integer;
    default: return *(const uint8_t *)data == wanted.integer;
  }
}

static double element_of(hfb_dtype dtype, const void *data) {
  if (dtype == HFB_F32) return *(const float *)data;
  if (dtype == HFB_F64) return *(const double *)data;
  return dtype == HFB_I64   ? (double)*(const int64_t *)data
         : dtype == HFB_I32 ? *(const int32_t *)data
                            : *(const uint8_t *)data;
}

static int64_t compared_count, unknown_count;

static void fail_case(const loop_case *c, uint64_t seed, const char *target, const char *what) {
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  if (hfb_loop_print(&c->loop, &text) == HFB_OK) print_error("%s", hfb_strbuf_text(&text));
  fail_msg("seed %llu on %s: %s", (unsigned long long)seed, target, what);
}

/* Every stored element, and that nothing else was written: `before` is what the slots held. */
static void check_case(const loop_case *c, uint64_t seed, const char *target, const expectation *e, fenced *slots,
                       char *const *before) {
  char what[160];
  for (size_t i = 0; i < e->count; i++) {
    const expected_element *x = &e->elements[i];
    const int slot = c->stores[x->store].slot;
    const hfb_dtype dtype = c->dtypes[slot];
    char *data = slots[slot].data + (size_t)x->offset * hfb_dtype_bytes(dtype);
    if (x->value.unknown) {
      unknown_count++;
    } else if (!element_is_right(dtype, data, x->value)) {
      snprintf(what, sizeof what, "store %d at %lld: %.9g instead of %.9g (error at most %.3g; as integer %lld)",
               x->store, (long long)x->offset, element_of(dtype, data), x->value.value, x->value.error,
               (long long)x->value.integer);
      fail_case(c, seed, target, what);
    } else {
      compared_count++;
    }
    memcpy(data, before[slot] + (data - slots[slot].data), hfb_dtype_bytes(dtype));
  }
  for (int s = 0; s < c->loop.store_count; s++) {
    const fenced *f = &slots[c->stores[s].slot];
    for (size_t b = 0; b < f->bytes; b++) {
      if (f->data[b] == before[c->stores[s].slot][b]) continue;
      snprintf(what, sizeof what, "store %d wrote byte %zu of slot %d, which is not its own", s, b, c->stores[s].slot);
      fail_case(c, seed, target, what);
    }
  }
}

/* ---- running a case ---- */

static void run_rows(loop_case *c, hfb_rows_fn run, void *const *slots) {
  int64_t rows = 1;
  for (int d = 0; d + 1 < c->loop.rank; d++) rows *= c->loop.extent[d];
  void *scratch = NULL;
  const size_t bytes = hfb_loop_scratch_bytes(&c->loop);
  assert_int_equal(hfb_mem_alloc_aligned(bytes + 64, 64, &scratch), HFB_OK);
  memset((char *)scratch + bytes, 0x77, 64);
  const int64_t split = random_below(&c->random, rows + 1);
  run(slots, 0, split, scratch);
  run(slots, split, rows, scratch);
  for (int i = 0; i < 64; i++) assert_int_equal(((char *)scratch)[bytes + (size_t)i], 0x77);
  hfb_mem_free(scratch);
}

typedef void (*tile_fn)(const void *context, void *tile, int64_t ld, int64_t batch, int64_t row, int64_t rows,
                        int64_t col, int64_t cols);
typedef void (*score_fn)(const void *context, float *scores, int64_t ld, int64_t batch, int64_t head, int64_t row,
                         int64_t rows, int64_t col, int64_t cols);

/* One piece of the matrix in a block of its own, as the kernels call it. */
static void run_piece(loop_case *c, void *function, void *const *slots, int64_t batch, int64_t head, int64_t row,
                      int64_t rows, int64_t col, int64_t cols) {
  const int64_t width = c->loop.extent[c->loop.rank - 1], ld = cols + 3;
  if (rows == 0 || cols == 0) return;
  fenced block = fenced_create((size_t)((rows - 1) * ld + cols) * sizeof(float), true);
  float *matrix = slots[0], *tile = (float *)block.data;
  for (int64_t r = 0; r < rows; r++)
    memcpy(tile + r * ld, matrix + (row + r) * width + col, (size_t)cols * sizeof *tile);
  if (c->loop.kind == HFB_LOOP_TILE) {
    tile_fn run;
    memcpy(&run, &function, sizeof run);
    run(slots, tile, ld, batch, row, rows, col, cols);
  } else {
    score_fn run;
    memcpy(&run, &function, sizeof run);
    run(slots, tile, ld, batch, head, row, rows, col, cols);
  }
  for (int64_t r = 0; r < rows; r++)
    memcpy(matrix + (row + r) * width + col, tile + r * ld, (size_t)cols * sizeof *tile);
  fenced_destroy(&block);
}

static void run_tiles(loop_case *c, void *function, void *const *slots, int64_t batch, int64_t head) {
  const int64_t rows = c->loop.extent[c->loop.rank - 2], cols = c->loop.extent[c->loop.rank - 1];
  const int64_t row = random_below(&c->random, rows + 1), col = random_below(&c->random, cols + 1);
  run_piece(c, function, slots, batch, head, 0, row, 0, col);
  run_piece(c, function, slots, batch, head, row, rows - row, 0, col);
  run_piece(c, function, slots, batch, head, 0, rows, col, cols - col);
}

static void run_case(loop_case c, uint64_t seed, void *function, const char *target) {
  fenced memory[LOOP_CASE_SLOTS] = {{0}};
  void *slots[LOOP_CASE_SLOTS] = {NULL};
  char *before[LOOP_CASE_SLOTS] = {NULL};
  const bool rows = c.loop.kind == HFB_LOOP_ROWS;
  if (!rows) c.elements[0] = c.loop.extent[c.loop.rank - 2] * c.loop.extent[c.loop.rank - 1];
  for (int s = 0; s < c.loop.slot_count; s++) {
    memory[s] = fenced_create((size_t)c.elements[s] * hfb_dtype_bytes(c.dtypes[s]), s % 2 == 0);
    slots[s] = memory[s].data;
    bool only_stored = s > 0 || rows;
    for (int t = 0; t < c.loop.term_count; t++)
      only_stored = only_stored && (c.terms[t].kind != HFB_TERM_LOAD || c.terms[t].slot != s);
    if (!only_stored) loop_case_fill(&c, s, slots[s], c.elements[s]);
  }
  if (c.loop.site_count > 0) slots[c.loop.site_slot] = c.sites;
  for (int i = 0; i < c.loop.store_count; i++) {
    const int slot = c.stores[i].slot, place = c.in_place[i];
    if (place < 0 || place == slot) continue;
    fenced_destroy(&memory[slot]);
    memory[slot] = (fenced){.data = memory[place].data, .bytes = memory[place].bytes};
    slots[slot] = slots[place];
  }
  for (int s = 0; s < c.loop.slot_count; s++) {
    assert_int_equal(hfb_mem_alloc(memory[s].bytes + 1, 1, &before[s]), HFB_OK);
    memcpy(before[s], memory[s].data, memory[s].bytes);
  }
  const int64_t batch = rows ? 0 : random_below(&c.random, c.loop.extent[0] + (c.loop.extent[0] == 0));
  const int64_t head =
      c.loop.kind == HFB_LOOP_SCORE ? random_below(&c.random, c.loop.extent[1] + (c.loop.extent[1] == 0)) : 0;
  bool empty = false;
  for (int d = 0; d < c.loop.rank - rows; d++) empty = empty || c.loop.extent[d] == 0;
  expectation e = {0};
  if (!empty) assert_int_equal(loop_interpret(&c.loop, slots, batch, head, expect_element, &e), HFB_OK);
  if (rows) {
    hfb_rows_fn run;
    memcpy(&run, &function, sizeof run);
    run_rows(&c, run, slots);
  } else if (!empty) {
    run_tiles(&c, function, slots, batch, head);
  }
  if (rows || !empty) check_case(&c, seed, target, &e, memory, before);
  hfb_mem_free(e.elements);
  for (int s = 0; s < c.loop.slot_count; s++) {
    fenced_destroy(&memory[s]);
    hfb_mem_free(before[s]);
  }
}

static void run_unit(const uint64_t *seeds, int count, hfb_isa isa, const char *target) {
  static loop_case cases[CASES_IN_UNIT];
  char name[32];
  hfb_strbuf code;
  hfb_strbuf_init(&code);
  assert_int_equal(hfb_codegen_prelude(isa, &code), HFB_OK);
  for (int i = 0; i < count; i++) {
    loop_case_init(&cases[i], seeds[i]);
    if (hfb_loop_verify(&cases[i].loop) != HFB_OK) fail_case(&cases[i], seeds[i], target, hfb_error_message());
    snprintf(name, sizeof name, "loop_%d", i);
    assert_int_equal(hfb_codegen_loop(&cases[i].loop, name, "a random loop", isa, &code), HFB_OK);
  }
  const char *unit = hfb_strbuf_text(&code);
  hfb_jit *jit = NULL;
  if (hfb_jit_build(1, &unit, isa, "", &jit, NULL) != HFB_OK) {
    fail_msg("seeds from %llu on %s: %s", (unsigned long long)seeds[0], target, hfb_error_message());
  }
  for (int i = 0; i < count; i++) {
    snprintf(name, sizeof name, "loop_%d", i);
    run_case(cases[i], seeds[i], hfb_jit_symbol(jit, name), target);
  }
  hfb_jit_destroy(jit);
  hfb_strbuf_deinit(&code);
}

static void random_loops_on(hfb_isa isa, const char *target) {
  uint64_t seeds[CASES_IN_UNIT];
  for (uint64_t done = 0; done < seed_count;) {
    int count = 0;
    while (count < CASES_IN_UNIT && done < seed_count) seeds[count++] = first_seed + done++;
    run_unit(seeds, count, isa, target);
  }
}

static void test_random_loops(void **state) {
  (void)state;
  compared_count = unknown_count = 0;
  for_each_target(random_loops_on);
  if (seed_count < 100) return;
  assert_true(compared_count > 4 * unknown_count); /* the loops must not drown in nan-like uncertainty */
}

/* ---- elementary functions ---- */

typedef struct function_case {
  hfb_op op;
  double (*reference)(double x);
  double ulps;
} function_case;

static double rsqrt(double x) {
  return 1 / sqrt(x);
}

static const function_case functions[] = {
    {HFB_OP_EXP, exp, 1.2}, {HFB_OP_LOG, log, 1.0}, {HFB_OP_TANH, tanh, 2.5},  {HFB_OP_ERF, erf, 2.1},
    {HFB_OP_SIN, sin, 1.6}, {HFB_OP_COS, cos, 1.6}, {HFB_OP_SQRT, sqrt, 0.51}, {HFB_OP_RSQRT, rsqrt, 1.51},
};
enum { FUNCTION_COUNT = sizeof functions / sizeof *functions };

static const float special[SPECIAL_COUNT] = {0.0f,    -0.0f,    INFINITY, -INFINITY, NAN,    1e-40f,  -1e-40f,
                                             3.4e38f, -3.4e38f, 1.0f,     -1.0f,     88.72f, 88.73f,  -87.34f,
                                             -103.f,  -104.f,   9.02f,    3.93f,     1e-30f, 16000.0f};

static double ulp_of(double x) {
  int exponent;
  frexp(x, &exponent);
  return ldexp(1, exponent - 24);
}

/* out[i] = f(in[i]) */
static void build_function_loop(hfb_loop *loop, hfb_term terms[2], hfb_store *store, hfb_dtype dtypes[2], hfb_op op) {
  terms[0] = (hfb_term){.kind = HFB_TERM_LOAD, .args = {-1, -1, -1}, .strides = {1}};
  terms[1] = (hfb_term){.kind = HFB_TERM_OP, .op = op, .args = {0, -1, -1}};
  *store = (hfb_store){.term = 1, .slot = 1, .strides = {1}};
  dtypes[0] = dtypes[1] = HFB_F32;
  *loop = (hfb_loop){.kind = HFB_LOOP_ROWS,
                     .rank = 1,
                     .extent = {FUNCTION_COLUMNS},
                     .term_count = 2,
                     .store_count = 1,
                     .terms = terms,
                     .stores = store,
                     .slot_count = 2,
                     .slot_dtypes = dtypes};
}

static void check_function(const function_case *f, const float *in, const float *out, const char *target) {
  for (int i = 0; i < FUNCTION_COLUMNS; i++) {
    const double wanted = f->reference(in[i]), got = out[i];
    if (isnan(wanted) && isnan(got)) continue;
    if (isinf((float)wanted) && (got == (float)wanted || fabs(got) > 3.4028e38)) continue;
    if (fabs(wanted) < 1.2e-38 && fabs(got - wanted) < 1.2e-38) continue; /* subnormal: may be flushed */
    if (fabs(got - wanted) <= f->ulps * ulp_of(wanted)) continue;
    fail_msg("%s on %s: %s(%.9g) is %.9g instead of %.9g, %.2f ulp", hfb_op_info_of(f->op)->name, target,
             hfb_op_info_of(f->op)->name, in[i], got, wanted, fabs(got - wanted) / ulp_of(wanted));
  }
}

static void functions_on(hfb_isa isa, const char *target) {
  static float in[FUNCTION_COLUMNS], out[FUNCTION_COLUMNS];
  hfb_strbuf code;
  hfb_strbuf_init(&code);
  assert_int_equal(hfb_codegen_prelude(isa, &code), HFB_OK);
  for (int f = 0; f < FUNCTION_COUNT; f++) {
    hfb_loop loop;
    hfb_term terms[2];
    hfb_store store;
    hfb_dtype dtypes[2];
    build_function_loop(&loop, terms, &store, dtypes, functions[f].op);
    assert_int_equal(hfb_codegen_loop(&loop, hfb_op_info_of(functions[f].op)->name, NULL, isa, &code), HFB_OK);
  }
  const char *unit = hfb_strbuf_text(&code);
  hfb_jit *jit = NULL;
  if (hfb_jit_build(1, &unit, isa, "", &jit, NULL) != HFB_OK) fail_msg("%s: %s", target, hfb_error_message());
  for (int f = 0; f < FUNCTION_COUNT; f++) {
    void *symbol = hfb_jit_symbol(jit, hfb_op_info_of(functions[f].op)->name);
    hfb_rows_fn run;
    memcpy(&run, &symbol, sizeof run);
    memcpy(in + FUNCTION_COLUMNS - SPECIAL_COUNT, special, sizeof special);
    for (uint64_t bits = 0; bits <= UINT32_MAX;) { /* all of float, one in 3989 */
      for (int i = 0; i < FUNCTION_COLUMNS - SPECIAL_COUNT; i++, bits += 3989) {
        const uint32_t word = (uint32_t)bits;
        memcpy(&in[i], &word, sizeof word);
      }
      run((void *[]){in, out}, 0, 1, NULL);
      check_function(&functions[f], in, out, target);
    }
  }
  hfb_jit_destroy(jit);
  hfb_strbuf_deinit(&code);
}

static void test_functions(void **state) {
  (void)state;
  for_each_target(functions_on);
}

/* ---- comparisons of positions with numbers that do not fit into 32 bits ---- */

enum { COMPARE_OPS = 4, COMPARE_STORES = 2 * COMPARE_OPS, COMPARE_COLUMNS = 37, COMPARE_ROWS = 9 };

static const int64_t compared_numbers[COMPARE_ROWS] = {
    INT64_MIN,       -(INT64_C(1) << 33) + 3, -1,       0, 20, COMPARE_COLUMNS - 1,
    COMPARE_COLUMNS, (INT64_C(1) << 32) + 5,  INT64_MAX};
static const hfb_op compare_ops[COMPARE_OPS] = {HFB_OP_EQ, HFB_OP_NE, HFB_OP_LT, HFB_OP_LE};

static bool compares(hfb_op op, int64_t a, int64_t b) {
  return op == HFB_OP_EQ ? a == b : op == HFB_OP_NE ? a != b : op == HFB_OP_LT ? a < b : a <= b;
}

/* out[s] = column op number and, from COMPARE_OPS on, number op column. */
static void compares_on(hfb_isa isa, const char *target) {
  static uint8_t out[COMPARE_STORES][COMPARE_ROWS][COMPARE_COLUMNS];
  hfb_term terms[2 + COMPARE_STORES] = {
      {.kind = HFB_TERM_INDEX, .dtype = HFB_I64, .args = {-1, -1, -1}, .strides = {0, 1}},
      {.kind = HFB_TERM_LOAD, .dtype = HFB_I64, .args = {-1, -1, -1}, .strides = {1, 0}, .per_row = true}};
  hfb_store stores[COMPARE_STORES];
  hfb_dtype dtypes[1 + COMPARE_STORES] = {HFB_I64};
  void *slots[1 + COMPARE_STORES] = {(void *)compared_numbers};
  for (int s = 0; s < COMPARE_STORES; s++) {
    const bool swapped = s >= COMPARE_OPS;
    terms[2 + s] = (hfb_term){
        .kind = HFB_TERM_OP, .dtype = HFB_BOOL, .op = compare_ops[s % COMPARE_OPS], .args = {swapped, !swapped, -1}};
    stores[s] = (hfb_store){.term = 2 + s, .slot = 1 + s, .strides = {COMPARE_COLUMNS, 1}};
    dtypes[1 + s] = HFB_BOOL;
    slots[1 + s] = out[s];
  }
  const hfb_loop loop = {.kind = HFB_LOOP_ROWS,
                         .rank = 2,
                         .extent = {COMPARE_ROWS, COMPARE_COLUMNS},
                         .term_count = 2 + COMPARE_STORES,
                         .store_count = COMPARE_STORES,
                         .terms = terms,
                         .stores = stores,
                         .slot_count = 1 + COMPARE_STORES,
                         .slot_dtypes = dtypes};
  hfb_strbuf code;
  hfb_strbuf_init(&code);
  assert_int_equal(hfb_codegen_prelude(isa, &code), HFB_OK);
  assert_int_equal(hfb_codegen_loop(&loop, "compares", NULL, isa, &code), HFB_OK);
  const char *unit = hfb_strbuf_text(&code);
  hfb_jit *jit = NULL;
  if (hfb_jit_build(1, &unit, isa, "", &jit, NULL) != HFB_OK) fail_msg("%s: %s", target, hfb_error_message());
  hfb_rows_fn run;
  void *symbol = hfb_jit_symbol(jit, "compares");
  memcpy(&run, &symbol, sizeof run);
  memset(out, 0x5a, sizeof out);
  run(slots, 0, COMPARE_ROWS, NULL);
  for (int s = 0; s < COMPARE_STORES; s++) {
    for (int r = 0; r < COMPARE_ROWS; r++) {
      for (int64_t c = 0; c < COMPARE_COLUMNS; c++) {
        const int64_t number = compared_numbers[r];
        const bool wanted =
            compares(compare_ops[s % COMPARE_OPS], s < COMPARE_OPS ? c : number, s < COMPARE_OPS ? number : c);
        if (out[s][r][c] != wanted)
          fail_msg("%s: store %d, column %lld, number %lld: %d", target, s, (long long)c, (long long)number,
                   out[s][r][c]);
      }
    }
  }
  hfb_jit_destroy(jit);
  hfb_strbuf_deinit(&code);
}

static void test_compares(void **state) {
  (void)state;
  for_each_target(compares_on);
}

/* ---- the contract ---- */

/* out = x - max(x) along the row, x = a + b; then things are broken one by one. */
typedef struct small_loop {
  hfb_loop loop;
  hfb_term terms[5];
  hfb_store store;
  hfb_dtype dtypes[3];
} small_loop;

static void small_loop_init(small_loop *s) {
  memset(s, 0, sizeof *s);
  for (int t = 0; t < 5; t++) s->terms[t].args[0] = s->terms[t].args[1] = s->terms[t].args[2] = -1;
  s->terms[0].kind = s->terms[1].kind = HFB_TERM_LOAD;
  s->terms[1].slot = 1;
  s->terms[0].strides[0] = 100;
  s->terms[0].strides[1] = s->terms[1].strides[1] = 1;
  s->terms[2].kind = s->terms[4].kind = HFB_TERM_OP;
  s->terms[2].op = HFB_OP_ADD;
  s->terms[2].args[0] = 0, s->terms[2].args[1] = 1;
  s->terms[3] = (hfb_term){.kind = HFB_TERM_REDUCE, .op = HFB_OP_REDUCE_MAX, .args = {2, -1, -1}, .per_row = true};
  s->terms[4].op = HFB_OP_SUB;
  s->terms[4].args[0] = 2, s->terms[4].args[1] = 3;
  s->store = (hfb_store){.term = 4, .slot = 2, .strides = {100, 1}};
  s->loop = (hfb_loop){.kind = HFB_LOOP_ROWS,
                       .rank = 2,
                       .extent = {7, 100},
                       .term_count = 5,
                       .store_count = 1,
                       .terms = s->terms,
                       .stores = &s->store,
                       .slot_count = 3,
                       .slot_dtypes = s->dtypes};
}

#define ASSERT_REFUSED(change, fragment)                                             \
  do {                                                                               \
    small_loop s;                                                                    \
    small_loop_init(&s);                                                             \
    change;                                                                          \
    assert_int_not_equal(hfb_loop_verify(&s.loop), HFB_OK);                          \
    if (!strstr(hfb_error_message(), fragment)) fail_msg("%s", hfb_error_message()); \
  } while (0)

static void test_verify(void **state) {
  (void)state;
  small_loop good;
  small_loop_init(&good);
  assert_int_equal(hfb_loop_verify(&good.loop), HFB_OK);
  ASSERT_REFUSED(s.loop.rank = 0, "rank 0");
  ASSERT_REFUSED(s.loop.rank = HFB_LOOP_MAX_RANK + 1, "rank 7");
  ASSERT_REFUSED(s.loop.extent[0] = -1, "negative");
  ASSERT_REFUSED(s.loop.kind = HFB_LOOP_TILE, "rank 2");
  ASSERT_REFUSED(s.loop.store_count = 0, "nothing is stored");
  ASSERT_REFUSED(s.dtypes[0] = HFB_BF16, "bf16");
  ASSERT_REFUSED(s.dtypes[1] = HFB_F64, "slot 1");
  ASSERT_REFUSED(s.terms[0].slot = 3, "slot 3 of 3");
  ASSERT_REFUSED(s.terms[2].args[1] = 2, "does not come before");
  ASSERT_REFUSED(s.terms[2].args[0] = -1, "argument 0");
  ASSERT_REFUSED(s.terms[2].op = HFB_OP_MATMUL, "matmul");
  ASSERT_REFUSED(s.terms[2].op = HFB_OP_LT, "gives bool");
  ASSERT_REFUSED(s.terms[3].op = HFB_OP_ADD, "reduces nothing");
  ASSERT_REFUSED(s.terms[0].per_row = true, "per_row is true");
  ASSERT_REFUSED(s.terms[3].per_row = false, "per_row is false");
  ASSERT_REFUSED(s.store.term = 5, "term 5 of 5");
  ASSERT_REFUSED(s.store.slot = -1, "slot -1");
  ASSERT_REFUSED(s.store.strides[1] = 0, "one place");
  ASSERT_REFUSED(s.terms[0].args[0] = 0, "does not come before");
}

/* out = keep ? in : 0, elements of the mask from 40 on. */
typedef struct mask_loop {
  hfb_loop loop;
  hfb_term terms[7];
  hfb_store store;
  hfb_dtype dtypes[4];
  int64_t site;
} mask_loop;

static void mask_loop_init(mask_loop *m) {
  memset(m, 0, sizeof *m);
  for (int t = 0; t < 7; t++) m->terms[t].args[0] = m->terms[t].args[1] = m->terms[t].args[2] = -1;
  m->terms[0].strides[0] = m->terms[1].strides[0] = 100;
  m->terms[0].strides[1] = m->terms[1].strides[1] = 1;
  m->terms[1].kind = HFB_TERM_INDEX;
  m->terms[1].offset = 40;
  for (int t = 2; t < 4; t++) { /* seed and step */
    m->terms[t].slot = 1;
    m->terms[t].offset = t - 2;
    m->terms[t].per_row = true;
  }
  m->terms[1].dtype = m->terms[2].dtype = m->terms[3].dtype = m->dtypes[1] = m->dtypes[3] = HFB_I64;
  m->terms[4] =
      (hfb_term){.kind = HFB_TERM_OP, .dtype = HFB_BOOL, .op = HFB_OP_RANDOM_KEEP, .args = {1, 2, 3}, .value = 0.25};
  m->terms[5].kind = HFB_TERM_SCALAR;
  m->terms[5].per_row = true;
  m->terms[6] = (hfb_term){.kind = HFB_TERM_OP, .op = HFB_OP_WHERE, .args = {4, 0, 5}};
  m->store = (hfb_store){.term = 6, .slot = 2, .strides = {100, 1}};
  m->site = 17;
  m->loop = (hfb_loop){.kind = HFB_LOOP_ROWS,
                       .rank = 2,
                       .extent = {7, 100},
                       .term_count = 7,
                       .store_count = 1,
                       .terms = m->terms,
                       .stores = &m->store,
                       .slot_count = 4,
                       .slot_dtypes = m->dtypes,
                       .site_count = 1,
                       .sites = &m->site,
                       .site_slot = 3};
}

#define ASSERT_MASK_REFUSED(change, fragment)                                        \
  do {                                                                               \
    mask_loop m;                                                                     \
    mask_loop_init(&m);                                                              \
    change;                                                                          \
    assert_int_not_equal(hfb_loop_verify(&m.loop), HFB_OK);                          \
    if (!strstr(hfb_error_message(), fragment)) fail_msg("%s", hfb_error_message()); \
  } while (0)

static void loop_text(const hfb_loop *loop, hfb_strbuf *out_print, hfb_strbuf *out_code) {
  hfb_strbuf_clear(out_print);
  hfb_strbuf_clear(out_code);
  assert_int_equal(hfb_loop_print(loop, out_print), HFB_OK);
  assert_int_equal(hfb_codegen_loop(loop, "f", NULL, HFB_ISA_AVX2, out_code), HFB_OK);
}

/* The site is no part of the text, so that layers share functions; the probability is. */
static void test_masks(void **state) {
  (void)state;
  mask_loop m;
  mask_loop_init(&m);
  assert_int_equal(hfb_loop_verify(&m.loop), HFB_OK);
  ASSERT_MASK_REFUSED(m.terms[4].site = 1, "site 1 of 1");
  ASSERT_MASK_REFUSED(m.loop.site_count = 0, "site 0 of 0");
  ASSERT_MASK_REFUSED(m.terms[4].value = 1.5, "probability 1.5");
  ASSERT_MASK_REFUSED(m.terms[4].args[0] = 0, "argument 0 is f32");
  ASSERT_MASK_REFUSED(m.terms[4].dtype = HFB_I64, "gives bool");
  ASSERT_MASK_REFUSED(m.loop.site_slot = 1, "slot 1 is not for 1 sites");
  ASSERT_MASK_REFUSED(m.loop.site_slot = 4, "slot 4 is not");
  ASSERT_MASK_REFUSED(m.dtypes[3] = HFB_F32, "slot 3 is not");
  ASSERT_MASK_REFUSED(m.loop.sites = NULL, "slot 3 is not");
  hfb_strbuf print, code, other_print, other_code;
  hfb_strbuf_init(&print);
  hfb_strbuf_init(&code);
  hfb_strbuf_init(&other_print);
  hfb_strbuf_init(&other_code);
  loop_text(&m.loop, &print, &code);
  assert_non_null(strstr(hfb_strbuf_text(&print), "rows [7,100] slots f32 i64 f32 i64, sites in slot3\n"));
  assert_non_null(strstr(hfb_strbuf_text(&print), "  t4: bool = random_keep t1 t2 t3 site0 p 0.25\n"));
  m.site = 18;
  loop_text(&m.loop, &other_print, &other_code);
  assert_string_equal(hfb_strbuf_text(&print), hfb_strbuf_text(&other_print));
  assert_string_equal(hfb_strbuf_text(&code), hfb_strbuf_text(&other_code));
  m.terms[4].value = 0.5;
  loop_text(&m.loop, &other_print, &other_code);
  assert_string_not_equal(hfb_strbuf_text(&print), hfb_strbuf_text(&other_print));
  assert_string_not_equal(hfb_strbuf_text(&code), hfb_strbuf_text(&other_code));
  hfb_strbuf_deinit(&print);
  hfb_strbuf_deinit(&code);
  hfb_strbuf_deinit(&other_print);
  hfb_strbuf_deinit(&other_code);
}

static void test_text(void **state) {
  (void)state;
  small_loop s;
  small_loop_init(&s);
  hfb_strbuf text, again;
  hfb_strbuf_init(&text);
  hfb_strbuf_init(&again);
  assert_int_equal(hfb_loop_print(&s.loop, &text), HFB_OK);
  assert_string_equal(hfb_strbuf_text(&text),
                      "rows [7,100] slots f32 f32 f32\n"
                      "  t0: f32 = slot0[100*i0 + i1]\n"
                      "  t1: f32 = slot1[i1]\n"
                      "  t2: f32 = add t0 t1\n"
                      "  t3: f32 row = reduce_max t2\n"
                      "  t4: f32 = sub t2 t3\n"
                      "  slot2[100*i0 + i1] = t4\n");
  hfb_strbuf_clear(&text);
  assert_int_equal(hfb_codegen_loop(&s.loop, "f", "ends */ early", HFB_ISA_AVX2, &text), HFB_OK);
  assert_int_equal(hfb_codegen_loop(&s.loop, "f", "ends */ early", HFB_ISA_AVX2, &again), HFB_OK);
  assert_string_equal(hfb_strbuf_text(&text), hfb_strbuf_text(&again));
  assert_null(strstr(hfb_strbuf_text(&text), "ends */"));
  assert_int_equal(hfb_loop_scratch_bytes(&s.loop), 448); /* the sum is kept: 112 floats */
  hfb_strbuf_deinit(&text);
  hfb_strbuf_deinit(&again);
}

/* Whichever allocation fails, the failure is reported. */
static void test_failing_memory(void **state) {
  (void)state;
  small_loop s;
  small_loop_init(&s);
  hfb_status status = HFB_OUT_OF_MEMORY;
  for (int nth = 1; status != HFB_OK; nth++) {
    hfb_strbuf code;
    hfb_strbuf_init(&code);
    hfb_mem_fail_at(nth, 0);
    status = hfb_codegen_loop(&s.loop, "f", NULL, HFB_ISA_GENERIC, &code);
    hfb_mem_fail_at(0, 0);
    if (status != HFB_OK) assert_int_equal(status, HFB_OUT_OF_MEMORY);
    hfb_strbuf_deinit(&code);
    assert_true(nth < 100);
  }
  const size_t bytes = hfb_loop_scratch_bytes(&s.loop);
  hfb_mem_fail_at(1, 1);
  assert_true(hfb_loop_scratch_bytes(&s.loop) >= bytes); /* without memory for the plan: enough for any */
  hfb_mem_fail_at(0, 0);
}

int main(int argc, char **argv) {
  if (argc > 1) first_seed = strtoull(argv[1], NULL, 10);
  if (argc > 2) seed_count = strtoull(argv[2], NULL, 10);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_verify),    cmocka_unit_test(test_text),  cmocka_unit_test(test_failing_memory),
      cmocka_unit_test(test_compares),  cmocka_unit_test(test_masks), cmocka_unit_test(test_random_loops),
      cmocka_unit_test(test_functions),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
