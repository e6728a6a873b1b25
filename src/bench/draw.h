/* Random numbers in bulk: the elements of a Philox stream that base/rng.h draws one by one, many times faster.
 *
 * Only additions, multiplications, divisions, square roots and integer operations are used, in a fixed order: every
 * machine and compiler gives the same bits. */
#ifndef HFB_BENCH_DRAW_H
#define HFB_BENCH_DRAW_H

#include <stddef.h>

#include "base/rng.h"

/* out[i] = mean + deviation * element first+i of the normal stream (hfb_philox_normal), rounded once from a double that
 * is within 1e-12 of it. */
void hfb_draw_normal(hfb_philox stream, uint64_t first, size_t count, double mean, double deviation, float *out);

/* The same with values beyond two deviations drawn again, as often as it takes: attempt k > 0 of element i comes from
 * the first two words of the counter (i, k). */
void hfb_draw_truncated(hfb_philox stream, uint64_t first, size_t count, double mean, double deviation, float *out);

/* out[i] = low + (high - low) * element first+i of the uniform stream. */
void hfb_draw_uniform(hfb_philox stream, uint64_t first, size_t count, double low, double high, float *out);

#endif
