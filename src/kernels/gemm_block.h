/* One block of a product: a few rows of A, kept near L1, times the panels of a block of B. Private to the matrix
 * products and attention. */
#ifndef HFB_KERNELS_GEMM_BLOCK_H
#define HFB_KERNELS_GEMM_BLOCK_H

#include "kernels/gemm_isa.h"

typedef struct hfb_gemm_block {
  const hfb_gemm_isa *kernels;
  int64_t rows, columns, depth;
  const void *a;
  int64_t a_row_stride;      /* of row-major A, unit stride along k; ignored when a_is_packed */
  int a_is_transposed;       /* unit stride along the rows, a_row_stride from one k to the next */
  int a_is_packed;           /* a is what hfb_gemm_isa.pack_a makes of hfb_gemm_strip_count strips */
  int64_t width;             /* columns of a panel of B */
  const void *b;             /* first panel */
  int64_t b_panel_elements;  /* from one panel to the next */
  int64_t b_k_stride;        /* from one k to the next */
  const void *b_partial;     /* NULL, or where the last, incomplete panel is, packed */
  int64_t b_partial_width;   /* columns of it, whole vectors; 0: width */
  void *c;
  int64_t c_row_stride;
  const float *bias;         /* NULL, or one for each column (f32) */
  float alpha;
  int accumulate;
} hfb_gemm_block;

void hfb_gemm_block_run(const hfb_gemm_block *block);

/* Rows of the largest tile of a panel of `width` columns. */
static inline int64_t hfb_gemm_tile_rows(const hfb_gemm_isa *kernels, int64_t width) {
  return kernels->max_rows[width / kernels->lanes];
}

/* Rows are dealt out evenly to this many tiles; the first ones take one more when it does not work out. */
static inline int64_t hfb_gemm_strip_count(const hfb_gemm_isa *kernels, int64_t width, int64_t rows) {
  const int64_t tile_rows = hfb_gemm_tile_rows(kernels, width);
  return (rows + tile_rows - 1) / tile_rows;
}

#endif
