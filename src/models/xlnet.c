/* XLNet (Yang et al., 2019): one stream of Transformer-XL attention, whose scores see relative positions. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/family.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "32000", NULL},
    {"d_model", HFB_FIELD_SIZE, "1024", NULL},
    {"n_layer", HFB_FIELD_COUNT, "24", NULL},
    {"n_head", HFB_FIELD_COUNT, "16", NULL},
    {"d_head", HFB_FIELD_SIZE, "null", "null"}, /* null: d_model / n_head, as it must be */
    {"d_inner", HFB_FIELD_SIZE, "4096", NULL},
    {"ff_activation", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"attn_type", HFB_FIELD_TEXT, "bi", "bi|uni"},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"mem_len", HFB_FIELD_ID, "512", NULL},    /* the last tokens that mems keep; null or 0: all */
    {"reuse_len", HFB_FIELD_ID, "null", NULL}, /* mems keep none behind this many; null or 0: all */
    {"use_mems_eval", HFB_FIELD_BOOL, "true", NULL},
    {"use_mems_train", HFB_FIELD_BOOL, "false", NULL},
    {"use_cache", HFB_FIELD_BOOL, "null", "true|false|null"}, /* an old name of use_mems_eval */
    {"bi_data", HFB_FIELD_BOOL, "false", "false"},
    {"clamp_len", HFB_FIELD_LIMIT, "-1", NULL},
    {"same_length", HFB_FIELD_BOOL, "false", NULL},
    {"pad_token_id", HFB_FIELD_ID, "5", NULL},
    {"bos_token_id", HFB_FIELD_ID, "1", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
};

/* What is added to a score that must not count. */
#define HIDDEN_SCORE (-1e30)

/* What all layers share. */
typedef struct shared {
  int64_t width, heads, head_width;
  hfb_value *positions;     /* sinusoids of the relative positions S .. 1-S (or 0), [B,P,D] */
  hfb_value *other_segment; /* bool [B,1,S,S], NULL without token_type_ids */
  hfb_value *hidden;        /* additive [S,S] or [B,1,S,S], NULL: all tokens see all */
} shared;

/* ---- Masks and positions ---- */

static bool is_one_way(const hfb_call *call) {
  return strcmp(hfb_call_text(call, "attn_type"), "uni") == 0;
}

/* XLNetModel.create_mask: later tokens are hidden; with same_length, without memory, earlier ones too. */
static hfb_value *hidden_by_type(hfb_nn *nn, const hfb_call *call) {
  hfb_shape square = hfb_shape_of(2, (int64_t[]){call->length, call->length});
  if (!is_one_way(call)) return NULL;
  hfb_value *query = hfb_iota(nn->b, HFB_I64, square, 0), *key = hfb_iota(nn->b, HFB_I64, square, 1);
  return hfb_binary(nn->b, hfb_call_bool(call, "same_length") ? HFB_OP_NE : HFB_OP_LT, query, key);
}

/* Bool [B,1,1,S] of input_mask (1 = hidden) or attention_mask (1 = counts), NULL when neither is given. */
static hfb_value *hidden_by_mask(hfb_nn *nn, const hfb_call *call) {
  hfb_value *counts = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  hfb_value *hides = hfb_call_ids(nn, call, "input_mask", call->batch, call->length);
  if (counts != NULL && hides != NULL) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "attention_mask and input_mask are both given; give one");
    return NULL;
  }
  if (hides != NULL) return hfb_nn_padding_keep(nn, hides);
  return counts == NULL ? NULL : hfb_unary(nn->b, HFB_OP_NOT, hfb_nn_padding_keep(nn, counts));
}

/* A token always sees itself. */
static hfb_value *hidden_scores(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  hfb_value *hidden = hidden_by_type(nn, call), *masked = hidden_by_mask(nn, call);
  if (hidden != NULL && masked != NULL) masked = hfb_binary(b, HFB_OP_OR, hidden, masked);
  hidden = masked != NULL ? masked : hidden;
  if (hidden == NULL) return NULL;
  hfb_shape square = hfb_shape_of(2, (int64_t[]){call->length, call->length});
  hfb_value *query = hfb_iota(b, HFB_I64, square, 0), *key = hfb_iota(b, HFB_I64, square, 1);
  hidden = hfb_binary(b, HFB_OP_AND, hidden, hfb_binary(b, HFB_OP_NE, query, key));
  hfb_value *lowest = hfb_scalar(b, HFB_F32, HIDDEN_SCORE);
  return hfb_where(b, hidden, lowest, hfb_scalar(b, HFB_F32, 0));
}

/* XLNetModel.relative_positional_encoding for every row of the batch, since each has its own dropout. */
static hfb_value *relative_positions(hfb_nn *nn, const hfb_call *call, int64_t width) {
  hfb_builder *b = nn->b;
  int64_t count = is_one_way(call) ? call->length + 1 : 2 * call->length, clamp = hfb_call_int(call, "clamp_len");
  hfb_value *positions = hfb_mul_scalar(b, hfb_iota(b, HFB_I64, hfb_shape_of(2, (int64_t[]){1, count}), 1), -1);
  positions = hfb_add_scalar(b, positions, (double)call->length);
  if (clamp > 0) {
    positions = hfb_binary(b, HFB_OP_MINIMUM, positions, hfb_scalar(b, HFB_I64, (double)clamp));
    positions = hfb_binary(b, HFB_OP_MAXIMUM, positions, hfb_scalar(b, HFB_I64, (double)-clamp));
  }
  hfb_value *table = hfb_nn_sinusoids(nn, positions, width / 2, 2 * log(10000) / (double)width);
  table = hfb_expand(b, table, 3, (int64_t[]){call->batch, count, width});
  return hfb_nn_dropout(nn, table, hfb_call_float(call, "dropout"));
}

static hfb_value *other_segment(hfb_nn *nn, const hfb_call *call) {
  hfb_value *types = hfb_call_ids(nn, call, "token_type_ids", call->batch, call->length);
  if (types == NULL) return NULL;
  hfb_value *query = hfb_reshape(nn->b, types, 4, (int64_t[]){call->batch, 1, call->length, 1});
  hfb_value *key = hfb_reshape(nn->b, types, 4, (int64_t[]){call->batch, 1, 1, call->length});
  return hfb_binary(nn->b, HFB_OP_NE, query, key);
}

/* ---- Attention ---- */

typedef struct attention_weights {
  hfb_value *q, *k, *v, *o, *r;                           /* [D,H,d] */
  hfb_value *position_bias, *segment_bias, *content_bias; /* r_r_bias, r_s_bias, r_w_bias: [H,d] */
  hfb_value *segments;                                    /* seg_embed [2,H,d] */
} attention_weights;

static attention_weights register_attention(hfb_nn *nn, const shared *s) {
  hfb_init init = hfb_init_normal(nn->init_std);
  hfb_shape projection = hfb_shape_of(3, (int64_t[]){s->width, s->heads, s->head_width});
  hfb_shape bias = hfb_shape_of(2, (int64_t[]){s->heads, s->head_width});
  hfb_shape pair = hfb_shape_of(3, (int64_t[]){2, s->heads, s->head_width});
  attention_weights w = {0};
  w.q = hfb_parameter(nn->b, "q", projection, init);
  w.k = hfb_parameter(nn->b, "k", projection, init);
  w.v = hfb_parameter(nn->b, "v", projection, init);
  w.o = hfb_parameter(nn->b, "o", projection, init);
  w.r = hfb_parameter(nn->b, "r", projection, init);
  w.position_bias = hfb_parameter(nn->b, "r_r_bias", bias, init);
  w.segment_bias = hfb_parameter(nn->b, "r_s_bias", bias, init);
  w.content_bias = hfb_parameter(nn->b, "r_w_bias", bias, init);
  w.segments = hfb_parameter(nn->b, "seg_embed", pair, init);
  return w;
}

/* The weight as a matrix [D,H*d]. */
static hfb_value *matrix(hfb_nn *nn, const shared *s, hfb_value *weight) {
  return hfb_reshape(nn->b, weight, 2, (int64_t[]){s->width, s->heads * s->head_width});
}

/* x [B,L,D] -> [B,L,H,d] */
static hfb_value *project(hfb_nn *nn, const shared *s, hfb_value *x, hfb_value *weight) {
  if (x == NULL) return NULL;
  hfb_value *rows = hfb_linear_op(nn->b, x, matrix(nn, s, weight), NULL, false);
  return hfb_reshape(nn->b, rows, 4, (int64_t[]){x->shape.dim[0], x->shape.dim[1], s->heads, s->head_width});
}

/* [B,L,H,d] -> [B,H,L,d] */
static hfb_value *by_head(hfb_nn *nn, hfb_value *x) {
  return hfb_transpose(nn->b, x, (int[]){0, 2, 1, 3});
}

/* scores [B,H,S,P] of query i with relative position p: element j of the result is the one with position i - j. Reading
 * the rows on in one piece, one element less at a time, brings it there. */
static hfb_value *relative_shift(hfb_nn *nn, hfb_value *scores, int64_t keys) {
  if (scores == NULL) return NULL;
  const int64_t *dim = scores->shape.dim;
  hfb_value *x = hfb_reshape(nn->b, scores, 4, (int64_t[]){dim[0], dim[1], dim[3], dim[2]});
  x = hfb_slice(nn->b, x, 2, 1, dim[3]);
  x = hfb_reshape(nn->b, x, 4, (int64_t[]){dim[0], dim[1], dim[2], dim[3] - 1});
  return hfb_slice(nn->b, x, 3, 0, keys);
}

/* [B,H,S,S]: what the query thinks of the key's segment, its own or the other. */
static hfb_value *segment_scores(hfb_nn *nn, const shared *s, const attention_weights *w, hfb_value *q) {
  hfb_value *query = by_head(nn, hfb_add(nn->b, q, w->segment_bias));
  hfb_value *pair = hfb_matmul(nn->b, query, hfb_transpose(nn->b, w->segments, (int[]){1, 0, 2}), false, true);
  hfb_value *same = hfb_slice(nn->b, pair, 3, 0, 1), *other = hfb_slice(nn->b, pair, 3, 1, 2);
  return hfb_where(nn->b, s->other_segment, other, same);
}

/* XLNetRelativeAttention.rel_attn_core: softmax of content, position and segment scores. */
static hfb_value *attention_weights_of(hfb_nn *nn, const shared *s, const attention_weights *w, hfb_value *x) {
  hfb_builder *b = nn->b;
  hfb_value *q = project(nn, s, x, w->q), *k = by_head(nn, project(nn, s, x, w->k));
  hfb_value *r = by_head(nn, project(nn, s, s->positions, w->r));
  hfb_value *scores = hfb_matmul(b, by_head(nn, hfb_add(b, q, w->content_bias)), k, false, true);
  hfb_value *relative = hfb_matmul(b, by_head(nn, hfb_add(b, q, w->position_bias)), r, false, true);
  if (x != NULL) scores = hfb_add(b, scores, relative_shift(nn, relative, x->shape.dim[1]));
  if (s->other_segment != NULL) scores = hfb_add(b, scores, segment_scores(nn, s, w, q));
  scores = hfb_mul_scalar(b, scores, 1 / sqrt((double)s->head_width));
  if (s->hidden != NULL) scores = hfb_add(b, scores, s->hidden);
  return hfb_softmax(b, scores, -1);
}

static hfb_value *attention(hfb_nn *nn, const hfb_call *call, const shared *s, hfb_value *x) {
  hfb_scope_push(nn->b, "rel_attn");
  attention_weights w = register_attention(nn, s);
  hfb_value *weights = hfb_nn_dropout(nn, attention_weights_of(nn, s, &w, x), hfb_call_float(call, "dropout"));
  hfb_value *v = by_head(nn, project(nn, s, x, w.v));
  hfb_value *context = hfb_nn_merge_heads(nn, hfb_matmul(nn->b, weights, v, false, false));
  hfb_value *out = hfb_linear_op(nn->b, context, matrix(nn, s, w.o), NULL, true);
  out = hfb_add(nn->b, hfb_nn_dropout(nn, out, hfb_call_float(call, "dropout")), x);
  out = hfb_nn_layer_norm(nn, "layer_norm", out, hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return out;
}

/* ---- The model ---- */

static hfb_value *feed_forward(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  int64_t width = hfb_call_int(call, "d_model");
  double dropout = hfb_call_float(call, "dropout");
  hfb_scope_push(nn->b, "ff");
  hfb_nn_layer_norm_declare(nn, "layer_norm", width);
  hfb_value *inner = hfb_nn_linear(nn, "layer_1", x, hfb_call_int(call, "d_inner"), true);
  inner = hfb_nn_dropout(nn, hfb_nn_activation(nn, hfb_call_text(call, "ff_activation"), inner), dropout);
  hfb_value *out = hfb_nn_dropout(nn, hfb_nn_linear(nn, "layer_2", inner, width, true), dropout);
  out = hfb_nn_layer_norm(nn, "layer_norm", hfb_add(nn->b, out, x), hfb_call_float(call, "layer_norm_eps"));
  hfb_scope_pop(nn->b);
  return out;
}

static void check_widths(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "d_model"), head = hfb_call_int(call, "d_head");
  hfb_call_check_heads(nn, call, "d_model", "n_head");
  if (head >= 0 && head != width / hfb_call_int(call, "n_head")) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "d_head is %lld; it must be d_model / n_head, %lld", (long long)head,
                     (long long)(width / hfb_call_int(call, "n_head")));
  }
  if (width % 2 != 0) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "d_model is %lld; sinusoidal positions need an even one",
                     (long long)width);
  }
}

/* XLNetModel under "transformer"; memories[i], when wanted, is what layer i reads. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call, hfb_value **memories, hfb_value **out_words) {
  int64_t width = hfb_call_int(call, "d_model");
  double dropout = hfb_call_float(call, "dropout");
  nn->init_std = hfb_call_float(call, "initializer_range");
  check_widths(nn, call);
  shared s = {.width = width, .heads = hfb_call_int(call, "n_head")};
  s.head_width = width / s.heads;
  hfb_scope_push(nn->b, "transformer");
  hfb_parameter(nn->b, "mask_emb", hfb_shape_of(3, (int64_t[]){1, 1, width}), hfb_init_normal(nn->init_std));
  *out_words = hfb_nn_embedding_weight(nn, "word_embedding", hfb_call_int(call, "vocab_size"), width, -1);
  hfb_value *x = hfb_embedding(nn->b, *out_words, hfb_call_arg(call, "input_ids"), -1);
  x = hfb_nn_dropout(nn, x, dropout);
  s.hidden = hidden_scores(nn, call);
  s.other_segment = other_segment(nn, call);
  s.positions = relative_positions(nn, call, width);
  for (int64_t i = 0; i < hfb_call_int(call, "n_layer"); i++) {
    memories[i] = x;
    hfb_scope_push(nn->b, "layer.%d", (int)i);
    x = feed_forward(nn, call, attention(nn, call, &s, x));
    hfb_scope_pop(nn->b);
  }
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, dropout);
}

static bool returns_mems(const hfb_nn *nn, const hfb_call *call) {
  int64_t old_name = hfb_call_int(call, "use_cache");
  if (nn->training) return hfb_call_bool(call, "use_mems_train");
  return old_name < 0 ? hfb_call_bool(call, "use_mems_eval") : old_name != 0;
}

/* XLNetModel.cache_mem: outputs mems/<layer>, [tokens,B,D]. */
static void add_mems(hfb_nn *nn, const hfb_call *call, hfb_value *const *memories) {
  int64_t reuse = hfb_call_int(call, "reuse_len"), longest = hfb_call_int(call, "mem_len"), limit = call->length;
  if (reuse > 0 && reuse < limit) limit = reuse;
  int64_t first = longest > 0 && longest < limit ? limit - longest : 0;
  for (int i = 0; i < (int)hfb_call_int(call, "n_layer"); i++) {
    char name[32];
    snprintf(name, sizeof name, "mems/%d", i);
    hfb_value *kept = hfb_slice(nn->b, memories[i], 1, first, limit);
    hfb_output_add(nn->b, name, hfb_transpose(nn->b, kept, (int[]){1, 0, 2}));
  }
}

static void lm_head(hfb_nn *nn, const hfb_call *call) {
  int64_t vocab = hfb_call_int(call, "vocab_size");
  hfb_value **memories = hfb_call_values(nn, hfb_call_int(call, "n_layer")), *words = NULL;
  if (memories == NULL) return;
  hfb_value *x = model(nn, call, memories, &words);
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_loss.weight", words);
  hfb_value *bias = hfb_parameter(nn->b, "lm_loss.bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  hfb_head_token_logits(nn, call, hfb_linear_op(nn->b, x, weight, bias, true), false);
  if (returns_mems(nn, call)) add_mems(nn, call, memories);
}

static const hfb_class_row classes[] = {
    {"XLNetLMHeadModel", lm_head, "input_ids attention_mask token_type_ids input_mask labels",
     HFB_REFUSED_ENCODER " mems perm_mask target_mapping use_mems", "lm_loss.weight=transformer.word_embedding.weight",
     "sequence_summary.* logits_proj.* qa_outputs.* start_logits.* end_logits.* answer_class.*"},
};

HFB_FAMILY(xlnet, "xlnet", "transformer", fields, classes);
