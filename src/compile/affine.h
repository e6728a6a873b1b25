/* Index maps: where an element of a value lies, as affine functions of a loop nest's indices.
 *
 * Lowering asks "which element of this value is needed at this point of the iteration space?" and walks from results to
 * operands. Movement ops only change the map, so they cost nothing. One dimension may also be indexed by a loaded
 * integer (gather). */
#ifndef HFB_COMPILE_AFFINE_H
#define HFB_COMPILE_AFFINE_H

#include "compile/loop.h"
#include "ir/graph.h"

/* Index of one dimension of a value: offset + sum(coef[i] * loop index i) + value of term `term` (-1: none). */
typedef struct hfb_affine {
  int64_t offset;
  int64_t coef[HFB_LOOP_MAX_RANK];
  int term;
} hfb_affine;

typedef struct hfb_index_map {
  int rank; /* of the value */
  hfb_affine dim[HFB_MAX_RANK];
} hfb_index_map;

/* The iteration space that maps refer to. */
typedef struct hfb_space {
  int rank;
  int64_t extent[HFB_LOOP_MAX_RANK];
} hfb_space;

/* A constant index 0 (no term). */
hfb_affine hfb_affine_zero(void);
bool hfb_affine_equal(const hfb_affine *a, const hfb_affine *b);
bool hfb_index_map_equal(const hfb_index_map *a, const hfb_index_map *b);

/* Value dimension i is loop dimension i. */
hfb_index_map hfb_index_map_identity(int rank);

/* Map of an operand that NumPy-broadcasts to the result that `map` belongs to. */
hfb_index_map hfb_index_map_broadcast(const hfb_index_map *map, const hfb_shape *operand);

/* From the map of a movement node's result to the map of its input; false when it is not affine (a reshape that splits
 * an index) or the node is no RESHAPE, TRANSPOSE, SLICE, EXPAND, UNFOLD. */
bool hfb_index_map_through(const hfb_node *node, const hfb_space *space, const hfb_index_map *map,
                           hfb_index_map *out_map);

/* The same for a reshape given by its two shapes. */
bool hfb_index_map_reshape(const hfb_shape *input, const hfb_shape *result, const hfb_space *space,
                           const hfb_index_map *map, hfb_index_map *out_map);

/* Where the elements of a value lie in the storage of another one: a strided view. */
typedef struct hfb_view {
  const hfb_value *base; /* owns the storage */
  int64_t offset;        /* elements */
  int64_t strides[HFB_MAX_RANK];
} hfb_view;

/* One movement step on a view: from the input's view to the result's. `shape` is the input's. False when a copy is
 * needed. */
bool hfb_view_through(const hfb_node *node, const hfb_view *input_view, hfb_view *out_view);

#endif
