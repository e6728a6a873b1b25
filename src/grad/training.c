/* The training graph: a copy of the forward graph, its backward pass, the optimizer; then all that nothing needs is
 * dropped. */
#include "grad/training.h"

#include <string.h>

#include "grad/backward.h"
#include "ir/transform.h"

static const char *const names[HFB_OPTIMIZER_COUNT] = {
#define HFB_OPTIMIZER(id, name, help) [HFB_OPTIMIZER_##id] = name,
#include "grad/optimizers.def"
#undef HFB_OPTIMIZER
};

const char *hfb_optimizer_name(hfb_optimizer optimizer) {
  return (unsigned)optimizer < HFB_OPTIMIZER_COUNT ? names[optimizer] : "unknown";
}

bool hfb_optimizer_parse(const char *name, hfb_optimizer *out_optimizer) {
  for (int i = 0; i < HFB_OPTIMIZER_COUNT; i++) {
    if (strcmp(name, names[i]) != 0) continue;
    *out_optimizer = (hfb_optimizer)i;
    return true;
  }
  return false;
}

/* The trainable parameters of the forward graph and their gradients, NULL where there is none. */
typedef struct trainables {
  hfb_value **parameters, **gradients;
  int count;
} trainables;

static const char *name_of(const hfb_value *parameter) {
  return hfb_node_text(parameter->node, HFB_ATTR_NAME, "");
}

/* ---- optimizers ---- */

/* The settings of the reference harness, for all models; the rest are torch.optim's defaults. */
static const double LEARNING_RATE = 0.01, BETA1 = 0.9, BETA2 = 0.999, EPS = 1e-8;

static hfb_attr float_attr(hfb_attr_key key, double value) {
  return (hfb_attr){.key = key, .u.f = value};
}

static void build_none(hfb_builder *b, const trainables *t) {
  (void)b;
  (void)t;
}

static void build_sgd(hfb_builder *b, const trainables *t) {
  hfb_attr rate = float_attr(HFB_ATTR_LEARNING_RATE, LEARNING_RATE);
  for (int i = 0; i < t->count; i++) {
    hfb_value *inputs[] = {t->parameters[i], t->gradients[i]};
    if (t->gradients[i]) hfb_update_add(b, t->parameters[i], hfb_build(b, HFB_OP_SGD, 2, inputs, 1, &rate));
  }
}

/* A buffer that starts at 0: "optimizer/<kind>" or, for a parameter, "optimizer/<kind>/<parameter>". */
static hfb_value *state_buffer(hfb_builder *b, const char *kind, const char *parameter, hfb_dtype dtype,
                               hfb_shape shape) {
  const hfb_init zero = {.kind = HFB_INIT_CONSTANT, .padding_idx = -1, .buffer = true};
  char *name = hfb_arena_printf(&b->graph->arena, "optimizer/%s%s%s", kind, parameter ? "/" : "",
                                parameter ? parameter : "");
  if (name) return hfb_parameter_named(b, name, dtype, shape, zero);
  hfb_builder_fail(b, HFB_OUT_OF_MEMORY, "%s", hfb_error_message());
  return NULL;
}

static void adam_step(hfb_builder *b, hfb_value *parameter, hfb_value *gradient, hfb_value *step) {
  hfb_attr attrs[] = {float_attr(HFB_ATTR_LEARNING_RATE, LEARNING_RATE), float_attr(HFB_ATTR_BETA1, BETA1),
                      float_attr(HFB_ATTR_BETA2, BETA2), float_attr(HFB_ATTR_EPS, EPS)};
  const char *name = name_of(parameter);
  hfb_value *mean = state_buffer(b, "exp_avg", name, parameter->dtype, parameter->shape);
  hfb_value *square = state_buffer(b, "exp_avg_sq", name, parameter->dtype, parameter->shape);
  hfb_value *inputs[] = {parameter, mean, square, gradient, step};
  hfb_value *first = hfb_build(b, HFB_OP_ADAM, 5, inputs, 4, attrs);
  for (int i = 0; first && i < 3; i++) hfb_update_add(b, inputs[i], &first->node->results[i]);
}

/* One count of steps for all parameters, in f64 because bias corrections are powers of beta by it. */
static void build_adam(hfb_builder *b, const trainables *t) {
  hfb_value *done = state_buffer(b, "step", NULL, HFB_F64, (hfb_shape){0});
  hfb_value *step = hfb_add_scalar(b, done, 1);
  hfb_update_add(b, done, step);
  for (int i = 0; i < t->count; i++) {
    if (t->gradients[i]) adam_step(b, t->parameters[i], t->gradients[i], step);
  }
}

static void (*const builders[HFB_OPTIMIZER_COUNT])(hfb_builder *b, const trainables *t) = {
  [HFB_OPTIMIZER_NONE] = build_none,
  [HFB_OPTIMIZER_SGD] = build_sgd,
  [HFB_OPTIMIZER_ADAM] = build_adam,
};

static void build_optimizer(hfb_builder *b, hfb_optimizer optimizer, const trainables *t) {
  int reached = 0;
  for (int i = 0; i < t->count; i++) reached += t->gradients[i] != NULL;
  if (optimizer != HFB_OPTIMIZER_NONE && reached == 0) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT,
                     "optimizer %s has nothing to do: the loss depends on none of %d trainable parameters",
                     hfb_optimizer_name(optimizer), t->count);
    return;
  }
  hfb_scope_push(b, "optimizer");
  builders[optimizer](b, t);
  hfb_scope_pop(b);
}

/* ---- the graph ---- */

/* {seed, step + 1}: the next run draws other masks. */
static void update_random_state(hfb_builder *b) {
  int index = hfb_graph_find_parameter(b->graph, HFB_RANDOM_STATE);
  if (index < 0) return;
  hfb_value *state = b->graph->parameters[index];
  hfb_value *one_step = hfb_constant_i64(b, hfb_shape_of(1, (int64_t[]){2}), (int64_t[]){0, 1});
  hfb_update_add(b, state, hfb_add(b, state, one_step));
}

static void add_outputs(hfb_rewrite *rewrite, const hfb_training_options *options, const trainables *t) {
  const hfb_graph *forward = rewrite->from;
  hfb_builder *b = &rewrite->b;
  hfb_output_add(b, "loss", rewrite->map[forward->outputs[0].value->id]);
  for (int i = 1; options->keep_outputs && i < forward->output_count; i++) {
    hfb_output_add(b, forward->outputs[i].name, rewrite->map[forward->outputs[i].value->id]);
  }
  if (!options->output_gradients && options->optimizer != HFB_OPTIMIZER_NONE) return;
  for (int i = 0; i < t->count && b->status == HFB_OK; i++) {
    if (!t->gradients[i]) continue;
    char *name = hfb_arena_printf(&b->graph->arena, HFB_GRADIENT_PREFIX "%s", name_of(t->parameters[i]));
    if (name) hfb_output_add(b, name, t->gradients[i]);
    if (!name) hfb_builder_fail(b, HFB_OUT_OF_MEMORY, "%s", hfb_error_message());
  }
}

static hfb_status find_trainables(const hfb_rewrite *rewrite, trainables *t) {
  const hfb_graph *forward = rewrite->from;
  HFB_TRY(hfb_mem_alloc((size_t)forward->parameter_count, sizeof(*t->parameters), &t->parameters));
  HFB_TRY(hfb_mem_alloc((size_t)forward->parameter_count, sizeof(*t->gradients), &t->gradients));
  for (int i = 0; i < forward->parameter_count; i++) {
    const hfb_value *parameter = forward->parameters[i];
    bool is_trainable = hfb_node_int(parameter->node, HFB_ATTR_TRAINABLE) && hfb_dtype_is_float(parameter->dtype);
    if (is_trainable) t->parameters[t->count++] = rewrite->map[parameter->id];
  }
  return HFB_OK;
}

/* Everything, with what nothing needs. */
static hfb_status build_all(hfb_rewrite *rewrite, const hfb_training_options *options, trainables *t,
                            hfb_graph **out_graph) {
  const hfb_graph *forward = rewrite->from;
  hfb_builder *b = &rewrite->b;
  for (int i = 0; i < forward->node_count; i++) hfb_rewrite_copy(rewrite, forward->nodes[i]);
  if (b->status == HFB_OK) HFB_TRY(find_trainables(rewrite, t));
  hfb_value *loss = rewrite->map[forward->outputs[0].value->id];
  const hfb_backward_options backward = {.checkpoint_layers = options->checkpoint_layers};
  hfb_backward(b, loss, t->count, t->parameters, &backward, t->gradients);
  for (int i = 0; i < forward->update_count; i++) {
    const hfb_update *update = &forward->updates[i];
    hfb_update_add(b, rewrite->map[update->parameter->id], rewrite->map[update->value->id]);
  }
  build_optimizer(b, options->optimizer, t);
  update_random_state(b);
  add_outputs(rewrite, options, t);
  return hfb_builder_finish(b, out_graph);
}

/* Marks by node id what outputs and updates need. Inputs and parameters stay: they are bound by position. */
static void mark_needed(const hfb_graph *graph, bool *needed) {
  for (int i = 0; i < graph->output_count; i++) needed[graph->outputs[i].value->node->id] = true;
  for (int i = 0; i < graph->update_count; i++) needed[graph->updates[i].value->node->id] = true;
  for (int i = graph->node_count - 1; i >= 0; i--) {
    const hfb_node *node = graph->nodes[i];
    if (node->op == HFB_OP_INPUT || node->op == HFB_OP_PARAMETER) needed[i] = true;
    for (int k = 0; needed[i] && k < node->input_count; k++) needed[node->inputs[k]->node->id] = true;
  }
}

/* Forward nodes of outputs that are dropped, and recomputed nodes that no rule used. */
static hfb_status prune(const hfb_graph *graph, hfb_graph **out_graph) {
  bool *needed;
  hfb_rewrite rewrite;
  HFB_TRY(hfb_mem_alloc((size_t)graph->node_count, sizeof(*needed), &needed));
  hfb_status status = hfb_rewrite_begin(&rewrite, graph);
  if (status == HFB_OK) {
    mark_needed(graph, needed);
    for (int i = 0; i < graph->node_count; i++) {
      if (needed[i]) hfb_rewrite_copy(&rewrite, graph->nodes[i]);
    }
    status = hfb_rewrite_finish(&rewrite, out_graph);
    hfb_rewrite_deinit(&rewrite);
  }
  hfb_mem_free(needed);
  return status;
}

static hfb_status check_loss(const hfb_graph *forward) {
  if (forward->output_count == 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s has no outputs, and so no loss to train by", forward->name);
  }
  const hfb_output *first = &forward->outputs[0];
  if (hfb_dtype_is_float(first->value->dtype) && first->value->shape.rank == 0) return HFB_OK;
  char shape[HFB_SHAPE_TEXT_BYTES];
  return HFB_FAIL(HFB_INVALID_ARGUMENT,
                  "%s has no loss to train by: its first output \"%s\" is %s%s, no floating-point scalar; "
                  "give labels, or choose a class with a loss",
                  forward->name, first->name, hfb_dtype_name(first->value->dtype),
                  hfb_shape_print(&first->value->shape, shape, sizeof(shape)));
}

hfb_status hfb_training_graph(const hfb_graph *forward, const hfb_training_options *options, hfb_graph **out_graph) {
  HFB_TRY(check_loss(forward));
  hfb_rewrite rewrite;
  trainables t = {0};
  hfb_graph *all = NULL;
  HFB_TRY(hfb_rewrite_begin(&rewrite, forward));
  hfb_status status = build_all(&rewrite, options, &t, &all);
  hfb_rewrite_deinit(&rewrite);
  hfb_mem_free(t.parameters);
  hfb_mem_free(t.gradients);
  if (status == HFB_OK) status = prune(all, out_graph);
  hfb_graph_destroy(all);
  return status;
}
