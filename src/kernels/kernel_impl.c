#include "kernels/kernel_impl.h"

hfb_tensor hfb_tensor_without(const hfb_tensor *tensor, int axis_count, const int64_t *axes) {
  hfb_tensor result = *tensor;
  result.shape.rank = 0;
  for (int d = 0; d < tensor->shape.rank; d++) {
    bool is_taken_out = false;
    for (int i = 0; i < axis_count; i++) is_taken_out |= axes[i] == d;
    if (is_taken_out) continue;
    result.shape.dim[result.shape.rank] = tensor->shape.dim[d];
    result.strides[result.shape.rank] = tensor->strides[d];
    result.shape.rank++;
  }
  return result;
}

enum { LINE_GRAIN = 16 << 10 }; /* elements that one task touches */

typedef struct line_job {
  int operand_count;
  hfb_line_fn line;
  void *context;
} line_job;

static void run_lines(void *context, char *const *data, const int64_t *stride, int64_t count) {
  const line_job *job = context;
  char *at[HFB_STRIDED_MAX_OPERANDS];
  for (int k = 0; k < job->operand_count; k++) at[k] = data[k];
  for (int64_t i = 0; i < count; i++) {
    job->line(job->context, at);
    for (int k = 0; k < job->operand_count; k++) at[k] += stride[k];
  }
}

void hfb_lines_run(const hfb_shape *shape, int operand_count, const hfb_tensor *const *operands, int64_t work,
                   hfb_pool *pool, hfb_line_fn line, void *context) {
  hfb_strided walk = hfb_strided_make(shape, operand_count, operands);
  line_job job = {operand_count, line, context};
  hfb_strided_run(&walk, work > 0 ? LINE_GRAIN / work + 1 : LINE_GRAIN, pool, run_lines, &job);
}
