#include "kernels/cpu/generic/vec.h"

#define ATTENTION_ISA hfb_attention_generic
#include "kernels/cpu/attention_tmpl.c"
