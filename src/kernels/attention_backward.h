/* The gradients of attention (attention.h) by q, k and v, without the S x S matrices: the probabilities are computed
 * again, block by block, from the log-sum-exp of each row that the forward left.
 *
 * With P = exp(scores - lse), normalised again where |lse| >= HFB_ATTENTION_LSE_LIMIT, scores = modify(scale * q k^T),
 * and the mask of dropout drawn again:
 *   d = gradient_scale * modify_gradient(P * (dropout(g v^T) - delta))    the gradient of q k^T
 *   dq = d k    dk = d^T q    dv = dropout(P)^T g
 * f32. The results do not depend on the number of threads. */
#ifndef HFB_KERNELS_ATTENTION_BACKWARD_H
#define HFB_KERNELS_ATTENTION_BACKWARD_H

#include "kernels/attention.h"

typedef struct hfb_attention_backward {
  int64_t batch, heads, query_count, key_count, head_dim, value_dim;
  const float *q, *k, *v;
  const float *g; /* gradient of out */
  /* Element strides of batch, head, sequence; the last dimension has unit stride. */
  int64_t q_strides[3], k_strides[3], v_strides[3], g_strides[3];
  hfb_attention_blocks blocks; /* as in the forward; dk and dv are of the keys read, block after block */
  const float *lse, *delta; /* row-major [batch,heads,query]; delta: sum of g * out over the last dimension */
  float *dq, *dk, *dv;      /* NULL: not wanted; all of them is written */
  int64_t dq_strides[3], dk_strides[3], dv_strides[3];
  float scale;
  int causal; /* as in the forward */
  hfb_score_fn modify;
  const void *modify_context;
  float gradient_scale;
  hfb_score_fn modify_gradient; /* NULL: none; must be linear: it is also given the zeros beyond the causal mask */
  const void *modify_gradient_context;
  double dropout_p; /* as in the forward */
  int64_t dropout_site;
  const int64_t *random_state;
} hfb_attention_backward;

/* A row that a finite mask hides as a whole has equal probabilities, as the softmax of its scores; a block of queries
 * with such a row costs its product q k^T once more. A row whose scores are all -inf has nan for probabilities, and so
 * in its dq, in dk and in dv of its head, as in the frameworks. A row that no key is left for by `causal` adds nothing,
 * and its dq is 0. */
hfb_status hfb_attention_backward_run(const hfb_attention_backward *backward, hfb_isa isa,
                                      hfb_pool *pool) HFB_MUST_USE;

#endif
