/* The gradients of attention on every instruction set against the plain formulas in double, and those against finite
 * differences. Arguments: [first seed] [number of seeds]. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "kernels/attention_backward.h"
#include "support/keep_factor.h"
#include "support/strided.h"

static const float guard_value = -77777.0f;
static uint64_t first_seed = 1, seed_count = 160;

/* What the score functions do to one score: scores become factor * score + bias, gradients are multiplied by factor. */
typedef enum score_kind {
  SCORES_PLAIN,
  SCORES_HIDDEN,
  SCORES_PADDED,
  SCORES_SCALED,
  SCORES_HIDDEN_ROWS, /* whole rows by a finite mask, beside visible ones */
  SCORE_KINDS
} score_kind;

typedef struct score_change {
  double factor, bias;
} score_change;

/* The masks of models: the lowest float, as transformers has it, others as low, and -10000; some with -inf on top. */
static double row_bias(int64_t batch, int64_t row, int64_t col) {
  switch ((row + batch) % 6) {
    case 1: return (double)-FLT_MAX;
    case 2: return col % 3 == 1 ? -INFINITY : (double)-1e38f;
    case 3: return -10000;
    case 4: return col % 32 > 20 ? (double)-FLT_MAX : 0;
    default: return 0;
  }
}

/* Some scores of each row are not -inf: those of key 0. */
static score_change change_of(score_kind kind, int64_t batch, int64_t head, int64_t row, int64_t col) {
  switch (kind) {
    case SCORES_HIDDEN:
      return (score_change){1, col > 0 && (row * 7 + col * 3 + batch + head) % 5 == 0
                                   ? -INFINITY
                                   : 0.25 * (double)((row - col) % 9)};
    case SCORES_PADDED: return (score_change){1, col % 32 > 20 + batch ? (double)-1e38f : 0};
    case SCORES_HIDDEN_ROWS: return (score_change){1, row_bias(batch, row, col)};
    case SCORES_SCALED: return (score_change){0.25 * (double)(1 + (row + 3 * col + head) % 7), 0.5 * (double)(col % 3)};
    default: return (score_change){1, 0};
  }
}

static void change_scores(const void *context, float *scores, int64_t ld, int64_t batch, int64_t head, int64_t row,
                          int64_t rows, int64_t col, int64_t cols) {
  const score_kind kind = *(const score_kind *)context;
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < cols; j++) {
      const score_change change = change_of(kind, batch, head, row + i, col + j);
      scores[i * ld + j] = scores[i * ld + j] * (float)change.factor + (float)change.bias;
    }
  }
}

static void change_gradients(const void *context, float *gradients, int64_t ld, int64_t batch, int64_t head,
                             int64_t row, int64_t rows, int64_t col, int64_t cols) {
  const score_kind kind = *(const score_kind *)context;
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < cols; j++) {
      gradients[i * ld + j] *= (float)change_of(kind, batch, head, row + i, col + j).factor;
    }
  }
}

typedef struct backward_case {
  hfb_attention_backward call;
  strided q, k, v, g, dq, dk, dv;
  float *lse, *delta;
  double *max, *sum; /* of a row: the largest score, the sum of exp(scores - max) */
  int64_t random_state[2];
  score_kind kind;
  hfb_isa isa;
} backward_case;

/* One element of the matrices of a head in double, and how far a float result may be away from it. */
typedef struct element {
  double p, p_error;         /* dropout(P) */
  double d, d_error;         /* gradient of q k^T */
} element;

static bool is_hidden(const hfb_attention_backward *a, int64_t row, int64_t col) {
  return a->causal && col > row + a->key_count - a->query_count;
}

static double keep_factor_at(const hfb_attention_backward *a, int64_t batch, int64_t head, int64_t row, int64_t col) {
  const int64_t index = ((batch * a->heads + head) * a->query_count + row) * a->key_count + col;
  return keep_factor(a->dropout_p, a->random_state, a->dropout_site, index);
}

/* The sum of x[i] * y[i] and of its sizes. */
typedef struct dot {
  double value, size;
} dot;

static dot dot_of(const float *x, const float *y, int64_t count) {
  dot result = {0};
  for (int64_t i = 0; i < count; i++) {
    result.value += (double)x[i] * (double)y[i];
    result.size += fabs((double)x[i] * (double)y[i]);
  }
  return result;
}

/* Beside the masks that hide a row a float or double does not hold the product at all. */
static dot score_of(const backward_case *c, int64_t batch, int64_t head, int64_t row, int64_t col) {
  const hfb_attention_backward *a = &c->call;
  const score_change change = change_of(c->kind, batch, head, row, col);
  const dot product = dot_of(a->q + strided_offset(a->q_strides, batch, head, row),
                             a->k + strided_offset(a->k_strides, batch, head, col), a->head_dim);
  const double factor = (double)a->scale * change.factor;
  if (isfinite(change.bias) && fabs(change.bias) >= 0x1p100) return (dot){change.bias, 0};
  return (dot){product.value * factor + change.bias, fabs(product.size * factor) + fabs(change.bias)};
}

/* The softmax itself, not by the log-sum-exp: that of a hidden row cannot tell how many keys it has. A float score is
 * wrong by a few eps times the sizes of its terms, its probability by that factor, and so on along the formulas. */
static element element_of(const backward_case *c, int64_t batch, int64_t head, int64_t row, int64_t col) {
  const hfb_attention_backward *a = &c->call;
  const double eps = 0x1p-24, smallest = 0x1p-126;
  const int64_t at = (batch * a->heads + head) * a->query_count + row;
  const dot score = score_of(c, batch, head, row, col);
  if (is_hidden(a, row, col) || score.value - c->max[at] < -1000) return (element){0};
  const dot x = dot_of(a->g + strided_offset(a->g_strides, batch, head, row),
                       a->v + strided_offset(a->v_strides, batch, head, col), a->value_dim);
  const double keep = keep_factor_at(a, batch, head, row, col), delta = (double)a->delta[at];
  const double p = exp(score.value - c->max[at]) / c->sum[at];
  const double row_size = fabs(c->max[at]) < 0x1p100 ? fabs(c->max[at] + log(c->sum[at])) : 0;
  const double p_error = p * eps * (4 * (score.size + row_size) + 4) + smallest;
  const double difference = x.value * keep - delta;
  const double difference_error = 4 * eps * (x.size * keep + fabs(delta));
  const double factor = (double)a->gradient_scale * change_of(c->kind, batch, head, row, col).factor;
  return (element){
      .p = p * keep,
      .p_error = (p_error + 2 * eps * p) * keep,
      .d = p * difference * factor,
      .d_error = (p_error * fabs(difference) + p * difference_error + 4 * eps * p * fabs(difference)) * fabs(factor),
  };
}

/* Adds element * x to out, and what that sum may be wrong by to errors. */
static void add_product(double value, double error, double rounding, const float *x, int64_t count, double *out,
                        double *errors) {
  for (int64_t i = 0; i < count; i++) {
    out[i] += value * (double)x[i];
    errors[i] += (error + rounding * fabs(value)) * fabs((double)x[i]);
  }
}

typedef struct exact_gradients {
  double *dq, *dk, *dv, *dq_error, *dk_error, *dv_error; /* of one head, row-major */
} exact_gradients;

static exact_gradients exact_create(const hfb_attention_backward *a) {
  const size_t bytes = sizeof(double);
  const size_t dq = (size_t)(a->query_count * a->head_dim + 1), dk = (size_t)(a->key_count * a->head_dim + 1);
  const size_t dv = (size_t)(a->key_count * a->value_dim + 1);
  return (exact_gradients){test_calloc(dq, bytes), test_calloc(dk, bytes), test_calloc(dv, bytes),
                           test_calloc(dq, bytes), test_calloc(dk, bytes), test_calloc(dv, bytes)};
}

static void exact_destroy(exact_gradients *exact) {
  double *all[] = {exact->dq, exact->dk, exact->dv, exact->dq_error, exact->dk_error, exact->dv_error};
  for (int i = 0; i < 6; i++) test_free(all[i]);
}

static void exact_compute(const backward_case *c, int64_t batch, int64_t head, exact_gradients *exact) {
  const hfb_attention_backward *a = &c->call;
  const int64_t dim = a->head_dim, value_dim = a->value_dim;
  const double rounding_q = 0x1p-24 * (16 + 2 * sqrt((double)a->key_count));
  const double rounding_k = 0x1p-24 * (16 + 2 * sqrt((double)a->query_count));
  for (int64_t i = 0; i < a->query_count; i++) {
    const float *q = a->q + strided_offset(a->q_strides, batch, head, i);
    const float *g = a->g + strided_offset(a->g_strides, batch, head, i);
    for (int64_t j = 0; j < a->key_count; j++) {
      const float *k = a->k + strided_offset(a->k_strides, batch, head, j);
      const element e = element_of(c, batch, head, i, j);
      add_product(e.d, e.d_error, rounding_q, k, dim, exact->dq + i * dim, exact->dq_error + i * dim);
      add_product(e.d, e.d_error, rounding_k, q, dim, exact->dk + j * dim, exact->dk_error + j * dim);
      add_product(e.p, e.p_error, rounding_k, g, value_dim, exact->dv + j * value_dim, exact->dv_error + j * value_dim);
    }
  }
}

static void check_tensor(const backward_case *c, uint64_t seed, const char *name, int64_t batch, int64_t head,
                         const strided *got, const double *want, const double *errors, int64_t rows, int64_t columns) {
  const hfb_attention_backward *a = &c->call;
  for (int64_t i = 0; i < rows * columns; i++) {
    const double value = (double)got->start[strided_offset(got->strides, batch, head, i / columns) + i % columns];
    if (fabs(value - want[i]) <= errors[i]) continue;
    print_message("seed %llu, %s: batch %lld heads %lld q %lld k %lld dims %lld %lld causal %d scores %d dropout %g: "
                  "%s[%lld][%lld][%lld][%lld] is %.9g, expected %.9g, bound %.2g\n",
                  (unsigned long long)seed, hfb_isa_name(c->isa), (long long)a->batch, (long long)a->heads,
                  (long long)a->query_count, (long long)a->key_count, (long long)a->head_dim, (long long)a->value_dim,
                  a->causal, (int)c->kind, a->dropout_p, name, (long long)batch, (long long)head,
                  (long long)(i / columns), (long long)(i % columns), value, want[i], errors[i]);
    fail();
  }
}

/* Nothing but the elements is written. */
static void check_guards(const strided *t, int64_t batch, int64_t heads, int64_t rows, int64_t columns) {
  char *is_element = test_calloc((size_t)t->elements, 1);
  for (int64_t i = 0; i < batch * heads * rows; i++) {
    const int64_t offset = strided_offset(t->strides, i / rows / heads, i / rows % heads, i % rows);
    memset(is_element + STRIDED_GUARD_ELEMENTS + offset, 1, (size_t)columns);
  }
  for (int64_t i = 0; i < t->elements; i++) assert_true(is_element[i] || t->memory[i] == guard_value);
  test_free(is_element);
}

static void check_result(const backward_case *c, uint64_t seed) {
  const hfb_attention_backward *a = &c->call;
  for (int64_t batch = 0; batch < a->batch; batch++) {
    for (int64_t head = 0; head < a->heads; head++) {
      exact_gradients exact = exact_create(a);
      exact_compute(c, batch, head, &exact);
      check_tensor(c, seed, "dq", batch, head, &c->dq, exact.dq, exact.dq_error, a->query_count, a->head_dim);
      check_tensor(c, seed, "dk", batch, head, &c->dk, exact.dk, exact.dk_error, a->key_count, a->head_dim);
      check_tensor(c, seed, "dv", batch, head, &c->dv, exact.dv, exact.dv_error, a->key_count, a->value_dim);
      exact_destroy(&exact);
    }
  }
  check_guards(&c->dq, a->batch, a->heads, a->query_count, a->head_dim);
  check_guards(&c->dk, a->batch, a->heads, a->key_count, a->head_dim);
  check_guards(&c->dv, a->batch, a->heads, a->key_count, a->value_dim);
}

/* The plain softmax of one row, and the sum of g * out, which is what the gradients are of. */
static void forward_row(const backward_case *c, int64_t batch, int64_t head, int64_t row, double *out_max,
                        double *out_sum, double *out_delta) {
  const hfb_attention_backward *a = &c->call;
  double max = -INFINITY, sum = 0, delta = 0;
  for (int64_t j = 0; j < a->key_count; j++) {
    const double score = is_hidden(a, row, j) ? -INFINITY : score_of(c, batch, head, row, j).value;
    max = score > max ? score : max;
  }
  for (int64_t j = 0; j < a->key_count; j++) {
    const double score = is_hidden(a, row, j) ? -INFINITY : score_of(c, batch, head, row, j).value;
    const double e = max == -INFINITY ? 0 : exp(score - max);
    const double x = dot_of(a->g + strided_offset(a->g_strides, batch, head, row),
                            a->v + strided_offset(a->v_strides, batch, head, j), a->value_dim).value;
    sum += e;
    delta += e * x * keep_factor_at(a, batch, head, row, j);
  }
  *out_max = max;
  *out_sum = sum;
  *out_delta = sum == 0 ? 0 : delta / sum;
}

static void set_rows(backward_case *c) {
  hfb_attention_backward *a = &c->call;
  const int64_t count = a->batch * a->heads * a->query_count;
  c->lse = test_malloc((size_t)(count + 1) * sizeof(float));
  c->delta = test_malloc((size_t)(count + 1) * sizeof(float));
  c->max = test_malloc((size_t)(count + 1) * sizeof(double));
  c->sum = test_malloc((size_t)(count + 1) * sizeof(double));
  for (int64_t i = 0; i < count; i++) {
    double delta;
    forward_row(c, i / a->query_count / a->heads, i / a->query_count % a->heads, i % a->query_count, &c->max[i],
                &c->sum[i], &delta);
    c->lse[i] = (float)(c->max[i] + log(c->sum[i]));
    c->delta[i] = (float)delta;
  }
  a->lse = c->lse, a->delta = c->delta;
}

/* Contents of the case: sizes, scales, causal and dropout_p are set already. */
static void fill_case(backward_case *c, uint64_t seed) {
  hfb_attention_backward *a = &c->call;
  const int64_t batch = a->batch, heads = a->heads, queries = a->query_count, keys = a->key_count;
  c->q = strided_create(hfb_philox_named(seed, "q"), batch, heads, queries, a->head_dim, 1.0f);
  c->k = strided_create(hfb_philox_named(seed, "k"), batch, heads, keys, a->head_dim, 1.0f);
  c->v = strided_create(hfb_philox_named(seed, "v"), batch, heads, keys, a->value_dim, 1.0f);
  c->g = strided_create(hfb_philox_named(seed, "g"), batch, heads, queries, a->value_dim, 1.0f);
  c->dq = strided_create_filled(hfb_philox_named(seed, "dq"), batch, heads, queries, a->head_dim, guard_value);
  c->dk = strided_create_filled(hfb_philox_named(seed, "dk"), batch, heads, keys, a->head_dim, guard_value);
  c->dv = strided_create_filled(hfb_philox_named(seed, "dv"), batch, heads, keys, a->value_dim, guard_value);
  a->q = c->q.start, a->k = c->k.start, a->v = c->v.start, a->g = c->g.start;
  a->dq = c->dq.start, a->dk = c->dk.start, a->dv = c->dv.start;
  memcpy(a->q_strides, c->q.strides, sizeof a->q_strides);
  memcpy(a->k_strides, c->k.strides, sizeof a->k_strides);
  memcpy(a->v_strides, c->v.strides, sizeof a->v_strides);
  memcpy(a->g_strides, c->g.strides, sizeof a->g_strides);
  memcpy(a->dq_strides, c->dq.strides, sizeof a->dq_strides);
  memcpy(a->dk_strides, c->dk.strides, sizeof a->dk_strides);
  memcpy(a->dv_strides, c->dv.strides, sizeof a->dv_strides);
  c->random_state[0] = (int64_t)(seed * 0x9E3779B97F4A7C15u);
  c->random_state[1] = (int64_t)seed;
  a->dropout_site = (int64_t)(seed % 5);
}

/* Points the call at what lies in the case itself, which must not move any more. */
static void bind_case(backward_case *c) {
  c->call.random_state = c->call.dropout_p == 0 ? NULL : c->random_state;
  if (c->kind != SCORES_PLAIN) c->call.modify = change_scores;
  if (c->kind == SCORES_SCALED) c->call.modify_gradient = change_gradients;
  c->call.modify_context = c->call.modify_gradient_context = &c->kind;
  set_rows(c);
}

static void destroy_case(backward_case *c) {
  strided *all[] = {&c->q, &c->k, &c->v, &c->g, &c->dq, &c->dk, &c->dv};
  for (int i = 0; i < 7; i++) strided_destroy(all[i]);
  test_free(c->lse);
  test_free(c->delta);
  test_free(c->max);
  test_free(c->sum);
}

static void make_case(uint64_t seed, backward_case *c) {
  const hfb_philox stream = hfb_philox_named(seed, "attention backward");
  const int64_t lengths[] = {1, 2, 3, 8, 9, 16, 17, 33, 64, 70, 127, 128, 129, 200, 257, 300};
  const int64_t dims[] = {1, 2, 5, 8, 16, 17, 24, 32, 48, 64, 80, 128};
  uint64_t next = 0;
#define BELOW(bound) hfb_philox_below(stream, next++, (bound))
  *c = (backward_case){0};
  hfb_attention_backward *a = &c->call;
  a->query_count = lengths[BELOW(16)];
  a->key_count = BELOW(2) ? a->query_count : lengths[BELOW(16)];
  const bool is_long = a->query_count * a->key_count > 20000;
  a->batch = is_long ? 1 : 1 + BELOW(3);
  a->heads = is_long ? 1 + BELOW(2) : 1 + BELOW(4);
  a->head_dim = dims[BELOW(12)];
  a->value_dim = BELOW(2) ? a->head_dim : dims[BELOW(12)];
  a->scale = BELOW(2) ? 1.0f / sqrtf((float)a->head_dim) : 1.0f;
  a->gradient_scale = BELOW(2) ? a->scale : 0.7f;
  a->causal = (int)BELOW(2);
  a->dropout_p = BELOW(2) ? 0 : 0.1 * (double)(1 + BELOW(5));
  c->kind = (score_kind)BELOW(SCORE_KINDS);
  c->isa = (hfb_isa)BELOW(3);
#undef BELOW
  fill_case(c, seed);
  bind_case(c);
}

static void test_random_cases(void **state) {
  hfb_pool *pools[4] = {NULL};
  const int threads[4] = {0, 1, 2, 5};
  for (int i = 1; i < 4; i++) assert_int_equal(hfb_pool_create(threads[i], &pools[i]), HFB_OK);
  for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++) {
    backward_case c;
    make_case(seed, &c);
    assert_int_equal(hfb_attention_backward_run(&c.call, c.isa, pools[seed % 4]), HFB_OK);
    check_result(&c, seed);
    destroy_case(&c);
  }
  for (int i = 1; i < 4; i++) hfb_pool_destroy(pools[i]);
}

/* The formulas are those of the gradient of sum(g * out): a step in each of some elements of q, k and v. Not for hidden
 * rows: a step in q or k vanishes beside the mask, while the frameworks' gradient passes the mask by. */
static void test_formulas_against_differences(void **state) {
  const double step = 1e-3;
  for (score_kind kind = SCORES_PLAIN; kind < SCORES_HIDDEN_ROWS; kind++) {
    backward_case c = {.kind = kind};
    hfb_attention_backward *a = &c.call;
    *a = (hfb_attention_backward){.batch = 1, .heads = 1, .query_count = 5, .key_count = 7, .head_dim = 4,
                                  .value_dim = 3, .scale = 0.5f, .gradient_scale = 0.5f, .dropout_p = 0.25,
                                  .causal = kind == SCORES_SCALED};
    fill_case(&c, 11);
    bind_case(&c);
    exact_gradients exact = exact_create(a);
    exact_compute(&c, 0, 0, &exact);
    strided *inputs[] = {&c.q, &c.k, &c.v};
    const double *gradients[] = {exact.dq, exact.dk, exact.dv};
    const int64_t rows[] = {5, 7, 7}, columns[] = {4, 4, 3};
    for (int tensor = 0; tensor < 3; tensor++) {
      for (int64_t i = 0; i < rows[tensor] * columns[tensor]; i++) {
        float *x = inputs[tensor]->start + i / columns[tensor] * inputs[tensor]->strides[2] + i % columns[tensor];
        const float before = *x;
        double values[2] = {0}, points[2];
        for (int side = 0; side < 2; side++) {
          *x = before + (float)(side == 0 ? -step : step);
          points[side] = (double)*x;
          for (int64_t row = 0; row < a->query_count; row++) {
            double max, sum, delta;
            forward_row(&c, 0, 0, row, &max, &sum, &delta);
            values[side] += delta;
          }
        }
        *x = before;
        const double difference = (values[1] - values[0]) / (points[1] - points[0]);
        if (fabs(difference - gradients[tensor][i]) > 2e-5) {
          print_message("scores %d: gradient %lld of input %d is %g, difference %g\n", (int)kind, (long long)i, tensor,
                        gradients[tensor][i], difference);
          fail();
        }
      }
    }
    exact_destroy(&exact);
    destroy_case(&c);
  }
}

/* A case of several blocks in each direction. */
static void make_long_case(backward_case *c, score_kind kind, int64_t heads, int causal, hfb_isa isa) {
  *c = (backward_case){.kind = kind, .isa = isa};
  c->call = (hfb_attention_backward){.batch = 1, .heads = heads, .query_count = 330, .key_count = 700, .head_dim = 40,
                                     .value_dim = 72, .scale = 0.15f, .gradient_scale = 0.15f, .causal = causal,
                                     .dropout_p = 0.1};
  fill_case(c, 5);
  bind_case(c);
}

typedef struct results {
  float *values[3];
} results;

static results copy_results(const backward_case *c) {
  const strided *from[] = {&c->dq, &c->dk, &c->dv};
  results copy;
  for (int i = 0; i < 3; i++) {
    copy.values[i] = test_malloc((size_t)from[i]->elements * sizeof(float));
    memcpy(copy.values[i], from[i]->memory, (size_t)from[i]->elements * sizeof(float));
  }
  return copy;
}

/* Compares what `wanted` names, bit 0 for dq and so on; the others are untouched. Everything is reset. */
static void check_and_reset(backward_case *c, const results *want, unsigned wanted) {
  strided *got[] = {&c->dq, &c->dk, &c->dv};
  for (int i = 0; i < 3; i++) {
    const size_t bytes = (size_t)got[i]->elements * sizeof(float);
    if (wanted & 1u << i) {
      assert_memory_equal(got[i]->memory, want->values[i], bytes);
    } else {
      for (int64_t j = 0; j < got[i]->elements; j++) assert_true(got[i]->memory[j] == guard_value);
    }
    for (int64_t j = 0; j < got[i]->elements; j++) got[i]->memory[j] = guard_value;
  }
}

/* Bit for bit the same for each number of threads, whether heads are split or not, for each choice of results, and
 * again. */
static void check_same_bits(score_kind kind, hfb_isa isa) {
  backward_case c;
  make_long_case(&c, kind, 3, isa != HFB_ISA_GENERIC, isa);
  assert_int_equal(hfb_attention_backward_run(&c.call, isa, NULL), HFB_OK);
  check_result(&c, 0);
  results want = copy_results(&c);
  check_and_reset(&c, &want, 7);
  for (int threads = 1; threads <= 16; threads *= 2) {
    hfb_pool *pool = NULL;
    assert_int_equal(hfb_pool_create(threads, &pool), HFB_OK);
    for (unsigned wanted = 0; wanted < 8; wanted++) {
      hfb_attention_backward call = c.call;
      if (!(wanted & 1)) call.dq = NULL;
      if (!(wanted & 2)) call.dk = NULL;
      if (!(wanted & 4)) call.dv = NULL;
      assert_int_equal(hfb_attention_backward_run(&call, isa, pool), HFB_OK);
      check_and_reset(&c, &want, wanted);
    }
    hfb_pool_destroy(pool);
  }
  for (int i = 0; i < 3; i++) test_free(want.values[i]);
  destroy_case(&c);
}

static void test_same_bits(void **state) {
  for (hfb_isa isa = HFB_ISA_GENERIC; isa <= HFB_ISA_AVX512; isa++) check_same_bits(SCORES_SCALED, isa);
}

static void test_same_bits_of_hidden_rows(void **state) {
  for (hfb_isa isa = HFB_ISA_GENERIC; isa <= HFB_ISA_AVX512; isa++) check_same_bits(SCORES_HIDDEN_ROWS, isa);
}

static void lower_scores(const void *context, float *scores, int64_t ld, int64_t batch, int64_t head, int64_t row,
                         int64_t rows, int64_t col, int64_t cols) {
  const float *bias = context;
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < cols; j++) scores[i * ld + j] += *bias;
  }
}

/* With the forward's lse the probabilities of a row sum to 1 at every distance of the scores from 0: the sum over keys
 * of dv is the sum over queries of g. */
static void test_probabilities_sum_to_one(void **state) {
  enum { QUERIES = 3, KEYS = 600, DIM = 8 };
  float q[QUERIES * DIM], g[QUERIES * DIM], out[QUERIES * DIM], lse[QUERIES], delta[QUERIES] = {0};
  float *k = test_malloc(KEYS * DIM * sizeof(float)), *dv = test_malloc(KEYS * DIM * sizeof(float));
  const hfb_philox stream = hfb_philox_named(7, "distances");
  hfb_philox_normal_fill(stream, 0, QUERIES * DIM, 0.3, q);
  hfb_philox_normal_fill(stream, 1000, KEYS * DIM, 0.3, k);
  for (int i = 0; i < QUERIES * DIM; i++) g[i] = (float)(1 + i % 3);
  for (hfb_isa isa = HFB_ISA_GENERIC; isa <= HFB_ISA_AVX512; isa++) {
    for (int exponent = 0; exponent < 256; exponent++) {
      const float bias = ldexpf(exponent % 2 ? -0.99f : 0.99f, exponent / 2);
      const hfb_attention forward = {.batch = 1, .heads = 1, .query_count = QUERIES, .key_count = KEYS,
                                     .head_dim = DIM, .value_dim = DIM, .q = q, .k = k, .v = k, .out = out,
                                     .q_strides = {0, 0, DIM}, .k_strides = {0, 0, DIM}, .v_strides = {0, 0, DIM},
                                     .out_strides = {0, 0, DIM}, .scale = 1, .modify = lower_scores,
                                     .modify_context = &bias, .lse = lse};
      const hfb_attention_backward backward = {
          .batch = 1, .heads = 1, .query_count = QUERIES, .key_count = KEYS, .head_dim = DIM, .value_dim = DIM, .q = q,
          .k = k, .v = k, .g = g, .q_strides = {0, 0, DIM}, .k_strides = {0, 0, DIM}, .v_strides = {0, 0, DIM},
          .g_strides = {0, 0, DIM}, .lse = lse, .delta = delta, .dv = dv, .dv_strides = {0, 0, DIM}, .scale = 1,
          .modify = lower_scores, .modify_context = &bias, .gradient_scale = 1};
      assert_int_equal(hfb_attention_run(&forward, isa, NULL), HFB_OK);
      assert_int_equal(hfb_attention_backward_run(&backward, isa, NULL), HFB_OK);
      for (int i = 0; i < DIM; i++) {
        double sum = 0, want = 0;
        for (int key = 0; key < KEYS; key++) sum += (double)dv[key * DIM + i];
        for (int query = 0; query < QUERIES; query++) want += (double)g[query * DIM + i];
        if (fabs(sum - want) <= 0x1p-14 * want) continue;
        fail_msg("%s, scores near %g: probabilities sum to %g", hfb_isa_name(isa), (double)bias, sum / want);
      }
    }
  }
  test_free(k);
  test_free(dv);
}

static void hide_row(const void *context, float *scores, int64_t ld, int64_t batch, int64_t head, int64_t row,
                     int64_t rows, int64_t col, int64_t cols) {
  const int64_t hidden = *(const int64_t *)context;
  if (hidden < row || hidden >= row + rows) return;
  for (int64_t j = 0; j < cols; j++) scores[(hidden - row) * ld + j] = -INFINITY;
}

/* A row without a visible score is nan in its dq and in the sums over rows; the other rows of dq do not notice. */
static void test_hidden_row(void **state) {
  const int64_t hidden = 4;
  for (hfb_isa isa = HFB_ISA_GENERIC; isa <= HFB_ISA_AVX512; isa++) {
    backward_case c = {.isa = isa};
    hfb_attention_backward *a = &c.call;
    *a = (hfb_attention_backward){.batch = 1, .heads = 1, .query_count = 9, .key_count = 20, .head_dim = 16,
                                  .value_dim = 16, .scale = 1, .gradient_scale = 1};
    fill_case(&c, 21);
    bind_case(&c);
    a->modify = hide_row;
    a->modify_context = &hidden;
    c.lse[hidden] = -INFINITY;
    assert_int_equal(hfb_attention_backward_run(a, isa, NULL), HFB_OK);
    for (int64_t i = 0; i < a->query_count * a->head_dim; i++) {
      const float value = c.dq.start[i / a->head_dim * a->dq_strides[2] + i % a->head_dim];
      assert_int_equal(isnan(value) != 0, i / a->head_dim == hidden);
    }
    assert_true(isnan(c.dk.start[0]) && isnan(c.dv.start[0]));
    destroy_case(&c);
  }
}

/* More queries than keys: with a causal mask the first rows see no key, and whole blocks of them. */
static void test_empty_rows(void **state) {
  for (hfb_isa isa = HFB_ISA_GENERIC; isa <= HFB_ISA_AVX512; isa++) {
    backward_case c = {.isa = isa};
    hfb_attention_backward *a = &c.call;
    *a = (hfb_attention_backward){.batch = 1, .heads = 2, .query_count = 300, .key_count = 20, .head_dim = 16,
                                  .value_dim = 8, .scale = 1, .gradient_scale = 1, .causal = 1};
    fill_case(&c, 22);
    bind_case(&c);
    assert_int_equal(hfb_attention_backward_run(a, isa, NULL), HFB_OK);
    check_result(&c, 22);
    for (int64_t row = 0; row < 280; row++) assert_true(c.dq.start[row * a->dq_strides[2]] == 0);

    a->query_count = 0; /* every gradient is an empty sum */
    assert_int_equal(hfb_attention_backward_run(a, isa, NULL), HFB_OK);
    for (int64_t row = 0; row < a->key_count; row++) {
      assert_true(c.dk.start[row * a->dk_strides[2]] == 0 && c.dv.start[row * a->dv_strides[2]] == 0);
    }
    a->query_count = 300, a->key_count = 0;
    assert_int_equal(hfb_attention_backward_run(a, isa, NULL), HFB_OK);
    for (int64_t row = 0; row < 300; row++) assert_true(c.dq.start[row * a->dq_strides[2]] == 0);
    a->key_count = 20;
    destroy_case(&c);
  }
}

/* Scratch memory, and what hidden rows need besides. */
static void test_failing_allocations(void **state) {
  enum { ALLOCATIONS = 2 };
  for (int fail_at = 1; fail_at <= ALLOCATIONS + 1; fail_at++) {
    backward_case c = {.kind = SCORES_HIDDEN_ROWS};
    c.call = (hfb_attention_backward){.batch = 1, .heads = 1, .query_count = 9, .key_count = 20, .head_dim = 16,
                                      .value_dim = 16, .scale = 1, .gradient_scale = 1};
    fill_case(&c, 23);
    bind_case(&c);
    hfb_mem_fail_at(fail_at, 0);
    const hfb_status status = hfb_attention_backward_run(&c.call, HFB_ISA_GENERIC, NULL);
    const int64_t allocations = hfb_mem_fail_at(0, 0);
    assert_int_equal(status, fail_at <= ALLOCATIONS ? HFB_OUT_OF_MEMORY : HFB_OK);
    assert_int_equal(allocations, fail_at <= ALLOCATIONS ? fail_at : ALLOCATIONS);
    destroy_case(&c);
  }
}

static void test_bad_calls(void **state) {
  float x[4] = {0};
  const int64_t random_state[2] = {1, 2};
  const hfb_attention_backward good = {.batch = 1, .heads = 1, .query_count = 1, .key_count = 1, .head_dim = 4,
                                       .value_dim = 4, .q = x, .k = x, .v = x, .g = x, .lse = x, .delta = x,
                                       .scale = 1, .gradient_scale = 1};
  assert_int_equal(hfb_attention_backward_run(&good, HFB_ISA_GENERIC, NULL), HFB_OK);
  hfb_attention_backward bad[7] = {good, good, good, good, good, good, good};
  bad[0].key_count = -2;
  bad[1].lse = NULL;
  bad[2].delta = NULL;
  bad[3].dropout_p = 0.5; /* without a random state */
  bad[4].dropout_p = 1, bad[4].random_state = random_state;
  bad[5].dropout_p = -0.1, bad[5].random_state = random_state;
  bad[6].dropout_p = NAN, bad[6].random_state = random_state;
  for (int i = 0; i < 7; i++) {
    assert_int_equal(hfb_attention_backward_run(&bad[i], HFB_ISA_GENERIC, NULL), HFB_INVALID_ARGUMENT);
  }
}

int main(int argc, char **argv) {
  if (argc > 1) first_seed = strtoull(argv[1], NULL, 10);
  if (argc > 2) seed_count = strtoull(argv[2], NULL, 10);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_formulas_against_differences),
      cmocka_unit_test(test_random_cases),
      cmocka_unit_test(test_same_bits),
      cmocka_unit_test(test_same_bits_of_hidden_rows),
      cmocka_unit_test(test_probabilities_sum_to_one),
      cmocka_unit_test(test_hidden_row),
      cmocka_unit_test(test_empty_rows),
      cmocka_unit_test(test_failing_allocations),
      cmocka_unit_test(test_bad_calls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
