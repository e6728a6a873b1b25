#include "bench/machine.h"

#include "base/cpu.h"
#include "base/thread.h"
#include "kernels/peak.h"

enum { PEAK_ROUNDS = 3 };

typedef double (*peak_fn)(hfb_isa isa, hfb_pool *pool);

static const peak_fn peaks[HFB_DTYPE_COUNT] = {
    [HFB_F32] = hfb_peak_f32_flops,
    [HFB_F64] = hfb_peak_f64_flops,
    [HFB_BF16] = hfb_peak_bf16_flops,
};

hfb_status hfb_machine_peak(hfb_dtype dtype, int threads, double *out_gflops) {
  *out_gflops = 0.0;
  if (!peaks[dtype]) return HFB_FAIL(HFB_UNSUPPORTED, "the peak of %s is not measured", hfb_dtype_name(dtype));
  hfb_pool *pool = NULL;
  HFB_TRY(hfb_pool_create(threads, &pool));
  /* Another process makes a measurement slower and nothing makes one faster: the best of a few is nearest the truth. */
  for (int i = 0; i < PEAK_ROUNDS; i++) {
    double gflops = peaks[dtype](hfb_cpu()->isa, pool) * 1e-9;
    if (gflops > *out_gflops) *out_gflops = gflops;
  }
  hfb_pool_destroy(pool);
  if (*out_gflops > 0.0) return HFB_OK;
  return HFB_FAIL(HFB_UNSUPPORTED, "%s has no %s arithmetic", hfb_isa_name(hfb_cpu()->isa), hfb_dtype_name(dtype));
}

hfb_status hfb_machine_bandwidth(int threads, double *out_gigabytes_per_s) {
  double bytes_per_s = 0.0;
  hfb_pool *pool = NULL;
  HFB_TRY(hfb_pool_create(threads, &pool));
  hfb_status status = hfb_peak_memory_bytes_per_s(pool, &bytes_per_s);
  hfb_pool_destroy(pool);
  *out_gigabytes_per_s = bytes_per_s * 1e-9;
  return status;
}
