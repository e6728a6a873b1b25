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

static hfb_value *as_rows(hfb_nn *nn, const hfb_call *call, hfb_value *mark) {
  return hfb_reshape(nn->b, mark, 3, (int64_t[]){call->batch, call->length, 1});
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

/* Queries, keys and values. */
typedef struct projections {
  hfb_value *q, *k, *v; /* [B,S,D] */
} projections;

/* How queries see their neighbourhood without S x S scores: blocks of `reach` queries, each with its own block of keys
 * and the ones beside it. Layers with equal windows share it. */
typedef struct bands {
  int64_t reach, count; /* tokens and number of the blocks; the last one may be filled up */
  hfb_value *blocks;    /* the three key blocks of each block of queries: i64 [B*count*3], rows of all B*count */
  hfb_value *keep;      /* bool [B*count,1,reach,3*reach] */
} bands;

static projections project(hfb_nn *nn, const hfb_call *call, hfb_value *x, const char *suffix) {
  int64_t width = hfb_call_int(call, "hidden_size"), count = hfb_call_int(call, "num_attention_heads");
  char names[3][32];
  static const char *const parts[] = {"query", "key", "value"};
  hfb_value *out[3];
  for (int i = 0; i < 3; i++) {
    snprintf(names[i], sizeof names[i], "%s%s", parts[i], suffix);
    out[i] = hfb_nn_linear(nn, names[i], x, width, true);
  }
  out[0] = hfb_mul_scalar(nn->b, out[0], 1 / sqrt((double)width / (double)count));
  return (projections){out[0], out[1], out[2]};
}

/* softmax over the kept keys (NULL: all): [..,queries,D]. */
static hfb_value *attend(hfb_nn *nn, const hfb_call *call, const projections *p, hfb_value *keep) {
  hfb_builder *b = nn->b;
  int64_t heads = hfb_call_int(call, "num_attention_heads");
  hfb_value *q = hfb_nn_split_heads(nn, p->q, heads), *k = hfb_nn_split_heads(nn, p->k, heads);
  hfb_value *scores = hfb_matmul(b, q, k, false, true);
  if (keep != NULL) scores = hfb_where(b, keep, scores, hfb_scalar(b, HFB_F32, hfb_nn_masked_score()));
  hfb_value *weights = hfb_softmax(b, scores, -1);
  weights = hfb_nn_dropout(nn, weights, hfb_call_float(call, "attention_probs_dropout_prob"));
  return hfb_nn_merge_heads(nn, hfb_matmul(b, weights, hfb_nn_split_heads(nn, p->v, heads), false, false));
}

/* [B,S,..] filled up with zeros to whole blocks: [B*count,reach * what follows]. */
static hfb_value *block_rows(hfb_nn *nn, const hfb_call *call, const bands *n, hfb_value *x) {
  if (x == NULL) return NULL;
  int64_t missing = n->count * n->reach - call->length, inner = x->shape.rank == 3 ? x->shape.dim[2] : 1;
  if (missing > 0) x = hfb_pad(nn->b, x, 1, 0, missing, 0);
  return hfb_reshape(nn->b, x, 2, (int64_t[]){call->batch * n->count, n->reach * inner});
}

/* The tokens that each block of queries may see, a block before it, its own and one behind: [B*count*3,..]. */
static hfb_value *seen_blocks(hfb_nn *nn, const hfb_call *call, const bands *n, hfb_value *x) {
  return hfb_gather(nn->b, block_rows(nn, call, n, x), n->blocks, 0);
}

/* At the ends a block stands for its missing neighbour; `keep` hides it. */
static hfb_value *key_blocks(hfb_nn *nn, const hfb_call *call, int64_t count) {
  hfb_builder *b = nn->b;
  hfb_shape shape = hfb_shape_of(3, (int64_t[]){call->batch, count, 3});
  hfb_value *block = hfb_add(b, hfb_iota(b, HFB_I64, shape, 1), hfb_iota(b, HFB_I64, shape, 2));
  block = hfb_binary(b, HFB_OP_MAXIMUM, hfb_add_scalar(b, block, -1), hfb_scalar(b, HFB_I64, 0));
  block = hfb_binary(b, HFB_OP_MINIMUM, block, hfb_scalar(b, HFB_I64, (double)(count - 1)));
  block = hfb_add(b, block, hfb_mul_scalar(b, hfb_iota(b, HFB_I64, shape, 0), (double)count));
  return hfb_reshape(b, block, 1, (int64_t[]){call->batch * count * 3});
}

/* Keys at most `reach` tokens away, inside of the sequence, that count. */
static hfb_value *band_keep(hfb_nn *nn, const hfb_call *call, const marks *m, const bands *n) {
  hfb_builder *b = nn->b;
  int64_t reach = n->reach, windows = call->batch * n->count;
  hfb_shape band = hfb_shape_of(2, (int64_t[]){reach, 3 * reach});
  hfb_value *query = hfb_iota(b, HFB_I64, band, 0), *key = hfb_iota(b, HFB_I64, band, 1);
  hfb_value *not_before = hfb_binary(b, HFB_OP_LE, query, key);
  hfb_value *not_after = hfb_binary(b, HFB_OP_LE, key, hfb_add_scalar(b, query, (double)(2 * reach)));
  hfb_value *keep = hfb_binary(b, HFB_OP_AND, not_before, not_after);

  hfb_value *first = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){call->batch, n->count}), 1);
  first = hfb_mul_scalar(b, hfb_reshape(b, first, 4, (int64_t[]){windows, 1, 1, 1}), (double)reach);
  hfb_value *place = hfb_add(b, first, hfb_iota(b, HFB_I64, hfb_shape_of(1, (int64_t[]){3 * reach}), 0));
  hfb_value *begun = hfb_binary(b, HFB_OP_LE, hfb_scalar(b, HFB_I64, (double)reach), place);
  hfb_value *not_over = hfb_binary(b, HFB_OP_LT, place, hfb_scalar(b, HFB_I64, (double)(call->length + reach)));
  keep = hfb_binary(b, HFB_OP_AND, keep, hfb_binary(b, HFB_OP_AND, begun, not_over));
  if (m->counts == NULL) return keep;
  hfb_value *counts = seen_blocks(nn, call, n, m->counts);
  return hfb_binary(b, HFB_OP_AND, keep, hfb_reshape(b, counts, 4, (int64_t[]){windows, 1, 1, 3 * reach}));
}

static void prepare_bands(hfb_nn *nn, const hfb_call *call, const marks *m, int64_t reach, bands *n) {
  if (n->reach == reach) return;
  *n = (bands){.reach = reach, .count = (call->length + reach - 1) / reach};
  n->blocks = key_blocks(nn, call, n->count);
  n->keep = band_keep(nn, call, m, n);
}

/* Block by block: [B,S,D]. What a query that does not count sees is not said. */
static hfb_value *attend_in_bands(hfb_nn *nn, const hfb_call *call, const projections *p, const bands *n) {
  int64_t width = hfb_call_int(call, "hidden_size"), windows = call->batch * n->count;
  const int64_t queries[] = {windows, n->reach, width}, keys[] = {windows, 3 * n->reach, width};
  projections blocks = {hfb_reshape(nn->b, block_rows(nn, call, n, p->q), 3, queries),
                        hfb_reshape(nn->b, seen_blocks(nn, call, n, p->k), 3, keys),
                        hfb_reshape(nn->b, seen_blocks(nn, call, n, p->v), 3, keys)};
  hfb_value *context = attend(nn, call, &blocks, n->keep);
  int64_t padded = n->count * n->reach;
  context = hfb_reshape(nn->b, context, 3, (int64_t[]){call->batch, padded, width});
  return padded == call->length ? context : hfb_slice(nn->b, context, 1, 0, call->length);
}

/* The keys of ordinary queries: counting neighbours up to half a window away, and all global tokens. */
static hfb_value *local_keep(hfb_nn *nn, const hfb_call *call, const marks *m, int64_t reach) {
  hfb_builder *b = nn->b;
  hfb_value *keep = hfb_nn_band_keep(nn, call->length, reach);
  if (m->counts != NULL) keep = hfb_binary(b, HFB_OP_AND, keep, as_keys(nn, call, m->counts));
  if (m->global != NULL) keep = hfb_binary(b, HFB_OP_OR, keep, as_keys(nn, call, m->global));
  return keep;
}

/* How many tokens are global is known when the model runs, so they have a score in every row; and up to three blocks
 * the whole is no more than the blocks. */
static hfb_value *attend_locally(hfb_nn *nn, const hfb_call *call, const projections *p, const marks *m, int64_t reach,
                                 bands *n) {
  hfb_value *context;
  if (m->global != NULL || call->length <= 3 * reach) {
    context = attend(nn, call, p, local_keep(nn, call, m, reach));
  } else {
    prepare_bands(nn, call, m, reach, n);
    context = attend_in_bands(nn, call, p, n);
  }
  if (m->counts == NULL) return context;
  return hfb_where(nn->b, as_rows(nn, call, m->counts), context, hfb_scalar(nn->b, HFB_F32, 0));
}

/* LongformerSelfAttention: global tokens attend to all tokens, through projections of their own. */
static hfb_value *self_attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, const marks *m, int64_t window,
                                 bands *n) {
  static const char *const global_names[] = {"query_global", "key_global", "value_global"};
  int64_t width = hfb_call_int(call, "hidden_size");
  hfb_scope_push(nn->b, "self");
  projections p = project(nn, call, x, "");
  hfb_value *context = attend_locally(nn, call, &p, m, window / 2, n);
  if (m->global == NULL) {
    for (int i = 0; i < 3; i++) hfb_nn_linear_declare(nn, global_names[i], width, width, true);
  } else {
    p = project(nn, call, x, "_global");
    hfb_value *of_global = attend(nn, call, &p, m->counts == NULL ? NULL : as_keys(nn, call, m->counts));
    context = hfb_where(nn->b, as_rows(nn, call, m->global), of_global, context);
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
  bands n = {0};
  hfb_scope_push(nn->b, "longformer");
  hfb_value *x = embed(nn, call, &states.words);
  for (int64_t i = 0; i < hfb_call_int(call, "num_hidden_layers"); i++) {
    hfb_scope_push(nn->b, "encoder.layer.%d", (int)i);
    hfb_scope_push(nn->b, "attention");
    hfb_value *context = self_attention(nn, call, x, &m, hfb_call_size_at(call, "attention_window", i), &n);
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
