/* Losses as the HF classes compute them. Cross entropy is the two kernels that PyTorch runs. */
#include "nn/nn.h"

enum { IGNORE_INDEX = -100 };

static hfb_value *flat_cross_entropy(hfb_nn *nn, hfb_value *logits, hfb_value *labels, int64_t ignore_index) {
  if (logits == NULL || labels == NULL) return NULL;
  int64_t classes = logits->shape.dim[logits->shape.rank - 1];
  int64_t rows = hfb_shape_elements(&labels->shape);
  hfb_value *flat_logits = hfb_reshape(nn->b, logits, 2, (int64_t[]){rows, classes});
  hfb_value *flat_labels = hfb_reshape(nn->b, labels, 1, (int64_t[]){rows});
  return hfb_nll_loss(nn->b, hfb_log_softmax(nn->b, flat_logits, 1), flat_labels, ignore_index);
}

hfb_value *hfb_nn_cross_entropy(hfb_nn *nn, hfb_value *logits, hfb_value *labels) {
  return flat_cross_entropy(nn, logits, labels, IGNORE_INDEX);
}

hfb_value *hfb_nn_shifted_cross_entropy(hfb_nn *nn, hfb_value *logits, hfb_value *labels) {
  if (logits == NULL || labels == NULL) return NULL;
  int64_t length = logits->shape.dim[1];
  if (length < 2) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "a shifted language-model loss needs sequences of at least 2 tokens, got %lld", (long long)length);
    return NULL;
  }
  hfb_value *predicting = hfb_slice(nn->b, logits, 1, 0, length - 1);
  hfb_value *predicted = hfb_slice(nn->b, labels, 1, 1, length);
  return flat_cross_entropy(nn, predicting, predicted, IGNORE_INDEX);
}

static hfb_value *position_loss(hfb_nn *nn, hfb_value *logits, hfb_value *positions) {
  if (logits == NULL || positions == NULL) return NULL;
  int64_t length = logits->shape.dim[1];
  hfb_value *floor = hfb_binary(nn->b, HFB_OP_MAXIMUM, positions, hfb_scalar(nn->b, HFB_I64, 0));
  hfb_value *clamped = hfb_binary(nn->b, HFB_OP_MINIMUM, floor, hfb_scalar(nn->b, HFB_I64, (double)length));
  return flat_cross_entropy(nn, logits, clamped, length);
}

hfb_value *hfb_nn_span_loss(hfb_nn *nn, hfb_value *start_logits, hfb_value *end_logits, hfb_value *start_positions,
                            hfb_value *end_positions) {
  hfb_value *start = position_loss(nn, start_logits, start_positions);
  hfb_value *end = position_loss(nn, end_logits, end_positions);
  return hfb_mul_scalar(nn->b, hfb_add(nn->b, start, end), 0.5);
}

hfb_value *hfb_nn_ctc_loss(hfb_nn *nn, hfb_value *logits, hfb_value *lengths, hfb_value *labels, int64_t blank,
                           bool zero_infinity, bool mean) {
  hfb_builder *b = nn->b;
  if (logits == NULL || lengths == NULL || labels == NULL) return NULL;
  hfb_value *losses = hfb_ctc_loss(b, hfb_log_softmax(b, logits, -1), lengths, labels, blank, zero_infinity);
  if (!mean) return hfb_reduce(b, HFB_OP_REDUCE_SUM, losses, 1, (int[]){0}, false);
  hfb_value *counts = hfb_binary(b, HFB_OP_LE, hfb_scalar(b, HFB_I64, 0), labels);
  hfb_value *count = hfb_reduce(b, HFB_OP_REDUCE_SUM, hfb_cast(b, counts, HFB_I64), 1, (int[]){1}, false);
  count = hfb_binary(b, HFB_OP_MAXIMUM, count, hfb_scalar(b, HFB_I64, 1));
  hfb_value *shares = hfb_div(b, losses, hfb_cast(b, count, HFB_F32));
  return hfb_reduce(b, HFB_OP_REDUCE_MEAN, shares, 1, (int[]){0}, false);
}
