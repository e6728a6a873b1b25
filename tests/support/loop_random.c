#include "support/loop_random.h"

#include <assert.h>
#include <math.h>
#include <string.h>

int64_t random_below(random_source *random, int64_t bound) {
  return hfb_philox_below(random->stream, random->next++, bound);
}

static bool chance(loop_case *c, int percent) {
  return random_below(&c->random, 100) < percent;
}

#define PICK(c, ...) \
  (((const int64_t[]){__VA_ARGS__})[random_below(&(c)->random, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))])

/* ---- slots and accesses ---- */

static int slot_add(loop_case *c, hfb_dtype dtype, int64_t elements) {
  assert(c->loop.slot_count < LOOP_CASE_SLOTS);
  const int slot = c->loop.slot_count++;
  c->dtypes[slot] = dtype;
  c->elements[slot] = elements;
  c->bound[slot] = 100;
  return slot;
}

/* Strides and an offset over a box of indices [low, high), in a random order of dimensions, with holes and backward
 * dimensions now and then. `broadcast`: dimensions may be left out. Returns the elements that are spanned. */
static int64_t random_access(loop_case *c, const int64_t *low, const int64_t *high, bool broadcast, int64_t *offset,
                             int64_t *strides) {
  const int rank = c->loop.rank;
  int order[HFB_LOOP_MAX_RANK];
  for (int d = 0; d < rank; d++) order[d] = d;
  for (int d = rank - 1; d > 0 && chance(c, 25); d--) { /* mostly row-major */
    const int other = (int)random_below(&c->random, d + 1), kept = order[d];
    order[d] = order[other];
    order[other] = kept;
  }
  int64_t stride = chance(c, 8) ? 2 : 1;
  *offset = chance(c, 10) ? 3 : 0;
  int64_t span = *offset + 1;
  for (int i = rank - 1; i >= 0; i--) {
    const int d = order[i];
    const int64_t extent = high[d] > low[d] ? high[d] - low[d] : 0;
    strides[d] = 0;
    if (broadcast && chance(c, 20)) continue;
    const bool backward = chance(c, 5);
    strides[d] = backward ? -stride : stride;
    *offset += backward ? stride * (high[d] - 1) : -stride * low[d];
    span += stride * (extent > 0 ? extent - 1 : 0);
    stride *= extent > 0 ? extent : 1;
    if (chance(c, 5)) stride += 3; /* a row stride larger than the row */
  }
  return span;
}

/* ---- terms ---- */

static int term_add(loop_case *c, hfb_term term) {
  assert(c->loop.term_count < LOOP_CASE_TERMS);
  const int inner = c->loop.rank - 1, arg_count = term.kind == HFB_TERM_SCALAR || term.kind == HFB_TERM_INDEX ? 0 : 3;
  term.per_row = true;
  if (term.kind == HFB_TERM_LOAD || term.kind == HFB_TERM_INDEX) term.per_row = term.strides[inner] == 0;
  if (term.kind == HFB_TERM_PADDED && term.pad_dim == inner) term.per_row = false;
  for (int i = 0; i < arg_count && term.kind != HFB_TERM_REDUCE; i++) {
    if (term.args[i] >= 0 && !c->terms[term.args[i]].per_row) term.per_row = false;
  }
  c->terms[c->loop.term_count] = term;
  return c->loop.term_count++;
}

static hfb_term term_new(hfb_term_kind kind, hfb_dtype dtype) {
  return (hfb_term){.kind = kind, .dtype = dtype, .args = {-1, -1, -1}};
}

static int scalar(loop_case *c, hfb_dtype dtype, double value) {
  hfb_term term = term_new(HFB_TERM_SCALAR, dtype);
  term.value = value;
  return term_add(c, term);
}

static int op(loop_case *c, hfb_op op, hfb_dtype dtype, int x, int y, int z) {
  hfb_term term = term_new(HFB_TERM_OP, dtype);
  term.op = op;
  term.args[0] = x;
  term.args[1] = y;
  term.args[2] = z;
  term.value = hfb_dtype_is_float(dtype) ? (double)PICK(c, -3, 1, 2, 5) / 4 : (double)PICK(c, -2, 0, 1, 3);
  return term_add(c, term);
}

static int find_term(loop_case *c, hfb_dtype dtype);

static double random_literal(loop_case *c, hfb_dtype dtype) {
  if (dtype == HFB_BOOL) return (double)PICK(c, 0, 1);
  if (!hfb_dtype_is_float(dtype)) return (double)PICK(c, 0, 1, 7);
  return chance(c, 5) ? -INFINITY : (double)PICK(c, -9, 0, 1, 4) / 8;
}

static bool has_room(const loop_case *c) {
  return c->loop.term_count + 16 < LOOP_CASE_TERMS && c->loop.slot_count + 16 < LOOP_CASE_SLOTS;
}

/* A term that is certainly not used by PADDED terms alone may be picked again; others must stay theirs. */
static bool is_private(const loop_case *c, int t) {
  for (int u = t + 1; u < c->loop.term_count; u++) {
    if (c->terms[u].kind == HFB_TERM_PADDED && c->terms[u].args[0] == t) return true;
    const bool inside = c->terms[u].kind == HFB_TERM_OP && c->terms[u].args[0] == t && c->terms[u].args[1] < 0;
    if (inside && is_private(c, u)) return true;
  }
  return false;
}

static const int64_t zeros[HFB_LOOP_MAX_RANK];

static int plain_load(loop_case *c, hfb_dtype dtype) {
  hfb_term term = term_new(HFB_TERM_LOAD, dtype);
  const int64_t span = random_access(c, zeros, c->loop.extent, true, &term.offset, term.strides);
  term.slot = slot_add(c, dtype, span);
  if (dtype == HFB_I64 && chance(c, 25)) c->bound[term.slot] = INT64_C(3) << 30; /* beyond 32 bits too */
  return term_add(c, term);
}

/* Another load of a slot that is loaded already, at the same place or a little further on. */
static int second_load(loop_case *c, hfb_dtype dtype) {
  for (int t = 0; t < c->loop.term_count; t++) {
    hfb_term term = c->terms[t];
    const bool tile = term.slot == 0 && c->loop.kind != HFB_LOOP_ROWS;
    if (term.kind != HFB_TERM_LOAD || term.dtype != dtype || tile || is_private(c, t) || chance(c, 40)) continue;
    const int64_t shift = PICK(c, 0, 1, 3);
    term.offset += shift;
    c->elements[term.slot] += shift;
    return term_add(c, term);
  }
  return plain_load(c, dtype);
}

/* Rows of a table, chosen by an index that is clamped to the table. */
static int indexed_load(loop_case *c, hfb_dtype dtype) {
  const int64_t table_rows = PICK(c, 1, 5, 30);
  const int raw = find_term(c, HFB_I64);
  const int low = op(c, HFB_OP_MAXIMUM, HFB_I64, raw, scalar(c, HFB_I64, 0), -1);
  hfb_term term = term_new(HFB_TERM_LOAD, dtype);
  term.args[0] = op(c, HFB_OP_MINIMUM, HFB_I64, low, scalar(c, HFB_I64, (double)(table_rows - 1)), -1);
  const int64_t span = random_access(c, zeros, c->loop.extent, true, &term.offset, term.strides);
  term.index_stride = span;
  term.slot = slot_add(c, dtype, span * table_rows);
  return term_add(c, term);
}

/* A load that only exists inside of a window of one or two dimensions: memory outside of it must not be touched. */
static int padded_load(loop_case *c, hfb_dtype dtype) {
  int64_t low[HFB_LOOP_MAX_RANK] = {0}, high[HFB_LOOP_MAX_RANK];
  memcpy(high, c->loop.extent, sizeof high);
  int dims[2], count = 1 + chance(c, 40);
  for (int i = 0; i < count; i++) {
    dims[i] = chance(c, 50) ? c->loop.rank - 1 : (int)random_below(&c->random, c->loop.rank);
    const int64_t extent = c->loop.extent[dims[i]];
    low[dims[i]] = random_below(&c->random, extent + 1);
    high[dims[i]] = low[dims[i]] + random_below(&c->random, extent - low[dims[i]] + 1);
  }
  hfb_term term = term_new(HFB_TERM_LOAD, dtype);
  const int64_t span = random_access(c, low, high, false, &term.offset, term.strides);
  term.slot = slot_add(c, dtype, span);
  int value = term_add(c, term);
  if (dtype == HFB_F32 && chance(c, 30)) value = op(c, HFB_OP_MUL_SCALAR, dtype, value, -1, -1);
  for (int i = 0; i < count; i++) {
    hfb_term padded = term_new(HFB_TERM_PADDED, dtype);
    padded.args[0] = value;
    padded.pad_dim = dims[i];
    padded.low = low[dims[i]];
    padded.high = high[dims[i]];
    padded.value = random_literal(c, dtype);
    value = term_add(c, padded);
  }
  return value;
}

static int index_term(loop_case *c, hfb_dtype dtype) {
  hfb_term term = term_new(HFB_TERM_INDEX, dtype);
  term.offset = PICK(c, 0, 0, -4, 1000);
  for (int d = 0; d < c->loop.rank; d++) term.strides[d] = PICK(c, 0, 1, 1, -1, 12);
  if (dtype == HFB_I64 && chance(c, 10)) term.strides[0] = INT64_C(1) << 33; /* does not fit into 32 bits */
  return term_add(c, term);
}

static int find_term(loop_case *c, hfb_dtype dtype) {
  for (int tries = 0; tries < 6 && c->loop.term_count > 0; tries++) {
    const int recent = c->loop.term_count < 6 || chance(c, 40) ? c->loop.term_count : 6;
    const int t = c->loop.term_count - 1 - (int)random_below(&c->random, recent);
    if (c->terms[t].dtype == dtype && !is_private(c, t)) return t;
  }
  if (!has_room(c) || chance(c, 15)) return scalar(c, dtype, random_literal(c, dtype));
  const bool indexable = dtype == HFB_I64 || dtype == HFB_F32;
  if (indexable && chance(c, dtype == HFB_I64 ? 40 : 10)) return index_term(c, dtype);
  if (chance(c, 20)) return padded_load(c, dtype);
  if (chance(c, 40)) return second_load(c, dtype);
  if (dtype != HFB_I64 && chance(c, 10)) return indexed_load(c, dtype);
  return plain_load(c, dtype);
}

/* Most arguments are kept where a function is neither nan nor infinite. */
static int tamed(loop_case *c, hfb_op which, int x) {
  const hfb_dtype dtype = c->terms[x].dtype;
  const bool positive = which == HFB_OP_LOG || which == HFB_OP_SQRT || which == HFB_OP_RSQRT;
  if (positive && chance(c, 90)) return op(c, HFB_OP_ABS, dtype, x, -1, -1);
  if (which == HFB_OP_EXP && chance(c, 90)) return op(c, HFB_OP_MINIMUM, dtype, x, scalar(c, dtype, 3), -1);
  return x;
}

static void row_major(const int64_t *extent, int rank, int64_t *strides) {
  int64_t stride = 1;
  for (int d = rank - 1; d >= 0; d--) {
    strides[d] = stride;
    stride *= extent[d];
  }
}

/* The seed or the step of masks: one number in memory, or one for each row. */
static int random_state(loop_case *c) {
  if (chance(c, 10)) return scalar(c, HFB_I64, (double)PICK(c, 0, 3, 1000));
  hfb_term term = term_new(HFB_TERM_LOAD, HFB_I64);
  int64_t box[HFB_LOOP_MAX_RANK] = {1, 1, 1, 1, 1, 1};
  if (chance(c, 20)) memcpy(box, c->loop.extent, (size_t)(c->loop.rank - 1) * sizeof *box);
  const int64_t span = random_access(c, zeros, box, true, &term.offset, term.strides);
  for (int d = 0; d < c->loop.rank; d++) term.strides[d] = box[d] == 1 ? 0 : term.strides[d];
  term.slot = slot_add(c, HFB_I64, span);
  c->bound[term.slot] = INT64_C(1) << 40;
  return term_add(c, term);
}

/* Mostly the elements of a tensor in their order, from anywhere on. */
static int random_mask(loop_case *c) {
  int index;
  if (chance(c, 80)) {
    hfb_term term = term_new(HFB_TERM_INDEX, HFB_I64);
    row_major(c->loop.extent, c->loop.rank, term.strides);
    term.offset = PICK(c, 0, 0, 0, 64, 13, -70, INT64_C(1) << 40);
    if (chance(c, 20)) term.strides[0] += PICK(c, 1, 64);
    index = term_add(c, term);
  } else {
    index = find_term(c, HFB_I64);
  }
  const int seed = random_state(c), step = random_state(c);
  if (c->loop.site_count == 0) c->loop.site_slot = slot_add(c, HFB_I64, LOOP_CASE_SITES);
  if (c->loop.site_count < LOOP_CASE_SITES) c->loop.site_count++;
  const int keep = op(c, HFB_OP_RANDOM_KEEP, HFB_BOOL, index, seed, step);
  c->terms[keep].value = (double)PICK(c, 0, 1, 1, 5, 9, 10) / 10;
  c->terms[keep].site = c->loop.site_count - 1;
  return keep;
}

static int reduce(loop_case *c, hfb_dtype dtype) {
  hfb_term term = term_new(HFB_TERM_REDUCE, dtype);
  term.op = chance(c, 50) ? HFB_OP_REDUCE_SUM : HFB_OP_REDUCE_MAX;
  term.args[0] = find_term(c, dtype);
  return term_add(c, term);
}

/* What layer norms and softmaxes look like: a value, its reduction, the two combined, and the like again. */
static void normalise(loop_case *c, hfb_dtype dtype) {
  static const hfb_op functions[] = {HFB_OP_TANH, HFB_OP_ERF, HFB_OP_ABS, HFB_OP_COS};
  int x = find_term(c, dtype);
  if (chance(c, 50)) x = op(c, HFB_OP_ADD, dtype, x, find_term(c, dtype), -1);
  for (int64_t steps = PICK(c, 1, 1, 2, 3); steps > 0 && has_room(c); steps--) {
    hfb_term term = term_new(HFB_TERM_REDUCE, dtype);
    term.op = chance(c, 50) ? HFB_OP_REDUCE_SUM : HFB_OP_REDUCE_MAX;
    term.args[0] = x;
    const int reduced = term_add(c, term);
    x = op(c, chance(c, 70) ? HFB_OP_SUB : HFB_OP_MAXIMUM, dtype, x, reduced, -1);
    if (chance(c, 60)) x = op(c, functions[random_below(&c->random, 4)], dtype, x, -1, -1);
  }
}

static void random_operation(loop_case *c, hfb_dtype main_dtype) {
  static const hfb_op floats[] = {
      HFB_OP_NEG, HFB_OP_ABS,  HFB_OP_EXP, HFB_OP_LOG,     HFB_OP_SQRT,    HFB_OP_RSQRT,      HFB_OP_SIN,
      HFB_OP_COS, HFB_OP_TANH, HFB_OP_ERF, HFB_OP_ADD,     HFB_OP_SUB,     HFB_OP_MUL,        HFB_OP_DIV,
      HFB_OP_ADD, HFB_OP_MUL,  HFB_OP_SUB, HFB_OP_MAXIMUM, HFB_OP_MINIMUM, HFB_OP_ADD_SCALAR, HFB_OP_MUL_SCALAR};
  static const hfb_op integers[] = {HFB_OP_NEG,     HFB_OP_ABS,     HFB_OP_ADD,        HFB_OP_SUB,       HFB_OP_MUL,
                                    HFB_OP_MAXIMUM, HFB_OP_MINIMUM, HFB_OP_ADD_SCALAR, HFB_OP_MUL_SCALAR};
  static const hfb_op compares[] = {HFB_OP_EQ, HFB_OP_NE, HFB_OP_LT, HFB_OP_LE};
  static const hfb_op logical[] = {HFB_OP_AND, HFB_OP_OR, HFB_OP_NOT};
  const hfb_dtype dtypes[] = {main_dtype, HFB_I64, HFB_BOOL, HFB_I32, HFB_F32, HFB_U8};
  switch (random_below(&c->random, 11)) {
    case 10: {
      const int keep = random_mask(c), x = find_term(c, main_dtype);
      const int scaled = op(c, HFB_OP_MUL_SCALAR, main_dtype, x, -1, -1);
      if (c->terms[keep].value < 1) op(c, HFB_OP_WHERE, main_dtype, keep, scaled, scalar(c, main_dtype, 0));
      return;
    }
    case 0: {
      const hfb_dtype dtype = dtypes[random_below(&c->random, 2)];
      const int x = find_term(c, dtype), y = find_term(c, dtype);
      op(c, compares[random_below(&c->random, 4)], HFB_BOOL, x, y, -1);
      return;
    }
    case 1: {
      const hfb_op which = logical[random_below(&c->random, 3)];
      const int x = find_term(c, HFB_BOOL), y = which == HFB_OP_NOT ? -1 : find_term(c, HFB_BOOL);
      op(c, which, HFB_BOOL, x, y, -1);
      return;
    }
    case 2: {
      const hfb_dtype from = dtypes[random_below(&c->random, 6)], to = dtypes[random_below(&c->random, 4)];
      op(c, HFB_OP_CAST, to, find_term(c, from), -1, -1);
      return;
    }
    case 3: {
      const hfb_dtype dtype = dtypes[random_below(&c->random, 3)];
      const int condition = find_term(c, HFB_BOOL), x = find_term(c, dtype), y = find_term(c, dtype);
      op(c, HFB_OP_WHERE, dtype, condition, x, y);
      return;
    }
    case 4: {
      const hfb_dtype dtype = chance(c, 70) ? HFB_I64 : HFB_I32;
      const hfb_op which = integers[random_below(&c->random, sizeof integers / sizeof *integers)];
      const int x = find_term(c, dtype);
      op(c, which, dtype, x, hfb_op_info_of(which)->max_inputs == 2 ? find_term(c, dtype) : -1, -1);
      return;
    }
    case 5:
    case 6:
      if (c->loop.kind == HFB_LOOP_ROWS) {
        if (chance(c, 60))
          normalise(c, main_dtype);
        else
          reduce(c, chance(c, 60) ? main_dtype : chance(c, 60) ? HFB_I64 : HFB_I32);
        return;
      }
      /* fall through */
    default: {
      const hfb_op which = floats[random_below(&c->random, sizeof floats / sizeof *floats)];
      const int x = tamed(c, which, find_term(c, main_dtype));
      const bool binary = hfb_op_info_of(which)->max_inputs == 2;
      const int y = !binary ? -1 : has_room(c) && chance(c, 30) ? second_load(c, main_dtype) : find_term(c, main_dtype);
      op(c, which, main_dtype, x, y, -1);
      return;
    }
  }
}

static bool is_used(const loop_case *c, int t) {
  for (int u = t + 1; u < c->loop.term_count; u++) {
    const bool has_args = c->terms[u].kind != HFB_TERM_SCALAR && c->terms[u].kind != HFB_TERM_INDEX;
    for (int i = 0; i < 3 && has_args; i++) {
      if (c->terms[u].args[i] == t) return true;
    }
  }
  return false;
}

/* What nothing uses would not be computed: most of it is added to the last value. */
static void use_leftovers(loop_case *c, hfb_dtype main_dtype) {
  int total = find_term(c, main_dtype);
  for (int t = c->loop.term_count - 1; t >= 0 && c->loop.term_count + 3 < LOOP_CASE_TERMS; t--) {
    if (t == total || is_used(c, t) || chance(c, 20)) continue;
    const int value = c->terms[t].dtype == main_dtype ? t : op(c, HFB_OP_CAST, main_dtype, t, -1, -1);
    total = op(c, chance(c, 80) ? HFB_OP_ADD : HFB_OP_MINIMUM, main_dtype, total, value, -1);
  }
}

/* ---- stores ---- */

/* A load of every element of a slot, without gaps, once or, `per_row`, once for each row. */
static bool is_whole(const loop_case *c, const hfb_term *term, bool per_row) {
  const int inner = c->loop.rank - 1;
  int64_t count = 1;
  for (int d = 0; d < c->loop.rank - per_row; d++) {
    if (c->loop.extent[d] > 1 && term->strides[d] == 0) return false;
    count *= c->loop.extent[d];
  }
  return term->args[0] < 0 && (term->strides[inner] == 0) == per_row && c->elements[term->slot] == count;
}

/* A store may go over what is loaded only with the offset and strides of the store, everywhere, and over nothing else.
 * -1: there is no such load. */
static int find_place(const loop_case *c, int t) {
  const bool tile = c->loop.kind != HFB_LOOP_ROWS, per_row = c->terms[t].per_row;
  if (tile && per_row) return -1;
  for (int u = tile; u < c->loop.term_count; u++) {
    const hfb_term *load = &c->terms[u];
    if (load->kind != HFB_TERM_LOAD || load->dtype != c->terms[t].dtype || is_private(c, u)) continue;
    bool usable = is_whole(c, load, per_row) && c->loop.extent[c->loop.rank - 1] > 0;
    for (int s = 0; s < c->loop.store_count; s++) usable = usable && c->in_place[s] != load->slot;
    for (int other = 0; other < c->loop.term_count; other++) {
      const hfb_term *also = &c->terms[other];
      if (also->kind != HFB_TERM_LOAD || also->slot != load->slot) continue;
      usable = usable && also->offset == load->offset && !is_private(c, other) &&
               memcmp(also->strides, load->strides, sizeof load->strides) == 0;
    }
    if (usable) return u;
  }
  return -1;
}

static void add_store(loop_case *c, int t) {
  const int s = c->loop.store_count++;
  hfb_store *store = &c->stores[s];
  store->term = t;
  const int place = chance(c, 60) ? find_place(c, t) : -1;
  if (place >= 0) {
    const hfb_term *load = &c->terms[place];
    c->in_place[s] = load->slot;
    store->offset = load->offset;
    memcpy(store->strides, load->strides, sizeof store->strides);
    store->slot = chance(c, 50) ? load->slot : slot_add(c, load->dtype, c->elements[load->slot]);
    return;
  }
  const int64_t span = random_access(c, zeros, c->loop.extent, false, &store->offset, store->strides);
  if (c->terms[t].per_row && chance(c, 80)) store->strides[c->loop.rank - 1] = 0; /* else repeated along the row */
  store->slot = slot_add(c, c->terms[t].dtype, span + 2 * c->loop.extent[c->loop.rank - 1] + 4);
}

static void add_stores(loop_case *c) {
  if (c->loop.kind != HFB_LOOP_ROWS) {
    int last = c->loop.term_count - 1;
    while (c->terms[last].dtype != HFB_F32) last--; /* term 0 is the tile */
    c->stores[0] = (hfb_store){.term = last};
    row_major(c->loop.extent, c->loop.rank, c->stores[0].strides);
    c->loop.store_count = 1;
  } else {
    add_store(c, c->loop.term_count - 1);
  }
  for (int64_t more = PICK(c, 0, 0, 0, 1, 1, 2, 3); more > 0; more--)
    add_store(c, find_term(c, (hfb_dtype)PICK(c, HFB_F32, HFB_F32, HFB_F32, HFB_I64, HFB_BOOL, HFB_I32)));
}

/* ---- the case ---- */

void loop_case_init(loop_case *c, uint64_t seed) {
  memset(c, 0, sizeof *c);
  c->random.stream = hfb_philox_named(seed, "random loop");
  for (int s = 0; s < LOOP_CASE_STORES; s++) c->in_place[s] = -1;
  for (int s = 0; s < LOOP_CASE_SITES; s++) c->sites[s] = random_below(&c->random, 1000);
  c->loop.sites = c->sites;
  c->loop.terms = c->terms;
  c->loop.stores = c->stores;
  c->loop.slot_dtypes = c->dtypes;
  c->loop.kind = (hfb_loop_kind)PICK(c, HFB_LOOP_ROWS, HFB_LOOP_ROWS, HFB_LOOP_ROWS, HFB_LOOP_TILE, HFB_LOOP_SCORE);
  c->loop.rank = c->loop.kind == HFB_LOOP_TILE ? 3 : c->loop.kind == HFB_LOOP_SCORE ? 4 : (int)PICK(c, 1, 2, 2, 3, 4);
  for (int d = 0; d + 1 < c->loop.rank; d++) c->loop.extent[d] = PICK(c, 1, 2, 3, 5);
  c->loop.extent[c->loop.rank - 1] = chance(c, 60) ? 1 + random_below(&c->random, 40) : PICK(c, 48, 64, 100, 129, 200);
  if (chance(c, 4)) c->loop.extent[random_below(&c->random, c->loop.rank)] = 0;
  const hfb_dtype main_dtype = c->loop.kind == HFB_LOOP_ROWS && chance(c, 20) ? HFB_F64 : HFB_F32;
  if (c->loop.kind != HFB_LOOP_ROWS) {
    hfb_term tile = term_new(HFB_TERM_LOAD, HFB_F32);
    row_major(c->loop.extent, c->loop.rank, tile.strides);
    slot_add(c, HFB_F32, 0);
    term_add(c, tile);
  }
  plain_load(c, main_dtype);
  for (int64_t operations = 1 + random_below(&c->random, 10); operations > 0 && has_room(c); operations--) {
    random_operation(c, main_dtype);
  }
  if (chance(c, 80)) use_leftovers(c, main_dtype);
  add_stores(c);
}

static double random_float(loop_case *c) {
  const uint64_t at = c->random.next++;
  if (random_below(&c->random, 400) == 0)
    return (double[]){NAN, INFINITY, -INFINITY, 1e30, -0.0}[random_below(&c->random, 5)];
  return hfb_philox_normal(c->random.stream, at) * (chance(c, 5) ? 40 : 1.5);
}

void loop_case_fill(loop_case *c, int slot, void *data, int64_t elements) {
  for (int64_t i = 0; i < elements; i++) {
    const int64_t integer = random_below(&c->random, 2 * c->bound[slot]) - c->bound[slot];
    switch (c->dtypes[slot]) {
      case HFB_F32: ((float *)data)[i] = (float)random_float(c); break;
      case HFB_F64: ((double *)data)[i] = random_float(c); break;
      case HFB_I64: ((int64_t *)data)[i] = integer; break;
      case HFB_I32: ((int32_t *)data)[i] = (int32_t)integer; break;
      default: ((uint8_t *)data)[i] = (uint8_t)(integer > 0); break;
    }
  }
}
