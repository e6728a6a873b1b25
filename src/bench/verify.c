#include "bench/verify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bench/job.h"
#include "io/checkpoint.h"

static const char *const prefix = "eval/";

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
  const hfb_model_request request = {
      .class_name = hfb_config_class(v->config), .config = v->config, .input_count = count, .inputs = inputs};
  hfb_graph *graph = NULL;
  HFB_TRY(hfb_model_build(&request, &graph));
  if (v->options->precision == HFB_F32) {
    v->graph = graph;
    return HFB_OK;
  }
  hfb_status status = hfb_graph_convert(graph, v->options->precision, &v->graph);
  hfb_graph_destroy(graph);
  return status;
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

/* ---- Comparing ---- */

static const hfb_output *find_output(const hfb_graph *graph, const char *name) {
  for (int i = 0; i < graph->output_count; i++) {
    if (strcmp(graph->outputs[i].name, name) == 0) return &graph->outputs[i];
  }
  return NULL;
}

/* Every expected tensor must be an output; the other way round, a file may hold some of the outputs only. */
static hfb_status check_expected_names(const verification *v) {
  int count = 0;
  for (int i = 0; i < hfb_safetensors_count(v->expected_file); i++) {
    const char *name = hfb_safetensors_at(v->expected_file, i)->name;
    if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
    count++;
    if (!find_output(v->graph, name + strlen(prefix))) {
      return HFB_FAIL(HFB_MISMATCH, "'%.96s' is expected, but %s has no such output for these inputs", name,
                      hfb_config_class(v->config));
    }
  }
  if (count > 0) return HFB_OK;
  return HFB_FAIL(HFB_MISMATCH, "'%s' holds no tensor \"%s<output>\" to compare with",
                  hfb_safetensors_path(v->expected_file), prefix);
}

static hfb_status compare_output(verification *v, int index) {
  const char *name = hfb_arena_printf(&v->result->arena, "%s%s", prefix, v->graph->outputs[index].name);
  if (!name) return HFB_OUT_OF_MEMORY;
  const hfb_stored_tensor *stored = hfb_safetensors_find(v->expected_file, name);
  if (!stored) return HFB_OK;
  hfb_tensor expected;
  HFB_TRY(load_tensor(v, stored, hfb_storage_dtype(stored->storage), &expected));
  hfb_verify_result *result = v->result;
  hfb_verify_tensor *tensor = &result->tensors[result->tensor_count];
  hfb_status status =
      hfb_distance_measure(&v->side.outputs[index], &expected, hfb_device_pool(v->device), &tensor->distance);
  hfb_tensor_release(&expected);
  if (status != HFB_OK) {
    hfb_error_prefix("%s", name);
    return status;
  }
  tensor->name = name;
  if (result->worst < 0 || tensor->distance.scaled > result->tensors[result->worst].distance.scaled) {
    result->worst = result->tensor_count;
  }
  result->tensor_count++;
  return HFB_OK;
}

static hfb_status compare_outputs(verification *v) {
  hfb_verify_result *result = v->result;
  result->output_count = v->graph->output_count;
  result->tensors = hfb_arena_alloc(&result->arena, (size_t)v->graph->output_count + 1, sizeof(*result->tensors));
  if (!result->tensors) return HFB_OUT_OF_MEMORY;
  for (int i = 0; i < v->graph->output_count; i++) HFB_TRY(compare_output(v, i));
  const hfb_distance *worst = &result->tensors[result->worst].distance;
  /* Written so that a NaN fails. */
  if (worst->scaled <= v->options->tolerance) return HFB_OK;
  result->verdict = HFB_VERDICT_FAIL;
  if (isfinite(worst->scaled)) return HFB_OK;
  int64_t bad = worst->nan_got + worst->infinite_got;
  snprintf(result->reason, sizeof(result->reason), "%lld of %lld elements are not finite", (long long)bad,
           (long long)worst->count);
  return HFB_OK;
}

static hfb_status write_outputs(const verification *v) {
  int count = v->graph->output_count;
  hfb_stored_tensor *stored = NULL;
  hfb_tensor *packed = NULL;
  hfb_status status = hfb_mem_alloc((size_t)count, sizeof(*stored), &stored);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)count, sizeof(*packed), &packed);
  for (int i = 0; i < count && status == HFB_OK; i++) {
    const hfb_tensor *output = &v->side.outputs[i];
    status = hfb_tensor_create(v->device, output->dtype, &output->shape, &packed[i]);
    if (status == HFB_OK) status = hfb_tensor_copy(output, &packed[i], hfb_device_pool(v->device));
    stored[i].name = hfb_arena_printf(&v->result->arena, "%s%s", prefix, v->graph->outputs[i].name);
    if (!stored[i].name) status = HFB_OUT_OF_MEMORY;
    stored[i].storage = hfb_storage_of(output->dtype);
    stored[i].shape = output->shape;
    stored[i].data = packed[i].data;
    stored[i].bytes = hfb_tensor_bytes(&packed[i]);
  }
  if (status == HFB_OK) status = hfb_safetensors_write(v->options->write_path, stored, count);
  for (int i = 0; packed && i < count; i++) hfb_tensor_release(&packed[i]);
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
  const hfb_backend_options options = {.cache_dir = v->options->cache_dir};
  HFB_TRY(hfb_side_open(&v->side, v->options->backend, v->graph, &v->parameters, &options, v->options->threads, 0));
  HFB_TRY(hfb_side_run(&v->side, v->inputs));
  if (v->options->write_path) HFB_TRY(write_outputs(v));
  return compare_outputs(v);
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
  *out_result = (hfb_verify_result){.verdict = HFB_VERDICT_PASS, .worst = -1};
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
