#include "support/grad_wrong.h"

#include "grad/rules.h"

hfb_gradient_rule __real_hfb_gradient_rule_of(hfb_op op);
hfb_gradient_rule __wrap_hfb_gradient_rule_of(hfb_op op);

static void wrong_rule(const hfb_gradient *g) {
  __real_hfb_gradient_rule_of(g->node->op)(g);
  for (int i = 0; i < g->node->input_count; i++) {
    if (g->in_gradients[i]) g->in_gradients[i] = hfb_mul_scalar(g->b, g->in_gradients[i], HFB_TEST_WRONG_FACTOR);
  }
}

hfb_gradient_rule __wrap_hfb_gradient_rule_of(hfb_op op) {
  return op == HFB_TEST_WRONG_OP ? wrong_rule : __real_hfb_gradient_rule_of(op);
}
