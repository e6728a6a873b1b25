#include "kernels/cpu/avx512/vec.h"

#define ATTENTION_ISA hfb_attention_avx512
#include "kernels/cpu/attention_tmpl.c"
