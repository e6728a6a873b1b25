/* native: the compiler of this project. Framework ops are decomposed, matched to pattern kernels (GEMM with epilogue,
 * attention), the rest is fused into loops, memory is planned, and C is generated, compiled by the system's C compiler
 * and cached on disk. */
#ifndef HFB_COMPILE_NATIVE_H
#define HFB_COMPILE_NATIVE_H

#include "hfbench/backend.h"

const hfb_backend *hfb_backend_native(void);

/* The generated C of a program, for `show --code`; borrowed from the program. */
const char *hfb_native_code(const hfb_program *program);

/* Looks for the C compiler: HFBENCH_CC, then cc, gcc, clang on PATH. NULL and a message when there is none. */
const char *hfb_native_compiler(void);

#endif
