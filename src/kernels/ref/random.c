/* Random masks and numbers: functions of the seed, the step, the site and the row-major index of an element
 * (base/rng.h). */
#include "base/rng.h"
#include "device/convert.h"
#include "kernels/kernel_impl.h"
#include "kernels/ref/wide.h"

enum { GRAIN = 4 << 10 };

typedef struct mask_job {
  uint32_t threshold;
  int64_t site;
} mask_job;

static mask_job mask_of(const hfb_node *node) {
  return (mask_job){hfb_random_threshold(hfb_node_float(node, HFB_ATTR_P)), hfb_node_int(node, HFB_ATTR_SITE)};
}

/* data: result, index, seed, step. */
static void keep_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  const mask_job *job = context;
  for (int64_t i = 0; i < count; i++) {
    int64_t index = *(const int64_t *)(data[1] + i * stride[1]), seed = *(const int64_t *)(data[2] + i * stride[2]);
    int64_t step = *(const int64_t *)(data[3] + i * stride[3]);
    *(uint8_t *)(data[0] + i * stride[0]) = hfb_random_keeps(seed, step, job->site, index, job->threshold);
  }
}

hfb_status hfb_k_random_keep__ref(const hfb_kernel_call *call) {
  mask_job job = mask_of(call->node);
  hfb_strided walk = hfb_strided_make(
      &call->results[0].shape, 4,
      (const hfb_tensor *const[]){&call->results[0], &call->inputs[0], &call->inputs[1], &call->inputs[2]});
  hfb_strided_run(&walk, GRAIN, call->pool, keep_row, &job);
  return HFB_OK;
}

typedef struct dropout_job {
  mask_job mask;
  int64_t seed, step;
  double scale;
  const double *x;
  double *out;
} dropout_job;

static void drop(void *context, int64_t begin, int64_t end, int worker) {
  const dropout_job *job = context;
  for (int64_t i = begin; i < end; i++) {
    bool keeps = hfb_random_keeps(job->seed, job->step, job->mask.site, i, job->mask.threshold);
    job->out[i] = keeps ? job->x[i] * job->scale : 0;
  }
}

hfb_status hfb_k_dropout__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  dropout_job job = {.mask = mask_of(call->node),
                     .seed = wide.index[1][0],
                     .step = wide.index[1][1],
                     .scale = 1 / (1 - hfb_node_float(call->node, HFB_ATTR_P)),
                     .x = wide.in[0],
                     .out = wide.out[0]};
  hfb_range_run(hfb_shape_elements(&call->results[0].shape), GRAIN, call->pool, drop, &job);
  return hfb_wide_end(call, &wide, HFB_OK);
}

typedef struct normal_job {
  int64_t seed, step, site;
  hfb_dtype dtype;
  char *out;
} normal_job;

static void draw_normal(void *context, int64_t begin, int64_t end, int worker) {
  enum { DRAWN = 256 };
  const normal_job *job = context;
  const int64_t bytes = (int64_t)hfb_dtype_bytes(job->dtype);
  float drawn[DRAWN];
  for (int64_t i = begin; i < end; i += DRAWN) {
    int64_t count = end - i < DRAWN ? end - i : DRAWN;
    hfb_random_normal_fill(job->seed, job->step, job->site, i, count, drawn);
    hfb_convert_row(HFB_F32, (const char *)drawn, sizeof(float), job->dtype, job->out + i * bytes, bytes, count);
  }
}

hfb_status hfb_k_random_normal__ref(const hfb_kernel_call *call) {
  const hfb_tensor *state = &call->inputs[0];
  const int64_t *words = state->data;
  normal_job job = {.seed = words[0],
                    .step = words[state->strides[0]],
                    .site = hfb_node_int(call->node, HFB_ATTR_SITE),
                    .dtype = call->results[0].dtype,
                    .out = call->results[0].data};
  hfb_range_run(hfb_shape_elements(&call->results[0].shape), GRAIN, call->pool, draw_normal, &job);
  return HFB_OK;
}
