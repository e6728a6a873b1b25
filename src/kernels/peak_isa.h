/* The loops behind peak.h, one set for each instruction set. Private to it. */
#ifndef HFB_KERNELS_PEAK_ISA_H
#define HFB_KERNELS_PEAK_ISA_H

#include <stdint.h>

/* Runs `steps` rounds of independent multiply-adds and returns the floating-point operations done. *sink receives a
 * value that depends on all of them. */
typedef double (*hfb_peak_loop)(int64_t steps, float *sink);

double hfb_peak_f32_generic(int64_t steps, float *sink);
double hfb_peak_f64_generic(int64_t steps, float *sink);
double hfb_peak_f32_avx2(int64_t steps, float *sink);
double hfb_peak_f64_avx2(int64_t steps, float *sink);
double hfb_peak_f32_avx512(int64_t steps, float *sink);
double hfb_peak_f64_avx512(int64_t steps, float *sink);
double hfb_peak_bf16_avx512_bf16(int64_t steps, float *sink);

#endif
