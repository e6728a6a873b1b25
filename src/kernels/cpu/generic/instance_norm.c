#include "kernels/cpu/generic/vec.h"

#define HFB_K(name) name##__generic
#include "kernels/cpu/instance_norm_tmpl.c"
