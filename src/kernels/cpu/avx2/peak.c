#include "kernels/cpu/avx2/vec.h"
#include "kernels/cpu/avx2/vec_f64.h"

#define PEAK_F32 hfb_peak_f32_avx2
#define PEAK_F64 hfb_peak_f64_avx2
#define PEAK_CHAINS 12
#include "kernels/cpu/peak_tmpl.c"
