/* For the rules of rules_*.c: what they share, and each of them by its name in column `gradient`. A rule is called
 * while the builder has no error; what it builds may fail, and then is NULL, which the builder's functions take. */
#ifndef HFB_GRAD_GRADIENT_RULES_H
#define HFB_GRAD_GRADIENT_RULES_H

#include "grad/rules.h"

#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, gradient, expression, \
               tolerance)                                                                                         \
  void hfb_gradient_##gradient(const hfb_gradient *g);
#include "ir/ops.def"
#undef HFB_OP

/* Sums `gradient` over the axes along which a value of `shape` was broadcast; itself when there are none. */
hfb_value *hfb_grad_sum_to(hfb_builder *b, hfb_value *gradient, const hfb_shape *shape);

/* The same elements in `shape`; x itself when it has that shape. */
hfb_value *hfb_grad_reshape(hfb_builder *b, hfb_value *x, const hfb_shape *shape);

/* A scalar 0, which broadcasts. */
hfb_value *hfb_grad_zero(const hfb_gradient *g);

#endif
