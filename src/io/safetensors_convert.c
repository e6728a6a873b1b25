#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/half.h"
#include "io/safetensors.h"

enum { BLOCK_ELEMENTS = 512 };

/* Elements of a file may have any alignment. */
static float load_f32(const unsigned char *bytes) {
  float value;
  memcpy(&value, bytes, sizeof(value));
  return value;
}

static int32_t load_i32(const unsigned char *bytes) {
  int32_t value;
  memcpy(&value, bytes, sizeof(value));
  return value;
}

static uint16_t load_u16(const unsigned char *bytes) {
  uint16_t value;
  memcpy(&value, bytes, sizeof(value));
  return value;
}

static void load_floats(hfb_storage storage, const unsigned char *bytes, int count, double *out) {
  switch (storage) {
    case HFB_STORAGE_F64: memcpy(out, bytes, (size_t)count * sizeof(double)); break;
    case HFB_STORAGE_F32:
      for (int i = 0; i < count; i++) out[i] = load_f32(bytes + 4 * i);
      break;
    case HFB_STORAGE_F16:
      for (int i = 0; i < count; i++) out[i] = hfb_f16_to_f32(load_u16(bytes + 2 * i));
      break;
    default:
      assert(storage == HFB_STORAGE_BF16);
      for (int i = 0; i < count; i++) out[i] = hfb_bf16_to_f32(load_u16(bytes + 2 * i));
  }
}

static void store_floats(hfb_dtype dtype, const double *values, int count, void *out) {
  switch (dtype) {
    case HFB_F64: memcpy(out, values, (size_t)count * sizeof(double)); break;
    case HFB_F32:
      for (int i = 0; i < count; i++) ((float *)out)[i] = (float)values[i];
      break;
    case HFB_F16:
      for (int i = 0; i < count; i++) ((uint16_t *)out)[i] = hfb_f32_to_f16((float)values[i]);
      break;
    default:
      assert(dtype == HFB_BF16);
      for (int i = 0; i < count; i++) ((uint16_t *)out)[i] = hfb_f32_to_bf16((float)values[i]);
  }
}

static void load_ints(hfb_storage storage, const unsigned char *bytes, int count, int64_t *out) {
  switch (storage) {
    case HFB_STORAGE_I64: memcpy(out, bytes, (size_t)count * sizeof(int64_t)); break;
    case HFB_STORAGE_I32:
      for (int i = 0; i < count; i++) out[i] = load_i32(bytes + 4 * i);
      break;
    case HFB_STORAGE_I16:
      for (int i = 0; i < count; i++) out[i] = (int16_t)load_u16(bytes + 2 * i);
      break;
    case HFB_STORAGE_I8:
      for (int i = 0; i < count; i++) out[i] = (int8_t)bytes[i];
      break;
    default:
      assert(hfb_storage_bytes(storage) == 1);
      for (int i = 0; i < count; i++) out[i] = bytes[i];
  }
}

/* The values that an integer dtype (or bool) holds. */
static void int_range(hfb_dtype dtype, int64_t *out_low, int64_t *out_high) {
  *out_low = dtype == HFB_I64 ? INT64_MIN : dtype == HFB_I32 ? INT32_MIN : 0;
  *out_high = dtype == HFB_I64 ? INT64_MAX : dtype == HFB_I32 ? INT32_MAX : dtype == HFB_U8 ? UINT8_MAX : 1;
}

static void store_ints(hfb_dtype dtype, const int64_t *values, int count, void *out) {
  if (dtype == HFB_I64) {
    memcpy(out, values, (size_t)count * sizeof(int64_t));
  } else if (dtype == HFB_I32) {
    for (int i = 0; i < count; i++) ((int32_t *)out)[i] = (int32_t)values[i];
  } else {
    for (int i = 0; i < count; i++) ((uint8_t *)out)[i] = (uint8_t)values[i];
  }
}

static hfb_status check_ints(const hfb_stored_tensor *tensor, hfb_dtype dtype, const int64_t *values, int count) {
  int64_t low, high;
  int_range(dtype, &low, &high);
  for (int i = 0; i < count; i++) {
    if (values[i] >= low && values[i] <= high) continue;
    bool is_bool = tensor->storage == HFB_STORAGE_BOOL;
    return HFB_FAIL(is_bool ? HFB_CORRUPT : HFB_MISMATCH, "tensor %.96s: the value %" PRId64 " does not fit %s",
                    tensor->name, values[i], hfb_dtype_name(dtype));
  }
  return HFB_OK;
}

hfb_status hfb_safetensors_convert(const hfb_stored_tensor *tensor, int64_t first, int64_t count, hfb_dtype dtype,
                                   void *out) {
  assert(first >= 0 && count >= 0 && first + count <= hfb_shape_elements(&tensor->shape));
  bool is_float = hfb_dtype_is_float(hfb_storage_dtype(tensor->storage));
  if (is_float != hfb_dtype_is_float(dtype)) {
    return HFB_FAIL(HFB_MISMATCH, "tensor %.96s has dtype %s where %s is wanted", tensor->name,
                    hfb_storage_name(tensor->storage), hfb_dtype_name(dtype));
  }
  size_t from_bytes = hfb_storage_bytes(tensor->storage), to_bytes = hfb_dtype_bytes(dtype);
  const unsigned char *from = tensor->data + (size_t)first * from_bytes;
  if (count > 0 && is_float && hfb_storage_of(dtype) == tensor->storage) {
    memcpy(out, from, (size_t)count * to_bytes);
    return HFB_OK;
  }
  unsigned char *to = out;
  while (count > 0) {
    int block = count < BLOCK_ELEMENTS ? (int)count : BLOCK_ELEMENTS;
    if (is_float) {
      double values[BLOCK_ELEMENTS];
      load_floats(tensor->storage, from, block, values);
      store_floats(dtype, values, block, to);
    } else {
      int64_t values[BLOCK_ELEMENTS];
      load_ints(tensor->storage, from, block, values);
      if (tensor->storage == HFB_STORAGE_BOOL) HFB_TRY(check_ints(tensor, HFB_BOOL, values, block));
      HFB_TRY(check_ints(tensor, dtype, values, block));
      store_ints(dtype, values, block, to);
    }
    count -= block;
    from += (size_t)block * from_bytes;
    to += (size_t)block * to_bytes;
  }
  return HFB_OK;
}
