/* How a product is cut: what is packed when and by whom, the blocks, the tasks. Private to the matrix products. */
#ifndef HFB_KERNELS_GEMM_PLAN_H
#define HFB_KERNELS_GEMM_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/gemm.h"
#include "kernels/gemm_isa.h"

typedef enum hfb_gemm_b_mode {
  HFB_GEMM_B_PACKED,   /* before, by hfb_gemm_pack_b */
  HFB_GEMM_B_PACK,     /* by each task for itself, block by block */
  HFB_GEMM_B_SHARED,   /* by all threads together, a stage of K at a time, before they multiply */
  HFB_GEMM_B_IN_PLACE, /* rows read where they are; only an incomplete last vector goes through scratch memory */
  HFB_GEMM_B_DOT,      /* dot products along k */
} hfb_gemm_b_mode;

typedef enum hfb_gemm_a_mode {
  HFB_GEMM_A_IN_PLACE, /* row-major */
  HFB_GEMM_A_PACK,     /* by each task for itself, a block of rows at a time */
  HFB_GEMM_A_SHARED,   /* with the shared B; a task's rows are then one block */
} hfb_gemm_a_mode;

typedef struct hfb_gemm_plan {
  hfb_gemm_b_mode b_mode;
  hfb_gemm_a_mode a_mode;
  int64_t width;              /* columns of a panel */
  int64_t panel_count;
  int64_t tile_rows;          /* of the largest tile */
  int64_t row_block, k_block; /* rows and depth of a block of A; k_block does not depend on the threads */
  int64_t row_tasks, column_tasks;
  int64_t rows_per_task, panels_per_task;
  int64_t stage_depth;        /* B_SHARED: a multiple of k_block */
  /* Scratch: of all threads together, then of each worker: B (B_PACK, B_IN_PLACE) and behind it A (A_PACK). */
  size_t shared_b_bytes, shared_a_bytes;
  size_t worker_b_bytes, worker_a_bytes;
} hfb_gemm_plan;

void hfb_gemm_plan_make(const hfb_gemm *gemm, const hfb_gemm_isa *kernels, int threads, hfb_gemm_plan *out_plan);

#endif
