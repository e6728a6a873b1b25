/* The reference matrix product: every element of C = A * B + bias is the plain sum over k, in ascending order, of
 * products rounded one by one to double, then the bias. No fused multiply-add, no splitting of sums: the result does
 * not depend on blocking, threads or instruction set, and equals three nested loops bit for bit. Vectors run over
 * columns only. */
#ifndef HFB_KERNELS_REF_GEMM_H
#define HFB_KERNELS_REF_GEMM_H

#include "device/tensor.h"

/* The last two dimensions of a, b and c are the matrices [M,K], [K,N], [M,N], with any strides and any float dtype;
 * the dimensions of a and b before them are broadcast to those of c. bias: [N], or NULL. */
hfb_status hfb_ref_gemm(const hfb_tensor *a, const hfb_tensor *b, const hfb_tensor *bias, const hfb_tensor *c,
                        hfb_pool *pool) HFB_MUST_USE;

#endif
