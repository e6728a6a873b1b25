/* MobileBERT (Sun et al., 2020): thin layers between bottlenecks, several feed-forwards each, and scales in place of
 * norms. */
#include <math.h>
#include <string.h>

#include "models/bert_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "30522", NULL},
    {"embedding_size", HFB_FIELD_SIZE, "128", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "512", NULL},
    {"intra_bottleneck_size", HFB_FIELD_SIZE, "128", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "24", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "4", NULL},
    {"num_feedforward_networks", HFB_FIELD_COUNT, "4", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "512", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "relu", NULL},
    {"trigram_input", HFB_FIELD_BOOL, "true", NULL},
    {"use_bottleneck", HFB_FIELD_BOOL, "true", NULL},
    {"use_bottleneck_attention", HFB_FIELD_BOOL, "false", NULL},
    {"key_query_shared_bottleneck", HFB_FIELD_BOOL, "true", NULL},
    {"normalization_type", HFB_FIELD_TEXT, "no_norm", "no_norm|layer_norm"},
    {"classifier_activation", HFB_FIELD_BOOL, "true", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0", NULL},
    {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"classifier_dropout", HFB_FIELD_PROBABILITY, "null", "null"},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
};

#define TORCH_EPS 1e-5 /* of nn.LayerNorm, where the class passes none */

/* The width inside the bottlenecks: HF's true_hidden_size. */
static int64_t inner_width(const hfb_call *call) {
  return hfb_call_int(call, hfb_call_bool(call, "use_bottleneck") ? "intra_bottleneck_size" : "hidden_size");
}

/* ---- Norms: NoNorm registers its bias first ---- */

static bool is_plain_scale(const hfb_call *call) {
  return strcmp(hfb_call_text(call, "normalization_type"), "no_norm") == 0;
}

static void norm_declare(hfb_nn *nn, const hfb_call *call, const char *name, int64_t width) {
  if (!is_plain_scale(call)) {
    hfb_nn_layer_norm_declare(nn, name, width);
    return;
  }
  hfb_scope_push(nn->b, "%s", name);
  hfb_parameter(nn->b, "bias", hfb_shape_of(1, &width), hfb_init_constant(0));
  hfb_parameter(nn->b, "weight", hfb_shape_of(1, &width), hfb_init_constant(1));
  hfb_scope_pop(nn->b);
}

static hfb_value *norm(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x, double eps) {
  if (x == NULL) return NULL;
  int64_t width = x->shape.dim[x->shape.rank - 1];
  if (!is_plain_scale(call)) return hfb_nn_layer_norm(nn, name, x, eps);
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *bias = hfb_parameter(nn->b, "bias", hfb_shape_of(1, &width), hfb_init_constant(0));
  hfb_value *weight = hfb_parameter(nn->b, "weight", hfb_shape_of(1, &width), hfb_init_constant(1));
  hfb_scope_pop(nn->b);
  return hfb_add(nn->b, hfb_mul(nn->b, x, weight), bias);
}

/* ---- Embeddings ---- */

/* Next, own and previous embedding side by side, zeros at the ends: [B,S,3E]. */
static hfb_value *trigrams(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  hfb_value *next = hfb_pad(nn->b, hfb_slice(nn->b, x, 1, 1, call->length), 1, 0, 1, 0);
  hfb_value *previous = hfb_pad(nn->b, hfb_slice(nn->b, x, 1, 0, call->length - 1), 1, 1, 0, 0);
  return hfb_concat(nn->b, 3, (hfb_value *[]){next, x, previous}, 2);
}

static hfb_value *embed(hfb_nn *nn, const hfb_call *call, hfb_value **out_words) {
  int64_t narrow = hfb_call_int(call, "embedding_size"), width = hfb_call_int(call, "hidden_size");
  int64_t positions = hfb_call_int(call, "max_position_embeddings"), types = hfb_call_int(call, "type_vocab_size");
  int64_t pad = hfb_call_int(call, "pad_token_id");
  bool trigram = hfb_call_bool(call, "trigram_input");
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_scope_push(nn->b, "embeddings");
  *out_words = hfb_nn_embedding_weight(nn, "word_embeddings", hfb_call_int(call, "vocab_size"), narrow, pad);
  hfb_nn_embedding_weight(nn, "position_embeddings", positions, width, -1);
  hfb_nn_embedding_weight(nn, "token_type_embeddings", types, width, -1);
  hfb_nn_linear_declare(nn, "embedding_transformation", trigram ? 3 * narrow : narrow, width, true);

  hfb_value *x = hfb_embedding(nn->b, *out_words, hfb_call_arg(call, "input_ids"), pad);
  if (trigram) x = trigrams(nn, call, x);
  if (trigram || narrow != width) x = hfb_nn_linear(nn, "embedding_transformation", x, width, true);
  hfb_value *position = hfb_nn_embedding(nn, "position_embeddings", hfb_bert_positions(nn, call), positions, width, -1);
  hfb_value *type = hfb_nn_embedding(nn, "token_type_embeddings", hfb_bert_token_types(nn, call), types, width, -1);
  x = norm(nn, call, "LayerNorm", hfb_add(nn->b, hfb_add(nn->b, x, position), type), TORCH_EPS);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

/* ---- A layer ---- */

static void dense_and_norm_declare(hfb_nn *nn, const hfb_call *call, int64_t in, int64_t out) {
  hfb_nn_linear_declare(nn, "dense", in, out, true);
  norm_declare(nn, call, "LayerNorm", out);
}

/* The registration order: attention, intermediate and output, the bottlenecks, the other feed-forwards. */
static void layer_declare(hfb_nn *nn, const hfb_call *call) {
  int64_t wide = hfb_call_int(call, "hidden_size"), thin = inner_width(call);
  int64_t middle = hfb_call_int(call, "intermediate_size");
  hfb_scope_push(nn->b, "attention");
  hfb_nn_linear_declare(nn, "self.query", thin, thin, true);
  hfb_nn_linear_declare(nn, "self.key", thin, thin, true);
  hfb_nn_linear_declare(nn, "self.value", hfb_call_bool(call, "use_bottleneck_attention") ? thin : wide, thin, true);
  hfb_scope_push(nn->b, "output");
  dense_and_norm_declare(nn, call, thin, thin);
  hfb_scope_pop(nn->b);
  hfb_scope_pop(nn->b);
  hfb_nn_linear_declare(nn, "intermediate.dense", thin, middle, true);
  hfb_scope_push(nn->b, "output");
  dense_and_norm_declare(nn, call, middle, thin);
  if (hfb_call_bool(call, "use_bottleneck")) {
    hfb_scope_push(nn->b, "bottleneck");
    dense_and_norm_declare(nn, call, thin, wide);
    hfb_scope_pop(nn->b);
  }
  hfb_scope_pop(nn->b);
}

/* dense, norm: BottleneckLayer. */
static hfb_value *narrowed(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x) {
  hfb_scope_push(nn->b, "bottleneck.%s", name);
  x = hfb_nn_linear(nn, "dense", x, hfb_call_int(call, "intra_bottleneck_size"), true);
  x = norm(nn, call, "LayerNorm", x, hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return x;
}

/* What a layer's attention reads. */
typedef struct layer_inputs {
  hfb_value *query, *key, *value;
  hfb_value *residual; /* of the attention's output */
} layer_inputs;

/* Bottleneck. Its second projection exists whenever query and key share one, even if only the first is read. */
static layer_inputs bottleneck(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  int64_t wide = hfb_call_int(call, "hidden_size"), thin = inner_width(call);
  bool shared = hfb_call_bool(call, "key_query_shared_bottleneck");
  if (!hfb_call_bool(call, "use_bottleneck")) return (layer_inputs){x, x, x, x};
  hfb_value *input = narrowed(nn, call, "input", x);
  if (hfb_call_bool(call, "use_bottleneck_attention")) {
    hfb_scope_push(nn->b, "bottleneck.attention");
    if (shared) dense_and_norm_declare(nn, call, wide, thin);
    hfb_scope_pop(nn->b);
    return (layer_inputs){input, input, input, input};
  }
  if (shared) {
    hfb_value *both = narrowed(nn, call, "attention", x);
    return (layer_inputs){both, both, x, input};
  }
  if (wide != thin) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "key_query_shared_bottleneck and use_bottleneck_attention are both false: this needs hidden_size "
                     "%lld to equal intra_bottleneck_size %lld",
                     (long long)wide, (long long)thin);
  }
  return (layer_inputs){x, x, x, input};
}

static hfb_value *attention(hfb_nn *nn, const hfb_call *call, const layer_inputs *inputs, hfb_value *mask_bias) {
  int64_t width = inner_width(call), heads = hfb_call_int(call, "num_attention_heads");
  hfb_scope_push(nn->b, "attention");
  hfb_value *q = hfb_nn_linear(nn, "self.query", inputs->query, width, true);
  hfb_value *k = hfb_nn_linear(nn, "self.key", inputs->key, width, true);
  hfb_value *v = hfb_nn_linear(nn, "self.value", inputs->value, width, true);
  hfb_nn_attention how = {.query_scale = 1,
                          .score_scale = 1 / sqrt((double)(width / heads)),
                          .bias = mask_bias,
                          .dropout = hfb_call_float(call, "attention_probs_dropout_prob")};
  q = hfb_nn_split_heads(nn, q, heads);
  k = hfb_nn_split_heads(nn, k, heads);
  v = hfb_nn_split_heads(nn, v, heads);
  hfb_value *x = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &how, q, k, v));
  hfb_scope_push(nn->b, "output");
  x = hfb_nn_linear(nn, "dense", x, width, true);
  if (!hfb_call_bool(call, "use_bottleneck")) x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
  x = norm(nn, call, "LayerNorm", hfb_add(nn->b, x, inputs->residual), hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  hfb_scope_pop(nn->b);
  return x;
}

static hfb_value *intermediate(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  x = hfb_nn_linear(nn, "intermediate.dense", x, hfb_call_int(call, "intermediate_size"), true);
  return hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), x);
}

/* FFNLayer. */
static hfb_value *feed_forward(hfb_nn *nn, const hfb_call *call, hfb_value *x, int index) {
  hfb_scope_push(nn->b, "ffn.%d", index);
  hfb_value *inner = hfb_nn_linear(nn, "output.dense", intermediate(nn, call, x), inner_width(call), true);
  x = norm(nn, call, "output.LayerNorm", hfb_add(nn->b, inner, x), hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return x;
}

/* MobileBertOutput: the last feed-forward's second half, then out of the bottleneck onto the layer's input. */
static hfb_value *output(hfb_nn *nn, const hfb_call *call, hfb_value *inner, hfb_value *x, hfb_value *layer_input) {
  double p = hfb_call_float(call, "hidden_dropout_prob");
  bool use_bottleneck = hfb_call_bool(call, "use_bottleneck");
  hfb_scope_push(nn->b, "output");
  inner = hfb_nn_linear(nn, "dense", inner, inner_width(call), true);
  if (!use_bottleneck) inner = hfb_nn_dropout(nn, inner, p);
  x = norm(nn, call, "LayerNorm", hfb_add(nn->b, inner, x), TORCH_EPS);
  if (use_bottleneck) {
    hfb_scope_push(nn->b, "bottleneck");
    x = hfb_nn_dropout(nn, hfb_nn_linear(nn, "dense", x, hfb_call_int(call, "hidden_size"), true), p);
    x = norm(nn, call, "LayerNorm", hfb_add(nn->b, x, layer_input), hfb_call_float(call, "layer_norm_eps"));
    hfb_scope_pop(nn->b);
  }
  hfb_scope_pop(nn->b);
  return x;
}

static hfb_value *layer(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *mask_bias) {
  layer_declare(nn, call);
  layer_inputs inputs = bottleneck(nn, call, x);
  hfb_value *inner = attention(nn, call, &inputs, mask_bias);
  for (int i = 0; i + 1 < hfb_call_int(call, "num_feedforward_networks"); i++) {
    inner = feed_forward(nn, call, inner, i);
  }
  return output(nn, call, intermediate(nn, call, inner), inner, x);
}

/* MobileBertModel; without classifier_activation the pooler is the first token itself. */
static hfb_bert_states model(hfb_nn *nn, const hfb_call *call, bool pooled) {
  hfb_bert_states states = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, hfb_call_bool(call, "use_bottleneck") ? "intra_bottleneck_size" : "hidden_size",
                       "num_attention_heads");
  hfb_scope_push(nn->b, "mobilebert");
  hfb_value *x = embed(nn, call, &states.words), *mask_bias = hfb_bert_mask_bias(nn, call);
  for (int64_t i = 0; i < hfb_call_int(call, "num_hidden_layers"); i++) {
    hfb_scope_push(nn->b, "encoder.layer.%d", (int)i);
    x = layer(nn, call, x, mask_bias);
    hfb_scope_pop(nn->b);
  }
  states.tokens = x;
  if (pooled) {
    states.pooled =
        hfb_call_bool(call, "classifier_activation") ? hfb_bert_pool(nn, call, x) : hfb_first_token(nn, call, x);
  }
  hfb_scope_pop(nn->b);
  return states;
}

/* ---- Heads ---- */

/* MobileBertLMPredictionHead: the word table supplies the first rows of the last matrix, `dense` the others. */
static hfb_value *predictions(hfb_nn *nn, const hfb_call *call, const hfb_bert_states *states) {
  int64_t vocab = hfb_call_int(call, "vocab_size"), width = hfb_call_int(call, "hidden_size");
  int64_t rest = width - hfb_call_int(call, "embedding_size");
  if (rest <= 0) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "embedding_size %lld must be smaller than hidden_size %lld",
                     (long long)(width - rest), (long long)width);
    return NULL;
  }
  hfb_scope_push(nn->b, "cls.predictions");
  hfb_value *bias = hfb_parameter(nn->b, "bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  hfb_scope_push(nn->b, "transform");
  hfb_value *x = hfb_nn_linear(nn, "dense", states->tokens, width, true);
  x = hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), x);
  x = hfb_nn_layer_norm(nn, "LayerNorm", x, hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  hfb_value *lower =
      hfb_parameter(nn->b, "dense.weight", hfb_shape_of(2, (int64_t[]){rest, vocab}), hfb_init_normal(nn->init_std));
  hfb_value *words = hfb_head_output_weight(nn, call, "decoder.weight", states->words);
  hfb_scope_pop(nn->b);
  hfb_value *upper = hfb_transpose(nn->b, words, (int[]){1, 0});
  hfb_value *weight = hfb_concat(nn->b, 2, (hfb_value *[]){upper, lower}, 0);
  return hfb_add(nn->b, hfb_linear_op(nn->b, x, weight, NULL, false), bias);
}

static void pretraining(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, true);
  hfb_bert_pretraining(nn, call, predictions(nn, call, &states), states.pooled);
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, false);
  hfb_head_token_logits(nn, call, predictions(nn, call, &states), false);
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

#define TIED                                                                     \
  "cls.predictions.decoder.weight=mobilebert.embeddings.word_embeddings.weight " \
  "cls.predictions.decoder.bias=cls.predictions.bias"
#define IGNORED "*.position_ids *.token_type_ids cls.* qa_outputs.* classifier.* mobilebert.pooler.*"

static const hfb_class_row classes[] = {
    {"MobileBertForPreTraining", pretraining, HFB_BERT_PAIR_INPUTS, HFB_REFUSED_ENCODER, TIED, IGNORED},
    {"MobileBertForMaskedLM", masked_lm, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, TIED, IGNORED},
    {"MobileBertForNextSentencePrediction", next_sentence, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"MobileBertForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"MobileBertForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"MobileBertForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"MobileBertForMultipleChoice", multiple_choice, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(mobilebert, "mobilebert", "mobilebert", fields, classes);
