/* Tensors: strided views of reference-counted buffers. */
#ifndef HFB_DEVICE_TENSOR_H
#define HFB_DEVICE_TENSOR_H

#include "device/device.h"
#include "ir/graph.h"

typedef struct hfb_buffer hfb_buffer; /* reference-counted, thread-safe counts */

/* A plain value. A tensor that owns a reference (made by create or retain) is given back with hfb_tensor_release;
 * one that borrows has buffer == NULL or is documented as borrowed. */
typedef struct hfb_tensor {
  hfb_dtype dtype;
  hfb_shape shape;
  int64_t strides[HFB_MAX_RANK]; /* in elements; 0 in broadcast dimensions */
  void *data;                    /* first element */
  hfb_buffer *buffer;            /* owner of the bytes; NULL for borrowed memory */
} hfb_tensor;

/* A new row-major tensor; elements undefined. */
hfb_status hfb_tensor_create(hfb_device *device, hfb_dtype dtype, const hfb_shape *shape,
                             hfb_tensor *out_tensor) HFB_MUST_USE;
/* Row-major view of memory that the caller keeps alive. */
hfb_tensor hfb_tensor_borrow(hfb_dtype dtype, const hfb_shape *shape, void *data);
/* One more reference to the same buffer; the same tensor is returned. */
hfb_tensor hfb_tensor_retain(const hfb_tensor *tensor);
/* Drops the reference and clears the struct. A cleared or borrowed tensor is allowed. */
void hfb_tensor_release(hfb_tensor *tensor);
/* References to the buffer; 0 for borrowed memory. The owner of the only one may overwrite it in place. */
int hfb_tensor_references(const hfb_tensor *tensor);

bool hfb_tensor_is_contiguous(const hfb_tensor *tensor); /* row-major without gaps; size-1 dimensions do not matter */
size_t hfb_tensor_bytes(const hfb_tensor *tensor);       /* elements * dtype bytes */

/* HFB_MISMATCH unless the tensor has the dtype and shape of a graph's input or parameter, whose name is in the message,
 * and is row-major. Reads no element. */
hfb_status hfb_tensor_check_bound(const hfb_tensor *tensor, const hfb_value *value) HFB_MUST_USE;

/* Copies elements between tensors of equal shape, any strides, without overlap; converts between all dtypes as
 * hfb_convert_row (device/convert.h) says. Parallel on `pool` (may be NULL). */
hfb_status hfb_tensor_copy(const hfb_tensor *from, const hfb_tensor *to, hfb_pool *pool) HFB_MUST_USE;

/* A row-major copy on `device`. pack: the tensor itself, retained, when it is row-major already. Owned. */
hfb_status hfb_tensor_clone(const hfb_tensor *tensor, hfb_device *device, hfb_tensor *out_copy) HFB_MUST_USE;
hfb_status hfb_tensor_pack(const hfb_tensor *tensor, hfb_device *device, hfb_tensor *out_packed) HFB_MUST_USE;

/* Element access for tests and comparisons: element at row-major position `index`, as double. */
double hfb_tensor_get(const hfb_tensor *tensor, int64_t index);

#endif
