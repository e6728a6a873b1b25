/* full and iota: one value, or one line of values, seen through strides of 0 and copied. */
#include "device/convert.h"
#include "kernels/kernel_impl.h"

hfb_status hfb_k_full__ref(const hfb_kernel_call *call) {
  const hfb_tensor *result = &call->results[0];
  double value = hfb_node_float(call->node, HFB_ATTR_VALUE);
  uint64_t element = 0;
  hfb_convert_row(HFB_F64, (const char *)&value, 8, result->dtype, (char *)&element, 8, 1);
  hfb_tensor source = {.dtype = result->dtype, .shape = result->shape, .data = &element};
  return hfb_tensor_copy(&source, result, call->pool);
}

hfb_status hfb_k_iota__ref(const hfb_kernel_call *call) {
  const hfb_tensor *result = &call->results[0];
  int axis = (int)hfb_node_int(call->node, HFB_ATTR_AXIS);
  int64_t length = result->shape.dim[axis];
  hfb_scratch scratch;
  HFB_TRY(hfb_scratch_init(call->pool, (size_t)(length > 0 ? length : 1) * sizeof(int64_t), &scratch));
  int64_t *indices = hfb_scratch_of(&scratch, 0);
  for (int64_t i = 0; i < length; i++) indices[i] = i;
  hfb_tensor source = {.dtype = HFB_I64, .shape = result->shape, .data = indices};
  source.strides[axis] = 1;
  hfb_status status = hfb_tensor_copy(&source, result, call->pool);
  hfb_scratch_deinit(&scratch);
  return status;
}
