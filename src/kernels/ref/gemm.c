#include "kernels/ref/gemm.h"

#include <string.h>

#include "base/cpu.h"
#include "device/convert.h"
#include "kernels/integers.h"
#include "kernels/kernel_impl.h"

/* One task computes a tile of C. The blocks of A and B that it packs stay in the second cache, the panel of B that
 * the inner loop runs over in the first. Multiples of every MR and NR below. */
enum { ROWS = 192, COLUMNS = 384, DEPTH = 256 };

#define NAME multiply_generic
#define TARGET
#define VEC_BYTES 16
#define MR 4
#define NV 2
#include "kernels/ref/gemm_tmpl.c"

#if defined(__x86_64__)
#define NAME multiply_avx2
#define TARGET __attribute__((target("avx2")))
#define VEC_BYTES 32
#define MR 4
#define NV 2
#include "kernels/ref/gemm_tmpl.c"

#define NAME multiply_avx512
#define TARGET __attribute__((target("avx512f")))
#define VEC_BYTES 64
#define MR 8
#define NV 2
#include "kernels/ref/gemm_tmpl.c"
#endif

typedef struct multiplier {
  int rows, columns; /* of the register tile */
  void (*multiply)(int64_t depth, const double *a, const double *b, double *c, int64_t ldc);
} multiplier;

static multiplier choose_multiplier(void) {
#if defined(__x86_64__)
  if (hfb_cpu()->isa >= HFB_ISA_AVX512) return (multiplier){8, 16, multiply_avx512};
  if (hfb_cpu()->isa >= HFB_ISA_AVX2) return (multiplier){4, 8, multiply_avx2};
#endif
  return (multiplier){4, 4, multiply_generic};
}

/* One of the three matrices of one batch entry. */
typedef struct matrix {
  hfb_dtype dtype;
  char *data;
  int64_t row_stride, column_stride; /* bytes */
} matrix;

typedef struct gemm_job {
  const hfb_tensor *a, *b, *bias, *c;
  int64_t m, n, k, row_tiles, column_tiles;
  multiplier multiplier;
  hfb_scratch scratch;
} gemm_job;

/* `tensor`'s matrix for entry `batch` of the leading dimensions of c. */
static matrix matrix_of(const hfb_tensor *tensor, const hfb_tensor *c, int64_t batch) {
  int rank = tensor->shape.rank;
  matrix result = {tensor->dtype, tensor->data, hfb_tensor_byte_stride(tensor, rank - 2),
                   hfb_tensor_byte_stride(tensor, rank - 1)};
  for (int d = c->shape.rank - 3; d >= 0; d--) {
    int64_t index = batch % c->shape.dim[d];
    batch /= c->shape.dim[d];
    int own = d - (c->shape.rank - rank);
    if (own >= 0 && tensor->shape.dim[own] != 1) result.data += index * hfb_tensor_byte_stride(tensor, own);
  }
  return result;
}

/* Packs [count] lines along k of `source` into groups of `group` lines, [depth][group] each, the last one filled up
 * with zeros. */
static void pack_lines(hfb_dtype dtype, const char *source, int64_t line_stride, int64_t k_stride, int64_t count,
                       int64_t depth, int group, double *packed) {
  for (int64_t line = 0; line < round_up(count, group); line++) {
    double *to = packed + line / group * group * depth + line % group;
    if (line < count) {
      hfb_convert_row(dtype, source + line * line_stride, k_stride, HFB_F64, (char *)to, group * 8, depth);
    } else {
      for (int64_t k = 0; k < depth; k++) to[k * group] = 0;
    }
  }
}

/* The same for lines whose elements are together at each k (a row-major B): reads along the lines. */
static void pack_columns(hfb_dtype dtype, const char *source, int64_t line_stride, int64_t k_stride, int64_t count,
                         int64_t depth, int group, double *packed) {
  double row[COLUMNS] = {0};
  for (int64_t k = 0; k < depth; k++) {
    hfb_convert_row(dtype, source + k * k_stride, line_stride, HFB_F64, (char *)row, 8, count);
    for (int64_t line = 0; line < count; line += group) {
      memcpy(packed + line * depth + k * group, row + line, (size_t)group * sizeof(double));
    }
  }
}

static void multiply_block(const gemm_job *job, int64_t rows, int64_t columns, int64_t depth, const double *a,
                           const double *b, double *tile) {
  int mr = job->multiplier.rows, nr = job->multiplier.columns;
  for (int64_t j = 0; j < columns; j += nr) {
    for (int64_t i = 0; i < rows; i += mr) {
      job->multiplier.multiply(depth, a + i * depth, b + j * depth, tile + i * COLUMNS + j, COLUMNS);
    }
  }
}

static void store_tile(const gemm_job *job, const matrix *c, int64_t rows, int64_t columns, int64_t first_column,
                       double *tile) {
  double bias[COLUMNS];
  if (job->bias) {
    int64_t stride = hfb_tensor_byte_stride(job->bias, 0);
    hfb_convert_row(job->bias->dtype, (char *)job->bias->data + first_column * stride, stride, HFB_F64, (char *)bias, 8,
                    columns);
  }
  for (int64_t i = 0; i < rows; i++) {
    double *row = tile + i * COLUMNS;
    for (int64_t j = 0; j < columns && job->bias; j++) row[j] += bias[j];
    hfb_convert_row(HFB_F64, (char *)row, 8, c->dtype, c->data + i * c->row_stride, c->column_stride, columns);
  }
}

static void gemm_task(void *context, int64_t index, int worker) {
  const gemm_job *job = context;
  int64_t row = index / job->column_tiles % job->row_tiles * ROWS, column = index % job->column_tiles * COLUMNS;
  int64_t batch = index / job->column_tiles / job->row_tiles;
  int64_t rows = job->m - row < ROWS ? job->m - row : ROWS, columns = job->n - column;
  if (columns > COLUMNS) columns = COLUMNS;
  matrix a = matrix_of(job->a, job->c, batch), b = matrix_of(job->b, job->c, batch);
  matrix c = matrix_of(job->c, job->c, batch);
  double *packed_a = hfb_scratch_of(&job->scratch, worker), *packed_b = packed_a + ROWS * DEPTH;
  double *tile = packed_b + COLUMNS * DEPTH;
  int64_t tile_rows = round_up(rows, job->multiplier.rows), tile_columns = round_up(columns, job->multiplier.columns);
  for (int64_t i = 0; i < tile_rows; i++) memset(tile + i * COLUMNS, 0, sizeof(double) * (size_t)tile_columns);
  bool b_is_row_major = b.column_stride == (int64_t)hfb_dtype_bytes(b.dtype);
  for (int64_t k = 0; k < job->k; k += DEPTH) {
    int64_t depth = job->k - k < DEPTH ? job->k - k : DEPTH;
    pack_lines(a.dtype, a.data + row * a.row_stride + k * a.column_stride, a.row_stride, a.column_stride, rows, depth,
               job->multiplier.rows, packed_a);
    (b_is_row_major ? pack_columns : pack_lines)(b.dtype, b.data + column * b.column_stride + k * b.row_stride,
                                                 b.column_stride, b.row_stride, columns, depth,
                                                 job->multiplier.columns, packed_b);
    multiply_block(job, rows, columns, depth, packed_a, packed_b, tile);
  }
  c.data += row * c.row_stride + column * c.column_stride;
  store_tile(job, &c, rows, columns, column, tile);
}

hfb_status hfb_ref_gemm(const hfb_tensor *a, const hfb_tensor *b, const hfb_tensor *bias, const hfb_tensor *c,
                        hfb_pool *pool) {
  if (hfb_shape_elements(&c->shape) == 0) return HFB_OK;
  int rank = c->shape.rank;
  gemm_job job = {.a = a,
                  .b = b,
                  .bias = bias,
                  .c = c,
                  .m = c->shape.dim[rank - 2],
                  .n = c->shape.dim[rank - 1],
                  .k = a->shape.dim[a->shape.rank - 1],
                  .multiplier = choose_multiplier()};
  job.row_tiles = (job.m + ROWS - 1) / ROWS;
  job.column_tiles = (job.n + COLUMNS - 1) / COLUMNS;
  int64_t batches = hfb_shape_elements(&c->shape) / (job.m * job.n);
  size_t bytes = sizeof(double) * (ROWS * DEPTH + COLUMNS * DEPTH + ROWS * COLUMNS);
  HFB_TRY(hfb_scratch_init(pool, bytes, &job.scratch));
  hfb_pool_run(pool, batches * job.row_tiles * job.column_tiles, gemm_task, &job);
  hfb_scratch_deinit(&job.scratch);
  return HFB_OK;
}
