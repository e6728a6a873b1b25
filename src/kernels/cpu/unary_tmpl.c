/* Elementwise float kernels with one input. Included by <isa>/unary.c after its vec.h, with HFB_K(name) adding the
 * suffix of the instruction set. */
#include "kernels/kernel_impl.h"

enum { UNARY_GRAIN = 16 << 10, UNARY_BLOCK = 256 };

typedef vec_f32 (*unary_fn)(vec_f32 x, vec_f32 value);

static vec_f32 one(void) { return hfb_vec_set1(1.0f); }

static vec_f32 unary_neg(vec_f32 x, vec_f32 value) { return -x; }
static vec_f32 unary_abs(vec_f32 x, vec_f32 value) { return hfb_vec_abs(x); }
static vec_f32 unary_exp(vec_f32 x, vec_f32 value) { return hfb_vec_exp(x); }
static vec_f32 unary_log(vec_f32 x, vec_f32 value) { return hfb_vec_log(x); }
static vec_f32 unary_sqrt(vec_f32 x, vec_f32 value) { return hfb_vec_sqrt(x); }
static vec_f32 unary_rsqrt(vec_f32 x, vec_f32 value) { return one() / hfb_vec_sqrt(x); }
static vec_f32 unary_sin(vec_f32 x, vec_f32 value) { return hfb_vec_sin(x); }
static vec_f32 unary_cos(vec_f32 x, vec_f32 value) { return hfb_vec_cos(x); }
static vec_f32 unary_tanh(vec_f32 x, vec_f32 value) { return hfb_vec_tanh(x); }
static vec_f32 unary_erf(vec_f32 x, vec_f32 value) { return hfb_vec_erf(x); }
static vec_f32 unary_add_scalar(vec_f32 x, vec_f32 value) { return x + value; }
static vec_f32 unary_mul_scalar(vec_f32 x, vec_f32 value) { return x * value; }
static vec_f32 unary_relu(vec_f32 x, vec_f32 value) { return hfb_vec_max(hfb_vec_zero(), x); } /* nan passes */
static vec_f32 unary_sigmoid(vec_f32 x, vec_f32 value) { return one() / (one() + hfb_vec_exp(-x)); }
static vec_f32 unary_silu(vec_f32 x, vec_f32 value) { return x / (one() + hfb_vec_exp(-x)); }
static vec_f32 unary_gelu(vec_f32 x, vec_f32 value) {
  vec_f32 half = hfb_vec_set1(0.5f) * x;
  return hfb_vec_fma(half, hfb_vec_erf(x * hfb_vec_set1(0x1.6a09e6p-1f)), half);
}
/* 0.5 x (1 + tanh(u)) with u = sqrt(2/pi) (x + 0.044715 x^3) is x sigmoid(2u): no cancellation, no tanh. */
static vec_f32 unary_gelu_tanh(vec_f32 x, vec_f32 value) {
  vec_f32 cubic = hfb_vec_fma(hfb_vec_set1(0.044715f) * x, x * x, x);
  return x / (one() + hfb_vec_exp(hfb_vec_set1(-2 * 0x1.988454p-1f) * cubic));
}
static vec_f32 unary_quick_gelu(vec_f32 x, vec_f32 value) {
  return x / (one() + hfb_vec_exp(hfb_vec_set1(-1.702f) * x));
}

/* Inlined with a constant function, so that the loop holds the code of the function itself. */
static inline __attribute__((always_inline)) void map_unary(unary_fn function, const float *x, float *y, int64_t count,
                                                            float scalar) {
  vec_f32 value = hfb_vec_set1(scalar);
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= count; i += VEC_F32_LANES) hfb_vec_store(y + i, function(hfb_vec_load(x + i), value));
  if (i < count) hfb_vec_store_partial(y + i, function(hfb_vec_load_partial(x + i, count - i), value), count - i);
}

typedef struct unary_job {
  hfb_op op;
  float value;
} unary_job;

static void unary_contiguous(const unary_job *job, const float *x, float *y, int64_t count) {
  float value = job->value;
  switch (job->op) {
    case HFB_OP_NEG: map_unary(unary_neg, x, y, count, value); break;
    case HFB_OP_ABS: map_unary(unary_abs, x, y, count, value); break;
    case HFB_OP_EXP: map_unary(unary_exp, x, y, count, value); break;
    case HFB_OP_LOG: map_unary(unary_log, x, y, count, value); break;
    case HFB_OP_SQRT: map_unary(unary_sqrt, x, y, count, value); break;
    case HFB_OP_RSQRT: map_unary(unary_rsqrt, x, y, count, value); break;
    case HFB_OP_SIN: map_unary(unary_sin, x, y, count, value); break;
    case HFB_OP_COS: map_unary(unary_cos, x, y, count, value); break;
    case HFB_OP_TANH: map_unary(unary_tanh, x, y, count, value); break;
    case HFB_OP_ERF: map_unary(unary_erf, x, y, count, value); break;
    case HFB_OP_ADD_SCALAR: map_unary(unary_add_scalar, x, y, count, value); break;
    case HFB_OP_MUL_SCALAR: map_unary(unary_mul_scalar, x, y, count, value); break;
    case HFB_OP_RELU: map_unary(unary_relu, x, y, count, value); break;
    case HFB_OP_SIGMOID: map_unary(unary_sigmoid, x, y, count, value); break;
    case HFB_OP_SILU: map_unary(unary_silu, x, y, count, value); break;
    case HFB_OP_GELU: map_unary(unary_gelu, x, y, count, value); break;
    case HFB_OP_GELU_TANH: map_unary(unary_gelu_tanh, x, y, count, value); break;
    case HFB_OP_QUICK_GELU: map_unary(unary_quick_gelu, x, y, count, value); break;
    default: break;
  }
}

/* Other strides go through a block that stays in the first cache. */
static void unary_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  float *y = (float *)data[0];
  if (stride[1] == sizeof(float)) {
    unary_contiguous(context, (const float *)data[1], y, count);
    return;
  }
  float block[UNARY_BLOCK];
  for (int64_t begin = 0; begin < count; begin += UNARY_BLOCK) {
    int64_t length = count - begin < UNARY_BLOCK ? count - begin : UNARY_BLOCK;
    const char *x = data[1] + begin * stride[1];
    for (int64_t i = 0; i < length; i++) block[i] = *(const float *)(x + i * stride[1]);
    unary_contiguous(context, block, y + begin, length);
  }
}

hfb_status HFB_K(hfb_k_f32_unary)(const hfb_kernel_call *call) {
  const hfb_attr *value = hfb_node_attr(call->node, HFB_ATTR_VALUE);
  unary_job job = {call->node->op, value ? (float)value->u.f : 0};
  hfb_strided walk = hfb_strided_make(&call->results[0].shape, 2,
                                      (const hfb_tensor *const[]){&call->results[0], &call->inputs[0]});
  hfb_strided_run(&walk, UNARY_GRAIN, call->pool, unary_row, &job);
  return HFB_OK;
}
