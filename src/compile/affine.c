#include "compile/affine.h"

#include <assert.h>
#include <string.h>

hfb_affine hfb_affine_zero(void) {
  hfb_affine zero;
  memset(&zero, 0, sizeof zero);
  zero.term = -1;
  return zero;
}

bool hfb_affine_equal(const hfb_affine *a, const hfb_affine *b) {
  return a->offset == b->offset && a->term == b->term && memcmp(a->coef, b->coef, sizeof a->coef) == 0;
}

bool hfb_index_map_equal(const hfb_index_map *a, const hfb_index_map *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++) {
    if (!hfb_affine_equal(&a->dim[i], &b->dim[i])) return false;
  }
  return true;
}

hfb_index_map hfb_index_map_identity(int rank) {
  assert(rank <= HFB_LOOP_MAX_RANK);
  hfb_index_map map = {.rank = rank};
  for (int i = 0; i < rank; i++) {
    map.dim[i] = hfb_affine_zero();
    map.dim[i].coef[i] = 1;
  }
  return map;
}

hfb_index_map hfb_index_map_broadcast(const hfb_index_map *map, const hfb_shape *operand) {
  hfb_index_map out = {.rank = operand->rank};
  const int lead = map->rank - operand->rank;
  for (int i = 0; i < operand->rank; i++) {
    out.dim[i] = operand->dim[i] == 1 ? hfb_affine_zero() : map->dim[lead + i];
  }
  return out;
}

/* The largest value that an affine index without a term takes; coefficients of maps are never negative here unless a
 * view runs backwards, which no op does. */
static int64_t affine_max(const hfb_affine *a, const hfb_space *space) {
  int64_t largest = a->offset;
  for (int i = 0; i < space->rank; i++) {
    if (a->coef[i] > 0) largest += a->coef[i] * (space->extent[i] - 1);
  }
  return largest;
}

/* Sum of index * stride over the dimensions [begin, end) of `shape`: the position in a row-major block of them. False
 * when a dimension is indexed by a loaded term. */
static bool linear_index(const hfb_shape *shape, const hfb_index_map *map, int begin, int end, hfb_affine *out) {
  *out = hfb_affine_zero();
  int64_t stride = 1;
  for (int d = end - 1; d >= begin; d--) {
    const hfb_affine *index = &map->dim[d];
    if (index->term >= 0) return false;
    out->offset += index->offset * stride;
    for (int i = 0; i < HFB_LOOP_MAX_RANK; i++) out->coef[i] += index->coef[i] * stride;
    stride *= shape->dim[d];
  }
  return true;
}

/* Splits a linear position into indices of dimensions [begin, end) of `shape`, outermost first: each coefficient goes
 * to the outermost dimension whose stride divides it. The result is right when no index can leave its range, which is
 * checked. */
static bool split_index(const hfb_affine *linear, const hfb_shape *shape, int begin, int end, const hfb_space *space,
                        hfb_affine *out_dims) {
  int64_t strides[HFB_MAX_RANK];
  int64_t stride = 1;
  for (int d = end - 1; d >= begin; d--) {
    strides[d] = stride;
    stride *= shape->dim[d];
  }
  for (int d = begin; d < end; d++) out_dims[d] = hfb_affine_zero();
  int64_t offset = linear->offset;
  for (int d = begin; d < end; d++) {
    if (shape->dim[d] == 1) continue;
    out_dims[d].offset = offset / strides[d];
    offset -= out_dims[d].offset * strides[d];
  }
  for (int i = 0; i < space->rank; i++) {
    int64_t coef = linear->coef[i];
    if (coef == 0 || space->extent[i] == 1) continue;
    if (coef < 0) return false;
    int target = -1;
    for (int d = begin; d < end && target < 0; d++) {
      if (shape->dim[d] != 1 && coef % strides[d] == 0) target = d;
    }
    if (target < 0) return false;
    out_dims[target].coef[i] += coef / strides[target];
  }
  for (int d = begin; d < end; d++) {
    if (affine_max(&out_dims[d], space) >= shape->dim[d]) return false;
  }
  return true;
}

/* Reshape works on groups of dimensions: the two shapes are cut where products of extents agree, and each group is
 * linearised and split on its own. Size-1 dimensions join the group before them. */
bool hfb_index_map_reshape(const hfb_shape *input, const hfb_shape *result, const hfb_space *space,
                           const hfb_index_map *map, hfb_index_map *out_map) {
  out_map->rank = input->rank;
  int in = 0, res = 0;
  while (in < input->rank || res < result->rank) {
    const int in_begin = in, res_begin = res;
    int64_t in_count = in < input->rank ? input->dim[in++] : 1;
    int64_t res_count = res < result->rank ? result->dim[res++] : 1;
    while (in_count != res_count) {
      if (in_count < res_count) {
        if (in >= input->rank) return false;
        in_count *= input->dim[in++];
      } else {
        if (res >= result->rank) return false;
        res_count *= result->dim[res++];
      }
    }
    while (in < input->rank && input->dim[in] == 1) in++;
    while (res < result->rank && result->dim[res] == 1) res++;

    /* One real dimension on both sides: the index passes through, loaded term and all. */
    int in_real = -1, res_real = -1, in_reals = 0, res_reals = 0;
    for (int d = in_begin; d < in; d++) {
      if (input->dim[d] != 1) in_real = d, in_reals++;
    }
    for (int d = res_begin; d < res; d++) {
      if (result->dim[d] != 1) res_real = d, res_reals++;
    }
    for (int d = in_begin; d < in; d++) out_map->dim[d] = hfb_affine_zero();
    if (in_reals == 0) continue;
    if (in_reals == 1 && res_reals == 1) {
      out_map->dim[in_real] = map->dim[res_real];
      continue;
    }
    hfb_affine linear;
    if (!linear_index(result, map, res_begin, res, &linear)) return false;
    if (!split_index(&linear, input, in_begin, in, space, out_map->dim)) return false;
  }
  return true;
}

bool hfb_index_map_through(const hfb_node *node, const hfb_space *space, const hfb_index_map *map,
                           hfb_index_map *out_map) {
  const hfb_shape *input = &node->inputs[0]->shape;
  const hfb_shape *result = &node->results[0].shape;
  int count = 0;
  switch (node->op) {
    case HFB_OP_RESHAPE:
      return hfb_index_map_reshape(input, result, space, map, out_map);
    case HFB_OP_TRANSPOSE: {
      const int64_t *perm = hfb_node_ints(node, HFB_ATTR_PERM, &count);
      out_map->rank = input->rank;
      for (int i = 0; i < count; i++) out_map->dim[perm[i]] = map->dim[i];
      return true;
    }
    case HFB_OP_SLICE: {
      const int64_t *starts = hfb_node_ints(node, HFB_ATTR_STARTS, &count);
      const int64_t *steps = hfb_node_ints(node, HFB_ATTR_STEPS, &count);
      out_map->rank = input->rank;
      for (int i = 0; i < count; i++) {
        if (map->dim[i].term >= 0 && steps[i] != 1) return false;
        hfb_affine index = map->dim[i];
        index.offset = index.offset * steps[i] + starts[i];
        for (int c = 0; c < HFB_LOOP_MAX_RANK; c++) index.coef[c] *= steps[i];
        out_map->dim[i] = index;
      }
      return true;
    }
    case HFB_OP_EXPAND:
      *out_map = hfb_index_map_broadcast(map, input);
      return true;
    case HFB_OP_UNFOLD: { /* element of the window + step * window */
      const int last = input->rank - 1;
      const int64_t step = hfb_node_int(node, HFB_ATTR_STEP);
      const hfb_affine *window = &map->dim[last];
      hfb_affine index = map->dim[last + 1];
      if (window->term >= 0 || index.term >= 0) return false;
      index.offset += window->offset * step;
      for (int c = 0; c < HFB_LOOP_MAX_RANK; c++) index.coef[c] += window->coef[c] * step;
      out_map->rank = input->rank;
      for (int i = 0; i < last; i++) out_map->dim[i] = map->dim[i];
      out_map->dim[last] = index;
      return true;
    }
    default:
      return false;
  }
}

/* A reshape of a strided view: each group of merged dimensions must be one block of memory. */
static bool view_reshape(const hfb_shape *input, const hfb_shape *result, const hfb_view *view, hfb_view *out) {
  int in = 0, res = 0;
  while (in < input->rank || res < result->rank) {
    const int in_begin = in, res_begin = res;
    int64_t in_count = in < input->rank ? input->dim[in++] : 1;
    int64_t res_count = res < result->rank ? result->dim[res++] : 1;
    while (in_count != res_count) {
      if (in_count < res_count) {
        if (in >= input->rank) return false;
        in_count *= input->dim[in++];
      } else {
        if (res >= result->rank) return false;
        res_count *= result->dim[res++];
      }
    }
    int64_t stride = 0, expected = -1;
    for (int d = in - 1; d >= in_begin; d--) { /* innermost stride of the group, and whether the rest follows on */
      if (input->dim[d] == 1) continue;
      if (expected < 0) stride = view->strides[d];
      else if (view->strides[d] != expected) return false;
      expected = view->strides[d] * input->dim[d];
    }
    for (int d = res - 1; d >= res_begin; d--) {
      out->strides[d] = result->dim[d] == 1 ? 0 : stride;
      stride *= result->dim[d];
    }
  }
  return true;
}

bool hfb_view_through(const hfb_node *node, const hfb_view *input_view, hfb_view *out_view) {
  const hfb_shape *input = &node->inputs[0]->shape;
  const hfb_shape *result = &node->results[0].shape;
  int count = 0;
  out_view->base = input_view->base;
  out_view->offset = input_view->offset;
  switch (node->op) {
    case HFB_OP_RESHAPE:
      return view_reshape(input, result, input_view, out_view);
    case HFB_OP_TRANSPOSE: {
      const int64_t *perm = hfb_node_ints(node, HFB_ATTR_PERM, &count);
      for (int i = 0; i < count; i++) out_view->strides[i] = input_view->strides[perm[i]];
      return true;
    }
    case HFB_OP_SLICE: {
      const int64_t *starts = hfb_node_ints(node, HFB_ATTR_STARTS, &count);
      const int64_t *steps = hfb_node_ints(node, HFB_ATTR_STEPS, &count);
      for (int i = 0; i < count; i++) {
        out_view->offset += starts[i] * input_view->strides[i];
        out_view->strides[i] = input_view->strides[i] * steps[i];
      }
      return true;
    }
    case HFB_OP_EXPAND: {
      const int lead = result->rank - input->rank;
      for (int i = 0; i < result->rank; i++) {
        const bool repeated = i < lead || (input->dim[i - lead] == 1 && result->dim[i] != 1);
        out_view->strides[i] = repeated ? 0 : input_view->strides[i - lead];
      }
      return true;
    }
    case HFB_OP_UNFOLD: {
      const int last = input->rank - 1;
      for (int i = 0; i < last; i++) out_view->strides[i] = input_view->strides[i];
      out_view->strides[last] = input_view->strides[last] * hfb_node_int(node, HFB_ATTR_STEP);
      out_view->strides[last + 1] = input_view->strides[last];
      return true;
    }
    default:
      return false;
  }
}
