/* Gradient rules of reductions over axes. */
#include "grad/gradient_rules.h"

/* The shape of the input with its reduced axes of size 1, in which a result broadcasts against it. */
static hfb_shape kept_shape(const hfb_gradient *g) {
  hfb_shape shape = g->in[0]->shape;
  int count;
  const int64_t *axes = hfb_node_ints(g->node, HFB_ATTR_AXES, &count);
  for (int i = 0; i < count; i++) shape.dim[axes[i]] = 1;
  return shape;
}

static hfb_value *spread(const hfb_gradient *g, hfb_value *gradient) {
  hfb_shape kept = kept_shape(g);
  const hfb_shape *shape = &g->in[0]->shape;
  hfb_value *rows = hfb_grad_reshape(g->b, gradient, &kept);
  return hfb_shape_equal(&kept, shape) ? rows : hfb_expand(g->b, rows, shape->rank, shape->dim);
}

void hfb_gradient_reduce_sum(const hfb_gradient *g) {
  g->in_gradients[0] = spread(g, g->gradients[0]);
}

void hfb_gradient_reduce_mean(const hfb_gradient *g) {
  hfb_shape kept = kept_shape(g);
  int64_t elements = hfb_shape_elements(&g->in[0]->shape), results = hfb_shape_elements(&kept);
  double share = elements > 0 ? (double)results / (double)elements : 0; /* without elements there is nothing to share */
  g->in_gradients[0] = spread(g, hfb_mul_scalar(g->b, g->gradients[0], share));
}

/* The largest elements share evenly (PyTorch's amax). */
void hfb_gradient_reduce_max(const hfb_gradient *g) {
  hfb_builder *b = g->b;
  hfb_shape kept = kept_shape(g);
  hfb_value *largest = hfb_grad_reshape(b, g->out[0], &kept);
  hfb_value *is_largest = hfb_binary(b, HFB_OP_EQ, g->in[0], largest);
  hfb_value *ties = hfb_grad_sum_to(b, hfb_cast(b, is_largest, g->in[0]->dtype), &kept);
  hfb_value *share = hfb_div(b, hfb_grad_reshape(b, g->gradients[0], &kept), ties);
  g->in_gradients[0] = hfb_where(b, is_largest, share, hfb_grad_zero(g));
}

/* Sums from the element to the end of the axis: the total, less what comes before. */
void hfb_gradient_cumsum(const hfb_gradient *g) {
  hfb_builder *b = g->b;
  int axis = (int)hfb_node_int(g->node, HFB_ATTR_AXIS);
  hfb_value *total = hfb_reduce(b, HFB_OP_REDUCE_SUM, g->gradients[0], 1, &axis, true);
  hfb_value *after = hfb_sub(b, total, hfb_cumsum(b, g->gradients[0], axis));
  g->in_gradients[0] = hfb_add(b, after, g->gradients[0]);
}
