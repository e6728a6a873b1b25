/* GPT-J (Wang and Komatsuzaki, 2021): attention and feed-forward side by side behind one norm, rotary positions. */
#include <math.h>

#include "models/family.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "50400", NULL},
    {"n_positions", HFB_FIELD_SIZE, "2048", NULL},
    {"n_embd", HFB_FIELD_SIZE, "4096", NULL},
    {"n_layer", HFB_FIELD_COUNT, "28", NULL},
    {"n_head", HFB_FIELD_COUNT, "16", NULL},
    {"rotary_dim", HFB_FIELD_SIZE, "64", NULL},
    {"n_inner", HFB_FIELD_SIZE, "null", "null"}, /* null: 4 n_embd */
    {"activation_function", HFB_FIELD_ACTIVATION, "gelu_new", NULL},
    {"resid_pdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"embd_pdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"attn_pdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"layer_norm_epsilon", HFB_FIELD_POSITIVE, "1e-5", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"use_cache", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "null", NULL},
    {"bos_token_id", HFB_FIELD_ID, "50256", NULL},
    {"eos_token_id", HFB_FIELD_ID, "50256", NULL},
};

/* What all layers share. */
typedef struct shared {
  int64_t heads, head_width, rotary;
  hfb_value *sine, *cosine; /* [B or 1,S,1,rotary/2,1] */
  hfb_value *causal;        /* bool [S,S] */
  hfb_value *padding;       /* additive [B,1,1,S], NULL without attention_mask */
} shared;

/* ---- Rotary positions ---- */

static hfb_value *rotary_factor(hfb_nn *nn, hfb_op op, hfb_value *angles) {
  if (angles == NULL) return NULL;
  const int64_t *dim = angles->shape.dim;
  hfb_value *factor = hfb_cast(nn->b, hfb_unary(nn->b, op, angles), HFB_F32);
  return hfb_reshape(nn->b, factor, 5, (int64_t[]){dim[0], dim[1], 1, dim[2], 1});
}

static void make_rotary(hfb_nn *nn, const hfb_call *call, shared *s) {
  if (s->rotary > s->head_width || s->rotary % 2 != 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "rotary_dim is %lld; it must be even and at most the %lld of a head",
                     (long long)s->rotary, (long long)s->head_width);
    return;
  }
  hfb_value *positions = hfb_call_positions(nn, call, "position_ids", call->length);
  if (positions == NULL) positions = hfb_nn_positions(nn, call->length, 0);
  hfb_value *angles = hfb_nn_angles(nn, positions, s->rotary / 2, 2 * log(10000) / (double)s->rotary);
  s->sine = rotary_factor(nn, HFB_OP_SIN, angles);
  s->cosine = rotary_factor(nn, HFB_OP_COS, angles);
}

/* x [B,S,H,d]: turns the pairs (x[2i], x[2i+1]) of the first `rotary` elements of each head. */
static hfb_value *rotate(hfb_nn *nn, const shared *s, hfb_value *x) {
  hfb_builder *b = nn->b;
  if (x == NULL) return NULL;
  const int64_t *dim = x->shape.dim;
  hfb_value *pairs = hfb_slice(b, x, 3, 0, s->rotary);
  pairs = hfb_reshape(b, pairs, 5, (int64_t[]){dim[0], dim[1], dim[2], s->rotary / 2, 2});
  hfb_value *second = hfb_unary(b, HFB_OP_NEG, hfb_slice(b, pairs, 4, 1, 2));
  hfb_value *across = hfb_concat(b, 2, (hfb_value *[]){second, hfb_slice(b, pairs, 4, 0, 1)}, 4);
  hfb_value *along = hfb_mul(b, pairs, s->cosine);
  hfb_value *turned = hfb_add(b, along, hfb_mul(b, across, s->sine));
  turned = hfb_reshape(b, turned, 4, (int64_t[]){dim[0], dim[1], dim[2], s->rotary});
  if (s->rotary == s->head_width) return turned;
  return hfb_concat(b, 2, (hfb_value *[]){turned, hfb_slice(b, x, 3, s->rotary, s->head_width)}, 3);
}

/* ---- Layers ---- */

/* A projection split into heads, rotated: [B,H,S,d]. */
static hfb_value *rotated_heads(hfb_nn *nn, const shared *s, const char *name, hfb_value *x) {
  int64_t width = s->heads * s->head_width;
  hfb_value *heads = hfb_nn_linear(nn, name, x, width, false);
  if (heads == NULL) return NULL;
  int64_t dims[] = {heads->shape.dim[0], heads->shape.dim[1], s->heads, s->head_width};
  return hfb_transpose(nn->b, rotate(nn, s, hfb_reshape(nn->b, heads, 4, dims)), (int[]){0, 2, 1, 3});
}

/* The class masks before it scales; padding is added to scaled scores. */
static hfb_value *attend(hfb_nn *nn, const hfb_call *call, const shared *s, hfb_value *q, hfb_value *k, hfb_value *v) {
  hfb_builder *b = nn->b;
  hfb_value *scores = hfb_matmul(b, q, k, false, true);
  scores = hfb_where(b, s->causal, scores, hfb_scalar(b, HFB_F32, hfb_nn_masked_score()));
  scores = hfb_mul_scalar(b, scores, 1 / sqrt((double)s->head_width));
  if (s->padding != NULL) scores = hfb_add(b, scores, s->padding);
  hfb_value *weights = hfb_nn_dropout(nn, hfb_softmax(b, scores, -1), hfb_call_float(call, "attn_pdrop"));
  return hfb_matmul(b, weights, v, false, false);
}

/* GPTJAttention; the cache takes the rotated key, and the value. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, const shared *s, hfb_value *x, hfb_value *cache[2]) {
  int64_t width = s->heads * s->head_width;
  hfb_scope_push(nn->b, "attn");
  hfb_nn_linear_declare(nn, "k_proj", width, width, false);
  hfb_nn_linear_declare(nn, "v_proj", width, width, false);
  hfb_value *q = rotated_heads(nn, s, "q_proj", x);
  cache[0] = rotated_heads(nn, s, "k_proj", x);
  cache[1] = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "v_proj", x, width, false), s->heads);
  hfb_value *context = hfb_nn_merge_heads(nn, attend(nn, call, s, q, cache[0], cache[1]));
  hfb_value *out = hfb_nn_linear(nn, "out_proj", context, width, false);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, out, hfb_call_float(call, "resid_pdrop"));
}

static hfb_value *mlp(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  int64_t width = hfb_call_int(call, "n_embd"), inner = hfb_call_int(call, "n_inner");
  hfb_scope_push(nn->b, "mlp");
  x = hfb_nn_linear(nn, "fc_in", x, inner < 0 ? 4 * width : inner, true);
  x = hfb_nn_activation(nn, hfb_call_text(call, "activation_function"), x);
  x = hfb_nn_linear(nn, "fc_out", x, width, true);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "resid_pdrop"));
}

static hfb_value *block(hfb_nn *nn, const hfb_call *call, const shared *s, hfb_value *x, hfb_value *cache[2]) {
  hfb_value *normed = hfb_nn_layer_norm(nn, "ln_1", x, hfb_call_float(call, "layer_norm_epsilon"));
  hfb_value *attended = attention(nn, call, s, normed, cache);
  return hfb_add(nn->b, hfb_add(nn->b, attended, mlp(nn, call, normed)), x);
}

static hfb_value *embed(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "n_embd"), vocab = hfb_call_int(call, "vocab_size");
  hfb_call_check_length(nn, call, "the input", call->length, "n_positions");
  hfb_value *x = hfb_nn_embedding(nn, "wte", hfb_call_arg(call, "input_ids"), vocab, width, -1);
  hfb_value *types = hfb_call_ids(nn, call, "token_type_ids", call->batch, call->length);
  if (types != NULL) x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "wte", types, vocab, width, -1));
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "embd_pdrop"));
}

/* GPTJModel. *out_cache: key and value of each layer, owned by the graph. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call, hfb_value ***out_cache) {
  int64_t layers = hfb_call_int(call, "n_layer");
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "n_embd", "n_head");
  shared s = {.heads = hfb_call_int(call, "n_head"), .rotary = hfb_call_int(call, "rotary_dim")};
  s.head_width = hfb_call_int(call, "n_embd") / s.heads;
  s.causal = hfb_nn_causal_keep(nn, call->length);
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  if (mask != NULL) s.padding = hfb_nn_padding_bias(nn, mask);
  make_rotary(nn, call, &s);
  *out_cache = hfb_call_values(nn, 2 * layers);
  if (*out_cache == NULL) return NULL;
  hfb_scope_push(nn->b, "transformer");
  hfb_value *x = embed(nn, call);
  for (int64_t i = 0; i < layers; i++) {
    hfb_scope_push(nn->b, "h.%d", (int)i);
    x = block(nn, call, &s, x, *out_cache + 2 * i);
    hfb_scope_pop(nn->b);
  }
  x = hfb_nn_layer_norm(nn, "ln_f", x, hfb_call_float(call, "layer_norm_epsilon"));
  hfb_scope_pop(nn->b);
  return x;
}

/* ---- Classes ---- */

static void add_cache(hfb_nn *nn, const hfb_call *call, hfb_value **cache) {
  if (!hfb_call_bool(call, "use_cache") || cache == NULL) return;
  for (int i = 0; i < (int)hfb_call_int(call, "n_layer"); i++) hfb_head_cache(nn, i, 2, cache + 2 * i);
}

static void causal_lm(hfb_nn *nn, const hfb_call *call) {
  int64_t vocab = hfb_call_int(call, "vocab_size");
  hfb_value **cache = NULL, *x = model(nn, call, &cache);
  hfb_value *words = hfb_nn_embedding_weight(nn, "transformer.wte", vocab, hfb_call_int(call, "n_embd"), -1);
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", words);
  hfb_value *bias = hfb_parameter(nn->b, "lm_head.bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  hfb_head_token_logits(nn, call, hfb_linear_op(nn->b, x, weight, bias, true), true);
  add_cache(nn, call, cache);
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value **cache = NULL, *x = model(nn, call, &cache);
  hfb_head_last_token_classification(nn, call, x);
  add_cache(nn, call, cache);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_value **cache = NULL, *x = model(nn, call, &cache);
  hfb_head_question_answering(nn, call, x);
}

#define ARGUMENTS "input_ids attention_mask token_type_ids position_ids "
#define REFUSED   HFB_REFUSED_ENCODER " past_key_values use_cache"
#define IGNORED   "*.attn.bias *.attn.masked_bias lm_head.* score.* qa_outputs.*"

static const hfb_class_row classes[] = {
    {"GPTJForCausalLM", causal_lm, ARGUMENTS "labels", REFUSED, "lm_head.weight=transformer.wte.weight", IGNORED},
    {"GPTJForSequenceClassification", sequence_classification, ARGUMENTS "labels", REFUSED, "", IGNORED},
    {"GPTJForQuestionAnswering", question_answering, ARGUMENTS "start_positions end_positions", HFB_REFUSED_ENCODER, "",
     IGNORED},
};

HFB_FAMILY_WITH(gptj, "gptj", "transformer", fields, classes, .defaults = "tie_word_embeddings=false");
