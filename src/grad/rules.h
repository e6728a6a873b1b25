/* What a gradient rule gets and gives. Private to grad/, and for tests. */
#ifndef HFB_GRAD_RULES_H
#define HFB_GRAD_RULES_H

#include "ir/builder.h"

/* The node to differentiate. A rule sets in_gradients[i], of the type of in[i], for every input with wanted[i]; it may
 * set others, which are ignored; NULL stands for "no gradient". gradients[r] is NULL when nothing depends on result r
 * (never for all). Inputs and results may stand for recomputed copies: use in[] and out[], not node->inputs. */
typedef struct hfb_gradient {
  hfb_builder *b;
  const hfb_node *node; /* op and attributes */
  hfb_value *const *in;
  hfb_value *const *out;       /* results */
  hfb_value *const *gradients; /* of the results */
  const bool *wanted;          /* by input */
  hfb_value **in_gradients;    /* by input; all NULL at first */
} hfb_gradient;

typedef void (*hfb_gradient_rule)(const hfb_gradient *g);

/* NULL: the op has none (`none` in ops.def). */
hfb_gradient_rule hfb_gradient_rule_of(hfb_op op);

#endif
