#include "eager/nonfinite.h"

#include <math.h>
#include <stdatomic.h>

#include "device/convert.h"
#include "device/strided.h"

enum { CHUNK = 256, GRAIN = 64 << 10 };

/* Of a tensor: the larger one when it holds both. */
typedef enum finding { ALL_FINITE, HAS_INFINITY, HAS_NAN } finding;

typedef struct examination {
  hfb_dtype dtype;
  atomic_int has_infinity, has_nan;
} examination;

static void examine_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  examination *self = context;
  double chunk[CHUNK];
  for (int64_t first = 0; first < count; first += CHUNK) {
    const int64_t length = count - first < CHUNK ? count - first : CHUNK;
    hfb_convert_row(self->dtype, data[0] + first * stride[0], stride[0], HFB_F64, (char *)chunk, sizeof(double),
                    length);
    double sum = 0; /* of zeros while everything is finite */
    for (int64_t i = 0; i < length; i++) sum += chunk[i] * 0;
    if (sum == 0) continue;
    for (int64_t i = 0; i < length; i++) {
      if (isinf(chunk[i])) self->has_infinity = 1;
      if (isnan(chunk[i])) self->has_nan = 1;
    }
  }
}

static finding examine(const hfb_tensor *tensor, hfb_pool *pool) {
  if (!hfb_dtype_is_float(tensor->dtype)) return ALL_FINITE;
  examination self = {.dtype = tensor->dtype};
  const hfb_strided walk = hfb_strided_make(&tensor->shape, 1, &tensor);
  hfb_strided_run(&walk, GRAIN, pool, examine_row, &self);
  return self.has_nan ? HAS_NAN : self.has_infinity ? HAS_INFINITY : ALL_FINITE;
}

bool hfb_nonfinite_may_start_at(const hfb_kernel_call *call) {
  const hfb_op op = call->node->op;
  const hfb_op_class op_class = hfb_op_info_of(op)->op_class;
  if (op_class == HFB_CLASS_SOURCE || op_class == HFB_CLASS_MOVE || op == HFB_OP_WHERE) return false;
  for (int i = 0; i < call->input_count; i++) {
    if (examine(&call->inputs[i], call->pool) != ALL_FINITE) return false;
  }
  return true;
}

hfb_status hfb_nonfinite_check(const hfb_kernel_call *call, const char *fallback_scope) {
  finding worst = ALL_FINITE;
  for (int i = 0; i < call->result_count; i++) {
    const finding found = examine(&call->results[i], call->pool);
    if (found > worst) worst = found;
  }
  if (worst == ALL_FINITE) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "%s: %s gives %s (node %d; its inputs are finite)",
                  hfb_node_text(call->node, HFB_ATTR_SCOPE, fallback_scope), hfb_op_info_of(call->node->op)->name,
                  worst == HAS_NAN ? "nan" : "inf", call->node->id);
}
