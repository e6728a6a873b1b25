/* gather, take_along, embedding: one walk over the result with the index and the table broadcast to its shape. The
 * table's stride along the indexed dimension is 0 in the walk; the row adds index * stride. */
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/kernel_impl.h"

enum { GRAIN_BYTES = 128 << 10 };

typedef struct index_job {
  int64_t extent;      /* of the indexed dimension */
  int64_t byte_stride; /* of the indexed dimension */
  int64_t width;       /* bytes of an element */
  _Atomic bool failed;
  _Atomic int64_t bad_index;
} index_job;

/* Returns false and notes the index when it is outside the table. */
static bool check_index(index_job *job, int64_t index) {
  if (index >= 0 && index < job->extent) return true;
  atomic_store(&job->bad_index, index);
  atomic_store(&job->failed, true);
  return false;
}

/* data: result, index, table. Where the index does not vary in the row, the elements of the row are together. */
static void index_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  index_job *job = context;
  if (stride[1] == 0 && stride[0] == job->width && stride[2] == job->width) {
    int64_t index = *(const int64_t *)data[1];
    if (check_index(job, index)) memcpy(data[0], data[2] + index * job->byte_stride, (size_t)(count * job->width));
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    int64_t index = *(const int64_t *)(data[1] + i * stride[1]);
    if (!check_index(job, index)) return;
    memcpy(data[0] + i * stride[0], data[2] + i * stride[2] + index * job->byte_stride, (size_t)job->width);
  }
}

static hfb_status run_indexed(const hfb_kernel_call *call, const hfb_tensor *index_view, const hfb_tensor *table_view,
                              const hfb_tensor *table, int axis) {
  const hfb_tensor *result = &call->results[0];
  index_job job = {.extent = table->shape.dim[axis],
                   .byte_stride = hfb_tensor_byte_stride(table, axis),
                   .width = (int64_t)hfb_dtype_bytes(table->dtype)};
  hfb_strided walk = hfb_strided_make(&result->shape, 3, (const hfb_tensor *const[]){result, index_view, table_view});
  hfb_strided_run(&walk, GRAIN_BYTES / job.width, call->pool, index_row, &job);
  if (!atomic_load(&job.failed)) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s: index %" PRId64 " is outside [0,%" PRId64 ")",
                  hfb_op_info_of(call->node->op)->name, atomic_load(&job.bad_index), job.extent);
}

/* The result is table[:axis] + index + table[axis+1:]; both operands are spread over it with strides of 0. */
static hfb_status gather_along(const hfb_kernel_call *call, int axis) {
  const hfb_tensor *table = &call->inputs[0], *index = &call->inputs[1];
  hfb_shape shape = call->results[0].shape;
  hfb_tensor index_view = *index, table_view = *table;
  index_view.shape = table_view.shape = shape;
  for (int d = 0; d < shape.rank; d++) {
    bool in_index = d >= axis && d < axis + index->shape.rank;
    index_view.strides[d] = in_index ? index->strides[d - axis] : 0;
    table_view.strides[d] = in_index ? 0 : table->strides[d < axis ? d : d - index->shape.rank + 1];
  }
  return run_indexed(call, &index_view, &table_view, table, axis);
}

hfb_status hfb_k_gather__ref(const hfb_kernel_call *call) {
  return gather_along(call, (int)hfb_node_int(call->node, HFB_ATTR_AXIS));
}

hfb_status hfb_k_embedding__ref(const hfb_kernel_call *call) { return gather_along(call, 0); }

hfb_status hfb_k_take_along__ref(const hfb_kernel_call *call) {
  int axis = (int)hfb_node_int(call->node, HFB_ATTR_AXIS);
  hfb_tensor table_view = call->inputs[0];
  table_view.shape = call->results[0].shape; /* the other dimensions may be shorter than the table's */
  table_view.strides[axis] = 0;
  return run_indexed(call, &call->inputs[1], &table_view, &call->inputs[0], axis);
}
