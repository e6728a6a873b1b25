/* Comparisons and logic of the dtypes that masks are made of. Models compare positions and token ids, small beside
 * everything else, so one plain version serves every instruction set. */
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

hfb_status hfb_k_predicate(const hfb_kernel_call *call) {
  static const hfb_strided_row_fn rows[HFB_DTYPE_COUNT] = {
      [HFB_F32] = row_f32, [HFB_I64] = row_i64, [HFB_I32] = row_i32, [HFB_BOOL] = row_bool};
  hfb_op op = call->node->op;
  hfb_strided walk =
      hfb_strided_make(&call->results[0].shape, 3,
                       (const hfb_tensor *const[]){&call->results[0], &call->inputs[0], &call->inputs[1]});
  hfb_strided_run(&walk, PREDICATE_GRAIN, call->pool, rows[call->inputs[0].dtype], &op);
  return HFB_OK;
}
