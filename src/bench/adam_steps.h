/* Which entries of the updated parameters can be compared after steps of Adam, and how far the others may be apart.
 *
 * A first step is about lr * g / (|g| + 1e-8): of the length lr whatever the size of g. Where g is 0 but for rounding
 * (the bias of attention's keys, to which a softmax is blind), rounding decides the direction. Which entries these are
 * is read off the float64 gradients: those below the resolution that the precision has at the largest entry of all. */
#ifndef HFB_BENCH_ADAM_STEPS_H
#define HFB_BENCH_ADAM_STEPS_H

#include "bench/compare.h"
#include "bench/outcome.h"

typedef struct hfb_adam_steps {
  double resolution;       /* of a gradient; 0: other optimizers than Adam, whose steps are proportional to gradients */
  double largest_distance; /* between the parameters of two runs that start alike */
} hfb_adam_steps;

/* `reference` has run the job's steps in float64. */
hfb_status hfb_adam_steps_find(const hfb_job *job, const hfb_outcome *outcome, const hfb_side *reference,
                               hfb_pool *pool, hfb_adam_steps *out_steps) HFB_MUST_USE;

/* False: all entries of the item are to be compared. Borrows the gradients of both sides. */
bool hfb_adam_steps_undetermined(const hfb_adam_steps *steps, const hfb_side *reference, const hfb_side *eager,
                                 const hfb_outcome_item *item, hfb_undetermined *out_undetermined);

/* The most that `count` steps of Adam with learning rate 1 move a parameter, whatever its gradients are. */
double hfb_adam_steps_reach(double beta1, double beta2, int count);

#endif
