#include "support/graph_random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/graph_random_parts.h"

enum { FEW_ELEMENTS = 4096, MANY_ELEMENTS = 65536, OPS_OF_PART = 14 };

static const double MOST_ERROR = 1 << 14;

int64_t gen_below(generator *g, int64_t bound) {
  return hfb_philox_below(g->stream, g->draws++, bound);
}
bool gen_chance(generator *g, int percent) {
  return gen_below(g, 100) < percent;
}

double gen_allowed(const entry *e) {
  return e->value->dtype == HFB_F32 ? (e->error + e->largest + 1) * 0x1p-20 : 0;
}

/* ---- the pool ---------------------------------------- */

bool gen_is_small(const generator *g, const hfb_shape *shape) {
  return shape->rank <= GEN_MAX_RANK && hfb_shape_elements(shape) <= g->most_elements;
}

/* Large values are mostly scaled back; those that f32 knows too badly are left dead. */
entry gen_put(generator *g, hfb_value *value, double largest, double error, bool exact) {
  if (!value) return (entry){0};
  if (value->dtype == HFB_F32 && largest > (gen_chance(g, 60) ? 8 : 1000) * GEN_LARGEST) {
    value = hfb_mul_scalar(&g->b, value, GEN_LARGEST / largest);
    error = error * GEN_LARGEST / largest + GEN_LARGEST;
    largest = GEN_LARGEST;
    exact = false;
  }
  const entry e = {value, largest, error, exact};
  if (!value || !gen_is_small(g, &value->shape) || error > MOST_ERROR) return e;
  g->pool[g->pool_count < GEN_POOL ? g->pool_count++ : (int)gen_below(g, GEN_POOL)] = e;
  return e;
}

entry gen_moved(generator *g, hfb_value *value, const entry *from) {
  return gen_put(g, value, from->largest, from->error, from->exact);
}

entry gen_pick(generator *g, hfb_dtype dtype, int least_rank) {
  for (int tries = 0; tries < 40 && g->pool_count > 0; tries++) {
    const int64_t i = gen_below(g, g->pool_count), j = gen_below(g, g->pool_count), k = gen_below(g, g->pool_count);
    const int64_t younger = i > j ? i : j;
    const entry *e = &g->pool[younger > k ? younger : k]; /* so that chains grow */
    if (e->value->dtype == dtype && e->value->shape.rank >= least_rank) return *e;
  }
  return (entry){0};
}

int64_t gen_extent(generator *g) {
  if (gen_chance(g, 1)) return 0;
  if (g->most_elements > FEW_ELEMENTS && gen_chance(g, 50)) return PICK(g, 64, 100, 129, 700);
  return PICK(g, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 16, 17, 33);
}

hfb_shape gen_shape(generator *g, int rank) {
  hfb_shape shape;
  do {
    shape = (hfb_shape){.rank = rank};
    for (int d = 0; d < rank; d++) shape.dim[d] = gen_extent(g);
  } while (!gen_is_small(g, &shape));
  return shape;
}

hfb_value *gen_input(generator *g, hfb_shape shape) {
  char name[32];
  snprintf(name, sizeof name, "x%d", g->names++);
  return hfb_input(&g->b, name, HFB_F32, shape);
}

hfb_value *gen_ids(generator *g, hfb_shape shape, int64_t bound) {
  char name[48];
  snprintf(name, sizeof name, "ids%d_%lld", g->names++, (long long)bound);
  return hfb_input(&g->b, name, HFB_I64, shape);
}

/* A weight of this shape: shared with other parts when there is one already. */
hfb_value *gen_weight(generator *g, hfb_shape shape) {
  for (int i = 0; i < g->weight_count && gen_chance(g, 80); i++) {
    if (hfb_shape_equal(&g->weights[i]->shape, &shape)) return g->weights[i];
  }
  char name[32];
  snprintf(name, sizeof name, "w%d", g->names++);
  hfb_value *value = hfb_parameter(&g->b, name, shape, (hfb_init){HFB_INIT_NORMAL, 0, 1, -1, false, false});
  if (value && g->weight_count < GEN_WEIGHTS) g->weights[g->weight_count++] = value;
  return value;
}

static hfb_value *literal(generator *g, hfb_dtype dtype, hfb_shape shape, int64_t bound) {
  enum { MOST = 512 };
  int64_t integers[MOST];
  float floats[MOST];
  for (int64_t i = 0; i < hfb_shape_elements(&shape); i++) {
    integers[i] = gen_below(g, bound);
    floats[i] = (float)integers[i] / 4 - 2;
  }
  return hfb_constant(&g->b, dtype, shape, dtype == HFB_F32 ? (const void *)floats : integers);
}

static bool fits_literal(const hfb_shape *shape) {
  return hfb_shape_elements(shape) <= 512;
}

hfb_value *gen_source(generator *g, hfb_shape shape) {
  if (gen_chance(g, 20) && fits_literal(&shape)) return literal(g, HFB_F32, shape, 17);
  return gen_chance(g, 70) ? gen_input(g, shape) : gen_weight(g, shape);
}

/* ---- elementwise ---------------------------------------- */

/* x + c with |x| + c away from zero, for ops that have a pole there. */
static hfb_value *positive(generator *g, hfb_value *x, double least) {
  return hfb_add_scalar(&g->b, hfb_unary(&g->b, HFB_OP_ABS, x), least);
}

static void add_unary(generator *g) {
  static const struct {
    hfb_op op;
    double slope, largest; /* largest 0: that of the argument */
  } ops[] = {{HFB_OP_NEG, 1, 0},     {HFB_OP_ABS, 1, 0},    {HFB_OP_TANH, 1, 1},        {HFB_OP_ERF, 1.2, 1},
             {HFB_OP_SIN, 1, 1},     {HFB_OP_COS, 1, 1},    {HFB_OP_RELU, 1, 0},        {HFB_OP_SIGMOID, 0.3, 1},
             {HFB_OP_SILU, 1.2, 0},  {HFB_OP_GELU, 1.2, 0}, {HFB_OP_GELU_TANH, 1.2, 0}, {HFB_OP_QUICK_GELU, 1.2, 0},
             {HFB_OP_EXP, 2.8, 2.8}, {HFB_OP_LOG, 2, 4},    {HFB_OP_SQRT, 1, 6},        {HFB_OP_RSQRT, 1.5, 1.5}};
  const entry x = gen_pick(g, HFB_F32, 0);
  if (!x.value) return;
  const size_t i = (size_t)gen_below(g, (int64_t)(sizeof ops / sizeof *ops));
  const bool has_pole = ops[i].op == HFB_OP_LOG || ops[i].op == HFB_OP_SQRT || ops[i].op == HFB_OP_RSQRT;
  hfb_value *argument = has_pole ? positive(g, x.value, 0.5) : x.value;
  if (ops[i].op == HFB_OP_EXP) argument = hfb_unary(&g->b, HFB_OP_TANH, argument);
  const bool moves = ops[i].op == HFB_OP_NEG || ops[i].op == HFB_OP_ABS || ops[i].op == HFB_OP_RELU;
  gen_put(g, hfb_unary(&g->b, ops[i].op, argument), ops[i].largest > 0 ? ops[i].largest : x.largest,
          ops[i].slope * (x.error + x.largest) + 16, moves && x.exact);
}

/* A second operand: something that broadcasts with x, or a new source that does. */
static entry partner(generator *g, const entry *x) {
  const hfb_shape *shape = &x->value->shape;
  for (int tries = 0; tries < 6 && gen_chance(g, 85); tries++) {
    const entry y = gen_pick(g, HFB_F32, 0);
    hfb_shape both;
    if (y.value && hfb_shape_broadcast(shape, &y.value->shape, &both) && gen_is_small(g, &both)) return y;
  }
  hfb_shape own = {0};
  for (int d = (int)gen_below(g, shape->rank + 1); d < shape->rank; d++)
    own.dim[own.rank++] = gen_chance(g, 30) ? 1 : shape->dim[d];
  return gen_moved(g, gen_source(g, own), &(entry){.largest = GEN_LARGEST, .exact = true});
}

static void add_binary(generator *g) {
  const hfb_op op =
      (hfb_op)PICK(g, HFB_OP_ADD, HFB_OP_ADD, HFB_OP_SUB, HFB_OP_MUL, HFB_OP_DIV, HFB_OP_MAXIMUM, HFB_OP_MINIMUM);
  entry x = gen_pick(g, HFB_F32, 0);
  if (!x.value) return;
  entry y = partner(g, &x);
  if (gen_chance(g, 30)) {
    const entry swap = x;
    x = y, y = swap;
  }
  if (op == HFB_OP_DIV) {
    gen_put(g, hfb_div(&g->b, x.value, positive(g, y.value, 0.5)), 2 * x.largest,
            2 * x.error + 4 * x.largest * (y.error + y.largest) + 2 * x.largest, false);
  } else if (op == HFB_OP_MUL) {
    gen_put(g, hfb_mul(&g->b, x.value, y.value), x.largest * y.largest,
            x.error * y.largest + y.error * x.largest + x.largest * y.largest, false);
  } else if (op == HFB_OP_ADD || op == HFB_OP_SUB) {
    gen_put(g, hfb_binary(&g->b, op, x.value, y.value), x.largest + y.largest,
            x.error + y.error + x.largest + y.largest, false);
  } else {
    gen_put(g, hfb_binary(&g->b, op, x.value, y.value), fmax(x.largest, y.largest), fmax(x.error, y.error),
            x.exact && y.exact);
  }
}

static void add_scalar_op(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 0);
  const double value = (double)PICK(g, -8, -3, 0, 2, 4, 6) / 4;
  if (!x.value) return;
  if (gen_chance(g, 50))
    gen_put(g, hfb_add_scalar(&g->b, x.value, value), x.largest + 2, x.error + x.largest + 2, false);
  else
    gen_put(g, hfb_mul_scalar(&g->b, x.value, value), 2 * x.largest, 2 * x.error + 2 * x.largest, false);
}

/* ---- movement ---------------------------------------- */

/* The same elements in other dimensions: merged, split, squeezed. */
static hfb_value *regroup(generator *g, hfb_value *x) {
  hfb_shape to = {0};
  const hfb_shape *from = &x->shape;
  for (int d = 0; d < from->rank; d++) {
    int64_t extent = from->dim[d];
    if (extent == 1 && gen_chance(g, 40)) continue;
    while (d + 1 < from->rank && gen_chance(g, 35)) extent *= from->dim[++d];
    for (int64_t factor = 2; factor <= 8 && to.rank < GEN_MAX_RANK - 1; factor++) {
      if (extent <= factor || extent % factor != 0 || !gen_chance(g, 35)) continue;
      to.dim[to.rank++] = gen_chance(g, 50) ? factor : extent / factor;
      extent /= to.dim[to.rank - 1];
    }
    if (to.rank < HFB_MAX_RANK) to.dim[to.rank++] = extent;
    if (gen_chance(g, 10) && to.rank < GEN_MAX_RANK) to.dim[to.rank++] = 1;
  }
  if (to.rank > GEN_MAX_RANK || hfb_shape_elements(&to) != hfb_shape_elements(from)) return NULL;
  return hfb_reshape(&g->b, x, to.rank, to.dim);
}

static hfb_value *shuffle(generator *g, hfb_value *x) {
  int perm[HFB_MAX_RANK];
  for (int i = 0; i < x->shape.rank; i++) perm[i] = i;
  for (int i = x->shape.rank - 1; i > 0; i--) {
    const int j = (int)gen_below(g, i + 1), keep = perm[i];
    perm[i] = perm[j], perm[j] = keep;
  }
  return hfb_transpose(&g->b, x, perm);
}

static hfb_value *cut(generator *g, hfb_value *x) {
  int64_t starts[HFB_MAX_RANK], limits[HFB_MAX_RANK], steps[HFB_MAX_RANK];
  const int rank = x->shape.rank;
  for (int d = 0; d < rank; d++) {
    const int64_t extent = x->shape.dim[d];
    const bool whole = extent == 0 || gen_chance(g, 40);
    starts[d] = whole ? 0 : gen_below(g, extent);
    limits[d] = whole ? extent : starts[d] + 1 + gen_below(g, extent - starts[d]);
    steps[d] = gen_chance(g, 70) ? 1 : PICK(g, 2, 3);
  }
  const hfb_attr attrs[] = {{.key = HFB_ATTR_STARTS, .u.ints = {rank, starts}},
                            {.key = HFB_ATTR_LIMITS, .u.ints = {rank, limits}},
                            {.key = HFB_ATTR_STEPS, .u.ints = {rank, steps}}};
  return hfb_build(&g->b, HFB_OP_SLICE, 1, &x, 3, attrs);
}

static hfb_value *spread(generator *g, hfb_value *x) {
  hfb_shape to = {0};
  while (to.rank + x->shape.rank < GEN_MAX_RANK && gen_chance(g, 30)) to.dim[to.rank++] = PICK(g, 1, 2, 3);
  for (int d = 0; d < x->shape.rank; d++) to.dim[to.rank++] = x->shape.dim[d] == 1 ? PICK(g, 1, 2, 5) : x->shape.dim[d];
  return gen_is_small(g, &to) ? hfb_expand(&g->b, x, to.rank, to.dim) : NULL;
}

static hfb_value *join(generator *g, hfb_value *x) {
  hfb_value *parts[3] = {x, x, x};
  const int axis = (int)gen_below(g, x->shape.rank), count = (int)PICK(g, 2, 2, 3);
  for (int i = 0; i < count; i++) {
    hfb_shape shape = x->shape;
    if (i == 0 && x->dtype == HFB_F32) shape.dim[axis] = gen_extent(g), parts[i] = gen_input(g, shape);
  }
  hfb_value *joined = hfb_concat(&g->b, count, parts, axis);
  return joined && gen_is_small(g, &joined->shape) ? joined : NULL;
}

static void add_move(generator *g) {
  const entry x = gen_pick(g, (hfb_dtype)PICK(g, HFB_F32, HFB_F32, HFB_F32, HFB_F32, HFB_I64, HFB_BOOL), 1);
  if (!x.value) return;
  switch (gen_below(g, 11)) {
    case 0:
    case 1: gen_moved(g, regroup(g, x.value), &x); return;
    case 2:
    case 3: gen_moved(g, shuffle(g, x.value), &x); return;
    case 4:
    case 8: gen_moved(g, cut(g, x.value), &x); return;
    case 5: gen_moved(g, spread(g, x.value), &x); return;
    case 6: gen_moved(g, join(g, x.value), &(entry){NULL, fmax(x.largest, GEN_LARGEST), x.error, x.exact}); return;
    case 7:
      gen_moved(g,
                hfb_pad(&g->b, x.value, (int)gen_below(g, x.value->shape.rank), PICK(g, 0, 1, 2), PICK(g, 0, 1, 3),
                        x.value->dtype == HFB_BOOL ? 1 : -2),
                &(entry){NULL, fmax(x.largest, 2), x.error, x.exact});
      return;
    case 9: { /* two parts of one value, as of a fused projection */
      const int axis = (int)gen_below(g, x.value->shape.rank);
      const int64_t half = x.value->shape.dim[axis] / 2;
      gen_moved(g, hfb_slice(&g->b, x.value, axis, 0, half), &x);
      gen_moved(g, hfb_slice(&g->b, x.value, axis, half, 2 * half), &x);
      return;
    }
    default: { /* split off heads and swap them outwards, as attention does */
      hfb_value *split = regroup(g, x.value);
      if (split) gen_moved(g, shuffle(g, split), &x);
    }
  }
}

/* ---- reductions and what is made of them ---------------------------------------- */

static void add_reduce(generator *g) {
  const entry x = gen_pick(g, gen_chance(g, 90) ? HFB_F32 : HFB_I64, 1);
  if (!x.value) return;
  const hfb_shape *shape = &x.value->shape;
  int axes[HFB_MAX_RANK], count = 0;
  double elements = 1;
  bool empty = false;
  const int chosen = (int)gen_below(g, shape->rank);
  for (int d = 0; d < shape->rank; d++) {
    if (d != chosen && !gen_chance(g, 25)) continue;
    axes[count++] = d;
    elements *= (double)shape->dim[d];
    empty = empty || shape->dim[d] == 0;
  }
  const bool keep = gen_chance(g, 50);
  const int64_t kind = empty || x.value->dtype != HFB_F32 ? 0 : gen_below(g, 3);
  static const hfb_op ops[] = {HFB_OP_REDUCE_SUM, HFB_OP_REDUCE_MAX, HFB_OP_REDUCE_MEAN};
  hfb_value *result = hfb_reduce(&g->b, ops[kind], x.value, count, axes, keep);
  if (kind == 0)
    gen_put(g, result, fmax(1, elements * x.largest), elements * (x.error + 4 * x.largest), false);
  else
    gen_put(g, result, x.largest, kind == 1 ? x.error : x.error + 8 * x.largest, kind == 1 && x.exact);
}

static void add_normalization(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 1);
  if (!x.value) return;
  const int rank = x.value->shape.rank, axis = gen_chance(g, 60) ? rank - 1 : (int)gen_below(g, rank);
  const hfb_shape row = {.rank = 1, .dim = {x.value->shape.dim[rank - 1]}};
  const double features = (double)row.dim[0], error = x.error + x.largest;
  switch (gen_below(g, 5)) {
    case 0:
    case 1: gen_put(g, hfb_softmax(&g->b, x.value, axis), 1, 2 * error + 16, false); return;
    case 2: gen_put(g, hfb_log_softmax(&g->b, x.value, axis), 2 * x.largest + 9, 2 * error + 32, false); return;
    case 3: {
      hfb_value *scale = gen_source(g, row), *shift = gen_source(g, row);
      gen_put(g, hfb_layer_norm_op(&g->b, x.value, scale, shift, 0.25), GEN_LARGEST * (sqrt(features) + 1),
              GEN_LARGEST * (4 + features) * 2 * error, false);
      return;
    }
    default:
      gen_put(g, hfb_rms_norm_op(&g->b, x.value, gen_source(g, row), 0.25), GEN_LARGEST * (sqrt(features) + 1),
              GEN_LARGEST * (4 + features) * error, false);
  }
}

static void add_scan(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 1);
  if (!x.value) return;
  const int axis = (int)gen_below(g, x.value->shape.rank);
  const double extent = (double)x.value->shape.dim[axis];
  if (gen_chance(g, 60))
    gen_put(g, hfb_cumsum(&g->b, x.value, axis), fmax(1, extent * x.largest), extent * (x.error + x.largest), false);
  else if (x.exact && extent > 0)
    gen_put(g, hfb_argmax(&g->b, x.value, axis, gen_chance(g, 50)), extent, 0, true);
}

static void add_loss(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 2);
  if (!x.value || hfb_shape_elements(&x.value->shape) == 0) return;
  const int rank = x.value->shape.rank;
  const int64_t classes = x.value->shape.dim[rank - 1];
  hfb_shape rows = x.value->shape;
  rows.rank--;
  if (gen_chance(g, 50)) {
    hfb_value *logits = hfb_reshape(&g->b, x.value, 2, (int64_t[]){-1, classes});
    hfb_value *log_probs = hfb_log_softmax(&g->b, logits, 1);
    hfb_value *target = hfb_reshape(&g->b, gen_ids(g, rows, classes), 1, (int64_t[]){-1});
    gen_put(g, hfb_nll_loss(&g->b, log_probs, target, PICK(g, -100, 0)), 2 * x.largest + 9,
            2 * (x.error + x.largest) + 64, false);
  } else {
    const entry y = {gen_input(g, x.value->shape), GEN_LARGEST, 0, true};
    const hfb_op op = gen_chance(g, 50) ? HFB_OP_MSE_LOSS : HFB_OP_BCE_WITH_LOGITS;
    const double sum = x.largest + y.largest;
    gen_put(g, hfb_pair_loss(&g->b, op, x.value, y.value), sum * sum, 4 * sum * (x.error + sum) + 64, false);
  }
}

/* ---- integers, comparisons, indexed reads ---------------------------------------- */

static hfb_value *integer_scalar(generator *g, int64_t value) {
  return hfb_scalar(&g->b, HFB_I64, (double)value);
}

/* Made of iotas: positions, distances, both scaled. */
static hfb_value *positions(generator *g, hfb_shape shape) {
  if (shape.rank == 0) return integer_scalar(g, 1);
  hfb_value *x = hfb_iota(&g->b, HFB_I64, shape, (int)gen_below(g, shape.rank));
  if (gen_chance(g, 50)) {
    hfb_value *other = hfb_iota(&g->b, HFB_I64, shape, (int)gen_below(g, shape.rank));
    x = hfb_binary(&g->b, (hfb_op)PICK(g, HFB_OP_SUB, HFB_OP_ADD, HFB_OP_MAXIMUM), x, other);
  }
  return gen_chance(g, 40) ? hfb_mul_scalar(&g->b, x, (double)PICK(g, 2, -1, 3)) : x;
}

static hfb_value *random_integers(generator *g, hfb_shape shape) {
  const entry known = gen_chance(g, 30) ? gen_pick(g, HFB_I64, 0) : (entry){0};
  hfb_shape both;
  if (known.value && hfb_shape_broadcast(&known.value->shape, &shape, &both) && hfb_shape_equal(&both, &shape))
    return hfb_add(&g->b, known.value, hfb_full(&g->b, HFB_I64, shape, 0));
  if (gen_chance(g, 40)) return positions(g, shape);
  hfb_value *ids = gen_ids(g, shape, 9);
  return gen_chance(g, 30) ? hfb_add(&g->b, ids, positions(g, shape)) : ids;
}

/* Integers in [0, bound). */
hfb_value *gen_index(generator *g, hfb_shape shape, int64_t bound) {
  if (gen_chance(g, 15) && fits_literal(&shape)) return literal(g, HFB_I64, shape, bound);
  if (gen_chance(g, 50)) return gen_ids(g, shape, bound);
  hfb_value *low = hfb_binary(&g->b, HFB_OP_MAXIMUM, random_integers(g, shape), integer_scalar(g, 0));
  return hfb_binary(&g->b, HFB_OP_MINIMUM, low, integer_scalar(g, bound - 1));
}

static void add_integers(generator *g) {
  const entry x = gen_pick(g, HFB_I64, 0);
  if (!x.value || gen_chance(g, 40)) {
    gen_put(g, random_integers(g, gen_shape(g, (int)gen_below(g, 4))), 100, 0, true);
  } else if (gen_chance(g, 50)) {
    gen_put(g, hfb_cast(&g->b, hfb_binary(&g->b, HFB_OP_MINIMUM, x.value, integer_scalar(g, 7)), HFB_F32), 100, 0,
            true);
  } else {
    gen_put(g, hfb_add_scalar(&g->b, x.value, (double)PICK(g, 0, 1, -2)), 100, 0, true);
  }
}

static void add_comparison(generator *g) {
  static const hfb_op ops[] = {HFB_OP_EQ, HFB_OP_NE, HFB_OP_LT, HFB_OP_LE};
  const hfb_op op = ops[gen_below(g, 4)];
  const entry x = gen_pick(g, HFB_F32, 0), bits = gen_pick(g, HFB_BOOL, 0);
  if (bits.value && gen_chance(g, 30)) {
    hfb_value *other = hfb_unary(&g->b, HFB_OP_NOT, gen_chance(g, 50) ? bits.value : shuffle(g, bits.value));
    hfb_shape both;
    if (!other || !hfb_shape_broadcast(&bits.value->shape, &other->shape, &both)) return;
    gen_put(g, hfb_binary(&g->b, (hfb_op)PICK(g, HFB_OP_AND, HFB_OP_OR), bits.value, other), 1, 0, true);
  } else if (x.value && x.exact && gen_chance(g, 50)) {
    const entry y = partner(g, &x);
    if (y.exact) gen_put(g, hfb_binary(&g->b, op, x.value, y.value), 1, 0, true);
  } else {
    const hfb_shape shape = gen_shape(g, (int)gen_below(g, 4));
    hfb_value *left = random_integers(g, shape),
              *right = gen_chance(g, 50) ? random_integers(g, shape) : integer_scalar(g, 3);
    gen_put(g, hfb_binary(&g->b, op, left, right), 1, 0, true);
  }
}

static void add_where(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 0);
  if (!x.value) return;
  const entry y = partner(g, &x);
  entry condition = gen_pick(g, HFB_BOOL, 0);
  hfb_shape both, all;
  if (!y.value || !hfb_shape_broadcast(&x.value->shape, &y.value->shape, &both)) return;
  if (!condition.value || !hfb_shape_broadcast(&both, &condition.value->shape, &all) || !gen_is_small(g, &all)) {
    hfb_value *left = random_integers(g, both), *right = positions(g, both);
    condition.value = hfb_binary(&g->b, HFB_OP_LE, left, right);
  }
  gen_put(g, hfb_where(&g->b, condition.value, x.value, y.value), fmax(x.largest, y.largest), fmax(x.error, y.error),
          x.exact && y.exact);
}

static void add_gather(generator *g) {
  const entry x = gen_pick(g, gen_chance(g, 85) ? HFB_F32 : HFB_I64, 1);
  if (!x.value) return;
  const hfb_shape *shape = &x.value->shape;
  const int axis = (int)gen_below(g, shape->rank);
  if (shape->dim[axis] == 0) return;
  if (gen_chance(g, 50)) {
    hfb_shape index =
        gen_shape(g, (int)gen_below(g, GEN_MAX_RANK + 2 - shape->rank > 3 ? 3 : GEN_MAX_RANK + 2 - shape->rank));
    hfb_shape result = {.rank = shape->rank - 1 + index.rank};
    if (result.rank > GEN_MAX_RANK || hfb_shape_elements(&index) * hfb_shape_elements(shape) > 4 * g->most_elements)
      return;
    gen_moved(g, hfb_gather(&g->b, x.value, gen_index(g, index, shape->dim[axis]), axis), &x);
  } else {
    hfb_shape index = *shape;
    for (int d = 0; d < index.rank; d++) {
      if (d == axis)
        index.dim[d] = PICK(g, 1, 2, 5);
      else if (index.dim[d] > 1 && gen_chance(g, 30))
        index.dim[d] -= 1;
    }
    if (gen_is_small(g, &index))
      gen_moved(g, hfb_take_along(&g->b, x.value, gen_index(g, index, shape->dim[axis]), axis), &x);
  }
}

/* Through 16 bits and back. Only what is exact: there both precisions round alike. */
static void add_half(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 1);
  if (!x.value || !x.exact) return;
  hfb_value *half = hfb_cast(&g->b, x.value, gen_chance(g, 50) ? HFB_BF16 : HFB_F16);
  const int64_t rows = x.value->shape.dim[0];
  if (rows > 0 && gen_chance(g, 50))
    half = hfb_gather(&g->b, half, gen_index(g, hfb_shape_of(1, (int64_t[]){3}), rows), 0);
  if (half && gen_chance(g, 60)) half = shuffle(g, half);
  if (half && gen_chance(g, 30)) half = hfb_unary(&g->b, HFB_OP_NEG, half);
  gen_put(g, hfb_cast(&g->b, half, HFB_F32), x.largest, 0, true);
}

static void add_embedding(generator *g) {
  const hfb_shape table = {.rank = 2, .dim = {PICK(g, 1, 3, 5, 9), PICK(g, 1, 4, 8, 16, 17)}};
  hfb_value *rows = gen_weight(g, table);
  hfb_value *ids = gen_index(g, gen_shape(g, (int)PICK(g, 1, 2, 2)), table.dim[0]);
  hfb_value *result = hfb_embedding(&g->b, rows, ids, -1);
  if (result && gen_is_small(g, &result->shape)) gen_put(g, result, GEN_LARGEST, 0, true);
}

/* ---- graphs ---------------------------------------- */

static void add_op(generator *g) {
  static void (*const makers[])(generator * g) = {
      add_unary,
      add_unary,
      add_binary,
      add_binary,
      add_binary,
      add_scalar_op,
      add_move,
      add_move,
      add_move,
      add_move,
      add_reduce,
      add_reduce,
      add_normalization,
      add_scan,
      add_loss,
      add_integers,
      add_comparison,
      add_where,
      add_gather,
      add_gather,
      add_embedding,
      gen_add_matmul,
      gen_add_matmul,
      gen_add_linear,
      gen_add_fourier,
      gen_add_attention,
      add_half,
      gen_add_random,
      gen_add_random,
      gen_add_activation_backward,
      gen_add_softmax_backward,
      gen_add_norm_backward,
      gen_add_norm_backward,
      gen_add_gather_backward,
      gen_add_loss_backward,
      gen_add_optimizer,
  };
  makers[gen_below(g, (int64_t)(sizeof makers / sizeof *makers))](g);
}

static void add_output(generator *g, const entry *e) {
  if (g->b.status != HFB_OK || g->b.graph->output_count == GRAPH_RANDOM_MAX_OUTPUTS) return;
  char name[32];
  snprintf(name, sizeof name, "y%d", g->b.graph->output_count);
  g->allowed[g->b.graph->output_count] = gen_allowed(e);
  hfb_output_add(&g->b, name, e->value);
}

static void add_part(generator *g) {
  g->pool_count = 0;
  g->most_elements = gen_chance(g, 5) ? MANY_ELEMENTS : FEW_ELEMENTS;
  const int sources = (int)PICK(g, 1, 2, 3);
  for (int i = 0; i < sources; i++)
    gen_put(g, gen_source(g, gen_shape(g, (int)PICK(g, 0, 1, 2, 2, 3, 3, 4))), GEN_LARGEST, 0, true);
  const int64_t ops = 3 + gen_below(g, OPS_OF_PART);
  for (int64_t i = 0; i < ops && g->b.status == HFB_OK; i++) add_op(g);
  const int last = g->pool_count - 1;
  for (int i = 0; i <= last; i++) {
    if (i == last || gen_chance(g, 15)) add_output(g, &g->pool[i]);
  }
  if (gen_chance(g, 10) && last >= 0) add_output(g, &g->pool[last]);
}

hfb_status random_graph_create(uint64_t seed, int parts, random_graph *out_graph) {
  generator *g = calloc(1, sizeof *g);
  if (!g) return HFB_OUT_OF_MEMORY;
  g->stream = hfb_philox_named(seed, "graph");
  hfb_status status = hfb_builder_init(&g->b, "random");
  if (status == HFB_OK) {
    for (int i = 0; i < parts; i++) add_part(g);
    status = hfb_builder_finish(&g->b, &out_graph->graph);
    memcpy(out_graph->allowed_f32, g->allowed, sizeof g->allowed);
    memcpy(out_graph->allowed_update_f32, g->allowed_updates, sizeof g->allowed_updates);
    hfb_builder_deinit(&g->b);
  }
  free(g);
  return status;
}

hfb_status random_graph_fill(const hfb_value *source, hfb_device *device, uint64_t seed, hfb_tensor *out_tensor) {
  HFB_TRY(hfb_tensor_create(device, source->dtype, &source->shape, out_tensor));
  const char *name = hfb_node_text(source->node, HFB_ATTR_NAME, "");
  const char *bound = strchr(name, '_');
  const bool is_state = strcmp(name, HFB_RANDOM_STATE) == 0, is_positive = strncmp(name, "square", 6) == 0;
  const int64_t id_bound = is_state ? 1000 : bound ? strtoll(bound + 1, NULL, 10) : 2;
  const hfb_philox stream = hfb_philox_named(seed, name);
  const int64_t count = hfb_shape_elements(&source->shape);
  if (strncmp(name, "step", 4) == 0) {
    *(double *)out_tensor->data = (double)(1 + hfb_philox_below(stream, 0, 9));
    return HFB_OK;
  }
  for (int64_t i = 0; i < count; i++) {
    float normal = (float)fmax(-GEN_LARGEST, fmin(GEN_LARGEST, hfb_philox_normal(stream, (uint64_t)i)));
    if (is_positive) normal = 0.25f + fabsf(normal);
    if (source->dtype == HFB_F32)
      ((float *)out_tensor->data)[i] = normal;
    else if (source->dtype == HFB_F64)
      ((double *)out_tensor->data)[i] = normal;
    else if (source->dtype == HFB_BOOL)
      ((uint8_t *)out_tensor->data)[i] = normal > 0;
    else
      ((int64_t *)out_tensor->data)[i] = hfb_philox_below(stream, (uint64_t)i, id_bound);
  }
  return HFB_OK;
}
