/* instance_norm and its gradients: the channels of x[..,T,C] over T, in double by their definitions. */
#include <math.h>

#include "device/strided.h"
#include "kernels/kernel_impl.h"
#include "kernels/ref/wide.h"

enum { GRAIN = 16 << 10 }; /* elements that one task touches */

typedef struct channels_job {
  int64_t outer, length, channels;
  double eps;
  const double *g, *x, *weight, *bias;
  double *out, *dweight, *dbias;
} channels_job;

typedef struct moments {
  double mean, scale; /* 1 / sqrt(mean((x - mean)^2) + eps) */
} moments;

/* x: the first of `length` elements, `channels` apart. */
static moments moments_of(const channels_job *job, const double *x) {
  double sum = 0, squares = 0;
  for (int64_t t = 0; t < job->length; t++) sum += x[t * job->channels];
  double mean = sum / (double)job->length;
  for (int64_t t = 0; t < job->length; t++) {
    double centred = x[t * job->channels] - mean;
    squares += centred * centred;
  }
  return (moments){mean, 1 / sqrt(squares / (double)job->length + job->eps)};
}

static void normalize_channels(void *context, int64_t begin, int64_t end, int worker) {
  const channels_job *job = context;
  for (int64_t c = begin; c < end; c++) {
    for (int64_t o = 0; o < job->outer; o++) {
      int64_t first = o * job->length * job->channels + c;
      moments m = moments_of(job, job->x + first);
      for (int64_t t = 0; t < job->length; t++) {
        int64_t at = first + t * job->channels;
        job->out[at] = (job->x[at] - m.mean) * m.scale * job->weight[c] + job->bias[c];
      }
    }
  }
}

/* dx = weight scale (g - mean(g) - normal mean(g normal)), normal = (x - mean) scale */
static void channel_gradients(void *context, int64_t begin, int64_t end, int worker) {
  const channels_job *job = context;
  for (int64_t c = begin; c < end; c++) {
    job->dweight[c] = job->dbias[c] = 0;
    for (int64_t o = 0; o < job->outer; o++) {
      int64_t first = o * job->length * job->channels + c;
      moments m = moments_of(job, job->x + first);
      double sum = 0, along = 0;
      for (int64_t t = 0; t < job->length; t++) {
        int64_t at = first + t * job->channels;
        sum += job->g[at];
        along += job->g[at] * ((job->x[at] - m.mean) * m.scale);
      }
      job->dweight[c] += along;
      job->dbias[c] += sum;
      sum /= (double)job->length;
      along /= (double)job->length;
      for (int64_t t = 0; t < job->length; t++) {
        int64_t at = first + t * job->channels;
        double normal = (job->x[at] - m.mean) * m.scale;
        job->out[at] = (job->g[at] - sum - normal * along) * m.scale * job->weight[c];
      }
    }
  }
}

static channels_job channels_of(const hfb_kernel_call *call) {
  const hfb_shape *shape = &call->results[0].shape;
  channels_job job = {.outer = 1,
                      .length = shape->dim[shape->rank - 2],
                      .channels = shape->dim[shape->rank - 1],
                      .eps = hfb_node_float(call->node, HFB_ATTR_EPS)};
  for (int d = 0; d < shape->rank - 2; d++) job.outer *= shape->dim[d];
  return job;
}

static int64_t grain_of(const channels_job *job) {
  return GRAIN / (job->outer * job->length + 1) + 1;
}

hfb_status hfb_k_instance_norm__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  channels_job job = channels_of(call);
  job.x = wide.in[0];
  job.weight = wide.in[1];
  job.bias = wide.in[2];
  job.out = wide.out[0];
  hfb_range_run(job.channels, grain_of(&job), call->pool, normalize_channels, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}

hfb_status hfb_k_instance_norm_backward__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  channels_job job = channels_of(call);
  job.g = wide.in[0];
  job.x = wide.in[1];
  job.weight = wide.in[2];
  job.out = wide.out[0];
  job.dweight = wide.out[1];
  job.dbias = wide.out[2];
  hfb_range_run(job.channels, grain_of(&job), call->pool, channel_gradients, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}
