/* Which random key blocks each query block of BigBird's block-sparse attention reads, as transformers draws them. */
#ifndef HFB_MODELS_BIGBIRD_BLOCKS_H
#define HFB_MODELS_BIGBIRD_BLOCKS_H

#include <stdint.h>

#include "base/status.h"

typedef struct hfb_bigbird_plan {
  int64_t heads;
  int64_t length; /* of the sequence, a multiple of block_size and more than 5 + 2 random blocks */
  int64_t block_size;
  int64_t random;     /* blocks for each query block */
  int64_t max_length; /* max_position_embeddings */
  uint32_t seed;      /* the layer's index */
} hfb_bigbird_plan;

/* Training: out[head][query block - 1][i] is a key block; the first and the last query block have none. `out` holds
 * heads * (length / block_size - 2) * random entries. In evaluation transformers takes block 0 throughout. */
hfb_status hfb_bigbird_draw_blocks(const hfb_bigbird_plan *plan, int64_t *out) HFB_MUST_USE;

#endif
