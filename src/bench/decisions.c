#include "bench/decisions.h"

#include <stdio.h>

#include "bench/compare.h"

/* A sort of something that was not sorted itself: the way back of an order follows from it. */
static bool is_decision(const hfb_node *node) {
  if (node->op != HFB_OP_ARGSORT) return false;
  const hfb_value *keys = node->inputs[0];
  while (hfb_op_info_of(keys->node->op)->op_class == HFB_CLASS_MOVE) keys = keys->node->inputs[0];
  return keys->node->op != HFB_OP_ARGSORT;
}

static int decision_count(const hfb_graph *graph) {
  int count = 0;
  for (int i = 0; i < graph->node_count; i++) count += is_decision(graph->nodes[i]);
  return count;
}

bool hfb_graph_has_decisions(const hfb_graph *graph) {
  return decision_count(graph) > 0;
}

static void add_output(hfb_builder *b, const char *what, int decision, hfb_value *value) {
  char name[32];
  snprintf(name, sizeof name, "%s/%d", what, decision);
  hfb_output_add(b, name, value);
}

/* The graph with two outputs in front for each decision: the keys and their order. orders: tensors that take the place
 * of the latter; NULL: as the graph decides. */
static hfb_status show_decisions(const hfb_graph *graph, const hfb_tensor *orders, hfb_graph **out_graph) {
  hfb_rewrite rewrite;
  int decision = 0;
  HFB_TRY(hfb_rewrite_begin(&rewrite, graph));
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    const bool decides = is_decision(node);
    if (decides && orders) {
      hfb_value *given = hfb_constant_i64(&rewrite.b, node->results[0].shape, orders[2 * decision + 1].data);
      rewrite.map[node->results[0].id] = given;
    } else {
      hfb_rewrite_copy(&rewrite, node);
    }
    if (!decides) continue;
    add_output(&rewrite.b, "keys", decision, rewrite.map[node->inputs[0]->id]);
    add_output(&rewrite.b, "order", decision++, rewrite.map[node->results[0].id]);
  }
  hfb_status status = hfb_rewrite_finish(&rewrite, out_graph);
  hfb_rewrite_deinit(&rewrite);
  return status;
}

/* What runs: the side on the job's graph, then float64 on what the side decided. */
typedef struct pair {
  const hfb_job *job;
  hfb_workload work;
  hfb_graph *shown, *graph64, *pinned;
  hfb_side side, reference;
} pair;

static hfb_status open_and_run(pair *p, hfb_side *side, const hfb_backend *backend, const hfb_graph *graph,
                               const hfb_backend_options *options) {
  for (int i = 0; i < graph->input_count; i++) {
    if (graph->inputs[i]->dtype != p->work.inputs[i].dtype) {
      return HFB_FAIL(HFB_UNSUPPORTED, "decisions of a model with real inputs are not compared");
    }
  }
  HFB_TRY(hfb_side_open(side, backend, graph, &p->work.parameters, p->job->seed, options, p->job->threads,
                        p->job->memory_bytes));
  HFB_TRY(hfb_side_run(side, p->work.inputs));
  hfb_side_drop_program(side);
  return HFB_OK;
}

static int64_t differing(const hfb_tensor *a, const hfb_tensor *b) {
  const int64_t *x = a->data, *y = b->data;
  int64_t count = 0;
  for (int64_t i = 0; i < hfb_shape_elements(&a->shape); i++) count += x[i] != y[i];
  return count;
}

static hfb_status compare(const pair *p, hfb_decisions *out_decisions) {
  const int shown = 2 * decision_count(p->shown);
  hfb_decisions d = {0};
  for (int i = 0; i < p->shown->output_count; i++) {
    const hfb_tensor *got = &p->side.outputs[i], *expected = &p->reference.outputs[i];
    hfb_distance distance;
    if (i < shown && i % 2 == 0) {
      d.keys += hfb_shape_elements(&got->shape);
      d.turned += differing(got, expected);
    } else if (i >= shown) {
      HFB_TRY(hfb_distance_measure(got, expected, hfb_device_pool(p->work.device), &distance));
      if (!(distance.scaled <= d.error)) d.error = distance.scaled;
    }
  }
  *out_decisions = d;
  return HFB_OK;
}

static hfb_status run_pair(pair *p, const hfb_backend *backend, hfb_decisions *out_decisions) {
  const hfb_backend_options plain = {0}, reference = {.reference = true};
  HFB_TRY(hfb_workload_init(p->job, false, &p->work));
  HFB_TRY(hfb_workload_fill(p->job, true, &p->work));
  HFB_TRY(hfb_job_reference_graph(p->job, p->work.graph, &p->graph64));
  HFB_TRY(show_decisions(p->work.graph, NULL, &p->shown));
  HFB_TRY(open_and_run(p, &p->side, backend, p->shown, &plain));
  HFB_TRY(show_decisions(p->graph64, p->side.outputs, &p->pinned));
  HFB_TRY(open_and_run(p, &p->reference, hfb_engine_find("eager")->backend(), p->pinned, &reference));
  return compare(p, out_decisions);
}

hfb_status hfb_decisions_check(const hfb_job *job, const hfb_backend *backend, hfb_decisions *out_decisions) {
  pair p = {.job = job};
  hfb_status status = run_pair(&p, backend, out_decisions);
  hfb_side_close(&p.reference);
  hfb_side_close(&p.side);
  hfb_graph_destroy(p.pinned);
  hfb_graph_destroy(p.shown);
  hfb_graph_destroy(p.graph64);
  hfb_workload_deinit(&p.work);
  return status;
}
