/* From a root of the partition to its loop. */
#ifndef HFB_COMPILE_LOWER_H
#define HFB_COMPILE_LOWER_H

#include "compile/partition.h"

typedef struct hfb_lowered {
  hfb_loop *loop;                /* in the arena; NULL when `blocked` */
  const hfb_value **slot_values; /* by slot; NULL for the tile or score slot */
  const hfb_value *blocked;      /* not NULL: this value must be stored first; sweep and lower again */
  bool blocked_tile;             /* `blocked` is a product that must not be fused */
  bool blocked_extra;            /* `blocked` must be stored by a loop of its own */
} hfb_lowered;

/* The loop that computes and stores `root`. Scores (of attention) give a SCORE loop over (batch, head, query, key),
 * roots with a tile a TILE loop over (batch, row, column), others a ROWS loop. Everything is put in `arena`. */
hfb_status hfb_lower_root(const hfb_partition *partition, const hfb_storage *storage, const hfb_value *root,
                          hfb_arena *arena, hfb_lowered *out_lowered) HFB_MUST_USE;

/* Merges neighbouring dimensions [begin, end) of a loop into one when the strides of every term and store allow. */
bool hfb_loop_merge_dims(hfb_loop *loop, int begin, int end);

#endif
