/* Gradient rules of elementwise ops. Where PyTorch chooses a value at a kink, so do we: 0 for abs and relu at 0, half
 * to each side of a tie of maximum or minimum. */
#include <math.h>

#include "grad/gradient_rules.h"

/* ---- one input ---- */

void hfb_gradient_neg(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_unary(g->b, HFB_OP_NEG, g->gradients[0]);
}

void hfb_gradient_abs(const hfb_gradient *g) {
  hfb_builder *b = g->b;
  hfb_value *zero = hfb_grad_zero(g);
  hfb_value *is_positive = hfb_binary(b, HFB_OP_LT, zero, g->in[0]);
  hfb_value *is_negative = hfb_binary(b, HFB_OP_LT, g->in[0], zero);
  hfb_value *negated = hfb_unary(b, HFB_OP_NEG, g->gradients[0]);
  hfb_value *otherwise = hfb_where(b, is_negative, negated, zero);
  g->in_gradients[0] = hfb_where(b, is_positive, g->gradients[0], otherwise);
}

void hfb_gradient_exp(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_mul(g->b, g->gradients[0], g->out[0]);
}

void hfb_gradient_log(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_div(g->b, g->gradients[0], g->in[0]);
}

void hfb_gradient_sqrt(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_div(g->b, g->gradients[0], hfb_mul_scalar(g->b, g->out[0], 2));
}

/* -1/2 y^3 */
void hfb_gradient_rsqrt(const hfb_gradient *g) {
  hfb_value *y = g->out[0];
  hfb_value *cube = hfb_mul(g->b, hfb_mul(g->b, y, y), y);
  g->in_gradients[0] = hfb_mul(g->b, hfb_mul_scalar(g->b, g->gradients[0], -0.5), cube);
}

void hfb_gradient_sin(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_mul(g->b, g->gradients[0], hfb_unary(g->b, HFB_OP_COS, g->in[0]));
}

void hfb_gradient_cos(const hfb_gradient *g) {
  hfb_value *slope = hfb_unary(g->b, HFB_OP_NEG, hfb_unary(g->b, HFB_OP_SIN, g->in[0]));
  g->in_gradients[0] = hfb_mul(g->b, g->gradients[0], slope);
}

void hfb_gradient_tanh(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_binary(g->b, HFB_OP_TANH_BACKWARD, g->gradients[0], g->out[0]);
}

/* 2/sqrt(pi) exp(-x^2) */
void hfb_gradient_erf(const hfb_gradient *g) {
  hfb_value *square = hfb_mul(g->b, g->in[0], g->in[0]);
  hfb_value *bell = hfb_unary(g->b, HFB_OP_EXP, hfb_unary(g->b, HFB_OP_NEG, square));
  g->in_gradients[0] = hfb_mul(g->b, hfb_mul_scalar(g->b, g->gradients[0], M_2_SQRTPI), bell);
}

void hfb_gradient_cast(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_cast(g->b, g->gradients[0], g->in[0]->dtype);
}

void hfb_gradient_add_scalar(const hfb_gradient *g) {
  g->in_gradients[0] = g->gradients[0];
}

void hfb_gradient_mul_scalar(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_mul_scalar(g->b, g->gradients[0], hfb_node_float(g->node, HFB_ATTR_VALUE));
}

/* The result is positive exactly where the input is. It is what the next op needs too, so that the input need not be
 * kept (as in PyTorch). */
void hfb_gradient_relu(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_binary(g->b, HFB_OP_RELU_BACKWARD, g->gradients[0], g->out[0]);
}

void hfb_gradient_sigmoid(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_binary(g->b, HFB_OP_SIGMOID_BACKWARD, g->gradients[0], g->out[0]);
}

void hfb_gradient_silu(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_binary(g->b, HFB_OP_SILU_BACKWARD, g->gradients[0], g->in[0]);
}

void hfb_gradient_gelu(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_binary(g->b, HFB_OP_GELU_BACKWARD, g->gradients[0], g->in[0]);
}

void hfb_gradient_gelu_tanh(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_binary(g->b, HFB_OP_GELU_TANH_BACKWARD, g->gradients[0], g->in[0]);
}

void hfb_gradient_quick_gelu(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_binary(g->b, HFB_OP_QUICK_GELU_BACKWARD, g->gradients[0], g->in[0]);
}

/* The same mask again, drawn at the same site: y = x m / (1 - p) is linear in x. */
void hfb_gradient_dropout(const hfb_gradient *g) {
  hfb_attr attrs[] = {*hfb_node_attr(g->node, HFB_ATTR_P), *hfb_node_attr(g->node, HFB_ATTR_SITE)};
  g->in_gradients[0] = hfb_build(g->b, HFB_OP_DROPOUT, 2, (hfb_value *[]){g->gradients[0], g->in[1]}, 2, attrs);
}

/* ---- two or three inputs: summed over the axes along which an input was broadcast ---- */

static void give(const hfb_gradient *g, int input, hfb_value *gradient) {
  g->in_gradients[input] = hfb_grad_sum_to(g->b, gradient, &g->in[input]->shape);
}

void hfb_gradient_add(const hfb_gradient *g) {
  for (int i = 0; i < 2; i++) {
    if (g->wanted[i]) give(g, i, g->gradients[0]);
  }
}

/* Summed first, so that the sign changes on the smaller tensor. */
void hfb_gradient_sub(const hfb_gradient *g) {
  if (g->wanted[0]) give(g, 0, g->gradients[0]);
  if (!g->wanted[1]) return;
  hfb_value *sum = hfb_grad_sum_to(g->b, g->gradients[0], &g->in[1]->shape);
  g->in_gradients[1] = hfb_unary(g->b, HFB_OP_NEG, sum);
}

void hfb_gradient_mul(const hfb_gradient *g) {
  for (int i = 0; i < 2; i++) {
    if (g->wanted[i]) give(g, i, hfb_mul(g->b, g->gradients[0], g->in[1 - i]));
  }
}

/* y = a / c: 1/c for a, -y/c for c. */
void hfb_gradient_div(const hfb_gradient *g) {
  hfb_value *quotient = hfb_div(g->b, g->gradients[0], g->in[1]);
  if (g->wanted[0]) give(g, 0, quotient);
  if (!g->wanted[1]) return;
  hfb_value *sum = hfb_grad_sum_to(g->b, hfb_mul(g->b, quotient, g->out[0]), &g->in[1]->shape);
  g->in_gradients[1] = hfb_unary(g->b, HFB_OP_NEG, sum);
}

/* maximum, minimum: nothing to the side that loses, half to each side of a tie. */
void hfb_gradient_extremum(const hfb_gradient *g) {
  hfb_builder *b = g->b;
  bool is_max = g->node->op == HFB_OP_MAXIMUM;
  hfb_value *tie = hfb_binary(b, HFB_OP_EQ, g->in[0], g->in[1]);
  hfb_value *half = hfb_mul_scalar(b, g->gradients[0], 0.5), *zero = hfb_grad_zero(g);
  for (int i = 0; i < 2; i++) {
    if (!g->wanted[i]) continue;
    hfb_value *own = g->in[i], *other = g->in[1 - i];
    hfb_value *loses = hfb_binary(b, HFB_OP_LT, is_max ? own : other, is_max ? other : own);
    hfb_value *alone = hfb_where(b, loses, zero, g->gradients[0]);
    give(g, i, hfb_where(b, tie, half, alone));
  }
}

void hfb_gradient_where(const hfb_gradient *g) {
  hfb_value *zero = hfb_grad_zero(g);
  if (g->wanted[1]) give(g, 1, hfb_where(g->b, g->in[0], g->gradients[0], zero));
  if (g->wanted[2]) give(g, 2, hfb_where(g->b, g->in[0], zero, g->gradients[0]));
}
