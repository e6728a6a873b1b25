/* Rows of elements from one dtype to another. */
#ifndef HFB_DEVICE_CONVERT_H
#define HFB_DEVICE_CONVERT_H

#include "device/tensor.h"

/* Converts `count` elements; strides in bytes. Integers go to floats with one rounding; floats to integers towards
 * zero; anything to bool as "is not zero". A value that an integer type cannot hold gives an unspecified value. */
void hfb_convert_row(hfb_dtype from_dtype, const char *from, int64_t from_stride, hfb_dtype to_dtype, char *to,
                     int64_t to_stride, int64_t count);

#endif
