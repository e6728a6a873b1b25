#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/avx512/vec_f64.h"

#define PEAK_F32 hfb_peak_f32_avx512
#define PEAK_F64 hfb_peak_f64_avx512
#define PEAK_CHAINS 16
#include "kernels/cpu/peak_tmpl.c"
