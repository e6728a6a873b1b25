/* The loss of x W^T + bias against targets and its gradients, by their definitions. */
#include <inttypes.h>
#include <math.h>

#include "base/memory.h"
#include "device/strided.h"
#include "kernels/kernel_impl.h"
#include "kernels/ref/wide.h"

typedef struct loss_job {
  int64_t rows, classes, features, counted, ignore_index;
  double g;
  const double *x, *weight, *bias; /* bias may be NULL */
  const int64_t *target;
  double *losses;    /* [rows] */
  double *gradients; /* [rows][classes]: of the logits */
  double *dx, *dweight, *dbias;
} loss_job;

static void loss_rows(void *context, int64_t begin, int64_t end, int worker) {
  const loss_job *job = context;
  int64_t classes = job->classes, features = job->features;
  for (int64_t row = begin; row < end; row++) {
    const double *x = job->x + row * features;
    double *logits = job->gradients + row * classes, *dx = job->dx + row * features; /* logits become gradients */
    double max = -INFINITY, sum = 0;
    bool is_counted = job->target[row] != job->ignore_index;
    for (int64_t c = 0; c < classes; c++) {
      logits[c] = 0;
      for (int64_t i = 0; i < features; i++) logits[c] += x[i] * job->weight[c * features + i];
      if (job->bias) logits[c] += job->bias[c];
      max = logits[c] > max || isnan(logits[c]) ? logits[c] : max;
    }
    for (int64_t c = 0; c < classes; c++) sum += exp(logits[c] - max);
    job->losses[row] = is_counted ? max + log(sum) - logits[job->target[row]] : 0;
    for (int64_t i = 0; i < features; i++) dx[i] = 0;
    for (int64_t c = 0; c < classes; c++) {
      double slope = exp(logits[c] - max) / sum - (c == job->target[row]);
      logits[c] = is_counted ? slope * (job->g / (double)job->counted) : 0;
      for (int64_t i = 0; i < features; i++) dx[i] += logits[c] * job->weight[c * features + i];
    }
  }
}

static void loss_classes(void *context, int64_t begin, int64_t end, int worker) {
  const loss_job *job = context;
  for (int64_t c = begin; c < end; c++) {
    double *dweight = job->dweight + c * job->features;
    for (int64_t i = 0; i < job->features; i++) dweight[i] = 0;
    job->dbias[c] = 0;
    for (int64_t row = 0; row < job->rows; row++) {
      double gradient = job->gradients[row * job->classes + c];
      for (int64_t i = 0; i < job->features; i++) dweight[i] += gradient * job->x[row * job->features + i];
      job->dbias[c] += gradient;
    }
  }
}

static hfb_status run_loss(const hfb_kernel_call *call, const hfb_wide *wide) {
  loss_job job = {.rows = call->inputs[0].shape.dim[0],
                  .classes = call->inputs[1].shape.dim[0],
                  .features = call->inputs[0].shape.dim[1],
                  .ignore_index = hfb_node_int(call->node, HFB_ATTR_IGNORE_INDEX),
                  .g = wide->in[3][0],
                  .x = wide->in[0],
                  .weight = wide->in[1],
                  .bias = call->input_count > 4 ? wide->in[4] : NULL,
                  .target = wide->index[2],
                  .dx = wide->out[1],
                  .dweight = wide->out[2],
                  .dbias = wide->out[3]};
  for (int64_t i = 0; i < job.rows; i++) {
    int64_t class = job.target[i];
    if (class == job.ignore_index) continue;
    if (class < 0 || class >= job.classes) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "linear_cross_entropy: target %" PRId64 " is outside [0,%" PRId64 ")",
                      class, job.classes);
    }
    job.counted++;
  }
  HFB_TRY(hfb_mem_alloc((size_t)(job.rows * (job.classes + 1)), sizeof(double), &job.losses));
  job.gradients = job.losses + job.rows;
  hfb_range_run(job.rows, 1, call->pool, loss_rows, &job);
  hfb_range_run(job.classes, 1, call->pool, loss_classes, &job);
  double total = 0;
  for (int64_t i = 0; i < job.rows; i++) total += job.losses[i];
  wide->out[0][0] = total / (double)job.counted; /* nan when nothing is counted, as nll_loss */
  hfb_mem_free(job.losses);
  return HFB_OK;
}

hfb_status hfb_k_linear_cross_entropy__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  return hfb_wide_end(call, &wide, run_loss(call, &wide));
}
