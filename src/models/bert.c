/* BERT (Devlin et al., 2018): BertForMaskedLM and its siblings. */
#include "models/bert_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "30522", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "768", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "3072", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"classifier_dropout", HFB_FIELD_PROBABILITY, "null", "null"},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
    {"position_embedding_type", HFB_FIELD_TEXT, "absolute", HFB_BERT_POSITION_TYPES},
    {"is_decoder", HFB_FIELD_BOOL, "false", "false"},
};

/* BertModel under "bert". */
static hfb_bert_states model(hfb_nn *nn, const hfb_call *call, bool pooled) {
  int64_t width = hfb_call_int(call, "hidden_size");
  hfb_bert_states states = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_scope_push(nn->b, "bert");
  hfb_value *x = hfb_bert_embed_plain(nn, call, width);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
  states.tokens = hfb_bert_encode(nn, call, x);
  if (pooled) states.pooled = hfb_bert_pool(nn, call, states.tokens);
  states.words = hfb_nn_embedding_weight(nn, "embeddings.word_embeddings", hfb_call_int(call, "vocab_size"), width,
                                         hfb_call_int(call, "pad_token_id"));
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

static void next_sentence(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_next_sentence(nn, call, model(nn, call, true).pooled);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call, false).tokens);
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call, false).tokens, hfb_classifier_dropout(call));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_sequence_classification(nn, call, model(nn, call, true).pooled, hfb_classifier_dropout(call));
}

static void multiple_choice(hfb_nn *nn, const hfb_call *call) {
  hfb_head_multiple_choice(nn, call, model(nn, call, true).pooled, hfb_classifier_dropout(call));
}

#define IGNORED "*.position_ids *.token_type_ids cls.* qa_outputs.* classifier.* bert.pooler.*"

static const hfb_class_row classes[] = {
    {"BertForPreTraining", pretraining, HFB_BERT_PAIR_INPUTS, HFB_REFUSED_ENCODER, HFB_BERT_TIED, IGNORED},
    {"BertForMaskedLM", masked_lm, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER " encoder_hidden_states encoder_attention_mask",
     HFB_BERT_TIED, IGNORED},
    {"BertForNextSentencePrediction", next_sentence, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"BertForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"BertForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"BertForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"BertForMultipleChoice", multiple_choice, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(bert, "bert", "bert", fields, classes);
