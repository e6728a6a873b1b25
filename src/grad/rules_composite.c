/* Gradient rules of softmax, norms, losses and the Fourier transform: a backward op for each, as in PyTorch. */
#include "grad/gradient_rules.h"

static hfb_value *build_2(const hfb_gradient *g, hfb_op op, hfb_value *x, int attr_count, const hfb_attr *attrs) {
  return hfb_build(g->b, op, 2, (hfb_value *[]){g->gradients[0], x}, attr_count, attrs);
}

void hfb_gradient_softmax(const hfb_gradient *g) {
  g->in_gradients[0] = build_2(g, HFB_OP_SOFTMAX_BACKWARD, g->out[0], 1, hfb_node_attr(g->node, HFB_ATTR_AXIS));
}

void hfb_gradient_log_softmax(const hfb_gradient *g) {
  g->in_gradients[0] = build_2(g, HFB_OP_LOG_SOFTMAX_BACKWARD, g->out[0], 1, hfb_node_attr(g->node, HFB_ATTR_AXIS));
}

/* One op for the gradients of all inputs: its results stand in the order of the inputs. */
static void norm_gradient(const hfb_gradient *g, hfb_op op) {
  hfb_value *inputs[] = {g->gradients[0], g->in[0], g->in[1]};
  hfb_value *first = hfb_build(g->b, op, 3, inputs, 1, hfb_node_attr(g->node, HFB_ATTR_EPS));
  for (int i = 0; first && i < first->node->result_count; i++) g->in_gradients[i] = &first->node->results[i];
}

void hfb_gradient_layer_norm(const hfb_gradient *g) {
  norm_gradient(g, HFB_OP_LAYER_NORM_BACKWARD);
}

void hfb_gradient_rms_norm(const hfb_gradient *g) {
  norm_gradient(g, HFB_OP_RMS_NORM_BACKWARD);
}

void hfb_gradient_instance_norm(const hfb_gradient *g) {
  norm_gradient(g, HFB_OP_INSTANCE_NORM_BACKWARD);
}

void hfb_gradient_ctc_loss(const hfb_gradient *g) {
  hfb_value *inputs[] = {g->gradients[0], g->in[0], g->in[1], g->in[2]};
  hfb_attr attrs[] = {*hfb_node_attr(g->node, HFB_ATTR_BLANK), *hfb_node_attr(g->node, HFB_ATTR_ZERO_INFINITY)};
  g->in_gradients[0] = hfb_build(g->b, HFB_OP_CTC_LOSS_BACKWARD, 4, inputs, 2, attrs);
}

void hfb_gradient_nll_loss(const hfb_gradient *g) {
  const hfb_shape *shape = &g->in[0]->shape;
  hfb_attr attrs[] = {{.key = HFB_ATTR_SHAPE, .u.ints = {shape->rank, shape->dim}},
                      *hfb_node_attr(g->node, HFB_ATTR_IGNORE_INDEX)};
  g->in_gradients[0] = build_2(g, HFB_OP_NLL_LOSS_BACKWARD, g->in[1], 2, attrs);
}

static hfb_value *pair_backward(const hfb_gradient *g, hfb_op op, hfb_value *x, hfb_value *target) {
  return hfb_build(g->b, op, 3, (hfb_value *[]){g->gradients[0], x, target}, 0, NULL);
}

/* The mean of terms that hold -x t: -x / N for the target. */
void hfb_gradient_bce_with_logits(const hfb_gradient *g) {
  hfb_value *x = g->in[0], *target = g->in[1];
  if (g->wanted[0]) g->in_gradients[0] = pair_backward(g, HFB_OP_BCE_WITH_LOGITS_BACKWARD, x, target);
  if (!g->wanted[1]) return;
  int64_t elements = hfb_shape_elements(&x->shape);
  hfb_value *slope = hfb_mul_scalar(g->b, x, elements > 0 ? -1.0 / (double)elements : 0);
  g->in_gradients[1] = hfb_mul(g->b, slope, g->gradients[0]);
}

/* (x - t)^2: the same by both, with x and t exchanged. */
void hfb_gradient_mse_loss(const hfb_gradient *g) {
  for (int i = 0; i < 2; i++) {
    if (g->wanted[i]) g->in_gradients[i] = pair_backward(g, HFB_OP_MSE_LOSS_BACKWARD, g->in[i], g->in[1 - i]);
  }
}

/* A symmetric linear map: cos(2 pi (j m / R + k n / C)) for element (j, k) by (m, n). */
void hfb_gradient_fft2_real(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_fft2_real(g->b, g->gradients[0]);
}
