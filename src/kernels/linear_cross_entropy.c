/* Per chunk of rows: logits (a product), softmax row by row, then for each block of classes the products that give its
 * part of the gradients of x and of the weight, while that block of the chunk is in cache.
 *
 * A chunk is as many rows as its memory allows, because each chunk reads the weight twice and its gradient once, and
 * writes the gradient. */
#include "kernels/linear_cross_entropy.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/attention_isa.h"
#include "kernels/gemm.h"
#include "kernels/integers.h"
#include "kernels/kernel_impl.h"

enum {
  CHUNK_BYTES = 64 << 20, /* of logits: longer chunks pack the weight less often */
  LEAST_CHUNK_ROWS = 128, /* also when the vocabulary is so large that they take more: fewer rows wait for memory */
  MOST_CHUNK_ROWS = 512,
  GROUP_ROWS = 16,        /* rows of one task, whose column sums are added up in order */
  CLASS_BLOCK = 4096,     /* classes whose part of a chunk stays in the last cache for both products */
  LINE_FLOATS = 16,
  SUM_GRAIN = 4096,       /* classes of a task that adds column sums */
};

typedef struct loss_job {
  const hfb_linear_cross_entropy *call;
  const hfb_attention_isa *kernels;
  int64_t chunk_rows, row, row_end; /* the chunk in progress */
  int64_t ld;           /* row stride of a chunk: classes, rounded up to whole lines */
  float factor;         /* g / rows that count */
  bool has_gradients;
  float *logits;        /* [chunk_rows][ld] */
  float *group_sums;    /* [groups of a chunk][ld]: columns summed over the group; NULL without bias_gradient */
  double *group_losses; /* [groups of a chunk] */
} loss_job;

/* ---- rows ---- */

/* sums += row; both are whole lines. */
static void add_row(float *restrict sums, const float *restrict row, int64_t count) {
  for (int64_t i = 0; i < count; i += LINE_FLOATS) {
    for (int j = 0; j < LINE_FLOATS; j++) sums[i + j] += row[i + j];
  }
}

/* The logits of a row become (softmax - one at the target) * factor; returns the loss. */
static double finish_row(const loss_job *job, float *logits, int64_t target) {
  const int64_t classes = job->call->classes;
  const float chosen = logits[target];
  float max;
  const float sum = job->kernels->exp(logits, classes, job->ld, &max);
  if (job->has_gradients) {
    job->kernels->scale(logits, classes, job->factor / sum);
    logits[target] -= job->factor;
  }
  return log((double)sum) + (double)max - (double)chosen;
}

static void finish_group(void *context, int64_t group, int worker) {
  const loss_job *job = context;
  const hfb_linear_cross_entropy *call = job->call;
  const int64_t first = job->row + group * GROUP_ROWS, end = min_i64(job->row_end, first + GROUP_ROWS);
  float *sums = job->group_sums ? job->group_sums + group * job->ld : NULL;
  if (sums) memset(sums, 0, (size_t)job->ld * sizeof(float));
  double loss = 0;
  for (int64_t row = first; row < end; row++) {
    const int64_t target = call->target[row * call->target_stride];
    float *logits = job->logits + (row - job->row) * job->ld;
    if (target == call->ignore_index) {
      memset(logits, 0, (size_t)job->ld * sizeof(float));
      continue;
    }
    loss += finish_row(job, logits, target);
    if (sums) add_row(sums, logits, job->ld);
  }
  job->group_losses[group] = loss;
}

/* The groups' sums of columns [begin, end), in the order of the rows. */
static void add_group_sums(void *context, int64_t begin, int64_t end, int worker) {
  const loss_job *job = context;
  float *gradient = job->call->bias_gradient;
  const int64_t groups = ceil_div(job->row_end - job->row, GROUP_ROWS);
  for (int64_t i = begin; job->row == 0 && i < end; i++) gradient[i] = 0;
  for (int64_t group = 0; group < groups; group++) {
    const float *sums = job->group_sums + group * job->ld;
    for (int64_t i = begin; i < end; i++) gradient[i] += sums[i];
  }
}

/* ---- products ---- */

static hfb_status make_logits(const loss_job *job, hfb_isa isa, hfb_pool *pool) {
  const hfb_linear_cross_entropy *call = job->call;
  const hfb_gemm gemm = {
      .dtype = HFB_F32,
      .m = job->row_end - job->row,
      .n = call->classes,
      .k = call->features,
      .batch = 1,
      .a = call->x + job->row * call->x_row_stride,
      .a_row_stride = call->x_row_stride,
      .a_col_stride = call->x_col_stride,
      .b = call->weight,
      .b_row_stride = call->weight_col_stride,
      .b_col_stride = call->weight_row_stride,
      .c = job->logits,
      .c_row_stride = job->ld,
      .alpha = 1,
      .bias = call->bias,
  };
  return hfb_gemm_run(&gemm, isa, pool);
}

/* x_gradient[rows of the chunk] (+)= gradients of the logits [rows][block] * weight[block]. */
static hfb_status add_x_gradient(const loss_job *job, int64_t class, int64_t count, hfb_isa isa, hfb_pool *pool) {
  const hfb_linear_cross_entropy *call = job->call;
  const hfb_gemm gemm = {
      .dtype = HFB_F32,
      .m = job->row_end - job->row,
      .n = call->features,
      .k = count,
      .batch = 1,
      .a = job->logits + class,
      .a_row_stride = job->ld,
      .a_col_stride = 1,
      .b = call->weight + class * call->weight_row_stride,
      .b_row_stride = call->weight_row_stride,
      .b_col_stride = call->weight_col_stride,
      .c = call->x_gradient + job->row * call->features,
      .c_row_stride = call->features,
      .alpha = 1,
      .accumulate = class > 0,
  };
  return hfb_gemm_run(&gemm, isa, pool);
}

/* weight_gradient[block] (+)= gradients of the logits [rows][block], transposed, * x[rows of the chunk]. */
static hfb_status add_weight_gradient(const loss_job *job, int64_t class, int64_t count, hfb_isa isa, hfb_pool *pool) {
  const hfb_linear_cross_entropy *call = job->call;
  const hfb_gemm gemm = {
      .dtype = HFB_F32,
      .m = count,
      .n = call->features,
      .k = job->row_end - job->row,
      .batch = 1,
      .a = job->logits + class,
      .a_row_stride = 1,
      .a_col_stride = job->ld,
      .b = call->x + job->row * call->x_row_stride,
      .b_row_stride = call->x_row_stride,
      .b_col_stride = call->x_col_stride,
      .c = call->weight_gradient + class * call->features,
      .c_row_stride = call->features,
      .alpha = 1,
      .accumulate = job->row > 0,
  };
  return hfb_gemm_run(&gemm, isa, pool);
}

static hfb_status run_chunk(loss_job *job, double *loss, hfb_isa isa, hfb_pool *pool) {
  const hfb_linear_cross_entropy *call = job->call;
  HFB_TRY(make_logits(job, isa, pool));
  const int64_t groups = ceil_div(job->row_end - job->row, GROUP_ROWS);
  hfb_pool_run(pool, groups, finish_group, job);
  for (int64_t group = 0; group < groups; group++) *loss += job->group_losses[group];
  if (job->group_sums) hfb_range_run(call->classes, SUM_GRAIN, pool, add_group_sums, job);
  for (int64_t class = 0; job->has_gradients && class < call->classes; class += CLASS_BLOCK) {
    const int64_t count = min_i64(CLASS_BLOCK, call->classes - class);
    if (call->x_gradient) HFB_TRY(add_x_gradient(job, class, count, isa, pool));
    if (call->weight_gradient) HFB_TRY(add_weight_gradient(job, class, count, isa, pool));
  }
  return HFB_OK;
}

/* ---- the whole ---- */

static hfb_status count_targets(const hfb_linear_cross_entropy *call, int64_t *out_count) {
  *out_count = 0;
  for (int64_t row = 0; row < call->rows; row++) {
    const int64_t target = call->target[row * call->target_stride];
    if (target == call->ignore_index) continue;
    if (target < 0 || target >= call->classes) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "linear_cross_entropy: target %" PRId64 " is outside [0,%" PRId64 ")",
                      target, call->classes);
    }
    ++*out_count;
  }
  return HFB_OK;
}

static void clear(float *gradient, int64_t count) {
  if (gradient && count > 0) memset(gradient, 0, (size_t)count * sizeof(float));
}

static void plan_chunks(loss_job *job, int64_t rows, int64_t classes) {
  job->ld = round_up(classes, LINE_FLOATS);
  /* A row stride of many powers of two would put the rows of a tile into the same few lines of the caches. */
  if (job->ld % (1024 / (int64_t)sizeof(float)) == 0) job->ld += LINE_FLOATS;
  const int64_t fitting = CHUNK_BYTES / (job->ld * (int64_t)sizeof(float));
  const int64_t most = max_i64(LEAST_CHUNK_ROWS, min_i64(MOST_CHUNK_ROWS, fitting));
  job->chunk_rows = rows > 0 ? round_up(ceil_div(rows, ceil_div(rows, most)), GROUP_ROWS) : 0;
}

size_t hfb_linear_cross_entropy_bytes(int64_t rows, int64_t classes, bool has_bias_gradient) {
  loss_job job = {0};
  plan_chunks(&job, rows, classes);
  const int64_t groups = ceil_div(job.chunk_rows, GROUP_ROWS);
  return (size_t)((job.chunk_rows + (has_bias_gradient ? groups : 0)) * job.ld) * sizeof(float) +
         (size_t)groups * sizeof(double);
}

static hfb_status run_chunks(loss_job *job, double *loss, hfb_isa isa, hfb_pool *pool) {
  const int64_t groups = ceil_div(job->chunk_rows, GROUP_ROWS);
  HFB_TRY(hfb_mem_alloc_aligned((size_t)(job->chunk_rows * job->ld) * sizeof(float), 64, &job->logits));
  HFB_TRY(hfb_mem_alloc((size_t)groups, sizeof(double), &job->group_losses));
  if (job->call->bias_gradient) {
    HFB_TRY(hfb_mem_alloc_aligned((size_t)(groups * job->ld) * sizeof(float), 64, &job->group_sums));
  }
  for (; job->row < job->call->rows; job->row = job->row_end) {
    job->row_end = min_i64(job->call->rows, job->row + job->chunk_rows);
    HFB_TRY(run_chunk(job, loss, isa, pool));
  }
  return HFB_OK;
}

hfb_status hfb_linear_cross_entropy_run(const hfb_linear_cross_entropy *call, hfb_isa isa, hfb_pool *pool) {
  int64_t counted;
  HFB_TRY(count_targets(call, &counted));
  if (counted == 0) {
    *call->loss = NAN;
    clear(call->x_gradient, call->rows * call->features);
    clear(call->weight_gradient, call->classes * call->features);
    clear(call->bias_gradient, call->classes);
    return HFB_OK;
  }
  loss_job job = {
      .call = call,
      .kernels = hfb_attention_isa_select(isa < hfb_cpu()->isa ? isa : hfb_cpu()->isa),
      .factor = (float)((double)call->g / (double)counted),
      .has_gradients = call->x_gradient || call->weight_gradient || call->bias_gradient,
  };
  plan_chunks(&job, call->rows, call->classes);
  hfb_pool_note_scratch(pool, hfb_linear_cross_entropy_bytes(call->rows, call->classes, call->bias_gradient != NULL));
  double loss = 0;
  hfb_status status = run_chunks(&job, &loss, isa, pool);
  if (status == HFB_OK) *call->loss = (float)(loss / (double)counted);
  hfb_mem_free(job.logits);
  hfb_mem_free(job.group_losses);
  hfb_mem_free(job.group_sums);
  return status;
}

/* ---- rows of kernels.def ---- */

bool hfb_accepts_linear_cross_entropy(const hfb_kernel_call *call) {
  return call->input_count < 5 || hfb_tensor_is_contiguous(&call->inputs[4]);
}

static hfb_status run_kernel(const hfb_kernel_call *call, hfb_isa isa) {
  const hfb_tensor *x = &call->inputs[0], *weight = &call->inputs[1], *target = &call->inputs[2];
  return hfb_linear_cross_entropy_run(
      &(hfb_linear_cross_entropy){
          .rows = x->shape.dim[0],
          .classes = weight->shape.dim[0],
          .features = x->shape.dim[1],
          .x = x->data,
          .x_row_stride = x->strides[0],
          .x_col_stride = x->strides[1],
          .weight = weight->data,
          .weight_row_stride = weight->strides[0],
          .weight_col_stride = weight->strides[1],
          .bias = call->input_count > 4 ? call->inputs[4].data : NULL,
          .target = target->data,
          .target_stride = target->strides[0],
          .ignore_index = hfb_node_int(call->node, HFB_ATTR_IGNORE_INDEX),
          .g = *(const float *)call->inputs[3].data,
          .loss = call->results[0].data,
          .x_gradient = call->results[1].data,
          .weight_gradient = call->results[2].data,
          .bias_gradient = call->results[3].data,
      },
      isa, call->pool);
}

hfb_status hfb_k_f32_linear_cross_entropy__generic(const hfb_kernel_call *call) {
  return run_kernel(call, HFB_ISA_GENERIC);
}
#if defined(__x86_64__)
hfb_status hfb_k_f32_linear_cross_entropy__avx2(const hfb_kernel_call *call) { return run_kernel(call, HFB_ISA_AVX2); }
hfb_status hfb_k_f32_linear_cross_entropy__avx512(const hfb_kernel_call *call) {
  return run_kernel(call, HFB_ISA_AVX512);
}
#endif
