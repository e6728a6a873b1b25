/* Attention in percent of the measured peak: inference, and for shapes of training also the forward and the gradients
 * as they are run there, with a mask and dropout.
 *
 *   bench_attention [--threads N] [--rounds N] [--only NAME] [SHAPES_FILE]
 *
 * FLOPs are those of the products without a mask, for each head 4 * queries * keys * dim forward and 10 backward, so a
 * causal mask shows as a rate above that of the same shape without one. Milliseconds and rate are medians; "best" is
 * the best tenth of the rounds. The rounds of a shape's lines take turns, so that their ratios hold on a busy machine.
 * HFBENCH_ISA lowers the instruction set. */
#include <math.h>

#include "base/memory.h"
#include "kernels/attention_backward.h"
#include "rounds.h"

enum { BIAS_LANES = 16 };

static const double dropout_p = 0.1;
static const int64_t random_state[2] = {42, 7};

typedef float bias_vec __attribute__((vector_size(BIAS_LANES * sizeof(float)), aligned(4)));

typedef struct attention_call {
  hfb_attention forward, training;
  hfb_attention_backward plain_backward, backward;
  hfb_pool *pool;
  float *bias; /* one for each key */
} attention_call;

/* What a padding mask does. */
static void add_bias(const void *context, float *scores, int64_t ld, int64_t batch, int64_t head, int64_t row,
                     int64_t rows, int64_t col, int64_t cols) {
  const float *bias = (const float *)context + col;
  (void)batch, (void)head, (void)row;
  for (int64_t i = 0; i < rows; i++, scores += ld) {
    int64_t j = 0;
    for (; j + BIAS_LANES <= cols; j += BIAS_LANES) *(bias_vec *)(scores + j) += *(const bias_vec *)(bias + j);
    for (; j < cols; j++) scores[j] += bias[j];
  }
}

static void run_forward(void *context) {
  const attention_call *call = context;
  bench_require(hfb_attention_run(&call->forward, hfb_cpu()->isa, call->pool));
}

static void run_training(void *context) {
  const attention_call *call = context;
  bench_require(hfb_attention_run(&call->training, hfb_cpu()->isa, call->pool));
}

static void run_plain_backward(void *context) {
  const attention_call *call = context;
  bench_require(hfb_attention_backward_run(&call->plain_backward, hfb_cpu()->isa, call->pool));
}

static void run_backward(void *context) {
  const attention_call *call = context;
  bench_require(hfb_attention_backward_run(&call->backward, hfb_cpu()->isa, call->pool));
}

/* The lines of a shape; all but the first only for training. */
static const struct bench_pass {
  const char *name;
  void (*run)(void *context);
  double products;
} passes[] = {
    {"forward", run_forward, 2},
    {"forward lse mask dropout", run_training, 2},
    {"backward", run_plain_backward, 5},
    {"backward mask dropout", run_backward, 5},
};
enum { PASS_COUNT = sizeof passes / sizeof passes[0] };

static float *make_floats(int64_t elements) {
  float *floats = NULL;
  bench_require(hfb_mem_alloc_aligned((size_t)elements * sizeof(float), 64, &floats));
  for (int64_t i = 0; i < elements; i++) floats[i] = (float)(i % 13 - 6) * 0.25f;
  return floats;
}

/* [batch][sequence][heads][dim], as a projection leaves it. */
static float *make_tensor(int64_t batch, int64_t heads, int64_t sequence, int64_t dim, int64_t out_strides[3]) {
  out_strides[0] = sequence * heads * dim;
  out_strides[1] = dim;
  out_strides[2] = heads * dim;
  return make_floats(batch * heads * sequence * dim);
}

static void set_training(attention_call *call) {
  const hfb_attention *a = &call->forward;
  const int64_t row_count = a->batch * a->heads * a->query_count;
  float *lse = make_floats(row_count);
  call->bias = make_floats(a->key_count);
  call->training = *a;
  call->training.lse = lse;
  call->training.modify = add_bias;
  call->training.modify_context = call->bias;
  call->training.dropout_p = dropout_p;
  call->training.random_state = random_state;
  hfb_attention_backward *b = &call->plain_backward;
  *b = (hfb_attention_backward){
      .batch = a->batch, .heads = a->heads, .query_count = a->query_count, .key_count = a->key_count,
      .head_dim = a->head_dim, .value_dim = a->value_dim, .q = a->q, .k = a->k, .v = a->v, .lse = lse,
      .delta = make_floats(row_count), .scale = a->scale, .gradient_scale = a->scale, .causal = a->causal,
  };
  memcpy(b->q_strides, a->q_strides, sizeof b->q_strides);
  memcpy(b->k_strides, a->k_strides, sizeof b->k_strides);
  memcpy(b->v_strides, a->v_strides, sizeof b->v_strides);
  b->g = make_tensor(a->batch, a->heads, a->query_count, a->value_dim, b->g_strides);
  b->dq = make_tensor(a->batch, a->heads, a->query_count, a->head_dim, b->dq_strides);
  b->dk = make_tensor(a->batch, a->heads, a->key_count, a->head_dim, b->dk_strides);
  b->dv = make_tensor(a->batch, a->heads, a->key_count, a->value_dim, b->dv_strides);
  call->backward = *b;
  call->backward.modify = add_bias;
  call->backward.modify_context = call->bias;
  call->backward.dropout_p = dropout_p;
  call->backward.random_state = random_state;
}

static void free_training(attention_call *call) {
  const hfb_attention_backward *b = &call->plain_backward;
  hfb_mem_free((void *)b->g);
  hfb_mem_free((void *)b->lse);
  hfb_mem_free((void *)b->delta);
  hfb_mem_free(b->dq);
  hfb_mem_free(b->dk);
  hfb_mem_free(b->dv);
  hfb_mem_free(call->bias);
}

static void print_pass(const bench_shape *shape, const attention_call *call, const struct bench_pass *pass, double *ns,
                       int rounds, double peak) {
  const hfb_attention *a = &call->forward;
  const double products = (double)(a->batch * a->heads) * (double)a->query_count * (double)a->key_count;
  const double flops = 2 * pass->products * products * (double)a->head_dim;
  const double median_ns = bench_quantile(ns, rounds, 0.5), best_ns = bench_quantile(ns, rounds, 0.1);
  printf("%-22s %-24s %5lld %5lld %7lld %5lld %4lld %6d  | %9.3f ms %7.1f %5.1f%% %5.1f%%\n", shape->name, pass->name,
         (long long)a->batch, (long long)a->heads, (long long)a->query_count, (long long)a->key_count,
         (long long)a->head_dim, a->causal, median_ns * 1e-6, flops / median_ns, flops / median_ns * 1e11 / peak,
         flops / best_ns * 1e11 / peak);
  fflush(stdout);
}

static void bench_shape_run(const bench_shape *shape, bench_session *session) {
  const int64_t batch = shape->value[0], heads = shape->value[1], queries = shape->value[2], keys = shape->value[3];
  const int64_t dim = shape->value[4];
  attention_call call = {.forward = {.batch = batch, .heads = heads, .query_count = queries, .key_count = keys,
                                     .head_dim = dim, .value_dim = dim, .scale = 1.0f / sqrtf((float)dim),
                                     .causal = (int)shape->value[5]},
                         .pool = session->pool};
  hfb_attention *attention = &call.forward;
  float *q = make_tensor(batch, heads, queries, dim, attention->q_strides);
  float *k = make_tensor(batch, heads, keys, dim, attention->k_strides);
  float *v = make_tensor(batch, heads, keys, dim, attention->v_strides);
  float *out = make_tensor(batch, heads, queries, dim, attention->out_strides);
  attention->q = q, attention->k = k, attention->v = v, attention->out = out;
  const int is_training = (int)shape->value[6], pass_count = is_training ? PASS_COUNT : 1;
  if (is_training) set_training(&call);

  static double ns[PASS_COUNT][MAX_ROUNDS];
  for (int pass = 0; pass < pass_count; pass++) passes[pass].run(&call);
  for (int round = 0; round < session->options.rounds; round++) {
    for (int pass = 0; pass < pass_count; pass++) ns[pass][round] = bench_sample_ns(passes[pass].run, &call);
  }
  bench_session_update_peak(session);
  for (int pass = 0; pass < pass_count; pass++) {
    print_pass(shape, &call, &passes[pass], ns[pass], session->options.rounds, session->peak);
  }
  if (is_training) free_training(&call);
  hfb_mem_free(q);
  hfb_mem_free(k);
  hfb_mem_free(v);
  hfb_mem_free(out);
}

int main(int argc, char **argv) {
  bench_session session = bench_session_open(argc, argv, HFB_BENCH_SHAPES "/attention.txt");
  printf("%-22s %-24s %5s %5s %7s %5s %4s %6s  | %12s %7s %6s %6s\n", "", "", "batch", "heads", "queries", "keys",
         "dim", "causal", "median", "GFLOP/s", "median", "best");
  bench_shape shape;
  while (bench_shape_next(&session, 7, &shape)) bench_shape_run(&shape, &session);
  bench_session_close(&session);
  return 0;
}
