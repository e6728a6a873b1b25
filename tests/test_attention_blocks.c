/* Attention whose keys and values lie in blocks: the kernels against the same blocks put side by side, bit for bit, and
 * what the compiler takes for such attention. Arguments: [first seed] [number of seeds]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "compile/passes.h"
#include "compile/schedule.h"
#include "kernels/attention_backward.h"

static uint64_t first_seed = 1, seed_count = 60;

/* ---- kernels ---- */

enum { BATCH = 2, HEADS = 3 };

typedef struct block_case {
  int64_t queries, keys, dim, value_dim, rows, count; /* keys in a block, blocks in a matrix */
  bool by_head;                                       /* each head has numbers of its own; else heads lie in the rows */
  int causal;
  double dropout_p;
  float *q, *g, *k_matrix, *v_matrix, *k, *v; /* k and v: [batch,heads,keys,dim] */
  int64_t *numbers;
  int64_t state[2];
} block_case;

static float *draw(uint64_t seed, const char *name, int64_t count) {
  float *x = test_calloc((size_t)count + 1, sizeof *x);
  for (int64_t i = 0; i < count; i++) x[i] = 2 * hfb_philox_uniform(hfb_philox_named(seed, name), (uint64_t)i) - 1;
  return x;
}

static void set_strides(int64_t strides[3], int64_t rows, int64_t columns) {
  strides[0] = HEADS * rows * columns, strides[1] = rows * columns, strides[2] = columns;
}

/* Numbers beyond the matrix stand for its ends. */
static int64_t clamped(int64_t number, int64_t count) { return number < 0 ? 0 : number >= count ? count - 1 : number; }

static float *gather(const block_case *c, const float *matrix, int64_t columns) {
  float *out = test_calloc((size_t)(BATCH * HEADS * c->keys * columns), sizeof *out);
  const int64_t width = c->by_head ? columns : HEADS * columns, heads = c->by_head ? HEADS : 1;
  for (int64_t i = 0; i < BATCH * HEADS * c->keys; i++) {
    const int64_t key = i % c->keys, head = i / c->keys % HEADS, batch = i / c->keys / HEADS;
    const int64_t list = batch * heads + (c->by_head ? head : 0);
    const int64_t number = clamped(c->numbers[list * (c->keys / c->rows) + key / c->rows], c->count);
    const float *row = matrix + (number * c->rows + key % c->rows) * width + (c->by_head ? 0 : head * columns);
    memcpy(out + i * columns, row, (size_t)columns * sizeof(float));
  }
  return out;
}

static block_case make_case(uint64_t seed) {
  const hfb_philox stream = hfb_philox_named(seed, "blocks");
  uint64_t next = 0;
#define BELOW(bound) hfb_philox_below(stream, next++, (bound))
  block_case c = {.queries = 1 + BELOW(150), .state = {(int64_t)seed, 7}};
  c.dim = 1 + BELOW(40), c.value_dim = 1 + BELOW(40);
  c.rows = 1 + BELOW(70), c.count = 1 + BELOW(9);
  c.keys = c.rows * (1 + BELOW(5));
  c.by_head = BELOW(2) != 0;
  c.causal = c.keys >= c.queries && BELOW(3) == 0;
  c.dropout_p = BELOW(2) ? 0.2 : 0;
  const int64_t width = c.by_head ? 1 : HEADS, lists = BATCH * (c.by_head ? HEADS : 1), listed = c.keys / c.rows;
  c.q = draw(seed, "q", BATCH * HEADS * c.queries * c.dim);
  c.g = draw(seed, "g", BATCH * HEADS * c.queries * c.value_dim);
  c.k_matrix = draw(seed, "k", c.count * c.rows * c.dim * width);
  c.v_matrix = draw(seed, "v", c.count * c.rows * c.value_dim * width);
  c.numbers = test_calloc((size_t)(lists * listed), sizeof *c.numbers);
  for (int64_t i = 0; i < lists * listed; i++) c.numbers[i] = BELOW(c.count + 2) - 1;
#undef BELOW
  c.k = gather(&c, c.k_matrix, c.dim);
  c.v = gather(&c, c.v_matrix, c.value_dim);
  return c;
}

static void free_case(block_case *c) {
  float *all[] = {c->q, c->g, c->k_matrix, c->v_matrix, c->k, c->v};
  for (int i = 0; i < 6; i++) test_free(all[i]);
  test_free(c->numbers);
}

/* What one way of reading keys and values gives. */
typedef struct outcome {
  float *out, *lse, *delta, *dq, *dk, *dv;
} outcome;

static void set_keys(const block_case *c, bool in_blocks, const float **k, const float **v, int64_t k_strides[3],
                     int64_t v_strides[3], hfb_attention_blocks *blocks) {
  const int64_t listed = c->keys / c->rows, width = c->by_head ? 1 : HEADS;
  *k = c->k, *v = c->v, *blocks = (hfb_attention_blocks){0};
  set_strides(k_strides, c->keys, c->dim);
  set_strides(v_strides, c->keys, c->value_dim);
  if (!in_blocks) return;
  *k = c->k_matrix, *v = c->v_matrix;
  k_strides[2] = c->dim * width, v_strides[2] = c->value_dim * width;
  k_strides[1] = c->by_head ? 0 : c->dim, v_strides[1] = c->by_head ? 0 : c->value_dim;
  k_strides[0] = c->rows * k_strides[2], v_strides[0] = c->rows * v_strides[2];
  *blocks = (hfb_attention_blocks){.numbers = c->numbers, .rows = c->rows, .count = c->count};
  blocks->strides[1] = c->by_head ? listed : 0;
  blocks->strides[0] = c->by_head ? HEADS * listed : listed;
}

static outcome run_case(block_case *c, bool in_blocks, hfb_isa isa, hfb_pool *pool) {
  const int64_t rows = BATCH * HEADS * c->queries, keys = BATCH * HEADS * c->keys;
  outcome o = {test_calloc((size_t)(rows * c->value_dim), 4), test_calloc((size_t)rows, 4),
               test_calloc((size_t)rows, 4),                  test_calloc((size_t)(rows * c->dim), 4),
               test_calloc((size_t)(keys * c->dim), 4),       test_calloc((size_t)(keys * c->value_dim), 4)};
  hfb_attention a = {.batch = BATCH, .heads = HEADS, .query_count = c->queries, .key_count = c->keys};
  a.head_dim = c->dim, a.value_dim = c->value_dim, a.scale = 0.3f, a.causal = c->causal;
  a.dropout_p = c->dropout_p, a.dropout_site = 3, a.random_state = c->state;
  a.q = c->q, a.out = o.out, a.lse = o.lse;
  set_strides(a.q_strides, c->queries, c->dim);
  set_strides(a.out_strides, c->queries, c->value_dim);
  set_keys(c, in_blocks, &a.k, &a.v, a.k_strides, a.v_strides, &a.blocks);
  assert_int_equal(hfb_attention_run(&a, isa, pool), HFB_OK);
  for (int64_t i = 0; i < rows * c->value_dim; i++) o.delta[i / c->value_dim] += c->g[i] * o.out[i];
  hfb_attention_backward b = {.batch = BATCH, .heads = HEADS, .query_count = c->queries, .key_count = c->keys};
  b.head_dim = c->dim, b.value_dim = c->value_dim, b.scale = b.gradient_scale = a.scale, b.causal = a.causal;
  b.dropout_p = a.dropout_p, b.dropout_site = a.dropout_site, b.random_state = c->state;
  b.q = c->q, b.g = c->g, b.lse = o.lse, b.delta = o.delta, b.dq = o.dq, b.dk = o.dk, b.dv = o.dv;
  set_strides(b.q_strides, c->queries, c->dim);
  set_strides(b.dq_strides, c->queries, c->dim);
  set_strides(b.g_strides, c->queries, c->value_dim);
  set_strides(b.dk_strides, c->keys, c->dim);
  set_strides(b.dv_strides, c->keys, c->value_dim);
  set_keys(c, in_blocks, &b.k, &b.v, b.k_strides, b.v_strides, &b.blocks);
  assert_int_equal(hfb_attention_backward_run(&b, isa, pool), HFB_OK);
  return o;
}

static void expect_equal(const char *what, uint64_t seed, const float *got, const float *want, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (memcmp(&got[i], &want[i], sizeof got[i]) == 0) continue;
    fail_msg("seed %llu: %s[%lld] is %.9g in blocks, %.9g in rows", (unsigned long long)seed, what, (long long)i,
             (double)got[i], (double)want[i]);
  }
}

static void free_outcome(outcome *o) {
  float *all[] = {o->out, o->lse, o->delta, o->dq, o->dk, o->dv};
  for (int i = 0; i < 6; i++) test_free(all[i]);
}

static void blocks_give_the_bits_of_rows(void **state) {
  hfb_pool *pool = NULL;
  assert_int_equal(hfb_pool_create(3, &pool), HFB_OK);
  for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++) {
    block_case c = make_case(seed);
    const hfb_isa isa = (hfb_isa)(seed % ((uint64_t)hfb_cpu()->isa + 1));
    outcome rows = run_case(&c, false, isa, NULL), blocks = run_case(&c, true, isa, seed % 2 ? pool : NULL);
    const int64_t queries = BATCH * HEADS * c.queries, keys = BATCH * HEADS * c.keys;
    expect_equal("out", seed, blocks.out, rows.out, queries * c.value_dim);
    expect_equal("lse", seed, blocks.lse, rows.lse, queries);
    expect_equal("dq", seed, blocks.dq, rows.dq, queries * c.dim);
    expect_equal("dk", seed, blocks.dk, rows.dk, keys * c.dim);
    expect_equal("dv", seed, blocks.dv, rows.dv, keys * c.value_dim);
    free_outcome(&rows);
    free_outcome(&blocks);
    free_case(&c);
  }
  hfb_pool_destroy(pool);
}

static void keys_are_whole_blocks(void **state) {
  const int64_t numbers[] = {0};
  hfb_attention a = {.batch = 1, .heads = 1, .query_count = 1, .key_count = 5, .head_dim = 1, .value_dim = 1};
  a.blocks = (hfb_attention_blocks){.numbers = numbers, .rows = 2, .count = 1};
  assert_int_equal(hfb_attention_run(&a, HFB_ISA_GENERIC, NULL), HFB_INVALID_ARGUMENT);
  assert_non_null(strstr(hfb_error_message(), "5 keys in blocks of 2"));
}

/* ---- compiler ---- */

/* Queries in two windows of four tokens, keys in three blocks each: [2,heads 2,4,12]. */
#define WINDOWS(v_numbers)                                                            \
  "graph \"windows\" {\n"                                                             \
  "%0 = input(name=\"q\") : f32[1,8,16]\n"                                            \
  "%1 = input(name=\"k\") : f32[1,8,16]\n"                                            \
  "%2 = input(name=\"v\") : f32[1,8,16]\n"                                            \
  "%3 = input(name=\"numbers\") : i64[6]\n"                                           \
  "%4 = input(name=\"others\") : i64[6]\n"                                            \
  "%5 = reshape(%0) : f32[2,4,2,8]\n"                                                 \
  "%6 = transpose(%5; perm=[0,2,1,3]) : f32[2,2,4,8]\n"                               \
  "%7 = reshape(%1) : f32[2,64]\n"                                                    \
  "%8 = gather(%7, %3; axis=0) : f32[6,64]\n"                                         \
  "%9 = reshape(%8) : f32[2,12,2,8]\n"                                                \
  "%10 = transpose(%9; perm=[0,2,1,3]) : f32[2,2,12,8]\n"                             \
  "%11 = reshape(%2) : f32[2,64]\n"                                                   \
  "%12 = gather(%11, " v_numbers "; axis=0) : f32[6,64]\n"                            \
  "%13 = reshape(%12) : f32[2,12,2,8]\n"                                              \
  "%14 = transpose(%13; perm=[0,2,1,3]) : f32[2,2,12,8]\n"                            \
  "%15 = matmul(%6, %10; transpose_a=0, transpose_b=1) : f32[2,2,4,12]\n"             \
  "%16 = softmax(%15; axis=3) : f32[2,2,4,12]\n"                                      \
  "%17 = matmul(%16, %14; transpose_a=0, transpose_b=0) : f32[2,2,4,8]\n"             \
  "output \"y\" = %17\n"

/* How many keys are in a block of the one attention step; 0: they lie in rows. Sets the number of steps. */
static int64_t rows_of_blocks(const char *text, int *out_step_count) {
  hfb_graph *graph = NULL, *matched = NULL, *primitives = NULL;
  hfb_schedule *schedule = NULL;
  int64_t rows = -1;
  if (hfb_graph_parse(text, strlen(text), &graph) != HFB_OK) fail_msg("%s", hfb_error_message());
  assert_int_equal(hfb_pass_attention(graph, &matched), HFB_OK);
  assert_int_equal(hfb_pass_decompose(matched, &primitives), HFB_OK);
  if (hfb_schedule_create(primitives, &schedule) != HFB_OK) fail_msg("%s", hfb_error_message());
  for (int i = 0; i < schedule->step_count; i++) {
    if (schedule->steps[i].kind == HFB_STEP_ATTENTION) rows = schedule->steps[i].block_rows;
  }
  *out_step_count = schedule->step_count;
  hfb_schedule_destroy(schedule);
  hfb_graph_destroy(primitives);
  hfb_graph_destroy(matched);
  hfb_graph_destroy(graph);
  return rows;
}

static void windows_are_read_where_they_lie(void **state) {
  int steps;
  assert_int_equal(rows_of_blocks(WINDOWS("%3") "}\n", &steps), 4);
  assert_int_equal(steps, 1);
}

static void values_by_other_numbers_are_copied(void **state) {
  int steps;
  assert_int_equal(rows_of_blocks(WINDOWS("%4") "}\n", &steps), 0);
  assert_int_equal(steps, 3);
}

/* What is stored anyway is read from there, keys and values alike. */
static void keys_that_somebody_else_reads_are_copied(void **state) {
  int steps;
  assert_int_equal(rows_of_blocks(WINDOWS("%3") "output \"keys\" = %10\n}\n", &steps), 0);
  assert_int_equal(steps, 3);
}

int main(int argc, char **argv) {
  if (argc > 1) first_seed = strtoull(argv[1], NULL, 10);
  if (argc > 2) seed_count = strtoull(argv[2], NULL, 10);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(blocks_give_the_bits_of_rows),
      cmocka_unit_test(keys_are_whole_blocks),
      cmocka_unit_test(windows_are_read_where_they_lie),
      cmocka_unit_test(values_by_other_numbers_are_copied),
      cmocka_unit_test(keys_that_somebody_else_reads_are_copied),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
