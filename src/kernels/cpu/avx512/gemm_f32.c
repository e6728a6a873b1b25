#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/gemm_f32_types.h"

#define GEMM_ISA hfb_gemm_f32_avx512
#define GEMM_TILES "kernels/cpu/gemm_tiles_32.def"
#define GEMM_DOTS "kernels/cpu/gemm_dots_32.def"
#define GEMM_MAX_ROWS {0, 14, 14, 8, 6}
#define GEMM_ROW_COST {0, 0.56f, 1.03f, 1.5f, 2.02f}
#define GEMM_K_BLOCK 768
#include "kernels/cpu/gemm_tmpl.c"
