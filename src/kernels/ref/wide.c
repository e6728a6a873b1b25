#include "kernels/ref/wide.h"

#include "base/memory.h"

static bool is_in_place_already(const hfb_tensor *tensor, hfb_dtype dtype) {
  return tensor->dtype == dtype && hfb_tensor_is_contiguous(tensor);
}

/* Row-major room for the elements of `tensor` in `dtype`, owned by `wide`. */
static hfb_status make_room(hfb_wide *wide, const hfb_tensor *tensor, hfb_dtype dtype, void **out_values) {
  size_t count = (size_t)hfb_shape_elements(&tensor->shape);
  HFB_TRY(hfb_mem_alloc_aligned((count > 0 ? count : 1) * hfb_dtype_bytes(dtype), 64, out_values));
  wide->owned[wide->owned_count++] = *out_values;
  return HFB_OK;
}

static hfb_status widen_input(hfb_wide *wide, const hfb_tensor *tensor, hfb_dtype dtype, hfb_pool *pool,
                              const void **out_values) {
  *out_values = tensor->data;
  if (is_in_place_already(tensor, dtype)) return HFB_OK;
  void *values;
  HFB_TRY(make_room(wide, tensor, dtype, &values));
  *out_values = values;
  hfb_tensor copy = hfb_tensor_borrow(dtype, &tensor->shape, values);
  return hfb_tensor_copy(tensor, &copy, pool);
}

static void release(hfb_wide *wide) {
  for (int i = 0; i < wide->owned_count; i++) hfb_mem_free(wide->owned[i]);
  wide->owned_count = 0;
}

static hfb_status begin(const hfb_kernel_call *call, hfb_wide *wide) {
  if (call->input_count > HFB_WIDE_MAX_INPUTS) {
    return HFB_FAIL(HFB_UNSUPPORTED, "a reference kernel with %d inputs; at most %d", call->input_count,
                    HFB_WIDE_MAX_INPUTS);
  }
  for (int i = 0; i < call->input_count; i++) {
    const hfb_tensor *input = &call->inputs[i];
    bool is_float = hfb_dtype_is_float(input->dtype);
    const void *values;
    HFB_TRY(widen_input(wide, input, is_float ? HFB_F64 : HFB_I64, call->pool, &values));
    if (is_float) wide->in[i] = values;
    else wide->index[i] = values;
  }
  for (int i = 0; i < call->result_count; i++) {
    const hfb_tensor *result = &call->results[i];
    void *values = result->data;
    if (!is_in_place_already(result, HFB_F64)) HFB_TRY(make_room(wide, result, HFB_F64, &values));
    wide->out[i] = values;
  }
  return HFB_OK;
}

hfb_status hfb_wide_begin(const hfb_kernel_call *call, hfb_wide *out_wide) {
  *out_wide = (hfb_wide){0};
  hfb_status status = begin(call, out_wide);
  if (status != HFB_OK) release(out_wide);
  return status;
}

hfb_status hfb_wide_end(const hfb_kernel_call *call, hfb_wide *wide, hfb_status status) {
  for (int i = 0; i < call->result_count && status == HFB_OK; i++) {
    const hfb_tensor *result = &call->results[i];
    if (wide->out[i] == result->data) continue;
    hfb_tensor source = hfb_tensor_borrow(HFB_F64, &result->shape, wide->out[i]);
    status = hfb_tensor_copy(&source, result, call->pool);
  }
  release(wide);
  return status;
}

hfb_axis_split hfb_axis_split_of(const hfb_shape *shape, int axis) {
  hfb_axis_split split = {.outer = 1, .length = shape->dim[axis], .inner = 1};
  for (int i = 0; i < axis; i++) split.outer *= shape->dim[i];
  for (int i = axis + 1; i < shape->rank; i++) split.inner *= shape->dim[i];
  return split;
}
