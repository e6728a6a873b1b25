/* C for loops: one readable function for each loop, in a dialect of C with 64-byte vectors and no headers, which the
 * system's compiler turns into code in a fraction of a second.
 *
 *   ROWS   void NAME(void *const *slots, int64_t row_begin, int64_t row_end, void *scratch)
 *   TILE   hfb_gemm_epilogue_fn, context = slots
 *   SCORE  hfb_score_fn, context = slots
 */
#ifndef HFB_COMPILE_CODEGEN_H
#define HFB_COMPILE_CODEGEN_H

#include "base/cpu.h"
#include "base/strbuf.h"
#include "compile/loop.h"

typedef void (*hfb_rows_fn)(void *const *slots, int64_t row_begin, int64_t row_end, void *scratch);

/* The text that every unit starts with: types, vector helpers, elementary functions for `isa`. */
hfb_status hfb_codegen_prelude(hfb_isa isa, hfb_strbuf *out_code) HFB_MUST_USE;

/* One function. `comment` (may be NULL) is put above it: which graph nodes it covers. The text depends only on the
 * loop, name and isa, so equal loops can share one function. */
hfb_status hfb_codegen_loop(const hfb_loop *loop, const char *name, const char *comment, hfb_isa isa,
                            hfb_strbuf *out_code) HFB_MUST_USE;

#endif
