/* Backward ops of softmax, norms and losses, in double by their definitions. Sums run in ascending order. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "device/strided.h"
#include "kernels/kernel_impl.h"
#include "kernels/ref/wide.h"

enum { GRAIN = 16 << 10 }; /* elements that one task touches */

static int64_t grain_of(int64_t work) {
  return work > 0 ? GRAIN / work + 1 : GRAIN;
}

/* ---- softmax ---- */

typedef struct softmax_job {
  hfb_axis_split split;
  bool is_log;
  const double *g, *y;
  double *out;
} softmax_job;

/* y (g - sum(g y)); of log_softmax g - exp(y) sum(g). */
static void softmax_lines(void *context, int64_t begin, int64_t end, int worker) {
  const softmax_job *job = context;
  int64_t inner = job->split.inner, length = job->split.length;
  for (int64_t line = begin; line < end; line++) {
    int64_t first = line / inner * length * inner + line % inner;
    double sum = 0;
    for (int64_t i = 0; i < length; i++) {
      int64_t at = first + i * inner;
      sum += job->is_log ? job->g[at] : job->g[at] * job->y[at];
    }
    for (int64_t i = 0; i < length; i++) {
      int64_t at = first + i * inner;
      job->out[at] = job->is_log ? job->g[at] - exp(job->y[at]) * sum : job->y[at] * (job->g[at] - sum);
    }
  }
}

static hfb_status run_softmax(const hfb_kernel_call *call, bool is_log) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  int axis = (int)hfb_node_int(call->node, HFB_ATTR_AXIS);
  softmax_job job = {hfb_axis_split_of(&call->results[0].shape, axis), is_log, wide.in[0], wide.in[1], wide.out[0]};
  hfb_range_run(job.split.outer * job.split.inner, grain_of(job.split.length), call->pool, softmax_lines, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}

hfb_status hfb_k_softmax_backward__ref(const hfb_kernel_call *call) { return run_softmax(call, false); }
hfb_status hfb_k_log_softmax_backward__ref(const hfb_kernel_call *call) { return run_softmax(call, true); }

/* ---- norms ---- */

typedef struct norm_job {
  int64_t rows, features;
  double eps;
  bool has_mean;
  const double *g, *x, *weight;
  double *statistics; /* [rows][2]: the mean, and 1 / sqrt(mean((x - mean)^2) + eps) */
  double *dx, *dweight, *dbias;
} norm_job;

/* dx = scale (gw - [mean(gw)] - normal mean(gw normal)), gw = g weight, normal = (x - mean) scale */
static void norm_rows(void *context, int64_t begin, int64_t end, int worker) {
  const norm_job *job = context;
  int64_t features = job->features;
  for (int64_t row = begin; row < end; row++) {
    const double *g = job->g + row * features, *x = job->x + row * features;
    double mean = 0, squares = 0, across = 0, along = 0;
    for (int64_t i = 0; i < features && job->has_mean; i++) mean += x[i];
    if (job->has_mean) mean /= (double)features;
    for (int64_t i = 0; i < features; i++) squares += (x[i] - mean) * (x[i] - mean);
    double scale = 1 / sqrt(squares / (double)features + job->eps);
    for (int64_t i = 0; i < features; i++) {
      double gw = g[i] * job->weight[i];
      across += gw;
      along += gw * ((x[i] - mean) * scale);
    }
    across = job->has_mean ? across / (double)features : 0;
    along /= (double)features;
    for (int64_t i = 0; i < features; i++) {
      double normal = (x[i] - mean) * scale;
      job->dx[row * features + i] = (g[i] * job->weight[i] - across - normal * along) * scale;
    }
    job->statistics[2 * row] = mean;
    job->statistics[2 * row + 1] = scale;
  }
}

/* Column by column over all rows: dweight = sum of g normal, dbias = sum of g. */
static void norm_columns(void *context, int64_t begin, int64_t end, int worker) {
  const norm_job *job = context;
  for (int64_t i = begin; i < end; i++) {
    job->dweight[i] = 0;
    if (job->has_mean) job->dbias[i] = 0;
  }
  for (int64_t row = 0; row < job->rows; row++) {
    double mean = job->statistics[2 * row], scale = job->statistics[2 * row + 1];
    const double *g = job->g + row * job->features, *x = job->x + row * job->features;
    for (int64_t i = begin; i < end; i++) {
      job->dweight[i] += g[i] * ((x[i] - mean) * scale);
      if (job->has_mean) job->dbias[i] += g[i];
    }
  }
}

static hfb_status run_norm(const hfb_kernel_call *call, bool has_mean) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  const hfb_shape *shape = &call->inputs[1].shape;
  hfb_axis_split split = hfb_axis_split_of(shape, shape->rank - 1);
  norm_job job = {.rows = split.outer,
                  .features = split.length,
                  .eps = hfb_node_float(call->node, HFB_ATTR_EPS),
                  .has_mean = has_mean,
                  .g = wide.in[0],
                  .x = wide.in[1],
                  .weight = wide.in[2],
                  .dx = wide.out[0],
                  .dweight = wide.out[1],
                  .dbias = wide.out[2]};
  hfb_status status = hfb_mem_alloc((size_t)(2 * job.rows), sizeof(double), &job.statistics);
  if (status == HFB_OK) {
    hfb_range_run(job.rows, grain_of(job.features), call->pool, norm_rows, &job);
    hfb_range_run(job.features, 64, call->pool, norm_columns, &job);
  }
  hfb_mem_free(job.statistics);
  return hfb_wide_end(call, &wide, status);
}

hfb_status hfb_k_layer_norm_backward__ref(const hfb_kernel_call *call) { return run_norm(call, true); }
hfb_status hfb_k_rms_norm_backward__ref(const hfb_kernel_call *call) { return run_norm(call, false); }

/* ---- losses ---- */

static hfb_status fill_nll(const hfb_kernel_call *call, const hfb_wide *wide) {
  const hfb_shape *shape = &call->results[0].shape;
  int64_t rows = shape->dim[0], classes = shape->dim[1], counted = 0;
  int64_t ignore_index = hfb_node_int(call->node, HFB_ATTR_IGNORE_INDEX);
  const int64_t *target = wide->index[1];
  for (int64_t i = 0; i < rows; i++) counted += target[i] != ignore_index;
  memset(wide->out[0], 0, (size_t)(rows * classes) * sizeof(double));
  for (int64_t i = 0; i < rows; i++) {
    if (target[i] == ignore_index) continue;
    if (target[i] < 0 || target[i] >= classes) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "nll_loss_backward: target %" PRId64 " is outside [0,%" PRId64 ")",
                      target[i], classes);
    }
    wide->out[0][i * classes + target[i]] = -wide->in[0][0] / (double)counted;
  }
  return HFB_OK;
}

hfb_status hfb_k_nll_loss_backward__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  return hfb_wide_end(call, &wide, fill_nll(call, &wide));
}

static double bce_slope(double x, double target) { return 1 / (1 + exp(-x)) - target; }
static double mse_slope(double x, double target) { return 2 * (x - target); }

static hfb_status run_pair_loss(const hfb_kernel_call *call, double (*slope)(double x, double target)) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  int64_t count = hfb_shape_elements(&call->results[0].shape);
  double g = wide.in[0][0] / (double)count;
  for (int64_t i = 0; i < count; i++) wide.out[0][i] = slope(wide.in[1][i], wide.in[2][i]) * g;
  return hfb_wide_end(call, &wide, HFB_OK);
}

hfb_status hfb_k_bce_with_logits_backward__ref(const hfb_kernel_call *call) { return run_pair_loss(call, bce_slope); }
hfb_status hfb_k_mse_loss_backward__ref(const hfb_kernel_call *call) { return run_pair_loss(call, mse_slope); }
