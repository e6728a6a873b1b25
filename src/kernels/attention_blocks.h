/* Reading keys and values that lie in blocks. Private to attention and its gradients. */
#ifndef HFB_KERNELS_ATTENTION_BLOCKS_H
#define HFB_KERNELS_ATTENTION_BLOCKS_H

#include <string.h>

#include "kernels/attention.h"
#include "kernels/integers.h"

/* The rows [key, key + keys) of k or v of (batch, head), `columns` wide, one after the other. */
static inline void hfb_attention_read_blocks(const hfb_attention_blocks *blocks, int64_t batch, int64_t head,
                                             const float *x, const int64_t strides[3], int64_t key, int64_t keys,
                                             int64_t columns, float *out) {
  const int64_t *numbers = blocks->numbers + batch * blocks->strides[0] + head * blocks->strides[1];
  for (int64_t i = 0; i < keys; i++) {
    const int64_t number = max_i64(0, min_i64(numbers[(key + i) / blocks->rows], blocks->count - 1));
    const float *row = x + number * strides[0] + head * strides[1] + (key + i) % blocks->rows * strides[2];
    memcpy(out + i * columns, row, (size_t)columns * sizeof(float));
  }
}

/* HFB_INVALID_ARGUMENT unless the keys are whole blocks. */
hfb_status hfb_attention_blocks_check(const hfb_attention_blocks *blocks, int64_t key_count) HFB_MUST_USE;

#endif
