/* The sweep: from the loss back over the nodes in reverse order, one rule for each node on a way to a wanted value. */
#include "grad/backward.h"

#include <stdio.h>
#include <string.h>

#include "grad/rules.h"

/* Everything that a scope which ends in a number stands above. */
typedef struct layer {
  const char *scope; /* its first `length` bytes; points into the graph */
  size_t length;
  bool is_recomputed;
} layer;

typedef struct sweep {
  hfb_builder *b;
  int node_count;         /* nodes up to the loss: the ids below it are those that are differentiated */
  bool *depends;          /* by value id: a float that a wanted value flows into */
  hfb_value **gradients;  /* by value id: the sum so far; NULL: none yet */
  hfb_value **recomputed; /* by value id: the copy that rules see; NULL: the value itself */
  int *layer_of;          /* by node id: index into layers, -1: none; NULL without checkpointing */
  layer *layers;
  int layer_count;
  hfb_value **in, **in_gradients; /* scratch of one node: as many as the longest list of inputs */
  bool *wanted;
} sweep;

/* ---- layers ---- */

/* The length of a scope up to the end of its first numeric component; 0 when it has none. */
static size_t layer_length(const char *scope) {
  for (const char *part = scope; *part;) {
    size_t length = strcspn(part, "."), digits = strspn(part, "0123456789");
    if (length > 0 && digits == length) return (size_t)(part - scope) + length;
    part += length;
    if (*part == '.') part++;
  }
  return 0;
}

static hfb_status find_layer(sweep *s, const hfb_node *node, int *out_layer) {
  const char *scope = hfb_node_text(node, HFB_ATTR_SCOPE, "");
  size_t length = layer_length(scope);
  *out_layer = -1;
  if (length == 0) return HFB_OK;
  for (int i = s->layer_count - 1; i >= 0 && *out_layer < 0; i--) { /* most often the last one */
    if (s->layers[i].length == length && memcmp(s->layers[i].scope, scope, length) == 0) *out_layer = i;
  }
  if (*out_layer >= 0) return HFB_OK;
  HFB_TRY(hfb_mem_grow(&s->layers, (size_t)s->layer_count + 1, sizeof(*s->layers)));
  s->layers[s->layer_count] = (layer){.scope = scope, .length = length};
  *out_layer = s->layer_count++;
  return HFB_OK;
}

static hfb_status find_layers(sweep *s) {
  HFB_TRY(hfb_mem_alloc((size_t)s->node_count, sizeof(*s->layer_of), &s->layer_of));
  for (int i = 0; i < s->node_count; i++) HFB_TRY(find_layer(s, s->b->graph->nodes[i], &s->layer_of[i]));
  return HFB_OK;
}

/* What is stored anyway is not computed again. */
static bool is_stored(hfb_op op) {
  return op == HFB_OP_INPUT || op == HFB_OP_PARAMETER || op == HFB_OP_CONSTANT;
}

/* A value of the layer of `node` as the rules see it; what others computed was kept. */
static hfb_value *seen_by(const sweep *s, const hfb_node *node, hfb_value *value) {
  bool is_copied = s->layer_of && s->layer_of[value->node->id] == s->layer_of[node->id] && s->recomputed[value->id];
  return is_copied ? s->recomputed[value->id] : value;
}

/* The node again, in the region of its layer and under its own scope. */
static void copy_node(sweep *s, const hfb_node *node, int64_t region) {
  hfb_attr attrs[HFB_ATTR_COUNT];
  int count = 0;
  for (int i = 0; i < node->attr_count; i++) {
    if (node->attrs[i].key != HFB_ATTR_REGION) attrs[count++] = node->attrs[i];
  }
  attrs[count++] = (hfb_attr){.key = HFB_ATTR_REGION, .u.i = region};
  for (int i = 0; i < node->input_count; i++) s->in[i] = seen_by(s, node, node->inputs[i]);
  s->b->scope[0] = '\0'; /* among the attributes already */
  hfb_value *copy = hfb_build(s->b, node->op, node->input_count, s->in, count, attrs);
  for (int i = 0; copy && i < node->result_count; i++) s->recomputed[node->results[i].id] = &copy->node->results[i];
}

static void recompute_layer(sweep *s, int index) {
  s->layers[index].is_recomputed = true;
  for (int i = 0; i < s->node_count && s->b->status == HFB_OK; i++) {
    const hfb_node *node = s->b->graph->nodes[i];
    if (s->layer_of[i] == index && !is_stored(node->op)) copy_node(s, node, index + 1);
  }
}

/* ---- the sweep ---- */

/* Marks what depends on a wanted value. Integers and bools carry no gradient. */
static void find_dependents(sweep *s, int count, hfb_value *const *values) {
  for (int i = 0; i < count; i++) s->depends[values[i]->id] = true;
  for (int i = 0; i < s->node_count; i++) {
    const hfb_node *node = s->b->graph->nodes[i];
    bool depends = false;
    for (int k = 0; k < node->input_count; k++) depends |= s->depends[node->inputs[k]->id];
    for (int k = 0; depends && k < node->result_count; k++) {
      if (hfb_dtype_is_float(node->results[k].dtype)) s->depends[node->results[k].id] = true;
    }
  }
}

static void accumulate(sweep *s, const hfb_node *node, const hfb_value *value, hfb_value *gradient) {
  hfb_value **sum = &s->gradients[value->id];
  if (gradient->dtype != value->dtype || !hfb_shape_equal(&gradient->shape, &value->shape)) {
    hfb_builder_fail(s->b, HFB_INTERNAL, "the gradient rule of %s gives another type than its input has",
                     hfb_op_info_of(node->op)->name);
    return;
  }
  *sum = *sum ? hfb_add(s->b, *sum, gradient) : gradient;
}

static void enter_scope(hfb_builder *b, const hfb_node *node) {
  snprintf(b->scope, sizeof(b->scope), "%s", hfb_node_text(node, HFB_ATTR_SCOPE, ""));
}

static void call_rule(sweep *s, const hfb_node *node, hfb_value *const *gradients) {
  hfb_builder *b = s->b;
  enter_scope(b, node);
  hfb_gradient_rule rule = hfb_gradient_rule_of(node->op);
  if (!rule) {
    hfb_builder_fail(b, HFB_UNSUPPORTED, "%s cannot be differentiated; it has no gradient rule",
                     hfb_op_info_of(node->op)->name);
    return;
  }
  int layer = s->layer_of ? s->layer_of[node->id] : -1;
  if (layer >= 0 && !s->layers[layer].is_recomputed) {
    recompute_layer(s, layer);
    enter_scope(b, node);
  }
  hfb_value *out[HFB_MAX_RESULTS];
  for (int i = 0; i < node->result_count; i++) out[i] = seen_by(s, node, &node->results[i]);
  for (int i = 0; i < node->input_count; i++) {
    s->in[i] = seen_by(s, node, node->inputs[i]);
    s->in_gradients[i] = NULL;
  }
  if (b->status != HFB_OK) return;
  hfb_gradient g = {.b = b,
                    .node = node,
                    .in = s->in,
                    .out = out,
                    .gradients = gradients,
                    .wanted = s->wanted,
                    .in_gradients = s->in_gradients};
  rule(&g);
}

static void differentiate(sweep *s, const hfb_node *node) {
  hfb_value *gradients[HFB_MAX_RESULTS];
  bool is_reached = false, is_wanted = false;
  for (int i = 0; i < node->result_count; i++) {
    gradients[i] = s->gradients[node->results[i].id];
    is_reached |= gradients[i] != NULL;
  }
  for (int i = 0; i < node->input_count; i++) {
    s->wanted[i] = s->depends[node->inputs[i]->id];
    is_wanted |= s->wanted[i];
  }
  if (!is_reached || !is_wanted) return;
  call_rule(s, node, gradients);
  for (int i = 0; i < node->input_count && s->b->status == HFB_OK; i++) {
    if (s->wanted[i] && s->in_gradients[i]) accumulate(s, node, node->inputs[i], s->in_gradients[i]);
  }
}

static hfb_status begin(sweep *s, hfb_value *loss, bool checkpoint_layers) {
  const hfb_graph *graph = s->b->graph;
  size_t values = (size_t)graph->value_count, most = 1;
  s->node_count = loss->node->id + 1;
  for (int i = 0; i < s->node_count; i++) {
    if ((size_t)graph->nodes[i]->input_count > most) most = (size_t)graph->nodes[i]->input_count;
  }
  HFB_TRY(hfb_mem_alloc(values, sizeof(*s->depends), &s->depends));
  HFB_TRY(hfb_mem_alloc(values, sizeof(*s->gradients), &s->gradients));
  HFB_TRY(hfb_mem_alloc(values, sizeof(*s->recomputed), &s->recomputed));
  HFB_TRY(hfb_mem_alloc(most, sizeof(*s->in), &s->in));
  HFB_TRY(hfb_mem_alloc(most, sizeof(*s->in_gradients), &s->in_gradients));
  HFB_TRY(hfb_mem_alloc(most, sizeof(*s->wanted), &s->wanted));
  return checkpoint_layers ? find_layers(s) : HFB_OK;
}

static void end(sweep *s) {
  hfb_mem_free(s->depends);
  hfb_mem_free(s->gradients);
  hfb_mem_free(s->recomputed);
  hfb_mem_free(s->layer_of);
  hfb_mem_free(s->layers);
  hfb_mem_free(s->in);
  hfb_mem_free(s->in_gradients);
  hfb_mem_free(s->wanted);
}

static bool arguments_fit(hfb_builder *b, const hfb_value *loss, int count, hfb_value *const *values) {
  if (b->status != HFB_OK) return false;
  if (!loss || !hfb_dtype_is_float(loss->dtype) || loss->shape.rank != 0) {
    char shape[HFB_SHAPE_TEXT_BYTES];
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "only a floating-point scalar can be differentiated; the loss is %s%s",
                     loss ? hfb_dtype_name(loss->dtype) : "missing",
                     loss ? hfb_shape_print(&loss->shape, shape, sizeof(shape)) : "");
  }
  for (int i = 0; i < count; i++) {
    if (values[i] && hfb_dtype_is_float(values[i]->dtype)) continue;
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "value %d has no gradient: it is %s", i,
                     values[i] ? hfb_dtype_name(values[i]->dtype) : "missing");
  }
  return b->status == HFB_OK;
}

static void sweep_back(sweep *s, hfb_value *loss) {
  if (!s->depends[loss->id]) return;
  enter_scope(s->b, loss->node);
  s->gradients[loss->id] = hfb_scalar(s->b, loss->dtype, 1);
  for (int i = s->node_count - 1; i >= 0 && s->b->status == HFB_OK; i--) differentiate(s, s->b->graph->nodes[i]);
}

void hfb_backward(hfb_builder *b, hfb_value *loss, int count, hfb_value *const *values,
                  const hfb_backward_options *options, hfb_value **out_gradients) {
  for (int i = 0; i < count; i++) out_gradients[i] = NULL;
  if (!arguments_fit(b, loss, count, values)) return;
  sweep s = {.b = b};
  char scope[HFB_SCOPE_BYTES];
  memcpy(scope, b->scope, sizeof(scope));
  hfb_status status = begin(&s, loss, options && options->checkpoint_layers);
  if (status == HFB_OK) {
    find_dependents(&s, count, values);
    sweep_back(&s, loss);
    for (int i = 0; i < count && b->status == HFB_OK; i++) out_gradients[i] = s.gradients[values[i]->id];
  } else {
    hfb_builder_fail(b, status, "%s", hfb_error_message());
  }
  memcpy(b->scope, scope, sizeof(scope));
  end(&s);
}
