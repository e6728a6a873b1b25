/* The loss of a training step: a number, or the reason why it is none. */
#ifndef HFB_BENCH_LOSS_H
#define HFB_BENCH_LOSS_H

#include "bench/job.h"

/* The loss of the side's last run. */
double hfb_side_loss(const hfb_side *side);

/* Call after every run of a training step. HFB_MISMATCH when the loss is NaN or infinite: the message has the number of
 * the step, and the first op that gave such a value although its inputs had none. To find it, eager repeats all steps
 * of the side op by op, from the parameters that the job draws; `work` is the graph and the inputs of the side. */
hfb_status hfb_loss_check(const hfb_job *job, const hfb_workload *work, const hfb_side *side) HFB_MUST_USE;

#endif
