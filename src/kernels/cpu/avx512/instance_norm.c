#if defined(__x86_64__)
#include "kernels/cpu/avx512/vec.h"

#define HFB_K(name) name##__avx512
#include "kernels/cpu/instance_norm_tmpl.c"
#endif
