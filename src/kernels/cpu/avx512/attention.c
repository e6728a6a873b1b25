#include "kernels/cpu/avx512/vec.h"

#define ATTENTION_EXP hfb_attention_exp_avx512
#define ATTENTION_SCALE hfb_attention_scale_avx512
#include "kernels/cpu/attention_tmpl.c"
