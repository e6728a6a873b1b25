/* LLaMA (Touvron et al., 2023), with what its checkpoints vary: shared keys, stretched rotary positions, biases. */
#include "models/llama_layers.h"

#define ROPE_TYPES "default|linear|dynamic|llama3|null"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "32000", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "4096", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "11008", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "32", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "32", NULL},
    {"num_key_value_heads", HFB_FIELD_COUNT, "null", "null"}, /* null: as many as heads */
    {"head_dim", HFB_FIELD_SIZE, "null", "null"},
    {"hidden_act", HFB_FIELD_ACTIVATION, "silu", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "2048", NULL},
    {"rope_scaling.type", HFB_FIELD_TEXT, "null", ROPE_TYPES},
    {"rope_scaling.rope_type", HFB_FIELD_TEXT, "null", ROPE_TYPES},
    {"rope_scaling.factor", HFB_FIELD_POSITIVE, "1.0", NULL},
    {"rope_scaling.low_freq_factor", HFB_FIELD_POSITIVE, "1.0", NULL}, /* these of "llama3" */
    {"rope_scaling.high_freq_factor", HFB_FIELD_POSITIVE, "4.0", NULL},
    {"rope_scaling.original_max_position_embeddings", HFB_FIELD_SIZE, "8192", NULL},
    {"attention_bias", HFB_FIELD_BOOL, "false", NULL},
    {"mlp_bias", HFB_FIELD_BOOL, "false", "false"},
    {"pad_token_id", HFB_FIELD_ID, "null", NULL},
    HFB_LLAMA_COMMON_FIELDS,
};

static const hfb_llama_traits traits = {.bias_field = "attention_bias"};

static const hfb_class_row classes[] = {
    HFB_LLAMA_CAUSAL_ROW("LlamaForCausalLM"),
    HFB_LLAMA_CLASSIFICATION_ROW("LlamaForSequenceClassification"),
};

HFB_FAMILY_WITH(llama, "llama", "model", fields, classes, .defaults = "tie_word_embeddings=false", .traits = &traits);
