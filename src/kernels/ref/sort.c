/* argsort: a merge sort of positions, which is stable by construction. */
#include <string.h>

#include "device/convert.h"
#include "kernels/integers.h"
#include "kernels/kernel_impl.h"

typedef struct sort_job {
  const hfb_tensor *x;
  int64_t *out;
  int64_t length;
  hfb_scratch scratch; /* keys and positions of one line */
} sort_job;

/* The first element of a line: `index` counts lines in row-major order. */
static const char *line_at(const hfb_tensor *x, int64_t index) {
  const char *at = x->data;
  for (int d = x->shape.rank - 2; d >= 0; d--) {
    at += index % x->shape.dim[d] * hfb_tensor_byte_stride(x, d);
    index /= x->shape.dim[d];
  }
  return at;
}

/* Merges the sorted positions from[begin,middle) and from[middle,end); of equal keys the left one goes first. */
static void merge(const int64_t *keys, const int64_t *from, int64_t begin, int64_t middle, int64_t end, int64_t *to) {
  int64_t left = begin, right = middle;
  for (int64_t i = begin; i < end; i++) {
    bool take_left = right == end || (left < middle && keys[from[left]] <= keys[from[right]]);
    to[i] = take_left ? from[left++] : from[right++];
  }
}

static void sort_line(void *context, int64_t index, int worker) {
  const sort_job *job = context;
  const int64_t length = job->length;
  int64_t *keys = hfb_scratch_of(&job->scratch, worker), *from = keys + length, *to = job->out + index * length;
  const int64_t stride = hfb_tensor_byte_stride(job->x, job->x->shape.rank - 1);
  hfb_convert_row(job->x->dtype, line_at(job->x, index), stride, HFB_I64, (char *)keys, sizeof(int64_t), length);
  for (int64_t i = 0; i < length; i++) to[i] = i;
  for (int64_t width = 1; width < length; width *= 2) {
    memcpy(from, to, (size_t)length * sizeof *to);
    for (int64_t begin = 0; begin < length; begin += 2 * width) {
      merge(keys, from, begin, min_i64(begin + width, length), min_i64(begin + 2 * width, length), to);
    }
  }
}

hfb_status hfb_k_argsort__ref(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0];
  sort_job job = {.x = x, .out = call->results[0].data, .length = x->shape.dim[x->shape.rank - 1]};
  if (hfb_shape_elements(&x->shape) == 0) return HFB_OK;
  HFB_TRY(hfb_scratch_init(call->pool, 2 * (size_t)job.length * sizeof(int64_t), &job.scratch));
  hfb_pool_run(call->pool, hfb_shape_elements(&x->shape) / job.length, sort_line, &job);
  hfb_scratch_deinit(&job.scratch);
  return HFB_OK;
}
