/* The accuracy check of PyTorch's benchmark harness (benchmarks/dynamo/common.py, check_accuracy): a float64 run, two
 * eager runs that must agree bit for bit, then the compiled run against eager, with the float64 run as the judge of
 * differences beyond the tolerance. All outputs are compared, also those of question-answering classes, of which the
 * original looks at the loss only. One rule is ours: when eager itself is far from float64, nothing was shown, and the
 * check fails even if both engines agree. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "bench/compare.h"
#include "bench/job.h"

typedef struct check {
  const hfb_job *job;
  const hfb_monitor *monitor;
  hfb_row *row;
  hfb_workload work;
  hfb_graph *graph64;
  hfb_side reference, eager, compiled;
  bool has_reference;
  hfb_pool *pool;
} check;

/* Models whose loss is so small that the harness widens the float64 rule for tensors of a few elements. */
static const char *const small_multiplier_models[] = {"BertForMaskedLM", "GPT2ForSequenceClassification"};

static bool has_small_multiplier(const char *name) {
  for (size_t i = 0; i < sizeof(small_multiplier_models) / sizeof(small_multiplier_models[0]); i++) {
    if (strcmp(name, small_multiplier_models[i]) == 0) return true;
  }
  return false;
}

/* Inputs in the dtypes of `graph`: floats converted, all others borrowed. */
static hfb_status convert_inputs(const check *c, const hfb_graph *graph, hfb_tensor *out_inputs) {
  for (int i = 0; i < graph->input_count; i++) {
    const hfb_tensor *from = &c->work.inputs[i];
    if (graph->inputs[i]->dtype == from->dtype) {
      out_inputs[i] = hfb_tensor_retain(from);
      continue;
    }
    HFB_TRY(hfb_tensor_create(c->work.device, graph->inputs[i]->dtype, &from->shape, &out_inputs[i]));
    HFB_TRY(hfb_tensor_copy(from, &out_inputs[i], c->pool));
  }
  return HFB_OK;
}

/* A forward pass changes no state, so one run of the reference is what the last of several would be. */
static hfb_status run_reference_with(check *c, const hfb_parameters *parameters, hfb_tensor *inputs) {
  const hfb_backend_options options = {.reference = true};
  HFB_TRY(convert_inputs(c, c->graph64, inputs));
  HFB_TRY(hfb_side_open(&c->reference, hfb_engine_find("eager")->backend(), c->graph64, parameters, 0, &options,
                        c->job->threads, c->job->memory_bytes));
  HFB_TRY(hfb_side_run(&c->reference, inputs));
  hfb_side_drop_program(&c->reference);
  return HFB_OK;
}

static hfb_status run_reference(check *c) {
  hfb_monitor_stage(c->monitor, HFB_STAGE_REFERENCE);
  HFB_TRY(hfb_graph_convert(c->work.graph, HFB_F64, &c->graph64));
  hfb_parameters parameters = {0};
  hfb_tensor *inputs = NULL;
  hfb_status status = hfb_mem_alloc((size_t)c->graph64->input_count, sizeof(*inputs), &inputs);
  if (status == HFB_OK) status = hfb_parameters_convert(&c->work.parameters, c->graph64, c->work.device, &parameters);
  if (status == HFB_OK) status = run_reference_with(c, &parameters, inputs);
  for (int i = 0; inputs && i < c->graph64->input_count; i++) hfb_tensor_release(&inputs[i]);
  hfb_mem_free(inputs);
  hfb_parameters_deinit(&parameters);
  hfb_device_empty_cache(c->work.device);
  if (status != HFB_OK) hfb_side_close(&c->reference);
  return status;
}

/* Compiles, runs `iterations` times and keeps the last outputs. */
static hfb_status run_side(check *c, hfb_stage stage, const hfb_backend *backend, hfb_side *side) {
  hfb_monitor_stage(c->monitor, stage);
  const hfb_backend_options options = {0};
  HFB_TRY(hfb_side_open_job(side, backend, c->job, &c->work, &options));
  for (int i = 0; i < c->job->iterations; i++) {
    hfb_side_drop_outputs(side);
    HFB_TRY(hfb_side_run(side, c->work.inputs));
  }
  if (hfb_side_stats(side).kernels_run <= 0) {
    return HFB_FAIL(HFB_INTERNAL, "%s returned results without running a kernel", backend->name);
  }
  hfb_side_drop_program(side);
  return HFB_OK;
}

/* The name of the first output whose bits differ; NULL when none does. */
static const char *first_difference(const hfb_side *a, const hfb_side *b) {
  for (int i = 0; i < a->graph->output_count; i++) {
    if (!hfb_tensor_bits_equal(&a->outputs[i], &b->outputs[i])) return a->graph->outputs[i].name;
  }
  return NULL;
}

static const hfb_graph *sort_graph; /* context of compare_output_names: qsort has none, and one thread sorts */

static int compare_output_names(const void *left, const void *right) {
  return strcmp(sort_graph->outputs[*(const int *)left].name, sort_graph->outputs[*(const int *)right].name);
}

typedef struct verdict {
  bool failed;
  double worst_eager, worst_compiled; /* scaled distances to float64 */
  json_t *tensors;
  hfb_strbuf reason;
} verdict;

/* JSON has no infinities and no NaN: they become null. */
static json_t *finite_or_null(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static void add_distance(json_t *tensor, const char *key, const hfb_distance *distance) {
  json_object_set_new(tensor, key,
                      json_pack("{s:o, s:o, s:o, s:I, s:I}", "max_abs", finite_or_null(distance->max_abs), "scaled",
                                finite_or_null(distance->scaled), "rmse", finite_or_null(distance->rmse), "worst_index",
                                (json_int_t)distance->worst_index, "nan", (json_int_t)distance->nan_got));
}

static hfb_status judge_output(check *c, int index, verdict *v) {
  const char *name = c->work.graph->outputs[index].name;
  const hfb_tensor *eager = &c->eager.outputs[index], *got = &c->compiled.outputs[index];
  const hfb_tensor *reference = c->has_reference ? &c->reference.outputs[index] : NULL;
  const hfb_same_options options = {.tolerance = c->job->model->tol_inference,
                                    .equal_nan = true,
                                    .cosine = !c->has_reference,
                                    .small_multiplier = has_small_multiplier(c->job->model->name)};
  hfb_same_result result = hfb_same(eager, got, reference, &options, c->pool);
  char shape[HFB_SHAPE_TEXT_BYTES];
  json_t *tensor =
      json_pack("{s:s, s:s, s:s, s:b, s:s, s:o}", "name", name, "dtype", hfb_dtype_name(got->dtype), "shape",
                hfb_shape_print(&got->shape, shape, sizeof(shape)), "pass", (int)result.same, "rule",
                hfb_same_rule_name(result.rule), "max_abs_to_eager", finite_or_null(result.max_abs));
  if (reference) {
    hfb_distance of_eager, of_compiled;
    hfb_status status = hfb_distance_measure(eager, reference, c->pool, &of_eager);
    if (status == HFB_OK) status = hfb_distance_measure(got, reference, c->pool, &of_compiled);
    if (status != HFB_OK) {
      json_decref(tensor);
      return status;
    }
    add_distance(tensor, "eager_to_f64", &of_eager);
    add_distance(tensor, "backend_to_f64", &of_compiled);
    if (of_eager.scaled > v->worst_eager) v->worst_eager = of_eager.scaled;
    if (of_compiled.scaled > v->worst_compiled) v->worst_compiled = of_compiled.scaled;
  }
  json_array_append_new(v->tensors, tensor);
  if (result.same && result.rule == HFB_SAME_CLOSE) return HFB_OK;
  if (!result.same && !v->failed) {
    v->failed = true;
    hfb_strbuf_clear(&v->reason); /* the first failure counts; passes by another rule no longer matter */
  } else if (v->failed || v->reason.length > 0) {
    return HFB_OK;
  }
  hfb_strbuf_printf(&v->reason, "%s: %s; max|eager - got| %.3g, RMSE to float64: eager %.3g, got %.3g, factor %g", name,
                    hfb_same_rule_meaning(result.rule), result.max_abs, result.error_reference, result.error_got,
                    result.multiplier);
  return HFB_OK;
}

/* Outputs in the order of their sorted names, so that the first failure has the name that the harness would give. */
static hfb_status judge(check *c, verdict *v) {
  hfb_monitor_stage(c->monitor, HFB_STAGE_COMPARE);
  int count = c->work.graph->output_count, *order = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)count, sizeof(*order), &order));
  for (int i = 0; i < count; i++) order[i] = i;
  sort_graph = c->work.graph;
  qsort(order, (size_t)count, sizeof(*order), compare_output_names);
  hfb_status status = HFB_OK;
  for (int i = 0; i < count && status == HFB_OK; i++) status = judge_output(c, order[i], v);
  hfb_mem_free(order);
  return status;
}

/* The rounding of float32 stays orders of magnitude below the suite's tolerances. */
static void judge_eager(const check *c, verdict *v) {
  if (v->failed || !c->has_reference || v->worst_eager <= c->job->model->tol_inference) return;
  v->failed = true;
  hfb_strbuf_clear(&v->reason);
  hfb_strbuf_printf(&v->reason, "eager itself is far from float64: scaled distance %.3g, tolerance %g", v->worst_eager,
                    c->job->model->tol_inference);
}

static hfb_status judge_and_record(check *c) {
  verdict v = {.tensors = json_array()};
  hfb_strbuf_init(&v.reason);
  hfb_status status = judge(c, &v);
  if (status == HFB_OK) {
    judge_eager(c, &v);
    hfb_row_text(c->row, HFB_COLUMN_ACCURACY, v.failed ? "fail_accuracy" : "pass");
    if (v.reason.length > 0) hfb_row_text(c->row, HFB_COLUMN_ACCURACY_STATUS_REASON, hfb_strbuf_text(&v.reason));
    if (v.failed) hfb_row_text(c->row, HFB_COLUMN_ERROR, hfb_strbuf_text(&v.reason));
    if (c->has_reference) {
      hfb_row_real(c->row, HFB_COLUMN_ERROR_EAGER, v.worst_eager);
      hfb_row_real(c->row, HFB_COLUMN_ERROR_BACKEND, v.worst_compiled);
    }
    hfb_row_json(c->row, HFB_COLUMN_TENSORS, json_incref(v.tensors));
  }
  json_decref(v.tensors);
  hfb_strbuf_deinit(&v.reason);
  return status;
}

static hfb_status run_check(check *c) {
  hfb_monitor_stage(c->monitor, HFB_STAGE_LOAD);
  HFB_TRY(hfb_workload_create(c->job, true, &c->work));
  c->pool = hfb_device_pool(c->work.device);
  hfb_row_int(c->row, HFB_COLUMN_ACCURACY_BATCH_SIZE, c->job->batch);
  hfb_row_int(c->row, HFB_COLUMN_PARAMETERS, hfb_graph_cost(c->work.graph).parameter_count);
  if (c->job->model->flags & HFB_MODEL_SKIP_ACCURACY_LARGE) {
    hfb_row_text(c->row, HFB_COLUMN_ACCURACY, "pass_due_to_skip");
    return HFB_OK;
  }
  c->has_reference = run_reference(c) == HFB_OK;
  if (!c->has_reference) {
    hfb_error_prefix("no float64 reference, outputs are compared by cosine");
    hfb_row_text(c->row, HFB_COLUMN_ACCURACY_STATUS_REASON, hfb_error_message());
  }
  const hfb_backend *eager = hfb_engine_find("eager")->backend();
  HFB_TRY(run_side(c, HFB_STAGE_EAGER_1, eager, &c->eager));
  hfb_side second = {0};
  hfb_status status = run_side(c, HFB_STAGE_EAGER_2, eager, &second);
  const char *different = status == HFB_OK ? first_difference(&c->eager, &second) : NULL;
  hfb_side_close(&second);
  HFB_TRY(status);
  if (different) {
    hfb_row_text(c->row, HFB_COLUMN_ACCURACY, "eager_two_runs_differ");
    hfb_row_text(c->row, HFB_COLUMN_ERROR, different);
    return HFB_OK;
  }
  HFB_TRY(run_side(c, HFB_STAGE_COMPILED, c->job->engine->backend(), &c->compiled));
  return judge_and_record(c);
}

hfb_status hfb_accuracy_measure(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  check c = {.job = job, .monitor = monitor, .row = row};
  hfb_status status = run_check(&c);
  hfb_side_close(&c.compiled);
  hfb_side_close(&c.eager);
  hfb_side_close(&c.reference);
  hfb_graph_destroy(c.graph64);
  hfb_workload_deinit(&c.work);
  return status;
}
