/* XGLM (Lin et al., 2021): norms in front, scaled embeddings, computed sinusoids. */
#include <math.h>

#include "models/bart_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "256008", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "2048", NULL}, /* only the size that the class starts its table with */
    {"d_model", HFB_FIELD_SIZE, "1024", NULL},
    {"ffn_dim", HFB_FIELD_SIZE, "4096", NULL},
    {"num_layers", HFB_FIELD_COUNT, "24", NULL},
    {"attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"activation_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"init_std", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"scale_embedding", HFB_FIELD_BOOL, "true", NULL},
    {"use_cache", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "1", NULL},
    {"bos_token_id", HFB_FIELD_ID, "0", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
};

#define POSITION_OFFSET 2 /* rows of the position table that stay unused */

static hfb_value *embed(hfb_nn *nn, const hfb_call *call, int64_t width, hfb_value *words) {
  hfb_value *x = hfb_embedding(nn->b, words, hfb_call_arg(call, "input_ids"), hfb_call_int(call, "pad_token_id"));
  if (hfb_call_bool(call, "scale_embedding")) x = hfb_mul_scalar(nn->b, x, sqrt((double)width));
  hfb_value *given = hfb_call_positions(nn, call, "position_ids", call->length);
  hfb_value *positions = given == NULL ? hfb_nn_positions(nn, call->length, POSITION_OFFSET)
                                       : hfb_add_scalar(nn->b, given, POSITION_OFFSET);
  x = hfb_add(nn->b, x, hfb_nn_fairseq_sinusoids(nn, positions, width));
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "dropout"));
}

/* The class moves the labels one to the left and puts the padding id last, which counts like any other. */
static hfb_value *next_tokens(hfb_nn *nn, const hfb_call *call) {
  hfb_value *labels = hfb_call_ids(nn, call, "labels", call->batch, call->length);
  int64_t pad = hfb_call_int(call, "pad_token_id");
  if (labels == NULL) return NULL;
  if (pad < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "pad_token_id must be set when labels are given: it ends them");
    return NULL;
  }
  hfb_value *last = hfb_full(nn->b, HFB_I64, hfb_shape_of(2, (int64_t[]){call->batch, 1}), (double)pad);
  if (call->length == 1) return last;
  return hfb_concat(nn->b, 2, (hfb_value *[]){hfb_slice(nn->b, labels, 1, 1, call->length), last}, 1);
}

static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  nn->init_std = hfb_call_float(call, "init_std");
  hfb_call_check_heads(nn, call, "d_model", "attention_heads");
  hfb_bart_layers layers = {.count = hfb_call_int(call, "num_layers"),
                            .width = hfb_call_int(call, "d_model"),
                            .heads = hfb_call_int(call, "attention_heads"),
                            .ffn = hfb_call_int(call, "ffn_dim"),
                            .pre_norm = true,
                            .activation = hfb_call_text(call, "activation_function"),
                            .dropout = hfb_call_float(call, "dropout"),
                            .attention_dropout = hfb_call_float(call, "attention_dropout"),
                            .layer_drop = hfb_call_float(call, "layerdrop"),
                            .activation_dropout = hfb_call_float(call, "activation_dropout"),
                            .self_bias = hfb_bart_causal_bias(nn, call, "attention_mask", call->length)};
  layers.cache = hfb_call_values(nn, 2 * layers.count);
  if (layers.cache == NULL) return;
  hfb_scope_push(b, "model");
  hfb_value *words = hfb_nn_embedding_weight(nn, "embed_tokens", hfb_call_int(call, "vocab_size"), layers.width,
                                             hfb_call_int(call, "pad_token_id"));
  hfb_bart_layers_declare(nn, &layers);
  hfb_value *x = hfb_bart_layers_run(nn, &layers, embed(nn, call, layers.width, words));
  x = hfb_nn_layer_norm(nn, "layer_norm", x, HFB_BART_NORM_EPS);
  hfb_scope_pop(b);
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", words);
  hfb_value *logits = hfb_linear_op(b, x, weight, NULL, true), *targets = next_tokens(nn, call);
  if (targets != NULL) hfb_output_add(b, "loss", hfb_nn_cross_entropy(nn, logits, targets));
  hfb_output_add(b, "logits", logits);
  if (hfb_call_bool(call, "use_cache")) hfb_bart_layers_output_cache(nn, &layers);
}

static const hfb_class_row classes[] = {
    {"XGLMForCausalLM", causal_lm, "input_ids attention_mask position_ids labels", HFB_REFUSED_CAUSAL,
     "lm_head.weight=model.embed_tokens.weight", "*.embed_positions.weights"},
};

HFB_FAMILY(xglm, "xglm", "model", fields, classes);
