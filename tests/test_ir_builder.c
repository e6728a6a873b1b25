/* The builder: each function makes the node it names, failures stick and are reported once, scopes and tied weights. */
#include "test_ir_support.h"

static hfb_graph *finish(hfb_builder *b) {
  hfb_graph *graph = NULL;
  if (hfb_builder_finish(b, &graph) != HFB_OK) fail_msg("%s", hfb_error_message());
  hfb_builder_deinit(b);
  return graph;
}

/* finish fails, with this in the message. */
static void assert_fails(hfb_builder *b, hfb_status status, const char *part) {
  hfb_graph *graph = NULL;
  assert_int_equal(hfb_builder_finish(b, &graph), status);
  assert_null(graph);
  ir_assert_message(part);
  hfb_builder_deinit(b);
}

static hfb_builder start(void) {
  hfb_builder b;
  assert_int_equal(hfb_builder_init(&b, "g"), HFB_OK);
  return b;
}

#define SHAPE(...) hfb_shape_of((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
#define DIMS(...)                                                          \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { \
    __VA_ARGS__                                                            \
  }

static void test_sources_and_elementwise(void **state) {
  (void)state;
  hfb_builder b = start();
  hfb_value *x = hfb_input(&b, "x", HFB_F32, SHAPE(2, 3));
  hfb_value *i = hfb_constant_i64(&b, SHAPE(2), (int64_t[]){-1, 5});
  hfb_constant_f32(&b, SHAPE(2), (float[]){0.5f, 2});
  hfb_full(&b, HFB_I64, SHAPE(1, 2), 7);
  hfb_value *s = hfb_scalar(&b, HFB_F32, -0.5);
  hfb_iota(&b, HFB_I64, SHAPE(2, 3), -1);
  hfb_value *y = hfb_unary(&b, HFB_OP_TANH, x);
  hfb_binary(&b, HFB_OP_MAXIMUM, x, s);
  hfb_add(&b, x, y);
  hfb_sub(&b, x, y);
  hfb_mul(&b, x, y);
  hfb_div(&b, x, y);
  hfb_add_scalar(&b, x, 1.5);
  hfb_mul_scalar(&b, i, 3);
  assert_ptr_equal(hfb_cast(&b, x, HFB_F32), x);
  hfb_cast(&b, x, HFB_BF16);
  hfb_value *c = hfb_binary(&b, HFB_OP_LT, x, y);
  hfb_where(&b, c, x, s);
  hfb_graph *graph = finish(&b);
  ir_assert_prints(graph,
                   "graph \"g\" {\n"
                   "  %0 = input(name=\"x\") : f32[2,3]\n"
                   "  %1 = constant(data=[-1,5]) : i64[2]\n"
                   "  %2 = constant(data=[0.5,2]) : f32[2]\n"
                   "  %3 = full(value=7) : i64[1,2]\n"
                   "  %4 = full(value=-0.5) : f32[]\n"
                   "  %5 = iota(axis=1) : i64[2,3]\n"
                   "  %6 = tanh(%0) : f32[2,3]\n"
                   "  %7 = maximum(%0, %4) : f32[2,3]\n"
                   "  %8 = add(%0, %6) : f32[2,3]\n"
                   "  %9 = sub(%0, %6) : f32[2,3]\n"
                   "  %10 = mul(%0, %6) : f32[2,3]\n"
                   "  %11 = div(%0, %6) : f32[2,3]\n"
                   "  %12 = add_scalar(%0; value=1.5) : f32[2,3]\n"
                   "  %13 = mul_scalar(%1; value=3) : i64[2]\n"
                   "  %14 = cast(%0) : bf16[2,3]\n"
                   "  %15 = lt(%0, %6) : bool[2,3]\n"
                   "  %16 = where(%15, %0, %4) : f32[2,3]\n"
                   "}\n");
  hfb_graph_destroy(graph);
}

static void test_reductions_contractions_movement(void **state) {
  (void)state;
  hfb_builder b = start();
  hfb_value *x = hfb_input(&b, "x", HFB_F32, SHAPE(2, 3, 4));
  hfb_value *w = hfb_input(&b, "w", HFB_F32, SHAPE(5, 4));
  hfb_reduce(&b, HFB_OP_REDUCE_SUM, x, 2, (int[]){-1, 0}, false); /* any order */
  hfb_reduce(&b, HFB_OP_REDUCE_MAX, x, 1, (int[]){1}, true);
  hfb_argmax(&b, x, -2, true);
  hfb_cumsum(&b, x, -1);
  hfb_matmul(&b, x, w, false, true);
  hfb_linear_op(&b, x, w, NULL, true);
  hfb_linear_op(&b, x, w, hfb_full(&b, HFB_F32, SHAPE(5), 0), true);
  hfb_reshape(&b, x, DIMS(4, -1));
  hfb_reshape(&b, x, DIMS(-1));
  hfb_reshape(&b, x, DIMS(1, 1, 1, 1, 1, 1, 1, -1));
  hfb_transpose(&b, x, (int[]){-1, 0, 1});
  hfb_slice(&b, x, -1, 1, 3);
  hfb_expand(&b, hfb_reshape(&b, w, DIMS(5, 1, 4)), DIMS(7, -1, 6, -1));
  hfb_concat(&b, 3, (hfb_value *[]){x, x, x}, -2);
  hfb_pad(&b, x, -3, 1, 2, 0.25);
  hfb_graph *graph = finish(&b);
  ir_assert_prints(graph,
                   "graph \"g\" {\n"
                   "  %0 = input(name=\"x\") : f32[2,3,4]\n"
                   "  %1 = input(name=\"w\") : f32[5,4]\n"
                   "  %2 = reduce_sum(%0; axes=[0,2], keepdim=0) : f32[3]\n"
                   "  %3 = reduce_max(%0; axes=[1], keepdim=1) : f32[2,1,4]\n"
                   "  %4 = argmax(%0; axis=1, keepdim=1) : i64[2,1,4]\n"
                   "  %5 = cumsum(%0; axis=2) : f32[2,3,4]\n"
                   "  %6 = matmul(%0, %1; transpose_a=0, transpose_b=1) : f32[2,3,5]\n"
                   "  %7 = linear(%0, %1; transpose_b=1) : f32[2,3,5]\n"
                   "  %8 = full(value=0) : f32[5]\n"
                   "  %9 = linear(%0, %1, %8; transpose_b=1) : f32[2,3,5]\n"
                   "  %10 = reshape(%0) : f32[4,6]\n"
                   "  %11 = reshape(%0) : f32[24]\n"
                   "  %12 = reshape(%0) : f32[1,1,1,1,1,1,1,24]\n"
                   "  %13 = transpose(%0; perm=[2,0,1]) : f32[4,2,3]\n"
                   "  %14 = slice(%0; starts=[0,0,1], limits=[2,3,3], steps=[1,1,1]) : f32[2,3,2]\n"
                   "  %15 = reshape(%1) : f32[5,1,4]\n"
                   "  %16 = expand(%15) : f32[7,5,6,4]\n"
                   "  %17 = concat(%0, %0, %0; axis=1) : f32[2,9,4]\n"
                   "  %18 = pad(%0; value=0.25, starts=[1,0,0], limits=[2,0,0]) : f32[5,3,4]\n"
                   "}\n");
  hfb_graph_destroy(graph);
}

static void test_indexed_and_composite(void **state) {
  (void)state;
  hfb_builder b = start();
  hfb_value *x = hfb_input(&b, "x", HFB_F32, SHAPE(6, 8));
  hfb_value *t = hfb_input(&b, "t", HFB_I64, SHAPE(6));
  hfb_value *v = hfb_input(&b, "v", HFB_F32, SHAPE(8));
  hfb_gather(&b, x, t, -1);
  hfb_take_along(&b, v, t, -1);
  hfb_embedding(&b, x, t, 3);
  hfb_softmax(&b, x, -1);
  hfb_log_softmax(&b, x, -2);
  hfb_layer_norm_op(&b, x, v, v, 0.5);
  hfb_rms_norm_op(&b, x, v, 0.25);
  hfb_nll_loss(&b, x, t, -100);
  hfb_pair_loss(&b, HFB_OP_MSE_LOSS, x, x);
  hfb_pair_loss(&b, HFB_OP_BCE_WITH_LOGITS, x, x);
  hfb_fft2_real(&b, x);
  hfb_graph *graph = finish(&b);
  ir_assert_prints(graph,
                   "graph \"g\" {\n"
                   "  %0 = input(name=\"x\") : f32[6,8]\n"
                   "  %1 = input(name=\"t\") : i64[6]\n"
                   "  %2 = input(name=\"v\") : f32[8]\n"
                   "  %3 = gather(%0, %1; axis=1) : f32[6,6]\n"
                   "  %4 = take_along(%2, %1; axis=0) : f32[6]\n"
                   "  %5 = embedding(%0, %1; padding_idx=3) : f32[6,8]\n"
                   "  %6 = softmax(%0; axis=1) : f32[6,8]\n"
                   "  %7 = log_softmax(%0; axis=0) : f32[6,8]\n"
                   "  %8 = layer_norm(%0, %2, %2; eps=0.5) : f32[6,8]\n"
                   "  %9 = rms_norm(%0, %2; eps=0.25) : f32[6,8]\n"
                   "  %10 = nll_loss(%0, %1; ignore_index=-100) : f32[]\n"
                   "  %11 = mse_loss(%0, %0) : f32[]\n"
                   "  %12 = bce_with_logits(%0, %0) : f32[]\n"
                   "  %13 = fft2_real(%0) : f32[6,8]\n"
                   "}\n");
  hfb_graph_destroy(graph);
}

static void test_scopes_and_tied_parameters(void **state) {
  (void)state;
  hfb_builder b = start();
  hfb_init normal = {.kind = HFB_INIT_NORMAL, .b = 0.02, .padding_idx = -1};
  hfb_init frozen = {.kind = HFB_INIT_UNIFORM, .a = -1, .b = 1, .padding_idx = 0, .frozen = true};
  hfb_init buffer = {.kind = HFB_INIT_CONSTANT, .padding_idx = -1, .buffer = true};
  hfb_scope_push(&b, "bert");
  hfb_scope_push(&b, "encoder.layer.%d", 11);
  hfb_value *w = hfb_parameter(&b, "weight", SHAPE(2, 2), normal);
  hfb_scope_pop(&b); /* all that was pushed at once, dots included */
  assert_string_equal(b.scope, "bert");
  hfb_value *table = hfb_parameter(&b, "table", SHAPE(4), frozen);
  hfb_unary(&b, HFB_OP_NEG, table);
  hfb_scope_pop(&b);
  assert_string_equal(b.scope, "");
  hfb_parameter(&b, "positions", SHAPE(3), buffer);
  assert_ptr_equal(hfb_parameter(&b, "bert.encoder.layer.11.weight", SHAPE(2, 2), normal), w);
  hfb_unary(&b, HFB_OP_NEG, w);
  hfb_graph *graph = finish(&b);
  ir_assert_prints(
      graph,
      "graph \"g\" {\n"
      "  %0 = parameter(name=\"bert.encoder.layer.11.weight\", padding_idx=-1, init=1, init_a=0, init_b=0.02, "
      "trainable=1, buffer=0, scope=\"bert.encoder.layer.11\") : f32[2,2]\n"
      "  %1 = parameter(name=\"bert.table\", padding_idx=0, init=2, init_a=-1, init_b=1, trainable=0, buffer=0, "
      "scope=\"bert\") : f32[4]\n"
      "  %2 = neg(%1; scope=\"bert\") : f32[4]\n"
      "  %3 = parameter(name=\"positions\", padding_idx=-1, init=0, init_a=0, init_b=0, trainable=0, buffer=1) : "
      "f32[3]\n"
      "  %4 = neg(%0) : f32[2,2]\n"
      "}\n");
  hfb_graph_destroy(graph);
}

static void test_a_tied_parameter_of_another_shape_fails(void **state) {
  (void)state;
  hfb_builder b = start();
  hfb_init init = {.padding_idx = -1};
  hfb_parameter(&b, "w", SHAPE(2, 3), init);
  assert_null(hfb_parameter(&b, "w", SHAPE(3, 2), init));
  assert_fails(&b, HFB_MISMATCH, "parameter \"w\" is used with shape [2,3] and with shape [3,2]");
}

static void test_the_first_failure_is_the_one_reported(void **state) {
  (void)state;
  hfb_builder b = start();
  hfb_value *x = hfb_input(&b, "x", HFB_F32, SHAPE(2, 3));
  hfb_scope_push(&b, "encoder.layer.3");
  hfb_value *bad = hfb_matmul(&b, x, x, false, false);
  assert_null(bad);
  /* Everything takes the NULL and everything after it is quiet. */
  hfb_value *y = hfb_add(&b, bad, x);
  y = hfb_softmax(&b, y, 5);
  y = hfb_reduce(&b, HFB_OP_REDUCE_SUM, y, 1, (int[]){9}, true);
  y = hfb_reshape(&b, y, DIMS(-1, -1));
  y = hfb_transpose(&b, y, (int[]){0});
  y = hfb_slice(&b, y, 3, 0, 1);
  y = hfb_expand(&b, y, DIMS(-1));
  y = hfb_pad(&b, y, 7, 0, 1, 0);
  y = hfb_concat(&b, 1, &y, 0);
  y = hfb_gather(&b, y, y, 0);
  y = hfb_linear_op(&b, y, y, NULL, true);
  y = hfb_cast(&b, y, HFB_F64);
  hfb_parameter(&b, "w", SHAPE(2), (hfb_init){0});
  hfb_scope_pop(&b);
  hfb_scope_pop(&b);
  hfb_builder_fail(&b, HFB_UNSUPPORTED, "later");
  hfb_output_add(&b, "y", y);
  assert_null(y);
  (void)HFB_FAIL(HFB_IO, "a message of somebody else in between");
  assert_fails(&b, HFB_MISMATCH,
               "encoder.layer.3: matmul(f32[2,3], f32[2,3]): 3 columns of input 0 against 2 rows of input 1");
}

/* Sites count through all scopes and kinds of random ops; all draw from one state, whose name has no scope. */
static void test_random_sites(void **state) {
  (void)state;
  hfb_builder b = start();
  hfb_value *x = hfb_input(&b, "x", HFB_F32, SHAPE(2, 3));
  hfb_scope_push(&b, "layer");
  hfb_value *y = hfb_dropout(&b, x, 0.5);
  hfb_scope_pop(&b);
  y = hfb_dropout(&b, y, 0.25);
  hfb_scope_push(&b, "m");
  hfb_value *mask = hfb_random_mask(&b, SHAPE(3, 1), 0.125);
  y = hfb_dropout(&b, y, 0);
  hfb_scope_pop(&b);
  hfb_output_add(&b, "y", y);
  hfb_output_add(&b, "mask", mask);
  hfb_value *random = hfb_random_state(&b);
  hfb_update_add(&b, random, hfb_add(&b, random, hfb_constant_i64(&b, SHAPE(2), (int64_t[]){0, 1})));
  hfb_graph *graph = finish(&b);
  ir_assert_prints(graph,
                   "graph \"g\" {\n"
                   "  %0 = input(name=\"x\") : f32[2,3]\n"
                   "  %1 = parameter(name=\"random_state\", padding_idx=-1, init=6, init_a=0, init_b=0, trainable=0, "
                   "buffer=1, scope=\"layer\") : i64[2]\n"
                   "  %2 = dropout(%0, %1; p=0.5, site=0, scope=\"layer\") : f32[2,3]\n"
                   "  %3 = dropout(%2, %1; p=0.25, site=1) : f32[2,3]\n"
                   "  %4 = iota(axis=0, scope=\"m\") : i64[3]\n"
                   "  %5 = reshape(%4; scope=\"m\") : i64[3,1]\n"
                   "  %6 = slice(%1; starts=[0], limits=[1], steps=[1], scope=\"m\") : i64[1]\n"
                   "  %7 = reshape(%6; scope=\"m\") : i64[]\n"
                   "  %8 = slice(%1; starts=[1], limits=[2], steps=[1], scope=\"m\") : i64[1]\n"
                   "  %9 = reshape(%8; scope=\"m\") : i64[]\n"
                   "  %10 = random_keep(%5, %7, %9; p=0.125, site=2, scope=\"m\") : bool[3,1]\n"
                   "  %11 = dropout(%3, %1; p=0, site=3, scope=\"m\") : f32[2,3]\n"
                   "  %12 = constant(data=[0,1]) : i64[2]\n"
                   "  %13 = add(%1, %12) : i64[2]\n"
                   "  output \"y\" = %11\n"
                   "  output \"mask\" = %10\n"
                   "  update %1 = %13\n"
                   "}\n");
  hfb_graph_destroy(graph);
}

static void test_finish_verifies(void **state) {
  (void)state;
  hfb_builder b = start();
  hfb_value *x = hfb_input(&b, "x", HFB_F32, SHAPE(2, 3));
  x->id = 7;
  assert_fails(&b, HFB_INTERNAL, "node 0 (input): value id 7; 0 is next");
}

typedef void (*failing_fn)(hfb_builder *b, hfb_value *x);

static void missing_input(hfb_builder *b, hfb_value *x) {
  hfb_add(b, x, NULL);
}
static void missing_output(hfb_builder *b, hfb_value *x) {
  hfb_output_add(b, "y", NULL);
}
static void same_output_twice(hfb_builder *b, hfb_value *x) {
  hfb_output_add(b, "y", x);
  hfb_output_add(b, "y", x);
}
static void unpopped_scope(hfb_builder *b, hfb_value *x) {
  hfb_scope_push(b, "a");
}
static void extra_pop(hfb_builder *b, hfb_value *x) {
  hfb_scope_pop(b);
}
static void empty_scope(hfb_builder *b, hfb_value *x) {
  hfb_scope_push(b, "%s", "");
}
static void long_scope(hfb_builder *b, hfb_value *x) {
  hfb_scope_push(b, "%200s", "a");
  hfb_scope_push(b, "%55s", "b");
}
static void deep_scope(hfb_builder *b, hfb_value *x) {
  for (int i = 0; i < 33; i++) hfb_scope_push(b, "a");
}
static void long_name(hfb_builder *b, hfb_value *x) {
  char name[600];
  memset(name, 'n', sizeof(name));
  name[sizeof(name) - 1] = '\0';
  hfb_parameter(b, name, (hfb_shape){0}, (hfb_init){.padding_idx = -1});
}
static void model_failure(hfb_builder *b, hfb_value *x) {
  hfb_scope_push(b, "m");
  hfb_builder_fail(b, HFB_UNSUPPORTED, "activation %s", "xyz");
}
static void axis_too_small(hfb_builder *b, hfb_value *x) {
  hfb_softmax(b, x, -3);
}
static void slice_axis(hfb_builder *b, hfb_value *x) {
  hfb_slice(b, x, 2, 0, 1);
}
static void pad_axis(hfb_builder *b, hfb_value *x) {
  hfb_pad(b, x, -3, 0, 1, 0);
}
static void repeated_axis(hfb_builder *b, hfb_value *x) {
  hfb_reduce(b, HFB_OP_REDUCE_SUM, x, 2, (int[]){1, -1}, false);
}
static void too_many_axes(hfb_builder *b, hfb_value *x) {
  hfb_reduce(b, HFB_OP_REDUCE_SUM, x, 9, (int[]){0, 1, 2, 3, 4, 5, 6, 7, 8}, false);
}
static void two_free_dims(hfb_builder *b, hfb_value *x) {
  hfb_reshape(b, x, DIMS(-1, -1));
}
static void free_dim_does_not_divide(hfb_builder *b, hfb_value *x) {
  hfb_reshape(b, x, DIMS(-1, 4));
}
static void free_dim_over_zero(hfb_builder *b, hfb_value *x) {
  hfb_reshape(b, x, DIMS(-1, 0));
}
static void negative_dim(hfb_builder *b, hfb_value *x) {
  hfb_reshape(b, x, DIMS(-2, -3));
}
static void reshape_rank(hfb_builder *b, hfb_value *x) {
  hfb_reshape(b, x, DIMS(1, 1, 1, 1, 1, 1, 1, 1, 6));
}
static void expand_new_free_dim(hfb_builder *b, hfb_value *x) {
  hfb_expand(b, x, DIMS(-1, 2, 3));
}
static void concat_nothing(hfb_builder *b, hfb_value *x) {
  hfb_concat(b, 0, NULL, 0);
}
static void deep_shape(hfb_builder *b, hfb_value *x) {
  hfb_full(b, HFB_F32, hfb_shape_of(9, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}), 0);
}
static void update_without_value(hfb_builder *b, hfb_value *x) {
  hfb_update_add(b, hfb_random_state(b), NULL);
}
static void update_without_parameter(hfb_builder *b, hfb_value *x) {
  hfb_update_add(b, NULL, x);
}
static void update_of_an_input(hfb_builder *b, hfb_value *x) {
  hfb_update_add(b, x, x);
}
static void update_of_another_type(hfb_builder *b, hfb_value *x) {
  hfb_update_add(b, hfb_random_state(b), x);
}
static void update_twice(hfb_builder *b, hfb_value *x) {
  hfb_value *state = hfb_random_state(b);
  hfb_update_add(b, state, state);
  hfb_update_add(b, state, state);
}
static void certain_dropout(hfb_builder *b, hfb_value *x) {
  hfb_dropout(b, x, 1);
}
static void state_of_another_shape(hfb_builder *b, hfb_value *x) {
  hfb_parameter_named(b, HFB_RANDOM_STATE, HFB_I64, SHAPE(3), (hfb_init){.padding_idx = -1});
  hfb_dropout(b, x, 0.5);
}
static void too_many_attributes(hfb_builder *b, hfb_value *x) {
  hfb_attr attrs[HFB_ATTR_COUNT + 1] = {0};
  hfb_build(b, HFB_OP_NEG, 1, &x, HFB_ATTR_COUNT + 1, attrs);
}

static const struct {
  failing_fn run;
  hfb_status status;
  const char *message;
} failures[] = {
    {missing_input, HFB_INVALID_ARGUMENT, "add: input 1 is missing"},
    {missing_output, HFB_INVALID_ARGUMENT, "output \"y\" is missing"},
    {same_output_twice, HFB_INVALID_ARGUMENT, "output \"y\" exists already"},
    {unpopped_scope, HFB_INVALID_ARGUMENT, "a: 1 scopes were pushed but not popped"},
    {extra_pop, HFB_INVALID_ARGUMENT, "a scope is popped that was not pushed"},
    {empty_scope, HFB_INVALID_ARGUMENT, "a scope is empty"},
    {long_scope, HFB_INVALID_ARGUMENT, "longer than 255 bytes"},
    {deep_scope, HFB_INVALID_ARGUMENT, "scopes are nested more than 32 deep"},
    {long_name, HFB_INVALID_ARGUMENT, "the name of parameter \"nnn"},
    {model_failure, HFB_UNSUPPORTED, "m: activation xyz"},
    {axis_too_small, HFB_INVALID_ARGUMENT, "softmax(f32[2,3]): axis -3 does not exist; the rank is 2"},
    {slice_axis, HFB_INVALID_ARGUMENT, "slice: axis 2 does not exist; the rank is 2"},
    {pad_axis, HFB_INVALID_ARGUMENT, "pad: axis -3 does not exist"},
    {repeated_axis, HFB_INVALID_ARGUMENT, "axes must ascend"},
    {too_many_axes, HFB_INVALID_ARGUMENT, "reduce_sum: rank 9"},
    {two_free_dims, HFB_INVALID_ARGUMENT, "reshape: dimensions 0 and 1 are both -1"},
    {free_dim_does_not_divide, HFB_MISMATCH, "reshape: 6 elements do not divide by 4"},
    {free_dim_over_zero, HFB_MISMATCH, "reshape: 6 elements do not divide by 0"},
    {negative_dim, HFB_INVALID_ARGUMENT, "shape [-2,-3] has a negative extent"},
    {reshape_rank, HFB_INVALID_ARGUMENT, "reshape: rank 9"},
    {expand_new_free_dim, HFB_INVALID_ARGUMENT, "shape [-1,2,3] has a negative extent"},
    {concat_nothing, HFB_INVALID_ARGUMENT, "0 inputs given; it takes at least 1"},
    {deep_shape, HFB_INVALID_ARGUMENT, "attribute shape has 9 values; at most 8"},
    {update_without_value, HFB_INVALID_ARGUMENT, "an update without a value"},
    {update_without_parameter, HFB_INVALID_ARGUMENT, "an update without a parameter"},
    {update_of_an_input, HFB_INVALID_ARGUMENT, "an update of something that is no parameter"},
    {update_of_another_type, HFB_MISMATCH, "parameter \"random_state\" is i64[2], its update f32[2,3]"},
    {update_twice, HFB_INVALID_ARGUMENT, "parameter \"random_state\" is updated twice"},
    {certain_dropout, HFB_INVALID_ARGUMENT, "p is 1; it must lie in [0, 1)"},
    {state_of_another_shape, HFB_MISMATCH, "parameter \"random_state\" is used with shape [3] and with shape [2]"},
    {too_many_attributes, HFB_INVALID_ARGUMENT, " attributes"},
};

static void test_failures_are_named(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
    hfb_builder b = start();
    failures[i].run(&b, hfb_input(&b, "x", HFB_F32, SHAPE(2, 3)));
    assert_fails(&b, failures[i].status, failures[i].message);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sources_and_elementwise),
      cmocka_unit_test(test_reductions_contractions_movement),
      cmocka_unit_test(test_indexed_and_composite),
      cmocka_unit_test(test_scopes_and_tied_parameters),
      cmocka_unit_test(test_a_tied_parameter_of_another_shape_fails),
      cmocka_unit_test(test_the_first_failure_is_the_one_reported),
      cmocka_unit_test(test_random_sites),
      cmocka_unit_test(test_finish_verifies),
      cmocka_unit_test(test_failures_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
