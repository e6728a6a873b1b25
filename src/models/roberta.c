/* RoBERTa (Liu et al., 2019) and CamemBERT (Martin et al., 2019): BERT with positions that skip padding and another
 * language-model head. */
#include "models/bert_layers.h"

/* The two configuration classes differ in the vocabulary only. */
#define FIELDS(vocab)                                                                                                 \
  {"vocab_size", HFB_FIELD_SIZE, vocab, NULL}, {"hidden_size", HFB_FIELD_SIZE, "768", NULL},                          \
      {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL}, {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},       \
      {"intermediate_size", HFB_FIELD_SIZE, "3072", NULL}, {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL},        \
      {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},                                                    \
      {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},                                           \
      {"classifier_dropout", HFB_FIELD_PROBABILITY, "null", "null"},                                                  \
      {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL}, {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},       \
      {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL}, {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL}, \
      {"pad_token_id", HFB_FIELD_ID, "1", NULL}, {"bos_token_id", HFB_FIELD_ID, "0", NULL},                           \
      {"eos_token_id", HFB_FIELD_ID, "2", NULL},                                                                      \
      {"position_embedding_type", HFB_FIELD_TEXT, "absolute", HFB_BERT_POSITION_TYPES}, {                             \
    "is_decoder", HFB_FIELD_BOOL, "false", "false"                                                                    \
  }

static const hfb_field roberta_fields[] = {FIELDS("50265")};
static const hfb_field camembert_fields[] = {FIELDS("30522")};

static hfb_value *word_table(hfb_nn *nn, const hfb_call *call) {
  return hfb_nn_embedding_weight(nn, "roberta.embeddings.word_embeddings", hfb_call_int(call, "vocab_size"),
                                 hfb_call_int(call, "hidden_size"), hfb_call_int(call, "pad_token_id"));
}

/* RobertaModel without a pooler. Camembert's is registered as "roberta" too. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call) {
  int64_t pad = hfb_call_int(call, "pad_token_id");
  nn->init_std = hfb_call_float(call, "initializer_range");
  if (pad < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "pad_token_id must not be null: positions are counted from it");
    return NULL;
  }
  hfb_value *positions = hfb_call_positions(nn, call, "position_ids", call->length);
  if (positions == NULL) positions = hfb_nn_padding_aware_positions(nn, hfb_call_arg(call, "input_ids"), pad);
  hfb_scope_push(nn->b, "roberta");
  hfb_bert_embeddings how = {
      .width = hfb_call_int(call, "hidden_size"), .pad_id = pad, .position_pad = pad, .positions = positions};
  hfb_value *x = hfb_nn_dropout(nn, hfb_bert_embed(nn, call, &how), hfb_call_float(call, "hidden_dropout_prob"));
  x = hfb_bert_encode(nn, call, x);
  hfb_scope_pop(nn->b);
  return x;
}

static hfb_value *lm_logits(hfb_nn *nn, const hfb_call *call) {
  hfb_value *x = model(nn, call);
  return hfb_bert_lm_head(nn, call, x, word_table(nn, call));
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_logits(nn, call, lm_logits(nn, call), false);
}

/* is_decoder is false, so attention sees both sides; the loss is shifted all the same. */
static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_logits(nn, call, lm_logits(nn, call), true);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call));
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call), hfb_classifier_dropout(call));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_classification_head(nn, call, model(nn, call), "tanh", hfb_classifier_dropout(call));
}

#define TIED       "lm_head.decoder.weight=roberta.embeddings.word_embeddings.weight lm_head.decoder.bias=lm_head.bias"
#define IGNORED    "*.position_ids *.token_type_ids lm_head.* qa_outputs.* classifier.* roberta.pooler.*"
#define REFUSED_LM HFB_REFUSED_ENCODER " encoder_hidden_states encoder_attention_mask"

static const hfb_class_row roberta_classes[] = {
    {"RobertaForMaskedLM", masked_lm, HFB_BERT_INPUTS, REFUSED_LM, TIED, IGNORED},
    {"RobertaForCausalLM", causal_lm, HFB_BERT_INPUTS, HFB_REFUSED_CAUSAL, TIED, IGNORED},
    {"RobertaForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"RobertaForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"RobertaForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

static const hfb_class_row camembert_classes[] = {
    {"CamembertForMaskedLM", masked_lm, HFB_BERT_INPUTS, REFUSED_LM, TIED, IGNORED},
    {"CamembertForCausalLM", causal_lm, HFB_BERT_INPUTS, HFB_REFUSED_CAUSAL, TIED, IGNORED},
    {"CamembertForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"CamembertForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"CamembertForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(roberta, "roberta", "roberta", roberta_fields, roberta_classes);
HFB_FAMILY(camembert, "camembert", "roberta", camembert_fields, camembert_classes);
