#include "models/speech.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CONV_NORM_EPS 1e-5 /* of the norms between convolutions: torch's default, no field */

/* What the heads need. */
typedef struct speech {
  hfb_value *features; /* frames before their projection, normalised: [B,T,C] */
  hfb_value *frames;   /* the last layer's: [B,T,D] */
  hfb_value *keep;     /* bool [B,T]: frames of the recording; NULL: all */
  hfb_value **layers;  /* what every layer read, then `frames`: num_hidden_layers + 1 */
} speech;

/* ---- Lengths ---- */

/* Frame t reads samples t * stride .. t * stride + window - 1. */
typedef struct frame_grid {
  int64_t stride, window;
} frame_grid;

static int64_t conv_layers(const hfb_call *call) {
  return hfb_config_size_count(call->config, "conv_dim");
}

static frame_grid grid_of(const hfb_call *call) {
  frame_grid grid = {.stride = 1, .window = 1};
  for (int64_t i = 0; i < conv_layers(call); i++) {
    grid.window += (hfb_call_size_at(call, "conv_kernel", i) - 1) * grid.stride;
    grid.stride *= hfb_call_size_at(call, "conv_stride", i);
  }
  return grid;
}

/* The samples of each row that the mask counts, wherever they are: i64 [B,1]; NULL without a mask. */
static hfb_value *sample_count(hfb_nn *nn, const hfb_call *call) {
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  return mask == NULL ? NULL : hfb_reduce(nn->b, HFB_OP_REDUCE_SUM, mask, 1, (int[]){1}, true);
}

/* Whether frame t + shift ends within the samples: bool [B,T]. */
static hfb_value *frames_within(hfb_nn *nn, const frame_grid *grid, hfb_value *samples, int64_t frames, int64_t shift) {
  hfb_value *frame = hfb_iota(nn->b, HFB_I64, hfb_shape_of(2, (int64_t[]){1, frames}), 1);
  hfb_value *end = hfb_mul_scalar(nn->b, hfb_add_scalar(nn->b, frame, (double)shift), (double)grid->stride);
  end = hfb_add_scalar(nn->b, end, (double)grid->window);
  return hfb_binary(nn->b, HFB_OP_LE, end, samples);
}

/* _get_feature_vector_attention_mask: bool [B,T]. It marks the last frame that counts by its index, so that rows too
 * short for a frame count from the end: -1, the last one, keeps all. */
static hfb_value *kept_frames(hfb_nn *nn, const frame_grid *grid, hfb_value *samples, int64_t frames) {
  hfb_builder *b = nn->b;
  if (samples == NULL) return NULL;
  hfb_value *has_none = hfb_binary(b, HFB_OP_LT, samples, hfb_scalar(b, HFB_I64, (double)grid->window));
  hfb_value *from_end = frames_within(nn, grid, samples, frames, -frames);
  hfb_value *wrapped = hfb_binary(b, HFB_OP_AND, has_none, from_end);
  return hfb_binary(b, HFB_OP_OR, frames_within(nn, grid, samples, frames, 0), wrapped);
}

/* How many are true in each row: i64 [B]. */
static hfb_value *count_true(hfb_nn *nn, hfb_value *mask) {
  return hfb_reduce(nn->b, HFB_OP_REDUCE_SUM, hfb_cast(nn->b, mask, HFB_I64), 1, (int[]){1}, false);
}

/* x [B,T,D] with zeros in the frames that do not count. */
static hfb_value *without_padding(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *keep) {
  if (keep == NULL || x == NULL) return x;
  hfb_value *column = hfb_reshape(nn->b, keep, 3, (int64_t[]){call->batch, x->shape.dim[1], 1});
  return hfb_where(nn->b, column, x, hfb_scalar(nn->b, HFB_F32, 0));
}

/* ---- Samples to frames ---- */

static hfb_init uniform(double bound) {
  return (hfb_init){.kind = HFB_INIT_UNIFORM, .a = -bound, .b = bound, .padding_idx = -1};
}

/* kaiming_normal_ of a weight that sums `fan_in` products. */
static hfb_init kaiming(int64_t fan_in) {
  return hfb_init_normal(sqrt(2 / (double)fan_in));
}

static hfb_value *conv_layer(hfb_nn *nn, const hfb_call *call, int64_t index, hfb_value *x) {
  const hfb_speech_traits *traits = call->traits;
  if (x == NULL) return NULL;
  bool per_channel = strcmp(hfb_call_text(call, "feat_extract_norm"), "group") == 0;
  int64_t kernel = hfb_call_size_at(call, "conv_kernel", index), fan_in = x->shape.dim[2] * kernel;
  hfb_nn_conv1d_shape how = {.out_features = hfb_call_size_at(call, "conv_dim", index),
                             .kernel = kernel,
                             .stride = hfb_call_size_at(call, "conv_stride", index),
                             .with_bias = hfb_call_bool(call, "conv_bias"),
                             .weight = kaiming(fan_in),
                             .bias = traits->scaled_init ? uniform(1 / sqrt((double)fan_in)) : hfb_init_constant(0)};
  hfb_scope_push(nn->b, "feature_extractor.conv_layers.%d", (int)index);
  x = hfb_nn_strided_convolution(nn, "conv", x, &how);
  if (!per_channel) {
    x = hfb_nn_layer_norm(nn, "layer_norm", x, CONV_NORM_EPS);
  } else if (index == 0) {
    x = hfb_nn_instance_norm(nn, "layer_norm", x, CONV_NORM_EPS);
  }
  x = hfb_nn_activation(nn, hfb_call_text(call, "feat_extract_activation"), x);
  hfb_scope_pop(nn->b);
  return x;
}

/* [B,samples] -> [B,T,C]. */
static hfb_value *extract_features(hfb_nn *nn, const hfb_call *call) {
  int64_t layers = conv_layers(call);
  if (layers == 0 || hfb_config_size_count(call->config, "conv_kernel") != layers ||
      hfb_config_size_count(call->config, "conv_stride") != layers) {
    hfb_builder_fail(
        nn->b, HFB_INVALID_ARGUMENT,
        "conv_dim, conv_kernel and conv_stride must be lists of the same length, one entry for each layer");
    return NULL;
  }
  frame_grid grid = grid_of(call);
  if (call->length < grid.window) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "input_values has %lld samples, but a frame takes %lld; give longer inputs",
                     (long long)call->length, (long long)grid.window);
    return NULL;
  }
  hfb_value *x = hfb_reshape(nn->b, hfb_call_arg(call, "input_values"), 3, (int64_t[]){call->batch, call->length, 1});
  for (int64_t i = 0; i < layers; i++) x = conv_layer(nn, call, i, x);
  return x;
}

static hfb_value *project_features(hfb_nn *nn, const hfb_call *call, speech *out) {
  const hfb_speech_traits *traits = call->traits;
  if (out->features == NULL) return NULL;
  bool with_norm = !hfb_config_has(call->config, "feat_proj_layer_norm") || hfb_call_bool(call, "feat_proj_layer_norm");
  int64_t in = out->features->shape.dim[2], width = hfb_call_int(call, "hidden_size");
  hfb_scope_push(nn->b, "feature_projection");
  if (with_norm) {
    out->features = hfb_nn_layer_norm(nn, "layer_norm", out->features, hfb_call_float(call, "layer_norm_eps"));
  }
  if (traits->scaled_init) {
    double bound = 1 / sqrt((double)in);
    hfb_parameter(nn->b, "projection.weight", hfb_shape_of(2, (int64_t[]){width, in}), uniform(bound));
    hfb_parameter(nn->b, "projection.bias", hfb_shape_of(1, &width), uniform(bound));
  }
  hfb_value *x = hfb_nn_linear(nn, "projection", out->features, width, true);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "feat_proj_dropout"));
}

/* The model owns the vector that hides frames whenever a probability asks for it, apply_spec_augment or not. */
static hfb_value *hiding_vector(hfb_nn *nn, const hfb_call *call) {
  if (hfb_call_float(call, "mask_time_prob") == 0 && hfb_call_float(call, "mask_feature_prob") == 0) return NULL;
  hfb_init init = {.kind = HFB_INIT_UNIFORM, .a = 0, .b = 1, .padding_idx = -1};
  return hfb_parameter(nn->b, "masked_spec_embed", hfb_shape_of(1, (int64_t[]){hfb_call_int(call, "hidden_size")}),
                       init);
}

/* SpecAugment: hidden frames become one learned vector, hidden features 0. */
static hfb_value *hide(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *vector, hfb_value *lengths) {
  hfb_builder *b = nn->b;
  if (x == NULL || !hfb_call_bool(call, "apply_spec_augment")) return x;
  int64_t frames = x->shape.dim[1], width = x->shape.dim[2];
  hfb_nn_spans time = {.p = hfb_call_float(call, "mask_time_prob"),
                       .span = hfb_call_int(call, "mask_time_length"),
                       .min_spans = hfb_call_int(call, "mask_time_min_masks"),
                       .span_field = "mask_time_length"};
  hfb_nn_spans feature = {.p = hfb_call_float(call, "mask_feature_prob"),
                          .span = hfb_call_int(call, "mask_feature_length"),
                          .min_spans = hfb_call_int(call, "mask_feature_min_masks"),
                          .span_field = "mask_feature_length"};
  hfb_value *hidden = hfb_nn_spec_augment(nn, &time, call->batch, frames, lengths);
  if (hidden != NULL) {
    x = hfb_where(b, hfb_reshape(b, hidden, 3, (int64_t[]){call->batch, frames, 1}), vector, x);
  }
  hidden = hfb_nn_spec_augment(nn, &feature, call->batch, width, NULL);
  if (hidden != NULL) {
    hidden = hfb_reshape(b, hidden, 3, (int64_t[]){call->batch, 1, width});
    x = hfb_where(b, hidden, hfb_scalar(b, HFB_F32, 0), x);
  }
  return x;
}

/* ---- The transformer ---- */

/* nn.utils.weight_norm over dimension 2: what brings v[:, :, j] to length g[j], as [kernel]. */
static hfb_value *weight_scale(hfb_nn *nn, hfb_value *g, hfb_value *v) {
  hfb_builder *b = nn->b;
  hfb_value *squares = hfb_reduce(b, HFB_OP_REDUCE_SUM, hfb_mul(b, v, v), 2, (int[]){0, 1}, false);
  return hfb_div(b, hfb_reshape(b, g, 1, (int64_t[]){-1}), hfb_unary(b, HFB_OP_SQRT, squares));
}

static hfb_value *position_embedding(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  const hfb_speech_traits *traits = call->traits;
  hfb_builder *b = nn->b;
  int64_t width = hfb_call_int(call, "hidden_size"), kernel = hfb_call_int(call, "num_conv_pos_embeddings");
  int64_t groups = hfb_call_int(call, "num_conv_pos_embedding_groups"), own = width / groups;
  double deviation = traits->scaled_init ? 2 / sqrt((double)(kernel * width)) : sqrt(2 / (double)(kernel * own));
  hfb_call_check_heads(nn, call, "hidden_size", "num_conv_pos_embedding_groups");
  hfb_scope_push(b, "pos_conv_embed.conv");
  hfb_value *bias = hfb_parameter(b, "bias", hfb_shape_of(1, &width), hfb_init_constant(0));
  hfb_value *g = hfb_parameter(b, "weight_g", hfb_shape_of(3, (int64_t[]){1, 1, kernel}),
                               hfb_init_constant(deviation * sqrt((double)(width * own))));
  hfb_value *v =
      hfb_parameter(b, "weight_v", hfb_shape_of(3, (int64_t[]){width, own, kernel}), hfb_init_normal(deviation));
  hfb_value *scale = weight_scale(nn, g, v);
  hfb_value *y = width % groups == 0 ? hfb_nn_grouped_convolution(nn, x, v, scale, bias, groups) : NULL;
  hfb_scope_pop(b);
  return hfb_nn_activation(nn, hfb_call_text(call, "feat_extract_activation"), y);
}

static hfb_value *attention(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *keep) {
  static const char *const names[] = {"k_proj", "v_proj", "q_proj", "out_proj"};
  int64_t width = hfb_call_int(call, "hidden_size"), heads = hfb_call_int(call, "num_attention_heads");
  hfb_scope_push(nn->b, "attention");
  for (int i = 0; i < 4; i++) hfb_nn_linear_declare(nn, names[i], width, width, true);
  hfb_value *q = hfb_nn_linear(nn, "q_proj", x, width, true);
  q = hfb_nn_split_heads(nn, hfb_mul_scalar(nn->b, q, 1 / sqrt((double)(width / heads))), heads);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "k_proj", x, width, true), heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "v_proj", x, width, true), heads);
  hfb_nn_attention how = {
      .query_scale = 1, .score_scale = 1, .keep = keep, .dropout = hfb_call_float(call, "attention_dropout")};
  hfb_value *context = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &how, q, k, v));
  context = hfb_nn_linear(nn, "out_proj", context, width, true);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, context, hfb_call_float(call, "hidden_dropout"));
}

static hfb_value *feed_forward(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  hfb_scope_push(nn->b, "feed_forward");
  x = hfb_nn_linear(nn, "intermediate_dense", x, hfb_call_int(call, "intermediate_size"), true);
  x = hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), x);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "activation_dropout"));
  x = hfb_nn_linear(nn, "output_dense", x, hfb_call_int(call, "hidden_size"), true);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout"));
}

/* EncoderLayer: norms behind. */
static hfb_value *layer(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *keep) {
  double eps = hfb_call_float(call, "layer_norm_eps");
  x = hfb_add(nn->b, x, attention(nn, call, x, keep));
  x = hfb_nn_layer_norm(nn, "layer_norm", x, eps);
  x = hfb_add(nn->b, x, feed_forward(nn, call, x));
  return hfb_nn_layer_norm(nn, "final_layer_norm", x, eps);
}

/* EncoderLayerStableLayerNorm: norms in front, registered behind what they feed. */
static hfb_value *stable_layer(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *keep) {
  static const char *const projections[] = {"k_proj", "v_proj", "q_proj", "out_proj"};
  int64_t width = hfb_call_int(call, "hidden_size"), inner = hfb_call_int(call, "intermediate_size");
  double eps = hfb_call_float(call, "layer_norm_eps");
  hfb_scope_push(nn->b, "attention");
  for (int i = 0; i < 4; i++) hfb_nn_linear_declare(nn, projections[i], width, width, true);
  hfb_scope_pop(nn->b);
  x = hfb_add(nn->b, x, attention(nn, call, hfb_nn_layer_norm(nn, "layer_norm", x, eps), keep));
  hfb_nn_linear_declare(nn, "feed_forward.intermediate_dense", width, inner, true);
  hfb_nn_linear_declare(nn, "feed_forward.output_dense", inner, width, true);
  return hfb_add(nn->b, x, feed_forward(nn, call, hfb_nn_layer_norm(nn, "final_layer_norm", x, eps)));
}

static void encode(hfb_nn *nn, const hfb_call *call, hfb_value *x, speech *out) {
  bool stable = hfb_call_bool(call, "do_stable_layer_norm");
  int64_t count = hfb_call_int(call, "num_hidden_layers"), width = hfb_call_int(call, "hidden_size");
  double eps = hfb_call_float(call, "layer_norm_eps");
  if (x == NULL) return;
  hfb_value *keep = out->keep;
  if (keep != NULL) keep = hfb_reshape(nn->b, keep, 4, (int64_t[]){call->batch, 1, 1, x->shape.dim[1]});
  hfb_scope_push(nn->b, "encoder");
  x = without_padding(nn, call, x, out->keep);
  x = hfb_add(nn->b, x, position_embedding(nn, call, x));
  if (stable)
    hfb_nn_layer_norm_declare(nn, "layer_norm", width);
  else
    x = hfb_nn_layer_norm(nn, "layer_norm", x, eps);
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout"));
  out->layers = hfb_call_values(nn, count + 1);
  for (int64_t i = 0; i < count && out->layers != NULL; i++) {
    out->layers[i] = x;
    hfb_scope_push(nn->b, "layers.%d", (int)i);
    hfb_value *after = stable ? stable_layer(nn, call, x, keep) : layer(nn, call, x, keep);
    hfb_scope_pop(nn->b);
    x = hfb_nn_layer_drop(nn, x, after, hfb_call_float(call, "layerdrop"));
  }
  if (stable) x = hfb_nn_layer_norm(nn, "layer_norm", x, eps);
  hfb_scope_pop(nn->b);
  if (out->layers != NULL) out->layers[count] = x;
  out->frames = x;
}

/* Under the caller's scope. */
static speech run_model(hfb_nn *nn, const hfb_call *call) {
  const hfb_speech_traits *traits = call->traits;
  speech out = {0};
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  frame_grid grid = grid_of(call);
  hfb_value *vector = hiding_vector(nn, call), *samples = sample_count(nn, call);
  out.features = extract_features(nn, call);
  if (out.features == NULL) return out;
  out.keep = kept_frames(nn, &grid, samples, out.features->shape.dim[1]);
  hfb_value *lengths = traits->spans_know_lengths && out.keep != NULL ? count_true(nn, out.keep) : NULL;
  hfb_value *x = project_features(nn, call, &out);
  encode(nn, call, hide(nn, call, x, vector, lengths), &out);
  return out;
}

static speech run_inner_model(hfb_nn *nn, const hfb_call *call) {
  const hfb_speech_traits *traits = call->traits;
  hfb_scope_push(nn->b, "%s", traits->prefix);
  speech out = run_model(nn, call);
  hfb_scope_pop(nn->b);
  return out;
}

/* ---- Classes ---- */

void hfb_speech_bare_model(hfb_nn *nn, const hfb_call *call) {
  const hfb_speech_traits *traits = call->traits;
  speech out = run_model(nn, call);
  hfb_output_add(nn->b, "last_hidden_state", out.frames);
  if (traits->spans_know_lengths) hfb_output_add(nn->b, "extract_features", out.features);
}

/* Frames of each row, as the loss counts them: i64 [B]. */
static hfb_value *frame_counts(hfb_nn *nn, const hfb_call *call, int64_t frames) {
  frame_grid grid = grid_of(call);
  hfb_value *samples = sample_count(nn, call);
  if (samples == NULL) return hfb_full(nn->b, HFB_I64, hfb_shape_of(1, &call->batch), (double)frames);
  return count_true(nn, frames_within(nn, &grid, samples, frames, 0));
}

void hfb_speech_ctc(hfb_nn *nn, const hfb_call *call) {
  hfb_value *x = run_inner_model(nn, call).frames;
  x = hfb_nn_dropout(nn, x, hfb_call_float(call, "final_dropout"));
  hfb_value *logits = hfb_nn_linear(nn, "lm_head", x, hfb_call_int(call, "vocab_size"), true);
  if (logits == NULL) return;
  hfb_value *labels = hfb_call_arg(call, "labels") == NULL ? NULL : hfb_call_rows(nn, call, "labels");
  int64_t blank = hfb_call_int(call, "pad_token_id");
  if (labels != NULL && blank < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "the loss needs a pad_token_id, its blank, in the configuration");
  } else if (labels != NULL) {
    bool mean = strcmp(hfb_call_text(call, "ctc_loss_reduction"), "mean") == 0;
    hfb_value *lengths = frame_counts(nn, call, logits->shape.dim[1]);
    hfb_value *loss =
        hfb_nn_ctc_loss(nn, logits, lengths, labels, blank, hfb_call_bool(call, "ctc_zero_infinity"), mean);
    hfb_output_add(nn->b, "loss", loss);
  }
  hfb_output_add(nn->b, "logits", logits);
}

/* The sum of what all layers read and the last one gave, weighted by softmax(weights). */
static hfb_value *weighted_layers(hfb_nn *nn, const hfb_call *call, const speech *model, hfb_value *weights) {
  hfb_builder *b = nn->b;
  int64_t count = hfb_call_int(call, "num_hidden_layers") + 1;
  hfb_value **stacked = hfb_call_values(nn, count);
  if (stacked == NULL || model->frames == NULL) return NULL;
  const int64_t *dim = model->frames->shape.dim;
  for (int64_t i = 0; i < count; i++) {
    stacked[i] = hfb_reshape(b, model->layers[i], 4, (int64_t[]){dim[0], 1, dim[1], dim[2]});
  }
  hfb_value *all = hfb_concat(b, (int)count, stacked, 1);
  hfb_value *shares = hfb_reshape(b, hfb_softmax(b, weights, -1), 3, (int64_t[]){count, 1, 1});
  return hfb_reduce(b, HFB_OP_REDUCE_SUM, hfb_mul(b, all, shares), 1, (int[]){1}, false);
}

/* The mean of the frames that count: x [B,T,E] -> [B,E]. */
static hfb_value *pool_frames(hfb_nn *nn, const hfb_call *call, hfb_value *x, hfb_value *keep) {
  hfb_builder *b = nn->b;
  if (keep == NULL) return hfb_reduce(b, HFB_OP_REDUCE_MEAN, x, 1, (int[]){1}, false);
  hfb_value *sum = hfb_reduce(b, HFB_OP_REDUCE_SUM, without_padding(nn, call, x, keep), 1, (int[]){1}, false);
  hfb_value *count = hfb_reshape(b, count_true(nn, keep), 2, (int64_t[]){call->batch, 1});
  return hfb_div(b, sum, hfb_cast(b, count, HFB_F32));
}

/* The classes know cross entropy only, whatever problem_type says. */
static hfb_value *class_labels(hfb_nn *nn, const hfb_call *call) {
  hfb_value *labels = hfb_call_arg(call, "labels");
  if (labels == NULL || (labels->dtype == HFB_I64 && hfb_shape_elements(&labels->shape) == call->batch)) return labels;
  char shape[HFB_SHAPE_TEXT_BYTES];
  hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument 'labels' is %s%s; it must be i64[%lld]",
                   hfb_dtype_name(labels->dtype), hfb_shape_print(&labels->shape, shape, sizeof shape),
                   (long long)call->batch);
  return NULL;
}

void hfb_speech_sequence_classification(hfb_nn *nn, const hfb_call *call) {
  int64_t layers = hfb_call_int(call, "num_hidden_layers") + 1;
  hfb_value *weights = NULL;
  if (hfb_call_bool(call, "use_weighted_layer_sum")) {
    weights = hfb_parameter(nn->b, "layer_weights", hfb_shape_of(1, &layers), hfb_init_constant(1 / (double)layers));
  }
  speech model = run_inner_model(nn, call);
  hfb_value *x = weights == NULL ? model.frames : weighted_layers(nn, call, &model, weights);
  x = hfb_nn_linear(nn, "projector", x, hfb_call_int(call, "classifier_proj_size"), true);
  x = pool_frames(nn, call, x, model.keep);
  hfb_value *logits = hfb_nn_linear(nn, "classifier", x, hfb_call_int(call, "num_labels"), true);
  hfb_value *labels = class_labels(nn, call);
  if (labels != NULL) hfb_output_add(nn->b, "loss", hfb_nn_cross_entropy(nn, logits, labels));
  hfb_output_add(nn->b, "logits", logits);
  for (int64_t i = 0; i < layers && weights != NULL && model.layers != NULL; i++) {
    char name[32]; /* the class asks for them, and returns them */
    snprintf(name, sizeof name, "hidden_states/%d", (int)i);
    hfb_output_add(nn->b, name, model.layers[i]);
  }
}
