/* Mistral (Jiang et al., 2023): LLaMA whose tokens see a window of those before them. */
#include "models/llama_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "32000", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "4096", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "14336", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "32", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "32", NULL},
    {"num_key_value_heads", HFB_FIELD_COUNT, "8", "null"}, /* null: as many as heads */
    {"head_dim", HFB_FIELD_SIZE, "null", "null"},
    {"hidden_act", HFB_FIELD_ACTIVATION, "silu", NULL},
    {"sliding_window", HFB_FIELD_SIZE, "4096", "null"}, /* null: all tokens */
    {"pad_token_id", HFB_FIELD_ID, "null", NULL},
    HFB_LLAMA_COMMON_FIELDS,
};

static hfb_llama_traits traits(const hfb_call *call) {
  return (hfb_llama_traits){.window = hfb_call_int(call, "sliding_window"),
                            .activation = hfb_call_text(call, "hidden_act")};
}

static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_llama_traits own = traits(call);
  hfb_llama_causal_lm(nn, call, &own);
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_llama_traits own = traits(call);
  hfb_llama_sequence_classification(nn, call, &own);
}

static const hfb_class_row classes[] = {
    HFB_LLAMA_CAUSAL_ROW("MistralForCausalLM", causal_lm),
    HFB_LLAMA_CLASSIFICATION_ROW("MistralForSequenceClassification", sequence_classification),
};

HFB_FAMILY_WITH_DEFAULTS(mistral, "mistral", "model", "tie_word_embeddings=false", fields, classes);
