/* M2M-100 (Fan et al., 2020): norms in front, scaled embeddings, sinusoids that pass over padding. */
#include "models/bart_model.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "128112", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "1024", NULL},
    {"d_model", HFB_FIELD_SIZE, "1024", NULL},
    {"encoder_layers", HFB_FIELD_COUNT, "12", NULL},
    {"encoder_attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"encoder_ffn_dim", HFB_FIELD_SIZE, "4096", NULL},
    {"encoder_layerdrop", HFB_FIELD_PROBABILITY, "0.05", NULL},
    {"decoder_layers", HFB_FIELD_COUNT, "12", NULL},
    {"decoder_attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"decoder_ffn_dim", HFB_FIELD_SIZE, "4096", NULL},
    {"decoder_layerdrop", HFB_FIELD_PROBABILITY, "0.05", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "relu", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"scale_embedding", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "1", NULL},
    {"bos_token_id", HFB_FIELD_ID, "0", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
    {"decoder_start_token_id", HFB_FIELD_ID, "2", NULL},
    HFB_BART_COMMON_FIELDS,
};

/* max_position_embeddings is only the size that the class starts its table with. */
static const hfb_bart_traits traits = {
    .pre_norm = true, .positions = HFB_BART_PADDING_SINUSOID, .cache_and_labels = true, .no_logits_bias = true};

static const hfb_class_row classes[] = {
    {"M2M100ForConditionalGeneration", hfb_bart_conditional_generation, HFB_BART_INPUTS, HFB_REFUSED_SEQ2SEQ,
     HFB_BART_TIED, "*.embed_positions.weights"},
};

HFB_FAMILY_WITH(m2m100, "m2m_100", "model", fields, classes, .traits = &traits);
