/* Layer builders: the modules that models are made of, as PyTorch and transformers run them.
 *
 * A layer creates its parameters under the builder's scope with PyTorch's names ("query.weight") and adds its ops to
 * the graph, one framework op for each kernel that eager PyTorch would run. Parameters get their place in the graph
 * (the registration order of the HF class) at their first mention: where a module uses them in another order than it
 * registers them, call the _declare function first. Errors are sticky in the builder; NULL values pass through. */
#ifndef HFB_NN_NN_H
#define HFB_NN_NN_H

#include "ir/builder.h"

typedef struct hfb_nn {
  hfb_builder *b;
  bool training;
  bool no_dropout; /* in training: every probability counts as 0 */
  double init_std; /* of the normal distribution that linear and embedding weights start from */
} hfb_nn;

/* ---- Parameters ---- */

hfb_init hfb_init_constant(double value);
hfb_init hfb_init_normal(double deviation);

/* ---- Layers (layers.c) ---- */

/* nn.Linear: weight [out,in] N(0, init_std), bias [out] zeros, [..,in] -> [..,out]. */
hfb_value *hfb_nn_linear(hfb_nn *nn, const char *name, hfb_value *x, int64_t out_features, bool with_bias);
void hfb_nn_linear_declare(hfb_nn *nn, const char *name, int64_t in_features, int64_t out_features, bool with_bias);
/* transformers' Conv1D: weight [in,out] N(0, deviation), bias [out]. */
hfb_value *hfb_nn_conv1d(hfb_nn *nn, const char *name, hfb_value *x, int64_t out_features, double deviation);

/* nn.Embedding: weight [rows,width] N(0, init_std), row padding_idx (if >= 0) zero and without gradient. */
hfb_value *hfb_nn_embedding_weight(hfb_nn *nn, const char *name, int64_t rows, int64_t width, int64_t padding_idx);
hfb_value *hfb_nn_embedding(hfb_nn *nn, const char *name, hfb_value *ids, int64_t rows, int64_t width,
                            int64_t padding_idx);

/* nn.LayerNorm over the last dimension. */
hfb_value *hfb_nn_layer_norm(hfb_nn *nn, const char *name, hfb_value *x, double eps);
void hfb_nn_layer_norm_declare(hfb_nn *nn, const char *name, int64_t width);

/* ---- Random sites (dropout.c) ---- */

/* nn.Dropout: x itself unless training with p > 0. Every site of the HF class calls it, those with p = 0 too. */
hfb_value *hfb_nn_dropout(hfb_nn *nn, hfb_value *x, double p);
/* LayerDrop (Fan et al., 2019) of a layer that made `after` of `before`: `before` with probability p, when training.
 * The layer is computed in any case and then left out, so its weights get zero gradients where the framework has
 * none. */
hfb_value *hfb_nn_layer_drop(hfb_nn *nn, hfb_value *before, hfb_value *after, double p);

/* ---- Convolutions along the tokens of [B,S,D], zeros beyond the ends (convolution.c) ---- */

/* Kernels are odd and at most this long. */
enum { HFB_NN_KERNEL_MAX = 63 };

/* Token t sees tokens t - kernel/2 .. t + kernel/2, side by side: [B,S,kernel*D]. */
hfb_value *hfb_nn_windows(hfb_nn *nn, hfb_value *x, int64_t kernel);
/* Sum over j of x[:, t + j - kernel/2] * weights[j]: x [B,S,..], weights broadcast against it. */
hfb_value *hfb_nn_window_sum(hfb_nn *nn, hfb_value *x, int64_t kernel, hfb_value *const *weights);
/* nn.Conv1d with one group for each feature: weight [D,1,kernel] N(0, init_std), no bias. */
hfb_value *hfb_nn_depthwise_convolution(hfb_nn *nn, const char *name, hfb_value *x, int64_t kernel);
/* nn.Conv1d: weight [out,D,kernel], bias [out]. */
hfb_value *hfb_nn_convolution(hfb_nn *nn, const char *name, hfb_value *x, int64_t out_features, int64_t kernel);

/* ---- Convolutions of [B,T,C] with strides, channels last (convolution.c) ---- */

typedef struct hfb_nn_conv1d_shape {
  int64_t out_features, kernel, stride;
  bool with_bias;
  hfb_init weight, bias;
} hfb_nn_conv1d_shape;

/* nn.Conv1d without padding: weight [out,C,kernel]; [B,T,C] -> [B,(T-kernel)/stride+1,out]. */
hfb_value *hfb_nn_strided_convolution(hfb_nn *nn, const char *name, hfb_value *x, const hfb_nn_conv1d_shape *how);
/* F.conv1d with weight [D,D/groups,kernel] times scale [kernel] on [B,T,D], zeros beyond the ends, for as many tokens
 * as there are: token t sees tokens t - kernel/2 .. t - kernel/2 + kernel-1. */
hfb_value *hfb_nn_grouped_convolution(hfb_nn *nn, hfb_value *x, hfb_value *weight, hfb_value *scale, hfb_value *bias,
                                      int64_t groups);
/* nn.GroupNorm with a group for each channel, on [B,T,C]. */
hfb_value *hfb_nn_instance_norm(hfb_nn *nn, const char *name, hfb_value *x, double eps);

/* ---- SpecAugment (spec_augment.c) ---- */

typedef struct hfb_nn_spans {
  double p;                /* share that spans cover where they do not overlap */
  int64_t span, min_spans; /* places of a span; spans of a row */
  const char *span_field;  /* for messages */
} hfb_nn_spans;

/* Which of `length` places of each row training hides, by _compute_mask_indices of transformers: bool [batch,length],
 * NULL when nothing is hidden. lengths: i64 [batch], places that count, from the first one on; NULL: all. */
hfb_value *hfb_nn_spec_augment(hfb_nn *nn, const hfb_nn_spans *how, int64_t batch, int64_t length, hfb_value *lengths);
/* ---- Images (patches.c) ---- */

/* nn.Conv2d whose kernel and stride are a patch: weight [width,C,patch,patch] N(0, init_std), bias [width] zeros;
 * pixels [B,C,H,W] -> [B,patches,width], row by row. A border that fills no patch is not read. */
hfb_value *hfb_nn_patch_convolution(hfb_nn *nn, const char *name, hfb_value *pixels, int64_t patch, int64_t width,
                                    bool with_bias);

/* ---- Activations by their ACT2FN name (activations.def, activations.c) ---- */

hfb_value *hfb_nn_activation(hfb_nn *nn, const char *name, hfb_value *x);
bool hfb_nn_activation_known(const char *name);
/* "gelu, gelu_new, ..." for messages. */
const char *hfb_nn_activation_names(void);

/* ---- Attention (attention.c) ---- */

typedef struct hfb_nn_attention {
  double query_scale; /* factor of q before the product; 1: none */
  double score_scale; /* factor of the scores; 1: none */
  hfb_value *keep;    /* bool, broadcasts to [B,H,Q,K]: false puts the lowest finite score there; NULL: all kept */
  hfb_value *bias;    /* f32, broadcasts to [B,H,Q,K]: added to the scores after `keep`; NULL: none */
  /* [2n-1,d], vectors of the distances query - key from 1 - n on, whose products with the queries are added to the
   * scores before their scale (Shaw et al., 2018); NULL: none */
  hfb_value *distances;
  bool distances_to_keys;  /* their products with the keys too (Huang et al., 2020) */
  bool distances_unscaled; /* added last, behind scale and bias */
  double dropout;          /* of the probabilities */
} hfb_nn_attention;

/* softmax(scores) v on split heads: q [B,H,Q,d], k [B,H,K,d], v [B,H,K,e] -> [B,H,Q,e]. */
hfb_value *hfb_nn_attend(hfb_nn *nn, const hfb_nn_attention *attention, hfb_value *q, hfb_value *k, hfb_value *v);
hfb_value *hfb_nn_split_heads(hfb_nn *nn, hfb_value *x, int64_t heads); /* [B,S,H*d] -> [B,H,S,d] */
hfb_value *hfb_nn_merge_heads(hfb_nn *nn, hfb_value *x);                /* [B,H,S,d] -> [B,S,H*d] */

/* ---- Masks and positions (masks.c) ---- */

/* What transformers adds to a score that must not count: the lowest finite f32. */
double hfb_nn_masked_score(void);
/* Causal: key j takes part in query i when j <= i. Bool [length,length]. */
hfb_value *hfb_nn_causal_keep(hfb_nn *nn, int64_t length);
/* A band: key j takes part in query i when |i - j| <= reach. Bool [length,length]. */
hfb_value *hfb_nn_band_keep(hfb_nn *nn, int64_t length, int64_t reach);
/* attention_mask [B,K] (1 = counts) as bool [B,1,1,K]. */
hfb_value *hfb_nn_padding_keep(hfb_nn *nn, hfb_value *mask);
/* attention_mask [B,K] as an additive bias [B,1,1,K]: (1 - mask) * lowest. */
hfb_value *hfb_nn_padding_bias(hfb_nn *nn, hfb_value *mask);
/* 0 where kept, lowest where not. */
hfb_value *hfb_nn_keep_bias(hfb_nn *nn, hfb_value *keep);

hfb_value *hfb_nn_positions(hfb_nn *nn, int64_t length, int64_t first); /* first, first+1, ..: i64 [1,length] */
/* RobertaEmbeddings: count the ids that are not padding, from padding_idx + 1; padding stays at padding_idx. [B,S] */
hfb_value *hfb_nn_padding_aware_positions(hfb_nn *nn, hfb_value *ids, int64_t padding_idx);
/* positions i64 [..] times the frequencies exp(-log_step i), i < count: f64 [..,count] (positions.c). */
hfb_value *hfb_nn_angles(hfb_nn *nn, hfb_value *positions, int64_t count, double log_step);
/* The sines of these angles, then their cosines: f32 [..,2*count]. */
hfb_value *hfb_nn_sinusoids(hfb_nn *nn, hfb_value *positions, int64_t count, double log_step);
/* fairseq's sinusoids of `width` (even, at least 4): its frequencies end at 1/10000. */
hfb_value *hfb_nn_fairseq_sinusoids(hfb_nn *nn, hfb_value *positions, int64_t width);
/* shift_tokens_right: start in front, last id dropped, -100 replaced by pad. [B,S] */
hfb_value *hfb_nn_shift_right(hfb_nn *nn, hfb_value *ids, int64_t start_id, int64_t pad_id);

/* T5's relative position bias: table [buckets,heads], -> [1,heads,queries,keys]. */
typedef struct hfb_nn_relative_bias {
  int64_t queries, keys, heads, buckets, max_distance;
  bool bidirectional;
} hfb_nn_relative_bias;
hfb_value *hfb_nn_t5_relative_bias(hfb_nn *nn, hfb_value *table, const hfb_nn_relative_bias *how);
/* The bucket of key position minus query position. */
int64_t hfb_nn_t5_bucket(const hfb_nn_relative_bias *how, int64_t relative_position);

/* ---- Losses (loss.c): scalars ---- */

/* CrossEntropyLoss over all leading dimensions: logits [..,C], labels i64 [..]; -100 is ignored. */
hfb_value *hfb_nn_cross_entropy(hfb_nn *nn, hfb_value *logits, hfb_value *labels);
/* The same with logits [B,S,C] at position i scored against the label at i + 1. */
hfb_value *hfb_nn_shifted_cross_entropy(hfb_nn *nn, hfb_value *logits, hfb_value *labels);
/* Extractive question answering: the mean of the losses of start and end; logits [B,S], positions i64 [B], clamped to
 * [0,S], S is ignored. */
hfb_value *hfb_nn_span_loss(hfb_nn *nn, hfb_value *start_logits, hfb_value *end_logits, hfb_value *start_positions,
                            hfb_value *end_positions);
/* F.ctc_loss of logits [B,T,C]: lengths i64 [B] of at most T frames, labels i64 [B,L], the negative ones left out. The
 * sum over the batch, or (mean) the mean of the losses divided by their numbers of labels. */
hfb_value *hfb_nn_ctc_loss(hfb_nn *nn, hfb_value *logits, hfb_value *lengths, hfb_value *labels, int64_t blank,
                           bool zero_infinity, bool mean);

#endif
