#include "bench/training.h"

#include <stdio.h>
#include <string.h>

#include "ir/transform.h"

/* BENCHMARK_USE_SGD, CI_USE_SGD and CI_SKIP_OPTIMIZER of PyTorch's benchmarks/dynamo/common.py, as they were while the
 * suite had all of its models; what was taken out later went with its models. */
static const struct {
  const char *model;
  hfb_optimizer optimizer;
} suite_optimizers[] = {
    {"AlbertForMaskedLM", HFB_OPTIMIZER_SGD},
    {"BartForCausalLM", HFB_OPTIMIZER_SGD},
    {"BartForConditionalGeneration", HFB_OPTIMIZER_SGD},
    {"BlenderbotForCausalLM", HFB_OPTIMIZER_SGD},
    {"BlenderbotSmallForCausalLM", HFB_OPTIMIZER_SGD},
    {"BlenderbotSmallForConditionalGeneration", HFB_OPTIMIZER_SGD},
    {"DebertaV2ForQuestionAnswering", HFB_OPTIMIZER_SGD},
    {"ElectraForCausalLM", HFB_OPTIMIZER_SGD},
    {"M2M100ForConditionalGeneration", HFB_OPTIMIZER_SGD},
    {"MBartForCausalLM", HFB_OPTIMIZER_SGD},
    {"MBartForConditionalGeneration", HFB_OPTIMIZER_SGD},
    {"MobileBertForMaskedLM", HFB_OPTIMIZER_NONE},
    {"OPTForCausalLM", HFB_OPTIMIZER_SGD},
    {"PLBartForCausalLM", HFB_OPTIMIZER_SGD},
    {"PLBartForConditionalGeneration", HFB_OPTIMIZER_SGD},
    {"PegasusForCausalLM", HFB_OPTIMIZER_SGD},
    {"Speech2Text2ForCausalLM", HFB_OPTIMIZER_SGD},
    {"TrOCRForCausalLM", HFB_OPTIMIZER_SGD},
    {"XGLMForCausalLM", HFB_OPTIMIZER_SGD},
};

hfb_optimizer hfb_suite_optimizer(const hfb_model_row *model) {
  for (size_t i = 0; i < sizeof(suite_optimizers) / sizeof(suite_optimizers[0]); i++) {
    if (strcmp(suite_optimizers[i].model, model->name) == 0) return suite_optimizers[i].optimizer;
  }
  return HFB_OPTIMIZER_ADAM;
}

/* ---- The graph of a step ---- */

static bool is_loss(const hfb_value *value) { return hfb_dtype_is_float(value->dtype) && value->shape.rank == 0; }

static void add_mean_loss(hfb_rewrite *rewrite) {
  hfb_value *first = rewrite->map[rewrite->from->outputs[0].value->id];
  int axes[HFB_MAX_RANK];
  for (int i = 0; i < HFB_MAX_RANK; i++) axes[i] = i;
  if (!first) return; /* the builder knows why */
  hfb_value *mean = hfb_reduce(&rewrite->b, HFB_OP_REDUCE_MEAN, first, first->shape.rank, axes, false);
  hfb_output_add(&rewrite->b, "loss", mean);
}

static hfb_status with_mean_loss(const hfb_graph *forward, hfb_graph **out_graph) {
  hfb_rewrite rewrite;
  HFB_TRY(hfb_rewrite_begin(&rewrite, forward));
  for (int i = 0; i < forward->node_count; i++) hfb_rewrite_copy(&rewrite, forward->nodes[i]);
  add_mean_loss(&rewrite);
  hfb_status status = hfb_rewrite_finish(&rewrite, out_graph);
  hfb_rewrite_deinit(&rewrite);
  return status;
}

hfb_status hfb_graph_in_precision(hfb_graph *graph, hfb_dtype precision, hfb_graph **out_graph) {
  if (precision == HFB_F32) {
    *out_graph = graph;
    return HFB_OK;
  }
  hfb_status status = hfb_graph_convert(graph, precision, out_graph);
  hfb_graph_destroy(graph);
  return status;
}

/* The model with its loss as first output, in f32. */
static hfb_status build_with_loss(const hfb_model_request *request, hfb_graph **out_graph) {
  hfb_graph *forward = NULL;
  HFB_TRY(hfb_model_build(request, &forward));
  if (forward->output_count == 0 || is_loss(forward->outputs[0].value)) {
    *out_graph = forward;
    return HFB_OK;
  }
  hfb_status status = with_mean_loss(forward, out_graph);
  hfb_graph_destroy(forward);
  return status;
}

hfb_status hfb_training_loss_graph(const hfb_model_request *request, hfb_dtype precision, hfb_graph **out_graph) {
  hfb_graph *forward = NULL;
  HFB_TRY(build_with_loss(request, &forward));
  return hfb_graph_in_precision(forward, precision, out_graph);
}

hfb_status hfb_training_step_graph(const hfb_model_request *request, const hfb_training_options *options,
                                   hfb_dtype precision, hfb_graph **out_graph) {
  hfb_graph *forward = NULL, *graph = NULL;
  HFB_TRY(build_with_loss(request, &forward));
  hfb_status status = hfb_training_graph(forward, options, &graph);
  hfb_graph_destroy(forward);
  HFB_TRY(status);
  return hfb_graph_in_precision(graph, precision, out_graph);
}

/* ---- Names ---- */

const char *hfb_graph_parameter_name(const hfb_graph *graph, int index) {
  return hfb_node_text(graph->parameters[index]->node, HFB_ATTR_NAME, "");
}

bool hfb_graph_parameter_is_trainable(const hfb_graph *graph, int index) {
  const hfb_node *node = graph->parameters[index]->node;
  return hfb_node_int(node, HFB_ATTR_TRAINABLE) != 0 && hfb_node_int(node, HFB_ATTR_BUFFER) == 0;
}

bool hfb_graph_parameter_is_of_optimizer(const hfb_graph *graph, int index) {
  static const char prefix[] = "optimizer/";
  return strncmp(hfb_graph_parameter_name(graph, index), prefix, sizeof(prefix) - 1) == 0;
}

int64_t hfb_graph_optimizer_bytes(const hfb_graph *graph) {
  int64_t bytes = 0;
  for (int i = 0; i < graph->parameter_count; i++) {
    if (hfb_graph_parameter_is_of_optimizer(graph, i)) bytes += hfb_value_bytes(graph->parameters[i]);
  }
  return bytes;
}

int64_t hfb_graph_gradient_bytes(const hfb_graph *graph) {
  int64_t bytes = 0;
  for (int i = 0; i < graph->output_count; i++) {
    if (strncmp(graph->outputs[i].name, HFB_GRADIENT_PREFIX, sizeof(HFB_GRADIENT_PREFIX) - 1) == 0)
      bytes += hfb_value_bytes(graph->outputs[i].value);
  }
  return bytes;
}

int hfb_graph_find_gradient(const hfb_graph *graph, const char *parameter) {
  char name[sizeof(HFB_GRADIENT_PREFIX) + HFB_SCOPE_BYTES];
  int length = snprintf(name, sizeof(name), HFB_GRADIENT_PREFIX "%s", parameter);
  return length < (int)sizeof(name) ? hfb_graph_find_output(graph, name) : -1;
}
