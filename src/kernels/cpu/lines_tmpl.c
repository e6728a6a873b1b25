/* Float kernels over lines of the last dimension: softmax, log_softmax, layer_norm, rms_norm. Included by
 * <isa>/lines.c after its vec.h, with HFB_K(name) adding the suffix of the instruction set. The lines of inputs and
 * results have unit stride (accepted by hfb_accepts_lines), so a line is read three times at most, from the second
 * time on out of the first or second cache. */
#include <math.h>

#include "kernels/kernel_impl.h"

enum { STEP = 4 * VEC_F32_LANES }; /* four independent chains hide the latency of an addition */

typedef struct line_job {
  int64_t length;
  const float *weight, *bias; /* norms */
  float eps;
} line_job;

/* The rest of a line after its whole vectors: lanes behind the end hold `fill`. */
static vec_f32 load_rest(const float *x, int64_t count, float fill) {
  return hfb_vec_select(hfb_vec_first_lanes(count), hfb_vec_load_partial(x, count), hfb_vec_set1(fill));
}

/* A nan may be lost here; the sums that follow keep it. */
static float max_of_line(const float *x, int64_t length) {
  vec_f32 lowest = hfb_vec_set1(-INFINITY), max[4] = {lowest, lowest, lowest, lowest};
  int64_t i = 0;
  for (; i + STEP <= length; i += STEP) {
    for (int v = 0; v < 4; v++) max[v] = hfb_vec_max(hfb_vec_load(x + i + v * VEC_F32_LANES), max[v]);
  }
  for (; i + VEC_F32_LANES <= length; i += VEC_F32_LANES) max[0] = hfb_vec_max(hfb_vec_load(x + i), max[0]);
  if (i < length) max[1] = hfb_vec_max(load_rest(x + i, length - i, -INFINITY), max[1]);
  return hfb_vec_hmax(hfb_vec_max(hfb_vec_max(max[0], max[1]), hfb_vec_max(max[2], max[3])));
}

/* Sum of exp(x - max); also stored to y unless it is NULL. Inlined with a constant y where that is so. */
static inline __attribute__((always_inline)) float exp_line(const float *x, float max, float *y, int64_t length) {
  vec_f32 shift = hfb_vec_set1(max), sum[2] = {hfb_vec_zero(), hfb_vec_zero()};
  int64_t i = 0;
  for (; i + 2 * VEC_F32_LANES <= length; i += 2 * VEC_F32_LANES) {
    for (int v = 0; v < 2; v++) {
      vec_f32 e = hfb_vec_exp(hfb_vec_load(x + i + v * VEC_F32_LANES) - shift);
      if (y) hfb_vec_store(y + i + v * VEC_F32_LANES, e);
      sum[v] += e;
    }
  }
  for (; i < length; i += VEC_F32_LANES) {
    int64_t rest = length - i < VEC_F32_LANES ? length - i : VEC_F32_LANES;
    vec_f32 e = hfb_vec_exp(hfb_vec_load_partial(x + i, rest) - shift);
    if (y) hfb_vec_store_partial(y + i, e, rest);
    sum[0] += hfb_vec_select(hfb_vec_first_lanes(rest), e, hfb_vec_zero());
  }
  return hfb_vec_hsum(sum[0] + sum[1]);
}

static void softmax_line(void *context, char *const *data) {
  const line_job *job = context;
  const float *x = (const float *)data[1];
  float *y = (float *)data[0];
  vec_f32 scale = hfb_vec_set1(1.0f / exp_line(x, max_of_line(x, job->length), y, job->length));
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= job->length; i += VEC_F32_LANES) hfb_vec_store(y + i, hfb_vec_load(y + i) * scale);
  int64_t rest = job->length - i;
  if (rest > 0) hfb_vec_store_partial(y + i, hfb_vec_load_partial(y + i, rest) * scale, rest);
}

static void log_softmax_line(void *context, char *const *data) {
  const line_job *job = context;
  const float *x = (const float *)data[1];
  float *y = (float *)data[0];
  float max = max_of_line(x, job->length);
  vec_f32 shift = hfb_vec_set1(max), log_sum = hfb_vec_set1(logf(exp_line(x, max, NULL, job->length)));
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= job->length; i += VEC_F32_LANES) {
    hfb_vec_store(y + i, hfb_vec_load(x + i) - shift - log_sum);
  }
  int64_t rest = job->length - i;
  if (rest > 0) hfb_vec_store_partial(y + i, hfb_vec_load_partial(x + i, rest) - shift - log_sum, rest);
}

static inline __attribute__((always_inline)) vec_f32 add_power(vec_f32 sum, vec_f32 d, int power) {
  if (power == 2) return hfb_vec_fma(d, d, sum);
  return sum + d;
}

/* Sum of (x - center)^power, power 1 or 2. */
static inline __attribute__((always_inline)) float moment_of_line(const float *x, float center, int power,
                                                                  int64_t length) {
  vec_f32 middle = hfb_vec_set1(center), sum[4] = {hfb_vec_zero(), hfb_vec_zero(), hfb_vec_zero(), hfb_vec_zero()};
  int64_t i = 0;
  for (; i + STEP <= length; i += STEP) {
    for (int v = 0; v < 4; v++) {
      vec_f32 d = hfb_vec_load(x + i + v * VEC_F32_LANES) - middle;
      sum[v] = add_power(sum[v], d, power);
    }
  }
  for (; i < length; i += VEC_F32_LANES) {
    int64_t rest = length - i < VEC_F32_LANES ? length - i : VEC_F32_LANES;
    vec_f32 d = load_rest(x + i, rest, center) - middle;
    sum[0] = add_power(sum[0], d, power);
  }
  return hfb_vec_hsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static void layer_norm_line(void *context, char *const *data) {
  const line_job *job = context;
  const float *x = (const float *)data[1], *weight = job->weight, *bias = job->bias;
  float *y = (float *)data[0];
  int64_t length = job->length, i = 0;
  float mean = moment_of_line(x, 0, 1, length) / (float)length;
  float variance = moment_of_line(x, mean, 2, length) / (float)length;
  vec_f32 middle = hfb_vec_set1(mean), scale = hfb_vec_set1(1.0f / sqrtf(variance + job->eps));
  for (; i + VEC_F32_LANES <= length; i += VEC_F32_LANES) {
    vec_f32 normal = (hfb_vec_load(x + i) - middle) * scale;
    hfb_vec_store(y + i, hfb_vec_fma(normal, hfb_vec_load(weight + i), hfb_vec_load(bias + i)));
  }
  if (i == length) return;
  int64_t rest = length - i;
  vec_f32 normal = (hfb_vec_load_partial(x + i, rest) - middle) * scale;
  vec_f32 scaled = hfb_vec_fma(normal, hfb_vec_load_partial(weight + i, rest), hfb_vec_load_partial(bias + i, rest));
  hfb_vec_store_partial(y + i, scaled, rest);
}

static void rms_norm_line(void *context, char *const *data) {
  const line_job *job = context;
  const float *x = (const float *)data[1], *weight = job->weight;
  float *y = (float *)data[0];
  int64_t length = job->length, i = 0;
  float mean_square = moment_of_line(x, 0, 2, length) / (float)length;
  vec_f32 scale = hfb_vec_set1(1.0f / sqrtf(mean_square + job->eps));
  for (; i + VEC_F32_LANES <= length; i += VEC_F32_LANES) {
    hfb_vec_store(y + i, hfb_vec_load(x + i) * scale * hfb_vec_load(weight + i));
  }
  int64_t rest = length - i;
  if (rest == 0) return;
  vec_f32 scaled = hfb_vec_load_partial(x + i, rest) * scale * hfb_vec_load_partial(weight + i, rest);
  hfb_vec_store_partial(y + i, scaled, rest);
}

static hfb_status run_lines_of(const hfb_kernel_call *call, hfb_line_fn line, line_job *job) {
  const hfb_tensor *x = &call->inputs[0], *result = &call->results[0];
  int64_t last = x->shape.rank - 1;
  job->length = x->shape.dim[last];
  if (job->length == 0) return HFB_OK;
  hfb_tensor in = hfb_tensor_without(x, 1, &last), out = hfb_tensor_without(result, 1, &last);
  hfb_lines_run(&out.shape, 2, (const hfb_tensor *const[]){&out, &in}, job->length, call->pool, line, job);
  return HFB_OK;
}

hfb_status HFB_K(hfb_k_f32_softmax)(const hfb_kernel_call *call) {
  return run_lines_of(call, softmax_line, &(line_job){0});
}

hfb_status HFB_K(hfb_k_f32_log_softmax)(const hfb_kernel_call *call) {
  return run_lines_of(call, log_softmax_line, &(line_job){0});
}

hfb_status HFB_K(hfb_k_f32_layer_norm)(const hfb_kernel_call *call) {
  line_job job = {.weight = call->inputs[1].data,
                  .bias = call->inputs[2].data,
                  .eps = (float)hfb_node_float(call->node, HFB_ATTR_EPS)};
  return run_lines_of(call, layer_norm_line, &job);
}

hfb_status HFB_K(hfb_k_f32_rms_norm)(const hfb_kernel_call *call) {
  line_job job = {.weight = call->inputs[1].data, .eps = (float)hfb_node_float(call->node, HFB_ATTR_EPS)};
  return run_lines_of(call, rms_norm_line, &job);
}
