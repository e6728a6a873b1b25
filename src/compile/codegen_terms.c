#include "compile/codegen_terms.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"

/* Prefix of the helpers that stand for "hfb_" in an expression of ops.def, by form or dtype (see the prelude). */
static const char *const form_prefix[] = {
    [HFB_FORM_F32] = "v_", [HFB_FORM_MASK] = "vi_", [HFB_FORM_I32] = "vi_", [HFB_FORM_I64] = "vl_"};

static const char *dtype_prefix(hfb_dtype dtype) {
  return dtype == HFB_F32 ? "f_" : dtype == HFB_F64 ? "d_" : "i_";
}

void hfb_codegen_line(hfb_codegen *g, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  hfb_strbuf_printf(g->out, "%*s%s\n", 2 * g->indent, "", text);
}

void hfb_codegen_begin_line(hfb_codegen *g) {
  hfb_strbuf_printf(g->out, "%*s", 2 * g->indent, "");
}

void hfb_codegen_end_line(hfb_codegen *g) {
  hfb_strbuf_append(g->out, ";\n");
}

/* ---- names and types ---- */

const char *hfb_codegen_term_name(const hfb_loop *loop, int t, char text[HFB_MAX_NAME]) {
  const hfb_term *term = &loop->terms[t];
  const char *name = "value";
  if (term->kind == HFB_TERM_LOAD) name = "load";
  if (term->kind == HFB_TERM_INDEX) name = "index";
  if (term->kind == HFB_TERM_PADDED) name = "padded";
  if (term->kind == HFB_TERM_OP) name = hfb_op_info_of(term->op)->name;
  if (term->kind == HFB_TERM_REDUCE) name = term->op == HFB_OP_REDUCE_SUM ? "sum" : "max";
  snprintf(text, HFB_MAX_NAME, "%s%d", name, t);
  return text;
}

const char *hfb_codegen_c_type(hfb_dtype dtype) {
  switch (dtype) {
    case HFB_F32: return "float";
    case HFB_F64: return "double";
    case HFB_I64: return "int64_t";
    case HFB_I32: return "int32_t";
    default: return "uint8_t";
  }
}

const char *hfb_codegen_form_type(hfb_term_form form) {
  return form == HFB_FORM_F32 ? "f32v" : form == HFB_FORM_I64 ? "i64v" : "i32v";
}

void hfb_codegen_memory_helper(const hfb_term *term, hfb_term_form form, const char *memory, hfb_strbuf *out) {
  hfb_strbuf_printf(out, "%s%s%s", form_prefix[form], memory, term->dtype == HFB_BOOL ? "_bool" : "");
}

void hfb_codegen_literal(hfb_dtype dtype, double value, hfb_strbuf *out) {
  if (dtype == HFB_BOOL) {
    hfb_strbuf_append(out, value != 0 ? "1" : "0");
  } else if (!hfb_dtype_is_float(dtype)) {
    const int64_t integer = value >= 0x1p63 ? INT64_MAX : value <= -0x1p63 ? -INT64_MAX : (int64_t)value;
    hfb_strbuf_printf(out, integer < 0 ? "(%" PRId64 ")" : "%" PRId64, integer);
  } else if (isnan(value)) {
    hfb_strbuf_append(out, "NAN");
  } else if (isinf(dtype == HFB_F32 ? (float)value : value)) {
    hfb_strbuf_append(out, value < 0 ? "(-INFINITY)" : "INFINITY");
  } else {
    char digits[40];
    if (dtype == HFB_F32)
      snprintf(digits, sizeof digits, "%.9g", (double)(float)value);
    else
      snprintf(digits, sizeof digits, "%.17g", value);
    const char *point = strpbrk(digits, ".e") ? "" : ".0";
    hfb_strbuf_printf(out, signbit(value) ? "(%s%s%s)" : "%s%s%s", digits, point, dtype == HFB_F32 ? "f" : "");
  }
}

static bool slot_is_loaded(const hfb_codegen *g, int slot) {
  for (int t = 0; t < g->loop->term_count; t++) {
    const hfb_term *term = &g->loop->terms[t];
    if (g->plan->terms[t].needed && term->kind == HFB_TERM_LOAD && term->slot == slot) return true;
  }
  return false;
}

static bool slot_is_stored(const hfb_codegen *g, int slot) {
  for (int s = 0; s < g->loop->store_count; s++) {
    if (g->loop->stores[s].slot == slot) return true;
  }
  return false;
}

void hfb_codegen_slot_name(const hfb_codegen *g, int slot, hfb_strbuf *out) {
  if (slot == 0 && g->loop->kind != HFB_LOOP_ROWS) {
    hfb_strbuf_append(out, g->loop->kind == HFB_LOOP_TILE ? "tile" : "scores");
    return;
  }
  const char *role = !slot_is_stored(g, slot) ? "in" : slot_is_loaded(g, slot) ? "io" : "out";
  hfb_strbuf_printf(out, "%s%d", role, slot);
}

void hfb_codegen_pointer_name(const hfb_codegen *g, int pointer, int slot, hfb_strbuf *out) {
  hfb_codegen_slot_name(g, slot, out);
  if (slot == 0 && g->loop->kind != HFB_LOOP_ROWS)
    hfb_strbuf_append(out, "_row");
  else if (pointer == 0)
    hfb_strbuf_append(out, "_row");
  else
    hfb_strbuf_printf(out, "_row%d", pointer + 1);
}

/* ---- addresses ---- */

void hfb_codegen_affine(const hfb_codegen *g, int64_t offset, const int64_t *strides, int rank, hfb_strbuf *out) {
  bool empty = offset == 0;
  if (!empty) hfb_strbuf_printf(out, "%" PRId64, offset);
  for (int d = 0; d < rank; d++) {
    if (strides[d] == 0) continue;
    const bool minus = strides[d] < 0;
    hfb_strbuf_append(out, empty ? (minus ? "-" : "") : (minus ? " - " : " + "));
    hfb_strbuf_append(out, g->index[d]);
    if (strides[d] != 1 && strides[d] != -1) hfb_strbuf_printf(out, " * %" PRId64, minus ? -strides[d] : strides[d]);
    empty = false;
  }
  if (empty) hfb_strbuf_append(out, "0");
}

/* "j * 4", "0", "col - col_begin": the inner index of an element, from its row pointer. */
static void append_inner(const hfb_codegen *g, int slot, int64_t stride, hfb_strbuf *out) {
  const char *j = g->index[g->loop->rank - 1];
  if (slot == 0 && g->loop->kind != HFB_LOOP_ROWS)
    hfb_strbuf_printf(out, "%s - col_begin", j);
  else if (stride == 0 || stride == 1)
    hfb_strbuf_append(out, stride == 0 ? "0" : j);
  else
    hfb_strbuf_printf(out, "%s * %" PRId64, j, stride);
}

void hfb_codegen_element(const hfb_codegen *g, int pointer, int slot, int64_t inner_stride, hfb_strbuf *out) {
  hfb_codegen_pointer_name(g, pointer, slot, out);
  hfb_strbuf_append(out, "[");
  append_inner(g, slot, inner_stride, out);
  hfb_strbuf_append(out, "]");
}

void hfb_codegen_address(const hfb_codegen *g, int pointer, int slot, int64_t inner_stride, hfb_strbuf *out) {
  const char *inner = g->index[g->loop->rank - 1];
  hfb_codegen_pointer_name(g, pointer, slot, out);
  if (slot == 0 && g->loop->kind != HFB_LOOP_ROWS)
    hfb_strbuf_printf(out, " + (%s - col_begin)", inner);
  else if (inner_stride == 1)
    hfb_strbuf_printf(out, " + %s", inner);
  else if (inner_stride != 0)
    hfb_strbuf_printf(out, " + %s * %" PRId64, inner, inner_stride);
}

bool hfb_codegen_outer_guard(const hfb_codegen *g, int t, hfb_strbuf *out) {
  const hfb_term_plan *plan = &g->plan->terms[t];
  bool any = false;
  for (int d = 0; d + 1 < g->loop->rank; d++) {
    if (!hfb_loop_plan_is_guarded(g->loop, g->plan, t, d)) continue;
    hfb_strbuf_printf(out, "%s%s >= %" PRId64 " && %s < %" PRId64, any ? " && " : "", g->index[d], plan->low[d],
                      g->index[d], plan->high[d]);
    any = true;
  }
  return any;
}

bool hfb_codegen_is_guarded(const hfb_codegen *g, int t) {
  for (int d = 0; d < g->loop->rank; d++) {
    if (hfb_loop_plan_is_guarded(g->loop, g->plan, t, d)) return true;
  }
  return false;
}

/* ---- operands ---- */

static void append_scalar(const hfb_codegen *g, int t, hfb_strbuf *out) {
  char name[HFB_MAX_NAME];
  const hfb_term *term = &g->loop->terms[t];
  if (term->kind == HFB_TERM_SCALAR)
    hfb_codegen_literal(term->dtype, term->value, out);
  else
    hfb_strbuf_append(out, hfb_codegen_term_name(g->loop, t, name));
}

void hfb_codegen_operand(const hfb_codegen *g, int t, hfb_term_form form, hfb_strbuf *out) {
  static const char *const set[] = {
      [HFB_FORM_F32] = "v_set", [HFB_FORM_MASK] = "vi_set_bool", [HFB_FORM_I32] = "vi_set", [HFB_FORM_I64] = "vl_set"};
  char name[HFB_MAX_NAME];
  const hfb_term_form own = g->plan->terms[t].form;
  if (form == HFB_FORM_SCALAR) {
    append_scalar(g, t, out);
  } else if (g->loop->terms[t].per_row) {
    hfb_strbuf_printf(out, "%s(", set[form]);
    append_scalar(g, t, out);
    hfb_strbuf_append(out, ")");
  } else {
    hfb_codegen_term_name(g->loop, t, name);
    hfb_strbuf_printf(out, own == HFB_FORM_I32 && form == HFB_FORM_I64 ? "vl_from_vi(%s)" : "%s", name);
  }
}

/* ---- loads ---- */

/* "0, 16", or the lanes in which a guarded load is allowed: "load3_first - j, load3_last - j". */
static void append_lanes(const hfb_codegen *g, int t, const char *count, hfb_strbuf *out) {
  char name[HFB_MAX_NAME];
  const char *inner = g->index[g->loop->rank - 1];
  hfb_codegen_term_name(g->loop, t, name);
  if (hfb_codegen_is_guarded(g, t))
    hfb_strbuf_printf(out, "%s_first - %s, %s_last - %s", name, inner, name, inner);
  else if (count)
    hfb_strbuf_printf(out, "0, %s", count);
  else
    hfb_strbuf_printf(out, "0, %d", g->lanes);
}

static void append_gather(const hfb_codegen *g, int t, const char *count, hfb_strbuf *out) {
  const hfb_term *term = &g->loop->terms[t];
  const int64_t inner_stride = term->strides[g->loop->rank - 1];
  hfb_codegen_memory_helper(term, g->plan->terms[t].form, "gather", out);
  hfb_strbuf_append(out, "(");
  hfb_codegen_address(g, g->term_pointer[t], term->slot, inner_stride, out);
  hfb_strbuf_append(out, ", ");
  hfb_codegen_operand(g, term->args[0], HFB_FORM_I64, out);
  if (inner_stride != 0)
    hfb_strbuf_printf(out, " * %" PRId64 " + vl_index(0, %" PRId64 "), 1, ", term->index_stride, inner_stride);
  else
    hfb_strbuf_printf(out, ", %" PRId64 ", ", term->index_stride);
  append_lanes(g, t, count, out);
  hfb_strbuf_append(out, ")");
}

static void append_vector_load(const hfb_codegen *g, int t, const char *count, hfb_strbuf *out) {
  const hfb_term *term = &g->loop->terms[t];
  const hfb_term_form form = g->plan->terms[t].form;
  const bool tile = term->slot == 0 && g->loop->kind != HFB_LOOP_ROWS;
  const int64_t stride = tile ? 1 : term->strides[g->loop->rank - 1];
  if (term->args[0] >= 0 && !g->loop->terms[term->args[0]].per_row) {
    append_gather(g, t, count, out);
    return;
  }
  const bool guarded = hfb_codegen_is_guarded(g, t) && !tile;
  hfb_codegen_memory_helper(term, form, "load", out);
  hfb_strbuf_append(out, stride != 1 ? "_lanes(" : guarded ? "_range(" : count ? "_part(" : "(");
  hfb_codegen_address(g, g->term_pointer[t], term->slot, stride, out);
  if (stride != 1) hfb_strbuf_printf(out, ", %" PRId64, stride);
  if (stride != 1 || guarded) {
    hfb_strbuf_append(out, ", ");
    append_lanes(g, t, count, out);
  } else if (count) {
    hfb_strbuf_printf(out, ", %s", count);
  }
  hfb_strbuf_append(out, ")");
}

/* One element: of a scalar loop, or of the row. */
static void append_scalar_load(const hfb_codegen *g, int t, hfb_strbuf *out) {
  const hfb_term *term = &g->loop->terms[t];
  const int inner = g->loop->rank - 1;
  const bool tile = term->slot == 0 && g->loop->kind != HFB_LOOP_ROWS;
  bool guarded = !tile && hfb_codegen_outer_guard(g, t, out);
  if (!tile && !term->per_row && hfb_loop_plan_is_guarded(g->loop, g->plan, t, inner)) {
    const hfb_term_plan *plan = &g->plan->terms[t];
    const char *j = g->index[inner];
    hfb_strbuf_printf(out, "%s%s >= %" PRId64 " && %s < %" PRId64, guarded ? " && " : "", j, plan->low[inner], j,
                      plan->high[inner]);
    guarded = true;
  }
  if (guarded) hfb_strbuf_append(out, " ? ");
  if (term->per_row && !tile) {
    hfb_codegen_slot_name(g, term->slot, out);
    hfb_strbuf_append(out, "[");
    hfb_codegen_affine(g, term->offset, term->strides, inner, out);
  } else {
    hfb_codegen_pointer_name(g, g->term_pointer[t], term->slot, out);
    hfb_strbuf_append(out, "[");
    append_inner(g, term->slot, term->strides[inner], out);
  }
  /* An index that is the same for the whole row is in the row pointer already. */
  const bool in_pointer = !term->per_row && term->args[0] >= 0 && g->loop->terms[term->args[0]].per_row;
  if (term->args[0] >= 0 && !in_pointer) {
    hfb_strbuf_append(out, " + ");
    append_scalar(g, term->args[0], out);
    if (term->index_stride != 1) hfb_strbuf_printf(out, " * %" PRId64, term->index_stride);
  }
  hfb_strbuf_append(out, term->dtype == HFB_BOOL ? "] != 0" : "]");
  if (guarded) hfb_strbuf_append(out, " : 0");
}

/* ---- the other kinds ---- */

static void append_index(const hfb_codegen *g, int t, bool vector, hfb_strbuf *out) {
  const hfb_term *term = &g->loop->terms[t];
  const int inner = g->loop->rank - 1;
  if (!vector) {
    hfb_codegen_affine(g, term->offset, term->strides, g->loop->rank, out);
    return;
  }
  const hfb_term_plan *plan = &g->plan->terms[t];
  const bool wide = plan->min < INT32_MIN || plan->max > INT32_MAX || plan->form == HFB_FORM_I64;
  const char *helper = wide ? "vl_index(" : "vi_index(";
  if (plan->form == HFB_FORM_F32) hfb_strbuf_append(out, wide ? "v_from_vl(" : "v_from_vi(");
  hfb_strbuf_append(out, helper);
  hfb_codegen_affine(g, term->offset, term->strides, g->loop->rank, out);
  hfb_strbuf_printf(out, ", %" PRId64 ")%s", term->strides[inner], plan->form == HFB_FORM_F32 ? ")" : "");
}

static void append_padded(const hfb_codegen *g, int t, bool vector, hfb_strbuf *out) {
  static const char *const set[] = {
      [HFB_FORM_F32] = "v_set", [HFB_FORM_MASK] = "vi_set_bool", [HFB_FORM_I32] = "vi_set", [HFB_FORM_I64] = "vl_set"};
  const hfb_term *term = &g->loop->terms[t];
  const hfb_term_form form = vector ? g->plan->terms[t].form : HFB_FORM_SCALAR;
  const char *index = g->index[term->pad_dim];
  if (!vector) {
    hfb_strbuf_printf(out, "%s >= %" PRId64 " && %s < %" PRId64 " ? ", index, term->low, index, term->high);
    append_scalar(g, term->args[0], out);
    hfb_strbuf_append(out, " : ");
    hfb_codegen_literal(term->dtype, term->value, out);
    return;
  }
  hfb_strbuf_printf(out, "%sselect(", form_prefix[form]);
  if (term->pad_dim == g->loop->rank - 1)
    hfb_strbuf_printf(out, "vi_between(%" PRId64 " - %s, %" PRId64 " - %s), ", term->low, index, term->high, index);
  else
    hfb_strbuf_printf(out, "vi_set_bool(%s >= %" PRId64 " && %s < %" PRId64 "), ", index, term->low, index, term->high);
  hfb_codegen_operand(g, term->args[0], form, out);
  hfb_strbuf_printf(out, ", %s(", set[form]);
  hfb_codegen_literal(term->dtype, term->value, out);
  hfb_strbuf_append(out, "))");
}

static void append_scalar_cast(const hfb_codegen *g, int t, hfb_strbuf *out) {
  const hfb_term *term = &g->loop->terms[t];
  const hfb_dtype from = g->loop->terms[term->args[0]].dtype;
  if (term->dtype == HFB_BOOL) {
    append_scalar(g, term->args[0], out);
    hfb_strbuf_append(out, from == HFB_BOOL ? "" : " != 0");
  } else {
    hfb_strbuf_printf(out, "(%s)", hfb_codegen_c_type(term->dtype));
    append_scalar(g, term->args[0], out);
  }
}

/* Rows: to F32, MASK, I32, I64. Columns: from F32, MASK, I32, I64. */
static const char *const vector_casts[4][4] = {
    {"%s", "v_from_bool(%s)", "v_from_vi(%s)", "v_from_vl(%s)"},
    {"(%s != 0)", "%s", "(%s != 0)", "vl_mask(%s != 0)"},
    {"vi_from_v(%s)", "-%s", "%s", "vi_from_vl(%s)"},
    {"vl_from_v(%s)", "vl_from_vi(-%s)", "vl_from_vi(%s)", "%s"},
};

static void append_vector_cast(const hfb_codegen *g, int t, hfb_strbuf *out) {
  char name[HFB_MAX_NAME];
  const int arg = g->loop->terms[t].args[0];
  const char *pattern = vector_casts[g->plan->terms[t].form - HFB_FORM_F32][g->plan->terms[arg].form - HFB_FORM_F32];
  const char *place = strstr(pattern, "%s");
  hfb_codegen_term_name(g->loop, arg, name);
  hfb_strbuf_append_bytes(out, pattern, (size_t)(place - pattern));
  hfb_strbuf_printf(out, "%s%s", name, place + 2);
}

static bool is_compare(hfb_op op) {
  return op == HFB_OP_EQ || op == HFB_OP_NE || op == HFB_OP_LT || op == HFB_OP_LE;
}

static bool fits_i32(const hfb_term_plan *plan) {
  return plan->min >= INT32_MIN && plan->max <= INT32_MAX;
}

/* A value beyond all of the term's fits into 32 bits too. */
static bool has_room(const hfb_codegen *g, int t) {
  const hfb_term_plan *plan = &g->plan->terms[t];
  return plan->form == HFB_FORM_I32 && plan->min > INT32_MIN && plan->max < INT32_MAX;
}

/* The form in which the args of an operation meet: that of the result, except for comparisons. */
static hfb_term_form operand_form(const hfb_codegen *g, const hfb_term *term, hfb_term_form result) {
  if (term->op == HFB_OP_RANDOM_KEEP && result != HFB_FORM_SCALAR) return HFB_FORM_I64;
  if (!is_compare(term->op) || result == HFB_FORM_SCALAR) return result;
  const hfb_dtype dtype = g->loop->terms[term->args[0]].dtype;
  if (dtype == HFB_F32) return HFB_FORM_F32;
  if (dtype == HFB_BOOL) return HFB_FORM_MASK;
  for (int i = 0; i < 2 && dtype == HFB_I64; i++) {
    const int arg = term->args[i];
    const bool fits = g->loop->terms[arg].per_row ? fits_i32(&g->plan->terms[arg]) || has_room(g, term->args[1 - i])
                                                  : g->plan->terms[arg].form == HFB_FORM_I32;
    if (!fits) return HFB_FORM_I64;
  }
  return HFB_FORM_I32;
}

/* A value of the row that is compared with `other` in 32 bits: clamped to just outside of the range of that. */
static void append_clamped(const hfb_codegen *g, int t, int other, hfb_strbuf *out) {
  const hfb_term_plan *range = &g->plan->terms[other];
  hfb_strbuf_append(out, "vi_set((int32_t)i_min(i_max(");
  append_scalar(g, t, out);
  hfb_strbuf_printf(out, ", %" PRId64 "), %" PRId64 "))", range->min - 1, range->max + 1);
}

static void append_op_operand(const hfb_codegen *g, const hfb_term *term, int i, hfb_term_form form, bool call,
                              hfb_strbuf *out) {
  if (i > 0 && term->op == HFB_OP_RANDOM_KEEP) form = HFB_FORM_SCALAR;
  if (i == 0 && term->op == HFB_OP_WHERE && form != HFB_FORM_SCALAR) form = HFB_FORM_MASK;
  /* The operators of vectors take scalars too. */
  if (form == HFB_FORM_F32 && !call && g->loop->terms[term->args[i]].per_row) form = HFB_FORM_SCALAR;
  const hfb_term *arg = &g->loop->terms[term->args[i]];
  const bool narrowed = form == HFB_FORM_I32 && is_compare(term->op) && arg->dtype == HFB_I64 && arg->per_row;
  if (narrowed && !fits_i32(&g->plan->terms[term->args[i]])) {
    append_clamped(g, term->args[i], term->args[1 - i], out);
    return;
  }
  hfb_codegen_operand(g, term->args[i], form, out);
}

void hfb_codegen_draw(const hfb_codegen *g, int t, hfb_strbuf *out) {
  char name[HFB_MAX_NAME];
  const hfb_term *term = &g->loop->terms[t], *index = &g->loop->terms[term->args[0]];
  const bool rows = g->loop->kind == HFB_LOOP_ROWS;
  const int inner = g->loop->rank - 1;
  hfb_strbuf_printf(out, "draw_row(%s_bits, ", hfb_codegen_term_name(g->loop, t, name));
  hfb_codegen_affine(g, index->offset, index->strides, inner, out);
  if (rows)
    hfb_strbuf_printf(out, ", %" PRId64, g->loop->extent[inner]);
  else
    hfb_strbuf_append(out, " + col_begin, col_count");
  for (int i = 1; i <= 2; i++) {
    hfb_strbuf_append(out, ", ");
    append_scalar(g, term->args[i], out);
  }
  hfb_strbuf_printf(out, ", sites[%d], %" PRIu32 ")", term->site, hfb_random_threshold(term->value));
}

static void append_drawn(const hfb_codegen *g, int t, bool vector, hfb_strbuf *out) {
  char name[HFB_MAX_NAME];
  const char *j = g->index[g->loop->rank - 1];
  hfb_strbuf_printf(out, "%srow_bits(%s_bits, %s%s)%s", vector ? "vi_from_bits(" : "",
                    hfb_codegen_term_name(g->loop, t, name), j, g->loop->kind == HFB_LOOP_ROWS ? "" : " - col_begin",
                    vector ? ")" : " & 1");
}

/* Fills in the expression of ops.def: $0 $1 $2 are the args; $v, $s and $t come from attributes; hfb_ becomes the
 * prefix of the helpers. */
static void append_op(const hfb_codegen *g, int t, bool vector, hfb_strbuf *out) {
  const hfb_term *term = &g->loop->terms[t];
  if (g->plan->terms[t].drawn) {
    append_drawn(g, t, vector, out);
    return;
  }
  const hfb_term_form result = vector ? g->plan->terms[t].form : HFB_FORM_SCALAR;
  if (term->op == HFB_OP_CAST) {
    if (vector)
      append_vector_cast(g, t, out);
    else
      append_scalar_cast(g, t, out);
    return;
  }
  const hfb_term_form form = operand_form(g, term, result);
  const char *prefix = vector ? form_prefix[form] : dtype_prefix(term->dtype);
  const char *text = term->op == HFB_OP_NOT && vector ? "~$0" : hfb_op_info_of(term->op)->expression;
  const char *end = text + strlen(text);
  if (text[0] == '(') text++, end--; /* a statement of its own needs no parentheses */
  const bool call = strstr(text, "hfb_") != NULL;
  const bool wide_compare = form == HFB_FORM_I64 && result == HFB_FORM_MASK && !call;
  if (wide_compare) hfb_strbuf_append(out, "vl_mask(");
  while (text < end) {
    if (text[0] == '$' && text[1] == 'v') {
      hfb_codegen_literal(term->dtype, term->value, out);
      text += 2;
    } else if (text[0] == '$' && text[1] == 's') {
      hfb_strbuf_printf(out, "sites[%d]", term->site);
      text += 2;
    } else if (text[0] == '$' && text[1] == 't') {
      hfb_strbuf_printf(out, "%" PRIu32, hfb_random_threshold(term->value));
      text += 2;
    } else if (text[0] == '$') {
      append_op_operand(g, term, text[1] - '0', form, call, out);
      text += 2;
    } else if (strncmp(text, "hfb_", 4) == 0) {
      hfb_strbuf_append(out, prefix);
      text += 4;
    } else {
      hfb_strbuf_append_bytes(out, text++, 1);
    }
  }
  if (wide_compare) hfb_strbuf_append(out, ")");
}

void hfb_codegen_expression(const hfb_codegen *g, int t, const char *count, hfb_strbuf *out) {
  const hfb_term *term = &g->loop->terms[t];
  const bool vector = g->plan->vector && !term->per_row;
  switch (term->kind) {
    case HFB_TERM_LOAD:
      if (vector)
        append_vector_load(g, t, count, out);
      else
        append_scalar_load(g, t, out);
      return;
    case HFB_TERM_INDEX: append_index(g, t, vector, out); return;
    case HFB_TERM_OP: append_op(g, t, vector, out); return;
    case HFB_TERM_PADDED: append_padded(g, t, vector, out); return;
    default: append_scalar(g, t, out); return;
  }
}
