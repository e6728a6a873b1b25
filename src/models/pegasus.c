/* PEGASUS (Zhang et al., 2019): norms in front, bare embeddings, frozen sinusoids. */
#include "models/bart_model.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "50265", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "1024", NULL},
    {"d_model", HFB_FIELD_SIZE, "1024", NULL},
    {"encoder_layers", HFB_FIELD_COUNT, "12", NULL},
    {"encoder_attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"encoder_ffn_dim", HFB_FIELD_SIZE, "4096", NULL},
    {"encoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"decoder_layers", HFB_FIELD_COUNT, "12", NULL},
    {"decoder_attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"decoder_ffn_dim", HFB_FIELD_SIZE, "4096", NULL},
    {"decoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"scale_embedding", HFB_FIELD_BOOL, "false", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
    {"eos_token_id", HFB_FIELD_ID, "1", NULL},
    {"decoder_start_token_id", HFB_FIELD_ID, "0", NULL},
    HFB_BART_COMMON_FIELDS,
};

static const hfb_bart_traits traits = {.pre_norm = true, .positions = HFB_BART_FROZEN_SINUSOID};

static const hfb_class_row classes[] = {
    HFB_BART_CONDITIONAL_ROW("PegasusForConditionalGeneration"),
    HFB_BART_BARE_ROW("PegasusModel"),
    HFB_BART_CAUSAL_ROW("PegasusForCausalLM"),
};

HFB_FAMILY_WITH(pegasus, "pegasus", "model", fields, classes, .traits = &traits);
