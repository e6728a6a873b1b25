/* Walking over the elements of several strided tensors together, and splitting work over the pool.
 *
 * Elementwise kernels, copies and the outer loops of reductions all stand on this: dimensions that one stride can
 * describe are merged first, so the innermost row is as long as the tensors allow. */
#ifndef HFB_DEVICE_STRIDED_H
#define HFB_DEVICE_STRIDED_H

#include "device/tensor.h"

enum { HFB_STRIDED_MAX_OPERANDS = 4 };

typedef struct hfb_strided {
  int operand_count;
  int rank;           /* after merging; at least 1 */
  int64_t dim[HFB_MAX_RANK];
  int64_t stride[HFB_STRIDED_MAX_OPERANDS][HFB_MAX_RANK]; /* bytes */
  char *data[HFB_STRIDED_MAX_OPERANDS];
  int64_t count;      /* elements */
} hfb_strided;

/* Operand 0 has the shape itself and decides the order of the walk (its largest stride outermost, so its memory is
 * visited in order); the others are broadcast to the shape, NumPy fashion. The tensors are only read for their
 * geometry and may be temporaries. */
hfb_strided hfb_strided_make(const hfb_shape *shape, int operand_count, const hfb_tensor *const *operands);

/* `count` elements of one row: operand i starts at data[i] and steps by stride[i] bytes. */
typedef void (*hfb_strided_row_fn)(void *context, char *const *data, const int64_t *stride, int64_t count);

/* Calls `row` until every element was covered exactly once; rows may be parts of the innermost dimension. */
void hfb_strided_walk(const hfb_strided *walk, hfb_strided_row_fn row, void *context);

/* The same on the pool (NULL: sequential). grain: elements that are worth a task of their own. */
void hfb_strided_run(const hfb_strided *walk, int64_t grain, hfb_pool *pool, hfb_strided_row_fn row, void *context);

/* Splits [0,count) into ranges of `grain` (the last is shorter), each one task. */
typedef void (*hfb_range_fn)(void *context, int64_t begin, int64_t end, int worker);
void hfb_range_run(int64_t count, int64_t grain, hfb_pool *pool, hfb_range_fn task, void *context);

#endif
