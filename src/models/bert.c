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
    {"position_embedding_type", HFB_FIELD_TEXT, "absolute", "absolute"},
    {"is_decoder", HFB_FIELD_BOOL, "false", "false"},
};

/* BertModel under "bert"; *out_words is the word table, for a tied head. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call, bool pooled, hfb_value **out_words) {
  int64_t width = hfb_call_int(call, "hidden_size");
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_scope_push(nn->b, "bert");
  hfb_value *x = hfb_bert_embed_plain(nn, call, width);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
  x = hfb_bert_encode(nn, call, x);
  if (pooled) x = hfb_bert_pool(nn, call, x);
  if (out_words != NULL) {
    *out_words = hfb_nn_embedding_weight(nn, "embeddings.word_embeddings", hfb_call_int(call, "vocab_size"), width,
                                         hfb_call_int(call, "pad_token_id"));
  }
  hfb_scope_pop(nn->b);
  return x;
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_value *words = NULL, *x = model(nn, call, false, &words);
  hfb_bert_masked_lm(nn, call, x, words);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call, false, NULL));
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call, false, NULL), hfb_classifier_dropout(call));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value *pooled = hfb_nn_dropout(nn, model(nn, call, true, NULL), hfb_classifier_dropout(call));
  hfb_head_classification(nn, call, hfb_nn_linear(nn, "classifier", pooled, hfb_call_int(call, "num_labels"), true));
}

#define IGNORED "*.position_ids *.token_type_ids cls.* qa_outputs.* classifier.* bert.pooler.*"

static const hfb_class_row classes[] = {
    {"BertForMaskedLM", masked_lm, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER " encoder_hidden_states encoder_attention_mask",
     "cls.predictions.decoder.weight=bert.embeddings.word_embeddings.weight "
     "cls.predictions.decoder.bias=cls.predictions.bias",
     IGNORED},
    {"BertForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"BertForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"BertForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(bert, "bert", "bert", fields, classes);
