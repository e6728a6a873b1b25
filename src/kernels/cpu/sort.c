/* argsort of row-major integers: a radix sort of each line from the lowest digit on, which is stable, with as many
 * digits as the range of the keys needs. Buckets and positions, which are what models sort, need one or two. */
#include <string.h>

#include "kernels/kernel_impl.h"

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

typedef struct sort_job {
  const int64_t *keys;
  int64_t *out;
  int64_t length;
  hfb_scratch scratch; /* DIGITS counts, then positions of one line */
} sort_job;

/* Passes that the keys - low, at most `range`, need: at least one. */
static int passes_of(uint64_t range) {
  int passes = 1;
  while (range >>= DIGIT_BITS) passes++;
  return passes;
}

static int64_t digit_of(int64_t key, int64_t low, int shift) {
  return (int64_t)(((uint64_t)key - (uint64_t)low) >> shift & (DIGITS - 1));
}

/* Positions in the order of one digit; from NULL: 0, 1, 2, .. */
static void sort_by_digit(const int64_t *keys, int64_t length, int64_t low, int shift, const int64_t *from,
                          int64_t *counts, int64_t *to) {
  memset(counts, 0, DIGITS * sizeof *counts);
  for (int64_t i = 0; i < length; i++) counts[digit_of(keys[i], low, shift)]++;
  int64_t next = 0;
  for (int digit = 0; digit < DIGITS; digit++) {
    int64_t count = counts[digit];
    counts[digit] = next;
    next += count;
  }
  for (int64_t i = 0; i < length; i++) {
    int64_t position = from ? from[i] : i;
    to[counts[digit_of(keys[position], low, shift)]++] = position;
  }
}

static void sort_line(void *context, int64_t index, int worker) {
  const sort_job *job = context;
  const int64_t *keys = job->keys + index * job->length;
  int64_t *counts = hfb_scratch_of(&job->scratch, worker), *spare = counts + DIGITS;
  int64_t *out = job->out + index * job->length, low = keys[0], high = keys[0];
  for (int64_t i = 1; i < job->length; i++) {
    low = keys[i] < low ? keys[i] : low;
    high = keys[i] > high ? keys[i] : high;
  }
  const int passes = passes_of((uint64_t)high - (uint64_t)low);
  const int64_t *from = NULL;
  for (int pass = 0; pass < passes; pass++) {
    int64_t *to = (passes - pass) % 2 == 1 ? out : spare; /* the last pass writes the result */
    sort_by_digit(keys, job->length, low, pass * DIGIT_BITS, from, counts, to);
    from = to;
  }
}

hfb_status hfb_k_i64_argsort(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0];
  sort_job job = {.keys = x->data, .out = call->results[0].data, .length = x->shape.dim[x->shape.rank - 1]};
  if (hfb_shape_elements(&x->shape) == 0) return HFB_OK;
  HFB_TRY(hfb_scratch_init(call->pool, (DIGITS + (size_t)job.length) * sizeof(int64_t), &job.scratch));
  hfb_pool_run(call->pool, hfb_shape_elements(&x->shape) / job.length, sort_line, &job);
  hfb_scratch_deinit(&job.scratch);
  return HFB_OK;
}
