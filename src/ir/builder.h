/* Building graphs: one short function for each op, with sticky errors.
 *
 * A function returns NULL once anything failed, and takes NULL inputs without complaint; hfb_builder_finish reports
 * the first failure. So model code reads as the architecture, without a check on each line. Negative axes count from
 * the end here (never inside the graph).
 *
 * Give at most one argument of a call a nested call that builds: C leaves the order of evaluation open, and node order,
 * and so the text of a graph, must not depend on the compiler. */
#ifndef HFB_IR_BUILDER_H
#define HFB_IR_BUILDER_H

#include "ir/graph.h"

typedef struct hfb_builder {
  hfb_graph *graph;
  hfb_status status;  /* the first failure; its message is kept below */
  char message[512];
  char scope[HFB_SCOPE_BYTES]; /* "bert.encoder.layer.0": recorded in nodes, prefix of parameter names */
  int scope_depth;
  short scope_marks[32]; /* length of `scope` before each push */
  int64_t site_count;    /* random sites handed out so far */
} hfb_builder;

hfb_status hfb_builder_init(hfb_builder *b, const char *graph_name) HFB_MUST_USE;
/* Hands the graph over, verified, or fails with the first recorded message. */
hfb_status hfb_builder_finish(hfb_builder *b, hfb_graph **out_graph) HFB_MUST_USE;
/* Frees a graph that was not handed over; safe after finish. */
void hfb_builder_deinit(hfb_builder *b);
/* Any op by its table row; the value of its first result. The scope is added to the attributes. The functions below are
 * this one with the attributes filled in. */
hfb_value *hfb_build(hfb_builder *b, hfb_op op, int input_count, hfb_value *const *inputs, int attr_count,
                     const hfb_attr *attrs);
/* Records a failure found by model code, e.g. an unsupported combination. */
void hfb_builder_fail(hfb_builder *b, hfb_status status, const char *format, ...) HFB_PRINTF(3, 4);

/* Scopes: push appends ".name" (printf style); pop takes the last pushed text off. Every push needs its pop before
 * hfb_builder_finish. */
void hfb_scope_push(hfb_builder *b, const char *format, ...) HFB_PRINTF(2, 3);
void hfb_scope_pop(hfb_builder *b);

/* Sources */
hfb_value *hfb_input(hfb_builder *b, const char *name, hfb_dtype dtype, hfb_shape shape);

typedef struct hfb_init {
  hfb_init_kind kind;
  double a, b;
  int64_t padding_idx; /* row to zero, -1: none */
  bool frozen;
  bool buffer;
} hfb_init;

/* `name` is relative to the scope. A name that exists already yields the existing value when shapes agree (tied
 * weights), a failure when not. */
hfb_value *hfb_parameter(hfb_builder *b, const char *name, hfb_shape shape, hfb_init init);
/* i64[2] {seed, step}: the parameter HFB_RANDOM_STATE that all random ops draw from, made at its first use. */
#define HFB_RANDOM_STATE "random_state"
hfb_value *hfb_random_state(hfb_builder *b);
/* A parameter of another dtype than f32 or under a name of its own, without the scope in front. */
hfb_value *hfb_parameter_named(hfb_builder *b, const char *full_name, hfb_dtype dtype, hfb_shape shape, hfb_init init);
hfb_value *hfb_constant(hfb_builder *b, hfb_dtype dtype, hfb_shape shape, const void *data); /* copied */
hfb_value *hfb_constant_i64(hfb_builder *b, hfb_shape shape, const int64_t *data);
hfb_value *hfb_constant_f32(hfb_builder *b, hfb_shape shape, const float *data);
hfb_value *hfb_full(hfb_builder *b, hfb_dtype dtype, hfb_shape shape, double value);
hfb_value *hfb_scalar(hfb_builder *b, hfb_dtype dtype, double value); /* full of rank 0 */
hfb_value *hfb_iota(hfb_builder *b, hfb_dtype dtype, hfb_shape shape, int axis);

/* Elementwise: hfb_unary(b, HFB_OP_GELU, x), hfb_binary(b, HFB_OP_ADD, x, y) and the common ones by name. */
hfb_value *hfb_unary(hfb_builder *b, hfb_op op, hfb_value *x);
hfb_value *hfb_binary(hfb_builder *b, hfb_op op, hfb_value *x, hfb_value *y);
hfb_value *hfb_add(hfb_builder *b, hfb_value *x, hfb_value *y);
hfb_value *hfb_sub(hfb_builder *b, hfb_value *x, hfb_value *y);
hfb_value *hfb_mul(hfb_builder *b, hfb_value *x, hfb_value *y);
hfb_value *hfb_div(hfb_builder *b, hfb_value *x, hfb_value *y);
hfb_value *hfb_add_scalar(hfb_builder *b, hfb_value *x, double value);
hfb_value *hfb_mul_scalar(hfb_builder *b, hfb_value *x, double value);
hfb_value *hfb_cast(hfb_builder *b, hfb_value *x, hfb_dtype dtype); /* x itself when it has that dtype */
hfb_value *hfb_where(hfb_builder *b, hfb_value *condition, hfb_value *x, hfb_value *y);

/* Reductions */
hfb_value *hfb_reduce(hfb_builder *b, hfb_op op, hfb_value *x, int axis_count, const int *axes, bool keepdim);
hfb_value *hfb_argmax(hfb_builder *b, hfb_value *x, int axis, bool keepdim);
hfb_value *hfb_cumsum(hfb_builder *b, hfb_value *x, int axis);
hfb_value *hfb_argsort(hfb_builder *b, hfb_value *x); /* along the last dimension */

/* Contractions */
hfb_value *hfb_matmul(hfb_builder *b, hfb_value *x, hfb_value *y, bool transpose_x, bool transpose_y);
hfb_value *hfb_linear_op(hfb_builder *b, hfb_value *x, hfb_value *weight, hfb_value *bias, bool weight_is_nk);

/* Movement */
hfb_value *hfb_reshape(hfb_builder *b, hfb_value *x, int rank, const int64_t *dims); /* one dim may be -1 */
hfb_value *hfb_transpose(hfb_builder *b, hfb_value *x, const int *perm); /* as many as x's rank */
hfb_value *hfb_slice(hfb_builder *b, hfb_value *x, int axis, int64_t start, int64_t limit); /* one axis */
hfb_value *hfb_expand(hfb_builder *b, hfb_value *x, int rank, const int64_t *dims); /* -1: as it is in x */
hfb_value *hfb_concat(hfb_builder *b, int count, hfb_value *const *values, int axis);
hfb_value *hfb_pad(hfb_builder *b, hfb_value *x, int axis, int64_t before, int64_t after, double value);
/* Windows over the last dimension, every `step` elements: [..,N] -> [..,(N-window)/step+1,window]. */
hfb_value *hfb_unfold(hfb_builder *b, hfb_value *x, int64_t window, int64_t step);

/* Indexed */
hfb_value *hfb_gather(hfb_builder *b, hfb_value *x, hfb_value *index, int axis);
hfb_value *hfb_take_along(hfb_builder *b, hfb_value *x, hfb_value *index, int axis);
hfb_value *hfb_embedding(hfb_builder *b, hfb_value *table, hfb_value *ids, int64_t padding_idx);

/* Composites */
hfb_value *hfb_softmax(hfb_builder *b, hfb_value *x, int axis);
hfb_value *hfb_log_softmax(hfb_builder *b, hfb_value *x, int axis);
hfb_value *hfb_layer_norm_op(hfb_builder *b, hfb_value *x, hfb_value *weight, hfb_value *bias, double eps);
hfb_value *hfb_rms_norm_op(hfb_builder *b, hfb_value *x, hfb_value *weight, double eps);
hfb_value *hfb_instance_norm_op(hfb_builder *b, hfb_value *x, hfb_value *weight, hfb_value *bias, double eps);
hfb_value *hfb_ctc_loss(hfb_builder *b, hfb_value *log_probs, hfb_value *lengths, hfb_value *targets, int64_t blank,
                        bool zero_infinity);
hfb_value *hfb_nll_loss(hfb_builder *b, hfb_value *log_probs, hfb_value *target, int64_t ignore_index);
hfb_value *hfb_pair_loss(hfb_builder *b, hfb_op op, hfb_value *x, hfb_value *target);
hfb_value *hfb_fft2_real(hfb_builder *b, hfb_value *x);

/* Random: each call is a site of its own. */
hfb_value *hfb_dropout(hfb_builder *b, hfb_value *x, double p);
/* bool of `shape`: true with probability 1 - p. */
hfb_value *hfb_random_mask(hfb_builder *b, hfb_shape shape, double p);
/* The same at a site that is known: what dropout decomposes into. */
hfb_value *hfb_random_keep(hfb_builder *b, hfb_value *state, hfb_shape shape, double p, int64_t site);

/* f32 of `shape`: mean 0, deviation 1. */
hfb_value *hfb_random_normal(hfb_builder *b, hfb_shape shape);

void hfb_output_add(hfb_builder *b, const char *name, hfb_value *value);
/* After a run `parameter` holds `value`. */
void hfb_update_add(hfb_builder *b, hfb_value *parameter, hfb_value *value);

#endif
