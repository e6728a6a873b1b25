/* Tensors of [batch][heads][sequence][dim] with strides, as attention takes them. */
#ifndef HFB_TESTS_SUPPORT_STRIDED_H
#define HFB_TESTS_SUPPORT_STRIDED_H

#include <stdint.h>
#include <stdlib.h>

#include "base/rng.h"

enum { STRIDED_GUARD_ELEMENTS = 64 };

typedef struct strided {
  float *memory;
  int64_t elements; /* of memory, guards and gaps included */
  float *start;     /* of element 0 */
  int64_t strides[3];
} strided;

/* Elements are drawn from N(0, scale^2). The stream also decides on a gap after each row and whether heads are apart or
 * side by side in a row, as a projection leaves them. */
static inline strided strided_create(hfb_philox stream, int64_t batch, int64_t heads, int64_t sequence, int64_t dim,
                                     float scale) {
  const uint64_t choices = (uint64_t)1 << 40;
  const int64_t pad = 3 * hfb_philox_below(stream, choices, 2);
  strided t;
  if (hfb_philox_below(stream, choices + 1, 2) == 0) {
    t.strides[2] = dim + pad;
    t.strides[1] = sequence * t.strides[2];
    t.strides[0] = heads * t.strides[1];
  } else {
    t.strides[1] = dim;
    t.strides[2] = heads * dim + pad;
    t.strides[0] = sequence * t.strides[2];
  }
  t.elements = batch * t.strides[0] + 2 * STRIDED_GUARD_ELEMENTS;
  t.memory = malloc((size_t)t.elements * sizeof(float));
  if (!t.memory) abort();
  t.start = t.memory + STRIDED_GUARD_ELEMENTS;
  hfb_philox_normal_fill(stream, 0, (size_t)t.elements, (double)scale, t.memory);
  return t;
}

/* The same with one value everywhere. */
static inline strided strided_create_filled(hfb_philox stream, int64_t batch, int64_t heads, int64_t sequence,
                                            int64_t dim, float value) {
  strided t = strided_create(stream, batch, heads, sequence, dim, 0);
  for (int64_t i = 0; i < t.elements; i++) t.memory[i] = value;
  return t;
}

static inline void strided_destroy(strided *t) { free(t->memory); }

static inline int64_t strided_offset(const int64_t strides[3], int64_t batch, int64_t head, int64_t row) {
  return batch * strides[0] + head * strides[1] + row * strides[2];
}

#endif
