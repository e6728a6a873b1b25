#if defined(__x86_64__)
#include "kernels/cpu/avx512/vec_lanes.h"

#define HFB_K(name) name##__avx512
#include "kernels/cpu/fft2_tmpl.c"
#endif
