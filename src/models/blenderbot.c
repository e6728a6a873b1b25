/* Blenderbot (Roller et al., 2020) in its two forms: the large one has norms in front and bare embeddings, the small
 * one has BART's norms, of which the decoder's first sees the tokens only. */
#include "models/bart_model.h"

/* ---- blenderbot ---- */

static const hfb_field large_fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "8008", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "128", NULL},
    {"d_model", HFB_FIELD_SIZE, "2560", NULL},
    {"encoder_layers", HFB_FIELD_COUNT, "2", NULL},
    {"encoder_attention_heads", HFB_FIELD_COUNT, "32", NULL},
    {"encoder_ffn_dim", HFB_FIELD_SIZE, "10240", NULL},
    {"encoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"decoder_layers", HFB_FIELD_COUNT, "24", NULL},
    {"decoder_attention_heads", HFB_FIELD_COUNT, "32", NULL},
    {"decoder_ffn_dim", HFB_FIELD_SIZE, "10240", NULL},
    {"decoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"scale_embedding", HFB_FIELD_BOOL, "false", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
    {"bos_token_id", HFB_FIELD_ID, "1", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
    {"decoder_start_token_id", HFB_FIELD_ID, "1", NULL},
    HFB_BART_COMMON_FIELDS,
};

static const hfb_bart_traits large_traits = {.pre_norm = true};

static const hfb_class_row large_classes[] = {
    HFB_BART_CONDITIONAL_ROW("BlenderbotForConditionalGeneration"),
    HFB_BART_BARE_ROW("BlenderbotModel"),
    HFB_BART_CAUSAL_ROW("BlenderbotForCausalLM"),
};

HFB_FAMILY_WITH(blenderbot, "blenderbot", "model", large_fields, large_classes, .traits = &large_traits);

/* ---- blenderbot-small ---- */

static const hfb_field small_fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "50265", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"d_model", HFB_FIELD_SIZE, "512", NULL},
    {"encoder_layers", HFB_FIELD_COUNT, "8", NULL},
    {"encoder_attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"encoder_ffn_dim", HFB_FIELD_SIZE, "2048", NULL},
    {"encoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"decoder_layers", HFB_FIELD_COUNT, "8", NULL},
    {"decoder_attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"decoder_ffn_dim", HFB_FIELD_SIZE, "2048", NULL},
    {"decoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"scale_embedding", HFB_FIELD_BOOL, "false", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
    {"bos_token_id", HFB_FIELD_ID, "1", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
    {"decoder_start_token_id", HFB_FIELD_ID, "1", NULL},
    HFB_BART_COMMON_FIELDS,
};

static const hfb_bart_traits small_traits = {.embedding_norm = HFB_BART_EMBEDDING_TOKEN_NORM};

static const hfb_class_row small_classes[] = {
    HFB_BART_CONDITIONAL_ROW("BlenderbotSmallForConditionalGeneration"),
    HFB_BART_BARE_ROW("BlenderbotSmallModel"),
    HFB_BART_CAUSAL_ROW("BlenderbotSmallForCausalLM"),
};

HFB_FAMILY_WITH(blenderbot_small, "blenderbot-small", "model", small_fields, small_classes, .traits = &small_traits);
