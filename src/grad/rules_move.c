/* Gradient rules of movement and of indexed reads: an element's gradient goes back to where the element came from. */
#include "grad/gradient_rules.h"

/* ---- movement ---- */

void hfb_gradient_reshape(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_grad_reshape(g->b, g->gradients[0], &g->in[0]->shape);
}

void hfb_gradient_transpose(const hfb_gradient *g) {
  int rank, inverse[HFB_MAX_RANK];
  const int64_t *perm = hfb_node_ints(g->node, HFB_ATTR_PERM, &rank);
  for (int i = 0; i < rank; i++) inverse[perm[i]] = i;
  g->in_gradients[0] = hfb_transpose(g->b, g->gradients[0], inverse);
}

void hfb_gradient_expand(const hfb_gradient *g) {
  g->in_gradients[0] = hfb_grad_sum_to(g->b, g->gradients[0], &g->in[0]->shape);
}

/* Puts step - 1 zeros behind every element along the axis, and cuts what reaches beyond `limit` elements. */
static hfb_value *dilate(hfb_builder *b, hfb_value *x, int axis, int64_t step, int64_t limit) {
  if (!x || step == 1 || x->shape.dim[axis] == 0) return x;
  hfb_shape shape = x->shape;
  int64_t outer = 1, inner = 1, count = shape.dim[axis];
  for (int i = 0; i < axis; i++) outer *= shape.dim[i];
  for (int i = axis + 1; i < shape.rank; i++) inner *= shape.dim[i];
  hfb_value *split = hfb_reshape(b, x, 4, (int64_t[]){outer, count, 1, inner});
  hfb_value *padded = hfb_pad(b, split, 2, 0, step - 1, 0);
  shape.dim[axis] = count * step;
  hfb_value *joined = hfb_reshape(b, padded, shape.rank, shape.dim);
  return count * step > limit ? hfb_slice(b, joined, axis, 0, limit) : joined;
}

static hfb_attr ints_attr(hfb_attr_key key, int count, const int64_t *values) {
  return (hfb_attr){.key = key, .u.ints = {count, values}};
}

void hfb_gradient_slice(const hfb_gradient *g) {
  int rank;
  const int64_t *starts = hfb_node_ints(g->node, HFB_ATTR_STARTS, &rank);
  const int64_t *steps = hfb_node_ints(g->node, HFB_ATTR_STEPS, &rank);
  const hfb_shape *shape = &g->in[0]->shape;
  hfb_value *value = g->gradients[0];
  for (int i = 0; i < rank; i++) value = dilate(g->b, value, i, steps[i], shape->dim[i] - starts[i]);
  if (!value) return;
  int64_t behind[HFB_MAX_RANK];
  for (int i = 0; i < rank; i++) behind[i] = shape->dim[i] - starts[i] - value->shape.dim[i];
  hfb_attr attrs[] = {ints_attr(HFB_ATTR_STARTS, rank, starts),
                      ints_attr(HFB_ATTR_LIMITS, rank, behind),
                      {.key = HFB_ATTR_VALUE, .u.f = 0}};
  bool is_whole = hfb_shape_equal(&value->shape, shape);
  g->in_gradients[0] = is_whole ? value : hfb_build(g->b, HFB_OP_PAD, 1, &value, 3, attrs);
}

void hfb_gradient_pad(const hfb_gradient *g) {
  int rank;
  const int64_t *starts = hfb_node_ints(g->node, HFB_ATTR_STARTS, &rank);
  int64_t limits[HFB_MAX_RANK], steps[HFB_MAX_RANK];
  for (int i = 0; i < rank; i++) {
    limits[i] = starts[i] + g->in[0]->shape.dim[i];
    steps[i] = 1;
  }
  hfb_attr attrs[] = {ints_attr(HFB_ATTR_STARTS, rank, starts), ints_attr(HFB_ATTR_LIMITS, rank, limits),
                      ints_attr(HFB_ATTR_STEPS, rank, steps)};
  g->in_gradients[0] = hfb_build(g->b, HFB_OP_SLICE, 1, &g->gradients[0], 3, attrs);
}

void hfb_gradient_unfold(const hfb_gradient *g) {
  const hfb_shape *shape = &g->in[0]->shape;
  hfb_attr attrs[] = {ints_attr(HFB_ATTR_SHAPE, shape->rank, shape->dim), *hfb_node_attr(g->node, HFB_ATTR_STEP)};
  g->in_gradients[0] = hfb_build(g->b, HFB_OP_UNFOLD_BACKWARD, 1, &g->gradients[0], 2, attrs);
}

void hfb_gradient_concat(const hfb_gradient *g) {
  int axis = (int)hfb_node_int(g->node, HFB_ATTR_AXIS);
  int64_t start = 0;
  for (int i = 0; i < g->node->input_count; i++) {
    int64_t limit = start + g->in[i]->shape.dim[axis];
    if (g->wanted[i]) g->in_gradients[i] = hfb_slice(g->b, g->gradients[0], axis, start, limit);
    start = limit;
  }
}

/* ---- indexed reads: the backward ops add at the index, in a fixed order ---- */

/* With the shape of input 0 and attribute `key` of the node. */
static void add_at_index(const hfb_gradient *g, hfb_op op, hfb_attr_key key) {
  const hfb_shape *shape = &g->in[0]->shape;
  hfb_attr attrs[] = {ints_attr(HFB_ATTR_SHAPE, shape->rank, shape->dim), *hfb_node_attr(g->node, key)};
  g->in_gradients[0] = hfb_build(g->b, op, 2, (hfb_value *[]){g->gradients[0], g->in[1]}, 2, attrs);
}

void hfb_gradient_gather(const hfb_gradient *g) {
  add_at_index(g, HFB_OP_GATHER_BACKWARD, HFB_ATTR_AXIS);
}

void hfb_gradient_take_along(const hfb_gradient *g) {
  add_at_index(g, HFB_OP_TAKE_ALONG_BACKWARD, HFB_ATTR_AXIS);
}

void hfb_gradient_embedding(const hfb_gradient *g) {
  add_at_index(g, HFB_OP_EMBEDDING_BACKWARD, HFB_ATTR_PADDING_IDX);
}
