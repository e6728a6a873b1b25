/* Float sums, means and maxima over neighbouring dimensions of a row-major tensor, seen as [outer, length, inner].
 * Included by <isa>/reduce.c after its vec.h, with HFB_K(name) adding the suffix of the instruction set. */
#include <math.h>

#include "kernels/kernel_impl.h"

enum {
  REDUCE_STEP = 4 * VEC_F32_LANES,
  REDUCE_GRAIN = 32 << 10,
  REDUCE_VECTORS = 8,
  REDUCE_COLUMNS = REDUCE_VECTORS * VEC_F32_LANES, /* of one task when inner > 1: their sums stay in registers */
};

typedef struct reduce_job {
  const float *x;
  float *y;
  int64_t length, inner, column_tasks;
  bool is_max;
  float scale; /* of a sum */
} reduce_job;

/* nan wins: the vector maximum gives its second operand when either is nan, so only a nan in x needs care. */
static vec_f32 max_with_nan(vec_f32 x, vec_f32 so_far) {
  return hfb_vec_select(hfb_vec_eq(x, x), hfb_vec_max(x, so_far), x);
}

static float sum_line(const float *x, int64_t length) {
  vec_f32 sum[4] = {hfb_vec_zero(), hfb_vec_zero(), hfb_vec_zero(), hfb_vec_zero()};
  int64_t i = 0;
  for (; i + REDUCE_STEP <= length; i += REDUCE_STEP) {
    for (int v = 0; v < 4; v++) sum[v] += hfb_vec_load(x + i + v * VEC_F32_LANES);
  }
  for (; i + VEC_F32_LANES <= length; i += VEC_F32_LANES) sum[0] += hfb_vec_load(x + i);
  if (i < length) sum[1] += hfb_vec_load_partial(x + i, length - i);
  return hfb_vec_hsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static float max_line(const float *x, int64_t length) {
  float lanes[VEC_F32_LANES], max = -INFINITY;
  vec_f32 vector_max = hfb_vec_set1(max);
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= length; i += VEC_F32_LANES) vector_max = max_with_nan(hfb_vec_load(x + i), vector_max);
  hfb_vec_store(lanes, vector_max);
  for (int k = 0; k < VEC_F32_LANES; k++) max = lanes[k] > max || isnan(lanes[k]) ? lanes[k] : max;
  for (; i < length; i++) max = x[i] > max || isnan(x[i]) ? x[i] : max;
  return max;
}

static void reduce_lines(void *context, int64_t begin, int64_t end, int worker) {
  const reduce_job *job = context;
  for (int64_t i = begin; i < end; i++) {
    const float *x = job->x + i * job->length;
    job->y[i] = job->is_max ? max_line(x, job->length) : sum_line(x, job->length) * job->scale;
  }
}

/* Sums or maxima of REDUCE_COLUMNS columns down `length` rows, held in registers; only the first `columns` exist.
 * Inlined with constants for whole blocks. */
static inline __attribute__((always_inline)) void reduce_block(const reduce_job *job, const float *x, float *y,
                                                               int64_t columns, bool is_whole, bool is_max) {
  vec_f32 sums[REDUCE_VECTORS];
  for (int v = 0; v < REDUCE_VECTORS; v++) sums[v] = hfb_vec_set1(is_max ? -INFINITY : 0);
  for (int64_t row = 0; row < job->length; row++, x += job->inner) {
    for (int v = 0; v < REDUCE_VECTORS; v++) {
      const float *at = x + v * VEC_F32_LANES;
      int64_t rest = columns - v * VEC_F32_LANES;
      if (!is_whole && rest <= 0) break;
      vec_f32 value = is_whole || rest >= VEC_F32_LANES ? hfb_vec_load(at) : hfb_vec_load_partial(at, rest);
      if (is_max) {
        sums[v] = max_with_nan(value, sums[v]);
      } else {
        sums[v] += value;
      }
    }
  }
  for (int v = 0; v < REDUCE_VECTORS; v++) {
    int64_t rest = columns - v * VEC_F32_LANES;
    if (rest <= 0) break;
    if (!is_max) sums[v] *= hfb_vec_set1(job->scale);
    hfb_vec_store_partial(y + v * VEC_F32_LANES, sums[v], rest < VEC_F32_LANES ? rest : VEC_F32_LANES);
  }
}

static void reduce_columns(void *context, int64_t index, int worker) {
  const reduce_job *job = context;
  int64_t first = index % job->column_tasks * REDUCE_COLUMNS, outer = index / job->column_tasks;
  int64_t columns = job->inner - first < REDUCE_COLUMNS ? job->inner - first : REDUCE_COLUMNS;
  const float *x = job->x + outer * job->length * job->inner + first;
  float *y = job->y + outer * job->inner + first;
  if (job->is_max) {
    reduce_block(job, x, y, columns, false, true);
  } else if (columns < REDUCE_COLUMNS) {
    reduce_block(job, x, y, columns, false, false);
  } else {
    reduce_block(job, x, y, REDUCE_COLUMNS, true, false);
  }
}

hfb_status HFB_K(hfb_k_f32_reduce)(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0];
  int axis_count;
  const int64_t *axes = hfb_node_ints(call->node, HFB_ATTR_AXES, &axis_count);
  reduce_job job = {.x = x->data,
                    .y = call->results[0].data,
                    .length = 1,
                    .inner = 1,
                    .is_max = call->node->op == HFB_OP_REDUCE_MAX,
                    .scale = 1};
  int64_t outer = 1;
  for (int d = 0; d < x->shape.rank; d++) {
    bool is_before = d < axes[0], is_behind = d > axes[axis_count - 1];
    *(is_before ? &outer : is_behind ? &job.inner : &job.length) *= x->shape.dim[d];
  }
  if (call->node->op == HFB_OP_REDUCE_MEAN) job.scale = 1.0f / (float)job.length;
  if (job.inner == 1) {
    hfb_range_run(outer, REDUCE_GRAIN / (job.length + 1) + 1, call->pool, reduce_lines, &job);
  } else {
    job.column_tasks = (job.inner + REDUCE_COLUMNS - 1) / REDUCE_COLUMNS;
    hfb_pool_run(call->pool, outer * job.column_tasks, reduce_columns, &job);
  }
  return HFB_OK;
}
