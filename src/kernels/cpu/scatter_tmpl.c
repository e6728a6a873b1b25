/* Gradients of tables and of windows: embedding_backward, gather_backward and unfold_backward on floats. Included by
 * <isa>/scatter.c after its vec.h, with HFB_K(name) adding the suffix of the instruction set.
 *
 * The result is [outer, length, inner]; position k of the index adds row k of g to row index[k]. For a large table the
 * positions of each row are listed first, then ranges of rows are filled by one task each. A small one, into which many
 * rows go, is filled in a copy for each block of positions, and the copies are added in order. Either way the order of
 * additions follows from shapes and index alone. */
#include <inttypes.h>
#include <string.h>

#include "kernels/cpu/partials.h"
#include "kernels/integers.h"

enum {
  SCATTER_MAX_RANGES = 64,            /* of rows, for each outer index */
  SCATTER_RANGE = 32 << 10,           /* elements that are worth a task */
  SCATTER_COLUMNS = 512,              /* of g taken at a time where they do not lie together */
  SCATTER_SMALL_TABLE = 16 << 10,     /* elements, without padding */
  SCATTER_BLOCKS = 32,
  SCATTER_MIN_BLOCK_POSITIONS = 64,
  SCATTER_ADD_GRAIN = 1024,
};

typedef struct scatter_job {
  const hfb_tensor *g, *index;
  bool index_is_row_major, g_is_row_major; /* g may be strided where outer is 1 */
  int64_t positions, outer, length, inner, skipped; /* skipped: a row that gets nothing; -1: none */
  float *out;
  int64_t range_rows, ranges;
  int64_t block_positions, blocks;
  int64_t row_stride;  /* of a table that is being filled: `inner` or, in copies, whole vectors */
  hfb_partials copies; /* of a small table, for each block */
  int64_t *first, *listed; /* of a large one: row r gets positions listed[first[r]] .. listed[first[r + 1] - 1] */
} scatter_job;

/* Elements from the first one to number `position` of the leading `rank` dimensions. */
static int64_t offset_of(const hfb_tensor *tensor, int rank, int64_t position) {
  int64_t offset = 0;
  for (int d = rank - 1; d >= 0; d--) {
    offset += position % tensor->shape.dim[d] * tensor->strides[d];
    position /= tensor->shape.dim[d];
  }
  return offset;
}

static int64_t index_at(const scatter_job *job, int64_t position) {
  const int64_t *index = job->index->data;
  return index[job->index_is_row_major ? position : offset_of(job->index, job->index->shape.rank, position)];
}

/* is_padded: `out` has room for a whole vector behind its last element. Stores of whole vectors are forwarded to the
 * loads of the next row when that goes to the same place; those of parts of a vector are not. */
static void add_row(float *out, const float *g, int64_t count, bool is_padded) {
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= count; i += VEC_F32_LANES) {
    hfb_vec_store(out + i, hfb_vec_load(out + i) + hfb_vec_load(g + i));
  }
  int64_t rest = count - i;
  if (rest == 0) return;
  vec_f32 last = hfb_vec_load_partial(g + i, rest);
  if (is_padded) {
    hfb_vec_store(out + i, hfb_vec_load(out + i) + last);
  } else {
    hfb_vec_store_partial(out + i, hfb_vec_load_partial(out + i, rest) + last, rest);
  }
}

/* A row of g that is not row-major: its columns may have any stride. */
static void add_strided_row(const scatter_job *job, int64_t position, float *out) {
  bool is_padded = job->row_stride > job->inner;
  int rank = job->g->shape.rank;
  const float *g = (const float *)job->g->data + offset_of(job->g, rank - 1, position);
  int64_t stride = job->inner == 1 ? 1 : job->g->strides[rank - 1];
  if (stride == 1) {
    add_row(out, g, job->inner, is_padded);
    return;
  }
  float columns[SCATTER_COLUMNS];
  for (int64_t begin = 0; begin < job->inner; begin += SCATTER_COLUMNS) {
    int64_t count = job->inner - begin < SCATTER_COLUMNS ? job->inner - begin : SCATTER_COLUMNS;
    for (int64_t i = 0; i < count; i++) columns[i] = g[(begin + i) * stride];
    add_row(out + begin, columns, count, is_padded && begin + count == job->inner);
  }
}

static void add_position(const scatter_job *job, int64_t outer, int64_t position, float *out) {
  if (!job->g_is_row_major) {
    add_strided_row(job, position, out);
    return;
  }
  const float *g = (const float *)job->g->data + (outer * job->positions + position) * job->inner;
  add_row(out, g, job->inner, job->row_stride > job->inner);
}

static void scatter_range(void *context, int64_t index, int worker) {
  const scatter_job *job = context;
  int64_t outer = index / job->ranges, row = index % job->ranges * job->range_rows;
  int64_t end = job->length - row < job->range_rows ? job->length : row + job->range_rows;
  for (; row < end; row++) {
    float *out = job->out + (outer * job->length + row) * job->inner;
    memset(out, 0, (size_t)job->inner * sizeof(float));
    for (int64_t i = job->first[row]; i < job->first[row + 1]; i++) add_position(job, outer, job->listed[i], out);
  }
}

static void scatter_block(void *context, int64_t block, int worker) {
  const scatter_job *job = context;
  int64_t begin = block * job->block_positions, end = begin + job->block_positions;
  float *copy = hfb_partials_at(&job->copies, block);
  memset(copy, 0, (size_t)(job->length * job->row_stride) * sizeof(float));
  for (int64_t k = begin; k < end && k < job->positions; k++) {
    int64_t row = index_at(job, k);
    if (row != job->skipped) add_position(job, 0, k, copy + row * job->row_stride);
  }
}

static void add_copies(void *context, int64_t begin, int64_t end, int worker) {
  const scatter_job *job = context;
  for (int64_t row = begin; row < end; row++) {
    float *out = job->out + row * job->inner;
    memset(out, 0, (size_t)job->inner * sizeof(float));
    for (int64_t block = 0; block < job->blocks; block++) {
      const float *copy = hfb_partials_at(&job->copies, block);
      add_row(out, copy + row * job->row_stride, job->inner, false);
    }
  }
}

static hfb_status scatter_small(scatter_job *job, hfb_pool *pool) {
  job->row_stride = (job->inner + VEC_F32_LANES - 1) / VEC_F32_LANES * VEC_F32_LANES;
  job->block_positions = (job->positions + SCATTER_BLOCKS - 1) / SCATTER_BLOCKS;
  if (job->block_positions < SCATTER_MIN_BLOCK_POSITIONS) job->block_positions = SCATTER_MIN_BLOCK_POSITIONS;
  job->blocks = (job->positions + job->block_positions - 1) / job->block_positions;
  size_t copy_bytes = (size_t)(job->length * job->row_stride) * sizeof(float);
  HFB_TRY(hfb_partials_init(pool, job->blocks, copy_bytes, &job->copies));
  hfb_pool_run(pool, job->blocks, scatter_block, job);
  hfb_range_run(job->length, SCATTER_ADD_GRAIN / job->inner + 1, pool, add_copies, job);
  hfb_partials_deinit(&job->copies);
  return HFB_OK;
}

/* A counting sort of the positions by their rows. */
static void list_positions(const scatter_job *job) {
  int64_t *first = job->first;
  memset(first, 0, (size_t)(job->length + 1) * sizeof *first);
  for (int64_t k = 0; k < job->positions; k++) first[index_at(job, k) + 1]++;
  if (job->skipped >= 0) first[job->skipped + 1] = 0;
  for (int64_t row = 0; row < job->length; row++) first[row + 1] += first[row];
  for (int64_t k = 0; k < job->positions; k++) {
    int64_t row = index_at(job, k);
    if (row != job->skipped) job->listed[first[row]++] = k;
  }
  memmove(first + 1, first, (size_t)job->length * sizeof *first); /* each start has become the next row's */
  first[0] = 0;
}

static hfb_status check_rows(const hfb_kernel_call *call, const scatter_job *job) {
  for (int64_t k = 0; k < job->positions; k++) {
    int64_t row = index_at(job, k);
    if (row >= 0 && row < job->length) continue;
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s: index %" PRId64 " is outside [0,%" PRId64 ")",
                    hfb_op_info_of(call->node->op)->name, row, job->length);
  }
  return HFB_OK;
}

/* The workers share their scratch: the lists, and the index in order where it is not. */
static hfb_status scatter_large(const hfb_kernel_call *call, scatter_job *job) {
  const bool copies = !job->index_is_row_major;
  const int64_t words = job->length + 1 + job->positions * (copies ? 2 : 1);
  hfb_scratch scratch;
  HFB_TRY(hfb_scratch_init_shared(call->pool, (size_t)words * sizeof(int64_t), &scratch));
  job->first = hfb_scratch_of(&scratch, 0);
  job->listed = job->first + job->length + 1;
  hfb_tensor index = hfb_tensor_borrow(HFB_I64, &job->index->shape, job->listed + job->positions);
  hfb_status status = copies ? hfb_tensor_copy(job->index, &index, call->pool) : HFB_OK;
  if (copies) job->index = &index;
  job->index_is_row_major = true;
  if (status == HFB_OK) status = check_rows(call, job);
  if (status == HFB_OK) {
    list_positions(job);
    job->row_stride = job->inner;
    job->ranges = job->length * job->inner / SCATTER_RANGE + 1;
    if (job->ranges > SCATTER_MAX_RANGES) job->ranges = SCATTER_MAX_RANGES;
    job->range_rows = ceil_div(job->length, job->ranges);
    job->ranges = ceil_div(job->length, job->range_rows);
    hfb_pool_run(call->pool, job->outer * job->ranges, scatter_range, job);
  }
  hfb_scratch_deinit(&scratch);
  return status;
}

static hfb_status run_scatter(const hfb_kernel_call *call, int axis, int64_t skipped) {
  const hfb_shape *shape = &call->results[0].shape;
  scatter_job job = {.g = &call->inputs[0],
                     .index = &call->inputs[1],
                     .index_is_row_major = hfb_tensor_is_contiguous(&call->inputs[1]),
                     .g_is_row_major = hfb_tensor_is_contiguous(&call->inputs[0]),
                     .positions = hfb_shape_elements(&call->inputs[1].shape),
                     .outer = 1,
                     .length = shape->dim[axis],
                     .inner = 1,
                     .skipped = skipped,
                     .out = call->results[0].data};
  for (int d = 0; d < axis; d++) job.outer *= shape->dim[d];
  for (int d = axis + 1; d < shape->rank; d++) job.inner *= shape->dim[d];
  const bool small = job.outer == 1 && job.length * job.inner <= SCATTER_SMALL_TABLE;
  if (!small && job.outer * job.length * job.inner > 0) return scatter_large(call, &job);
  HFB_TRY(check_rows(call, &job));
  return job.outer * job.length * job.inner == 0 ? HFB_OK : scatter_small(&job, call->pool);
}

hfb_status HFB_K(hfb_k_f32_embedding_backward)(const hfb_kernel_call *call) {
  return run_scatter(call, 0, hfb_node_int(call->node, HFB_ATTR_PADDING_IDX));
}

hfb_status HFB_K(hfb_k_f32_gather_backward)(const hfb_kernel_call *call) {
  return run_scatter(call, (int)hfb_node_int(call->node, HFB_ATTR_AXIS), -1);
}

/* ---- windows ---- */

typedef struct windows_job {
  int64_t length, count, window, step, pieces; /* pieces of `step` elements, the last may be shorter */
  const float *g;                              /* [outer][count][window] */
  float *out;                                  /* [outer][length] */
} windows_job;

/* A piece gets a part of each window that covers it, from the last window that does to the first. */
static void add_windows(void *context, int64_t begin, int64_t end, int worker) {
  const windows_job *job = context;
  for (int64_t index = begin; index < end; index++) {
    int64_t outer = index / job->pieces, piece = index % job->pieces, first = piece * job->step;
    int64_t length = job->length - first < job->step ? job->length - first : job->step;
    float *out = job->out + outer * job->length + first;
    memset(out, 0, (size_t)length * sizeof(float));
    for (int64_t t = piece < job->count ? piece : job->count - 1; t >= 0; t--) {
      int64_t at = first - t * job->step, count = job->window - at < length ? job->window - at : length;
      if (count <= 0) break;
      add_row(out, job->g + (outer * job->count + t) * job->window + at, count, false);
    }
  }
}

hfb_status HFB_K(hfb_k_f32_unfold_backward)(const hfb_kernel_call *call) {
  const hfb_shape *shape = &call->results[0].shape, *windows = &call->inputs[0].shape;
  windows_job job = {.length = shape->dim[shape->rank - 1],
                     .count = windows->dim[shape->rank - 1],
                     .window = windows->dim[shape->rank],
                     .step = hfb_node_int(call->node, HFB_ATTR_STEP),
                     .g = call->inputs[0].data,
                     .out = call->results[0].data};
  job.pieces = (job.length + job.step - 1) / job.step;
  int64_t outer = hfb_shape_elements(shape) / job.length;
  hfb_range_run(outer * job.pieces, SCATTER_RANGE / job.step + 1, call->pool, add_windows, &job);
  return HFB_OK;
}
