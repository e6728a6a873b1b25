/* The decoder of LLaMA and its relatives: rotary positions, RMS norms in front, grouped queries, gated feed-forwards.
 * A family file gives its configuration fields and its traits. Internal to models/. */
#ifndef HFB_MODELS_LLAMA_LAYERS_H
#define HFB_MODELS_LLAMA_LAYERS_H

#include "models/family.h"

typedef struct hfb_llama_traits {
  bool qkv_bias, out_bias;
  bool shifted_norms; /* norms multiply by 1 + weight, embeddings by sqrt(hidden_size) */
  int64_t window;     /* tokens that a query sees, itself the last; -1: all before it */
  const char *activation;
} hfb_llama_traits;

/* ..ForCausalLM */
void hfb_llama_causal_lm(hfb_nn *nn, const hfb_call *call, const hfb_llama_traits *traits);
/* ..ForSequenceClassification */
void hfb_llama_sequence_classification(hfb_nn *nn, const hfb_call *call, const hfb_llama_traits *traits);

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
#define HFB_LLAMA_CAUSAL_ROW(name, build) \
  { name, build, HFB_LLAMA_INPUTS, HFB_LLAMA_REFUSED, HFB_LLAMA_TIED, "*.rotary_emb.inv_freq score.*" }
#define HFB_LLAMA_CLASSIFICATION_ROW(name, build) \
  { name, build, HFB_LLAMA_INPUTS, HFB_LLAMA_REFUSED, "", "*.rotary_emb.inv_freq lm_head.weight" }

#endif
