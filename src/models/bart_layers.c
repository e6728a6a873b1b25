#include "models/bart_layers.h"

#include <math.h>

/* ---- Registration ---- */

static void attention_declare(hfb_nn *nn, const hfb_bart_layers *layers, const char *name, int64_t source_width) {
  int64_t width = layers->width;
  hfb_scope_push(nn->b, "%s", name);
  hfb_nn_linear_declare(nn, "k_proj", source_width, width, !layers->no_biases && !layers->no_key_bias);
  hfb_nn_linear_declare(nn, "v_proj", source_width, width, !layers->no_biases);
  hfb_nn_linear_declare(nn, "q_proj", width, width, !layers->no_biases);
  hfb_nn_linear_declare(nn, "out_proj", width, width, !layers->no_biases);
  hfb_scope_pop(nn->b);
}

static void norm_declare(hfb_nn *nn, const hfb_bart_layers *layers, const char *name) {
  if (!layers->plain_norms) hfb_nn_layer_norm_declare(nn, name, layers->width);
}

void hfb_bart_layers_declare(hfb_nn *nn, const hfb_bart_layers *layers) {
  for (int64_t i = 0; i < layers->count; i++) {
    hfb_scope_push(nn->b, "layers.%d", (int)i);
    attention_declare(nn, layers, "self_attn", layers->width);
    norm_declare(nn, layers, "self_attn_layer_norm");
    if (layers->memory_width > 0) {
      attention_declare(nn, layers, "encoder_attn", layers->memory_width);
      norm_declare(nn, layers, "encoder_attn_layer_norm");
    }
    hfb_nn_linear_declare(nn, "fc1", layers->width, layers->ffn, !layers->no_biases);
    hfb_nn_linear_declare(nn, "fc2", layers->ffn, layers->width, !layers->no_biases);
    norm_declare(nn, layers, "final_layer_norm");
    hfb_scope_pop(nn->b);
  }
}

/* ---- Running ---- */

hfb_value *hfb_bart_norm(hfb_nn *nn, const char *name, hfb_value *x, bool plain) {
  if (!plain) return hfb_nn_layer_norm(nn, name, x, HFB_BART_NORM_EPS);
  if (x == NULL) return NULL;
  hfb_shape width = hfb_shape_of(1, &x->shape.dim[x->shape.rank - 1]);
  hfb_value *weight = hfb_full(nn->b, HFB_F32, width, 1), *bias = hfb_full(nn->b, HFB_F32, width, 0);
  return hfb_layer_norm_op(nn->b, x, weight, bias, HFB_BART_NORM_EPS);
}

/* BartAttention: the query is scaled behind its bias. cache, when not NULL, takes key and value. */
static hfb_value *attention(hfb_nn *nn, const hfb_bart_layers *layers, const char *name, hfb_value *x,
                            hfb_value *source, hfb_value *bias, hfb_value **cache) {
  int64_t width = layers->width, heads = layers->heads;
  bool with_bias = !layers->no_biases;
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *q = hfb_nn_linear(nn, "q_proj", x, width, with_bias);
  bool with_key_bias = with_bias && !layers->no_key_bias;
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "k_proj", source, width, with_key_bias), heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "v_proj", source, width, with_bias), heads);
  if (cache != NULL) {
    cache[0] = k;
    cache[1] = v;
  }
  hfb_nn_attention how = {.query_scale = 1 / sqrt((double)(width / heads)),
                          .score_scale = 1,
                          .bias = bias,
                          .dropout = layers->attention_dropout};
  hfb_value *context = hfb_nn_attend(nn, &how, hfb_nn_split_heads(nn, q, heads), k, v);
  hfb_value *out = hfb_nn_linear(nn, "out_proj", hfb_nn_merge_heads(nn, context), width, with_bias);
  hfb_scope_pop(nn->b);
  return out;
}

static hfb_value *feed_forward(hfb_nn *nn, const hfb_bart_layers *layers, hfb_value *x) {
  x = hfb_nn_activation(nn, layers->activation, hfb_nn_linear(nn, "fc1", x, layers->ffn, !layers->no_biases));
  x = hfb_nn_dropout(nn, x, layers->activation_dropout);
  return hfb_nn_linear(nn, "fc2", x, layers->width, !layers->no_biases);
}

/* What a sublayer reads. */
static hfb_value *enter(hfb_nn *nn, const hfb_bart_layers *layers, const char *norm, hfb_value *x) {
  return layers->pre_norm ? hfb_bart_norm(nn, norm, x, layers->plain_norms) : x;
}

/* x + dropout(update), with the norm behind it unless it stood in front. */
static hfb_value *leave(hfb_nn *nn, const hfb_bart_layers *layers, const char *norm, hfb_value *x, hfb_value *update) {
  hfb_value *sum = hfb_add(nn->b, x, hfb_nn_dropout(nn, update, layers->dropout));
  return layers->pre_norm ? sum : hfb_bart_norm(nn, norm, sum, layers->plain_norms);
}

static hfb_value *layer(hfb_nn *nn, const hfb_bart_layers *layers, hfb_value *x, hfb_value **cache) {
  hfb_value *in = enter(nn, layers, "self_attn_layer_norm", x);
  x = leave(nn, layers, "self_attn_layer_norm", x,
            attention(nn, layers, "self_attn", in, in, layers->self_bias, cache));
  if (layers->memory != NULL) {
    in = enter(nn, layers, "encoder_attn_layer_norm", x);
    x = leave(nn, layers, "encoder_attn_layer_norm", x,
              attention(nn, layers, "encoder_attn", in, layers->memory, layers->memory_bias,
                        cache == NULL ? NULL : cache + 2));
  }
  in = enter(nn, layers, "final_layer_norm", x);
  return leave(nn, layers, "final_layer_norm", x, feed_forward(nn, layers, in));
}

int hfb_bart_layers_cached(const hfb_bart_layers *layers) {
  return layers->memory != NULL ? 4 : 2;
}

hfb_value *hfb_bart_layers_run(hfb_nn *nn, const hfb_bart_layers *layers, hfb_value *x) {
  for (int64_t i = 0; i < layers->count; i++) {
    hfb_scope_push(nn->b, "layers.%d", (int)i);
    hfb_value **cache = layers->cache == NULL ? NULL : layers->cache + i * hfb_bart_layers_cached(layers);
    x = hfb_nn_layer_drop(nn, x, layer(nn, layers, x, cache), layers->layer_drop);
    hfb_scope_pop(nn->b);
  }
  return x;
}

void hfb_bart_layers_output_cache(hfb_nn *nn, const hfb_bart_layers *layers) {
  int cached = hfb_bart_layers_cached(layers);
  if (layers->cache == NULL) return;
  for (int i = 0; i < (int)layers->count; i++) hfb_head_cache(nn, i, cached, layers->cache + cached * i);
}

/* ---- Masks ---- */

hfb_value *hfb_bart_causal_bias(hfb_nn *nn, const hfb_call *call, const char *mask_name, int64_t length) {
  hfb_value *keep = hfb_nn_causal_keep(nn, length);
  hfb_value *padding = hfb_call_ids(nn, call, mask_name, call->batch, length);
  if (padding != NULL) keep = hfb_binary(nn->b, HFB_OP_AND, keep, hfb_nn_padding_keep(nn, padding));
  return hfb_nn_keep_bias(nn, keep);
}
