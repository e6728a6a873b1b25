/* Gradients of float kernels over lines of the last dimension: softmax, log_softmax, layer_norm, rms_norm. Included by
 * <isa>/lines.c behind lines_tmpl.c, whose moment_of_line it uses; hfb_accepts_lines holds here too. */
#include <string.h>

#include "kernels/cpu/partials.h"

/* Reads and writes of the first `rest` elements, at most a vector. */
static inline vec_f32 load_some(const float *x, int64_t rest) {
  return rest >= VEC_F32_LANES ? hfb_vec_load(x) : hfb_vec_load_partial(x, rest);
}
static inline void store_some(float *y, vec_f32 v, int64_t rest) {
  if (rest >= VEC_F32_LANES) {
    hfb_vec_store(y, v);
  } else {
    hfb_vec_store_partial(y, v, rest);
  }
}

/* sum + g y, or sum + g where y is NULL. */
static inline __attribute__((always_inline)) vec_f32 add_product(vec_f32 sum, const float *g, const float *y,
                                                                 int64_t rest) {
  vec_f32 gradient = load_some(g, rest);
  if (!y) return sum + gradient;
  return hfb_vec_fma(gradient, load_some(y, rest), sum);
}

/* Inlined with a constant y where that is NULL. */
static inline __attribute__((always_inline)) float dot_of_lines(const float *g, const float *y, int64_t length) {
  vec_f32 sum[4] = {hfb_vec_zero(), hfb_vec_zero(), hfb_vec_zero(), hfb_vec_zero()};
  int64_t i = 0;
  for (; i + STEP <= length; i += STEP) {
    for (int v = 0; v < 4; v++) {
      int64_t at = i + v * VEC_F32_LANES;
      sum[v] = add_product(sum[v], g + at, y ? y + at : NULL, VEC_F32_LANES);
    }
  }
  for (; i < length; i += VEC_F32_LANES) sum[0] = add_product(sum[0], g + i, y ? y + i : NULL, length - i);
  return hfb_vec_hsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static void softmax_backward_line(void *context, char *const *data) {
  const line_job *job = context;
  const float *g = (const float *)data[1], *y = (const float *)data[2];
  float *out = (float *)data[0];
  vec_f32 dot = hfb_vec_set1(dot_of_lines(g, y, job->length));
  for (int64_t i = 0; i < job->length; i += VEC_F32_LANES) {
    int64_t rest = job->length - i;
    store_some(out + i, load_some(y + i, rest) * (load_some(g + i, rest) - dot), rest);
  }
}

static void log_softmax_backward_line(void *context, char *const *data) {
  const line_job *job = context;
  const float *g = (const float *)data[1], *y = (const float *)data[2];
  float *out = (float *)data[0];
  vec_f32 sum = hfb_vec_set1(dot_of_lines(g, NULL, job->length));
  for (int64_t i = 0; i < job->length; i += VEC_F32_LANES) {
    int64_t rest = job->length - i;
    store_some(out + i, hfb_vec_fnma(hfb_vec_exp(load_some(y + i, rest)), sum, load_some(g + i, rest)), rest);
  }
}

static hfb_status run_line_pairs(const hfb_kernel_call *call, hfb_line_fn line) {
  int64_t last = call->inputs[0].shape.rank - 1;
  line_job job = {.length = call->inputs[0].shape.dim[last]};
  if (job.length == 0) return HFB_OK;
  hfb_tensor out = hfb_tensor_without(&call->results[0], 1, &last);
  hfb_tensor g = hfb_tensor_without(&call->inputs[0], 1, &last), y = hfb_tensor_without(&call->inputs[1], 1, &last);
  hfb_lines_run(&out.shape, 3, (const hfb_tensor *const[]){&out, &g, &y}, job.length, call->pool, line, &job);
  return HFB_OK;
}

hfb_status HFB_K(hfb_k_f32_softmax_backward)(const hfb_kernel_call *call) {
  return run_line_pairs(call, softmax_backward_line);
}

hfb_status HFB_K(hfb_k_f32_log_softmax_backward)(const hfb_kernel_call *call) {
  return run_line_pairs(call, log_softmax_backward_line);
}

/* ---- norms ---- */

/* The gradients of weight and bias are sums over the rows: over each block of rows first, then over the blocks in
 * order. The blocks follow from the shape alone, so results do not depend on the number of threads. */
enum { NORM_BLOCK_MIN_ROWS = 32, NORM_MAX_BLOCKS = 64, NORM_COLUMN_GRAIN = 256 };

typedef struct norm_job {
  const hfb_tensor *g, *x;
  const float *weight;
  float *out, *weight_out, *bias_out; /* bias_out is NULL for rms_norm */
  int64_t rows, length, block_rows, blocks;
  float eps;
  hfb_partials partials; /* of a block: weight[length], bias[length] */
} norm_job;

/* Row number `row` of all lines in row-major order. */
static const float *line_at(const hfb_tensor *tensor, int64_t row) {
  int64_t offset = 0;
  for (int d = tensor->shape.rank - 2; d >= 0; d--) {
    offset += row % tensor->shape.dim[d] * tensor->strides[d];
    row /= tensor->shape.dim[d];
  }
  return (const float *)tensor->data + offset;
}

/* With n = (x - mean) / deviation and h = g weight: out = (h - mean(h) - n mean(h n)) / deviation. */
static void layer_norm_backward_line(const norm_job *job, const float *g, const float *x, float *out, float *weight_sum,
                                     float *bias_sum) {
  const int64_t length = job->length;
  const float *weight = job->weight;
  float mean = moment_of_line(x, 0, 1, length) / (float)length;
  float scale = 1.0f / sqrtf(moment_of_line(x, mean, 2, length) / (float)length + job->eps);
  const vec_f32 middle = hfb_vec_set1(mean), scales = hfb_vec_set1(scale);
  vec_f32 sum = hfb_vec_zero(), dot = hfb_vec_zero();
  for (int64_t i = 0; i < length; i += VEC_F32_LANES) {
    int64_t rest = length - i;
    vec_f32 gradient = load_some(g + i, rest), normal = (load_some(x + i, rest) - middle) * scales;
    vec_f32 weighted = gradient * load_some(weight + i, rest);
    sum += weighted;
    dot = hfb_vec_fma(weighted, normal, dot);
    store_some(weight_sum + i, hfb_vec_fma(gradient, normal, load_some(weight_sum + i, rest)), rest);
    store_some(bias_sum + i, gradient + load_some(bias_sum + i, rest), rest);
  }
  const vec_f32 mean_sum = hfb_vec_set1(hfb_vec_hsum(sum) / (float)length);
  const vec_f32 mean_dot = hfb_vec_set1(hfb_vec_hsum(dot) / (float)length);
  for (int64_t i = 0; i < length; i += VEC_F32_LANES) {
    int64_t rest = length - i;
    vec_f32 normal = (load_some(x + i, rest) - middle) * scales;
    vec_f32 centred = load_some(g + i, rest) * load_some(weight + i, rest) - mean_sum;
    store_some(out + i, hfb_vec_fnma(normal, mean_dot, centred) * scales, rest);
  }
}

/* As above with a mean of 0 that is not subtracted: out = (h - n mean(h n)) / deviation. */
static void rms_norm_backward_line(const norm_job *job, const float *g, const float *x, float *out,
                                   float *weight_sum) {
  const int64_t length = job->length;
  const float *weight = job->weight;
  float scale = 1.0f / sqrtf(moment_of_line(x, 0, 2, length) / (float)length + job->eps);
  const vec_f32 scales = hfb_vec_set1(scale);
  vec_f32 dot = hfb_vec_zero();
  for (int64_t i = 0; i < length; i += VEC_F32_LANES) {
    int64_t rest = length - i;
    vec_f32 gradient = load_some(g + i, rest), normal = load_some(x + i, rest) * scales;
    dot = hfb_vec_fma(gradient * load_some(weight + i, rest), normal, dot);
    store_some(weight_sum + i, hfb_vec_fma(gradient, normal, load_some(weight_sum + i, rest)), rest);
  }
  const vec_f32 mean_dot = hfb_vec_set1(hfb_vec_hsum(dot) / (float)length);
  for (int64_t i = 0; i < length; i += VEC_F32_LANES) {
    int64_t rest = length - i;
    vec_f32 weighted = load_some(g + i, rest) * load_some(weight + i, rest);
    store_some(out + i, hfb_vec_fnma(load_some(x + i, rest) * scales, mean_dot, weighted) * scales, rest);
  }
}

static void norm_backward_block(void *context, int64_t block, int worker) {
  const norm_job *job = context;
  int64_t begin = block * job->block_rows, end = begin + job->block_rows;
  if (end > job->rows) end = job->rows;
  float *weight_sum = hfb_partials_at(&job->partials, block), *bias_sum = weight_sum + job->length;
  memset(weight_sum, 0, (size_t)(job->bias_out ? 2 * job->length : job->length) * sizeof(float));
  for (int64_t row = begin; row < end; row++) {
    const float *g = line_at(job->g, row), *x = line_at(job->x, row);
    float *out = job->out + row * job->length;
    if (job->bias_out) {
      layer_norm_backward_line(job, g, x, out, weight_sum, bias_sum);
    } else {
      rms_norm_backward_line(job, g, x, out, weight_sum);
    }
  }
}

static void add_norm_blocks(void *context, int64_t begin, int64_t end, int worker) {
  const norm_job *job = context;
  for (int64_t i = begin; i < end; i += VEC_F32_LANES) {
    vec_f32 weight_sum = hfb_vec_zero(), bias_sum = hfb_vec_zero();
    for (int64_t block = 0; block < job->blocks; block++) {
      const float *partial = hfb_partials_at(&job->partials, block);
      weight_sum += load_some(partial + i, end - i);
      if (job->bias_out) bias_sum += load_some(partial + job->length + i, end - i);
    }
    store_some(job->weight_out + i, weight_sum, end - i);
    if (job->bias_out) store_some(job->bias_out + i, bias_sum, end - i);
  }
}

static hfb_status run_norm_backward(const hfb_kernel_call *call) {
  const hfb_tensor *g = &call->inputs[0];
  norm_job job = {.g = g,
                  .x = &call->inputs[1],
                  .weight = call->inputs[2].data,
                  .out = call->results[0].data,
                  .weight_out = call->results[1].data,
                  .bias_out = call->result_count > 2 ? call->results[2].data : NULL,
                  .length = g->shape.dim[g->shape.rank - 1],
                  .eps = (float)hfb_node_float(call->node, HFB_ATTR_EPS)};
  if (job.length == 0) return HFB_OK;
  job.rows = hfb_shape_elements(&g->shape) / job.length;
  job.block_rows = (job.rows + NORM_MAX_BLOCKS - 1) / NORM_MAX_BLOCKS;
  if (job.block_rows < NORM_BLOCK_MIN_ROWS) job.block_rows = NORM_BLOCK_MIN_ROWS;
  job.blocks = (job.rows + job.block_rows - 1) / job.block_rows;
  HFB_TRY(hfb_partials_init(call->pool, job.blocks, 2 * (size_t)job.length * sizeof(float), &job.partials));
  hfb_pool_run(call->pool, job.blocks, norm_backward_block, &job);
  hfb_range_run(job.length, NORM_COLUMN_GRAIN, call->pool, add_norm_blocks, &job);
  hfb_partials_deinit(&job.partials);
  return HFB_OK;
}

hfb_status HFB_K(hfb_k_f32_layer_norm_backward)(const hfb_kernel_call *call) { return run_norm_backward(call); }
hfb_status HFB_K(hfb_k_f32_rms_norm_backward)(const hfb_kernel_call *call) { return run_norm_backward(call); }
