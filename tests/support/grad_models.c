#include "support/grad_models.h"

#include <string.h>

#include "base/rng.h"
#include "eager/eager.h"
#include "ir/builder.h"

/* Scopes of every kind: one stack, two stacks that share a table of positions, layers that share all weights. */
const grad_model grad_models[] = {
    {"BertForMaskedLM", "bert",
     "vocab_size=61 hidden_size=16 num_hidden_layers=5 num_attention_heads=2 intermediate_size=40"},
    {"GPT2LMHeadModel", "gpt2", "vocab_size=61 n_embd=16 n_layer=3 n_head=2 n_positions=32"},
    {"T5ForConditionalGeneration", "t5", "vocab_size=61 d_model=16 d_kv=8 d_ff=40 num_layers=3 num_heads=2 "
     "decoder_start_token_id=0 pad_token_id=0"},
    {"AlbertForMaskedLM", "albert",
     "vocab_size=61 embedding_size=8 hidden_size=16 num_hidden_layers=3 num_attention_heads=2 intermediate_size=40 "
     "hidden_dropout_prob=0.1 attention_probs_dropout_prob=0.1"},
};
const int grad_model_count = sizeof(grad_models) / sizeof(grad_models[0]);

hfb_status grad_model_build(const grad_model *model, hfb_graph **out_graph) {
  hfb_shape shape = hfb_shape_of(2, (int64_t[]){2, 12});
  const hfb_model_input inputs[] = {{"input_ids", HFB_I64, shape}, {"labels", HFB_I64, shape}};
  hfb_config *config;
  HFB_TRY(hfb_config_create(model->model_type, model->config, &config));
  const hfb_model_request request = {
      .class_name = model->class_name, .config = config, .training = true, .input_count = 2, .inputs = inputs};
  hfb_status status = hfb_model_build(&request, out_graph);
  hfb_config_destroy(config);
  return status;
}

static double draw_parameter(const char *name, hfb_philox stream, int64_t index, int64_t seed) {
  if (strcmp(name, HFB_RANDOM_STATE) == 0) return index == 0 ? (double)seed : 0;
  if (strncmp(name, "optimizer/", 10) == 0) return 0;
  return 0.3 * hfb_philox_normal(stream, (uint64_t)index);
}

static hfb_status make_tensor(const hfb_value *value, hfb_device *device, int64_t seed, int64_t bound,
                              hfb_tensor *out_tensor) {
  const char *name = hfb_node_text(value->node, HFB_ATTR_NAME, "");
  int64_t count = hfb_shape_elements(&value->shape);
  double *values;
  HFB_TRY(hfb_tensor_create(device, value->dtype, &value->shape, out_tensor));
  HFB_TRY(hfb_mem_alloc((size_t)count, sizeof(*values), &values));
  hfb_philox stream = hfb_philox_named((uint64_t)seed, name);
  for (int64_t i = 0; i < count; i++) {
    bool is_id = value->node->op == HFB_OP_INPUT && hfb_dtype_is_int(value->dtype);
    values[i] = is_id ? (double)hfb_philox_below(stream, (uint64_t)i, bound) : draw_parameter(name, stream, i, seed);
  }
  hfb_tensor source = hfb_tensor_borrow(HFB_F64, &value->shape, values);
  hfb_status status = hfb_tensor_copy(&source, out_tensor, NULL);
  hfb_mem_free(values);
  return status;
}

static hfb_status open_run(grad_run *run, hfb_device *device, bool reference, int64_t seed, int64_t bound) {
  const hfb_graph *graph = run->graph;
  const hfb_backend_options options = {.reference = reference};
  HFB_TRY(hfb_mem_alloc((size_t)graph->input_count, sizeof(hfb_tensor), &run->inputs));
  HFB_TRY(hfb_mem_alloc((size_t)graph->parameter_count, sizeof(hfb_tensor), &run->parameters));
  HFB_TRY(hfb_mem_alloc((size_t)graph->output_count, sizeof(hfb_tensor), &run->outputs));
  for (int i = 0; i < graph->input_count; i++) {
    HFB_TRY(make_tensor(graph->inputs[i], device, seed, bound, &run->inputs[i]));
  }
  for (int i = 0; i < graph->parameter_count; i++) {
    HFB_TRY(make_tensor(graph->parameters[i], device, seed, bound, &run->parameters[i]));
  }
  HFB_TRY(hfb_backend_eager()->compile(graph, device, &options, &run->program));
  hfb_backend_eager()->stats(run->program, &run->stats);
  return hfb_backend_eager()->bind_parameters(run->program, run->parameters);
}

hfb_status grad_run_open(const hfb_graph *graph, hfb_device *device, bool reference, int64_t seed, int64_t bound,
                         grad_run *out_run) {
  *out_run = (grad_run){.graph = graph};
  hfb_status status = open_run(out_run, device, reference, seed, bound);
  if (status != HFB_OK) grad_run_close(out_run);
  return status;
}

static void release_all(hfb_tensor *tensors, int count) {
  for (int i = 0; tensors && i < count; i++) hfb_tensor_release(&tensors[i]);
}

hfb_status grad_run_step(grad_run *run) {
  release_all(run->outputs, run->graph->output_count);
  return hfb_backend_eager()->run(run->program, run->inputs, run->outputs);
}

void grad_run_close(grad_run *run) {
  hfb_backend_eager()->destroy(run->program);
  release_all(run->inputs, run->graph->input_count);
  release_all(run->parameters, run->graph->parameter_count);
  release_all(run->outputs, run->graph->output_count);
  hfb_mem_free(run->inputs);
  hfb_mem_free(run->parameters);
  hfb_mem_free(run->outputs);
}

const hfb_tensor *grad_run_output(const grad_run *run, const char *name) {
  int index = hfb_graph_find_output(run->graph, name);
  return index >= 0 ? &run->outputs[index] : NULL;
}

const hfb_tensor *grad_run_parameter(const grad_run *run, const char *name) {
  int index = hfb_graph_find_parameter(run->graph, name);
  return index >= 0 ? &run->parameters[index] : NULL;
}
