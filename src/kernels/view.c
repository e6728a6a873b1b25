#include "kernels/kernel.h"

static void move_start(hfb_tensor *view, int64_t elements) {
  view->data = (char *)view->data + elements * (int64_t)hfb_dtype_bytes(view->dtype);
}

static bool view_transpose(const hfb_node *node, const hfb_tensor *input, hfb_tensor *view) {
  int count;
  const int64_t *perm = hfb_node_ints(node, HFB_ATTR_PERM, &count);
  for (int i = 0; i < count; i++) {
    view->shape.dim[i] = input->shape.dim[perm[i]];
    view->strides[i] = input->strides[perm[i]];
  }
  return true;
}

static bool view_slice(const hfb_node *node, const hfb_tensor *input, hfb_tensor *view) {
  int count;
  const int64_t *starts = hfb_node_ints(node, HFB_ATTR_STARTS, &count);
  const int64_t *steps = hfb_node_ints(node, HFB_ATTR_STEPS, &count);
  view->shape = node->results[0].shape;
  if (hfb_shape_elements(&view->shape) == 0) return true; /* a start may lie behind the last element */
  for (int i = 0; i < count; i++) {
    move_start(view, starts[i] * input->strides[i]);
    view->strides[i] = input->strides[i] * steps[i];
  }
  return true;
}

static bool view_expand(const hfb_node *node, const hfb_tensor *input, hfb_tensor *view) {
  view->shape = node->results[0].shape;
  int missing = view->shape.rank - input->shape.rank;
  for (int i = 0; i < view->shape.rank; i++) {
    bool is_spread = i < missing || (input->shape.dim[i - missing] == 1 && view->shape.dim[i] != 1);
    view->strides[i] = is_spread ? 0 : input->strides[i - missing];
  }
  return true;
}

/* Windows overlap: two elements of the view may be one of the input. */
static bool view_unfold(const hfb_node *node, const hfb_tensor *input, hfb_tensor *view) {
  view->shape = node->results[0].shape;
  int last = input->shape.rank - 1;
  view->strides[last] = input->strides[last] * hfb_node_int(node, HFB_ATTR_STEP);
  view->strides[last + 1] = input->strides[last];
  return true;
}

/* Splits the input into runs of dimensions that one stride describes; each run must hold whole dimensions of the
 * result. Dimensions of extent 1 belong to any run. */
static bool view_reshape(const hfb_node *node, const hfb_tensor *input, hfb_tensor *view) {
  const hfb_shape *shape = &node->results[0].shape;
  view->shape = *shape;
  if (hfb_shape_elements(shape) == 0) {
    hfb_shape_strides(shape, view->strides);
    return true;
  }
  int out = shape->rank - 1, in = input->shape.rank - 1;
  while (in >= 0) {
    int64_t run = input->shape.dim[in], stride = input->strides[in];
    for (; in > 0; in--) { /* one run: dimension in-1 continues dimension in */
      bool continues = input->shape.dim[in - 1] == 1 || run == 1 || input->strides[in - 1] == run * stride;
      if (!continues) break;
      if (run == 1) stride = input->strides[in - 1];
      run *= input->shape.dim[in - 1];
    }
    in--;
    for (; out >= 0 && (run > 1 || shape->dim[out] == 1); out--) {
      if (run % shape->dim[out] != 0) return false;
      view->strides[out] = stride;
      stride *= shape->dim[out];
      run /= shape->dim[out];
    }
    if (run != 1) return false;
  }
  for (; out >= 0; out--) view->strides[out] = 1; /* extents of 1 in front, or a scalar's */
  return true;
}

bool hfb_view_try(const hfb_node *node, const hfb_tensor *input, hfb_tensor *out_view) {
  *out_view = *input;
  switch (node->op) {
    case HFB_OP_RESHAPE: return view_reshape(node, input, out_view);
    case HFB_OP_TRANSPOSE: return view_transpose(node, input, out_view);
    case HFB_OP_SLICE: return view_slice(node, input, out_view);
    case HFB_OP_EXPAND: return view_expand(node, input, out_view);
    case HFB_OP_UNFOLD: return view_unfold(node, input, out_view);
    default: return false;
  }
}
