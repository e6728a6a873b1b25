/* softmax, log_softmax, layer_norm, rms_norm: functions of a line, computed in double by their definitions. */
#include <math.h>

#include "kernels/kernel_impl.h"
#include "kernels/ref/line.h"

typedef struct normalize_job {
  hfb_line in, out;       /* data is set for each line */
  hfb_line weight, bias;  /* layer_norm, rms_norm */
  double eps;
  bool is_log, has_mean;
} normalize_job;

static void softmax_line(void *context, char *const *data) {
  const normalize_job *job = context;
  hfb_line in = job->in, out = job->out;
  out.data = data[0];
  in.data = data[1];
  double values[HFB_LINE_BLOCK], max = -INFINITY, sum = 0;
  for (int64_t begin = 0; begin < in.length; begin += HFB_LINE_BLOCK) {
    hfb_line_read(&in, begin, values);
    for (int64_t i = 0; i < hfb_line_block(&in, begin); i++) {
      max = values[i] > max || isnan(values[i]) ? values[i] : max;
    }
  }
  for (int64_t begin = 0; begin < in.length; begin += HFB_LINE_BLOCK) {
    hfb_line_read(&in, begin, values);
    for (int64_t i = 0; i < hfb_line_block(&in, begin); i++) sum += exp(values[i] - max);
  }
  double log_sum = log(sum);
  for (int64_t begin = 0; begin < in.length; begin += HFB_LINE_BLOCK) {
    hfb_line_read(&in, begin, values);
    for (int64_t i = 0; i < hfb_line_block(&in, begin); i++) {
      values[i] = job->is_log ? values[i] - max - log_sum : exp(values[i] - max) / sum;
    }
    hfb_line_write(&out, begin, values);
  }
}

static hfb_line line_of(const hfb_tensor *tensor, int axis) {
  return (hfb_line){.dtype = tensor->dtype,
                    .length = tensor->shape.dim[axis],
                    .stride = hfb_tensor_byte_stride(tensor, axis),
                    .data = tensor->data};
}

static void run_lines_of(const hfb_kernel_call *call, int64_t axis, hfb_line_fn line, normalize_job *job) {
  const hfb_tensor *x = &call->inputs[0], *result = &call->results[0];
  job->in = line_of(x, (int)axis);
  job->out = line_of(result, (int)axis);
  hfb_tensor in = hfb_tensor_without(x, 1, &axis), out = hfb_tensor_without(result, 1, &axis);
  hfb_lines_run(&out.shape, 2, (const hfb_tensor *const[]){&out, &in}, job->in.length, call->pool, line, job);
}

hfb_status hfb_k_softmax__ref(const hfb_kernel_call *call) {
  normalize_job job = {.is_log = false};
  run_lines_of(call, hfb_node_int(call->node, HFB_ATTR_AXIS), softmax_line, &job);
  return HFB_OK;
}

hfb_status hfb_k_log_softmax__ref(const hfb_kernel_call *call) {
  normalize_job job = {.is_log = true};
  run_lines_of(call, hfb_node_int(call->node, HFB_ATTR_AXIS), softmax_line, &job);
  return HFB_OK;
}

static double sum_of_squares(const hfb_line *line, double center) {
  double values[HFB_LINE_BLOCK], sum = 0;
  for (int64_t begin = 0; begin < line->length; begin += HFB_LINE_BLOCK) {
    hfb_line_read(line, begin, values);
    for (int64_t i = 0; i < hfb_line_block(line, begin); i++) sum += (values[i] - center) * (values[i] - center);
  }
  return sum;
}

static double sum_of(const hfb_line *line) {
  double values[HFB_LINE_BLOCK], sum = 0;
  for (int64_t begin = 0; begin < line->length; begin += HFB_LINE_BLOCK) {
    hfb_line_read(line, begin, values);
    for (int64_t i = 0; i < hfb_line_block(line, begin); i++) sum += values[i];
  }
  return sum;
}

/* layer_norm: (x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias. rms_norm: mean and bias are left out. */
static void norm_line(void *context, char *const *data) {
  const normalize_job *job = context;
  hfb_line in = job->in, out = job->out;
  out.data = data[0];
  in.data = data[1];
  double mean = job->has_mean ? sum_of(&in) / (double)in.length : 0;
  double scale = 1 / sqrt(sum_of_squares(&in, mean) / (double)in.length + job->eps);
  double values[HFB_LINE_BLOCK], weight[HFB_LINE_BLOCK], bias[HFB_LINE_BLOCK] = {0};
  for (int64_t begin = 0; begin < in.length; begin += HFB_LINE_BLOCK) {
    hfb_line_read(&in, begin, values);
    hfb_line_read(&job->weight, begin, weight);
    if (job->has_mean) hfb_line_read(&job->bias, begin, bias);
    for (int64_t i = 0; i < hfb_line_block(&in, begin); i++) {
      values[i] = (values[i] - mean) * scale * weight[i] + bias[i];
    }
    hfb_line_write(&out, begin, values);
  }
}

hfb_status hfb_k_layer_norm__ref(const hfb_kernel_call *call) {
  normalize_job job = {.weight = line_of(&call->inputs[1], 0),
                       .bias = line_of(&call->inputs[2], 0),
                       .eps = hfb_node_float(call->node, HFB_ATTR_EPS),
                       .has_mean = true};
  run_lines_of(call, call->inputs[0].shape.rank - 1, norm_line, &job);
  return HFB_OK;
}

hfb_status hfb_k_rms_norm__ref(const hfb_kernel_call *call) {
  normalize_job job = {.weight = line_of(&call->inputs[1], 0), .eps = hfb_node_float(call->node, HFB_ATTR_EPS)};
  run_lines_of(call, call->inputs[0].shape.rank - 1, norm_line, &job);
  return HFB_OK;
}
