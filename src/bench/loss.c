#include "bench/loss.h"

#include <math.h>
#include <stdio.h>

double hfb_side_loss(const hfb_side *side) { return hfb_tensor_get(&side->outputs[0], 0); }

/* Up to `steps` steps of eager that look at every result. A failure is what was looked for, and its message says where;
 * HFB_OK: all was finite. */
static hfb_status repeat_steps(const hfb_job *job, const hfb_workload *work, int64_t steps) {
  const hfb_backend_options options = {.find_nonfinite = true};
  hfb_side side = {0};
  hfb_status status = hfb_side_open_job(&side, hfb_engine_find("eager")->backend(), job, work, &options);
  for (int64_t i = 0; i < steps && status == HFB_OK; i++) {
    hfb_side_drop_outputs(&side);
    status = hfb_side_run(&side, work->inputs);
  }
  hfb_side_close(&side);
  return status;
}

hfb_status hfb_loss_check(const hfb_job *job, const hfb_workload *work, const hfb_side *side) {
  double loss = hfb_side_loss(side);
  if (isfinite(loss)) return HFB_OK;
  char what[96];
  snprintf(what, sizeof(what), "%s: the loss is %s in step %lld", side->backend->name,
           isnan(loss) ? "nan" : loss > 0 ? "inf" : "-inf", (long long)side->run_count);
  hfb_status status = repeat_steps(job, work, side->run_count);
  if (status == HFB_OK) return HFB_FAIL(HFB_MISMATCH, "%s; op by op, eager finds all values finite", what);
  hfb_error_prefix("%s; %s", what, status == HFB_MISMATCH ? "first not finite in" : "its source was not found");
  return HFB_MISMATCH;
}
