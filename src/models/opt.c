/* OPT (Zhang et al., 2022), with what its checkpoints vary: the 350M one has norms behind and projected token
 * embeddings, Galactica has no biases. */
#include "models/bart_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "50272", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "768", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},
    {"ffn_dim", HFB_FIELD_SIZE, "3072", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "2048", NULL},
    {"do_layer_norm_before", HFB_FIELD_BOOL, "true", NULL},
    {"_remove_final_layer_norm", HFB_FIELD_BOOL, "false", NULL},
    {"word_embed_proj_dim", HFB_FIELD_SIZE, "null", "null"}, /* null: hidden_size */
    {"dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "relu", NULL},
    {"layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"init_std", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"use_cache", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "1", NULL},
    {"bos_token_id", HFB_FIELD_ID, "2", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
    {"enable_bias", HFB_FIELD_BOOL, "true", NULL},
    {"layer_norm_elementwise_affine", HFB_FIELD_BOOL, "true", NULL},
};

#define POSITION_OFFSET 2 /* rows of the position table that stay unused */

static int64_t word_width(const hfb_call *call) {
  int64_t width = hfb_call_int(call, "word_embed_proj_dim");
  return width < 0 ? hfb_call_int(call, "hidden_size") : width;
}

/* Positions pass over what the mask hides; hidden tokens take the row in front of the first. */
static hfb_value *positions_of(hfb_nn *nn, const hfb_call *call) {
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  if (mask == NULL) return hfb_nn_positions(nn, call->length, POSITION_OFFSET);
  hfb_value *counted = hfb_mul(nn->b, hfb_cumsum(nn->b, mask, 1), mask);
  return hfb_add_scalar(nn->b, counted, POSITION_OFFSET - 1);
}

static bool has_final_norm(const hfb_call *call) {
  return hfb_call_bool(call, "do_layer_norm_before") && !hfb_call_bool(call, "_remove_final_layer_norm");
}

/* Token and position embeddings, without norm or dropout; registers everything behind them on the way. */
static hfb_value *embed(hfb_nn *nn, const hfb_call *call, const hfb_bart_layers *layers, hfb_value *words) {
  int64_t rows = hfb_call_int(call, "max_position_embeddings") + POSITION_OFFSET;
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_value *x = hfb_embedding(nn->b, words, hfb_call_arg(call, "input_ids"), hfb_call_int(call, "pad_token_id"));
  hfb_value *position = hfb_nn_embedding(nn, "embed_positions", positions_of(nn, call), rows, layers->width, -1);
  if (word_width(call) != layers->width) {
    hfb_nn_linear_declare(nn, "project_out", layers->width, word_width(call), false);
    x = hfb_nn_linear(nn, "project_in", x, layers->width, false);
  }
  if (has_final_norm(call) && !layers->plain_norms) hfb_nn_layer_norm_declare(nn, "final_layer_norm", layers->width);
  hfb_bart_layers_declare(nn, layers);
  return hfb_add(nn->b, x, position);
}

/* OPTDecoder under its scope. */
static hfb_value *decoder(hfb_nn *nn, const hfb_call *call, const hfb_bart_layers *layers, hfb_value *words) {
  hfb_value *x = hfb_bart_layers_run(nn, layers, embed(nn, call, layers, words));
  if (has_final_norm(call)) x = hfb_bart_norm(nn, "final_layer_norm", x, layers->plain_norms);
  if (word_width(call) != layers->width) x = hfb_nn_linear(nn, "project_out", x, word_width(call), false);
  return x;
}

static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  nn->init_std = hfb_call_float(call, "init_std");
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  hfb_bart_layers layers = {.count = hfb_call_int(call, "num_hidden_layers"),
                            .width = hfb_call_int(call, "hidden_size"),
                            .heads = hfb_call_int(call, "num_attention_heads"),
                            .ffn = hfb_call_int(call, "ffn_dim"),
                            .pre_norm = hfb_call_bool(call, "do_layer_norm_before"),
                            .no_biases = !hfb_call_bool(call, "enable_bias"),
                            .plain_norms = !hfb_call_bool(call, "layer_norm_elementwise_affine"),
                            .activation = hfb_call_text(call, "activation_function"),
                            .dropout = hfb_call_float(call, "dropout"),
                            .attention_dropout = hfb_call_float(call, "attention_dropout"),
                            .layer_drop = hfb_call_float(call, "layerdrop"),
                            .self_bias = hfb_bart_causal_bias(nn, call, "attention_mask", call->length)};
  layers.cache = hfb_call_values(nn, 2 * layers.count);
  if (layers.cache == NULL) return;
  hfb_scope_push(nn->b, "model.decoder");
  hfb_value *words = hfb_nn_embedding_weight(nn, "embed_tokens", hfb_call_int(call, "vocab_size"), word_width(call),
                                             hfb_call_int(call, "pad_token_id"));
  hfb_value *x = decoder(nn, call, &layers, words);
  hfb_scope_pop(nn->b);
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", words);
  hfb_head_token_logits(nn, call, hfb_linear_op(nn->b, x, weight, NULL, true), true);
  if (hfb_call_bool(call, "use_cache")) hfb_bart_layers_output_cache(nn, &layers);
}

static const hfb_class_row classes[] = {
    {"OPTForCausalLM", causal_lm, "input_ids attention_mask labels", HFB_REFUSED_ENCODER " past_key_values use_cache",
     "lm_head.weight=model.decoder.embed_tokens.weight", ""},
};

HFB_FAMILY(opt, "opt", "model", fields, classes);
