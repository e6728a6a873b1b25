/* Steps of optimizers, element by element: results[i] may be inputs[i]. */
#include <math.h>

#include "device/strided.h"
#include "kernels/kernel_impl.h"
#include "kernels/ref/wide.h"

enum { GRAIN = 16 << 10 };

typedef struct step_job {
  const hfb_wide *wide;
  double rate; /* sgd: the learning rate; adam: divided by the bias correction of the mean */
  double beta1, beta2, eps, root; /* root: of the bias correction of the squares */
} step_job;

static void sgd_range(void *context, int64_t begin, int64_t end, int worker) {
  const step_job *job = context;
  const hfb_wide *w = job->wide;
  for (int64_t i = begin; i < end; i++) w->out[0][i] = w->in[0][i] - job->rate * w->in[1][i];
}

hfb_status hfb_k_sgd__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  step_job job = {.wide = &wide, .rate = hfb_node_float(call->node, HFB_ATTR_LEARNING_RATE)};
  hfb_range_run(hfb_shape_elements(&call->results[0].shape), GRAIN, call->pool, sgd_range, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}

static void adam_range(void *context, int64_t begin, int64_t end, int worker) {
  const step_job *job = context;
  const hfb_wide *w = job->wide;
  for (int64_t i = begin; i < end; i++) {
    double g = w->in[3][i];
    double mean = w->in[1][i] + (g - w->in[1][i]) * (1 - job->beta1);
    double square = w->in[2][i] * job->beta2 + (1 - job->beta2) * g * g;
    w->out[0][i] = w->in[0][i] - job->rate * mean / (sqrt(square) / job->root + job->eps);
    w->out[1][i] = mean;
    w->out[2][i] = square;
  }
}

/* torch/optim/adam.py, _single_tensor_adam: the path that is neither capturable nor differentiable. */
hfb_status hfb_k_adam__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  const hfb_node *node = call->node;
  double step = wide.in[4][0];
  step_job job = {.wide = &wide,
                  .beta1 = hfb_node_float(node, HFB_ATTR_BETA1),
                  .beta2 = hfb_node_float(node, HFB_ATTR_BETA2),
                  .eps = hfb_node_float(node, HFB_ATTR_EPS)};
  job.rate = hfb_node_float(node, HFB_ATTR_LEARNING_RATE) / (1 - pow(job.beta1, step));
  job.root = sqrt(1 - pow(job.beta2, step));
  hfb_range_run(hfb_shape_elements(&call->results[0].shape), GRAIN, call->pool, adam_range, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}
