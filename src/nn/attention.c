/* Scaled dot-product attention as the eager classes of transformers run it. */
#include "nn/nn.h"

hfb_value *hfb_nn_split_heads(hfb_nn *nn, hfb_value *x, int64_t heads) {
  if (x == NULL) return NULL;
  int64_t batch = x->shape.dim[0], length = x->shape.dim[1], width = x->shape.dim[2];
  hfb_value *split = hfb_reshape(nn->b, x, 4, (int64_t[]){batch, length, heads, width / heads});
  return hfb_transpose(nn->b, split, (int[]){0, 2, 1, 3});
}

hfb_value *hfb_nn_merge_heads(hfb_nn *nn, hfb_value *x) {
  if (x == NULL) return NULL;
  int64_t batch = x->shape.dim[0], heads = x->shape.dim[1], length = x->shape.dim[2], width = x->shape.dim[3];
  hfb_value *rows = hfb_transpose(nn->b, x, (int[]){0, 2, 1, 3});
  return hfb_reshape(nn->b, rows, 3, (int64_t[]){batch, length, heads * width});
}

/* The vectors of all pairs of positions: [Q,K,d]. */
static hfb_value *pair_vectors(hfb_nn *nn, hfb_value *table, int64_t queries, int64_t keys) {
  hfb_builder *b = nn->b;
  int64_t limit = (table->shape.dim[0] + 1) / 2;
  hfb_value *query = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){queries, 1}), 0);
  hfb_value *key = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){1, keys}), 1);
  return hfb_embedding(b, table, hfb_add_scalar(b, hfb_sub(b, query, key), (double)(limit - 1)), -1);
}

/* x [B,H,L,d] against pairs [L,M,d], token by token, as torch.einsum runs it: [L,B*H,M]. */
static hfb_value *by_token(hfb_nn *nn, hfb_value *x, hfb_value *pairs) {
  const int64_t *dim = x->shape.dim;
  hfb_value *tokens = hfb_transpose(nn->b, x, (int[]){2, 0, 1, 3});
  tokens = hfb_reshape(nn->b, tokens, 3, (int64_t[]){dim[2], dim[0] * dim[1], dim[3]});
  return hfb_matmul(nn->b, tokens, pairs, false, true);
}

/* scores [B,H,Q,K] plus what queries, and keys if wanted, think of the distance between them. */
static hfb_value *add_distances(hfb_nn *nn, const hfb_nn_attention *attention, hfb_value *scores, hfb_value *q,
                                hfb_value *k) {
  hfb_builder *b = nn->b;
  if (scores == NULL) return NULL;
  const int64_t *dim = scores->shape.dim;
  hfb_value *pairs = pair_vectors(nn, attention->distances, dim[2], dim[3]);
  hfb_value *of_queries = hfb_transpose(b, by_token(nn, q, pairs), (int[]){1, 0, 2});
  scores = hfb_add(b, scores, hfb_reshape(b, of_queries, 4, dim));
  if (!attention->distances_to_keys) return scores;
  hfb_value *of_keys = by_token(nn, k, hfb_transpose(b, pairs, (int[]){1, 0, 2}));
  of_keys = hfb_transpose(b, of_keys, (int[]){1, 2, 0});
  return hfb_add(b, scores, hfb_reshape(b, of_keys, 4, dim));
}

hfb_value *hfb_nn_attend(hfb_nn *nn, const hfb_nn_attention *attention, hfb_value *q, hfb_value *k, hfb_value *v) {
  hfb_builder *b = nn->b;
  if (attention->query_scale != 1) q = hfb_mul_scalar(b, q, attention->query_scale);
  hfb_value *scores = hfb_matmul(b, q, k, false, true);
  if (attention->distances != NULL && !attention->distances_unscaled)
    scores = add_distances(nn, attention, scores, q, k);
  if (attention->score_scale != 1) scores = hfb_mul_scalar(b, scores, attention->score_scale);
  if (attention->keep != NULL) {
    scores = hfb_where(b, attention->keep, scores, hfb_scalar(b, HFB_F32, hfb_nn_masked_score()));
  }
  if (attention->bias != NULL) scores = hfb_add(b, scores, attention->bias);
  if (attention->distances != NULL && attention->distances_unscaled)
    scores = add_distances(nn, attention, scores, q, k);
  hfb_value *weights = hfb_nn_dropout(nn, hfb_softmax(b, scores, -1), attention->dropout);
  return hfb_matmul(b, weights, v, false, false);
}
