/* B stored as bf16, packed as f32: a weight that is half as large in memory and never there in f32. Private to the
 * matrix products. */
#ifndef HFB_KERNELS_GEMM_WIDEN_H
#define HFB_KERNELS_GEMM_WIDEN_H

#include "kernels/gemm_isa.h"

/* As hfb_gemm_isa.pack_b of the same kernels (of f32) makes of B after widening it, bit for bit. */
void hfb_gemm_pack_bf16(const hfb_gemm_isa *kernels, const uint16_t *b, int64_t row_stride, int64_t col_stride,
                        int64_t k, int64_t n, int64_t width, float *out);

#endif
