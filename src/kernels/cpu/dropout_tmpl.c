/* Dropout of floats, its mask drawn by vectors. Included by <isa>/dropout.c after its vec.h, with HFB_K(name) adding
 * the suffix of the instruction set. */
#include <string.h>

#include "base/rng.h"
#include "kernels/cpu/vec_random.h"
#include "kernels/kernel_impl.h"

enum { DROPOUT_GRAIN = 256 * VEC_RANDOM_GROUP, DROPOUT_BLOCK = 4 * VEC_RANDOM_GROUP };

typedef struct dropout_job {
  vec_random random;
  const float *first; /* element 0 of the result */
  uint32_t last_dropped;
  float scale;
} dropout_job;

/* Whole groups; their number is a constant after inlining. */
HFB_ALWAYS_INLINE void drop_groups(const dropout_job *job, int64_t group, const int groups, const float *x, float *y) {
  const vec_f32 scale = hfb_vec_set1(job->scale);
  const vec_u32 last_dropped = hfb_vec_set1_bits(job->last_dropped);
  vec_u32 words[VEC_RANDOM_MOST_GROUPS * VEC_RANDOM_VECTORS];
  hfb_vec_random_groups(&job->random, group, groups, words);
  HFB_UNROLL for (int v = 0; v < groups * VEC_RANDOM_VECTORS; v++) {
    vec_f32 scaled = hfb_vec_load(x + v * VEC_F32_LANES) * scale;
    vec_mask keeps = hfb_vec_gt_bits(words[v], last_dropped);
    hfb_vec_store(y + v * VEC_F32_LANES, hfb_vec_select(keeps, scaled, hfb_vec_zero()));
  }
}

/* `length` elements from `offset` of a group on. */
static void drop_part(const dropout_job *job, int64_t group, int64_t offset, const float *x, float *y, int64_t length) {
  float copy[VEC_RANDOM_GROUP] = {0};
  memcpy(copy + offset, x, (size_t)length * sizeof(float));
  drop_groups(job, group, 1, copy, copy);
  memcpy(y, copy + offset, (size_t)length * sizeof(float));
}

/* Elements index, index + 1, .. of the stream. */
static void drop_elements(const dropout_job *job, int64_t index, const float *x, float *y, int64_t count) {
  enum { STEP = VEC_RANDOM_MOST_GROUPS * VEC_RANDOM_GROUP };
  int64_t i = 0, offset = index % VEC_RANDOM_GROUP;
  if (offset > 0) {
    i = VEC_RANDOM_GROUP - offset < count ? VEC_RANDOM_GROUP - offset : count;
    drop_part(job, index / VEC_RANDOM_GROUP, offset, x, y, i);
  }
  for (; i + STEP <= count; i += STEP) {
    drop_groups(job, (index + i) / VEC_RANDOM_GROUP, VEC_RANDOM_MOST_GROUPS, x + i, y + i);
  }
  for (; i < count; i += VEC_RANDOM_GROUP) {
    int64_t length = count - i < VEC_RANDOM_GROUP ? count - i : VEC_RANDOM_GROUP;
    drop_part(job, (index + i) / VEC_RANDOM_GROUP, 0, x + i, y + i, length);
  }
}

/* The result is row-major, so its address tells the index. Other strides of x go through a block. */
static void dropout_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  const dropout_job *job = context;
  float *y = (float *)data[0];
  int64_t index = y - job->first;
  if (stride[1] == sizeof(float)) {
    drop_elements(job, index, (const float *)data[1], y, count);
    return;
  }
  float block[DROPOUT_BLOCK];
  for (int64_t begin = 0; begin < count; begin += DROPOUT_BLOCK) {
    int64_t length = count - begin < DROPOUT_BLOCK ? count - begin : DROPOUT_BLOCK;
    const char *x = data[1] + begin * stride[1];
    for (int64_t i = 0; i < length; i++) block[i] = *(const float *)(x + i * stride[1]);
    drop_elements(job, index + begin, block, y + begin, length);
  }
}

hfb_status HFB_K(hfb_k_f32_dropout)(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0], *state = &call->inputs[1], *result = &call->results[0];
  double p = hfb_node_float(call->node, HFB_ATTR_P);
  uint32_t threshold = hfb_random_threshold(p);
  if (threshold == 0) return result->data == x->data ? HFB_OK : hfb_tensor_copy(x, result, call->pool);
  const int64_t *seed = state->data, *step = seed + state->strides[0];
  /* An element is kept when the upper 24 bits of its word reach the threshold, which is at most 2^24. */
  dropout_job job = {.random = hfb_vec_random_start(*seed, *step, hfb_node_int(call->node, HFB_ATTR_SITE)),
                     .first = result->data,
                     .last_dropped = (threshold << 8) - 1,
                     .scale = (float)(1 / (1 - p))};
  hfb_strided walk = hfb_strided_make(&result->shape, 2, (const hfb_tensor *const[]){result, x});
  hfb_strided_run(&walk, DROPOUT_GRAIN, call->pool, dropout_row, &job);
  return HFB_OK;
}
