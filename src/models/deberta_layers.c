#include "models/deberta_layers.h"

#include <math.h>
#include <string.h>

#include "models/bert_layers.h"

static bool is_v2(const hfb_call *call) {
  const hfb_deberta_traits *traits = call->traits;
  return traits->v2;
}

/* DebertaLayerNorm, as its own kernels: weight * (x - mean) / sqrt(variance + eps) + bias. v2 has nn.LayerNorm. */
static hfb_value *norm(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x) {
  double eps = hfb_call_float(call, "layer_norm_eps");
  if (x == NULL) return NULL;
  if (is_v2(call)) return hfb_nn_layer_norm(nn, name, x, eps);
  hfb_builder *b = nn->b;
  int64_t width = x->shape.dim[x->shape.rank - 1];
  hfb_scope_push(b, "%s", name);
  hfb_value *weight = hfb_parameter(b, "weight", hfb_shape_of(1, &width), hfb_init_constant(1));
  hfb_value *bias = hfb_parameter(b, "bias", hfb_shape_of(1, &width), hfb_init_constant(0));
  hfb_scope_pop(b);
  hfb_value *centred = hfb_sub(b, x, hfb_reduce(b, HFB_OP_REDUCE_MEAN, x, 1, (int[]){-1}, true));
  hfb_value *variance = hfb_reduce(b, HFB_OP_REDUCE_MEAN, hfb_mul(b, centred, centred), 1, (int[]){-1}, true);
  hfb_value *deviation = hfb_unary(b, HFB_OP_SQRT, hfb_add_scalar(b, variance, eps));
  return hfb_add(b, hfb_mul(b, weight, hfb_div(b, centred, deviation)), bias);
}

/* ---- Embeddings ---- */

/* attention_mask as [B,S,1] numbers that multiply token vectors; NULL when not given. */
static hfb_value *token_weights(hfb_nn *nn, const hfb_call *call) {
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  if (mask == NULL) return NULL;
  return hfb_cast(nn->b, hfb_reshape(nn->b, mask, 3, (int64_t[]){call->batch, call->length, 1}), HFB_F32);
}

hfb_value *hfb_deberta_embed(hfb_nn *nn, const hfb_call *call, hfb_value **out_words) {
  int64_t width = hfb_call_int(call, "hidden_size"), narrow = hfb_call_int(call, "embedding_size");
  int64_t positions = hfb_call_int(call, "max_position_embeddings"), types = hfb_call_int(call, "type_vocab_size");
  int64_t pad = hfb_call_int(call, "pad_token_id");
  bool has_positions = hfb_call_bool(call, "position_biased_input");
  if (narrow < 0) narrow = width;
  if (has_positions) hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_scope_push(nn->b, "embeddings");
  *out_words = hfb_nn_embedding_weight(nn, "word_embeddings", hfb_call_int(call, "vocab_size"), narrow, pad);
  hfb_value *x = hfb_embedding(nn->b, *out_words, hfb_call_arg(call, "input_ids"), pad);
  if (has_positions) {
    hfb_value *ids = hfb_bert_positions(nn, call);
    x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "position_embeddings", ids, positions, narrow, -1));
  }
  if (types > 0) {
    hfb_value *ids = hfb_bert_token_types(nn, call);
    x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "token_type_embeddings", ids, types, narrow, -1));
  }
  if (narrow != width) x = hfb_nn_linear(nn, "embed_proj", x, width, false);
  x = norm(nn, call, "LayerNorm", x);
  hfb_value *weights = token_weights(nn, call);
  if (weights != NULL) x = hfb_mul(nn->b, x, weights);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

/* ---- Relative positions ---- */

/* What the layers share. */
typedef struct setting {
  hfb_value *keep;      /* bool [B,1,S,S]: query and key both count; NULL: all do */
  hfb_value *distances; /* i64 [1,1,S,S]: query minus key, in v2 as bucket; NULL: no relative attention */
  hfb_value *table;     /* [rows,D]: vectors of distances, that of -span in row `first` */
  int64_t first, span;  /* distances count from -span to span - 1 */
  bool c2p, p2c;        /* content to position, position to content */
  int types;            /* how many of these the scale counts */
} setting;

int64_t hfb_deberta_log_bucket(int64_t distance, int64_t bucket_count, int64_t max_distance) {
  int64_t middle = bucket_count / 2, size = distance < 0 ? -distance : distance;
  if (size <= middle) return distance;
  /* in f32, as there: the ceiling decides */
  float ratio = logf((float)size / (float)middle) / logf((float)((double)(max_distance - 1) / (double)middle));
  /* infinite or nan when max_distance - 1 <= middle: then the last bucket, as the caller's clamp makes of any number */
  float steps = ceilf(ratio * (float)(middle - 1));
  int64_t bucket = (steps >= 0 && steps < 0x1p31f ? (int64_t)steps : INT32_MAX) + middle;
  return distance < 0 ? -bucket : bucket;
}

static int64_t max_distance_of(const hfb_call *call) {
  int64_t given = hfb_call_int(call, "max_relative_positions");
  return given < 1 ? hfb_call_int(call, "max_position_embeddings") : given;
}

static int64_t bucket_count_of(const hfb_call *call) {
  int64_t given = is_v2(call) ? hfb_call_int(call, "position_buckets") : -1;
  return given > 0 ? given : 0;
}

/* Query minus key: i64 [1,1,S,S]. Buckets depend on the distance only, so a table of 2S - 1 holds them all. */
static hfb_value *distances_of(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  int64_t length = call->length, buckets = bucket_count_of(call), entries = 2 * length - 1;
  hfb_shape square = hfb_shape_of(4, (int64_t[]){1, 1, length, length});
  hfb_value *query = hfb_iota(b, HFB_I64, square, 2);
  hfb_value *key = hfb_iota(b, HFB_I64, square, 3);
  hfb_value *distances = hfb_sub(b, query, key);
  if (buckets == 0) return distances;
  int64_t *table = NULL;
  if (hfb_mem_alloc((size_t)entries, sizeof *table, &table) != HFB_OK) {
    hfb_builder_fail(b, HFB_OUT_OF_MEMORY, "%s", hfb_error_message());
    return NULL;
  }
  for (int64_t i = 0; i < entries; i++) {
    table[i] = hfb_deberta_log_bucket(i - (length - 1), buckets, max_distance_of(call));
  }
  hfb_value *bucket_of = hfb_constant_i64(b, hfb_shape_of(1, &entries), table);
  hfb_mem_free(table);
  return hfb_gather(b, bucket_of, hfb_add_scalar(b, distances, (double)(length - 1)), 0);
}

static setting setting_of(hfb_nn *nn, const hfb_call *call) {
  const char *words = hfb_call_text(call, "pos_att_type");
  setting s = {.c2p = words != NULL && strstr(words, "c2p") != NULL,
               .p2c = words != NULL && strstr(words, "p2c") != NULL};
  s.types = s.c2p + s.p2c;
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  if (mask == NULL) return s;
  hfb_value *counts = hfb_binary(nn->b, HFB_OP_NE, mask, hfb_scalar(nn->b, HFB_I64, 0));
  hfb_value *keys = hfb_reshape(nn->b, counts, 4, (int64_t[]){call->batch, 1, 1, call->length});
  hfb_value *queries = hfb_reshape(nn->b, counts, 4, (int64_t[]){call->batch, 1, call->length, 1});
  s.keep = hfb_binary(nn->b, HFB_OP_AND, keys, queries);
  return s;
}

/* rel_embeddings and, in v2, their norm. v1 reads the distances that occur only. */
static void add_relative_positions(hfb_nn *nn, const hfb_call *call, setting *s) {
  int64_t buckets = bucket_count_of(call), longest = max_distance_of(call);
  int64_t half = buckets > 0 ? buckets : longest;
  bool normed = is_v2(call) && strstr(hfb_call_text(call, "norm_rel_ebd"), "layer_norm") != NULL;
  if (hfb_call_bool(call, "relative_attention")) {
    s->table = hfb_nn_embedding_weight(nn, "rel_embeddings", 2 * half, hfb_call_int(call, "hidden_size"), -1);
    if (normed) s->table = norm(nn, call, "LayerNorm", s->table);
    s->distances = distances_of(nn, call);
    s->span = half;
    if (!is_v2(call) && call->length < half) {
      s->span = call->length;
      s->first = half - s->span;
    }
  } else if (normed) {
    hfb_nn_layer_norm_declare(nn, "LayerNorm", hfb_call_int(call, "hidden_size"));
  }
}

/* scores[b,h,i, sign * distance(i,j) + span] as [B,H,S,S]; scores [B,H,S,2 span]. */
static hfb_value *at_distances(hfb_nn *nn, const setting *s, hfb_value *scores, int sign) {
  hfb_builder *b = nn->b;
  if (scores == NULL || s->distances == NULL) return NULL;
  const int64_t *dim = scores->shape.dim;
  hfb_value *signed_distance = sign < 0 ? hfb_unary(b, HFB_OP_NEG, s->distances) : s->distances;
  hfb_value *column = hfb_add_scalar(b, signed_distance, (double)s->span);
  column = hfb_binary(b, HFB_OP_MAXIMUM, column, hfb_scalar(b, HFB_I64, 0));
  column = hfb_binary(b, HFB_OP_MINIMUM, column, hfb_scalar(b, HFB_I64, (double)(2 * s->span - 1)));
  return hfb_take_along(b, scores, hfb_expand(b, column, 4, (int64_t[]){dim[0], dim[1], dim[2], dim[2]}), 3);
}

/* content [B,H,S,d] against positions [1,H,2 span,d], read off at the distances. */
static hfb_value *against_positions(hfb_nn *nn, const setting *s, hfb_value *content, hfb_value *positions, int sign) {
  return at_distances(nn, s, hfb_matmul(nn->b, content, positions, false, true), sign);
}

/* What a layer reads of the table, [1,2 span,D]: dropped once, for all its projections. NULL: no relative attention. */
static hfb_value *relative_rows(hfb_nn *nn, const hfb_call *call, const setting *s) {
  if (s->table == NULL || s->types == 0) return NULL;
  int64_t count = 2 * s->span, width = hfb_call_int(call, "hidden_size");
  hfb_value *rows = hfb_nn_dropout(nn, s->table, hfb_call_float(call, "hidden_dropout_prob"));
  if (count < s->table->shape.dim[0]) rows = hfb_slice(nn->b, rows, 0, s->first, s->first + count);
  return hfb_reshape(nn->b, rows, 3, (int64_t[]){1, count, width});
}

/* Rows through a projection, split into heads: [1,H,2 span,d]. */
static hfb_value *project_rows(hfb_nn *nn, const hfb_call *call, hfb_value *rows, const char *name, bool with_bias) {
  return hfb_nn_split_heads(nn, hfb_nn_linear(nn, name, rows, hfb_call_int(call, "hidden_size"), with_bias),
                            hfb_call_int(call, "num_attention_heads"));
}

static hfb_value *plus(hfb_nn *nn, hfb_value *scores, hfb_value *bias) {
  return bias == NULL ? scores : hfb_add(nn->b, scores, bias);
}

/* ---- Self-attention ---- */

/* XSoftmax: masked scores count as the lowest, masked probabilities are 0; a masked query attends to nothing. */
static hfb_value *attend(hfb_nn *nn, const hfb_call *call, const setting *s, hfb_value *scores, hfb_value *v) {
  hfb_builder *b = nn->b;
  if (s->keep != NULL) scores = hfb_where(b, s->keep, scores, hfb_scalar(b, HFB_F32, hfb_nn_masked_score()));
  hfb_value *weights = hfb_softmax(b, scores, -1);
  if (s->keep != NULL) weights = hfb_where(b, s->keep, weights, hfb_scalar(b, HFB_F32, 0));
  weights = hfb_nn_dropout(nn, weights, hfb_call_float(call, "attention_probs_dropout_prob"));
  return hfb_nn_merge_heads(nn, hfb_matmul(b, weights, v, false, false));
}

static double scale_of(const hfb_call *call, const setting *s) {
  int64_t size = hfb_call_int(call, "hidden_size") / hfb_call_int(call, "num_attention_heads");
  return 1 / sqrt((double)(size * (1 + s->types)));
}

/* One third of in_proj's output [B,S,H,3d], with its bias: [B,H,S,d]. */
static hfb_value *third(hfb_nn *nn, hfb_value *qkv, int index, hfb_value *bias) {
  if (qkv == NULL) return NULL;
  int64_t heads = qkv->shape.dim[1], size = qkv->shape.dim[3] / 3;
  hfb_value *part = hfb_slice(nn->b, qkv, 3, index * size, (index + 1) * size);
  if (bias == NULL) return part;
  return hfb_add(nn->b, part, hfb_reshape(nn->b, bias, 4, (int64_t[]){1, heads, 1, size}));
}

/* v1: one projection whose rows hold q, k and v of each head in turn; q and v have biases of their own. */
static hfb_value *self_attention_v1(hfb_nn *nn, const hfb_call *call, hfb_value *x, const setting *s) {
  int64_t width = hfb_call_int(call, "hidden_size"), heads = hfb_call_int(call, "num_attention_heads");
  hfb_value *q_bias = hfb_parameter(nn->b, "q_bias", hfb_shape_of(1, &width), hfb_init_constant(0));
  hfb_value *v_bias = hfb_parameter(nn->b, "v_bias", hfb_shape_of(1, &width), hfb_init_constant(0));
  hfb_value *qkv = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "in_proj", x, 3 * width, false), heads);
  hfb_value *q = third(nn, qkv, 0, q_bias), *k = third(nn, qkv, 1, NULL), *v = third(nn, qkv, 2, v_bias);
  q = hfb_mul_scalar(nn->b, q, scale_of(call, s));
  hfb_value *scores = hfb_matmul(nn->b, q, k, false, true), *bias = NULL;
  hfb_value *rows = relative_rows(nn, call, s);
  if (rows != NULL && s->c2p) {
    bias = against_positions(nn, s, q, project_rows(nn, call, rows, "pos_proj", false), 1);
  }
  if (rows != NULL && s->p2c) {
    hfb_value *positions = hfb_mul_scalar(nn->b, project_rows(nn, call, rows, "pos_q_proj", true), scale_of(call, s));
    hfb_value *p2c = hfb_transpose(nn->b, against_positions(nn, s, k, positions, -1), (int[]){0, 1, 3, 2});
    bias = plus(nn, p2c, bias);
  }
  return attend(nn, call, s, plus(nn, scores, bias), v);
}

/* v2: the content's projections serve the positions too when keys are shared. */
static hfb_value *self_attention_v2(hfb_nn *nn, const hfb_call *call, hfb_value *x, const setting *s) {
  int64_t width = hfb_call_int(call, "hidden_size"), heads = hfb_call_int(call, "num_attention_heads");
  bool shared = hfb_call_bool(call, "share_att_key");
  double scale = scale_of(call, s);
  hfb_value *q = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "query_proj", x, width, true), heads);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "key_proj", x, width, true), heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "value_proj", x, width, true), heads);
  hfb_value *scores = hfb_matmul(nn->b, q, hfb_mul_scalar(nn->b, k, scale), false, true), *bias = NULL;
  hfb_value *rows = relative_rows(nn, call, s);
  if (rows != NULL && s->c2p) {
    hfb_value *positions = project_rows(nn, call, rows, shared ? "key_proj" : "pos_key_proj", true);
    bias = hfb_mul_scalar(nn->b, against_positions(nn, s, q, positions, 1), scale);
  }
  if (rows != NULL && s->p2c) {
    hfb_value *positions = project_rows(nn, call, rows, shared ? "query_proj" : "pos_query_proj", true);
    hfb_value *p2c = hfb_transpose(nn->b, against_positions(nn, s, k, positions, -1), (int[]){0, 1, 3, 2});
    bias = plus(nn, hfb_mul_scalar(nn->b, p2c, scale), bias);
  }
  return attend(nn, call, s, plus(nn, scores, bias), v);
}

static void self_attention_declare(hfb_nn *nn, const hfb_call *call, const setting *s) {
  static const char *const projections[] = {"query_proj", "key_proj", "value_proj"};
  int64_t width = hfb_call_int(call, "hidden_size");
  bool relative = hfb_call_bool(call, "relative_attention");
  if (is_v2(call)) {
    for (int i = 0; i < 3; i++) hfb_nn_linear_declare(nn, projections[i], width, width, true);
    if (!relative || hfb_call_bool(call, "share_att_key")) return;
    if (s->c2p) hfb_nn_linear_declare(nn, "pos_key_proj", width, width, true);
    if (s->p2c) hfb_nn_linear_declare(nn, "pos_query_proj", width, width, true);
    return;
  }
  hfb_parameter(nn->b, "q_bias", hfb_shape_of(1, &width), hfb_init_constant(0));
  hfb_parameter(nn->b, "v_bias", hfb_shape_of(1, &width), hfb_init_constant(0));
  hfb_nn_linear_declare(nn, "in_proj", width, 3 * width, false);
  if (relative && s->c2p) hfb_nn_linear_declare(nn, "pos_proj", width, width, false);
  if (relative && s->p2c) hfb_nn_linear_declare(nn, "pos_q_proj", width, width, true);
}

/* ---- The encoder ---- */

static void layer_declare(hfb_nn *nn, const hfb_call *call, const setting *s) {
  int64_t width = hfb_call_int(call, "hidden_size"), middle = hfb_call_int(call, "intermediate_size");
  hfb_scope_push(nn->b, "attention.self");
  self_attention_declare(nn, call, s);
  hfb_scope_pop(nn->b);
  hfb_nn_linear_declare(nn, "attention.output.dense", width, width, true);
  hfb_nn_layer_norm_declare(nn, "attention.output.LayerNorm", width);
  hfb_nn_linear_declare(nn, "intermediate.dense", width, middle, true);
  hfb_nn_linear_declare(nn, "output.dense", middle, width, true);
  hfb_nn_layer_norm_declare(nn, "output.LayerNorm", width);
}

/* dense, dropout, norm(. + residual). */
static hfb_value *output(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *residual) {
  hfb_scope_push(nn->b, "output");
  x = hfb_nn_linear(nn, "dense", x, hfb_call_int(call, "hidden_size"), true);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
  x = norm(nn, call, "LayerNorm", hfb_add(nn->b, x, residual));
  hfb_scope_pop(nn->b);
  return x;
}

static hfb_value *layer(hfb_nn *nn, const hfb_call *call, hfb_value *x, const setting *s) {
  hfb_scope_push(nn->b, "attention");
  hfb_scope_push(nn->b, "self");
  hfb_value *context = is_v2(call) ? self_attention_v2(nn, call, x, s) : self_attention_v1(nn, call, x, s);
  hfb_scope_pop(nn->b);
  x = output(nn, call, context, x);
  hfb_scope_pop(nn->b);
  hfb_value *inner = hfb_nn_linear(nn, "intermediate.dense", x, hfb_call_int(call, "intermediate_size"), true);
  return output(nn, call, hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), inner), x);
}

/* v2's ConvLayer, a branch beside the first layer: x is what that layer read, `residual` what it gave. */
static hfb_value *convolution(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *residual) {
  hfb_builder *b = nn->b;
  hfb_value *weights = token_weights(nn, call);
  hfb_scope_push(b, "conv");
  x = hfb_nn_convolution(nn, "conv", x, hfb_call_int(call, "hidden_size"), hfb_call_int(call, "conv_kernel_size"));
  if (weights != NULL) {
    hfb_value *counts = hfb_binary(b, HFB_OP_EQ, weights, hfb_scalar(b, HFB_F32, 1));
    x = hfb_where(b, counts, x, hfb_scalar(b, HFB_F32, 0));
  }
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
  x = hfb_nn_activation(nn, hfb_call_text(call, "conv_act"), x);
  x = norm(nn, call, "LayerNorm", hfb_add(b, residual, x));
  hfb_scope_pop(b);
  return weights == NULL ? x : hfb_mul(b, x, weights);
}

/* What the tables of fields cannot say. */
static void check(hfb_nn *nn, const hfb_call *call) {
  int64_t buckets = bucket_count_of(call), longest = max_distance_of(call);
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  if (buckets > 0 && (buckets < 2 || longest - 1 <= buckets / 2)) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "position_buckets %lld must be at least 2, and max_relative_positions %lld exceed half of it by "
                     "more than 1",
                     (long long)buckets, (long long)longest);
  }
  if (!is_v2(call)) return;
  int64_t size = hfb_call_int(call, "attention_head_size"), heads = hfb_call_int(call, "num_attention_heads");
  if (size > 0 && size * heads != hfb_call_int(call, "hidden_size")) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED,
                     "attention_head_size %lld is not hidden_size %lld / num_attention_heads %lld", (long long)size,
                     (long long)hfb_call_int(call, "hidden_size"), (long long)heads);
  }
  if (hfb_call_int(call, "conv_kernel_size") > 0 && hfb_call_int(call, "conv_groups") != 1) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "conv_groups %lld is not implemented; 1 is",
                     (long long)hfb_call_int(call, "conv_groups"));
  }
}

hfb_value *hfb_deberta_encode(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  hfb_value *first = x;
  int64_t layers = hfb_call_int(call, "num_hidden_layers");
  check(nn, call);
  setting s = setting_of(nn, call);
  hfb_scope_push(nn->b, "encoder");
  for (int64_t i = 0; i < layers; i++) {
    hfb_scope_push(nn->b, "layer.%d", (int)i);
    layer_declare(nn, call, &s);
    hfb_scope_pop(nn->b);
  }
  add_relative_positions(nn, call, &s);
  for (int64_t i = 0; i < layers; i++) {
    hfb_scope_push(nn->b, "layer.%d", (int)i);
    x = layer(nn, call, x, &s);
    hfb_scope_pop(nn->b);
    if (i == 0 && is_v2(call) && hfb_call_int(call, "conv_kernel_size") > 0) x = convolution(nn, call, first, x);
  }
  hfb_scope_pop(nn->b);
  return x;
}
