/* What one instruction set gives the blocking driver of gemm.c: micro-kernels, packing and tile sizes, for one element
 * type. Private to the matrix products and attention. */
#ifndef HFB_KERNELS_GEMM_ISA_H
#define HFB_KERNELS_GEMM_ISA_H

#include <stdint.h>

#include "base/cpu.h"
#include "ir/dtype.h"

enum {
  HFB_GEMM_MAX_VECTORS = 4, /* columns of a tile, in vectors */
  HFB_GEMM_MAX_ROWS = 14,
};

/* One tile of C: `rows` x `columns` with the whole of one K block. */
typedef struct hfb_gemm_tile {
  int64_t k;
  const void *a;
  int64_t a_row_stride, a_k_stride; /* elements */
  const void *b;
  int64_t b_k_stride; /* from one k to the next; whole vectors are read from each */
  void *c;
  int64_t c_row_stride;
  int64_t columns;    /* of C that exist; the rest of the last vector is not stored */
  const void *next_a; /* the A that the next tile reads, same strides: fetched into L1 meanwhile */
  const void *bias;   /* NULL or one element for each column */
  float alpha;
  int accumulate;
} hfb_gemm_tile;

typedef void (*hfb_gemm_tile_fn)(const hfb_gemm_tile *tile);

/* B[k][n] into panels of `width` columns: out[panel][k][width], the last panel filled up with zeros. */
typedef void (*hfb_gemm_pack_b_fn)(const void *b, int64_t row_stride, int64_t col_stride, int64_t k, int64_t n,
                                   int64_t width, void *out);

/* A[rows][k] into strips out[strip][k][rows of the strip]; the first rows % strips strips have one row more than the
 * others. */
typedef void (*hfb_gemm_pack_a_fn)(const void *a, int64_t row_stride, int64_t col_stride, int64_t rows, int64_t strips,
                                   int64_t k, void *out);

/* C for a few rows or a few columns, both factors contiguous along k: A[m][k] row by row, B[n][k] likewise. */
typedef struct hfb_gemm_dot {
  int64_t m, n, k;
  const void *a;
  int64_t a_row_stride;
  const void *b;
  int64_t b_col_stride;
  void *c;
  int64_t c_row_stride;
  const void *bias; /* NULL or n elements */
  float alpha;
  int accumulate;
} hfb_gemm_dot;

typedef void (*hfb_gemm_dot_fn)(const hfb_gemm_dot *dot);

typedef struct hfb_gemm_isa {
  hfb_dtype dtype;
  int element_bytes;
  int lanes;
  int max_rows[HFB_GEMM_MAX_VECTORS + 1];   /* by vectors; the tile whose accumulators fill the registers; 0: none */
  float row_cost[HFB_GEMM_MAX_VECTORS + 1]; /* cycles for one row and one k, by vectors: ranks the panel widths */
  int64_t k_block;                          /* depth that keeps a tile of A in L1 and a panel of B near it */
  hfb_gemm_tile_fn tile[HFB_GEMM_MAX_VECTORS + 1][HFB_GEMM_MAX_ROWS + 1];
  hfb_gemm_pack_b_fn pack_b;
  hfb_gemm_pack_a_fn pack_a;
  hfb_gemm_dot_fn dot;
} hfb_gemm_isa;

extern const hfb_gemm_isa hfb_gemm_f32_generic, hfb_gemm_f64_generic;
extern const hfb_gemm_isa hfb_gemm_f32_avx2, hfb_gemm_f64_avx2;
extern const hfb_gemm_isa hfb_gemm_f32_avx512, hfb_gemm_f64_avx512;

/* The best of these within `isa`. NULL for a dtype other than F32 and F64. */
const hfb_gemm_isa *hfb_gemm_isa_select(hfb_dtype dtype, hfb_isa isa);

/* The panel width, in columns, that wastes least for n columns. */
int64_t hfb_gemm_panel_width(const hfb_gemm_isa *kernels, int64_t n);

/* The tile's kernel for the row and column counts, run. */
static inline void hfb_gemm_tile_run(const hfb_gemm_isa *kernels, int64_t rows, const hfb_gemm_tile *tile) {
  int64_t vectors = (tile->columns + kernels->lanes - 1) / kernels->lanes;
  kernels->tile[vectors][rows](tile);
}

#endif
