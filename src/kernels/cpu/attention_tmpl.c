/* Included by <isa>/attention.c after its vec.h, with ATTENTION_EXP and ATTENTION_SCALE the names of the instances. */
#include <math.h>

#include "kernels/attention_isa.h"

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

float ATTENTION_EXP(float *x, int64_t count, int64_t padded_count) {
  const vec_f32 max = hfb_vec_set1(row_max(x, count));
  vec_f32 sum[CHAINS];
  HFB_UNROLL for (int j = 0; j < CHAINS; j++) sum[j] = hfb_vec_zero();
  int64_t i = 0;
  for (; i + STEP <= count; i += STEP) {
    HFB_UNROLL for (int j = 0; j < CHAINS; j++) {
      vec_f32 e = exp_difference(hfb_vec_load(x + i + j * VEC_F32_LANES), max);
      hfb_vec_store(x + i + j * VEC_F32_LANES, e);
      sum[j] = sum[j] + e;
    }
  }
  for (; i < count; i += VEC_F32_LANES) {
    const int64_t rest = count - i < VEC_F32_LANES ? count - i : VEC_F32_LANES;
    hfb_vec_store_partial(x + i, exp_difference(hfb_vec_load_partial(x + i, rest), max), rest);
    sum[0] = sum[0] + hfb_vec_load_partial(x + i, rest); /* 0 in the lanes that do not count */
  }
  for (i = count; i < padded_count; i++) x[i] = 0;
  return hfb_vec_hsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

void ATTENTION_SCALE(float *x, int64_t count, float factor) {
  const vec_f32 f = hfb_vec_set1(factor);
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= count; i += VEC_F32_LANES) hfb_vec_store(x + i, hfb_vec_load(x + i) * f);
  if (i < count) hfb_vec_store_partial(x + i, hfb_vec_load_partial(x + i, count - i) * f, count - i);
}
