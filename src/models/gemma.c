/* Gemma (Gemma Team, 2024): LLaMA with heads of their own width, norms around 1 and scaled embeddings. */
#include "models/llama_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "256000", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "3072", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "24576", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "28", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"num_key_value_heads", HFB_FIELD_COUNT, "16", NULL},
    {"head_dim", HFB_FIELD_SIZE, "256", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"hidden_activation", HFB_FIELD_TEXT, "null", "gelu|gelu_pytorch_tanh|null"}, /* goes before hidden_act */
    {"attention_bias", HFB_FIELD_BOOL, "false", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
    HFB_LLAMA_COMMON_FIELDS,
};

static const hfb_llama_traits traits = {
    .shifted_norms = true,
    .bias_field = "attention_bias",
    .activation_field = "hidden_activation",
};

static const hfb_class_row classes[] = {
    HFB_LLAMA_CAUSAL_ROW("GemmaForCausalLM"),
    HFB_LLAMA_CLASSIFICATION_ROW("GemmaForSequenceClassification"),
};

HFB_FAMILY_WITH(gemma, "gemma", "model", fields, classes, .traits = &traits);
