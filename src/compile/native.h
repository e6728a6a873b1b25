/* native: the compiler of this project. Framework ops are decomposed, matched to pattern kernels (GEMM with epilogue,
 * attention), the rest is fused into loops, memory is planned, and C is generated, compiled by the system's C compiler
 * and cached on disk. */
#ifndef HFB_COMPILE_NATIVE_H
#define HFB_COMPILE_NATIVE_H

#include "hfbench/backend.h"

const hfb_backend *hfb_backend_native(void);

/* What options.dump_pass may name, in the order in which they come about: "input", the passes, "schedule". A pass that
 * is left out for a graph changes nothing. NULL behind the last. */
const char *hfb_native_pass(int index);

/* The generated C of a program, for `show --code`; borrowed from the program. */
const char *hfb_native_code(const hfb_program *program);

/* The time of each step over all runs of a program that was compiled with options.profile, one line for a step; nothing
 * without. */
hfb_status hfb_native_profile_print(const hfb_program *program, hfb_strbuf *out_text) HFB_MUST_USE;

#endif
