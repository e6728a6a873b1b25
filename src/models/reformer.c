/* Reformer (Kitaev et al., 2020): two residual streams, axial positions, attention in chunks and among hashed tokens.
 *
 * Its reversible layers are built as what they compute: transformers recomputes their inputs in the backward pass to
 * save memory, with the random numbers of the forward pass, so gradients are those of plain differentiation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/reformer_attention.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "320", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "256", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},
    {"attention_head_size", HFB_FIELD_SIZE, "64", NULL},
    {"feed_forward_size", HFB_FIELD_SIZE, "512", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "relu", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "null", "null"}, /* null: as many as attn_layers */
    {"attn_layers", HFB_FIELD_WORDS, "local|lsh|local|lsh|local|lsh", "local|lsh"},
    {"max_position_embeddings", HFB_FIELD_SIZE, "4096", NULL},
    {"axial_pos_embds", HFB_FIELD_BOOL, "true", NULL},
    {"axial_pos_shape", HFB_FIELD_SIZES, "[64,64]", NULL},
    {"axial_pos_embds_dim", HFB_FIELD_SIZES, "[64,192]", NULL},
    {"axial_norm_std", HFB_FIELD_POSITIVE, "1.0", NULL},
    {"local_attn_chunk_length", HFB_FIELD_SIZE, "64", NULL},
    {"local_num_chunks_before", HFB_FIELD_LIMIT, "1", NULL},
    {"local_num_chunks_after", HFB_FIELD_LIMIT, "0", NULL},
    {"local_attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.05", NULL},
    {"lsh_attn_chunk_length", HFB_FIELD_SIZE, "64", NULL},
    {"lsh_num_chunks_before", HFB_FIELD_LIMIT, "1", NULL},
    {"lsh_num_chunks_after", HFB_FIELD_LIMIT, "0", NULL},
    {"lsh_attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"num_hashes", HFB_FIELD_COUNT, "1", NULL},
    {"num_buckets", HFB_FIELD_SIZES, "null", "null"}, /* one number or its factors; null: by the length */
    {"hash_seed", HFB_FIELD_ID, "null", "null"},
    {"chunk_size_feed_forward", HFB_FIELD_LIMIT, "0", NULL},
    {"chunk_size_lm_head", HFB_FIELD_LIMIT, "0", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.05", NULL},
    {"classifier_dropout", HFB_FIELD_PROBABILITY, "null", "null"},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"is_decoder", HFB_FIELD_BOOL, "false", NULL},
    {"use_cache", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "0", NULL},
};

/* ---- Which layers are of which kind ---- */

/* Word `index` of "local|lsh|..", without its end; NULL beyond the last. */
static const char *word_at(const char *words, int64_t index) {
  for (; words != NULL && index > 0; index--) {
    words = strchr(words, '|');
    if (words != NULL) words++;
  }
  return words;
}

static bool is_lsh(const char *word) {
  return strncmp(word, "lsh", 3) == 0;
}

static int64_t layer_count(const hfb_call *call) {
  int64_t count = hfb_call_int(call, "num_hidden_layers");
  if (count >= 0) return count;
  const char *words = hfb_call_text(call, "attn_layers");
  for (count = 0; word_at(words, count) != NULL; count++) continue;
  return count;
}

static bool any_layer(const hfb_call *call, bool lsh) {
  const char *words = hfb_call_text(call, "attn_layers"), *word;
  for (int64_t i = 0; (word = word_at(words, i)) != NULL; i++) {
    if (is_lsh(word) == lsh) return true;
  }
  return false;
}

/* A list of one kind holds for any number of layers. */
static bool layer_is_lsh(hfb_nn *nn, const hfb_call *call, int64_t layer) {
  const char *word = word_at(hfb_call_text(call, "attn_layers"), layer);
  if (word != NULL) return is_lsh(word);
  if (!any_layer(call, true) || !any_layer(call, false)) return any_layer(call, true);
  hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "attn_layers does not say what layer %lld is", (long long)layer);
  return false;
}

/* ---- Lengths ---- */

static int64_t gcd(int64_t a, int64_t b) {
  return b == 0 ? a : gcd(b, a % b);
}

/* The length that the layers see: filled up to whole chunks of both kinds, unless every token fits into one. */
static int64_t padded_length(hfb_nn *nn, const hfb_call *call) {
  int64_t local = hfb_call_int(call, "local_attn_chunk_length"), lsh = hfb_call_int(call, "lsh_attn_chunk_length");
  if (!any_layer(call, true)) lsh = local;
  if (!any_layer(call, false)) local = lsh;
  int64_t multiple = local / gcd(local, lsh) * lsh, rest = call->length % multiple;
  if (rest == 0 || call->length <= (local < lsh ? local : lsh)) return call->length;
  if (nn->training) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "in training the length must be a multiple of the chunk length %lld, not %lld",
                     (long long)multiple, (long long)call->length);
  }
  return call->length + multiple - rest;
}

static hfb_value *padding(hfb_nn *nn, const hfb_call *call, int64_t count, int64_t value) {
  return hfb_full(nn->b, HFB_I64, hfb_shape_of(2, (int64_t[]){call->batch, count}), (double)value);
}

/* Ids and mask in the padded length; padding is masked. */
static hfb_value *padded_ids(hfb_nn *nn, const hfb_call *call, hfb_reformer_setting *s) {
  hfb_value *ids = hfb_call_arg(call, "input_ids");
  int64_t rest = s->length - call->length, pad = hfb_call_int(call, "pad_token_id");
  if (rest == 0) return ids;
  if (pad < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "a length of %lld must be filled up to %lld: pad_token_id is null",
                     (long long)call->length, (long long)s->length);
    pad = 0;
  }
  hfb_value *mask = s->mask == NULL ? padding(nn, call, call->length, 1) : s->mask;
  s->mask = hfb_concat(nn->b, 2, (hfb_value *[]){mask, padding(nn, call, rest, 0)}, 1);
  return hfb_concat(nn->b, 2, (hfb_value *[]){ids, padding(nn, call, rest, pad)}, 1);
}

/* ---- Embeddings ---- */

/* AxialPositionEmbeddings: position p is row p / n1 of one table beside row p % n1 of another, in training with whole
 * columns p % n1 dropped (dropout2d). [1 or B,S,hidden]. */
static hfb_value *axial_positions(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s) {
  hfb_builder *b = nn->b;
  int64_t hidden = hfb_call_int(call, "hidden_size"), n[2], d[2];
  if (hfb_config_size_count(call->config, "axial_pos_shape") != 2 ||
      hfb_config_size_count(call->config, "axial_pos_embds_dim") != 2) {
    hfb_builder_fail(b, HFB_UNSUPPORTED, "axial_pos_shape and axial_pos_embds_dim must be lists of 2 sizes");
    return NULL;
  }
  for (int i = 0; i < 2; i++) {
    n[i] = hfb_call_size_at(call, "axial_pos_shape", i);
    d[i] = hfb_call_size_at(call, "axial_pos_embds_dim", i);
  }
  if (d[0] + d[1] != hidden || (nn->training ? n[0] * n[1] != s->length : n[0] * n[1] < s->length)) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT,
                     "axial_pos_embds_dim [%lld,%lld] must add up to hidden_size %lld, and axial_pos_shape [%lld,%lld] "
                     "must multiply to the length %lld%s",
                     (long long)d[0], (long long)d[1], (long long)hidden, (long long)n[0], (long long)n[1],
                     (long long)s->length, nn->training ? "" : " at least");
    return NULL;
  }
  hfb_init init = hfb_init_normal(hfb_call_float(call, "axial_norm_std"));
  hfb_value *outer = hfb_parameter(b, "weights.0", hfb_shape_of(3, (int64_t[]){n[0], 1, d[0]}), init);
  hfb_value *inner = hfb_parameter(b, "weights.1", hfb_shape_of(3, (int64_t[]){1, n[1], d[1]}), init);
  int64_t rows = (s->length + n[1] - 1) / n[1];
  outer = hfb_expand(b, hfb_slice(b, outer, 0, 0, rows), 3, (int64_t[]){rows, n[1], d[0]});
  inner = hfb_expand(b, inner, 3, (int64_t[]){rows, n[1], d[1]});
  hfb_value *table = hfb_concat(b, 2, (hfb_value *[]){outer, inner}, 2);
  hfb_value *ones = hfb_full(b, HFB_F32, hfb_shape_of(4, (int64_t[]){s->batch, 1, n[1], 1}), 1);
  hfb_value *noise = hfb_nn_dropout(nn, ones, hfb_call_float(call, "hidden_dropout_prob"));
  if (noise != ones) {
    return hfb_reshape(b, hfb_mul(b, table, noise), 3, (int64_t[]){s->batch, s->length, hidden});
  }
  table = hfb_reshape(b, table, 3, (int64_t[]){1, rows * n[1], hidden});
  return rows * n[1] == s->length ? table : hfb_slice(b, table, 1, 0, s->length);
}

/* PositionEmbeddings: [B,S,hidden]. */
static hfb_value *learned_positions(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s) {
  hfb_value *positions = hfb_nn_positions(nn, s->length, 0);
  positions = hfb_expand(nn->b, positions, 2, (int64_t[]){s->batch, s->length});
  hfb_value *x = hfb_nn_embedding(nn, "embedding", positions, hfb_call_int(call, "max_position_embeddings"),
                                  hfb_call_int(call, "hidden_size"), -1);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

static hfb_value *embed(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s, hfb_value *ids) {
  hfb_builder *b = nn->b;
  hfb_call_check_length(nn, call, "the input, filled up to whole chunks,", s->length, "max_position_embeddings");
  hfb_scope_push(b, "embeddings");
  hfb_value *words = hfb_nn_embedding(nn, "word_embeddings", ids, hfb_call_int(call, "vocab_size"),
                                      hfb_call_int(call, "hidden_size"), -1);
  words = hfb_nn_dropout(nn, words, hfb_call_float(call, "hidden_dropout_prob"));
  hfb_scope_push(b, "position_embeddings");
  bool axial = hfb_call_bool(call, "axial_pos_embds");
  hfb_value *positions = axial ? axial_positions(nn, call, s) : learned_positions(nn, call, s);
  hfb_scope_pop(b);
  hfb_scope_pop(b);
  return hfb_add(b, words, positions);
}

/* ---- Layers ---- */

typedef hfb_value *(*chunk_fn)(hfb_nn *nn, const hfb_call *call, hfb_value *x);

/* apply_chunking_to_forward: `run` on pieces of the sequence, so many tokens at a time; 0: at once. */
static hfb_value *in_chunks(hfb_nn *nn, const hfb_call *call, const char *field, chunk_fn run, hfb_value *x) {
  int64_t size = hfb_call_int(call, field);
  if (x == NULL || size <= 0) return run(nn, call, x);
  int64_t length = x->shape.dim[1];
  hfb_value **parts = hfb_call_values(nn, length / size);
  if (parts == NULL || length % size != 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%s is %lld; it must divide the length %lld", field, (long long)size,
                     (long long)length);
    return NULL;
  }
  for (int64_t i = 0; i < length / size; i++) {
    parts[i] = run(nn, call, hfb_slice(nn->b, x, 1, i * size, (i + 1) * size));
  }
  return hfb_concat(nn->b, (int)(length / size), parts, 1);
}

/* ChunkReformerFeedForward.forward_chunk. Dropout comes before the activation here. */
static hfb_value *feed_forward(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  double dropout = hfb_call_float(call, "hidden_dropout_prob");
  x = hfb_nn_layer_norm(nn, "layer_norm", x, hfb_call_float(call, "layer_norm_eps"));
  x = hfb_nn_linear(nn, "dense.dense", x, hfb_call_int(call, "feed_forward_size"), true);
  x = hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), hfb_nn_dropout(nn, x, dropout));
  x = hfb_nn_linear(nn, "output.dense", x, hfb_call_int(call, "hidden_size"), true);
  return hfb_nn_dropout(nn, x, dropout);
}

/* What decoding goes on from: the buckets of hashed layers, and what each layer's attention read. */
typedef struct layer_cache {
  hfb_value *buckets, *states;
} layer_cache;

/* ReformerAttention. cache NULL: not wanted. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s, int64_t layer,
                            hfb_value *x, layer_cache *cache) {
  x = hfb_nn_layer_norm(nn, "layer_norm", x, hfb_call_float(call, "layer_norm_eps"));
  if (cache != NULL) cache->states = x;
  hfb_value **buckets = cache == NULL ? NULL : &cache->buckets;
  hfb_value *context = layer_is_lsh(nn, call, layer) ? hfb_reformer_lsh_attention(nn, call, s, layer, x, buckets)
                                                     : hfb_reformer_local_attention(nn, call, s, x);
  x = hfb_nn_linear(nn, "output.dense", context, hfb_call_int(call, "hidden_size"), false);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

/* Outputs past_buckets_states/<layer>/0 and /1, without padding. */
static void add_cache(hfb_nn *nn, const hfb_call *call, int64_t layer, const layer_cache *cache) {
  const hfb_value *const values[2] = {cache->buckets, cache->states};
  for (int i = 0; i < 2; i++) {
    char name[48];
    if (values[i] == NULL) continue;
    snprintf(name, sizeof name, "past_buckets_states/%lld/%d", (long long)layer, i);
    hfb_value *value = (hfb_value *)values[i];
    int axis = i == 0 ? 3 : 1;
    if (value->shape.dim[axis] > call->length) value = hfb_slice(nn->b, value, axis, 0, call->length);
    hfb_output_add(nn->b, name, value);
  }
}

/* Rotations for a layer that draws none would be passed over. */
static void check_rotations(hfb_nn *nn, const hfb_call *call, const hfb_reformer_setting *s) {
  static const char stem[] = "lsh_rotations.";
  for (int i = 0; i < call->request->input_count; i++) {
    const char *name = call->request->inputs[i].name;
    if (strncmp(name, stem, sizeof stem - 1) != 0) continue;
    long layer = strtol(name + sizeof stem - 1, NULL, 10);
    if (layer < layer_count(call) && layer_is_lsh(nn, call, layer) && hfb_reformer_hashes(call, s->length)) continue;
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument '%s': layer %ld of this model hashes nothing", name, layer);
  }
}

/* ReformerModel: [B,S,2*hidden]. caches: one for each layer, NULL: not wanted. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call, layer_cache *caches) {
  hfb_builder *b = nn->b;
  double dropout = hfb_call_float(call, "hidden_dropout_prob");
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_reformer_setting s = {.batch = call->batch,
                            .length = padded_length(nn, call),
                            .heads = hfb_call_int(call, "num_attention_heads"),
                            .width = hfb_call_int(call, "attention_head_size"),
                            .causal = hfb_call_bool(call, "is_decoder"),
                            .mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length)};
  if (hfb_call_int(call, "hash_seed") >= 0) {
    hfb_builder_fail(b, HFB_UNSUPPORTED,
                     "hash_seed is %lld, which asks for the numbers of PyTorch's generator; use null",
                     (long long)hfb_call_int(call, "hash_seed"));
  }
  check_rotations(nn, call, &s);
  hfb_scope_push(b, "reformer");
  hfb_value *ids = padded_ids(nn, call, &s), *x1 = embed(nn, call, &s, ids), *x2 = x1;
  for (int64_t i = 0; i < layer_count(call); i++) {
    hfb_scope_push(b, "encoder.layers.%d.attention", (int)i);
    x1 = hfb_add(b, x1, attention(nn, call, &s, i, x2, caches == NULL ? NULL : &caches[i]));
    hfb_scope_pop(b);
    hfb_scope_push(b, "encoder.layers.%d.feed_forward", (int)i);
    x2 = hfb_add(b, x2, in_chunks(nn, call, "chunk_size_feed_forward", feed_forward, x1));
    hfb_scope_pop(b);
  }
  hfb_value *x = hfb_concat(b, 2, (hfb_value *[]){x1, x2}, 2);
  x = hfb_nn_dropout(nn, hfb_nn_layer_norm(nn, "encoder.layer_norm", x, hfb_call_float(call, "layer_norm_eps")),
                     dropout);
  hfb_scope_pop(b);
  return s.length > call->length ? hfb_slice(b, x, 1, 0, call->length) : x;
}

/* ---- Classes ---- */

static hfb_value *head_chunk(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  int64_t vocab = hfb_call_int(call, "vocab_size");
  hfb_value *bias = hfb_parameter(nn->b, "lm_head.bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  hfb_shape shape = hfb_shape_of(2, (int64_t[]){vocab, 2 * hfb_call_int(call, "hidden_size")});
  hfb_value *weight = hfb_parameter(nn->b, "lm_head.decoder.weight", shape, hfb_init_normal(nn->init_std));
  return hfb_linear_op(nn->b, x, weight, bias, true);
}

/* ReformerOnlyLMHead on the model. */
static void language_model(hfb_nn *nn, const hfb_call *call, bool causal) {
  if (hfb_call_bool(call, "is_decoder") != causal) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "is_decoder must be %s for this class", causal ? "true" : "false");
  }
  if (hfb_call_bool(call, "tie_word_embeddings")) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED,
                     "tie_word_embeddings is true, but the head is twice as wide as the embedding; accepted: false");
  }
  layer_cache *caches = NULL;
  int64_t layers = layer_count(call);
  if (causal && hfb_call_bool(call, "use_cache")) {
    caches = hfb_arena_alloc(&nn->b->graph->arena, (size_t)layers, sizeof *caches);
    if (caches == NULL) {
      hfb_builder_fail(nn->b, HFB_OUT_OF_MEMORY, "no memory for the cache of %lld layers", (long long)layers);
      return;
    }
    memset(caches, 0, (size_t)layers * sizeof *caches);
  }
  hfb_value *hidden = model(nn, call, caches);
  hfb_value *logits = in_chunks(nn, call, "chunk_size_lm_head", head_chunk, hidden);
  hfb_head_token_logits(nn, call, logits, causal);
  for (int64_t i = 0; caches != NULL && i < layers; i++) add_cache(nn, call, i, &caches[i]);
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  language_model(nn, call, false);
}

static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  if ((any_layer(call, false) && hfb_call_int(call, "local_num_chunks_after") != 0) ||
      (any_layer(call, true) && hfb_call_int(call, "lsh_num_chunks_after") != 0)) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "local_num_chunks_after and lsh_num_chunks_after must be 0 in a causal language model");
  }
  language_model(nn, call, true);
}

/* ReformerClassificationHead on the first token. */
static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value *x = model(nn, call, NULL);
  double dropout = hfb_call_float(call, "classifier_dropout");
  if (dropout < 0) dropout = hfb_call_float(call, "hidden_dropout_prob");
  x = hfb_slice(nn->b, x, 1, 0, 1);
  x = hfb_reshape(nn->b, x, 2, (int64_t[]){call->batch, 2 * hfb_call_int(call, "hidden_size")});
  hfb_scope_push(nn->b, "classifier");
  x = hfb_nn_linear(nn, "dense", hfb_nn_dropout(nn, x, dropout), hfb_call_int(call, "hidden_size"), true);
  x = hfb_nn_dropout(nn, hfb_nn_activation(nn, "tanh", x), dropout);
  hfb_value *logits = hfb_nn_linear(nn, "out_proj", x, hfb_call_int(call, "num_labels"), true);
  hfb_scope_pop(nn->b);
  hfb_head_classification(nn, call, logits);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call, NULL));
}

#define INPUTS  "input_ids attention_mask"
#define REFUSED HFB_REFUSED_ENCODER " position_ids num_hashes past_buckets_states use_cache"
#define TIED    "lm_head.decoder.bias=lm_head.bias"
#define IGNORED "*.mask_value_* *.self_mask_value_* lm_head.* classifier.* qa_outputs.*"

static const hfb_class_row classes[] = {
    {"ReformerForMaskedLM", masked_lm, INPUTS " labels lsh_rotations.#", REFUSED, TIED, IGNORED},
    {"ReformerModelWithLMHead", causal_lm, INPUTS " labels lsh_rotations.#", REFUSED, TIED, IGNORED},
    {"ReformerForSequenceClassification", sequence_classification, INPUTS " labels lsh_rotations.#", REFUSED, "",
     IGNORED},
    {"ReformerForQuestionAnswering", question_answering, INPUTS " start_positions end_positions lsh_rotations.#",
     REFUSED, "", IGNORED},
};

HFB_FAMILY_WITH(reformer, "reformer", "reformer", fields, classes, .defaults = "tie_word_embeddings=false");
