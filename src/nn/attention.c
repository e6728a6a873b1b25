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

hfb_value *hfb_nn_attend(hfb_nn *nn, const hfb_nn_attention *attention, hfb_value *q, hfb_value *k, hfb_value *v) {
  hfb_builder *b = nn->b;
  if (attention->query_scale != 1) q = hfb_mul_scalar(b, q, attention->query_scale);
  hfb_value *scores = hfb_matmul(b, q, k, false, true);
  if (attention->score_scale != 1) scores = hfb_mul_scalar(b, scores, attention->score_scale);
  if (attention->keep != NULL) {
    scores = hfb_where(b, attention->keep, scores, hfb_scalar(b, HFB_F32, hfb_nn_masked_score()));
  }
  if (attention->bias != NULL) scores = hfb_add(b, scores, attention->bias);
  hfb_value *weights = hfb_nn_dropout(nn, hfb_softmax(b, scores, -1), attention->dropout);
  return hfb_matmul(b, weights, v, false, false);
}
