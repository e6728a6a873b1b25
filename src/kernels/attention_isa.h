/* The passes over rows of scores for each instruction set, and dropout of the probabilities. Private to attention
 * and to linear_cross_entropy, whose rows are rows of scores too. */
#ifndef HFB_KERNELS_ATTENTION_ISA_H
#define HFB_KERNELS_ATTENTION_ISA_H

#include <stdint.h>

#include "base/cpu.h"
#include "base/status.h"

enum { HFB_ATTENTION_KEEP_PAD = 192 }; /* elements of a buffer of factors besides those asked for */

typedef struct hfb_attention_dropout {
  int64_t seed, step, site;
  uint32_t threshold; /* 0: no dropout */
  float factor;       /* of elements that are kept: 1 / (1 - p) */
} hfb_attention_dropout;

/* One row of the gradient of the scores. */
typedef struct hfb_attention_gradient {
  float *scores;     /* becomes dropout(P), P = exp(scores - lse) */
  float *gradient;   /* g v^T; becomes P * (dropout(g v^T) - delta) */
  const float *keep; /* NULL: no dropout; or the factors */
  int64_t count;     /* keys the row looks at; from there to padded_count both become 0 */
  int64_t padded_count;
  float lse, delta;
} hfb_attention_gradient;

typedef struct hfb_attention_isa {
  /* x[i] = exp(x[i] - max x) for i < count, 0 for count <= i < padded_count; returns the sum, and the maximum. nan and
   * a row that is all -inf (or empty) give nan or 0, so that 1 / sum * row is nan in both cases. */
  float (*exp)(float *x, int64_t count, int64_t padded_count, float *out_max);
  /* The same, then x[i] *= keep[i], which the sum does not see. */
  float (*exp_keep)(float *x, int64_t count, int64_t padded_count, const float *keep, float *out_max);
  /* x[i] *= factor. */
  void (*scale)(float *x, int64_t count, float factor);
  void (*gradient)(const hfb_attention_gradient *row);
  /* Factors, 0 or dropout->factor, of the elements from `index` on; they lie somewhere in buffer, which has room for
   * count + HFB_ATTENTION_KEEP_PAD. */
  const float *(*keep)(const hfb_attention_dropout *dropout, int64_t index, int64_t count, float *buffer);
} hfb_attention_isa;

extern const hfb_attention_isa hfb_attention_generic, hfb_attention_avx2, hfb_attention_avx512;

/* The best of these within `isa`. */
const hfb_attention_isa *hfb_attention_isa_select(hfb_isa isa);

/* p in [0,1); random_state {seed, step} may be NULL when p is 0. */
hfb_status hfb_attention_dropout_init(double p, int64_t site, const int64_t *random_state,
                                      hfb_attention_dropout *out_dropout) HFB_MUST_USE;

#endif
