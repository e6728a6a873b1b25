/* Local and hashed attention. Both cut the sequence into chunks whose queries see the keys of their own chunk and of
 * some neighbours, so that no matrix has queries x keys of the whole sequence. The first chunk's neighbour in front is
 * the last one, as in transformers.
 *
 * Where transformers copies each chunk beside its neighbours, the sequence is here as long as all of that once and the
 * chunks are windows of it that overlap. Tokens are sorted, and put back, as rows of a matrix [tokens * heads, width],
 * which is how projections lie in memory. exp(scores - logsumexp(scores)) is the softmax that it is.
 *
 * Groups: the heads of all sequences, [batch * heads]. */
#include "models/reformer_attention.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MASKED_SCORE (-1e9) /* of keys that do not count: mask_value_float32 */
#define SELF_SCORE   (-1e5) /* of a token with itself in hashed attention: self_mask_value_float32 */

enum { NEIGHBOURS_MAX = 16, FACTORS_MAX = 8 };

/* ---- Chunks ---- */

typedef struct chunks {
  int64_t size, before, after; /* tokens; neighbours that are seen, too */
} chunks;

static chunks chunks_of(hfb_nn *nn, const hfb_call *call, const char *kind) {
  int64_t values[3];
  static const char *const names[3] = {"attn_chunk_length", "num_chunks_before", "num_chunks_after"};
  for (int i = 0; i < 3; i++) {
    char field[48];
    snprintf(field, sizeof field, "%s_%s", kind, names[i]);
    values[i] = hfb_call_int(call, field);
    if (i > 0 && (values[i] < 0 || values[i] > NEIGHBOURS_MAX)) {
      hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%s is %lld; it must lie in [0, %d]", field, (long long)values[i],
                       NEIGHBOURS_MAX);
      values[i] = 0;
    }
  }
  return (chunks){.size = values[0], .before = values[1], .after = values[2]};
}

/* How many chunks one is seen with, itself included. */
static int64_t span(const chunks *c) {
  return c->before + 1 + c->after;
}

/* x [a,L,..], or [a,L], with the last chunks in front and the first ones behind: [a,L + (before + after) * size,..]. */
static hfb_value *wrap(hfb_nn *nn, const chunks *c, hfb_value *x) {
  hfb_value *parts[3];
  int count = 0;
  if (x == NULL) return NULL;
  int64_t length = x->shape.dim[1], most = c->before > c->after ? c->before : c->after;
  if (most * c->size > length) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "a sequence of %lld chunks has no %lld neighbours of each",
                     (long long)(length / c->size), (long long)most);
    return NULL;
  }
  if (c->before > 0) parts[count++] = hfb_slice(nn->b, x, 1, length - c->before * c->size, length);
  parts[count++] = x;
  if (c->after > 0) parts[count++] = hfb_slice(nn->b, x, 1, 0, c->after * c->size);
  return count == 1 ? x : hfb_concat(nn->b, count, parts, 1);
}

/* What is between: [a,L + (before + after) * size,d] -> [a,L,d]. */
static hfb_value *unwrap(hfb_nn *nn, const chunks *c, hfb_value *x) {
  if (x == NULL || span(c) == 1) return x;
  return hfb_slice(nn->b, x, 1, c->before * c->size, x->shape.dim[1] - c->after * c->size);
}

/* Chunks: [a,n*size,d] -> [a,n,size,d], [a,n*size] -> [a,n,size]. */
static hfb_value *split(hfb_nn *nn, const chunks *c, hfb_value *x) {
  if (x == NULL) return NULL;
  const int64_t *dim = x->shape.dim;
  return hfb_reshape(nn->b, x, x->shape.rank + 1, (int64_t[]){dim[0], dim[1] / c->size, c->size, dim[2]});
}

/* The chunks of a wrapped sequence beside their neighbours: [a,L',d] -> [a,n,span*size,d], [a,L'] -> [a,n,span*size].
 */
static hfb_value *windows(hfb_nn *nn, const chunks *c, hfb_value *x) {
  if (x == NULL || span(c) == 1) return split(nn, c, x);
  const int64_t *dim = x->shape.dim, width = x->shape.rank == 3 ? dim[2] : 1;
  hfb_value *flat = hfb_reshape(nn->b, x, 2, (int64_t[]){dim[0], dim[1] * width});
  hfb_value *seen = hfb_unfold(nn->b, flat, span(c) * c->size * width, c->size * width);
  if (seen == NULL || x->shape.rank == 2) return seen;
  return hfb_reshape(nn->b, seen, 4, (int64_t[]){dim[0], seen->shape.dim[1], span(c) * c->size, width});
}

/* ---- Scores ---- */

/* [..,n] as [..,n,1] and as [..,1,n]. */
static hfb_value *with_unit_dim(hfb_nn *nn, hfb_value *x, bool last) {
  if (x == NULL) return NULL;
  int rank = x->shape.rank;
  int64_t dims[HFB_MAX_RANK];
  for (int i = 0; i < rank; i++) dims[i] = x->shape.dim[i];
  dims[rank] = last ? 1 : dims[rank - 1];
  if (!last) dims[rank - 1] = 1;
  return hfb_reshape(nn->b, x, rank + 1, dims);
}

static hfb_value *column(hfb_nn *nn, hfb_value *x) {
  return with_unit_dim(nn, x, true);
}
static hfb_value *row(hfb_nn *nn, hfb_value *x) {
  return with_unit_dim(nn, x, false);
}

/* Where queries and keys stand in the sequence, i64 [..,queries] and [..,keys], and which keys count. */
typedef struct places {
  hfb_value *query, *key;
  hfb_value *mask; /* i64 [..,keys]; NULL: all */
} places;

/* Which keys take part; NULL: all. */
static hfb_value *keep_of(hfb_nn *nn, const hfb_reformer_setting *s, const places *at) {
  hfb_builder *b = nn->b;
  hfb_value *keep = NULL;
  if (at->mask != NULL) {
    hfb_value *mask = row(nn, at->mask);
    keep = hfb_binary(b, HFB_OP_NE, mask, hfb_scalar(b, HFB_I64, 0));
  }
  if (!s->causal) return keep;
  hfb_value *queries = column(nn, at->query), *keys = row(nn, at->key);
  hfb_value *not_after = hfb_binary(b, HFB_OP_LE, keys, queries);
  return keep == NULL ? not_after : hfb_binary(b, HFB_OP_AND, not_after, keep);
}

/* log(sum(exp(x))) over the last dimension, which goes. */
static hfb_value *log_sum_exp(hfb_nn *nn, hfb_value *x) {
  hfb_builder *b = nn->b;
  if (x == NULL) return NULL;
  int last = x->shape.rank - 1;
  hfb_value *max = hfb_reduce(b, HFB_OP_REDUCE_MAX, x, 1, &last, true);
  hfb_value *sum = hfb_unary(b, HFB_OP_EXP, hfb_sub(b, x, max));
  sum = hfb_unary(b, HFB_OP_LOG, hfb_reduce(b, HFB_OP_REDUCE_SUM, sum, 1, &last, true));
  return hfb_reshape(b, hfb_add(b, sum, max), last, x->shape.dim);
}

/* softmax(scores) v. hashed: tokens do not see themselves. out_lse: log(sum(exp(scores))), NULL: not wanted. */
static hfb_value *attend(hfb_nn *nn, const hfb_reformer_setting *s, const places *at, bool hashed, double dropout,
                         hfb_value *q, hfb_value *k, hfb_value *v, hfb_value **out_lse) {
  hfb_builder *b = nn->b;
  hfb_value *scores = hfb_matmul(b, q, k, false, true), *keep = keep_of(nn, s, at);
  if (keep != NULL) scores = hfb_where(b, keep, scores, hfb_scalar(b, HFB_F32, MASKED_SCORE));
  if (hashed) {
    hfb_value *queries = column(nn, at->query), *keys = row(nn, at->key);
    hfb_value *other = hfb_binary(b, HFB_OP_NE, queries, keys);
    scores = hfb_where(b, other, scores, hfb_scalar(b, HFB_F32, SELF_SCORE));
  }
  if (out_lse != NULL) *out_lse = log_sum_exp(nn, scores);
  hfb_value *weights = hfb_nn_dropout(nn, hfb_softmax(b, scores, -1), dropout);
  return hfb_matmul(b, weights, v, false, false);
}

/* x [B,heads,..] as [B*heads,..]. */
static hfb_value *grouped(hfb_nn *nn, hfb_value *x) {
  if (x == NULL) return NULL;
  int64_t dims[HFB_MAX_RANK] = {x->shape.dim[0] * x->shape.dim[1]};
  for (int i = 2; i < x->shape.rank; i++) dims[i - 1] = x->shape.dim[i];
  return hfb_reshape(nn->b, x, x->shape.rank - 1, dims);
}

/* [B*heads,n,size,width] as [B,heads,n*size,width]. */
static hfb_value *joined(hfb_nn *nn, const hfb_reformer_setting *s, hfb_value *x) {
  return hfb_reshape(nn->b, x, 4, (int64_t[]){s->batch, s->heads, s->length, s->width});
}

/* 0 .. S-1 as [1,S], and the mask for each group [B*heads,S]: the places of tokens that nobody moved. */
static places unmoved_places(hfb_nn *nn, const hfb_reformer_setting *s) {
  hfb_builder *b = nn->b;
  places at = {.query = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){1, s->length}), 1)};
  at.key = at.query;
  if (s->mask == NULL) return at;
  hfb_value *mask = hfb_reshape(b, s->mask, 3, (int64_t[]){s->batch, 1, s->length});
  at.mask = grouped(nn, hfb_expand(b, mask, 3, (int64_t[]){s->batch, s->heads, s->length}));
  return at;
}

/* ---- Local attention ---- */

hfb_value *hfb_reformer_local_attention(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s, hfb_value *x) {
  hfb_builder *b = nn->b;
  static const char *const names[] = {"query", "key", "value"};
  chunks c = chunks_of(nn, call, "local");
  places at = unmoved_places(nn, s);
  hfb_value *qkv[3];
  hfb_scope_push(b, "self_attention");
  for (int i = 0; i < 3; i++) {
    qkv[i] = hfb_nn_linear(nn, names[i], x, s->heads * s->width, false);
    qkv[i] = grouped(nn, hfb_nn_split_heads(nn, qkv[i], s->heads));
  }
  qkv[1] = hfb_mul_scalar(b, qkv[1], 1 / sqrt((double)s->width));
  if (s->length > c.size) {
    qkv[0] = split(nn, &c, qkv[0]);
    for (int i = 1; i < 3; i++) qkv[i] = windows(nn, &c, wrap(nn, &c, qkv[i]));
    at.key = windows(nn, &c, wrap(nn, &c, at.query));
    at.query = split(nn, &c, at.query);
    at.mask = windows(nn, &c, wrap(nn, &c, at.mask));
  }
  double dropout = hfb_call_float(call, "local_attention_probs_dropout_prob");
  hfb_value *context = attend(nn, s, &at, false, dropout, qkv[0], qkv[1], qkv[2], NULL);
  hfb_scope_pop(b);
  return hfb_nn_merge_heads(nn, joined(nn, s, context));
}

/* ---- Hashing ---- */

/* The number of buckets as a product: a token's bucket in each factor comes from rotations of its own. */
typedef struct bucket_plan {
  int count;
  int64_t factors[FACTORS_MAX];
  int64_t all, rotated; /* product and sum of the factors */
} bucket_plan;

/* LSHSelfAttention._set_num_buckets: a power of two, at most two for each chunk; in two factors when that is many. */
static void derive_buckets(const hfb_call *call, int64_t length, int64_t size, bucket_plan *plan) {
  int bits = -1;
  for (int64_t n = 2 * (length / size); n > 0; n >>= 1) bits++;
  int64_t root = (int64_t)sqrt((double)(hfb_call_int(call, "max_position_embeddings") / size));
  int64_t limit = 2 * (root > size ? root : size);
  plan->count = INT64_C(1) << bits > limit ? 2 : 1;
  plan->factors[0] = INT64_C(1) << (plan->count == 1 ? bits : bits / 2);
  plan->factors[1] = INT64_C(1) << (bits - bits / 2);
}

static bucket_plan buckets_of(hfb_nn *nn, const hfb_call *call, int64_t length, int64_t size) {
  bucket_plan plan = {.count = 1, .all = 1};
  int64_t listed = hfb_config_size_count(call->config, "num_buckets");
  plan.factors[0] = hfb_call_size_at(call, "num_buckets", 0);
  if (listed == 0 && plan.factors[0] < 0) {
    derive_buckets(call, length, size, &plan);
  } else if (listed > FACTORS_MAX) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "num_buckets has %lld factors; at most %d are implemented",
                     (long long)listed, FACTORS_MAX);
  } else if (listed > 0) {
    plan.count = (int)listed;
    for (int i = 0; i < plan.count; i++) plan.factors[i] = hfb_call_size_at(call, "num_buckets", i);
  }
  for (int i = 0; i < plan.count; i++) {
    if (plan.factors[i] < 2 || plan.factors[i] % 2 != 0) {
      hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "num_buckets holds %lld; buckets must be even in number",
                       (long long)plan.factors[i]);
      plan.factors[i] = 2;
    }
    plan.all *= plan.factors[i];
    plan.rotated += plan.factors[i];
  }
  return plan;
}

/* f32 [heads,width,hashes,rotated / 2]. */
static hfb_value *rotations_of(hfb_nn *nn, const hfb_call *call, int64_t layer, const hfb_shape *shape) {
  char name[48];
  snprintf(name, sizeof name, "lsh_rotations.%lld", (long long)layer);
  hfb_value *given = hfb_call_arg(call, name);
  if (given == NULL) return hfb_random_normal(nn->b, *shape);
  if (given->dtype == HFB_F32 && hfb_shape_equal(&given->shape, shape)) return given;
  char have[HFB_SHAPE_TEXT_BYTES], wanted[HFB_SHAPE_TEXT_BYTES];
  hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument '%s' is %s%s; it must be f32%s", name,
                   hfb_dtype_name(given->dtype), hfb_shape_print(&given->shape, have, sizeof have),
                   hfb_shape_print(shape, wanted, sizeof wanted));
  return NULL;
}

/* The bucket of each token in each round of hashing, i64 [B,heads,hashes,S]: the largest of its products with the
 * rotations and with their opposites. Tokens that do not count have a bucket of their own. vectors [B,heads,S,width].
 */
static hfb_value *hash(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s, int64_t layer, int64_t hashes,
                       const bucket_plan *plan, hfb_value *vectors) {
  hfb_builder *b = nn->b;
  int64_t begin = 0, product = 1;
  hfb_shape shape = hfb_shape_of(4, (int64_t[]){s->heads, s->width, hashes, plan->rotated / 2});
  hfb_value *rotations = rotations_of(nn, call, layer, &shape), *both[FACTORS_MAX], *buckets = NULL;
  for (int i = 0; i < plan->count; i++) {
    int64_t end = begin + plan->factors[i] / 2;
    hfb_value *part = plan->count == 1 ? rotations : hfb_slice(b, rotations, 3, begin, end);
    both[i] = hfb_concat(b, 2, (hfb_value *[]){part, hfb_unary(b, HFB_OP_NEG, part)}, 3);
    begin = end;
  }
  rotations = plan->count == 1 ? both[0] : hfb_concat(b, plan->count, both, 3);
  rotations = hfb_reshape(b, rotations, 3, (int64_t[]){s->heads, s->width, hashes * plan->rotated});
  hfb_value *rotated = hfb_matmul(b, vectors, rotations, false, false);
  rotated = hfb_reshape(b, rotated, 5, (int64_t[]){s->batch, s->heads, s->length, hashes, plan->rotated});
  begin = 0;
  for (int i = 0; i < plan->count; i++) {
    int64_t end = begin + plan->factors[i];
    hfb_value *part = plan->count == 1 ? rotated : hfb_slice(b, rotated, 4, begin, end);
    hfb_value *largest = hfb_argmax(b, part, 4, false);
    buckets = buckets == NULL ? largest : hfb_add(b, buckets, hfb_mul_scalar(b, largest, (double)product));
    product *= plan->factors[i];
    begin = end;
  }
  buckets = hfb_transpose(b, buckets, (int[]){0, 1, 3, 2});
  if (s->mask == NULL) return buckets;
  hfb_value *mask = hfb_reshape(b, s->mask, 4, (int64_t[]){s->batch, 1, 1, s->length});
  hfb_value *counts = hfb_binary(b, HFB_OP_NE, mask, hfb_scalar(b, HFB_I64, 0));
  return hfb_where(b, counts, buckets, hfb_scalar(b, HFB_I64, (double)plan->all));
}

/* Buckets as transformers numbers them: those of later rounds behind those of earlier ones. */
static hfb_value *numbered(hfb_nn *nn, const hfb_reformer_setting *s, int64_t hashes, const bucket_plan *plan,
                           hfb_value *buckets) {
  hfb_builder *b = nn->b;
  hfb_value *offsets = hfb_iota(b, HFB_I64, hfb_shape_of(4, (int64_t[]){1, 1, hashes, 1}), 2);
  hfb_value *count = hfb_scalar(b, HFB_I64, (double)plan->all);
  if (s->mask != NULL) { /* one more when any token does not count */
    hfb_value *hidden = hfb_cast(b, hfb_binary(b, HFB_OP_EQ, s->mask, hfb_scalar(b, HFB_I64, 0)), HFB_I64);
    count = hfb_add(b, count, hfb_reduce(b, HFB_OP_REDUCE_MAX, hidden, 2, (int[]){0, 1}, false));
  }
  return hfb_add(b, buckets, hfb_mul(b, offsets, count));
}

/* ---- Hashed attention ---- */

/* LSHSelfAttention._len_and_dim_norm: keys of length 1 in the mean square, over the square root of the width. */
static hfb_value *normalized(hfb_nn *nn, const hfb_reformer_setting *s, hfb_value *x) {
  hfb_builder *b = nn->b;
  if (x == NULL) return NULL;
  int last = x->shape.rank - 1;
  hfb_value *variance = hfb_reduce(b, HFB_OP_REDUCE_MEAN, hfb_mul(b, x, x), 1, &last, true);
  hfb_value *scale = hfb_unary(b, HFB_OP_RSQRT, hfb_add_scalar(b, variance, 1e-6));
  return hfb_mul_scalar(b, hfb_mul(b, x, scale), 1 / sqrt((double)s->width));
}

/* x [B,S,heads*width] at the tokens of each group, i64 [B*heads,L]: [B*heads,L,width]. */
static hfb_value *take_tokens(hfb_nn *nn, const hfb_reformer_setting *s, hfb_value *x, hfb_value *tokens) {
  hfb_builder *b = nn->b;
  hfb_value *rows = hfb_reshape(b, x, 2, (int64_t[]){s->batch * s->length * s->heads, s->width});
  hfb_value *batch = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){s->batch, 1}), 0);
  hfb_value *head = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){1, s->heads}), 1);
  hfb_value *first = hfb_add(b, hfb_mul_scalar(b, batch, (double)(s->length * s->heads)), head);
  first = hfb_reshape(b, first, 2, (int64_t[]){s->batch * s->heads, 1});
  hfb_value *index = hfb_add(b, hfb_mul_scalar(b, tokens, (double)s->heads), first);
  return hfb_gather(b, rows, index, 0);
}

/* Whether the tokens of each group count, i64 [B*heads,L]. */
static hfb_value *take_mask(hfb_nn *nn, const hfb_reformer_setting *s, hfb_value *tokens) {
  hfb_builder *b = nn->b;
  if (s->mask == NULL) return NULL;
  hfb_value *batch = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){s->batch, 1}), 0);
  batch = hfb_expand(b, hfb_mul_scalar(b, batch, (double)s->length), 2, (int64_t[]){s->batch, s->heads});
  hfb_value *index = hfb_add(b, tokens, hfb_reshape(b, batch, 2, (int64_t[]){s->batch * s->heads, 1}));
  return hfb_gather(b, hfb_reshape(b, s->mask, 1, (int64_t[]){s->batch * s->length}), index, 0);
}

/* The way back: sorted [B*heads,n,size,width] -> [B,hashes,S,heads,width] by `back` [B,heads,hashes,S], the place of
 * each token in its round. */
static hfb_value *put_tokens_back(hfb_nn *nn, const hfb_reformer_setting *s, hfb_value *sorted, hfb_value *back) {
  hfb_builder *b = nn->b;
  if (back == NULL) return NULL;
  int64_t rounds = s->heads * back->shape.dim[2];
  hfb_value *rows = hfb_reshape(b, sorted, 2, (int64_t[]){s->batch * rounds * s->length, s->width});
  hfb_value *round = hfb_iota(b, HFB_I64, hfb_shape_of(1, (int64_t[]){s->batch * rounds}), 0);
  round = hfb_reshape(b, round, 4, (int64_t[]){s->batch, s->heads, back->shape.dim[2], 1});
  hfb_value *index = hfb_add(b, back, hfb_mul_scalar(b, round, (double)s->length));
  return hfb_gather(b, rows, hfb_transpose(b, index, (int[]){0, 2, 3, 1}), 0);
}

/* The rounds of hashing weighted by how much their keys weigh: contexts [B,hashes,S,heads,width], lse of the sorted
 * tokens [B*heads,n,size] -> [B,S,heads,width]. */
static hfb_value *join_rounds(hfb_nn *nn, const hfb_reformer_setting *s, hfb_value *contexts, hfb_value *lse,
                              hfb_value *back) {
  hfb_builder *b = nn->b;
  if (back == NULL) return NULL;
  lse = hfb_take_along(b, hfb_reshape(b, lse, 4, back->shape.dim), back, 3);
  hfb_value *weights = hfb_transpose(b, hfb_softmax(b, lse, 2), (int[]){0, 2, 3, 1});
  return hfb_reduce(b, HFB_OP_REDUCE_SUM, hfb_mul(b, contexts, column(nn, weights)), 1, (int[]){1}, false);
}

/* Attention among the chunks of the sorted tokens. qk, value [B,S,heads*width]: [B,S,heads*width]. */
static hfb_value *sorted_attention(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s, const chunks *c,
                                   hfb_value *qk, hfb_value *value, hfb_value *buckets) {
  hfb_builder *b = nn->b;
  hfb_value *order = hfb_argsort(b, buckets), *back = hfb_argsort(b, order), *lse = NULL;
  if (back == NULL) return NULL;
  int64_t hashes = back->shape.dim[2];
  order = hfb_reshape(b, order, 2, (int64_t[]){s->batch * s->heads, hashes * s->length});
  hfb_value *tokens = wrap(nn, c, order);
  hfb_value *taken = take_tokens(nn, s, qk, tokens), *v = windows(nn, c, take_tokens(nn, s, value, tokens));
  hfb_value *q = split(nn, c, unwrap(nn, c, taken)), *k = windows(nn, c, normalized(nn, s, taken));
  places at = {.query = split(nn, c, order), .key = windows(nn, c, tokens)};
  at.mask = windows(nn, c, take_mask(nn, s, tokens));
  double dropout = hfb_call_float(call, "lsh_attention_probs_dropout_prob");
  hfb_value *context = attend(nn, s, &at, true, dropout, q, k, v, hashes > 1 ? &lse : NULL);
  context = put_tokens_back(nn, s, context, back);
  if (hashes > 1) context = join_rounds(nn, s, context, lse, back);
  return hfb_reshape(b, context, 3, (int64_t[]){s->batch, s->length, s->heads * s->width});
}

bool hfb_reformer_hashes(const hfb_call *call, int64_t length) {
  return length > hfb_call_int(call, "lsh_attn_chunk_length");
}

hfb_value *hfb_reformer_lsh_attention(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s, int64_t layer,
                                      hfb_value *x, hfb_value **out_buckets) {
  int64_t hashes = hfb_call_int(call, "num_hashes");
  chunks c = chunks_of(nn, call, "lsh");
  if (out_buckets != NULL) *out_buckets = NULL;
  hfb_scope_push(nn->b, "self_attention");
  hfb_value *qk = hfb_nn_linear(nn, "query_key", x, s->heads * s->width, false), *context;
  hfb_value *value = hfb_nn_linear(nn, "value", x, s->heads * s->width, false);
  hfb_value *vectors = hfb_nn_split_heads(nn, qk, s->heads);
  if (hfb_reformer_hashes(call, s->length)) {
    bucket_plan plan = buckets_of(nn, call, s->length, c.size);
    hfb_value *buckets = hash(nn, call, s, layer, hashes, &plan, vectors);
    context = sorted_attention(nn, call, s, &c, qk, value, buckets);
    if (out_buckets != NULL) *out_buckets = numbered(nn, s, hashes, &plan, buckets);
  } else {
    places at = unmoved_places(nn, s);
    double dropout = hfb_call_float(call, "lsh_attention_probs_dropout_prob");
    vectors = grouped(nn, vectors);
    hfb_value *keys = normalized(nn, s, vectors), *values = grouped(nn, hfb_nn_split_heads(nn, value, s->heads));
    context = attend(nn, s, &at, true, dropout, vectors, keys, values, NULL);
    context = hfb_nn_merge_heads(nn, joined(nn, s, context));
  }
  hfb_scope_pop(nn->b);
  return context;
}
