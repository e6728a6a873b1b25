/* DeBERTa (He et al., 2020) and DeBERTa-v2, v3: BERT whose attention tells contents and relative positions apart. The
 * defaults of both configuration classes leave that off; published checkpoints have it on. */
#include "models/bert_layers.h"
#include "models/deberta_layers.h"

/* The two configuration classes share these fields, with defaults of their own for the sizes. */
#define FIELDS(vocab, width, layers, heads, middle)                                                                    \
  {"vocab_size", HFB_FIELD_SIZE, vocab, NULL}, {"embedding_size", HFB_FIELD_SIZE, "null", "null"},                     \
      {"hidden_size", HFB_FIELD_SIZE, width, NULL}, {"num_hidden_layers", HFB_FIELD_COUNT, layers, NULL},              \
      {"num_attention_heads", HFB_FIELD_COUNT, heads, NULL}, {"intermediate_size", HFB_FIELD_SIZE, middle, NULL},      \
      {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL}, {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL}, \
      {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},                                            \
      {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL}, {"type_vocab_size", HFB_FIELD_LIMIT, "0", NULL},       \
      {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL}, {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-7", NULL},   \
      {"relative_attention", HFB_FIELD_BOOL, "false", NULL}, {"max_relative_positions", HFB_FIELD_LIMIT, "-1", NULL},  \
      {"pos_att_type", HFB_FIELD_WORDS, "null", "c2p|p2c|null"},                                                       \
      {"position_biased_input", HFB_FIELD_BOOL, "true", NULL}, {"pad_token_id", HFB_FIELD_ID, "0", NULL},              \
      {"pooler_hidden_size", HFB_FIELD_SIZE, "null", "null"}, {"pooler_dropout", HFB_FIELD_PROBABILITY, "0", NULL},    \
      {"pooler_hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL}, {                                                     \
    "cls_dropout", HFB_FIELD_PROBABILITY, "null", "null"                                                               \
  }

static const hfb_field v1_fields[] = {
    FIELDS("50265", "768", "12", "12", "3072"),
    {"talking_head", HFB_FIELD_BOOL, "false", "false"},
};

static const hfb_field v2_fields[] = {
    FIELDS("128100", "1536", "24", "24", "6144"),
    {"attention_head_size", HFB_FIELD_SIZE, "null", "null"},
    {"share_att_key", HFB_FIELD_BOOL, "false", NULL},
    {"position_buckets", HFB_FIELD_LIMIT, "-1", NULL},
    {"norm_rel_ebd", HFB_FIELD_WORDS, "none", "none|layer_norm"},
    {"conv_kernel_size", HFB_FIELD_LIMIT, "0", NULL},
    {"conv_groups", HFB_FIELD_SIZE, "1", NULL},
    {"conv_act", HFB_FIELD_ACTIVATION, "tanh", NULL},
};

static const hfb_deberta_traits v1_traits = {.v2 = false};
static const hfb_deberta_traits v2_traits = {.v2 = true};

/* DebertaModel; v2's is registered as "deberta" too. */
static hfb_bert_states model(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_scope_push(nn->b, "deberta");
  hfb_value *x = hfb_deberta_embed(nn, call, &states.words);
  states.tokens = hfb_deberta_encode(nn, call, x);
  hfb_scope_pop(nn->b);
  return states;
}

/* ContextPooler and the dropout behind it: [B,D]. */
static hfb_value *pooled(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "hidden_size"), own = hfb_call_int(call, "pooler_hidden_size");
  double dropout = hfb_call_float(call, "cls_dropout");
  if (own > 0 && own != width) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "pooler_hidden_size %lld is not hidden_size %lld", (long long)own,
                     (long long)width);
    return NULL;
  }
  hfb_value *x = hfb_first_token(nn, call, model(nn, call).tokens);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "pooler_dropout"));
  x = hfb_nn_linear(nn, "pooler.dense", x, width, true);
  x = hfb_nn_activation(nn, hfb_call_text(call, "pooler_hidden_act"), x);
  return hfb_nn_dropout(nn, x, dropout < 0 ? hfb_call_float(call, "hidden_dropout_prob") : dropout);
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call);
  hfb_head_token_logits(nn, call, hfb_bert_predictions(nn, call, states.tokens, states.words), false);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call).tokens);
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call).tokens, hfb_call_float(call, "hidden_dropout_prob"));
}

/* Labels below 0 do not count; without any other the loss is 0. */
static hfb_value *single_label_loss(hfb_nn *nn, hfb_value *logits, hfb_value *labels) {
  hfb_builder *b = nn->b;
  hfb_value *negative = hfb_binary(b, HFB_OP_LT, labels, hfb_scalar(b, HFB_I64, 0));
  hfb_value *loss = hfb_nn_cross_entropy(nn, logits, hfb_where(b, negative, hfb_scalar(b, HFB_I64, -100), labels));
  hfb_value *largest = hfb_reduce(b, HFB_OP_REDUCE_MAX, labels, 1, (int[]){0}, false);
  hfb_value *none = hfb_binary(b, HFB_OP_LT, largest, hfb_scalar(b, HFB_I64, 0));
  return hfb_where(b, none, hfb_scalar(b, HFB_F32, 0), loss);
}

/* Labels are weights of the classes. */
static hfb_value *soft_label_loss(hfb_nn *nn, hfb_value *logits, hfb_value *labels) {
  hfb_builder *b = nn->b;
  hfb_value *weighted = hfb_mul(b, hfb_log_softmax(b, logits, 1), hfb_cast(b, labels, HFB_F32));
  hfb_value *rows = hfb_reduce(b, HFB_OP_REDUCE_SUM, weighted, 1, (int[]){1}, false);
  return hfb_unary(b, HFB_OP_NEG, hfb_reduce(b, HFB_OP_REDUCE_MEAN, rows, 1, (int[]){0}, false));
}

/* DebertaForSequenceClassification settles an open problem_type in its own way. */
static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  int64_t classes = hfb_call_int(call, "num_labels");
  hfb_value *x = pooled(nn, call);
  hfb_value *logits = hfb_nn_linear(nn, "classifier", x, classes, true), *labels = hfb_call_arg(call, "labels");
  if (hfb_call_text(call, "problem_type") != NULL || labels == NULL || logits == NULL || classes == 1) {
    hfb_value *loss = hfb_head_classification_loss(nn, call, logits);
    if (loss != NULL) hfb_output_add(nn->b, "loss", loss);
    bool flat = loss != NULL && classes == 1 && hfb_call_text(call, "problem_type") == NULL;
    hfb_output_add(nn->b, "logits", flat ? hfb_reshape(nn->b, logits, 1, (int64_t[]){call->batch}) : logits);
    return;
  }
  hfb_shape soft = hfb_shape_of(2, (int64_t[]){call->batch, classes}), hard = hfb_shape_of(1, &call->batch);
  if (hfb_shape_equal(&labels->shape, &soft)) {
    hfb_output_add(nn->b, "loss", soft_label_loss(nn, logits, labels));
  } else if (labels->dtype == HFB_I64 && hfb_shape_equal(&labels->shape, &hard)) {
    hfb_output_add(nn->b, "loss", single_label_loss(nn, logits, labels));
  } else {
    char shape[HFB_SHAPE_TEXT_BYTES];
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument 'labels' is %s%s; it must be i64[%lld] or f32[%lld,%lld]",
                     hfb_dtype_name(labels->dtype), hfb_shape_print(&labels->shape, shape, sizeof shape),
                     (long long)call->batch, (long long)call->batch, (long long)classes);
  }
  hfb_output_add(nn->b, "logits", logits);
}

static void multiple_choice(hfb_nn *nn, const hfb_call *call) {
  hfb_head_multiple_choice(nn, call, pooled(nn, call), 0);
}

#define REFUSED "inputs_embeds output_attentions output_hidden_states"
#define TIED                                                                  \
  "cls.predictions.decoder.weight=deberta.embeddings.word_embeddings.weight " \
  "cls.predictions.decoder.bias=cls.predictions.bias"
#define IGNORED                                                                                                       \
  "*.position_ids *embeddings.position_embeddings.* lm_predictions.* mask_predictions.* cls.* qa_outputs.* pooler.* " \
  "deberta.pooler.* classifier.*"

static const hfb_class_row v1_classes[] = {
    {"DebertaForMaskedLM", masked_lm, HFB_BERT_INPUTS, REFUSED, TIED, IGNORED},
    {"DebertaForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, REFUSED, "", IGNORED},
    {"DebertaForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, REFUSED, "", IGNORED},
    {"DebertaForTokenClassification", token_classification, HFB_BERT_INPUTS, REFUSED, "", IGNORED},
};

static const hfb_class_row v2_classes[] = {
    {"DebertaV2ForMaskedLM", masked_lm, HFB_BERT_INPUTS, REFUSED, TIED, IGNORED},
    {"DebertaV2ForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, REFUSED, "", IGNORED},
    {"DebertaV2ForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, REFUSED, "", IGNORED},
    {"DebertaV2ForTokenClassification", token_classification, HFB_BERT_INPUTS, REFUSED, "", IGNORED},
    {"DebertaV2ForMultipleChoice", multiple_choice, HFB_BERT_INPUTS, REFUSED, "", IGNORED},
};

HFB_FAMILY_WITH(deberta, "deberta", "deberta", v1_fields, v1_classes, .traits = &v1_traits);
HFB_FAMILY_WITH(deberta_v2, "deberta-v2", "deberta", v2_fields, v2_classes, .traits = &v2_traits);
