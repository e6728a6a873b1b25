/* LXMERT (Tan and Bansal, 2019): a BERT for language, one for regions of an image, and layers that cross both. */
#include <stdio.h>

#include "models/bert_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "30522", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "768", NULL},
    {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},
    {"num_qa_labels", HFB_FIELD_SIZE, "9500", NULL},
    {"num_object_labels", HFB_FIELD_SIZE, "1600", NULL},
    {"num_attr_labels", HFB_FIELD_SIZE, "400", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "3072", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"attention_probs_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "2", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"l_layers", HFB_FIELD_COUNT, "9", NULL},
    {"x_layers", HFB_FIELD_COUNT, "5", NULL},
    {"r_layers", HFB_FIELD_COUNT, "5", NULL},
    {"visual_feat_dim", HFB_FIELD_SIZE, "2048", NULL},
    {"visual_pos_dim", HFB_FIELD_SIZE, "4", NULL},
    {"visual_loss_normalizer", HFB_FIELD_POSITIVE, "6.67", NULL},
    {"task_matched", HFB_FIELD_BOOL, "true", NULL},
    {"task_mask_lm", HFB_FIELD_BOOL, "true", NULL},
    {"task_obj_predict", HFB_FIELD_BOOL, "true", NULL},
    {"task_qa", HFB_FIELD_BOOL, "true", NULL},
    {"visual_obj_loss", HFB_FIELD_BOOL, "true", NULL},
    {"visual_attr_loss", HFB_FIELD_BOOL, "true", NULL},
    {"visual_feat_loss", HFB_FIELD_BOOL, "true", NULL},
};

#define NORM_EPS 1e-12 /* the classes do not read layer_norm_eps */
#define NO_ROW   0     /* padding_idx of all tables: row 0 has no gradient */

/* What is predicted about a region. */
static const struct {
  const char *name;   /* in obj_labels and decoder_dict */
  const char *enable; /* fields */
  const char *classes;
} visual_tasks[] = {
    {"obj", "visual_obj_loss", "num_object_labels"},
    {"attr", "visual_attr_loss", "num_attr_labels"},
    {"feat", "visual_feat_loss", "visual_feat_dim"}, /* a vector, not a class */
};
enum { VISUAL_TASKS = 3, FEATURES = 2 };

/* One of the two streams. */
typedef struct stream {
  hfb_value *x;         /* [B,S,D] or [B,R,D] */
  hfb_value *mask_bias; /* NULL: none */
} stream;

typedef struct states {
  hfb_value *language, *vision; /* [B,S,D], [B,R,D] */
  hfb_value *pooled;            /* [B,D] */
  hfb_value *words;             /* the word table */
} states;

/* ---- Arguments ---- */

/* f32 [B,R,width]; regions < 0: any number. */
static hfb_value *region_argument(hfb_nn *nn, const hfb_call *call, const char *name, int64_t regions, int64_t width) {
  hfb_value *value = hfb_call_arg(call, name);
  if (value == NULL) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%s needs the argument '%s'", call->request->class_name, name);
    return NULL;
  }
  const int64_t *dim = value->shape.dim;
  bool fits = value->dtype == HFB_F32 && value->shape.rank == 3 && dim[0] == call->batch && dim[2] == width &&
              dim[1] >= 1 && (regions < 0 || dim[1] == regions);
  if (fits) return value;
  char shape[HFB_SHAPE_TEXT_BYTES], count[24] = "regions";
  if (regions >= 0) snprintf(count, sizeof count, "%lld", (long long)regions);
  hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument '%s' is %s%s; it must be f32[%lld,%s,%lld]", name,
                   hfb_dtype_name(value->dtype), hfb_shape_print(&value->shape, shape, sizeof shape),
                   (long long)call->batch, count, (long long)width);
  return NULL;
}

static bool is_given(const hfb_call *call, const char *name) {
  return hfb_call_arg(call, name) != NULL;
}

/* ---- Embeddings ---- */

static hfb_value *embed_language(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "hidden_size"), vocab = hfb_call_int(call, "vocab_size");
  int64_t positions = hfb_call_int(call, "max_position_embeddings"), types = hfb_call_int(call, "type_vocab_size");
  hfb_call_check_length(nn, call, "the input", call->length, "max_position_embeddings");
  hfb_scope_push(nn->b, "embeddings");
  hfb_value *x = hfb_nn_embedding(nn, "word_embeddings", hfb_call_arg(call, "input_ids"), vocab, width, NO_ROW);
  hfb_value *counted = hfb_nn_positions(nn, call->length, 0);
  x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "position_embeddings", counted, positions, width, NO_ROW));
  hfb_value *type_ids = hfb_bert_token_types(nn, call);
  x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "token_type_embeddings", type_ids, types, width, NO_ROW));
  x = hfb_nn_layer_norm(nn, "LayerNorm", x, NORM_EPS);
  hfb_scope_pop(nn->b);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

/* LxmertVisualFeatureEncoder: the mean of what a region shows and where it is. */
static hfb_value *embed_regions(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "hidden_size");
  hfb_value *shown = region_argument(nn, call, "visual_feats", -1, hfb_call_int(call, "visual_feat_dim"));
  if (shown == NULL) return NULL;
  hfb_value *box = region_argument(nn, call, "visual_pos", shown->shape.dim[1], hfb_call_int(call, "visual_pos_dim"));
  hfb_scope_push(nn->b, "encoder.visn_fc");
  hfb_value *x = hfb_nn_layer_norm(nn, "visn_layer_norm", hfb_nn_linear(nn, "visn_fc", shown, width, true), NORM_EPS);
  hfb_value *y = hfb_nn_layer_norm(nn, "box_layer_norm", hfb_nn_linear(nn, "box_fc", box, width, true), NORM_EPS);
  hfb_scope_pop(nn->b);
  x = hfb_mul_scalar(nn->b, hfb_add(nn->b, x, y), 0.5);
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "hidden_dropout_prob"));
}

/* ---- Layers ---- */

static void attention_declare(hfb_nn *nn, const hfb_call *call, const char *name, const char *inner) {
  static const char *const projections[] = {"query", "key", "value"};
  int64_t width = hfb_call_int(call, "hidden_size");
  hfb_scope_push(nn->b, "%s", name);
  hfb_scope_push(nn->b, "%s", inner);
  for (int i = 0; i < 3; i++) hfb_nn_linear_declare(nn, projections[i], width, width, true);
  hfb_scope_pop(nn->b);
  hfb_nn_linear_declare(nn, "output.dense", width, width, true);
  hfb_nn_layer_norm_declare(nn, "output.LayerNorm", width);
  hfb_scope_pop(nn->b);
}

/* The crossing layers are registered in front of those of the regions, and run behind them. */
static void cross_layers_declare(hfb_nn *nn, const hfb_call *call) {
  static const char *const dense[] = {"lang_inter.dense", "visn_inter.dense", "lang_output.dense", "visn_output.dense"};
  static const char *const norms[] = {"lang_output.LayerNorm", "visn_output.LayerNorm"};
  int64_t width = hfb_call_int(call, "hidden_size"), inner = hfb_call_int(call, "intermediate_size");
  for (int64_t i = 0; i < hfb_call_int(call, "x_layers"); i++) {
    hfb_scope_push(nn->b, "encoder.x_layers.%d", (int)i);
    attention_declare(nn, call, "visual_attention", "att");
    attention_declare(nn, call, "lang_self_att", "self");
    attention_declare(nn, call, "visn_self_att", "self");
    for (int side = 0; side < 2; side++) {
      hfb_nn_linear_declare(nn, dense[side], width, inner, true);
      hfb_nn_linear_declare(nn, dense[2 + side], inner, width, true);
      hfb_nn_layer_norm_declare(nn, norms[side], width);
    }
    hfb_scope_pop(nn->b);
  }
}

/* Attention of x to `source` with its output, under `name`. */
static hfb_value *attend(hfb_nn *nn, const hfb_call *call, const char *name, const char *inner, hfb_value *x,
                         const stream *source) {
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *context = hfb_bert_attention(nn, call, inner, x, source->x, source->mask_bias);
  hfb_value *out = hfb_bert_output(nn, call, context, x);
  hfb_scope_pop(nn->b);
  return out;
}

/* LxmertXLayer: the same cross-attention both ways, from what both streams were before it. */
static void cross_layer(hfb_nn *nn, const hfb_call *call, stream *language, stream *vision) {
  hfb_value *to_vision = attend(nn, call, "visual_attention", "att", language->x, vision);
  vision->x = attend(nn, call, "visual_attention", "att", vision->x, language);
  language->x = to_vision;
  language->x = attend(nn, call, "lang_self_att", "self", language->x, language);
  vision->x = attend(nn, call, "visn_self_att", "self", vision->x, vision);
  hfb_value *of_language = hfb_bert_intermediate(nn, call, "lang_inter", language->x);
  hfb_value *of_vision = hfb_bert_intermediate(nn, call, "visn_inter", vision->x);
  language->x = hfb_bert_output_as(nn, call, "lang_output", of_language, language->x);
  vision->x = hfb_bert_output_as(nn, call, "visn_output", of_vision, vision->x);
}

static void own_layers(hfb_nn *nn, const hfb_call *call, const char *name, int64_t count, stream *s) {
  for (int64_t i = 0; i < count; i++) {
    hfb_scope_push(nn->b, "encoder.%s.%d", name, (int)i);
    s->x = hfb_bert_layer(nn, call, s->x, s->mask_bias);
    hfb_scope_pop(nn->b);
  }
}

static hfb_value *region_mask(hfb_nn *nn, const hfb_call *call, const hfb_value *regions) {
  if (regions == NULL) return NULL;
  hfb_value *mask = hfb_call_ids(nn, call, "visual_attention_mask", call->batch, regions->shape.dim[1]);
  return mask == NULL ? NULL : hfb_nn_padding_bias(nn, mask);
}

/* LxmertModel under the caller's scope. */
static states model(hfb_nn *nn, const hfb_call *call) {
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_call_check_heads(nn, call, "hidden_size", "num_attention_heads");
  stream language = {.x = embed_language(nn, call)}, vision = {.x = embed_regions(nn, call)};
  language.mask_bias = hfb_bert_mask_bias(nn, call);
  vision.mask_bias = region_mask(nn, call, vision.x);
  own_layers(nn, call, "layer", hfb_call_int(call, "l_layers"), &language);
  cross_layers_declare(nn, call);
  own_layers(nn, call, "r_layers", hfb_call_int(call, "r_layers"), &vision);
  for (int64_t i = 0; i < hfb_call_int(call, "x_layers"); i++) {
    hfb_scope_push(nn->b, "encoder.x_layers.%d", (int)i);
    cross_layer(nn, call, &language, &vision);
    hfb_scope_pop(nn->b);
  }
  states s = {.language = language.x, .vision = vision.x, .pooled = hfb_bert_pool(nn, call, language.x)};
  s.words = hfb_nn_embedding_weight(nn, "embeddings.word_embeddings", hfb_call_int(call, "vocab_size"),
                                    hfb_call_int(call, "hidden_size"), NO_ROW);
  return s;
}

/* The same under "lxmert". */
static states inner_model(hfb_nn *nn, const hfb_call *call) {
  hfb_scope_push(nn->b, "lxmert");
  states s = model(nn, call);
  hfb_scope_pop(nn->b);
  return s;
}

/* ---- Heads ---- */

/* LxmertLMPredictionHead, always tied. */
static hfb_value *word_logits(hfb_nn *nn, const hfb_call *call, const states *s) {
  int64_t vocab = hfb_call_int(call, "vocab_size");
  hfb_scope_push(nn->b, "cls.predictions");
  hfb_value *bias = hfb_parameter(nn->b, "bias", hfb_shape_of(1, &vocab), hfb_init_constant(0));
  hfb_value *x = hfb_bert_transform(nn, call, s->language, hfb_call_int(call, "hidden_size"));
  hfb_scope_pop(nn->b);
  return hfb_add(nn->b, hfb_linear_op(nn->b, x, s->words, NULL, true), bias);
}

/* LxmertVisualAnswerHead: [B,num_qa_labels]. */
static hfb_value *answer_logits(hfb_nn *nn, const hfb_call *call, hfb_value *pooled) {
  hfb_scope_push(nn->b, "answer_head");
  hfb_value *x = hfb_nn_linear(nn, "logit_fc.0", pooled, 2 * hfb_call_int(call, "hidden_size"), true);
  x = hfb_nn_layer_norm(nn, "logit_fc.2", hfb_nn_activation(nn, "gelu", x), NORM_EPS);
  x = hfb_nn_linear(nn, "logit_fc.3", x, hfb_call_int(call, "num_qa_labels"), true);
  hfb_scope_pop(nn->b);
  return x;
}

static void visual_heads_declare(hfb_nn *nn, const hfb_call *call) {
  int64_t width = hfb_call_int(call, "hidden_size");
  hfb_scope_push(nn->b, "obj_predict_head");
  hfb_nn_linear_declare(nn, "transform.dense", width, width, true);
  hfb_nn_layer_norm_declare(nn, "transform.LayerNorm", width);
  hfb_scope_push(nn->b, "decoder_dict");
  for (int i = 0; i < VISUAL_TASKS; i++) {
    if (!hfb_call_bool(call, visual_tasks[i].enable)) continue;
    hfb_nn_linear_declare(nn, visual_tasks[i].name, width, hfb_call_int(call, visual_tasks[i].classes), true);
  }
  hfb_scope_pop(nn->b);
  hfb_scope_pop(nn->b);
}

/* ---- Losses ---- */

/* Cross entropy of each row: logits [N,C], labels i64 [N]; 0 where the label is -100. */
static hfb_value *row_cross_entropy(hfb_nn *nn, hfb_value *logits, hfb_value *labels) {
  hfb_builder *b = nn->b;
  if (logits == NULL || labels == NULL) return NULL;
  int64_t rows = logits->shape.dim[0];
  hfb_value *counts = hfb_binary(b, HFB_OP_NE, labels, hfb_scalar(b, HFB_I64, -100));
  hfb_value *index = hfb_where(b, counts, labels, hfb_scalar(b, HFB_I64, 0));
  index = hfb_reshape(b, index, 2, (int64_t[]){rows, 1});
  hfb_value *picked = hfb_take_along(b, hfb_log_softmax(b, logits, 1), index, 1);
  hfb_value *loss = hfb_unary(b, HFB_OP_NEG, hfb_reshape(b, picked, 1, &rows));
  return hfb_where(b, counts, loss, hfb_scalar(b, HFB_F32, 0));
}

/* The mean over the features of SmoothL1Loss: x and target [N,F]. */
static hfb_value *row_smooth_l1(hfb_nn *nn, hfb_value *x, hfb_value *target) {
  hfb_builder *b = nn->b;
  hfb_value *difference = hfb_sub(b, x, target), *distance = hfb_unary(b, HFB_OP_ABS, difference);
  hfb_value *near = hfb_mul_scalar(b, hfb_mul(b, difference, difference), 0.5);
  hfb_value *is_near = hfb_binary(b, HFB_OP_LT, distance, hfb_scalar(b, HFB_F32, 1));
  hfb_value *loss = hfb_where(b, is_near, near, hfb_add_scalar(b, distance, -0.5));
  return hfb_reduce(b, HFB_OP_REDUCE_MEAN, loss, 1, (int[]){1}, false);
}

/* obj_labels[name][index]: `dtype` of [B,R] or, with width > 0, of [B,R,width]. Flat: [B*R] or [B*R,width]. */
static hfb_value *visual_label(hfb_nn *nn, const hfb_call *call, const char *name, int index, hfb_dtype dtype,
                               int64_t regions, int64_t width) {
  char full[64], shape[HFB_SHAPE_TEXT_BYTES];
  snprintf(full, sizeof full, "obj_labels/%s/%d", name, index);
  hfb_value *value = hfb_call_arg(call, full);
  hfb_shape expected = hfb_shape_of(width > 0 ? 3 : 2, (int64_t[]){call->batch, regions, width});
  if (value == NULL) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "obj_labels needs '%s' too: the configuration asks for this loss",
                     full);
    return NULL;
  }
  if (value->dtype != dtype || !hfb_shape_equal(&value->shape, &expected)) {
    char wanted[HFB_SHAPE_TEXT_BYTES];
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument '%s' is %s%s; it must be %s%s", full,
                     hfb_dtype_name(value->dtype), hfb_shape_print(&value->shape, shape, sizeof shape),
                     hfb_dtype_name(dtype), hfb_shape_print(&expected, wanted, sizeof wanted));
    return NULL;
  }
  return hfb_reshape(nn->b, value, width > 0 ? 2 : 1, (int64_t[]){call->batch * regions, width});
}

/* The loss of one task, weighted by how sure each label is. x [B,R,D] */
static hfb_value *visual_loss(hfb_nn *nn, const hfb_call *call, int task, hfb_value *x) {
  hfb_builder *b = nn->b;
  const char *name = visual_tasks[task].name;
  int64_t classes = hfb_call_int(call, visual_tasks[task].classes), regions = x->shape.dim[1];
  bool vector = task == FEATURES;
  hfb_value *labels = visual_label(nn, call, name, 0, vector ? HFB_F32 : HFB_I64, regions, vector ? classes : 0);
  hfb_value *confidence = visual_label(nn, call, name, 1, HFB_F32, regions, 0);
  hfb_scope_push(b, "decoder_dict");
  hfb_value *scores = hfb_nn_linear(nn, name, x, classes, true);
  hfb_scope_pop(b);
  scores = hfb_reshape(b, scores, 2, (int64_t[]){call->batch * regions, classes});
  hfb_value *loss = vector ? row_smooth_l1(nn, scores, labels) : row_cross_entropy(nn, scores, labels);
  loss = hfb_reduce(b, HFB_OP_REDUCE_MEAN, hfb_mul(b, loss, confidence), 1, (int[]){0}, false);
  return hfb_mul_scalar(b, loss, hfb_call_float(call, "visual_loss_normalizer"));
}

static bool has_object_labels(const hfb_call *call) {
  for (int i = 0; i < VISUAL_TASKS; i++) {
    for (int j = 0; j < 2; j++) {
      char full[64];
      snprintf(full, sizeof full, "obj_labels/%s/%d", visual_tasks[i].name, j);
      if (is_given(call, full)) return true;
    }
  }
  return false;
}

/* LxmertVisualObjHead and the losses of what it predicts, added to `total`. */
static hfb_value *add_visual_losses(hfb_nn *nn, const hfb_call *call, hfb_value *vision, hfb_value *total) {
  hfb_value *sum = hfb_scalar(nn->b, HFB_F32, 0);
  hfb_scope_push(nn->b, "obj_predict_head");
  hfb_value *x = hfb_bert_transform(nn, call, vision, hfb_call_int(call, "hidden_size"));
  for (int i = 0; x != NULL && i < VISUAL_TASKS; i++) {
    if (hfb_call_bool(call, visual_tasks[i].enable)) sum = hfb_add(nn->b, sum, visual_loss(nn, call, i, x));
  }
  hfb_scope_pop(nn->b);
  return hfb_add(nn->b, total, sum);
}

typedef struct scores {
  hfb_value *words, *relation;
  hfb_value *answers; /* NULL without task_qa */
} scores;

/* The sum of the losses whose labels are given and whose task is on; NULL without any labels. */
static hfb_value *pretraining_loss(hfb_nn *nn, const hfb_call *call, const states *s, const scores *given) {
  hfb_builder *b = nn->b;
  bool has_objects = has_object_labels(call);
  if (!is_given(call, "labels") && !is_given(call, "matched_label") && !is_given(call, "ans") && !has_objects) {
    return NULL;
  }
  hfb_value *total = hfb_scalar(b, HFB_F32, 0);
  hfb_value *words = hfb_call_ids(nn, call, "labels", call->batch, call->length);
  hfb_value *matched = hfb_head_row_labels(nn, call, "matched_label", call->batch);
  hfb_value *answers = hfb_head_row_labels(nn, call, "ans", call->batch);
  if (words != NULL && hfb_call_bool(call, "task_mask_lm")) {
    total = hfb_add(b, total, hfb_nn_cross_entropy(nn, given->words, words));
  }
  if (matched != NULL && hfb_call_bool(call, "task_matched")) {
    total = hfb_add(b, total, hfb_nn_cross_entropy(nn, given->relation, matched));
  }
  if (has_objects && hfb_call_bool(call, "task_obj_predict")) total = add_visual_losses(nn, call, s->vision, total);
  if (answers != NULL && given->answers != NULL) {
    total = hfb_add(b, total, hfb_nn_cross_entropy(nn, given->answers, answers));
  }
  return total;
}

/* ---- Classes ---- */

static void bare_model(hfb_nn *nn, const hfb_call *call) {
  states s = model(nn, call);
  hfb_output_add(nn->b, "language_output", s.language);
  hfb_output_add(nn->b, "vision_output", s.vision);
  hfb_output_add(nn->b, "pooled_output", s.pooled);
}

/* Without task_qa the class gives the first number of the pooled token as its answer. */
static hfb_value *no_answer(hfb_nn *nn, hfb_value *pooled) {
  hfb_value *first = hfb_slice(nn->b, hfb_slice(nn->b, pooled, 0, 0, 1), 1, 0, 1);
  return hfb_reshape(nn->b, first, 0, NULL);
}

static void pretraining(hfb_nn *nn, const hfb_call *call) {
  states s = inner_model(nn, call);
  scores given = {.words = word_logits(nn, call, &s)};
  given.relation = hfb_nn_linear(nn, "cls.seq_relationship", s.pooled, 2, true);
  if (hfb_call_bool(call, "task_obj_predict")) visual_heads_declare(nn, call);
  if (hfb_call_bool(call, "task_qa")) given.answers = answer_logits(nn, call, s.pooled);
  hfb_value *loss = pretraining_loss(nn, call, &s, &given);
  if (loss != NULL) hfb_output_add(nn->b, "loss", loss);
  hfb_output_add(nn->b, "prediction_logits", given.words);
  hfb_output_add(nn->b, "cross_relationship_score", given.relation);
  hfb_output_add(nn->b, "question_answering_score", given.answers != NULL ? given.answers : no_answer(nn, s.pooled));
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  states s = inner_model(nn, call);
  hfb_value *answers = answer_logits(nn, call, s.pooled);
  hfb_value *labels = hfb_head_row_labels(nn, call, "labels", call->batch);
  if (labels != NULL) hfb_output_add(nn->b, "loss", hfb_nn_cross_entropy(nn, answers, labels));
  hfb_output_add(nn->b, "question_answering_score", answers);
}

#define INPUTS "input_ids visual_feats visual_pos attention_mask visual_attention_mask token_type_ids"
#define OBJECTS                                                                               \
  " obj_labels/obj/0 obj_labels/obj/1 obj_labels/attr/0 obj_labels/attr/1 obj_labels/feat/0 " \
  "obj_labels/feat/1"
#define REFUSED "inputs_embeds output_attentions output_hidden_states"
#define IGNORED "cls.* obj_predict_head.* answer_head.*"

static const hfb_class_row classes[] = {
    {"LxmertModel", bare_model, INPUTS, REFUSED, "", IGNORED},
    {"LxmertForPreTraining", pretraining, INPUTS " labels matched_label ans" OBJECTS, REFUSED,
     "cls.predictions.decoder.weight=lxmert.embeddings.word_embeddings.weight", "obj_predict_head.* answer_head.*"},
    {"LxmertForQuestionAnswering", question_answering, INPUTS " labels", REFUSED, "", "cls.* obj_predict_head.*"},
};

HFB_FAMILY(lxmert, "lxmert", "lxmert", fields, classes);
