/* BigBird (Zaheer et al., 2020): blocks of tokens that attend to their neighbours, to the first and last block and to
 * some random ones. Short sequences take full attention instead. */
#include <math.h>
#include <string.h>

#include "models/bert_layers.h"
#include "models/bigbird_blocks.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "50358", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "768", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},
    {"attention_type", HFB_FIELD_TEXT, "block_sparse", "block_sparse|original_full"},
    {"block_size", HFB_FIELD_SIZE, "64", NULL},
    {"num_random_blocks", HFB_FIELD_COUNT, "3", NULL},
    {"use_bias", HFB_FIELD_BOOL, "true", NULL},
    {"rescale_embeddings", HFB_FIELD_BOOL, "false", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "3072", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu_new", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"classifier_dropout", HFB_FIELD_PROBABILITY, "null", "null"},
    {"max_position_embeddings", HFB_FIELD_SIZE, "4096", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
    {"bos_token_id", HFB_FIELD_ID, "1", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
    {"sep_token_id", HFB_FIELD_ID, "66", NULL},
    {"is_decoder", HFB_FIELD_BOOL, "false", "false"},
};

#define MASK_PENALTY (-10000.0) /* added to the scores of masked keys in block-sparse attention */

/* ---- Embeddings ---- */

/* Word, token type and position; types NULL: zeros. Dropout comes before the norm here. */
static hfb_value *embed(hfb_nn *nn, const hfb_call *call, hfb_value *types, hfb_value **out_words) {
  int64_t width = hfb_call_int(call, "hidden_size"), rows = hfb_call_int(call, "max_position_embeddings");
  int64_t pad = hfb_call_int(call, "pad_token_id");
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  if (types == NULL) types = hfb_bert_token_types(nn, call);
  hfb_scope_push(nn->b, "embeddings");
  *out_words = hfb_nn_embedding_weight(nn, "word_embeddings", hfb_call_int(call, "vocab_size"), width, pad);
  hfb_nn_embedding_weight(nn, "position_embeddings", rows, width, -1);
  hfb_value *x = hfb_embedding(nn->b, *out_words, hfb_call_arg(call, "input_ids"), pad);
  if (hfb_call_bool(call, "rescale_embeddings")) x = hfb_mul_scalar(nn->b, x, sqrt((double)width));
  int64_t type_count = hfb_call_int(call, "type_vocab_size");
  x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "token_type_embeddings", types, type_count, width, -1));
  hfb_value *positions = hfb_bert_positions(nn, call);
  x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "position_embeddings", positions, rows, width, -1));
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
  x = hfb_nn_layer_norm(nn, "LayerNorm", x, hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return x;
}

/* ---- Block-sparse attention ---- */

/* What all layers share. */
typedef struct setting {
  int64_t batch, heads, width; /* of a head */
  int64_t count, size;         /* blocks, tokens in each */
  int64_t random;              /* random blocks for each query block */
  hfb_value *penalty; /* of masked keys [B,1,1,S]; NULL: none */
  hfb_value *counts;  /* 1 for queries that count, 0 for the others [B,S,1]; NULL: all do */
} setting;

/* Query blocks that see equally many key blocks, and which. `groups` is how many tables a sequence has: one for each
 * head, or one. */
typedef struct reading {
  int64_t first, second, rows; /* query blocks first, second, .. : `rows` of them */
  int64_t keys, groups;
  hfb_value *blocks; /* i64 [B*rows*groups*keys], rows of matrices of B*groups*count blocks */
} reading;

/* The random blocks of the layer's heads, [heads,count-2,random]; in evaluation transformers takes block 0. */
static int64_t *draw_random(hfb_nn *nn, const hfb_call *call, const setting *s, int64_t layer) {
  int64_t *table = NULL;
  hfb_bigbird_plan plan = {.heads = s->heads,
                           .length = s->count * s->size,
                           .block_size = s->size,
                           .random = s->random,
                           .max_length = hfb_call_int(call, "max_position_embeddings"),
                           .seed = (uint32_t)layer};
  hfb_status status = hfb_mem_alloc((size_t)(s->heads * (s->count - 2) * s->random), sizeof *table, &table);
  if (status == HFB_OK && nn->training) status = hfb_bigbird_draw_blocks(&plan, table);
  if (status == HFB_OK) return table;
  hfb_builder_fail(nn->b, status, "%s", hfb_error_message());
  hfb_mem_free(table);
  return NULL;
}

/* What query block `query`, none of the first and the last, sees: the first and the last block, its neighbours and its
 * random blocks. The first and the last block are neighbours of the blocks beside them. Returns how many. */
static int64_t list_keys(const setting *s, int64_t query, const int64_t *random, int64_t *out) {
  int64_t count = 0, last = s->count - 1;
  out[count++] = 0;
  for (int64_t i = query - 1; i <= query + 1; i++) {
    if (i > 0 && i < last) out[count++] = i;
  }
  for (int64_t i = 0; i < s->random; i++) out[count++] = random[(query - 1) * s->random + i];
  out[count++] = last;
  return count;
}

static void find_keys(hfb_nn *nn, const setting *s, const int64_t *random, reading *r) {
  int64_t *table = NULL, at = 0, all = s->batch * r->rows * r->groups * r->keys;
  if (hfb_mem_alloc((size_t)all, sizeof *table, &table) != HFB_OK) {
    hfb_builder_fail(nn->b, HFB_OUT_OF_MEMORY, "%s", hfb_error_message());
    return;
  }
  for (int64_t i = 0; i < s->batch * r->rows * r->groups; i++, at += r->keys) {
    int64_t batch = i / (r->rows * r->groups), row = i / r->groups % r->rows, group = i % r->groups;
    list_keys(s, r->first + row * (r->second - r->first), &random[group * (s->count - 2) * s->random], &table[at]);
    for (int64_t k = 0; k < r->keys; k++) table[at + k] += (batch * r->groups + group) * s->count;
  }
  r->blocks = hfb_constant_i64(nn->b, hfb_shape_of(1, &all), table);
  hfb_mem_free(table);
}

/* Key blocks [B,S,width] side by side: [B*rows,groups,keys*size,width/groups]. */
static hfb_value *read_blocks(hfb_nn *nn, const setting *s, const reading *r, hfb_value *x) {
  if (x == NULL) return NULL;
  int64_t width = x->shape.dim[2] / r->groups;
  x = hfb_reshape(nn->b, x, 5, (int64_t[]){s->batch, s->count, s->size, r->groups, width});
  x = hfb_transpose(nn->b, x, (int[]){0, 3, 1, 2, 4});
  x = hfb_reshape(nn->b, x, 2, (int64_t[]){s->batch * r->groups * s->count, s->size * width});
  x = hfb_gather(nn->b, x, r->blocks, 0);
  return hfb_reshape(nn->b, x, 4, (int64_t[]){s->batch * r->rows, r->groups, r->keys * s->size, width});
}

/* By head: [B*rows,heads,keys*size,d]. */
static hfb_value *read_heads(hfb_nn *nn, const setting *s, const reading *r, hfb_value *x) {
  x = read_blocks(nn, s, r, x);
  if (r->groups == s->heads) return x;
  x = hfb_reshape(nn->b, x, 3, (int64_t[]){s->batch * r->rows, r->keys * s->size, s->heads * s->width});
  return hfb_nn_split_heads(nn, x, s->heads);
}

/* The query blocks of the reading, from [B,S,D]: [B,rows*size,D]. */
static hfb_value *take_queries(hfb_nn *nn, const setting *s, const reading *r, hfb_value *q) {
  int64_t size = s->size;
  if (r->second == r->first + 1) return hfb_slice(nn->b, q, 1, r->first * size, (r->first + r->rows) * size);
  hfb_value *both[] = {hfb_slice(nn->b, q, 1, r->first * size, (r->first + 1) * size),
                       hfb_slice(nn->b, q, 1, r->second * size, (r->second + 1) * size)};
  return hfb_concat(nn->b, 2, both, 1);
}

/* softmax(q k^T / sqrt(d) + penalty) v on split heads; penalty NULL: none. */
static hfb_value *attend(hfb_nn *nn, const setting *s, hfb_value *q, hfb_value *k, hfb_value *v, hfb_value *penalty) {
  hfb_value *scores = hfb_mul_scalar(nn->b, hfb_matmul(nn->b, q, k, false, true), 1 / sqrt((double)s->width));
  if (penalty != NULL) scores = hfb_add(nn->b, scores, penalty);
  return hfb_matmul(nn->b, hfb_softmax(nn->b, scores, -1), v, false, false);
}

/* [B*some,heads,tokens,d] to blocks of tokens: [B,blocks,size,heads,d]. */
static hfb_value *as_blocks(hfb_nn *nn, const setting *s, hfb_value *context, int64_t blocks) {
  hfb_value *tokens = hfb_transpose(nn->b, context, (int[]){0, 2, 1, 3});
  return hfb_reshape(nn->b, tokens, 5, (int64_t[]){s->batch, blocks, s->size, s->heads, s->width});
}

/* The query blocks of a reading: [B,rows,size,heads,d]. */
static hfb_value *attend_blocks(hfb_nn *nn, const setting *s, const reading *r, hfb_value *const qkv[3]) {
  const int64_t queries[] = {s->batch * r->rows, s->size, s->heads * s->width};
  hfb_value *q = hfb_nn_split_heads(nn, hfb_reshape(nn->b, take_queries(nn, s, r, qkv[0]), 3, queries), s->heads);
  hfb_value *penalty = NULL;
  if (s->penalty != NULL) {
    hfb_value *of_keys = hfb_reshape(nn->b, s->penalty, 3, (int64_t[]){s->batch, s->count * s->size, 1});
    of_keys = hfb_expand(nn->b, of_keys, 3, (int64_t[]){s->batch, s->count * s->size, r->groups});
    penalty = hfb_transpose(nn->b, read_blocks(nn, s, r, of_keys), (int[]){0, 1, 3, 2});
  }
  hfb_value *context = attend(nn, s, q, read_heads(nn, s, r, qkv[1]), read_heads(nn, s, r, qkv[2]), penalty);
  return as_blocks(nn, s, context, r->rows);
}

/* The first and the last query block, which see all keys: [B,2,size,heads,d]. */
static hfb_value *attend_to_all(hfb_nn *nn, const setting *s, hfb_value *const qkv[3]) {
  const reading ends = {.first = 0, .second = s->count - 1, .rows = 2};
  hfb_value *q = hfb_nn_split_heads(nn, take_queries(nn, s, &ends, qkv[0]), s->heads);
  hfb_value *k = hfb_nn_split_heads(nn, qkv[1], s->heads), *v = hfb_nn_split_heads(nn, qkv[2], s->heads);
  return as_blocks(nn, s, attend(nn, s, q, k, v, s->penalty), 2);
}

/* BigBirdBlockSparseAttention on [B,S,D]. There the five kinds of query blocks are computed one by one; here those that
 * see equally many keys together, and their keys are put side by side first, so that each takes one product. */
static hfb_value *sparse_attention(hfb_nn *nn, const hfb_call *call, const setting *s, hfb_value *const qkv[3],
                                   int64_t layer) {
  hfb_builder *b = nn->b;
  int64_t n = s->count, groups = nn->training ? s->heads : 1;
  reading seconds = {.first = 1, .second = n - 2, .rows = 2, .keys = 4 + s->random, .groups = groups};
  reading middle = {.first = 2, .second = 3, .rows = n - 4, .keys = 5 + s->random, .groups = groups};
  int64_t *random = draw_random(nn, call, s, layer);
  if (random == NULL) return NULL;
  find_keys(nn, s, random, &seconds);
  find_keys(nn, s, random, &middle);
  hfb_mem_free(random);
  hfb_value *outer = attend_to_all(nn, s, qkv), *inner = attend_blocks(nn, s, &seconds, qkv);
  hfb_value *contexts[] = {hfb_slice(b, outer, 1, 0, 1), hfb_slice(b, inner, 1, 0, 1),
                           attend_blocks(nn, s, &middle, qkv), hfb_slice(b, inner, 1, 1, 2),
                           hfb_slice(b, outer, 1, 1, 2)};
  hfb_value *context = hfb_concat(b, 5, contexts, 1);
  context = hfb_reshape(b, context, 3, (int64_t[]){s->batch, n * s->size, s->heads * s->width});
  return s->counts == NULL ? context : hfb_mul(b, context, s->counts);
}

/* ---- The encoder ---- */

static bool is_sparse(const hfb_call *call) {
  int64_t attended = (5 + 2 * hfb_call_int(call, "num_random_blocks")) * hfb_call_int(call, "block_size");
  return strcmp(hfb_call_text(call, "attention_type"), "block_sparse") == 0 && call->length > attended;
}

/* Sequences are filled up with masked tokens to whole blocks. */
static setting setting_of(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  int64_t heads = hfb_call_int(call, "num_attention_heads"), size = hfb_call_int(call, "block_size");
  setting s = {.batch = call->batch,
               .heads = heads,
               .width = hfb_call_int(call, "hidden_size") / heads,
               .count = (call->length + size - 1) / size,
               .size = size,
               .random = hfb_call_int(call, "num_random_blocks")};
  int64_t padded = s.count * size;
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  if (mask == NULL && padded == call->length) return s;
  hfb_value *counts = mask != NULL ? hfb_cast(b, mask, HFB_F32)
                                   : hfb_full(b, HFB_F32, hfb_shape_of(2, (int64_t[]){call->batch, call->length}), 1);
  if (padded > call->length) counts = hfb_pad(b, counts, 1, 0, padded - call->length, 0);
  s.counts = hfb_reshape(b, counts, 3, (int64_t[]){call->batch, padded, 1});
  hfb_value *hidden = hfb_sub(b, hfb_scalar(b, HFB_F32, 1), counts);
  hfb_value *penalty = hfb_mul_scalar(b, hidden, MASK_PENALTY);
  s.penalty = hfb_reshape(b, penalty, 4, (int64_t[]){call->batch, 1, 1, padded});
  return s;
}

static void project(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *qkv[3]) {
  static const char *const names[] = {"query", "key", "value"};
  for (int i = 0; i < 3; i++) {
    qkv[i] = hfb_nn_linear(nn, names[i], x, hfb_call_int(call, "hidden_size"), hfb_call_bool(call, "use_bias"));
  }
}

static hfb_value *full_attention(hfb_nn *nn, const setting *s, const hfb_nn_attention *how, hfb_value *const qkv[3]) {
  hfb_value *split[3];
  for (int i = 0; i < 3; i++) split[i] = hfb_nn_split_heads(nn, qkv[i], s->heads);
  return hfb_nn_merge_heads(nn, hfb_nn_attend(nn, how, split[0], split[1], split[2]));
}

static hfb_value *encode(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  bool sparse = is_sparse(call);
  setting s = setting_of(nn, call);
  int64_t padding = sparse ? s.count * s.size - call->length : 0;
  hfb_nn_attention full = {.query_scale = 1,
                           .score_scale = 1 / sqrt((double)s.width),
                           .bias = sparse ? NULL : hfb_bert_mask_bias(nn, call),
                           .dropout = hfb_call_float(call, "attention_probs_dropout_prob")};
  if (padding > 0) x = hfb_pad(nn->b, x, 1, 0, padding, 0);
  for (int64_t i = 0; i < hfb_call_int(call, "num_hidden_layers"); i++) {
    hfb_value *qkv[3], *context;
    hfb_scope_push(nn->b, "encoder.layer.%d", (int)i);
    hfb_scope_push(nn->b, "attention");
    hfb_scope_push(nn->b, "self");
    project(nn, call, x, qkv);
    context = sparse ? sparse_attention(nn, call, &s, qkv, i) : full_attention(nn, &s, &full, qkv);
    hfb_scope_pop(nn->b);
    x = hfb_bert_output(nn, call, context, x);
    hfb_scope_pop(nn->b);
    x = hfb_bert_feed_forward(nn, call, x);
    hfb_scope_pop(nn->b);
  }
  return padding > 0 ? hfb_slice(nn->b, x, 1, 0, call->length) : x;
}

/* ---- The model and its heads ---- */

typedef enum pooler { POOLER_NONE, POOLER_UNUSED, POOLER_USED } pooler;

/* BigBirdModel under "bert"; types: token types that a class makes up, NULL: the given ones. */
static hfb_bert_states model(hfb_nn *nn, const hfb_call *call, hfb_value *types, pooler pool) {
  int64_t width = hfb_call_int(call, "hidden_size");
  hfb_bert_states states = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_scope_push(nn->b, "bert");
  hfb_value *x = embed(nn, call, types, &states.words);
  states.tokens = encode(nn, call, x);
  if (pool == POOLER_UNUSED) hfb_nn_linear_declare(nn, "pooler", width, width, true);
  if (pool == POOLER_USED) {
    hfb_value *first = hfb_first_token(nn, call, states.tokens);
    states.pooled = hfb_nn_activation(nn, "tanh", hfb_nn_linear(nn, "pooler", first, width, true));
  }
  hfb_scope_pop(nn->b);
  return states;
}

/* Unlike BERT's, the language model's loss stands alone when there is no label of the sentence. */
static void pretraining(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, NULL, POOLER_USED);
  hfb_pretraining heads = {.predictions = hfb_bert_predictions(nn, call, states.tokens, states.words),
                           .relation_label = "next_sentence_label",
                           .relation_output = "seq_relationship_logits",
                           .relation_optional = true};
  heads.relation = hfb_nn_linear(nn, "cls.seq_relationship", states.pooled, 2, true);
  hfb_head_pretraining(nn, call, &heads);
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_bert_states states = model(nn, call, NULL, POOLER_UNUSED);
  hfb_head_token_logits(nn, call, hfb_bert_predictions(nn, call, states.tokens, states.words), false);
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value *tokens = model(nn, call, NULL, POOLER_UNUSED).tokens;
  hfb_head_token_classification(nn, call, tokens, hfb_classifier_dropout(call));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value *tokens = model(nn, call, NULL, POOLER_UNUSED).tokens;
  hfb_bert_classification_head(nn, call, tokens, hfb_call_text(call, "hidden_act"), hfb_classifier_dropout(call));
}

static void multiple_choice(hfb_nn *nn, const hfb_call *call) {
  hfb_value *first = model(nn, call, NULL, POOLER_USED).pooled;
  hfb_head_multiple_choice(nn, call, first, hfb_call_float(call, "hidden_dropout_prob"));
}

/* BigBirdForQuestionAnswering: the question, up to the first separator, is no answer except for its first token; its
 * tokens have type 0 and the others 1 unless types are given. */
static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  hfb_value *ids = hfb_call_arg(call, "input_ids"), *types = NULL;
  double separator = (double)hfb_call_int(call, "sep_token_id");
  hfb_value *is_separator = hfb_cast(b, hfb_binary(b, HFB_OP_EQ, ids, hfb_scalar(b, HFB_I64, separator)), HFB_I64);
  hfb_value *last = hfb_argmax(b, is_separator, 1, true);
  hfb_value *index = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){call->batch, call->length}), 1);
  hfb_value *question = hfb_binary(b, HFB_OP_LE, index, last);
  if (hfb_call_arg(call, "token_type_ids") == NULL) {
    types = hfb_cast(b, hfb_unary(b, HFB_OP_NOT, question), HFB_I64);
  }
  hfb_value *tokens = model(nn, call, types, POOLER_NONE).tokens;
  hfb_scope_push(b, "qa_classifier");
  hfb_value *x = hfb_nn_dropout(nn, tokens, hfb_call_float(call, "hidden_dropout_prob"));
  x = hfb_nn_linear(nn, "intermediate.dense", x, hfb_call_int(call, "intermediate_size"), true);
  x = hfb_bert_output(nn, call, hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), x), tokens);
  hfb_value *logits = hfb_nn_linear(nn, "qa_outputs", x, 2, true);
  hfb_scope_pop(b);
  hfb_value *not_first = hfb_binary(b, HFB_OP_LT, hfb_scalar(b, HFB_I64, 0), index);
  hfb_value *barred = hfb_cast(b, hfb_binary(b, HFB_OP_AND, question, not_first), HFB_F32);
  barred = hfb_mul_scalar(b, hfb_reshape(b, barred, 3, (int64_t[]){call->batch, call->length, 1}), 1e6);
  hfb_head_spans(nn, call, hfb_sub(b, logits, barred));
}

#define IGNORED "*.position_ids *.token_type_ids cls.* qa_classifier.* classifier.* bert.pooler.*"

static const hfb_class_row classes[] = {
    {"BigBirdForPreTraining", pretraining, HFB_BERT_PAIR_INPUTS, HFB_REFUSED_ENCODER, HFB_BERT_TIED, IGNORED},
    {"BigBirdForMaskedLM", masked_lm, HFB_BERT_INPUTS,
     HFB_REFUSED_ENCODER " encoder_hidden_states encoder_attention_mask", HFB_BERT_TIED, IGNORED},
    {"BigBirdForQuestionAnswering", question_answering, HFB_BERT_SPAN_INPUTS, HFB_REFUSED_ENCODER " question_lengths",
     "", IGNORED},
    {"BigBirdForSequenceClassification", sequence_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"BigBirdForTokenClassification", token_classification, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
    {"BigBirdForMultipleChoice", multiple_choice, HFB_BERT_INPUTS, HFB_REFUSED_ENCODER, "", IGNORED},
};

HFB_FAMILY(bigbird, "big_bird", "bert", fields, classes);
