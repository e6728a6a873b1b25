#include "kernels/cpu/generic/vec.h"

#define VEC_UNARY hfb_vec_unary_generic
#include "kernels/cpu/vec_unary_tmpl.c"
