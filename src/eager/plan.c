#include "eager/plan.h"

#include "kernels/kernel.h"

/* The layout of a view is found by making it of a tensor at this address; nothing is read through it. */
static const uintptr_t NOMINAL_ADDRESS = (uintptr_t)1 << 44;

static hfb_tensor nominal_tensor(const hfb_place *place) {
  hfb_tensor tensor = place->tensor;
  tensor.data = (void *)(NOMINAL_ADDRESS + (uintptr_t)place->offset_bytes);
  return tensor;
}

static void place_in_own_storage(hfb_eager_plan *plan, const hfb_value *value, hfb_storage_kind kind, int index) {
  int id = plan->storage_count++;
  plan->storages[id] = (hfb_storage){.kind = kind, .index = index, .value = value, .last_use = value->node->id};
  plan->places[value->id] = (hfb_place){.storage = id, .tensor = hfb_tensor_borrow(value->dtype, &value->shape, NULL)};
}

static bool place_as_view(hfb_eager_plan *plan, const hfb_node *node) {
  if (node->input_count != 1) return false;
  const hfb_place *source = &plan->places[node->inputs[0]->id];
  hfb_tensor input = nominal_tensor(source), view;
  if (!hfb_view_try(node, &input, &view)) return false;
  int64_t offset_bytes = (int64_t)((uintptr_t)view.data - NOMINAL_ADDRESS);
  view.data = NULL;
  plan->places[node->results[0].id] = (hfb_place){source->storage, offset_bytes, view};
  return true;
}

static hfb_status add_step(hfb_eager_plan *plan, const hfb_node *node, hfb_isa isa, bool reference_only,
                           hfb_tensor *inputs, hfb_tensor *results) {
  for (int i = 0; i < node->input_count; i++) inputs[i] = nominal_tensor(&plan->places[node->inputs[i]->id]);
  for (int i = 0; i < node->result_count; i++) {
    place_in_own_storage(plan, &node->results[i], HFB_STORAGE_RESULT, i);
    results[i] = nominal_tensor(&plan->places[node->results[i].id]);
  }
  hfb_kernel_call call = {.node = node,
                          .input_count = node->input_count,
                          .result_count = node->result_count,
                          .inputs = inputs,
                          .results = results};
  const hfb_kernel *kernel = hfb_kernel_select(&call, isa, reference_only);
  if (!kernel) {
    return HFB_FAIL(HFB_UNSUPPORTED, "eager has no kernel for %s (node %d)", hfb_op_info_of(node->op)->name, node->id);
  }
  plan->steps[plan->step_count++] = (hfb_step){.node = node, .kernel = kernel};
  return HFB_OK;
}

static hfb_status place_node(hfb_eager_plan *plan, const hfb_node *node, hfb_isa isa, bool reference_only,
                             int *input_count, int *parameter_count, hfb_tensor *inputs, hfb_tensor *results) {
  for (int i = 0; i < node->input_count; i++) {
    plan->storages[plan->places[node->inputs[i]->id].storage].last_use = node->id;
  }
  switch (node->op) {
    case HFB_OP_INPUT: place_in_own_storage(plan, &node->results[0], HFB_STORAGE_INPUT, (*input_count)++); break;
    case HFB_OP_PARAMETER:
      place_in_own_storage(plan, &node->results[0], HFB_STORAGE_PARAMETER, (*parameter_count)++);
      break;
    case HFB_OP_CONSTANT: place_in_own_storage(plan, &node->results[0], HFB_STORAGE_CONSTANT, 0); break;
    default:
      if (!place_as_view(plan, node)) return add_step(plan, node, isa, reference_only, inputs, results);
  }
  return HFB_OK;
}

/* Lists, for each step, the result storages that nobody reads after it. A view that has no step of its own passes its
 * storage to the next step's list. */
static void plan_releases(hfb_eager_plan *plan, const int *storages_by_last_use, const int *first_by_node) {
  int release_count = 0, node_id = 0;
  for (int i = 0; i < plan->step_count; i++) {
    hfb_step *step = &plan->steps[i];
    step->first_release = release_count;
    for (; node_id <= step->node->id; node_id++) {
      for (int k = first_by_node[node_id]; k < first_by_node[node_id + 1]; k++) {
        plan->releases[release_count++] = storages_by_last_use[k];
      }
    }
    step->release_count = release_count - step->first_release;
  }
}

/* Counting sort of the storages that runs allocate and give back, by the node of their last use. */
static hfb_status sort_releases(hfb_eager_plan *plan, int node_count) {
  int *sorted = hfb_arena_alloc(&plan->arena, (size_t)plan->storage_count + 1, sizeof(int));
  int *first = hfb_arena_alloc(&plan->arena, (size_t)node_count + 2, sizeof(int));
  plan->releases = hfb_arena_alloc(&plan->arena, (size_t)plan->storage_count + 1, sizeof(int));
  if (!sorted || !first || !plan->releases) return HFB_OUT_OF_MEMORY;
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < plan->storage_count; i++) {
      const hfb_storage *storage = &plan->storages[i];
      if (storage->kind != HFB_STORAGE_RESULT || storage->is_output) continue;
      if (pass == 0) first[storage->last_use + 2]++;
      if (pass == 1) sorted[first[storage->last_use + 1]++] = i;
    }
    for (int n = 1; pass == 0 && n <= node_count + 1; n++) first[n] += first[n - 1];
  }
  plan_releases(plan, sorted, first);
  return HFB_OK;
}

/* As the device counts: an empty tensor takes one byte. */
static int64_t storage_bytes(const hfb_storage *storage) {
  int64_t bytes = hfb_shape_elements(&storage->value->shape) * (int64_t)hfb_dtype_bytes(storage->value->dtype);
  return bytes > 0 ? bytes : 1;
}

static void plan_peak(hfb_eager_plan *plan) {
  int64_t live_bytes = 0;
  for (int i = 0; i < plan->step_count; i++) {
    const hfb_step *step = &plan->steps[i];
    for (int k = 0; k < step->node->result_count; k++) {
      const hfb_storage *storage = &plan->storages[plan->places[step->node->results[k].id].storage];
      if (!storage->is_output) live_bytes += storage_bytes(storage);
    }
    if (live_bytes > plan->peak_bytes) plan->peak_bytes = live_bytes;
    for (int k = 0; k < step->release_count; k++) {
      live_bytes -= storage_bytes(&plan->storages[plan->releases[step->first_release + k]]);
    }
  }
}

static hfb_status allocate(hfb_eager_plan *plan, const hfb_graph *graph) {
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    if (node->input_count > plan->max_input_count) plan->max_input_count = node->input_count;
    if (node->result_count > plan->max_result_count) plan->max_result_count = node->result_count;
  }
  plan->places = hfb_arena_alloc(&plan->arena, (size_t)graph->value_count + 1, sizeof(*plan->places));
  plan->storages = hfb_arena_alloc(&plan->arena, (size_t)graph->value_count + 1, sizeof(*plan->storages));
  plan->steps = hfb_arena_alloc(&plan->arena, (size_t)graph->node_count + 1, sizeof(*plan->steps));
  return plan->places && plan->storages && plan->steps ? HFB_OK : HFB_OUT_OF_MEMORY;
}

static hfb_status make_plan(const hfb_graph *graph, hfb_isa isa, bool reference_only, hfb_eager_plan *plan) {
  HFB_TRY(allocate(plan, graph));
  size_t tensor_count = (size_t)(plan->max_input_count + plan->max_result_count) + 1;
  hfb_tensor *tensors = hfb_arena_alloc(&plan->arena, tensor_count, sizeof(*tensors));
  if (!tensors) return HFB_OUT_OF_MEMORY;
  int input_count = 0, parameter_count = 0;
  for (int i = 0; i < graph->node_count; i++) {
    HFB_TRY(place_node(plan, graph->nodes[i], isa, reference_only, &input_count, &parameter_count, tensors,
                       tensors + plan->max_input_count));
  }
  for (int i = 0; i < graph->output_count; i++) {
    plan->storages[plan->places[graph->outputs[i].value->id].storage].is_output = true;
  }
  HFB_TRY(sort_releases(plan, graph->node_count));
  plan_peak(plan);
  return HFB_OK;
}

hfb_status hfb_eager_plan_init(const hfb_graph *graph, hfb_isa isa, bool reference_only, hfb_eager_plan *out_plan) {
  *out_plan = (hfb_eager_plan){0};
  hfb_arena_init(&out_plan->arena);
  hfb_status status = make_plan(graph, isa, reference_only, out_plan);
  if (status != HFB_OK) hfb_eager_plan_deinit(out_plan);
  return status;
}

void hfb_eager_plan_deinit(hfb_eager_plan *plan) {
  hfb_arena_deinit(&plan->arena);
  *plan = (hfb_eager_plan){0};
}
