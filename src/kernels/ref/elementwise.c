/* Elementwise reference kernels. Every element is computed in double (float dtypes) or int64 (integers, bool) and
 * rounded once to the dtype of the result, so one scalar function serves all dtypes. */
#include <math.h>
#include <string.h>

#include "device/convert.h"
#include "kernels/kernel_impl.h"

enum { BLOCK = 256, GRAIN = 16 << 10 };

static double f64_neg(double x, double value) { return -x; }
static double f64_abs(double x, double value) { return fabs(x); }
static double f64_exp(double x, double value) { return exp(x); }
static double f64_log(double x, double value) { return log(x); }
static double f64_sqrt(double x, double value) { return sqrt(x); }
static double f64_rsqrt(double x, double value) { return 1 / sqrt(x); }
static double f64_sin(double x, double value) { return sin(x); }
static double f64_cos(double x, double value) { return cos(x); }
static double f64_tanh(double x, double value) { return tanh(x); }
static double f64_erf(double x, double value) { return erf(x); }
static double f64_add_scalar(double x, double value) { return x + value; }
static double f64_mul_scalar(double x, double value) { return x * value; }
static double f64_relu(double x, double value) { return x < 0 ? 0 : x; } /* nan stays */
static double f64_sigmoid(double x, double value) { return 1 / (1 + exp(-x)); }
static double f64_silu(double x, double value) { return x / (1 + exp(-x)); }
static double f64_gelu(double x, double value) { return 0.5 * x * (1 + erf(x * M_SQRT1_2)); }
static double f64_gelu_tanh(double x, double value) {
  return 0.5 * x * (1 + tanh(M_SQRT2 * 0.5 * M_2_SQRTPI * (x + 0.044715 * x * x * x))); /* sqrt(2/pi) */
}
static double f64_quick_gelu(double x, double value) { return x / (1 + exp(-1.702 * x)); }

/* Integers wrap, as they do in the frameworks. */
static int64_t i64_neg(int64_t x, int64_t value) { return (int64_t)(0 - (uint64_t)x); }
static int64_t i64_abs(int64_t x, int64_t value) { return x < 0 ? i64_neg(x, 0) : x; }
static int64_t i64_add_scalar(int64_t x, int64_t value) { return (int64_t)((uint64_t)x + (uint64_t)value); }
static int64_t i64_mul_scalar(int64_t x, int64_t value) { return (int64_t)((uint64_t)x * (uint64_t)value); }
static int64_t i64_relu(int64_t x, int64_t value) { return x < 0 ? 0 : x; }
static int64_t i64_not(int64_t x, int64_t value) { return !x; }

typedef struct unary_functions {
  double (*f64)(double x, double value);
  int64_t (*i64)(int64_t x, int64_t value);
} unary_functions;

static const unary_functions unary_table[HFB_OP_COUNT] = {
    [HFB_OP_NEG] = {f64_neg, i64_neg},
    [HFB_OP_ABS] = {f64_abs, i64_abs},
    [HFB_OP_EXP] = {f64_exp, NULL},
    [HFB_OP_LOG] = {f64_log, NULL},
    [HFB_OP_SQRT] = {f64_sqrt, NULL},
    [HFB_OP_RSQRT] = {f64_rsqrt, NULL},
    [HFB_OP_SIN] = {f64_sin, NULL},
    [HFB_OP_COS] = {f64_cos, NULL},
    [HFB_OP_TANH] = {f64_tanh, NULL},
    [HFB_OP_ERF] = {f64_erf, NULL},
    [HFB_OP_NOT] = {NULL, i64_not},
    [HFB_OP_ADD_SCALAR] = {f64_add_scalar, i64_add_scalar},
    [HFB_OP_MUL_SCALAR] = {f64_mul_scalar, i64_mul_scalar},
    [HFB_OP_RELU] = {f64_relu, i64_relu},
    [HFB_OP_SIGMOID] = {f64_sigmoid, NULL},
    [HFB_OP_SILU] = {f64_silu, NULL},
    [HFB_OP_GELU] = {f64_gelu, NULL},
    [HFB_OP_GELU_TANH] = {f64_gelu_tanh, NULL},
    [HFB_OP_QUICK_GELU] = {f64_quick_gelu, NULL},
};

static double f64_add(double x, double y) { return x + y; }
static double f64_sub(double x, double y) { return x - y; }
static double f64_mul(double x, double y) { return x * y; }
static double f64_div(double x, double y) { return x / y; }
static double f64_maximum(double x, double y) { return x > y || isnan(x) ? x : y; } /* nan if either is */
static double f64_minimum(double x, double y) { return x < y || isnan(x) ? x : y; }
static double f64_eq(double x, double y) { return x == y; }
static double f64_ne(double x, double y) { return x != y; }
static double f64_lt(double x, double y) { return x < y; }
static double f64_le(double x, double y) { return x <= y; }

/* Backward ops: the gradient of the result, and the x or y of the forward op. */
static double f64_relu_backward(double g, double x) { return x <= 0 ? 0 : g; } /* g where x is nan */
static double f64_sigmoid_backward(double g, double y) { return g * (1 - y) * y; }
static double f64_tanh_backward(double g, double y) { return g * (1 - y * y); }
static double f64_silu_backward(double g, double x) {
  double s = 1 / (1 + exp(-x));
  return g * s * (1 + x * (1 - s));
}
static double f64_gelu_backward(double g, double x) {
  double distribution = 0.5 * (1 + erf(x * M_SQRT1_2)), density = exp(-0.5 * x * x) * M_2_SQRTPI * M_SQRT1_2 * 0.5;
  return g * (distribution + x * density);
}
static double f64_gelu_tanh_backward(double g, double x) {
  double beta = M_SQRT2 * M_2_SQRTPI * 0.5, kappa = 0.044715;
  double t = tanh(beta * (x + kappa * x * x * x));
  return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * beta * (1 + 3 * kappa * x * x));
}
static double f64_quick_gelu_backward(double g, double x) {
  double s = 1 / (1 + exp(-1.702 * x));
  return g * s * (1 + 1.702 * x * (1 - s));
}

static int64_t i64_add(int64_t x, int64_t y) { return (int64_t)((uint64_t)x + (uint64_t)y); }
static int64_t i64_sub(int64_t x, int64_t y) { return (int64_t)((uint64_t)x - (uint64_t)y); }
static int64_t i64_mul(int64_t x, int64_t y) { return (int64_t)((uint64_t)x * (uint64_t)y); }
static int64_t i64_maximum(int64_t x, int64_t y) { return x > y ? x : y; }
static int64_t i64_minimum(int64_t x, int64_t y) { return x < y ? x : y; }
static int64_t i64_eq(int64_t x, int64_t y) { return x == y; }
static int64_t i64_ne(int64_t x, int64_t y) { return x != y; }
static int64_t i64_lt(int64_t x, int64_t y) { return x < y; }
static int64_t i64_le(int64_t x, int64_t y) { return x <= y; }
static int64_t i64_and(int64_t x, int64_t y) { return x & y; }
static int64_t i64_or(int64_t x, int64_t y) { return x | y; }

typedef struct binary_functions {
  double (*f64)(double x, double y);
  int64_t (*i64)(int64_t x, int64_t y);
} binary_functions;

static const binary_functions binary_table[HFB_OP_COUNT] = {
    [HFB_OP_ADD] = {f64_add, i64_add},
    [HFB_OP_SUB] = {f64_sub, i64_sub},
    [HFB_OP_MUL] = {f64_mul, i64_mul},
    [HFB_OP_DIV] = {f64_div, NULL},
    [HFB_OP_MAXIMUM] = {f64_maximum, i64_maximum},
    [HFB_OP_MINIMUM] = {f64_minimum, i64_minimum},
    [HFB_OP_EQ] = {f64_eq, i64_eq},
    [HFB_OP_NE] = {f64_ne, i64_ne},
    [HFB_OP_LT] = {f64_lt, i64_lt},
    [HFB_OP_LE] = {f64_le, i64_le},
    [HFB_OP_AND] = {NULL, i64_and},
    [HFB_OP_OR] = {NULL, i64_or},
    [HFB_OP_RELU_BACKWARD] = {f64_relu_backward, NULL},
    [HFB_OP_SIGMOID_BACKWARD] = {f64_sigmoid_backward, NULL},
    [HFB_OP_TANH_BACKWARD] = {f64_tanh_backward, NULL},
    [HFB_OP_SILU_BACKWARD] = {f64_silu_backward, NULL},
    [HFB_OP_GELU_BACKWARD] = {f64_gelu_backward, NULL},
    [HFB_OP_GELU_TANH_BACKWARD] = {f64_gelu_tanh_backward, NULL},
    [HFB_OP_QUICK_GELU_BACKWARD] = {f64_quick_gelu_backward, NULL},
};

typedef struct elementwise_job {
  hfb_dtype in_dtype, out_dtype;
  unary_functions unary;
  binary_functions binary;
  double value;
} elementwise_job;

static void unary_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  const elementwise_job *job = context;
  bool is_float = hfb_dtype_is_float(job->in_dtype);
  hfb_dtype wide = is_float ? HFB_F64 : HFB_I64;
  double f64[BLOCK];
  int64_t i64[BLOCK];
  char *buffer = is_float ? (char *)f64 : (char *)i64;
  for (int64_t begin = 0; begin < count; begin += BLOCK) {
    int64_t block = count - begin < BLOCK ? count - begin : BLOCK;
    hfb_convert_row(job->in_dtype, data[1] + begin * stride[1], stride[1], wide, buffer, 8, block);
    for (int64_t i = 0; i < block && is_float; i++) f64[i] = job->unary.f64(f64[i], job->value);
    for (int64_t i = 0; i < block && !is_float; i++) i64[i] = job->unary.i64(i64[i], (int64_t)job->value);
    hfb_convert_row(wide, buffer, 8, job->out_dtype, data[0] + begin * stride[0], stride[0], block);
  }
}

static void binary_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  const elementwise_job *job = context;
  bool is_float = hfb_dtype_is_float(job->in_dtype);
  hfb_dtype wide = is_float ? HFB_F64 : HFB_I64;
  double f64[2][BLOCK];
  int64_t i64[2][BLOCK];
  char *x = is_float ? (char *)f64[0] : (char *)i64[0], *y = is_float ? (char *)f64[1] : (char *)i64[1];
  for (int64_t begin = 0; begin < count; begin += BLOCK) {
    int64_t block = count - begin < BLOCK ? count - begin : BLOCK;
    hfb_convert_row(job->in_dtype, data[1] + begin * stride[1], stride[1], wide, x, 8, block);
    hfb_convert_row(job->in_dtype, data[2] + begin * stride[2], stride[2], wide, y, 8, block);
    for (int64_t i = 0; i < block && is_float; i++) f64[0][i] = job->binary.f64(f64[0][i], f64[1][i]);
    for (int64_t i = 0; i < block && !is_float; i++) i64[0][i] = job->binary.i64(i64[0][i], i64[1][i]);
    hfb_convert_row(wide, x, 8, job->out_dtype, data[0] + begin * stride[0], stride[0], block);
  }
}

static hfb_status no_such_dtype(const hfb_kernel_call *call) {
  return HFB_FAIL(HFB_UNSUPPORTED, "%s has no kernel for %s", hfb_op_info_of(call->node->op)->name,
                  hfb_dtype_name(call->inputs[0].dtype));
}

hfb_status hfb_k_unary__ref(const hfb_kernel_call *call) {
  const hfb_attr *value = hfb_node_attr(call->node, HFB_ATTR_VALUE);
  elementwise_job job = {.in_dtype = call->inputs[0].dtype,
                         .out_dtype = call->results[0].dtype,
                         .unary = unary_table[call->node->op],
                         .value = value ? value->u.f : 0};
  bool is_float = hfb_dtype_is_float(job.in_dtype);
  if (is_float ? !job.unary.f64 : !job.unary.i64) return no_such_dtype(call);
  hfb_strided walk = hfb_strided_make(&call->results[0].shape, 2,
                                      (const hfb_tensor *const[]){&call->results[0], &call->inputs[0]});
  hfb_strided_run(&walk, GRAIN, call->pool, unary_row, &job);
  return HFB_OK;
}

hfb_status hfb_k_binary__ref(const hfb_kernel_call *call) {
  elementwise_job job = {.in_dtype = call->inputs[0].dtype,
                         .out_dtype = call->results[0].dtype,
                         .binary = binary_table[call->node->op]};
  bool is_float = hfb_dtype_is_float(job.in_dtype);
  if (is_float ? !job.binary.f64 : !job.binary.i64) return no_such_dtype(call);
  hfb_strided walk =
      hfb_strided_make(&call->results[0].shape, 3,
                       (const hfb_tensor *const[]){&call->results[0], &call->inputs[0], &call->inputs[1]});
  hfb_strided_run(&walk, GRAIN, call->pool, binary_row, &job);
  return HFB_OK;
}

static void where_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  const hfb_dtype *dtype = context;
  for (int64_t i = 0; i < count; i++) {
    int chosen = *(const uint8_t *)(data[1] + i * stride[1]) ? 2 : 3;
    memcpy(data[0] + i * stride[0], data[chosen] + i * stride[chosen], hfb_dtype_bytes(*dtype));
  }
}

hfb_status hfb_k_where__ref(const hfb_kernel_call *call) {
  hfb_dtype dtype = call->results[0].dtype;
  hfb_strided walk = hfb_strided_make(
      &call->results[0].shape, 4,
      (const hfb_tensor *const[]){&call->results[0], &call->inputs[0], &call->inputs[1], &call->inputs[2]});
  hfb_strided_run(&walk, GRAIN, call->pool, where_row, &dtype);
  return HFB_OK;
}

hfb_status hfb_k_cast__ref(const hfb_kernel_call *call) {
  return hfb_tensor_copy(&call->inputs[0], &call->results[0], call->pool);
}
