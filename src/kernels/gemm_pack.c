/* B packed once for many products. */
#include "kernels/gemm_pack.h"

#include <string.h>

#include "base/memory.h"
#include "kernels/gemm.h"
#include "kernels/integers.h"

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
  char *work; /* in place: where the packed panels wait, or the columns of one for each worker */
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

/* ---- in place ---- */

static int64_t panel_bytes(const hfb_packed_b *packed) {
  return packed->width * packed->k * packed->kernels->element_bytes;
}

/* Columns that fill no panel, in whole vectors. */
static int64_t rest_width(const hfb_packed_b *packed) {
  return round_up(packed->n % packed->width, packed->kernels->lanes);
}

/* Nothing has to be filled up: the columns fill whole vectors. */
static bool rest_fits(const hfb_packed_b *packed) { return rest_width(packed) == packed->n % packed->width; }

static size_t rest_bytes(const hfb_packed_b *packed) {
  return (size_t)(rest_width(packed) * packed->k * packed->kernels->element_bytes);
}

hfb_gemm_in_place hfb_gemm_plan_in_place(hfb_dtype dtype, int64_t k, int64_t n, int64_t row_stride, int64_t col_stride,
                                         hfb_isa isa, hfb_pool *pool) {
  const hfb_gemm_isa *kernels = select_kernels(dtype, isa);
  if (!kernels || k <= 0 || n <= 0) return (hfb_gemm_in_place){0};
  const hfb_packed_b packed = {.kernels = kernels, .k = k, .n = n, .width = hfb_gemm_panel_width(kernels, n)};
  const bool has_columns = row_stride == 1 && col_stride == k, has_rows = col_stride == 1 && row_stride == n;
  const int64_t panels = has_columns ? hfb_pool_size(pool) : n / packed.width;
  const size_t rest = rest_bytes(&packed);
  return (hfb_gemm_in_place){.is_possible = (has_columns || has_rows) && n >= packed.width,
                             .work_bytes = (size_t)(panels * panel_bytes(&packed)) + (has_columns ? 0 : rest),
                             .rest_bytes = rest_fits(&packed) ? 0 : rest};
}

/* Column-major: a panel's columns lie where the panel will be. */
static void pack_own_panel(void *context, int64_t index, int worker) {
  const pack_job *job = context;
  const hfb_packed_b *packed = job->packed;
  char *columns = job->work + worker * panel_bytes(packed);
  char *panel = (char *)packed->memory + index * panel_bytes(packed);
  memcpy(columns, panel, (size_t)panel_bytes(packed));
  packed->kernels->pack_b(columns, job->row_stride, job->col_stride, packed->k, packed->width, packed->width, panel);
}

static void pack_panel_to_work(void *context, int64_t index, int worker) {
  const pack_job *job = context;
  const hfb_packed_b *packed = job->packed;
  packed->kernels->pack_b(job->b + index * packed->width * packed->kernels->element_bytes, job->row_stride,
                          job->col_stride, packed->k, packed->width, packed->width,
                          job->work + index * panel_bytes(packed));
}

static void take_panel_from_work(void *context, int64_t index, int worker) {
  const pack_job *job = context;
  const int64_t bytes = panel_bytes(job->packed);
  memcpy((char *)job->packed->memory + index * bytes, job->work + index * bytes, (size_t)bytes);
}

/* The columns that fill no panel: to packed->rest, which may be where they are. `work` has room for them. */
static void pack_rest(const pack_job *job, char *work) {
  const hfb_packed_b *packed = job->packed;
  const int64_t left = packed->n % packed->width;
  const bool is_own = rest_fits(packed);
  const char *columns = job->b + (packed->n - left) * job->col_stride * packed->kernels->element_bytes;
  if (is_own && job->row_stride == 1) columns = memcpy(work, columns, rest_bytes(packed));
  packed->kernels->pack_b(columns, job->row_stride, job->col_stride, packed->k, left, packed->rest_width,
                          is_own && job->row_stride != 1 ? work : packed->rest);
}

hfb_status hfb_gemm_pack_b_in_place(hfb_dtype dtype, int64_t k, int64_t n, void *b, int64_t row_stride,
                                    int64_t col_stride, hfb_isa isa, hfb_pool *pool, void *work, void *rest,
                                    hfb_packed_b **out_packed) {
  const hfb_gemm_in_place plan = hfb_gemm_plan_in_place(dtype, k, n, row_stride, col_stride, isa, pool);
  if (!plan.is_possible || (uintptr_t)b % HFB_GEMM_ALIGNMENT != 0 || !work || (plan.rest_bytes > 0 && !rest)) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT,
                    "a matrix of %lld x %lld %s with strides %lld and %lld cannot be packed in place", (long long)k,
                    (long long)n, hfb_dtype_name(dtype), (long long)row_stride, (long long)col_stride);
  }
  const hfb_gemm_isa *kernels = select_kernels(dtype, isa);
  hfb_packed_b *packed = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof *packed, &packed));
  *packed = (hfb_packed_b){
      .kernels = kernels, .k = k, .n = n, .width = hfb_gemm_panel_width(kernels, n), .memory = b};
  const int64_t panels = n / packed->width;
  packed->rest_width = rest_width(packed);
  if (packed->rest_width > 0) packed->rest = rest_fits(packed) ? (char *)b + panels * panel_bytes(packed) : rest;
  pack_job job = {.packed = packed, .b = b, .row_stride = row_stride, .col_stride = col_stride, .work = work};
  if (row_stride == 1) {
    if (packed->rest) pack_rest(&job, work);
    hfb_pool_run(pool, panels, pack_own_panel, &job);
  } else {
    char *rest_work = job.work + panels * panel_bytes(packed);
    if (packed->rest) pack_rest(&job, rest_work);
    hfb_pool_run(pool, panels, pack_panel_to_work, &job);
    hfb_pool_run(pool, panels, take_panel_from_work, &job);
    if (packed->rest && rest_fits(packed)) memcpy(packed->rest, rest_work, rest_bytes(packed));
  }
  *out_packed = packed;
  return HFB_OK;
}

typedef struct unpack_job {
  const hfb_packed_b *packed;
  const int64_t *columns;
  char *out;
} unpack_job;

static void unpack_column(void *context, int64_t index, int worker) {
  const unpack_job *job = context;
  const hfb_packed_b *packed = job->packed;
  const int64_t column = max_i64(0, min_i64(job->columns[index], packed->n - 1));
  const int64_t panel = column / packed->width, element_bytes = packed->kernels->element_bytes;
  const bool is_rest = packed->rest && (panel + 1) * packed->width > packed->n;
  const char *from = is_rest ? packed->rest : (const char *)packed->memory + panel * panel_bytes(packed);
  const int64_t width = is_rest ? packed->rest_width : packed->width;
  from += column % packed->width * element_bytes;
  char *to = job->out + index * packed->k * element_bytes;
  if (element_bytes == sizeof(float)) {
    for (int64_t i = 0; i < packed->k; i++) ((float *)to)[i] = ((const float *)from)[i * width];
  } else {
    for (int64_t i = 0; i < packed->k; i++) ((double *)to)[i] = ((const double *)from)[i * width];
  }
}

void hfb_gemm_unpack_columns(const hfb_packed_b *packed, const int64_t *columns, int64_t count, hfb_pool *pool,
                             void *out) {
  unpack_job job = {.packed = packed, .columns = columns, .out = out};
  if (packed->n > 0 && packed->k > 0) hfb_pool_run(pool, count, unpack_column, &job);
}

void hfb_gemm_packed_destroy(hfb_packed_b *packed) { hfb_mem_free(packed); }
