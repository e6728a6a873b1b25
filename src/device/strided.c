#include "device/strided.h"

/* Byte strides of `tensor` seen through `shape`: 0 where it is broadcast. */
static void broadcast_strides(const hfb_tensor *tensor, const hfb_shape *shape, int64_t out_strides[HFB_MAX_RANK]) {
  int64_t bytes = (int64_t)hfb_dtype_bytes(tensor->dtype);
  int missing = shape->rank - tensor->shape.rank;
  for (int i = 0; i < shape->rank; i++) {
    bool broadcast = i < missing || tensor->shape.dim[i - missing] == 1;
    out_strides[i] = broadcast ? 0 : tensor->strides[i - missing] * bytes;
  }
}

static void swap_dims(hfb_strided *walk, int a, int b) {
  int64_t dim = walk->dim[a];
  walk->dim[a] = walk->dim[b];
  walk->dim[b] = dim;
  for (int i = 0; i < walk->operand_count; i++) {
    int64_t stride = walk->stride[i][a];
    walk->stride[i][a] = walk->stride[i][b];
    walk->stride[i][b] = stride;
  }
}

/* Insertion sort: stable, so dimensions that operand 0 does not tell apart keep their order. */
static void sort_dims(hfb_strided *walk) {
  for (int i = 1; i < walk->rank; i++) {
    for (int j = i; j > 0 && walk->stride[0][j - 1] < walk->stride[0][j]; j--) swap_dims(walk, j - 1, j);
  }
}

static bool can_merge(const hfb_strided *walk, int outer, int inner) {
  for (int i = 0; i < walk->operand_count; i++) {
    if (walk->stride[i][outer] != walk->stride[i][inner] * walk->dim[inner]) return false;
  }
  return true;
}

static void merge_dims(hfb_strided *walk) {
  int last = 0;
  for (int i = 1; i < walk->rank; i++) {
    if (can_merge(walk, last, i)) {
      walk->dim[last] *= walk->dim[i];
    } else {
      last++;
      walk->dim[last] = walk->dim[i];
    }
    for (int k = 0; k < walk->operand_count; k++) walk->stride[k][last] = walk->stride[k][i];
  }
  walk->rank = last + 1;
}

hfb_strided hfb_strided_make(const hfb_shape *shape, int operand_count, const hfb_tensor *const *operands) {
  hfb_strided walk = {.operand_count = operand_count, .count = hfb_shape_elements(shape)};
  int64_t strides[HFB_STRIDED_MAX_OPERANDS][HFB_MAX_RANK];
  for (int i = 0; i < operand_count; i++) {
    broadcast_strides(operands[i], shape, strides[i]);
    walk.data[i] = operands[i]->data;
  }
  for (int d = 0; d < shape->rank; d++) {
    if (shape->dim[d] == 1) continue;
    walk.dim[walk.rank] = shape->dim[d];
    for (int i = 0; i < operand_count; i++) walk.stride[i][walk.rank] = strides[i][d];
    walk.rank++;
  }
  if (walk.rank == 0) {
    walk.rank = 1;
    walk.dim[0] = 1;
    for (int i = 0; i < operand_count; i++) walk.stride[i][0] = (int64_t)hfb_dtype_bytes(operands[i]->dtype);
    return walk;
  }
  sort_dims(&walk);
  merge_dims(&walk);
  return walk;
}

static void walk_range(const hfb_strided *walk, hfb_strided_row_fn row, void *context, int64_t begin, int64_t end) {
  int inner = walk->rank - 1;
  int64_t index[HFB_MAX_RANK], row_strides[HFB_STRIDED_MAX_OPERANDS];
  char *data[HFB_STRIDED_MAX_OPERANDS];
  for (int i = 0; i < walk->operand_count; i++) {
    data[i] = walk->data[i];
    row_strides[i] = walk->stride[i][inner];
  }
  int64_t rest = begin;
  for (int d = inner; d >= 0; d--) {
    index[d] = rest % walk->dim[d];
    rest /= walk->dim[d];
    for (int i = 0; i < walk->operand_count; i++) data[i] += index[d] * walk->stride[i][d];
  }
  while (begin < end) {
    int64_t count = walk->dim[inner] - index[inner];
    if (count > end - begin) count = end - begin;
    row(context, data, row_strides, count);
    begin += count;
    if (begin == end) break;
    for (int i = 0; i < walk->operand_count; i++) data[i] -= index[inner] * walk->stride[i][inner];
    index[inner] = 0;
    for (int d = inner - 1; d >= 0; d--) {
      for (int i = 0; i < walk->operand_count; i++) data[i] += walk->stride[i][d];
      if (++index[d] < walk->dim[d]) break;
      for (int i = 0; i < walk->operand_count; i++) data[i] -= walk->dim[d] * walk->stride[i][d];
      index[d] = 0;
    }
  }
}

void hfb_strided_walk(const hfb_strided *walk, hfb_strided_row_fn row, void *context) {
  if (walk->count > 0) walk_range(walk, row, context, 0, walk->count);
}

typedef struct walk_job {
  const hfb_strided *walk;
  hfb_strided_row_fn row;
  void *context;
} walk_job;

static void walk_task(void *context, int64_t begin, int64_t end, int worker) {
  (void)worker;
  walk_job *job = context;
  walk_range(job->walk, job->row, job->context, begin, end);
}

void hfb_strided_run(const hfb_strided *walk, int64_t grain, hfb_pool *pool, hfb_strided_row_fn row, void *context) {
  walk_job job = {walk, row, context};
  /* Whole rows for each task where a task holds several. */
  int64_t inner = walk->dim[walk->rank - 1];
  if (inner > 0 && inner < grain) grain -= grain % inner;
  hfb_range_run(walk->count, grain, pool, walk_task, &job);
}

typedef struct range_job {
  int64_t count, grain;
  hfb_range_fn task;
  void *context;
} range_job;

static void range_task(void *context, int64_t index, int worker) {
  range_job *job = context;
  int64_t begin = index * job->grain;
  int64_t end = job->count - begin < job->grain ? job->count : begin + job->grain;
  job->task(job->context, begin, end, worker);
}

void hfb_range_run(int64_t count, int64_t grain, hfb_pool *pool, hfb_range_fn task, void *context) {
  if (count <= 0) return;
  if (grain < 1) grain = 1;
  range_job job = {count, grain, task, context};
  hfb_pool_run(pool, (count + grain - 1) / grain, range_task, &job);
}
