/* Movement: copies between views. Also what eager runs when strides do not allow a view. */
#include "device/convert.h"
#include "kernels/kernel_impl.h"

hfb_status hfb_k_move__ref(const hfb_kernel_call *call) {
  hfb_tensor view;
  if (hfb_view_try(call->node, &call->inputs[0], &view)) return hfb_tensor_copy(&view, &call->results[0], call->pool);
  /* Only a reshape needs a copy: it keeps the row-major order of the elements, so the result is written in the shape
   * of the input. */
  hfb_tensor target = hfb_tensor_borrow(call->results[0].dtype, &call->inputs[0].shape, call->results[0].data);
  return hfb_tensor_copy(&call->inputs[0], &target, call->pool);
}

/* The part of `tensor` that starts at `start` along `axis` and is `length` long. */
static hfb_tensor part_of(const hfb_tensor *tensor, int axis, int64_t start, int64_t length) {
  hfb_tensor part = *tensor;
  part.shape.dim[axis] = length;
  part.data = (char *)tensor->data + start * hfb_tensor_byte_stride(tensor, axis);
  return part;
}

hfb_status hfb_k_concat__ref(const hfb_kernel_call *call) {
  int axis = (int)hfb_node_int(call->node, HFB_ATTR_AXIS);
  int64_t start = 0;
  for (int i = 0; i < call->input_count; i++) {
    int64_t length = call->inputs[i].shape.dim[axis];
    hfb_tensor part = part_of(&call->results[0], axis, start, length);
    if (length > 0) HFB_TRY(hfb_tensor_copy(&call->inputs[i], &part, call->pool));
    start += length;
  }
  return HFB_OK;
}

/* Fills the result, then copies the input into its place; the border is a small part of what models pad. */
hfb_status hfb_k_pad__ref(const hfb_kernel_call *call) {
  HFB_TRY(hfb_k_full__ref(call));
  int count;
  const int64_t *before = hfb_node_ints(call->node, HFB_ATTR_STARTS, &count);
  hfb_tensor inner = call->results[0];
  for (int i = 0; i < count; i++) inner = part_of(&inner, i, before[i], call->inputs[0].shape.dim[i]);
  return hfb_tensor_copy(&call->inputs[0], &inner, call->pool);
}
