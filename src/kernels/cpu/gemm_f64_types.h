/* Binds gemm_tmpl.c to the double vectors of the vec_f64.h included before. */
#ifndef HFB_KERNELS_CPU_GEMM_F64_TYPES_H
#define HFB_KERNELS_CPU_GEMM_F64_TYPES_H

typedef double gemm_scalar;
typedef vec_f64 gemm_vec;

#define GEMM_DTYPE HFB_F64
#define GEMM_LANES ((int64_t)VEC_F64_LANES)
#define gemm_vec_zero hfb_vec_f64_zero
#define gemm_vec_set1 hfb_vec_f64_set1
#define gemm_vec_load hfb_vec_f64_load
#define gemm_vec_store hfb_vec_f64_store
#define gemm_vec_load_partial hfb_vec_f64_load_partial
#define gemm_vec_store_partial hfb_vec_f64_store_partial
#define gemm_vec_fma hfb_vec_f64_fma
#define gemm_vec_hsum hfb_vec_f64_hsum
#define gemm_vec_hsum4 hfb_vec_f64_hsum4
#define gemm_vec_transpose hfb_vec_f64_transpose

#endif
