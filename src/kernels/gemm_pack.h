/* The layout behind hfb_packed_b: memory[panel][k][width], the last panel filled up with zeros; where it is incomplete,
 * it may be narrower and lie elsewhere. Private to the matrix products. */
#ifndef HFB_KERNELS_GEMM_PACK_H
#define HFB_KERNELS_GEMM_PACK_H

#include "kernels/gemm_isa.h"

enum { HFB_GEMM_ALIGNMENT = 64 };

struct hfb_packed_b {
  const hfb_gemm_isa *kernels;
  int64_t k, n;
  int64_t width; /* columns of a panel */
  void *memory;  /* borrowed */
  void *rest;    /* the last, incomplete panel, borrowed; NULL: it follows the others and is like them */
  int64_t rest_width; /* its columns, in whole vectors; 0 without it */
};

#endif
