#include "compile/loop.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "compile/loop_plan.h"

/* ---- verify ---- */

#define FAIL_TERM(t, ...) fail_part("term", (t), __VA_ARGS__)

static hfb_status fail_part(const char *part, int index, const char *format, ...) HFB_PRINTF(3, 4);

static hfb_status fail_part(const char *part, int index, const char *format, ...) {
  char reason[160];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(reason, sizeof reason, format, arguments);
  va_end(arguments);
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "loop: %s %d: %s", part, index, reason);
}

static bool slot_exists(const hfb_loop *loop, int slot) {
  return slot >= 0 && slot < loop->slot_count;
}

static hfb_status verify_space(const hfb_loop *loop) {
  const int rank = loop->kind == HFB_LOOP_TILE ? 3 : loop->kind == HFB_LOOP_SCORE ? 4 : loop->rank;
  if (loop->rank < 1 || loop->rank > HFB_LOOP_MAX_RANK || loop->rank != rank) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "loop: rank %d; this kind of loop has %d dimensions (ROWS: 1 to %d)",
                    loop->rank, rank, HFB_LOOP_MAX_RANK);
  }
  for (int d = 0; d < loop->rank; d++) {
    if (loop->extent[d] < 0) return fail_part("dimension", d, "extent %" PRId64 " is negative", loop->extent[d]);
  }
  for (int s = 0; s < loop->slot_count; s++) {
    const hfb_dtype dtype = loop->slot_dtypes[s];
    if (dtype == HFB_BF16 || dtype == HFB_F16) {
      return HFB_FAIL(HFB_UNSUPPORTED, "loop: slot %d is %s; generated loops work on f32, f64, integers and bools", s,
                      hfb_dtype_name(dtype));
    }
  }
  if (loop->kind == HFB_LOOP_ROWS) return HFB_OK;
  if (loop->slot_count < 1) return HFB_FAIL(HFB_INVALID_ARGUMENT, "loop: slot 0, the tile, is missing");
  const hfb_dtype tile = loop->slot_dtypes[0];
  if (tile != HFB_F32 && (tile != HFB_F64 || loop->kind == HFB_LOOP_SCORE)) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "loop: the tile is %s; tiles are f32 or f64, scores f32",
                    hfb_dtype_name(tile));
  }
  return HFB_OK;
}

/* The slot of the sites is for them alone. */
static hfb_status verify_sites(const hfb_loop *loop) {
  if (loop->site_count == 0) return HFB_OK;
  const int slot = loop->site_slot;
  bool is_free = slot_exists(loop, slot) && loop->slot_dtypes[slot] == HFB_I64;
  for (int t = 0; t < loop->term_count; t++)
    is_free = is_free && (loop->terms[t].kind != HFB_TERM_LOAD || loop->terms[t].slot != slot);
  for (int s = 0; s < loop->store_count; s++) is_free = is_free && loop->stores[s].slot != slot;
  if (is_free && loop->sites) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "loop: slot %d is not for %d sites of random masks", slot, loop->site_count);
}

static bool is_compare(hfb_op op) {
  return op == HFB_OP_EQ || op == HFB_OP_NE || op == HFB_OP_LT || op == HFB_OP_LE;
}

static hfb_status verify_op_dtypes(const hfb_loop *loop, int t) {
  const hfb_term *term = &loop->terms[t];
  const hfb_op op = term->op;
  if (op == HFB_OP_CAST) return HFB_OK;
  const bool logical = op == HFB_OP_NOT || op == HFB_OP_AND || op == HFB_OP_OR || op == HFB_OP_RANDOM_KEEP;
  if ((logical || is_compare(op)) && term->dtype != HFB_BOOL)
    return FAIL_TERM(t, "%s gives bool", hfb_op_info_of(op)->name);
  if (hfb_op_info_of(op)->tolerance == HFB_TOL_FUNCTION && !hfb_dtype_is_float(term->dtype)) {
    return FAIL_TERM(t, "%s of %s", hfb_op_info_of(op)->name, hfb_dtype_name(term->dtype));
  }
  hfb_dtype wanted = op == HFB_OP_RANDOM_KEEP ? HFB_I64
                     : is_compare(op)         ? loop->terms[term->args[0]].dtype
                                              : term->dtype;
  for (int i = 0; i < hfb_term_arg_count(term); i++) {
    const hfb_dtype got = loop->terms[term->args[i]].dtype;
    const hfb_dtype want = op == HFB_OP_WHERE && i == 0 ? HFB_BOOL : wanted;
    if (got != want) {
      return FAIL_TERM(t, "%s: argument %d is %s, not %s", hfb_op_info_of(op)->name, i, hfb_dtype_name(got),
                       hfb_dtype_name(want));
    }
  }
  return HFB_OK;
}

static hfb_status verify_kind(const hfb_loop *loop, int t) {
  const hfb_term *term = &loop->terms[t];
  switch (term->kind) {
    case HFB_TERM_LOAD:
      if (!slot_exists(loop, term->slot)) return FAIL_TERM(t, "slot %d of %d", term->slot, loop->slot_count);
      if (term->dtype != loop->slot_dtypes[term->slot])
        return FAIL_TERM(t, "dtype differs from that of slot %d", term->slot);
      if (term->args[0] >= 0 && loop->terms[term->args[0]].dtype != HFB_I64)
        return FAIL_TERM(t, "the index is not i64");
      if (term->slot == 0 && loop->kind != HFB_LOOP_ROWS &&
          (term->args[0] >= 0 || term->strides[loop->rank - 1] != 1)) {
        return FAIL_TERM(t, "a load of the tile is not at the current point");
      }
      return HFB_OK;
    case HFB_TERM_SCALAR: return HFB_OK;
    case HFB_TERM_INDEX:
      if (term->dtype == HFB_BOOL || term->dtype == HFB_U8)
        return FAIL_TERM(t, "an index as %s", hfb_dtype_name(term->dtype));
      return HFB_OK;
    case HFB_TERM_OP:
      if (hfb_op_info_of(term->op)->expression[0] == '\0')
        return FAIL_TERM(t, "%s has no expression", hfb_op_info_of(term->op)->name);
      return verify_op_dtypes(loop, t);
    case HFB_TERM_REDUCE:
      if (loop->kind != HFB_LOOP_ROWS) return FAIL_TERM(t, "a reduction outside of a ROWS loop");
      if (term->op != HFB_OP_REDUCE_SUM && term->op != HFB_OP_REDUCE_MAX)
        return FAIL_TERM(t, "%s reduces nothing", hfb_op_info_of(term->op)->name);
      if (term->dtype != loop->terms[term->args[0]].dtype || term->dtype == HFB_BOOL)
        return FAIL_TERM(t, "dtype of a reduction");
      return HFB_OK;
    case HFB_TERM_PADDED:
      if (term->pad_dim < 0 || term->pad_dim >= loop->rank) return FAIL_TERM(t, "pad dimension %d", term->pad_dim);
      if (term->dtype != loop->terms[term->args[0]].dtype) return FAIL_TERM(t, "dtype of a padded value");
      return HFB_OK;
  }
  return FAIL_TERM(t, "unknown kind %d", (int)term->kind);
}

static bool varies_inside(const hfb_loop *loop, const hfb_term *term) {
  const int inner = loop->rank - 1;
  if (term->kind == HFB_TERM_REDUCE || term->kind == HFB_TERM_SCALAR) return false;
  if (term->kind == HFB_TERM_PADDED && term->pad_dim == inner) return true;
  if ((term->kind == HFB_TERM_LOAD || term->kind == HFB_TERM_INDEX) && term->strides[inner] != 0) return true;
  for (int i = 0; i < hfb_term_arg_count(term); i++) {
    if (!loop->terms[term->args[i]].per_row) return true;
  }
  return false;
}

static hfb_status verify_term(const hfb_loop *loop, int t) {
  const hfb_term *term = &loop->terms[t];
  if (term->kind == HFB_TERM_OP && (unsigned)term->op >= HFB_OP_COUNT)
    return FAIL_TERM(t, "unknown op %d", (int)term->op);
  if (term->dtype == HFB_BF16 || term->dtype == HFB_F16) {
    return HFB_FAIL(HFB_UNSUPPORTED, "loop: term %d is %s; generated loops compute in f32 and f64", t,
                    hfb_dtype_name(term->dtype));
  }
  for (int i = 0; i < hfb_term_arg_count(term); i++) {
    if (term->args[i] < 0 || term->args[i] >= t)
      return FAIL_TERM(t, "argument %d is term %d, which does not come before it", i, term->args[i]);
  }
  HFB_TRY(verify_kind(loop, t));
  if (term->kind == HFB_TERM_OP && term->op == HFB_OP_RANDOM_KEEP) {
    if (term->site < 0 || term->site >= loop->site_count)
      return FAIL_TERM(t, "site %d of %d", term->site, loop->site_count);
    if (!(term->value >= 0 && term->value <= 1)) return FAIL_TERM(t, "probability %g", term->value);
  }
  if (term->per_row == varies_inside(loop, term)) {
    return FAIL_TERM(t, "per_row is %s, but it %s along the row", term->per_row ? "true" : "false",
                     term->per_row ? "varies" : "does not vary");
  }
  return HFB_OK;
}

static hfb_status verify_store(const hfb_loop *loop, int s) {
  const hfb_store *store = &loop->stores[s];
  if (!slot_exists(loop, store->slot)) return fail_part("store", s, "slot %d of %d", store->slot, loop->slot_count);
  if (store->term < 0 || store->term >= loop->term_count)
    return fail_part("store", s, "term %d of %d", store->term, loop->term_count);
  if (loop->terms[store->term].dtype != loop->slot_dtypes[store->slot])
    return fail_part("store", s, "dtype differs from that of slot %d", store->slot);
  const int inner = loop->rank - 1;
  if (store->slot == 0 && loop->kind != HFB_LOOP_ROWS && store->strides[inner] != 1) {
    return fail_part("store", s, "a store to the tile is not at the current point");
  }
  if (!loop->terms[store->term].per_row && store->strides[inner] == 0 && loop->extent[inner] > 1) {
    return fail_part("store", s, "many elements of a row go to one place");
  }
  return HFB_OK;
}

hfb_status hfb_loop_verify(const hfb_loop *loop) {
  HFB_TRY(verify_space(loop));
  for (int t = 0; t < loop->term_count; t++) HFB_TRY(verify_term(loop, t));
  if (loop->store_count < 1) return HFB_FAIL(HFB_INVALID_ARGUMENT, "loop: nothing is stored");
  for (int s = 0; s < loop->store_count; s++) HFB_TRY(verify_store(loop, s));
  HFB_TRY(verify_sites(loop));
  return HFB_OK;
}

/* ---- scratch ---- */

/* More than any plan keeps: what to reserve when there is no memory for a plan. */
static size_t scratch_bound(const hfb_loop *loop) {
  const size_t row_bytes = ((size_t)loop->extent[loop->rank - 1] + 16) * sizeof(double);
  return (size_t)loop->term_count * (row_bytes + 64);
}

size_t hfb_loop_scratch_bytes(const hfb_loop *loop) {
  hfb_loop_plan plan;
  if (hfb_loop_plan_init(loop, &plan) != HFB_OK) return scratch_bound(loop);
  const size_t bytes = plan.scratch_bytes;
  hfb_loop_plan_deinit(&plan);
  return bytes;
}

/* ---- print ---- */

/* "128 + 768*i0 + i1" */
static void print_affine(const hfb_loop *loop, int64_t offset, const int64_t *strides, hfb_strbuf *out) {
  bool empty = offset == 0;
  if (!empty) hfb_strbuf_printf(out, "%" PRId64, offset);
  for (int d = 0; d < loop->rank; d++) {
    if (strides[d] == 0) continue;
    hfb_strbuf_append(out, empty ? "" : " + ");
    if (strides[d] != 1) hfb_strbuf_printf(out, "%" PRId64 "*", strides[d]);
    hfb_strbuf_printf(out, "i%d", d);
    empty = false;
  }
  if (empty) hfb_strbuf_append(out, "0");
}

static void print_term(const hfb_loop *loop, int t, hfb_strbuf *out) {
  const hfb_term *term = &loop->terms[t];
  hfb_strbuf_printf(out, "  t%d: %s%s = ", t, hfb_dtype_name(term->dtype), term->per_row ? " row" : "");
  switch (term->kind) {
    case HFB_TERM_LOAD:
      hfb_strbuf_printf(out, "slot%d[", term->slot);
      print_affine(loop, term->offset, term->strides, out);
      if (term->args[0] >= 0) hfb_strbuf_printf(out, " + %" PRId64 "*t%d", term->index_stride, term->args[0]);
      hfb_strbuf_append(out, "]");
      break;
    case HFB_TERM_SCALAR: hfb_strbuf_printf(out, "%.17g", term->value); break;
    case HFB_TERM_INDEX: print_affine(loop, term->offset, term->strides, out); break;
    case HFB_TERM_OP:
    case HFB_TERM_REDUCE:
      hfb_strbuf_append(out, hfb_op_info_of(term->op)->name);
      for (int i = 0; i < hfb_term_arg_count(term); i++) hfb_strbuf_printf(out, " t%d", term->args[i]);
      if (hfb_op_info_of(term->op)->attributes & (UINT64_C(1) << HFB_ATTR_VALUE))
        hfb_strbuf_printf(out, " %.17g", term->value);
      if (term->kind == HFB_TERM_OP && term->op == HFB_OP_RANDOM_KEEP)
        hfb_strbuf_printf(out, " site%d p %.17g", term->site, term->value);
      break;
    case HFB_TERM_PADDED:
      hfb_strbuf_printf(out, "t%d where %" PRId64 " <= i%d < %" PRId64 " else %.17g", term->args[0], term->low,
                        term->pad_dim, term->high, term->value);
      break;
  }
  hfb_strbuf_append(out, "\n");
}

hfb_status hfb_loop_print(const hfb_loop *loop, hfb_strbuf *out_text) {
  static const char *const kinds[] = {[HFB_LOOP_ROWS] = "rows", [HFB_LOOP_TILE] = "tile", [HFB_LOOP_SCORE] = "score"};
  hfb_strbuf_printf(out_text, "%s", kinds[loop->kind]);
  for (int d = 0; d < loop->rank; d++) hfb_strbuf_printf(out_text, "%s%" PRId64, d == 0 ? " [" : ",", loop->extent[d]);
  hfb_strbuf_append(out_text, "] slots");
  for (int s = 0; s < loop->slot_count; s++) hfb_strbuf_printf(out_text, " %s", hfb_dtype_name(loop->slot_dtypes[s]));
  if (loop->site_count > 0) hfb_strbuf_printf(out_text, ", sites in slot%d", loop->site_slot);
  hfb_strbuf_append(out_text, "\n");
  for (int t = 0; t < loop->term_count; t++) print_term(loop, t, out_text);
  for (int s = 0; s < loop->store_count; s++) {
    hfb_strbuf_printf(out_text, "  slot%d[", loop->stores[s].slot);
    print_affine(loop, loop->stores[s].offset, loop->stores[s].strides, out_text);
    hfb_strbuf_printf(out_text, "] = t%d\n", loop->stores[s].term);
  }
  return hfb_strbuf_status(out_text);
}
