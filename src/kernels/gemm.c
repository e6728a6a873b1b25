/* The blocking driver (after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34,
 * 2008, with A read in place: row-major A needs no packing when its tile stays in L1).
 *
 * C is cut into tasks of rows x panels; the pool hands them out. A task walks
 *     blocks of K -> blocks of about 64 rows -> panels of B -> tiles of C,
 * so that a block of B is brought into L2 (and packed, if it has to be) once. C comes back for every block of K, which
 * moves far less memory: 2 elements of C for each 768 multiply-adds. K is cut in the same way for every number of
 * threads: the order of the additions is fixed.
 *
 * An A that is not row-major has to be packed too. Where tasks would pack the same rows of it, or the same columns of
 * B, again and again, all threads pack them together first, as much of K as fits, and then take the tasks: gemm_plan.c
 * decides. */
#include "kernels/gemm.h"

#include <stdbool.h>

#include "kernels/gemm_block.h"
#include "kernels/gemm_pack.h"
#include "kernels/gemm_plan.h"
#include "kernels/gemm_widen.h"
#include "kernels/integers.h"

typedef struct gemm_job {
  const hfb_gemm *gemm;
  const hfb_gemm_isa *kernels;
  hfb_pool *pool;
  hfb_gemm_plan plan;
  char *scratch;                /* shared B, shared A, then what is each worker's own */
  int64_t stage_k, stage_k_end; /* B_SHARED: packed now */
} gemm_job;

/* One task: part of one matrix of the batch. */
typedef struct gemm_task {
  const gemm_job *job;
  const char *a, *b;
  char *c;
  int64_t batch;
  int64_t row, row_end, col, col_end;
  char *b_scratch, *a_scratch; /* the worker's own */
  const char *packed_a;        /* A_SHARED: the rows of the task in the block of K that comes next */
} gemm_task;

/* base may be NULL where there are no elements. */
static const char *at(const gemm_job *job, const void *base, int64_t elements) {
  return elements == 0 ? base : (const char *)base + elements * job->kernels->element_bytes;
}

/* The same for B. */
static const char *at_b(const gemm_job *job, const void *base, int64_t elements) {
  if (!job->gemm->b_is_bf16) return at(job, base, elements);
  return elements == 0 ? base : (const char *)base + elements * (int64_t)sizeof(uint16_t);
}

/* b[depth][columns], with the strides of B, into panels. */
static void pack_b(const gemm_job *job, const char *b, int64_t depth, int64_t columns, char *out) {
  const hfb_gemm *gemm = job->gemm;
  const int64_t width = job->plan.width;
  if (gemm->b_is_bf16) {
    hfb_gemm_pack_bf16(job->kernels, (const uint16_t *)b, gemm->b_row_stride, gemm->b_col_stride, depth, columns, width,
                       (float *)out);
  } else {
    job->kernels->pack_b(b, gemm->b_row_stride, gemm->b_col_stride, depth, columns, width, out);
  }
}

/* ---- one task ---- */

/* Where the panels of a block of B are; the names are those of hfb_gemm_block. */
typedef struct b_block {
  const char *b;
  int64_t panel_elements, k_stride;
  const char *partial;
  int64_t partial_width;
} b_block;

/* rows [row, row_end) times all columns of the task, K block [k0, k0+depth). */
static void multiply_rows(const gemm_task *task, int64_t row, int64_t row_end, int64_t k0, int64_t depth,
                          const b_block *b) {
  const gemm_job *job = task->job;
  const hfb_gemm *gemm = job->gemm;
  const hfb_gemm_plan *plan = &job->plan;
  const int64_t rows = row_end - row;
  const char *a = at(job, task->a, row * gemm->a_row_stride + k0 * gemm->a_col_stride);
  if (plan->a_mode == HFB_GEMM_A_PACK) {
    job->kernels->pack_a(a, gemm->a_row_stride, gemm->a_col_stride, rows,
                         hfb_gemm_strip_count(job->kernels, plan->width, rows), depth, task->a_scratch);
    a = task->a_scratch;
  } else if (plan->a_mode == HFB_GEMM_A_SHARED) {
    a = task->packed_a;
  }
  const bool is_last = k0 + depth >= gemm->k;
  hfb_gemm_block_run(&(hfb_gemm_block){
      .kernels = job->kernels,
      .rows = rows,
      .columns = task->col_end - task->col,
      .depth = depth,
      .a = a,
      .a_row_stride = gemm->a_row_stride,
      .a_is_packed = plan->a_mode != HFB_GEMM_A_IN_PLACE,
      .width = plan->width,
      .b = b->b,
      .b_panel_elements = b->panel_elements,
      .b_k_stride = b->k_stride,
      .b_partial = b->partial,
      .b_partial_width = b->partial_width,
      .c = (char *)at(job, task->c, row * gemm->c_row_stride + task->col),
      .c_row_stride = gemm->c_row_stride,
      .bias = is_last && gemm->bias ? gemm->bias + task->col : NULL,
      .alpha = gemm->alpha,
      .accumulate = gemm->accumulate || k0 > 0,
  });
}

static void finish_rows(const gemm_task *task, int64_t row, int64_t row_end) {
  const hfb_gemm *gemm = task->job->gemm;
  if (!gemm->epilogue) return;
  gemm->epilogue(gemm->epilogue_context, (char *)at(task->job, task->c, row * gemm->c_row_stride + task->col),
                 gemm->c_row_stride, task->batch, row, row_end - row, task->col, task->col_end - task->col);
}

/* The next block of rows; a short rest is taken along. */
static int64_t row_block_end(const gemm_task *task, int64_t row) {
  const int64_t block = task->job->plan.row_block;
  return task->row_end - row < block + block / 4 ? task->row_end : row + block;
}

static b_block provide_block(const gemm_task *task, int64_t k0, int64_t depth) {
  const gemm_job *job = task->job;
  const hfb_gemm *gemm = job->gemm;
  const int64_t width = job->plan.width;
  if (job->plan.b_mode == HFB_GEMM_B_PACKED) {
    const hfb_packed_b *packed = gemm->packed_b;
    return (b_block){.b = at(job, packed->memory, task->col * packed->k + k0 * packed->width),
                     .panel_elements = packed->width * packed->k,
                     .k_stride = packed->width,
                     .partial = packed->rest ? at(job, packed->rest, k0 * packed->rest_width) : NULL,
                     .partial_width = packed->rest_width};
  }
  const char *b = at_b(job, task->b, k0 * gemm->b_row_stride + task->col * gemm->b_col_stride);
  const int64_t columns = task->col_end - task->col;
  if (job->plan.b_mode == HFB_GEMM_B_PACK) {
    pack_b(job, b, depth, columns, task->b_scratch);
    return (b_block){.b = task->b_scratch, .panel_elements = width * depth, .k_stride = width};
  }
  b_block block = {.b = b, .panel_elements = width, .k_stride = gemm->b_row_stride};
  if (columns % job->kernels->lanes != 0) {
    const int64_t rest = columns % width;
    pack_b(job, at_b(job, b, columns - rest), depth, rest, task->b_scratch);
    block.partial = task->b_scratch;
  }
  return block;
}

static void run_blocks(const gemm_task *task) {
  const gemm_job *job = task->job;
  for (int64_t k0 = 0; k0 == 0 || k0 < job->gemm->k; k0 += job->plan.k_block) {
    const int64_t depth = min_i64(job->plan.k_block, job->gemm->k - k0);
    const b_block block = provide_block(task, k0, depth);
    for (int64_t row = task->row, end; row < task->row_end; row = end) {
      end = row_block_end(task, row);
      multiply_rows(task, row, end, k0, depth, &block);
      if (k0 + depth >= job->gemm->k) finish_rows(task, row, end);
    }
  }
}

static void run_dot(const gemm_task *task) {
  const gemm_job *job = task->job;
  const hfb_gemm *gemm = job->gemm;
  const hfb_gemm_dot dot = {
      .m = task->row_end - task->row,
      .n = task->col_end - task->col,
      .k = gemm->k,
      .a = at(job, task->a, task->row * gemm->a_row_stride),
      .a_row_stride = gemm->a_row_stride,
      .b = at(job, task->b, task->col * gemm->b_col_stride),
      .b_col_stride = gemm->b_col_stride,
      .c = (char *)at(job, task->c, task->row * gemm->c_row_stride + task->col),
      .c_row_stride = gemm->c_row_stride,
      .bias = gemm->bias ? gemm->bias + task->col : NULL,
      .alpha = gemm->alpha,
      .accumulate = gemm->accumulate,
  };
  job->kernels->dot(&dot);
  finish_rows(task, task->row, task->row_end);
}

/* Rows and columns of task `index` of its matrix. Tasks that share columns of B follow one another: the block is still
 * in cache, whoever packed it. Where all operands are packed beforehand, as for the gradient of a weight, tasks of the
 * same rows do, and so a worker's share of the tasks writes the rows that are its share of a loop over rows: the update
 * of the weight then finds the gradient in the caches of its own core. */
static gemm_task place_task(const gemm_job *job, int64_t index, int worker) {
  const hfb_gemm *gemm = job->gemm;
  const hfb_gemm_plan *plan = &job->plan;
  const size_t worker_bytes = plan->worker_b_bytes + plan->worker_a_bytes;
  const bool by_rows = plan->a_mode == HFB_GEMM_A_SHARED;
  const int64_t row_task = by_rows ? index / plan->column_tasks : index % plan->row_tasks;
  const int64_t column_task = by_rows ? index % plan->column_tasks : index / plan->row_tasks % plan->column_tasks;
  gemm_task task = {
      .job = job,
      .a = gemm->a,
      .b = gemm->b,
      .c = gemm->c,
      .row = row_task * plan->rows_per_task,
      .col = column_task * plan->panels_per_task * plan->width,
  };
  task.row_end = min_i64(gemm->m, task.row + plan->rows_per_task);
  task.col_end = min_i64(gemm->n, task.col + plan->panels_per_task * plan->width);
  if (worker_bytes > 0) {
    task.b_scratch = job->scratch + plan->shared_b_bytes + plan->shared_a_bytes + (size_t)worker * worker_bytes;
    task.a_scratch = task.b_scratch + plan->worker_b_bytes;
  }
  return task;
}

static void run_task(void *context, int64_t index, int worker) {
  const gemm_job *job = context;
  const hfb_gemm *gemm = job->gemm;
  gemm_task task = place_task(job, index, worker);
  task.batch = index / job->plan.row_tasks / job->plan.column_tasks;
  int64_t a_offset = 0, b_offset = 0, c_offset = 0, rest = task.batch;
  for (int d = gemm->batch_rank - 1; d >= 0; d--) {
    const int64_t i = rest % gemm->batch_dims[d];
    rest /= gemm->batch_dims[d];
    a_offset += i * gemm->a_batch_strides[d];
    b_offset += i * gemm->b_batch_strides[d];
    c_offset += i * gemm->c_batch_strides[d];
  }
  task.a = at(job, gemm->a, a_offset);
  task.b = gemm->b ? at_b(job, gemm->b, b_offset) : NULL;
  task.c = (char *)at(job, gemm->c, c_offset);
  if (job->plan.b_mode == HFB_GEMM_B_DOT) {
    run_dot(&task);
  } else {
    run_blocks(&task);
  }
}

/* ---- shared operands: [blocks of the stage][panels][depth][width] and [blocks][rows] packed as A ---- */

/* Where the part of block k0 begins of an operand with so many lines (rows or columns); the depth of all blocks but the
 * last of K is that of a block. */
static int64_t shared_offset(const gemm_job *job, int64_t k0, int64_t lines) {
  return (k0 - job->stage_k) * lines * job->kernels->element_bytes;
}

static void pack_shared_rows(const gemm_job *job, int64_t row_task, int64_t k0, int64_t depth) {
  const hfb_gemm *gemm = job->gemm;
  const hfb_gemm_plan *plan = &job->plan;
  const int64_t row = row_task * plan->rows_per_task, rows = min_i64(plan->rows_per_task, gemm->m - row);
  char *out = job->scratch + plan->shared_b_bytes + shared_offset(job, k0, gemm->m) +
              row * depth * job->kernels->element_bytes;
  job->kernels->pack_a(at(job, gemm->a, row * gemm->a_row_stride + k0 * gemm->a_col_stride), gemm->a_row_stride,
                       gemm->a_col_stride, rows, hfb_gemm_strip_count(job->kernels, plan->width, rows), depth, out);
}

/* Rows, which take longest, come first. */
static void pack_shared(void *context, int64_t index, int worker) {
  const gemm_job *job = context;
  const hfb_gemm *gemm = job->gemm;
  const hfb_gemm_plan *plan = &job->plan;
  const int64_t row_tasks = plan->a_mode == HFB_GEMM_A_SHARED ? plan->row_tasks : 0;
  const int64_t blocks = ceil_div(job->stage_k_end - job->stage_k, plan->k_block);
  const int64_t k0 = job->stage_k + index % blocks * plan->k_block, part = index / blocks;
  const int64_t depth = min_i64(plan->k_block, job->stage_k_end - k0);
  if (part < row_tasks) {
    pack_shared_rows(job, part, k0, depth);
    return;
  }
  const int64_t col = (part - row_tasks) * plan->width;
  char *out = job->scratch + shared_offset(job, k0, plan->panel_count * plan->width) +
              col * depth * job->kernels->element_bytes;
  pack_b(job, at_b(job, gemm->b, k0 * gemm->b_row_stride + col * gemm->b_col_stride), depth,
         min_i64(plan->width, gemm->n - col), out);
}

static void run_shared_task(void *context, int64_t index, int worker) {
  const gemm_job *job = context;
  const hfb_gemm *gemm = job->gemm;
  const hfb_gemm_plan *plan = &job->plan;
  const int64_t element_bytes = job->kernels->element_bytes;
  gemm_task task = place_task(job, index, worker);
  for (int64_t k0 = job->stage_k; k0 == 0 || k0 < job->stage_k_end; k0 += plan->k_block) {
    const int64_t depth = min_i64(plan->k_block, job->stage_k_end - k0);
    const b_block block = {.b = job->scratch + shared_offset(job, k0, plan->panel_count * plan->width) +
                                task.col * depth * element_bytes,
                           .panel_elements = plan->width * depth,
                           .k_stride = plan->width};
    task.packed_a = job->scratch + plan->shared_b_bytes + shared_offset(job, k0, gemm->m) +
                    task.row * depth * element_bytes;
    for (int64_t row = task.row, end; row < task.row_end; row = end) {
      end = row_block_end(&task, row);
      multiply_rows(&task, row, end, k0, depth, &block);
      if (k0 + depth >= gemm->k) finish_rows(&task, row, end);
    }
  }
}

static void run_shared(gemm_job *job) {
  const hfb_gemm *gemm = job->gemm;
  const hfb_gemm_plan *plan = &job->plan;
  const int64_t parts = plan->panel_count + (plan->a_mode == HFB_GEMM_A_SHARED ? plan->row_tasks : 0);
  for (job->stage_k = 0; job->stage_k == 0 || job->stage_k < gemm->k; job->stage_k = job->stage_k_end) {
    job->stage_k_end = min_i64(gemm->k, job->stage_k + plan->stage_depth);
    const int64_t blocks = ceil_div(job->stage_k_end - job->stage_k, plan->k_block);
    hfb_pool_run(job->pool, blocks * parts, pack_shared, job);
    hfb_pool_run(job->pool, plan->row_tasks * plan->column_tasks, run_shared_task, job);
    if (gemm->k == 0) break;
  }
}

/* ---- the entry ---- */

static hfb_status check(const hfb_gemm *gemm, const hfb_gemm_isa *kernels) {
  if (!kernels) {
    return HFB_FAIL(HFB_UNSUPPORTED, "matrix product of %s; only f32 and f64", hfb_dtype_name(gemm->dtype));
  }
  if (gemm->m < 0 || gemm->n < 0 || gemm->k < 0 || gemm->batch < 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "matrix product with a negative size: batch %lld, m %lld, n %lld, k %lld",
                    (long long)gemm->batch, (long long)gemm->m, (long long)gemm->n, (long long)gemm->k);
  }
  int64_t batch = 1;
  if (gemm->batch_rank < 0 || gemm->batch_rank > 6) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "matrix product with a batch of rank %d; at most 6", gemm->batch_rank);
  }
  for (int d = 0; d < gemm->batch_rank; d++) batch *= gemm->batch_dims[d];
  if (batch != gemm->batch) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "matrix product: batch is %lld, but its dimensions multiply to %lld",
                    (long long)gemm->batch, (long long)batch);
  }
  if (gemm->b_is_bf16 && (gemm->dtype != HFB_F32 || gemm->packed_b)) {
    return HFB_FAIL(HFB_UNSUPPORTED, "matrix product of %s with bf16 B%s; only f32 products widen B, unpacked",
                    hfb_dtype_name(gemm->dtype), gemm->packed_b ? ", packed" : "");
  }
  if (gemm->bias && gemm->dtype != HFB_F32) return HFB_FAIL(HFB_UNSUPPORTED, "matrix product with bias: f32 only");
  const hfb_packed_b *packed = gemm->packed_b;
  if (!packed) return HFB_OK;
  if (gemm->batch != 1 || packed->k != gemm->k || packed->n != gemm->n) {
    return HFB_FAIL(HFB_MISMATCH, "packed matrix of %lld x %lld used in a product of batch %lld with k %lld, n %lld",
                    (long long)packed->k, (long long)packed->n, (long long)gemm->batch, (long long)gemm->k,
                    (long long)gemm->n);
  }
  if (packed->kernels != kernels) {
    return HFB_FAIL(HFB_MISMATCH, "the matrix was packed for another instruction set or dtype; pack it with the same");
  }
  return HFB_OK;
}

hfb_status hfb_gemm_run(const hfb_gemm *gemm, hfb_isa isa, hfb_pool *pool) {
  gemm_job job = {
      .gemm = gemm,
      .kernels = hfb_gemm_isa_select(gemm->dtype, isa < hfb_cpu()->isa ? isa : hfb_cpu()->isa),
      .pool = pool,
  };
  HFB_TRY(check(gemm, job.kernels));
  if (gemm->m == 0 || gemm->n == 0 || gemm->batch == 0) return HFB_OK;
  const int threads = hfb_pool_size(pool);
  hfb_gemm_plan_make(gemm, job.kernels, threads, &job.plan);
  const size_t bytes = job.plan.shared_b_bytes + job.plan.shared_a_bytes +
                       (size_t)threads * (job.plan.worker_b_bytes + job.plan.worker_a_bytes);
  hfb_scratch scratch;
  HFB_TRY(hfb_scratch_init_shared(pool, bytes, &scratch));
  job.scratch = hfb_scratch_of(&scratch, 0);
  if (job.plan.b_mode == HFB_GEMM_B_SHARED) {
    run_shared(&job);
  } else {
    hfb_pool_run(pool, gemm->batch * job.plan.row_tasks * job.plan.column_tasks, run_task, &job);
  }
  hfb_scratch_deinit(&scratch);
  return HFB_OK;
}
