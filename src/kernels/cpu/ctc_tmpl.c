/* ctc_loss and its gradient on floats. Included by <isa>/ctc.c after its vec.h, with HFB_K(name) adding the suffix of
 * the instruction set. Operands are row-major; each row of the batch is a task.
 *
 * Logarithms of sums over alignments, state by state of a frame in vectors. Each frame is shifted so that its largest
 * state is 0, and the shifts are added up in double: alignments lose no digits to the length of the recording. The
 * second sweep is the first one on the reversed row. */
#include <math.h>

#include "kernels/ctc.h"
#include "kernels/kernel_impl.h"

enum { CTC_FRONT = 2 }; /* states before the first one, of probability 0 */

typedef struct ctc_job {
  hfb_ctc ctc;
  const float *g, *log_probs; /* g NULL: the losses */
  const int64_t *lengths, *targets;
  float *out;
  int64_t stride; /* floats of a frame of states, CTC_FRONT included */
  hfb_scratch scratch;
} ctc_job;

/* One row of the batch and its scratch. */
typedef struct ctc_row {
  const ctc_job *job;
  const float *log_probs;
  int64_t length, states;
  double *shifts[2]; /* of each frame, for both directions */
  int64_t *classes;  /* of the states */
  float *skip;       /* 0 where a state may be entered from the last but one, else -inf */
  float *terms;      /* of one frame */
  float *cells[2];   /* frames of states; the losses only keep two */
} ctc_row;

static size_t frame_bytes(const ctc_job *job) {
  return (size_t)job->stride * sizeof(float);
}

static size_t scratch_bytes(const ctc_job *job) {
  size_t frames = (size_t)job->ctc.frames, cell_frames = job->g ? 2 * frames : 2;
  return 2 * frames * sizeof(double) + (size_t)job->stride * sizeof(int64_t) + (2 + cell_frames) * frame_bytes(job);
}

static ctc_row row_of(const ctc_job *job, int64_t row, int worker) {
  const hfb_ctc *ctc = &job->ctc;
  ctc_row r = {.job = job, .log_probs = job->log_probs + row * ctc->frames * ctc->classes, .length = job->lengths[row]};
  r.shifts[0] = hfb_scratch_of(&job->scratch, worker);
  r.shifts[1] = r.shifts[0] + ctc->frames;
  r.classes = (int64_t *)(r.shifts[1] + ctc->frames);
  r.skip = (float *)(r.classes + job->stride);
  r.terms = r.skip + job->stride;
  r.cells[0] = r.terms + job->stride;
  r.cells[1] = r.cells[0] + ctc->frames * job->stride;
  r.states = hfb_ctc_states(ctc, job->targets + row * ctc->targets, r.classes);
  return r;
}

/* State s of a direction is state s or states - 1 - s of the row. */
static int64_t class_of(const ctc_row *r, bool reversed, int64_t s) {
  return r->classes[reversed ? r->states - 1 - s : s];
}

static void find_skips(ctc_row *r, bool reversed) {
  for (int64_t s = 0; s < r->states; s++) {
    int64_t entered = reversed ? r->states + 1 - s : s;
    r->skip[s] = s >= 2 && hfb_ctc_may_skip(r->classes, entered) ? 0 : -INFINITY;
  }
}

/* log(exp(a) + exp(b) + exp(c)), -inf when all three are. */
static vec_f32 log_sum(vec_f32 a, vec_f32 b, vec_f32 c) {
  const vec_f32 none = hfb_vec_set1(-INFINITY);
  vec_f32 max = hfb_vec_max(hfb_vec_max(a, b), c);
  vec_f32 base = hfb_vec_select(hfb_vec_eq(max, none), hfb_vec_zero(), max);
  vec_f32 sum = hfb_vec_exp(a - base) + hfb_vec_exp(b - base) + hfb_vec_exp(c - base);
  return hfb_vec_log(sum) + base;
}

/* From the frame before to `now`, which holds the log-probabilities of its states; returns the largest. */
static float advance(const ctc_row *r, const float *before, float *now) {
  vec_f32 max = hfb_vec_set1(-INFINITY);
  int64_t s = 0;
  for (; s + VEC_F32_LANES <= r->states; s += VEC_F32_LANES) {
    vec_f32 skipped = hfb_vec_load(before + s - 2) + hfb_vec_load(r->skip + s);
    vec_f32 sum = log_sum(hfb_vec_load(before + s), hfb_vec_load(before + s - 1), skipped) + hfb_vec_load(now + s);
    hfb_vec_store(now + s, sum);
    max = hfb_vec_max(sum, max);
  }
  if (s < r->states) {
    int64_t rest = r->states - s;
    vec_f32 skipped = hfb_vec_load_partial(before + s - 2, rest) + hfb_vec_load_partial(r->skip + s, rest);
    vec_f32 sum = log_sum(hfb_vec_load_partial(before + s, rest), hfb_vec_load_partial(before + s - 1, rest), skipped) +
                  hfb_vec_load_partial(now + s, rest);
    hfb_vec_store_partial(now + s, sum, rest);
    max = hfb_vec_max(hfb_vec_select(hfb_vec_first_lanes(rest), sum, max), max);
  }
  return hfb_vec_hmax(max);
}

/* The sums of all alignments that start a direction, frame by frame, with the probability of that frame; the last
 * `kept` frames stay in the cells. */
static void sweep(ctc_row *r, bool reversed, int64_t kept) {
  const int64_t stride = r->job->stride, classes = r->job->ctc.classes;
  double shift = 0;
  find_skips(r, reversed);
  for (int64_t i = 0; i < r->length; i++) {
    const float *log_probs = r->log_probs + (reversed ? r->length - 1 - i : i) * classes;
    float *now = r->cells[reversed] + i % kept * stride + CTC_FRONT, max = -INFINITY;
    for (int64_t s = -CTC_FRONT; s < 0; s++) now[s] = -INFINITY;
    for (int64_t s = 0; s < r->states; s++) now[s] = log_probs[class_of(r, reversed, s)];
    if (i == 0) {
      for (int64_t s = 2; s < r->states; s++) now[s] = -INFINITY;
      for (int64_t s = 0; s < r->states; s++) max = now[s] > max ? now[s] : max;
    } else {
      max = advance(r, r->cells[reversed] + (i - 1) % kept * stride + CTC_FRONT, now);
    }
    if (max > -INFINITY) {
      for (int64_t s = 0; s < r->states; s++) now[s] -= max;
      shift += (double)max;
    }
    r->shifts[reversed][i] = shift;
  }
}

/* After the forward sweep. */
static double loss_of(const ctc_row *r, int64_t kept) {
  if (r->length == 0) return r->states == 1 ? 0 : INFINITY;
  const float *last = r->cells[0] + (r->length - 1) % kept * r->job->stride + CTC_FRONT;
  double sum = exp((double)last[r->states - 1]) + (r->states > 1 ? exp((double)last[r->states - 2]) : 0);
  return -(log(sum) + r->shifts[0][r->length - 1]);
}

/* Minus g times the share of the alignments that go through each state, added up by class. */
static void write_frame(const ctc_row *r, int64_t t, float g, double loss, float *out) {
  const int64_t back = r->length - 1 - t, stride = r->job->stride;
  const float *forward = r->cells[0] + t * stride + CTC_FRONT, *backward = r->cells[1] + back * stride + CTC_FRONT;
  const float *log_probs = r->log_probs + t * r->job->ctc.classes;
  const float total = (float)(r->shifts[0][t] + r->shifts[1][back] + loss);
  for (int64_t s = 0; s < r->states; s++) {
    float once = log_probs[r->classes[s]]; /* both directions hold it */
    r->terms[s] = once == -INFINITY ? once : forward[s] + backward[r->states - 1 - s] + (total - once);
  }
  for (int64_t s = 0; s < r->states; s += VEC_F32_LANES) {
    int64_t rest = r->states - s < VEC_F32_LANES ? r->states - s : VEC_F32_LANES;
    hfb_vec_store_partial(r->terms + s, hfb_vec_exp(hfb_vec_load_partial(r->terms + s, rest)), rest);
  }
  for (int64_t s = 0; s < r->states; s++) out[r->classes[s]] -= g * r->terms[s];
}

static void run_row(void *context, int64_t row, int worker) {
  const ctc_job *job = context;
  ctc_row r = row_of(job, row, worker);
  if (job->g == NULL) {
    r.cells[1] = NULL;
    sweep(&r, false, 2);
    double loss = loss_of(&r, 2);
    job->out[row] = loss == INFINITY && job->ctc.zero_infinity ? 0 : (float)loss;
    return;
  }
  const int64_t classes = job->ctc.classes;
  float *out = job->out + row * job->ctc.frames * classes;
  sweep(&r, false, job->ctc.frames);
  sweep(&r, true, job->ctc.frames);
  double loss = loss_of(&r, job->ctc.frames);
  for (int64_t t = 0; t < job->ctc.frames; t++, out += classes) {
    bool nan = loss == INFINITY && !job->ctc.zero_infinity && t < r.length;
    for (int64_t c = 0; c < classes; c++) out[c] = nan ? NAN : 0;
    if (loss != INFINITY && t < r.length) write_frame(&r, t, job->g[row], loss, out);
  }
}

static hfb_status run_rows(const hfb_kernel_call *call, int first) {
  ctc_job job = {.ctc = hfb_ctc_of(call, first),
                 .g = first > 0 ? call->inputs[0].data : NULL,
                 .log_probs = call->inputs[first].data,
                 .lengths = call->inputs[first + 1].data,
                 .targets = call->inputs[first + 2].data,
                 .out = call->results[0].data};
  HFB_TRY(hfb_ctc_check(&job.ctc, job.lengths, job.targets));
  job.stride = (CTC_FRONT + 2 * job.ctc.targets + 1 + VEC_F32_LANES) / VEC_F32_LANES * VEC_F32_LANES;
  HFB_TRY(hfb_scratch_init(call->pool, scratch_bytes(&job), &job.scratch));
  hfb_pool_run(call->pool, job.ctc.batch, run_row, &job);
  hfb_scratch_deinit(&job.scratch);
  return HFB_OK;
}

hfb_status HFB_K(hfb_k_f32_ctc_loss)(const hfb_kernel_call *call) {
  return run_rows(call, 0);
}
hfb_status HFB_K(hfb_k_f32_ctc_loss_backward)(const hfb_kernel_call *call) {
  return run_rows(call, 1);
}
