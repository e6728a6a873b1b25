/* What the makers of random graphs share: a pool of values, each with a bound on its size and its error. */
#ifndef HFB_TESTS_SUPPORT_GRAPH_RANDOM_PARTS_H
#define HFB_TESTS_SUPPORT_GRAPH_RANDOM_PARTS_H

#include "base/rng.h"
#include "ir/builder.h"
#include "support/graph_random.h"

enum { GEN_POOL = 64, GEN_MAX_RANK = 5, GEN_WEIGHTS = 32 };

static const double GEN_LARGEST = 4; /* of inputs and weights */

/* `largest` bounds the value, `error` what f32 may lose, in units of 2^-24. Values that only moved are exact: they may
 * be compared, since no rounding changes the outcome. */
typedef struct entry {
  hfb_value *value;
  double largest, error;
  bool exact;
} entry;

typedef struct generator {
  hfb_builder b;
  hfb_philox stream;
  uint64_t draws;
  int names;
  int64_t most_elements; /* of a tensor in this part */
  entry pool[GEN_POOL];  /* of this part */
  int pool_count;
  hfb_value *weights[GEN_WEIGHTS];
  int weight_count;
  double allowed[GRAPH_RANDOM_MAX_OUTPUTS], allowed_updates[GRAPH_RANDOM_MAX_OUTPUTS];
} generator;

int64_t gen_below(generator *g, int64_t bound);
bool gen_chance(generator *g, int percent);

#define PICK(g, ...) \
  ((const int64_t[]){__VA_ARGS__}[gen_below((g), (int64_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))])

/* How far f32 may be off, in absolute terms. */
double gen_allowed(const entry *e);

bool gen_is_small(const generator *g, const hfb_shape *shape);
/* Puts a value into the pool if it is small enough and f32 knows it well enough. Large values are mostly scaled back:
 * the entry returned is the one to go on with. */
entry gen_put(generator *g, hfb_value *value, double largest, double error, bool exact);
entry gen_moved(generator *g, hfb_value *value, const entry *from);
/* A value of the pool, rather a young one, so that chains grow; value NULL: there is none. */
entry gen_pick(generator *g, hfb_dtype dtype, int least_rank);

int64_t gen_extent(generator *g);
hfb_shape gen_shape(generator *g, int rank);

hfb_value *gen_input(generator *g, hfb_shape shape);
hfb_value *gen_ids(generator *g, hfb_shape shape, int64_t bound);   /* an input in [0, bound) */
hfb_value *gen_index(generator *g, hfb_shape shape, int64_t bound); /* any integers in [0, bound) */
hfb_value *gen_weight(generator *g, hfb_shape shape);               /* often one that there is already */
hfb_value *gen_source(generator *g, hfb_shape shape);               /* an input, a weight or a constant */

/* graph_random_products.c */
void gen_add_matmul(generator *g);
void gen_add_linear(generator *g);
void gen_add_fourier(generator *g);
void gen_add_attention(generator *g);

/* graph_random_training.c */
void gen_add_random(generator *g);
void gen_add_activation_backward(generator *g);
void gen_add_softmax_backward(generator *g);
void gen_add_norm_backward(generator *g);
void gen_add_gather_backward(generator *g);
void gen_add_loss_backward(generator *g);
void gen_add_optimizer(generator *g);

#endif
