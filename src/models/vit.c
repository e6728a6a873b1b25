/* ViT (Dosovitskiy et al., 2020): BERT with norms in front, on patches of an image. */
#include <math.h>

#include "models/family.h"

static const hfb_field fields[] = {
    {"hidden_size", HFB_FIELD_SIZE, "768", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "3072", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"image_size", HFB_FIELD_SIZE, "224", NULL},
    {"patch_size", HFB_FIELD_SIZE, "16", NULL},
    {"num_channels", HFB_FIELD_SIZE, "3", NULL},
    {"qkv_bias", HFB_FIELD_BOOL, "true", NULL},
    {"encoder_stride", HFB_FIELD_SIZE, "16", NULL},
};

#define MASK_SUM_EPS 1e-5 /* keeps the loss without masked patches finite */

/* ---- Embeddings ---- */

/* bool_masked_pos [B,patches], NULL when not given. */
static hfb_value *masked_patches(hfb_nn *nn, const hfb_call *call, const hfb_image_grid *g) {
  hfb_value *mask = hfb_call_arg(call, "bool_masked_pos");
  hfb_shape expected = hfb_shape_of(2, (int64_t[]){g->batch, g->side * g->side});
  if (mask == NULL || (mask->dtype == HFB_BOOL && hfb_shape_equal(&mask->shape, &expected))) return mask;
  char shape[HFB_SHAPE_TEXT_BYTES];
  hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument 'bool_masked_pos' is %s%s; it must be bool[%lld,%lld]",
                   hfb_dtype_name(mask->dtype), hfb_shape_print(&mask->shape, shape, sizeof shape), (long long)g->batch,
                   (long long)(g->side * g->side));
  return NULL;
}

/* The class token, then the patches, masked ones replaced by mask_token; with_mask_token: the class has one. */
static hfb_value *embed(hfb_nn *nn, const hfb_call *call, const hfb_image_grid *g, bool with_mask_token) {
  hfb_builder *b = nn->b;
  int64_t width = hfb_call_int(call, "hidden_size"), patches = g->side * g->side;
  hfb_shape token = hfb_shape_of(3, (int64_t[]){1, 1, width});
  hfb_scope_push(b, "embeddings");
  hfb_value *class_token = hfb_parameter(b, "cls_token", token, hfb_init_normal(nn->init_std)), *mask_token = NULL;
  if (with_mask_token) mask_token = hfb_parameter(b, "mask_token", token, hfb_init_constant(0));
  hfb_value *positions = hfb_parameter(b, "position_embeddings", hfb_shape_of(3, (int64_t[]){1, patches + 1, width}),
                                       hfb_init_normal(nn->init_std));
  hfb_value *pixels = hfb_call_arg(call, "pixel_values");
  hfb_value *x = hfb_nn_patch_convolution(nn, "patch_embeddings.projection", pixels, g->patch, width, true);
  hfb_value *mask = with_mask_token ? masked_patches(nn, call, g) : NULL;
  if (mask != NULL) {
    mask = hfb_cast(b, hfb_reshape(b, mask, 3, (int64_t[]){g->batch, patches, 1}), HFB_F32);
    x = hfb_mul(b, x, hfb_sub(b, hfb_scalar(b, HFB_F32, 1), mask));
    x = hfb_add(b, x, hfb_mul(b, mask_token, mask));
  }
  class_token = hfb_expand(b, class_token, 3, (int64_t[]){g->batch, 1, width});
  x = hfb_concat(b, 2, (hfb_value *[]){class_token, x}, 1);
  x = hfb_nn_dropout(nn, hfb_add(b, x, positions), hfb_call_float(call, "hidden_dropout_prob"));
  hfb_scope_pop(b);
  return x;
}

/* ---- The encoder ---- */

static void layer_declare(hfb_nn *nn, const hfb_call *call) {
  static const char *const projections[] = {"attention.attention.query", "attention.attention.key",
                                            "attention.attention.value"};
  int64_t width = hfb_call_int(call, "hidden_size"), inner = hfb_call_int(call, "intermediate_size");
  for (int i = 0; i < 3; i++) hfb_nn_linear_declare(nn, projections[i], width, width, hfb_call_bool(call, "qkv_bias"));
  hfb_nn_linear_declare(nn, "attention.output.dense", width, width, true);
  hfb_nn_linear_declare(nn, "intermediate.dense", width, inner, true);
  hfb_nn_linear_declare(nn, "output.dense", inner, width, true);
}

static hfb_value *attention(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  int64_t width = hfb_call_int(call, "hidden_size"), heads = hfb_call_int(call, "num_attention_heads");
  bool with_bias = hfb_call_bool(call, "qkv_bias");
  hfb_scope_push(nn->b, "attention");
  hfb_value *q = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "attention.query", x, width, with_bias), heads);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "attention.key", x, width, with_bias), heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "attention.value", x, width, with_bias), heads);
  hfb_nn_attention how = {.query_scale = 1,
                          .score_scale = 1 / sqrt((double)(width / heads)),
                          .dropout = hfb_call_float(call, "attention_probs_dropout_prob")};
  hfb_value *context = hfb_nn_merge_heads(nn, hfb_nn_attend(nn, &how, q, k, v));
  x = hfb_nn_linear(nn, "output.dense", context, width, true);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

/* ViTLayer: norms in front. */
static hfb_value *layer(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  double eps = hfb_call_float(call, "layer_norm_eps");
  layer_declare(nn, call);
  x = hfb_add(nn->b, attention(nn, call, hfb_nn_layer_norm(nn, "layernorm_before", x, eps)), x);
  hfb_value *inner = hfb_nn_layer_norm(nn, "layernorm_after", x, eps);
  inner = hfb_nn_linear(nn, "intermediate.dense", inner, hfb_call_int(call, "intermediate_size"), true);
  inner = hfb_nn_activation(nn, hfb_call_text(call, "hidden_act"), inner);
  inner = hfb_nn_linear(nn, "output.dense", inner, hfb_call_int(call, "hidden_size"), true);
  return hfb_add(nn->b, hfb_nn_dropout(nn, inner, hfb_call_float(call, "hidden_dropout_prob")), x);
}

/* ViTModel under the caller's scope, without its pooler: [B,1+patches,D]. */
static hfb_value *model(hfb_nn *nn, const hfb_call *call, const hfb_image_grid *g, bool with_mask_token) {
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  hfb_value *x = embed(nn, call, g, with_mask_token);
  for (int64_t i = 0; i < hfb_call_int(call, "num_hidden_layers"); i++) {
    hfb_scope_push(nn->b, "encoder.layer.%d", (int)i);
    x = layer(nn, call, x);
    hfb_scope_pop(nn->b);
  }
  return hfb_nn_layer_norm(nn, "layernorm", x, hfb_call_float(call, "layer_norm_eps"));
}

/* The same under "vit". */
static hfb_value *inner_model(hfb_nn *nn, const hfb_call *call, const hfb_image_grid *g, bool with_mask_token) {
  hfb_scope_push(nn->b, "vit");
  hfb_value *x = model(nn, call, g, with_mask_token);
  hfb_scope_pop(nn->b);
  return x;
}

/* ---- Classes ---- */

static hfb_value *first_token(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  return hfb_reshape(nn->b, hfb_slice(nn->b, x, 1, 0, 1), 2,
                     (int64_t[]){call->batch, hfb_call_int(call, "hidden_size")});
}

static void bare_model(hfb_nn *nn, const hfb_call *call) {
  hfb_image_grid g = hfb_call_image_grid(nn, call, "");
  hfb_value *x = model(nn, call, &g, false);
  hfb_value *pooled =
      hfb_nn_linear(nn, "pooler.dense", first_token(nn, call, x), hfb_call_int(call, "hidden_size"), true);
  hfb_output_add(nn->b, "last_hidden_state", x);
  hfb_output_add(nn->b, "pooler_output", hfb_nn_activation(nn, "tanh", pooled));
}

static void image_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_image_grid g = hfb_call_image_grid(nn, call, "");
  hfb_value *x = first_token(nn, call, inner_model(nn, call, &g, false));
  hfb_head_classification(nn, call, hfb_nn_linear(nn, "classifier", x, hfb_call_int(call, "num_labels"), true));
}

/* nn.Conv2d with a kernel of one patch, then nn.PixelShuffle(stride): [B,1+patches,D] -> [B,C,I,I]. */
static hfb_value *decode(hfb_nn *nn, const hfb_call *call, const hfb_image_grid *g, hfb_value *x) {
  hfb_builder *b = nn->b;
  int64_t width = hfb_call_int(call, "hidden_size"), stride = hfb_call_int(call, "encoder_stride"), n = g->side;
  int64_t out = stride * stride * g->channels;
  hfb_value *weight = hfb_parameter(b, "decoder.0.weight", hfb_shape_of(4, (int64_t[]){out, width, 1, 1}),
                                    hfb_init_normal(nn->init_std));
  hfb_value *bias = hfb_parameter(b, "decoder.0.bias", hfb_shape_of(1, &out), hfb_init_constant(0));
  x = hfb_slice(b, x, 1, 1, 1 + n * n);
  x = hfb_linear_op(b, x, hfb_reshape(b, weight, 2, (int64_t[]){out, width}), bias, true);
  x = hfb_reshape(b, x, 4, (int64_t[]){g->batch, n * n, g->channels, stride * stride});
  x = hfb_transpose(b, x, (int[]){0, 2, 1, 3});
  x = hfb_reshape(b, x, 4, (int64_t[]){g->batch * g->channels * n, n, stride, stride});
  x = hfb_transpose(b, x, (int[]){0, 2, 1, 3});
  return hfb_reshape(b, x, 4, (int64_t[]){g->batch, g->channels, n * stride, n * stride});
}

/* The mean distance from the pixels of masked patches. mask bool [B,patches]. */
static hfb_value *reconstruction_loss(hfb_nn *nn, const hfb_call *call, const hfb_image_grid *g, hfb_value *image,
                                      hfb_value *mask) {
  hfb_builder *b = nn->b;
  int64_t n = g->side, p = g->patch, all[] = {g->batch, 1, n * p, n * p};
  hfb_value *wide = hfb_reshape(b, mask, 5, (int64_t[]){g->batch, n, 1, n, 1});
  wide = hfb_expand(b, wide, 5, (int64_t[]){g->batch, n, p, n, p});
  wide = hfb_cast(b, hfb_reshape(b, wide, 4, all), HFB_F32);
  hfb_value *distance = hfb_unary(b, HFB_OP_ABS, hfb_sub(b, hfb_call_arg(call, "pixel_values"), image));
  static const int axes[] = {0, 1, 2, 3};
  hfb_value *sum = hfb_reduce(b, HFB_OP_REDUCE_SUM, hfb_mul(b, distance, wide), 4, axes, false);
  hfb_value *count = hfb_add_scalar(b, hfb_reduce(b, HFB_OP_REDUCE_SUM, wide, 4, axes, false), MASK_SUM_EPS);
  return hfb_mul_scalar(b, hfb_div(b, sum, count), 1 / (double)g->channels);
}

static void masked_image_modeling(hfb_nn *nn, const hfb_call *call) {
  int64_t stride = hfb_call_int(call, "encoder_stride");
  hfb_image_grid g = hfb_call_image_grid(nn, call, "");
  hfb_value *mask = masked_patches(nn, call, &g);
  if (mask != NULL && (g.patch != stride || g.side * g.patch != hfb_call_int(call, "image_size"))) {
    hfb_builder_fail(
        nn->b, HFB_INVALID_ARGUMENT,
        "bool_masked_pos needs an encoder_stride of patch_size %lld, not %lld, and an image_size that is a "
        "multiple of it, not %lld",
        (long long)g.patch, (long long)stride, (long long)hfb_call_int(call, "image_size"));
    return;
  }
  hfb_value *image = decode(nn, call, &g, inner_model(nn, call, &g, true));
  if (mask != NULL) hfb_output_add(nn->b, "loss", reconstruction_loss(nn, call, &g, image, mask));
  hfb_output_add(nn->b, "reconstruction", image);
}

#define REFUSED "head_mask interpolate_pos_encoding output_attentions output_hidden_states"
#define IGNORED "decoder.* classifier.* vit.pooler.* vit.embeddings.mask_token"

static const hfb_class_row classes[] = {
    {"ViTModel", bare_model, "pixel_values", REFUSED " bool_masked_pos", "", "decoder.* classifier.* *mask_token"},
    {"ViTForImageClassification", image_classification, "pixel_values labels", REFUSED, "", IGNORED},
    {"ViTForMaskedImageModeling", masked_image_modeling, "pixel_values bool_masked_pos", REFUSED, "",
     "classifier.* vit.pooler.*"},
};

HFB_FAMILY(vit, "vit", "vit", fields, classes);
