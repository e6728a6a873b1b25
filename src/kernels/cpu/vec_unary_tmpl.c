/* Included by <isa>/vec_unary.c after its vec.h, with VEC_UNARY the name of the instance. */
#include "kernels/cpu/vec_unary.h"

typedef vec_f32 (*vec_function)(vec_f32);

/* Inlined with a constant function, so that the loop holds the code of the function itself. */
static inline __attribute__((always_inline)) void map(vec_function function, const float *x, float *y, int64_t count) {
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= count; i += VEC_F32_LANES) hfb_vec_store(y + i, function(hfb_vec_load(x + i)));
  if (i < count) hfb_vec_store_partial(y + i, function(hfb_vec_load_partial(x + i, count - i)), count - i);
}

void VEC_UNARY(hfb_vec_function function, const float *x, float *y, int64_t count) {
  switch (function) {
    case HFB_VEC_EXP: map(hfb_vec_exp, x, y, count); break;
    case HFB_VEC_LOG: map(hfb_vec_log, x, y, count); break;
    case HFB_VEC_TANH: map(hfb_vec_tanh, x, y, count); break;
    case HFB_VEC_ERF: map(hfb_vec_erf, x, y, count); break;
    case HFB_VEC_SIN: map(hfb_vec_sin, x, y, count); break;
    case HFB_VEC_COS: map(hfb_vec_cos, x, y, count); break;
    case HFB_VEC_SQRT: map(hfb_vec_sqrt, x, y, count); break;
    case HFB_VEC_FLOOR: map(hfb_vec_floor, x, y, count); break;
    case HFB_VEC_ROUND: map(hfb_vec_round, x, y, count); break;
    case HFB_VEC_FUNCTION_COUNT: break;
  }
}
