/* Attention without the S x S matrix: out = dropout(softmax(modify(scale * Q K^T))) V.
 *
 * Works on blocks of query rows: the scores of one block against all keys live in the scratch memory of a worker,
 * from the product until they are multiplied with V. f32. */
#ifndef HFB_KERNELS_ATTENTION_H
#define HFB_KERNELS_ATTENTION_H

#include "base/cpu.h"
#include "base/thread.h"

/* Changes the scores of query rows [row, row+rows), keys [col, col+cols) of (batch, head) before the softmax: masks,
 * position biases, further scaling. `scores` points at the first, ld is the row stride in elements. */
typedef void (*hfb_score_fn)(const void *context, float *scores, int64_t ld, int64_t batch, int64_t head, int64_t row,
                             int64_t rows, int64_t col, int64_t cols);

/* lse = max + log(sum) of a row whose largest score is m is off by up to |m| * 2^-24. From this |lse| on that shows in
 * exp(scores - lse), and where a finite mask hides a whole row (scores of -3.4e38) nothing is left of the logarithm. So
 * gradients take the probabilities of such rows from their scores alone: exp(scores - max) / sum. */
enum { HFB_ATTENTION_LSE_LIMIT = 1024 };

/* Keys and values that lie in blocks of `rows` keys: those of (batch, head) are the blocks with the numbers from
 * numbers + batch * strides[0] + head * strides[1] on, key_count / rows of them. Element strides of k and v are then of
 * block, head and sequence. Numbers are clamped to [0, count). numbers NULL: no blocks. */
typedef struct hfb_attention_blocks {
  const int64_t *numbers;
  int64_t strides[2];
  int64_t rows, count;
} hfb_attention_blocks;

typedef struct hfb_attention {
  int64_t batch, heads, query_count, key_count, head_dim, value_dim;
  /* Element strides of batch, head, sequence; the last dimension has unit stride. */
  const float *q, *k, *v;
  float *out;
  int64_t q_strides[3], k_strides[3], v_strides[3], out_strides[3];
  hfb_attention_blocks blocks;
  float scale;
  /* 1: key j takes part in query i only when j <= i + (key_count - query_count); skipped blocks cost nothing. */
  int causal;
  hfb_score_fn modify; /* NULL: none; called after scale, before the causal mask */
  const void *modify_context;
  float *lse; /* NULL: not wanted; row-major [batch,heads,query]: log of the sum of exp of a row's scores */
  /* Each probability becomes 0 or is divided by 1 - p, see hfb_random_keeps: the index of an element is the row-major
   * one in [batch,heads,query,key]. random_state: {seed, step}; p 0: no dropout. */
  double dropout_p;
  int64_t dropout_site;
  const int64_t *random_state;
} hfb_attention;

/* A row whose scores are all -inf yields nan, as in the frameworks; its lse is -inf or nan. */
hfb_status hfb_attention_run(const hfb_attention *attention, hfb_isa isa, hfb_pool *pool) HFB_MUST_USE;

#endif
