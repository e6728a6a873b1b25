/* CLIP (Radford et al., 2021): a transformer for texts and one for images, trained to bring pairs together. */
#include <math.h>

#include "models/family.h"

/* clang-format off */
#define TOWER_FIELDS(in, width, inner, heads)                          \
  {in "hidden_size", HFB_FIELD_SIZE, width, NULL},                     \
  {in "intermediate_size", HFB_FIELD_SIZE, inner, NULL},               \
  {in "num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},               \
  {in "num_attention_heads", HFB_FIELD_COUNT, heads, NULL},            \
  {in "hidden_act", HFB_FIELD_ACTIVATION, "quick_gelu", NULL},         \
  {in "layer_norm_eps", HFB_FIELD_POSITIVE, "1e-5", NULL},             \
  {in "attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL}
#define TEXT_FIELDS(in)                                                \
  {in "vocab_size", HFB_FIELD_SIZE, "49408", NULL},                    \
  TOWER_FIELDS(in, "512", "2048", "8"),                                \
  {in "max_position_embeddings", HFB_FIELD_SIZE, "77", NULL},          \
  {in "eos_token_id", HFB_FIELD_ID, "49407", NULL}
#define IMAGE_FIELDS(in)                                               \
  TOWER_FIELDS(in, "768", "3072", "12"),                               \
  {in "num_channels", HFB_FIELD_SIZE, "3", NULL},                      \
  {in "image_size", HFB_FIELD_SIZE, "224", NULL},                      \
  {in "patch_size", HFB_FIELD_SIZE, "32", NULL},                       \
  {in "initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL}
/* clang-format on */

static const hfb_field fields[] = {
    {"projection_dim", HFB_FIELD_SIZE, "512", NULL},
    {"logit_scale_init_value", HFB_FIELD_POSITIVE, "2.6592", NULL},
    TEXT_FIELDS("text_config."),
    IMAGE_FIELDS("vision_config."),
};
static const hfb_field text_fields[] = {
    TEXT_FIELDS(""),
    {"projection_dim", HFB_FIELD_SIZE, "512", NULL},
    {"initializer_factor", HFB_FIELD_POSITIVE, "1.0", NULL},
};
static const hfb_field image_fields[] = {
    IMAGE_FIELDS(""),
    {"projection_dim", HFB_FIELD_SIZE, "512", NULL},
    {"initializer_factor", HFB_FIELD_POSITIVE, "1.0", NULL},
};

#define LEGACY_EOS  2    /* in configurations of 2022: the end of a text is its largest id, whatever it is */
#define WORD_INIT   0.02 /* deviation of the token and position tables of texts */
#define PROJECTIONS "visual_projection.weight text_projection.weight logit_scale"

/* One of the two transformers. */
typedef struct tower {
  const char *nested; /* where its fields are: "text_config", or "" in a configuration of its own */
  int64_t width, heads, inner, layers;
  double eps;
  double factor;        /* of all initial deviations */
  hfb_value *mask_bias; /* [S,S] or [B,1,S,S], NULL: none */
} tower;

/* What a tower makes. */
typedef struct states {
  hfb_value *tokens; /* [B,S,D] */
  hfb_value *pooled; /* [B,D] */
} states;

static int64_t size_in(const hfb_call *call, const tower *t, const char *field) {
  return hfb_call_int(call, hfb_field_of(t->nested, field).text);
}

static tower tower_of(hfb_nn *nn, const hfb_call *call, const char *nested) {
  tower t = {.nested = nested, .factor = 1};
  hfb_call_check_heads(nn, call, hfb_field_of(nested, "hidden_size").text,
                       hfb_field_of(nested, "num_attention_heads").text);
  t.width = size_in(call, &t, "hidden_size");
  t.heads = size_in(call, &t, "num_attention_heads");
  t.inner = size_in(call, &t, "intermediate_size");
  t.layers = size_in(call, &t, "num_hidden_layers");
  t.eps = hfb_call_float(call, hfb_field_of(nested, "layer_norm_eps").text);
  /* CLIPConfig puts 1 for both towers. */
  if (nested[0] == '\0') t.factor = hfb_call_float(call, "initializer_factor");
  return t;
}

/* ---- Layers ---- */

static void linear_declare(hfb_nn *nn, const char *name, int64_t in, int64_t out, double deviation) {
  nn->init_std = deviation;
  hfb_nn_linear_declare(nn, name, in, out, true);
}

static void layer_declare(hfb_nn *nn, const tower *t) {
  static const char *const inner[] = {"self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj"};
  double out_std = t->factor / sqrt((double)t->width), in_std = out_std / sqrt(2 * (double)t->layers);
  for (int i = 0; i < 3; i++) linear_declare(nn, inner[i], t->width, t->width, in_std);
  linear_declare(nn, "self_attn.out_proj", t->width, t->width, out_std);
  hfb_nn_layer_norm_declare(nn, "layer_norm1", t->width);
  linear_declare(nn, "mlp.fc1", t->width, t->inner, t->factor / sqrt(2 * (double)t->width));
  linear_declare(nn, "mlp.fc2", t->inner, t->width, in_std);
  hfb_nn_layer_norm_declare(nn, "layer_norm2", t->width);
}

static void layers_declare(hfb_nn *nn, const tower *t) {
  for (int64_t i = 0; i < t->layers; i++) {
    hfb_scope_push(nn->b, "encoder.layers.%d", (int)i);
    layer_declare(nn, t);
    hfb_scope_pop(nn->b);
  }
}

/* CLIPAttention: the query is scaled behind its bias. */
static hfb_value *attention(hfb_nn *nn, const hfb_call *call, const tower *t, hfb_value *x) {
  hfb_scope_push(nn->b, "self_attn");
  hfb_value *q = hfb_nn_linear(nn, "q_proj", x, t->width, true);
  hfb_value *k = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "k_proj", x, t->width, true), t->heads);
  hfb_value *v = hfb_nn_split_heads(nn, hfb_nn_linear(nn, "v_proj", x, t->width, true), t->heads);
  hfb_nn_attention how = {.query_scale = 1 / sqrt((double)(t->width / t->heads)),
                          .score_scale = 1,
                          .bias = t->mask_bias,
                          .dropout = hfb_call_float(call, hfb_field_of(t->nested, "attention_dropout").text)};
  hfb_value *context = hfb_nn_attend(nn, &how, hfb_nn_split_heads(nn, q, t->heads), k, v);
  x = hfb_nn_linear(nn, "out_proj", hfb_nn_merge_heads(nn, context), t->width, true);
  hfb_scope_pop(nn->b);
  return x;
}

static hfb_value *mlp(hfb_nn *nn, const hfb_call *call, const tower *t, hfb_value *x) {
  x = hfb_nn_linear(nn, "mlp.fc1", x, t->inner, true);
  x = hfb_nn_activation(nn, hfb_call_text(call, hfb_field_of(t->nested, "hidden_act").text), x);
  return hfb_nn_linear(nn, "mlp.fc2", x, t->width, true);
}

/* CLIPEncoder, whose layers are declared: norms in front. */
static hfb_value *encode(hfb_nn *nn, const hfb_call *call, const tower *t, hfb_value *x) {
  for (int64_t i = 0; i < t->layers; i++) {
    hfb_scope_push(nn->b, "encoder.layers.%d", (int)i);
    x = hfb_add(nn->b, x, attention(nn, call, t, hfb_nn_layer_norm(nn, "layer_norm1", x, t->eps)));
    x = hfb_add(nn->b, x, mlp(nn, call, t, hfb_nn_layer_norm(nn, "layer_norm2", x, t->eps)));
    hfb_scope_pop(nn->b);
  }
  return x;
}

/* ---- Texts ---- */

/* CLIPTextTransformer's parameters, under its scope. */
static void text_declare(hfb_nn *nn, const hfb_call *call, const tower *t) {
  hfb_scope_push(nn->b, "text_model");
  nn->init_std = WORD_INIT * t->factor;
  hfb_nn_embedding_weight(nn, "embeddings.token_embedding", size_in(call, t, "vocab_size"), t->width, -1);
  hfb_nn_embedding_weight(nn, "embeddings.position_embedding", size_in(call, t, "max_position_embeddings"), t->width,
                          -1);
  layers_declare(nn, t);
  hfb_nn_layer_norm_declare(nn, "final_layer_norm", t->width);
  hfb_scope_pop(nn->b);
}

/* The class adds its causal mask and the padding one by one: a key that both hide has a score of -inf. */
static hfb_value *text_mask(hfb_nn *nn, const hfb_call *call) {
  hfb_value *causal = hfb_nn_keep_bias(nn, hfb_nn_causal_keep(nn, call->length));
  hfb_value *mask = hfb_call_ids(nn, call, "attention_mask", call->batch, call->length);
  return mask == NULL ? causal : hfb_add(nn->b, causal, hfb_nn_padding_bias(nn, mask));
}

/* The token where each text ends, the first one where the end is missing. [B,D] */
static hfb_value *pool_end(hfb_nn *nn, const hfb_call *call, const tower *t, hfb_value *x) {
  hfb_builder *b = nn->b;
  int64_t eos = size_in(call, t, "eos_token_id");
  hfb_value *ids = hfb_call_arg(call, "input_ids");
  if (eos < 0) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "eos_token_id must not be null: the end of a text stands for all of it");
    return NULL;
  }
  if (eos != LEGACY_EOS) {
    ids = hfb_cast(b, hfb_binary(b, HFB_OP_EQ, ids, hfb_scalar(b, HFB_I64, (double)eos)), HFB_I64);
  }
  hfb_value *index = hfb_reshape(b, hfb_argmax(b, ids, 1, false), 3, (int64_t[]){call->batch, 1, 1});
  index = hfb_expand(b, index, 3, (int64_t[]){call->batch, 1, t->width});
  return hfb_reshape(b, hfb_take_along(b, x, index, 1), 2, (int64_t[]){call->batch, t->width});
}

/* CLIPTextTransformer, declared. */
static states encode_text(hfb_nn *nn, const hfb_call *call, tower *t) {
  static const char length_field[] = "max_position_embeddings";
  hfb_call_check_length(nn, call, "the text", call->length, hfb_field_of(t->nested, length_field).text);
  hfb_value *positions = hfb_call_positions(nn, call, "position_ids", call->length);
  if (positions == NULL) positions = hfb_nn_positions(nn, call->length, 0);
  t->mask_bias = text_mask(nn, call);
  hfb_scope_push(nn->b, "text_model");
  hfb_value *x = hfb_nn_embedding(nn, "embeddings.token_embedding", hfb_call_arg(call, "input_ids"),
                                  size_in(call, t, "vocab_size"), t->width, -1);
  x = hfb_add(
      nn->b, x,
      hfb_nn_embedding(nn, "embeddings.position_embedding", positions, size_in(call, t, length_field), t->width, -1));
  states out = {.tokens = hfb_nn_layer_norm(nn, "final_layer_norm", encode(nn, call, t, x), t->eps)};
  hfb_scope_pop(nn->b);
  out.pooled = pool_end(nn, call, t, out.tokens);
  return out;
}

/* ---- Images ---- */

/* CLIPVisionEmbeddings: the class token, then the patches. */
static hfb_value *embed_image(hfb_nn *nn, const hfb_call *call, const tower *t, const hfb_image_grid *g) {
  hfb_builder *b = nn->b;
  int64_t tokens = g->side * g->side + 1;
  double deviation = hfb_call_float(call, hfb_field_of(t->nested, "initializer_range").text) * t->factor;
  hfb_scope_push(b, "embeddings");
  hfb_value *class_token = hfb_parameter(b, "class_embedding", hfb_shape_of(1, &t->width),
                                         hfb_init_normal(t->factor / sqrt((double)t->width)));
  nn->init_std = deviation;
  hfb_value *x =
      hfb_nn_patch_convolution(nn, "patch_embedding", hfb_call_arg(call, "pixel_values"), g->patch, t->width, false);
  class_token = hfb_expand(b, class_token, 3, (int64_t[]){g->batch, 1, t->width});
  x = hfb_concat(b, 2, (hfb_value *[]){class_token, x}, 1);
  x = hfb_add(b, x, hfb_nn_embedding(nn, "position_embedding", hfb_nn_positions(nn, tokens, 0), tokens, t->width, -1));
  hfb_scope_pop(b);
  return x;
}

/* CLIPVisionTransformer; its last norm reads the class token only. */
static states encode_image(hfb_nn *nn, const hfb_call *call, const tower *t) {
  hfb_image_grid g = hfb_call_image_grid(nn, call, t->nested);
  hfb_scope_push(nn->b, "vision_model");
  hfb_value *x = hfb_nn_layer_norm(nn, "pre_layrnorm", embed_image(nn, call, t, &g), t->eps);
  layers_declare(nn, t);
  states out = {.tokens = encode(nn, call, t, x)};
  hfb_value *first = hfb_reshape(nn->b, hfb_slice(nn->b, out.tokens, 1, 0, 1), 2, (int64_t[]){g.batch, t->width});
  out.pooled = hfb_nn_layer_norm(nn, "post_layernorm", first, t->eps);
  hfb_scope_pop(nn->b);
  return out;
}

/* ---- Heads ---- */

static hfb_value *project(hfb_nn *nn, const hfb_call *call, const tower *t, const char *name, hfb_value *pooled) {
  nn->init_std = t->factor / sqrt((double)t->width);
  return hfb_nn_linear(nn, name, pooled, hfb_call_int(call, "projection_dim"), false);
}

/* x [B,D] with rows of length 1. */
static hfb_value *normalize(hfb_nn *nn, hfb_value *x) {
  hfb_value *sum = hfb_reduce(nn->b, HFB_OP_REDUCE_SUM, hfb_mul(nn->b, x, x), 1, (int[]){1}, true);
  return hfb_div(nn->b, x, hfb_unary(nn->b, HFB_OP_SQRT, sum));
}

/* The class that row i belongs to is i. */
static hfb_value *matching_loss(hfb_nn *nn, hfb_value *logits) {
  hfb_shape rows = hfb_shape_of(1, logits->shape.dim);
  return hfb_nn_cross_entropy(nn, logits, hfb_iota(nn->b, HFB_I64, rows, 0));
}

static hfb_value *contrastive_loss(hfb_nn *nn, hfb_value *per_text, hfb_value *per_image) {
  hfb_value *of_texts = matching_loss(nn, per_text), *of_images = matching_loss(nn, per_image);
  return hfb_mul_scalar(nn->b, hfb_add(nn->b, of_texts, of_images), 0.5);
}

static void output_states(hfb_nn *nn, const char *tokens_name, const char *pooled_name, const states *s) {
  hfb_output_add(nn->b, tokens_name, s->tokens);
  hfb_output_add(nn->b, pooled_name, s->pooled);
}

/* ---- Classes ---- */

/* With return_loss=True wherever the loss is defined, which pairs text i with image i: where there are as many texts as
 * images. */
static void whole_model(hfb_nn *nn, const hfb_call *call) {
  hfb_builder *b = nn->b;
  tower text = tower_of(nn, call, "text_config"), image = tower_of(nn, call, "vision_config");
  hfb_value *scale = hfb_parameter(b, "logit_scale", hfb_shape_of(0, NULL),
                                   hfb_init_constant(hfb_call_float(call, "logit_scale_init_value")));
  text_declare(nn, call, &text);
  states of_image = encode_image(nn, call, &image), of_text = encode_text(nn, call, &text);
  hfb_value *image_embeds = project(nn, call, &image, "visual_projection", of_image.pooled);
  hfb_value *text_embeds = project(nn, call, &text, "text_projection", of_text.pooled);
  image_embeds = normalize(nn, image_embeds);
  text_embeds = normalize(nn, text_embeds);
  hfb_value *cosines = hfb_matmul(b, text_embeds, image_embeds, false, true);
  hfb_value *per_text = hfb_mul(b, cosines, hfb_unary(b, HFB_OP_EXP, scale));
  hfb_value *per_image = hfb_transpose(b, per_text, (int[]){1, 0});
  if (per_image == NULL) return;
  if (per_image->shape.dim[0] == per_image->shape.dim[1]) {
    hfb_output_add(b, "loss", contrastive_loss(nn, per_text, per_image));
  }
  hfb_output_add(b, "logits_per_image", per_image);
  hfb_output_add(b, "logits_per_text", per_text);
  hfb_output_add(b, "text_embeds", text_embeds);
  hfb_output_add(b, "image_embeds", image_embeds);
  output_states(nn, "text_model_output.last_hidden_state", "text_model_output.pooler_output", &of_text);
  output_states(nn, "vision_model_output.last_hidden_state", "vision_model_output.pooler_output", &of_image);
}

static void text_model(hfb_nn *nn, const hfb_call *call) {
  tower t = tower_of(nn, call, "");
  text_declare(nn, call, &t);
  states s = encode_text(nn, call, &t);
  output_states(nn, "last_hidden_state", "pooler_output", &s);
}

static void projected_text_model(hfb_nn *nn, const hfb_call *call) {
  tower t = tower_of(nn, call, "");
  text_declare(nn, call, &t);
  states s = encode_text(nn, call, &t);
  hfb_output_add(nn->b, "text_embeds", project(nn, call, &t, "text_projection", s.pooled));
  hfb_output_add(nn->b, "last_hidden_state", s.tokens);
}

static void vision_model(hfb_nn *nn, const hfb_call *call) {
  tower t = tower_of(nn, call, "");
  states s = encode_image(nn, call, &t);
  output_states(nn, "last_hidden_state", "pooler_output", &s);
}

static void projected_vision_model(hfb_nn *nn, const hfb_call *call) {
  tower t = tower_of(nn, call, "");
  states s = encode_image(nn, call, &t);
  hfb_output_add(nn->b, "image_embeds", project(nn, call, &t, "visual_projection", s.pooled));
  hfb_output_add(nn->b, "last_hidden_state", s.tokens);
}

#define TEXT_INPUTS "input_ids attention_mask position_ids"
#define REFUSED     "output_attentions output_hidden_states"
#define BUFFERS     " *.position_ids"

static const hfb_class_row classes[] = {
    {"CLIPModel", whole_model, "input_ids pixel_values attention_mask position_ids", REFUSED " return_loss", "",
     BUFFERS},
};
static const hfb_class_row text_classes[] = {
    {"CLIPTextModel", text_model, TEXT_INPUTS, REFUSED, "", PROJECTIONS " vision_model.*" BUFFERS},
    {"CLIPTextModelWithProjection", projected_text_model, TEXT_INPUTS, REFUSED, "",
     PROJECTIONS " vision_model.*" BUFFERS},
};
static const hfb_class_row image_classes[] = {
    {"CLIPVisionModel", vision_model, "pixel_values", REFUSED, "", PROJECTIONS " text_model.*" BUFFERS},
    {"CLIPVisionModelWithProjection", projected_vision_model, "pixel_values", REFUSED, "",
     PROJECTIONS " text_model.*" BUFFERS},
};

HFB_FAMILY(clip, "clip", "clip", fields, classes);
HFB_FAMILY(clip_text_model, "clip_text_model", "clip", text_fields, text_classes);
HFB_FAMILY(clip_vision_model, "clip_vision_model", "clip", image_fields, image_classes);
