/* Every kernel of the table on every case of support/op_cases.def: tuned float32 kernels of each instruction set and
 * the plain ones against float64, decompositions against their ops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ir/transform.h"
#include "support/compare.h"
#include "support/device_fixture.h"
#include "support/graph_run.h"
#include "support/op_cases.h"

static const uint64_t SEED = 7;

/* A case with its float64 expectation. */
typedef struct prepared {
  op_case c;
  hfb_graph *graph;
  op_case_data data;
  int result_count;
  hfb_tensor expected[OP_CASE_MAX_RESULTS];
  hfb_tensor magnitude; /* of the only result; its buffer is NULL where sums are not judged by it */
} prepared;

static bool is_sum_of_products(hfb_op op) {
  return op == HFB_OP_MATMUL || op == HFB_OP_LINEAR || op == HFB_OP_REDUCE_SUM || op == HFB_OP_REDUCE_MEAN ||
         op == HFB_OP_CUMSUM;
}

static void run_f64(const prepared *p, const hfb_graph *graph, bool absolute, hfb_tensor *results) {
  op_case_data data;
  need_ok(op_case_make_inputs(&p->c, graph, device, SEED, absolute, &data), p->c.text);
  need_ok(graph_run(graph, device, HFB_ISA_GENERIC, true, data.inputs, data.parameters, results), p->c.text);
  op_case_release(&data);
}

static void prepare(const char *line, prepared *p) {
  *p = (prepared){0};
  hfb_graph *wide;
  need_ok(op_case_parse(line, &p->c), line);
  need_ok(op_case_build(&p->c, &p->graph), line);
  need_ok(hfb_graph_convert(p->graph, HFB_F64, &wide), line);
  need_ok(op_case_make_inputs(&p->c, p->graph, device, SEED, false, &p->data), line);
  p->result_count = p->graph->output_count;
  run_f64(p, wide, false, p->expected);
  if (is_sum_of_products(p->c.op)) run_f64(p, wide, true, &p->magnitude);
  hfb_graph_destroy(wide);
}

static void release(prepared *p) {
  op_case_release(&p->data);
  for (int i = 0; i < p->result_count; i++) hfb_tensor_release(&p->expected[i]);
  hfb_tensor_release(&p->magnitude);
  hfb_graph_destroy(p->graph);
}

static void check(const prepared *p, hfb_isa isa, bool reference_only) {
  hfb_tensor results[OP_CASE_MAX_RESULTS];
  char text[256];
  need_ok(graph_run(p->graph, device, isa, reference_only, p->data.inputs, p->data.parameters, results), p->c.text);
  const hfb_tensor *magnitude = p->magnitude.buffer ? &p->magnitude : NULL;
  hfb_tolerance tolerance = hfb_op_info_of(p->c.op)->tolerance;
  for (int i = 0; i < p->result_count; i++) {
    if (!compare_with_f64(&results[i], &p->expected[i], magnitude, tolerance, text, sizeof(text))) {
      fail_msg("\"%s\" on %s (isa %s, seed %llu), result %d: %s", p->c.text, graph_run_kernel(), hfb_isa_name(isa),
               (unsigned long long)SEED, i, text);
    }
    hfb_tensor_release(&results[i]);
  }
}

static void test_every_op_has_a_case(void **state) {
  (void)state;
  int counts[HFB_OP_COUNT] = {0};
  for (int i = 0; i < op_case_count(); i++) {
    op_case c;
    need_ok(op_case_parse(op_case_line(i), &c), op_case_line(i));
    counts[c.op]++;
  }
  for (int op = 0; op < HFB_OP_COUNT; op++) {
    if (counts[op] == 0) fail_msg("%s has no case in op_cases.def", hfb_op_info_of((hfb_op)op)->name);
  }
}

static void test_plain_kernels_in_float32(void **state) {
  (void)state;
  for (int i = 0; i < op_case_count(); i++) {
    prepared p;
    prepare(op_case_line(i), &p);
    check(&p, HFB_ISA_GENERIC, true);
    release(&p);
  }
}

static int row_of(const char *name) {
  int count;
  const hfb_kernel *table = hfb_kernel_table(&count);
  for (int i = 0; i < count; i++) {
    if (strcmp(table[i].name, name) == 0) return i;
  }
  return -1;
}

/* Also fails when a row of the table that this machine can run was never chosen: a kernel without a test. */
static void test_tuned_kernels_of_each_instruction_set(void **state) {
  (void)state;
  int count;
  const hfb_kernel *table = hfb_kernel_table(&count);
  bool *was_run;
  need_ok(hfb_mem_alloc((size_t)count, sizeof(*was_run), &was_run), "table");
  for (int i = 0; i < op_case_count(); i++) {
    prepared p;
    prepare(op_case_line(i), &p);
    for (hfb_isa isa = HFB_ISA_GENERIC; isa <= hfb_cpu()->isa; isa++) {
      check(&p, isa, false);
      if (row_of(graph_run_kernel()) >= 0) was_run[row_of(graph_run_kernel())] = true;
    }
    release(&p);
  }
  for (int i = 0; i < count; i++) {
    bool can_run = !table[i].reference && table[i].isa <= hfb_cpu()->isa;
    if (can_run && !was_run[i]) fail_msg("%s ran on no case", table[i].name);
  }
  hfb_mem_free(was_run);
}

/* Every result has the dtype and shape of the input in its place, and no movement stands before the op. */
static bool may_run_in_place(const prepared *p) {
  const hfb_node *node = p->graph->outputs[0].value->node;
  if (node->input_count < node->result_count || node->input_count != p->graph->input_count) return false;
  for (int i = 0; i < node->input_count; i++) {
    if (node->inputs[i]->node->op != HFB_OP_INPUT) return false;
  }
  for (int i = 0; i < node->result_count; i++) {
    const hfb_value *input = node->inputs[i], *result = &node->results[i];
    if (input->dtype != result->dtype || !hfb_shape_equal(&input->shape, &result->shape)) return false;
  }
  return true;
}

/* Over its first inputs, a kernel gives what it gives elsewhere. Returns whether its row promises to. */
static bool check_in_place(const prepared *p, hfb_isa isa) {
  const hfb_node *node = p->graph->outputs[0].value->node;
  op_case_data data;
  hfb_tensor elsewhere[OP_CASE_MAX_RESULTS], results[OP_CASE_MAX_RESULTS];
  char text[256];
  need_ok(op_case_make_inputs(&p->c, p->graph, device, SEED, false, &data), p->c.text);
  need_ok(graph_run(p->graph, device, isa, false, data.inputs, NULL, elsewhere), p->c.text);
  for (int i = 0; i < node->result_count; i++) results[i] = data.inputs[i];
  hfb_kernel_call call = {.node = node,
                          .input_count = node->input_count,
                          .result_count = node->result_count,
                          .inputs = data.inputs,
                          .results = results,
                          .pool = hfb_device_pool(device)};
  const hfb_kernel *kernel = hfb_kernel_select(&call, isa, false);
  if (kernel->in_place) {
    need_ok(kernel->run(&call), p->c.text);
    for (int i = 0; i < node->result_count; i++) {
      if (!compare_equal(&results[i], &elsewhere[i], text, sizeof(text))) {
        fail_msg("\"%s\" in place on %s, result %d: %s", p->c.text, kernel->name, i, text);
      }
    }
  }
  for (int i = 0; i < node->result_count; i++) hfb_tensor_release(&elsewhere[i]);
  op_case_release(&data);
  return kernel->in_place;
}

static void test_kernels_in_place(void **state) {
  (void)state;
  bool was_run[HFB_OP_COUNT] = {false};
  for (int i = 0; i < op_case_count(); i++) {
    prepared p;
    prepare(op_case_line(i), &p);
    for (hfb_isa isa = HFB_ISA_GENERIC; may_run_in_place(&p) && isa <= hfb_cpu()->isa; isa++) {
      if (check_in_place(&p, isa)) was_run[p.c.op] = true;
    }
    release(&p);
  }
  int count;
  const hfb_kernel *table = hfb_kernel_table(&count);
  for (int i = 0; i < count; i++) {
    if (table[i].in_place && !was_run[table[i].op]) fail_msg("%s never ran in place", table[i].name);
  }
}

static void test_kernel_names_are_unique(void **state) {
  (void)state;
  int count;
  const hfb_kernel *table = hfb_kernel_table(&count);
  for (int i = 0; i < count; i++) assert_int_equal(row_of(table[i].name), i);
}

/* In float64, where rounding cannot hide a wrong formula. */
static void test_decompositions_equal_their_ops(void **state) {
  (void)state;
  for (int i = 0; i < op_case_count(); i++) {
    prepared p;
    hfb_graph *wide, *primitive;
    char text[256];
    prepare(op_case_line(i), &p);
    need_ok(hfb_graph_convert(p.graph, HFB_F64, &wide), p.c.text);
    need_ok(hfb_graph_decompose(wide, &primitive), p.c.text);
    hfb_tensor results[OP_CASE_MAX_RESULTS];
    run_f64(&p, primitive, false, results);
    for (int k = 0; k < p.result_count; k++) {
      if (!compare_close(&results[k], &p.expected[k], 1e-13, 1, text, sizeof(text))) {
        fail_msg("\"%s\", decomposed (seed %llu), result %d: %s", p.c.text, (unsigned long long)SEED, k, text);
      }
      hfb_tensor_release(&results[k]);
    }
    hfb_graph_destroy(primitive);
    hfb_graph_destroy(wide);
    release(&p);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_op_has_a_case),
      cmocka_unit_test(test_kernel_names_are_unique),
      cmocka_unit_test(test_plain_kernels_in_float32),
      cmocka_unit_test(test_tuned_kernels_of_each_instruction_set),
      cmocka_unit_test(test_kernels_in_place),
      cmocka_unit_test(test_decompositions_equal_their_ops),
  };
  return cmocka_run_group_tests(tests, set_up_threads, tear_down);
}
