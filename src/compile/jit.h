/* Compiling generated C to shared objects, with a cache on disk.
 *
 * The key of a unit is a 128-bit hash of its code, the flags and the compiler (path, size and time of its file).
 * Entries are written to a temporary name and renamed, so processes may share a cache. An entry ends with a checksum;
 * one that is damaged or does not load is rebuilt. */
#ifndef HFB_COMPILE_JIT_H
#define HFB_COMPILE_JIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cpu.h"
#include "base/status.h"

typedef struct hfb_jit hfb_jit;

typedef struct hfb_jit_stats {
  int64_t cc_ns, load_ns;
  bool cache_hit; /* nothing had to be compiled */
} hfb_jit_stats;

/* Compiles `unit_count` translation units in parallel processes (one for each core is best) and loads them. cache_dir:
 * as hfb_backend_options; an unusable directory is a warning and a temporary one is used instead. A compiler failure is
 * HFB_COMPILE with the first line of its output. */
hfb_status hfb_jit_build(int unit_count, const char *const *units, hfb_isa isa, const char *cache_dir,
                         hfb_jit **out_jit, hfb_jit_stats *out_stats) HFB_MUST_USE;
/* NULL when no unit defines it. */
void *hfb_jit_symbol(const hfb_jit *jit, const char *name);
void hfb_jit_destroy(hfb_jit *jit); /* NULL is allowed */

/* Path of the C compiler: HFBENCH_CC, then cc, gcc, clang on PATH; NULL when there is none. Valid until the next
 * call on this thread. */
const char *hfb_jit_compiler(void);

/* How many compilers this process has started so far. */
int64_t hfb_jit_compiler_runs(void);

#endif
