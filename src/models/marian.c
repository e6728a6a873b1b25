/* Marian (Junczys-Dowmunt et al., 2018) as the OPUS-MT models use it: bare embeddings, frozen sinusoids. */
#include "models/bart_model.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "58101", NULL},
    {"decoder_vocab_size", HFB_FIELD_SIZE, "null", "null"}, /* null: vocab_size */
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

/* The classes make all tables of vocab_size rows; with another decoder_vocab_size they stop at the loss. */
static bool vocabularies_agree(hfb_nn *nn, const hfb_call *call) {
  int64_t vocab = hfb_call_int(call, "vocab_size"), decoder_vocab = hfb_call_int(call, "decoder_vocab_size");
  if (decoder_vocab < 0 || decoder_vocab == vocab) return true;
  hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "decoder_vocab_size %lld other than vocab_size %lld is not implemented",
                   (long long)decoder_vocab, (long long)vocab);
  return false;
}

static void translation(hfb_nn *nn, const hfb_call *call) {
  if (vocabularies_agree(nn, call)) hfb_bart_conditional_generation(nn, call, &traits);
}

static void bare_model(hfb_nn *nn, const hfb_call *call) {
  if (vocabularies_agree(nn, call)) hfb_bart_bare_model(nn, call, &traits);
}

static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  if (vocabularies_agree(nn, call)) hfb_bart_causal_lm(nn, call, &traits);
}

/* With share_encoder_decoder_embeddings false the head is tied to the decoder's own table. */
#define TIED HFB_BART_TIED " lm_head.weight=model.decoder.embed_tokens.weight"

static const hfb_class_row classes[] = {
    {"MarianMTModel", translation, HFB_BART_INPUTS, HFB_REFUSED_SEQ2SEQ, TIED, HFB_BART_IGNORED},
    HFB_BART_BARE_ROW("MarianModel", bare_model),
    HFB_BART_CAUSAL_ROW("MarianForCausalLM", causal_lm),
};

HFB_FAMILY(marian, "marian", "model", fields, classes);
