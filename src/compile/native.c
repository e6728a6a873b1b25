#include "compile/native.h"

#include <string.h>

#include "base/clock.h"
#include "compile/passes.h"
#include "compile/program.h"
#include "compile/recompute.h"
#include "ir/transform.h"
#include "kernels/linear_cross_entropy.h"

/* ---- passes ---------------------------------------- */

static const char input_pass[] = "input", schedule_pass[] = "schedule";

static bool is_dumped(const hfb_backend_options *options, const char *pass) {
  return options->dump_pass && options->dump_text && strcmp(options->dump_pass, pass) == 0;
}

static hfb_status dump_graph(const hfb_backend_options *options, const char *pass, const hfb_graph *graph) {
  return is_dumped(options, pass) ? hfb_graph_print(graph, options->dump_text) : HFB_OK;
}

/* The second round of simplify merges what decomposition made equal, and drops what folding left without users. */
static const struct {
  const char *name; /* for --dump */
  hfb_status (*run)(const hfb_graph *graph, hfb_graph **out_graph);
  bool may_be_refused; /* what it matches may turn out to have no schedule: then all is done again without it */
  bool needs_ownership; /* of the parameters */
} graph_passes[] = {
    {"simplify", hfb_pass_simplify, false, false},
    {"attention", hfb_pass_attention, true, false},
    {"loss", hfb_pass_loss, false, false},
    {"decompose", hfb_pass_decompose, false, false},
    {"fold", hfb_pass_fold, false, false},
    {"weights", hfb_pass_weights, false, false},
    {"primitives", hfb_pass_simplify, false, false},
    {"tables", hfb_pass_tables, false, true},
    {"recompute", hfb_pass_recompute, false, false},
};

enum { PASS_COUNT = sizeof graph_passes / sizeof graph_passes[0] };

const char *hfb_native_pass(int index) {
  if (index == 0) return input_pass;
  if (index <= PASS_COUNT) return graph_passes[index - 1].name;
  return index == PASS_COUNT + 1 ? schedule_pass : NULL;
}

static bool is_left_out(int pass, const hfb_backend_options *options, bool match_attention) {
  return (graph_passes[pass].may_be_refused && !match_attention) ||
         (graph_passes[pass].needs_ownership && !options->owns_parameters);
}

static hfb_status run_passes(const hfb_graph *graph, const hfb_backend_options *options, bool match_attention,
                             hfb_graph **out_graph) {
  hfb_graph *current = NULL;
  HFB_TRY(dump_graph(options, input_pass, graph));
  for (int i = 0; i < PASS_COUNT; i++) {
    hfb_status status = HFB_OK;
    if (!is_left_out(i, options, match_attention)) {
      hfb_graph *next = NULL;
      status = graph_passes[i].run(current ? current : graph, &next);
      hfb_graph_destroy(current);
      HFB_TRY(status);
      current = next;
#ifndef NDEBUG
      status = hfb_graph_verify(current);
#endif
    }
    if (status == HFB_OK) status = dump_graph(options, graph_passes[i].name, current ? current : graph);
    if (status != HFB_OK) {
      hfb_graph_destroy(current);
      return status;
    }
  }
  *out_graph = current;
  return HFB_OK;
}

static hfb_status build_schedule(hfb_program *p, const hfb_graph *graph, const hfb_backend_options *options) {
  HFB_TRY(run_passes(graph, options, true, &p->graph));
  hfb_status status = hfb_schedule_create(p->graph, &p->schedule);
  if (status == HFB_UNSUPPORTED) { /* attention that cannot be computed in blocks: as separate products then */
    hfb_graph_destroy(p->graph);
    p->graph = NULL;
    if (options->dump_text) hfb_strbuf_clear(options->dump_text);
    HFB_TRY(run_passes(graph, options, false, &p->graph));
    status = hfb_schedule_create(p->graph, &p->schedule);
  }
  HFB_TRY(status);
  return hfb_memory_plan(p->schedule);
}

/* ---- compile ---------------------------------------- */

static void native_destroy(hfb_program *p);

static hfb_status bind_functions(hfb_program *p) {
  const hfb_schedule *s = p->schedule;
  const size_t steps = (size_t)s->step_count + 1;
  HFB_TRY(hfb_mem_alloc(steps * HFB_STEP_MAX_LOOPS, sizeof *p->functions, &p->functions));
  HFB_TRY(hfb_mem_alloc(steps, sizeof *p->kernels, &p->kernels));
  HFB_TRY(hfb_mem_alloc(steps, sizeof *p->packed_of, &p->packed_of));
  HFB_TRY(hfb_mem_alloc(steps, sizeof *p->packed, &p->packed));
  HFB_TRY(hfb_mem_alloc((size_t)p->graph->value_count + 1, sizeof *p->storages, &p->storages));
  for (int i = 0; i < s->step_count; i++) {
    p->packed_of[i] = -1;
    for (int c = 0; c < HFB_STEP_MAX_LOOPS; c++) {
      const char *name = s->steps[i].code[c].function;
      if (!name) continue;
      void *function = hfb_jit_symbol(p->jit, name);
      if (!function) return HFB_FAIL(HFB_INTERNAL, "native: compiled code lacks function %s", name);
      p->functions[i * HFB_STEP_MAX_LOOPS + c] = function;
    }
  }
  for (int i = 0; i < p->graph->node_count; i++) {
    const hfb_node *node = p->graph->nodes[i];
    if (node->op == HFB_OP_CONSTANT)
      p->storages[node->results[0].id] = (void *)hfb_node_attr(node, HFB_ATTR_DATA)->u.data;
  }
  return HFB_OK;
}

/* The input that an index comes from, through movement ops; -1 when it is computed. */
static int index_input(const hfb_graph *graph, const hfb_value *index) {
  while (hfb_op_info_of(index->node->op)->op_class == HFB_CLASS_MOVE && index->node->input_count == 1)
    index = index->node->inputs[0];
  for (int i = 0; i < graph->input_count; i++) {
    if (graph->inputs[i] == index) return i;
  }
  return -1;
}

static hfb_status collect_id_checks(hfb_program *p) {
  HFB_TRY(hfb_mem_alloc((size_t)p->graph->node_count + 1, sizeof *p->id_checks, &p->id_checks));
  for (int i = 0; i < p->graph->node_count; i++) {
    const hfb_node *node = p->graph->nodes[i];
    if (node->op != HFB_OP_GATHER && node->op != HFB_OP_EMBEDDING) continue;
    const int input = index_input(p->graph, node->inputs[1]);
    if (input < 0) continue;
    const int axis = node->op == HFB_OP_GATHER ? (int)hfb_node_int(node, HFB_ATTR_AXIS) : 0;
    const int64_t extent = node->inputs[0]->shape.dim[axis];
    p->id_checks[p->id_check_count++] = (hfb_id_check){input, extent};
  }
  return HFB_OK;
}

static hfb_status generate(hfb_program *p, const hfb_backend_options *options) {
  const int64_t start = hfb_clock_ns();
  HFB_TRY(hfb_emit(p->schedule, p->isa, hfb_cpu()->core_count, &p->code));
  if (is_dumped(options, schedule_pass)) HFB_TRY(hfb_schedule_print(p->schedule, options->dump_text));
  p->stats.codegen_ns = hfb_clock_ns() - start;
  if (p->code.unit_count == 0) return HFB_OK; /* nothing but library kernels */
  const char *units[HFB_MAX_UNITS];
  hfb_jit_stats jit_stats = {0};
  for (int u = 0; u < p->code.unit_count; u++) units[u] = hfb_strbuf_text(&p->code.units[u]);
  HFB_TRY(hfb_jit_build(p->code.unit_count, units, p->isa, options->cache_dir, &p->jit, &jit_stats));
  p->stats.cc_ns = jit_stats.cc_ns;
  p->stats.load_ns = jit_stats.load_ns;
  p->stats.cache_hit = jit_stats.cache_hit;
  return HFB_OK;
}

static hfb_status native_compile(const hfb_graph *graph, hfb_device *device, const hfb_backend_options *options,
                                 hfb_program **out_program) {
  const int64_t start = hfb_clock_ns();
  const hfb_backend_options defaults = {0};
  if (!options) options = &defaults;
  hfb_program *p = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof *p, &p));
  p->base.backend = hfb_backend_native();
  p->device = device;
  p->isa = hfb_cpu()->isa;
  p->owns_parameters = options->owns_parameters;
  hfb_strbuf_init(&p->code_text);
  hfb_status status = build_schedule(p, graph, options);
  p->stats.passes_ns = hfb_clock_ns() - start;
  if (status == HFB_OK) status = generate(p, options);
  if (status == HFB_OK) status = bind_functions(p);
  if (status == HFB_OK) status = collect_id_checks(p);
  if (status == HFB_OK && options->profile)
    status = hfb_mem_alloc((size_t)p->schedule->step_count + 1, sizeof *p->step_ns, &p->step_ns);
  if (status != HFB_OK) {
    native_destroy(p);
    return status;
  }
  p->stats.compile_ns = hfb_clock_ns() - start;
  p->stats.planned_peak_bytes =
      p->schedule->arena_bytes + (int64_t)p->schedule->scratch_bytes * hfb_pool_size(hfb_device_pool(device));
  *out_program = p;
  return HFB_OK;
}

/* ---- parameters ---------------------------------------- */

static hfb_status native_bind_parameters(hfb_program *p, const hfb_tensor *parameters) {
  hfb_program_release_packed(p);
  for (int i = 0; i < p->graph->parameter_count; i++) {
    HFB_TRY(hfb_tensor_check_bound(&parameters[i], p->graph->parameters[i]));
    p->storages[p->graph->parameters[i]->id] = parameters[i].data;
  }
  for (int i = 0; i < p->graph->update_count; i++) {
    const hfb_update *update = &p->graph->updates[i];
    const hfb_storage *storage = &p->schedule->storage[update->value->id];
    if (storage->kind == HFB_STORAGE_PARAMETER) p->storages[update->value->id] = parameters[storage->index].data;
  }
  return hfb_program_pack_weights(p);
}

/* ---- memory, before anything is compiled ---------------------------------------- */

/* What the loss of a head takes while it runs. */
static int64_t loss_bytes(const hfb_step *step) {
  if (step->kind != HFB_STEP_KERNEL || step->node->op != HFB_OP_LINEAR_CROSS_ENTROPY) return 0;
  return (int64_t)hfb_linear_cross_entropy_bytes(step->node->inputs[0]->shape.dim[0],
                                                 step->node->inputs[1]->shape.dim[0], true);
}

static void add_up_memory(hfb_program *p, int threads, hfb_program_memory *memory) {
  const hfb_schedule *s = p->schedule;
  int64_t largest_loss = 0;
  memory->packed_bytes = hfb_program_plan_packed_bytes(p);
  for (int i = 0; i < s->step_count; i++) {
    if (loss_bytes(&s->steps[i]) > largest_loss) largest_loss = loss_bytes(&s->steps[i]);
  }
  memory->output_bytes = s->output_bytes;
  for (int i = 0; i < p->graph->output_count; i++) { /* inputs and parameters are copied */
    const hfb_storage *storage = &s->storage[s->output_views[i].base->id];
    if (storage->kind != HFB_STORAGE_OUTPUT) memory->output_bytes += hfb_value_bytes(p->graph->outputs[i].value);
  }
  memory->run_bytes = memory->output_bytes + s->arena_bytes + (int64_t)s->scratch_bytes * threads + largest_loss;
  for (int i = 0; i < s->copied_update_count; i++) memory->run_bytes += hfb_value_bytes(s->copied_updates[i]->value);
}

static hfb_status native_plan(const hfb_graph *graph, int threads, const hfb_backend_options *options,
                              hfb_program_memory *out_memory) {
  const hfb_backend_options defaults = {0};
  hfb_program *p = NULL;
  *out_memory = (hfb_program_memory){0};
  HFB_TRY(hfb_mem_alloc(1, sizeof *p, &p));
  p->isa = hfb_cpu()->isa;
  p->owns_parameters = options && options->owns_parameters;
  hfb_strbuf_init(&p->code_text);
  hfb_status status = build_schedule(p, graph, options ? options : &defaults);
  if (status == HFB_OK) status = hfb_emit(p->schedule, p->isa, hfb_cpu()->core_count, &p->code);
  if (status == HFB_OK) add_up_memory(p, threads, out_memory);
  native_destroy(p);
  return status;
}

/* ---- run ---------------------------------------- */

static hfb_status check_ids(const hfb_program *p, const hfb_tensor *inputs) {
  for (int c = 0; c < p->id_check_count; c++) {
    const hfb_tensor *ids = &inputs[p->id_checks[c].input];
    const int64_t *data = ids->data;
    const int64_t count = hfb_shape_elements(&ids->shape), extent = p->id_checks[c].extent;
    for (int64_t i = 0; i < count; i++) {
      if (data[i] >= 0 && data[i] < extent) continue;
      const char *name = hfb_node_text(p->graph->inputs[p->id_checks[c].input]->node, HFB_ATTR_NAME, "?");
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "input %s: id %lld at element %lld is outside its table of %lld rows", name,
                      (long long)data[i], (long long)i, (long long)extent);
    }
  }
  return HFB_OK;
}

/* The tensor of one output: a view of its storage. Inputs and parameters that are outputs are copied, since the caller
 * owns what it gets. */
static hfb_status make_output(hfb_program *p, int index, hfb_tensor *out) {
  const hfb_value *value = p->graph->outputs[index].value;
  const hfb_view *view = &p->schedule->output_views[index];
  const hfb_storage *storage = &p->schedule->storage[view->base->id];
  hfb_tensor seen = hfb_tensor_borrow(value->dtype, &value->shape, NULL);
  memcpy(seen.strides, view->strides, sizeof seen.strides);
  seen.data = (char *)p->storages[view->base->id] + view->offset * (int64_t)hfb_dtype_bytes(value->dtype);
  if (storage->kind == HFB_STORAGE_OUTPUT) {
    seen.buffer = p->output_memory.buffer;
    *out = hfb_tensor_retain(&seen);
    return HFB_OK;
  }
  return hfb_tensor_clone(&seen, p->device, out);
}

static size_t update_bytes(const hfb_update *update) {
  return (size_t)hfb_value_bytes(update->value);
}

/* New values that could not be written over the old ones. Those that lie in parameters, which may be written as well,
 * are saved before any is. */
static hfb_status copy_updates(hfb_program *p) {
  const hfb_schedule *s = p->schedule;
  void **saved = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)s->copied_update_count + 1, sizeof *saved, &saved));
  hfb_status status = HFB_OK;
  for (int i = 0; i < s->copied_update_count && status == HFB_OK; i++) {
    const hfb_value *value = s->copied_updates[i]->value;
    const size_t bytes = update_bytes(s->copied_updates[i]);
    if (s->storage[value->id].kind != HFB_STORAGE_PARAMETER || bytes == 0) continue;
    status = hfb_device_alloc(p->device, bytes, &saved[i]);
    if (status == HFB_OK) memcpy(saved[i], p->storages[value->id], bytes);
  }
  for (int i = 0; i < s->copied_update_count && status == HFB_OK; i++) {
    const hfb_update *update = s->copied_updates[i];
    const size_t bytes = update_bytes(update);
    if (bytes) memcpy(p->storages[update->parameter->id], saved[i] ? saved[i] : p->storages[update->value->id], bytes);
  }
  for (int i = 0; i < s->copied_update_count; i++) {
    if (saved[i]) hfb_device_free(p->device, saved[i], update_bytes(s->copied_updates[i]));
  }
  hfb_mem_free(saved);
  return status;
}

static void place_values(hfb_program *p, char *arena) {
  const int64_t output_bytes = p->schedule->output_bytes;
  for (int i = 0; i < p->graph->node_count; i++) {
    for (int r = 0; r < p->graph->nodes[i]->result_count; r++) {
      const int id = p->graph->nodes[i]->results[r].id;
      const hfb_storage *storage = &p->schedule->storage[id];
      if (storage->kind != HFB_STORAGE_ARENA && storage->kind != HFB_STORAGE_OUTPUT) continue;
      if (storage->bytes == 0) p->storages[id] = p->output_memory.data;
      else if (storage->offset < output_bytes) p->storages[id] = (char *)p->output_memory.data + storage->offset;
      else p->storages[id] = arena + (storage->offset - output_bytes);
    }
  }
}

static hfb_status make_outputs(hfb_program *p, hfb_tensor *outputs) {
  hfb_status status = HFB_OK;
  int made = 0;
  for (; status == HFB_OK && made < p->graph->output_count; made++) {
    memset(&outputs[made], 0, sizeof outputs[made]);
    status = make_output(p, made, &outputs[made]);
  }
  for (int i = 0; status != HFB_OK && i < made; i++) hfb_tensor_release(&outputs[i]);
  return status;
}

/* Outputs come before the copied updates: they may show what a parameter held. Without such updates the working memory
 * goes first, so that outputs that are copies take its place. */
static hfb_status run_in_memory(hfb_program *p, hfb_tensor *outputs) {
  void *arena = NULL;
  const size_t bytes = (size_t)p->schedule->arena_bytes;
  const bool has_copies = p->schedule->copied_update_count > 0;
  if (bytes) HFB_TRY(hfb_device_alloc(p->device, bytes, &arena));
  place_values(p, arena);
  hfb_status status = hfb_program_execute(p);
  if (arena && !has_copies) hfb_device_free(p->device, arena, bytes);
  if (status == HFB_OK) status = make_outputs(p, outputs);
  if (status == HFB_OK && has_copies) {
    status = copy_updates(p);
    for (int i = 0; status != HFB_OK && i < p->graph->output_count; i++) hfb_tensor_release(&outputs[i]);
  }
  if (arena && has_copies) hfb_device_free(p->device, arena, bytes);
  return status;
}

static hfb_status native_run(hfb_program *p, const hfb_tensor *inputs, hfb_tensor *outputs) {
  for (int i = 0; i < p->graph->input_count; i++) {
    HFB_TRY(hfb_tensor_check_bound(&inputs[i], p->graph->inputs[i]));
    p->storages[p->graph->inputs[i]->id] = inputs[i].data;
  }
  HFB_TRY(check_ids(p, inputs)); /* reads them as row-major */
  const hfb_shape all = {.rank = 1, .dim = {p->schedule->output_bytes}};
  HFB_TRY(hfb_tensor_create(p->device, HFB_BOOL, &all, &p->output_memory));
  hfb_status status = run_in_memory(p, outputs);
  hfb_tensor_release(&p->output_memory);
  return status;
}

/* ---- the rest of the interface ---------------------------------------- */

static void native_stats(const hfb_program *p, hfb_program_stats *out_stats) { *out_stats = p->stats; }

static const int64_t *native_profile(const hfb_program *p) { return NULL; }

static void native_destroy(hfb_program *p) {
  if (!p) return;
  hfb_program_release_packed(p);
  hfb_jit_destroy(p->jit);
  hfb_code_deinit(&p->code);
  hfb_strbuf_deinit(&p->code_text);
  hfb_schedule_destroy(p->schedule);
  hfb_graph_destroy(p->graph);
  hfb_mem_free(p->functions);
  hfb_mem_free(p->kernels);
  hfb_mem_free(p->packed_of);
  hfb_mem_free(p->packed);
  hfb_mem_free(p->storages);
  hfb_mem_free(p->id_checks);
  hfb_mem_free(p->step_ns);
  hfb_mem_free(p);
}

const hfb_backend *hfb_backend_native(void) {
  static const hfb_backend backend = {
      .name = "native",
      .help = "the compiler of this project: fused loops in generated C, products and attention in tuned kernels",
      .plan = native_plan,
      .compile = native_compile,
      .bind_parameters = native_bind_parameters,
      .run = native_run,
      .stats = native_stats,
      .profile = native_profile,
      .destroy = native_destroy,
  };
  return &backend;
}

const char *hfb_native_code(const hfb_program *program) {
  hfb_program *p = (hfb_program *)program; /* the text is a cache, no part of the program's state */
  if (p->code_text.length == 0) {
    for (int u = 0; u < p->code.unit_count; u++) hfb_strbuf_append(&p->code_text, hfb_strbuf_text(&p->code.units[u]));
  }
  return hfb_strbuf_text(&p->code_text);
}

hfb_status hfb_native_profile_print(const hfb_program *program, hfb_strbuf *out_text) {
  const hfb_schedule *s = program->schedule;
  for (int i = 0; program->step_ns && i < s->step_count; i++) {
    hfb_strbuf_printf(out_text, "%10.3f ms  ", (double)program->step_ns[i] / 1e6);
    HFB_TRY(hfb_step_print(s, i, out_text));
  }
  return hfb_strbuf_status(out_text);
}
