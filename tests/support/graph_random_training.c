/* Makers of what training adds to graphs. Bounds follow from the formulas of the gradients: sums of n terms are n times
 * as large and as wrong as one, slopes bound what an error of the argument does. */
#include <math.h>
#include <stdio.h>

#include "support/graph_random_parts.h"

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))

/* A gradient of this shape: a value of the pool or an input. */
static entry gradient_like(generator *g, const hfb_shape *shape) {
  for (int tries = 0; tries < 4; tries++) {
    const entry e = gen_pick(g, HFB_F32, 0);
    if (e.value && hfb_shape_equal(&e.value->shape, shape)) return e;
  }
  return (entry){gen_input(g, *shape), GEN_LARGEST, 0, true};
}

static hfb_attr int_attribute(hfb_attr_key key, int64_t value) {
  return (hfb_attr){.key = key, .u.i = value};
}

static hfb_attr float_attribute(hfb_attr_key key, double value) {
  return (hfb_attr){.key = key, .u.f = value};
}

static hfb_attr shape_attribute(const hfb_shape *shape) {
  return (hfb_attr){.key = HFB_ATTR_SHAPE, .u.ints = {shape->rank, shape->dim}};
}

/* ---- random masks ---- */

void gen_add_random(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 0);
  if (!x.value) return;
  const double p = (double)PICK(g, 1, 5) / 10, scale = 1 / (1 - p);
  if (gen_chance(g, 15)) {
    gen_put(g, hfb_random_mask(&g->b, x.value->shape, p), 1, 0, true);
    return;
  }
  hfb_value *dropped = hfb_dropout(&g->b, x.value, p);
  gen_put(g, dropped, scale * x.largest, scale * (x.error + x.largest), false);
  if (!gen_chance(g, 30) || !dropped) return;
  const entry dy = gradient_like(g, &x.value->shape); /* the same mask once more, as a backward pass draws it */
  const hfb_node *node = dropped->node;
  const hfb_attr attrs[] = {float_attribute(HFB_ATTR_P, p),
                            int_attribute(HFB_ATTR_SITE, hfb_node_int(node, HFB_ATTR_SITE))};
  hfb_value *again = hfb_build(&g->b, HFB_OP_DROPOUT, 2, (hfb_value *[]){dy.value, node->inputs[1]}, 2, attrs);
  gen_put(g, again, scale * dy.largest, scale * (dy.error + dy.largest), false);
}

/* ---- gradients ---- */

void gen_add_activation_backward(generator *g) {
  static const hfb_op of_x[] = {HFB_OP_SILU_BACKWARD, HFB_OP_GELU_BACKWARD, HFB_OP_GELU_TANH_BACKWARD,
                                HFB_OP_QUICK_GELU_BACKWARD};
  const entry x = gen_pick(g, HFB_F32, 0);
  if (!x.value) return;
  const entry dy = gradient_like(g, &x.value->shape);
  const double error = x.error + x.largest;
  switch (gen_below(g, 4)) {
    case 0:
      if (x.exact)
        gen_put(g, hfb_binary(&g->b, HFB_OP_RELU_BACKWARD, dy.value, x.value), dy.largest, dy.error, dy.exact);
      return;
    case 1: { /* in terms of the result, whose slope is at most 1 */
      const bool is_tanh = gen_chance(g, 50);
      hfb_value *y = hfb_unary(&g->b, is_tanh ? HFB_OP_TANH : HFB_OP_SIGMOID, x.value);
      const hfb_op op = is_tanh ? HFB_OP_TANH_BACKWARD : HFB_OP_SIGMOID_BACKWARD;
      gen_put(g, hfb_binary(&g->b, op, dy.value, y), dy.largest, dy.error + dy.largest * (2 * error + 64), false);
      return;
    }
    default: /* slopes are at most 1.2, and they change by at most 1 for each unit */
      gen_put(g, hfb_binary(&g->b, of_x[gen_below(g, COUNT(of_x))], dy.value, x.value), 1.2 * dy.largest,
              1.2 * dy.error + dy.largest * (error + 64), false);
  }
}

void gen_add_softmax_backward(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 1);
  if (!x.value) return;
  const entry dy = gradient_like(g, &x.value->shape);
  const int rank = x.value->shape.rank, axis = gen_chance(g, 60) ? rank - 1 : (int)gen_below(g, rank);
  const double n = fmax(1, (double)x.value->shape.dim[axis]), error = 2 * (x.error + x.largest) + 32;
  const hfb_attr attr = int_attribute(HFB_ATTR_AXIS, axis);
  if (gen_chance(g, 60)) {
    hfb_value *y = hfb_softmax(&g->b, x.value, axis);
    hfb_value *dx = hfb_build(&g->b, HFB_OP_SOFTMAX_BACKWARD, 2, (hfb_value *[]){dy.value, y}, 1, &attr);
    gen_put(g, dx, 2 * dy.largest, 2 * dy.error + dy.largest * (3 * error + n), false);
  } else {
    hfb_value *y = hfb_log_softmax(&g->b, x.value, axis);
    hfb_value *dx = hfb_build(&g->b, HFB_OP_LOG_SOFTMAX_BACKWARD, 2, (hfb_value *[]){dy.value, y}, 1, &attr);
    gen_put(g, dx, (n + 1) * dy.largest, (n + 1) * dy.error + n * dy.largest * (error + n), false);
  }
}

void gen_add_norm_backward(generator *g) {
  const entry x = gen_pick(g, HFB_F32, 1);
  if (!x.value) return;
  const hfb_shape *shape = &x.value->shape;
  const entry dy = gradient_like(g, shape);
  const int64_t features = shape->dim[shape->rank - 1];
  if (features == 0) return;
  const double n = (double)features, rows = fmax(1, (double)hfb_shape_elements(shape) / n);
  const bool is_layer_norm = gen_chance(g, 60);
  hfb_value *inputs[] = {dy.value, x.value, gen_source(g, (hfb_shape){.rank = 1, .dim = {features}})};
  const hfb_attr eps = float_attribute(HFB_ATTR_EPS, 0.25); /* so that 1 / deviation is at most 2 */
  hfb_value *dx =
      hfb_build(&g->b, is_layer_norm ? HFB_OP_LAYER_NORM_BACKWARD : HFB_OP_RMS_NORM_BACKWARD, 3, inputs, 1, &eps);
  if (!dx) return;
  const double normal = sqrt(n), normal_error = (4 + n) * 2 * (x.error + x.largest);
  const double weighted = GEN_LARGEST * dy.largest, weighted_error = GEN_LARGEST * (dy.error + dy.largest);
  const bool uses_dx = gen_chance(g, 85), uses_rest = gen_chance(g, 60);
  if (uses_dx)
    gen_put(g, dx, 2 * weighted * (2 + normal),
            2 * (2 + n) * weighted_error + 4 * weighted * (2 + normal) * (normal_error + n), false);
  if (!uses_rest) return;
  gen_put(g, &dx->node->results[1], rows * dy.largest * normal,
          rows * (dy.error * normal + dy.largest * (normal_error + rows * normal)), false);
  if (is_layer_norm) gen_put(g, &dx->node->results[2], rows * dy.largest, rows * (dy.error + rows * dy.largest), false);
}

/* g added up at an index: each place gets all of them at worst. */
static void put_sums(generator *g, hfb_value *value, const entry *dy, double count) {
  count = fmax(1, count);
  gen_put(g, value, count * dy->largest, count * (dy->error + count * dy->largest), false);
}

void gen_add_gather_backward(generator *g) {
  const entry dy = gen_pick(g, HFB_F32, 1);
  if (!dy.value) return;
  const hfb_shape *shape = &dy.value->shape;
  const int64_t bound = PICK(g, 1, 3, 9);
  if (gen_chance(g, 40)) { /* an embedding's table */
    hfb_shape ids = *shape;
    const hfb_shape table = {.rank = 2, .dim = {bound, shape->dim[--ids.rank]}};
    const hfb_attr attrs[] = {shape_attribute(&table),
                              int_attribute(HFB_ATTR_PADDING_IDX, gen_chance(g, 50) ? -1 : bound - 1)};
    hfb_value *inputs[] = {dy.value, gen_index(g, ids, bound)};
    if (!gen_is_small(g, &table)) return;
    put_sums(g, hfb_build(&g->b, HFB_OP_EMBEDDING_BACKWARD, 2, inputs, 2, attrs), &dy,
             (double)hfb_shape_elements(&ids));
    return;
  }
  const int axis = (int)gen_below(g, shape->rank);
  hfb_shape x = *shape;
  x.dim[axis] = bound;
  if (!gen_is_small(g, &x)) return;
  const hfb_attr attrs[] = {shape_attribute(&x), int_attribute(HFB_ATTR_AXIS, axis)};
  const bool along = gen_chance(g, 50);
  const hfb_shape index = along ? *shape : (hfb_shape){.rank = 1, .dim = {shape->dim[axis]}};
  hfb_value *inputs[] = {dy.value, gen_index(g, index, bound)};
  put_sums(g, hfb_build(&g->b, along ? HFB_OP_TAKE_ALONG_BACKWARD : HFB_OP_GATHER_BACKWARD, 2, inputs, 2, attrs), &dy,
           (double)shape->dim[axis]);
}

void gen_add_loss_backward(generator *g) {
  const hfb_shape scalar = {.rank = 0};
  const entry x = gen_pick(g, HFB_F32, 1), dy = gradient_like(g, &scalar);
  if (!x.value || hfb_shape_elements(&x.value->shape) == 0) return;
  const double error = dy.error + 8 * dy.largest;
  if (gen_chance(g, 40)) {
    const hfb_shape shape = {.rank = 2, .dim = {PICK(g, 1, 3, 7, 16), PICK(g, 1, 5, 33)}};
    const hfb_attr attrs[] = {shape_attribute(&shape), int_attribute(HFB_ATTR_IGNORE_INDEX, PICK(g, -100, 0))};
    hfb_value *inputs[] = {dy.value, gen_ids(g, (hfb_shape){.rank = 1, .dim = {shape.dim[0]}}, shape.dim[1])};
    gen_put(g, hfb_build(&g->b, HFB_OP_NLL_LOSS_BACKWARD, 2, inputs, 2, attrs), dy.largest, error, false);
    return;
  }
  const hfb_op op = gen_chance(g, 50) ? HFB_OP_MSE_LOSS_BACKWARD : HFB_OP_BCE_WITH_LOGITS_BACKWARD;
  hfb_value *inputs[] = {dy.value, x.value, gen_input(g, x.value->shape)};
  const double size = 2 * (x.largest + GEN_LARGEST);
  gen_put(g, hfb_build(&g->b, op, 3, inputs, 0, NULL), size * dy.largest,
          size * error + dy.largest * 2 * (x.error + x.largest + 64), false);
}

/* ---- optimizers: parameters that other ops of the graph read, before they change ---- */

static bool is_updated(const generator *g, const hfb_value *parameter) {
  for (int i = 0; i < g->b.graph->update_count; i++) {
    if (g->b.graph->updates[i].parameter == parameter) return true;
  }
  return false;
}

static void update(generator *g, hfb_value *parameter, hfb_value *value, double largest, double error) {
  if (g->b.status != HFB_OK || !value) return;
  const entry e = {value, largest, error, false};
  g->allowed_updates[g->b.graph->update_count] = gen_allowed(&e);
  hfb_update_add(&g->b, parameter, value);
  if (gen_chance(g, 20)) gen_put(g, value, largest, error, false); /* the new value is read as well */
}

static hfb_value *state_like(generator *g, const char *kind, hfb_dtype dtype, hfb_shape shape) {
  char name[32];
  snprintf(name, sizeof name, "%s%d", kind, g->names++);
  return hfb_parameter_named(&g->b, name, dtype, shape, (hfb_init){HFB_INIT_CONSTANT, 1, 0, -1, false, true});
}

void gen_add_optimizer(generator *g) {
  const entry dy = gen_pick(g, HFB_F32, 1);
  if (!dy.value || g->b.graph->update_count + 3 > GRAPH_RANDOM_MAX_OUTPUTS) return;
  const hfb_shape shape = dy.value->shape;
  hfb_value *parameter = gen_weight(g, shape);
  if (!parameter || is_updated(g, parameter)) return;
  const hfb_attr rate = float_attribute(HFB_ATTR_LEARNING_RATE, 0.125);
  const double error = dy.error + dy.largest;
  if (gen_chance(g, 40)) {
    hfb_value *inputs[] = {parameter, dy.value};
    update(g, parameter, hfb_build(&g->b, HFB_OP_SGD, 2, inputs, 1, &rate), GEN_LARGEST + dy.largest,
           GEN_LARGEST + dy.largest + error);
    return;
  }
  const hfb_attr attrs[] = {rate, float_attribute(HFB_ATTR_BETA1, 0.75), float_attribute(HFB_ATTR_BETA2, 0.875),
                            float_attribute(HFB_ATTR_EPS, 1e-8)};
  hfb_value *inputs[] = {parameter, state_like(g, "mean", HFB_F32, shape), state_like(g, "square", HFB_F32, shape),
                         dy.value, state_like(g, "step", HFB_F64, (hfb_shape){.rank = 0})};
  hfb_value *first = hfb_build(&g->b, HFB_OP_ADAM, 5, inputs, 4, attrs);
  if (!first) return;
  /* The average of squares stays above 0.875 / 4, its root above 0.46; 1 / (1 - 0.75) multiplies the mean at most. */
  const double mean = GEN_LARGEST + dy.largest, mean_error = mean + error;
  const double square = GEN_LARGEST + 0.25 + dy.largest * dy.largest, square_error = square + dy.largest * error;
  update(g, parameter, first, GEN_LARGEST + 2 * mean, GEN_LARGEST + 2 * mean_error + 8 * mean * (square_error + 8));
  update(g, inputs[1], &first->node->results[1], mean, mean_error);
  update(g, inputs[2], &first->node->results[2], square, square_error);
}
