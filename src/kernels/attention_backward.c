/* Blocks of queries x keys: two products give the scores and g v^T of a block, one pass makes probabilities and the
 * gradient of the scores of them, three products add its parts of dq, dk and dv. Keys are the outer loop: packed K and
 * V and the sums of dk and dv of a block of keys stay in L2 while the queries pass by; dq is summed in place.
 *
 * A task is a head. When the heads do not fill the threads, a task is a block of keys, and the parts of dq that the
 * blocks give are kept apart and added up at the end; where they would take too much memory, dk with dv and dq get
 * tasks of their own, ranges of keys and ranges of queries, at the price of the first two products once more. Blocks
 * and the order of the sums are the same in each way, and so are the bits.
 *
 * Rows whose lse cannot tell the number of their keys have their sums computed first, each by one task. */
#include "kernels/attention_backward.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/attention_blocks.h"
#include "kernels/attention_isa.h"
#include "kernels/gemm_block.h"
#include "kernels/integers.h"

enum {
  ALIGNMENT = 64,
  LINE_ELEMENTS = 16,   /* of a cache line */
  QUERY_BLOCK = 128,    /* depth of the products for dk and dv */
  KEY_BLOCK = 256,      /* depth of the product for dq */
  FEW_KEY_BLOCKS = 64,  /* over all heads: below, blocks of keys are half as large, so that there is work for all */
  PARTS_BYTES = 32 << 20, /* that the parts of dq may take */
  TASKS_PER_THREAD = 4, /* when heads are split */
  SCORE_PRODUCTS = 2,   /* of a block, done twice when heads are split */
};

/* Where things lie in the scratch memory of a worker, in elements. */
typedef struct scratch_layout {
  int64_t k_panels, v_panels, k_rows;         /* of a block of keys */
  int64_t q_rows, g_rows, scores, gradients;  /* of a block of queries */
  int64_t dk, dv, keep;
  int64_t read;                               /* keys, then values, out of their blocks */
  int64_t end;
} scratch_layout;

typedef struct backward_job {
  const hfb_attention_backward *backward;
  const hfb_gemm_isa *kernels;
  const hfb_attention_isa *passes;
  hfb_attention_dropout dropout;
  hfb_pool *pool;
  char *scratch; /* of the workers, one behind the other */
  size_t worker_bytes;
  int64_t query_block, key_block;            /* elements of a block */
  int64_t query_block_count, key_block_count;
  int64_t block_stride;                      /* of scores and gradients */
  int64_t key_width;                         /* columns of a panel of K^T and V^T */
  int64_t head_width, value_width;           /* columns of a panel of q and k, of g */
  int64_t head_stride, value_stride;         /* of their rows in scratch memory */
  scratch_layout layout;
  /* P = factor * exp(scores - lse), for each row of queries. factors NULL: 1, and lse is the caller's. */
  const float *lse, *factors;
  float *own_rows; /* both of them, when some row needs it */
  int64_t row_count; /* over batch and heads */
  /* What the tasks of this pass give, and how they split a head. */
  float *dq, *dk, *dv;
  int64_t key_chunk_count, query_chunk_count;
  /* Parts of dq that are kept apart, [key_block_count - 1][batch][heads][query_count][head_dim]: of all blocks of keys
   * but the first, whose part is dq. NULL: blocks add to dq one after the other. */
  float *dq_parts;
} backward_job;

typedef struct backward_task {
  const backward_job *job;
  int64_t batch, head;
  const float *q, *g;
  float *dq, *dk, *dv;
  float *scratch;
} backward_task;

/* The part of a head that is worked on: queries [row, row + rows), keys [key, key + keys). */
typedef struct block_range {
  int64_t row, rows, key, keys;
} block_range;

/* Keys that query `row` looks at. */
static int64_t visible_keys(const hfb_attention_backward *backward, int64_t row) {
  if (!backward->causal) return backward->key_count;
  return max_i64(0, min_i64(row + 1 + backward->key_count - backward->query_count, backward->key_count));
}

/* A block of k or v with its row stride; those that lie in blocks of their own are read into scratch memory. */
static const float *key_rows(const backward_task *task, const float *x, const int64_t strides[3], int64_t key,
                             int64_t keys, int64_t columns, int64_t *out_stride) {
  const backward_job *job = task->job;
  const hfb_attention_backward *backward = job->backward;
  *out_stride = strides[2];
  if (!backward->blocks.numbers) return x + task->batch * strides[0] + task->head * strides[1] + key * strides[2];
  float *read = task->scratch + job->layout.read;
  hfb_attention_read_blocks(&backward->blocks, task->batch, task->head, x, strides, key, keys, columns, read);
  *out_stride = columns;
  return read;
}

static void pack_keys(const backward_task *task, int64_t key, int64_t keys) {
  const backward_job *job = task->job;
  const hfb_attention_backward *backward = job->backward;
  int64_t stride;
  const float *k = key_rows(task, backward->k, backward->k_strides, key, keys, backward->head_dim, &stride);
  job->kernels->pack_b(k, 1, stride, backward->head_dim, keys, job->key_width, task->scratch + job->layout.k_panels);
  if (task->dq) {
    job->kernels->pack_b(k, stride, 1, keys, backward->head_dim, job->head_stride, task->scratch + job->layout.k_rows);
  }
  const float *v = key_rows(task, backward->v, backward->v_strides, key, keys, backward->value_dim, &stride);
  job->kernels->pack_b(v, 1, stride, backward->value_dim, keys, job->key_width, task->scratch + job->layout.v_panels);
}

/* Rows side by side in memory, filled up to whole vectors: A of two products, B of two others. */
static void pack_queries(const backward_task *task, int64_t row, int64_t rows) {
  const backward_job *job = task->job;
  const hfb_attention_backward *backward = job->backward;
  job->kernels->pack_b(task->q + row * backward->q_strides[2], backward->q_strides[2], 1, rows, backward->head_dim,
                       job->head_stride, task->scratch + job->layout.q_rows);
  job->kernels->pack_b(task->g + row * backward->g_strides[2], backward->g_strides[2], 1, rows, backward->value_dim,
                       job->value_stride, task->scratch + job->layout.g_rows);
}

/* scores = modify(scale * q k^T) */
static void make_scores(const backward_task *task, const block_range *range) {
  const backward_job *job = task->job;
  const hfb_attention_backward *backward = job->backward;
  float *scores = task->scratch + job->layout.scores;
  hfb_gemm_block_run(&(hfb_gemm_block){
      .kernels = job->kernels,
      .rows = range->rows,
      .columns = range->keys,
      .depth = backward->head_dim,
      .a = task->scratch + job->layout.q_rows,
      .a_row_stride = job->head_stride,
      .width = job->key_width,
      .b = task->scratch + job->layout.k_panels,
      .b_panel_elements = job->key_width * backward->head_dim,
      .b_k_stride = job->key_width,
      .c = scores,
      .c_row_stride = job->block_stride,
      .alpha = backward->scale,
  });
  if (!backward->modify) return;
  backward->modify(backward->modify_context, scores, job->block_stride, task->batch, task->head, range->row,
                   range->rows, range->key, range->keys);
}

/* gradients = g v^T */
static void make_gradients(const backward_task *task, const block_range *range) {
  const backward_job *job = task->job;
  hfb_gemm_block_run(&(hfb_gemm_block){
      .kernels = job->kernels,
      .rows = range->rows,
      .columns = range->keys,
      .depth = job->backward->value_dim,
      .a = task->scratch + job->layout.g_rows,
      .a_row_stride = job->value_stride,
      .width = job->key_width,
      .b = task->scratch + job->layout.v_panels,
      .b_panel_elements = job->key_width * job->backward->value_dim,
      .b_k_stride = job->key_width,
      .c = task->scratch + job->layout.gradients,
      .c_row_stride = job->block_stride,
      .alpha = 1,
  });
}

/* The index of query `row` in lse and delta. */
static int64_t row_index(const backward_task *task, int64_t row) {
  const hfb_attention_backward *backward = task->job->backward;
  return (task->batch * backward->heads + task->head) * backward->query_count + row;
}

/* How many keys of the range the query looks at; they are the first. */
static int64_t keys_in_range(const backward_task *task, const block_range *range, int64_t row) {
  return max_i64(0, min_i64(range->keys, visible_keys(task->job->backward, row) - range->key));
}

/* Scores become dropout(P), gradients become d without gradient_scale. */
static void differentiate_scores(const backward_task *task, const block_range *range) {
  const backward_job *job = task->job;
  const hfb_attention_backward *backward = job->backward;
  float *scores = task->scratch + job->layout.scores, *gradients = task->scratch + job->layout.gradients;
  for (int64_t i = 0; i < range->rows; i++) {
    const int64_t index = row_index(task, range->row + i);
    hfb_attention_gradient row = {
        .scores = scores + i * job->block_stride,
        .gradient = gradients + i * job->block_stride,
        .count = keys_in_range(task, range, range->row + i),
        .padded_count = range->keys,
        .lse = job->lse[index],
        .delta = backward->delta[index],
    };
    if (job->dropout.threshold) {
      row.keep = job->passes->keep(&job->dropout, index * backward->key_count + range->key, row.count,
                                   task->scratch + job->layout.keep);
    }
    job->passes->gradient(&row);
    if (job->factors && job->factors[index] != 1) {
      job->passes->scale(row.scores, row.count, job->factors[index]);
      job->passes->scale(row.gradient, row.count, job->factors[index]);
    }
  }
  if (backward->modify_gradient) {
    backward->modify_gradient(backward->modify_gradient_context, gradients, job->block_stride, task->batch, task->head,
                              range->row, range->rows, range->key, range->keys);
  }
}

static float *dq_part(const backward_job *job, int64_t key_block, int64_t row_of_all) {
  return job->dq_parts + ((key_block - 1) * job->row_count + row_of_all) * job->backward->head_dim;
}

/* The block's part of dq, in place or kept apart. */
static void add_query_gradient(const backward_task *task, const block_range *range) {
  const backward_job *job = task->job;
  if (!task->dq) return;
  const bool is_apart = job->dq_parts && range->key > 0;
  const int64_t stride = is_apart ? job->backward->head_dim : job->backward->dq_strides[2];
  hfb_gemm_block_run(&(hfb_gemm_block){
      .kernels = job->kernels,
      .rows = range->rows,
      .columns = job->backward->head_dim,
      .depth = range->keys,
      .a = task->scratch + job->layout.gradients,
      .a_row_stride = job->block_stride,
      .width = job->head_width,
      .b = task->scratch + job->layout.k_rows,
      .b_panel_elements = job->head_width,
      .b_k_stride = job->head_stride,
      .c = is_apart ? dq_part(job, range->key / job->key_block, row_index(task, range->row))
                    : task->dq + range->row * stride,
      .c_row_stride = stride,
      .alpha = job->backward->gradient_scale,
      .accumulate = range->key > 0 && !is_apart,
  });
}

/* With one block of queries, which sees all keys, dk and dv are no sums: they are written where they belong. */
static bool has_key_sums(const backward_job *job) { return job->query_block_count > 1; }

/* The block's parts of dk and dv, added up in scratch memory. */
static void add_key_gradients(const backward_task *task, const block_range *range) {
  const backward_job *job = task->job;
  const hfb_attention_backward *backward = job->backward;
  const bool has_sums = has_key_sums(job);
  hfb_gemm_block block = {
      .kernels = job->kernels,
      .rows = range->keys,
      .depth = range->rows,
      .a_row_stride = job->block_stride,
      .a_is_transposed = 1,
      .accumulate = has_sums,
  };
  if (task->dk) {
    block.columns = backward->head_dim;
    block.a = task->scratch + job->layout.gradients;
    block.width = block.b_panel_elements = job->head_width;
    block.b = task->scratch + job->layout.q_rows;
    block.b_k_stride = job->head_stride;
    block.c = has_sums ? task->scratch + job->layout.dk : task->dk + range->key * backward->dk_strides[2];
    block.c_row_stride = has_sums ? job->head_stride : backward->dk_strides[2];
    block.alpha = has_sums ? 1 : backward->gradient_scale;
    hfb_gemm_block_run(&block);
  }
  if (task->dv) {
    block.columns = backward->value_dim;
    block.a = task->scratch + job->layout.scores;
    block.width = block.b_panel_elements = job->value_width;
    block.b = task->scratch + job->layout.g_rows;
    block.b_k_stride = job->value_stride;
    block.c = has_sums ? task->scratch + job->layout.dv : task->dv + range->key * backward->dv_strides[2];
    block.c_row_stride = has_sums ? job->value_stride : backward->dv_strides[2];
    block.alpha = 1;
    hfb_gemm_block_run(&block);
  }
}

static void copy_rows(const float *from, int64_t from_stride, int64_t rows, int64_t columns, float *to,
                      int64_t to_stride) {
  for (int64_t i = 0; i < rows; i++) {
    memcpy(to + i * to_stride, from + i * from_stride, (size_t)columns * sizeof(float));
  }
}

static void clear_key_sums(const backward_task *task, int64_t keys) {
  const backward_job *job = task->job;
  if (task->dk) memset(task->scratch + job->layout.dk, 0, (size_t)(keys * job->head_stride) * sizeof(float));
  if (task->dv) memset(task->scratch + job->layout.dv, 0, (size_t)(keys * job->value_stride) * sizeof(float));
}

static void write_key_sums(const backward_task *task, int64_t key, int64_t keys) {
  const backward_job *job = task->job;
  const hfb_attention_backward *backward = job->backward;
  if (task->dk) {
    float *dk = task->scratch + job->layout.dk;
    job->passes->scale(dk, keys * job->head_stride, backward->gradient_scale);
    copy_rows(dk, job->head_stride, keys, backward->head_dim, task->dk + key * backward->dk_strides[2],
              backward->dk_strides[2]);
  }
  if (task->dv) {
    copy_rows(task->scratch + job->layout.dv, job->value_stride, keys, backward->value_dim,
              task->dv + key * backward->dv_strides[2], backward->dv_strides[2]);
  }
}

/* One block of keys with the queries [row_begin, row_end), which start a block. With a causal mask the first of them
 * may see none of the keys, or some. */
static void run_keys(const backward_task *task, int64_t key, int64_t row_begin, int64_t row_end) {
  const backward_job *job = task->job;
  const hfb_attention_backward *backward = job->backward;
  const int64_t keys = min_i64(job->key_block, backward->key_count - key);
  pack_keys(task, key, keys);
  if (has_key_sums(job)) clear_key_sums(task, keys);
  for (int64_t row = row_begin; row < row_end; row += job->query_block) {
    block_range range = {.row = row, .rows = min_i64(job->query_block, row_end - row), .key = key};
    range.keys = min_i64(keys, visible_keys(backward, row + range.rows - 1) - key);
    if (range.keys <= 0) continue;
    pack_queries(task, row, range.rows);
    make_scores(task, &range);
    make_gradients(task, &range);
    differentiate_scores(task, &range);
    add_query_gradient(task, &range);
    add_key_gradients(task, &range);
  }
  if (has_key_sums(job)) write_key_sums(task, key, keys);
}

static void zero_rows(float *out, int64_t stride, int64_t begin, int64_t end, int64_t columns) {
  for (int64_t row = begin; row < end; row++) memset(out + row * stride, 0, (size_t)columns * sizeof(float));
}

static backward_task task_of(const backward_job *job, int64_t head_index, int worker) {
  const hfb_attention_backward *backward = job->backward;
  const int64_t batch = head_index / backward->heads, head = head_index % backward->heads;
  return (backward_task){
      .job = job,
      .batch = batch,
      .head = head,
      .q = backward->q + batch * backward->q_strides[0] + head * backward->q_strides[1],
      .g = backward->g + batch * backward->g_strides[0] + head * backward->g_strides[1],
      .dq = job->dq ? job->dq + batch * backward->dq_strides[0] + head * backward->dq_strides[1] : NULL,
      .dk = job->dk ? job->dk + batch * backward->dk_strides[0] + head * backward->dk_strides[1] : NULL,
      .dv = job->dv ? job->dv + batch * backward->dv_strides[0] + head * backward->dv_strides[1] : NULL,
      .scratch = (float *)(job->scratch + (size_t)worker * job->worker_bytes),
  };
}

/* Late ranges of queries come first: with a causal mask they take longest. */
static void run_task(void *context, int64_t index, int worker) {
  const backward_job *job = context;
  const hfb_attention_backward *backward = job->backward;
  const int64_t head_count = backward->batch * backward->heads;
  const int64_t part = index / head_count, key_part = part % job->key_chunk_count;
  const int64_t query_part = job->query_chunk_count - 1 - part / job->key_chunk_count;
  const int64_t row_begin = job->query_block_count * query_part / job->query_chunk_count * job->query_block;
  const int64_t row_end = min_i64(job->query_block_count * (query_part + 1) / job->query_chunk_count * job->query_block,
                                  backward->query_count);
  const int64_t key_begin = job->key_block_count * key_part / job->key_chunk_count;
  const int64_t key_end = job->key_block_count * (key_part + 1) / job->key_chunk_count;
  const backward_task task = task_of(job, index % head_count, worker);
  for (int64_t row = row_begin; task.dq && key_part == 0 && row < row_end; row += job->query_block) {
    const int64_t end = min_i64(row + job->query_block, row_end);
    if (visible_keys(backward, end - 1) == 0) {
      zero_rows(task.dq, backward->dq_strides[2], row, end, backward->head_dim);
    }
  }
  for (int64_t block = key_begin; block < key_end; block++) {
    run_keys(&task, block * job->key_block, row_begin, row_end);
  }
}

/* Whether lse = max + log(sum) is too far from 0 to hold the logarithm; nan and infinities stay what they are. */
static bool lacks_log(float lse) { return fabsf(lse) >= HFB_ATTENTION_LSE_LIMIT && fabsf(lse) <= FLT_MAX; }

/* The largest score of a row, and the sum of exp(scores - max), over the blocks of keys so far. */
typedef struct row_sum {
  float max, sum;
} row_sum;

static void add_to_sum(row_sum *row, float block_max, float block_sum) {
  if (block_max == -INFINITY) return;
  if (block_max > row->max) {
    row->sum = row->sum * expf(row->max - block_max) + block_sum;
    row->max = block_max;
  } else {
    row->sum += block_sum * expf(block_max - row->max);
  }
}

/* Maximum and 1 / sum of those rows of a block of queries whose lse lacks the logarithm. */
static void sum_rows(void *context, int64_t index, int worker) {
  const backward_job *job = context;
  const hfb_attention_backward *backward = job->backward;
  const backward_task task = task_of(job, index / job->query_block_count, worker);
  block_range range = {.row = index % job->query_block_count * job->query_block};
  range.rows = min_i64(job->query_block, backward->query_count - range.row);
  const int64_t first = row_index(&task, range.row), keys = visible_keys(backward, range.row + range.rows - 1);
  const float *given = backward->lse + first;
  float *lse = job->own_rows + first, *factors = job->own_rows + job->row_count + first;
  row_sum sums[QUERY_BLOCK];
  bool is_any = false;
  for (int64_t i = 0; i < range.rows; i++) {
    is_any |= lacks_log(given[i]);
    sums[i] = (row_sum){.max = -INFINITY};
  }
  if (is_any) pack_queries(&task, range.row, range.rows);
  for (; is_any && range.key < keys; range.key += job->key_block) {
    range.keys = min_i64(job->key_block, keys - range.key);
    pack_keys(&task, range.key, range.keys);
    make_scores(&task, &range);
    for (int64_t i = 0; i < range.rows; i++) {
      const int64_t count = keys_in_range(&task, &range, range.row + i);
      float max;
      if (!lacks_log(given[i])) continue;
      const float sum = job->passes->exp(task.scratch + job->layout.scores + i * job->block_stride, count, count, &max);
      add_to_sum(&sums[i], max, sum);
    }
  }
  for (int64_t i = 0; i < range.rows; i++) {
    lse[i] = lacks_log(given[i]) ? sums[i].max : given[i];
    factors[i] = lacks_log(given[i]) ? 1 / sums[i].sum : 1;
  }
}

/* Sets lse and factors of the job. */
static hfb_status normalise_rows(backward_job *job) {
  const hfb_attention_backward *backward = job->backward;
  bool is_any = false;
  for (int64_t i = 0; i < job->row_count; i++) is_any |= lacks_log(backward->lse[i]);
  job->lse = backward->lse;
  if (!is_any) return HFB_OK;
  HFB_TRY(hfb_mem_alloc((size_t)job->row_count, 2 * sizeof *job->own_rows, &job->own_rows));
  hfb_pool_run(job->pool, backward->batch * backward->heads * job->query_block_count, sum_rows, job);
  job->lse = job->own_rows;
  job->factors = job->own_rows + job->row_count;
  return HFB_OK;
}

static int64_t take(int64_t *end, int64_t elements) {
  const int64_t begin = *end;
  *end += round_up(elements, LINE_ELEMENTS);
  return begin;
}

static void plan(backward_job *job) {
  const hfb_attention_backward *backward = job->backward;
  const int lanes = job->kernels->lanes;
  job->row_count = backward->batch * backward->heads * backward->query_count;
  job->query_block_count = ceil_div(backward->query_count, QUERY_BLOCK);
  job->query_block = ceil_div(backward->query_count, max_i64(1, job->query_block_count));
  job->key_block_count = ceil_div(backward->key_count, KEY_BLOCK);
  const bool is_few = backward->batch * backward->heads * job->key_block_count < FEW_KEY_BLOCKS;
  if (is_few) job->key_block_count = ceil_div(backward->key_count, KEY_BLOCK / 2);
  job->key_block = ceil_div(backward->key_count, max_i64(1, job->key_block_count));
  job->key_width = hfb_gemm_panel_width(job->kernels, job->key_block);
  job->head_width = hfb_gemm_panel_width(job->kernels, backward->head_dim);
  job->value_width = hfb_gemm_panel_width(job->kernels, backward->value_dim);
  job->head_stride = round_up(backward->head_dim, lanes);
  job->value_stride = round_up(backward->value_dim, lanes);
  job->key_block = round_up(job->key_block, lanes);
  job->key_block_count = ceil_div(backward->key_count, job->key_block);
  /* An odd number of lines keeps the rows of a block from meeting in the same cache sets. */
  job->block_stride = round_up(job->key_block, 2 * LINE_ELEMENTS) + LINE_ELEMENTS;

  const int64_t panel_keys = round_up(job->key_block, job->key_width);
  scratch_layout *layout = &job->layout;
  layout->k_panels = take(&layout->end, panel_keys * backward->head_dim);
  layout->v_panels = take(&layout->end, panel_keys * backward->value_dim);
  layout->k_rows = take(&layout->end, job->key_block * job->head_stride);
  layout->q_rows = take(&layout->end, job->query_block * job->head_stride);
  layout->g_rows = take(&layout->end, job->query_block * job->value_stride);
  layout->scores = take(&layout->end, job->query_block * job->block_stride);
  layout->gradients = take(&layout->end, job->query_block * job->block_stride);
  layout->dk = take(&layout->end, job->key_block * job->head_stride);
  layout->dv = take(&layout->end, job->key_block * job->value_stride);
  layout->keep = take(&layout->end, job->key_block + HFB_ATTENTION_KEEP_PAD);
  const int64_t columns = max_i64(backward->head_dim, backward->value_dim);
  layout->read = take(&layout->end, backward->blocks.numbers ? job->key_block * columns : 0);
  job->worker_bytes = (size_t)layout->end * sizeof(float);
}

/* dq += the parts of the blocks of keys that a block of queries sees, in their order. */
static void add_parts(void *context, int64_t index, int worker) {
  const backward_job *job = context;
  const hfb_attention_backward *backward = job->backward;
  const backward_task task = task_of(job, index / job->query_block_count, worker);
  const int64_t begin = index % job->query_block_count * job->query_block;
  const int64_t end = min_i64(begin + job->query_block, backward->query_count);
  const int64_t keys = visible_keys(backward, end - 1);
  for (int64_t block = 1; block * job->key_block < keys; block++) {
    for (int64_t row = begin; row < end; row++) {
      const float *part = dq_part(job, block, row_index(&task, row));
      float *dq = task.dq + row * backward->dq_strides[2];
      for (int64_t i = 0; i < backward->head_dim; i++) dq[i] += part[i];
    }
  }
}

static int64_t parts_bytes(const backward_job *job) {
  return (job->key_block_count - 1) * job->row_count * job->backward->head_dim * (int64_t)sizeof(float);
}

/* Whether a task for each block of keys ends before a task for each head, and the parts of dq are not too large. */
static bool keeps_parts(const backward_job *job) {
  const hfb_attention_backward *backward = job->backward;
  const int64_t heads = backward->batch * backward->heads, threads = hfb_pool_size(job->pool);
  if (!backward->dq || !(backward->dk || backward->dv) || parts_bytes(job) > PARTS_BYTES) return false;
  return ceil_div(heads * job->key_block_count, threads) < ceil_div(heads, threads) * job->key_block_count;
}

/* A pass with a task for each head or block of keys, or two that split heads: whichever should end first. */
static void run_passes(backward_job *job) {
  const hfb_attention_backward *backward = job->backward;
  const int64_t head_count = backward->batch * backward->heads, threads = hfb_pool_size(job->pool);
  const int products = SCORE_PRODUCTS + (backward->dq != NULL) + (backward->dk != NULL) + (backward->dv != NULL);
  const bool has_both = backward->dq && (backward->dk || backward->dv);
  const int split_products = products + (has_both ? SCORE_PRODUCTS : 0);
  job->key_chunk_count = job->query_chunk_count = 1;
  job->dq = backward->dq, job->dk = backward->dk, job->dv = backward->dv;
  if (job->dq_parts) {
    job->key_chunk_count = job->key_block_count;
    hfb_pool_run(job->pool, head_count * job->key_chunk_count, run_task, job);
    hfb_pool_run(job->pool, head_count * job->query_block_count, add_parts, job);
    return;
  }
  if (ceil_div(head_count, threads) * threads * products <= head_count * split_products) {
    hfb_pool_run(job->pool, head_count, run_task, job);
    return;
  }
  const int64_t chunks = ceil_div(threads * TASKS_PER_THREAD, head_count);
  if (backward->dk || backward->dv) {
    job->dq = NULL;
    job->key_chunk_count = min_i64(chunks, job->key_block_count);
    hfb_pool_run(job->pool, head_count * job->key_chunk_count, run_task, job);
  }
  if (backward->dq) {
    job->dq = backward->dq, job->dk = job->dv = NULL;
    job->key_chunk_count = 1;
    job->query_chunk_count = min_i64(chunks, job->query_block_count);
    hfb_pool_run(job->pool, head_count * job->query_chunk_count, run_task, job);
  }
}

static void zero_tensor(const hfb_attention_backward *backward, float *out, const int64_t strides[3], int64_t rows,
                        int64_t columns) {
  if (!out) return;
  for (int64_t i = 0; i < backward->batch * backward->heads; i++) {
    zero_rows(out + i / backward->heads * strides[0] + i % backward->heads * strides[1], strides[2], 0, rows, columns);
  }
}

static hfb_status check(const hfb_attention_backward *backward) {
  const int64_t sizes[] = {backward->batch,     backward->heads,    backward->query_count,
                           backward->key_count, backward->head_dim, backward->value_dim};
  for (int i = 0; i < 6; i++) {
    if (sizes[i] >= 0) continue;
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "gradient of attention with a negative size: %lld", (long long)sizes[i]);
  }
  HFB_TRY(hfb_attention_blocks_check(&backward->blocks, backward->key_count));
  if (backward->lse && backward->delta) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "gradient of attention without %s; the forward's lse and delta are needed",
                  backward->lse ? "delta" : "lse");
}

hfb_status hfb_attention_backward_run(const hfb_attention_backward *backward, hfb_isa isa, hfb_pool *pool) {
  HFB_TRY(check(backward));
  if (isa > hfb_cpu()->isa) isa = hfb_cpu()->isa;
  backward_job job = {
      .backward = backward,
      .kernels = hfb_gemm_isa_select(HFB_F32, isa),
      .passes = hfb_attention_isa_select(isa),
      .pool = pool,
  };
  HFB_TRY(hfb_attention_dropout_init(backward->dropout_p, backward->dropout_site, backward->random_state,
                                     &job.dropout));
  if (backward->batch == 0 || backward->heads == 0) return HFB_OK;
  if (backward->query_count == 0 || backward->key_count == 0) {
    zero_tensor(backward, backward->dq, backward->dq_strides, backward->query_count, backward->head_dim);
    zero_tensor(backward, backward->dk, backward->dk_strides, backward->key_count, backward->head_dim);
    zero_tensor(backward, backward->dv, backward->dv_strides, backward->key_count, backward->value_dim);
    return HFB_OK;
  }
  plan(&job);
  const size_t threads = (size_t)hfb_pool_size(pool);
  const size_t parts = keeps_parts(&job) ? (size_t)round_up(parts_bytes(&job), ALIGNMENT) : 0;
  const size_t scratch_bytes = parts + threads * job.worker_bytes;
  hfb_scratch scratch;
  HFB_TRY(hfb_scratch_init_shared(pool, scratch_bytes, &scratch));
  job.scratch = hfb_scratch_of(&scratch, 0);
  if (parts > 0) {
    job.dq_parts = (float *)job.scratch;
    job.scratch += parts;
  }
  const hfb_status status = normalise_rows(&job);
  if (status == HFB_OK) run_passes(&job);
  hfb_mem_free(job.own_rows);
  hfb_scratch_deinit(&scratch);
  return status;
}
