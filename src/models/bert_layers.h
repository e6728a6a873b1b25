/* What the BERT-like families share: embeddings, the post-norm encoder layer, the pooler. */
#ifndef HFB_MODELS_BERT_LAYERS_H
#define HFB_MODELS_BERT_LAYERS_H

#include "models/family.h"

typedef struct hfb_bert_embeddings {
  int64_t width;        /* of the three tables */
  int64_t pad_id;       /* word row without a gradient */
  int64_t position_pad; /* position row without a gradient, -1: none */
  hfb_value *positions; /* ids of the position table */
} hfb_bert_embeddings;

/* Call it under the model's scope ("bert"): LayerNorm(word + token type + position), [B,S,width]. */
hfb_value *hfb_bert_embed(hfb_nn *nn, const hfb_call *call, const hfb_bert_embeddings *how);
/* For families whose positions count from 0. */
hfb_value *hfb_bert_embed_plain(hfb_nn *nn, const hfb_call *call, int64_t width);

/* intermediate and output of a layer: dense, activation, dense, dropout, LayerNorm(x + ..). */
hfb_value *hfb_bert_feed_forward(hfb_nn *nn, const hfb_call *call, hfb_value *x);

/* encoder.layer.0 .. : self-attention and feed-forward, each with a residual and a LayerNorm behind. */
hfb_value *hfb_bert_encode(hfb_nn *nn, const hfb_call *call, hfb_value *x);

/* pooler.dense on the first token, tanh: [B,D]. */
hfb_value *hfb_bert_pool(hfb_nn *nn, const hfb_call *call, hfb_value *x);
/* x[:, 0]: [B,D]. */
hfb_value *hfb_first_token(hfb_nn *nn, const hfb_call *call, hfb_value *x);

/* BertLMPredictionHead under "cls.predictions": transform, decoder (tied to `words`), outputs "loss" and "logits". */
void hfb_bert_masked_lm(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *words);

/* The dropout in front of a classifier: classifier_dropout, or the hidden dropout when that is null. */
double hfb_classifier_dropout(const hfb_call *call);

#define HFB_BERT_INPUTS      "input_ids attention_mask token_type_ids position_ids labels"
#define HFB_BERT_SPAN_INPUTS "input_ids attention_mask token_type_ids position_ids start_positions end_positions"

#endif
