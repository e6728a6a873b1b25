/* Binds gemm_tmpl.c to the float vectors of the vec.h included before. */
#ifndef HFB_KERNELS_CPU_GEMM_F32_TYPES_H
#define HFB_KERNELS_CPU_GEMM_F32_TYPES_H

typedef float gemm_scalar;
typedef vec_f32 gemm_vec;

#define GEMM_DTYPE HFB_F32
#define GEMM_LANES ((int64_t)VEC_F32_LANES)
#define gemm_vec_zero hfb_vec_zero
#define gemm_vec_set1 hfb_vec_set1
#define gemm_vec_load hfb_vec_load
#define gemm_vec_store hfb_vec_store
#define gemm_vec_load_partial hfb_vec_load_partial
#define gemm_vec_store_partial hfb_vec_store_partial
#define gemm_vec_fma hfb_vec_fma
#define gemm_vec_hsum hfb_vec_hsum
#define gemm_vec_hsum4 hfb_vec_hsum4
#define gemm_vec_transpose hfb_vec_transpose

#endif
