#include "bench/verify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bench/job.h"
#include "bench/stats.h"
#include "bench/training.h"
#include "io/checkpoint.h"

static const char eval_prefix[] = "eval/", train_prefix[] = "train/";

/* Everything between the folder and the verdict. */
typedef struct verification {
  const hfb_verify_options *options;
  const char *dir;
  hfb_verify_result *result;
  hfb_config *config;
  hfb_safetensors *inputs_file, *expected_file;
  hfb_graph *graph;
  hfb_checkpoint *checkpoint;
  hfb_checkpoint_binding binding;
  hfb_device *device; /* parameters, inputs and expected tensors; the engine has its own */
  hfb_parameters parameters;
  hfb_tensor *inputs; /* graph->input_count */
  hfb_side side;
} verification;

const char *hfb_verdict_name(hfb_verdict verdict) {
  static const char *const names[] = {"PASS", "FAIL", "SKIP"};
  return names[verdict];
}

static const char *path_in(verification *v, const char *name) {
  return hfb_arena_printf(&v->result->arena, "%s/%s", v->dir, name);
}

/* ---- The model for exactly the stored inputs ---- */

/* What a forward() argument of that storage becomes: the models know one float and one integer type. */
static hfb_dtype argument_dtype(hfb_storage storage) {
  hfb_dtype dtype = hfb_storage_dtype(storage);
  return hfb_dtype_is_float(dtype) ? HFB_F32 : hfb_dtype_is_int(dtype) ? HFB_I64 : dtype;
}

static hfb_status build_graph(verification *v) {
  int count = hfb_safetensors_count(v->inputs_file);
  hfb_model_input *inputs = hfb_arena_alloc(&v->result->arena, (size_t)count + 1, sizeof(*inputs));
  if (!inputs) return HFB_OUT_OF_MEMORY;
  for (int i = 0; i < count; i++) {
    const hfb_stored_tensor *stored = hfb_safetensors_at(v->inputs_file, i);
    inputs[i] = (hfb_model_input){stored->name, argument_dtype(stored->storage), stored->shape};
  }
  const hfb_model_request request = {.class_name = hfb_config_class(v->config),
                                     .config = v->config,
                                     .training = v->options->training,
                                     .input_count = count,
                                     .inputs = inputs};
  if (v->options->training) {
    const hfb_training_options step = {HFB_OPTIMIZER_NONE, .output_gradients = true, .keep_outputs = true};
    return hfb_training_step_graph(&request, &step, v->options->precision, &v->graph);
  }
  hfb_graph *graph = NULL;
  HFB_TRY(hfb_model_build(&request, &graph));
  return hfb_graph_in_precision(graph, v->options->precision, &v->graph);
}

static hfb_status load_tensor(verification *v, const hfb_stored_tensor *stored, hfb_dtype dtype,
                              hfb_tensor *out_tensor) {
  HFB_TRY(hfb_tensor_create(v->device, dtype, &stored->shape, out_tensor));
  int64_t count = hfb_shape_elements(&stored->shape);
  hfb_status status = hfb_safetensors_convert(stored, 0, count, dtype, out_tensor->data);
  if (status != HFB_OK) {
    hfb_error_prefix("'%s'", hfb_safetensors_path(stored->file));
    hfb_tensor_release(out_tensor);
  }
  return status;
}

static hfb_status load_inputs(verification *v) {
  HFB_TRY(hfb_mem_alloc((size_t)v->graph->input_count, sizeof(*v->inputs), &v->inputs));
  for (int i = 0; i < v->graph->input_count; i++) {
    HFB_TRY(load_tensor(v, hfb_safetensors_at(v->inputs_file, i), v->graph->inputs[i]->dtype, &v->inputs[i]));
  }
  return HFB_OK;
}

static hfb_status load_weights(verification *v) {
  HFB_TRY(hfb_checkpoint_open(v->dir, &v->checkpoint));
  HFB_TRY(hfb_checkpoint_bind(v->checkpoint, hfb_config_class(v->config), v->config, v->graph, &v->binding));
  if (v->binding.unknown_count > 0) {
    hfb_log(HFB_LOG_WARNING, "'%s': %d tensors have no place in %s, the first is '%.96s'",
            hfb_checkpoint_path(v->checkpoint), v->binding.unknown_count, hfb_config_class(v->config),
            v->binding.first_unknown);
  }
  return hfb_parameters_load(v->graph, v->device, &v->binding, &v->parameters);
}

/* ---- What is expected ---- */

static bool starts_with(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

static const char *output_prefix(const verification *v) { return v->options->training ? train_prefix : eval_prefix; }

/* The gradient that a stored tensor "grad/<parameter>" is compared with: the index of an output, -1 for zeros. */
static hfb_status find_gradient(const verification *v, const hfb_stored_tensor *stored, int *out_output) {
  hfb_name_use use;
  const char *parameter = NULL;
  hfb_status status = hfb_model_checkpoint_name(hfb_config_class(v->config), v->config, v->graph,
                                                stored->name + strlen(HFB_GRADIENT_PREFIX), &use, &parameter);
  if (status == HFB_NOT_FOUND) {
    return HFB_FAIL(HFB_MISMATCH, "'%.96s' is expected, but %s has no such parameter", stored->name,
                    hfb_config_class(v->config));
  }
  HFB_TRY(status);
  *out_output = use == HFB_NAME_IGNORED ? -1 : hfb_graph_find_gradient(v->graph, parameter);
  return HFB_OK;
}

/* Every expected tensor must be an output or a gradient; the other way round, a file may hold some of them only. */
static hfb_status check_expected_names(const verification *v) {
  const char *prefix = output_prefix(v);
  int count = 0, ignored;
  for (int i = 0; i < hfb_safetensors_count(v->expected_file); i++) {
    const hfb_stored_tensor *stored = hfb_safetensors_at(v->expected_file, i);
    if (v->options->training && starts_with(stored->name, HFB_GRADIENT_PREFIX)) {
      HFB_TRY(find_gradient(v, stored, &ignored));
      count++;
    } else if (starts_with(stored->name, prefix)) {
      count++;
      if (hfb_graph_find_output(v->graph, stored->name + strlen(prefix)) >= 0) continue;
      return HFB_FAIL(HFB_MISMATCH, "'%.96s' is expected, but %s has no such output for these inputs", stored->name,
                      hfb_config_class(v->config));
    }
  }
  if (count > 0) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "'%s' holds no tensor \"%s<output>\"%s to compare with",
                  hfb_safetensors_path(v->expected_file), prefix,
                  v->options->training ? " or \"" HFB_GRADIENT_PREFIX "<parameter>\"" : "");
}

/* The values that output `index` must have; NULL when they are not stored. Those of training are stored where they
 * differ from eval. */
static const hfb_stored_tensor *expected_output(verification *v, int index) {
  const char *output = v->graph->outputs[index].name;
  const char *prefixes[] = {output_prefix(v), eval_prefix};
  const hfb_stored_tensor *stored = NULL;
  for (int i = 0; i < 2 && !stored; i++) {
    const char *name = hfb_arena_printf(&v->result->arena, "%s%s", prefixes[i], output);
    if (name) stored = hfb_safetensors_find(v->expected_file, name);
  }
  return stored;
}

/* ---- Comparing ---- */

static hfb_status zeros(verification *v, const hfb_shape *shape, hfb_tensor *out_tensor) {
  HFB_TRY(hfb_tensor_create(v->device, HFB_F32, shape, out_tensor));
  memset(out_tensor->data, 0, hfb_tensor_bytes(out_tensor));
  return HFB_OK;
}

/* got: NULL for zeros. */
static hfb_status compare_tensor(verification *v, const char *name, const hfb_tensor *got,
                                 const hfb_stored_tensor *stored, bool is_gradient) {
  hfb_tensor expected = {0}, zero = {0};
  hfb_verify_result *result = v->result;
  hfb_verify_tensor *tensor = &result->tensors[result->tensor_count];
  hfb_status status = load_tensor(v, stored, hfb_storage_dtype(stored->storage), &expected);
  if (status == HFB_OK && !got) status = zeros(v, &stored->shape, &zero);
  if (status == HFB_OK) {
    status = hfb_distance_measure(got ? got : &zero, &expected, hfb_device_pool(v->device), &tensor->distance);
  }
  hfb_tensor_release(&expected);
  hfb_tensor_release(&zero);
  if (status != HFB_OK) {
    hfb_error_prefix("%s", name);
    return status;
  }
  tensor->name = name;
  tensor->is_gradient = is_gradient;
  tensor->error = tensor->distance.scaled;
  result->tensor_count++;
  result->gradient_count += is_gradient;
  return HFB_OK;
}

static hfb_status compare_outputs(verification *v) {
  for (int i = 0; i < v->graph->output_count; i++) {
    const char *output = v->graph->outputs[i].name;
    if (starts_with(output, HFB_GRADIENT_PREFIX)) continue;
    v->result->output_count++;
    const hfb_stored_tensor *stored = expected_output(v, i);
    if (!stored) continue;
    const char *name = hfb_arena_printf(&v->result->arena, "%s%s", output_prefix(v), output);
    if (!name) return HFB_OUT_OF_MEMORY;
    HFB_TRY(compare_tensor(v, name, &v->side.outputs[i], stored, false));
  }
  return HFB_OK;
}

static hfb_status compare_gradients(verification *v) {
  for (int i = 0; i < hfb_safetensors_count(v->expected_file); i++) {
    const hfb_stored_tensor *stored = hfb_safetensors_at(v->expected_file, i);
    int output = -1;
    if (!starts_with(stored->name, HFB_GRADIENT_PREFIX)) continue;
    HFB_TRY(find_gradient(v, stored, &output));
    const char *name = hfb_arena_printf(&v->result->arena, "%s", stored->name);
    if (!name) return HFB_OUT_OF_MEMORY;
    HFB_TRY(compare_tensor(v, name, output >= 0 ? &v->side.outputs[output] : NULL, stored, true));
  }
  return HFB_OK;
}

/* Errors of gradients, whose scale is known only now, and their median. */
static hfb_status measure_gradients(hfb_verify_result *result) {
  double largest = 0, *errors = NULL;
  int count = 0;
  HFB_TRY(hfb_mem_alloc((size_t)result->gradient_count, sizeof(*errors), &errors));
  for (int i = 0; i < result->tensor_count; i++) {
    if (result->tensors[i].is_gradient) largest = fmax(largest, result->tensors[i].distance.max_expected);
  }
  for (int i = 0; i < result->tensor_count; i++) {
    hfb_verify_tensor *tensor = &result->tensors[i];
    if (!tensor->is_gradient) continue;
    tensor->error = hfb_gradient_error(&tensor->distance, largest);
    errors[count++] = tensor->error;
  }
  hfb_status status = hfb_stats_median(errors, (size_t)count, &result->gradient_median);
  hfb_mem_free(errors);
  return status;
}

/* In units of what is allowed. */
static double badness(const verification *v, const hfb_verify_tensor *tensor) {
  double allowed = tensor->is_gradient ? v->options->gradient_tolerance : v->options->tolerance;
  return tensor->error == 0 ? 0 : tensor->error / allowed;
}

static void judge(verification *v) {
  hfb_verify_result *result = v->result;
  for (int i = 0; i < result->tensor_count; i++) {
    if (result->worst < 0 || badness(v, &result->tensors[i]) > badness(v, &result->tensors[result->worst])) {
      result->worst = i;
    }
  }
  if (result->worst < 0) return;
  const hfb_verify_tensor *worst = &result->tensors[result->worst];
  /* Written so that a NaN fails. */
  if (badness(v, worst) <= 1) return;
  result->verdict = HFB_VERDICT_FAIL;
  if (isfinite(worst->error)) return;
  int64_t bad = worst->distance.nan_got + worst->distance.infinite_got;
  snprintf(result->reason, sizeof(result->reason), "%lld of %lld elements are not finite", (long long)bad,
           (long long)worst->distance.count);
}

static hfb_status compare(verification *v) {
  hfb_verify_result *result = v->result;
  size_t most = (size_t)v->graph->output_count + (size_t)hfb_safetensors_count(v->expected_file);
  result->tensors = hfb_arena_alloc(&result->arena, most + 1, sizeof(*result->tensors));
  if (!result->tensors) return HFB_OUT_OF_MEMORY;
  HFB_TRY(compare_outputs(v));
  if (v->options->training) HFB_TRY(compare_gradients(v));
  if (result->gradient_count > 0) HFB_TRY(measure_gradients(result));
  judge(v);
  return HFB_OK;
}

/* ---- Writing ---- */

/* A row-major copy of an output under the name that the expected tensor would have. */
static hfb_status pack_output(verification *v, int index, hfb_stored_tensor *out_stored, hfb_tensor *out_packed) {
  const hfb_tensor *output = &v->side.outputs[index];
  const char *name = v->graph->outputs[index].name;
  bool is_gradient = starts_with(name, HFB_GRADIENT_PREFIX);
  HFB_TRY(hfb_tensor_create(v->device, output->dtype, &output->shape, out_packed));
  HFB_TRY(hfb_tensor_copy(output, out_packed, hfb_device_pool(v->device)));
  *out_stored = (hfb_stored_tensor){
      .name = hfb_arena_printf(&v->result->arena, "%s%s", is_gradient ? "" : output_prefix(v), name),
      .storage = hfb_storage_of(output->dtype),
      .shape = output->shape,
      .data = out_packed->data,
      .bytes = hfb_tensor_bytes(out_packed)};
  return out_stored->name ? HFB_OK : HFB_OUT_OF_MEMORY;
}

/* The gradient of a parameter that the loss does not depend on. */
static hfb_status pack_zeros(verification *v, int parameter, hfb_stored_tensor *out_stored, hfb_tensor *out_packed) {
  HFB_TRY(zeros(v, &v->graph->parameters[parameter]->shape, out_packed));
  *out_stored = (hfb_stored_tensor){.name = hfb_arena_printf(&v->result->arena, HFB_GRADIENT_PREFIX "%s",
                                                             hfb_graph_parameter_name(v->graph, parameter)),
                                    .storage = HFB_STORAGE_F32,
                                    .shape = out_packed->shape,
                                    .data = out_packed->data,
                                    .bytes = hfb_tensor_bytes(out_packed)};
  return out_stored->name ? HFB_OK : HFB_OUT_OF_MEMORY;
}

static hfb_status pack_all(verification *v, hfb_stored_tensor *stored, hfb_tensor *packed, int *out_count) {
  const hfb_graph *graph = v->graph;
  for (int i = 0; i < graph->output_count; i++, (*out_count)++) {
    HFB_TRY(pack_output(v, i, &stored[*out_count], &packed[*out_count]));
  }
  for (int i = 0; v->options->training && i < graph->parameter_count; i++) {
    bool is_written = hfb_graph_find_gradient(graph, hfb_graph_parameter_name(graph, i)) >= 0;
    if (is_written || !hfb_graph_parameter_is_trainable(graph, i)) continue;
    HFB_TRY(pack_zeros(v, i, &stored[*out_count], &packed[*out_count]));
    (*out_count)++;
  }
  return HFB_OK;
}

static hfb_status write_outputs(verification *v) {
  size_t most = (size_t)v->graph->output_count + (size_t)v->graph->parameter_count;
  hfb_stored_tensor *stored = NULL;
  hfb_tensor *packed = NULL;
  int count = 0;
  hfb_status status = hfb_mem_alloc(most, sizeof(*stored), &stored);
  if (status == HFB_OK) status = hfb_mem_alloc(most, sizeof(*packed), &packed);
  if (status == HFB_OK) status = pack_all(v, stored, packed, &count);
  if (status == HFB_OK) status = hfb_safetensors_write(v->options->write_path, stored, count);
  for (size_t i = 0; packed && i < most; i++) hfb_tensor_release(&packed[i]);
  hfb_mem_free(packed);
  hfb_mem_free(stored);
  return status;
}

/* ---- The whole case ---- */

static hfb_status open_files(verification *v) {
  const char *config = path_in(v, "config.json");
  const char *inputs = path_in(v, "inputs.safetensors");
  const char *expected = path_in(v, "expected.safetensors");
  if (!config || !inputs || !expected) return HFB_OUT_OF_MEMORY;
  HFB_TRY(hfb_config_load(config, NULL, &v->config));
  HFB_TRY(hfb_safetensors_open(inputs, &v->inputs_file));
  return hfb_safetensors_open(expected, &v->expected_file);
}

static hfb_status verify(verification *v) {
  HFB_TRY(open_files(v));
  HFB_TRY(build_graph(v));
  HFB_TRY(check_expected_names(v));
  HFB_TRY(hfb_device_cpu_create(v->options->threads, 0, &v->device));
  HFB_TRY(load_weights(v));
  HFB_TRY(load_inputs(v));
  const hfb_backend_options options = {.cache_dir = v->options->cache_dir, .owns_parameters = true};
  HFB_TRY(hfb_side_open(&v->side, v->options->backend, v->graph, &v->parameters, 0, &options, v->options->threads, 0));
  HFB_TRY(hfb_side_run(&v->side, v->inputs));
  if (v->options->write_path) HFB_TRY(write_outputs(v));
  return compare(v);
}

static void release_all(verification *v) {
  if (v->side.backend) hfb_side_close(&v->side);
  for (int i = 0; v->inputs && i < v->graph->input_count; i++) hfb_tensor_release(&v->inputs[i]);
  hfb_mem_free(v->inputs);
  hfb_parameters_deinit(&v->parameters);
  hfb_checkpoint_binding_deinit(&v->binding);
  hfb_checkpoint_destroy(v->checkpoint);
  hfb_graph_destroy(v->graph);
  hfb_device_destroy(v->device);
  hfb_safetensors_destroy(v->expected_file);
  hfb_safetensors_destroy(v->inputs_file);
  hfb_config_destroy(v->config);
}

void hfb_verify_case(const hfb_verify_options *options, const char *dir, hfb_verify_result *out_result) {
  *out_result = (hfb_verify_result){.verdict = HFB_VERDICT_PASS, .worst = -1, .gradient_median = NAN};
  hfb_arena_init(&out_result->arena);
  verification v = {.options = options, .dir = dir, .result = out_result};
  hfb_status status = verify(&v);
  if (status != HFB_OK) {
    out_result->verdict = status == HFB_UNSUPPORTED ? HFB_VERDICT_SKIP : HFB_VERDICT_FAIL;
    snprintf(out_result->reason, sizeof(out_result->reason), "%s", hfb_error_message());
  }
  release_all(&v);
}

void hfb_verify_result_deinit(hfb_verify_result *result) {
  hfb_arena_deinit(&result->arena);
  *result = (hfb_verify_result){0};
}
