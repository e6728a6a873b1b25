#include "compile/codegen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "compile/codegen_pass.h"
#include "compile/prelude.h"

hfb_status hfb_codegen_prelude(hfb_isa isa, hfb_strbuf *out_code) {
  (void)isa; /* the text asks the compiler, whose flags follow from the instruction set */
  hfb_strbuf_append(out_code, hfb_prelude_text);
  return hfb_strbuf_status(out_code);
}

/* ---- row pointers ---- */

/* One access of a slot: everything of it but the inner dimension. */
typedef struct access {
  int slot;
  int64_t offset;
  const int64_t *strides;
  int index; /* per-row index term, -1: none */
  int64_t index_stride;
} access;

static access access_of_load(const hfb_loop *loop, int t) {
  const hfb_term *term = &loop->terms[t];
  const bool per_row_index = term->args[0] >= 0 && loop->terms[term->args[0]].per_row;
  return (access){term->slot, term->offset, term->strides, per_row_index ? term->args[0] : -1,
                  per_row_index ? term->index_stride : 0};
}

static access access_of_store(const hfb_store *store) {
  return (access){store->slot, store->offset, store->strides, -1, 0};
}

static bool access_equal(const hfb_loop *loop, access a, access b) {
  if (a.slot != b.slot) return false;
  if (a.slot == 0 && loop->kind != HFB_LOOP_ROWS) return true;
  if (a.offset != b.offset || a.index != b.index || a.index_stride != b.index_stride) return false;
  return memcmp(a.strides, b.strides, (size_t)(loop->rank - 1) * sizeof *a.strides) == 0;
}

static bool needs_pointer(const hfb_codegen *g, int t) {
  const hfb_term *term = &g->loop->terms[t];
  return g->plan->terms[t].needed && term->kind == HFB_TERM_LOAD && !term->per_row;
}

/* The number of the row pointer for `wanted`: that of an equal access before (term, store), else the next of its slot.
 */
static int pointer_number(const hfb_codegen *g, access wanted, int term_limit, int store_limit, bool *out_new) {
  int next = 0;
  *out_new = false;
  for (int t = 0; t < term_limit; t++) {
    if (!needs_pointer(g, t) || g->loop->terms[t].slot != wanted.slot) continue;
    if (access_equal(g->loop, access_of_load(g->loop, t), wanted)) return g->term_pointer[t];
    if (g->term_pointer[t] >= next) next = g->term_pointer[t] + 1;
  }
  for (int s = 0; s < store_limit; s++) {
    const hfb_store *store = &g->loop->stores[s];
    if (!hfb_loop_store_is_inner(g->loop, store) || store->slot != wanted.slot) continue;
    if (access_equal(g->loop, access_of_store(store), wanted)) return g->store_pointer[s];
    if (g->store_pointer[s] >= next) next = g->store_pointer[s] + 1;
  }
  *out_new = true;
  return next;
}

/* " + row * 768", nothing when the access starts at the same place in every row. */
static void write_offset(hfb_codegen *g, access a) {
  bool moves = a.offset != 0;
  for (int d = 0; d + 1 < g->loop->rank; d++) moves = moves || a.strides[d] != 0;
  if (!moves) return;
  hfb_strbuf_append(g->out, " + ");
  hfb_codegen_affine(g, a.offset, a.strides, g->loop->rank - 1, g->out);
}

static void write_pointer(hfb_codegen *g, access a, int pointer) {
  bool stored = false;
  for (int s = 0; s < g->loop->store_count; s++) stored = stored || g->loop->stores[s].slot == a.slot;
  hfb_codegen_begin_line(g);
  hfb_strbuf_printf(g->out, "%s%s *const ", stored ? "" : "const ", hfb_codegen_c_type(g->loop->slot_dtypes[a.slot]));
  hfb_codegen_pointer_name(g, pointer, a.slot, g->out);
  hfb_strbuf_append(g->out, " = ");
  if (a.slot == 0 && g->loop->kind != HFB_LOOP_ROWS) {
    const char *name = g->loop->kind == HFB_LOOP_TILE ? "tile" : "scores";
    hfb_strbuf_printf(g->out, "(%s *)%s + (%s - row_begin) * ld", hfb_codegen_c_type(g->loop->slot_dtypes[0]), name,
                      g->index[g->loop->rank - 2]);
  } else {
    hfb_codegen_slot_name(g, a.slot, g->out);
    write_offset(g, a);
    if (a.index >= 0) {
      hfb_strbuf_append(g->out, " + ");
      hfb_codegen_operand(g, a.index, HFB_FORM_SCALAR, g->out);
      if (a.index_stride != 1) hfb_strbuf_printf(g->out, " * %" PRId64, a.index_stride);
    }
  }
  hfb_codegen_end_line(g);
}

/* "load3_first", "load3_last": where along this row a guarded load is allowed. */
static void write_guard(hfb_codegen *g, int t) {
  char name[HFB_MAX_NAME];
  const int inner = g->loop->rank - 1;
  const hfb_term_plan *plan = &g->plan->terms[t];
  hfb_codegen_term_name(g->loop, t, name);
  hfb_strbuf condition;
  hfb_strbuf_init(&condition);
  if (hfb_codegen_outer_guard(g, t, &condition)) {
    hfb_codegen_line(g, "const int64_t %s_here = %s;", name, hfb_strbuf_text(&condition));
    hfb_codegen_line(g, "const int64_t %s_first = %" PRId64 ", %s_last = %s_here ? %" PRId64 " : 0;", name,
                     plan->low[inner], name, name, plan->high[inner]);
  } else {
    hfb_codegen_line(g, "const int64_t %s_first = %" PRId64 ", %s_last = %" PRId64 ";", name, plan->low[inner], name,
                     plan->high[inner]);
  }
  if (hfb_strbuf_status(&condition) != HFB_OK) g->out->status = hfb_strbuf_status(&condition);
  hfb_strbuf_deinit(&condition);
}

/* Pointers whose index, if any, is known when `level` passes are over. */
static void write_pointers(hfb_codegen *g, int level) {
  bool is_new = false;
  for (int t = 0; t < g->loop->term_count; t++) {
    if (!needs_pointer(g, t)) continue;
    const access a = access_of_load(g->loop, t);
    if ((a.index >= 0 ? g->plan->terms[a.index].level : 0) != level) continue;
    g->term_pointer[t] = pointer_number(g, a, t, 0, &is_new);
    if (is_new) write_pointer(g, a, g->term_pointer[t]);
    const bool tile = a.slot == 0 && g->loop->kind != HFB_LOOP_ROWS;
    if (g->plan->vector && !tile && hfb_codegen_is_guarded(g, t)) write_guard(g, t);
  }
  for (int s = 0; s < g->loop->store_count && level == 0; s++) {
    const hfb_store *store = &g->loop->stores[s];
    if (!hfb_loop_store_is_inner(g->loop, store)) continue;
    g->store_pointer[s] = pointer_number(g, access_of_store(store), g->loop->term_count, s, &is_new);
    if (is_new) write_pointer(g, access_of_store(store), g->store_pointer[s]);
  }
}

/* ---- one row ---- */

static void write_row_term(hfb_codegen *g, int t) {
  char name[HFB_MAX_NAME];
  if (g->loop->terms[t].kind == HFB_TERM_SCALAR) return; /* literals stand where they are used */
  hfb_codegen_begin_line(g);
  hfb_strbuf_printf(g->out, "const %s %s = ", hfb_codegen_c_type(g->loop->terms[t].dtype),
                    hfb_codegen_term_name(g->loop, t, name));
  hfb_codegen_expression(g, t, NULL, g->out);
  hfb_codegen_end_line(g);
}

/* Before the first row: values that are the same in all of them. */
static void write_invariants(hfb_codegen *g) {
  for (int t = 0; t < g->loop->term_count; t++) {
    if (g->plan->terms[t].invariant) write_row_term(g, t);
  }
}

/* Values of the row that are known when `level` passes are over, and the masks drawn with them. */
static void write_row_terms(hfb_codegen *g, int level) {
  for (int t = 0; t < g->loop->term_count; t++) {
    const hfb_term *term = &g->loop->terms[t];
    const hfb_term_plan *plan = &g->plan->terms[t];
    if (!plan->needed || plan->level != level) continue;
    if (plan->drawn) {
      hfb_codegen_begin_line(g);
      hfb_codegen_draw(g, t, g->out);
      hfb_codegen_end_line(g);
    } else if (term->per_row && !plan->invariant && term->kind != HFB_TERM_REDUCE) {
      write_row_term(g, t);
    }
  }
}

static void write_row_stores(hfb_codegen *g) {
  for (int s = 0; s < g->loop->store_count; s++) {
    const hfb_store *store = &g->loop->stores[s];
    if (hfb_loop_store_is_inner(g->loop, store)) continue;
    hfb_codegen_begin_line(g);
    hfb_codegen_slot_name(g, store->slot, g->out);
    hfb_strbuf_append(g->out, "[");
    hfb_codegen_affine(g, store->offset, store->strides, g->loop->rank - 1, g->out);
    hfb_strbuf_append(g->out, "] = ");
    hfb_codegen_operand(g, store->term, HFB_FORM_SCALAR, g->out);
    hfb_codegen_end_line(g);
  }
}

static void write_row(hfb_codegen *g) {
  for (int level = 0; level <= g->plan->pass_count; level++) {
    write_row_terms(g, level);
    write_pointers(g, level);
    if (level < g->plan->pass_count) hfb_codegen_pass(g, level);
  }
  write_row_stores(g);
}

/* ---- the function ---- */

static void write_slots(hfb_codegen *g) {
  for (int slot = g->loop->kind == HFB_LOOP_ROWS ? 0 : 1; slot < g->loop->slot_count; slot++) {
    bool loaded = false, stored = false;
    for (int t = 0; t < g->loop->term_count; t++) {
      const hfb_term *term = &g->loop->terms[t];
      loaded = loaded || (g->plan->terms[t].needed && term->kind == HFB_TERM_LOAD && term->slot == slot);
    }
    for (int s = 0; s < g->loop->store_count; s++) stored = stored || g->loop->stores[s].slot == slot;
    if (!loaded && !stored) continue;
    hfb_codegen_begin_line(g);
    hfb_strbuf_printf(g->out, "%s%s *const ", stored ? "" : "const ", hfb_codegen_c_type(g->loop->slot_dtypes[slot]));
    hfb_codegen_slot_name(g, slot, g->out);
    hfb_strbuf_printf(g->out, " = slots[%d]", slot);
    hfb_codegen_end_line(g);
  }
  if (g->loop->site_count > 0) hfb_codegen_line(g, "const int64_t *const sites = slots[%d];", g->loop->site_slot);
}

/* The bits of drawn masks, and the room that drawing them takes. */
static void write_masks(hfb_codegen *g) {
  char name[HFB_MAX_NAME];
  for (int t = 0; t < g->loop->term_count; t++) {
    if (!g->plan->terms[t].drawn) continue;
    hfb_codegen_line(g, "uint64_t %s_bits[%" PRId64 "];", hfb_codegen_term_name(g->loop, t, name),
                     g->loop->extent[g->loop->rank - 1] / 64 + 4);
  }
}

static void write_kept(hfb_codegen *g) {
  char name[HFB_MAX_NAME];
  for (int t = 0; t < g->loop->term_count; t++) {
    const hfb_term_plan *plan = &g->plan->terms[t];
    if (plan->keep_pass < 0) continue;
    const char *type = plan->form == HFB_FORM_SCALAR ? hfb_codegen_c_type(g->loop->terms[t].dtype)
                       : plan->form == HFB_FORM_F32  ? "float"
                       : plan->form == HFB_FORM_I64  ? "int64_t"
                                                     : "int32_t";
    hfb_codegen_line(g, "%s *const %s_kept = (%s *)((char *)scratch + %zu);", type,
                     hfb_codegen_term_name(g->loop, t, name), type, plan->keep_offset);
  }
}

/* i0 = row / 12, i1 = row % 12: the outer dimensions of the first row. */
static void write_first_row(hfb_codegen *g) {
  for (int d = 0; d + 1 < g->loop->rank; d++) {
    int64_t inside = 1;
    for (int i = d + 1; i + 1 < g->loop->rank; i++) inside *= g->loop->extent[i];
    hfb_codegen_begin_line(g);
    hfb_strbuf_printf(g->out, "int64_t %s = row_begin", g->index[d]);
    if (inside != 1) hfb_strbuf_printf(g->out, " / %" PRId64, inside);
    if (d > 0) hfb_strbuf_printf(g->out, " %% %" PRId64, g->loop->extent[d]);
    hfb_codegen_end_line(g);
  }
}

static void write_next_row(hfb_codegen *g) {
  const int last = g->loop->rank - 2;
  for (int d = last; d > 0; d--) {
    hfb_codegen_line(g, "%s++;", g->index[d]);
    hfb_codegen_line(g, "if (%s < %" PRId64 ") continue;", g->index[d], g->loop->extent[d]);
    hfb_codegen_line(g, "%s = 0;", g->index[d]);
  }
  hfb_codegen_line(g, "%s++;", g->index[0]);
}

static bool is_empty(const hfb_loop *loop) {
  for (int d = 0; d < loop->rank; d++) {
    if (loop->extent[d] == 0 && (d + 1 < loop->rank || loop->kind != HFB_LOOP_ROWS)) return true;
  }
  return false;
}

static void write_rows_function(hfb_codegen *g, const char *name) {
  const bool split = g->loop->rank > 2; /* the row number is several dimensions */
  hfb_codegen_line(g, "void %s(void *const *slots, int64_t row_begin, int64_t row_end, void *scratch) {", name);
  g->indent = 1;
  if (!is_empty(g->loop)) {
    write_slots(g);
    write_kept(g);
    write_masks(g);
    write_invariants(g);
    if (split) write_first_row(g);
    hfb_codegen_line(g, "for (int64_t row = row_begin; row < row_end; row++) {");
    g->indent = 2;
    write_row(g);
    if (split) write_next_row(g);
    g->indent = 1;
    hfb_codegen_line(g, "}");
  }
}

static void write_tile_function(hfb_codegen *g, const char *name) {
  if (g->loop->kind == HFB_LOOP_TILE) {
    hfb_codegen_line(g, "void %s(const void *context, void *tile, int64_t ld, int64_t batch, int64_t row_begin,", name);
  } else {
    hfb_codegen_line(
        g, "void %s(const void *context, float *scores, int64_t ld, int64_t batch, int64_t head, int64_t row_begin,",
        name);
  }
  hfb_codegen_line(g, "  int64_t row_count, int64_t col_begin, int64_t col_count) {");
  g->indent = 1;
  if (!is_empty(g->loop)) {
    hfb_codegen_line(g, "void *const *const slots = context;");
    hfb_codegen_line(g, "const int64_t row_end = row_begin + row_count, col_end = col_begin + col_count;");
    write_slots(g);
    write_masks(g);
    write_invariants(g);
    const char *row = g->index[g->loop->rank - 2];
    hfb_codegen_line(g, "for (int64_t %s = row_begin; %s < row_end; %s++) {", row, row, row);
    g->indent = 2;
    write_row(g);
    g->indent = 1;
    hfb_codegen_line(g, "}");
  }
}

static void write_comment(hfb_codegen *g, const char *comment) {
  hfb_strbuf_append(g->out, "\n/* ");
  for (const char *c = comment; c && *c; c++) {
    if (c[0] == '*' && c[1] == '/') continue; /* it must not end the comment */
    hfb_strbuf_append_bytes(g->out, c, 1);
  }
  hfb_strbuf_append(g->out, comment && comment[0] ? "\n * " : "");
  for (int d = 0; d < g->loop->rank; d++)
    hfb_strbuf_printf(g->out, "%s%s < %" PRId64, d ? ", " : "", g->index[d], g->loop->extent[d]);
  hfb_strbuf_append(g->out, " */\n");
}

static void name_indices(hfb_codegen *g) {
  static const char *const outer[HFB_LOOP_MAX_RANK] = {"i0", "i1", "i2", "i3", "i4", "i5"};
  static const char *const tile[] = {"batch", "row", "col"};
  static const char *const score[] = {"batch", "head", "query", "key"};
  for (int d = 0; d < g->loop->rank; d++) {
    g->index[d] = g->loop->kind == HFB_LOOP_TILE ? tile[d] : g->loop->kind == HFB_LOOP_SCORE ? score[d] : outer[d];
  }
  if (g->loop->kind != HFB_LOOP_ROWS) return;
  g->index[g->loop->rank - 1] = "j";
  if (g->loop->rank == 2) g->index[0] = "row";
}

hfb_status hfb_codegen_loop(const hfb_loop *loop, const char *name, const char *comment, hfb_isa isa,
                            hfb_strbuf *out_code) {
  HFB_TRY(hfb_loop_verify(loop));
  hfb_loop_plan plan;
  HFB_TRY(hfb_loop_plan_init(loop, &plan));
  hfb_codegen g = {.loop = loop, .plan = &plan, .out = out_code};
  g.lanes = isa >= HFB_ISA_AVX512 ? 16 : isa == HFB_ISA_AVX2 ? 8 : 4;
  name_indices(&g);
  hfb_status status =
      hfb_mem_alloc((size_t)loop->term_count + (size_t)loop->store_count, sizeof *g.term_pointer, &g.term_pointer);
  if (status == HFB_OK) {
    g.store_pointer = g.term_pointer + loop->term_count;
    write_comment(&g, comment);
    if (loop->kind == HFB_LOOP_ROWS)
      write_rows_function(&g, name);
    else
      write_tile_function(&g, name);
    g.indent = 0;
    hfb_codegen_line(&g, "}");
    status = hfb_strbuf_status(out_code);
  }
  hfb_mem_free(g.term_pointer);
  hfb_loop_plan_deinit(&plan);
  return status;
}
