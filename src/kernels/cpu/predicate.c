/* Comparisons of the dtypes that masks are made of. Models compare positions and token ids, small beside everything
 * else, so one plain version serves every instruction set. */
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

/* Bytes of 0 and 1. */
static void logic_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  bool is_and = *(const hfb_op *)context == HFB_OP_AND;
  uint8_t *out = (uint8_t *)data[0];
  const uint8_t *x = (const uint8_t *)data[1], *y = (const uint8_t *)data[2];
  for (int64_t i = 0; i < count; i++) {
    uint8_t a = x[i * stride[1]], b = y[i * stride[2]];
    out[i] = is_and ? a & b : a | b;
  }
}

hfb_status hfb_k_predicate(const hfb_kernel_call *call) {
  static const hfb_strided_row_fn rows[HFB_DTYPE_COUNT] = {
      [HFB_F32] = row_f32, [HFB_I64] = row_i64, [HFB_I32] = row_i32, [HFB_BOOL] = row_bool};
  hfb_op op = call->node->op;
  bool is_logic = op == HFB_OP_AND || op == HFB_OP_OR;
  hfb_strided walk =
      hfb_strided_make(&call->results[0].shape, 3,
                       (const hfb_tensor *const[]){&call->results[0], &call->inputs[0], &call->inputs[1]});
  hfb_strided_run(&walk, PREDICATE_GRAIN, call->pool, is_logic ? logic_row : rows[call->inputs[0].dtype], &op);
  return HFB_OK;
}
