/* The decoder of LLaMA and its relatives: rotary positions, RMS norms in front, grouped queries, gated feed-forwards.
 * A family file gives its configuration fields and its traits. Internal to models/. */
#ifndef HFB_MODELS_LLAMA_LAYERS_H
#define HFB_MODELS_LLAMA_LAYERS_H

#include "models/family.h"

typedef struct hfb_llama_traits {
  bool qkv_bias;                /* biases of queries, keys and values, whatever the configuration says */
  bool shifted_norms;           /* norms multiply by 1 + weight, embeddings by sqrt(hidden_size) */
  const char *bias_field;       /* whether all projections of the attention have biases; NULL: no field says so */
  const char *window_field;     /* tokens that a query sees, itself the last; NULL or a null there: all before it */
  const char *activation_field; /* goes before "hidden_act" unless it is null; NULL: no such field */
} hfb_llama_traits;

/* ..ForCausalLM and ..ForSequenceClassification of a family whose traits are an hfb_llama_traits. */
void hfb_llama_causal_lm(hfb_nn *nn, const hfb_call *call);
void hfb_llama_sequence_classification(hfb_nn *nn, const hfb_call *call);

/* Fields that have the same default in all families. head_dim null: hidden_size / num_attention_heads. The longest
 * sequence is no limit: rotary positions are computed. */
/* clang-format off */
#define HFB_LLAMA_COMMON_FIELDS                                       \
  {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},            \
  {"rms_norm_eps", HFB_FIELD_POSITIVE, "1e-6", NULL},                 \
  {"rope_theta", HFB_FIELD_POSITIVE, "10000.0", NULL},                \
  {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},          \
  {"use_cache", HFB_FIELD_BOOL, "true", NULL}
/* clang-format on */

#define HFB_LLAMA_INPUTS "input_ids attention_mask position_ids labels"
#define HFB_LLAMA_REFUSED \
  "inputs_embeds past_key_values use_cache cache_position output_attentions output_hidden_states"
#define HFB_LLAMA_TIED "lm_head.weight=model.embed_tokens.weight"

/* Rows of the class tables. */
#define HFB_LLAMA_CAUSAL_ROW(name) \
  { name, hfb_llama_causal_lm, HFB_LLAMA_INPUTS, HFB_LLAMA_REFUSED, HFB_LLAMA_TIED, "*.rotary_emb.inv_freq score.*" }
#define HFB_LLAMA_CLASSIFICATION_ROW(name)                                            \
  {                                                                                   \
    name, hfb_llama_sequence_classification, HFB_LLAMA_INPUTS, HFB_LLAMA_REFUSED, "", \
        "*.rotary_emb.inv_freq lm_head.weight"                                        \
  }

#endif
