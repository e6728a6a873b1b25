#include "kernels/cpu/generic/vec_lanes.h"

#define HFB_K(name) name##__generic
#include "kernels/cpu/fft2_tmpl.c"
