/* The decoder of TrOCR (Li et al., 2021). Its checkpoints come with learned positions or with sinusoids, with and
 * without a norm of embeddings. */
#include "models/bart_model.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "50265", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"d_model", HFB_FIELD_SIZE, "1024", NULL},
    {"decoder_layers", HFB_FIELD_COUNT, "12", NULL},
    {"decoder_attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"decoder_ffn_dim", HFB_FIELD_SIZE, "4096", NULL},
    {"decoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"scale_embedding", HFB_FIELD_BOOL, "false", NULL},
    {"use_learned_position_embeddings", HFB_FIELD_BOOL, "true", NULL},
    {"layernorm_embedding", HFB_FIELD_BOOL, "true", NULL},
    {"cross_attention_hidden_size", HFB_FIELD_SIZE, "null", "null"}, /* null: d_model */
    {"pad_token_id", HFB_FIELD_ID, "1", NULL},
    {"bos_token_id", HFB_FIELD_ID, "0", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
    HFB_BART_COMMON_FIELDS,
};

static const hfb_bart_traits traits = {.norm_first = true,
                                       .embedding_norm = HFB_BART_EMBEDDING_NORM,
                                       .norm_field = "layernorm_embedding",
                                       .positions = HFB_BART_PADDING_SINUSOID,
                                       .learned_field = "use_learned_position_embeddings",
                                       .position_offset = 2,
                                       .head = "output_projection"};

#define TIED    "output_projection.weight=model.decoder.embed_tokens.weight"
#define IGNORED "*.embed_positions._float_tensor *.embed_positions.weights"

static const hfb_class_row classes[] = {
    {"TrOCRForCausalLM", hfb_bart_causal_lm, HFB_BART_CAUSAL_INPUTS, HFB_REFUSED_CAUSAL, TIED, IGNORED},
};

HFB_FAMILY_WITH(trocr, "trocr", "model", fields, classes, .traits = &traits);
