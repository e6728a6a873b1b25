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

static const hfb_llama_traits traits = {.window_field = "sliding_window"};

static const hfb_class_row classes[] = {
    HFB_LLAMA_CAUSAL_ROW("MistralForCausalLM"),
    HFB_LLAMA_CLASSIFICATION_ROW("MistralForSequenceClassification"),
};

HFB_FAMILY_WITH(mistral, "mistral", "model", fields, classes, .defaults = "tie_word_embeddings=false",
                .traits = &traits);
