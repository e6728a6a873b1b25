#include "support/graph_run.h"

#include "base/memory.h"

static _Thread_local const char *last_kernel = "view";

const char *graph_run_kernel(void) { return last_kernel; }

typedef struct runner {
  hfb_device *device;
  hfb_isa isa;
  bool reference_only;
  const hfb_tensor *inputs, *parameters;
  int input_count, parameter_count;
  hfb_tensor *values; /* by value id; owned */
} runner;

enum { MAX_OPERANDS = 16 };

static hfb_status run_kernel(runner *r, const hfb_node *node) {
  hfb_tensor inputs[MAX_OPERANDS];
  if (node->input_count > MAX_OPERANDS) return HFB_FAIL(HFB_UNSUPPORTED, "more than %d inputs", MAX_OPERANDS);
  for (int i = 0; i < node->input_count; i++) inputs[i] = r->values[node->inputs[i]->id];
  hfb_tensor *results = &r->values[node->results[0].id]; /* ids of one node's results are neighbours */
  for (int i = 0; i < node->result_count; i++) {
    HFB_TRY(hfb_tensor_create(r->device, node->results[i].dtype, &node->results[i].shape, &results[i]));
  }
  hfb_kernel_call call = {.node = node,
                          .input_count = node->input_count,
                          .result_count = node->result_count,
                          .inputs = inputs,
                          .results = results,
                          .pool = hfb_device_pool(r->device)};
  const hfb_kernel *kernel = hfb_kernel_select(&call, r->isa, r->reference_only);
  if (!kernel) return HFB_FAIL(HFB_UNSUPPORTED, "no kernel for %s", hfb_op_info_of(node->op)->name);
  last_kernel = kernel->name;
  return kernel->run(&call);
}

static hfb_status run_node(runner *r, const hfb_node *node) {
  hfb_value *result = &node->results[0];
  hfb_tensor view;
  last_kernel = "view";
  switch (node->op) {
    case HFB_OP_INPUT: r->values[result->id] = hfb_tensor_retain(&r->inputs[r->input_count++]); return HFB_OK;
    case HFB_OP_PARAMETER:
      r->values[result->id] = hfb_tensor_retain(&r->parameters[r->parameter_count++]);
      return HFB_OK;
    case HFB_OP_CONSTANT: {
      hfb_tensor source = hfb_tensor_borrow(result->dtype, &result->shape,
                                            (void *)hfb_node_attr(node, HFB_ATTR_DATA)->u.data);
      HFB_TRY(hfb_tensor_create(r->device, result->dtype, &result->shape, &r->values[result->id]));
      return hfb_tensor_copy(&source, &r->values[result->id], NULL);
    }
    default:
      if (node->input_count == 1 && hfb_view_try(node, &r->values[node->inputs[0]->id], &view)) {
        r->values[result->id] = hfb_tensor_retain(&view);
        return HFB_OK;
      }
      return run_kernel(r, node);
  }
}

hfb_status graph_run(const hfb_graph *graph, hfb_device *device, hfb_isa isa, bool reference_only,
                     const hfb_tensor *inputs, const hfb_tensor *parameters, hfb_tensor *outputs) {
  runner r = {.device = device,
              .isa = isa,
              .reference_only = reference_only,
              .inputs = inputs,
              .parameters = parameters};
  HFB_TRY(hfb_mem_alloc((size_t)graph->value_count, sizeof(*r.values), &r.values));
  hfb_status status = HFB_OK;
  for (int i = 0; i < graph->node_count && status == HFB_OK; i++) status = run_node(&r, graph->nodes[i]);
  for (int i = 0; i < graph->output_count && status == HFB_OK; i++) {
    outputs[i] = hfb_tensor_retain(&r.values[graph->outputs[i].value->id]);
  }
  for (int i = 0; i < graph->value_count; i++) hfb_tensor_release(&r.values[i]);
  hfb_mem_free(r.values);
  return status;
}
