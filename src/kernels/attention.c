/* One task is a range of query rows of one head. It packs K and V of that head once, then takes the rows block by
 * block: product with K into scratch memory, softmax there without the division, product with V straight into the
 * result, and the division last, on value_dim elements of a row instead of key_count. */
#include "kernels/attention.h"

#include <math.h>
#include <stdbool.h>

#include "kernels/attention_blocks.h"
#include "kernels/attention_isa.h"
#include "kernels/gemm_block.h"
#include "kernels/integers.h"

enum {
  ALIGNMENT = 64,
  FEW_QUERIES = 8,            /* up to here packing K and V costs more than it gains */
  QUERIES_PER_PACKING = 64,   /* rows that pay for it, about 10 % of the time */
  TASKS_PER_THREAD = 4,
  ROW_STEP = 24,              /* a multiple of the rows of every tile that is used */
  MOST_ROWS = 2 * ROW_STEP,
  SCORE_BYTES = 256 * 1024,   /* of a block of rows: stays in L2 beside K and V */
  SCORE_PAD_ELEMENTS = 16,    /* keeps the rows of a block from meeting in the same cache sets */
};

typedef struct attention_job {
  const hfb_attention *attention;
  const hfb_gemm_isa *kernels;
  const hfb_attention_isa *passes;
  hfb_attention_dropout dropout;
  hfb_pool *pool;
  hfb_scratch scratch; /* of each worker */
  bool packs;
  int64_t chunk_count, chunk_rows;      /* tasks of a head */
  int64_t block_rows;
  int64_t key_width, value_width;       /* columns of a panel of K and of V */
  int64_t score_stride;
  size_t value_offset, score_offset, keep_offset, rows_offset, scratch_bytes;
} attention_job;

typedef struct attention_task {
  const attention_job *job;
  int64_t batch, head;
  const float *q, *k, *v;
  int64_t k_stride, v_stride; /* of their rows */
  float *out;
  int64_t key_count; /* that some row of the task looks at */
  float *packed_k, *packed_v, *scores, *keep;
} attention_task;

/* Keys that query `row` looks at. */
static int64_t visible_keys(const hfb_attention *attention, int64_t row) {
  if (!attention->causal) return attention->key_count;
  const int64_t limit = row + 1 + attention->key_count - attention->query_count;
  return limit < 0 ? 0 : min_i64(limit, attention->key_count);
}

/* Sets k and v; those that lie in blocks are read into `rows`. */
static void find_keys(attention_task *task, float *rows) {
  const hfb_attention *attention = task->job->attention;
  const int64_t *k_strides = attention->k_strides, *v_strides = attention->v_strides;
  if (!attention->blocks.numbers) {
    task->k = attention->k + task->batch * k_strides[0] + task->head * k_strides[1], task->k_stride = k_strides[2];
    task->v = attention->v + task->batch * v_strides[0] + task->head * v_strides[1], task->v_stride = v_strides[2];
    return;
  }
  float *values = rows + task->key_count * attention->head_dim;
  hfb_attention_read_blocks(&attention->blocks, task->batch, task->head, attention->k, k_strides, 0, task->key_count,
                            attention->head_dim, rows);
  hfb_attention_read_blocks(&attention->blocks, task->batch, task->head, attention->v, v_strides, 0, task->key_count,
                            attention->value_dim, values);
  task->k = rows, task->k_stride = attention->head_dim;
  task->v = values, task->v_stride = attention->value_dim;
}

static void pack_head(const attention_task *task) {
  const attention_job *job = task->job;
  const hfb_attention *attention = job->attention;
  if (job->packs) {
    job->kernels->pack_b(task->k, 1, task->k_stride, attention->head_dim, task->key_count, job->key_width,
                         task->packed_k);
    job->kernels->pack_b(task->v, task->v_stride, 1, task->key_count, attention->value_dim, job->value_width,
                         task->packed_v);
  } else if (attention->value_dim % job->kernels->lanes != 0) {
    const int64_t rest = attention->value_dim % job->value_width;
    job->kernels->pack_b(task->v + attention->value_dim - rest, task->v_stride, 1, task->key_count, rest,
                         job->value_width, task->packed_v);
  }
}

/* scores = scale * Q K^T */
static void multiply_keys(const attention_task *task, int64_t row, int64_t rows, int64_t keys) {
  const attention_job *job = task->job;
  const hfb_attention *attention = job->attention;
  const float *q = task->q + row * attention->q_strides[2];
  if (!job->packs) {
    job->kernels->dot(&(hfb_gemm_dot){
        .m = rows,
        .n = keys,
        .k = attention->head_dim,
        .a = q,
        .a_row_stride = attention->q_strides[2],
        .b = task->k,
        .b_col_stride = task->k_stride,
        .c = task->scores,
        .c_row_stride = job->score_stride,
        .alpha = attention->scale,
    });
    return;
  }
  hfb_gemm_block_run(&(hfb_gemm_block){
      .kernels = job->kernels,
      .rows = rows,
      .columns = keys,
      .depth = attention->head_dim,
      .a = q,
      .a_row_stride = attention->q_strides[2],
      .width = job->key_width,
      .b = task->packed_k,
      .b_panel_elements = job->key_width * attention->head_dim,
      .b_k_stride = job->key_width,
      .c = task->scores,
      .c_row_stride = job->score_stride,
      .alpha = attention->scale,
  });
}

/* out = scores V */
static void multiply_values(const attention_task *task, int64_t row, int64_t rows, int64_t keys) {
  const attention_job *job = task->job;
  const hfb_attention *attention = job->attention;
  const bool has_partial = !job->packs && attention->value_dim % job->kernels->lanes != 0;
  const int64_t v_key_stride = job->packs ? job->value_width : task->v_stride;
  const float *v = job->packs ? task->packed_v : task->v;
  for (int64_t key = 0; key == 0 || key < keys; key += job->kernels->k_block) {
    hfb_gemm_block_run(&(hfb_gemm_block){
        .kernels = job->kernels,
        .rows = rows,
        .columns = attention->value_dim,
        .depth = min_i64(job->kernels->k_block, keys - key),
        .a = task->scores + key,
        .a_row_stride = job->score_stride,
        .width = job->value_width,
        .b = v + key * v_key_stride,
        .b_panel_elements = job->packs ? job->value_width * task->key_count : job->value_width,
        .b_k_stride = v_key_stride,
        .b_partial = has_partial ? task->packed_v + key * job->value_width : NULL,
        .c = task->out + row * attention->out_strides[2],
        .c_row_stride = attention->out_strides[2],
        .alpha = 1,
        .accumulate = key > 0,
    });
  }
}

/* The row's scores become probabilities, but for the division by the sum that is returned. */
static float exp_row(const attention_task *task, int64_t row, float *scores, int64_t keys) {
  const attention_job *job = task->job;
  const hfb_attention *attention = job->attention;
  const int64_t visible = visible_keys(attention, row);
  const int64_t index = (task->batch * attention->heads + task->head) * attention->query_count + row;
  float max, sum;
  if (job->dropout.threshold) {
    const float *keep = job->passes->keep(&job->dropout, index * attention->key_count, visible, task->keep);
    sum = job->passes->exp_keep(scores, visible, keys, keep, &max);
  } else {
    sum = job->passes->exp(scores, visible, keys, &max);
  }
  if (attention->lse) attention->lse[index] = max + logf(sum);
  return sum;
}

static void run_rows(const attention_task *task, int64_t row, int64_t rows) {
  const attention_job *job = task->job;
  const hfb_attention *attention = job->attention;
  const int64_t keys = visible_keys(attention, row + rows - 1);
  multiply_keys(task, row, rows, keys);
  if (attention->modify && keys > 0) {
    attention->modify(attention->modify_context, task->scores, job->score_stride, task->batch, task->head, row, rows, 0,
                      keys);
  }
  float sums[MOST_ROWS];
  for (int64_t i = 0; i < rows; i++) {
    sums[i] = exp_row(task, row + i, task->scores + i * job->score_stride, keys);
  }
  multiply_values(task, row, rows, keys);
  for (int64_t i = 0; i < rows; i++) {
    job->passes->scale(task->out + (row + i) * attention->out_strides[2], attention->value_dim, 1.0f / sums[i]);
  }
}

/* Late chunks come first: with a causal mask they take longest. */
static void run_task(void *context, int64_t index, int worker) {
  const attention_job *job = context;
  const hfb_attention *attention = job->attention;
  const int64_t head_count = attention->batch * attention->heads;
  const int64_t chunk = job->chunk_count - 1 - index / head_count;
  const int64_t batch = index % head_count / attention->heads, head = index % attention->heads;
  const int64_t row_end = min_i64(attention->query_count, (chunk + 1) * job->chunk_rows);
  char *scratch = hfb_scratch_of(&job->scratch, worker);
  attention_task task = {
      .job = job,
      .batch = batch,
      .head = head,
      .q = attention->q + batch * attention->q_strides[0] + head * attention->q_strides[1],
      .out = attention->out + batch * attention->out_strides[0] + head * attention->out_strides[1],
      .key_count = visible_keys(attention, row_end - 1),
      .packed_k = (float *)scratch,
      .packed_v = (float *)(scratch + job->value_offset),
      .scores = (float *)(scratch + job->score_offset),
      .keep = (float *)(scratch + job->keep_offset),
  };
  find_keys(&task, (float *)(scratch + job->rows_offset));
  pack_head(&task);
  for (int64_t row = chunk * job->chunk_rows; row < row_end; row += job->block_rows) {
    run_rows(&task, row, min_i64(job->block_rows, row_end - row));
  }
}

static void plan(attention_job *job) {
  const hfb_attention *attention = job->attention;
  const int threads = hfb_pool_size(job->pool);
  const int64_t wanted = threads == 1 ? 1 : (int64_t)threads * TASKS_PER_THREAD;
  job->packs = attention->query_count > FEW_QUERIES;
  job->key_width = hfb_gemm_panel_width(job->kernels, attention->key_count);
  job->value_width = hfb_gemm_panel_width(job->kernels, attention->value_dim);
  job->score_stride = round_up(attention->key_count, SCORE_PAD_ELEMENTS) + SCORE_PAD_ELEMENTS;

  const int64_t fitting = SCORE_BYTES / (job->score_stride * (int64_t)sizeof(float));
  job->block_rows = fitting >= ROW_STEP ? fitting / ROW_STEP * ROW_STEP : FEW_QUERIES;
  job->block_rows = min_i64(job->block_rows, MOST_ROWS);

  const int64_t head_count = attention->batch * attention->heads;
  const int64_t most_chunks = max_i64(1, attention->query_count / QUERIES_PER_PACKING);
  const int64_t chunks = min_i64(most_chunks, ceil_div(wanted, head_count));
  job->chunk_rows = round_up(ceil_div(attention->query_count, chunks), job->block_rows);
  job->chunk_count = ceil_div(attention->query_count, job->chunk_rows);

  const int64_t key_elements = job->packs ? round_up(attention->key_count, job->key_width) * attention->head_dim : 0;
  const int64_t value_columns = job->packs ? round_up(attention->value_dim, job->value_width) : job->value_width;
  job->value_offset = (size_t)round_up(key_elements * (int64_t)sizeof(float), ALIGNMENT);
  job->score_offset =
      job->value_offset + (size_t)round_up(value_columns * attention->key_count * (int64_t)sizeof(float), ALIGNMENT);
  job->keep_offset = job->score_offset + (size_t)(job->block_rows * job->score_stride) * sizeof(float);
  job->rows_offset = job->keep_offset + (size_t)(attention->key_count + HFB_ATTENTION_KEEP_PAD) * sizeof(float);
  const int64_t row_elements = attention->blocks.numbers ? attention->head_dim + attention->value_dim : 0;
  job->scratch_bytes = job->rows_offset + (size_t)(attention->key_count * row_elements) * sizeof(float);
}

/* No keys at all: an empty sum. */
static void write_zeros(const hfb_attention *attention) {
  const int64_t row_count = attention->batch * attention->heads * attention->query_count;
  for (int64_t row = 0; attention->lse && row < row_count; row++) attention->lse[row] = -INFINITY;
  for (int64_t batch = 0; batch < attention->batch; batch++) {
    for (int64_t head = 0; head < attention->heads; head++) {
      for (int64_t row = 0; row < attention->query_count; row++) {
        float *out = attention->out + batch * attention->out_strides[0] + head * attention->out_strides[1] +
                     row * attention->out_strides[2];
        for (int64_t i = 0; i < attention->value_dim; i++) out[i] = 0;
      }
    }
  }
}

hfb_status hfb_attention_blocks_check(const hfb_attention_blocks *blocks, int64_t key_count) {
  if (!blocks->numbers) return HFB_OK;
  if (blocks->rows > 0 && blocks->count > 0 && key_count % blocks->rows == 0) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "attention: %lld keys in blocks of %lld out of %lld", (long long)key_count,
                  (long long)blocks->rows, (long long)blocks->count);
}

hfb_status hfb_attention_run(const hfb_attention *attention, hfb_isa isa, hfb_pool *pool) {
  const int64_t sizes[] = {attention->batch,     attention->heads,    attention->query_count,
                           attention->key_count, attention->head_dim, attention->value_dim};
  for (int i = 0; i < 6; i++) {
    if (sizes[i] >= 0) continue;
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "attention with a negative size: %lld", (long long)sizes[i]);
  }
  HFB_TRY(hfb_attention_blocks_check(&attention->blocks, attention->key_count));
  hfb_attention_dropout dropout;
  HFB_TRY(hfb_attention_dropout_init(attention->dropout_p, attention->dropout_site, attention->random_state, &dropout));
  if (attention->batch == 0 || attention->heads == 0 || attention->query_count == 0) return HFB_OK;
  if (attention->value_dim == 0 && !attention->lse) return HFB_OK;
  if (attention->key_count == 0) {
    write_zeros(attention);
    return HFB_OK;
  }
  if (isa > hfb_cpu()->isa) isa = hfb_cpu()->isa;
  attention_job job = {
      .attention = attention,
      .pool = pool,
      .kernels = hfb_gemm_isa_select(HFB_F32, isa),
      .passes = hfb_attention_isa_select(isa),
      .dropout = dropout,
  };
  plan(&job);
  HFB_TRY(hfb_scratch_init(pool, job.scratch_bytes, &job.scratch));
  hfb_pool_run(pool, attention->batch * attention->heads * job.chunk_count, run_task, &job);
  hfb_scratch_deinit(&job.scratch);
  return HFB_OK;
}
