#include <float.h>
#include <math.h>

#include "support/graph_random_parts.h"

/* ---- products ---------------------------------------- */

static entry product(generator *g, hfb_value *value, const entry *x, const entry *y, int64_t depth) {
  const double k = (double)(depth > 0 ? depth : 1), largest = k * x->largest * y->largest;
  return gen_put(g, value, fmax(1, largest), k * (x->error * y->largest + y->error * x->largest) + 2 * largest, false);
}

/* Leading dimensions that broadcast with those of x, as new data or as an expanded view. */
static hfb_value *other_factor(generator *g, const hfb_shape *x, int64_t rows, int64_t columns) {
  hfb_shape shape = {0};
  const int batch = x->rank - 2;
  for (int d = (int)gen_below(g, batch + 1); d < batch; d++)
    shape.dim[shape.rank++] = gen_chance(g, 30) ? 1 : x->dim[d] == 1 ? PICK(g, 1, 2) : x->dim[d];
  shape.dim[shape.rank++] = rows;
  shape.dim[shape.rank++] = columns;
  if (!gen_is_small(g, &shape)) return NULL;
  hfb_value *value = gen_source(g, shape);
  if (!gen_chance(g, 20) || !value) return value;
  for (int d = 0; d < shape.rank - 2; d++) {
    const int own = d + batch - (shape.rank - 2);
    if (shape.dim[d] == 1) shape.dim[d] = x->dim[own] == 1 ? PICK(g, 1, 2) : x->dim[own];
  }
  return hfb_expand(&g->b, value, shape.rank, shape.dim);
}

void gen_add_matmul(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 2);
  if (!x.value) return;
  const hfb_shape *shape = &x.value->shape;
  const bool swap_x = gen_chance(g, 25), swap_y = gen_chance(g, 50);
  const int64_t k = shape->dim[shape->rank - (swap_x ? 2 : 1)], n = gen_extent(g);
  entry y = {other_factor(g, shape, swap_y ? n : k, swap_y ? k : n), GEN_LARGEST, 0, true};
  const entry known = gen_pick(g, HFB_F32, 2);
  if (known.value && known.value->shape.rank == 2 && known.value->shape.dim[swap_y ? 1 : 0] == k && gen_chance(g, 60))
    y = known;
  if (!y.value) return;
  hfb_shape batch = *shape, other = y.value->shape, both;
  batch.rank -= 2, other.rank -= 2;
  if (!hfb_shape_broadcast(&batch, &other, &both)) return;
  const int64_t m = shape->dim[shape->rank - (swap_x ? 1 : 2)],
                columns = y.value->shape.dim[y.value->shape.rank - (swap_y ? 2 : 1)];
  if (hfb_shape_elements(&both) * m * columns > g->most_elements) return;
  product(g, hfb_matmul(&g->b, x.value, y.value, swap_x, swap_y), &x, &y, k);
}

void gen_add_linear(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 1), y = {NULL, GEN_LARGEST, 0, true};
  if (!x.value) return;
  const hfb_shape *shape = &x.value->shape;
  const int64_t k = shape->dim[shape->rank - 1], n = PICK(g, 1, 3, 8, 16, 17);
  if (k == 0 || hfb_shape_elements(shape) / k * n > g->most_elements) return;
  const bool is_nk = gen_chance(g, 60);
  hfb_value *matrix = gen_weight(g, (hfb_shape){.rank = 2, .dim = {is_nk ? n : k, is_nk ? k : n}});
  const bool is_part = gen_chance(g, 20);
  hfb_value *bias = gen_chance(g, 60) ? gen_weight(g, (hfb_shape){.rank = 1, .dim = {is_part ? 2 * n : n}}) : NULL;
  if (bias && is_part) bias = hfb_slice(&g->b, bias, 0, n, 2 * n);
  entry result = product(g, hfb_linear_op(&g->b, x.value, matrix, bias, is_nk), &x, &y, k + 1);
  if (result.value && gen_chance(g, 40))
    gen_put(g, hfb_unary(&g->b, HFB_OP_GELU, result.value), result.largest, 1.2 * result.error + 16, false);
}

void gen_add_fourier(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 2);
  if (!x.value) return;
  const hfb_shape *shape = &x.value->shape;
  const double size = (double)(shape->dim[shape->rank - 1] * shape->dim[shape->rank - 2]);
  gen_put(g, hfb_fft2_real(&g->b, x.value), fmax(1, size * x.largest), size * (x.error + 8 * x.largest), false);
}

/* ---- attention ---------------------------------------- */

typedef struct attention_shape {
  int rank;
  int64_t batch, heads, queries, keys, dim;
} attention_shape;

/* [batch, heads, length, dim] or [heads, length, dim], as a projection is split or as it comes. */
static hfb_value *heads_of(generator *g, const attention_shape *a, int64_t length) {
  hfb_builder *b = &g->b;
  if (a->rank == 3) return gen_input(g, hfb_shape_of(3, (int64_t[]){a->heads, length, a->dim}));
  switch (gen_below(g, 4)) {
    case 0: return gen_input(g, hfb_shape_of(4, (int64_t[]){a->batch, a->heads, length, a->dim}));
    case 1: { /* one head for all */
      hfb_value *x = gen_input(g, hfb_shape_of(4, (int64_t[]){a->batch, 1, length, a->dim}));
      return hfb_expand(b, x, 4, (int64_t[]){a->batch, a->heads, length, a->dim});
    }
    default: {
      hfb_value *x = gen_input(g, hfb_shape_of(3, (int64_t[]){a->batch, length, a->heads * a->dim}));
      if (gen_chance(g, 50)) x = hfb_add_scalar(b, x, 0.25);
      x = hfb_reshape(b, x, 4, (int64_t[]){a->batch, length, a->heads, a->dim});
      return hfb_transpose(b, x, (int[]){0, 2, 1, 3});
    }
  }
}

/* True where a key may be seen; key 0 always. */
static hfb_value *keep_mask(generator *g, const attention_shape *a) {
  hfb_builder *b = &g->b;
  const hfb_shape square = {.rank = 2, .dim = {a->queries, a->keys}};
  hfb_value *key = hfb_iota(b, HFB_I64, square, 1);
  hfb_value *query = hfb_iota(b, HFB_I64, square, 0);
  switch (gen_below(g, 5)) {
    case 0: return hfb_binary(b, HFB_OP_LE, key, hfb_add_scalar(b, query, 1));
    case 1: return hfb_binary(b, HFB_OP_LE, key, hfb_scalar(b, HFB_I64, (double)gen_below(g, a->keys)));
    case 2:
      return hfb_binary(b, HFB_OP_EQ, hfb_binary(b, HFB_OP_MINIMUM, key, hfb_scalar(b, HFB_I64, 0)),
                        key); /* key 0 only */
    default: return hfb_binary(b, HFB_OP_LE, key, query);
  }
}

static hfb_value *score_bias(generator *g, const attention_shape *a) {
  hfb_builder *b = &g->b;
  switch (gen_below(g, 4)) {
    case 0: return gen_input(g, hfb_shape_of(1, (int64_t[]){a->keys}));
    case 1: return gen_input(g, hfb_shape_of(3, (int64_t[]){a->heads, a->queries, a->keys}));
    case 2: return gen_input(g, hfb_shape_of(3, (int64_t[]){a->heads, 1, a->keys}));
    default: { /* a table of distances, as T5's */
      const hfb_shape square = {.rank = 2, .dim = {a->queries, a->keys}};
      hfb_value *index = gen_index(g, square, 5);
      hfb_value *bias = hfb_gather(b, gen_weight(g, (hfb_shape){.rank = 2, .dim = {5, a->heads}}), index, 0);
      return hfb_transpose(b, bias, (int[]){2, 0, 1});
    }
  }
}

static hfb_value *masked(generator *g, const attention_shape *a, hfb_value *scores) {
  hfb_builder *b = &g->b;
  hfb_value *keep = keep_mask(g, a);
  if (gen_chance(g, 30)) keep = hfb_binary(b, HFB_OP_AND, keep, keep_mask(g, a));
  if (gen_chance(g, 40)) keep = hfb_reshape(b, keep, 4, (int64_t[]){1, 1, a->queries, a->keys});
  if (a->rank == 3) keep = hfb_reshape(b, keep, 3, (int64_t[]){1, a->queries, a->keys});
  hfb_value *low = hfb_scalar(b, HFB_F32, gen_chance(g, 70) ? -(double)FLT_MAX : -1e9);
  if (gen_chance(g, 60)) return hfb_where(b, keep, scores, low);
  return hfb_add(b, scores, hfb_where(b, keep, hfb_scalar(b, HFB_F32, 0), low));
}

static hfb_value *random_scores(generator *g, const attention_shape *a, hfb_value *q, hfb_value *k, double *out_error) {
  hfb_builder *b = &g->b;
  const int rank = a->rank;
  hfb_value *scores;
  if (gen_chance(g, 70)) {
    scores = hfb_matmul(b, q, k, false, true);
  } else {
    const int perm3[] = {0, 2, 1}, perm4[] = {0, 1, 3, 2};
    scores = hfb_matmul(b, q, hfb_transpose(b, k, rank == 3 ? perm3 : perm4), false, false);
  }
  if (gen_chance(g, 70))
    scores = hfb_mul_scalar(b, scores, 0.25);
  else
    scores = hfb_div(b, scores, hfb_scalar(b, HFB_F32, 4));
  if (gen_chance(g, 30)) scores = hfb_add(b, scores, score_bias(g, a));
  if (gen_chance(g, 60)) scores = masked(g, a, scores);
  if (gen_chance(g, 20)) scores = hfb_add(b, scores, score_bias(g, a));
  *out_error = 30 * (double)a->dim + 30;
  return scores;
}

void gen_add_attention(generator *g) {
  hfb_builder *b = &g->b;
  attention_shape a = {(int)PICK(g, 3, 4, 4), PICK(g, 1, 2), PICK(g, 1, 2, 3), PICK(g, 1, 2, 5, 7, 11), 0,
                       PICK(g, 1, 2, 4, 8, 9)};
  a.keys = gen_chance(g, 65) ? a.queries : PICK(g, 1, 3, 6, 13);
  hfb_value *q = heads_of(g, &a, a.queries),
            *k = a.keys == a.queries && gen_chance(g, 20) ? q : heads_of(g, &a, a.keys);
  hfb_value *v = gen_chance(g, 15) ? k : heads_of(g, &a, a.keys);
  double error = 0;
  hfb_value *scores = random_scores(g, &a, q, k, &error);
  hfb_value *probabilities = hfb_softmax(b, scores, -1);
  const double row_error = 2 * error + 64;
  if (gen_chance(g, 10)) gen_put(g, hfb_unary(b, HFB_OP_TANH, scores), 1, row_error, false);
  if (gen_chance(g, 15)) gen_put(g, probabilities, 1, row_error, false);
  if (gen_chance(g, 10))
    gen_put(g, hfb_matmul(b, probabilities, heads_of(g, &a, a.keys), false, false), GEN_LARGEST,
            GEN_LARGEST * row_error, false);
  hfb_value *context = hfb_matmul(b, probabilities, v, false, false);
  if (a.rank == 4 && gen_chance(g, 70)) {
    context = hfb_transpose(b, context, (int[]){0, 2, 1, 3});
    if (gen_chance(g, 80)) context = hfb_reshape(b, context, 3, (int64_t[]){a.batch, a.queries, a.heads * a.dim});
  }
  gen_put(g, context, GEN_LARGEST + 0.5, (GEN_LARGEST + 0.5) * row_error, false);
}
