#include "kernels/cpu/generic/vec_f64.h"
#include "kernels/cpu/gemm_f64_types.h"

#define GEMM_ISA hfb_gemm_f64_generic
#define GEMM_TILES "kernels/cpu/gemm_tiles_16.def"
#define GEMM_DOTS "kernels/cpu/gemm_dots_16.def"
#define GEMM_MAX_ROWS {0, 6, 6}
#define GEMM_ROW_COST {0, 0.58f, 1.0f}
#define GEMM_K_BLOCK 192
#include "kernels/cpu/gemm_tmpl.c"
