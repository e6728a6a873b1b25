/* gather_backward, take_along_backward, embedding_backward, unfold_backward: gradients added up at an index. Each
 * element of the result is one sum in the order of g, whatever the number of threads: the places that read a row are
 * listed first. */
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "device/strided.h"
#include "kernels/kernel_impl.h"
#include "kernels/ref/wide.h"

enum { GRAIN = 16 << 10 };

static hfb_status check_indices(const hfb_kernel_call *call, const int64_t *index, int64_t count, int64_t extent) {
  for (int64_t i = 0; i < count; i++) {
    if (index[i] >= 0 && index[i] < extent) continue;
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s: index %" PRId64 " is outside [0,%" PRId64 ")",
                    hfb_op_info_of(call->node->op)->name, index[i], extent);
  }
  return HFB_OK;
}

/* ---- rows ---- */

typedef struct rows_job {
  hfb_axis_split split;  /* of the result */
  int64_t position_count;
  int64_t *first;        /* [length + 1]: where the places of each row begin in `positions` */
  int64_t *positions;    /* places in the index, by row, ascending */
  const double *g;       /* [outer][position][inner] */
  double *out;           /* [outer][length][inner] */
} rows_job;

/* A counting sort, which keeps the order of equal rows. Row `skipped` gets no places; -1: none. */
static void list_positions(const rows_job *job, const int64_t *index, int64_t skipped) {
  int64_t length = job->split.length, *first = job->first;
  memset(first, 0, (size_t)(length + 1) * sizeof(*first));
  for (int64_t k = 0; k < job->position_count; k++) first[index[k] + 1] += index[k] != skipped;
  for (int64_t row = 0; row < length; row++) first[row + 1] += first[row];
  for (int64_t k = 0; k < job->position_count; k++) {
    if (index[k] != skipped) job->positions[first[index[k]]++] = k;
  }
  for (int64_t row = length; row > 0; row--) first[row] = first[row - 1]; /* undoes the advance */
  first[0] = 0;
}

static void add_rows(void *context, int64_t begin, int64_t end, int worker) {
  const rows_job *job = context;
  int64_t length = job->split.length, inner = job->split.inner;
  for (int64_t line = begin; line < end; line++) {
    int64_t outer = line / length, row = line % length;
    double *out = job->out + line * inner;
    for (int64_t i = 0; i < inner; i++) out[i] = 0;
    for (int64_t k = job->first[row]; k < job->first[row + 1]; k++) {
      const double *g = job->g + (outer * job->position_count + job->positions[k]) * inner;
      for (int64_t i = 0; i < inner; i++) out[i] += g[i];
    }
  }
}

static hfb_status scatter_rows(const hfb_kernel_call *call, const hfb_wide *wide, int axis, int64_t skipped) {
  rows_job job = {.split = hfb_axis_split_of(&call->results[0].shape, axis),
                  .position_count = hfb_shape_elements(&call->inputs[1].shape),
                  .g = wide->in[0],
                  .out = wide->out[0]};
  int64_t length = job.split.length, inner = job.split.inner;
  HFB_TRY(check_indices(call, wide->index[1], job.position_count, length));
  HFB_TRY(hfb_mem_alloc((size_t)(length + 1 + job.position_count), sizeof(*job.first), &job.first));
  job.positions = job.first + length + 1;
  list_positions(&job, wide->index[1], skipped);
  hfb_range_run(job.split.outer * length, inner > 0 ? GRAIN / inner + 1 : GRAIN, call->pool, add_rows, &job);
  hfb_mem_free(job.first);
  return HFB_OK;
}

hfb_status hfb_k_gather_backward__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  int axis = (int)hfb_node_int(call->node, HFB_ATTR_AXIS);
  return hfb_wide_end(call, &wide, scatter_rows(call, &wide, axis, -1));
}

hfb_status hfb_k_embedding_backward__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  int64_t padding = hfb_node_int(call->node, HFB_ATTR_PADDING_IDX);
  return hfb_wide_end(call, &wide, scatter_rows(call, &wide, 0, padding));
}

/* ---- lines ---- */

typedef struct lines_job {
  int axis;
  hfb_shape lines;               /* the shape of the index with extent 1 along the axis */
  int64_t length;                /* of the index along the axis */
  int64_t steps[HFB_MAX_RANK], out_steps[HFB_MAX_RANK]; /* row-major strides of the index and of the result */
  const int64_t *index;
  const double *g;
  double *out;
} lines_job;

/* Each line of the index adds into one line of the result, and no other line does. */
static void add_lines(void *context, int64_t begin, int64_t end, int worker) {
  const lines_job *job = context;
  for (int64_t line = begin; line < end; line++) {
    int64_t rest = line, from = 0, to = 0;
    for (int d = job->lines.rank - 1; d >= 0; d--) {
      int64_t at = rest % job->lines.dim[d];
      rest /= job->lines.dim[d];
      from += at * job->steps[d];
      to += at * job->out_steps[d];
    }
    for (int64_t i = 0; i < job->length; i++) {
      int64_t at = from + i * job->steps[job->axis];
      job->out[to + job->index[at] * job->out_steps[job->axis]] += job->g[at];
    }
  }
}

static hfb_status scatter_lines(const hfb_kernel_call *call, const hfb_wide *wide) {
  const hfb_shape *shape = &call->inputs[1].shape, *result = &call->results[0].shape;
  lines_job job = {.axis = (int)hfb_node_int(call->node, HFB_ATTR_AXIS),
                   .lines = *shape,
                   .index = wide->index[1],
                   .g = wide->in[0],
                   .out = wide->out[0]};
  HFB_TRY(check_indices(call, job.index, hfb_shape_elements(shape), result->dim[job.axis]));
  memset(job.out, 0, (size_t)hfb_shape_elements(result) * sizeof(double));
  job.length = shape->dim[job.axis];
  job.lines.dim[job.axis] = 1;
  int64_t step = 1, out_step = 1;
  for (int d = shape->rank - 1; d >= 0; d--) {
    job.steps[d] = step;
    job.out_steps[d] = out_step;
    step *= shape->dim[d];
    out_step *= result->dim[d];
  }
  hfb_range_run(hfb_shape_elements(&job.lines), job.length > 0 ? GRAIN / job.length + 1 : GRAIN, call->pool, add_lines,
                &job);
  return HFB_OK;
}

hfb_status hfb_k_take_along_backward__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  return hfb_wide_end(call, &wide, scatter_lines(call, &wide));
}

/* ---- windows ---- */

typedef struct windows_job {
  int64_t length, count, window, step;
  const double *g; /* [outer][count][window] */
  double *out;     /* [outer][length] */
} windows_job;

static void add_windows(void *context, int64_t begin, int64_t end, int worker) {
  const windows_job *job = context;
  for (int64_t outer = begin; outer < end; outer++) {
    double *out = job->out + outer * job->length;
    const double *g = job->g + outer * job->count * job->window;
    for (int64_t i = 0; i < job->length; i++) out[i] = 0;
    for (int64_t t = 0; t < job->count; t++) {
      for (int64_t i = 0; i < job->window; i++) out[t * job->step + i] += g[t * job->window + i];
    }
  }
}

hfb_status hfb_k_unfold_backward__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  const hfb_shape *shape = &call->results[0].shape, *windows = &call->inputs[0].shape;
  windows_job job = {.length = shape->dim[shape->rank - 1],
                     .count = windows->dim[shape->rank - 1],
                     .window = windows->dim[shape->rank],
                     .step = hfb_node_int(call->node, HFB_ATTR_STEP),
                     .g = wide.in[0],
                     .out = wide.out[0]};
  int64_t outer = hfb_shape_elements(shape) / job.length;
  hfb_range_run(outer, GRAIN / (job.count * job.window) + 1, call->pool, add_windows, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}
