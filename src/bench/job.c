#include "bench/job.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/half.h"
#include "base/memory.h"
#include "base/rng.h"

static const struct {
  const char *text, *failed, *out_of_memory;
} stages[HFB_STAGE_COUNT] = {
#define HFB_STAGE(id, text, failed, out_of_memory) [HFB_STAGE_##id] = {text, failed, out_of_memory},
#include "bench/stages.def"
#undef HFB_STAGE
};

const char *hfb_job_mode(const hfb_job *job) { return job->training ? "training" : "inference"; }

double hfb_job_tolerance(const hfb_job *job) {
  return job->training ? job->model->tol_training : job->model->tol_inference;
}

const char *hfb_job_dropout(const hfb_job *job) {
  return job->eval_mode ? "eval mode" : job->no_dropout ? "off" : "on";
}

const char *hfb_job_checkpointing(const hfb_job *job) { return job->checkpoint_layers ? "layers" : "off"; }

void hfb_job_describe_training(const hfb_job *job, hfb_row *row) {
  if (!job->training) return;
  hfb_row_text(row, HFB_COLUMN_OPTIMIZER, hfb_optimizer_name(job->optimizer));
  hfb_row_text(row, HFB_COLUMN_DROPOUT, hfb_job_dropout(job));
  hfb_row_text(row, HFB_COLUMN_CHECKPOINTING, hfb_job_checkpointing(job));
}

const char *hfb_stage_text(hfb_stage stage) { return stages[stage].text; }

const char *hfb_stage_status(hfb_stage stage, hfb_status cause) {
  if (cause == HFB_OUT_OF_MEMORY) return stages[stage].out_of_memory;
  if (cause == HFB_UNSUPPORTED && stage == HFB_STAGE_LOAD) return "model_fail_to_load";
  return stages[stage].failed;
}

void hfb_monitor_step(const hfb_monitor *monitor, hfb_stage stage, int done, int total) {
  if (monitor && monitor->report) monitor->report(monitor->context, stage, done, total);
}

void hfb_monitor_stage(const hfb_monitor *monitor, hfb_stage stage) { hfb_monitor_step(monitor, stage, 0, 0); }

/* ---- Workload ---- */

/* Makes one of the graphs of a job from the request for its model. */
typedef hfb_status (*graph_fn)(const hfb_model_request *request, const hfb_job *job, const void *context,
                               hfb_graph **out_graph);

hfb_dtype hfb_job_weights(const hfb_job *job) { return job->weights == HFB_BF16 ? HFB_BF16 : job->precision; }

/* Matrices and tables are what weighs; vectors, which are a thousandth of a model, and buffers stay as they are. */
static bool is_weight(const hfb_value *parameter) {
  return hfb_dtype_is_float(parameter->dtype) && parameter->shape.rank >= 2 &&
         !hfb_node_int(parameter->node, HFB_ATTR_BUFFER);
}

/* `graph` with parameter i stored as parameter i of `like`; NULL: weights in bf16. */
static hfb_status store_parameters(const hfb_graph *graph, const hfb_graph *like, hfb_graph **out_graph) {
  hfb_dtype *dtypes = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)graph->parameter_count, sizeof(*dtypes), &dtypes));
  for (int i = 0; i < graph->parameter_count; i++) {
    const hfb_value *own = graph->parameters[i];
    dtypes[i] = like ? like->parameters[i]->dtype : is_weight(own) ? HFB_BF16 : own->dtype;
  }
  hfb_status status = hfb_graph_store_parameters(graph, dtypes, out_graph);
  hfb_mem_free(dtypes);
  return status;
}

hfb_status hfb_job_reference_graph(const hfb_job *job, const hfb_graph *graph, hfb_graph **out_graph) {
  hfb_graph *wide = NULL;
  HFB_TRY(hfb_graph_convert(graph, HFB_F64, &wide));
  if (job->training) {
    *out_graph = wide;
    return HFB_OK;
  }
  hfb_status status = store_parameters(wide, graph, out_graph);
  hfb_graph_destroy(wide);
  return status;
}

static hfb_status forward_graph(const hfb_model_request *request, const hfb_job *job, const void *context,
                                hfb_graph **out_graph) {
  (void)context;
  hfb_graph *graph = NULL;
  HFB_TRY(hfb_model_build(request, &graph));
  HFB_TRY(hfb_graph_in_precision(graph, job->precision, &graph));
  if (job->weights != HFB_BF16) {
    *out_graph = graph;
    return HFB_OK;
  }
  hfb_status status = store_parameters(graph, NULL, out_graph);
  hfb_graph_destroy(graph);
  return status;
}

static hfb_model_request training_request(const hfb_model_request *request, const hfb_job *job) {
  hfb_model_request training = *request;
  training.training = !job->eval_mode;
  training.no_dropout = job->no_dropout;
  return training;
}

static hfb_status step_graph(const hfb_model_request *request, const hfb_job *job, const void *context,
                             hfb_graph **out_graph) {
  const hfb_model_request training = training_request(request, job);
  return hfb_training_step_graph(&training, context, job->precision, out_graph);
}

static hfb_status loss_graph(const hfb_model_request *request, const hfb_job *job, const void *context,
                             hfb_graph **out_graph) {
  (void)context;
  const hfb_model_request training = training_request(request, job);
  return hfb_training_loss_graph(&training, job->precision, out_graph);
}

static hfb_status build_graph(const hfb_job *job, const hfb_config *config, graph_fn build, const void *context,
                              hfb_graph **out_graph) {
  hfb_suite_input suite[HFB_SUITE_INPUT_MAX];
  hfb_model_input inputs[HFB_SUITE_INPUT_MAX];
  int count = 0;
  HFB_TRY(hfb_model_suite_inputs(job->model, config, job->batch, job->seq_len, suite, &count));
  for (int i = 0; i < count; i++) inputs[i] = suite[i].input;
  const hfb_model_request request = {
      .class_name = job->model->class_name, .config = config, .input_count = count, .inputs = inputs};
  return build(&request, job, context, out_graph);
}

hfb_status hfb_job_graph(const hfb_job *job, bool output_gradients, hfb_config **out_config, hfb_graph **out_graph) {
  const hfb_training_options step = {.optimizer = job->optimizer,
                                     .checkpoint_layers = job->checkpoint_layers,
                                     .output_gradients = output_gradients};
  hfb_config *config = NULL;
  HFB_TRY(hfb_model_row_config(job->model, &config));
  hfb_status status = build_graph(job, config, job->training ? step_graph : forward_graph, &step, out_graph);
  if (status != HFB_OK || !out_config) hfb_config_destroy(config);
  else *out_config = config;
  return status;
}

hfb_status hfb_job_loss_graph(const hfb_job *job, hfb_graph **out_graph) {
  hfb_config *config = NULL;
  HFB_TRY(hfb_model_row_config(job->model, &config));
  hfb_status status = build_graph(job, config, loss_graph, NULL, out_graph);
  hfb_config_destroy(config);
  return status;
}

hfb_status hfb_job_multiply_adds(const hfb_job *job, const hfb_graph *graph, int64_t *out_count) {
  *out_count = hfb_graph_cost(graph).multiply_adds;
  if (!job->training || !job->checkpoint_layers) return HFB_OK;
  hfb_job plain = *job;
  hfb_graph *without = NULL;
  plain.checkpoint_layers = false;
  HFB_TRY(hfb_job_graph(&plain, false, NULL, &without));
  *out_count = hfb_graph_cost(without).multiply_adds;
  hfb_graph_destroy(without);
  return HFB_OK;
}

static void store_number(const hfb_tensor *tensor, int64_t index, double value) {
  switch (tensor->dtype) {
    case HFB_I64: ((int64_t *)tensor->data)[index] = (int64_t)value; break;
    case HFB_BOOL: ((uint8_t *)tensor->data)[index] = value != 0; break;
    case HFB_BF16: ((uint16_t *)tensor->data)[index] = hfb_f32_to_bf16((float)value); break;
    case HFB_F16: ((uint16_t *)tensor->data)[index] = hfb_f32_to_f16((float)value); break;
    case HFB_F32: ((float *)tensor->data)[index] = (float)value; break;
    default: ((double *)tensor->data)[index] = value;
  }
}

/* Whole numbers, or a normal distribution, in any of the dtypes that inputs have: labels of some classes are floats. */
static hfb_status draw_input(const hfb_suite_input *suite, uint64_t seed, const hfb_tensor *tensor) {
  if (tensor->dtype != HFB_I64 && tensor->dtype != HFB_BOOL && !hfb_dtype_is_float(tensor->dtype)) {
    return HFB_FAIL(HFB_UNSUPPORTED, "input '%s' is %s: i64, bool and floats are drawn", suite->input.name,
                    hfb_dtype_name(tensor->dtype));
  }
  int64_t count = hfb_shape_elements(&tensor->shape);
  int64_t row_length = tensor->shape.rank > 0 ? tensor->shape.dim[tensor->shape.rank - 1] : 1;
  hfb_philox stream = hfb_philox_named(seed, suite->input.name);
  for (int64_t i = 0; i < count; i++) {
    if (suite->normal) {
      store_number(tensor, i, hfb_philox_normal(stream, (uint64_t)i));
      continue;
    }
    bool ends_row = suite->last >= 0 && i % row_length == row_length - 1;
    bool is_padding = suite->drawn > 0 && i % row_length >= suite->drawn;
    int64_t drawn = suite->low + hfb_philox_below(stream, (uint64_t)i, suite->high - suite->low);
    store_number(tensor, i, (double)(ends_row ? suite->last : is_padding ? -100 : drawn));
  }
  return HFB_OK;
}

hfb_status hfb_inputs_draw(const hfb_model_row *model, const hfb_config *config, const hfb_graph *graph, int64_t batch,
                           int64_t seq_len, uint64_t seed, hfb_device *device, hfb_tensor *out_inputs) {
  hfb_suite_input suite[HFB_SUITE_INPUT_MAX];
  int count = 0;
  HFB_TRY(hfb_model_suite_inputs(model, config, batch, seq_len, suite, &count));
  assert(count == graph->input_count);
  hfb_status status = HFB_OK;
  int made = 0;
  for (; made < count && status == HFB_OK; made++) {
    const hfb_value *value = graph->inputs[made];
    out_inputs[made] = (hfb_tensor){0};
    status = hfb_tensor_create(device, value->dtype, &value->shape, &out_inputs[made]);
    if (status != HFB_OK) break;
    if (suite[made].copy_of >= 0) {
      status = hfb_tensor_copy(&out_inputs[suite[made].copy_of], &out_inputs[made], NULL);
    } else {
      status = draw_input(&suite[made], seed, &out_inputs[made]);
    }
  }
  for (int i = 0; status != HFB_OK && i < made; i++) hfb_tensor_release(&out_inputs[i]);
  return status;
}

static hfb_status check_precision(const hfb_job *job) {
  if (job->weights == HFB_BF16 && (job->training || job->precision != HFB_F32)) {
    return HFB_FAIL(HFB_UNSUPPORTED, "weights in bf16 are for inference in f32, not for %s in %s", hfb_job_mode(job),
                    hfb_dtype_name(job->precision));
  }
  if (!(job->model->flags & HFB_MODEL_FP32_ONLY) || job->precision == HFB_F32) return HFB_OK;
  return HFB_FAIL(HFB_UNSUPPORTED, "%s is measured in f32 only, not in %s; leave --precision out", job->model->name,
                  hfb_dtype_name(job->precision));
}

hfb_status hfb_workload_init(const hfb_job *job, bool output_gradients, hfb_workload *out_workload) {
  *out_workload = (hfb_workload){0};
  HFB_TRY(check_precision(job));
  hfb_status status = hfb_job_graph(job, output_gradients, &out_workload->config, &out_workload->graph);
  if (status == HFB_OUT_OF_MEMORY) {
    hfb_error_prefix("batch %lld at sequence length %lld does not fit", (long long)job->batch,
                     (long long)job->seq_len);
  }
  return status;
}

hfb_status hfb_workload_fill(const hfb_job *job, bool shares_parameters, hfb_workload *workload) {
  HFB_TRY(hfb_device_cpu_create(job->threads, job->memory_bytes, &workload->device));
  assert(!(shares_parameters && job->training));
  if (shares_parameters) {
    HFB_TRY(hfb_parameters_draw(workload->graph, workload->device, job->seed, &workload->parameters));
  }
  HFB_TRY(hfb_mem_alloc((size_t)workload->graph->input_count, sizeof(*workload->inputs), &workload->inputs));
  return hfb_inputs_draw(job->model, workload->config, workload->graph, job->batch, job->seq_len, job->seed,
                         workload->device, workload->inputs);
}

void hfb_workload_deinit(hfb_workload *workload) {
  for (int i = 0; workload->inputs && i < workload->graph->input_count; i++) hfb_tensor_release(&workload->inputs[i]);
  hfb_mem_free(workload->inputs);
  hfb_parameters_deinit(&workload->parameters);
  hfb_device_destroy(workload->device);
  hfb_graph_destroy(workload->graph);
  hfb_config_destroy(workload->config);
  *workload = (hfb_workload){0};
}

/* ---- Side ---- */

static hfb_status compile_and_bind(hfb_side *side, const hfb_parameters *parameters,
                                   const hfb_backend_options *options) {
  int64_t start = hfb_clock_ns();
  HFB_TRY(side->backend->compile(side->graph, side->device, options, &side->program));
  HFB_TRY(side->backend->bind_parameters(side->program, parameters->tensors));
  side->open_ns = hfb_clock_ns() - start;
  return HFB_OK;
}

hfb_status hfb_side_open(hfb_side *side, const hfb_backend *backend, const hfb_graph *graph,
                         const hfb_parameters *parameters, uint64_t seed, const hfb_backend_options *options,
                         int threads, int64_t memory_bytes) {
  *side = (hfb_side){.backend = backend, .graph = graph};
  hfb_backend_options given = *options;
  given.owns_parameters |= !parameters;
  hfb_status status = hfb_device_cpu_create(threads, memory_bytes, &side->device);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)graph->output_count, sizeof(*side->outputs), &side->outputs);
  if (status == HFB_OK && !parameters) status = hfb_parameters_draw(graph, side->device, seed, &side->own);
  if (status == HFB_OK) status = compile_and_bind(side, parameters ? parameters : &side->own, &given);
  if (status != HFB_OK) hfb_side_close(side);
  return status;
}

hfb_status hfb_side_open_job(hfb_side *side, const hfb_backend *backend, const hfb_job *job, const hfb_workload *work,
                             const hfb_backend_options *options) {
  const hfb_parameters *shared = work->parameters.count > 0 ? &work->parameters : NULL;
  return hfb_side_open(side, backend, work->graph, shared, job->seed, options,
                       job->threads, job->memory_bytes);
}

hfb_status hfb_side_restart(hfb_side *side, uint64_t seed) {
  assert(side->own.count > 0);
  hfb_parameters_deinit(&side->own);
  HFB_TRY(hfb_parameters_draw(side->graph, side->device, seed, &side->own));
  HFB_TRY(side->backend->bind_parameters(side->program, side->own.tensors));
  side->run_count = 0;
  return HFB_OK;
}

hfb_status hfb_side_run(hfb_side *side, const hfb_tensor *inputs) {
  side->run_count++;
  return side->backend->run(side->program, inputs, side->outputs);
}

void hfb_side_drop_outputs(hfb_side *side) {
  for (int i = 0; side->outputs && i < side->graph->output_count; i++) hfb_tensor_release(&side->outputs[i]);
}

void hfb_side_drop_program(hfb_side *side) {
  if (side->program) side->backend->destroy(side->program);
  side->program = NULL;
  for (int i = 0; i < side->own.count; i++) {
    if (hfb_graph_parameter_is_of_optimizer(side->graph, i)) hfb_tensor_release(&side->own.tensors[i]);
  }
  hfb_device_empty_cache(side->device);
}

hfb_program_stats hfb_side_stats(const hfb_side *side) {
  hfb_program_stats stats = {0};
  side->backend->stats(side->program, &stats);
  return stats;
}

int64_t hfb_side_peak_bytes(const hfb_side *side) {
  return hfb_device_memory(side->device).peak_bytes + (int64_t)hfb_pool_scratch_bytes(hfb_device_pool(side->device));
}

void hfb_side_close(hfb_side *side) {
  hfb_side_drop_outputs(side);
  hfb_mem_free(side->outputs);
  if (side->program) side->backend->destroy(side->program);
  hfb_parameters_deinit(&side->own);
  hfb_device_destroy(side->device);
  *side = (hfb_side){0};
}
