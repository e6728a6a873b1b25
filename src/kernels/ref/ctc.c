/* ctc_loss and its gradient: sums over alignments in the logarithm, in double, as PyTorch's LossCTC.cpp has them. */
#include <math.h>

#include "base/memory.h"
#include "kernels/ctc.h"
#include "kernels/kernel_impl.h"
#include "kernels/ref/wide.h"

/* One row of the batch. alpha[t][s]: all ways to state s at frame t, with the probability of that frame; beta[t][s]:
 * all ways from there to the end, without it. */
typedef struct alignment {
  hfb_ctc ctc;
  const double *log_probs; /* of the row */
  int64_t length, state_count;
  int64_t *classes;     /* of the states */
  double *alpha, *beta; /* [frames][2 * targets + 1] */
} alignment;

static double log_add(double a, double b) {
  double max = a > b ? a : b, min = a > b ? b : a; /* one of them is nan when a or b is */
  return min == max && max == -INFINITY ? max : max + log1p(exp(min - max));
}

static double log_prob(const alignment *a, int64_t t, int64_t s) {
  return a->log_probs[t * a->ctc.classes + a->classes[s]];
}

static void run_forward(alignment *a) {
  int64_t states = a->state_count;
  for (int64_t t = 0; t < a->length; t++) {
    double *alpha = a->alpha + t * states;
    const double *before = alpha - states;
    for (int64_t s = 0; s < states; s++) {
      double sum = t == 0 ? (s < 2 ? 0 : -INFINITY) : before[s];
      if (t > 0 && s > 0) sum = log_add(sum, before[s - 1]);
      if (t > 0 && hfb_ctc_may_skip(a->classes, s)) sum = log_add(sum, before[s - 2]);
      alpha[s] = sum + log_prob(a, t, s);
    }
  }
}

static void run_backward(alignment *a) {
  int64_t states = a->state_count;
  for (int64_t t = a->length - 1; t >= 0; t--) {
    double *beta = a->beta + t * states;
    const double *after = beta + states;
    for (int64_t s = 0; s < states; s++) {
      if (t == a->length - 1) {
        beta[s] = s >= states - 2 ? 0 : -INFINITY;
        continue;
      }
      double sum = after[s] + log_prob(a, t + 1, s);
      if (s + 1 < states) sum = log_add(sum, after[s + 1] + log_prob(a, t + 1, s + 1));
      if (s + 2 < states && hfb_ctc_may_skip(a->classes, s + 2)) {
        sum = log_add(sum, after[s + 2] + log_prob(a, t + 1, s + 2));
      }
      beta[s] = sum;
    }
  }
}

/* After run_forward: -log of the probability of all alignments. */
static double loss_of(const alignment *a) {
  if (a->length == 0) return a->state_count == 1 ? 0 : INFINITY;
  const double *last = a->alpha + (a->length - 1) * a->state_count;
  double sum = last[a->state_count - 1];
  if (a->state_count > 1) sum = log_add(sum, last[a->state_count - 2]);
  return -sum;
}

/* The gradient of a log-probability is minus the share of the alignments that read it. */
static void write_gradient(const alignment *a, double g, double loss, double *out) {
  int64_t classes = a->ctc.classes, states = a->state_count;
  for (int64_t i = 0; i < a->ctc.frames * classes; i++) out[i] = 0;
  if (loss == INFINITY && a->ctc.zero_infinity) return;
  for (int64_t t = 0; t < a->length; t++) {
    for (int64_t s = 0; s < states; s++) {
      double share = exp(a->alpha[t * states + s] + a->beta[t * states + s] + loss);
      out[t * classes + a->classes[s]] -= g * share;
    }
    for (int64_t c = 0; c < classes && loss == INFINITY; c++) out[t * classes + c] = NAN;
  }
}

/* g NULL: the losses; else the gradients. */
static hfb_status run(const hfb_kernel_call *call, const hfb_wide *wide, int first, const double *g) {
  alignment a = {.ctc = hfb_ctc_of(call, first)};
  const int64_t *lengths = wide->index[first + 1], *targets = wide->index[first + 2];
  HFB_TRY(hfb_ctc_check(&a.ctc, lengths, targets));
  size_t states = (size_t)(2 * a.ctc.targets + 1), cells = states * (size_t)a.ctc.frames;
  HFB_TRY(hfb_mem_alloc(2 * cells + states + 1, sizeof(double), &a.alpha));
  a.beta = a.alpha + cells;
  hfb_status status = hfb_mem_alloc(states, sizeof(int64_t), &a.classes);
  for (int64_t row = 0; row < a.ctc.batch && status == HFB_OK; row++) {
    a.log_probs = wide->in[first] + row * a.ctc.frames * a.ctc.classes;
    a.length = lengths[row];
    a.state_count = hfb_ctc_states(&a.ctc, targets + row * a.ctc.targets, a.classes);
    run_forward(&a);
    double loss = loss_of(&a);
    if (g == NULL) {
      wide->out[0][row] = loss == INFINITY && a.ctc.zero_infinity ? 0 : loss;
      continue;
    }
    run_backward(&a);
    write_gradient(&a, g[row], loss, wide->out[0] + row * a.ctc.frames * a.ctc.classes);
  }
  hfb_mem_free(a.classes);
  hfb_mem_free(a.alpha);
  return status;
}

hfb_status hfb_k_ctc_loss__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  return hfb_wide_end(call, &wide, run(call, &wide, 0, NULL));
}

hfb_status hfb_k_ctc_loss_backward__ref(const hfb_kernel_call *call) {
  hfb_wide wide;
  HFB_TRY(hfb_wide_begin(call, &wide));
  return hfb_wide_end(call, &wide, run(call, &wide, 1, wide.in[0]));
}
