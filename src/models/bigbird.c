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
  /* Penalties of masked keys, NULL without a mask: of all keys [B,1,1,S], by block [B,1,count,1,size]. */
  hfb_value *penalty, *block_penalty;
  hfb_value *counts; /* 1 for queries that count, 0 for the others [B,1,S,1]; NULL: all do */
} setting;

/* Keys or values. */
typedef struct side {
  hfb_value *all;    /* [B,H,S,d] */
  hfb_value *blocks; /* [B,H,count,size,d] */
  hfb_value *random; /* of the blocks 1 .. count - 2: [B,H,count-2,random*size,d] */
} side;

/* Block i without its dimension. */
static hfb_value *block_at(hfb_nn *nn, hfb_value *blocks, int64_t i) {
  if (blocks == NULL) return NULL;
  const int64_t *dim = blocks->shape.dim;
  hfb_value *one = hfb_slice(nn->b, blocks, 2, i, i + 1);
  return hfb_reshape(nn->b, one, 4, (int64_t[]){dim[0], dim[1], dim[3], dim[4]});
}

/* Three neighbours side by side for the query blocks 2 .. count - 3, along `axis`. */
static hfb_value *neighbours(hfb_nn *nn, hfb_value *blocks, int64_t count, int axis) {
  hfb_value *shifted[3];
  for (int i = 0; i < 3; i++) shifted[i] = hfb_slice(nn->b, blocks, 2, i + 1, count - 3 + i);
  return hfb_concat(nn->b, 3, shifted, axis);
}

/* The random blocks of the layer, i64 [B*H, (count-2)*random], as rows of a matrix of B*H*count blocks. */
static hfb_value *random_rows(hfb_nn *nn, const hfb_call *call, const setting *s, int64_t layer) {
  hfb_builder *b = nn->b;
  int64_t entries = (s->count - 2) * s->random, groups = s->batch * s->heads;
  hfb_value *drawn = hfb_full(b, HFB_I64, hfb_shape_of(3, (int64_t[]){1, s->heads, entries}), 0);
  if (nn->training) {
    int64_t *table = NULL;
    hfb_bigbird_plan plan = {.heads = s->heads,
                             .length = s->count * s->size,
                             .block_size = s->size,
                             .random = s->random,
                             .max_length = hfb_call_int(call, "max_position_embeddings"),
                             .seed = (uint32_t)layer};
    hfb_status status = hfb_mem_alloc((size_t)(s->heads * entries), sizeof *table, &table);
    if (status == HFB_OK) status = hfb_bigbird_draw_blocks(&plan, table);
    if (status != HFB_OK) {
      hfb_builder_fail(b, status, "%s", hfb_error_message());
    } else {
      drawn = hfb_constant_i64(b, hfb_shape_of(3, (int64_t[]){1, s->heads, entries}), table);
    }
    hfb_mem_free(table);
  }
  drawn = hfb_expand(b, drawn, 3, (int64_t[]){s->batch, s->heads, entries});
  drawn = hfb_reshape(b, drawn, 2, (int64_t[]){groups, entries});
  hfb_value *group = hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){groups, 1}), 0);
  return hfb_add(b, drawn, hfb_mul_scalar(b, group, (double)s->count));
}

/* blocks [B,H,count,..] at the rows: [B,H,count-2,random * size of a block ..]. */
static hfb_value *gather_blocks(hfb_nn *nn, const setting *s, hfb_value *blocks, hfb_value *rows, int64_t width) {
  int64_t all = s->batch * s->heads * s->count;
  hfb_value *matrix = hfb_reshape(nn->b, blocks, 2, (int64_t[]){all, s->size * width});
  hfb_value *taken = hfb_gather(nn->b, matrix, rows, 0);
  return hfb_reshape(nn->b, taken, 5, (int64_t[]){s->batch, s->heads, s->count - 2, s->random * s->size, width});
}

static side side_of(hfb_nn *nn, const setting *s, hfb_value *x, hfb_value *rows) {
  side out = {.all = x};
  out.blocks = hfb_reshape(nn->b, x, 5, (int64_t[]){s->batch, s->heads, s->count, s->size, s->width});
  out.random = gather_blocks(nn, s, out.blocks, rows, s->width);
  return out;
}

/* Scores of queries [..,q,d] against keys [..,k,d], with a penalty unless that is NULL. */
static hfb_value *scores_of(hfb_nn *nn, const setting *s, hfb_value *q, hfb_value *k, hfb_value *penalty) {
  hfb_value *product = hfb_matmul(nn->b, q, k, false, true);
  product = hfb_mul_scalar(nn->b, product, 1 / sqrt((double)s->width));
  return penalty == NULL ? product : hfb_add(nn->b, product, penalty);
}

/* One query block [B,H,size,d] against a row of keys and values. */
static hfb_value *attend_block(hfb_nn *nn, const setting *s, hfb_value *q, const side *keys_and_values[2],
                               hfb_value *penalty) {
  hfb_value *weights = hfb_softmax(nn->b, scores_of(nn, s, q, keys_and_values[0]->all, penalty), -1);
  return hfb_matmul(nn->b, weights, keys_and_values[1]->all, false, false);
}

/* The second or the last but one block: four fixed key blocks, then its random ones. */
static hfb_value *attend_edge(hfb_nn *nn, const setting *s, hfb_value *q, const side *kv[2], hfb_value *random_penalty,
                              bool last) {
  int64_t n = s->count, row = last ? n - 3 : 0;
  const int64_t fixed[2][4] = {{0, 1, 2, n - 1}, {0, n - 3, n - 2, n - 1}};
  hfb_value *parts[2][5], *penalties[5] = {0}, *penalty = NULL;
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 2; j++) parts[j][i] = block_at(nn, kv[j]->blocks, fixed[last][i]);
    if (s->penalty != NULL) penalties[i] = block_at(nn, s->block_penalty, fixed[last][i]);
  }
  for (int j = 0; j < 2; j++) parts[j][4] = block_at(nn, kv[j]->random, row);
  if (s->penalty != NULL) {
    hfb_value *of_random = block_at(nn, random_penalty, row);
    for (int i = 0; i < 4 && of_random != NULL; i++) {
      penalties[i] = hfb_expand(nn->b, penalties[i], 4, (int64_t[]){s->batch, s->heads, 1, s->size});
    }
    penalties[4] = of_random;
    penalty = hfb_concat(nn->b, 5, penalties, 3);
  }
  side keys = {.all = hfb_concat(nn->b, 5, parts[0], 2)}, values = {.all = hfb_concat(nn->b, 5, parts[1], 2)};
  return attend_block(nn, s, q, (const side *[2]){&keys, &values}, penalty);
}

/* The blocks 2 .. count - 3: first block, three neighbours, random blocks, last block. */
static hfb_value *attend_middle(hfb_nn *nn, const setting *s, hfb_value *q, const side *kv[2],
                                hfb_value *random_penalty) {
  hfb_builder *b = nn->b;
  int64_t n = s->count, edges[5] = {0, s->size, 4 * s->size, (4 + s->random) * s->size, (5 + s->random) * s->size};
  hfb_value *parts[2][4], *penalties[4] = {0}, *scores[4], *context = NULL;
  for (int j = 0; j < 2; j++) {
    parts[j][0] = hfb_slice(b, kv[j]->blocks, 2, 0, 1);
    parts[j][1] = neighbours(nn, kv[j]->blocks, n, 3);
    parts[j][2] = hfb_slice(b, kv[j]->random, 2, 1, n - 3);
    parts[j][3] = hfb_slice(b, kv[j]->blocks, 2, n - 1, n);
  }
  if (s->penalty != NULL) {
    penalties[0] = hfb_slice(b, s->block_penalty, 2, 0, 1);
    penalties[1] = neighbours(nn, s->block_penalty, n, 4);
    penalties[2] = hfb_slice(b, random_penalty, 2, 1, n - 3);
    penalties[3] = hfb_slice(b, s->block_penalty, 2, n - 1, n);
  }
  for (int i = 0; i < 4; i++) scores[i] = scores_of(nn, s, q, parts[0][i], penalties[i]);
  hfb_value *weights = hfb_softmax(b, hfb_concat(b, 4, scores, 4), -1);
  for (int i = 0; i < 4; i++) {
    hfb_value *part = hfb_slice(b, weights, 4, edges[i], edges[i + 1]);
    part = hfb_matmul(b, part, parts[1][i], false, false);
    context = i == 0 ? part : hfb_add(b, context, part);
  }
  return context;
}

/* BigBirdBlockSparseAttention on split heads [B,H,S,d]: [B,S,H*d]. */
static hfb_value *sparse_attention(hfb_nn *nn, const hfb_call *call, const setting *s, hfb_value *qkv[3],
                                   int64_t layer) {
  hfb_builder *b = nn->b;
  int64_t n = s->count;
  hfb_value *rows = random_rows(nn, call, s, layer), *random_penalty = NULL, *contexts[5];
  side keys = side_of(nn, s, qkv[1], rows), values = side_of(nn, s, qkv[2], rows);
  const side *kv[2] = {&keys, &values};
  if (s->penalty != NULL) {
    hfb_value *by_head = hfb_expand(b, s->block_penalty, 5, (int64_t[]){s->batch, s->heads, n, 1, s->size});
    random_penalty = gather_blocks(nn, s, by_head, rows, 1);
    random_penalty = hfb_reshape(b, random_penalty, 5, (int64_t[]){s->batch, s->heads, n - 2, 1, s->random * s->size});
  }
  hfb_value *q = hfb_reshape(b, qkv[0], 5, (int64_t[]){s->batch, s->heads, n, s->size, s->width});
  contexts[0] = attend_block(nn, s, block_at(nn, q, 0), kv, s->penalty);
  contexts[1] = attend_edge(nn, s, block_at(nn, q, 1), kv, random_penalty, false);
  contexts[2] = attend_middle(nn, s, hfb_slice(b, q, 2, 2, n - 2), kv, random_penalty);
  contexts[3] = attend_edge(nn, s, block_at(nn, q, n - 2), kv, random_penalty, true);
  contexts[4] = attend_block(nn, s, block_at(nn, q, n - 1), kv, s->penalty);
  for (int i = 0; i < 5; i++) {
    if (i != 2) contexts[i] = hfb_reshape(b, contexts[i], 5, (int64_t[]){s->batch, s->heads, 1, s->size, s->width});
  }
  hfb_value *context = hfb_concat(b, 5, contexts, 2);
  context = hfb_reshape(b, context, 4, (int64_t[]){s->batch, s->heads, n * s->size, s->width});
  if (s->counts != NULL) context = hfb_mul(b, context, s->counts);
  return hfb_nn_merge_heads(nn, context);
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
  s.counts = hfb_reshape(b, counts, 4, (int64_t[]){call->batch, 1, padded, 1});
  hfb_value *hidden = hfb_sub(b, hfb_scalar(b, HFB_F32, 1), counts);
  hfb_value *penalty = hfb_mul_scalar(b, hidden, MASK_PENALTY);
  s.penalty = hfb_reshape(b, penalty, 4, (int64_t[]){call->batch, 1, 1, padded});
  s.block_penalty = hfb_reshape(b, penalty, 5, (int64_t[]){call->batch, 1, s.count, 1, size});
  return s;
}

static void project(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *qkv[3]) {
  static const char *const names[] = {"query", "key", "value"};
  for (int i = 0; i < 3; i++) {
    qkv[i] = hfb_nn_linear(nn, names[i], x, hfb_call_int(call, "hidden_size"), hfb_call_bool(call, "use_bias"));
    qkv[i] = hfb_nn_split_heads(nn, qkv[i], hfb_call_int(call, "num_attention_heads"));
  }
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
    if (sparse)
      context = sparse_attention(nn, call, &s, qkv, i);
    else
      context = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &full, qkv[0], qkv[1], qkv[2]));
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
