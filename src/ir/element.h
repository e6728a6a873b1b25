/* Single elements of row-major host data, by dtype: for constants, their text form and their conversion. */
#ifndef HFB_IR_ELEMENT_H
#define HFB_IR_ELEMENT_H

#include "ir/dtype.h"

/* Of a floating-point dtype. Storing rounds to nearest even; f16 and bf16 round by way of f32. */
double hfb_element_float(hfb_dtype dtype, const void *data, int64_t index);
void hfb_element_set_float(hfb_dtype dtype, void *data, int64_t index, double value);

/* Of an integer dtype or bool. Storing returns false when the value does not fit (bool takes 0 and 1). */
int64_t hfb_element_int(hfb_dtype dtype, const void *data, int64_t index);
bool hfb_element_set_int(hfb_dtype dtype, void *data, int64_t index, int64_t value);

#endif
