#include "kernels/ctc.h"

#include <inttypes.h>

hfb_ctc hfb_ctc_of(const hfb_kernel_call *call, int first) {
  const hfb_shape *shape = &call->inputs[first].shape;
  return (hfb_ctc){.batch = shape->dim[0],
                   .frames = shape->dim[1],
                   .classes = shape->dim[2],
                   .targets = call->inputs[first + 2].shape.dim[1],
                   .blank = hfb_node_int(call->node, HFB_ATTR_BLANK),
                   .zero_infinity = hfb_node_int(call->node, HFB_ATTR_ZERO_INFINITY) != 0};
}

hfb_status hfb_ctc_check(const hfb_ctc *ctc, const int64_t *lengths, const int64_t *targets) {
  for (int64_t row = 0; row < ctc->batch; row++) {
    if (lengths[row] >= 0 && lengths[row] <= ctc->frames) continue;
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "ctc_loss: length %" PRId64 " is outside [0,%" PRId64 "]", lengths[row],
                    ctc->frames);
  }
  for (int64_t i = 0; i < ctc->batch * ctc->targets; i++) {
    if (targets[i] < ctc->classes) continue;
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "ctc_loss: target %" PRId64 " is none of %" PRId64 " classes", targets[i],
                    ctc->classes);
  }
  return HFB_OK;
}

int64_t hfb_ctc_states(const hfb_ctc *ctc, const int64_t *row_targets, int64_t *classes) {
  int64_t count = 0;
  classes[count++] = ctc->blank;
  for (int64_t i = 0; i < ctc->targets; i++) {
    if (row_targets[i] < 0) continue;
    classes[count++] = row_targets[i];
    classes[count++] = ctc->blank;
  }
  return count;
}
