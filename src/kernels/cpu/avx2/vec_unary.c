#include "kernels/cpu/avx2/vec.h"

#define VEC_UNARY hfb_vec_unary_avx2
#include "kernels/cpu/vec_unary_tmpl.c"
