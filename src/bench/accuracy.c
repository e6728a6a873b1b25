/* The accuracy check of PyTorch's benchmark harness (benchmarks/dynamo/common.py, check_accuracy): a float64 run, two
 * eager runs that must agree bit for bit, then the compiled run against eager, with the float64 run as the judge of
 * differences beyond the tolerance. All outputs are compared, also those of question-answering classes, of which the
 * original looks at the loss only; in training the loss, every gradient and every updated parameter. One rule is ours:
 * when eager itself is far from float64, nothing was shown, and the check fails even if both engines agree. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "bench/adam_steps.h"
#include "bench/decisions.h"
#include "bench/gradient_check.h"
#include "bench/loss.h"
#include "bench/memory_limit.h"
#include "bench/need.h"
#include "bench/outcome.h"

typedef struct check {
  const hfb_job *job;
  const hfb_monitor *monitor;
  hfb_row *row;
  hfb_workload work;
  hfb_outcome outcome; /* what is compared */
  hfb_graph *graph64;
  hfb_side reference, eager, compiled;
  bool has_reference, has_gradient_check;
  hfb_gradient_check gradient_check;
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

/* What the row has to say of the check beside its verdict: one thing after the other. */
static void add_reason(const check *c, const char *reason) {
  const char *before = hfb_row_get_text(c->row, HFB_COLUMN_ACCURACY_STATUS_REASON);
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_strbuf_printf(&text, "%s%s%s", before ? before : "", before ? "; " : "", reason);
  hfb_row_text(c->row, HFB_COLUMN_ACCURACY_STATUS_REASON, hfb_strbuf_text(&text));
  hfb_strbuf_deinit(&text);
}

/* After the first step, whose working memory is given back first. Without memory for it the row says so and the rest
 * goes on. */
static void check_gradients(check *c, const hfb_tensor *inputs) {
  hfb_device_empty_cache(c->reference.device);
  hfb_status status = hfb_gradient_check_run(c->job, &c->reference, inputs, &c->gradient_check);
  c->has_gradient_check = status == HFB_OK;
  if (status == HFB_OK) {
    hfb_row_real(c->row, HFB_COLUMN_GRADIENT_CHECK, c->gradient_check.error);
    return;
  }
  hfb_error_prefix("gradients are not compared with differences of the loss");
  add_reason(c, hfb_error_message());
}

/* A forward pass changes no state, so one run of the reference is what the last of several would be. */
static hfb_status run_reference_with(check *c, hfb_tensor *inputs) {
  const hfb_backend_options options = {.reference = true};
  HFB_TRY(convert_inputs(c, c->graph64, inputs));
  HFB_TRY(hfb_side_open(&c->reference, hfb_engine_find("eager")->backend(), c->graph64,
                        c->job->training ? NULL : &c->work.parameters, c->job->seed, &options, c->job->threads,
                        c->job->memory_bytes));
  for (int i = 0; i < (c->job->training ? c->job->iterations : 1); i++) {
    hfb_side_drop_outputs(&c->reference);
    HFB_TRY(hfb_side_run(&c->reference, inputs));
    if (c->job->training && i == 0) check_gradients(c, inputs);
  }
  hfb_side_drop_program(&c->reference);
  return HFB_OK;
}

static hfb_status run_reference(check *c) {
  hfb_monitor_stage(c->monitor, HFB_STAGE_REFERENCE);
  hfb_tensor *inputs = NULL;
  hfb_status status = hfb_mem_alloc((size_t)c->graph64->input_count, sizeof(*inputs), &inputs);
  if (status == HFB_OK) status = run_reference_with(c, inputs);
  for (int i = 0; inputs && i < c->graph64->input_count; i++) hfb_tensor_release(&inputs[i]);
  hfb_mem_free(inputs);
  hfb_device_empty_cache(c->work.device);
  if (status != HFB_OK) hfb_side_close(&c->reference);
  return status;
}

/* Compiles, runs `iterations` times and keeps what the last run left. *out_loss: HFB_MISMATCH when the loss of a step
 * is no number; the steps after it are left out. */
static hfb_status run_side(check *c, hfb_stage stage, const hfb_backend *backend, hfb_side *side,
                           hfb_status *out_loss) {
  hfb_monitor_stage(c->monitor, stage);
  /* Nobody needs the parameters after the compiled run, which is the last. */
  const hfb_backend_options options = {.owns_parameters = stage == HFB_STAGE_COMPILED};
  HFB_TRY(hfb_side_open_job(side, backend, c->job, &c->work, &options));
  *out_loss = HFB_OK;
  for (int i = 0; i < c->job->iterations && *out_loss == HFB_OK; i++) {
    hfb_side_drop_outputs(side);
    HFB_TRY(hfb_side_run(side, c->work.inputs));
    if (c->job->training) *out_loss = hfb_loss_check(c->job, &c->work, side);
  }
  if (hfb_side_stats(side).kernels_run <= 0) {
    return HFB_FAIL(HFB_INTERNAL, "%s returned results without running a kernel", backend->name);
  }
  hfb_side_drop_program(side);
  return HFB_OK;
}

/* Distances of one tensor to float64. */
typedef struct distances {
  hfb_distance eager, compiled;
} distances;

typedef struct verdict {
  bool failed;
  double error_eager, error_compiled; /* against float64 */
  int total, not_close, by_other_rule; /* tensors that were compared; those not close to eager; those that passed so */
  distances *to_f64;                  /* by item of the outcome; NULL without a reference */
  int not_finite;                     /* of total */
  hfb_adam_steps steps;
  int64_t undetermined; /* elements that these leave out */
  json_t *tensors;
  hfb_strbuf reason, not_finite_reason;
} verdict;

/* JSON has no infinities and no NaN: they become null. */
static json_t *finite_or_null(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static void add_distance(json_t *tensor, const char *key, const hfb_distance *distance) {
  json_object_set_new(tensor, key,
                      json_pack("{s:o, s:o, s:o, s:I, s:I}", "max_abs", finite_or_null(distance->max_abs), "scaled",
                                finite_or_null(distance->scaled), "rmse", finite_or_null(distance->rmse), "worst_index",
                                (json_int_t)distance->worst_index, "nan", (json_int_t)distance->nan_got));
}

/* The first failure counts; passes by another rule no longer matter then. */
static void note_reason(verdict *v, const char *name, const hfb_same_result *result) {
  if (result->same && result->rule == HFB_SAME_CLOSE) return;
  v->not_close++;
  v->by_other_rule += result->same;
  if (!result->same && !v->failed) {
    v->failed = true;
    hfb_strbuf_clear(&v->reason);
  } else if (v->failed || v->reason.length > 0) {
    return;
  }
  if (result->rule == HFB_SAME_ASTRAY) {
    hfb_strbuf_printf(&v->reason, "%s: %s: by %.3g", name, hfb_same_rule_meaning(result->rule),
                      result->undetermined_max);
    return;
  }
  hfb_strbuf_printf(&v->reason, "%s: %s; max|eager - got| %.3g, RMSE to float64: eager %.3g, got %.3g, factor %g", name,
                    hfb_same_rule_meaning(result->rule), result->max_abs, result->error_reference, result->error_got,
                    result->multiplier);
}

/* NaN equals NaN, and an infinity itself. The first tensor is named. */
static void note_not_finite(verdict *v, const char *name, const hfb_same_result *result, int64_t elements) {
  if (result->nan_count == 0 && result->infinite_count == 0) return;
  if (v->not_finite++ > 0) return;
  const char *what = result->nan_count > 0 ? "NaN" : "infinities";
  hfb_strbuf_printf(&v->not_finite_reason,
                    "not finite on all sides, which counts as equal: %s has %lld %s in %lld elements", name,
                    (long long)(result->nan_count > 0 ? result->nan_count : result->infinite_count), what,
                    (long long)elements);
}

static void judge_missing_gradient(verdict *v, const hfb_outcome_item *item) {
  json_array_append_new(v->tensors, json_pack("{s:s, s:b, s:s}", "name", item->name, "pass", 1, "rule", "no_gradient"));
}

static hfb_status measure_distances(const check *c, int index, const hfb_undetermined *left_out, json_t *tensor,
                                    verdict *v) {
  const hfb_outcome_item *item = &c->outcome.items[index];
  const hfb_tensor *reference = hfb_outcome_tensor(&c->reference, item);
  distances *d = &v->to_f64[index];
  const hfb_tensor *eager = hfb_outcome_tensor(&c->eager, item), *got = hfb_outcome_tensor(&c->compiled, item);
  HFB_TRY(hfb_distance_measure_determined(eager, reference, left_out, c->pool, &d->eager));
  HFB_TRY(hfb_distance_measure_determined(got, reference, left_out, c->pool, &d->compiled));
  add_distance(tensor, "eager_to_f64", &d->eager);
  add_distance(tensor, "backend_to_f64", &d->compiled);
  return HFB_OK;
}

static hfb_status judge_item(check *c, int index, verdict *v) {
  const hfb_outcome_item *item = &c->outcome.items[index];
  const hfb_tensor *eager = hfb_outcome_tensor(&c->eager, item), *got = hfb_outcome_tensor(&c->compiled, item);
  const hfb_tensor *reference = c->has_reference ? hfb_outcome_tensor(&c->reference, item) : NULL;
  if (item->kind == HFB_OUTCOME_NO_GRADIENT) {
    judge_missing_gradient(v, item);
    return HFB_OK;
  }
  hfb_undetermined undetermined;
  bool has_undetermined = hfb_adam_steps_undetermined(&v->steps, &c->reference, &c->eager, item, &undetermined);
  const hfb_same_options options = {.tolerance = hfb_job_tolerance(c->job),
                                    .equal_nan = true,
                                    .cosine = !c->has_reference,
                                    .small_multiplier = has_small_multiplier(c->job->model->name),
                                    .undetermined = has_undetermined ? &undetermined : NULL};
  hfb_same_result result = hfb_same(eager, got, reference, &options, c->pool);
  char shape[HFB_SHAPE_TEXT_BYTES];
  json_t *tensor =
      json_pack("{s:s, s:s, s:s, s:b, s:s, s:o, s:I, s:I}", "name", item->name, "dtype", hfb_dtype_name(got->dtype),
                "shape", hfb_shape_print(&got->shape, shape, sizeof(shape)), "pass", (int)result.same, "rule",
                hfb_same_rule_name(result.rule), "max_abs_to_eager", finite_or_null(result.max_abs), "outside",
                (json_int_t)result.outside_count, "undetermined", (json_int_t)result.undetermined_count);
  hfb_status status = reference ? measure_distances(c, index, options.undetermined, tensor, v) : HFB_OK;
  json_array_append_new(v->tensors, tensor);
  v->total++;
  v->undetermined += result.undetermined_count;
  note_reason(v, item->name, &result);
  note_not_finite(v, item->name, &result, hfb_shape_elements(&got->shape));
  return status;
}

/* Squared norms over all gradients: of what float64 has, and of the differences of both sides. */
typedef struct gradient_norms {
  double reference, eager, compiled;
} gradient_norms;

static void add_gradient(gradient_norms *norms, const distances *d) {
  double count = (double)d->eager.count;
  norms->reference += d->eager.rms_expected * d->eager.rms_expected * count;
  norms->eager += d->eager.rmse * d->eager.rmse * count;
  norms->compiled += d->compiled.rmse * d->compiled.rmse * count;
}

static double relative_norm(double difference, double reference) {
  return difference == 0 ? 0 : sqrt(difference / reference);
}

/* A NaN of either stays. */
static double larger(double a, double b) { return isnan(a) || a > b ? a : b; }

/* Errors against float64: of each output, and of all gradients as one vector, since a rectifier that rounding turned
 * may change an entry of a small tensor by much. Updated parameters are left out: Adam makes a step of one length of
 * gradients of any size, so that their differences say little. */
static void find_errors(const check *c, verdict *v) {
  gradient_norms norms = {0};
  for (int i = 0; i < c->outcome.count; i++) {
    const distances *d = &v->to_f64[i];
    if (c->outcome.items[i].kind == HFB_OUTCOME_GRADIENT) add_gradient(&norms, d);
    if (c->outcome.items[i].kind != HFB_OUTCOME_OUTPUT) continue;
    v->error_eager = larger(v->error_eager, d->eager.scaled);
    v->error_compiled = larger(v->error_compiled, d->compiled.scaled);
  }
  v->error_eager = larger(v->error_eager, relative_norm(norms.eager, norms.reference));
  v->error_compiled = larger(v->error_compiled, relative_norm(norms.compiled, norms.reference));
}

/* In the order of the sorted names, so that the first failure has the name that the harness would give. */
static hfb_status judge(check *c, verdict *v) {
  hfb_monitor_stage(c->monitor, HFB_STAGE_COMPARE);
  if (c->has_reference) {
    HFB_TRY(hfb_mem_alloc((size_t)c->outcome.count, sizeof(*v->to_f64), &v->to_f64));
    HFB_TRY(hfb_adam_steps_find(c->job, &c->outcome, &c->reference, c->pool, &v->steps));
  }
  for (int i = 0; i < c->outcome.count; i++) {
    hfb_monitor_step(c->monitor, HFB_STAGE_COMPARE, i, c->outcome.count);
    HFB_TRY(judge_item(c, i, v));
  }
  if (c->has_reference) find_errors(c, v);
  return HFB_OK;
}

/* The rounding of float32 stays orders of magnitude below the suite's tolerances. In training a rectifier that rounding
 * turned changes all gradients behind it, and the next step by more: three times as much is allowed (with the default
 * seed the largest error is 1.3e-2, in the second step of MobileBertForQuestionAnswering and T5Small). There the
 * backend is judged too, because gradients below the tolerance, and most are, would pass whatever they are. */
static void judge_errors(const check *c, verdict *v) {
  bool training = c->job->training;
  double allowed = hfb_job_tolerance(c->job) * (training ? 3 : 1);
  bool eager_is_far = !(v->error_eager <= allowed), backend_is_far = training && !(v->error_compiled <= allowed);
  if (v->failed || !c->has_reference || !(eager_is_far || backend_is_far)) return;
  v->failed = true;
  hfb_strbuf_clear(&v->reason);
  hfb_strbuf_printf(&v->reason, "%s is far from float64: error %.3g, allowed %g",
                    eager_is_far ? "eager itself" : "the backend", eager_is_far ? v->error_eager : v->error_compiled,
                    allowed);
}

/* What all sides agree on may still be wrong. Written so that a NaN fails. */
static void judge_gradients(const check *c, verdict *v) {
  const hfb_gradient_check *g = &c->gradient_check;
  if (v->failed || !c->has_gradient_check || g->error <= HFB_GRADIENT_CHECK_TOLERANCE) return;
  v->failed = true;
  hfb_strbuf_clear(&v->reason);
  hfb_strbuf_printf(&v->reason,
                    "the gradients are not those of the loss: along them it changes by %.9g, they say %.9g (float64)",
                    g->by_differences, g->by_gradients);
}

static bool explains(const check *c, const hfb_decisions *d) {
  return d->error <= hfb_job_tolerance(c->job) && (double)d->turned <= HFB_DECISIONS_MOST_TURNED * (double)d->keys;
}

/* A failure may be that of a sort whose keys rounding turned: then each side agrees with a float64 run that sorts as
 * the side did, which is the error that counts. */
static hfb_status judge_decisions(const check *c, verdict *v) {
  if (!v->failed || c->job->training || !c->has_reference || !hfb_graph_has_decisions(c->work.graph)) return HFB_OK;
  hfb_decisions eager, compiled;
  HFB_TRY(hfb_decisions_check(c->job, hfb_engine_find("eager")->backend(), &eager));
  HFB_TRY(hfb_decisions_check(c->job, c->job->engine->backend(), &compiled));
  if (explains(c, &eager) && explains(c, &compiled)) {
    v->failed = false;
    v->error_eager = eager.error;
    v->error_compiled = compiled.error;
  }
  hfb_strbuf_printf(&v->reason,
                    "; of %lld keys that are sorted by, eager has %lld and the backend %lld others than float64 has; "
                    "sorted alike, their errors are %.3g and %.3g",
                    (long long)eager.keys, (long long)eager.turned, (long long)compiled.turned, eager.error,
                    compiled.error);
  return HFB_OK;
}

static hfb_status record_hashes(const check *c) {
  char text[HFB_STATE_HASH_BYTES];
  HFB_TRY(hfb_outcome_hash(&c->outcome, &c->eager, text));
  hfb_row_text(c->row, HFB_COLUMN_EAGER_STATE_HASH, text);
  HFB_TRY(hfb_outcome_hash(&c->outcome, &c->compiled, text));
  hfb_row_text(c->row, HFB_COLUMN_STATE_HASH, text);
  return HFB_OK;
}

static hfb_status judge_and_record(check *c) {
  verdict v = {.tensors = json_array()};
  hfb_strbuf_init(&v.reason);
  hfb_strbuf_init(&v.not_finite_reason);
  hfb_status status = record_hashes(c);
  if (status == HFB_OK) status = judge(c, &v);
  if (status == HFB_OK) {
    judge_errors(c, &v);
    judge_gradients(c, &v);
    status = judge_decisions(c, &v);
  }
  if (status == HFB_OK) {
    hfb_row_text(c->row, HFB_COLUMN_ACCURACY, v.failed ? "fail_accuracy" : "pass");
    if (v.reason.length > 0) add_reason(c, hfb_strbuf_text(&v.reason));
    if (!v.failed && v.not_finite > 0) {
      hfb_strbuf_printf(&v.not_finite_reason, "; %d of %d tensors", v.not_finite, v.total);
      add_reason(c, hfb_strbuf_text(&v.not_finite_reason));
    }
    if (v.failed) hfb_row_text(c->row, HFB_COLUMN_ERROR, hfb_strbuf_text(&v.reason));
    if (c->has_reference) {
      hfb_row_real(c->row, HFB_COLUMN_ERROR_EAGER, v.error_eager);
      hfb_row_real(c->row, HFB_COLUMN_ERROR_BACKEND, v.error_compiled);
    }
    hfb_row_int(c->row, HFB_COLUMN_TENSORS_TOTAL, v.total);
    hfb_row_int(c->row, HFB_COLUMN_TENSORS_BY_RMSE, v.by_other_rule);
    hfb_row_int(c->row, HFB_COLUMN_TENSORS_NOT_CLOSE, v.not_close);
    if (c->job->training) {
      hfb_row_int(c->row, HFB_COLUMN_UNDETERMINED, v.undetermined);
      hfb_row_real(c->row, HFB_COLUMN_LOSS, hfb_side_loss(&c->compiled));
    }
    hfb_row_json(c->row, HFB_COLUMN_TENSORS, json_incref(v.tensors));
  }
  json_decref(v.tensors);
  hfb_mem_free(v.to_f64);
  hfb_strbuf_deinit(&v.reason);
  hfb_strbuf_deinit(&v.not_finite_reason);
  return status;
}

static void record_failure(const check *c, const char *verdict, const char *why) {
  hfb_row_text(c->row, HFB_COLUMN_ACCURACY, verdict);
  hfb_row_text(c->row, HFB_COLUMN_ERROR, why);
}

/* The name of the first tensor whose hashes differ; NULL when none does. */
static const char *first_difference(const hfb_outcome *outcome, const hfb_hash *a, const hfb_hash *b) {
  for (int i = 0; i < outcome->count; i++) {
    if (a[i].low != b[i].low || a[i].high != b[i].high) return outcome->items[i].name;
  }
  return NULL;
}

/* One run of eager, left open, and the hashes of what it left behind; *out_goes_on is false when the row has its
 * verdict. */
static hfb_status run_eager_once(check *c, hfb_stage stage, hfb_hash *out_hashes, bool *out_goes_on) {
  hfb_status loss;
  *out_goes_on = false;
  HFB_TRY(run_side(c, stage, hfb_engine_find("eager")->backend(), &c->eager, &loss));
  *out_goes_on = loss == HFB_OK;
  if (loss != HFB_OK) record_failure(c, "fail_accuracy", hfb_error_message());
  return loss == HFB_OK ? hfb_outcome_hashes(&c->outcome, &c->eager, out_hashes) : HFB_OK;
}

/* Both runs of eager. Of the first one only the hashes stay: in training a run leaves twice the parameters behind. */
static hfb_status run_eager_twice(check *c, hfb_hash *first, hfb_hash *second, bool *out_goes_on) {
  HFB_TRY(run_eager_once(c, HFB_STAGE_EAGER_1, first, out_goes_on));
  if (!*out_goes_on) return HFB_OK;
  hfb_side_close(&c->eager);
  HFB_TRY(run_eager_once(c, HFB_STAGE_EAGER_2, second, out_goes_on));
  const char *different = *out_goes_on ? first_difference(&c->outcome, first, second) : NULL;
  if (!different) return HFB_OK;
  *out_goes_on = false;
  record_failure(c, "eager_two_runs_differ", different);
  return HFB_OK;
}

static hfb_status run_eager(check *c, bool *out_goes_on) {
  hfb_hash *hashes = NULL;
  HFB_TRY(hfb_mem_alloc(2 * (size_t)c->outcome.count, sizeof(*hashes), &hashes));
  hfb_status status = run_eager_twice(c, hashes, hashes + c->outcome.count, out_goes_on);
  hfb_mem_free(hashes);
  return status;
}

/* The row says why; outputs are then compared by cosine. */
static void do_without_reference(check *c) {
  c->has_reference = false;
  hfb_error_prefix("no float64 reference, outputs are compared by cosine");
  add_reason(c, hfb_error_message());
}

/* Nothing is drawn for a check that will not fit; what fits without a reference only does without. */
static hfb_status check_memory(check *c) {
  hfb_memory_need need, without;
  HFB_TRY(hfb_accuracy_need(c->job, c->work.graph, c->has_reference ? c->graph64 : NULL, &need));
  hfb_row_real(c->row, HFB_COLUMN_ACCURACY_NEEDED_MEM, (double)hfb_memory_need_total(&need) * 1e-9);
  if (hfb_memory_need_fits(c->job, &need)) return HFB_OK;
  HFB_TRY(hfb_accuracy_need(c->job, c->work.graph, NULL, &without));
  hfb_status status = hfb_memory_need_fail(c->job, HFB_PHASE_ACCURACY, &need);
  if (!hfb_memory_need_fits(c->job, &without)) return status;
  do_without_reference(c);
  return HFB_OK;
}

static hfb_status run_check(check *c) {
  hfb_monitor_stage(c->monitor, HFB_STAGE_LOAD);
  hfb_job_describe_training(c->job, c->row);
  if (c->job->training && c->job->model->flags & HFB_MODEL_ONLY_EVAL)
    add_reason(c, "the suite only evaluates this model: checked in eval mode, without dropout");
  HFB_TRY(hfb_workload_init(c->job, true, &c->work));
  HFB_TRY(hfb_outcome_list(c->work.graph, &c->outcome));
  hfb_row_int(c->row, HFB_COLUMN_ACCURACY_BATCH_SIZE, c->job->batch);
  hfb_row_int(c->row, HFB_COLUMN_PARAMETERS, hfb_graph_cost(c->work.graph).parameter_count);
  if (c->job->model->flags & HFB_MODEL_SKIP_ACCURACY_LARGE && !c->job->no_skip) {
    hfb_row_text(c->row, HFB_COLUMN_ACCURACY, "pass_due_to_skip");
    return HFB_OK;
  }
  c->has_reference = hfb_job_reference_graph(c->job, c->work.graph, &c->graph64) == HFB_OK;
  if (!c->has_reference) do_without_reference(c);
  HFB_TRY(check_memory(c));
  HFB_TRY(hfb_workload_fill(c->job, !c->job->training, &c->work));
  c->pool = hfb_device_pool(c->work.device);
  if (c->has_reference && run_reference(c) != HFB_OK) do_without_reference(c);
  bool goes_on;
  hfb_status loss;
  HFB_TRY(run_eager(c, &goes_on));
  if (!goes_on) return HFB_OK;
  HFB_TRY(run_side(c, HFB_STAGE_COMPILED, c->job->engine->backend(), &c->compiled, &loss));
  if (loss != HFB_OK) {
    record_failure(c, "fail_accuracy", hfb_error_message());
    return HFB_OK;
  }
  return judge_and_record(c);
}

hfb_status hfb_accuracy_measure(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  check c = {.job = job, .monitor = monitor, .row = row};
  hfb_status status = run_check(&c);
  hfb_side_close(&c.compiled);
  hfb_side_close(&c.eager);
  hfb_side_close(&c.reference);
  hfb_graph_destroy(c.graph64);
  hfb_outcome_deinit(&c.outcome);
  hfb_workload_deinit(&c.work);
  const int64_t process_bytes = hfb_resident_highest_bytes();
  if (process_bytes >= 0) hfb_row_real(row, HFB_COLUMN_ACCURACY_PROCESS_MEM, (double)process_bytes * 1e-9);
  return status;
}
