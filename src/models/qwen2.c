/* Qwen2 (Bai et al., 2023; Yang et al., 2024): LLaMA with biases of queries, keys and values. */
#include "models/llama_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "151936", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "4096", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "22016", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "32", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "32", NULL},
    {"num_key_value_heads", HFB_FIELD_COUNT, "32", "null"}, /* null: as many as heads */
    {"head_dim", HFB_FIELD_SIZE, "null", "null"},
    {"hidden_act", HFB_FIELD_ACTIVATION, "silu", NULL},
    {"use_sliding_window", HFB_FIELD_BOOL, "false", "false"}, /* without it sliding_window stands for nothing */
    {"pad_token_id", HFB_FIELD_ID, "null", NULL},
    HFB_LLAMA_COMMON_FIELDS,
};

static const hfb_llama_traits traits = {.qkv_bias = true};

static const hfb_class_row classes[] = {
    HFB_LLAMA_CAUSAL_ROW("Qwen2ForCausalLM"),
    HFB_LLAMA_CLASSIFICATION_ROW("Qwen2ForSequenceClassification"),
};

HFB_FAMILY_WITH(qwen2, "qwen2", "model", fields, classes, .defaults = "tie_word_embeddings=false", .traits = &traits);
