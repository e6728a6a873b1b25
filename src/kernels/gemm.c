/* The blocking driver (after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34,
 * 2008, with A read in place: row-major A needs no packing when its tile stays in L1).
 *
 * C is cut into tasks of rows x panels; the pool hands them out. A task walks
 *     blocks of K -> blocks of about 64 rows -> panels of B -> tiles of C,
 * so that a block of B is brought into L2 (and packed, if it has to be) once. C comes back for every block of K, which
 * moves far less memory: 2 elements of C for each 768 multiply-adds. K is cut in the same way for every number of
 * threads: the order of the additions is fixed.
 *
 * A that is not row-major is packed as well, and would be packed again for every part of the columns. So one product of
 * such an A shares B: all threads pack it together, as much of K as fits, and then take rows, each with all columns. */
#include "kernels/gemm.h"

#include <stdbool.h>

#include "base/memory.h"
#include "kernels/gemm_block.h"
#include "kernels/gemm_pack.h"
#include "kernels/gemm_widen.h"
#include "kernels/integers.h"

enum {
  ROW_BLOCK = 64,                /* rows that pass by a panel of B, and are then handed to the epilogue */
  ROW_BLOCK_PACKED = 256,        /* the same where A is packed: its columns are read in longer runs */
  B_BLOCK_BYTES = 600 * 1024,    /* of a 1 MiB L2; the rest is for A and C */
  FEW_ROWS = 16,                 /* up to here packing B costs more than it gains */
  FEW_COLUMNS = 4,               /* up to here a tile would be mostly empty */
  ROWS_PER_PACKING = 256,        /* rows that pay for packing a block of B: below 5 % of the time */
  TASKS_PER_THREAD = 8,          /* so that a core that is taken away for a while costs little */
  SHARED_BYTES = 8 << 20,        /* of one block of B, in the last cache; larger ones are cut by columns instead */
  STAGE_BYTES = 2 << 20,         /* of B packed at a time; a block may be more */
  SHARED_ROWS = 96,              /* rows that pay for bringing a panel from there */
};

static const double task_flops_min = 1e6; /* about 5 us: below, handing out tasks costs more than it balances */

typedef enum b_mode {
  B_PACKED,   /* before, by hfb_gemm_pack_b */
  B_PACK,     /* block by block, into scratch memory */
  B_IN_PLACE, /* rows read where they are; only an incomplete last vector goes through scratch memory */
  B_SHARED,   /* by all threads before they multiply, into scratch memory of all */
  B_DOT,      /* dot products along k */
} b_mode;

typedef struct gemm_job {
  const hfb_gemm *gemm;
  const hfb_gemm_isa *kernels;
  hfb_pool *pool;
  char *own_scratch; /* instead of the pool's */
  b_mode b_mode;
  bool packs_a;
  int64_t width;       /* columns of a panel */
  int64_t panel_count;
  int64_t tile_rows;   /* of the largest tile */
  int64_t row_block, k_block; /* rows and depth of a block of A */
  int64_t row_tasks, column_tasks;
  int64_t rows_per_task, panels_per_task;
  size_t a_scratch_offset, scratch_bytes; /* of each worker */
  /* B_SHARED: [blocks][panels][depth][width], behind it the packed A of each worker. */
  char *shared;
  int64_t stage_k, stage_k_end; /* packed now */
  int64_t stage_depth;
  size_t shared_bytes, a_bytes;
} gemm_job;

/* One task: part of one matrix of the batch. */
typedef struct gemm_task {
  const gemm_job *job;
  const char *a, *b;
  char *c;
  int64_t batch;
  int64_t row, row_end, col, col_end;
  char *b_scratch, *a_scratch;
} gemm_task;

/* base may be NULL where there are no elements. */
static const char *at(const gemm_job *job, const void *base, int64_t elements) {
  return elements == 0 ? base : (const char *)base + elements * job->kernels->element_bytes;
}

/* The same for B as it is stored. */
static const char *at_b(const gemm_job *job, const void *base, int64_t elements) {
  if (elements == 0 || !job->gemm->b_is_bf16) return at(job, base, elements);
  return (const char *)base + elements * (int64_t)sizeof(uint16_t);
}

static void pack_b(const gemm_job *job, const char *b, int64_t depth, int64_t columns, void *out) {
  const hfb_gemm *gemm = job->gemm;
  if (gemm->b_is_bf16) {
    hfb_gemm_pack_bf16(job->kernels, (const uint16_t *)b, gemm->b_row_stride, gemm->b_col_stride, depth, columns,
                       job->width, out);
  } else {
    job->kernels->pack_b(b, gemm->b_row_stride, gemm->b_col_stride, depth, columns, job->width, out);
  }
}

/* ---- one task ---- */

/* Where the panels of a block of B are; the names are those of hfb_gemm_block. */
typedef struct b_block {
  const char *b;
  int64_t panel_elements, k_stride;
  const char *partial;
} b_block;

/* rows [row, row_end) times all columns of the task, K block [k0, k0+depth). */
static void multiply_rows(const gemm_task *task, int64_t row, int64_t row_end, int64_t k0, int64_t depth,
                          const b_block *b) {
  const gemm_job *job = task->job;
  const hfb_gemm *gemm = job->gemm;
  const int64_t rows = row_end - row;
  const char *a = at(job, task->a, row * gemm->a_row_stride + k0 * gemm->a_col_stride);
  if (job->packs_a) {
    job->kernels->pack_a(a, gemm->a_row_stride, gemm->a_col_stride, rows,
                         hfb_gemm_strip_count(job->kernels, job->width, rows), depth, task->a_scratch);
  }
  const bool is_last = k0 + depth >= gemm->k;
  hfb_gemm_block_run(&(hfb_gemm_block){
      .kernels = job->kernels,
      .rows = rows,
      .columns = task->col_end - task->col,
      .depth = depth,
      .a = job->packs_a ? task->a_scratch : a,
      .a_row_stride = gemm->a_row_stride,
      .a_is_packed = job->packs_a,
      .width = job->width,
      .b = b->b,
      .b_panel_elements = b->panel_elements,
      .b_k_stride = b->k_stride,
      .b_partial = b->partial,
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
  const int64_t block = task->job->row_block;
  return task->row_end - row < block + block / 4 ? task->row_end : row + block;
}

static b_block provide_block(const gemm_task *task, int64_t k0, int64_t depth) {
  const gemm_job *job = task->job;
  const hfb_gemm *gemm = job->gemm;
  if (job->b_mode == B_PACKED) {
    const hfb_packed_b *packed = gemm->packed_b;
    return (b_block){.b = at(job, packed->memory, task->col * packed->k + k0 * packed->width),
                     .panel_elements = packed->width * packed->k,
                     .k_stride = packed->width};
  }
  const char *b = at_b(job, task->b, k0 * gemm->b_row_stride + task->col * gemm->b_col_stride);
  const int64_t columns = task->col_end - task->col;
  if (job->b_mode == B_PACK) {
    pack_b(job, b, depth, columns, task->b_scratch);
    return (b_block){.b = task->b_scratch, .panel_elements = job->width * depth, .k_stride = job->width};
  }
  b_block block = {.b = b, .panel_elements = job->width, .k_stride = gemm->b_row_stride};
  if (columns % job->kernels->lanes != 0) {
    const int64_t rest = columns % job->width;
    job->kernels->pack_b(at(job, b, columns - rest), gemm->b_row_stride, 1, depth, rest, job->width, task->b_scratch);
    block.partial = task->b_scratch;
  }
  return block;
}

static void run_blocks(const gemm_task *task) {
  const gemm_job *job = task->job;
  for (int64_t k0 = 0; k0 == 0 || k0 < job->gemm->k; k0 += job->k_block) {
    const int64_t depth = min_i64(job->k_block, job->gemm->k - k0);
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

/* Tasks that share columns of B follow one another: the block is still in cache, whoever packed it. */
static void run_task(void *context, int64_t index, int worker) {
  const gemm_job *job = context;
  const hfb_gemm *gemm = job->gemm;
  const int64_t row_task = index % job->row_tasks, column_task = index / job->row_tasks % job->column_tasks;
  gemm_task task = {.job = job, .batch = index / job->row_tasks / job->column_tasks};
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
  task.row = row_task * job->rows_per_task;
  task.row_end = min_i64(gemm->m, task.row + job->rows_per_task);
  task.col = column_task * job->panels_per_task * job->width;
  task.col_end = min_i64(gemm->n, task.col + job->panels_per_task * job->width);
  if (job->scratch_bytes > 0) {
    task.b_scratch = job->own_scratch ? job->own_scratch : hfb_pool_scratch(job->pool, worker);
    task.a_scratch = task.b_scratch + job->a_scratch_offset;
  }
  if (job->b_mode == B_DOT) {
    run_dot(&task);
  } else {
    run_blocks(&task);
  }
}

/* ---- shared B ---- */

/* The stage's block of B from k0 on; depth is that of all blocks but the last of K. */
static char *shared_block(const gemm_job *job, int64_t k0) {
  return job->shared + (k0 - job->stage_k) * job->panel_count * job->width * job->kernels->element_bytes;
}

static void pack_shared_panel(void *context, int64_t index, int worker) {
  const gemm_job *job = context;
  const hfb_gemm *gemm = job->gemm;
  const int64_t panel = index % job->panel_count, k0 = job->stage_k + index / job->panel_count * job->k_block;
  const int64_t depth = min_i64(job->k_block, job->stage_k_end - k0), col = panel * job->width;
  char *out = shared_block(job, k0) + panel * depth * job->width * job->kernels->element_bytes;
  pack_b(job, at_b(job, gemm->b, k0 * gemm->b_row_stride + col * gemm->b_col_stride), depth,
         min_i64(job->width, gemm->n - col), out);
}

static void run_shared_rows(void *context, int64_t index, int worker) {
  const gemm_job *job = context;
  const hfb_gemm *gemm = job->gemm;
  gemm_task task = {.job = job, .a = gemm->a, .c = gemm->c, .col_end = gemm->n};
  task.row = index * job->rows_per_task;
  task.row_end = min_i64(gemm->m, task.row + job->rows_per_task);
  task.a_scratch = job->shared + job->shared_bytes + (size_t)worker * job->a_bytes;
  for (int64_t k0 = job->stage_k; k0 == 0 || k0 < job->stage_k_end; k0 += job->k_block) {
    const int64_t depth = min_i64(job->k_block, job->stage_k_end - k0);
    const b_block block = {
        .b = shared_block(job, k0), .panel_elements = job->width * depth, .k_stride = job->width};
    multiply_rows(&task, task.row, task.row_end, k0, depth, &block);
  }
  if (job->stage_k_end == gemm->k) finish_rows(&task, task.row, task.row_end);
}

static void run_shared(gemm_job *job) {
  const hfb_gemm *gemm = job->gemm;
  job->shared = job->own_scratch ? job->own_scratch : hfb_pool_scratch(job->pool, 0);
  for (job->stage_k = 0; job->stage_k == 0 || job->stage_k < gemm->k; job->stage_k = job->stage_k_end) {
    job->stage_k_end = min_i64(gemm->k, job->stage_k + job->stage_depth);
    const int64_t blocks = ceil_div(job->stage_k_end - job->stage_k, job->k_block);
    hfb_pool_run(job->pool, blocks * job->panel_count, pack_shared_panel, job);
    hfb_pool_run(job->pool, job->row_tasks, run_shared_rows, job);
    if (gemm->k == 0) break;
  }
}

/* ---- the plan ---- */

static b_mode choose_b_mode(const hfb_gemm *gemm) {
  if (gemm->packed_b) return B_PACKED;
  if (gemm->b_is_bf16) return B_PACK;
  const bool few = gemm->m <= FEW_ROWS;
  if (gemm->a_col_stride == 1 && gemm->b_row_stride == 1 && (few || gemm->n <= FEW_COLUMNS)) return B_DOT;
  if (gemm->b_col_stride == 1 && few) return B_IN_PLACE;
  return B_PACK;
}

/* Cuts C into tasks: as large as the caches allow, then smaller until every thread has several. What packs its own B
 * is cut by columns first, because rows that are cut apart pack the same B again. */
static void plan_tasks(gemm_job *job) {
  const hfb_gemm *gemm = job->gemm;
  const int threads = hfb_pool_size(job->pool);
  const int64_t wanted = threads == 1 ? 1 : (int64_t)threads * TASKS_PER_THREAD;
  const int64_t panel_bytes = job->width * job->k_block * job->kernels->element_bytes;
  const int64_t row_unit = job->tile_rows;
  const int64_t rows_enough = job->b_mode == B_PACK ? ROWS_PER_PACKING : 2 * ROW_BLOCK;
  const double flops = 2.0 * (double)gemm->m * (double)gemm->n * (double)gemm->k * (double)gemm->batch;
  const int64_t most = flops / task_flops_min < (double)wanted ? (int64_t)(flops / task_flops_min) : wanted;

  int64_t column_tasks = ceil_div(job->panel_count, max_i64(1, B_BLOCK_BYTES / max_i64(1, panel_bytes)));
  int64_t row_tasks = 1;
  const int64_t most_row_tasks = max_i64(1, gemm->m / rows_enough);
  if (job->b_mode == B_PACK) {
    if (gemm->batch * column_tasks < most) column_tasks = ceil_div(most, gemm->batch);
    column_tasks = min_i64(column_tasks, job->panel_count);
    if (gemm->batch * column_tasks < most) row_tasks = ceil_div(most, gemm->batch * column_tasks);
    row_tasks = min_i64(row_tasks, most_row_tasks);
  } else {
    if (gemm->batch * column_tasks < most) row_tasks = ceil_div(most, gemm->batch * column_tasks);
    row_tasks = min_i64(row_tasks, most_row_tasks);
    if (gemm->batch * row_tasks * column_tasks < most) column_tasks = ceil_div(most, gemm->batch * row_tasks);
    column_tasks = min_i64(column_tasks, job->panel_count);
  }
  /* Many threads and few columns: rows are cut further, as far as every thread needs something to do. */
  const int64_t least = min_i64(most, job->b_mode == B_PACK ? threads : 2 * (int64_t)threads);
  if (gemm->batch * row_tasks * column_tasks < least) {
    row_tasks = min_i64(ceil_div(least, gemm->batch * column_tasks), ceil_div(gemm->m, row_unit));
  }
  job->panels_per_task = ceil_div(job->panel_count, column_tasks);
  job->column_tasks = ceil_div(job->panel_count, job->panels_per_task);
  job->rows_per_task = min_i64(gemm->m, round_up(ceil_div(gemm->m, row_tasks), row_unit));
  job->row_tasks = ceil_div(gemm->m, job->rows_per_task);
}

/* Rows: several tasks for each thread as long as each has rows enough, and never more than one block. */
static void plan_shared(gemm_job *job) {
  const hfb_gemm *gemm = job->gemm;
  const int64_t threads = hfb_pool_size(job->pool), element_bytes = job->kernels->element_bytes;
  const int64_t balanced = ceil_div(gemm->m, threads * TASKS_PER_THREAD);
  const int64_t enough = min_i64(SHARED_ROWS, ceil_div(gemm->m, 2 * threads));
  job->rows_per_task = round_up(min_i64(ROW_BLOCK_PACKED, max_i64(balanced, enough)), job->tile_rows);
  job->row_tasks = ceil_div(gemm->m, job->rows_per_task);
  const int64_t block_bytes = job->panel_count * job->width * job->k_block * element_bytes;
  const int64_t blocks = min_i64(ceil_div(gemm->k, job->k_block), max_i64(1, STAGE_BYTES / block_bytes));
  job->stage_depth = max_i64(1, blocks) * job->k_block;
  job->shared_bytes = (size_t)(max_i64(1, blocks) * block_bytes);
  job->a_bytes = (size_t)round_up(job->rows_per_task * job->k_block * element_bytes, HFB_GEMM_ALIGNMENT);
  const size_t all_bytes = job->shared_bytes + (size_t)threads * job->a_bytes;
  job->scratch_bytes = (size_t)ceil_div((int64_t)all_bytes, threads);
}

static void plan(gemm_job *job) {
  const hfb_gemm *gemm = job->gemm;
  const hfb_gemm_isa *kernels = job->kernels;
  job->b_mode = choose_b_mode(gemm);
  job->packs_a = job->b_mode != B_DOT && gemm->a_col_stride != 1;
  job->width = gemm->packed_b ? gemm->packed_b->width : hfb_gemm_panel_width(kernels, gemm->n);
  job->panel_count = ceil_div(gemm->n, job->width);
  job->tile_rows = hfb_gemm_tile_rows(kernels, job->width);
  /* Half the depth leaves room in L2 for twice the columns, so that A is packed half as often. */
  const int64_t deepest = job->packs_a ? kernels->k_block / 2 : kernels->k_block;
  const int64_t blocks = max_i64(1, ceil_div(gemm->k, deepest));
  job->k_block = max_i64(1, round_up(ceil_div(gemm->k, blocks), kernels->lanes));
  job->row_block = round_up(job->packs_a ? ROW_BLOCK_PACKED : ROW_BLOCK, job->tile_rows);
  const int64_t block_bytes = job->panel_count * job->width * job->k_block * kernels->element_bytes;
  if (job->b_mode == B_PACK && job->packs_a && gemm->batch == 1 && block_bytes <= SHARED_BYTES) {
    job->b_mode = B_SHARED;
    plan_shared(job);
    return;
  }
  plan_tasks(job);

  const size_t element_bytes = (size_t)kernels->element_bytes;
  const int64_t b_panels = job->b_mode == B_PACK ? job->panels_per_task : job->b_mode == B_IN_PLACE ? 1 : 0;
  const int64_t a_rows = job->row_block + job->row_block / 4;
  job->a_scratch_offset = (size_t)(b_panels * job->width * job->k_block) * element_bytes;
  job->scratch_bytes = job->a_scratch_offset + (job->packs_a ? (size_t)(a_rows * job->k_block) * element_bytes : 0);
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
  if (gemm->bias && gemm->dtype != HFB_F32) return HFB_FAIL(HFB_UNSUPPORTED, "matrix product with bias: f32 only");
  const hfb_packed_b *packed = gemm->packed_b;
  if (gemm->b_is_bf16 && (packed || gemm->dtype != HFB_F32)) {
    return HFB_FAIL(HFB_UNSUPPORTED, "matrix product of %s with %s B; bf16 is read by products of f32 that pack it",
                    hfb_dtype_name(gemm->dtype), packed ? "packed" : "bf16");
  }
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
  plan(&job);
  if (job.scratch_bytes > 0) {
    if (pool) {
      HFB_TRY(hfb_pool_reserve_scratch(pool, job.scratch_bytes));
    } else {
      HFB_TRY(hfb_mem_alloc_aligned(job.scratch_bytes, HFB_GEMM_ALIGNMENT, &job.own_scratch));
    }
  }
  if (job.b_mode == B_SHARED) {
    run_shared(&job);
  } else {
    hfb_pool_run(pool, gemm->batch * job.row_tasks * job.column_tasks, run_task, &job);
  }
  hfb_mem_free(job.own_scratch);
  return HFB_OK;
}
