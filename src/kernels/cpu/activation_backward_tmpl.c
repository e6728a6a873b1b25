/* Gradients of activations: elementwise float kernels of the gradient g and of x or y, as the op says. Included by
 * <isa>/activation_backward.c after its vec.h, with HFB_K(name) adding the suffix of the instruction set. */
#include "kernels/kernel_impl.h"

enum { BACKWARD_GRAIN = 16 << 10, BACKWARD_BLOCK = 256 };

typedef vec_f32 (*backward_fn)(vec_f32 g, vec_f32 x);

static vec_f32 one(void) { return hfb_vec_set1(1.0f); }

/* x within [-bound, bound]; nan stays. */
static vec_f32 clamp(vec_f32 x, float bound) {
  return hfb_vec_min(hfb_vec_set1(bound), hfb_vec_max(hfb_vec_set1(-bound), x));
}

/* s(z) (1 + u (1 - s(z))) for the sigmoid s: the derivative of x s(z) where u = x z'. Both s and 1 - s keep their
 * relative accuracy; exp(-z) must be finite. */
static vec_f32 gate_slope(vec_f32 z, vec_f32 u) {
  vec_f32 e = hfb_vec_exp(-z), s = one() / (one() + e);
  return s * hfb_vec_fma(u, e * s, one());
}

/* The gradient passes where x is nan, as in PyTorch. */
static vec_f32 backward_relu(vec_f32 g, vec_f32 x) {
  return hfb_vec_select(hfb_vec_le(x, hfb_vec_zero()), hfb_vec_zero(), g);
}
static vec_f32 backward_sigmoid(vec_f32 g, vec_f32 y) { return g * ((one() - y) * y); }
static vec_f32 backward_tanh(vec_f32 g, vec_f32 y) { return g * hfb_vec_fnma(y, y, one()); }
/* Of x s(x). Beyond the bounds of x, here and below, the derivative is 0 or 1. */
static vec_f32 backward_silu(vec_f32 g, vec_f32 x) {
  x = clamp(x, 87.0f);
  return g * gate_slope(x, x);
}
/* x times the normal distribution: the distribution + x times its density. */
static vec_f32 backward_gelu(vec_f32 g, vec_f32 x) {
  const vec_f32 half = hfb_vec_set1(0.5f);
  vec_f32 distribution = hfb_vec_fma(half, hfb_vec_erf(x * hfb_vec_set1(0x1.6a09e6p-1f)), half);
  vec_f32 density = hfb_vec_set1(0x1.988454p-2f) * hfb_vec_exp(-half * x * x); /* 1 / sqrt(2 pi) */
  return g * hfb_vec_fma(x, density, distribution);
}
/* As forward, x s(2u) with u = sqrt(2/pi) (x + 0.044715 x^3). */
static vec_f32 backward_gelu_tanh(vec_f32 g, vec_f32 x) {
  const vec_f32 twice = hfb_vec_set1(2 * 0x1.988454p-1f);
  x = clamp(x, 9.9f);
  vec_f32 scaled = twice * x, square = x * x;
  vec_f32 z = scaled * hfb_vec_fma(hfb_vec_set1(0.044715f), square, one());
  return g * gate_slope(z, scaled * hfb_vec_fma(hfb_vec_set1(3 * 0.044715f), square, one()));
}
static vec_f32 backward_quick_gelu(vec_f32 g, vec_f32 x) {
  vec_f32 z = clamp(hfb_vec_set1(1.702f) * x, 87.0f);
  return g * gate_slope(z, z);
}

/* Inlined with a constant function, so that the loop holds the code of the function itself. */
static inline __attribute__((always_inline)) void map_backward(backward_fn function, const float *g, const float *x,
                                                               float *out, int64_t count) {
  int64_t i = 0;
  for (; i + VEC_F32_LANES <= count; i += VEC_F32_LANES) {
    hfb_vec_store(out + i, function(hfb_vec_load(g + i), hfb_vec_load(x + i)));
  }
  int64_t rest = count - i;
  if (rest == 0) return;
  vec_f32 last = function(hfb_vec_load_partial(g + i, rest), hfb_vec_load_partial(x + i, rest));
  hfb_vec_store_partial(out + i, last, rest);
}

static void backward_elements(hfb_op op, const float *g, const float *x, float *out, int64_t count) {
  switch (op) {
    case HFB_OP_RELU_BACKWARD: map_backward(backward_relu, g, x, out, count); break;
    case HFB_OP_SIGMOID_BACKWARD: map_backward(backward_sigmoid, g, x, out, count); break;
    case HFB_OP_TANH_BACKWARD: map_backward(backward_tanh, g, x, out, count); break;
    case HFB_OP_SILU_BACKWARD: map_backward(backward_silu, g, x, out, count); break;
    case HFB_OP_GELU_BACKWARD: map_backward(backward_gelu, g, x, out, count); break;
    case HFB_OP_GELU_TANH_BACKWARD: map_backward(backward_gelu_tanh, g, x, out, count); break;
    case HFB_OP_QUICK_GELU_BACKWARD: map_backward(backward_quick_gelu, g, x, out, count); break;
    default: break;
  }
}

/* `count` elements from `data` on; strides other than 4 are gathered into `block`. */
static const float *elements_of(const char *data, int64_t stride, int64_t count, float *block) {
  if (stride == sizeof(float)) return (const float *)data;
  for (int64_t i = 0; i < count; i++) block[i] = *(const float *)(data + i * stride);
  return block;
}

static void backward_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  const hfb_op *op = context;
  float *out = (float *)data[0], g_block[BACKWARD_BLOCK], x_block[BACKWARD_BLOCK];
  bool is_contiguous = stride[1] == sizeof(float) && stride[2] == sizeof(float);
  int64_t step = is_contiguous ? count : BACKWARD_BLOCK;
  for (int64_t begin = 0; begin < count; begin += step) {
    int64_t length = count - begin < step ? count - begin : step;
    const float *g = elements_of(data[1] + begin * stride[1], stride[1], length, g_block);
    const float *x = elements_of(data[2] + begin * stride[2], stride[2], length, x_block);
    backward_elements(*op, g, x, out + begin, length);
  }
}

hfb_status HFB_K(hfb_k_f32_activation_backward)(const hfb_kernel_call *call) {
  hfb_op op = call->node->op;
  hfb_strided walk =
      hfb_strided_make(&call->results[0].shape, 3,
                       (const hfb_tensor *const[]){&call->results[0], &call->inputs[0], &call->inputs[1]});
  hfb_strided_run(&walk, BACKWARD_GRAIN, call->pool, backward_row, &op);
  return HFB_OK;
}
