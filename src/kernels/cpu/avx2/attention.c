#include "kernels/cpu/avx2/vec.h"

#define ATTENTION_EXP hfb_attention_exp_avx2
#define ATTENTION_SCALE hfb_attention_scale_avx2
#include "kernels/cpu/attention_tmpl.c"
