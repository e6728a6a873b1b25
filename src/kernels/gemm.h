/* Matrix products on the CPU: C = epilogue(alpha * A * B [+ C]), blocked, packed, multi-threaded.
 *
 * One driver for every instruction set; micro-kernels per ISA (cpu/<isa>/). B is packed into column panels either once
 * (hfb_gemm_pack_b, for weights that many runs share) or block by block during the product, which costs little once M
 * is several hundred rows. Any strides with one unit stride are accepted for A and B.
 * Accumulation is f32 for f32, f64 for f64. The result does not depend on the number of threads. */
#ifndef HFB_KERNELS_GEMM_H
#define HFB_KERNELS_GEMM_H

#include <stdbool.h>

#include "base/cpu.h"
#include "base/thread.h"
#include "ir/dtype.h"

/* Called on finished tiles while they are in cache: rows [row, row+rows) and columns [col, col+cols) of matrix `batch`.
 * `tile` points at C[row][col], `ldc` is its row stride. It may rewrite the tile and read anything else. Every
 * element is in exactly one tile. Called from pool threads. */
typedef void (*hfb_gemm_epilogue_fn)(const void *context, void *tile, int64_t ldc, int64_t batch, int64_t row,
                                     int64_t rows, int64_t col, int64_t cols);

typedef struct hfb_packed_b hfb_packed_b; /* opaque: K x N in panels for one ISA */

typedef struct hfb_gemm {
  hfb_dtype dtype; /* F32 or F64 */
  int64_t m, n, k;
  int64_t batch;                       /* >= 1 */
  const void *a;
  int64_t a_row_stride, a_col_stride;  /* elements */
  const void *b;                       /* NULL when packed_b is given */
  int64_t b_row_stride, b_col_stride;  /* b[k][n] */
  int b_is_bf16;                       /* 1: b holds bf16, widened while it is packed; dtype is F32 */
  const hfb_packed_b *packed_b;        /* batch must be 1 */
  void *c;
  int64_t c_row_stride;                /* unit column stride */
  /* Offsets, in elements, of matrix i of the batch: i split by batch_dims, innermost last (rank 0: batch is 1). */
  int batch_rank;
  int64_t batch_dims[6], a_batch_strides[6], b_batch_strides[6], c_batch_strides[6];
  float alpha;       /* 1 for the plain product */
  int accumulate;    /* 1: C += */
  const float *bias; /* f32[n] or NULL: added to each row before `epilogue` (f32 only) */
  hfb_gemm_epilogue_fn epilogue; /* NULL: none */
  const void *epilogue_context;
} hfb_gemm;

/* isa: micro-kernels to use, at most hfb_cpu()->isa. pool may be NULL (one thread, own scratch). */
hfb_status hfb_gemm_run(const hfb_gemm *gemm, hfb_isa isa, hfb_pool *pool) HFB_MUST_USE;

/* Packs B[k][n] for later products. Size first, then pack into memory of the caller (64-byte aligned), which must
 * outlive the header. */
size_t hfb_gemm_packed_bytes(hfb_dtype dtype, int64_t k, int64_t n, hfb_isa isa);
hfb_status hfb_gemm_pack_b(hfb_dtype dtype, int64_t k, int64_t n, const void *b, int64_t row_stride, int64_t col_stride,
                           hfb_isa isa, hfb_pool *pool, void *memory, hfb_packed_b **out_packed) HFB_MUST_USE;

/* The same within the memory of B itself, which must be row-major or column-major without gaps, have a whole panel at
 * least, and be aligned to 64 bytes: panels take the place of the columns that they hold. A last panel that has to be
 * filled up goes to `rest` (NULL where there is none). `work` is needed while it packs. Both are aligned to 64 bytes.
 * */
typedef struct hfb_gemm_in_place {
  bool is_possible;
  size_t work_bytes, rest_bytes;
} hfb_gemm_in_place;
hfb_gemm_in_place hfb_gemm_plan_in_place(hfb_dtype dtype, int64_t k, int64_t n, int64_t row_stride, int64_t col_stride,
                                         hfb_isa isa, hfb_pool *pool);
hfb_status hfb_gemm_pack_b_in_place(hfb_dtype dtype, int64_t k, int64_t n, void *b, int64_t row_stride,
                                    int64_t col_stride, hfb_isa isa, hfb_pool *pool, void *work, void *rest,
                                    hfb_packed_b **out_packed) HFB_MUST_USE;
/* Columns of B: out[i][k] of B[k][columns[i]]. Columns are clamped to what B has. */
void hfb_gemm_unpack_columns(const hfb_packed_b *packed, const int64_t *columns, int64_t count, hfb_pool *pool,
                             void *out);

/* Frees the header, not the memory. NULL is allowed. */
void hfb_gemm_packed_destroy(hfb_packed_b *packed);

#endif
