/* What the kernels of ctc_loss share: the sizes of a call and the states of a row.
 *
 * State s of 2n + 1, for n labels, is a blank when s is even, label s / 2 when it is odd. From frame to frame an
 * alignment stays in its state, goes to the next one, or skips a blank between two labels that differ (Graves et al.,
 * 2006). */
#ifndef HFB_KERNELS_CTC_H
#define HFB_KERNELS_CTC_H

#include "kernels/kernel.h"

typedef struct hfb_ctc {
  int64_t batch, frames, classes, targets; /* log-probabilities [batch,frames,classes], targets [batch,targets] */
  int64_t blank;
  bool zero_infinity;
} hfb_ctc;

/* first: the input that is the log-probabilities. */
hfb_ctc hfb_ctc_of(const hfb_kernel_call *call, int first);

/* Checks every length and target of the batch. */
hfb_status hfb_ctc_check(const hfb_ctc *ctc, const int64_t *lengths, const int64_t *targets) HFB_MUST_USE;

/* Writes the class of each state of a row into classes[2 * targets + 1] and returns their number. */
int64_t hfb_ctc_states(const hfb_ctc *ctc, const int64_t *row_targets, int64_t *classes);

/* Whether state s can be entered from state s - 2. */
static inline bool hfb_ctc_may_skip(const int64_t *classes, int64_t s) {
  return s % 2 == 1 && s >= 2 && classes[s] != classes[s - 2];
}

#endif
