/* Heads that families share: the last layer, its loss and the outputs in HF's order. */
#include <stdio.h>
#include <string.h>

#include "models/family.h"

void hfb_head_token_logits(hfb_nn *nn, const hfb_call *call, hfb_value *logits, bool shifted) {
  if (logits == NULL) return;
  hfb_value *labels = hfb_call_ids(nn, call, "labels", logits->shape.dim[0], logits->shape.dim[1]);
  if (labels != NULL) {
    hfb_value *loss =
        shifted ? hfb_nn_shifted_cross_entropy(nn, logits, labels) : hfb_nn_cross_entropy(nn, logits, labels);
    hfb_output_add(nn->b, "loss", loss);
  }
  hfb_output_add(nn->b, "logits", logits);
}

hfb_value *hfb_head_row_labels(hfb_nn *nn, const hfb_call *call, const char *name, int64_t rows) {
  hfb_value *labels = hfb_call_arg(call, name);
  if (labels == NULL) return NULL;
  bool fits = labels->dtype == HFB_I64 && hfb_shape_elements(&labels->shape) == rows &&
              (labels->shape.rank == 1 || (labels->shape.rank == 2 && labels->shape.dim[1] == 1));
  if (!fits) {
    char shape[HFB_SHAPE_TEXT_BYTES];
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument '%s' is %s%s; it must be i64[%lld]", name,
                     hfb_dtype_name(labels->dtype), hfb_shape_print(&labels->shape, shape, sizeof shape),
                     (long long)rows);
  }
  return labels;
}

/* logits[:, :, which] as [B,S]. */
static hfb_value *span_logits(hfb_nn *nn, const hfb_call *call, hfb_value *logits, int64_t which) {
  return hfb_reshape(nn->b, hfb_slice(nn->b, logits, 2, which, which + 1), 2, (int64_t[]){call->batch, call->length});
}

void hfb_head_question_answering(hfb_nn *nn, const hfb_call *call, hfb_value *hidden) {
  if (hfb_call_int(call, "num_labels") != 2) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "question answering needs num_labels (or id2label) of 2, not %lld",
                     (long long)hfb_call_int(call, "num_labels"));
    return;
  }
  hfb_head_spans(nn, call, hfb_nn_linear(nn, "qa_outputs", hidden, 2, true));
}

void hfb_head_spans(hfb_nn *nn, const hfb_call *call, hfb_value *logits) {
  hfb_value *start_logits = span_logits(nn, call, logits, 0);
  hfb_value *end_logits = span_logits(nn, call, logits, 1);
  hfb_value *start = hfb_head_row_labels(nn, call, "start_positions", call->batch);
  hfb_value *end = hfb_head_row_labels(nn, call, "end_positions", call->batch);
  if (start != NULL && end != NULL) {
    hfb_output_add(nn->b, "loss", hfb_nn_span_loss(nn, start_logits, end_logits, start, end));
  }
  hfb_output_add(nn->b, "start_logits", start_logits);
  hfb_output_add(nn->b, "end_logits", end_logits);
}

typedef enum problem { REGRESSION, SINGLE_LABEL, MULTI_LABEL } problem;

/* The classes settle an open problem_type by the number of labels and the labels' dtype. */
static problem problem_of(const hfb_call *call, const hfb_value *labels, int64_t classes) {
  const char *type = hfb_call_text(call, "problem_type");
  if (type == NULL) return classes == 1 ? REGRESSION : hfb_dtype_is_float(labels->dtype) ? MULTI_LABEL : SINGLE_LABEL;
  return strcmp(type, "regression") == 0                    ? REGRESSION
         : strcmp(type, "single_label_classification") == 0 ? SINGLE_LABEL
                                                            : MULTI_LABEL;
}

hfb_value *hfb_head_classification_loss(hfb_nn *nn, const hfb_call *call, hfb_value *logits) {
  hfb_value *labels = hfb_call_arg(call, "labels");
  if (labels == NULL || logits == NULL) return NULL;
  int64_t batch = logits->shape.dim[0], classes = logits->shape.dim[1];
  problem kind = problem_of(call, labels, classes);
  int64_t expected = kind == SINGLE_LABEL ? batch : batch * classes;
  bool fits = hfb_shape_elements(&labels->shape) == expected && labels->shape.rank <= 2 &&
              (kind == REGRESSION || hfb_dtype_is_float(labels->dtype) == (kind == MULTI_LABEL));
  if (!fits) {
    char shape[HFB_SHAPE_TEXT_BYTES];
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument 'labels' is %s%s; %s needs %s[%lld%s%lld]",
                     hfb_dtype_name(labels->dtype), hfb_shape_print(&labels->shape, shape, sizeof shape),
                     kind == REGRESSION     ? "regression"
                     : kind == SINGLE_LABEL ? "single_label_classification"
                                            : "multi_label_classification",
                     kind == SINGLE_LABEL ? "i64" : "f32", (long long)batch, kind == SINGLE_LABEL ? "] or [" : ",",
                     (long long)(kind == SINGLE_LABEL ? batch : classes));
    return NULL;
  }
  if (kind == SINGLE_LABEL) return hfb_nn_cross_entropy(nn, logits, labels);
  hfb_value *target = hfb_reshape(nn->b, hfb_cast(nn->b, labels, HFB_F32), 2, (int64_t[]){batch, classes});
  return hfb_pair_loss(nn->b, kind == REGRESSION ? HFB_OP_MSE_LOSS : HFB_OP_BCE_WITH_LOGITS, logits, target);
}

void hfb_head_classification(hfb_nn *nn, const hfb_call *call, hfb_value *logits) {
  hfb_value *loss = hfb_head_classification_loss(nn, call, logits);
  if (loss != NULL) hfb_output_add(nn->b, "loss", loss);
  hfb_output_add(nn->b, "logits", logits);
}

/* Logits of the token before the first padding id, of the last token when a row has none (or starts with it). */
static hfb_value *pool_last_token(hfb_nn *nn, const hfb_call *call, hfb_value *logits) {
  hfb_builder *b = nn->b;
  int64_t pad = hfb_call_int(call, "pad_token_id"), classes = hfb_call_int(call, "num_labels");
  if (pad < 0) {
    if (call->batch != 1) {
      hfb_builder_fail(b, HFB_INVALID_ARGUMENT,
                       "batch %lld needs a pad_token_id in the configuration: without it only batch 1 is defined",
                       (long long)call->batch);
    }
    hfb_value *last = hfb_slice(b, logits, 1, call->length - 1, call->length);
    return hfb_reshape(b, last, 2, (int64_t[]){call->batch, classes});
  }
  hfb_value *ids = hfb_call_arg(call, "input_ids");
  hfb_value *padded = hfb_cast(b, hfb_binary(b, HFB_OP_EQ, ids, hfb_scalar(b, HFB_I64, (double)pad)), HFB_I64);
  hfb_value *before = hfb_add_scalar(b, hfb_argmax(b, padded, 1, false), -1);
  hfb_value *is_negative = hfb_binary(b, HFB_OP_LT, before, hfb_scalar(b, HFB_I64, 0));
  hfb_value *token = hfb_where(b, is_negative, hfb_add_scalar(b, before, (double)call->length), before);
  hfb_value *index = hfb_reshape(b, token, 3, (int64_t[]){call->batch, 1, 1});
  index = hfb_expand(b, index, 3, (int64_t[]){call->batch, 1, classes});
  return hfb_reshape(b, hfb_take_along(b, logits, index, 1), 2, (int64_t[]){call->batch, classes});
}

void hfb_head_last_token_classification(hfb_nn *nn, const hfb_call *call, hfb_value *hidden) {
  if (hidden == NULL) return;
  int64_t dims[] = {hfb_call_int(call, "num_labels"), hidden->shape.dim[2]};
  hfb_value *weight = hfb_parameter(nn->b, "score.weight", hfb_shape_of(2, dims), hfb_init_normal(nn->init_std));
  hfb_value *logits = hfb_linear_op(nn->b, hidden, weight, NULL, true);
  hfb_head_classification(nn, call, pool_last_token(nn, call, logits));
}

void hfb_head_token_classification(hfb_nn *nn, const hfb_call *call, hfb_value *hidden, double dropout) {
  hfb_value *dropped = hfb_nn_dropout(nn, hidden, dropout);
  hfb_head_token_logits(nn, call, hfb_nn_linear(nn, "classifier", dropped, hfb_call_int(call, "num_labels"), true),
                        false);
}

void hfb_head_next_sentence(hfb_nn *nn, const hfb_call *call, hfb_value *logits) {
  hfb_value *labels = hfb_head_row_labels(nn, call, "labels", call->batch);
  if (labels != NULL) hfb_output_add(nn->b, "loss", hfb_nn_cross_entropy(nn, logits, labels));
  hfb_output_add(nn->b, "logits", logits);
}

void hfb_head_pretraining(hfb_nn *nn, const hfb_call *call, const hfb_pretraining *heads) {
  hfb_value *tokens = hfb_call_ids(nn, call, "labels", call->batch, call->length);
  hfb_value *relations = hfb_head_row_labels(nn, call, heads->relation_label, call->batch);
  if (tokens != NULL && (relations != NULL || heads->relation_optional)) {
    hfb_value *loss = hfb_nn_cross_entropy(nn, heads->predictions, tokens);
    if (relations != NULL) loss = hfb_add(nn->b, loss, hfb_nn_cross_entropy(nn, heads->relation, relations));
    hfb_output_add(nn->b, "loss", loss);
  }
  hfb_output_add(nn->b, "prediction_logits", heads->predictions);
  hfb_output_add(nn->b, heads->relation_output, heads->relation);
}

void hfb_head_multiple_choice(hfb_nn *nn, const hfb_call *call, hfb_value *pooled, double dropout) {
  int64_t batch = call->batch / call->choices;
  hfb_value *scores = hfb_nn_linear(nn, "classifier", hfb_nn_dropout(nn, pooled, dropout), 1, true);
  hfb_value *logits = hfb_reshape(nn->b, scores, 2, (int64_t[]){batch, call->choices});
  hfb_value *labels = hfb_head_row_labels(nn, call, "labels", batch);
  if (labels != NULL) hfb_output_add(nn->b, "loss", hfb_nn_cross_entropy(nn, logits, labels));
  hfb_output_add(nn->b, "logits", logits);
}

void hfb_head_cache(hfb_nn *nn, int layer, int count, hfb_value *const *values) {
  for (int i = 0; i < count; i++) {
    char name[64];
    snprintf(name, sizeof name, "past_key_values/%d/%d", layer, i);
    hfb_output_add(nn->b, name, values[i]);
  }
}

hfb_value *hfb_head_output_weight(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *embedding) {
  if (embedding == NULL || hfb_call_bool(call, "tie_word_embeddings")) return embedding;
  return hfb_parameter(nn->b, name, embedding->shape, hfb_init_normal(nn->init_std));
}
