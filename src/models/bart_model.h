/* BART (Lewis et al., 2019) and the models that changed it a little: the same classes over the same layers, told apart
 * by a few traits. A family file gives its configuration fields, its traits and its rows. Internal to models/. */
#ifndef HFB_MODELS_BART_MODEL_H
#define HFB_MODELS_BART_MODEL_H

#include "models/bart_layers.h"

typedef enum hfb_bart_positions {
  HFB_BART_LEARNED,                /* a table, read from row `position_offset` on */
  HFB_BART_FROZEN_SINUSOID,        /* sinusoids stored as a frozen table, read from row 0 on */
  HFB_BART_PADDING_SINUSOID,       /* sinusoids at positions that count the ids which are not padding: computed */
  HFB_BART_STORED_PADDING_SINUSOID /* the same, stored as a frozen table */
} hfb_bart_positions;

typedef enum hfb_bart_embedding_norm {
  HFB_BART_EMBEDDING_BARE,
  HFB_BART_EMBEDDING_NORM,      /* LayerNorm(token + position) */
  HFB_BART_EMBEDDING_TOKEN_NORM /* the same in the encoder, LayerNorm(token) + position in the decoder */
} hfb_bart_embedding_norm;

/* What labels become when they stand in for decoder_input_ids. */
typedef enum hfb_bart_shift {
  HFB_BART_SHIFT_START,  /* decoder_start_token_id in front, the last one dropped */
  HFB_BART_SHIFT_ROTATE, /* the last one that is not padding in front (mBART's language id) */
} hfb_bart_shift;

typedef struct hfb_bart_traits {
  bool pre_norm;   /* norms in front of the sublayers, and one more at the end of each stack */
  bool norm_first; /* the norm of embeddings is registered in front of the layers, not behind them */
  hfb_bart_embedding_norm embedding_norm;
  hfb_bart_positions positions;
  int position_offset;
  hfb_bart_shift shift;
  bool decodes_input;    /* without labels the decoder reads input_ids, shifted */
  bool cache_and_labels; /* the cache is an output even when labels are given */
  bool no_logits_bias;
  const char *norm_field;    /* whether embeddings have their norm; NULL: no field says so, they have it */
  const char *learned_field; /* whether positions are learned whatever `positions` says; NULL: no field says so */
  const char *length_field;  /* the longest sequence; NULL: "max_position_embeddings" */
  const char *head;          /* of the causal class; NULL: "lm_head" */
} hfb_bart_traits;

/* The classes of a family whose traits are an hfb_bart_traits: ..ForConditionalGeneration, ..MTModel */
void hfb_bart_conditional_generation(hfb_nn *nn, const hfb_call *call);
/* The bare ..Model: encoder and decoder without a head. */
void hfb_bart_bare_model(hfb_nn *nn, const hfb_call *call);
/* ..ForCausalLM: the decoder alone. It owns cross-attention weights and never runs them. */
void hfb_bart_causal_lm(hfb_nn *nn, const hfb_call *call);

/* ---- Tables ---- */

/* Fields that have the same default in all families. */
/* clang-format off */
#define HFB_BART_COMMON_FIELDS                                  \
  {"dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},              \
  {"activation_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},   \
  {"init_std", HFB_FIELD_POSITIVE, "0.02", NULL},               \
  {"use_cache", HFB_FIELD_BOOL, "true", NULL}
/* clang-format on */

#define HFB_BART_INPUTS        "input_ids attention_mask decoder_input_ids decoder_attention_mask labels"
#define HFB_BART_BARE_INPUTS   "input_ids attention_mask decoder_input_ids decoder_attention_mask"
#define HFB_BART_CAUSAL_INPUTS "input_ids attention_mask labels"
#define HFB_BART_TIED                                                                                            \
  "model.encoder.embed_tokens.weight=model.shared.weight model.decoder.embed_tokens.weight=model.shared.weight " \
  "lm_head.weight=model.shared.weight"
#define HFB_BART_BARE_TIED "encoder.embed_tokens.weight=shared.weight decoder.embed_tokens.weight=shared.weight"
#define HFB_BART_CAUSAL_TIED \
  "lm_head.weight=model.decoder.embed_tokens.weight model.shared.weight=model.decoder.embed_tokens.weight"
#define HFB_BART_IGNORED        "classification_head.* qa_outputs.* *.embed_positions.position_ids"
#define HFB_BART_BARE_IGNORED   HFB_BART_IGNORED " final_logits_bias lm_head.weight"
#define HFB_BART_CAUSAL_IGNORED HFB_BART_IGNORED " model.encoder.* model.shared.weight final_logits_bias"

/* Rows of the class tables. */
#define HFB_BART_CONDITIONAL_ROW(name) \
  { name, hfb_bart_conditional_generation, HFB_BART_INPUTS, HFB_REFUSED_SEQ2SEQ, HFB_BART_TIED, HFB_BART_IGNORED }
#define HFB_BART_BARE_ROW(name) \
  { name, hfb_bart_bare_model, HFB_BART_BARE_INPUTS, HFB_REFUSED_SEQ2SEQ, HFB_BART_BARE_TIED, HFB_BART_BARE_IGNORED }
#define HFB_BART_CAUSAL_ROW(name)                                                               \
  {                                                                                             \
    name, hfb_bart_causal_lm, HFB_BART_CAUSAL_INPUTS, HFB_REFUSED_CAUSAL, HFB_BART_CAUSAL_TIED, \
        HFB_BART_CAUSAL_IGNORED                                                                 \
  }

#endif
