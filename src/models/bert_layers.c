#include "models/bert_layers.h"

#include <math.h>
#include <string.h>

/* ---- Embeddings ---- */

hfb_value *hfb_bert_token_types(hfb_nn *nn, const hfb_call *call) {
  hfb_value *given = hfb_call_ids(nn, call, "token_type_ids", call->batch, call->length);
  if (given != NULL) return given;
  return hfb_full(nn->b, HFB_I64, hfb_shape_of(2, (int64_t[]){call->batch, call->length}), 0);
}

hfb_value *hfb_bert_positions(hfb_nn *nn, const hfb_call *call) {
  hfb_value *given = hfb_call_positions(nn, call, "position_ids", call->length);
  return given != NULL ? given : hfb_nn_positions(nn, call->length, 0);
}

bool hfb_bert_is_relative(const hfb_call *call) {
  return hfb_config_has(call->config, "position_embedding_type") &&
         strcmp(hfb_call_text(call, "position_embedding_type"), "absolute") != 0;
}

hfb_value *hfb_bert_embed(hfb_nn *nn, const hfb_call *call, const hfb_bert_embeddings *how) {
  int64_t vocab = hfb_call_int(call, "vocab_size"), positions = hfb_call_int(call, "max_position_embeddings");
  int64_t types = hfb_call_int(call, "type_vocab_size");
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_scope_push(nn->b, "embeddings");
  hfb_nn_embedding_weight(nn, "word_embeddings", vocab, how->width, how->pad_id);
  hfb_nn_embedding_weight(nn, "position_embeddings", positions, how->width, how->position_pad);

  hfb_value *words =
      hfb_nn_embedding(nn, "word_embeddings", hfb_call_arg(call, "input_ids"), vocab, how->width, how->pad_id);
  hfb_value *type =
      hfb_nn_embedding(nn, "token_type_embeddings", hfb_bert_token_types(nn, call), types, how->width, -1);
  hfb_value *x = hfb_add(nn->b, words, type);
  if (!hfb_bert_is_relative(call)) {
    x = hfb_add(nn->b, x,
                hfb_nn_embedding(nn, "position_embeddings", how->positions, positions, how->width, how->position_pad));
  }
  x = hfb_nn_layer_norm(nn, "LayerNorm", x, hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return x;
}

hfb_value *hfb_bert_embed_plain(hfb_nn *nn, const hfb_call *call, int64_t width) {
  hfb_bert_embeddings how = {.width = width,
                             .pad_id = hfb_call_int(call, "pad_token_id"),
                             .position_pad = -1,
                             .positions = hfb_bert_positions(nn, call)};
  return hfb_bert_embed(nn, call, &how);
}

/* ---- The encoder ---- */

void hfb_bert_add_distances(hfb_nn *nn, const hfb_call *call, hfb_nn_attention *attention) {
  if (!hfb_bert_is_relative(call)) return;
  int64_t rows = 2 * hfb_call_int(call, "max_position_embeddings") - 1;
  int64_t width = hfb_call_int(call, "hidden_size") / hfb_call_int(call, "num_attention_heads");
  attention->distances = hfb_nn_embedding_weight(nn, "distance_embedding", rows, width, -1);
  attention->distances_to_keys = strcmp(hfb_call_text(call, "position_embedding_type"), "relative_key_query") == 0;
}

hfb_value *hfb_bert_attention(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x, hfb_value *source,
                              hfb_value *mask_bias) {
  int64_t width = hfb_call_int(call, "hidden_size"), heads = hfb_call_int(call, "num_attention_heads");
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *q = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "query", x, width, true), heads);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "key", source, width, true), heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "value", source, width, true), heads);
  hfb_nn_attention attention = {.query_scale = 1,
                                .score_scale = 1 / sqrt((double)(width / heads)),
                                .bias = mask_bias,
                                .dropout = hfb_call_float(call, "attention_probs_dropout_prob")};
  hfb_bert_add_distances(nn, call, &attention);
  hfb_value *context = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &attention, q, k, v));
  hfb_scope_pop(nn->b);
  return context;
}

hfb_value *hfb_bert_self_attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *mask_bias) {
  return hfb_bert_attention(nn, call, "self", x, x, mask_bias);
}

/* LXMERT fixes the epsilon, whatever its configurations say. */
static double norm_eps(const hfb_call *call) {
  return hfb_config_has(call->config, "layer_norm_eps") ? hfb_call_float(call, "layer_norm_eps") : 1e-12;
}

hfb_value *hfb_bert_output_as(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x, hfb_value *residual) {
  hfb_scope_push(nn->b, "%s", name);
  x = hfb_nn_linear(nn, "dense", x, hfb_call_int(call, "hidden_size"), true);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
  x = hfb_nn_layer_norm(nn, "LayerNorm", hfb_add(nn->b, x, residual), norm_eps(call));
  hfb_scope_pop(nn->b);
  return x;
}

hfb_value *hfb_bert_output(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *residual) {
  return hfb_bert_output_as(nn, call, "output", x, residual);
}

hfb_value *hfb_bert_intermediate(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x) {
  hfb_scope_push(nn->b, "%s", name);
  x = hfb_nn_linear(nn, "dense", x, hfb_call_int(call, "intermediate_size"), true);
  hfb_scope_pop(nn->b);
  return hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), x);
}

hfb_value *hfb_bert_feed_forward(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  return hfb_bert_output(nn, call, hfb_bert_intermediate(nn, call, "intermediate", x), x);
}

hfb_value *hfb_bert_mask_bias(hfb_nn *nn, const hfb_call *call) {
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  return mask == NULL ? NULL : hfb_nn_padding_bias(nn, mask);
}

hfb_value *hfb_bert_layer(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *mask_bias) {
  hfb_scope_push(nn->b, "attention");
  x = hfb_bert_output(nn, call, hfb_bert_self_attention(nn, call, x, mask_bias), x);
  hfb_scope_pop(nn->b);
  return hfb_bert_feed_forward(nn, call, x);
}

hfb_value *hfb_bert_encode(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  hfb_value *mask_bias = hfb_bert_mask_bias(nn, call);
  int64_t layers = hfb_call_int(call, "num_hidden_layers");
  for (int64_t i = 0; i < layers; i++) {
    hfb_scope_push(nn->b, "encoder.layer.%d", (int)i);
    x = hfb_bert_layer(nn, call, x, mask_bias);
    hfb_scope_pop(nn->b);
  }
  return x;
}

/* ---- Poolers and heads ---- */

hfb_value *hfb_first_token(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  if (x == NULL) return NULL;
  return hfb_reshape(nn->b, hfb_slice(nn->b, x, 1, 0, 1), 2, (int64_t[]){call->batch, x->shape.dim[2]});
}

hfb_value *hfb_bert_pool(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  hfb_value *first = hfb_first_token(nn, call, x);
  return hfb_nn_activation(nn, "tanh",
                           hfb_nn_linear(nn, "pooler.dense", first, hfb_call_int(call, "hidden_size"), true));
}

hfb_value *hfb_bert_transform(hfb_nn *nn, const hfb_call *call, hfb_value *x, int64_t width) {
  hfb_scope_push(nn->b, "transform");
  x = hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), hfb_nn_linear(nn, "dense", x, width, true));
  x = hfb_nn_layer_norm(nn, "LayerNorm", x, norm_eps(call));
  hfb_scope_pop(nn->b);
  return x;
}

hfb_value *hfb_bert_predictions(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *words) {
  int64_t vocab = hfb_call_int(call, "vocab_size");
  int64_t width = words == NULL ? hfb_call_int(call, "hidden_size") : words->shape.dim[1];
  hfb_scope_push(nn->b, "cls.predictions");
  hfb_value *bias = hfb_parameter(nn->b, "bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  x = hfb_bert_transform(nn, call, x, width);
  hfb_value *weight = hfb_head_output_weight(nn, call, "decoder.weight", words);
  hfb_scope_pop(nn->b);
  return hfb_linear_op(nn->b, x, weight, bias, true);
}

hfb_value *hfb_bert_lm_head(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *words) {
  int64_t vocab = hfb_call_int(call, "vocab_size");
  hfb_scope_push(nn->b, "lm_head");
  hfb_value *bias = hfb_parameter(nn->b, "bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  x = hfb_nn_activation(nn, "gelu", hfb_nn_linear(nn, "dense", x, hfb_call_int(call, "hidden_size"), true));
  x = hfb_nn_layer_norm(nn, "layer_norm", x, hfb_call_float(call, "layer_norm_eps"));
  hfb_value *weight = hfb_head_output_weight(nn, call, "decoder.weight", words);
  hfb_scope_pop(nn->b);
  return hfb_linear_op(nn->b, x, weight, bias, true);
}

static hfb_value *relationship(hfb_nn *nn, hfb_value *pooled) {
  return hfb_nn_linear(nn, "cls.seq_relationship", pooled, 2, true);
}

void hfb_bert_pretraining(hfb_nn *nn, const hfb_call *call, hfb_value *predictions, hfb_value *pooled) {
  hfb_pretraining heads = {.predictions = predictions,
                           .relation = relationship(nn, pooled),
                           .relation_label = "next_sentence_label",
                           .relation_output = "seq_relationship_logits"};
  hfb_head_pretraining(nn, call, &heads);
}

void hfb_bert_next_sentence(hfb_nn *nn, const hfb_call *call, hfb_value *pooled) {
  hfb_head_next_sentence(nn, call, relationship(nn, pooled));
}

void hfb_bert_sequence_classification(hfb_nn *nn, const hfb_call *call, hfb_value *pooled, double dropout) {
  hfb_value *dropped = hfb_nn_dropout(nn, pooled, dropout);
  hfb_head_classification(nn, call, hfb_nn_linear(nn, "classifier", dropped, hfb_call_int(call, "num_labels"), true));
}

void hfb_bert_classification_head(hfb_nn *nn, const hfb_call *call, hfb_value *tokens, const char *activation,
                                  double dropout) {
  hfb_value *x = hfb_nn_dropout(nn, hfb_first_token(nn, call, tokens), dropout);
  hfb_scope_push(nn->b, "classifier");
  x = hfb_nn_activation(nn, activation, hfb_nn_linear(nn, "dense", x, hfb_call_int(call, "hidden_size"), true));
  x = hfb_nn_linear(nn, "out_proj", hfb_nn_dropout(nn, x, dropout), hfb_call_int(call, "num_labels"), true);
  hfb_scope_pop(nn->b);
  hfb_head_classification(nn, call, x);
}

hfb_value *hfb_bert_generator_logits(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *words) {
  int64_t narrow = hfb_call_int(call, "embedding_size"), vocab = hfb_call_int(call, "vocab_size");
  hfb_scope_push(nn->b, "generator_predictions");
  hfb_nn_layer_norm_declare(nn, "LayerNorm", narrow);
  x = hfb_nn_activation(nn, "gelu", hfb_nn_linear(nn, "dense", x, narrow, true));
  x = hfb_nn_layer_norm(nn, "LayerNorm", x, hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  hfb_value *weight = hfb_head_output_weight(nn, call, "generator_lm_head.weight", words);
  hfb_value *bias = hfb_parameter(nn->b, "generator_lm_head.bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  return hfb_linear_op(nn->b, x, weight, bias, true);
}

double hfb_classifier_dropout(const hfb_call *call) {
  double own = hfb_call_float(call, "classifier_dropout");
  return own < 0 ? hfb_call_float(call, "hidden_dropout_prob") : own;
}
