/* Comparisons and logic of the dtypes that masks are made of. Models compare positions and token ids, small beside
 * everything else, so one plain version serves every instruction set. */
#include <string.h>

#include "kernels/kernel_impl.h"

enum { PREDICATE_GRAIN = 32 << 10 };

#define T float
#define NAME(x) x##_f32
#include "kernels/cpu/predicate_tmpl.c"
#define T int64_t
#define NAME(x) x##_i64
#include "kernels/cpu/predicate_tmpl.c"
#define T int32_t
#define NAME(x) x##_i32
#include "kernels/cpu/predicate_tmpl.c"
#define T uint8_t
#define NAME(x) x##_bool
#include "kernels/cpu/predicate_tmpl.c"

/* Bytes of 0 and 1, sixteen at a time. */
typedef uint8_t bytes_16 __attribute__((vector_size(16)));

static bytes_16 load_bytes(const uint8_t *data, int64_t stride) {
  bytes_16 loaded = {0};
  if (stride == 0) return loaded + *data;
  if (stride == 1) {
    memcpy(&loaded, data, sizeof(loaded));
  } else {
    for (int i = 0; i < 16; i++) loaded[i] = data[i * stride];
  }
  return loaded;
}

static void logic_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  bool is_and = *(const hfb_op *)context == HFB_OP_AND;
  uint8_t *out = (uint8_t *)data[0];
  const uint8_t *x = (const uint8_t *)data[1], *y = (const uint8_t *)data[2];
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    bytes_16 a = load_bytes(x + i * stride[1], stride[1]), b = load_bytes(y + i * stride[2], stride[2]);
    bytes_16 result = is_and ? a & b : a | b;
    memcpy(out + i, &result, sizeof(result));
  }
  for (; i < count; i++) {
    uint8_t a = x[i * stride[1]], b = y[i * stride[2]];
    out[i] = is_and ? a & b : a | b;
  }
}

static hfb_status run_rows(const hfb_kernel_call *call, hfb_strided_row_fn row) {
  hfb_op op = call->node->op;
  hfb_strided walk =
      hfb_strided_make(&call->results[0].shape, 3,
                       (const hfb_tensor *const[]){&call->results[0], &call->inputs[0], &call->inputs[1]});
  hfb_strided_run(&walk, PREDICATE_GRAIN, call->pool, row, &op);
  return HFB_OK;
}

hfb_status hfb_k_logic(const hfb_kernel_call *call) { return run_rows(call, logic_row); }

hfb_status hfb_k_compare(const hfb_kernel_call *call) {
  static const hfb_strided_row_fn rows[HFB_DTYPE_COUNT] = {
      [HFB_F32] = row_f32, [HFB_I64] = row_i64, [HFB_I32] = row_i32, [HFB_BOOL] = row_bool};
  return run_rows(call, rows[call->inputs[0].dtype]);
}
