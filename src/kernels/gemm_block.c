#include "kernels/gemm_block.h"

#include <stddef.h>

/* Panels outside, tiles inside: the panel stays in the caches while the rows pass by. */
void hfb_gemm_block_run(const hfb_gemm_block *block) {
  const hfb_gemm_isa *kernels = block->kernels;
  const int64_t element_bytes = kernels->element_bytes;
  const int64_t tile_count = hfb_gemm_strip_count(kernels, block->width, block->rows);
  const int64_t tile_rows = block->rows / tile_count, larger_tiles = block->rows % tile_count;
  const int64_t row_stride = block->a_is_transposed ? 1 : block->a_row_stride;
  const int64_t a_step_bytes = (block->a_is_packed ? block->depth : row_stride) * element_bytes;
  hfb_gemm_tile tile = {
      .k = block->depth,
      .a_row_stride = block->a_is_packed ? 1 : row_stride,
      .a_k_stride = block->a_is_transposed ? block->a_row_stride : 1,
      .c_row_stride = block->c_row_stride,
      .alpha = block->alpha,
      .accumulate = block->accumulate,
  };
  const char *b = block->b;
  for (int64_t col = 0; col < block->columns; col += block->width, b += block->b_panel_elements * element_bytes) {
    const int64_t left = block->columns - col;
    const int is_partial = block->b_partial && left < block->width;
    tile.columns = left < block->width ? left : block->width;
    tile.b = is_partial ? block->b_partial : b;
    tile.b_k_stride = !is_partial ? block->b_k_stride : block->b_partial_width ? block->b_partial_width : block->width;
    tile.bias = block->bias ? block->bias + col : NULL;
    for (int64_t t = 0, row = 0, rows; t < tile_count; t++, row += rows) {
      rows = tile_rows + (t < larger_tiles);
      const int64_t next = t + 1 < tile_count ? row + rows : 0;
      if (block->a_is_packed) tile.a_k_stride = rows;
      tile.a = (const char *)block->a + row * a_step_bytes;
      tile.next_a = (const char *)block->a + next * a_step_bytes;
      tile.c = (char *)block->c + (row * block->c_row_stride + col) * element_bytes;
      hfb_gemm_tile_run(kernels, rows, &tile);
    }
  }
}
