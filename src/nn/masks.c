/* Masks, positions and T5's relative position buckets. */
#include <float.h>
#include <math.h>

#include "nn/nn.h"

double hfb_nn_masked_score(void) {
  return -(double)FLT_MAX;
}

hfb_value *hfb_nn_causal_keep(hfb_nn *nn, int64_t length) {
  hfb_shape square = hfb_shape_of(2, (int64_t[]){length, length});
  hfb_value *key = hfb_iota(nn->b, HFB_I64, square, 1);
  hfb_value *query = hfb_iota(nn->b, HFB_I64, square, 0);
  return hfb_binary(nn->b, HFB_OP_LE, key, query);
}

hfb_value *hfb_nn_band_keep(hfb_nn *nn, int64_t length, int64_t reach) {
  hfb_builder *b = nn->b;
  hfb_shape square = hfb_shape_of(2, (int64_t[]){length, length});
  hfb_value *key = hfb_iota(b, HFB_I64, square, 1);
  hfb_value *query = hfb_iota(b, HFB_I64, square, 0);
  hfb_value *not_after = hfb_binary(b, HFB_OP_LE, key, hfb_add_scalar(b, query, (double)reach));
  hfb_value *not_before = hfb_binary(b, HFB_OP_LE, query, hfb_add_scalar(b, key, (double)reach));
  return hfb_binary(b, HFB_OP_AND, not_after, not_before);
}

static hfb_value *mask_rank4(hfb_nn *nn, hfb_value *mask) {
  if (mask == NULL) return NULL;
  return hfb_reshape(nn->b, mask, 4, (int64_t[]){mask->shape.dim[0], 1, 1, mask->shape.dim[1]});
}

hfb_value *hfb_nn_padding_keep(hfb_nn *nn, hfb_value *mask) {
  hfb_value *wide = mask_rank4(nn, mask);
  return hfb_binary(nn->b, HFB_OP_NE, wide, hfb_scalar(nn->b, HFB_I64, 0));
}

hfb_value *hfb_nn_padding_bias(hfb_nn *nn, hfb_value *mask) {
  hfb_value *counts = hfb_cast(nn->b, mask_rank4(nn, mask), HFB_F32);
  hfb_value *hidden = hfb_sub(nn->b, hfb_scalar(nn->b, HFB_F32, 1), counts);
  return hfb_mul_scalar(nn->b, hidden, hfb_nn_masked_score());
}

hfb_value *hfb_nn_keep_bias(hfb_nn *nn, hfb_value *keep) {
  hfb_value *zero = hfb_scalar(nn->b, HFB_F32, 0);
  return hfb_where(nn->b, keep, zero, hfb_scalar(nn->b, HFB_F32, hfb_nn_masked_score()));
}

hfb_value *hfb_nn_positions(hfb_nn *nn, int64_t length, int64_t first) {
  hfb_value *positions = hfb_iota(nn->b, HFB_I64, hfb_shape_of(2, (int64_t[]){1, length}), 1);
  return first == 0 ? positions : hfb_add_scalar(nn->b, positions, (double)first);
}

hfb_value *hfb_nn_padding_aware_positions(hfb_nn *nn, hfb_value *ids, int64_t padding_idx) {
  hfb_builder *b = nn->b;
  hfb_value *real = hfb_cast(b, hfb_binary(b, HFB_OP_NE, ids, hfb_scalar(b, HFB_I64, (double)padding_idx)), HFB_I64);
  hfb_value *counted = hfb_mul(b, hfb_cumsum(b, real, 1), real);
  return hfb_add_scalar(b, counted, (double)padding_idx);
}

hfb_value *hfb_nn_shift_right(hfb_nn *nn, hfb_value *ids, int64_t start_id, int64_t pad_id) {
  hfb_builder *b = nn->b;
  if (ids == NULL) return NULL;
  int64_t batch = ids->shape.dim[0], length = ids->shape.dim[1];
  if (length == 0) return ids;
  hfb_value *start = hfb_full(b, HFB_I64, hfb_shape_of(2, (int64_t[]){batch, 1}), (double)start_id);
  hfb_value *shifted = hfb_concat(b, 2, (hfb_value *[]){start, hfb_slice(b, ids, 1, 0, length - 1)}, 1);
  hfb_value *ignored = hfb_binary(b, HFB_OP_EQ, shifted, hfb_scalar(b, HFB_I64, -100));
  return hfb_where(b, ignored, hfb_scalar(b, HFB_I64, (double)pad_id), shifted);
}

/* T5Attention._relative_position_bucket; the logarithm in f32, as there. */
int64_t hfb_nn_t5_bucket(const hfb_nn_relative_bias *how, int64_t relative_position) {
  int64_t buckets = how->buckets, base = 0, distance;
  if (how->bidirectional) {
    buckets /= 2;
    if (relative_position > 0) base = buckets;
    distance = relative_position < 0 ? -relative_position : relative_position;
  } else {
    distance = relative_position < 0 ? -relative_position : 0;
  }
  int64_t exact = buckets / 2;
  if (distance < exact) return base + distance;
  float ratio = logf((float)distance / (float)exact) / (float)log((double)how->max_distance / (double)exact);
  int64_t bucket = exact + (int64_t)(ratio * (float)(buckets - exact));
  return base + (bucket < buckets - 1 ? bucket : buckets - 1);
}

/* The bucket depends on key - query only, so a table of queries + keys - 1 buckets holds them all. */
static hfb_value *bucket_ids(hfb_nn *nn, const hfb_nn_relative_bias *how) {
  hfb_builder *b = nn->b;
  int64_t distances = how->queries + how->keys - 1;
  int64_t *table = NULL;
  if (hfb_mem_alloc((size_t)distances, sizeof *table, &table) != HFB_OK) {
    hfb_builder_fail(b, HFB_OUT_OF_MEMORY, "%s", hfb_error_message());
    return NULL;
  }
  for (int64_t i = 0; i < distances; i++) table[i] = hfb_nn_t5_bucket(how, i - (how->queries - 1));
  hfb_value *buckets = hfb_constant_i64(b, hfb_shape_of(1, (int64_t[]){distances}), table);
  hfb_mem_free(table);

  /* key - query, counted from the table's first entry */
  hfb_value *key = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){1, how->keys}), 1);
  hfb_value *query = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){how->queries, 1}), 0);
  hfb_value *entry = hfb_sub(b, hfb_add_scalar(b, key, (double)(how->queries - 1)), query);
  return hfb_gather(b, buckets, entry, 0);
}

hfb_value *hfb_nn_t5_relative_bias(hfb_nn *nn, hfb_value *table, const hfb_nn_relative_bias *how) {
  hfb_value *by_position = hfb_embedding(nn->b, table, bucket_ids(nn, how), -1);
  hfb_value *by_head = hfb_transpose(nn->b, by_position, (int[]){2, 0, 1});
  return hfb_reshape(nn->b, by_head, 4, (int64_t[]){1, how->heads, how->queries, how->keys});
}
