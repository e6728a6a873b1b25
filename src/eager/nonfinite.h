/* Where NaN and infinities come from: options.find_nonfinite. */
#ifndef HFB_EAGER_NONFINITE_H
#define HFB_EAGER_NONFINITE_H

#include "kernels/kernel.h"

/* Before the kernel runs: nan and infinities of its results would be its own, because all float inputs are finite.
 * False for sources, where and movement: what they hold was put there by the model, such as the -inf of a mask. */
bool hfb_nonfinite_may_start_at(const hfb_kernel_call *call);

/* After it: HFB_MISMATCH, "<scope>: <op> gives nan", or inf, when a result is not finite. fallback_scope: of nodes that
 * have none. */
hfb_status hfb_nonfinite_check(const hfb_kernel_call *call, const char *fallback_scope) HFB_MUST_USE;

#endif
