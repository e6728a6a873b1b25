/* Re(FFT2(x)) of real matrices. Included by <isa>/fft2.c after its vec_lanes.h, with HFB_K(name) adding the suffix of
 * the instruction set.
 *
 * Columns first: lanes are neighbouring columns, and as x is real, two blocks of columns travel as the real and the
 * imaginary part of one transform; their spectra come apart by Y[k] +- conj(Y[rows-k]). Only frequencies up to rows/2
 * are kept. Then rows: lanes are neighbouring frequencies. The real part of the rest follows from
 * Z[rows-k][columns-l] = conj(Z[k][l]), so each row is written a second time, mirrored. */
#include <string.h>

#include "kernels/cpu/fft_tmpl.c"
#include "kernels/kernel_impl.h"

enum { LANES = VEC_F32_LANES };

static const int64_t GROUP_BYTES = 32 << 20; /* half spectra held at once: some matrices of a batch */

/* Half spectra lie in units: the points [columns] of LANES neighbouring frequencies of one matrix. The units of a group
 * are dealt out over the scratch memory of all workers, behind plans and buffers. */
typedef struct fft2_job {
  const hfb_tensor *x;
  const hfb_tensor *result;
  hfb_scratch scratch;
  hfb_fft_plan row_plan, column_plan; /* along a row, along a column */
  int64_t rows, columns;
  int64_t kept;                       /* frequencies: rows / 2 + 1 */
  int64_t unit_rows, column_tasks;    /* units of a matrix; blocks of 2 * LANES columns */
  int64_t units_per_worker, unit_floats, buffer_floats, fixed_floats;
  int64_t first_matrix;               /* of the group */
} fft2_job;

static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }

static float *unit_of(const fft2_job *job, int64_t unit) {
  float *base = hfb_scratch_of(&job->scratch, (int)(unit / job->units_per_worker));
  return base + job->fixed_floats + unit % job->units_per_worker * job->unit_floats;
}

static float *buffer_of(const fft2_job *job, int worker, int which) {
  float *base = hfb_scratch_of(&job->scratch, worker);
  return base + 2 * (job->rows + job->columns) + which * job->buffer_floats;
}

static float *matrix_of(const hfb_tensor *tensor, int64_t index) {
  float *data = tensor->data;
  for (int d = tensor->shape.rank - 3; d >= 0; d--) {
    data += index % tensor->shape.dim[d] * tensor->strides[d];
    index /= tensor->shape.dim[d];
  }
  return data;
}

/* tile[i][j] = tile[j][i]: each round interleaves the halves, and log2(LANES) rounds transpose. */
static void transpose_tile(vec_f32 tile[LANES]) {
  for (int round = 1; round < LANES; round *= 2) {
    vec_f32 next[LANES];
    for (int i = 0; i < LANES / 2; i++) {
      next[2 * i] = hfb_vec_interleave_low(tile[i], tile[i + LANES / 2]);
      next[2 * i + 1] = hfb_vec_interleave_high(tile[i], tile[i + LANES / 2]);
    }
    memcpy(tile, next, sizeof(next));
  }
}

/* The columns from `first` on as the real parts, the next block as the imaginary parts; zeros behind the last. */
static void load_columns(const fft2_job *job, const float *x, int64_t first, float *points) {
  int64_t row_stride = job->x->strides[job->x->shape.rank - 2];
  int64_t real_count = min_of(job->columns - first, LANES);
  int64_t imaginary_count = min_of(max_of(job->columns - first - LANES, 0), LANES);
  for (int64_t i = 0; i < job->rows; i++) {
    const float *row = x + i * row_stride + first;
    point value = {hfb_vec_load_partial(row, real_count), hfb_vec_zero()};
    if (imaginary_count > 0) value.im = hfb_vec_load_partial(row + LANES, imaginary_count);
    store_point(points, i, value);
  }
}

/* Takes the spectra of the two blocks apart for LANES frequencies from k on and stores them with the frequencies as
 * lanes. spectrum: [rows] points. */
static void split_spectra(const fft2_job *job, const float *spectrum, int64_t k, int64_t first, float *unit) {
  vec_f32 parts[4][LANES]; /* real and imaginary part of the first block, of the second */
  vec_f32 half = hfb_vec_set1(0.5f);
  for (int i = 0; i < LANES; i++) {
    int64_t frequency = min_of(k + i, job->kept - 1); /* lanes behind the last repeat it and are not used */
    point a = load_point(spectrum, frequency), b = load_point(spectrum, frequency == 0 ? 0 : job->rows - frequency);
    parts[0][i] = (a.re + b.re) * half;
    parts[1][i] = (a.im - b.im) * half;
    parts[2][i] = (a.im + b.im) * half;
    parts[3][i] = (b.re - a.re) * half;
  }
  for (int p = 0; p < 4; p++) {
    transpose_tile(parts[p]);
    int64_t column = first + p / 2 * LANES;
    for (int i = 0; i < LANES && column + i < job->columns; i++) {
      hfb_vec_store(unit + ((column + i) * 2 + p % 2) * LANES, parts[p][i]);
    }
  }
}

static void column_task(void *context, int64_t index, int worker) {
  const fft2_job *job = context;
  int64_t first = index % job->column_tasks * 2 * LANES, matrix = index / job->column_tasks;
  float *a = buffer_of(job, worker, 0), *b = buffer_of(job, worker, 1), *c = buffer_of(job, worker, 2);
  load_columns(job, matrix_of(job->x, job->first_matrix + matrix), first, c);
  const float *spectrum = transform_points(&job->column_plan, c, a, b);
  for (int64_t unit = 0; unit < job->unit_rows; unit++) {
    split_spectra(job, spectrum, unit * LANES, first, unit_of(job, matrix * job->unit_rows + unit));
  }
}

/* out[0] = row[0], out[columns - l] = row[l]. */
static void store_mirrored(const float *row, float *out, int64_t columns) {
  out[0] = row[0];
  int64_t l = 1;
  for (; l + LANES <= columns; l += LANES) {
    hfb_vec_store(out + columns - l - LANES + 1, hfb_vec_reverse(hfb_vec_load(row + l)));
  }
  for (; l < columns; l++) out[columns - l] = row[l];
}

static void row_task(void *context, int64_t index, int worker) {
  const fft2_job *job = context;
  int64_t k = index % job->unit_rows * LANES, matrix = index / job->unit_rows, columns = job->columns;
  int64_t count = min_of(job->kept - k, LANES);
  const float *spectrum = transform_points(&job->row_plan, unit_of(job, index), buffer_of(job, worker, 0),
                                           buffer_of(job, worker, 1));
  float *out = matrix_of(job->result, job->first_matrix + matrix);
  for (int64_t l = 0; l < columns; l += LANES) {
    int64_t width = min_of(columns - l, LANES);
    vec_f32 tile[LANES];
    for (int i = 0; i < LANES; i++) tile[i] = i < width ? load_point(spectrum, l + i).re : hfb_vec_zero();
    transpose_tile(tile);
    for (int64_t i = 0; i < count; i++) hfb_vec_store_partial(out + (k + i) * columns + l, tile[i], width);
  }
  for (int64_t i = k; i < k + count; i++) {
    if (i > 0 && i < job->rows - i) store_mirrored(out + i * columns, out + (job->rows - i) * columns, columns);
  }
}

hfb_status HFB_K(hfb_k_f32_fft2_real)(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0];
  int rank = x->shape.rank;
  fft2_job job = {.x = x,
                  .result = &call->results[0],
                  .rows = x->shape.dim[rank - 2],
                  .columns = x->shape.dim[rank - 1]};
  int64_t matrices = hfb_shape_elements(&x->shape) / (job.rows * job.columns), workers = hfb_pool_size(call->pool);
  job.kept = job.rows / 2 + 1;
  job.unit_rows = (job.kept + LANES - 1) / LANES;
  job.column_tasks = (job.columns + 2 * LANES - 1) / (2 * LANES);
  job.unit_floats = job.columns * 2 * LANES;
  job.buffer_floats = max_of(job.rows, job.columns) * 2 * LANES;
  job.fixed_floats = (2 * (job.rows + job.columns) + 3 * job.buffer_floats + LANES - 1) / LANES * LANES;
  int64_t matrix_bytes = job.unit_rows * job.unit_floats * (int64_t)sizeof(float);
  int64_t group = min_of(matrices, GROUP_BYTES / matrix_bytes + 1);
  job.units_per_worker = (group * job.unit_rows + workers - 1) / workers;
  size_t bytes = sizeof(float) * (size_t)(job.fixed_floats + job.units_per_worker * job.unit_floats);
  HFB_TRY(hfb_scratch_init(call->pool, bytes, &job.scratch));
  float *roots = hfb_scratch_of(&job.scratch, 0);
  job.row_plan = hfb_fft_plan_make(job.columns, roots);
  job.column_plan = hfb_fft_plan_make(job.rows, roots + 2 * job.columns);
  for (; job.first_matrix < matrices; job.first_matrix += group) {
    int64_t count = min_of(group, matrices - job.first_matrix);
    hfb_pool_run(call->pool, count * job.column_tasks, column_task, &job);
    hfb_pool_run(call->pool, count * job.unit_rows, row_task, &job);
  }
  hfb_scratch_deinit(&job.scratch);
  return HFB_OK;
}
