#include "kernels/cpu/fft_plan.h"

#include <math.h>

hfb_fft_plan hfb_fft_plan_make(int64_t length, float *roots) {
  hfb_fft_plan plan = {.length = length, .roots = roots};
  int64_t rest = length;
  for (; rest % 4 == 0; rest /= 4) plan.radix[plan.stage_count++] = 4;
  for (int64_t prime = 2; prime * prime <= rest; prime++) {
    for (; rest % prime == 0; rest /= prime) plan.radix[plan.stage_count++] = prime;
  }
  if (rest > 1) plan.radix[plan.stage_count++] = rest;
  for (int64_t k = 0; k < length; k++) {
    double angle = 2 * M_PI * (double)k / (double)length;
    roots[2 * k] = (float)cos(angle);
    roots[2 * k + 1] = (float)-sin(angle);
  }
  return plan;
}
