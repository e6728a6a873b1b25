/* BART (Lewis et al., 2019). */
#include <math.h>

#include "models/family.h"

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
    {"dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"activation_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"init_std", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"scale_embedding", HFB_FIELD_BOOL, "false", NULL},
    {"use_cache", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "1", NULL},
    {"bos_token_id", HFB_FIELD_ID, "0", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
    {"decoder_start_token_id", HFB_FIELD_ID, "2", NULL},
};

#define LAYER_NORM_EPS  1e-5 /* PyTorch's default; not in the configuration */
#define POSITION_OFFSET 2    /* rows of the position table that stay unused, as in fairseq */

/* One of the two stacks. */
typedef struct stack {
  bool decoder, has_cross; /* has_cross: cross-attention runs; a decoder owns its weights anyway */
  int64_t layers, heads, ffn, length;
  double layerdrop;
  hfb_value *self_bias;            /* additive mask, NULL: none */
  hfb_value *memory, *memory_bias; /* cross-attention: the encoder's output and its additive mask */
  hfb_value **cache;               /* 2 values for each layer, 4 with cross-attention; NULL in the encoder */
} stack;

/* ---- Registration ---- */

static void attention_declare(hfb_nn *nn, const char *name, int64_t width) {
  static const char *const projections[] = {"k_proj", "v_proj", "q_proj", "out_proj"};
  hfb_scope_push(nn->b, "%s", name);
  for (int i = 0; i < 4; i++) hfb_nn_linear_declare(nn, projections[i], width, width, true);
  hfb_scope_pop(nn->b);
}

/* Embedding norms are registered behind the layers, so the layers are declared before anything runs. */
static void layers_declare(hfb_nn *nn, const hfb_call *call, const stack *s) {
  int64_t width = hfb_call_int(call, "d_model");
  for (int64_t i = 0; i < s->layers; i++) {
    hfb_scope_push(nn->b, "layers.%d", (int)i);
    attention_declare(nn, "self_attn", width);
    hfb_nn_layer_norm_declare(nn, "self_attn_layer_norm", width);
    if (s->decoder) {
      attention_declare(nn, "encoder_attn", width);
      hfb_nn_layer_norm_declare(nn, "encoder_attn_layer_norm", width);
    }
    hfb_nn_linear_declare(nn, "fc1", width, s->ffn, true);
    hfb_nn_linear_declare(nn, "fc2", s->ffn, width, true);
    hfb_nn_layer_norm_declare(nn, "final_layer_norm", width);
    hfb_scope_pop(nn->b);
  }
}

/* ---- Layers ---- */

/* BartAttention: the query is scaled behind its bias. cache, when not NULL, takes key and value. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, const stack *s, const char *name, hfb_value *x,
                            hfb_value *source, hfb_value *bias, hfb_value **cache) {
  int64_t width = hfb_call_int(call, "d_model");
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *q = hfb_nn_linear(nn, "q_proj", x, width, true);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "k_proj", source, width, true), s->heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "v_proj", source, width, true), s->heads);
  if (cache != NULL) {
    cache[0] = k;
    cache[1] = v;
  }
  hfb_nn_attention how = {.query_scale = 1 / sqrt((double)(width / s->heads)),
                          .score_scale = 1,
                          .bias = bias,
                          .dropout = hfb_call_float(call, "attention_dropout")};
  hfb_value *context = hfb_nn_attend(nn, &how, hfb_nn_split_heads(nn, q, s->heads), k, v);
  hfb_value *out = hfb_nn_linear(nn, "out_proj", hfb_nn_merge_heads(nn, context), width, true);
  hfb_scope_pop(nn->b);
  return out;
}

/* LayerNorm(x + dropout(update)): the layers are post-norm. */
static hfb_value *residual(hfb_nn *nn, const hfb_call *call, const char *norm, hfb_value *x, hfb_value *update) {
  hfb_value *sum = hfb_add(nn->b, x, hfb_nn_dropout(nn, update, hfb_call_float(call, "dropout")));
  return hfb_nn_layer_norm(nn, norm, sum, LAYER_NORM_EPS);
}

static hfb_value *layer(hfb_nn *nn, const hfb_call *call, const stack *s, hfb_value *x, hfb_value **cache) {
  hfb_value *attended = attention(nn, call, s, "self_attn", x, x, s->self_bias, cache);
  x = residual(nn, call, "self_attn_layer_norm", x, attended);
  if (s->has_cross) {
    attended = attention(nn, call, s, "encoder_attn", x, s->memory, s->memory_bias, cache + 2);
    x = residual(nn, call, "encoder_attn_layer_norm", x, attended);
  }
  hfb_value *inner = hfb_nn_linear(nn, "fc1", x, s->ffn, true);
  inner = hfb_nn_activation(nn, hfb_call_text(call, "activation_function"), inner);
  inner = hfb_nn_dropout(nn, inner, hfb_call_float(call, "activation_dropout"));
  return residual(nn, call, "final_layer_norm", x,
                  hfb_nn_linear(nn, "fc2", inner, hfb_call_int(call, "d_model"), true));
}

/* BartEncoder or BartDecoder under its scope; `words` is the token table. */
static hfb_value *run_stack(hfb_nn *nn, const hfb_call *call, const stack *s, hfb_value *words, hfb_value *ids) {
  int64_t width = hfb_call_int(call, "d_model"), positions = hfb_call_int(call, "max_position_embeddings");
  hfb_call_check_length(nn, call, s->decoder ? "the decoder input" : "the input", s->length, "max_position_embeddings");
  if (nn->training && s->layerdrop > 0) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "layer drop of %g in training is not implemented; set %s to 0",
                     s->layerdrop, s->decoder ? "decoder_layerdrop" : "encoder_layerdrop");
  }
  hfb_value *x = hfb_embedding(nn->b, words, ids, hfb_call_int(call, "pad_token_id"));
  if (hfb_call_bool(call, "scale_embedding")) x = hfb_mul_scalar(nn->b, x, sqrt((double)width));
  hfb_value *position = hfb_nn_embedding(nn, "embed_positions", hfb_nn_positions(nn, s->length, POSITION_OFFSET),
                                         positions + POSITION_OFFSET, width, -1);
  layers_declare(nn, call, s);
  x = hfb_nn_layer_norm(nn, "layernorm_embedding", hfb_add(nn->b, x, position), LAYER_NORM_EPS);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "dropout"));
  for (int64_t i = 0; i < s->layers; i++) {
    hfb_scope_push(nn->b, "layers.%d", (int)i);
    x = layer(nn, call, s, x, s->cache == NULL ? NULL : s->cache + i * (s->has_cross ? 4 : 2));
    hfb_scope_pop(nn->b);
  }
  return x;
}

/* ---- Masks and inputs ---- */

static hfb_value *padding_bias(hfb_nn *nn, const hfb_call *call) {
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  return mask == NULL ? NULL : hfb_nn_padding_bias(nn, mask);
}

/* The lowest score where a key is later than the query or padding: additive, [T,T] or [B,1,T,T]. */
static hfb_value *causal_bias(hfb_nn *nn, const hfb_call *call, const char *mask_name, int64_t length) {
  hfb_value *keep = hfb_nn_causal_keep(nn, length);
  hfb_value *padding = hfb_call_ids(nn, call, mask_name, call->batch, length);
  if (padding != NULL) keep = hfb_binary(nn->b, HFB_OP_AND, keep, hfb_nn_padding_keep(nn, padding));
  return hfb_nn_keep_bias(nn, keep);
}

static stack decoder_stack(const hfb_call *call, int64_t length) {
  return (stack){.decoder = true,
                 .layers = hfb_call_int(call, "decoder_layers"),
                 .heads = hfb_call_int(call, "decoder_attention_heads"),
                 .ffn = hfb_call_int(call, "decoder_ffn_dim"),
                 .layerdrop = hfb_call_float(call, "decoder_layerdrop"),
                 .length = length};
}

/* decoder_input_ids, or labels (input_ids when there are none) moved one to the right. */
static hfb_value *decoder_ids(hfb_nn *nn, const hfb_call *call) {
  if (hfb_call_arg(call, "decoder_input_ids") != NULL) return hfb_call_rows(nn, call, "decoder_input_ids");
  int64_t start = hfb_call_int(call, "decoder_start_token_id"), pad = hfb_call_int(call, "pad_token_id");
  if (start < 0 || pad < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "decoder_start_token_id and pad_token_id must be set to make decoder inputs from labels");
    return NULL;
  }
  hfb_value *from = hfb_call_rows(nn, call, hfb_call_arg(call, "labels") != NULL ? "labels" : "input_ids");
  return hfb_nn_shift_right(nn, from, start, pad);
}

/* ---- Classes ---- */

static void conditional_generation(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  int64_t width = hfb_call_int(call, "d_model"), vocab = hfb_call_int(call, "vocab_size");
  nn->init_std = hfb_call_float(call, "init_std");
  hfb_call_check_heads(nn, call, "d_model", "encoder_attention_heads");
  hfb_call_check_heads(nn, call, "d_model", "decoder_attention_heads");
  hfb_value *ids = decoder_ids(nn, call);
  if (ids == NULL) return;

  hfb_scope_push(b, "model");
  hfb_value *shared = hfb_nn_embedding_weight(nn, "shared", vocab, width, hfb_call_int(call, "pad_token_id"));
  stack encoder = {.layers = hfb_call_int(call, "encoder_layers"),
                   .heads = hfb_call_int(call, "encoder_attention_heads"),
                   .ffn = hfb_call_int(call, "encoder_ffn_dim"),
                   .layerdrop = hfb_call_float(call, "encoder_layerdrop"),
                   .length = call->length,
                   .self_bias = padding_bias(nn, call)};
  hfb_scope_push(b, "encoder");
  hfb_value *memory = run_stack(nn, call, &encoder, shared, hfb_call_arg(call, "input_ids"));
  hfb_scope_pop(b);

  stack decoder = decoder_stack(call, ids->shape.dim[1]);
  decoder.has_cross = true;
  decoder.self_bias = causal_bias(nn, call, "decoder_attention_mask", decoder.length);
  decoder.memory = memory;
  decoder.memory_bias = encoder.self_bias;
  decoder.cache = hfb_call_values(nn, 4 * decoder.layers);
  if (decoder.cache == NULL) return;
  hfb_scope_push(b, "decoder");
  hfb_value *x = run_stack(nn, call, &decoder, shared, ids);
  hfb_scope_pop(b);
  hfb_scope_pop(b);

  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", shared);
  hfb_init zeros = hfb_init_constant(0);
  zeros.buffer = true;
  hfb_value *bias = hfb_parameter(b, "final_logits_bias", hfb_shape_of(2, (int64_t[]){1, vocab}), zeros);
  hfb_head_token_logits(nn, call, hfb_add(b, hfb_linear_op(b, x, weight, NULL, true), bias), false);
  /* With labels the class switches its cache off. */
  if (hfb_call_bool(call, "use_cache") && hfb_call_arg(call, "labels") == NULL) {
    for (int64_t i = 0; i < decoder.layers; i++) hfb_head_cache(nn, (int)i, 4, decoder.cache + 4 * i);
  }
  hfb_output_add(b, "encoder_last_hidden_state", memory);
}

/* The decoder alone: it owns cross-attention weights and never runs them. */
static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  nn->init_std = hfb_call_float(call, "init_std");
  hfb_call_check_heads(nn, call, "d_model", "decoder_attention_heads");
  stack decoder = decoder_stack(call, call->length);
  decoder.self_bias = causal_bias(nn, call, "attention_mask", call->length);
  decoder.cache = hfb_call_values(nn, 2 * decoder.layers);
  if (decoder.cache == NULL) return;
  hfb_scope_push(b, "model.decoder");
  hfb_value *words = hfb_nn_embedding_weight(nn, "embed_tokens", hfb_call_int(call, "vocab_size"),
                                             hfb_call_int(call, "d_model"), hfb_call_int(call, "pad_token_id"));
  hfb_value *x = run_stack(nn, call, &decoder, words, hfb_call_arg(call, "input_ids"));
  hfb_scope_pop(b);
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", words);
  hfb_head_token_logits(nn, call, hfb_linear_op(b, x, weight, NULL, true), false);
  if (hfb_call_bool(call, "use_cache")) {
    for (int64_t i = 0; i < decoder.layers; i++) hfb_head_cache(nn, (int)i, 2, decoder.cache + 2 * i);
  }
}

static const hfb_class_row classes[] = {
    {"BartForConditionalGeneration", conditional_generation,
     "input_ids attention_mask decoder_input_ids decoder_attention_mask labels", HFB_REFUSED_SEQ2SEQ,
     "model.encoder.embed_tokens.weight=model.shared.weight model.decoder.embed_tokens.weight=model.shared.weight "
     "lm_head.weight=model.shared.weight",
     "classification_head.* qa_outputs.* *.embed_positions.position_ids"},
    {"BartForCausalLM", causal_lm, "input_ids attention_mask labels", HFB_REFUSED_CAUSAL,
     "lm_head.weight=model.decoder.embed_tokens.weight model.shared.weight=model.decoder.embed_tokens.weight",
     "model.encoder.* model.shared.weight final_logits_bias classification_head.* qa_outputs.*"},
};

HFB_FAMILY(bart, "bart", "model", fields, classes);
