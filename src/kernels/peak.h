/* What this machine can do at most, measured: the denominators of "percent of peak".
 *
 * Each call runs on all threads of the pool for about a tenth of a second and gives the best of several rounds: another
 * process that takes a core makes a round slower, nothing makes one faster. */
#ifndef HFB_KERNELS_PEAK_H
#define HFB_KERNELS_PEAK_H

#include "base/cpu.h"
#include "base/thread.h"

/* Multiply-adds on registers only, in floating-point operations per second (2 for each multiply-add).
 * isa: at most hfb_cpu()->isa. */
double hfb_peak_f32_flops(hfb_isa isa, hfb_pool *pool);
double hfb_peak_f64_flops(hfb_isa isa, hfb_pool *pool);
/* Pairs of bf16 products added to f32 (vdpbf16ps); 0 when `isa` has none. */
double hfb_peak_bf16_flops(hfb_isa isa, hfb_pool *pool);

/* a[i] = b[i] + s * c[i] on arrays far larger than the caches; 12 bytes for each element are counted, as in STREAM. */
hfb_status hfb_peak_memory_bytes_per_s(hfb_pool *pool, double *out_bytes_per_s) HFB_MUST_USE;

#endif
