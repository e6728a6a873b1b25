/* Keys and values that a gather puts side by side by blocks of rows, as in attention over windows or chosen blocks: the
 * attention kernels read the blocks where they are, and the gather is never stored. */
#ifndef HFB_COMPILE_BLOCK_GATHER_H
#define HFB_COMPILE_BLOCK_GATHER_H

#include "compile/affine.h"
#include "compile/users.h"

/* An operand [..,batch,heads,keys,d] (rank 3: no batch) of attention that is made of rows of a matrix [count,elements],
 * each of which holds `rows` of its keys. */
typedef struct hfb_block_gather {
  const hfb_node *gather;     /* of the matrix, by numbers of rows */
  int64_t rows;               /* keys in a row of the matrix */
  int64_t number_strides[2];  /* of batch and heads, in the numbers */
  int64_t head_stride, key_stride; /* within a row of the matrix */
} hfb_block_gather;

/* False when the operand is no such thing. swapped: it is [..,d,keys]. */
bool hfb_block_gather_of(const hfb_value *operand, bool swapped, hfb_block_gather *out_gather);

/* Both read the same blocks. */
bool hfb_block_gather_agree(const hfb_block_gather *keys, const hfb_block_gather *values);

/* Sets by_blocks[id of the gather's result] where only attention steps read it, keys and values by the same numbers. */
hfb_status hfb_block_gathers_find(const hfb_graph *graph, const hfb_users *users, bool *by_blocks) HFB_MUST_USE;

#endif
