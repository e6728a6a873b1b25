#include "kernels/cpu/generic/vec.h"

#define HFB_K(name) name##__generic
#include "kernels/cpu/lines_tmpl.c"
#include "kernels/cpu/lines_backward_tmpl.c"
