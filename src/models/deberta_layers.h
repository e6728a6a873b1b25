/* The modules of DeBERTa and DeBERTa-v2, for families whose traits are an hfb_deberta_traits. */
#ifndef HFB_MODELS_DEBERTA_LAYERS_H
#define HFB_MODELS_DEBERTA_LAYERS_H

#include "models/family.h"

typedef struct hfb_deberta_traits {
  bool v2; /* nn.LayerNorm, projections of their own for q, k and v, buckets of distances, a convolution */
} hfb_deberta_traits;

/* Call both under the model's scope ("deberta"). */
/* Word, position and token type, norm, zeros at masked tokens, dropout: [B,S,D]; *out_words is the word table. */
hfb_value *hfb_deberta_embed(hfb_nn *nn, const hfb_call *call, hfb_value **out_words);
/* encoder.layer.0 .., relative positions, in v2 the convolution. */
hfb_value *hfb_deberta_encode(hfb_nn *nn, const hfb_call *call, hfb_value *x);

/* Bucket of a distance: exact below bucket_count / 2, logarithmic up to max_distance (make_log_bucket_position). */
int64_t hfb_deberta_log_bucket(int64_t distance, int64_t bucket_count, int64_t max_distance);

#endif
