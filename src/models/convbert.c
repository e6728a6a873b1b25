/* ConvBERT (Jiang et al., 2020): half of the attention heads are convolutions whose kernels depend on the tokens. */
#include <math.h>

#include "models/bert_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "30522", NULL},
    {"embedding_size", HFB_FIELD_SIZE, "768", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "768", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},
    {"head_ratio", HFB_FIELD_COUNT, "2", NULL},
    {"conv_kernel_size", HFB_FIELD_SIZE, "9", NULL},
    {"num_groups", HFB_FIELD_COUNT, "1", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "3072", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"classifier_dropout", HFB_FIELD_PROBABILITY, "null", "null"},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"pad_token_id", HFB_FIELD_ID, "1", NULL},
    {"is_decoder", HFB_FIELD_BOOL, "false", "false"},
};

/* Heads that attend, and as many that convolve: head_ratio divides the configured number, at least one is left. */
static int64_t head_count(const hfb_call *call) {
  int64_t heads = hfb_call_int(call, "num_attention_heads") / hfb_call_int(call, "head_ratio");
  return heads < 1 ? 1 : heads;
}

/* SeparableConv1D: depthwise, then a product over the features. */
static hfb_value *separable(hfb_nn *nn, const hfb_call *call, hfb_value *x, int64_t out) {
  int64_t in = hfb_call_int(call, "hidden_size");
  hfb_scope_push(nn->b, "key_conv_attn_layer");
  hfb_value *bias = hfb_parameter(nn->b, "bias", hfb_shape_of(2, (int64_t[]){out, 1}), hfb_init_constant(0));
  x = hfb_nn_depthwise_convolution(nn, "depthwise", x, hfb_call_int(call, "conv_kernel_size"));
  hfb_value *weight =
      hfb_parameter(nn->b, "pointwise.weight", hfb_shape_of(3, (int64_t[]){out, in, 1}), hfb_init_normal(nn->init_std));
  hfb_scope_pop(nn->b);
  x = hfb_linear_op(nn->b, x, hfb_reshape(nn->b, weight, 2, (int64_t[]){out, in}), NULL, true);
  return hfb_add(nn->b, x, hfb_reshape(nn->b, bias, 1, &out));
}

/* The heads that convolve, [B,S,heads,d]: each token and head has a kernel of its own, a softmax over its taps. */
static hfb_value *span_convolution(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *key_times_query) {
  int64_t heads = head_count(call), taps = hfb_call_int(call, "conv_kernel_size");
  int64_t size = hfb_call_int(call, "hidden_size") / heads / 2;
  hfb_value *scores = hfb_nn_linear(nn, "conv_kernel_layer", key_times_query, heads * taps, true);
  scores = hfb_reshape(nn->b, scores, 4, (int64_t[]){call->batch, call->length, heads, taps});
  hfb_value *kernel = hfb_softmax(nn->b, scores, 3), *weights[HFB_NN_KERNEL_MAX];
  x = hfb_nn_linear(nn, "conv_out_layer", x, heads * size, true);
  x = hfb_reshape(nn->b, x, 4, (int64_t[]){call->batch, call->length, heads, size});
  if (x == NULL || kernel == NULL) return NULL;
  for (int64_t j = 0; j < taps && j < HFB_NN_KERNEL_MAX; j++) weights[j] = hfb_slice(nn->b, kernel, 3, j, j + 1);
  return hfb_nn_window_sum(nn, x, taps, weights);
}

/* ConvBertSelfAttention: the attending heads, then the convolving ones, [B,S,D]. */
static hfb_value *self_attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *mask_bias) {
  int64_t width = hfb_call_int(call, "hidden_size"), heads = head_count(call), size = width / heads / 2;
  int64_t half = heads * size;
  hfb_scope_push(nn->b, "self");
  hfb_value *query = hfb_nn_linear(nn, "query", x, half, true);
  hfb_value *key = hfb_nn_linear(nn, "key", x, half, true);
  hfb_value *value = hfb_nn_linear(nn, "value", x, half, true);
  hfb_value *key_times_query = hfb_mul(nn->b, separable(nn, call, x, half), query);
  hfb_value *convolved = span_convolution(nn, call, x, key_times_query);
  hfb_scope_pop(nn->b);

  hfb_nn_attention how = {.query_scale = 1,
                          .score_scale = 1 / sqrt((double)size),
                          .bias = mask_bias,
                          .dropout = hfb_call_float(call, "attention_probs_dropout_prob")};
  query = hfb_nn_split_heads(nn, query, heads);
  key = hfb_nn_split_heads(nn, key, heads);
  value = hfb_nn_split_heads(nn, value, heads);
  hfb_value *attended = hfb_nn_attend(nn, &how, query, key, value);
  if (attended == NULL) return NULL;
  attended = hfb_transpose(nn->b, attended, (int[]){0, 2, 1, 3});
  hfb_value *both = hfb_concat(nn->b, 2, (hfb_value *[]){attended, convolved}, 2);
  return hfb_reshape(nn->b, both, 3, (int64_t[]){call->batch, call->length, width});
}

/* nn.Linear, or with num_groups > 1 GroupedLinearLayer: weight [groups,in/groups,out/groups]. */
static hfb_value *grouped_linear(hfb_nn *nn, const hfb_call *call, hfb_value *x, int64_t out) {
  hfb_builder *b = nn->b;
  int64_t groups = hfb_call_int(call, "num_groups"), tokens = call->batch * call->length;
  if (groups == 1 || x == NULL) return hfb_nn_linear(nn, "dense", x, out, true);
  int64_t in = x->shape.dim[2];
  if (in % groups != 0 || out % groups != 0) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT,
                     "num_groups %lld does not divide hidden_size and intermediate_size, %lld and %lld",
                     (long long)groups, (long long)in, (long long)out);
    return NULL;
  }
  hfb_scope_push(b, "dense");
  hfb_value *weight = hfb_parameter(b, "weight", hfb_shape_of(3, (int64_t[]){groups, in / groups, out / groups}),
                                    hfb_init_normal(nn->init_std));
  hfb_value *bias = hfb_parameter(b, "bias", hfb_shape_of(1, &out), hfb_init_constant(0));
  hfb_scope_pop(b);
  x = hfb_transpose(b, hfb_reshape(b, x, 3, (int64_t[]){tokens, groups, in / groups}), (int[]){1, 0, 2});
  x = hfb_transpose(b, hfb_matmul(b, x, weight, false, false), (int[]){1, 0, 2});
  return hfb_add(b, hfb_reshape(b, x, 3, (int64_t[]){call->batch, call->length, out}), bias);
}

static hfb_value *feed_forward(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  hfb_scope_push(nn->b, "intermediate");
  hfb_value *inner = grouped_linear(nn, call, x, hfb_call_int(call, "intermediate_size"));
  hfb_scope_pop(nn->b);
  inner = hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), inner);
  hfb_scope_push(nn->b, "output");
  inner = grouped_linear(nn, call, inner, hfb_call_int(call, "hidden_size"));
  inner = hfb_nn_dropout(nn, inner, hfb_call_float(call, "hidden_dropout_prob"));
  x = hfb_nn_layer_norm(nn, "LayerNorm", hfb_add(nn->b, inner, x), hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return x;
}

/* ConvBertModel; the projection exists only where the widths differ. */
static hfb_bert_states model(hfb_nn *nn, const hfb_call *call) {
  int64_t narrow = hfb_call_int(call, "embedding_size"), width = hfb_call_int(call, "hidden_size");
  hfb_bert_states states = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  if (width % (2 * head_count(call)) != 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "hidden_size %lld is not a multiple of twice the heads, num_attention_heads / head_ratio = %lld",
                     (long long)width, (long long)head_count(call));
    return states;
  }
  hfb_scope_push(nn->b, "convbert");
  hfb_value *x = hfb_bert_embed_plain(nn, call, narrow);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
  if (narrow != width) x = hfb_nn_linear(nn, "embeddings_project", x, width, true);
  hfb_value *mask_bias = hfb_bert_mask_bias(nn, call);
  for (int64_t i = 0; i < hfb_call_int(call, "num_hidden_layers"); i++) {
    hfb_scope_push(nn->b, "encoder.layer.%d", (int)i);
    hfb_scope_push(nn->b, "attention");
    x = hfb_bert_output(nn, call, self_attention(nn, call, x, mask_bias), x);
    hfb_scope_pop(nn->b);
    x = feed_forward(nn, call, x);
    hfb_scope_pop(nn->b);
  }
  states.tokens = x;
  states.words = hfb_nn_embedding_weight(nn, "embeddings.word_embeddings", hfb_call_int(call, "vocab_size"), narrow,
                                         hfb_call_int(call, "pad_token_id"));
  hfb_scope_pop(nn->b);
  return states;
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call);
  hfb_head_token_logits(nn, call, hfb_bert_generator_logits(nn, call, states.tokens, states.words), false);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call).tokens);
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call).tokens, hfb_classifier_dropout(call));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_classification_head(nn, call, model(nn, call).tokens, hfb_call_text(call, "hidden_act"),
                               hfb_classifier_dropout(call));
}

#define TIED "generator_lm_head.weight=convbert.embeddings.word_embeddings.weight"
#define IGNORED                                                                                              \
  "*.position_ids *.token_type_ids generator_predictions.* generator_lm_head.* discriminator_predictions.* " \
  "qa_outputs.* classifier.*"

static const hfb_class_row classes[] = {
    {"ConvBertForMaskedLM", masked_lm, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, TIED, IGNORED},
    {"ConvBertForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"ConvBertForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"ConvBertForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(convbert, "convbert", "convbert", fields, classes);
