/* How fast this machine is: what a percentage of peak in a row is a percentage of. */
#ifndef HFB_BENCH_MACHINE_H
#define HFB_BENCH_MACHINE_H

#include "base/status.h"
#include "ir/dtype.h"

/* Peak of multiply-adds in registers, in 1e9 flop/s, on `threads` threads (as hfb_pool_create). Takes a fraction of a
 * second. HFB_UNSUPPORTED for a dtype without a measurement. */
hfb_status hfb_machine_peak(hfb_dtype dtype, int threads, double *out_gflops) HFB_MUST_USE;

/* Streaming memory bandwidth in 1e9 bytes/s: reads and writes of an array that no cache holds. */
hfb_status hfb_machine_bandwidth(int threads, double *out_gigabytes_per_s) HFB_MUST_USE;

#endif
