/* attention and its backward ops by their definitions: the matrices of queries x keys are held as a whole. Sums run in
 * ascending order of what they add. */
#include <math.h>

#include "base/memory.h"
#include "base/rng.h"
#include "device/strided.h"
#include "kernels/attention.h"
#include "kernels/kernel_impl.h"
#include "kernels/ref/wide.h"

/* The scores are [batch][queries][keys]. Without dropout every element is kept and the scale is 1. */
typedef struct attention_job {
  int64_t queries, keys, width, value_width; /* of a query and key, of a value */
  uint32_t threshold;
  int64_t seed, step, site;
  double scale;
  const double *scores, *lse, *delta, *q, *k, *v, *g, *d;
  double *out, *out_lse, *dscores, *dq, *dk, *dv;
} attention_job;

/* value / (1 - P) where the mask keeps the element of the scores, else 0. */
static double drop(const attention_job *job, int64_t element, double value) {
  bool keeps = hfb_random_keeps(job->seed, job->step, job->site, element, job->threshold);
  return keeps ? value * job->scale : 0;
}

static attention_job job_of(const hfb_kernel_call *call, const hfb_wide *wide, int scores_input) {
  double p = hfb_node_float(call->node, HFB_ATTR_P);
  int state = hfb_op_info_of(call->node->op)->min_inputs;
  const hfb_shape *shape = &call->inputs[scores_input].shape;
  attention_job job = {.queries = shape->dim[shape->rank - 2],
                       .keys = shape->dim[shape->rank - 1],
                       .threshold = hfb_random_threshold(p),
                       .site = hfb_node_int(call->node, HFB_ATTR_SITE),
                       .scale = 1 / (1 - p),
                       .scores = wide->in[scores_input]};
  if (call->input_count > state) {
    job.seed = wide->index[state][0];
    job.step = wide->index[state][1];
  }
  return job;
}

/* The weights of a row are factor * exp(scores - shift). */
typedef struct row_scale {
  double shift, factor;
} row_scale;

/* shift is the row's lse; where that cannot hold the logarithm of the sum (attention.h), the maximum of the scores. */
static row_scale scale_of(const attention_job *job, int64_t row) {
  const double *scores = job->scores + row * job->keys, lse = job->lse[row];
  if (!(fabs(lse) >= HFB_ATTENTION_LSE_LIMIT && isfinite(lse))) return (row_scale){lse, 1};
  double max = -INFINITY, sum = 0;
  for (int64_t k = 0; k < job->keys; k++) max = scores[k] > max ? scores[k] : max;
  for (int64_t k = 0; k < job->keys; k++) sum += exp(scores[k] - max);
  return (row_scale){max, 1 / sum};
}

static int64_t last_dim(const hfb_tensor *tensor) {
  return tensor->shape.dim[tensor->shape.rank - 1];
}

/* Elements of a tensor [.., rows, columns] with those extents taken out. */
static int64_t batch_of(const hfb_tensor *tensor) {
  int64_t batch = 1;
  for (int i = 0; i < tensor->shape.rank - 2; i++) batch *= tensor->shape.dim[i];
  return batch;
}

/* ---- forward ---- */

/* Rows of queries over all batches. A row whose scores are all -inf is nan, as softmax has it. */
static void attention_rows(void *context, int64_t begin, int64_t end, int worker) {
  const attention_job *job = context;
  int64_t keys = job->keys, width = job->value_width;
  for (int64_t row = begin; row < end; row++) {
    const double *scores = job->scores + row * keys, *values = job->v + row / job->queries * keys * width;
    double *out = job->out + row * width;
    double max = -INFINITY, sum = 0;
    for (int64_t k = 0; k < keys; k++) max = scores[k] > max || isnan(scores[k]) ? scores[k] : max;
    for (int64_t k = 0; k < keys; k++) sum += exp(scores[k] - max);
    job->out_lse[row] = max + log(sum);
    for (int64_t e = 0; e < width; e++) out[e] = 0;
    for (int64_t k = 0; k < keys; k++) {
      double weight = drop(job, row * keys + k, exp(scores[k] - max) / sum);
      for (int64_t e = 0; e < width; e++) out[e] += weight * values[k * width + e];
    }
  }
}

hfb_status hfb_k_attention__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  attention_job job = job_of(call, &wide, 0);
  job.v = wide.in[1];
  job.value_width = last_dim(&call->inputs[1]);
  job.out = wide.out[0];
  job.out_lse = wide.out[1];
  hfb_range_run(batch_of(&call->inputs[0]) * job.queries, 1, call->pool, attention_rows, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}

/* ---- gradient of the scores ---- */

static void scores_rows(void *context, int64_t begin, int64_t end, int worker) {
  const attention_job *job = context;
  int64_t keys = job->keys, width = job->value_width;
  for (int64_t row = begin; row < end; row++) {
    const double *g = job->g + row * width, *values = job->v + row / job->queries * keys * width;
    row_scale scale = scale_of(job, row);
    for (int64_t k = 0; k < keys; k++) {
      int64_t element = row * keys + k;
      double product = 0;
      for (int64_t e = 0; e < width; e++) product += g[e] * values[k * width + e];
      double weight = scale.factor * exp(job->scores[element] - scale.shift);
      job->dscores[element] = weight * (drop(job, element, product) - job->delta[row]);
    }
  }
}

hfb_status hfb_k_attention_scores_backward__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  attention_job job = job_of(call, &wide, 0);
  job.lse = wide.in[1];
  job.delta = wide.in[2];
  job.g = wide.in[3];
  job.v = wide.in[4];
  job.value_width = last_dim(&call->inputs[4]);
  job.dscores = wide.out[0];
  hfb_range_run(batch_of(&call->inputs[0]) * job.queries, 1, call->pool, scores_rows, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}

/* ---- gradients of queries, keys and values ---- */

/* One batch: dq = d k, dk = d^T q, dv = dropout(weights)^T g. */
static void backward_batches(void *context, int64_t begin, int64_t end, int worker) {
  const attention_job *job = context;
  int64_t queries = job->queries, keys = job->keys, width = job->width, value_width = job->value_width;
  for (int64_t batch = begin; batch < end; batch++) {
    double *dk = job->dk + batch * keys * width, *dv = job->dv + batch * keys * value_width;
    for (int64_t i = 0; i < keys * width; i++) dk[i] = 0;
    for (int64_t i = 0; i < keys * value_width; i++) dv[i] = 0;
    for (int64_t row = batch * queries; row < (batch + 1) * queries; row++) {
      double *dq = job->dq + row * width;
      row_scale scale = scale_of(job, row);
      for (int64_t i = 0; i < width; i++) dq[i] = 0;
      for (int64_t k = 0; k < keys; k++) {
        int64_t element = row * keys + k, key = batch * keys + k;
        double weight = drop(job, element, scale.factor * exp(job->scores[element] - scale.shift));
        for (int64_t i = 0; i < width; i++) dq[i] += job->d[element] * job->k[key * width + i];
        for (int64_t i = 0; i < width; i++) dk[k * width + i] += job->d[element] * job->q[row * width + i];
        for (int64_t i = 0; i < value_width; i++) {
          dv[k * value_width + i] += weight * job->g[row * value_width + i];
        }
      }
    }
  }
}

hfb_status hfb_k_attention_backward__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  attention_job job = job_of(call, &wide, 1);
  job.d = wide.in[0];
  job.lse = wide.in[2];
  job.q = wide.in[3];
  job.k = wide.in[4];
  job.g = wide.in[5];
  job.width = last_dim(&call->inputs[3]);
  job.value_width = last_dim(&call->inputs[5]);
  job.dq = wide.out[0];
  job.dk = wide.out[1];
  job.dv = wide.out[2];
  hfb_range_run(batch_of(&call->inputs[0]), 1, call->pool, backward_batches, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}
