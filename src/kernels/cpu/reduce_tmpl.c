/* Float sums, means and maxima over neighbouring dimensions of a row-major tensor, seen as [outer, length, inner]; and
 * where the maxima of lines are.
 * Included by <isa>/reduce.c after its vec.h, with HFB_K(name) adding the suffix of the instruction set. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/partials.h"
#include "kernels/integers.h"

enum {
  REDUCE_STEP = 4 * VEC_F32_LANES,
  REDUCE_GRAIN = 32 << 10,
  MAX_VECTORS = 8,
  MAX_COLUMNS = MAX_VECTORS * VEC_F32_LANES, /* of one task of a maximum with inner > 1: they stay in registers */
  SUM_COLUMNS = 2048,                        /* of one task of a sum with inner > 1: they stay in the first cache */
  SUM_ROWS = 8,                              /* read side by side */
  SUM_MIN_WIDTH = 256,                       /* shorter rows are taken several at a time */
  SUM_TASKS = 32,
};

typedef struct reduce_job {
  const float *x;
  float *y;
  int64_t outer, length, inner, column_tasks;
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

/* Maxima of at most MAX_COLUMNS columns down `length` rows, held in registers. */
static void max_columns(void *context, int64_t index, int worker) {
  const reduce_job *job = context;
  int64_t first = index % job->column_tasks * MAX_COLUMNS, outer = index / job->column_tasks;
  int64_t columns = job->inner - first;
  const float *x = job->x + outer * job->length * job->inner + first;
  float *y = job->y + outer * job->inner + first;
  vec_f32 max[MAX_VECTORS];
  for (int v = 0; v < MAX_VECTORS; v++) max[v] = hfb_vec_set1(-INFINITY);
  for (int64_t row = 0; row < job->length; row++, x += job->inner) {
    for (int v = 0; v < MAX_VECTORS; v++) {
      int64_t rest = columns - v * VEC_F32_LANES;
      if (rest <= 0) break;
      const float *at = x + v * VEC_F32_LANES;
      max[v] = max_with_nan(rest >= VEC_F32_LANES ? hfb_vec_load(at) : hfb_vec_load_partial(at, rest), max[v]);
    }
  }
  for (int v = 0; v < MAX_VECTORS; v++) {
    int64_t rest = columns - v * VEC_F32_LANES;
    if (rest <= 0) break;
    hfb_vec_store_partial(y + v * VEC_F32_LANES, max[v], rest < VEC_F32_LANES ? rest : VEC_F32_LANES);
  }
}

/* ---- sums over rows ----
 *
 * The rows of each outer index are seen as `rows` of `width` elements and a last one of `last_width`: several rows of
 * the tensor where those are short, which are added to each other at the end. They are split into blocks, by the shape
 * alone, so that results do not depend on the number of threads; the sums of blocks are added in order. */
typedef struct sum_plan {
  const reduce_job *job;
  int64_t side_by_side; /* rows of the tensor in one: a power of two */
  int64_t rows, width, last_width; /* last_width 0: none; it belongs to the last block */
  int64_t block_rows, blocks, chunks; /* chunks of SUM_COLUMNS columns */
  hfb_partials partials; /* for each outer index and block one of `width`, when there is more than one block */
} sum_plan;

/* sums[i] (+)= the sum of `rows` elements below each other; `rows` and `is_first` are constants after inlining. */
HFB_ALWAYS_INLINE void add_rows(int rows, bool is_first, const float *x, int64_t row_stride, float *sums,
                                int64_t columns) {
  for (int64_t i = 0; i < columns; i += VEC_F32_LANES) {
    vec_f32 row[SUM_ROWS];
    int64_t rest = columns - i;
    HFB_UNROLL for (int r = 0; r < rows; r++) {
      const float *at = x + r * row_stride + i;
      row[r] = rest >= VEC_F32_LANES ? hfb_vec_load(at) : hfb_vec_load_partial(at, rest);
    }
    HFB_UNROLL for (int half = rows / 2; half > 0; half /= 2) {
      HFB_UNROLL for (int r = 0; r < half; r++) row[r] += row[r + half];
    }
    if (rest >= VEC_F32_LANES) {
      if (!is_first) row[0] += hfb_vec_load(sums + i);
      hfb_vec_store(sums + i, row[0]);
    } else {
      if (!is_first) row[0] += hfb_vec_load_partial(sums + i, rest);
      hfb_vec_store_partial(sums + i, row[0], rest);
    }
  }
}

static void sum_rows(const float *x, int64_t row_stride, int64_t rows, float *sums, int64_t columns) {
  int64_t row = 0;
  if (rows >= SUM_ROWS) {
    add_rows(SUM_ROWS, true, x, row_stride, sums, columns);
    row = SUM_ROWS;
  } else if (rows >= 2) {
    add_rows(2, true, x, row_stride, sums, columns);
    row = 2;
  } else {
    memset(sums, 0, (size_t)columns * sizeof(float));
  }
  for (; row + SUM_ROWS <= rows; row += SUM_ROWS) {
    add_rows(SUM_ROWS, false, x + row * row_stride, row_stride, sums, columns);
  }
  for (; row + 2 <= rows; row += 2) add_rows(2, false, x + row * row_stride, row_stride, sums, columns);
  if (row < rows) add_rows(1, false, x + row * row_stride, row_stride, sums, columns);
}

/* y = scale times the sums, the rows of the tensor that lie side by side in them added up. sums may be y. */
static void write_sums(const sum_plan *plan, float *sums, int64_t columns, float *y) {
  const reduce_job *job = plan->job;
  for (int64_t half = plan->side_by_side / 2; half > 0; half /= 2) {
    columns = half * job->inner;
    add_rows(1, false, sums + columns, 0, sums, columns);
  }
  if (sums == y && job->scale == 1) return;
  for (int64_t i = 0; i < columns; i++) y[i] = sums[i] * job->scale;
}

static void sum_block(const sum_plan *plan, int64_t index) {
  const reduce_job *job = plan->job;
  int64_t first = index % plan->chunks * SUM_COLUMNS, block = index / plan->chunks % plan->blocks;
  int64_t outer = index / plan->chunks / plan->blocks;
  int64_t columns = plan->width - first < SUM_COLUMNS ? plan->width - first : SUM_COLUMNS;
  int64_t row = block * plan->block_rows, rows = plan->rows - row;
  if (rows > plan->block_rows) rows = plan->block_rows;
  const float *x = job->x + outer * job->length * job->inner + row * plan->width + first;
  float local[SUM_COLUMNS];
  float *y = job->y + outer * job->inner + first, *sums = plan->side_by_side == 1 ? y : local;
  if (plan->blocks > 1) sums = (float *)hfb_partials_at(&plan->partials, outer * plan->blocks + block) + first;
  sum_rows(x, plan->width, rows, sums, columns);
  if (block == plan->blocks - 1 && plan->last_width > 0) {
    add_rows(1, false, x + rows * plan->width, 0, sums, plan->last_width);
  }
  if (plan->blocks == 1) write_sums(plan, sums, columns, y);
}

static void sum_blocks(void *context, int64_t begin, int64_t end, int worker) {
  for (int64_t index = begin; index < end; index++) sum_block(context, index);
}

static void add_blocks(void *context, int64_t index, int worker) {
  const sum_plan *plan = context;
  int64_t first = index % plan->chunks * SUM_COLUMNS, outer = index / plan->chunks;
  int64_t columns = plan->width - first < SUM_COLUMNS ? plan->width - first : SUM_COLUMNS;
  float *sums = (float *)hfb_partials_at(&plan->partials, outer * plan->blocks) + first;
  for (int64_t block = 1; block < plan->blocks; block++) {
    const float *next = hfb_partials_at(&plan->partials, outer * plan->blocks + block);
    add_rows(1, false, next + first, 0, sums, columns);
  }
  write_sums(plan, sums, columns, plan->job->y + outer * plan->job->inner + first);
}

static hfb_status run_sums(const reduce_job *job, hfb_pool *pool) {
  int64_t side_by_side = 1;
  while (2 * side_by_side <= job->length && 2 * side_by_side * job->inner <= SUM_MIN_WIDTH) side_by_side *= 2;
  sum_plan plan = {.job = job,
                   .side_by_side = side_by_side,
                   .rows = job->length / side_by_side,
                   .width = side_by_side * job->inner,
                   .last_width = job->length % side_by_side * job->inner,
                   .blocks = 1};
  plan.chunks = round_up(plan.width, SUM_COLUMNS) / SUM_COLUMNS;
  int64_t columns = plan.width < SUM_COLUMNS ? plan.width : SUM_COLUMNS;
  plan.block_rows = plan.rows;
  if (job->outer * plan.chunks < SUM_TASKS) {
    plan.block_rows = round_up(plan.rows, SUM_TASKS) / SUM_TASKS;
    if (plan.block_rows < REDUCE_GRAIN / columns) plan.block_rows = REDUCE_GRAIN / columns;
    plan.block_rows = round_up(plan.block_rows, SUM_ROWS);
    if (plan.rows > plan.block_rows) plan.blocks = (plan.rows + plan.block_rows - 1) / plan.block_rows;
  }
  if (plan.blocks > 1) {
    HFB_TRY(hfb_partials_init(pool, job->outer * plan.blocks, (size_t)plan.width * sizeof(float), &plan.partials));
  }
  int64_t grain = REDUCE_GRAIN / ((plan.block_rows + 1) * columns) + 1;
  hfb_range_run(job->outer * plan.blocks * plan.chunks, grain, pool, sum_blocks, &plan);
  if (plan.blocks > 1) {
    hfb_pool_run(pool, job->outer * plan.chunks, add_blocks, &plan);
    hfb_partials_deinit(&plan.partials);
  }
  return HFB_OK;
}

/* Long lines that are too few for the threads are better seen as short rows. */
static bool has_few_lines(const reduce_job *job) { return job->outer < 16 && job->length >= REDUCE_GRAIN; }

hfb_status HFB_K(hfb_k_f32_reduce)(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0];
  int axis_count;
  const int64_t *axes = hfb_node_ints(call->node, HFB_ATTR_AXES, &axis_count);
  reduce_job job = {.x = x->data,
                    .y = call->results[0].data,
                    .outer = 1,
                    .length = 1,
                    .inner = 1,
                    .is_max = call->node->op == HFB_OP_REDUCE_MAX,
                    .scale = 1};
  for (int d = 0; d < x->shape.rank; d++) {
    bool is_before = d < axes[0], is_behind = d > axes[axis_count - 1];
    *(is_before ? &job.outer : is_behind ? &job.inner : &job.length) *= x->shape.dim[d];
  }
  if (job.outer * job.inner == 0) return HFB_OK;
  if (call->node->op == HFB_OP_REDUCE_MEAN) job.scale = 1.0f / (float)job.length;
  if (!job.is_max && (job.inner > 1 || has_few_lines(&job))) return run_sums(&job, call->pool);
  if (job.inner == 1) {
    hfb_range_run(job.outer, REDUCE_GRAIN / (job.length + 1) + 1, call->pool, reduce_lines, &job);
  } else {
    job.column_tasks = (job.inner + MAX_COLUMNS - 1) / MAX_COLUMNS;
    hfb_pool_run(call->pool, job.outer * job.column_tasks, max_columns, &job);
  }
  return HFB_OK;
}

/* The place of the first nan, or else of the first of equal maxima, among elements [from, length) and place `best`. */
static int64_t argmax_rest(const float *x, int64_t best, int64_t from, int64_t length) {
  for (int64_t i = from; i < length && !isnan(x[best]); i++) best = x[i] > x[best] || isnan(x[i]) ? i : best;
  return best;
}

/* data: result, line. Each lane notes in which vector its largest element was, as a float: lines of 2^24 vectors and
 * more, and those with a nan, go one by one. */
static void argmax_line(void *context, char *const *data) {
  const int64_t length = *(const int64_t *)context, vectors = length / VEC_F32_LANES;
  const float *x = (const float *)data[1];
  vec_f32 max = hfb_vec_set1(-INFINITY), place = hfb_vec_zero(), nans = hfb_vec_zero();
  for (int64_t v = 0; v < vectors; v++) {
    const vec_f32 at = hfb_vec_load(x + v * VEC_F32_LANES);
    const vec_mask larger = hfb_vec_lt(max, at);
    max = hfb_vec_select(larger, at, max);
    place = hfb_vec_select(larger, hfb_vec_set1((float)v), place);
    nans = hfb_vec_select(hfb_vec_eq(at, at), nans, hfb_vec_set1(1));
  }
  if (vectors == 0 || vectors >= 1 << 24 || hfb_vec_hmax(nans) > 0) {
    *(int64_t *)data[0] = argmax_rest(x, 0, 1, length);
    return;
  }
  int64_t best = length;
  float largest = -INFINITY;
  for (int lane = 0; lane < VEC_F32_LANES; lane++) {
    const int64_t at = (int64_t)place[lane] * VEC_F32_LANES + lane;
    if (max[lane] > largest || (max[lane] == largest && at < best)) {
      largest = max[lane];
      best = at;
    }
  }
  *(int64_t *)data[0] = argmax_rest(x, best, vectors * VEC_F32_LANES, length);
}

hfb_status HFB_K(hfb_k_f32_argmax)(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0], *result = &call->results[0];
  const int64_t last = x->shape.rank - 1;
  int64_t length = x->shape.dim[last];
  const bool keepdim = result->shape.rank == x->shape.rank;
  hfb_tensor lines = hfb_tensor_without(x, 1, &last), out = keepdim ? hfb_tensor_without(result, 1, &last) : *result;
  hfb_lines_run(&lines.shape, 2, (const hfb_tensor *const[]){&out, &lines}, length, call->pool, argmax_line, &length);
  return HFB_OK;
}
