/* The loss of a language model's head and its gradients without the matrix of tokens x vocabulary:
 *
 *   logits = x W^T + bias
 *   loss   = mean over the rows whose target is not ignore_index of  log sum exp(logits) - logits[target]
 *
 * Works on chunks of rows: the logits of a chunk become the gradients of the logits in place and are used up before the
 * next chunk. f32; the result does not depend on the number of threads. */
#ifndef HFB_KERNELS_LINEAR_CROSS_ENTROPY_H
#define HFB_KERNELS_LINEAR_CROSS_ENTROPY_H

#include <stdbool.h>

#include "base/cpu.h"
#include "base/thread.h"

typedef struct hfb_linear_cross_entropy {
  int64_t rows, classes, features;
  const float *x; /* [rows][features], any strides (elements) */
  int64_t x_row_stride, x_col_stride;
  const float *weight; /* [classes][features], any strides */
  int64_t weight_row_stride, weight_col_stride;
  const float *bias; /* [classes], or NULL: 0 */
  const int64_t *target;
  int64_t target_stride;
  int64_t ignore_index;
  float g; /* gradient of the loss: a factor of the gradients below */
  float *loss;
  float *x_gradient;      /* row-major [rows][features]; NULL: not wanted */
  float *weight_gradient; /* row-major [classes][features]; NULL: not wanted */
  float *bias_gradient;   /* [classes], also without a bias; NULL: not wanted */
} hfb_linear_cross_entropy;

/* Logits of a chunk and what belongs to them: taken from the host during a call, since the products take the pool's
 * scratch, and noted there. */
size_t hfb_linear_cross_entropy_bytes(int64_t rows, int64_t classes, bool has_bias_gradient);

/* A row of ignore_index adds nothing; when all rows are ignored the loss is nan and the gradients are 0. A target
 * outside [0,classes) is HFB_INVALID_ARGUMENT. pool may be NULL. */
hfb_status hfb_linear_cross_entropy_run(const hfb_linear_cross_entropy *call, hfb_isa isa, hfb_pool *pool) HFB_MUST_USE;

#endif
