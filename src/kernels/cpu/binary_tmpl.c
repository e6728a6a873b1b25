/* Elementwise float kernels with two inputs, where, and floats of bools. Included by <isa>/binary.c after its
 * vec_lanes.h, with HFB_K(name) adding the suffix of the instruction set. */
#include "kernels/kernel_impl.h"

enum { BINARY_GRAIN = 16 << 10, BINARY_BLOCK = 256 };

typedef vec_f32 (*binary_fn)(vec_f32 x, vec_f32 y);

static vec_f32 binary_add(vec_f32 x, vec_f32 y) { return x + y; }
static vec_f32 binary_sub(vec_f32 x, vec_f32 y) { return x - y; }
static vec_f32 binary_mul(vec_f32 x, vec_f32 y) { return x * y; }
static vec_f32 binary_div(vec_f32 x, vec_f32 y) { return x / y; }
/* min and max of the vector layer give y when either is nan, so only a nan in x needs care. */
static vec_f32 binary_maximum(vec_f32 x, vec_f32 y) {
  return hfb_vec_select(hfb_vec_eq(x, x), hfb_vec_max(x, y), x);
}
static vec_f32 binary_minimum(vec_f32 x, vec_f32 y) {
  return hfb_vec_select(hfb_vec_eq(x, x), hfb_vec_min(x, y), x);
}

/* An operand of a row: contiguous, or one value for all of it. */
typedef struct row_operand {
  const float *data;
  bool is_scalar;
} row_operand;

static inline __attribute__((always_inline)) void map_binary(binary_fn function, const float *x, bool x_is_scalar,
                                                             const float *y, bool y_is_scalar, float *out,
                                                             int64_t count) {
  vec_f32 vx = hfb_vec_set1(*x), vy = hfb_vec_set1(*y);
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= count; i += VEC_F32_LANES) {
    if (!x_is_scalar) vx = hfb_vec_load(x + i);
    if (!y_is_scalar) vy = hfb_vec_load(y + i);
    hfb_vec_store(out + i, function(vx, vy));
  }
  if (i == count) return;
  if (!x_is_scalar) vx = hfb_vec_load_partial(x + i, count - i);
  if (!y_is_scalar) vy = hfb_vec_load_partial(y + i, count - i);
  hfb_vec_store_partial(out + i, function(vx, vy), count - i);
}

static inline __attribute__((always_inline)) void map_operands(binary_fn function, row_operand x, row_operand y,
                                                               float *out, int64_t count) {
  if (x.is_scalar) {
    map_binary(function, x.data, true, y.data, y.is_scalar, out, count);
  } else if (y.is_scalar) {
    map_binary(function, x.data, false, y.data, true, out, count);
  } else {
    map_binary(function, x.data, false, y.data, false, out, count);
  }
}

static void binary_operands(hfb_op op, row_operand x, row_operand y, float *out, int64_t count) {
  switch (op) {
    case HFB_OP_ADD: map_operands(binary_add, x, y, out, count); break;
    case HFB_OP_SUB: map_operands(binary_sub, x, y, out, count); break;
    case HFB_OP_MUL: map_operands(binary_mul, x, y, out, count); break;
    case HFB_OP_DIV: map_operands(binary_div, x, y, out, count); break;
    case HFB_OP_MAXIMUM: map_operands(binary_maximum, x, y, out, count); break;
    case HFB_OP_MINIMUM: map_operands(binary_minimum, x, y, out, count); break;
    default: break;
  }
}

/* The operand from `data` on; strides other than 4 and 0 are gathered into `block`. */
static row_operand operand_of(const char *data, int64_t stride, int64_t count, float *block) {
  if (stride == sizeof(float) || stride == 0) return (row_operand){(const float *)data, stride == 0};
  for (int64_t i = 0; i < count; i++) block[i] = *(const float *)(data + i * stride);
  return (row_operand){block, false};
}

static bool needs_block(int64_t stride) { return stride != sizeof(float) && stride != 0; }

static void binary_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  const hfb_op *op = context;
  float *out = (float *)data[0], x_block[BINARY_BLOCK], y_block[BINARY_BLOCK];
  int64_t step = needs_block(stride[1]) || needs_block(stride[2]) ? BINARY_BLOCK : count;
  for (int64_t begin = 0; begin < count; begin += step) {
    int64_t length = count - begin < step ? count - begin : step;
    row_operand x = operand_of(data[1] + begin * stride[1], stride[1], length, x_block);
    row_operand y = operand_of(data[2] + begin * stride[2], stride[2], length, y_block);
    binary_operands(*op, x, y, out + begin, length);
  }
}

hfb_status HFB_K(hfb_k_f32_binary)(const hfb_kernel_call *call) {
  hfb_op op = call->node->op;
  hfb_strided walk =
      hfb_strided_make(&call->results[0].shape, 3,
                       (const hfb_tensor *const[]){&call->results[0], &call->inputs[0], &call->inputs[1]});
  hfb_strided_run(&walk, BINARY_GRAIN, call->pool, binary_row, &op);
  return HFB_OK;
}

static inline __attribute__((always_inline)) void map_where(const uint8_t *condition, row_operand x, row_operand y,
                                                            float *out, int64_t count) {
  vec_f32 vx = hfb_vec_set1(*x.data), vy = hfb_vec_set1(*y.data);
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= count; i += VEC_F32_LANES) {
    if (!x.is_scalar) vx = hfb_vec_load(x.data + i);
    if (!y.is_scalar) vy = hfb_vec_load(y.data + i);
    hfb_vec_store(out + i, hfb_vec_select(hfb_vec_mask_of_bytes(condition + i), vx, vy));
  }
  for (; i < count; i++) out[i] = condition[i] ? x.data[x.is_scalar ? 0 : i] : y.data[y.is_scalar ? 0 : i];
}

/* The condition from `bytes` on, one byte for each element; other strides are gathered into `block`. */
static const uint8_t *condition_of(const uint8_t *bytes, int64_t stride, int64_t count, uint8_t *block) {
  if (stride == 1) return bytes;
  for (int64_t i = 0; i < count; i++) block[i] = bytes[i * stride];
  return block;
}

static void where_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  float *out = (float *)data[0], x_block[BINARY_BLOCK], y_block[BINARY_BLOCK];
  uint8_t condition_block[BINARY_BLOCK];
  int64_t step = stride[1] != 1 || needs_block(stride[2]) || needs_block(stride[3]) ? BINARY_BLOCK : count;
  for (int64_t begin = 0; begin < count; begin += step) {
    int64_t length = count - begin < step ? count - begin : step;
    const uint8_t *condition =
        condition_of((const uint8_t *)data[1] + begin * stride[1], stride[1], length, condition_block);
    row_operand x = operand_of(data[2] + begin * stride[2], stride[2], length, x_block);
    row_operand y = operand_of(data[3] + begin * stride[3], stride[3], length, y_block);
    if (x.is_scalar) {
      map_where(condition, (row_operand){x.data, true}, y, out + begin, length);
    } else if (y.is_scalar) {
      map_where(condition, (row_operand){x.data, false}, (row_operand){y.data, true}, out + begin, length);
    } else {
      map_where(condition, (row_operand){x.data, false}, (row_operand){y.data, false}, out + begin, length);
    }
  }
}

hfb_status HFB_K(hfb_k_f32_where)(const hfb_kernel_call *call) {
  hfb_strided walk = hfb_strided_make(
      &call->results[0].shape, 4,
      (const hfb_tensor *const[]){&call->results[0], &call->inputs[0], &call->inputs[1], &call->inputs[2]});
  hfb_strided_run(&walk, BINARY_GRAIN, call->pool, where_row, NULL);
  return HFB_OK;
}

static void float_of_bool_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  static const float one = 1, zero = 0;
  float *out = (float *)data[0];
  uint8_t condition_block[BINARY_BLOCK];
  for (int64_t begin = 0; begin < count; begin += BINARY_BLOCK) {
    int64_t length = count - begin < BINARY_BLOCK ? count - begin : BINARY_BLOCK;
    const uint8_t *condition =
        condition_of((const uint8_t *)data[1] + begin * stride[1], stride[1], length, condition_block);
    map_where(condition, (row_operand){&one, true}, (row_operand){&zero, true}, out + begin, length);
  }
}

hfb_status HFB_K(hfb_k_bool_to_f32)(const hfb_kernel_call *call) {
  hfb_strided walk = hfb_strided_make(&call->results[0].shape, 2,
                                      (const hfb_tensor *const[]){&call->results[0], &call->inputs[0]});
  hfb_strided_run(&walk, BINARY_GRAIN, call->pool, float_of_bool_row, NULL);
  return HFB_OK;
}
