/* take_along on floats and its gradient, along the last dimension: a line of the index reads from, or adds to, one line
 * of the table. */
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/kernel_impl.h"

typedef struct take_job {
  int64_t length; /* of a line of the index */
  int64_t extent; /* of a line of the table */
  _Atomic bool failed;
  _Atomic int64_t bad_index;
} take_job;

static void note_bad_index(take_job *job, int64_t index) {
  atomic_store(&job->bad_index, index);
  atomic_store(&job->failed, true);
}

static bool is_outside(const take_job *job, int64_t index) { return (uint64_t)index >= (uint64_t)job->extent; }

/* data: result, index, table */
static void take_line(void *context, char *const *data) {
  take_job *job = context;
  float *out = (float *)data[0];
  const int64_t *index = (const int64_t *)data[1];
  const float *table = (const float *)data[2];
  for (int64_t i = 0; i < job->length; i++) {
    if (is_outside(job, index[i])) {
      note_bad_index(job, index[i]);
      return;
    }
    out[i] = table[index[i]];
  }
}

/* data: result, index, g */
static void add_line(void *context, char *const *data) {
  take_job *job = context;
  float *out = (float *)data[0];
  const int64_t *index = (const int64_t *)data[1];
  const float *g = (const float *)data[2];
  memset(out, 0, (size_t)job->extent * sizeof(float));
  for (int64_t i = 0; i < job->length; i++) {
    if (is_outside(job, index[i])) {
      note_bad_index(job, index[i]);
      return;
    }
    out[index[i]] += g[i];
  }
}

/* `source` is the table or the gradient. */
static hfb_status run_lines(const hfb_kernel_call *call, const hfb_tensor *source, int64_t extent, hfb_line_fn line) {
  const hfb_tensor *result = &call->results[0], *index = &call->inputs[1];
  int64_t last = index->shape.rank - 1;
  take_job job = {.length = index->shape.dim[last], .extent = extent};
  hfb_tensor out = hfb_tensor_without(result, 1, &last), indices = hfb_tensor_without(index, 1, &last);
  hfb_tensor lines = hfb_tensor_without(source, 1, &last);
  lines.shape = out.shape; /* a table may have more lines than are read */
  hfb_lines_run(&out.shape, 3, (const hfb_tensor *const[]){&out, &indices, &lines}, job.length + job.extent,
                call->pool, line, &job);
  if (!atomic_load(&job.failed)) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s: index %" PRId64 " is outside [0,%" PRId64 ")",
                  hfb_op_info_of(call->node->op)->name, atomic_load(&job.bad_index), job.extent);
}

hfb_status hfb_k_f32_take_along(const hfb_kernel_call *call) {
  const hfb_tensor *table = &call->inputs[0];
  return run_lines(call, table, table->shape.dim[table->shape.rank - 1], take_line);
}

hfb_status hfb_k_f32_take_along_backward(const hfb_kernel_call *call) {
  const hfb_shape *shape = &call->results[0].shape;
  return run_lines(call, &call->inputs[0], shape->dim[shape->rank - 1], add_line);
}
