/* Discrete decisions: a side that sorts as float64 would is recognised, and so is one that sorts by something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/decisions.h"
#include "eager/eager.h"
#include "hfbench/hfbench.h"

/* Two chunks of Reformer, with three hashing layers of 12 heads. */
enum { LENGTH = 128, KEYS = 3 * 12 * LENGTH };

static hfb_job reformer_job(void) {
  hfb_job job = {.engine = hfb_engine_find("eager"),
                 .precision = HFB_F32,
                 .weights = HFB_F32,
                 .batch = 1,
                 .seq_len = LENGTH,
                 .threads = 2,
                 .seed = 1337,
                 .iterations = 1};
  if (hfb_model_find("Reformer", &job.model) != HFB_OK) fail_msg("%s", hfb_error_message());
  return job;
}

/* ---- Eager with one fault in the graph that it runs ---- */

static hfb_graph *changed; /* what the last program runs */
static int shifted_sites;  /* added to the site of each rotation */
static double bias;        /* added to the last output */

static hfb_status change(const hfb_graph *graph) {
  hfb_rewrite rewrite;
  HFB_TRY(hfb_rewrite_begin(&rewrite, graph));
  const hfb_value *last = graph->outputs[graph->output_count - 1].value;
  for (int i = 0; i < graph->node_count; i++) {
    hfb_node node = *graph->nodes[i];
    hfb_attr attrs[HFB_ATTR_COUNT];
    for (int a = 0; a < node.attr_count; a++) {
      attrs[a] = node.attrs[a];
      if (node.op == HFB_OP_RANDOM_NORMAL && attrs[a].key == HFB_ATTR_SITE) attrs[a].u.i += shifted_sites;
    }
    node.attrs = attrs;
    hfb_rewrite_copy(&rewrite, &node);
    if (graph->nodes[i]->results == last && bias != 0) {
      rewrite.map[last->id] = hfb_add_scalar(&rewrite.b, rewrite.map[last->id], bias);
    }
  }
  hfb_status status = hfb_rewrite_finish(&rewrite, &changed);
  hfb_rewrite_deinit(&rewrite);
  return status;
}

static hfb_status compile_changed(const hfb_graph *graph, hfb_device *device, const hfb_backend_options *options,
                                  hfb_program **out_program) {
  HFB_TRY(change(graph));
  return hfb_backend_eager()->compile(changed, device, options, out_program);
}

static hfb_decisions check_changed(int sites, double added) {
  hfb_job job = reformer_job();
  hfb_backend faulty = *hfb_backend_eager();
  hfb_decisions decisions = {0};
  faulty.compile = compile_changed;
  shifted_sites = sites;
  bias = added;
  if (hfb_decisions_check(&job, &faulty, &decisions) != HFB_OK) fail_msg("%s", hfb_error_message());
  hfb_graph_destroy(changed);
  changed = NULL;
  return decisions;
}

static void test_same_decisions(void **state) {
  (void)state;
  hfb_decisions d = check_changed(0, 0);
  assert_int_equal(d.keys, KEYS);
  assert_true((double)d.turned <= HFB_DECISIONS_MOST_TURNED * (double)d.keys);
  assert_true(d.error < 1e-5);
}

/* With other rotations nearly all hashes are others, though outputs agree with float64 once that sorts alike. */
static void test_other_decisions(void **state) {
  (void)state;
  hfb_decisions d = check_changed(1000, 0);
  assert_int_equal(d.keys, KEYS);
  assert_true(d.turned > d.keys / 2);
  assert_true(d.error < 1e-5);
}

static void test_other_outputs(void **state) {
  (void)state;
  hfb_decisions d = check_changed(0, 0.5);
  assert_true((double)d.turned <= HFB_DECISIONS_MOST_TURNED * (double)d.keys);
  assert_true(d.error > 0.05);
}

static void test_native_decides_alike(void **state) {
  (void)state;
  hfb_job job = reformer_job();
  hfb_decisions d;
  if (hfb_decisions_check(&job, hfb_engine_find("native")->backend(), &d) != HFB_OK)
    fail_msg("%s", hfb_error_message());
  assert_int_equal(d.keys, KEYS);
  assert_true((double)d.turned <= HFB_DECISIONS_MOST_TURNED * (double)d.keys);
  assert_true(d.error < 1e-5);
}

static void test_models_that_sort(void **state) {
  (void)state;
  static const struct {
    const char *model;
    bool sorts;
  } cases[] = {{"Reformer", true}, {"ElectraForQuestionAnswering", false}, {"GPTJForSequenceClassification", false}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    hfb_job job = {.batch = 1, .seq_len = LENGTH, .precision = HFB_F32};
    hfb_graph *graph = NULL;
    hfb_status status = hfb_model_find(cases[i].model, &job.model);
    if (status == HFB_OK) status = hfb_job_graph(&job, false, NULL, &graph);
    if (status != HFB_OK) fail_msg("%s: %s", cases[i].model, hfb_error_message());
    assert_int_equal(hfb_graph_has_decisions(graph), cases[i].sorts);
    hfb_graph_destroy(graph);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_decisions),   cmocka_unit_test(test_other_decisions),
      cmocka_unit_test(test_other_outputs),    cmocka_unit_test(test_native_decides_alike),
      cmocka_unit_test(test_models_that_sort),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
