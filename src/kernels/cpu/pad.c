/* pad on floats: every row of the result is written once, by a copy between two borders or as border alone. */
#include <math.h>
#include <string.h>

#include "kernels/kernel_impl.h"

enum { PAD_GRAIN = 32 << 10, PAD_PIECE = 16 };

typedef struct pad_dim {
  int64_t extent, before, inside, stride; /* of the result; elements of x from `before` on, and their stride */
} pad_dim;

typedef struct pad_job {
  pad_dim dims[HFB_MAX_RANK]; /* the last one is the row */
  int rank;
  const float *x;
  float *out;
  float value;
} pad_job;

static void fill(float *out, float value, int64_t count) {
  float piece[PAD_PIECE];
  int64_t i = 0;
  if (value == 0 && !signbit(value)) {
    memset(out, 0, (size_t)count * sizeof(float));
    return;
  }
  for (int k = 0; k < PAD_PIECE; k++) piece[k] = value;
  for (; i + PAD_PIECE <= count; i += PAD_PIECE) memcpy(out + i, piece, sizeof(piece));
  memcpy(out + i, piece, (size_t)(count - i) * sizeof(float));
}

/* The row of x that belongs to a row of the result, or NULL. */
static const float *source_of(const pad_job *job, int64_t row) {
  const float *x = job->x;
  for (int d = job->rank - 2; d >= 0; d--) {
    const pad_dim *dim = &job->dims[d];
    int64_t index = row % dim->extent - dim->before;
    row /= dim->extent;
    if (index < 0 || index >= dim->inside) return NULL;
    x += index * dim->stride;
  }
  return x;
}

static void pad_rows(void *context, int64_t begin, int64_t end, int worker) {
  const pad_job *job = context;
  const pad_dim *dim = &job->dims[job->rank - 1];
  for (int64_t row = begin; row < end; row++) {
    float *out = job->out + row * dim->extent, *inside = out + dim->before;
    const float *x = source_of(job, row);
    if (!x) {
      fill(out, job->value, dim->extent);
      continue;
    }
    fill(out, job->value, dim->before);
    if (dim->stride == 1) {
      memcpy(inside, x, (size_t)dim->inside * sizeof(float));
    } else {
      for (int64_t i = 0; i < dim->inside; i++) inside[i] = x[i * dim->stride];
    }
    fill(inside + dim->inside, job->value, dim->extent - dim->before - dim->inside);
  }
}

/* A row without borders continues the one before where x has no gap between them: the two dimensions become one. */
static void merge_rows(pad_job *job) {
  while (job->rank > 1) {
    pad_dim *outer = &job->dims[job->rank - 2], row = job->dims[job->rank - 1];
    if (row.inside != row.extent || row.stride != 1 || (outer->inside > 1 && outer->stride != row.extent)) return;
    *outer = (pad_dim){outer->extent * row.extent, outer->before * row.extent, outer->inside * row.extent, 1};
    job->rank--;
  }
}

hfb_status hfb_k_f32_pad(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0], *result = &call->results[0];
  int count;
  const int64_t *before = hfb_node_ints(call->node, HFB_ATTR_STARTS, &count);
  pad_job job = {.rank = count,
                 .x = x->data,
                 .out = result->data,
                 .value = (float)hfb_node_float(call->node, HFB_ATTR_VALUE)};
  for (int d = 0; d < count; d++) {
    int64_t stride = x->shape.dim[d] > 1 ? x->strides[d] : 1;
    job.dims[d] = (pad_dim){result->shape.dim[d], before[d], x->shape.dim[d], stride};
  }
  int64_t elements = hfb_shape_elements(&result->shape);
  if (elements == 0) return HFB_OK;
  if (count == 0) {
    *job.out = *job.x;
    return HFB_OK;
  }
  merge_rows(&job);
  int64_t extent = job.dims[job.rank - 1].extent;
  hfb_range_run(elements / extent, PAD_GRAIN / extent + 1, call->pool, pad_rows, &job);
  return HFB_OK;
}
