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

/* Also of the backward op, whose result has the shape of the table. */
bool hfb_accepts_take(const hfb_kernel_call *call) {
  const hfb_shape *index = &call->inputs[1].shape;
  bool is_backward = call->node->op == HFB_OP_TAKE_ALONG_BACKWARD;
  const hfb_shape *table = is_backward ? &call->results[0].shape : &call->inputs[0].shape;
  int last = index->rank - 1;
  if (hfb_node_int(call->node, HFB_ATTR_AXIS) != last) return false;
  for (int d = 0; d < last && is_backward; d++) {
    if (index->dim[d] != table->dim[d]) return false; /* lines that get nothing would need zeros */
  }
  return has_unit_stride(&call->inputs[0]) && has_unit_stride(&call->inputs[1]);
}

bool hfb_accepts_scatter(const hfb_kernel_call *call) {
  return hfb_node_int(call->node, HFB_ATTR_AXIS) == 0 || hfb_tensor_is_contiguous(&call->inputs[0]);
}
