/* Index maps against brute force: the element that a map names must be the element that the movement op moves there. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "compile/affine.h"
#include "ir/builder.h"

static int64_t evaluate(const hfb_affine *a, const int64_t *index) {
  int64_t at = a->offset;
  for (int i = 0; i < HFB_LOOP_MAX_RANK; i++) at += a->coef[i] * index[i];
  return at;
}

/* Row-major position of the element of a value that `map` names at a point of the space. */
static int64_t position(const hfb_shape *shape, const hfb_index_map *map, const int64_t *index) {
  int64_t strides[HFB_MAX_RANK], at = 0;
  hfb_shape_strides(shape, strides);
  assert_int_equal(map->rank, shape->rank);
  for (int d = 0; d < shape->rank; d++) {
    const int64_t i = evaluate(&map->dim[d], index);
    assert_true(i >= 0 && i < shape->dim[d]);
    at += i * strides[d];
  }
  return at;
}

static bool next_index(const hfb_shape *shape, int64_t *index) {
  for (int d = shape->rank - 1; d >= 0; d--) {
    if (++index[d] < shape->dim[d]) return true;
    index[d] = 0;
  }
  return false;
}

/* Element of the input that the op puts at `index` of its result, from the op's definition. */
static int64_t source_position(const hfb_node *node, const int64_t *index) {
  const hfb_shape *in = &node->inputs[0]->shape, *out = &node->results[0].shape;
  int64_t in_strides[HFB_MAX_RANK], out_strides[HFB_MAX_RANK], at = 0;
  int count = 0;
  hfb_shape_strides(in, in_strides);
  hfb_shape_strides(out, out_strides);
  for (int d = 0; d < out->rank; d++) {
    switch (node->op) {
      case HFB_OP_RESHAPE:
        at += index[d] * out_strides[d];
        break;
      case HFB_OP_TRANSPOSE:
        at += index[d] * in_strides[hfb_node_ints(node, HFB_ATTR_PERM, &count)[d]];
        break;
      case HFB_OP_SLICE:
        at += (index[d] * hfb_node_ints(node, HFB_ATTR_STEPS, &count)[d] +
               hfb_node_ints(node, HFB_ATTR_STARTS, &count)[d]) *
              in_strides[d];
        break;
      case HFB_OP_UNFOLD:
        if (d < in->rank - 1) at += index[d] * in_strides[d];
        else at += index[d] * (d == in->rank - 1 ? hfb_node_int(node, HFB_ATTR_STEP) : 1) * in_strides[in->rank - 1];
        break;
      default: { /* expand */
        const int own = d - (out->rank - in->rank);
        if (own >= 0 && in->dim[own] != 1) at += index[d] * in_strides[own];
      }
    }
  }
  return at;
}

static hfb_philox stream;
static uint64_t draws;
static int64_t draw(int64_t bound) { return hfb_philox_below(stream, draws++, bound); }

static hfb_value *random_move(hfb_builder *b, hfb_value *x) {
  const int rank = x->shape.rank;
  switch (draw(5)) {
    case 0: { /* merge or split or squeeze, at a random place */
      int64_t dims[HFB_MAX_RANK];
      int n = 0;
      for (int d = 0; d < rank; d++) {
        const int64_t extent = x->shape.dim[d];
        if (n > 0 && draw(3) == 0) dims[n - 1] *= extent;
        else if (extent % 2 == 0 && extent > 2 && n < 4 && draw(2) == 0) dims[n++] = 2, dims[n++] = extent / 2;
        else dims[n++] = extent;
      }
      if (n < 5 && draw(3) == 0) dims[n++] = 1;
      return n > 5 ? x : hfb_reshape(b, x, n, dims);
    }
    case 1: {
      int perm[HFB_MAX_RANK];
      for (int d = 0; d < rank; d++) perm[d] = d;
      for (int d = rank - 1; d > 0; d--) {
        const int other = (int)draw(d + 1), keep = perm[d];
        perm[d] = perm[other];
        perm[other] = keep;
      }
      return hfb_transpose(b, x, perm);
    }
    case 2: {
      if (rank == 0 || rank >= 5) return x;
      const int64_t extent = x->shape.dim[rank - 1], window = 1 + draw(extent);
      return hfb_unfold(b, x, window, 1 + draw(3));
    }
    case 3: {
      if (rank == 0) return x;
      const int axis = (int)draw(rank);
      const int64_t start = draw(x->shape.dim[axis]);
      return hfb_slice(b, x, axis, start, start + 1 + draw(x->shape.dim[axis] - start));
    }
    default: {
      if (rank >= 5) return x;
      int64_t dims[HFB_MAX_RANK];
      dims[0] = 1 + draw(3);
      for (int d = 0; d < rank; d++) dims[d + 1] = x->shape.dim[d] == 1 ? 1 + draw(3) : x->shape.dim[d];
      return hfb_expand(b, x, rank + 1, dims);
    }
  }
}

/* Chains of movement ops: where the map goes through, it must name the right element; where the view goes through, its
 * strides must. */
static void maps_and_views_name_the_right_element(void **state) {
  const uint64_t seed = 20261122;
  stream = hfb_philox_named(seed, "test_affine");
  const int64_t end = hfb_clock_ns() + 800 * 1000000ll;
  int64_t through = 0, views = 0, cases = 0;
  while (hfb_clock_ns() < end) {
    hfb_builder b;
    assert_int_equal(hfb_builder_init(&b, "moves"), HFB_OK);
    int64_t dims[4];
    const int rank = 1 + (int)draw(4);
    for (int d = 0; d < rank; d++) dims[d] = 1 + draw(6);
    hfb_value *x = hfb_input(&b, "x", HFB_F32, hfb_shape_of(rank, dims));
    hfb_value *y = random_move(&b, x);
    assert_non_null(y);
    if (y != x) {
      const hfb_node *node = y->node;
      hfb_space space = {.rank = y->shape.rank};
      memcpy(space.extent, y->shape.dim, sizeof space.extent);
      const hfb_index_map map = hfb_index_map_identity(y->shape.rank);
      hfb_index_map input_map;
      hfb_view view = {.base = x}, moved;
      hfb_shape_strides(&x->shape, view.strides);
      const bool maps = hfb_index_map_through(node, &space, &map, &input_map);
      const bool is_view = hfb_view_through(node, &view, &moved);
      int64_t index[HFB_MAX_RANK] = {0};
      do {
        const int64_t expected = source_position(node, index);
        if (maps) assert_int_equal(position(&x->shape, &input_map, index), expected);
        int64_t at = moved.offset;
        for (int d = 0; is_view && d < y->shape.rank; d++) at += index[d] * moved.strides[d];
        if (is_view) assert_int_equal(at, expected);
      } while (next_index(&y->shape, index));
      if (node->op != HFB_OP_RESHAPE) assert_true(maps);
      assert_true(is_view); /* of a row-major tensor every movement is a view */
      through += maps;
      views += is_view;
      cases++;
    }
    hfb_builder_deinit(&b);
  }
  if (through < 100 || views < 100)
    fail_msg("seed %llu: too few cases: %lld maps, %lld views of %lld", (unsigned long long)seed, (long long)through,
             (long long)views, (long long)cases);
}

/* [batch * heads, q, k] seen as [batch, heads, q, k] merges an index; the other way round splits one, which is no
 * map. */
static void splitting_an_index_is_refused(void **state) {
  const hfb_shape merged = hfb_shape_of(2, (int64_t[]){6, 5}), split = hfb_shape_of(3, (int64_t[]){2, 3, 5});
  hfb_space space = {.rank = 3, .extent = {2, 3, 5}};
  hfb_index_map map = hfb_index_map_identity(3), out;
  assert_true(hfb_index_map_reshape(&merged, &split, &space, &map, &out));
  assert_int_equal(out.dim[0].coef[0], 3);
  assert_int_equal(out.dim[0].coef[1], 1);
  hfb_space flat = {.rank = 2, .extent = {6, 5}};
  map = hfb_index_map_identity(2);
  assert_false(hfb_index_map_reshape(&split, &merged, &flat, &map, &out));
}

/* A loaded index passes through a reshape that leaves its dimension alone, and stops one that does not. */
static void loaded_indices_pass_only_untouched_dimensions(void **state) {
  const hfb_shape from = hfb_shape_of(2, (int64_t[]){7, 4}), to = hfb_shape_of(3, (int64_t[]){1, 7, 4});
  hfb_space space = {.rank = 1, .extent = {4}};
  hfb_index_map map = {.rank = 3}, out;
  for (int d = 0; d < 3; d++) map.dim[d] = hfb_affine_zero();
  map.dim[1].term = 12;
  map.dim[2].coef[0] = 1;
  assert_true(hfb_index_map_reshape(&from, &to, &space, &map, &out));
  assert_int_equal(out.dim[0].term, 12);
  const hfb_shape flat = hfb_shape_of(1, (int64_t[]){28});
  assert_false(hfb_index_map_reshape(&flat, &to, &space, &map, &out));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(maps_and_views_name_the_right_element),
      cmocka_unit_test(splitting_an_index_is_refused),
      cmocka_unit_test(loaded_indices_pass_only_untouched_dimensions),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
