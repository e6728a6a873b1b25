#include "eager/eager.h"

#include "base/clock.h"
#include "eager/nonfinite.h"
#include "eager/plan.h"

typedef struct eager_program {
  hfb_program_base base;
  const hfb_graph *graph;
  hfb_device *device;
  hfb_eager_plan plan;
  int64_t compile_ns, kernels_run;
  int64_t *node_ns;             /* by node id; NULL when not profiled */
  const hfb_tensor *inputs;     /* of the run in progress */
  hfb_tensor *parameters;       /* borrowed */
  hfb_tensor *live;             /* by storage: the buffers that the run holds */
  hfb_tensor *saved;            /* by copy of the plan: old values that an update moves to another parameter */
  hfb_tensor *step_tensors;     /* inputs and results of one kernel */
  bool is_bound, find_nonfinite;
} eager_program;

static void destroy(hfb_program *program) {
  eager_program *self = (eager_program *)program;
  if (!self) return;
  hfb_eager_plan_deinit(&self->plan);
  hfb_mem_free(self->node_ns);
  hfb_mem_free(self->parameters);
  hfb_mem_free(self->live);
  hfb_mem_free(self->saved);
  hfb_mem_free(self->step_tensors);
  hfb_mem_free(self);
}

static hfb_status fill_program(eager_program *self, const hfb_backend_options *options) {
  bool reference = options && options->reference;
  HFB_TRY(hfb_eager_plan_init(self->graph, hfb_cpu()->isa, reference, &self->plan));
  size_t step_tensor_count = (size_t)(self->plan.max_input_count + self->plan.max_result_count);
  HFB_TRY(hfb_mem_alloc((size_t)self->graph->parameter_count, sizeof(*self->parameters), &self->parameters));
  HFB_TRY(hfb_mem_alloc((size_t)self->plan.storage_count, sizeof(*self->live), &self->live));
  HFB_TRY(hfb_mem_alloc((size_t)self->plan.copy_count, sizeof(*self->saved), &self->saved));
  HFB_TRY(hfb_mem_alloc(step_tensor_count, sizeof(*self->step_tensors), &self->step_tensors));
  self->find_nonfinite = options && options->find_nonfinite;
  if (options && options->profile) {
    HFB_TRY(hfb_mem_alloc((size_t)self->graph->node_count, sizeof(*self->node_ns), &self->node_ns));
  }
  return HFB_OK;
}

static hfb_status plan_memory(const hfb_graph *graph, int threads, const hfb_backend_options *options,
                              hfb_program_memory *out_memory) {
  (void)threads;
  hfb_eager_plan plan;
  HFB_TRY(hfb_eager_plan_init(graph, hfb_cpu()->isa, options && options->reference, &plan));
  *out_memory = (hfb_program_memory){.output_bytes = plan.output_bytes, .run_bytes = plan.run_bytes};
  hfb_eager_plan_deinit(&plan);
  return HFB_OK;
}

static hfb_status compile(const hfb_graph *graph, hfb_device *device, const hfb_backend_options *options,
                          hfb_program **out_program) {
  *out_program = NULL;
  int64_t start_ns = hfb_clock_ns();
  eager_program *self = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof(*self), &self));
  self->base.backend = hfb_backend_eager();
  self->graph = graph;
  self->device = device;
  hfb_status status = fill_program(self, options);
  if (status != HFB_OK) {
    destroy((hfb_program *)self);
    return status;
  }
  self->is_bound = graph->parameter_count == 0;
  self->compile_ns = hfb_clock_ns() - start_ns;
  *out_program = (hfb_program *)self;
  return HFB_OK;
}

static hfb_status bind_parameters(hfb_program *program, const hfb_tensor *parameters) {
  eager_program *self = (eager_program *)program;
  for (int i = 0; i < self->graph->parameter_count; i++) {
    HFB_TRY(hfb_tensor_check_bound(&parameters[i], self->graph->parameters[i]));
    self->parameters[i] = parameters[i];
  }
  self->is_bound = true;
  return HFB_OK;
}

/* The value as a tensor. For results of this run it borrows the buffer that `live` holds. */
static hfb_tensor tensor_of(const eager_program *self, const hfb_value *value) {
  const hfb_eager_place *place = &self->plan.places[value->id];
  const hfb_eager_storage *storage = &self->plan.storages[place->storage];
  hfb_tensor tensor = place->tensor;
  switch (storage->kind) {
    case HFB_EAGER_INPUT: tensor.data = self->inputs[storage->index].data; break;
    case HFB_EAGER_PARAMETER: tensor.data = self->parameters[storage->index].data; break;
    case HFB_EAGER_CONSTANT: tensor.data = (void *)hfb_node_attr(storage->value->node, HFB_ATTR_DATA)->u.data; break;
    case HFB_EAGER_RESULT:
      tensor.data = self->live[place->storage].data;
      tensor.buffer = self->live[place->storage].buffer;
      break;
  }
  if (place->offset_bytes > 0) tensor.data = (char *)tensor.data + place->offset_bytes;
  return tensor;
}

/* Allocates the result, unless its kernel writes it over a parameter. */
static hfb_status make_result(eager_program *self, const hfb_value *value, hfb_tensor *out_tensor) {
  const int storage = self->plan.places[value->id].storage;
  if (self->plan.storages[storage].kind == HFB_EAGER_RESULT) {
    HFB_TRY(hfb_tensor_create(self->device, value->dtype, &value->shape, &self->live[storage]));
  }
  *out_tensor = tensor_of(self, value);
  return HFB_OK;
}

static hfb_status run_kernel(eager_program *self, const hfb_eager_step *step, hfb_kernel_call *call) {
  for (int i = 0; i < call->result_count; i++) HFB_TRY(make_result(self, &step->node->results[i], &call->results[i]));
  HFB_TRY(step->kernel->run(call));
  self->kernels_run++;
  return HFB_OK;
}

static hfb_status run_step(eager_program *self, const hfb_eager_step *step) {
  const hfb_node *node = step->node;
  int64_t start_ns = self->node_ns ? hfb_clock_ns() : 0;
  hfb_tensor *inputs = self->step_tensors, *results = inputs + self->plan.max_input_count;
  for (int i = 0; i < node->input_count; i++) inputs[i] = tensor_of(self, node->inputs[i]);
  hfb_kernel_call call = {.node = node,
                          .input_count = node->input_count,
                          .result_count = node->result_count,
                          .inputs = inputs,
                          .results = results,
                          .pool = hfb_device_pool(self->device)};
  /* The inputs are looked at before the kernel may write over them. */
  const bool is_checked = self->find_nonfinite && hfb_nonfinite_may_start_at(&call);
  hfb_status status = run_kernel(self, step, &call);
  if (status != HFB_OK) {
    hfb_error_prefix("%s, node %d (%s)", hfb_node_text(node, HFB_ATTR_SCOPE, self->graph->name), node->id,
                     step->kernel->name);
    return status;
  }
  if (is_checked) HFB_TRY(hfb_nonfinite_check(&call, self->graph->name));
  for (int i = 0; i < step->release_count; i++) {
    hfb_tensor_release(&self->live[self->plan.releases[step->first_release + i]]);
  }
  if (self->node_ns) self->node_ns[node->id] += hfb_clock_ns() - start_ns;
  return HFB_OK;
}

/* A view of what the run made, with its own reference; a copy of what belongs to the caller or the graph. */
static hfb_status hand_over(const eager_program *self, const hfb_value *value, hfb_tensor *out_tensor) {
  hfb_tensor tensor = tensor_of(self, value);
  if (tensor.buffer) {
    *out_tensor = hfb_tensor_retain(&tensor);
    return HFB_OK;
  }
  return hfb_tensor_clone(&tensor, self->device, out_tensor);
}

static hfb_status hand_over_all(const eager_program *self, hfb_tensor *outputs) {
  int count = self->graph->output_count;
  for (int i = 0; i < count; i++) {
    hfb_status status = hand_over(self, self->graph->outputs[i].value, &outputs[i]);
    if (status == HFB_OK) continue;
    while (i > 0) hfb_tensor_release(&outputs[--i]);
    return status;
  }
  return HFB_OK;
}

/* Old values that move to another parameter are saved first, so that the order of the updates does not matter. */
static hfb_status write_updates(eager_program *self) {
  const hfb_eager_plan *plan = &self->plan;
  hfb_pool *pool = hfb_device_pool(self->device);
  for (int i = 0; i < plan->copy_count; i++) {
    if (!plan->copies[i].is_saved) continue;
    hfb_tensor value = tensor_of(self, plan->copies[i].value);
    HFB_TRY(hfb_tensor_create(self->device, value.dtype, &value.shape, &self->saved[i]));
    HFB_TRY(hfb_tensor_copy(&value, &self->saved[i], pool));
  }
  for (int i = 0; i < plan->copy_count; i++) {
    const hfb_eager_copy *copy = &plan->copies[i];
    hfb_tensor value = copy->is_saved ? self->saved[i] : tensor_of(self, copy->value);
    HFB_TRY(hfb_tensor_copy(&value, &self->parameters[copy->parameter], pool));
  }
  return HFB_OK;
}

static hfb_status run(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) {
  eager_program *self = (eager_program *)program;
  if (!self->is_bound) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s runs before its parameters are bound", self->graph->name);
  }
  for (int i = 0; i < self->graph->input_count; i++) {
    HFB_TRY(hfb_tensor_check_bound(&inputs[i], self->graph->inputs[i]));
  }
  self->inputs = inputs;
  hfb_status status = HFB_OK;
  for (int i = 0; i < self->plan.step_count && status == HFB_OK; i++) status = run_step(self, &self->plan.steps[i]);
  if (status == HFB_OK) status = hand_over_all(self, outputs);
  if (status == HFB_OK) {
    status = write_updates(self);
    for (int i = 0; i < self->graph->output_count && status != HFB_OK; i++) hfb_tensor_release(&outputs[i]);
  }
  for (int i = 0; i < self->plan.storage_count; i++) hfb_tensor_release(&self->live[i]);
  for (int i = 0; i < self->plan.copy_count; i++) hfb_tensor_release(&self->saved[i]);
  self->inputs = NULL;
  return status;
}

static void stats(const hfb_program *program, hfb_program_stats *out_stats) {
  const eager_program *self = (const eager_program *)program;
  *out_stats = (hfb_program_stats){
      .compile_ns = self->compile_ns,
      .kernels_run = self->kernels_run,
      .planned_peak_bytes = self->plan.peak_bytes,
  };
}

static const int64_t *profile(const hfb_program *program) { return ((const eager_program *)program)->node_ns; }

const hfb_backend *hfb_backend_eager(void) {
  static const hfb_backend backend = {
      .name = "eager",
      .help = "op by op, each framework op one tuned kernel, as PyTorch's eager mode",
      .plan = plan_memory,
      .compile = compile,
      .bind_parameters = bind_parameters,
      .run = run,
      .stats = stats,
      .profile = profile,
      .destroy = destroy,
  };
  return &backend;
}
