/* T5 (Raffel et al., 2019), with the gated feed-forward of T5 v1.1 and its multilingual form mT5 (Xue et al., 2020). No
 * biases, no scaling of scores. */
#include <math.h>
#include <string.h>

#include "models/family.h"

/* Fields with the same default in both families. */
/* clang-format off */
#define COMMON_FIELDS                                                                              \
  {"d_model", HFB_FIELD_SIZE, "512", NULL},                                                        \
  {"d_kv", HFB_FIELD_SIZE, "64", NULL},                                                            \
  {"num_decoder_layers", HFB_FIELD_COUNT, "null", "null"}, /* null: num_layers */                  \
  {"relative_attention_num_buckets", HFB_FIELD_COUNT, "32", NULL},                                 \
  {"relative_attention_max_distance", HFB_FIELD_SIZE, "128", NULL},                                \
  {"dropout_rate", HFB_FIELD_PROBABILITY, "0.1", NULL},                                            \
  {"layer_norm_epsilon", HFB_FIELD_POSITIVE, "1e-6", NULL},                                        \
  {"initializer_factor", HFB_FIELD_POSITIVE, "1.0", NULL},                                         \
  {"dense_act_fn", HFB_FIELD_ACTIVATION, "null", "null"}, /* null: what feed_forward_proj says */  \
  {"is_gated_act", HFB_FIELD_BOOL, "null", "true|false|null"},                                     \
  {"use_cache", HFB_FIELD_BOOL, "true", NULL},                                                     \
  {"pad_token_id", HFB_FIELD_ID, "0", NULL},                                                       \
  {"eos_token_id", HFB_FIELD_ID, "1", NULL}
/* clang-format on */
#define FEED_FORWARDS "relu|gelu|gelu_new|silu|gated-gelu|gated-relu|gated-gelu_new|gated-silu"

static const hfb_field t5_fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "32128", NULL},
    {"d_ff", HFB_FIELD_SIZE, "2048", NULL},
    {"num_layers", HFB_FIELD_COUNT, "6", NULL},
    {"num_heads", HFB_FIELD_COUNT, "8", NULL},
    {"feed_forward_proj", HFB_FIELD_TEXT, "relu", FEED_FORWARDS},
    {"decoder_start_token_id", HFB_FIELD_ID, "null", NULL},
    COMMON_FIELDS,
};

static const hfb_field mt5_fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "250112", NULL},
    {"d_ff", HFB_FIELD_SIZE, "1024", NULL},
    {"num_layers", HFB_FIELD_COUNT, "8", NULL},
    {"num_heads", HFB_FIELD_COUNT, "6", NULL},
    {"feed_forward_proj", HFB_FIELD_TEXT, "gated-gelu", FEED_FORWARDS},
    {"decoder_start_token_id", HFB_FIELD_ID, "0", NULL},
    COMMON_FIELDS,
};

/* One of the two stacks. */
typedef struct stack {
  bool decoder;
  int64_t layers, length; /* tokens */
  hfb_value *self_bias;   /* position bias and mask, shared by all blocks; made in the first */
  hfb_value *self_mask;   /* additive, NULL: none */
  hfb_value *memory;      /* decoder: the encoder's output */
  hfb_value *memory_mask; /* additive [B,1,1,S], NULL: none */
  hfb_value **cache;      /* decoder: four values for each block */
} stack;

typedef struct attention_weights {
  hfb_value *q, *k, *v, *o;
  hfb_value *table; /* of relative positions; first block only */
} attention_weights;

static hfb_value *matrix(hfb_nn *nn, const char *name, int64_t rows, int64_t columns, double deviation) {
  return hfb_parameter(nn->b, name, hfb_shape_of(2, (int64_t[]){rows, columns}), hfb_init_normal(deviation));
}

static attention_weights attention_register(hfb_nn *nn, const hfb_call *call, const char *name, bool positions) {
  int64_t width = hfb_call_int(call, "d_model"), heads = hfb_call_int(call, "num_heads");
  int64_t head_width = hfb_call_int(call, "d_kv"), inner = heads * head_width;
  double factor = hfb_call_float(call, "initializer_factor"), narrow = factor / sqrt((double)width);
  hfb_scope_push(nn->b, "%s", name);
  attention_weights w = {0};
  w.q = matrix(nn, "q.weight", inner, width, narrow / sqrt((double)head_width));
  w.k = matrix(nn, "k.weight", inner, width, narrow);
  w.v = matrix(nn, "v.weight", inner, width, narrow);
  w.o = matrix(nn, "o.weight", width, inner, factor / sqrt((double)inner));
  if (positions) {
    w.table = matrix(nn, "relative_attention_bias.weight", hfb_call_int(call, "relative_attention_num_buckets"), heads,
                     narrow);
  }
  hfb_scope_pop(nn->b);
  return w;
}

static hfb_value *norm(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *x) {
  int64_t width = hfb_call_int(call, "d_model");
  hfb_value *weight = hfb_parameter(nn->b, name, hfb_shape_of(1, &width),
                                    hfb_init_constant(hfb_call_float(call, "initializer_factor")));
  return hfb_rms_norm_op(nn->b, x, weight, hfb_call_float(call, "layer_norm_epsilon"));
}

/* T5Attention: queries from x, keys and values from `source`; cache takes key and value. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, const attention_weights *w, hfb_value *x,
                            hfb_value *source, hfb_value *bias, hfb_value **cache) {
  int64_t heads = hfb_call_int(call, "num_heads");
  hfb_value *q = hfb_nn_split_heads(nn, hfb_linear_op(nn->b, x, w->q, NULL, true), heads);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_linear_op(nn->b, source, w->k, NULL, true), heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_linear_op(nn->b, source, w->v, NULL, true), heads);
  if (cache != NULL) {
    cache[0] = k;
    cache[1] = v;
  }
  hfb_nn_attention how = {
      .query_scale = 1, .score_scale = 1, .bias = bias, .dropout = hfb_call_float(call, "dropout_rate")};
  return hfb_linear_op(nn->b, hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &how, q, k, v)), w->o, NULL, true);
}

/* The relative position bias of the stack's first block, with the mask added: all blocks add the sum. */
static hfb_value *position_bias(hfb_nn *nn, const hfb_call *call, const stack *s, hfb_value *table) {
  hfb_nn_relative_bias how = {.queries = s->length,
                              .keys = s->length,
                              .heads = hfb_call_int(call, "num_heads"),
                              .buckets = hfb_call_int(call, "relative_attention_num_buckets"),
                              .max_distance = hfb_call_int(call, "relative_attention_max_distance"),
                              .bidirectional = !s->decoder};
  hfb_value *bias = hfb_nn_t5_relative_bias(nn, table, &how);
  return s->self_mask == NULL ? bias : hfb_add(nn->b, bias, s->self_mask);
}

/* The norm stands in front of the attention, but is registered behind it. */
static hfb_value *self_attention(hfb_nn *nn, const hfb_call *call, stack *s, int64_t block, hfb_value *x) {
  hfb_scope_push(nn->b, "layer.0");
  attention_weights w = attention_register(nn, call, "SelfAttention", block == 0);
  hfb_value *normed = norm(nn, call, "layer_norm.weight", x);
  if (block == 0) s->self_bias = position_bias(nn, call, s, w.table);
  hfb_value *out = attention(nn, call, &w, normed, normed, s->self_bias, s->decoder ? s->cache + 4 * block : NULL);
  hfb_scope_pop(nn->b);
  return hfb_add(nn->b, x, hfb_nn_dropout(nn, out, hfb_call_float(call, "dropout_rate")));
}

static hfb_value *cross_attention(hfb_nn *nn, const hfb_call *call, const stack *s, int64_t block, hfb_value *x) {
  hfb_scope_push(nn->b, "layer.1");
  attention_weights w = attention_register(nn, call, "EncDecAttention", false);
  hfb_value *normed = norm(nn, call, "layer_norm.weight", x);
  hfb_value *out = attention(nn, call, &w, normed, s->memory, s->memory_mask, s->cache + 4 * block + 2);
  hfb_scope_pop(nn->b);
  return hfb_add(nn->b, x, hfb_nn_dropout(nn, out, hfb_call_float(call, "dropout_rate")));
}

/* "gated-gelu" stands for gelu_new; dense_act_fn and is_gated_act win, as T5Config sets them last. */
static const char *activation_of(const hfb_call *call, bool *out_gated) {
  const char *kind = hfb_call_text(call, "feed_forward_proj"), *given = hfb_call_text(call, "dense_act_fn");
  bool gated = strncmp(kind, "gated-", 6) == 0;
  int64_t is_gated = hfb_call_int(call, "is_gated_act");
  *out_gated = is_gated < 0 ? gated : is_gated != 0;
  if (given != NULL) return given;
  return strcmp(kind, "gated-gelu") == 0 ? "gelu_new" : gated ? kind + 6 : kind;
}

/* T5DenseActDense: act(wi x), or gated act(wi_0 x) * (wi_1 x); then wo. */
static hfb_value *feed_forward(hfb_nn *nn, const hfb_call *call, const stack *s, hfb_value *x) {
  int64_t width = hfb_call_int(call, "d_model"), inner = hfb_call_int(call, "d_ff");
  double factor = hfb_call_float(call, "initializer_factor"), dropout = hfb_call_float(call, "dropout_rate");
  double in_std = factor / sqrt((double)width), out_std = factor / sqrt((double)inner);
  bool gated;
  const char *activation = activation_of(call, &gated);

  hfb_scope_push(nn->b, "layer.%d", s->decoder ? 2 : 1);
  hfb_value *wi = matrix(nn, gated ? "DenseReluDense.wi_0.weight" : "DenseReluDense.wi.weight", inner, width, in_std);
  hfb_value *gate = gated ? matrix(nn, "DenseReluDense.wi_1.weight", inner, width, in_std) : NULL;
  hfb_value *wo = matrix(nn, "DenseReluDense.wo.weight", width, inner, out_std);
  hfb_value *normed = norm(nn, call, "layer_norm.weight", x);
  hfb_value *hidden = hfb_nn_activation(nn, activation, hfb_linear_op(nn->b, normed, wi, NULL, true));
  if (gated) hidden = hfb_mul(nn->b, hidden, hfb_linear_op(nn->b, normed, gate, NULL, true));
  hfb_value *out = hfb_linear_op(nn->b, hfb_nn_dropout(nn, hidden, dropout), wo, NULL, true);
  hfb_scope_pop(nn->b);
  return hfb_add(nn->b, x, hfb_nn_dropout(nn, out, dropout));
}

/* T5Stack on embedded tokens. */
static hfb_value *run_stack(hfb_nn *nn, const hfb_call *call, stack *s, hfb_value *x) {
  double dropout = hfb_call_float(call, "dropout_rate");
  hfb_scope_push(nn->b, s->decoder ? "decoder" : "encoder");
  x = hfb_nn_dropout(nn, x, dropout);
  for (int64_t i = 0; i < s->layers; i++) {
    hfb_scope_push(nn->b, "block.%d", (int)i);
    x = self_attention(nn, call, s, i, x);
    if (s->decoder) x = cross_attention(nn, call, s, i, x);
    x = feed_forward(nn, call, s, x);
    hfb_scope_pop(nn->b);
  }
  x = norm(nn, call, "final_layer_norm.weight", x);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, dropout);
}

/* decoder_input_ids, or the labels moved one to the right. */
static hfb_value *decoder_ids(hfb_nn *nn, const hfb_call *call) {
  hfb_value *given = hfb_call_arg(call, "decoder_input_ids");
  hfb_value *ids = given != NULL ? given : hfb_call_arg(call, "labels");
  if (ids == NULL) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%s needs decoder_input_ids or labels", call->request->class_name);
    return NULL;
  }
  ids = hfb_call_rows(nn, call, given != NULL ? "decoder_input_ids" : "labels");
  if (given != NULL || ids == NULL) return ids;
  int64_t start = hfb_call_int(call, "decoder_start_token_id"), pad = hfb_call_int(call, "pad_token_id");
  if (start < 0 || pad < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "decoder_start_token_id and pad_token_id must be set to make decoder inputs from labels");
    return NULL;
  }
  return hfb_nn_shift_right(nn, ids, start, pad);
}

/* The lowest score where a key is later than the query or padding: additive, [T,T] or [B,1,T,T]. */
static hfb_value *decoder_mask(hfb_nn *nn, const hfb_call *call, int64_t length) {
  hfb_value *keep = hfb_nn_causal_keep(nn, length);
  hfb_value *padding = hfb_call_ids(nn, call, "decoder_attention_mask", call->batch, length);
  if (padding != NULL) keep = hfb_binary(nn->b, HFB_OP_AND, keep, hfb_nn_padding_keep(nn, padding));
  return hfb_nn_keep_bias(nn, keep);
}

/* Half of the buckets are exact, the others divide the logarithm of max_distance over that half. */
static void check_buckets(hfb_nn *nn, const hfb_call *call) {
  int64_t buckets = hfb_call_int(call, "relative_attention_num_buckets");
  int64_t distance = hfb_call_int(call, "relative_attention_max_distance");
  if (buckets >= 4 && distance > buckets / 2) return;
  hfb_builder_fail(
      nn->b, HFB_INVALID_ARGUMENT,
      "relative_attention_num_buckets %lld must be at least 4 and relative_attention_max_distance %lld more "
      "than half of it",
      (long long)buckets, (long long)distance);
}

static void conditional_generation(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  int64_t width = hfb_call_int(call, "d_model"), vocab = hfb_call_int(call, "vocab_size");
  double factor = hfb_call_float(call, "initializer_factor");
  check_buckets(nn, call);
  hfb_value *ids = decoder_ids(nn, call);
  if (ids == NULL) return;
  nn->init_std = factor;
  hfb_value *shared = hfb_nn_embedding_weight(nn, "shared", vocab, width, -1);

  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  hfb_value *padding = mask == NULL ? NULL : hfb_nn_padding_bias(nn, mask);
  stack encoder = {.layers = hfb_call_int(call, "num_layers"), .length = call->length, .self_mask = padding};
  hfb_value *memory = run_stack(nn, call, &encoder, hfb_embedding(b, shared, hfb_call_arg(call, "input_ids"), -1));

  int64_t layers = hfb_call_int(call, "num_decoder_layers");
  stack decoder = {.decoder = true,
                   .layers = layers < 0 ? encoder.layers : layers,
                   .length = ids->shape.dim[1],
                   .memory = memory,
                   .memory_mask = padding};
  decoder.self_mask = decoder_mask(nn, call, decoder.length);
  decoder.cache = hfb_call_values(nn, 4 * decoder.layers);
  if (decoder.cache == NULL) return;
  hfb_value *x = run_stack(nn, call, &decoder, hfb_embedding(b, shared, ids, -1));
  if (hfb_call_bool(call, "tie_word_embeddings")) x = hfb_mul_scalar(b, x, 1 / sqrt((double)width));
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", shared);
  hfb_head_token_logits(nn, call, hfb_linear_op(b, x, weight, NULL, true), false);
  if (hfb_call_bool(call, "use_cache")) {
    for (int64_t i = 0; i < decoder.layers; i++) hfb_head_cache(nn, (int)i, 4, decoder.cache + 4 * i);
  }
  hfb_output_add(b, "encoder_last_hidden_state", memory);
}

#define INPUTS "input_ids attention_mask decoder_input_ids decoder_attention_mask labels"
#define TIED \
  "encoder.embed_tokens.weight=shared.weight decoder.embed_tokens.weight=shared.weight lm_head.weight=shared.weight"
#define IGNORED "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

static const hfb_class_row t5_classes[] = {
    {"T5ForConditionalGeneration", conditional_generation, INPUTS, HFB_REFUSED_SEQ2SEQ, TIED, IGNORED},
};

static const hfb_class_row mt5_classes[] = {
    {"MT5ForConditionalGeneration", conditional_generation, INPUTS, HFB_REFUSED_SEQ2SEQ, TIED, IGNORED},
};

HFB_FAMILY(t5, "t5", "", t5_fields, t5_classes);
HFB_FAMILY_WITH(mt5, "mt5", "", mt5_fields, mt5_classes, .defaults = "tie_word_embeddings=false");
