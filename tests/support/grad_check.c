#include "support/grad_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eager/eager.h"
#include "grad/backward.h"
#include "ir/transform.h"
#include "support/compare.h"

static const uint64_t SEED = 20240131;
static const double STEP = 1e-5; /* error of a difference: about STEP^2 by curvature and 1e-16 / STEP by rounding */

static const char *const lines[] = {
#define GRAD_CASE(text) text,
#include "support/grad_cases.def"
#undef GRAD_CASE
};

int grad_case_count(void) { return (int)(sizeof(lines) / sizeof(lines[0])); }

const char *grad_case_line(int index) { return lines[index]; }

/* ---- graphs ---- */

/* A rewrite that holds a copy of all nodes. */
static hfb_status begin_with_copy(const hfb_graph *from, hfb_rewrite *out_rewrite) {
  HFB_TRY(hfb_rewrite_begin(out_rewrite, from));
  for (int i = 0; i < from->node_count; i++) hfb_rewrite_copy(out_rewrite, from->nodes[i]);
  return HFB_OK;
}

/* y -> sum(y c), c a new input. */
static hfb_status add_loss(const hfb_graph *op_graph, hfb_graph **out_graph) {
  static const int axes[HFB_MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  hfb_rewrite rewrite;
  HFB_TRY(begin_with_copy(op_graph, &rewrite));
  hfb_builder *b = &rewrite.b;
  const hfb_value *result = op_graph->outputs[0].value;
  hfb_value *y = rewrite.map[result->id], *c = hfb_input(b, "c", HFB_F64, result->shape);
  hfb_value *product = hfb_mul(b, y, c);
  int rank = result->shape.rank;
  hfb_output_add(b, "loss", rank > 0 ? hfb_reduce(b, HFB_OP_REDUCE_SUM, product, rank, axes, false) : product);
  hfb_status status = hfb_builder_finish(b, out_graph);
  hfb_rewrite_deinit(&rewrite);
  return status;
}

static hfb_status build_forward(const op_case *c, hfb_graph **out_graph) {
  hfb_graph *narrow = NULL, *wide = NULL;
  HFB_TRY(op_case_build(c, &narrow));
  hfb_status status = hfb_graph_convert(narrow, HFB_F64, &wide);
  if (status == HFB_OK) status = add_loss(wide, out_graph);
  hfb_graph_destroy(narrow);
  hfb_graph_destroy(wide);
  return status;
}

hfb_status grad_case_open(const char *line, hfb_device *device, grad_case *out_case) {
  *out_case = (grad_case){.device = device};
  HFB_TRY(op_case_parse(line, &out_case->c));
  if (out_case->c.input_count >= OP_CASE_MAX_INPUTS) return HFB_FAIL(HFB_UNSUPPORTED, "no room for c");
  HFB_TRY(build_forward(&out_case->c, &out_case->forward));
  return op_case_make_inputs(&out_case->c, out_case->forward, device, SEED, false, &out_case->data);
}

void grad_case_close(grad_case *g) {
  hfb_graph_destroy(g->forward);
  op_case_release(&g->data);
}

bool grad_case_has_gradient(const grad_case *g, int input) {
  return input < g->c.input_count && hfb_dtype_is_float(g->forward->inputs[input]->dtype);
}

hfb_status grad_case_backward(const grad_case *g, const hfb_graph *forward, uint32_t inputs, hfb_graph **out_graph) {
  hfb_value *values[OP_CASE_MAX_INPUTS], *gradients[OP_CASE_MAX_INPUTS];
  int which[OP_CASE_MAX_INPUTS], count = 0;
  hfb_rewrite rewrite;
  HFB_TRY(begin_with_copy(forward, &rewrite));
  for (int i = 0; i < g->c.input_count; i++) {
    if (!(inputs >> i & 1) || !grad_case_has_gradient(g, i)) continue;
    which[count] = i;
    values[count++] = rewrite.map[forward->inputs[i]->id];
  }
  hfb_backward(&rewrite.b, rewrite.map[forward->outputs[0].value->id], count, values, NULL, gradients);
  for (int i = 0; i < count; i++) {
    char name[16];
    snprintf(name, sizeof(name), "grad/%d", which[i] % OP_CASE_MAX_INPUTS);
    hfb_output_add(&rewrite.b, name, gradients[i]);
  }
  hfb_status status = hfb_builder_finish(&rewrite.b, out_graph);
  hfb_rewrite_deinit(&rewrite);
  return status;
}

/* ---- runs ---- */

static hfb_status open_program(const grad_case *g, const hfb_graph *graph, hfb_program **out_program) {
  const hfb_backend_options options = {.reference = true};
  HFB_TRY(hfb_backend_eager()->compile(graph, g->device, &options, out_program));
  return hfb_backend_eager()->bind_parameters(*out_program, g->data.parameters);
}

hfb_status grad_case_run(const grad_case *g, const hfb_graph *graph, hfb_tensor *outputs) {
  hfb_program *program = NULL;
  hfb_status status = open_program(g, graph, &program);
  if (status == HFB_OK) status = hfb_backend_eager()->run(program, g->data.inputs, outputs);
  hfb_backend_eager()->destroy(program);
  return status;
}

static hfb_status loss_of(const grad_case *g, hfb_program *program, double *out_loss) {
  hfb_tensor loss;
  HFB_TRY(hfb_backend_eager()->run(program, g->data.inputs, &loss));
  *out_loss = hfb_tensor_get(&loss, 0);
  hfb_tensor_release(&loss);
  return HFB_OK;
}

/* (L(x + h) - L(x - h)) / 2h for element `index` of an input, which is as before afterwards. */
static hfb_status difference(const grad_case *g, hfb_program *program, int input, int64_t index, double *out_slope) {
  double *element = (double *)g->data.inputs[input].data + index;
  double x = *element, above = x + STEP, below = x - STEP, high = 0, low = 0;
  *element = above;
  HFB_TRY(loss_of(g, program, &high));
  *element = below;
  HFB_TRY(loss_of(g, program, &low));
  *element = x;
  *out_slope = (high - low) / (above - below);
  return HFB_OK;
}

/* ---- checks ---- */

static bool complain(char *text, size_t text_bytes, const char *what) {
  snprintf(text, text_bytes, "%s: %s", what, hfb_error_message());
  return false;
}

static bool differences_agree(const grad_case *g, hfb_program *program, int input, const hfb_tensor *gradient,
                              char *text, size_t text_bytes) {
  int64_t count = hfb_shape_elements(&gradient->shape);
  double largest = 0;
  for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(hfb_tensor_get(gradient, i)));
  for (int64_t i = 0; i < count; i++) {
    double slope, got = hfb_tensor_get(gradient, i);
    if (difference(g, program, input, i, &slope) != HFB_OK) return complain(text, text_bytes, "forward");
    if (fabs(got - slope) <= 1e-6 * largest + 1e-9) continue; /* a NaN is not near anything */
    snprintf(text, text_bytes, "input %d, element %lld: the gradient is %.12g, the difference quotient %.12g", input,
             (long long)i, got, slope);
    return false;
  }
  return true;
}

bool grad_case_check_differences(const grad_case *g, char *text, size_t text_bytes) {
  hfb_graph *backward = NULL;
  hfb_program *program = NULL;
  hfb_tensor gradients[OP_CASE_MAX_INPUTS] = {0};
  bool passes = grad_case_backward(g, g->forward, ~0u, &backward) == HFB_OK &&
                grad_case_run(g, backward, gradients) == HFB_OK && open_program(g, g->forward, &program) == HFB_OK;
  if (!passes) complain(text, text_bytes, "backward");
  int output = 0;
  for (int i = 0; passes && i < g->c.input_count; i++) {
    if (!grad_case_has_gradient(g, i)) continue;
    passes = differences_agree(g, program, i, &gradients[output++], text, text_bytes);
  }
  if (passes && output == 0) {
    snprintf(text, text_bytes, "no input has a gradient");
    passes = false;
  }
  for (int i = 0; i < OP_CASE_MAX_INPUTS; i++) hfb_tensor_release(&gradients[i]);
  hfb_backend_eager()->destroy(program);
  hfb_graph_destroy(backward);
  return passes;
}

/* All outputs of both graphs, which must be equally many, near enough; tolerance 0: equal. */
static bool graphs_agree(const grad_case *g, const hfb_graph *a, const hfb_graph *b, double tolerance, char *text,
                         size_t text_bytes) {
  hfb_tensor of_a[OP_CASE_MAX_INPUTS] = {0}, of_b[OP_CASE_MAX_INPUTS] = {0};
  bool passes = a->output_count == b->output_count;
  if (!passes) snprintf(text, text_bytes, "%d gradients and %d", a->output_count, b->output_count);
  if (passes && (grad_case_run(g, a, of_a) != HFB_OK || grad_case_run(g, b, of_b) != HFB_OK)) {
    passes = complain(text, text_bytes, "run");
  }
  for (int i = 0; passes && i < a->output_count; i++) {
    passes = tolerance > 0 ? compare_close(&of_a[i], &of_b[i], tolerance, 1, text, text_bytes)
                           : compare_equal(&of_a[i], &of_b[i], text, text_bytes);
  }
  for (int i = 0; i < OP_CASE_MAX_INPUTS; i++) {
    hfb_tensor_release(&of_a[i]);
    hfb_tensor_release(&of_b[i]);
  }
  return passes;
}

bool grad_case_check_decomposition(const grad_case *g, char *text, size_t text_bytes) {
  hfb_graph *by_rule = NULL, *primitives = NULL, *by_primitives = NULL, *rule_in_primitives = NULL;
  bool passes = grad_case_backward(g, g->forward, ~0u, &by_rule) == HFB_OK &&
                hfb_graph_decompose(g->forward, &primitives) == HFB_OK &&
                grad_case_backward(g, primitives, ~0u, &by_primitives) == HFB_OK &&
                hfb_graph_decompose(by_rule, &rule_in_primitives) == HFB_OK;
  if (!passes) complain(text, text_bytes, "decomposition");
  passes = passes && graphs_agree(g, by_rule, by_primitives, 1e-10, text, text_bytes) &&
           graphs_agree(g, by_rule, rule_in_primitives, 1e-10, text, text_bytes);
  hfb_graph_destroy(by_rule);
  hfb_graph_destroy(primitives);
  hfb_graph_destroy(by_primitives);
  hfb_graph_destroy(rule_in_primitives);
  return passes;
}

const hfb_node *grad_dead_node(const hfb_graph *graph, int first) {
  const hfb_node *dead = NULL;
  bool *needed = calloc((size_t)graph->node_count + 1, sizeof(*needed));
  for (int i = 0; i < graph->output_count; i++) needed[graph->outputs[i].value->node->id] = true;
  for (int i = 0; i < graph->update_count; i++) needed[graph->updates[i].value->node->id] = true;
  for (int i = graph->node_count - 1; i >= 0; i--) {
    const hfb_node *node = graph->nodes[i];
    bool is_bound = node->op == HFB_OP_INPUT || node->op == HFB_OP_PARAMETER;
    if (i >= first && !needed[i] && !is_bound) dead = node;
    for (int k = 0; needed[i] && k < node->input_count; k++) needed[node->inputs[k]->node->id] = true;
  }
  free(needed);
  return dead;
}

/* Of the nodes that hfb_backward appended. */
static bool appended_are_needed(const grad_case *g, const hfb_graph *backward, char *text, size_t text_bytes) {
  const hfb_node *dead = grad_dead_node(backward, g->forward->node_count);
  if (dead) snprintf(text, text_bytes, "nothing needs node %d, %s", dead->id, hfb_op_info_of(dead->op)->name);
  return !dead;
}

/* `alone` has the one gradient that is output `index` of `together`. */
static bool gradient_agrees(const grad_case *g, const hfb_graph *together, int index, const hfb_graph *alone,
                            char *text, size_t text_bytes) {
  hfb_tensor all[OP_CASE_MAX_INPUTS] = {0}, one = {0};
  bool passes = grad_case_run(g, together, all) == HFB_OK && grad_case_run(g, alone, &one) == HFB_OK;
  if (!passes) complain(text, text_bytes, "run");
  passes = passes && compare_equal(&one, &all[index], text, text_bytes);
  for (int i = 0; i < OP_CASE_MAX_INPUTS; i++) hfb_tensor_release(&all[i]);
  hfb_tensor_release(&one);
  return passes;
}

bool grad_case_check_wanted(const grad_case *g, char *text, size_t text_bytes) {
  hfb_graph *together = NULL;
  int output = 0;
  bool passes = grad_case_backward(g, g->forward, ~0u, &together) == HFB_OK;
  if (!passes) complain(text, text_bytes, "backward");
  passes = passes && appended_are_needed(g, together, text, text_bytes);
  for (int i = 0; passes && i < g->c.input_count; i++) {
    if (!grad_case_has_gradient(g, i)) continue;
    hfb_graph *alone = NULL;
    passes = grad_case_backward(g, g->forward, 1u << i, &alone) == HFB_OK;
    if (!passes) complain(text, text_bytes, "backward of one");
    passes = passes && appended_are_needed(g, alone, text, text_bytes) &&
             gradient_agrees(g, together, output++, alone, text, text_bytes);
    hfb_graph_destroy(alone);
  }
  hfb_graph_destroy(together);
  return passes;
}

bool grad_case_passes(const char *line, hfb_device *device, char *text, size_t text_bytes) {
  grad_case g;
  bool passes = grad_case_open(line, device, &g) == HFB_OK;
  if (!passes) complain(text, text_bytes, "case");
  passes = passes && grad_case_check_differences(&g, text, text_bytes) &&
           grad_case_check_decomposition(&g, text, text_bytes) && grad_case_check_wanted(&g, text, text_bytes);
  grad_case_close(&g);
  return passes;
}
