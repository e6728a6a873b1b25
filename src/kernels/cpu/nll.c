/* nll_loss on floats and its gradient. Both touch one element of each row; the gradient writes zeros around it. */
#include <inttypes.h>
#include <string.h>

#include "kernels/kernel_impl.h"

enum { NLL_GRAIN = 256 << 10 }; /* elements of the gradient that one task writes */

typedef struct nll_job {
  const int64_t *target;
  int64_t target_stride, rows, classes, ignore_index;
  float *out;
  float value; /* of the gradient at a target */
} nll_job;

static int64_t target_of(const nll_job *job, int64_t row) { return job->target[row * job->target_stride]; }

static nll_job job_of(const hfb_kernel_call *call, const hfb_shape *shape) {
  const hfb_tensor *target = &call->inputs[1];
  return (nll_job){.target = target->data,
                   .target_stride = target->strides[0],
                   .rows = shape->dim[0],
                   .classes = shape->dim[1],
                   .ignore_index = hfb_node_int(call->node, HFB_ATTR_IGNORE_INDEX)};
}

/* Rows whose target counts; all of those must be classes. */
static hfb_status count_targets(const hfb_kernel_call *call, const nll_job *job, int64_t *out_count) {
  int64_t count = 0;
  for (int64_t row = 0; row < job->rows; row++) {
    int64_t class = target_of(job, row);
    if (class == job->ignore_index) continue;
    if (class < 0 || class >= job->classes) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s: target %" PRId64 " is outside [0,%" PRId64 ")",
                      hfb_op_info_of(call->node->op)->name, class, job->classes);
    }
    count++;
  }
  *out_count = count;
  return HFB_OK;
}

hfb_status hfb_k_f32_nll_loss(const hfb_kernel_call *call) {
  const hfb_tensor *log_probs = &call->inputs[0];
  nll_job job = job_of(call, &log_probs->shape);
  int64_t count;
  HFB_TRY(count_targets(call, &job, &count));
  const float *data = log_probs->data;
  double sum = 0;
  for (int64_t row = 0; row < job.rows; row++) {
    int64_t class = target_of(&job, row);
    if (class == job.ignore_index) continue;
    sum -= (double)data[row * log_probs->strides[0] + class * log_probs->strides[1]];
  }
  *(float *)call->results[0].data = (float)(sum / (double)count); /* nan when nothing counts, as in the frameworks */
  return HFB_OK;
}

static void fill_rows(void *context, int64_t begin, int64_t end, int worker) {
  const nll_job *job = context;
  for (int64_t row = begin; row < end; row++) {
    float *out = job->out + row * job->classes;
    memset(out, 0, (size_t)job->classes * sizeof(float));
    int64_t class = target_of(job, row);
    if (class != job->ignore_index) out[class] = job->value;
  }
}

hfb_status hfb_k_f32_nll_loss_backward(const hfb_kernel_call *call) {
  nll_job job = job_of(call, &call->results[0].shape);
  int64_t count;
  HFB_TRY(count_targets(call, &job, &count));
  job.out = call->results[0].data;
  job.value = (float)(-(double)*(const float *)call->inputs[0].data / (double)count);
  hfb_range_run(job.rows, NLL_GRAIN / (job.classes + 1) + 1, call->pool, fill_rows, &job);
  return HFB_OK;
}
