/* What the compiler makes of small graphs: steps, fusion, storage. Graphs are written in the text form. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "compile/passes.h"
#include "compile/schedule.h"

typedef struct compiled {
  hfb_graph *graph; /* of primitives */
  hfb_schedule *schedule;
} compiled;

static hfb_graph *pass(hfb_graph *graph, hfb_status (*run)(const hfb_graph *, hfb_graph **)) {
  hfb_graph *out = NULL;
  if (run(graph, &out) != HFB_OK) fail_msg("%s", hfb_error_message());
  assert_int_equal(hfb_graph_verify(out), HFB_OK);
  hfb_graph_destroy(graph);
  return out;
}

static compiled compile_text(const char *text) {
  compiled c = {0};
  if (hfb_graph_parse(text, strlen(text), &c.graph) != HFB_OK) fail_msg("%s", hfb_error_message());
  c.graph = pass(c.graph, hfb_pass_simplify);
  c.graph = pass(c.graph, hfb_pass_attention);
  c.graph = pass(c.graph, hfb_pass_decompose);
  c.graph = pass(c.graph, hfb_pass_fold);
  c.graph = pass(c.graph, hfb_pass_simplify);
  if (hfb_schedule_create(c.graph, &c.schedule) != HFB_OK) fail_msg("%s", hfb_error_message());
  assert_int_equal(hfb_memory_plan(c.schedule), HFB_OK);
  for (int i = 0; i < c.schedule->step_count; i++) {
    if (c.schedule->steps[i].code[0].loop) assert_int_equal(hfb_loop_verify(c.schedule->steps[i].code[0].loop), HFB_OK);
  }
  return c;
}

static void compiled_free(compiled *c) {
  hfb_schedule_destroy(c->schedule);
  hfb_graph_destroy(c->graph);
}

/* "gemm+ rows attention": the kinds in order, + where a generated function belongs to a product or an attention. */
static void expect_steps(const char *text, const char *expected) {
  compiled c = compile_text(text);
  char found[256] = "";
  static const char *const names[] = {"rows", "gemm", "attention", "attention_backward", "kernel"};
  for (int i = 0; i < c.schedule->step_count; i++) {
    const hfb_step *step = &c.schedule->steps[i];
    const size_t length = strlen(found);
    snprintf(found + length, sizeof found - length, "%s%s%s", i ? " " : "", names[step->kind],
             step->kind != HFB_STEP_ROWS && step->code[0].loop ? "+" : "");
  }
  assert_string_equal(found, expected);
  compiled_free(&c);
}

#define PARAMETER(id, name, shape)   \
  "%" id " = parameter(name=\"" name \
  "\", padding_idx=-1, init=1, init_a=0, init_b=1, trainable=1, buffer=0) : f32[" shape "]\n"

static const char linear_gelu[] =
    "graph \"linear_gelu\" {\n"
    "%0 = input(name=\"x\") : f32[2,8,16]\n" PARAMETER("1", "w", "32,16") PARAMETER("2", "b", "32")
    "%3 = linear(%0, %1, %2; transpose_b=1) : f32[2,8,32]\n"
    "%4 = gelu(%3) : f32[2,8,32]\n"
    "output \"y\" = %4\n}\n";

static void an_activation_becomes_the_epilogue_of_its_product(void **state) {
  expect_steps(linear_gelu, "gemm+");
  compiled c = compile_text(linear_gelu);
  const hfb_step *step = &c.schedule->steps[0];
  assert_int_equal(step->m, 16); /* the batch became rows: the weight is shared */
  assert_int_equal(step->batch_rank, 0);
  assert_int_equal(c.schedule->arena_bytes, 0);
  compiled_free(&c);
}

static void a_lone_bias_needs_no_function(void **state) {
  expect_steps("graph \"linear\" {\n"
               "%0 = input(name=\"x\") : f32[8,16]\n" PARAMETER("1", "w", "32,16") PARAMETER("2", "b", "32")
               "%3 = linear(%0, %1, %2; transpose_b=1) : f32[8,32]\n"
               "output \"y\" = %3\n}\n",
               "gemm");
}

static void bias_residual_and_layer_norm_are_one_loop(void **state) {
  expect_steps("graph \"post_norm\" {\n"
               "%0 = input(name=\"x\") : f32[2,8,16]\n"
               PARAMETER("1", "w", "16,16")
               PARAMETER("2", "b", "16")
               PARAMETER("3", "g", "16")
                   PARAMETER("4", "h", "16")
               "%5 = linear(%0, %1, %2; transpose_b=1) : f32[2,8,16]\n"
               "%6 = add(%5, %0) : f32[2,8,16]\n"
               "%7 = layer_norm(%6, %3, %4; eps=1e-5) : f32[2,8,16]\n"
               "output \"y\" = %7\n}\n",
               "gemm rows");
}

/* With a second reader of the sum, as in pre-norm layers, the sum is stored by the product. */
static void a_residual_read_twice_is_stored_by_the_product(void **state) {
  expect_steps("graph \"pre_norm\" {\n"
               "%0 = input(name=\"x\") : f32[2,8,16]\n"
               PARAMETER("1", "w", "16,16")
               PARAMETER("2", "b", "16")
               PARAMETER("3", "g", "16")
                   PARAMETER("4", "h", "16")
               "%5 = linear(%0, %1, %2; transpose_b=1) : f32[2,8,16]\n"
               "%6 = add(%5, %0) : f32[2,8,16]\n"
               "%7 = layer_norm(%6, %3, %4; eps=1e-5) : f32[2,8,16]\n"
               "output \"y\" = %7\noutput \"sum\" = %6\n}\n",
               "gemm+ rows");
}

static void expect_results(const hfb_step *step, int count, const char *const *ops) {
  assert_int_equal(step->result_count, count);
  for (int r = 0; r < count; r++) assert_string_equal(hfb_op_info_of(step->results[r]->node->op)->name, ops[r]);
}

/* x and GELU(x), when something reads x later: both from the tile, as the forward pass of training wants it. */
static const char kept_input_of_gelu[] =
    "graph \"kept\" {\n"
    "%0 = input(name=\"x\") : f32[2,8,16]\n"
    PARAMETER("1", "w", "32,16")
    PARAMETER("2", "b", "32")
    PARAMETER("3", "w2", "32,32")
    "%4 = linear(%0, %1, %2; transpose_b=1) : f32[2,8,32]\n"
    "%5 = gelu(%4) : f32[2,8,32]\n"
    "%6 = linear(%5, %3; transpose_b=1) : f32[2,8,32]\n"
    "%7 = mul(%6, %4) : f32[2,8,32]\n"
    "output \"y\" = %7\n}\n";

static void a_value_of_two_epilogues_is_stored_by_the_first(void **state) {
  expect_steps(kept_input_of_gelu, "gemm+ gemm+");
  compiled c = compile_text(kept_input_of_gelu);
  expect_results(&c.schedule->steps[0], 2, (const char *const[]){"mul", "add"});
  assert_int_equal(c.schedule->steps[0].code[0].loop->store_count, 2);
  assert_int_equal(c.schedule->arena_bytes, 2 * 2 * 8 * 32 * 4);
  compiled_free(&c);
}

/* The product itself is read twice, there is no bias: its tile goes out as it is, and changed. */
static void a_product_of_two_readers_is_stored_beside_its_epilogue(void **state) {
  static const char text[] =
      "graph \"gated\" {\n"
      "%0 = input(name=\"x\") : f32[2,8,16]\n"
      PARAMETER("1", "w", "32,16")
      PARAMETER("2", "w2", "32,32")
      "%3 = linear(%0, %1; transpose_b=1) : f32[2,8,32]\n"
      "%4 = relu(%3) : f32[2,8,32]\n"
      "%5 = linear(%4, %2; transpose_b=1) : f32[2,8,32]\n"
      "%6 = mul(%5, %3) : f32[2,8,32]\n"
      "output \"y\" = %6\n}\n";
  expect_steps(text, "gemm+ gemm+");
  compiled c = compile_text(text);
  expect_results(&c.schedule->steps[0], 2, (const char *const[]){"maximum", "matmul"});
  compiled_free(&c);
}

/* A sum of two tensors, read by the loops of two products' operands: one loop less. */
static void a_value_of_two_loops_is_stored_by_the_first(void **state) {
  static const char text[] =
      "graph \"masked\" {\n"
      "%0 = input(name=\"x\") : f32[8,16]\n"
      "%1 = input(name=\"y\") : f32[8,16]\n"
      "%2 = input(name=\"m\") : f32[8,16]\n"
      PARAMETER("3", "w", "16,16")
      "%4 = add(%0, %1) : f32[8,16]\n"
      "%5 = mul(%4, %2) : f32[8,16]\n"
      "%6 = linear(%5, %3; transpose_b=1) : f32[8,16]\n"
      "%7 = sub(%4, %6) : f32[8,16]\n"
      "output \"y\" = %7\n}\n";
  expect_steps(text, "rows gemm+");
  compiled c = compile_text(text);
  expect_results(&c.schedule->steps[0], 2, (const char *const[]){"mul", "add"});
  compiled_free(&c);
}

#define QKV                                              \
  "%0 = input(name=\"q\") : f32[2,8,32]\n"               \
  "%1 = input(name=\"k\") : f32[2,8,32]\n"               \
  "%2 = input(name=\"v\") : f32[2,8,32]\n"               \
  "%3 = reshape(%0) : f32[2,8,4,8]\n"                    \
  "%4 = transpose(%3; perm=[0,2,1,3]) : f32[2,4,8,8]\n"  \
  "%5 = reshape(%1) : f32[2,8,4,8]\n"                    \
  "%6 = transpose(%5; perm=[0,2,1,3]) : f32[2,4,8,8]\n"  \
  "%7 = reshape(%2) : f32[2,8,4,8]\n"                    \
  "%8 = transpose(%7; perm=[0,2,1,3]) : f32[2,4,8,8]\n"  \
  "%9 = matmul(%4, %6; transpose_a=0, transpose_b=1) : f32[2,4,8,8]\n" \
  "%10 = mul_scalar(%9; value=0.35) : f32[2,4,8,8]\n"

#define CONTEXT(scores)                                                            \
  "%30 = softmax(" scores "; axis=3) : f32[2,4,8,8]\n"                             \
  "%31 = matmul(%30, %8; transpose_a=0, transpose_b=0) : f32[2,4,8,8]\n"           \
  "%32 = transpose(%31; perm=[0,2,1,3]) : f32[2,8,4,8]\n"                          \
  "%33 = reshape(%32) : f32[2,8,32]\n"                                             \
  "output \"y\" = %33\n}\n"

static const char *const plain_attention = "graph \"attention\" {\n" QKV CONTEXT("%10");
static const char *const masked_attention =
    "graph \"masked\" {\n" QKV
    "%11 = input(name=\"mask\") : f32[2,1,1,8]\n"
    "%12 = add(%10, %11) : f32[2,4,8,8]\n" CONTEXT("%12");
static const char *const causal_attention =
    "graph \"causal\" {\n" QKV
    "%11 = iota(axis=1) : i64[8,8]\n"
    "%12 = iota(axis=0) : i64[8,8]\n"
    "%13 = le(%11, %12) : bool[8,8]\n"
    "%14 = full(value=-3.4028234663852886e+38) : f32[]\n"
    "%15 = where(%13, %10, %14) : f32[2,4,8,8]\n" CONTEXT("%15");

static void attention_is_one_step_and_its_scale_a_number(void **state) {
  expect_steps(plain_attention, "attention");
  compiled c = compile_text(plain_attention);
  assert_true(c.schedule->steps[0].scale > 0.349f && c.schedule->steps[0].scale < 0.351f);
  assert_false(c.schedule->steps[0].causal);
  assert_int_equal(c.schedule->arena_bytes, 0); /* heads side by side: the output itself, no copy */
  compiled_free(&c);
}

static void a_mask_becomes_a_score_function(void **state) {
  expect_steps(masked_attention, "attention+");
}

static void a_causal_mask_is_recognised(void **state) {
  expect_steps(causal_attention, "attention");
  compiled c = compile_text(causal_attention);
  assert_true(c.schedule->steps[0].causal);
  compiled_free(&c);
}

/* Padding may hide a row entirely, which then spreads over all keys: nothing may be skipped. */
static void a_causal_mask_with_padding_skips_nothing(void **state) {
  char text[4096];
  const char *where = strstr(causal_attention, "%15 = where(%13");
  assert_non_null(where);
  snprintf(
      text, sizeof text,
      "%.*s%%16 = input(name=\"keep\") : bool[2,1,1,8]\n%%17 = and(%%13, %%16) : bool[2,1,8,8]\n%%15 = where(%%17%s",
      (int)(where - causal_attention), causal_attention, where + strlen("%15 = where(%13"));
  compiled c = compile_text(text);
  const hfb_step *step = &c.schedule->steps[c.schedule->step_count - 1];
  assert_int_equal(step->kind, HFB_STEP_ATTENTION);
  assert_false(step->causal);
  assert_non_null(step->code[0].loop);
  compiled_free(&c);
}

/* The other way round it is no causal mask: nothing may be skipped. */
static void an_anticausal_mask_is_not_taken_for_a_causal_one(void **state) {
  char text[4096];
  const char *swap = strstr(causal_attention, "le(%11, %12)");
  assert_non_null(swap);
  snprintf(text, sizeof text, "%.*sle(%%12, %%11)%s", (int)(swap - causal_attention), causal_attention,
           swap + strlen("le(%11, %12)"));
  compiled c = compile_text(text);
  assert_int_equal(c.schedule->steps[0].kind, HFB_STEP_ATTENTION);
  assert_false(c.schedule->steps[0].causal);
  assert_non_null(c.schedule->steps[0].code[0].loop);
  compiled_free(&c);
}

/* Probabilities that are output as well must exist: no fused attention. */
static void probabilities_that_are_output_are_computed(void **state) {
  char text[4096];
  snprintf(text, sizeof text, "graph \"probabilities\" {\n%s", QKV);
  strcat(text, "%30 = softmax(%10; axis=3) : f32[2,4,8,8]\n"
               "%31 = matmul(%30, %8; transpose_a=0, transpose_b=0) : f32[2,4,8,8]\n"
               "output \"y\" = %31\noutput \"p\" = %30\n}\n");
  expect_steps(text, "gemm rows gemm");
}

/* Row losses over the classes and their mean over the rows: two loops; the log-probabilities are never stored. */
static void a_loss_stores_one_number_for_each_row(void **state) {
  static const char text[] =
      "graph \"loss\" {\n"
      "%0 = input(name=\"logits\") : f32[2,8,100]\n"
      "%1 = input(name=\"labels\") : i64[2,8]\n"
      "%2 = reshape(%0) : f32[16,100]\n"
      "%3 = log_softmax(%2; axis=1) : f32[16,100]\n"
      "%4 = reshape(%1) : i64[16]\n"
      "%5 = nll_loss(%3, %4; ignore_index=-100) : f32[]\n"
      "output \"loss\" = %5\n}\n";
  compiled c = compile_text(text);
  assert_true(c.schedule->arena_bytes <= 16 * 4 + 2 * 64);
  compiled_free(&c);
}

/* Equal subexpressions and dead code cost nothing. */
static void equal_values_are_computed_once(void **state) {
  expect_steps("graph \"twice\" {\n"
               "%0 = input(name=\"x\") : f32[8,16]\n" PARAMETER("1", "w", "16,16")
               "%2 = matmul(%0, %1; transpose_a=0, transpose_b=0) : f32[8,16]\n"
               "%3 = matmul(%0, %1; transpose_a=0, transpose_b=0) : f32[8,16]\n"
               "%4 = matmul(%0, %0; transpose_a=0, transpose_b=1) : f32[8,8]\n"
               "%5 = add(%2, %3) : f32[8,16]\n"
               "output \"y\" = %5\n}\n",
               "gemm+");
}

static void constants_are_folded(void **state) {
  compiled c = compile_text("graph \"fold\" {\n"
                            "%0 = constant(data=[1, 2, 3, 4]) : i64[4]\n"
                            "%1 = constant(data=[3, 0]) : i64[2]\n"
                            "%2 = gather(%0, %1; axis=0) : i64[2]\n"
                            "%3 = add_scalar(%2; value=10) : i64[2]\n"
                            "output \"y\" = %3\n}\n");
  const hfb_value *y = c.graph->outputs[0].value;
  assert_int_equal(y->node->op, HFB_OP_CONSTANT);
  const int64_t *data = hfb_node_attr(y->node, HFB_ATTR_DATA)->u.data;
  assert_int_equal(data[0], 14);
  assert_int_equal(data[1], 11);
  compiled_free(&c);
}

/* No two values that live at the same time may share bytes. */
static void lives_that_overlap_have_memory_of_their_own(void **state) {
  compiled c = compile_text("graph \"chain\" {\n"
                            "%0 = input(name=\"x\") : f32[64,64]\n"
                            PARAMETER("1", "w", "64,64")
                            PARAMETER("2", "v", "64,64")
                            "%3 = linear(%0, %1; transpose_b=1) : f32[64,64]\n"
                            "%4 = linear(%3, %2; transpose_b=1) : f32[64,64]\n"
                            "%5 = linear(%4, %1; transpose_b=1) : f32[64,64]\n"
                            "%6 = matmul(%5, %3; transpose_a=0, transpose_b=0) : f32[64,64]\n"
                            "%7 = softmax(%6; axis=1) : f32[64,64]\n"
                            "%8 = linear(%7, %2; transpose_b=1) : f32[64,64]\n"
                            "output \"y\" = %8\n}\n");
  const hfb_schedule *s = c.schedule;
  for (int i = 0; i < s->step_count; i++) {
    const hfb_storage *written = &s->storage[s->steps[i].result->id];
    for (int v = 0; v < s->graph->value_count && written->kind == HFB_STORAGE_ARENA; v++) {
      const hfb_storage *other = &s->storage[v];
      if (other == written || other->kind != HFB_STORAGE_ARENA) continue;
      const bool alive = other->first_step < i && other->last_step > i;
      const bool apart =
          other->offset + other->bytes <= written->offset || written->offset + written->bytes <= other->offset;
      assert_true(!alive || apart);
    }
  }
  assert_true(s->arena_bytes <= 3 * 64 * 64 * 4);
  compiled_free(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_activation_becomes_the_epilogue_of_its_product),
      cmocka_unit_test(a_lone_bias_needs_no_function),
      cmocka_unit_test(bias_residual_and_layer_norm_are_one_loop),
      cmocka_unit_test(a_residual_read_twice_is_stored_by_the_product),
      cmocka_unit_test(a_value_of_two_epilogues_is_stored_by_the_first),
      cmocka_unit_test(a_product_of_two_readers_is_stored_beside_its_epilogue),
      cmocka_unit_test(a_value_of_two_loops_is_stored_by_the_first),
      cmocka_unit_test(attention_is_one_step_and_its_scale_a_number),
      cmocka_unit_test(a_mask_becomes_a_score_function),
      cmocka_unit_test(a_causal_mask_is_recognised),
      cmocka_unit_test(a_causal_mask_with_padding_skips_nothing),
      cmocka_unit_test(an_anticausal_mask_is_not_taken_for_a_causal_one),
      cmocka_unit_test(probabilities_that_are_output_are_computed),
      cmocka_unit_test(a_loss_stores_one_number_for_each_row),
      cmocka_unit_test(equal_values_are_computed_once),
      cmocka_unit_test(constants_are_folded),
      cmocka_unit_test(lives_that_overlap_have_memory_of_their_own),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
