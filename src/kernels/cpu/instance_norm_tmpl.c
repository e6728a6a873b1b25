/* instance_norm and its gradients on floats: the channels of x[..,T,C] over T. Included by <isa>/instance_norm.c after
 * its vec.h, with HFB_K(name) adding the suffix of the instruction set. Operands are row-major.
 *
 * A task takes some neighbouring channels through all of T, which stays in the second cache from pass to pass. Sums go
 * over runs of frames first, then over the runs: shorter chains round less. */
#include <math.h>

#include "kernels/kernel_impl.h"

enum { NORM_VECTORS = 4, NORM_RUN = 64 };

typedef struct channels_job {
  int64_t outer, length, channels;
  float eps;
  const float *g, *x, *weight, *bias;
  float *out, *dweight, *dbias;
} channels_job;

/* Up to NORM_VECTORS vectors of channels; `lanes` are in use of the last. All functions are inlined with a constant
 * `count`, and with a constant number of lanes where vectors are whole. */
typedef struct channel_vectors {
  vec_f32 v[NORM_VECTORS];
} channel_vectors;

#define GROUP_INLINE static inline __attribute__((always_inline))

GROUP_INLINE vec_f32 load_lanes(const float *p, int64_t lanes) {
  return lanes == VEC_F32_LANES ? hfb_vec_load(p) : hfb_vec_load_partial(p, lanes);
}

GROUP_INLINE void store_lanes(float *p, vec_f32 v, int64_t lanes) {
  if (lanes == VEC_F32_LANES)
    hfb_vec_store(p, v);
  else
    hfb_vec_store_partial(p, v, lanes);
}

GROUP_INLINE channel_vectors load_channels(const float *p, int count, int64_t lanes) {
  channel_vectors loaded = {0};
  for (int i = 0; i < count; i++) {
    loaded.v[i] = load_lanes(p + i * VEC_F32_LANES, i == count - 1 ? lanes : VEC_F32_LANES);
  }
  return loaded;
}

GROUP_INLINE void store_channels(float *p, const channel_vectors *values, int count, int64_t lanes) {
  for (int i = 0; i < count; i++) {
    store_lanes(p + i * VEC_F32_LANES, values->v[i], i == count - 1 ? lanes : VEC_F32_LANES);
  }
}

/* The mean over T of x, or of (x - centre)^2 when centre is not NULL. */
GROUP_INLINE channel_vectors mean_of(const channels_job *job, const float *x, const channel_vectors *centre, int count,
                                     int64_t lanes) {
  channel_vectors total = {0};
  for (int64_t begin = 0; begin < job->length; begin += NORM_RUN) {
    int64_t end = job->length - begin < NORM_RUN ? job->length : begin + NORM_RUN;
    channel_vectors sum = {0};
    for (int64_t t = begin; t < end; t++) {
      channel_vectors row = load_channels(x + t * job->channels, count, lanes);
      for (int i = 0; i < count; i++) {
        if (centre) {
          vec_f32 away = row.v[i] - centre->v[i];
          sum.v[i] = hfb_vec_fma(away, away, sum.v[i]);
        } else {
          sum.v[i] += row.v[i];
        }
      }
    }
    for (int i = 0; i < count; i++) total.v[i] += sum.v[i];
  }
  for (int i = 0; i < count; i++) total.v[i] = total.v[i] / hfb_vec_set1((float)job->length);
  return total;
}

/* mean, and 1 / sqrt(mean((x - mean)^2) + eps). */
GROUP_INLINE channel_vectors moments_of(const channels_job *job, const float *x, channel_vectors *out_mean, int count,
                                        int64_t lanes) {
  *out_mean = mean_of(job, x, NULL, count, lanes);
  channel_vectors scale = mean_of(job, x, out_mean, count, lanes);
  for (int i = 0; i < count; i++) {
    scale.v[i] = hfb_vec_set1(1.0f) / hfb_vec_sqrt(scale.v[i] + hfb_vec_set1(job->eps));
  }
  return scale;
}

GROUP_INLINE void normalize_group(const channels_job *job, int64_t channel, int count, int64_t lanes) {
  channel_vectors weight = load_channels(job->weight + channel, count, lanes), mean;
  channel_vectors bias = load_channels(job->bias + channel, count, lanes);
  for (int64_t o = 0; o < job->outer; o++) {
    int64_t first = o * job->length * job->channels + channel;
    channel_vectors scale = moments_of(job, job->x + first, &mean, count, lanes);
    for (int i = 0; i < count; i++) scale.v[i] = scale.v[i] * weight.v[i];
    for (int64_t t = 0; t < job->length; t++) {
      channel_vectors row = load_channels(job->x + first + t * job->channels, count, lanes);
      for (int i = 0; i < count; i++) row.v[i] = hfb_vec_fma(row.v[i] - mean.v[i], scale.v[i], bias.v[i]);
      store_channels(job->out + first + t * job->channels, &row, count, lanes);
    }
  }
}

/* The sums over T of g and of g normal, normal = (x - mean) scale. */
GROUP_INLINE void gradient_sums(const channels_job *job, int64_t first, const channel_vectors *mean,
                                const channel_vectors *scale, channel_vectors *out_sum, channel_vectors *out_along,
                                int count, int64_t lanes) {
  *out_sum = *out_along = (channel_vectors){0};
  for (int64_t begin = 0; begin < job->length; begin += NORM_RUN) {
    int64_t end = job->length - begin < NORM_RUN ? job->length : begin + NORM_RUN;
    channel_vectors sum = {0}, along = {0};
    for (int64_t t = begin; t < end; t++) {
      channel_vectors g = load_channels(job->g + first + t * job->channels, count, lanes);
      channel_vectors x = load_channels(job->x + first + t * job->channels, count, lanes);
      for (int i = 0; i < count; i++) {
        sum.v[i] += g.v[i];
        along.v[i] = hfb_vec_fma(g.v[i], (x.v[i] - mean->v[i]) * scale->v[i], along.v[i]);
      }
    }
    for (int i = 0; i < count; i++) {
      out_sum->v[i] += sum.v[i];
      out_along->v[i] += along.v[i];
    }
  }
}

/* dx = weight scale (g - mean(g) - normal mean(g normal)) */
GROUP_INLINE void gradient_group(const channels_job *job, int64_t channel, int count, int64_t lanes) {
  channel_vectors weight = load_channels(job->weight + channel, count, lanes);
  channel_vectors dweight = {0}, dbias = {0}, mean, sum, along;
  const vec_f32 length = hfb_vec_set1((float)job->length);
  for (int64_t o = 0; o < job->outer; o++) {
    int64_t first = o * job->length * job->channels + channel;
    channel_vectors scale = moments_of(job, job->x + first, &mean, count, lanes);
    gradient_sums(job, first, &mean, &scale, &sum, &along, count, lanes);
    for (int i = 0; i < count; i++) {
      dweight.v[i] += along.v[i];
      dbias.v[i] += sum.v[i];
      sum.v[i] = sum.v[i] / length;
      along.v[i] = along.v[i] / length;
    }
    for (int64_t t = 0; t < job->length; t++) {
      channel_vectors g = load_channels(job->g + first + t * job->channels, count, lanes);
      channel_vectors x = load_channels(job->x + first + t * job->channels, count, lanes);
      for (int i = 0; i < count; i++) {
        vec_f32 normal = (x.v[i] - mean.v[i]) * scale.v[i];
        g.v[i] = hfb_vec_fnma(normal, along.v[i], g.v[i] - sum.v[i]) * (scale.v[i] * weight.v[i]);
      }
      store_channels(job->out + first + t * job->channels, &g, count, lanes);
    }
  }
  store_channels(job->dweight + channel, &dweight, count, lanes);
  store_channels(job->dbias + channel, &dbias, count, lanes);
}

static void normalize_channels(void *context, int64_t begin, int64_t end, int worker) {
  const channels_job *job = context;
  if (end - begin == NORM_VECTORS * VEC_F32_LANES) {
    normalize_group(job, begin, NORM_VECTORS, VEC_F32_LANES);
    return;
  }
  for (int64_t c = begin; c < end; c += VEC_F32_LANES) {
    normalize_group(job, c, 1, end - c < VEC_F32_LANES ? end - c : VEC_F32_LANES);
  }
}

static void channel_gradients(void *context, int64_t begin, int64_t end, int worker) {
  const channels_job *job = context;
  if (end - begin == NORM_VECTORS * VEC_F32_LANES) {
    gradient_group(job, begin, NORM_VECTORS, VEC_F32_LANES);
    return;
  }
  for (int64_t c = begin; c < end; c += VEC_F32_LANES) {
    gradient_group(job, c, 1, end - c < VEC_F32_LANES ? end - c : VEC_F32_LANES);
  }
}

static channels_job channels_of(const hfb_kernel_call *call) {
  const hfb_shape *shape = &call->results[0].shape;
  channels_job job = {.outer = 1,
                      .length = shape->dim[shape->rank - 2],
                      .channels = shape->dim[shape->rank - 1],
                      .eps = (float)hfb_node_float(call->node, HFB_ATTR_EPS),
                      .out = call->results[0].data};
  for (int d = 0; d < shape->rank - 2; d++) job.outer *= shape->dim[d];
  return job;
}

hfb_status HFB_K(hfb_k_f32_instance_norm)(const hfb_kernel_call *call) {
  channels_job job = channels_of(call);
  job.x = call->inputs[0].data;
  job.weight = call->inputs[1].data;
  job.bias = call->inputs[2].data;
  hfb_range_run(job.channels, NORM_VECTORS * VEC_F32_LANES, call->pool, normalize_channels, &job);
  return HFB_OK;
}

hfb_status HFB_K(hfb_k_f32_instance_norm_backward)(const hfb_kernel_call *call) {
  channels_job job = channels_of(call);
  job.g = call->inputs[0].data;
  job.x = call->inputs[1].data;
  job.weight = call->inputs[2].data;
  job.dweight = call->results[1].data;
  job.dbias = call->results[2].data;
  hfb_range_run(job.channels, NORM_VECTORS * VEC_F32_LANES, call->pool, channel_gradients, &job);
  return HFB_OK;
}
