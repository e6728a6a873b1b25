/* Losses: means over all elements or targets, in double and in row-major order. */
#include <inttypes.h>
#include <math.h>

#include "kernels/kernel_impl.h"
#include "kernels/ref/line.h"

static void store_scalar(const hfb_tensor *result, double value) {
  hfb_convert_row(HFB_F64, (const char *)&value, 8, result->dtype, result->data, 8, 1);
}

hfb_status hfb_k_nll_loss__ref(const hfb_kernel_call *call) {
  const hfb_tensor *log_probs = &call->inputs[0], *target = &call->inputs[1];
  int64_t ignore_index = hfb_node_int(call->node, HFB_ATTR_IGNORE_INDEX);
  int64_t classes = log_probs->shape.dim[1], counted = 0;
  int64_t row_stride = hfb_tensor_byte_stride(log_probs, 0), column_stride = hfb_tensor_byte_stride(log_probs, 1);
  double sum = 0;
  for (int64_t i = 0; i < log_probs->shape.dim[0]; i++) {
    int64_t class = ((const int64_t *)target->data)[i * target->strides[0]];
    if (class == ignore_index) continue;
    if (class < 0 || class >= classes) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "nll_loss: target %" PRId64 " is outside [0,%" PRId64 ")", class, classes);
    }
    double log_prob = 0;
    const char *element = (const char *)log_probs->data + i * row_stride + class * column_stride;
    hfb_convert_row(log_probs->dtype, element, 8, HFB_F64, (char *)&log_prob, 8, 1);
    sum -= log_prob;
    counted++;
  }
  store_scalar(&call->results[0], sum / (double)counted); /* nan when nothing was counted, as in the frameworks */
  return HFB_OK;
}

static double bce_with_logits(double x, double target) {
  return fmax(x, 0) - x * target + log1p(exp(-fabs(x))); /* does not overflow for large |x| */
}

static double squared_error(double x, double target) { return (x - target) * (x - target); }

typedef struct pair_job {
  hfb_dtype x_dtype, target_dtype;
  double (*loss)(double x, double target);
  double sum;
} pair_job;

static void pair_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  pair_job *job = context;
  hfb_line x = {job->x_dtype, count, stride[0], data[0]}, target = {job->target_dtype, count, stride[1], data[1]};
  double values[HFB_LINE_BLOCK], targets[HFB_LINE_BLOCK];
  for (int64_t begin = 0; begin < count; begin += HFB_LINE_BLOCK) {
    hfb_line_read(&x, begin, values);
    hfb_line_read(&target, begin, targets);
    for (int64_t i = 0; i < hfb_line_block(&x, begin); i++) job->sum += job->loss(values[i], targets[i]);
  }
}

static hfb_status run_pair_loss(const hfb_kernel_call *call, double (*loss)(double, double)) {
  const hfb_tensor *x = &call->inputs[0], *target = &call->inputs[1];
  pair_job job = {.x_dtype = x->dtype, .target_dtype = target->dtype, .loss = loss};
  hfb_strided walk = hfb_strided_make(&x->shape, 2, (const hfb_tensor *const[]){x, target});
  hfb_strided_walk(&walk, pair_row, &job);
  store_scalar(&call->results[0], job.sum / (double)walk.count);
  return HFB_OK;
}

hfb_status hfb_k_bce_with_logits__ref(const hfb_kernel_call *call) { return run_pair_loss(call, bce_with_logits); }
hfb_status hfb_k_mse_loss__ref(const hfb_kernel_call *call) { return run_pair_loss(call, squared_error); }
