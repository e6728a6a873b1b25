#include "kernels/gemm_widen.h"

#include "base/half.h"
#include "kernels/integers.h"

/* A piece of a panel is widened into the nearest cache and packed from there, while the next part of each run of
 * elements is fetched. 16 lanes are the most. */
enum { DEPTH = 128, MOST_WIDTH = HFB_GEMM_MAX_VECTORS * 16, LINE_ELEMENTS = 64 / (int)sizeof(uint16_t) };

static void widen_run(const uint16_t *from, int64_t stride, int64_t count, float *to) {
  if (stride == 1) {
    hfb_bf16_row_to_f32(from, count, to);
    for (int64_t i = 0; i < count; i += LINE_ELEMENTS) __builtin_prefetch(from + count + i, 0, 2);
  } else {
    for (int64_t i = 0; i < count; i++) to[i] = hfb_bf16_to_f32(from[i * stride]);
  }
}

void hfb_gemm_pack_bf16(const hfb_gemm_isa *kernels, const uint16_t *b, int64_t row_stride, int64_t col_stride,
                        int64_t k, int64_t n, int64_t width, float *out) {
  _Alignas(64) float piece[DEPTH * MOST_WIDTH];
  for (int64_t n0 = 0; n0 < n; n0 += width) {
    const int64_t columns = min_i64(width, n - n0);
    for (int64_t k0 = 0; k0 < k; k0 += DEPTH) {
      const int64_t rows = min_i64(DEPTH, k - k0);
      const uint16_t *from = b + n0 * col_stride + k0 * row_stride;
      float *to = out + n0 * k + k0 * width;
      if (col_stride == 1) {
        for (int64_t i = 0; i < rows; i++) widen_run(from + i * row_stride, 1, columns, piece + i * width);
        kernels->pack_b(piece, width, 1, rows, columns, width, to);
      } else {
        for (int64_t j = 0; j < columns; j++) widen_run(from + j * col_stride, row_stride, rows, piece + j * DEPTH);
        kernels->pack_b(piece, 1, DEPTH, rows, columns, width, to);
      }
    }
  }
}
