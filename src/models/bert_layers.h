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

/* position_embedding_type: whether attention sees the distance of tokens in place of (in LayoutLM: besides) their
 * positions. */
#define HFB_BERT_POSITION_TYPES "absolute|relative_key|relative_key_query"
bool hfb_bert_is_relative(const hfb_call *call);

/* Call it under the model's scope ("bert"): LayerNorm(word + token type + position), [B,S,width]. Where attention is
 * relative the position table is registered and not used. */
hfb_value *hfb_bert_embed(hfb_nn *nn, const hfb_call *call, const hfb_bert_embeddings *how);
/* For families whose positions count from 0. */
hfb_value *hfb_bert_embed_plain(hfb_nn *nn, const hfb_call *call, int64_t width);

/* BertSelfAttention under `name`, without its output: keys and values from `source`, [B,S,D]. mask_bias: added to the
 * scores, NULL: none. */
hfb_value *hfb_bert_attention(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x, hfb_value *source,
                              hfb_value *mask_bias);
/* The same of x with itself, under "self". */
hfb_value *hfb_bert_self_attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *mask_bias);
/* Registers distance_embedding and has `attention` use it, where attention is relative. */
void hfb_bert_add_distances(hfb_nn *nn, const hfb_call *call, hfb_nn_attention *attention);
/* BertSelfOutput and BertOutput under `name`: dense, dropout, LayerNorm(. + residual). */
hfb_value *hfb_bert_output_as(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x, hfb_value *residual);
/* The same under "output". */
hfb_value *hfb_bert_output(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *residual);
/* attention_mask as a bias of the scores [B,1,1,S]; NULL when it is not given. */
hfb_value *hfb_bert_mask_bias(hfb_nn *nn, const hfb_call *call);
/* token_type_ids, zeros when not given. */
hfb_value *hfb_bert_token_types(hfb_nn *nn, const hfb_call *call);
/* position_ids, 0, 1, .. when not given. */
hfb_value *hfb_bert_positions(hfb_nn *nn, const hfb_call *call);

/* BertIntermediate under `name`: dense, activation. */
hfb_value *hfb_bert_intermediate(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x);
/* intermediate and output of a layer: dense, activation, dense, dropout, LayerNorm(x + ..). */
hfb_value *hfb_bert_feed_forward(hfb_nn *nn, const hfb_call *call, hfb_value *x);
/* BertLayer: self-attention and feed-forward, each with a residual and a LayerNorm behind. */
hfb_value *hfb_bert_layer(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *mask_bias);

/* encoder.layer.0 .. */
hfb_value *hfb_bert_encode(hfb_nn *nn, const hfb_call *call, hfb_value *x);

/* pooler.dense on the first token, tanh: [B,D]. */
hfb_value *hfb_bert_pool(hfb_nn *nn, const hfb_call *call, hfb_value *x);
/* x[:, 0]: [B,D]. */
hfb_value *hfb_first_token(hfb_nn *nn, const hfb_call *call, hfb_value *x);

/* BertPredictionHeadTransform under "transform": dense, activation, LayerNorm. */
hfb_value *hfb_bert_transform(hfb_nn *nn, const hfb_call *call, hfb_value *x, int64_t width);
/* BertLMPredictionHead under "cls.predictions": transform, decoder (tied to `words`); the logits. */
hfb_value *hfb_bert_predictions(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *words);
/* RobertaLMHead under "lm_head": dense, exact gelu, layer_norm, decoder (tied to `words`); the logits. */
hfb_value *hfb_bert_lm_head(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *words);

/* What the heads of BERT-like models start from. */
typedef struct hfb_bert_states {
  hfb_value *tokens; /* [B,S,D] */
  hfb_value *pooled; /* [B,D]; NULL when the class has no pooler */
  hfb_value *words;  /* the word table, for a tied head */
} hfb_bert_states;

/* cls.seq_relationship on the pooled token, next to predictions [B,S,V]: BertForPreTraining's outputs. */
void hfb_bert_pretraining(hfb_nn *nn, const hfb_call *call, hfb_value *predictions, hfb_value *pooled);
/* The same head alone: BertForNextSentencePrediction's outputs. */
void hfb_bert_next_sentence(hfb_nn *nn, const hfb_call *call, hfb_value *pooled);
/* RobertaClassificationHead under "classifier" on the first token: dropout, dense, activation, dropout, out_proj. */
void hfb_bert_classification_head(hfb_nn *nn, const hfb_call *call, hfb_value *tokens, const char *activation,
                                  double dropout);
/* generator_predictions and generator_lm_head (tied to `words`) of ELECTRA: the logits. */
hfb_value *hfb_bert_generator_logits(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *words);
/* dropout and classifier on the pooled token: outputs of a classification of whole sequences. */
void hfb_bert_sequence_classification(hfb_nn *nn, const hfb_call *call, hfb_value *pooled, double dropout);

/* The dropout in front of a classifier: classifier_dropout, or the hidden dropout when that is null. */
double hfb_classifier_dropout(const hfb_call *call);

#define HFB_BERT_INPUTS      "input_ids attention_mask token_type_ids position_ids labels"
#define HFB_BERT_PAIR_INPUTS HFB_BERT_INPUTS " next_sentence_label"
#define HFB_BERT_SPAN_INPUTS "input_ids attention_mask token_type_ids position_ids start_positions end_positions"
/* Other names of the parameters of a prediction head whose model is registered as "bert". */
#define HFB_BERT_TIED                                                      \
  "cls.predictions.decoder.weight=bert.embeddings.word_embeddings.weight " \
  "cls.predictions.decoder.bias=cls.predictions.bias"

#endif
