/* Included by <isa>/attention.c after its vec.h, with ATTENTION_ISA the name of the table that comes out. */
#include <math.h>
#include <stdbool.h>

#include "kernels/attention_isa.h"
#include "kernels/cpu/vec_random.h"

enum { CHAINS = 4, STEP = CHAINS * VEC_F32_LANES };

static float row_max(const float *x, int64_t count) {
  vec_f32 best[CHAINS];
  HFB_UNROLL for (int j = 0; j < CHAINS; j++) best[j] = hfb_vec_set1(-INFINITY);
  int64_t i = 0;
  for (; i + STEP <= count; i += STEP) {
    HFB_UNROLL for (int j = 0; j < CHAINS; j++) {
      best[j] = hfb_vec_max(hfb_vec_load(x + i + j * VEC_F32_LANES), best[j]);
    }
  }
  for (; i + VEC_F32_LANES <= count; i += VEC_F32_LANES) best[0] = hfb_vec_max(hfb_vec_load(x + i), best[0]);
  float max = hfb_vec_hmax(hfb_vec_max(hfb_vec_max(best[0], best[1]), hfb_vec_max(best[2], best[3])));
  for (; i < count; i++) max = x[i] > max ? x[i] : max;
  return max;
}

/* Arguments are at most 0; from -104 on the result is 0. nan passes: the bound is the first operand of max. */
HFB_ALWAYS_INLINE vec_f32 exp_difference(vec_f32 x, vec_f32 max) {
  return hfb_vec_exp_bounded(hfb_vec_max(hfb_vec_set1(-104.0f), x - max));
}

/* has_keep is a constant after inlining. */
HFB_ALWAYS_INLINE float exp_rows(const bool has_keep, float *x, int64_t count, int64_t padded_count, const float *keep,
                                 float *out_max) {
  *out_max = row_max(x, count);
  const vec_f32 max = hfb_vec_set1(*out_max);
  vec_f32 sum[CHAINS];
  HFB_UNROLL for (int j = 0; j < CHAINS; j++) sum[j] = hfb_vec_zero();
  int64_t i = 0;
  for (; i + STEP <= count; i += STEP) {
    HFB_UNROLL for (int j = 0; j < CHAINS; j++) {
      const int64_t at = i + j * VEC_F32_LANES;
      vec_f32 e = exp_difference(hfb_vec_load(x + at), max);
      sum[j] = sum[j] + e;
      if (has_keep) e = e * hfb_vec_load(keep + at);
      hfb_vec_store(x + at, e);
    }
  }
  for (; i < count; i += VEC_F32_LANES) {
    const int64_t rest = count - i < VEC_F32_LANES ? count - i : VEC_F32_LANES;
    const vec_f32 e = exp_difference(hfb_vec_load_partial(x + i, rest), max);
    hfb_vec_store_partial(x + i, e, rest);
    sum[0] = sum[0] + hfb_vec_load_partial(x + i, rest); /* 0 in the lanes that do not count */
    if (has_keep) hfb_vec_store_partial(x + i, e * hfb_vec_load_partial(keep + i, rest), rest);
  }
  for (i = count; i < padded_count; i++) x[i] = 0;
  return hfb_vec_hsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static float exp_plain(float *x, int64_t count, int64_t padded_count, float *out_max) {
  return exp_rows(false, x, count, padded_count, NULL, out_max);
}

static float exp_keep(float *x, int64_t count, int64_t padded_count, const float *keep, float *out_max) {
  return exp_rows(true, x, count, padded_count, keep, out_max);
}

static void scale(float *x, int64_t count, float factor) {
  const vec_f32 f = hfb_vec_set1(factor);
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= count; i += VEC_F32_LANES) hfb_vec_store(x + i, hfb_vec_load(x + i) * f);
  if (i < count) hfb_vec_store_partial(x + i, hfb_vec_load_partial(x + i, count - i) * f, count - i);
}

/* The probabilities of one vector of scores and what becomes of the gradient; dropout scales both by `keep`. */
HFB_ALWAYS_INLINE void gradient_step(const bool has_keep, vec_f32 *score, vec_f32 *gradient, vec_f32 keep, vec_f32 lse,
                                     vec_f32 delta) {
  const vec_f32 p = hfb_vec_exp(*score - lse);
  if (has_keep) {
    *gradient = p * (*gradient * keep - delta);
    *score = p * keep;
  } else {
    *gradient = p * (*gradient - delta);
    *score = p;
  }
}

HFB_ALWAYS_INLINE void gradient_rows(const bool has_keep, const hfb_attention_gradient *row) {
  const vec_f32 lse = hfb_vec_set1(row->lse), delta = hfb_vec_set1(row->delta);
  vec_f32 keep = hfb_vec_zero();
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= row->count; i += VEC_F32_LANES) {
    vec_f32 score = hfb_vec_load(row->scores + i), gradient = hfb_vec_load(row->gradient + i);
    if (has_keep) keep = hfb_vec_load(row->keep + i);
    gradient_step(has_keep, &score, &gradient, keep, lse, delta);
    hfb_vec_store(row->scores + i, score);
    hfb_vec_store(row->gradient + i, gradient);
  }
  if (i < row->count) {
    const int64_t rest = row->count - i;
    vec_f32 score = hfb_vec_load_partial(row->scores + i, rest);
    vec_f32 gradient = hfb_vec_load_partial(row->gradient + i, rest);
    if (has_keep) keep = hfb_vec_load_partial(row->keep + i, rest);
    gradient_step(has_keep, &score, &gradient, keep, lse, delta);
    hfb_vec_store_partial(row->scores + i, score, rest);
    hfb_vec_store_partial(row->gradient + i, gradient, rest);
  }
  for (i = row->count; i < row->padded_count; i++) row->scores[i] = row->gradient[i] = 0;
}

static void gradient(const hfb_attention_gradient *row) {
  if (row->keep) {
    gradient_rows(true, row);
  } else {
    gradient_rows(false, row);
  }
}

/* Whole groups are drawn, so the factors start where `index` lies in the first. */
static const float *keep(const hfb_attention_dropout *dropout, int64_t index, int64_t count, float *buffer) {
  const vec_random random = hfb_vec_random_start(dropout->seed, dropout->step, dropout->site);
  /* word >> 8 >= threshold; the threshold is at most 2^24, which no element reaches. */
  const vec_u32 last_dropped = hfb_vec_set1_bits((dropout->threshold << 8) - 1);
  const vec_f32 factor = hfb_vec_set1(dropout->factor);
  const int64_t first = index / VEC_RANDOM_GROUP, offset = index % VEC_RANDOM_GROUP;
  for (int64_t i = 0; i < offset + count; i += VEC_RANDOM_MOST_GROUPS * VEC_RANDOM_GROUP) {
    vec_u32 words[VEC_RANDOM_MOST_GROUPS * VEC_RANDOM_VECTORS];
    hfb_vec_random_groups(&random, first + i / VEC_RANDOM_GROUP, VEC_RANDOM_MOST_GROUPS, words);
    HFB_UNROLL for (int j = 0; j < VEC_RANDOM_MOST_GROUPS * VEC_RANDOM_VECTORS; j++) {
      const vec_mask is_kept = hfb_vec_gt_bits(words[j], last_dropped);
      hfb_vec_store(buffer + i + j * VEC_F32_LANES, hfb_vec_select(is_kept, factor, hfb_vec_zero()));
    }
  }
  return buffer + offset;
}

const hfb_attention_isa ATTENTION_ISA = {
    .exp = exp_plain,
    .exp_keep = exp_keep,
    .scale = scale,
    .gradient = gradient,
    .keep = keep,
};
