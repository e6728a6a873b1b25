#include "compile/loop_plan.h"

#include <string.h>

enum { COST_LIMIT = 1000, SCRATCH_ALIGNMENT = 64, WIDEST_VECTOR_LANES = 16 };

/* Bounds of integers are kept well inside int64, so that sums of two never overflow. */
static const int64_t ANY_INTEGER = INT64_C(1) << 61;

int hfb_term_arg_count(const hfb_term *term) {
  switch (term->kind) {
    case HFB_TERM_LOAD: return term->args[0] >= 0;
    case HFB_TERM_OP: return hfb_op_info_of(term->op)->max_inputs;
    case HFB_TERM_REDUCE:
    case HFB_TERM_PADDED: return 1;
    default: return 0;
  }
}

bool hfb_loop_store_is_inner(const hfb_loop *loop, const hfb_store *store) {
  return !loop->terms[store->term].per_row || store->strides[loop->rank - 1] != 0;
}

int hfb_loop_plan_reduce_pass(const hfb_loop *loop, const hfb_loop_plan *plan, int term) {
  return plan->terms[loop->terms[term].args[0]].level;
}

bool hfb_loop_plan_is_guarded(const hfb_loop *loop, const hfb_loop_plan *plan, int term, int dim) {
  return plan->terms[term].low[dim] > 0 || plan->terms[term].high[dim] < loop->extent[dim];
}

/* ---- ranges and forms ---- */

static int64_t clamp_integer(__int128 value) {
  return value > ANY_INTEGER ? ANY_INTEGER : value < -ANY_INTEGER ? -ANY_INTEGER : (int64_t)value;
}

/* A scalar operand of an integer term. */
static int64_t integer_of(double value) {
  return value > (double)ANY_INTEGER ? ANY_INTEGER : value < -(double)ANY_INTEGER ? -ANY_INTEGER : (int64_t)value;
}

static int64_t min_i64(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static int64_t max_i64(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static void set_range(hfb_term_plan *plan, __int128 min, __int128 max) {
  plan->min = clamp_integer(min);
  plan->max = clamp_integer(max);
}

static void index_range(const hfb_loop *loop, const hfb_term *term, hfb_term_plan *plan) {
  __int128 min = term->offset, max = term->offset;
  for (int d = 0; d < loop->rank; d++) {
    __int128 last = (__int128)term->strides[d] * (loop->extent[d] > 0 ? loop->extent[d] - 1 : 0);
    if (last < 0)
      min += last;
    else
      max += last;
  }
  set_range(plan, min, max);
}

static void product_range(const hfb_term_plan *a, int64_t low, int64_t high, hfb_term_plan *plan) {
  const __int128 corners[] = {(__int128)a->min * low, (__int128)a->min * high, (__int128)a->max * low,
                              (__int128)a->max * high};
  __int128 min = corners[0], max = corners[0];
  for (int i = 1; i < 4; i++) {
    if (corners[i] < min) min = corners[i];
    if (corners[i] > max) max = corners[i];
  }
  set_range(plan, min, max);
}

static void op_range(const hfb_loop *loop, const hfb_term *term, hfb_term_plan *terms, hfb_term_plan *plan) {
  const hfb_term_plan *a = &terms[term->args[0]];
  const hfb_term_plan *b = term->args[1] >= 0 ? &terms[term->args[1]] : a;
  const hfb_term_plan *c = term->args[2] >= 0 ? &terms[term->args[2]] : a;
  const int64_t value = integer_of(term->value);
  switch (term->op) {
    case HFB_OP_NEG: set_range(plan, -(__int128)a->max, -(__int128)a->min); return;
    case HFB_OP_ABS: set_range(plan, 0, max_i64(-a->min, a->max)); return;
    case HFB_OP_ADD_SCALAR: set_range(plan, (__int128)a->min + value, (__int128)a->max + value); return;
    case HFB_OP_MUL_SCALAR: product_range(a, value, value, plan); return;
    case HFB_OP_ADD: set_range(plan, (__int128)a->min + b->min, (__int128)a->max + b->max); return;
    case HFB_OP_SUB: set_range(plan, (__int128)a->min - b->max, (__int128)a->max - b->min); return;
    case HFB_OP_MUL: product_range(a, b->min, b->max, plan); return;
    case HFB_OP_MAXIMUM: set_range(plan, max_i64(a->min, b->min), max_i64(a->max, b->max)); return;
    case HFB_OP_MINIMUM: set_range(plan, min_i64(a->min, b->min), min_i64(a->max, b->max)); return;
    case HFB_OP_WHERE: set_range(plan, min_i64(b->min, c->min), max_i64(b->max, c->max)); return;
    case HFB_OP_CAST:
      if (loop->terms[term->args[0]].dtype == HFB_BOOL)
        set_range(plan, 0, 1);
      else if (!hfb_dtype_is_float(loop->terms[term->args[0]].dtype))
        set_range(plan, a->min, a->max);
      return;
    default: return;
  }
}

static void find_range(const hfb_loop *loop, int t, hfb_term_plan *terms) {
  const hfb_term *term = &loop->terms[t];
  hfb_term_plan *plan = &terms[t];
  set_range(plan, -ANY_INTEGER, ANY_INTEGER);
  if (term->kind == HFB_TERM_INDEX) {
    index_range(loop, term, plan);
  } else if (hfb_dtype_is_float(term->dtype)) {
    return;
  } else if (term->kind == HFB_TERM_SCALAR) {
    set_range(plan, integer_of(term->value), integer_of(term->value));
  } else if (term->kind == HFB_TERM_OP) {
    op_range(loop, term, terms, plan);
  } else if (term->kind == HFB_TERM_PADDED) {
    const hfb_term_plan *a = &terms[term->args[0]];
    set_range(plan, min_i64(a->min, integer_of(term->value)), max_i64(a->max, integer_of(term->value)));
  }
}

static bool fits_i32(const hfb_term_plan *plan) {
  return plan->min >= INT32_MIN && plan->max <= INT32_MAX;
}

/* An i64 term fits into 32-bit lanes when it and all that it is computed from do. */
static bool is_narrow(const hfb_loop *loop, const hfb_term *term, const hfb_term_plan *terms,
                      const hfb_term_plan *plan) {
  if (!fits_i32(plan) || term->kind == HFB_TERM_LOAD) return false;
  for (int i = 0; i < hfb_term_arg_count(term); i++) {
    const int arg = term->args[i];
    if (loop->terms[arg].dtype != HFB_I64) continue;
    if (loop->terms[arg].per_row ? !fits_i32(&terms[arg]) : terms[arg].form != HFB_FORM_I32) return false;
  }
  return true;
}

/* False when the term has no vector form. */
static bool find_form(const hfb_loop *loop, int t, hfb_term_plan *terms) {
  const hfb_term *term = &loop->terms[t];
  switch (term->dtype) {
    case HFB_F32: terms[t].form = HFB_FORM_F32; break;
    case HFB_BOOL: terms[t].form = HFB_FORM_MASK; break;
    case HFB_I32: terms[t].form = HFB_FORM_I32; break;
    case HFB_I64: terms[t].form = is_narrow(loop, term, terms, &terms[t]) ? HFB_FORM_I32 : HFB_FORM_I64; break;
    default: return false;
  }
  if (term->kind != HFB_TERM_OP) return true;
  const hfb_dtype from = loop->terms[term->args[0]].dtype;
  switch (term->op) {
    case HFB_OP_DIV: return term->dtype == HFB_F32; /* lanes behind the end of a row hold 0 */
    case HFB_OP_EQ:
    case HFB_OP_NE:
    case HFB_OP_AND:
    case HFB_OP_OR:
    case HFB_OP_NOT:
    case HFB_OP_CAST:
    case HFB_OP_WHERE: return true;
    case HFB_OP_RANDOM_KEEP: return loop->terms[term->args[1]].per_row && loop->terms[term->args[2]].per_row;
    default: return from != HFB_BOOL; /* true is -1 in a mask: no order, no arithmetic */
  }
}

static void choose_forms(const hfb_loop *loop, hfb_loop_plan *plan) {
  plan->vector = true;
  for (int t = 0; t < loop->term_count; t++) {
    const hfb_term *term = &loop->terms[t];
    find_range(loop, t, plan->terms);
    if (!plan->terms[t].needed) continue;
    const bool reduced = term->kind == HFB_TERM_REDUCE;
    if (reduced && term->dtype != HFB_F32 && term->dtype != HFB_I64 && term->dtype != HFB_I32) plan->vector = false;
    if (!term->per_row && !find_form(loop, t, plan->terms)) plan->vector = false;
  }
  for (int s = 0; s < loop->store_count; s++) {
    const hfb_dtype dtype = loop->terms[loop->stores[s].term].dtype;
    const bool known = dtype == HFB_F32 || dtype == HFB_BOOL || dtype == HFB_I64 || dtype == HFB_I32;
    if (hfb_loop_store_is_inner(loop, &loop->stores[s]) && !known) plan->vector = false;
  }
  for (int t = 0; t < loop->term_count && !plan->vector; t++) plan->terms[t].form = HFB_FORM_SCALAR;
}

/* ---- what is needed where ---- */

static void mark_needed(const hfb_loop *loop, hfb_term_plan *terms) {
  for (int s = 0; s < loop->store_count; s++) terms[loop->stores[s].term].needed = true;
  for (int t = loop->term_count - 1; t >= 0; t--) {
    if (!terms[t].needed) continue;
    for (int i = 0; i < hfb_term_arg_count(&loop->terms[t]); i++) terms[loop->terms[t].args[i]].needed = true;
  }
}

/* The smallest box that holds every use. It starts empty. */
static void widen_box(hfb_term_plan *plan, const int64_t *low, const int64_t *high, int rank) {
  for (int d = 0; d < rank; d++) {
    plan->low[d] = min_i64(plan->low[d], low[d]);
    plan->high[d] = max_i64(plan->high[d], high[d]);
  }
}

static void find_boxes(const hfb_loop *loop, hfb_term_plan *terms) {
  const int64_t zeros[HFB_LOOP_MAX_RANK] = {0};
  for (int t = 0; t < loop->term_count; t++) {
    for (int d = 0; d < loop->rank; d++) terms[t].low[d] = INT64_MAX;
  }
  for (int s = 0; s < loop->store_count; s++) widen_box(&terms[loop->stores[s].term], zeros, loop->extent, loop->rank);
  for (int t = loop->term_count - 1; t >= 0; t--) {
    const hfb_term *term = &loop->terms[t];
    if (!terms[t].needed) continue;
    int64_t low[HFB_LOOP_MAX_RANK], high[HFB_LOOP_MAX_RANK];
    memcpy(low, terms[t].low, sizeof low);
    memcpy(high, terms[t].high, sizeof high);
    if (term->kind == HFB_TERM_REDUCE) {
      low[loop->rank - 1] = 0;
      high[loop->rank - 1] = loop->extent[loop->rank - 1];
    } else if (term->kind == HFB_TERM_PADDED) {
      low[term->pad_dim] = max_i64(low[term->pad_dim], term->low);
      high[term->pad_dim] = min_i64(high[term->pad_dim], term->high);
    }
    for (int i = 0; i < hfb_term_arg_count(term); i++) widen_box(&terms[term->args[i]], low, high, loop->rank);
  }
}

static hfb_status find_levels(const hfb_loop *loop, hfb_loop_plan *plan) {
  for (int t = 0; t < loop->term_count; t++) {
    const hfb_term *term = &loop->terms[t];
    hfb_term_plan *p = &plan->terms[t];
    for (int i = 0; i < hfb_term_arg_count(term); i++) {
      const int level = plan->terms[term->args[i]].level + (term->kind == HFB_TERM_REDUCE);
      if (level > p->level) p->level = level;
    }
    if (p->needed && term->kind == HFB_TERM_REDUCE && p->level > plan->pass_count) plan->pass_count = p->level;
  }
  for (int s = 0; s < loop->store_count; s++) {
    const int passes = plan->terms[loop->stores[s].term].level + 1;
    if (hfb_loop_store_is_inner(loop, &loop->stores[s]) && passes > plan->pass_count) plan->pass_count = passes;
  }
  if (plan->pass_count > HFB_LOOP_MAX_PASSES) {
    return HFB_FAIL(HFB_UNSUPPORTED, "loop: %d reductions depend on each other; the limit is %d", plan->pass_count,
                    HFB_LOOP_MAX_PASSES);
  }
  return HFB_OK;
}

/* ---- what is computed before the passes ---- */

static bool is_constant_access(const hfb_loop *loop, const hfb_term *term, const hfb_term_plan *plan) {
  for (int d = 0; d < loop->rank; d++) {
    if (term->strides[d] != 0 || plan->low[d] > 0 || plan->high[d] < loop->extent[d]) return false;
  }
  return true;
}

/* Once all boxes are known. */
static void find_invariant(const hfb_loop *loop, hfb_term_plan *terms) {
  for (int t = 0; t < loop->term_count; t++) {
    const hfb_term *term = &loop->terms[t];
    const bool access = term->kind == HFB_TERM_LOAD || term->kind == HFB_TERM_INDEX;
    terms[t].invariant = terms[t].needed && term->per_row && term->kind != HFB_TERM_REDUCE &&
                         term->kind != HFB_TERM_PADDED && (!access || is_constant_access(loop, term, &terms[t]));
    for (int i = 0; i < hfb_term_arg_count(term); i++)
      terms[t].invariant = terms[t].invariant && terms[term->args[i]].invariant;
  }
}

static void find_drawn(const hfb_loop *loop, hfb_term_plan *terms) {
  const int inner = loop->rank - 1;
  for (int t = 0; t < loop->term_count; t++) {
    const hfb_term *term = &loop->terms[t];
    if (!terms[t].needed || term->kind != HFB_TERM_OP || term->op != HFB_OP_RANDOM_KEEP) continue;
    const hfb_term *index = &loop->terms[term->args[0]];
    terms[t].drawn = index->kind == HFB_TERM_INDEX && index->strides[inner] == 1 &&
                     loop->terms[term->args[1]].per_row && loop->terms[term->args[2]].per_row &&
                     loop->extent[inner] <= HFB_LOOP_MOST_DRAWN;
  }
}

/* ---- passes ---- */

static int load_cost(const hfb_loop *loop, const hfb_term *term) {
  const int64_t stride = term->strides[loop->rank - 1];
  if (term->args[0] >= 0 && !loop->terms[term->args[0]].per_row) return 16;
  if (stride != 0 && stride != 1) return 16;
  return term->dtype == HFB_F32 ? 1 : 2;
}

static int op_cost(hfb_op op) {
  if (op == HFB_OP_RANDOM_KEEP) return 64;
  if (op == HFB_OP_DIV || op == HFB_OP_SQRT || op == HFB_OP_RSQRT) return 8;
  return hfb_op_info_of(op)->tolerance == HFB_TOL_FUNCTION ? 16 : 1;
}

/* Operations of the term itself, without its args. */
static int own_cost(const hfb_loop *loop, const hfb_term *term, const hfb_term_plan *plan) {
  if (plan->drawn) return 1;
  switch (term->kind) {
    case HFB_TERM_LOAD: return load_cost(loop, term);
    case HFB_TERM_OP: return op_cost(term->op);
    case HFB_TERM_INDEX:
    case HFB_TERM_PADDED: return 1;
    default: return 0;
  }
}

/* To have the value of each term in a pass, given what is kept by now. */
static void find_costs(const hfb_loop *loop, const hfb_term_plan *terms, int *cost) {
  for (int t = 0; t < loop->term_count; t++) {
    const hfb_term *term = &loop->terms[t];
    cost[t] = 0;
    if (term->per_row) continue;
    cost[t] = terms[t].keep_pass >= 0 ? 1 : own_cost(loop, term, &terms[t]);
    if (terms[t].keep_pass >= 0 || terms[t].drawn) continue;
    for (int i = 0; i < hfb_term_arg_count(term); i++) cost[t] += cost[term->args[i]];
    if (cost[t] > COST_LIMIT) cost[t] = COST_LIMIT;
  }
}

/* Plans the term `t` as a value that pass `pass` needs. */
static void need_in_pass(const hfb_loop *loop, hfb_loop_plan *plan, const int *cost, int t, int pass) {
  const hfb_term *term = &loop->terms[t];
  hfb_term_plan *p = &plan->terms[t];
  const uint32_t bit = UINT32_C(1) << pass;
  if (term->per_row || (p->passes & bit)) return;
  const bool computed_before = p->passes != 0;
  if (computed_before && p->keep_pass < 0 && cost[t] > HFB_LOOP_CHEAP) p->keep_pass = __builtin_ctz(p->passes);
  p->passes |= bit;
  if (p->keep_pass >= 0) {
    plan->pass_cost[pass] += 1;
    return;
  }
  plan->pass_cost[pass] += own_cost(loop, term, p);
  if (p->drawn) return; /* its index is in the bits already, the other operands are values of the row */
  for (int i = 0; i < hfb_term_arg_count(term); i++) need_in_pass(loop, plan, cost, term->args[i], pass);
}

static void plan_passes(const hfb_loop *loop, hfb_loop_plan *plan, int *cost) {
  for (int pass = 0; pass < plan->pass_count; pass++) {
    find_costs(loop, plan->terms, cost);
    for (int t = 0; t < loop->term_count; t++) {
      const hfb_term *term = &loop->terms[t];
      if (!plan->terms[t].needed || term->kind != HFB_TERM_REDUCE) continue;
      if (hfb_loop_plan_reduce_pass(loop, plan, t) == pass) need_in_pass(loop, plan, cost, term->args[0], pass);
    }
    for (int s = 0; s < loop->store_count && pass + 1 == plan->pass_count; s++) {
      if (!hfb_loop_store_is_inner(loop, &loop->stores[s])) continue;
      need_in_pass(loop, plan, cost, loop->stores[s].term, pass);
      plan->pass_cost[pass] += 1;
    }
  }
}

static size_t element_bytes(const hfb_term *term, hfb_term_form form) {
  if (form == HFB_FORM_SCALAR) return hfb_dtype_bytes(term->dtype);
  return form == HFB_FORM_I64 ? 8 : 4;
}

static void place_kept(const hfb_loop *loop, hfb_loop_plan *plan) {
  const size_t elements = (size_t)loop->extent[loop->rank - 1] + WIDEST_VECTOR_LANES - 1;
  for (int t = 0; t < loop->term_count; t++) {
    if (plan->terms[t].keep_pass < 0) continue;
    plan->terms[t].keep_offset = plan->scratch_bytes;
    const size_t bytes =
        elements / WIDEST_VECTOR_LANES * WIDEST_VECTOR_LANES * element_bytes(&loop->terms[t], plan->terms[t].form);
    plan->scratch_bytes += (bytes + SCRATCH_ALIGNMENT - 1) / SCRATCH_ALIGNMENT * SCRATCH_ALIGNMENT;
  }
}

hfb_status hfb_loop_plan_init(const hfb_loop *loop, hfb_loop_plan *out_plan) {
  *out_plan = (hfb_loop_plan){0};
  int *cost = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)loop->term_count, sizeof *cost, &cost));
  hfb_status status = hfb_mem_alloc((size_t)loop->term_count, sizeof *out_plan->terms, &out_plan->terms);
  if (status == HFB_OK) {
    for (int t = 0; t < loop->term_count; t++) out_plan->terms[t].keep_pass = -1;
    mark_needed(loop, out_plan->terms);
    status = find_levels(loop, out_plan);
  }
  if (status == HFB_OK) {
    find_boxes(loop, out_plan->terms);
    find_invariant(loop, out_plan->terms);
    find_drawn(loop, out_plan->terms);
    choose_forms(loop, out_plan);
    plan_passes(loop, out_plan, cost);
    place_kept(loop, out_plan);
  }
  hfb_mem_free(cost);
  if (status != HFB_OK) hfb_loop_plan_deinit(out_plan);
  return status;
}

void hfb_loop_plan_deinit(hfb_loop_plan *plan) {
  hfb_mem_free(plan->terms);
  *plan = (hfb_loop_plan){0};
}
