/* Every gradient rule of the op table: against differences, against the rules of the decomposition, and what no case of
 * a table can say: ties, padding rows, dtypes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "grad/backward.h"
#include "grad/rules.h"
#include "support/device_fixture.h"
#include "support/grad_check.h"

static void test_every_case(void **state) {
  (void)state;
  int failures = 0;
  char text[512];
  for (int i = 0; i < grad_case_count(); i++) {
    if (grad_case_passes(grad_case_line(i), device, text, sizeof(text))) continue;
    print_error("\"%s\": %s\n", grad_case_line(i), text);
    failures++;
  }
  assert_int_equal(failures, 0);
}

static void test_every_rule_has_a_case(void **state) {
  (void)state;
  int cases[HFB_OP_COUNT] = {0};
  for (int i = 0; i < grad_case_count(); i++) {
    op_case c;
    need_ok(op_case_parse(grad_case_line(i), &c), grad_case_line(i));
    if (!hfb_gradient_rule_of(c.op)) fail_msg("\"%s\": the op has no rule", c.text);
    cases[c.op]++;
  }
  for (int op = 0; op < HFB_OP_COUNT; op++) {
    if (hfb_gradient_rule_of((hfb_op)op) && cases[op] < 2) {
      fail_msg("%s has a gradient rule and %d cases in grad_cases.def", hfb_op_info_of((hfb_op)op)->name, cases[op]);
    }
  }
}

/* ---- exact values ---- */

/* The gradients by x (and y) of sum(c op(..)) at given data, where c counts 1, 2, .. */
static void check_values(const char *line, int input_count, const double *const *inputs,
                         const double *const *expected) {
  grad_case g;
  hfb_graph *backward;
  hfb_tensor gradients[OP_CASE_MAX_INPUTS] = {0};
  need_ok(grad_case_open(line, device, &g), line);
  for (int i = 0; i <= input_count; i++) {
    hfb_tensor *tensor = &g.data.inputs[i];
    for (int64_t k = 0; k < hfb_shape_elements(&tensor->shape); k++) {
      if (tensor->dtype == HFB_I64) ((int64_t *)tensor->data)[k] = (int64_t)inputs[i][k];
      if (tensor->dtype == HFB_F64) ((double *)tensor->data)[k] = i < input_count ? inputs[i][k] : (double)(k + 1);
    }
  }
  need_ok(grad_case_backward(&g, g.forward, ~0u, &backward), line);
  need_ok(grad_case_run(&g, backward, gradients), line);
  for (int i = 0; i < backward->output_count; i++) {
    for (int64_t k = 0; k < hfb_shape_elements(&gradients[i].shape); k++) {
      double got = hfb_tensor_get(&gradients[i], k);
      if (got != expected[i][k]) {
        fail_msg("\"%s\": gradient %d, element %d is %g instead of %g", line, i, (int)k, got, expected[i][k]);
      }
    }
    hfb_tensor_release(&gradients[i]);
  }
  hfb_graph_destroy(backward);
  grad_case_close(&g);
}

#define VALUES(...) ((const double[]){__VA_ARGS__})
#define LISTS(...)  ((const double *const[]){__VA_ARGS__})

static void test_kinks_and_ties_are_pytorchs(void **state) {
  (void)state;
  check_values("abs | f 4", 1, LISTS(VALUES(-2, 0, -0.0, 3)), LISTS(VALUES(-1, 0, 0, 4)));
  check_values("relu | f 4", 1, LISTS(VALUES(-2, 0, -0.0, 3)), LISTS(VALUES(0, 0, 0, 4)));
  check_values("maximum | f 3 | f 3", 2, LISTS(VALUES(1, 5, 7), VALUES(1, 6, 2)),
               LISTS(VALUES(0.5, 0, 3), VALUES(0.5, 2, 0)));
  check_values("minimum | f 3 | f 3", 2, LISTS(VALUES(1, 5, 7), VALUES(1, 6, 2)),
               LISTS(VALUES(0.5, 2, 0), VALUES(0.5, 0, 3)));
  check_values("maximum | f 3 | f -", 2, LISTS(VALUES(1, 5, 7), VALUES(5)), LISTS(VALUES(0, 1, 3), VALUES(2)));
  check_values("reduce_max | f 2x4 | axes=1 keepdim=0", 1, LISTS(VALUES(3, 1, 3, 2, 5, 5, 5, 5)),
               LISTS(VALUES(0.5, 0, 0.5, 0, 0.5, 0.5, 0.5, 0.5)));
  check_values("reduce_max | f 2x2 | axes=0,1 keepdim=0", 1, LISTS(VALUES(4, 4, 1, 4)),
               LISTS(VALUES(1.0 / 3, 1.0 / 3, 0, 1.0 / 3)));
}

static void test_the_padding_row_gets_nothing(void **state) {
  (void)state;
  double table[8] = {0};
  check_values("embedding | f 4x2 | i4 3 | padding_idx=1", 2, LISTS(table, VALUES(2, 1, 2)),
               LISTS(VALUES(0, 0, 0, 0, 1 + 5, 2 + 6, 0, 0)));
  check_values("embedding | f 4x2 | i4 3 | padding_idx=-1", 2, LISTS(table, VALUES(2, 1, 2)),
               LISTS(VALUES(0, 0, 3, 4, 1 + 5, 2 + 6, 0, 0)));
}

static void test_ignored_targets_get_nothing(void **state) {
  (void)state;
  double log_probs[6] = {0};
  check_values("nll_loss | f 3x2 | i2 3 | ignore_index=1", 2, LISTS(log_probs, VALUES(0, 1, 0)),
               LISTS(VALUES(-0.5, 0, 0, 0, -0.5, 0)));
}

/* A gradient has the dtype of its value: cast rounds it on the way back. */
static void test_cast_goes_back_to_the_dtype_it_came_from(void **state) {
  (void)state;
  static const hfb_dtype dtypes[] = {HFB_F64, HFB_F32, HFB_BF16, HFB_F16};
  for (int i = 0; i < 4; i++) {
    for (int k = 0; k < 4; k++) {
      hfb_builder b;
      need_ok(hfb_builder_init(&b, "cast"), "init");
      hfb_value *x = hfb_input(&b, "x", dtypes[i], (hfb_shape){0}), *gradient;
      hfb_attr to = {.key = HFB_ATTR_DTYPE, .u.dtype = dtypes[k]};
      hfb_value *y = hfb_build(&b, HFB_OP_CAST, 1, &x, 1, &to);
      hfb_backward(&b, hfb_mul(&b, y, y), 1, &x, NULL, &gradient);
      assert_int_equal(b.status, HFB_OK);
      assert_int_equal(gradient->dtype, dtypes[i]);
      hfb_builder_deinit(&b);
    }
  }
}

/* No gradient through integers: the index decides, but does not slope. */
static void test_integers_carry_no_gradient(void **state) {
  (void)state;
  hfb_builder b;
  need_ok(hfb_builder_init(&b, "integers"), "init");
  hfb_value *x = hfb_input(&b, "x", HFB_F64, hfb_shape_of(1, (int64_t[]){3})), *gradient = x;
  hfb_value *whole = hfb_cast(&b, hfb_cast(&b, x, HFB_I64), HFB_F64);
  hfb_value *best = hfb_cast(&b, hfb_argmax(&b, x, 0, false), HFB_F64);
  hfb_value *sum = hfb_reduce(&b, HFB_OP_REDUCE_SUM, whole, 1, (int[]){0}, false);
  int before = b.graph->node_count + 1; /* and the sum below */
  hfb_backward(&b, hfb_add(&b, sum, best), 1, &x, NULL, &gradient);
  assert_int_equal(b.status, HFB_OK);
  assert_null(gradient);
  assert_int_equal(b.graph->node_count, before);
  hfb_builder_deinit(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_rule_has_a_case),
      cmocka_unit_test(test_every_case),
      cmocka_unit_test(test_kinks_and_ties_are_pytorchs),
      cmocka_unit_test(test_the_padding_row_gets_nothing),
      cmocka_unit_test(test_ignored_targets_get_nothing),
      cmocka_unit_test(test_cast_goes_back_to_the_dtype_it_came_from),
      cmocka_unit_test(test_integers_carry_no_gradient),
  };
  return cmocka_run_group_tests(tests, set_up_one_thread, tear_down);
}
