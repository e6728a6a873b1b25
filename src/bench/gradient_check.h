/* Are the gradients of a training graph those of its loss? Engines that run the same graph agree on a wrong rule; the
 * loss itself does not. */
#ifndef HFB_BENCH_GRADIENT_CHECK_H
#define HFB_BENCH_GRADIENT_CHECK_H

#include "bench/job.h"

typedef struct hfb_gradient_check {
  double by_gradients;   /* change of the loss along a direction, as the gradients have it: the sum of their norms */
  double by_differences; /* the same as a central difference of two losses in float64 */
  double error;          /* relative; 0 when there is no gradient */
} hfb_gradient_check;

/* What float64 leaves is orders of magnitude less. */
#define HFB_GRADIENT_CHECK_TOLERANCE 1e-4

/* `step` has done one step in float64, from the parameters that the job draws, and its graph has the gradients as
 * outputs. The direction: in every parameter along its own gradient, by the same distance, so that large gradients do
 * not hide small ones. `inputs` are those of the step. */
hfb_status hfb_gradient_check_run(const hfb_job *job, const hfb_side *step, const hfb_tensor *inputs,
                                  hfb_gradient_check *out_check) HFB_MUST_USE;

#endif
