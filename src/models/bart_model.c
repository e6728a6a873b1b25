#include "models/bart_model.h"

#include <math.h>
#include <stdio.h>

/* One of the two stacks, under its scope. */
typedef struct stack {
  bool decoder;
  hfb_bart_positions positions;
  hfb_bart_embedding_norm embedding_norm;
  int64_t length;   /* tokens */
  hfb_value *words; /* the token table; NULL: one of the stack's own, made with the rest of it */
  hfb_bart_layers layers;
} stack;

/* ---- Positions ---- */

static const char *length_field(const hfb_call *call) {
  const hfb_bart_traits *traits = call->traits;
  return traits->length_field != NULL ? traits->length_field : "max_position_embeddings";
}

static hfb_value *frozen_table(hfb_nn *nn, const char *name, int64_t rows, int64_t width, hfb_init_kind kind,
                               int64_t pad) {
  hfb_init init = {.kind = kind, .padding_idx = pad, .frozen = true};
  return hfb_parameter(nn->b, name, hfb_shape_of(2, (int64_t[]){rows, width}), init);
}

/* Sinusoids of fairseq, row `pad` zero: as many rows as a sequence of `length` can ask for. */
static hfb_value *sinusoid_table(hfb_nn *nn, int64_t length, int64_t width, int64_t pad) {
  hfb_value *rows = hfb_iota(nn->b, HFB_I64, hfb_shape_of(1, (int64_t[]){pad + 1 + length}), 0);
  hfb_value *table = hfb_nn_fairseq_sinusoids(nn, rows, width);
  hfb_value *counts = hfb_binary(nn->b, HFB_OP_NE, rows, hfb_scalar(nn->b, HFB_I64, (double)pad));
  counts = hfb_reshape(nn->b, counts, 2, (int64_t[]){pad + 1 + length, 1});
  return hfb_where(nn->b, counts, table, hfb_scalar(nn->b, HFB_F32, 0));
}

/* The same table as a frozen parameter. */
static hfb_value *stored_sinusoid_table(hfb_nn *nn, const hfb_call *call, int64_t length, int64_t width, int64_t pad) {
  const hfb_bart_traits *traits = call->traits;
  const char *field = length_field(call);
  int64_t limit = hfb_call_int(call, field), rows = limit + traits->position_offset;
  if (pad + length >= rows) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "the input has %lld tokens behind padding id %lld, but %s is %lld; use a shorter sequence",
                     (long long)length, (long long)pad, field, (long long)limit);
  }
  if (width < 4 || width % 2 != 0) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "d_model is %lld; stored sinusoids need an even one of at least 4",
                     (long long)width);
  }
  return frozen_table(nn, "embed_positions.weights", rows, width, HFB_INIT_SINUSOID_FAIRSEQ, pad);
}

/* Positions of fairseq: they start behind the padding id and pass over padding. [B,S,D] */
static hfb_value *padding_positions(hfb_nn *nn, const hfb_call *call, const stack *s, hfb_value *ids) {
  int64_t width = s->layers.width, pad = hfb_call_int(call, "pad_token_id");
  if (pad < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "pad_token_id must not be null: positions are counted from it");
    return NULL;
  }
  hfb_value *table = s->positions == HFB_BART_PADDING_SINUSOID ? sinusoid_table(nn, s->length, width, pad)
                                                               : stored_sinusoid_table(nn, call, s->length, width, pad);
  return hfb_gather(nn->b, table, hfb_nn_padding_aware_positions(nn, ids, pad), 0);
}

/* [1,S,D] or [B,S,D] */
static hfb_value *position_embedding(hfb_nn *nn, const hfb_call *call, const stack *s, hfb_value *ids) {
  if (s->positions == HFB_BART_PADDING_SINUSOID || s->positions == HFB_BART_STORED_PADDING_SINUSOID) {
    return padding_positions(nn, call, s, ids);
  }
  const hfb_bart_traits *traits = call->traits;
  const char *field = length_field(call);
  int64_t rows = hfb_call_int(call, field), offset = traits->position_offset, width = s->layers.width;
  hfb_call_check_length(nn, call, s->decoder ? "the decoder input" : "the input", s->length, field);
  hfb_value *positions = hfb_nn_positions(nn, s->length, offset);
  if (s->positions == HFB_BART_LEARNED) {
    return hfb_nn_embedding(nn, "embed_positions", positions, rows + offset, width, -1);
  }
  hfb_value *table = frozen_table(nn, "embed_positions.weight", rows, width, HFB_INIT_SINUSOID_HALVES, -1);
  return hfb_embedding(nn->b, table, positions, -1);
}

/* ---- Stacks ---- */

/* Mentions the norm of embeddings in its place; x NULL: that is all. */
static hfb_value *embedding_norm(hfb_nn *nn, const stack *s, hfb_value *x) {
  if (x != NULL) return hfb_nn_layer_norm(nn, "layernorm_embedding", x, HFB_BART_NORM_EPS);
  hfb_nn_layer_norm_declare(nn, "layernorm_embedding", s->layers.width);
  return NULL;
}

/* Token and position embeddings with their norm and dropout; registers all the layers on the way. */
static hfb_value *embed(hfb_nn *nn, const hfb_call *call, stack *s, hfb_value *ids) {
  const hfb_bart_traits *traits = call->traits;
  int64_t width = s->layers.width, pad = hfb_call_int(call, "pad_token_id");
  if (s->words == NULL) {
    s->words = hfb_nn_embedding_weight(nn, "embed_tokens", hfb_call_int(call, "vocab_size"), width, pad);
  }
  hfb_value *x = hfb_embedding(nn->b, s->words, ids, pad);
  if (hfb_call_bool(call, "scale_embedding")) x = hfb_mul_scalar(nn->b, x, sqrt((double)width));
  hfb_value *positions = position_embedding(nn, call, s, ids);
  if (traits->norm_first && s->embedding_norm != HFB_BART_EMBEDDING_BARE) embedding_norm(nn, s, NULL);
  hfb_bart_layers_declare(nn, &s->layers);
  bool of_tokens = s->embedding_norm == HFB_BART_EMBEDDING_TOKEN_NORM && s->decoder;
  if (of_tokens) x = embedding_norm(nn, s, x);
  x = hfb_add(nn->b, x, positions);
  if (s->embedding_norm != HFB_BART_EMBEDDING_BARE && !of_tokens) x = embedding_norm(nn, s, x);
  return hfb_nn_dropout(nn, x, s->layers.dropout);
}

/* The encoder or the decoder. */
static hfb_value *run_stack(hfb_nn *nn, const hfb_call *call, stack *s, hfb_value *ids) {
  hfb_scope_push(nn->b, s->decoder ? "decoder" : "encoder");
  hfb_value *x = hfb_bart_layers_run(nn, &s->layers, embed(nn, call, s, ids));
  if (s->layers.pre_norm) x = hfb_nn_layer_norm(nn, "layer_norm", x, HFB_BART_NORM_EPS);
  hfb_scope_pop(nn->b);
  return x;
}

/* What the stacks have in common. */
static stack stack_of(const hfb_call *call, bool decoder, int64_t length) {
  const hfb_bart_traits *traits = call->traits;
  bool learned = traits->learned_field != NULL && hfb_call_bool(call, traits->learned_field);
  bool normed = traits->norm_field == NULL || hfb_call_bool(call, traits->norm_field);
  return (stack){.decoder = decoder,
                 .positions = learned ? HFB_BART_LEARNED : traits->positions,
                 .embedding_norm = normed ? traits->embedding_norm : HFB_BART_EMBEDDING_BARE,
                 .length = length,
                 .layers = {.width = hfb_call_int(call, "d_model"),
                            .pre_norm = traits->pre_norm,
                            .activation = hfb_call_text(call, "activation_function"),
                            .dropout = hfb_call_float(call, "dropout"),
                            .attention_dropout = hfb_call_float(call, "attention_dropout"),
                            .activation_dropout = hfb_call_float(call, "activation_dropout")}};
}

static stack encoder_of(hfb_nn *nn, const hfb_call *call) {
  hfb_call_check_heads(nn, call, "d_model", "encoder_attention_heads");
  stack s = stack_of(call, false, call->length);
  s.layers.count = hfb_call_int(call, "encoder_layers");
  s.layers.heads = hfb_call_int(call, "encoder_attention_heads");
  s.layers.ffn = hfb_call_int(call, "encoder_ffn_dim");
  s.layers.layer_drop = hfb_call_float(call, "encoder_layerdrop");
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  if (mask != NULL) s.layers.self_bias = hfb_nn_padding_bias(nn, mask);
  return s;
}

/* cached: values of the cache for each layer. */
static stack decoder_of(hfb_nn *nn, const hfb_call *call, int64_t length, const char *mask_name, int cached) {
  hfb_call_check_heads(nn, call, "d_model", "decoder_attention_heads");
  stack s = stack_of(call, true, length);
  int64_t memory_width = -1;
  if (hfb_config_has(call->config, "cross_attention_hidden_size")) {
    memory_width = hfb_call_int(call, "cross_attention_hidden_size");
  }
  s.layers.memory_width = memory_width < 0 ? s.layers.width : memory_width;
  s.layers.count = hfb_call_int(call, "decoder_layers");
  s.layers.heads = hfb_call_int(call, "decoder_attention_heads");
  s.layers.ffn = hfb_call_int(call, "decoder_ffn_dim");
  s.layers.layer_drop = hfb_call_float(call, "decoder_layerdrop");
  s.layers.self_bias = hfb_bart_causal_bias(nn, call, mask_name, length);
  s.layers.cache = hfb_call_values(nn, cached * s.layers.count);
  return s;
}

/* ---- Decoder inputs ---- */

/* shift_tokens_right of mBART: the last id that is not padding goes to the front, found by how many there are. */
static hfb_value *rotate_right(hfb_nn *nn, hfb_value *ids, int64_t pad) {
  hfb_builder *b = nn->b;
  if (ids == NULL) return NULL;
  hfb_value *padding = hfb_scalar(b, HFB_I64, (double)pad);
  hfb_value *ignored = hfb_binary(b, HFB_OP_EQ, ids, hfb_scalar(b, HFB_I64, -100));
  ids = hfb_where(b, ignored, padding, ids);
  hfb_value *real = hfb_cast(b, hfb_binary(b, HFB_OP_NE, ids, padding), HFB_I64);
  hfb_value *last = hfb_add_scalar(b, hfb_reduce(b, HFB_OP_REDUCE_SUM, real, 1, (int[]){1}, true), -1);
  hfb_value *first = hfb_take_along(b, ids, last, 1);
  hfb_value *rest = ids == NULL ? NULL : hfb_slice(b, ids, 1, 0, ids->shape.dim[1] - 1);
  return hfb_concat(b, 2, (hfb_value *[]){first, rest}, 1);
}

/* decoder_input_ids, or what the class makes of labels or input_ids. */
static hfb_value *decoder_ids(hfb_nn *nn, const hfb_call *call, bool has_loss) {
  const hfb_bart_traits *traits = call->traits;
  if (hfb_call_arg(call, "decoder_input_ids") != NULL) return hfb_call_rows(nn, call, "decoder_input_ids");
  bool has_labels = hfb_call_arg(call, "labels") != NULL;
  if (!has_labels && !traits->decodes_input) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%s needs decoder_input_ids%s", call->request->class_name,
                     has_loss ? " or labels" : "");
    return NULL;
  }
  bool rotates = traits->shift == HFB_BART_SHIFT_ROTATE;
  int64_t start = rotates ? 0 : hfb_call_int(call, "decoder_start_token_id");
  int64_t pad = hfb_call_int(call, "pad_token_id");
  if (start < 0 || pad < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%spad_token_id must be set to make decoder inputs from labels",
                     rotates ? "" : "decoder_start_token_id and ");
    return NULL;
  }
  hfb_value *from = hfb_call_rows(nn, call, has_labels ? "labels" : "input_ids");
  return rotates ? rotate_right(nn, from, pad) : hfb_nn_shift_right(nn, from, start, pad);
}

/* ---- Classes ---- */

/* What every class begins with. Marian's make all tables of vocab_size rows; with another decoder_vocab_size they stop
 * at the loss. */
static void begin(hfb_nn *nn, const hfb_call *call) {
  nn->init_std = hfb_call_float(call, "init_std");
  if (!hfb_config_has(call->config, "decoder_vocab_size")) return;
  int64_t vocab = hfb_call_int(call, "vocab_size"), decoder_vocab = hfb_call_int(call, "decoder_vocab_size");
  if (decoder_vocab < 0 || decoder_vocab == vocab) return;
  hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "decoder_vocab_size %lld other than vocab_size %lld is not implemented",
                   (long long)decoder_vocab, (long long)vocab);
}

/* Encoder and decoder. *out_decoder for the head and the cache, *out_memory the encoder's output. */
static hfb_value *encode_decode(hfb_nn *nn, const hfb_call *call, bool has_loss, stack *out_decoder,
                                hfb_value **out_memory) {
  hfb_value *ids = decoder_ids(nn, call, has_loss);
  if (ids == NULL) return NULL;
  bool split = hfb_config_has(call->config, "share_encoder_decoder_embeddings") &&
               !hfb_call_bool(call, "share_encoder_decoder_embeddings");
  hfb_value *shared = NULL;
  if (!split) {
    shared = hfb_nn_embedding_weight(nn, "shared", hfb_call_int(call, "vocab_size"), hfb_call_int(call, "d_model"),
                                     hfb_call_int(call, "pad_token_id"));
  }
  stack encoder = encoder_of(nn, call);
  encoder.words = shared;
  hfb_value *memory = run_stack(nn, call, &encoder, hfb_call_arg(call, "input_ids"));
  stack decoder = decoder_of(nn, call, ids->shape.dim[1], "decoder_attention_mask", 4);
  if (decoder.layers.cache == NULL) return NULL;
  decoder.words = shared;
  decoder.layers.memory = memory;
  decoder.layers.memory_bias = encoder.layers.self_bias;
  hfb_value *x = run_stack(nn, call, &decoder, ids);
  *out_decoder = decoder;
  *out_memory = memory;
  return x;
}

void hfb_bart_conditional_generation(hfb_nn *nn, const hfb_call *call) {
  const hfb_bart_traits *traits = call->traits;
  hfb_builder *b = nn->b;
  stack decoder;
  hfb_value *memory = NULL;
  begin(nn, call);
  hfb_scope_push(b, "model");
  hfb_value *x = encode_decode(nn, call, true, &decoder, &memory);
  hfb_scope_pop(b);
  if (x == NULL) return;
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", decoder.words);
  hfb_value *logits = hfb_linear_op(b, x, weight, NULL, true);
  if (!traits->no_logits_bias) {
    hfb_init zeros = hfb_init_constant(0);
    zeros.buffer = true;
    int64_t dims[] = {1, hfb_call_int(call, "vocab_size")};
    logits = hfb_add(b, logits, hfb_parameter(b, "final_logits_bias", hfb_shape_of(2, dims), zeros));
  }
  hfb_head_token_logits(nn, call, logits, false);
  bool cached = traits->cache_and_labels || hfb_call_arg(call, "labels") == NULL;
  if (cached && hfb_call_bool(call, "use_cache")) hfb_bart_layers_output_cache(nn, &decoder.layers);
  hfb_output_add(b, "encoder_last_hidden_state", memory);
}

void hfb_bart_bare_model(hfb_nn *nn, const hfb_call *call) {
  stack decoder;
  begin(nn, call);
  hfb_value *memory = NULL, *x = encode_decode(nn, call, false, &decoder, &memory);
  if (x == NULL) return;
  hfb_output_add(nn->b, "last_hidden_state", x);
  if (hfb_call_bool(call, "use_cache")) hfb_bart_layers_output_cache(nn, &decoder.layers);
  hfb_output_add(nn->b, "encoder_last_hidden_state", memory);
}

void hfb_bart_causal_lm(hfb_nn *nn, const hfb_call *call) {
  const hfb_bart_traits *traits = call->traits;
  begin(nn, call);
  stack decoder = decoder_of(nn, call, call->length, "attention_mask", 2);
  if (decoder.layers.cache == NULL) return;
  hfb_scope_push(nn->b, "model");
  hfb_value *x = run_stack(nn, call, &decoder, hfb_call_arg(call, "input_ids"));
  hfb_scope_pop(nn->b);
  char head[64];
  snprintf(head, sizeof head, "%s.weight", traits->head != NULL ? traits->head : "lm_head");
  hfb_value *weight = hfb_head_output_weight(nn, call, head, decoder.words);
  hfb_head_token_logits(nn, call, hfb_linear_op(nn->b, x, weight, NULL, true), false);
  if (hfb_call_bool(call, "use_cache")) hfb_bart_layers_output_cache(nn, &decoder.layers);
}
