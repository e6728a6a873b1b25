/* ALBERT (Lan et al., 2019): factorised embeddings and layers that share their weights in groups. */
#include <math.h>

#include "models/bert_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "30000", NULL},
    {"embedding_size", HFB_FIELD_SIZE, "128", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "4096", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},
    {"num_hidden_groups", HFB_FIELD_COUNT, "1", NULL},
    {"inner_group_num", HFB_FIELD_COUNT, "1", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "64", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "16384", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu_new", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0", NULL},
    {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0", NULL},
    {"classifier_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
    {"position_embedding_type", HFB_FIELD_TEXT, "absolute", HFB_BERT_POSITION_TYPES},
};

/* AlbertAttention: dense, dropout, residual and norm included. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *mask_bias) {
  int64_t width = hfb_call_int(call, "hidden_size"), heads = hfb_call_int(call, "num_attention_heads");
  hfb_scope_push(nn->b, "attention");
  hfb_value *q = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "query", x, width, true), heads);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "key", x, width, true), heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "value", x, width, true), heads);
  hfb_nn_attention how = {.query_scale = 1,
                          .score_scale = 1 / sqrt((double)(width / heads)),
                          .bias = mask_bias,
                          .dropout = hfb_call_float(call, "attention_probs_dropout_prob")};
  if (hfb_bert_is_relative(call)) {
    hfb_nn_linear_declare(nn, "dense", width, width, true);
    hfb_nn_layer_norm_declare(nn, "LayerNorm", width);
    hfb_bert_add_distances(nn, call, &how);
    how.distances_unscaled = true;
  }
  hfb_value *context = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &how, q, k, v));
  context =
      hfb_nn_dropout(nn, hfb_nn_linear(nn, "dense", context, width, true), hfb_call_float(call, "hidden_dropout_prob"));
  hfb_value *out =
      hfb_nn_layer_norm(nn, "LayerNorm", hfb_add(nn->b, x, context), hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return out;
}

/* AlbertLayer. Its last norm is registered first. */
static hfb_value *layer(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *mask_bias) {
  int64_t width = hfb_call_int(call, "hidden_size");
  hfb_nn_layer_norm_declare(nn, "full_layer_layer_norm", width);
  hfb_value *attended = attention(nn, call, x, mask_bias);
  hfb_value *inner = hfb_nn_linear(nn, "ffn", attended, hfb_call_int(call, "intermediate_size"), true);
  inner = hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), inner);
  hfb_value *out = hfb_nn_linear(nn, "ffn_output", inner, width, true);
  return hfb_nn_layer_norm(nn, "full_layer_layer_norm", hfb_add(nn->b, out, attended),
                           hfb_call_float(call, "layer_norm_eps"));
}

/* Layer i of the sequence uses group floor(i / (layers / groups)), all inner layers of it. */
static hfb_value *encode(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  int64_t layers = hfb_call_int(call, "num_hidden_layers"), groups = hfb_call_int(call, "num_hidden_groups");
  int64_t inner = hfb_call_int(call, "inner_group_num");
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  hfb_value *mask_bias = mask == NULL ? NULL : hfb_nn_padding_bias(nn, mask);
  if (groups > layers || layers * inner > 4096) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "num_hidden_groups %lld must not exceed num_hidden_layers %lld, nor layers times inner_group_num "
                     "%lld 4096",
                     (long long)groups, (long long)layers, (long long)inner);
    return NULL;
  }
  hfb_scope_push(nn->b, "encoder");
  x = hfb_nn_linear(nn, "embedding_hidden_mapping_in", x, hfb_call_int(call, "hidden_size"), true);
  for (int64_t i = 0; i < layers; i++) {
    int group = (int)((double)i / ((double)layers / (double)groups));
    for (int64_t j = 0; j < inner; j++) {
      hfb_scope_push(nn->b, "albert_layer_groups.%d.albert_layers.%d", group, (int)j);
      x = layer(nn, call, x, mask_bias);
      hfb_scope_pop(nn->b);
    }
  }
  hfb_scope_pop(nn->b);
  return x;
}

/* AlbertModel; the pooler is a dense layer and tanh on the first token. */
static hfb_bert_states model(hfb_nn *nn, const hfb_call *call, bool pooled) {
  int64_t narrow = hfb_call_int(call, "embedding_size"), width = hfb_call_int(call, "hidden_size");
  hfb_bert_states states = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  hfb_scope_push(nn->b, "albert");
  hfb_value *x = hfb_bert_embed_plain(nn, call, narrow);
  states.tokens = encode(nn, call, hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob")));
  if (pooled) {
    hfb_value *first = hfb_first_token(nn, call, states.tokens);
    states.pooled = hfb_nn_activation(nn, "tanh", hfb_nn_linear(nn, "pooler", first, width, true));
  }
  states.words = hfb_nn_embedding_weight(nn, "embeddings.word_embeddings", hfb_call_int(call, "vocab_size"), narrow,
                                         hfb_call_int(call, "pad_token_id"));
  hfb_scope_pop(nn->b);
  return states;
}

/* AlbertMLMHead. */
static hfb_value *predictions(hfb_nn *nn, const hfb_call *call, const hfb_bert_states *states) {
  int64_t vocab = hfb_call_int(call, "vocab_size"), narrow = hfb_call_int(call, "embedding_size");
  hfb_scope_push(nn->b, "predictions");
  hfb_value *bias = hfb_parameter(nn->b, "bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  hfb_nn_layer_norm_declare(nn, "LayerNorm", narrow);
  hfb_value *x = hfb_nn_linear(nn, "dense", states->tokens, narrow, true);
  x = hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), x);
  x = hfb_nn_layer_norm(nn, "LayerNorm", x, hfb_call_float(call, "layer_norm_eps"));
  hfb_value *weight = hfb_head_output_weight(nn, call, "decoder.weight", states->words);
  hfb_scope_pop(nn->b);
  return hfb_linear_op(nn->b, x, weight, bias, true);
}

/* AlbertForPreTraining: the language model and whether two sentences stand in their order. */
static void pretraining(hfb_nn *nn, const hfb_call *call) {
  if (hfb_call_int(call, "num_labels") != 2) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "sentence order needs num_labels (or id2label) of 2, not %lld",
                     (long long)hfb_call_int(call, "num_labels"));
    return;
  }
  hfb_bert_states states = model(nn, call, true);
  hfb_pretraining heads = {.predictions = predictions(nn, call, &states),
                           .relation_label = "sentence_order_label",
                           .relation_output = "sop_logits"};
  hfb_value *pooled = hfb_nn_dropout(nn, states.pooled, hfb_call_float(call, "classifier_dropout_prob"));
  heads.relation = hfb_nn_linear(nn, "sop_classifier.classifier", pooled, 2, true);
  hfb_head_pretraining(nn, call, &heads);
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, false);
  hfb_head_token_logits(nn, call, predictions(nn, call, &states), false);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call, false).tokens);
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call, false).tokens,
                                hfb_call_float(call, "classifier_dropout_prob"));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_sequence_classification(nn, call, model(nn, call, true).pooled,
                                   hfb_call_float(call, "classifier_dropout_prob"));
}

static void multiple_choice(hfb_nn *nn, const hfb_call *call) {
  hfb_head_multiple_choice(nn, call, model(nn, call, true).pooled, hfb_call_float(call, "classifier_dropout_prob"));
}

#define TIED \
  "predictions.decoder.weight=albert.embeddings.word_embeddings.weight predictions.decoder.bias=predictions.bias"
#define IGNORED \
  "*.position_ids *.token_type_ids predictions.* sop_classifier.* qa_outputs.* classifier.* albert.pooler.*"

static const hfb_class_row classes[] = {
    {"AlbertForPreTraining", pretraining, HFB_BERT_INPUTS " sentence_order_label", HFB_REFUSED_ENCODER, TIED, IGNORED},
    {"AlbertForMaskedLM", masked_lm, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, TIED, IGNORED},
    {"AlbertForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"AlbertForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"AlbertForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"AlbertForMultipleChoice", multiple_choice, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(albert, "albert", "albert", fields, classes);
