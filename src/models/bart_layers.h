/* The transformer layers that BART and its relatives share: self-attention, cross-attention, feed-forward, each with a
 * residual and a LayerNorm in front or behind. Internal to models/. */
#ifndef HFB_MODELS_BART_LAYERS_H
#define HFB_MODELS_BART_LAYERS_H

#include "models/family.h"

/* One stack of layers, under "layers.0", "layers.1" .. of the scope. */
typedef struct hfb_bart_layers {
  int64_t count, width, heads, ffn;
  int64_t memory_width; /* what cross-attention keys and values are made of; 0: no cross-attention weights */
  bool pre_norm;        /* norms in front of attention and feed-forward; else behind the residual */
  bool no_biases;       /* in linear layers */
  bool no_key_bias;     /* in k_proj */
  bool plain_norms;     /* without weight and bias */
  const char *activation;
  double dropout, attention_dropout, activation_dropout, layer_drop;
  hfb_value *self_bias;            /* additive mask of self-attention, NULL: none */
  hfb_value *memory, *memory_bias; /* the encoder's output and its mask; NULL: cross-attention does not run */
  hfb_value *
      *cache; /* takes key and value of each layer, and those of cross-attention where it runs; NULL: not wanted */
} hfb_bart_layers;

/* PyTorch's default, which no configuration of the family changes. */
#define HFB_BART_NORM_EPS 1e-5

/* Registers all weights in order; norms of a pre-norm layer run before what they are registered behind. */
void hfb_bart_layers_declare(hfb_nn *nn, const hfb_bart_layers *layers);
/* x [B,S,width] through all layers. */
hfb_value *hfb_bart_layers_run(hfb_nn *nn, const hfb_bart_layers *layers, hfb_value *x);
/* How many values of `cache` a layer takes: 2 or 4. */
int hfb_bart_layers_cached(const hfb_bart_layers *layers);
/* Outputs past_key_values of all layers. */
void hfb_bart_layers_output_cache(hfb_nn *nn, const hfb_bart_layers *layers);

/* A LayerNorm as the layers have it; `plain`: without weight and bias. */
hfb_value *hfb_bart_norm(hfb_nn *nn, const char *name, hfb_value *x, bool plain);

/* The lowest score where a key is later than the query, or where the argument `mask_name` hides it: additive, [T,T] or
 * [B,1,T,T]. */
hfb_value *hfb_bart_causal_bias(hfb_nn *nn, const hfb_call *call, const char *mask_name, int64_t length);

#endif
