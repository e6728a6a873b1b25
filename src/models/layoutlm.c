/* LayoutLM (Xu et al., 2019): BERT that knows where on the page each token stands. */
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
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"max_2d_position_embeddings", HFB_FIELD_SIZE, "1024", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
    {"position_embedding_type", HFB_FIELD_TEXT, "absolute", HFB_BERT_POSITION_TYPES},
    {"is_decoder", HFB_FIELD_BOOL, "false", "false"},
};

/* Sides of a token's box on the page, [B,S] each: left, upper, right, lower. */
typedef struct box {
  hfb_value *side[4];
} box;

/* bbox i64 [B,S,4], zeros when not given. */
static box sides_of(hfb_nn *nn, const hfb_call *call) {
  box out = {0};
  hfb_shape shape = hfb_shape_of(2, (int64_t[]){call->batch, call->length});
  hfb_value *given = hfb_call_arg(call, "bbox");
  if (given == NULL) {
    hfb_value *zero = hfb_full(nn->b, HFB_I64, shape, 0);
    for (int i = 0; i < 4; i++) out.side[i] = zero;
    return out;
  }
  hfb_shape expected = hfb_shape_of(3, (int64_t[]){call->batch, call->length, 4});
  if (given->dtype != HFB_I64 || !hfb_shape_equal(&given->shape, &expected)) {
    char text[HFB_SHAPE_TEXT_BYTES];
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument 'bbox' is %s%s; it must be i64[%lld,%lld,4]",
                     hfb_dtype_name(given->dtype), hfb_shape_print(&given->shape, text, sizeof text),
                     (long long)call->batch, (long long)call->length);
    return out;
  }
  for (int i = 0; i < 4; i++) {
    hfb_value *side = hfb_slice(nn->b, given, 2, i, i + 1);
    out.side[i] = hfb_reshape(nn->b, side, 2, shape.dim);
  }
  return out;
}

/* x + table[ids]; `rows` is the field with the number of rows of the table. */
static hfb_value *plus(hfb_nn *nn, const hfb_call *call, hfb_value *x, const char *table, hfb_value *ids,
                       const char *rows) {
  return hfb_add(nn->b, x,
                 hfb_nn_embedding(nn, table, ids, hfb_call_int(call, rows), hfb_call_int(call, "hidden_size"), -1));
}

/* LayoutLMEmbeddings. */
static hfb_value *embed(hfb_nn *nn, const hfb_call *call) {
  static const char *const planes[] = {"x_position_embeddings", "y_position_embeddings", "h_position_embeddings",
                                       "w_position_embeddings"};
  static const char page[] = "max_2d_position_embeddings";
  int64_t width = hfb_call_int(call, "hidden_size"), vocab = hfb_call_int(call, "vocab_size");
  int64_t pad = hfb_call_int(call, "pad_token_id"), positions = hfb_call_int(call, "max_position_embeddings");
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_scope_push(nn->b, "embeddings");
  hfb_nn_embedding_weight(nn, "word_embeddings", vocab, width, pad);
  hfb_nn_embedding_weight(nn, "position_embeddings", positions, width, -1);
  for (int i = 0; i < 4; i++) hfb_nn_embedding_weight(nn, planes[i], hfb_call_int(call, page), width, -1);

  box at = sides_of(nn, call);
  hfb_value *x = hfb_nn_embedding(nn, "word_embeddings", hfb_call_arg(call, "input_ids"), vocab, width, pad);
  x = plus(nn, call, x, "position_embeddings", hfb_bert_positions(nn, call), "max_position_embeddings");
  for (int i = 0; i < 4; i++) x = plus(nn, call, x, planes[i % 2], at.side[i], page);
  x = plus(nn, call, x, planes[2], hfb_sub(nn->b, at.side[3], at.side[1]), page);
  x = plus(nn, call, x, planes[3], hfb_sub(nn->b, at.side[2], at.side[0]), page);
  x = plus(nn, call, x, "token_type_embeddings", hfb_bert_token_types(nn, call), "type_vocab_size");
  x = hfb_nn_layer_norm(nn, "LayerNorm", x, hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

/* LayoutLMModel; every class owns the pooler, whether its head reads it or not. */
static hfb_bert_states model(hfb_nn *nn, const hfb_call *call, bool pooled) {
  int64_t width = hfb_call_int(call, "hidden_size");
  hfb_bert_states states = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_scope_push(nn->b, "layoutlm");
  states.tokens = hfb_bert_encode(nn, call, embed(nn, call));
  if (pooled) {
    states.pooled = hfb_bert_pool(nn, call, states.tokens);
  } else {
    hfb_nn_linear_declare(nn, "pooler.dense", width, width, true);
  }
  states.words = hfb_nn_embedding_weight(nn, "embeddings.word_embeddings", hfb_call_int(call, "vocab_size"), width,
                                         hfb_call_int(call, "pad_token_id"));
  hfb_scope_pop(nn->b);
  return states;
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, false);
  hfb_head_token_logits(nn, call, hfb_bert_predictions(nn, call, states.tokens, states.words), false);
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

#define INPUTS "input_ids bbox attention_mask token_type_ids position_ids labels"
#define TIED                                                                   \
  "cls.predictions.decoder.weight=layoutlm.embeddings.word_embeddings.weight " \
  "cls.predictions.decoder.bias=cls.predictions.bias"
#define IGNORED "*.position_ids *.token_type_ids cls.* qa_outputs.* classifier.*"

static const hfb_class_row classes[] = {
    {"LayoutLMForMaskedLM", masked_lm, INPUTS, HFB_REFUSED_ENCODER " encoder_hidden_states encoder_attention_mask",
     TIED, IGNORED},
    {"LayoutLMForSequenceClassification", sequence_classification, INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"LayoutLMForTokenClassification", token_classification, INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"LayoutLMForQuestionAnswering", question_answering,
     "input_ids bbox attention_mask token_type_ids position_ids start_positions end_positions", HFB_REFUSED_ENCODER, "",
     IGNORED},
};

HFB_FAMILY(layoutlm, "layoutlm", "layoutlm", fields, classes);
