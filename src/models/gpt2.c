/* GPT-2 (Radford et al., 2019). */
#include <math.h>

#include "models/family.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "50257", NULL},
    {"n_positions", HFB_FIELD_SIZE, "1024", NULL},
    {"n_embd", HFB_FIELD_SIZE, "768", NULL},
    {"n_layer", HFB_FIELD_COUNT, "12", NULL},
    {"n_head", HFB_FIELD_COUNT, "12", NULL},
    {"n_inner", HFB_FIELD_SIZE, "null", "null"}, /* null: 4 n_embd */
    {"activation_function", HFB_FIELD_ACTIVATION, "gelu_new", NULL},
    {"resid_pdrop", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"embd_pdrop", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attn_pdrop", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"layer_norm_epsilon", HFB_FIELD_POSITIVE, "1e-5", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"scale_attn_weights", HFB_FIELD_BOOL, "true", NULL},
    {"scale_attn_by_inverse_layer_idx", HFB_FIELD_BOOL, "false", NULL},
    {"reorder_and_upcast_attn", HFB_FIELD_BOOL, "false", NULL}, /* the same in f32: other grouping of the scale */
    {"use_cache", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "null", NULL},
    {"bos_token_id", HFB_FIELD_ID, "50256", NULL},
    {"eos_token_id", HFB_FIELD_ID, "50256", NULL},
};

static hfb_value *embed(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "n_embd"), vocab = hfb_call_int(call, "vocab_size");
  hfb_value *positions = hfb_call_positions(nn, call, "position_ids", call->length);
  if (positions == NULL) {
    hfb_call_check_length(nn, call, "the input", call->length, "n_positions");
    positions = hfb_nn_positions(nn, call->length, 0);
  }
  hfb_value *words = hfb_nn_embedding(nn, "wte", hfb_call_arg(call, "input_ids"), vocab, width, -1);
  hfb_value *position = hfb_nn_embedding(nn, "wpe", positions, hfb_call_int(call, "n_positions"), width, -1);
  hfb_value *x = hfb_add(nn->b, words, position);
  hfb_value *types = hfb_call_ids(nn, call, "token_type_ids", call->batch, call->length);
  if (types != NULL) x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "wte", types, vocab, width, -1));
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "embd_pdrop"));
}

static double score_scale(const hfb_call *call, int64_t head_width, int64_t layer) {
  double scale = hfb_call_bool(call, "scale_attn_weights") ? 1 / sqrt((double)head_width) : 1;
  return hfb_call_bool(call, "scale_attn_by_inverse_layer_idx") ? scale / (double)(layer + 1) : scale;
}

/* Weights of projections into the residual stream start smaller: the stream adds 2 n_layer of them. */
static double residual_std(const hfb_nn *nn, const hfb_call *call) {
  return nn->init_std / sqrt(2.0 * (double)hfb_call_int(call, "n_layer"));
}

typedef struct masks {
  hfb_value *causal;  /* bool [S,S] */
  hfb_value *padding; /* additive [B,1,1,S], NULL without attention_mask */
} masks;

/* GPT2Attention; key and value are the layer's cache. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, int64_t layer, const masks *mask,
                            hfb_value *cache[2]) {
  int64_t width = hfb_call_int(call, "n_embd"), heads = hfb_call_int(call, "n_head");
  hfb_scope_push(nn->b, "attn");
  hfb_value *qkv = hfb_nn_conv1d(nn, "c_attn", x, 3 * width, nn->init_std), *parts[3];
  for (int i = 0; i < 3; i++) {
    parts[i] = hfb_nn_split_heads(nn, hfb_slice(nn->b, qkv, 2, i * width, (i + 1) * width), heads);
  }
  cache[0] = parts[1];
  cache[1] = parts[2];
  hfb_nn_attention how = {.query_scale = 1,
                          .score_scale = score_scale(call, width / heads, layer),
                          .keep = mask->causal,
                          .bias = mask->padding,
                          .dropout = hfb_call_float(call, "attn_pdrop")};
  hfb_value *context = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &how, parts[0], parts[1], parts[2]));
  hfb_value *out = hfb_nn_conv1d(nn, "c_proj", context, width, residual_std(nn, call));
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, out, hfb_call_float(call, "resid_pdrop"));
}

static hfb_value *mlp(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  int64_t width = hfb_call_int(call, "n_embd"), inner = hfb_call_int(call, "n_inner");
  hfb_scope_push(nn->b, "mlp");
  x = hfb_nn_conv1d(nn, "c_fc", x, inner < 0 ? 4 * width : inner, nn->init_std);
  x = hfb_nn_activation(nn, hfb_call_text(call, "activation_function"), x);
  x = hfb_nn_conv1d(nn, "c_proj", x, width, residual_std(nn, call));
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "resid_pdrop"));
}

/* GPT2Block: pre-norm. */
static hfb_value *block(hfb_nn *nn, const hfb_call *call, hfb_value *x, int64_t layer, const masks *mask,
                        hfb_value *cache[2]) {
  double eps = hfb_call_float(call, "layer_norm_epsilon");
  hfb_scope_push(nn->b, "h.%d", (int)layer);
  x = hfb_add(nn->b, attention(nn, call, hfb_nn_layer_norm(nn, "ln_1", x, eps), layer, mask, cache), x);
  x = hfb_add(nn->b, x, mlp(nn, call, hfb_nn_layer_norm(nn, "ln_2", x, eps)));
  hfb_scope_pop(nn->b);
  return x;
}

/* GPT2Model. *out_cache: key and value of each layer, owned by the graph. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call, hfb_value ***out_cache) {
  int64_t layers = hfb_call_int(call, "n_layer");
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "n_embd", "n_head");
  hfb_value *padding = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  masks mask = {.causal = hfb_nn_causal_keep(nn, call->length),
                .padding = padding == NULL ? NULL : hfb_nn_padding_bias(nn, padding)};
  *out_cache = hfb_call_values(nn, 2 * layers);
  if (*out_cache == NULL) return NULL;
  hfb_scope_push(nn->b, "transformer");
  hfb_value *x = embed(nn, call);
  for (int64_t i = 0; i < layers; i++) x = block(nn, call, x, i, &mask, *out_cache + 2 * i);
  x = hfb_nn_layer_norm(nn, "ln_f", x, hfb_call_float(call, "layer_norm_epsilon"));
  hfb_scope_pop(nn->b);
  return x;
}

static void add_cache(hfb_nn *nn, const hfb_call *call, hfb_value **cache) {
  if (!hfb_call_bool(call, "use_cache") || cache == NULL) return;
  for (int i = 0; i < (int)hfb_call_int(call, "n_layer"); i++) hfb_head_cache(nn, i, 2, cache + 2 * i);
}

static void lm_head(hfb_nn *nn, const hfb_call *call) {
  hfb_value **cache = NULL, *x = model(nn, call, &cache);
  hfb_value *words = hfb_nn_embedding_weight(nn, "transformer.wte", hfb_call_int(call, "vocab_size"),
                                             hfb_call_int(call, "n_embd"), -1);
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", words);
  hfb_head_token_logits(nn, call, hfb_linear_op(nn->b, x, weight, NULL, true), true);
  add_cache(nn, call, cache);
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value **cache = NULL, *x = model(nn, call, &cache);
  hfb_head_last_token_classification(nn, call, x);
  add_cache(nn, call, cache);
}

#define INPUTS  "input_ids attention_mask token_type_ids position_ids labels"
#define IGNORED "*.attn.bias *.attn.masked_bias lm_head.* score.*"

static const hfb_class_row classes[] = {
    {"GPT2LMHeadModel", lm_head, INPUTS, HFB_REFUSED_CAUSAL, "lm_head.weight=transformer.wte.weight", IGNORED},
    {"GPT2ForSequenceClassification", sequence_classification, INPUTS, HFB_REFUSED_CAUSAL, "", IGNORED},
};

HFB_FAMILY(gpt2, "gpt2", "transformer", fields, classes);
