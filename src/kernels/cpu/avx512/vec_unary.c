#include "kernels/cpu/avx512/vec.h"

#define VEC_UNARY hfb_vec_unary_avx512
#include "kernels/cpu/vec_unary_tmpl.c"
