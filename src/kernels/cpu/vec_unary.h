/* Elementwise float functions over arrays, for each instruction set. The accuracy is that of vec_math.h. */
#ifndef HFB_KERNELS_CPU_VEC_UNARY_H
#define HFB_KERNELS_CPU_VEC_UNARY_H

#include "base/cpu.h"

typedef enum hfb_vec_function {
  HFB_VEC_EXP,
  HFB_VEC_LOG,
  HFB_VEC_TANH,
  HFB_VEC_ERF,
  HFB_VEC_SIN,
  HFB_VEC_COS,
  HFB_VEC_SQRT,
  HFB_VEC_FLOOR,
  HFB_VEC_ROUND,
  HFB_VEC_FUNCTION_COUNT
} hfb_vec_function;

/* y[i] = function(x[i]); y may be x. One thread. isa: at most hfb_cpu()->isa. */
void hfb_vec_unary(hfb_isa isa, hfb_vec_function function, const float *x, float *y, int64_t count);

/* The instances. */
void hfb_vec_unary_generic(hfb_vec_function function, const float *x, float *y, int64_t count);
void hfb_vec_unary_avx2(hfb_vec_function function, const float *x, float *y, int64_t count);
void hfb_vec_unary_avx512(hfb_vec_function function, const float *x, float *y, int64_t count);

#endif
