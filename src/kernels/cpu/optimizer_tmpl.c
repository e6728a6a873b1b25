/* Steps of optimizers on row-major floats, over the old values or elsewhere: one pass. Included by <isa>/optimizer.c
 * after its vec.h, with HFB_K(name) adding the suffix of the instruction set. */
#include <math.h>

#include "kernels/kernel_impl.h"

enum { OPTIMIZER_GRAIN = 16 << 10 };

typedef struct sgd_job {
  const float *parameter, *gradient;
  float *result;
  float rate;
} sgd_job;

static inline vec_f32 sgd_step(vec_f32 parameter, vec_f32 gradient, vec_f32 rate) {
  return hfb_vec_fnma(rate, gradient, parameter);
}

static void sgd_range(void *context, int64_t begin, int64_t end, int worker) {
  const sgd_job *job = context;
  const vec_f32 rate = hfb_vec_set1(job->rate);
  int64_t i = begin;
  for (; i + VEC_F32_LANES <= end; i += VEC_F32_LANES) {
    hfb_vec_store(job->result + i, sgd_step(hfb_vec_load(job->parameter + i), hfb_vec_load(job->gradient + i), rate));
  }
  int64_t rest = end - i;
  if (rest == 0) return;
  vec_f32 parameter = hfb_vec_load_partial(job->parameter + i, rest);
  vec_f32 gradient = hfb_vec_load_partial(job->gradient + i, rest);
  hfb_vec_store_partial(job->result + i, sgd_step(parameter, gradient, rate), rest);
}

hfb_status HFB_K(hfb_k_f32_sgd)(const hfb_kernel_call *call) {
  sgd_job job = {.parameter = call->inputs[0].data,
                 .gradient = call->inputs[1].data,
                 .result = call->results[0].data,
                 .rate = (float)hfb_node_float(call->node, HFB_ATTR_LEARNING_RATE)};
  hfb_range_run(hfb_shape_elements(&call->results[0].shape), OPTIMIZER_GRAIN, call->pool, sgd_range, &job);
  return HFB_OK;
}

/* Adam as torch.optim has it:
 *   mean     <- mean + (g - mean) (1 - beta1)
 *   square   <- square beta2 + (1 - beta2) g^2
 *   parameter <- parameter - rate / (1 - beta1^t) mean / (sqrt(square) / sqrt(1 - beta2^t) + eps)
 * What depends on the step t alone is computed in double. */
typedef struct adam_job {
  const float *parameter, *mean, *square, *gradient;
  float *new_parameter, *new_mean, *new_square;
  float one_minus_beta1, beta2, one_minus_beta2, rate, root_scale, eps;
} adam_job;

typedef struct adam_state {
  vec_f32 parameter, mean, square;
} adam_state;

HFB_ALWAYS_INLINE adam_state adam_step(const adam_job *job, adam_state old, vec_f32 gradient) {
  adam_state now;
  now.mean = hfb_vec_fma(gradient - old.mean, hfb_vec_set1(job->one_minus_beta1), old.mean);
  vec_f32 decayed = old.square * hfb_vec_set1(job->beta2);
  now.square = hfb_vec_fma(hfb_vec_set1(job->one_minus_beta2) * gradient, gradient, decayed);
  vec_f32 root = hfb_vec_fma(hfb_vec_sqrt(now.square), hfb_vec_set1(job->root_scale), hfb_vec_set1(job->eps));
  now.parameter = hfb_vec_fnma(hfb_vec_set1(job->rate), now.mean / root, old.parameter);
  return now;
}

static void adam_range(void *context, int64_t begin, int64_t end, int worker) {
  const adam_job job = *(const adam_job *)context;
  int64_t i = begin;
  for (; i + VEC_F32_LANES <= end; i += VEC_F32_LANES) {
    adam_state old = {hfb_vec_load(job.parameter + i), hfb_vec_load(job.mean + i), hfb_vec_load(job.square + i)};
    adam_state now = adam_step(&job, old, hfb_vec_load(job.gradient + i));
    hfb_vec_store(job.new_parameter + i, now.parameter);
    hfb_vec_store(job.new_mean + i, now.mean);
    hfb_vec_store(job.new_square + i, now.square);
  }
  int64_t rest = end - i;
  if (rest == 0) return;
  adam_state old = {hfb_vec_load_partial(job.parameter + i, rest), hfb_vec_load_partial(job.mean + i, rest),
                    hfb_vec_load_partial(job.square + i, rest)};
  adam_state now = adam_step(&job, old, hfb_vec_load_partial(job.gradient + i, rest));
  hfb_vec_store_partial(job.new_parameter + i, now.parameter, rest);
  hfb_vec_store_partial(job.new_mean + i, now.mean, rest);
  hfb_vec_store_partial(job.new_square + i, now.square, rest);
}

hfb_status HFB_K(hfb_k_f32_adam)(const hfb_kernel_call *call) {
  const hfb_node *node = call->node;
  double step = *(const double *)call->inputs[4].data, rate = hfb_node_float(node, HFB_ATTR_LEARNING_RATE);
  double beta1 = hfb_node_float(node, HFB_ATTR_BETA1), beta2 = hfb_node_float(node, HFB_ATTR_BETA2);
  adam_job job = {.parameter = call->inputs[0].data,
                  .mean = call->inputs[1].data,
                  .square = call->inputs[2].data,
                  .gradient = call->inputs[3].data,
                  .new_parameter = call->results[0].data,
                  .new_mean = call->results[1].data,
                  .new_square = call->results[2].data,
                  .one_minus_beta1 = (float)(1 - beta1),
                  .beta2 = (float)beta2,
                  .one_minus_beta2 = (float)(1 - beta2),
                  .rate = (float)(rate / (1 - pow(beta1, step))),
                  .root_scale = (float)(1 / sqrt(1 - pow(beta2, step))),
                  .eps = (float)hfb_node_float(node, HFB_ATTR_EPS)};
  hfb_range_run(hfb_shape_elements(&call->results[0].shape), OPTIMIZER_GRAIN, call->pool, adam_range, &job);
  return HFB_OK;
}
