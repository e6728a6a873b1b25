/* What kernel sources share: the prototypes of every row of kernels.def and small helpers over tensors. */
#ifndef HFB_KERNELS_KERNEL_IMPL_H
#define HFB_KERNELS_KERNEL_IMPL_H

#include "device/strided.h"
#include "kernels/kernel.h"

#define HFB_KERNEL(name, op, dtype, isa, in_place, reference, accepts, run) \
  hfb_status run(const hfb_kernel_call *call) HFB_MUST_USE;
#include "kernels/kernels.def"
#undef HFB_KERNEL

/* Column `accepts`: see cpu/accepts.c and cpu/contract.c. */
bool hfb_accepts_lines(const hfb_kernel_call *call);             /* the last dimension, unit stride in all inputs */
bool hfb_accepts_neighbouring_axes(const hfb_kernel_call *call); /* row-major input, reduced axes without gaps */
bool hfb_accepts_f32_values(const hfb_kernel_call *call);        /* inputs[1] is f32 */
bool hfb_accepts_f32_result(const hfb_kernel_call *call);        /* results[0] is f32 */
bool hfb_accepts_row_major(const hfb_kernel_call *call);         /* all inputs row-major without gaps */
bool hfb_accepts_take(const hfb_kernel_call *call);              /* the last dimension, unit stride, lines in pairs */
bool hfb_accepts_scatter(const hfb_kernel_call *call);           /* axis 0, or a row-major gradient */
bool hfb_accepts_matmul(const hfb_kernel_call *call);            /* no empty operand, a unit stride in each matrix */
bool hfb_accepts_linear(const hfb_kernel_call *call);
bool hfb_accepts_linear_cross_entropy(const hfb_kernel_call *call); /* bias row-major; results[1..3].data may be NULL */
bool hfb_accepts_matrices(const hfb_kernel_call *call);          /* not empty, the last dimension with unit stride */

/* The tensor with the dimensions of `axes` taken out (each seen at index 0). */
hfb_tensor hfb_tensor_without(const hfb_tensor *tensor, int axis_count, const int64_t *axes);

/* Calls `line` once for each index of `shape`, on the pool; data[i] points at that element of operand i (operands are
 * broadcast to the shape). work: elements that one call touches, to size the tasks. */
typedef void (*hfb_line_fn)(void *context, char *const *data);
void hfb_lines_run(const hfb_shape *shape, int operand_count, const hfb_tensor *const *operands, int64_t work,
                   hfb_pool *pool, hfb_line_fn line, void *context);

/* Byte stride of dimension `dim`. */
static inline int64_t hfb_tensor_byte_stride(const hfb_tensor *tensor, int dim) {
  return tensor->strides[dim] * (int64_t)hfb_dtype_bytes(tensor->dtype);
}

#endif
