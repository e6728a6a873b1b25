/* Marian (Junczys-Dowmunt et al., 2018) as the OPUS-MT models use it: bare embeddings, frozen sinusoids. */
#include "models/bart_model.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "58101", NULL},
    {"decoder_vocab_size", HFB_FIELD_SIZE, "null", "null"}, /* null: vocab_size, and no other */
    {"share_encoder_decoder_embeddings", HFB_FIELD_BOOL, "true", NULL},
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
    {"pad_token_id", HFB_FIELD_ID, "58100", NULL},
    {"eos_token_id", HFB_FIELD_ID, "0", NULL},
    {"decoder_start_token_id", HFB_FIELD_ID, "58100", NULL},
    HFB_BART_COMMON_FIELDS,
};

static const hfb_bart_traits traits = {.positions = HFB_BART_FROZEN_SINUSOID};

/* With share_encoder_decoder_embeddings false the head is tied to the decoder's own table. */
#define TIED HFB_BART_TIED " lm_head.weight=model.decoder.embed_tokens.weight"

static const hfb_class_row classes[] = {
    {"MarianMTModel", hfb_bart_conditional_generation, HFB_BART_INPUTS, HFB_REFUSED_SEQ2SEQ, TIED, HFB_BART_IGNORED},
    HFB_BART_BARE_ROW("MarianModel"),
    HFB_BART_CAUSAL_ROW("MarianForCausalLM"),
};

HFB_FAMILY_WITH(marian, "marian", "model", fields, classes, .traits = &traits);
