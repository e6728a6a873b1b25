#if defined(__x86_64__)
#include "kernels/cpu/avx2/vec.h"

#define HFB_K(name) name##__avx2
#include "kernels/cpu/ctc_tmpl.c"
#endif
