#include "models/llama_layers.h"

#include <math.h>
#include <string.h>

/* What all layers share. */
typedef struct decoder {
  bool qkv_bias, out_bias, shifted_norms;
  const char *activation;
  int64_t window; /* -1: none */
  int64_t width, heads, key_heads, head_width;
  double eps;
  hfb_value *cosine, *sine; /* [B or 1,1,S,head_width] */
  hfb_value *mask_bias;     /* [S,S] or [B,1,S,S] */
} decoder;

static decoder decoder_of(hfb_nn *nn, const hfb_call *call) {
  const hfb_llama_traits *traits = call->traits;
  bool bias = traits->bias_field != NULL && hfb_call_bool(call, traits->bias_field);
  const char *activation = traits->activation_field != NULL ? hfb_call_text(call, traits->activation_field) : NULL;
  decoder d = {.qkv_bias = traits->qkv_bias || bias,
               .out_bias = bias,
               .shifted_norms = traits->shifted_norms,
               .activation = activation != NULL ? activation : hfb_call_text(call, "hidden_act"),
               .window = traits->window_field != NULL ? hfb_call_int(call, traits->window_field) : -1,
               .width = hfb_call_int(call, "hidden_size"),
               .heads = hfb_call_int(call, "num_attention_heads"),
               .key_heads = hfb_call_int(call, "num_key_value_heads"),
               .head_width = hfb_call_int(call, "head_dim"),
               .eps = hfb_call_float(call, "rms_norm_eps")};
  if (d.key_heads < 0) d.key_heads = d.heads;
  if (d.head_width < 0) {
    hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
    d.head_width = d.width / d.heads;
  }
  if (d.heads % d.key_heads != 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "num_attention_heads %lld is not a multiple of num_key_value_heads %lld", (long long)d.heads,
                     (long long)d.key_heads);
  }
  if (d.head_width % 2 != 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "heads are %lld wide; rotary positions need an even width",
                     (long long)d.head_width);
  }
  return d;
}

/* ---- Rotary positions ---- */

/* NULL: no scaling. Newer files call the type "rope_type". */
static const char *rope_scaling(const hfb_call *call) {
  if (!hfb_config_has(call->config, "rope_scaling.type")) return NULL;
  const char *type = hfb_call_text(call, "rope_scaling.rope_type");
  if (type == NULL) type = hfb_call_text(call, "rope_scaling.type");
  return type == NULL || strcmp(type, "default") == 0 ? NULL : type;
}

/* "dynamic" (NTK): beyond the positions that were trained the base grows with the sequence. */
static double rope_base(hfb_nn *nn, const hfb_call *call, const char *scaling, int64_t head_width) {
  double base = hfb_call_float(call, "rope_theta");
  if (scaling == NULL || strcmp(scaling, "dynamic") != 0) return base;
  double trained = (double)hfb_call_int(call, "max_position_embeddings"), length = (double)call->length;
  double factor = hfb_call_float(call, "rope_scaling.factor");
  if (hfb_call_arg(call, "position_ids") != NULL) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED,
                     "argument 'position_ids' is not implemented for rope_scaling of type dynamic: leave it out");
  }
  if (length <= trained) return base;
  double exponent = (double)head_width / (double)(head_width - 2);
  return base * pow(factor * length / trained - (factor - 1), exponent);
}

/* "llama3": slow turns are stretched, fast ones kept, those between interpolated. */
static double llama3_frequency(const hfb_call *call, double frequency) {
  double turn = 2 * 3.14159265358979323846 / frequency;
  double trained = (double)hfb_call_int(call, "rope_scaling.original_max_position_embeddings");
  double low = hfb_call_float(call, "rope_scaling.low_freq_factor");
  double high = hfb_call_float(call, "rope_scaling.high_freq_factor");
  double stretched = frequency / hfb_call_float(call, "rope_scaling.factor");
  if (turn > trained / low) return stretched;
  if (turn < trained / high) return frequency;
  double smooth = (trained / turn - low) / (high - low);
  return (1 - smooth) * stretched + smooth * frequency;
}

static double frequency_at(const hfb_call *call, const char *scaling, double base, double share) {
  double frequency = pow(base, -share);
  if (scaling == NULL || strcmp(scaling, "dynamic") == 0) return frequency;
  if (strcmp(scaling, "linear") == 0) return frequency / hfb_call_float(call, "rope_scaling.factor");
  return llama3_frequency(call, frequency);
}

/* f64 [head_width/2] */
static hfb_value *frequencies(hfb_nn *nn, const hfb_call *call, int64_t head_width) {
  int64_t count = head_width / 2;
  const char *scaling = rope_scaling(call);
  double base = rope_base(nn, call, scaling, head_width), *table = NULL;
  if (hfb_mem_alloc((size_t)count, sizeof *table, &table) != HFB_OK) {
    hfb_builder_fail(nn->b, HFB_OUT_OF_MEMORY, "%s", hfb_error_message());
    return NULL;
  }
  for (int64_t i = 0; i < count; i++) {
    table[i] = frequency_at(call, scaling, base, 2 * (double)i / (double)head_width);
  }
  hfb_value *value = hfb_constant(nn->b, HFB_F64, hfb_shape_of(1, &count), table);
  hfb_mem_free(table);
  return value;
}

static hfb_value *rotary_factor(hfb_nn *nn, hfb_op op, hfb_value *angles) {
  if (angles == NULL) return NULL;
  const int64_t *dim = angles->shape.dim;
  hfb_value *factor = hfb_cast(nn->b, hfb_unary(nn->b, op, angles), HFB_F32);
  return hfb_reshape(nn->b, factor, 4, (int64_t[]){dim[0], 1, dim[1], dim[2]});
}

static void make_rotary(hfb_nn *nn, const hfb_call *call, decoder *d) {
  hfb_builder *b = nn->b;
  hfb_value *positions = hfb_call_positions(nn, call, "position_ids", call->length);
  if (positions == NULL) positions = hfb_nn_positions(nn, call->length, 0);
  if (positions == NULL) return;
  int64_t column[] = {positions->shape.dim[0], call->length, 1};
  positions = hfb_reshape(b, hfb_cast(b, positions, HFB_F64), 3, column);
  hfb_value *angles = hfb_mul(b, positions, frequencies(nn, call, d->head_width));
  angles = hfb_concat(b, 2, (hfb_value *[]){angles, angles}, -1);
  d->cosine = rotary_factor(nn, HFB_OP_COS, angles);
  d->sine = rotary_factor(nn, HFB_OP_SIN, angles);
}

/* x [B,H,S,d]: turns the pairs (x[i], x[i + d/2]). */
static hfb_value *rotate(hfb_nn *nn, const decoder *d, hfb_value *x) {
  hfb_builder *b = nn->b;
  int64_t half = d->head_width / 2;
  hfb_value *along = hfb_mul(b, x, d->cosine);
  hfb_value *second = hfb_unary(b, HFB_OP_NEG, hfb_slice(b, x, 3, half, d->head_width));
  hfb_value *across = hfb_concat(b, 2, (hfb_value *[]){second, hfb_slice(b, x, 3, 0, half)}, 3);
  return hfb_add(b, along, hfb_mul(b, across, d->sine));
}

/* ---- Layers ---- */

static hfb_value *norm(hfb_nn *nn, const decoder *d, const char *name, hfb_value *x) {
  hfb_init init = hfb_init_constant(d->shifted_norms ? 0 : 1);
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *weight = hfb_parameter(nn->b, "weight", hfb_shape_of(1, &d->width), init);
  hfb_scope_pop(nn->b);
  if (d->shifted_norms) weight = hfb_add_scalar(nn->b, weight, 1);
  return hfb_rms_norm_op(nn->b, x, weight, d->eps);
}

static void norm_declare(hfb_nn *nn, const decoder *d, const char *name) {
  hfb_init init = hfb_init_constant(d->shifted_norms ? 0 : 1);
  hfb_scope_push(nn->b, "%s", name);
  hfb_parameter(nn->b, "weight", hfb_shape_of(1, &d->width), init);
  hfb_scope_pop(nn->b);
}

/* [B,key_heads,S,d] -> [B,heads,S,d]: neighbouring queries share a key. */
static hfb_value *repeat(hfb_nn *nn, const decoder *d, hfb_value *x) {
  int64_t group = d->heads / d->key_heads;
  if (x == NULL || group == 1) return x;
  int64_t batch = x->shape.dim[0], length = x->shape.dim[2];
  x = hfb_reshape(nn->b, x, 5, (int64_t[]){batch, d->key_heads, 1, length, d->head_width});
  x = hfb_expand(nn->b, x, 5, (int64_t[]){batch, d->key_heads, group, length, d->head_width});
  return hfb_reshape(nn->b, x, 4, (int64_t[]){batch, d->heads, length, d->head_width});
}

/* LlamaAttention; the cache takes the rotated keys and the values, before they are repeated. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, const decoder *d, hfb_value *x, hfb_value *cache[2]) {
  int64_t width = d->heads * d->head_width, key_width = d->key_heads * d->head_width;
  bool bias = d->qkv_bias;
  hfb_scope_push(nn->b, "self_attn");
  hfb_value *q = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "q_proj", x, width, bias), d->heads);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "k_proj", x, key_width, bias), d->key_heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "v_proj", x, key_width, bias), d->key_heads);
  q = rotate(nn, d, q);
  cache[0] = rotate(nn, d, k);
  cache[1] = v;
  k = repeat(nn, d, cache[0]);
  v = repeat(nn, d, v);
  hfb_nn_attention how = {.query_scale = 1,
                          .score_scale = 1 / sqrt((double)d->head_width),
                          .bias = d->mask_bias,
                          .dropout = hfb_call_float(call, "attention_dropout")};
  hfb_value *context = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &how, q, k, v));
  x = hfb_nn_linear(nn, "o_proj", context, d->width, d->out_bias);
  hfb_scope_pop(nn->b);
  return x;
}

/* LlamaMLP */
static hfb_value *gated(hfb_nn *nn, const hfb_call *call, const decoder *d, hfb_value *x) {
  int64_t inner = hfb_call_int(call, "intermediate_size");
  hfb_scope_push(nn->b, "mlp");
  hfb_value *gate = hfb_nn_activation(nn, d->activation, hfb_nn_linear(nn, "gate_proj", x, inner, false));
  x = hfb_mul(nn->b, gate, hfb_nn_linear(nn, "up_proj", x, inner, false));
  x = hfb_nn_linear(nn, "down_proj", x, d->width, false);
  hfb_scope_pop(nn->b);
  return x;
}

/* The projections are registered in front of the norms. */
static void layer_declare(hfb_nn *nn, const hfb_call *call, const decoder *d) {
  int64_t width = d->heads * d->head_width, key_width = d->key_heads * d->head_width;
  int64_t inner = hfb_call_int(call, "intermediate_size");
  bool bias = d->qkv_bias;
  hfb_nn_linear_declare(nn, "self_attn.q_proj", d->width, width, bias);
  hfb_nn_linear_declare(nn, "self_attn.k_proj", d->width, key_width, bias);
  hfb_nn_linear_declare(nn, "self_attn.v_proj", d->width, key_width, bias);
  hfb_nn_linear_declare(nn, "self_attn.o_proj", width, d->width, d->out_bias);
  hfb_nn_linear_declare(nn, "mlp.gate_proj", d->width, inner, false);
  hfb_nn_linear_declare(nn, "mlp.up_proj", d->width, inner, false);
  hfb_nn_linear_declare(nn, "mlp.down_proj", inner, d->width, false);
  norm_declare(nn, d, "input_layernorm");
}

static hfb_value *layer(hfb_nn *nn, const hfb_call *call, const decoder *d, hfb_value *x, hfb_value *cache[2]) {
  layer_declare(nn, call, d);
  x = hfb_add(nn->b, x, attention(nn, call, d, norm(nn, d, "input_layernorm", x), cache));
  return hfb_add(nn->b, x, gated(nn, call, d, norm(nn, d, "post_attention_layernorm", x)));
}

/* Keys that a query sees: not later, not hidden by the argument, and within the window. */
static hfb_value *mask_bias(hfb_nn *nn, const hfb_call *call, int64_t window) {
  hfb_value *keep = hfb_nn_causal_keep(nn, call->length);
  if (window > 0 && window < call->length) {
    keep = hfb_binary(nn->b, HFB_OP_AND, keep, hfb_nn_band_keep(nn, call->length, window - 1));
  }
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  if (mask != NULL) keep = hfb_binary(nn->b, HFB_OP_AND, keep, hfb_nn_padding_keep(nn, mask));
  return hfb_nn_keep_bias(nn, keep);
}

/* LlamaModel. *out_words: its word table; *out_cache: key and value of each layer, owned by the graph. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call, hfb_value **out_words, hfb_value ***out_cache) {
  int64_t layers = hfb_call_int(call, "num_hidden_layers"), pad = hfb_call_int(call, "pad_token_id");
  nn->init_std = hfb_call_float(call, "initializer_range");
  decoder d = decoder_of(nn, call);
  d.mask_bias = mask_bias(nn, call, d.window);
  make_rotary(nn, call, &d);
  *out_cache = hfb_call_values(nn, 2 * layers);
  if (*out_cache == NULL) return NULL;
  hfb_scope_push(nn->b, "model");
  *out_words = hfb_nn_embedding_weight(nn, "embed_tokens", hfb_call_int(call, "vocab_size"), d.width, pad);
  hfb_value *x = hfb_embedding(nn->b, *out_words, hfb_call_arg(call, "input_ids"), pad);
  if (d.shifted_norms) x = hfb_mul_scalar(nn->b, x, sqrt((double)d.width));
  for (int64_t i = 0; i < layers; i++) {
    hfb_scope_push(nn->b, "layers.%d", (int)i);
    x = layer(nn, call, &d, x, *out_cache + 2 * i);
    hfb_scope_pop(nn->b);
  }
  x = norm(nn, &d, "norm", x);
  hfb_scope_pop(nn->b);
  return x;
}

/* ---- Classes ---- */

static void add_cache(hfb_nn *nn, const hfb_call *call, hfb_value **cache) {
  if (!hfb_call_bool(call, "use_cache") || cache == NULL) return;
  for (int i = 0; i < (int)hfb_call_int(call, "num_hidden_layers"); i++) hfb_head_cache(nn, i, 2, cache + 2 * i);
}

void hfb_llama_causal_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_value *words = NULL, **cache = NULL, *x = model(nn, call, &words, &cache);
  hfb_value *weight = hfb_head_output_weight(nn, call, "lm_head.weight", words);
  hfb_head_token_logits(nn, call, hfb_linear_op(nn->b, x, weight, NULL, true), true);
  add_cache(nn, call, cache);
}

void hfb_llama_sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value *words = NULL, **cache = NULL, *x = model(nn, call, &words, &cache);
  hfb_head_last_token_classification(nn, call, x);
  add_cache(nn, call, cache);
}
