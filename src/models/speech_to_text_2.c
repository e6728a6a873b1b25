/* The decoder of Speech2Text2 (Wang et al., 2021): bare, scaled embeddings and a frozen table of sinusoids that pass
 * over padding. */
#include "models/bart_model.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "10000", NULL},
    {"max_target_positions", HFB_FIELD_SIZE, "1024", NULL},
    {"d_model", HFB_FIELD_SIZE, "256", NULL},
    {"decoder_layers", HFB_FIELD_COUNT, "6", NULL},
    {"decoder_attention_heads", HFB_FIELD_COUNT, "4", NULL},
    {"decoder_ffn_dim", HFB_FIELD_SIZE, "2048", NULL},
    {"decoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "relu", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"scale_embedding", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "1", NULL},
    {"bos_token_id", HFB_FIELD_ID, "0", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
    HFB_BART_COMMON_FIELDS,
};

static const hfb_bart_traits traits = {
    .positions = HFB_BART_STORED_PADDING_SINUSOID, .position_offset = 2, .length_field = "max_target_positions"};

static const hfb_class_row classes[] = {
    {"Speech2Text2ForCausalLM", hfb_bart_causal_lm, HFB_BART_CAUSAL_INPUTS, HFB_REFUSED_CAUSAL,
     "lm_head.weight=model.decoder.embed_tokens.weight", ""},
};

HFB_FAMILY_WITH(speech_to_text_2, "speech_to_text_2", "model", fields, classes, .traits = &traits);
