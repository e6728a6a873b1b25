#include "ir/element.h"

#include <assert.h>

#include "base/half.h"

double hfb_element_float(hfb_dtype dtype, const void *data, int64_t index) {
  switch (dtype) {
    case HFB_F32: return ((const float *)data)[index];
    case HFB_F64: return ((const double *)data)[index];
    case HFB_BF16: return hfb_bf16_to_f32(((const uint16_t *)data)[index]);
    default: break;
  }
  assert(dtype == HFB_F16);
  return hfb_f16_to_f32(((const uint16_t *)data)[index]);
}

void hfb_element_set_float(hfb_dtype dtype, void *data, int64_t index, double value) {
  switch (dtype) {
    case HFB_F32: ((float *)data)[index] = (float)value; return;
    case HFB_F64: ((double *)data)[index] = value; return;
    case HFB_BF16: ((uint16_t *)data)[index] = hfb_f32_to_bf16((float)value); return;
    default: break;
  }
  assert(dtype == HFB_F16);
  ((uint16_t *)data)[index] = hfb_f32_to_f16((float)value);
}

int64_t hfb_element_int(hfb_dtype dtype, const void *data, int64_t index) {
  switch (dtype) {
    case HFB_I64: return ((const int64_t *)data)[index];
    case HFB_I32: return ((const int32_t *)data)[index];
    default: break;
  }
  assert(dtype == HFB_U8 || dtype == HFB_BOOL);
  return ((const uint8_t *)data)[index];
}

bool hfb_element_set_int(hfb_dtype dtype, void *data, int64_t index, int64_t value) {
  switch (dtype) {
    case HFB_I64: ((int64_t *)data)[index] = value; return true;
    case HFB_I32: ((int32_t *)data)[index] = (int32_t)value; return value >= INT32_MIN && value <= INT32_MAX;
    default: break;
  }
  assert(dtype == HFB_U8 || dtype == HFB_BOOL);
  ((uint8_t *)data)[index] = (uint8_t)value;
  return value >= 0 && value <= (dtype == HFB_BOOL ? 1 : UINT8_MAX);
}
