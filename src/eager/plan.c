#include "eager/plan.h"

#include "base/memory.h"
#include "device/cpu/reservation.h"
#include "kernels/kernel.h"

/* The layout of a view is found by making it of a tensor at this address; nothing is read through it. */
static const uintptr_t NOMINAL_ADDRESS = (uintptr_t)1 << 44;

static hfb_tensor nominal_tensor(const hfb_eager_place *place) {
  hfb_tensor tensor = place->tensor;
  tensor.data = (void *)(NOMINAL_ADDRESS + (uintptr_t)place->offset_bytes);
  return tensor;
}

static hfb_eager_storage *storage_of(const hfb_eager_plan *plan, const hfb_value *value) {
  return &plan->storages[plan->places[value->id].storage];
}

static void place_in_own_storage(hfb_eager_plan *plan, const hfb_value *value, hfb_eager_storage_kind kind, int index) {
  int id = plan->storage_count++;
  plan->storages[id] = (hfb_eager_storage){.kind = kind, .index = index, .value = value, .last_use = value->node->id};
  plan->places[value->id] =
      (hfb_eager_place){.storage = id, .tensor = hfb_tensor_borrow(value->dtype, &value->shape, NULL)};
}

static bool place_as_view(hfb_eager_plan *plan, const hfb_node *node) {
  if (node->input_count != 1) return false;
  const hfb_eager_place *source = &plan->places[node->inputs[0]->id];
  hfb_tensor input = nominal_tensor(source), view;
  if (!hfb_view_try(node, &input, &view)) return false;
  int64_t offset_bytes = (int64_t)((uintptr_t)view.data - NOMINAL_ADDRESS);
  view.data = NULL;
  plan->places[node->results[0].id] = (hfb_eager_place){source->storage, offset_bytes, view};
  return true;
}

static hfb_status add_step(hfb_eager_plan *plan, const hfb_node *node, hfb_isa isa, bool reference_only,
                           hfb_tensor *inputs, hfb_tensor *results) {
  for (int i = 0; i < node->input_count; i++) inputs[i] = nominal_tensor(&plan->places[node->inputs[i]->id]);
  for (int i = 0; i < node->result_count; i++) {
    place_in_own_storage(plan, &node->results[i], HFB_EAGER_RESULT, plan->step_count);
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
  plan->steps[plan->step_count++] = (hfb_eager_step){.node = node, .kernel = kernel};
  return HFB_OK;
}

static hfb_status place_node(hfb_eager_plan *plan, const hfb_node *node, hfb_isa isa, bool reference_only,
                             int *input_count, int *parameter_count, hfb_tensor *inputs, hfb_tensor *results) {
  for (int i = 0; i < node->input_count; i++) {
    storage_of(plan, node->inputs[i])->last_use = node->id;
  }
  switch (node->op) {
    case HFB_OP_INPUT: place_in_own_storage(plan, &node->results[0], HFB_EAGER_INPUT, (*input_count)++); break;
    case HFB_OP_PARAMETER:
      place_in_own_storage(plan, &node->results[0], HFB_EAGER_PARAMETER, (*parameter_count)++);
      break;
    case HFB_OP_CONSTANT: place_in_own_storage(plan, &node->results[0], HFB_EAGER_CONSTANT, 0); break;
    default:
      if (!place_as_view(plan, node)) return add_step(plan, node, isa, reference_only, inputs, results);
  }
  return HFB_OK;
}

/* The kernel may write the update over the parameter: it reads it there and nowhere else, and nobody wants to see the
 * old values later. */
static bool may_overwrite(const hfb_eager_plan *plan, const hfb_update *update) {
  const hfb_eager_storage *old = storage_of(plan, update->parameter), *made = storage_of(plan, update->value);
  if (made->kind != HFB_EAGER_RESULT || made->value != update->value) return false;
  const hfb_eager_step *step = &plan->steps[made->index];
  const hfb_node *node = step->node;
  const int result = update->value->result;
  if (!step->kernel->in_place || result >= node->input_count) return false;
  if (node->inputs[result] != update->parameter) return false;
  for (int i = 0; i < node->input_count; i++) {
    if (i != result && storage_of(plan, node->inputs[i]) == old) return false;
  }
  return old->last_use == node->id && !old->is_output && !old->is_update;
}

static void plan_updates(hfb_eager_plan *plan, const hfb_graph *graph) {
  for (int i = 0; i < graph->update_count; i++) {
    const hfb_update *update = &graph->updates[i];
    if (update->value != update->parameter) storage_of(plan, update->value)->is_update = true;
  }
  for (int i = 0; i < graph->update_count; i++) {
    const hfb_update *update = &graph->updates[i];
    const int parameter = storage_of(plan, update->parameter)->index;
    if (update->value == update->parameter) continue;
    if (may_overwrite(plan, update)) {
      hfb_eager_storage *made = storage_of(plan, update->value);
      made->kind = HFB_EAGER_PARAMETER;
      made->index = parameter;
    } else {
      plan->copies[plan->copy_count++] = (hfb_eager_copy){.parameter = parameter, .value = update->value};
    }
  }
  for (int i = 0; i < plan->copy_count; i++) {
    const hfb_eager_storage *storage = storage_of(plan, plan->copies[i].value);
    for (int k = 0; k < plan->copy_count && storage->kind == HFB_EAGER_PARAMETER; k++) {
      plan->copies[i].is_saved |= plan->copies[k].parameter == storage->index;
    }
  }
}

/* Lists, for each step, the result storages that nobody reads after it. A view that has no step of its own passes its
 * storage to the next step's list. */
static void plan_releases(hfb_eager_plan *plan, const int *storages_by_last_use, const int *first_by_node) {
  int release_count = 0, node_id = 0;
  for (int i = 0; i < plan->step_count; i++) {
    hfb_eager_step *step = &plan->steps[i];
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
      const hfb_eager_storage *storage = &plan->storages[i];
      if (storage->kind != HFB_EAGER_RESULT || storage->is_output || storage->is_update) continue;
      if (pass == 0) first[storage->last_use + 2]++;
      if (pass == 1) sorted[first[storage->last_use + 1]++] = i;
    }
    for (int n = 1; pass == 0 && n <= node_count + 1; n++) first[n] += first[n - 1];
  }
  plan_releases(plan, sorted, first);
  return HFB_OK;
}

/* As the device counts: an empty tensor takes one byte. */
static int64_t value_bytes(const hfb_value *value) {
  int64_t bytes = hfb_value_bytes(value);
  return bytes > 0 ? bytes : 1;
}

static void plan_peak(hfb_eager_plan *plan) {
  int64_t live_bytes = 0; /* without outputs */
  for (int i = 0; i < plan->step_count; i++) {
    const hfb_eager_step *step = &plan->steps[i];
    for (int k = 0; k < step->node->result_count; k++) {
      const hfb_eager_storage *storage = storage_of(plan, &step->node->results[k]);
      if (storage->kind == HFB_EAGER_RESULT && !storage->is_output) live_bytes += value_bytes(storage->value);
    }
    if (live_bytes > plan->peak_bytes) plan->peak_bytes = live_bytes;
    for (int k = 0; k < step->release_count; k++) {
      live_bytes -= value_bytes(plan->storages[plan->releases[step->first_release + k]].value);
    }
  }
  for (int i = 0; i < plan->copy_count; i++) {
    if (plan->copies[i].is_saved) live_bytes += value_bytes(plan->copies[i].value);
  }
  if (live_bytes > plan->peak_bytes) plan->peak_bytes = live_bytes;
}

/* What a plain kernel takes from the host while it runs (kernels/ref/wide.h): operands that are not float64 yet, or not
 * row-major. */
static int64_t temporary_bytes(const hfb_eager_plan *plan, const hfb_eager_step *step) {
  const hfb_node *node = step->node;
  int64_t elements = 0;
  if (!step->kernel->reference || hfb_op_info_of(node->op)->op_class != HFB_CLASS_COMPOSITE) return 0;
  for (int i = 0; i < node->input_count; i++) {
    const hfb_tensor *input = &plan->places[node->inputs[i]->id].tensor;
    const bool is_wide = input->dtype == HFB_F64 || input->dtype == HFB_I64;
    if (!is_wide || !hfb_tensor_is_contiguous(input)) elements += hfb_shape_elements(&input->shape);
  }
  for (int i = 0; i < node->result_count; i++) {
    if (node->results[i].dtype != HFB_F64) elements += hfb_shape_elements(&node->results[i].shape);
  }
  return elements * (int64_t)sizeof(double);
}

/* Blocks of the caching allocator in the order of a run. Outputs that are no results of it are copied at its end. */
static void reserve_run(hfb_eager_plan *plan, const hfb_graph *graph, hfb_reservation *reservation) {
  int64_t largest_temporary = 0;
  for (int i = 0; i < plan->step_count; i++) {
    const hfb_eager_step *step = &plan->steps[i];
    const int64_t temporary = temporary_bytes(plan, step);
    if (temporary > largest_temporary) largest_temporary = temporary;
    for (int k = 0; k < step->node->result_count; k++) {
      const hfb_eager_storage *storage = storage_of(plan, &step->node->results[k]);
      if (storage->kind != HFB_EAGER_RESULT) continue;
      hfb_reservation_take(reservation, value_bytes(storage->value));
      if (storage->is_output) plan->output_bytes += value_bytes(storage->value);
    }
    for (int k = 0; k < step->release_count; k++) {
      hfb_reservation_give(reservation, value_bytes(plan->storages[plan->releases[step->first_release + k]].value));
    }
  }
  for (int i = 0; i < graph->output_count; i++) {
    const hfb_value *value = graph->outputs[i].value;
    if (storage_of(plan, value)->kind == HFB_EAGER_RESULT) continue;
    hfb_reservation_take(reservation, value_bytes(value));
    plan->output_bytes += value_bytes(value);
  }
  for (int i = 0; i < plan->copy_count; i++) {
    if (plan->copies[i].is_saved) hfb_reservation_take(reservation, value_bytes(plan->copies[i].value));
  }
  plan->run_bytes = hfb_reservation_bytes(reservation) + largest_temporary;
}

static hfb_status plan_run(hfb_eager_plan *plan, const hfb_graph *graph) {
  hfb_reservation *reservation = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof(*reservation), &reservation));
  reserve_run(plan, graph, reservation);
  hfb_mem_free(reservation);
  return HFB_OK;
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
  plan->copies = hfb_arena_alloc(&plan->arena, (size_t)graph->update_count + 1, sizeof(*plan->copies));
  return plan->places && plan->storages && plan->steps && plan->copies ? HFB_OK : HFB_OUT_OF_MEMORY;
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
  for (int i = 0; i < graph->output_count; i++) storage_of(plan, graph->outputs[i].value)->is_output = true;
  plan_updates(plan, graph);
  HFB_TRY(sort_releases(plan, graph->node_count));
  plan_peak(plan);
  return plan_run(plan, graph);
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
