/* Longformer (Beltagy et al., 2020): each token attends to its neighbourhood, chosen tokens to all and all to them. */
#include <math.h>
#include <stdio.h>

#include "models/bert_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "30522", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "768", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},
    {"attention_window", HFB_FIELD_SIZES, "512", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "3072", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"pad_token_id", HFB_FIELD_ID, "1", NULL},
    {"bos_token_id", HFB_FIELD_ID, "0", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
    {"sep_token_id", HFB_FIELD_ID, "2", NULL},
};

/* Which tokens count and which are global: bool [B,S], NULL: all count, none is global. */
typedef struct marks {
  hfb_value *counts, *global;
} marks;

static hfb_value *as_keys(hfb_nn *nn, const hfb_call *call, hfb_value *mark) {
  return hfb_reshape(nn->b, mark, 4, (int64_t[]){call->batch, 1, 1, call->length});
}

static hfb_value *as_queries(hfb_nn *nn, const hfb_call *call, hfb_value *mark) {
  return hfb_reshape(nn->b, mark, 4, (int64_t[]){call->batch, 1, call->length, 1});
}

/* A masked token is not global, whatever it is marked as. */
static marks marks_of(hfb_nn *nn, const hfb_call *call, hfb_value *global) {
  hfb_builder *b = nn->b;
  marks m = {.global = global};
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  if (mask == NULL) return m;
  m.counts = hfb_binary(b, HFB_OP_NE, mask, hfb_scalar(b, HFB_I64, 0));
  if (global != NULL) m.global = hfb_binary(b, HFB_OP_AND, global, m.counts);
  return m;
}

/* global_attention_mask as bool [B,S], NULL when not given. */
static hfb_value *given_global(hfb_nn *nn, const hfb_call *call) {
  hfb_value *mask = hfb_call_ids(nn, call, "global_attention_mask", call->batch, call->length);
  return mask == NULL ? NULL : hfb_binary(nn->b, HFB_OP_NE, mask, hfb_scalar(nn->b, HFB_I64, 0));
}

static hfb_value *token_index(hfb_nn *nn, const hfb_call *call) {
  return hfb_iota(nn->b, HFB_I64, hfb_shape_of(2, (int64_t[]){call->batch, call->length}), 1);
}

/* Position of the first separator: i64 [B,1]. HF demands three of them in each row; here rows without one have 0. */
static hfb_value *first_separator(hfb_nn *nn, const hfb_call *call) {
  int64_t separator = hfb_call_int(call, "sep_token_id");
  if (separator < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "sep_token_id must not be null: global attention starts from it; or give global_attention_mask");
    return NULL;
  }
  hfb_value *ids = hfb_call_arg(call, "input_ids");
  hfb_value *is_separator = hfb_binary(nn->b, HFB_OP_EQ, ids, hfb_scalar(nn->b, HFB_I64, (double)separator));
  return hfb_argmax(nn->b, hfb_cast(nn->b, is_separator, HFB_I64), 1, true);
}

/* ---- Attention ---- */

typedef struct heads {
  hfb_value *q, *k, *v; /* [B,H,S,d] */
} heads;

static heads project(hfb_nn *nn, const hfb_call *call, hfb_value *x, const char *suffix) {
  int64_t width = hfb_call_int(call, "hidden_size"), count = hfb_call_int(call, "num_attention_heads");
  char names[3][32];
  static const char *const parts[] = {"query", "key", "value"};
  hfb_value *out[3];
  for (int i = 0; i < 3; i++) {
    snprintf(names[i], sizeof names[i], "%s%s", parts[i], suffix);
    out[i] = hfb_nn_linear(nn, names[i], x, width, true);
  }
  out[0] = hfb_mul_scalar(nn->b, out[0], 1 / sqrt((double)width / (double)count));
  for (int i = 0; i < 3; i++) out[i] = hfb_nn_split_heads(nn, out[i], count);
  return (heads){out[0], out[1], out[2]};
}

/* softmax over the kept keys (NULL: all), zero for the queries that do not count (NULL: all do): [B,S,D]. */
static hfb_value *attend(hfb_nn *nn, const hfb_call *call, const heads *h, hfb_value *keep, hfb_value *queries) {
  hfb_builder *b = nn->b;
  hfb_value *scores = hfb_matmul(b, h->q, h->k, false, true);
  if (keep != NULL) scores = hfb_where(b, keep, scores, hfb_scalar(b, HFB_F32, hfb_nn_masked_score()));
  hfb_value *weights = hfb_softmax(b, scores, -1);
  if (queries != NULL) weights = hfb_where(b, queries, weights, hfb_scalar(b, HFB_F32, 0));
  weights = hfb_nn_dropout(nn, weights, hfb_call_float(call, "attention_probs_dropout_prob"));
  return hfb_nn_merge_heads(nn, hfb_matmul(b, weights, h->v, false, false));
}

/* The keys of ordinary queries: counting neighbours up to half a window away, and all global tokens. */
static hfb_value *local_keep(hfb_nn *nn, const hfb_call *call, const marks *m, int64_t window) {
  hfb_builder *b = nn->b;
  hfb_value *keep = hfb_nn_band_keep(nn, call->length, window / 2);
  if (m->counts != NULL) keep = hfb_binary(b, HFB_OP_AND, keep, as_keys(nn, call, m->counts));
  if (m->global != NULL) keep = hfb_binary(b, HFB_OP_OR, keep, as_keys(nn, call, m->global));
  return keep;
}

/* LongformerSelfAttention: global tokens attend to all tokens, through projections of their own. */
static hfb_value *self_attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, const marks *m, int64_t window) {
  static const char *const global_names[] = {"query_global", "key_global", "value_global"};
  int64_t width = hfb_call_int(call, "hidden_size");
  hfb_scope_push(nn->b, "self");
  heads h = project(nn, call, x, "");
  hfb_value *queries = m->counts == NULL ? NULL : as_queries(nn, call, m->counts);
  hfb_value *keep = local_keep(nn, call, m, window);
  hfb_value *context = attend(nn, call, &h, keep, queries);
  if (m->global == NULL) {
    for (int i = 0; i < 3; i++) hfb_nn_linear_declare(nn, global_names[i], width, width, true);
  } else {
    h = project(nn, call, x, "_global");
    keep = m->counts == NULL ? NULL : as_keys(nn, call, m->counts);
    hfb_value *of_global = attend(nn, call, &h, keep, NULL);
    hfb_value *is_global = hfb_reshape(nn->b, m->global, 3, (int64_t[]){call->batch, call->length, 1});
    context = hfb_where(nn->b, is_global, of_global, context);
  }
  hfb_scope_pop(nn->b);
  return context;
}

/* ---- The model ---- */

/* LongformerEmbeddings: positions skip padding, as RoBERTa's; their table is registered last. */
static hfb_value *embed(hfb_nn *nn, const hfb_call *call, hfb_value **out_words) {
  int64_t width = hfb_call_int(call, "hidden_size"), pad = hfb_call_int(call, "pad_token_id");
  int64_t types = hfb_call_int(call, "type_vocab_size"), rows = hfb_call_int(call, "max_position_embeddings");
  if (pad < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "pad_token_id must not be null: positions are counted from it");
    return NULL;
  }
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_value *positions = hfb_call_positions(nn, call, "position_ids", call->length);
  if (positions == NULL) positions = hfb_nn_padding_aware_positions(nn, hfb_call_arg(call, "input_ids"), pad);
  hfb_scope_push(nn->b, "embeddings");
  *out_words = hfb_nn_embedding_weight(nn, "word_embeddings", hfb_call_int(call, "vocab_size"), width, pad);
  hfb_nn_embedding_weight(nn, "token_type_embeddings", types, width, -1);
  hfb_nn_layer_norm_declare(nn, "LayerNorm", width);
  hfb_value *x = hfb_embedding(nn->b, *out_words, hfb_call_arg(call, "input_ids"), pad);
  x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "position_embeddings", positions, rows, width, pad));
  hfb_value *type_ids = hfb_bert_token_types(nn, call);
  x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "token_type_embeddings", type_ids, types, width, -1));
  x = hfb_nn_layer_norm(nn, "LayerNorm", x, hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

/* One even window for each layer. */
static void check_windows(hfb_nn *nn, const hfb_call *call) {
  int64_t layers = hfb_call_int(call, "num_hidden_layers");
  int64_t count = hfb_config_size_count(call->config, "attention_window");
  if (count != 0 && count != layers) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "attention_window has %lld entries for %lld layers", (long long)count,
                     (long long)layers);
  }
  for (int64_t i = 0; i < layers; i++) {
    int64_t window = hfb_call_size_at(call, "attention_window", i);
    if (window % 2 == 0) continue;
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "attention_window is %lld in layer %lld; windows are even",
                     (long long)window, (long long)i);
    return;
  }
}

/* LongformerModel; global: bool [B,S] or NULL. */
static hfb_bert_states model(hfb_nn *nn, const hfb_call *call, hfb_value *global, bool pooled) {
  hfb_bert_states states = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  check_windows(nn, call);
  marks m = marks_of(nn, call, global);
  hfb_scope_push(nn->b, "longformer");
  hfb_value *x = embed(nn, call, &states.words);
  for (int64_t i = 0; i < hfb_call_int(call, "num_hidden_layers"); i++) {
    hfb_scope_push(nn->b, "encoder.layer.%d", (int)i);
    hfb_scope_push(nn->b, "attention");
    hfb_value *context = self_attention(nn, call, x, &m, hfb_call_size_at(call, "attention_window", i));
    x = hfb_bert_output(nn, call, context, x);
    hfb_scope_pop(nn->b);
    x = hfb_bert_feed_forward(nn, call, x);
    hfb_scope_pop(nn->b);
  }
  states.tokens = x;
  if (pooled) states.pooled = hfb_bert_pool(nn, call, x);
  hfb_scope_pop(nn->b);
  return states;
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, given_global(nn, call), false);
  hfb_head_token_logits(nn, call, hfb_bert_lm_head(nn, call, states.tokens, states.words), false);
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value *tokens = model(nn, call, given_global(nn, call), false).tokens;
  hfb_head_token_classification(nn, call, tokens, hfb_call_float(call, "hidden_dropout_prob"));
}

/* Unless given, the first token is global. */
static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value *global = given_global(nn, call);
  if (global == NULL) {
    global = hfb_binary(nn->b, HFB_OP_EQ, token_index(nn, call), hfb_scalar(nn->b, HFB_I64, 0));
  }
  hfb_value *tokens = model(nn, call, global, false).tokens;
  hfb_bert_classification_head(nn, call, tokens, "tanh", hfb_call_float(call, "hidden_dropout_prob"));
}

/* Unless given, the question is global: the tokens in front of the first separator. */
static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_value *global = given_global(nn, call);
  if (global == NULL) {
    hfb_value *end = first_separator(nn, call);
    global = hfb_binary(nn->b, HFB_OP_LT, token_index(nn, call), end);
  }
  hfb_head_question_answering(nn, call, model(nn, call, global, false).tokens);
}

/* Unless given, the answer is global: the tokens behind the first two separators, which follow each other. */
static void multiple_choice(hfb_nn *nn, const hfb_call *call) {
  hfb_value *global = given_global(nn, call);
  if (global == NULL) {
    hfb_value *second = hfb_add_scalar(nn->b, first_separator(nn, call), 1);
    global = hfb_binary(nn->b, HFB_OP_LT, second, token_index(nn, call));
  }
  hfb_value *first = model(nn, call, global, true).pooled;
  hfb_head_multiple_choice(nn, call, first, hfb_call_float(call, "hidden_dropout_prob"));
}

#define INPUTS "input_ids attention_mask global_attention_mask token_type_ids position_ids labels"
#define SPAN_INPUTS \
  "input_ids attention_mask global_attention_mask token_type_ids position_ids start_positions end_positions"
#define TIED    "lm_head.decoder.weight=longformer.embeddings.word_embeddings.weight lm_head.decoder.bias=lm_head.bias"
#define IGNORED "*.position_ids *.token_type_ids lm_head.* qa_outputs.* classifier.* longformer.pooler.*"

static const hfb_class_row classes[] = {
    {"LongformerForMaskedLM", masked_lm, INPUTS, HFB_REFUSED_ENCODER, TIED, IGNORED},
    {"LongformerForQuestionAnswering", question_answering, SPAN_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"LongformerForSequenceClassification", sequence_classification, INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"LongformerForTokenClassification", token_classification, INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"LongformerForMultipleChoice", multiple_choice, INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(longformer, "longformer", "longformer", fields, classes);
