#include "kernels/cpu/generic/vec.h"

#define ATTENTION_EXP hfb_attention_exp_generic
#define ATTENTION_SCALE hfb_attention_scale_generic
#include "kernels/cpu/attention_tmpl.c"
