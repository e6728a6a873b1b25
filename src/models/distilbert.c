/* DistilBERT (Sanh et al., 2019). */
#include <math.h>

#include "models/family.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "30522", NULL},
    {"dim", HFB_FIELD_SIZE, "768", NULL},
    {"n_layers", HFB_FIELD_COUNT, "6", NULL},
    {"n_heads", HFB_FIELD_COUNT, "12", NULL},
    {"hidden_dim", HFB_FIELD_SIZE, "3072", NULL},
    {"activation", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"qa_dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"seq_classif_dropout", HFB_FIELD_PROBABILITY, "0.2", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"sinusoidal_pos_embds", HFB_FIELD_BOOL, "false", "false"},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
};

#define LAYER_NORM_EPS 1e-12 /* not in the configuration */

static hfb_value *embed(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "dim"), vocab = hfb_call_int(call, "vocab_size");
  int64_t positions = hfb_call_int(call, "max_position_embeddings");
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_scope_push(nn->b, "embeddings");
  hfb_value *words = hfb_nn_embedding(nn, "word_embeddings", hfb_call_arg(call, "input_ids"), vocab, width,
                                      hfb_call_int(call, "pad_token_id"));
  hfb_value *position =
      hfb_nn_embedding(nn, "position_embeddings", hfb_nn_positions(nn, call->length, 0), positions, width, -1);
  hfb_value *x = hfb_nn_layer_norm(nn, "LayerNorm", hfb_add(nn->b, words, position), LAYER_NORM_EPS);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "dropout"));
}

/* MultiHeadSelfAttention: the query is scaled before the product. No dropout behind out_lin. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *keep) {
  int64_t width = hfb_call_int(call, "dim"), heads = hfb_call_int(call, "n_heads");
  hfb_scope_push(nn->b, "attention");
  hfb_value *q = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "q_lin", x, width, true), heads);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "k_lin", x, width, true), heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "v_lin", x, width, true), heads);
  hfb_nn_attention how = {.query_scale = 1 / sqrt((double)(width / heads)),
                          .score_scale = 1,
                          .keep = keep,
                          .dropout = hfb_call_float(call, "attention_dropout")};
  hfb_value *context = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &how, q, k, v));
  hfb_value *out = hfb_nn_linear(nn, "out_lin", context, width, true);
  hfb_scope_pop(nn->b);
  return out;
}

static hfb_value *layer(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *keep) {
  hfb_value *attended = attention(nn, call, x, keep);
  x = hfb_nn_layer_norm(nn, "sa_layer_norm", hfb_add(nn->b, attended, x), LAYER_NORM_EPS);
  hfb_value *inner = hfb_nn_linear(nn, "ffn.lin1", x, hfb_call_int(call, "hidden_dim"), true);
  inner = hfb_nn_activation(nn, hfb_call_text(call, "activation"), inner);
  hfb_value *out = hfb_nn_linear(nn, "ffn.lin2", inner, hfb_call_int(call, "dim"), true);
  out = hfb_nn_dropout(nn, out, hfb_call_float(call, "dropout"));
  return hfb_nn_layer_norm(nn, "output_layer_norm", hfb_add(nn->b, out, x), LAYER_NORM_EPS);
}

/* DistilBertModel. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call) {
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "dim", "n_heads");
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  hfb_value *keep = mask == NULL ? NULL : hfb_nn_padding_keep(nn, mask);
  int64_t layers = hfb_call_int(call, "n_layers");
  hfb_scope_push(nn->b, "distilbert");
  hfb_value *x = embed(nn, call);
  for (int64_t i = 0; i < layers; i++) {
    hfb_scope_push(nn->b, "transformer.layer.%d", (int)i);
    x = layer(nn, call, x, keep);
    hfb_scope_pop(nn->b);
  }
  hfb_scope_pop(nn->b);
  return x;
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  int64_t vocab = hfb_call_int(call, "vocab_size"), width = hfb_call_int(call, "dim");
  hfb_value *x = hfb_nn_linear(nn, "vocab_transform", model(nn, call), width, true);
  x = hfb_nn_activation(nn, hfb_call_text(call, "activation"), x);
  x = hfb_nn_layer_norm(nn, "vocab_layer_norm", x, LAYER_NORM_EPS);
  hfb_value *words = hfb_nn_embedding_weight(nn, "distilbert.embeddings.word_embeddings", vocab, width,
                                             hfb_call_int(call, "pad_token_id"));
  hfb_value *weight = hfb_head_output_weight(nn, call, "vocab_projector.weight", words);
  hfb_value *bias = hfb_parameter(nn->b, "vocab_projector.bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  hfb_head_token_logits(nn, call, hfb_linear_op(nn->b, x, weight, bias, true), false);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_value *x = hfb_nn_dropout(nn, model(nn, call), hfb_call_float(call, "qa_dropout"));
  hfb_head_question_answering(nn, call, x);
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call), hfb_call_float(call, "dropout"));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "dim");
  hfb_value *x = hfb_slice(nn->b, model(nn, call), 1, 0, 1);
  x = hfb_reshape(nn->b, x, 2, (int64_t[]){call->batch, width});
  x = hfb_nn_activation(nn, "relu", hfb_nn_linear(nn, "pre_classifier", x, width, true));
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "seq_classif_dropout"));
  hfb_head_classification(nn, call, hfb_nn_linear(nn, "classifier", x, hfb_call_int(call, "num_labels"), true));
}

#define INPUTS "input_ids attention_mask labels"
#define IGNORED \
  "*.position_ids vocab_transform.* vocab_layer_norm.* vocab_projector.* qa_outputs.* pre_classifier.* classifier.*"

static const hfb_class_row classes[] = {
    {"DistilBertForMaskedLM", masked_lm, INPUTS, HFB_REFUSED_ENCODER,
     "vocab_projector.weight=distilbert.embeddings.word_embeddings.weight", IGNORED},
    {"DistilBertForQuestionAnswering", question_answering, "input_ids attention_mask start_positions end_positions",
     HFB_REFUSED_ENCODER, "", IGNORED},
    {"DistilBertForSequenceClassification", sequence_classification, INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"DistilBertForTokenClassification", token_classification, INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(distilbert, "distilbert", "distilbert", fields, classes);
