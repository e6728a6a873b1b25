/* B packed once for many products. */
#include "kernels/gemm_pack.h"

#include "base/memory.h"
#include "kernels/gemm.h"

static const hfb_gemm_isa *select_kernels(hfb_dtype dtype, hfb_isa isa) {
  return hfb_gemm_isa_select(dtype, isa < hfb_cpu()->isa ? isa : hfb_cpu()->isa);
}

size_t hfb_gemm_packed_bytes(hfb_dtype dtype, int64_t k, int64_t n, hfb_isa isa) {
  const hfb_gemm_isa *kernels = select_kernels(dtype, isa);
  if (!kernels || k <= 0 || n <= 0) return 0;
  const int64_t width = hfb_gemm_panel_width(kernels, n);
  return (size_t)((n + width - 1) / width * width * k) * (size_t)kernels->element_bytes;
}

typedef struct pack_job {
  const hfb_packed_b *packed;
  const char *b;
  int64_t row_stride, col_stride;
} pack_job;

static void pack_panel(void *context, int64_t index, int worker) {
  const pack_job *job = context;
  const hfb_packed_b *packed = job->packed;
  const int64_t first = index * packed->width, left = packed->n - first;
  const int64_t element_bytes = packed->kernels->element_bytes;
  packed->kernels->pack_b(job->b + first * job->col_stride * element_bytes, job->row_stride, job->col_stride, packed->k,
                          left < packed->width ? left : packed->width, packed->width,
                          (char *)packed->memory + first * packed->k * element_bytes);
}

hfb_status hfb_gemm_pack_b(hfb_dtype dtype, int64_t k, int64_t n, const void *b, int64_t row_stride, int64_t col_stride,
                           hfb_isa isa, hfb_pool *pool, void *memory, hfb_packed_b **out_packed) {
  const hfb_gemm_isa *kernels = select_kernels(dtype, isa);
  if (!kernels) return HFB_FAIL(HFB_UNSUPPORTED, "cannot pack a matrix of %s; only f32 and f64", hfb_dtype_name(dtype));
  if (k < 0 || n < 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "cannot pack a matrix of %lld x %lld", (long long)k, (long long)n);
  }
  if ((uintptr_t)memory % HFB_GEMM_ALIGNMENT != 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "memory for a packed matrix must be aligned to %d bytes", HFB_GEMM_ALIGNMENT);
  }
  hfb_packed_b *packed = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof *packed, &packed));
  *packed = (hfb_packed_b){
      .kernels = kernels, .k = k, .n = n, .width = hfb_gemm_panel_width(kernels, n), .memory = memory};
  if (k > 0 && n > 0) {
    pack_job job = {.packed = packed, .b = b, .row_stride = row_stride, .col_stride = col_stride};
    hfb_pool_run(pool, (n + packed->width - 1) / packed->width, pack_panel, &job);
  }
  *out_packed = packed;
  return HFB_OK;
}

void hfb_gemm_packed_destroy(hfb_packed_b *packed) { hfb_mem_free(packed); }
