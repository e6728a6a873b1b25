/* Which calls the tuned kernels take; everything else goes to the reference kernels. Data is not looked at: eager asks
 * when it compiles. */
#include "kernels/kernel_impl.h"

static bool has_unit_stride(const hfb_tensor *tensor) {
  int last = tensor->shape.rank - 1;
  return tensor->shape.dim[last] == 1 || tensor->strides[last] == 1;
}

bool hfb_accepts_lines(const hfb_kernel_call *call) {
  const hfb_attr *axis = hfb_node_attr(call->node, HFB_ATTR_AXIS);
  if (axis && axis->u.i != call->inputs[0].shape.rank - 1) return false;
  for (int i = 0; i < call->input_count; i++) {
    if (!has_unit_stride(&call->inputs[i])) return false;
  }
  return true;
}

bool hfb_accepts_neighbouring_axes(const hfb_kernel_call *call) {
  int count;
  const int64_t *axes = hfb_node_ints(call->node, HFB_ATTR_AXES, &count);
  return axes[count - 1] - axes[0] == count - 1 && hfb_tensor_is_contiguous(&call->inputs[0]);
}

/* where picks its row by the dtype of the condition, its first input. */
bool hfb_accepts_f32_values(const hfb_kernel_call *call) { return call->inputs[1].dtype == HFB_F32; }

bool hfb_accepts_f32_result(const hfb_kernel_call *call) { return call->results[0].dtype == HFB_F32; }

bool hfb_accepts_matrices(const hfb_kernel_call *call) {
  return hfb_shape_elements(&call->inputs[0].shape) > 0 && has_unit_stride(&call->inputs[0]);
}

bool hfb_accepts_row_major(const hfb_kernel_call *call) {
  for (int i = 0; i < call->input_count; i++) {
    if (!hfb_tensor_is_contiguous(&call->inputs[i])) return false;
  }
  return true;
}
