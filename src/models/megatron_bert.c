/* Megatron-BERT (Shoeybi et al., 2019): BERT with the norms in front of attention and feed-forward. */
#include "models/bert_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "29056", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "1024", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "24", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "16", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "4096", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
    {"position_embedding_type", HFB_FIELD_TEXT, "absolute", HFB_BERT_POSITION_TYPES},
    {"is_decoder", HFB_FIELD_BOOL, "false", "false"},
};

/* Word, token type and position without a norm. The pad row gets no gradient, but starts like any other. */
static hfb_value *embed(hfb_nn *nn, const hfb_call *call, hfb_value **out_words) {
  int64_t width = hfb_call_int(call, "hidden_size"), rows = hfb_call_int(call, "max_position_embeddings");
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_scope_push(nn->b, "embeddings");
  *out_words = hfb_nn_embedding_weight(nn, "word_embeddings", hfb_call_int(call, "vocab_size"), width, -1);
  hfb_nn_embedding_weight(nn, "position_embeddings", rows, width, -1);
  hfb_value *x = hfb_embedding(nn->b, *out_words, hfb_call_arg(call, "input_ids"), hfb_call_int(call, "pad_token_id"));
  hfb_value *type = hfb_nn_embedding(nn, "token_type_embeddings", hfb_bert_token_types(nn, call),
                                     hfb_call_int(call, "type_vocab_size"), width, -1);
  x = hfb_add(nn->b, x, type);
  if (!hfb_bert_is_relative(call)) {
    hfb_value *positions = hfb_bert_positions(nn, call);
    x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "position_embeddings", positions, rows, width, -1));
  }
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

/* residual + dropout(dense(x)): MegatronBertSelfOutput and MegatronBertOutput. */
static hfb_value *output(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *residual) {
  x = hfb_nn_linear(nn, "output.dense", x, hfb_call_int(call, "hidden_size"), true);
  return hfb_add(nn->b, residual, hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob")));
}

static hfb_value *layer(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *mask_bias) {
  double eps = hfb_call_float(call, "layer_norm_eps");
  hfb_scope_push(nn->b, "attention");
  hfb_value *context = hfb_bert_self_attention(nn, call, hfb_nn_layer_norm(nn, "ln", x, eps), mask_bias);
  x = output(nn, call, context, x);
  hfb_scope_pop(nn->b);
  hfb_value *inner = hfb_nn_layer_norm(nn, "ln", x, eps);
  inner = hfb_nn_linear(nn, "intermediate.dense", inner, hfb_call_int(call, "intermediate_size"), true);
  return output(nn, call, hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), inner), x);
}

/* MegatronBertModel under "bert". */
static hfb_bert_states model(hfb_nn *nn, const hfb_call *call, bool pooled) {
  hfb_bert_states states = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  hfb_scope_push(nn->b, "bert");
  hfb_value *x = embed(nn, call, &states.words), *mask_bias = hfb_bert_mask_bias(nn, call);
  for (int64_t i = 0; i < hfb_call_int(call, "num_hidden_layers"); i++) {
    hfb_scope_push(nn->b, "encoder.layer.%d", (int)i);
    x = layer(nn, call, x, mask_bias);
    hfb_scope_pop(nn->b);
  }
  states.tokens = hfb_nn_layer_norm(nn, "encoder.ln", x, hfb_call_float(call, "layer_norm_eps"));
  if (pooled) states.pooled = hfb_bert_pool(nn, call, states.tokens);
  hfb_scope_pop(nn->b);
  return states;
}

static void pretraining(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, true);
  hfb_bert_pretraining(nn, call, hfb_bert_predictions(nn, call, states.tokens, states.words), states.pooled);
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, false);
  hfb_head_token_logits(nn, call, hfb_bert_predictions(nn, call, states.tokens, states.words), false);
}

/* is_decoder is false, so attention sees both sides; the loss is shifted all the same. */
static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, false);
  hfb_head_token_logits(nn, call, hfb_bert_predictions(nn, call, states.tokens, states.words), true);
}

static void next_sentence(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_next_sentence(nn, call, model(nn, call, true).pooled);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call, false).tokens);
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call, false).tokens, hfb_call_float(call, "hidden_dropout_prob"));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_sequence_classification(nn, call, model(nn, call, true).pooled, hfb_call_float(call, "hidden_dropout_prob"));
}

static void multiple_choice(hfb_nn *nn, const hfb_call *call) {
  hfb_head_multiple_choice(nn, call, model(nn, call, true).pooled, hfb_call_float(call, "hidden_dropout_prob"));
}

#define IGNORED "*.position_ids *.token_type_ids cls.* qa_outputs.* classifier.* bert.pooler.*"

static const hfb_class_row classes[] = {
    {"MegatronBertForPreTraining", pretraining, HFB_BERT_PAIR_INPUTS, HFB_REFUSED_ENCODER, HFB_BERT_TIED, IGNORED},
    {"MegatronBertForMaskedLM", masked_lm, HFB_BERT_INPUTS,
     HFB_REFUSED_ENCODER " encoder_hidden_states encoder_attention_mask", HFB_BERT_TIED, IGNORED},
    {"MegatronBertForCausalLM", causal_lm, HFB_BERT_INPUTS, HFB_REFUSED_CAUSAL, HFB_BERT_TIED, IGNORED},
    {"MegatronBertForNextSentencePrediction", next_sentence, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"MegatronBertForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"MegatronBertForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "",
     IGNORED},
    {"MegatronBertForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"MegatronBertForMultipleChoice", multiple_choice, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(megatron_bert, "megatron-bert", "bert", fields, classes);
