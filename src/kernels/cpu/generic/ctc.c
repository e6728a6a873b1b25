#include "kernels/cpu/generic/vec.h"

#define HFB_K(name) name##__generic
#include "kernels/cpu/ctc_tmpl.c"
