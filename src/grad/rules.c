/* The table of gradient rules, and what the rules share. */
#include "grad/gradient_rules.h"

void hfb_gradient_none(const hfb_gradient *g) {
  hfb_builder_fail(g->b, HFB_INTERNAL, "%s has no gradient", hfb_op_info_of(g->node->op)->name);
}

static const hfb_gradient_rule rules[HFB_OP_COUNT] = {
#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, gradient, expression, \
               tolerance)                                                                                         \
  [HFB_OP_##id] = hfb_gradient_##gradient,
#include "ir/ops.def"
#undef HFB_OP
};

hfb_gradient_rule hfb_gradient_rule_of(hfb_op op) {
  return rules[op] == hfb_gradient_none ? NULL : rules[op];
}

hfb_value *hfb_grad_reshape(hfb_builder *b, hfb_value *x, const hfb_shape *shape) {
  return x && !hfb_shape_equal(&x->shape, shape) ? hfb_reshape(b, x, shape->rank, shape->dim) : x;
}

hfb_value *hfb_grad_sum_to(hfb_builder *b, hfb_value *gradient, const hfb_shape *shape) {
  if (!gradient || hfb_shape_equal(&gradient->shape, shape)) return gradient;
  int lead = gradient->shape.rank - shape->rank, axes[HFB_MAX_RANK], count = 0;
  for (int i = 0; i < gradient->shape.rank; i++) {
    if (gradient->shape.dim[i] != (i < lead ? 1 : shape->dim[i - lead])) axes[count++] = i;
  }
  if (count == 0) return hfb_grad_reshape(b, gradient, shape); /* new dimensions of size 1 */
  /* Without new leading dimensions, the reduced ones are exactly those of size 1. */
  return hfb_grad_reshape(b, hfb_reduce(b, HFB_OP_REDUCE_SUM, gradient, count, axes, lead == 0), shape);
}

hfb_value *hfb_grad_zero(const hfb_gradient *g) {
  return hfb_scalar(g->b, g->out[0]->dtype, 0);
}
