/* Reductions and scans over lines, accumulated in double (float dtypes) or int64. */
#include <math.h>

#include "device/convert.h"
#include "kernels/kernel_impl.h"

enum { BLOCK = 256 };

typedef enum reduction { SUM, MAX, MEAN } reduction;

typedef struct reduce_job {
  reduction reduction;
  hfb_dtype dtype;
  hfb_strided line; /* the reduced dimensions, from the first element of a line */
} reduce_job;

typedef struct accumulator {
  const reduce_job *job;
  double f64;
  int64_t i64;
} accumulator;

/* nan wins, as in the frameworks. */
static double f64_max(double x, double y) { return y > x || isnan(y) ? y : x; }

static void accumulate_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  accumulator *sum = context;
  hfb_dtype dtype = sum->job->dtype;
  bool is_max = sum->job->reduction == MAX;
  for (int64_t begin = 0; begin < count; begin += BLOCK) {
    int64_t block = count - begin < BLOCK ? count - begin : BLOCK;
    const char *from = data[0] + begin * stride[0];
    if (hfb_dtype_is_float(dtype)) {
      double values[BLOCK];
      hfb_convert_row(dtype, from, stride[0], HFB_F64, (char *)values, 8, block);
      for (int64_t i = 0; i < block; i++) sum->f64 = is_max ? f64_max(sum->f64, values[i]) : sum->f64 + values[i];
    } else {
      int64_t values[BLOCK];
      hfb_convert_row(dtype, from, stride[0], HFB_I64, (char *)values, 8, block);
      for (int64_t i = 0; i < block; i++) {
        if (!is_max) sum->i64 = (int64_t)((uint64_t)sum->i64 + (uint64_t)values[i]);
        if (is_max && values[i] > sum->i64) sum->i64 = values[i];
      }
    }
  }
}

static void reduce_line(void *context, char *const *data) {
  const reduce_job *job = context;
  hfb_strided line = job->line;
  line.data[0] = data[1];
  accumulator sum = {.job = job};
  if (job->reduction == MAX) {
    sum.f64 = -INFINITY;
    sum.i64 = INT64_MIN;
  }
  hfb_strided_walk(&line, accumulate_row, &sum);
  if (hfb_dtype_is_float(job->dtype)) {
    if (job->reduction == MEAN) sum.f64 /= (double)line.count;
    hfb_convert_row(HFB_F64, (const char *)&sum.f64, 8, job->dtype, data[0], 8, 1);
  } else {
    hfb_convert_row(HFB_I64, (const char *)&sum.i64, 8, job->dtype, data[0], 8, 1);
  }
}

static hfb_status run_reduce(const hfb_kernel_call *call, reduction reduction) {
  const hfb_tensor *x = &call->inputs[0], *result = &call->results[0];
  int axis_count;
  const int64_t *axes = hfb_node_ints(call->node, HFB_ATTR_AXES, &axis_count);
  bool keepdim = hfb_node_int(call->node, HFB_ATTR_KEEPDIM) != 0;
  hfb_tensor kept = hfb_tensor_without(x, axis_count, axes);
  hfb_tensor out = keepdim ? hfb_tensor_without(result, axis_count, axes) : *result;
  hfb_tensor line = {.dtype = x->dtype, .shape = {.rank = axis_count}};
  for (int i = 0; i < axis_count; i++) {
    line.shape.dim[i] = x->shape.dim[axes[i]];
    line.strides[i] = x->strides[axes[i]];
  }
  reduce_job job = {reduction, x->dtype, hfb_strided_make(&line.shape, 1, (const hfb_tensor *const[]){&line})};
  hfb_lines_run(&kept.shape, 2, (const hfb_tensor *const[]){&out, &kept}, job.line.count, call->pool, reduce_line,
                &job);
  return HFB_OK;
}

hfb_status hfb_k_reduce_sum__ref(const hfb_kernel_call *call) { return run_reduce(call, SUM); }
hfb_status hfb_k_reduce_max__ref(const hfb_kernel_call *call) { return run_reduce(call, MAX); }
hfb_status hfb_k_reduce_mean__ref(const hfb_kernel_call *call) { return run_reduce(call, MEAN); }

/* A line along one axis of the input and, for a scan, of the result. */
typedef struct axis_job {
  hfb_dtype dtype;
  int64_t length, in_stride, out_stride; /* strides in bytes */
} axis_job;

static void cumsum_line(void *context, char *const *data) {
  const axis_job *job = context;
  bool is_float = hfb_dtype_is_float(job->dtype);
  double f64_sum = 0, f64 = 0;
  int64_t i64_sum = 0, i64 = 0;
  for (int64_t i = 0; i < job->length; i++) {
    const char *from = data[1] + i * job->in_stride;
    char *to = data[0] + i * job->out_stride;
    if (is_float) {
      hfb_convert_row(job->dtype, from, 8, HFB_F64, (char *)&f64, 8, 1);
      f64_sum += f64;
      hfb_convert_row(HFB_F64, (const char *)&f64_sum, 8, job->dtype, to, 8, 1);
    } else {
      hfb_convert_row(job->dtype, from, 8, HFB_I64, (char *)&i64, 8, 1);
      i64_sum = (int64_t)((uint64_t)i64_sum + (uint64_t)i64);
      hfb_convert_row(HFB_I64, (const char *)&i64_sum, 8, job->dtype, to, 8, 1);
    }
  }
}

hfb_status hfb_k_cumsum__ref(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0], *result = &call->results[0];
  int64_t axis = hfb_node_int(call->node, HFB_ATTR_AXIS);
  axis_job job = {x->dtype, x->shape.dim[axis], hfb_tensor_byte_stride(x, (int)axis),
                  hfb_tensor_byte_stride(result, (int)axis)};
  hfb_tensor in = hfb_tensor_without(x, 1, &axis), out = hfb_tensor_without(result, 1, &axis);
  hfb_lines_run(&in.shape, 2, (const hfb_tensor *const[]){&out, &in}, job.length, call->pool, cumsum_line, &job);
  return HFB_OK;
}

/* Position of the first largest element; nan counts as larger than anything. */
static void argmax_line(void *context, char *const *data) {
  const axis_job *job = context;
  bool is_float = hfb_dtype_is_float(job->dtype);
  double f64_best = 0, f64 = 0;
  int64_t i64_best = 0, i64 = 0, best = 0;
  for (int64_t i = 0; i < job->length; i++) {
    const char *from = data[1] + i * job->in_stride;
    bool is_better;
    if (is_float) {
      hfb_convert_row(job->dtype, from, 8, HFB_F64, (char *)&f64, 8, 1);
      is_better = f64 > f64_best || (isnan(f64) && !isnan(f64_best));
    } else {
      hfb_convert_row(job->dtype, from, 8, HFB_I64, (char *)&i64, 8, 1);
      is_better = i64 > i64_best;
    }
    if (i > 0 && !is_better) continue;
    f64_best = f64;
    i64_best = i64;
    best = i;
  }
  *(int64_t *)data[0] = best;
}

hfb_status hfb_k_argmax__ref(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0], *result = &call->results[0];
  int64_t axis = hfb_node_int(call->node, HFB_ATTR_AXIS);
  bool keepdim = hfb_node_int(call->node, HFB_ATTR_KEEPDIM) != 0;
  axis_job job = {.dtype = x->dtype, .length = x->shape.dim[axis], .in_stride = hfb_tensor_byte_stride(x, (int)axis)};
  hfb_tensor in = hfb_tensor_without(x, 1, &axis), out = keepdim ? hfb_tensor_without(result, 1, &axis) : *result;
  hfb_lines_run(&in.shape, 2, (const hfb_tensor *const[]){&out, &in}, job.length, call->pool, argmax_line, &job);
  return HFB_OK;
}
