/* ELECTRA (Clark et al., 2020): BERT's encoder behind narrower embeddings. */
#include "models/bert_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "30522", NULL},
    {"embedding_size", HFB_FIELD_SIZE, "128", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "256", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "4", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "1024", NULL},
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

/* ElectraModel; the projection exists only where the widths differ. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call) {
  int64_t narrow = hfb_call_int(call, "embedding_size"), width = hfb_call_int(call, "hidden_size");
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_scope_push(nn->b, "electra");
  hfb_value *x = hfb_bert_embed_plain(nn, call, narrow);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
  if (narrow != width) x = hfb_nn_linear(nn, "embeddings_project", x, width, true);
  x = hfb_bert_encode(nn, call, x);
  hfb_scope_pop(nn->b);
  return x;
}

static hfb_value *generator_logits(hfb_nn *nn, const hfb_call *call) {
  hfb_value *x = model(nn, call);
  hfb_value *words = hfb_nn_embedding_weight(nn, "electra.embeddings.word_embeddings", hfb_call_int(call, "vocab_size"),
                                             hfb_call_int(call, "embedding_size"), hfb_call_int(call, "pad_token_id"));
  return hfb_bert_generator_logits(nn, call, x, words);
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_logits(nn, call, generator_logits(nn, call), false);
}

/* is_decoder is false, so attention sees both sides; the loss is shifted all the same. */
static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_logits(nn, call, generator_logits(nn, call), true);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call));
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call), hfb_classifier_dropout(call));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_classification_head(nn, call, model(nn, call), "gelu", hfb_classifier_dropout(call));
}

/* The mean over the tokens that count, as binary cross entropy with logits. */
static hfb_value *detection_loss(hfb_nn *nn, hfb_value *logits, hfb_value *labels, hfb_value *mask) {
  hfb_builder *b = nn->b;
  hfb_value *target = hfb_cast(b, labels, HFB_F32);
  if (mask == NULL) return hfb_pair_loss(b, HFB_OP_BCE_WITH_LOGITS, logits, target);
  /* max(x, 0) - x y + log(1 + exp(-|x|)) */
  hfb_value *counts = hfb_binary(b, HFB_OP_EQ, mask, hfb_scalar(b, HFB_I64, 1));
  hfb_value *decay = hfb_unary(b, HFB_OP_EXP, hfb_unary(b, HFB_OP_NEG, hfb_unary(b, HFB_OP_ABS, logits)));
  hfb_value *softplus = hfb_unary(b, HFB_OP_LOG, hfb_add_scalar(b, decay, 1));
  hfb_value *linear = hfb_sub(b, hfb_unary(b, HFB_OP_RELU, logits), hfb_mul(b, logits, target));
  hfb_value *loss = hfb_where(b, counts, hfb_add(b, linear, softplus), hfb_scalar(b, HFB_F32, 0));
  hfb_value *sum = hfb_reduce(b, HFB_OP_REDUCE_SUM, loss, 2, (int[]){0, 1}, false);
  return hfb_div(b, sum, hfb_reduce(b, HFB_OP_REDUCE_SUM, hfb_cast(b, counts, HFB_F32), 2, (int[]){0, 1}, false));
}

/* ElectraForPreTraining: was the token replaced? */
static void pretraining(hfb_nn *nn, const hfb_call *call) {
  hfb_value *x = model(nn, call);
  hfb_scope_push(nn->b, "discriminator_predictions");
  x = hfb_nn_linear(nn, "dense", x, hfb_call_int(call, "hidden_size"), true);
  x = hfb_nn_linear(nn, "dense_prediction", hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), x), 1, true);
  hfb_scope_pop(nn->b);
  hfb_value *logits = hfb_reshape(nn->b, x, 2, (int64_t[]){call->batch, call->length});
  hfb_value *labels = hfb_call_ids(nn, call, "labels", call->batch, call->length);
  if (labels != NULL) {
    hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
    hfb_output_add(nn->b, "loss", detection_loss(nn, logits, labels, mask));
  }
  hfb_output_add(nn->b, "logits", logits);
}

#define TIED "generator_lm_head.weight=electra.embeddings.word_embeddings.weight"
#define IGNORED                                                                                              \
  "*.position_ids *.token_type_ids generator_predictions.* generator_lm_head.* discriminator_predictions.* " \
  "qa_outputs.* classifier.*"

static const hfb_class_row classes[] = {
    {"ElectraForPreTraining", pretraining, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"ElectraForMaskedLM", masked_lm, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, TIED, IGNORED},
    {"ElectraForCausalLM", causal_lm, HFB_BERT_INPUTS, HFB_REFUSED_CAUSAL, TIED, IGNORED},
    {"ElectraForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"ElectraForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"ElectraForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(electra, "electra", "electra", fields, classes);
