#include "device/tensor.h"

#include <stdatomic.h>

#include "base/half.h"
#include "base/memory.h"

struct hfb_buffer {
  atomic_int references;
  hfb_device *device;
  void *data;
  size_t bytes;
};

hfb_status hfb_tensor_create(hfb_device *device, hfb_dtype dtype, const hfb_shape *shape, hfb_tensor *out_tensor) {
  *out_tensor = (hfb_tensor){0};
  HFB_TRY(hfb_shape_check(shape));
  hfb_tensor tensor = hfb_tensor_borrow(dtype, shape, NULL);
  HFB_TRY(hfb_mem_alloc(1, sizeof(*tensor.buffer), &tensor.buffer));
  size_t bytes = hfb_tensor_bytes(&tensor);
  hfb_status status = hfb_device_alloc(device, bytes, &tensor.data);
  if (status != HFB_OK) {
    hfb_mem_free(tensor.buffer);
    return status;
  }
  atomic_init(&tensor.buffer->references, 1);
  tensor.buffer->device = device;
  tensor.buffer->data = tensor.data;
  tensor.buffer->bytes = bytes;
  *out_tensor = tensor;
  return HFB_OK;
}

hfb_tensor hfb_tensor_borrow(hfb_dtype dtype, const hfb_shape *shape, void *data) {
  hfb_tensor tensor = {.dtype = dtype, .shape = *shape, .data = data};
  hfb_shape_strides(shape, tensor.strides);
  return tensor;
}

hfb_tensor hfb_tensor_retain(const hfb_tensor *tensor) {
  if (tensor->buffer) atomic_fetch_add_explicit(&tensor->buffer->references, 1, memory_order_relaxed);
  return *tensor;
}

void hfb_tensor_release(hfb_tensor *tensor) {
  hfb_buffer *buffer = tensor->buffer;
  *tensor = (hfb_tensor){0};
  if (!buffer || atomic_fetch_sub_explicit(&buffer->references, 1, memory_order_acq_rel) != 1) return;
  hfb_device_free(buffer->device, buffer->data, buffer->bytes);
  hfb_mem_free(buffer);
}

int hfb_tensor_references(const hfb_tensor *tensor) {
  return tensor->buffer ? atomic_load_explicit(&tensor->buffer->references, memory_order_acquire) : 0;
}

bool hfb_tensor_is_contiguous(const hfb_tensor *tensor) {
  int64_t expected = 1;
  for (int i = tensor->shape.rank - 1; i >= 0; i--) {
    int64_t dim = tensor->shape.dim[i];
    if (dim == 0) return true;
    if (dim != 1 && tensor->strides[i] != expected) return false;
    expected *= dim;
  }
  return true;
}

size_t hfb_tensor_bytes(const hfb_tensor *tensor) {
  return (size_t)hfb_shape_elements(&tensor->shape) * hfb_dtype_bytes(tensor->dtype);
}

hfb_status hfb_tensor_check_bound(const hfb_tensor *tensor, const hfb_value *value) {
  const char *name = hfb_node_text(value->node, HFB_ATTR_NAME, "");
  if (tensor->dtype != value->dtype || !hfb_shape_equal(&tensor->shape, &value->shape)) {
    char wanted[HFB_SHAPE_TEXT_BYTES], got[HFB_SHAPE_TEXT_BYTES];
    return HFB_FAIL(HFB_MISMATCH, "%s must be %s%s, but %s%s was given", name, hfb_dtype_name(value->dtype),
                    hfb_shape_print(&value->shape, wanted, sizeof(wanted)), hfb_dtype_name(tensor->dtype),
                    hfb_shape_print(&tensor->shape, got, sizeof(got)));
  }
  if (!hfb_tensor_is_contiguous(tensor)) return HFB_FAIL(HFB_MISMATCH, "%s must be row-major; copy it first", name);
  return HFB_OK;
}

hfb_status hfb_tensor_clone(const hfb_tensor *tensor, hfb_device *device, hfb_tensor *out_copy) {
  HFB_TRY(hfb_tensor_create(device, tensor->dtype, &tensor->shape, out_copy));
  hfb_status status = hfb_tensor_copy(tensor, out_copy, hfb_device_pool(device));
  if (status != HFB_OK) hfb_tensor_release(out_copy);
  return status;
}

hfb_status hfb_tensor_pack(const hfb_tensor *tensor, hfb_device *device, hfb_tensor *out_packed) {
  if (!hfb_tensor_is_contiguous(tensor)) return hfb_tensor_clone(tensor, device, out_packed);
  *out_packed = hfb_tensor_retain(tensor);
  return HFB_OK;
}

double hfb_tensor_get(const hfb_tensor *tensor, int64_t index) {
  int64_t offset = 0;
  for (int i = tensor->shape.rank - 1; i >= 0; i--) {
    offset += index % tensor->shape.dim[i] * tensor->strides[i];
    index /= tensor->shape.dim[i];
  }
  const char *element = (const char *)tensor->data + offset * (int64_t)hfb_dtype_bytes(tensor->dtype);
  switch (tensor->dtype) {
    case HFB_F32: return *(const float *)element;
    case HFB_F64: return *(const double *)element;
    case HFB_BF16: return hfb_bf16_to_f32(*(const uint16_t *)element);
    case HFB_F16: return hfb_f16_to_f32(*(const uint16_t *)element);
    case HFB_I64: return (double)*(const int64_t *)element;
    case HFB_I32: return *(const int32_t *)element;
    case HFB_U8:
    case HFB_BOOL: return *(const uint8_t *)element;
    case HFB_DTYPE_COUNT: break;
  }
  return 0;
}
