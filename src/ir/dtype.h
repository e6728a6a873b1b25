/* Element types and shapes. */
#ifndef HFB_IR_DTYPE_H
#define HFB_IR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum hfb_dtype {
#define HFB_DTYPE(id, name, c_type, bytes, kind) HFB_##id,
#include "ir/dtype.def"
#undef HFB_DTYPE
  HFB_DTYPE_COUNT
} hfb_dtype;

const char *hfb_dtype_name(hfb_dtype dtype);
size_t hfb_dtype_bytes(hfb_dtype dtype);
bool hfb_dtype_is_float(hfb_dtype dtype);
bool hfb_dtype_is_int(hfb_dtype dtype); /* bool is neither */
/* False when no dtype has this name. */
bool hfb_dtype_parse(const char *name, hfb_dtype *out_dtype);

enum { HFB_MAX_RANK = 8 };

/* Extents of a tensor, outermost first. Rank 0 is a scalar. Extents may be 0. */
typedef struct hfb_shape {
  int rank;
  int64_t dim[HFB_MAX_RANK];
} hfb_shape;

/* hfb_shape_of(3, (int64_t[]){4, 512, 768}) */
hfb_shape hfb_shape_of(int rank, const int64_t *dims);
int64_t hfb_shape_elements(const hfb_shape *shape); /* 1 for a scalar */
bool hfb_shape_equal(const hfb_shape *a, const hfb_shape *b);
/* NumPy broadcasting of two shapes; false when they do not fit. */
bool hfb_shape_broadcast(const hfb_shape *a, const hfb_shape *b, hfb_shape *out_shape);
/* Row-major strides, in elements. */
void hfb_shape_strides(const hfb_shape *shape, int64_t out_strides[HFB_MAX_RANK]);
/* "[4,512,768]" into text (at least 160 bytes); returns text. */
char *hfb_shape_print(const hfb_shape *shape, char *text, size_t bytes);
/* HFB_INVALID_ARGUMENT for a negative extent or a rank over the limit, HFB_OUT_OF_MEMORY for more than 2^40
 * elements. */
hfb_status hfb_shape_check(const hfb_shape *shape) HFB_MUST_USE;

#define HFB_SHAPE_TEXT_BYTES 192

#endif
