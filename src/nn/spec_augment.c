/* SpecAugment (Park et al., 2019): spans of frames or features that training hides. */
#include "nn/nn.h"

enum { KEY_BITS = 40 }; /* of the number that orders the places: two are equal once in 10^12 pairs */

/* Whole numbers of `bits` fair bits each: i64 of `shape`, the same in every precision. */
static hfb_value *random_bits(hfb_nn *nn, hfb_shape shape, int bits) {
  int64_t weights[KEY_BITS];
  for (int i = 0; i < bits; i++) weights[i] = INT64_C(1) << i;
  hfb_shape wide = shape;
  wide.dim[wide.rank++] = bits;
  hfb_value *drawn = hfb_cast(nn->b, hfb_random_mask(nn->b, wide, 0.5), HFB_I64);
  hfb_value *weighted = hfb_mul(nn->b, drawn, hfb_constant_i64(nn->b, hfb_shape_of(1, (int64_t[]){bits}), weights));
  return hfb_reduce(nn->b, HFB_OP_REDUCE_SUM, weighted, 1, (int[]){-1}, false);
}

/* How many spans each row gets, i64 [batch]: p length / span, rounded up or down by one throw for the whole batch, at
 * least min_spans, and no more than fit. */
static hfb_value *count_spans(hfb_nn *nn, const hfb_nn_spans *how, int64_t length, hfb_value *lengths) {
  hfb_builder *b = nn->b;
  hfb_value *throw = hfb_cast(b, random_bits(nn, (hfb_shape){0}, KEY_BITS), HFB_F64);
  hfb_value *wanted = hfb_mul_scalar(b, hfb_cast(b, lengths, HFB_F64), how->p / (double)how->span);
  wanted = hfb_cast(b, hfb_add(b, wanted, hfb_mul_scalar(b, throw, 1.0 / (double)(INT64_C(1) << KEY_BITS))), HFB_I64);
  hfb_value *count = hfb_binary(b, HFB_OP_MAXIMUM, wanted, hfb_scalar(b, HFB_I64, (double)how->min_spans));
  count = hfb_binary(b, HFB_OP_MINIMUM, count, hfb_scalar(b, HFB_I64, (double)(length / how->span)));
  hfb_value *places = hfb_add_scalar(b, lengths, (double)(1 - how->span));
  places = hfb_binary(b, HFB_OP_MAXIMUM, places, hfb_scalar(b, HFB_I64, 0));
  return hfb_binary(b, HFB_OP_MINIMUM, count, places);
}

/* The first places of a random order of those where a span fits: i64 [batch,count]. Rows with fewer places end with
 * some where none fits. */
static hfb_value *draw_starts(hfb_nn *nn, const hfb_nn_spans *how, int64_t batch, int64_t length, hfb_value *lengths,
                              int64_t count) {
  hfb_builder *b = nn->b;
  hfb_value *key = random_bits(nn, hfb_shape_of(2, (int64_t[]){batch, length}), KEY_BITS);
  hfb_value *place = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){1, length}), 1);
  hfb_value *last = hfb_add_scalar(b, hfb_reshape(b, lengths, 2, (int64_t[]){batch, 1}), (double)-how->span);
  hfb_value *fits = hfb_binary(b, HFB_OP_LE, place, last);
  key = hfb_where(b, fits, key, hfb_scalar(b, HFB_I64, (double)(INT64_C(1) << KEY_BITS)));
  return hfb_slice(b, hfb_argsort(b, key), 1, 0, count);
}

hfb_value *hfb_nn_spec_augment(hfb_nn *nn, const hfb_nn_spans *how, int64_t batch, int64_t length, hfb_value *lengths) {
  hfb_builder *b = nn->b;
  if (!nn->training || nn->no_dropout || how->p == 0) return NULL;
  if (how->span > length) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "%s is %lld, longer than the %lld places it hides; give longer inputs",
                     how->span_field, (long long)how->span, (long long)length);
    return NULL;
  }
  int64_t most = (int64_t)(how->p * (double)length / (double)how->span) + 1;
  if (most < how->min_spans) most = how->min_spans;
  if (most > length / how->span) most = length / how->span;
  if (lengths == NULL) lengths = hfb_full(b, HFB_I64, hfb_shape_of(1, &batch), (double)length);
  hfb_value *count = count_spans(nn, how, length, lengths);
  hfb_value *start = draw_starts(nn, how, batch, length, lengths, most);
  hfb_value *number = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){1, most}), 1);
  hfb_value *is_used = hfb_binary(b, HFB_OP_LT, number, hfb_reshape(b, count, 2, (int64_t[]){batch, 1}));
  is_used = hfb_reshape(b, is_used, 3, (int64_t[]){batch, 1, most});
  start = hfb_reshape(b, start, 3, (int64_t[]){batch, 1, most});
  hfb_value *place = hfb_iota(b, HFB_I64, hfb_shape_of(3, (int64_t[]){1, length, 1}), 1);
  hfb_value *is_behind = hfb_binary(b, HFB_OP_LE, start, place);
  hfb_value *is_before = hfb_binary(b, HFB_OP_LT, place, hfb_add_scalar(b, start, (double)how->span));
  hfb_value *hit = hfb_binary(b, HFB_OP_AND, is_used, hfb_binary(b, HFB_OP_AND, is_behind, is_before));
  hfb_value *hits = hfb_reduce(b, HFB_OP_REDUCE_SUM, hfb_cast(b, hit, HFB_I64), 1, (int[]){-1}, false);
  return hfb_binary(b, HFB_OP_LT, hfb_scalar(b, HFB_I64, 0), hits);
}
