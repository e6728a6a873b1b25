/* The plan of a one-dimensional discrete Fourier transform: its length cut into radices, its roots of unity. */
#ifndef HFB_KERNELS_CPU_FFT_PLAN_H
#define HFB_KERNELS_CPU_FFT_PLAN_H

#include <stdint.h>

enum { HFB_FFT_MAX_STAGES = 64 };

typedef struct hfb_fft_plan {
  int64_t length;
  int stage_count;
  int64_t radix[HFB_FFT_MAX_STAGES]; /* 4, 2, 3, 5 first, then the other primes */
  const float *roots;                /* [length][2]: cos and -sin of 2 pi k / length */
} hfb_fft_plan;

/* Fills roots, 2 * length floats of the caller. Each root is computed in double and rounded once. */
hfb_fft_plan hfb_fft_plan_make(int64_t length, float *roots);

#endif
