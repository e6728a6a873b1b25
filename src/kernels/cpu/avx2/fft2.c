#if defined(__x86_64__)
#include "kernels/cpu/avx2/vec_lanes.h"

#define HFB_K(name) name##__avx2
#include "kernels/cpu/fft2_tmpl.c"
#endif
