#include "compile/lower.h"

#include <assert.h>
#include <string.h>

#include "compile/causal.h"
#include "device/tensor.h"

enum { MAX_TERMS = 512, MAX_SLOTS = 64, MAX_SITES = 16, MAX_STORES = HFB_STEP_MAX_RESULTS };

/* One value at one index map: lowered once. */
typedef struct memo_entry {
  const hfb_value *value;
  hfb_index_map map;
  int term;
} memo_entry;

typedef struct lowering {
  const hfb_partition *p;
  const hfb_storage *storage;
  const hfb_value *root;
  const hfb_value *tile; /* its elements come from slot 0; NULL for ROWS loops */
  hfb_space space;
  bool causal;           /* scores of a causal attention */
  int64_t reduce_extent; /* of the inner dimension; -1 without reductions */
  hfb_arena *arena;
  hfb_term *terms;
  memo_entry *memo;
  int term_count;
  const hfb_value **slots;
  int slot_count;
  int64_t sites[MAX_SITES]; /* of random masks */
  int site_count;
  const hfb_value *extras[MAX_STORES]; /* stored beside the root */
  int extra_terms[MAX_STORES];
  int extra_count;
  const hfb_value *blocked;
  bool blocked_tile, blocked_extra;
  hfb_status status;
} lowering;

static int lower_value(lowering *l, const hfb_value *value, const hfb_index_map *map);

/* The value cannot be computed here: it is stored instead, and the partition is made again. */
static int block(lowering *l, const hfb_value *value) {
  if (!l->blocked) l->blocked = value;
  return -1;
}

static int term_add(lowering *l, hfb_term term) {
  for (int i = 0; i < l->term_count; i++) {
    if (memcmp(&l->terms[i], &term, sizeof term) == 0) return i;
  }
  if (l->term_count == MAX_TERMS) {
    if (l->status == HFB_OK) {
      l->status = HFB_FAIL(HFB_UNSUPPORTED, "a fused loop of over %d operations; report the model", MAX_TERMS);
    }
    return -1;
  }
  l->terms[l->term_count] = term;
  return l->term_count++;
}

/* Zeroed, padding included, since terms are compared as bytes. */
static hfb_term term_new(hfb_term_kind kind, hfb_dtype dtype) {
  hfb_term term;
  memset(&term, 0, sizeof term);
  term.kind = kind;
  term.dtype = dtype;
  term.args[0] = term.args[1] = term.args[2] = -1;
  return term;
}

static int slot_of(lowering *l, const hfb_value *value) {
  for (int i = 0; i < l->slot_count; i++) {
    if (l->slots[i] == value) return i;
  }
  if (l->slot_count == MAX_SLOTS) {
    if (l->status == HFB_OK)
      l->status = HFB_FAIL(HFB_UNSUPPORTED, "a fused loop over more than %d tensors; report the model", MAX_SLOTS);
    return 0;
  }
  l->slots[l->slot_count] = value;
  return l->slot_count++;
}

static int scalar_term(lowering *l, hfb_dtype dtype, double value) {
  hfb_term term = term_new(HFB_TERM_SCALAR, dtype);
  term.value = value;
  return term_add(l, term);
}

static int op_term(lowering *l, hfb_op op, hfb_dtype dtype, int a, int b, double value) {
  hfb_term term = term_new(HFB_TERM_OP, dtype);
  term.op = op;
  term.args[0] = a;
  term.args[1] = b;
  term.value = value;
  return a < 0 ? -1 : term_add(l, term);
}

/* Adds value(index) * stride to the address of a load; several loaded indices become one sum. */
static void add_index(lowering *l, hfb_term *load, int index, int64_t stride) {
  if (load->args[0] < 0) {
    load->args[0] = index;
    load->index_stride = stride;
    return;
  }
  const int first = op_term(l, HFB_OP_MUL_SCALAR, HFB_I64, load->args[0], -1, (double)load->index_stride);
  const int second = op_term(l, HFB_OP_MUL_SCALAR, HFB_I64, index, -1, (double)stride);
  load->args[0] = op_term(l, HFB_OP_ADD, HFB_I64, first, second, 0);
  load->index_stride = 1;
}

static int load_term(lowering *l, const hfb_value *value, int slot, const hfb_view *view, const hfb_index_map *map) {
  hfb_term load = term_new(HFB_TERM_LOAD, value->dtype);
  load.slot = slot;
  load.offset = view->offset;
  for (int d = 0; d < map->rank; d++) {
    load.offset += map->dim[d].offset * view->strides[d];
    for (int i = 0; i < HFB_LOOP_MAX_RANK; i++) load.strides[i] += map->dim[d].coef[i] * view->strides[d];
    if (map->dim[d].term >= 0) add_index(l, &load, map->dim[d].term, view->strides[d]);
  }
  return term_add(l, load);
}

static int lower_iota(lowering *l, const hfb_value *value, const hfb_index_map *map) {
  const hfb_affine *index = &map->dim[hfb_node_int(value->node, HFB_ATTR_AXIS)];
  if (index->term >= 0) return block(l, value);
  hfb_term term = term_new(HFB_TERM_INDEX, value->dtype);
  term.offset = index->offset;
  memcpy(term.strides, index->coef, sizeof term.strides);
  return term_add(l, term);
}

static double constant_element(const hfb_value *value) {
  const hfb_tensor tensor =
      hfb_tensor_borrow(value->dtype, &value->shape, (void *)hfb_node_attr(value->node, HFB_ATTR_DATA)->u.data);
  return hfb_tensor_get(&tensor, 0);
}

static bool is_zero(const lowering *l, int term) {
  return term >= 0 && l->terms[term].kind == HFB_TERM_SCALAR && l->terms[term].value == 0;
}

/* The number of a random site among those of the loop. */
static int site_of(lowering *l, int64_t site) {
  for (int i = 0; i < l->site_count; i++) {
    if (l->sites[i] == site) return i;
  }
  if (l->site_count == MAX_SITES) {
    if (l->status == HFB_OK)
      l->status = HFB_FAIL(HFB_UNSUPPORTED, "a fused loop with over %d random masks; report the model", MAX_SITES);
    return 0;
  }
  l->sites[l->site_count] = site;
  return l->site_count++;
}

static int lower_elementwise(lowering *l, const hfb_value *value, const hfb_index_map *map) {
  const hfb_node *node = value->node;
  if (l->causal && hfb_is_causal_where(node)) { /* the attention kernel masks */
    const hfb_index_map kept = hfb_index_map_broadcast(map, &node->inputs[1]->shape);
    return lower_value(l, node->inputs[1], &kept);
  }
  hfb_term term = term_new(HFB_TERM_OP, value->dtype);
  term.op = node->op;
  for (int i = 0; i < node->input_count; i++) {
    const hfb_index_map input_map = hfb_index_map_broadcast(map, &node->inputs[i]->shape);
    term.args[i] = lower_value(l, node->inputs[i], &input_map);
    if (term.args[i] < 0) return -1;
  }
  if (l->causal && node->op == HFB_OP_ADD && is_zero(l, term.args[0])) return term.args[1];
  if (l->causal && node->op == HFB_OP_ADD && is_zero(l, term.args[1])) return term.args[0];
  if (hfb_node_attr(node, HFB_ATTR_VALUE)) term.value = hfb_node_float(node, HFB_ATTR_VALUE);
  if (node->op == HFB_OP_RANDOM_KEEP) {
    term.value = hfb_node_float(node, HFB_ATTR_P);
    term.site = site_of(l, hfb_node_int(node, HFB_ATTR_SITE));
  }
  return term_add(l, term);
}

/* The reduced axis becomes the inner dimension of the loop, so it must have its extent, and the result must not vary
 * along it. */
static int lower_reduce(lowering *l, const hfb_value *value, const hfb_index_map *map) {
  const hfb_node *node = value->node;
  const hfb_value *input = node->inputs[0];
  int axis_count = 0;
  const int axis = (int)hfb_node_ints(node, HFB_ATTR_AXES, &axis_count)[0];
  const int inner = l->space.rank - 1;
  if (l->tile || l->reduce_extent != input->shape.dim[axis]) return block(l, value);
  hfb_index_map input_map = {.rank = input->shape.rank};
  const bool keepdim = hfb_node_int(node, HFB_ATTR_KEEPDIM) != 0;
  for (int d = 0, from = 0; d < input->shape.rank; d++) {
    if (d == axis) {
      input_map.dim[d] = hfb_affine_zero();
      input_map.dim[d].coef[inner] = 1;
      from += keepdim;
      continue;
    }
    input_map.dim[d] = map->dim[from++];
    if (input_map.dim[d].coef[inner] != 0 || input_map.dim[d].term >= 0) return block(l, value);
  }
  hfb_term term = term_new(HFB_TERM_REDUCE, value->dtype);
  term.op = node->op;
  term.args[0] = lower_value(l, input, &input_map);
  return term.args[0] < 0 ? -1 : term_add(l, term);
}

/* A loaded index, kept inside [0, extent): a wrong id may give a wrong number, never a wild read. Ids that come
 * straight from an input are checked before the run. */
static int clamped_index(lowering *l, const hfb_value *index, const hfb_index_map *map, int64_t extent) {
  const int term = lower_value(l, index, map);
  const int low = op_term(l, HFB_OP_MAXIMUM, HFB_I64, term, scalar_term(l, HFB_I64, 0), 0);
  return op_term(l, HFB_OP_MINIMUM, HFB_I64, low, scalar_term(l, HFB_I64, (double)(extent - 1)), 0);
}

static int lower_gather(lowering *l, const hfb_value *value, const hfb_index_map *map) {
  const hfb_node *node = value->node;
  const hfb_value *x = node->inputs[0], *index = node->inputs[1];
  const int axis = (int)hfb_node_int(node, HFB_ATTR_AXIS);
  hfb_index_map index_map = {.rank = index->shape.rank}, x_map = {.rank = x->shape.rank};
  if (node->op == HFB_OP_TAKE_ALONG) {
    index_map = *map;
    x_map = *map;
  } else {
    for (int d = 0; d < index->shape.rank; d++) index_map.dim[d] = map->dim[axis + d];
    for (int d = 0; d < x->shape.rank; d++) {
      if (d != axis) x_map.dim[d] = map->dim[d < axis ? d : d - 1 + index->shape.rank];
    }
  }
  x_map.dim[axis] = hfb_affine_zero();
  x_map.dim[axis].term = clamped_index(l, index, &index_map, x->shape.dim[axis]);
  if (x_map.dim[axis].term < 0) return -1;
  return lower_value(l, x, &x_map);
}

/* The value is made by this loop, though it is stored. */
static bool is_own(const lowering *l, const hfb_value *value) {
  return value == l->root || (l->p->is_extra[value->id] && l->p->root[value->id] == l->root);
}

static int lower_move(lowering *l, const hfb_value *value, const hfb_index_map *map) {
  hfb_view view;
  const hfb_value *blocker = NULL;
  if (hfb_partition_view(l->p, l->storage, value, &view, &blocker) && !is_own(l, view.base)) {
    return load_term(l, value, slot_of(l, view.base), &view, map);
  }
  hfb_index_map input_map;
  const hfb_value *input = value->node->inputs[0];
  if (hfb_index_map_through(value->node, &l->space, map, &input_map)) return lower_value(l, input, &input_map);
  /* Stored, the input may still be seen through a strided view. If it is stored already, the result is copied. */
  if (input == l->tile) {
    l->blocked_tile = true;
    return block(l, input);
  }
  return block(l, hfb_partition_is_stored(l->p, input) ? value : input);
}

static int lower_tile(lowering *l, const hfb_value *value, const hfb_index_map *map) {
  int64_t row_major[HFB_MAX_RANK] = {0};
  hfb_view view = {.base = value};
  hfb_shape_strides(&value->shape, view.strides);
  const int term = load_term(l, value, 0, &view, map);
  if (term < 0) return -1;
  hfb_shape space = {.rank = l->space.rank};
  memcpy(space.dim, l->space.extent, sizeof l->space.extent);
  hfb_shape_strides(&space, row_major);
  bool identity = l->terms[term].offset == 0 && l->terms[term].args[0] < 0;
  for (int i = 0; i < l->space.rank; i++) {
    identity = identity && (l->space.extent[i] == 1 || l->terms[term].strides[i] == row_major[i]);
  }
  if (identity) { /* also along dimensions of extent 1 */
    memcpy(l->terms[term].strides, row_major, sizeof l->terms[term].strides);
    return term;
  }
  l->blocked_tile = true; /* moved about inside the loop: its tiles are no tiles of the root */
  return block(l, value);
}

static int lower_op(lowering *l, const hfb_value *value, const hfb_index_map *map) {
  if (value == l->tile) return lower_tile(l, value, map);
  if (!is_own(l, value) && hfb_partition_is_stored(l->p, value)) {
    hfb_view view = {.base = value};
    memcpy(view.strides, l->storage[value->id].strides, sizeof view.strides);
    return load_term(l, value, slot_of(l, value), &view, map);
  }
  switch (value->node->op) {
    case HFB_OP_FULL:
      return scalar_term(l, value->dtype, hfb_node_float(value->node, HFB_ATTR_VALUE));
    case HFB_OP_CONSTANT:
      return scalar_term(l, value->dtype, constant_element(value));
    case HFB_OP_IOTA:
      return lower_iota(l, value, map);
    case HFB_OP_REDUCE_SUM:
    case HFB_OP_REDUCE_MAX:
      return lower_reduce(l, value, map);
    case HFB_OP_GATHER:
    case HFB_OP_TAKE_ALONG:
      return lower_gather(l, value, map);
    case HFB_OP_RESHAPE:
    case HFB_OP_TRANSPOSE:
    case HFB_OP_SLICE:
    case HFB_OP_EXPAND:
    case HFB_OP_UNFOLD:
      return lower_move(l, value, map);
    default:
      break;
  }
  if (hfb_op_info_of(value->node->op)->op_class == HFB_CLASS_ELEMENTWISE) return lower_elementwise(l, value, map);
  if (l->status == HFB_OK) {
    l->status = HFB_FAIL(HFB_INTERNAL, "native: no lowering for op %s", hfb_op_info_of(value->node->op)->name);
  }
  return -1;
}

static int lower_value(lowering *l, const hfb_value *value, const hfb_index_map *map) {
  for (int i = 0; i < l->term_count; i++) {
    if (l->memo[i].value == value && hfb_index_map_equal(&l->memo[i].map, map)) return l->memo[i].term;
  }
  if (l->blocked || l->status != HFB_OK) return -1;
  const int term = lower_op(l, value, map);
  if (term < 0) return -1;
  memo_entry *entry = &l->memo[term]; /* one remembered name for a term is enough: terms are unique anyway */
  entry->value = value;
  entry->map = *map;
  entry->term = term;
  return term;
}

/* ---- the iteration space ---------------------------------------- */

/* Reductions want their axis innermost: the root is either as large as what is reduced (layer norm), or has one element
 * for each row (a loss). */
static bool space_of_reduction(lowering *l, const hfb_node *reduce, hfb_index_map *map) {
  const hfb_shape *shape = &l->root->shape, *input = &reduce->inputs[0]->shape;
  int count = 0;
  const int axis = (int)hfb_node_ints(reduce, HFB_ATTR_AXES, &count)[0];
  l->reduce_extent = input->dim[axis];
  if (hfb_shape_elements(shape) * l->reduce_extent == hfb_shape_elements(input)) {
    l->space.extent[l->space.rank++] = l->reduce_extent;
    return true;
  }
  if (hfb_shape_elements(shape) != hfb_shape_elements(input) || shape->rank != input->rank ||
      shape->dim[axis] != l->reduce_extent) {
    block(l, &reduce->results[0]);
    return false;
  }
  for (int d = axis; d + 1 < shape->rank; d++) l->space.extent[d] = shape->dim[d + 1]; /* dimension `axis` goes last */
  l->space.extent[shape->rank - 1] = shape->dim[axis];
  for (int d = 0; d < shape->rank; d++) {
    map->dim[d] = hfb_affine_zero();
    map->dim[d].coef[d == axis ? shape->rank - 1 : d > axis ? d - 1 : d] = 1;
  }
  return true;
}

/* Chooses the loop's dimensions, and the value and map to begin with: the root, or the input of a root that is a
 * copying reshape, since only over the input's dimensions are both addresses affine. */
static bool choose_space(lowering *l, const hfb_value **out_start, hfb_index_map *out_map) {
  const hfb_value *start = l->root->node->op == HFB_OP_RESHAPE ? l->root->node->inputs[0] : l->root;
  const hfb_shape *shape = &start->shape;
  const hfb_node *reduce = l->p->reduce[l->root->id];
  if (shape->rank >= HFB_LOOP_MAX_RANK) {
    l->status = HFB_FAIL(HFB_UNSUPPORTED, "native: a fused loop of rank %d; the limit is %d", shape->rank,
                         HFB_LOOP_MAX_RANK - 1);
    return false;
  }
  l->reduce_extent = -1;
  l->space.rank = shape->rank;
  memcpy(l->space.extent, shape->dim, (size_t)shape->rank * sizeof(int64_t));
  *out_map = hfb_index_map_identity(shape->rank);
  if (reduce && start != l->root) return block(l, start), false;
  if (reduce && !space_of_reduction(l, reduce, out_map)) return false;
  if (l->space.rank == 0) l->space.extent[l->space.rank++] = 1;
  *out_start = start;
  return true;
}

/* ---- shaping the finished loop ---------------------------------------- */

static bool strides_merge(const int64_t *strides, const int64_t *extent, int begin, int end) {
  int next = -1;
  for (int d = end - 1; d >= begin; d--) {
    if (extent[d] == 1) continue;
    if (next >= 0 && strides[d] != strides[next] * extent[next]) return false;
    next = d;
  }
  return true;
}

static void merge_strides(int64_t *strides, const int64_t *extent, int rank, int begin, int end) {
  int64_t inner = 0;
  for (int d = end - 1; d >= begin && inner == 0; d--) {
    if (extent[d] != 1) inner = strides[d];
  }
  strides[begin] = inner;
  for (int d = end; d < rank; d++) strides[begin + 1 + d - end] = strides[d];
  for (int d = rank - (end - begin) + 1; d < HFB_LOOP_MAX_RANK; d++) strides[d] = 0;
}

bool hfb_loop_merge_dims(hfb_loop *loop, int begin, int end) {
  if (end - begin <= 1) return true;
  for (int i = 0; i < loop->term_count; i++) {
    if (!strides_merge(loop->terms[i].strides, loop->extent, begin, end)) return false;
    if (loop->terms[i].kind == HFB_TERM_PADDED && loop->terms[i].pad_dim >= begin) return false;
  }
  for (int i = 0; i < loop->store_count; i++) {
    if (!strides_merge(loop->stores[i].strides, loop->extent, begin, end)) return false;
  }
  for (int i = 0; i < loop->term_count; i++)
    merge_strides(loop->terms[i].strides, loop->extent, loop->rank, begin, end);
  for (int i = 0; i < loop->store_count; i++)
    merge_strides(loop->stores[i].strides, loop->extent, loop->rank, begin, end);
  int64_t product = 1;
  for (int d = begin; d < end; d++) product *= loop->extent[d];
  loop->extent[begin] = product;
  for (int d = end; d < loop->rank; d++) loop->extent[begin + 1 + d - end] = loop->extent[d];
  loop->rank -= end - begin - 1;
  return true;
}

/* Puts a dimension of extent 1 in front. */
static void prepend_dim(hfb_loop *loop) {
  for (int i = 0; i < loop->term_count; i++) {
    memmove(loop->terms[i].strides + 1, loop->terms[i].strides, (HFB_LOOP_MAX_RANK - 1) * sizeof(int64_t));
    loop->terms[i].strides[0] = 0;
  }
  for (int i = 0; i < loop->store_count; i++) {
    memmove(loop->stores[i].strides + 1, loop->stores[i].strides, (HFB_LOOP_MAX_RANK - 1) * sizeof(int64_t));
    loop->stores[i].strides[0] = 0;
  }
  memmove(loop->extent + 1, loop->extent, (HFB_LOOP_MAX_RANK - 1) * sizeof(int64_t));
  loop->extent[0] = 1;
  loop->rank++;
}

/* Neighbouring dimensions merge wherever they can; with a reduction the inner one stays as it is. */
static void merge_all(hfb_loop *loop, bool keep_inner) {
  for (int d = loop->rank - (keep_inner ? 2 : 1); d > 0; d--) hfb_loop_merge_dims(loop, d - 1, d + 1);
}

/* A product sees its result as [batch, M, N] matrices; the loop's dimensions must merge to just these. The batch is
 * every leading dimension of the product unless its second operand is one shared matrix (a linear layer). */
static bool shape_tile(hfb_loop *loop, const hfb_node *product) {
  const hfb_shape *result = &product->results[0].shape;
  const int64_t n = result->dim[result->rank - 1];
  const int64_t m =
      product->inputs[1]->shape.rank == 2 ? hfb_shape_elements(result) / (n ? n : 1) : result->dim[result->rank - 2];
  int split = loop->rank; /* columns: the shortest tail of the dimensions with n elements */
  int64_t count = 1;
  while (split > 0 && count < n) count *= loop->extent[--split];
  if (count != n || split == loop->rank) {
    if (n != 1) return false;
    split = loop->rank;
  }
  if (split < loop->rank && !hfb_loop_merge_dims(loop, split, loop->rank)) return false;
  if (split == loop->rank) return false; /* one column only: not worth an epilogue */
  int row = split;
  count = 1;
  while (row > 0 && count < m) count *= loop->extent[--row];
  if (count != m) return false;
  if (row == split) return false;
  if (!hfb_loop_merge_dims(loop, row, split)) return false;
  if (!hfb_loop_merge_dims(loop, 0, row)) return false;
  while (loop->rank < 3) prepend_dim(loop);
  return loop->rank == 3;
}

static void swap_dims(hfb_loop *loop, int a, int b) {
  for (int i = 0; i < loop->term_count; i++) {
    const int64_t keep = loop->terms[i].strides[a];
    loop->terms[i].strides[a] = loop->terms[i].strides[b];
    loop->terms[i].strides[b] = keep;
  }
  for (int i = 0; i < loop->store_count; i++) {
    const int64_t keep = loop->stores[i].strides[a];
    loop->stores[i].strides[a] = loop->stores[i].strides[b];
    loop->stores[i].strides[b] = keep;
  }
  const int64_t extent = loop->extent[a];
  loop->extent[a] = loop->extent[b];
  loop->extent[b] = extent;
}

/* Without reductions any order of dimensions is right; the one in which the result lies in memory is best. */
static void order_by_store(hfb_loop *loop) {
  const int64_t *strides = loop->stores[0].strides;
  for (int d = 1; d < loop->rank; d++) {
    for (int k = d; k > 0 && loop->extent[k] != 1 && strides[k - 1] < strides[k]; k--) swap_dims(loop, k - 1, k);
  }
}

/* Rows of a few elements cost more than their elements: the dimension before them becomes the inner one, even if the
 * result is then written with a stride (the update of a convolution's weight, [out,in,kernel]). */
static void widen_rows(hfb_loop *loop) {
  enum { FEW = 8, MANY = 32 };
  const int inner = loop->rank - 1;
  if (inner < 1 || loop->extent[inner] > FEW || loop->extent[inner - 1] < MANY) return;
  for (int i = 0; i < loop->term_count; i++) {
    if (loop->terms[i].kind == HFB_TERM_PADDED) return; /* names its dimension */
  }
  swap_dims(loop, inner - 1, inner);
}

/* A loop that merged into one dimension would be one row, for one thread: cut into rows again. */
static void split_single_row(hfb_loop *loop) {
  enum { MIN_ELEMENTS = 16384, MAX_INNER = 4096, MIN_INNER = 64 };
  if (loop->rank != 1 || loop->extent[0] < MIN_ELEMENTS) return;
  int64_t inner = MAX_INNER;
  while (inner >= MIN_INNER && loop->extent[0] % inner != 0) inner--;
  if (inner < MIN_INNER) return;
  loop->rank = 2;
  loop->extent[0] /= inner;
  loop->extent[1] = inner;
  for (int i = 0; i < loop->term_count; i++) {
    loop->terms[i].strides[1] = loop->terms[i].strides[0];
    loop->terms[i].strides[0] *= inner;
  }
  for (int i = 0; i < loop->store_count; i++) {
    loop->stores[i].strides[1] = loop->stores[i].strides[0];
    loop->stores[i].strides[0] *= inner;
  }
}

static void mark_per_row(hfb_loop *loop) {
  const int inner = loop->rank - 1;
  for (int i = 0; i < loop->term_count; i++) {
    hfb_term *term = &loop->terms[i];
    bool varies = term->kind == HFB_TERM_LOAD || term->kind == HFB_TERM_INDEX ? term->strides[inner] != 0 : false;
    if (term->kind == HFB_TERM_PADDED && term->pad_dim == inner) varies = true;
    if (term->kind != HFB_TERM_REDUCE) {
      for (int a = 0; a < 3; a++) varies = varies || (term->args[a] >= 0 && !loop->terms[term->args[a]].per_row);
    }
    term->per_row = !varies;
  }
}

/* The slots of the values, and one more for the sites of random masks. */
static hfb_status add_slots(lowering *l, hfb_loop *loop, hfb_lowered *out) {
  const size_t count = (size_t)l->slot_count + 1;
  loop->slot_dtypes = hfb_arena_alloc(l->arena, count, sizeof *loop->slot_dtypes);
  out->slot_values = hfb_arena_alloc(l->arena, count, sizeof *out->slot_values);
  loop->sites = hfb_arena_alloc(l->arena, (size_t)l->site_count + 1, sizeof *loop->sites);
  if (!loop->slot_dtypes || !out->slot_values || !loop->sites) return HFB_OUT_OF_MEMORY;
  for (int i = 0; i < l->slot_count; i++) {
    out->slot_values[i] = l->slots[i];
    loop->slot_dtypes[i] = l->slots[i] ? l->slots[i]->dtype : l->root->dtype;
  }
  loop->slot_count = l->slot_count;
  loop->site_count = l->site_count;
  memcpy(loop->sites, l->sites, (size_t)l->site_count * sizeof *loop->sites);
  if (l->site_count > 0) {
    loop->site_slot = loop->slot_count++;
    loop->slot_dtypes[loop->site_slot] = HFB_I64;
  }
  return l->status;
}

/* Where the elements of a stored value of the loop's own go; `shape` is the one that `map` belongs to. */
static void set_store(lowering *l, const hfb_value *value, const hfb_shape *shape, const hfb_index_map *map, int term,
                      hfb_store *store) {
  int64_t strides[HFB_MAX_RANK];
  store->term = term;
  store->slot = slot_of(l, value);
  if (hfb_shape_equal(shape, &value->shape)) memcpy(strides, l->storage[value->id].strides, sizeof strides);
  else hfb_shape_strides(shape, strides); /* the root is row-major, and so is its reshape */
  for (int d = 0; d < map->rank; d++) {
    for (int i = 0; i < HFB_LOOP_MAX_RANK; i++) store->strides[i] += map->dim[d].coef[i] * strides[d];
  }
}

/* Copies the terms out of the work area and adds the stores of the root and of the extras. */
static hfb_status build_loop(lowering *l, int root_term, const hfb_value *start, const hfb_index_map *map,
                             hfb_lowered *out) {
  hfb_loop *loop = hfb_arena_alloc(l->arena, 1, sizeof *loop);
  if (!loop) return HFB_OUT_OF_MEMORY;
  loop->terms = hfb_arena_alloc(l->arena, (size_t)l->term_count, sizeof *loop->terms);
  loop->stores = hfb_arena_alloc(l->arena, (size_t)l->extra_count + 1, sizeof *loop->stores);
  if (!loop->terms || !loop->stores) return HFB_OUT_OF_MEMORY;
  loop->kind = !l->tile ? HFB_LOOP_ROWS : l->p->is_score[l->root->id] ? HFB_LOOP_SCORE : HFB_LOOP_TILE;
  loop->rank = l->space.rank;
  memcpy(loop->extent, l->space.extent, sizeof loop->extent);
  loop->term_count = l->term_count;
  memcpy(loop->terms, l->terms, (size_t)l->term_count * sizeof *l->terms);
  loop->store_count = 1 + l->extra_count;
  if (l->tile) { /* rewritten in place */
    int64_t row_major[HFB_MAX_RANK];
    hfb_shape space = {.rank = l->space.rank};
    memcpy(space.dim, l->space.extent, sizeof l->space.extent);
    hfb_shape_strides(&space, row_major);
    loop->stores[0].term = root_term;
    memcpy(loop->stores[0].strides, row_major, sizeof loop->stores[0].strides);
  } else {
    set_store(l, l->root, &start->shape, map, root_term, &loop->stores[0]);
  }
  for (int i = 0; i < l->extra_count; i++)
    set_store(l, l->extras[i], &start->shape, map, l->extra_terms[i], &loop->stores[1 + i]);
  out->loop = loop;
  return add_slots(l, loop, out);
}

/* The terms of the values that the loop stores beside its root. */
static void lower_extras(lowering *l, const hfb_value *start, const hfb_index_map *map) {
  const hfb_graph *graph = l->p->graph;
  if (!l->p->has_extras[l->root->id]) return;
  for (int i = 0; i < l->root->node->id && !l->blocked && l->status == HFB_OK; i++) {
    const hfb_value *value = &graph->nodes[i]->results[0];
    if (!l->p->is_extra[value->id] || l->p->root[value->id] != l->root) continue;
    if (start != l->root || l->extra_count == MAX_STORES - 1) {
      l->blocked_extra = true;
      block(l, value);
      return;
    }
    l->extras[l->extra_count] = value;
    l->extra_terms[l->extra_count++] = lower_value(l, value, map);
  }
}

static hfb_status finish_loop(lowering *l, hfb_lowered *out) {
  if (out->loop->kind == HFB_LOOP_ROWS) {
    if (l->reduce_extent < 0) order_by_store(out->loop);
    merge_all(out->loop, l->reduce_extent >= 0);
    if (l->reduce_extent < 0) {
      widen_rows(out->loop);
      split_single_row(out->loop);
    }
  } else if (out->loop->kind == HFB_LOOP_SCORE) {
    while (out->loop->rank < 4) prepend_dim(out->loop);
  } else if (!shape_tile(out->loop, l->tile->node)) {
    out->blocked = l->tile;
    out->blocked_tile = true;
    out->loop = NULL;
    return HFB_OK;
  }
  mark_per_row(out->loop);
  return HFB_OK;
}

hfb_status hfb_lower_root(const hfb_partition *partition, const hfb_storage *storage, const hfb_value *root,
                          hfb_arena *arena, hfb_lowered *out_lowered) {
  lowering l = {.p = partition, .storage = storage, .root = root, .tile = partition->tile[root->id], .arena = arena};
  hfb_index_map map;
  memset(out_lowered, 0, sizeof *out_lowered);
  hfb_status status = hfb_mem_alloc(MAX_TERMS, sizeof *l.terms, &l.terms);
  if (status == HFB_OK) status = hfb_mem_alloc(MAX_TERMS, sizeof *l.memo, &l.memo);
  if (status == HFB_OK) status = hfb_mem_alloc(MAX_SLOTS, sizeof *l.slots, &l.slots);
  if (status == HFB_OK) {
    if (l.tile) l.slot_count = 1; /* slot 0: the tile */
    l.causal = partition->is_score[root->id] && hfb_is_causal_scores(root);
    const hfb_value *start = NULL;
    int term = -1;
    if (choose_space(&l, &start, &map)) term = start == root ? lower_op(&l, root, &map) : lower_value(&l, start, &map);
    if (term >= 0 && !l.blocked) lower_extras(&l, start, &map);
    status = l.status;
    if (status == HFB_OK && term >= 0 && !l.blocked) status = build_loop(&l, term, start, &map, out_lowered);
    if (status == HFB_OK && out_lowered->loop) status = finish_loop(&l, out_lowered);
    if (l.blocked) {
      out_lowered->blocked = l.blocked;
      out_lowered->blocked_tile = l.blocked_tile;
      out_lowered->blocked_extra = l.blocked_extra;
    }
  }
  hfb_mem_free(l.terms);
  hfb_mem_free(l.memo);
  hfb_mem_free(l.slots);
  return status;
}
