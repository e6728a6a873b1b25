#include "kernels/cpu/generic/vec.h"
#include "kernels/cpu/generic/vec_f64.h"

#define PEAK_F32 hfb_peak_f32_generic
#define PEAK_F64 hfb_peak_f64_generic
#define PEAK_CHAINS 12
#include "kernels/cpu/peak_tmpl.c"
