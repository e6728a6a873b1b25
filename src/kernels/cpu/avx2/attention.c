#include "kernels/cpu/avx2/vec.h"

#define ATTENTION_ISA hfb_attention_avx2
#include "kernels/cpu/attention_tmpl.c"
