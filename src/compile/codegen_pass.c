#include "compile/codegen_pass.h"

#include <inttypes.h>
#include <stdio.h>

/* Up to these costs a pass with reductions has 4, or 2, partial results of each. */
enum { CHEAP_PASS = 8, MODERATE_PASS = 24 };

static const char *inner_index(const hfb_codegen *g) {
  return g->index[g->loop->rank - 1];
}
static int64_t inner_extent(const hfb_codegen *g) {
  return g->loop->extent[g->loop->rank - 1];
}

typedef struct pass_context {
  int pass;
  int unroll;        /* partial results of each reduction; 0 in scalar loops */
  const char *part;  /* which of them: "u" or "0" */
  const char *count; /* lanes in use, NULL: all */
} pass_context;

static bool reduces_in(const hfb_codegen *g, int t, int pass) {
  return g->plan->terms[t].needed && g->loop->terms[t].kind == HFB_TERM_REDUCE &&
         hfb_loop_plan_reduce_pass(g->loop, g->plan, t) == pass;
}

static bool stores_in(const hfb_codegen *g, int pass) {
  bool any = false;
  for (int s = 0; s < g->loop->store_count; s++) any = any || hfb_loop_store_is_inner(g->loop, &g->loop->stores[s]);
  return any && pass + 1 == g->plan->pass_count;
}

/* Partial results of a reduction: floats stay in their form, integers are added up in 64 bits. */
static hfb_term_form reduce_form(const hfb_codegen *g, int t) {
  if (!g->plan->vector) return HFB_FORM_SCALAR;
  return g->loop->terms[t].dtype == HFB_F32 ? HFB_FORM_F32 : HFB_FORM_I64;
}

static const char *neutral_of(const hfb_term *term) {
  if (term->op == HFB_OP_REDUCE_SUM) return "0";
  return hfb_dtype_is_float(term->dtype) ? "-INFINITY" : "(-INT64_MAX - 1)";
}

static void write_accumulators(hfb_codegen *g, const pass_context *c) {
  char name[HFB_MAX_NAME];
  for (int t = 0; t < g->loop->term_count; t++) {
    if (!reduces_in(g, t, c->pass)) continue;
    const hfb_term *term = &g->loop->terms[t];
    const hfb_term_form form = reduce_form(g, t);
    hfb_codegen_term_name(g->loop, t, name);
    if (form == HFB_FORM_SCALAR) {
      const char *type = hfb_dtype_is_float(term->dtype) ? "double" : "int64_t";
      hfb_codegen_line(g, "%s %s_part = %s;", type, name, neutral_of(term));
      continue;
    }
    hfb_codegen_begin_line(g);
    hfb_strbuf_printf(g->out, "%s %s_part[%d] = {", hfb_codegen_form_type(form), name, c->unroll);
    if (term->op == HFB_OP_REDUCE_SUM) hfb_strbuf_append(g->out, "{0}");
    for (int u = 0; u < c->unroll && term->op == HFB_OP_REDUCE_MAX; u++) {
      hfb_strbuf_printf(g->out, "%s%s(%s)", u > 0 ? ", " : "", form == HFB_FORM_F32 ? "v_set" : "vl_set",
                        neutral_of(term));
    }
    hfb_strbuf_append(g->out, "};\n");
  }
}

/* sum3_part[u] += mul2; */
static void write_reduction(hfb_codegen *g, const pass_context *c, int t) {
  char name[HFB_MAX_NAME];
  const hfb_term *term = &g->loop->terms[t];
  const hfb_term_form form = reduce_form(g, t);
  const bool sum = term->op == HFB_OP_REDUCE_SUM;
  hfb_codegen_term_name(g->loop, t, name);
  hfb_codegen_begin_line(g);
  if (form == HFB_FORM_SCALAR) {
    hfb_strbuf_printf(g->out, sum ? "%s_part += " : "%s_part = %s(", name,
                      hfb_dtype_is_float(term->dtype) ? "d_max" : "i_max");
    hfb_codegen_operand(g, term->args[0], form, g->out);
    if (!sum) hfb_strbuf_printf(g->out, ", %s_part)", name);
    hfb_codegen_end_line(g);
    return;
  }
  const char *prefix = form == HFB_FORM_F32 ? "v_" : "vl_";
  hfb_strbuf_printf(g->out, "%s_part[%s] %s ", name, c->part, sum ? "+=" : "=");
  if (!sum) hfb_strbuf_printf(g->out, "%smax(", prefix);
  if (c->count) hfb_strbuf_printf(g->out, "%skeep(", prefix);
  hfb_codegen_operand(g, term->args[0], form, g->out);
  if (c->count) hfb_strbuf_printf(g->out, ", %s, %s)", c->count, neutral_of(term));
  if (!sum) hfb_strbuf_printf(g->out, ", %s_part[%s])", name, c->part);
  hfb_codegen_end_line(g);
}

/* const float sum3 = v_reduce_sum((sum3_part[0] + sum3_part[1]) + (sum3_part[2] + sum3_part[3])); */
static void write_reduced(hfb_codegen *g, const pass_context *c, int t) {
  char name[HFB_MAX_NAME];
  const hfb_term *term = &g->loop->terms[t];
  const hfb_term_form form = reduce_form(g, t);
  const bool sum = term->op == HFB_OP_REDUCE_SUM;
  const char *type = hfb_codegen_c_type(term->dtype);
  hfb_codegen_term_name(g->loop, t, name);
  if (form == HFB_FORM_SCALAR) {
    hfb_codegen_line(g, "const %s %s = (%s)%s_part;", type, name, type, name);
    return;
  }
  const char *prefix = form == HFB_FORM_F32 ? "v_" : "vl_";
  for (int width = c->unroll; width > 1; width = (width + 1) / 2) {
    const int half = (width + 1) / 2;
    for (int u = 0; u + half < width; u++) {
      if (sum)
        hfb_codegen_line(g, "%s_part[%d] += %s_part[%d];", name, u, name, u + half);
      else
        hfb_codegen_line(g, "%s_part[%d] = %smax(%s_part[%d], %s_part[%d]);", name, u, prefix, name, u, name, u + half);
    }
  }
  hfb_codegen_line(g, "const %s %s = %sreduce_%s(%s_part[0]);", type, name, prefix, sum ? "sum" : "max", name);
}

/* Reads a kept term back, or computes it, and keeps it when a later pass wants it. */
static void write_term(hfb_codegen *g, const pass_context *c, int t) {
  char name[HFB_MAX_NAME];
  const hfb_term *term = &g->loop->terms[t];
  const hfb_term_plan *plan = &g->plan->terms[t];
  const bool vector = g->plan->vector;
  const char *j = inner_index(g);
  hfb_codegen_term_name(g->loop, t, name);
  const char *prefix = plan->form == HFB_FORM_F32 ? "v_" : plan->form == HFB_FORM_I64 ? "vl_" : "vi_";
  hfb_codegen_begin_line(g);
  hfb_strbuf_printf(
      g->out, "const %s %s = ", vector ? hfb_codegen_form_type(plan->form) : hfb_codegen_c_type(term->dtype), name);
  if (plan->keep_pass >= 0 && plan->keep_pass < c->pass) {
    if (vector)
      hfb_strbuf_printf(g->out, "%sload(%s_kept + %s)", prefix, name, j);
    else
      hfb_strbuf_printf(g->out, "%s_kept[%s]", name, j);
  } else {
    hfb_codegen_expression(g, t, c->count, g->out);
  }
  hfb_codegen_end_line(g);
  if (plan->keep_pass != c->pass) return;
  if (vector)
    hfb_codegen_line(g, "%sstore(%s_kept + %s, %s);", prefix, name, j, name);
  else
    hfb_codegen_line(g, "%s_kept[%s] = %s;", name, j, name);
}

static void write_store(hfb_codegen *g, const pass_context *c, int s) {
  const hfb_store *store = &g->loop->stores[s];
  const hfb_term *term = &g->loop->terms[store->term];
  const hfb_term_plan *plan = &g->plan->terms[store->term];
  const bool tile = store->slot == 0 && g->loop->kind != HFB_LOOP_ROWS;
  const int64_t stride = tile ? 1 : store->strides[g->loop->rank - 1];
  hfb_codegen_begin_line(g);
  if (!g->plan->vector) {
    hfb_codegen_element(g, g->store_pointer[s], store->slot, stride, g->out);
    hfb_strbuf_append(g->out, " = ");
    hfb_codegen_operand(g, store->term, HFB_FORM_SCALAR, g->out);
    hfb_codegen_end_line(g);
    return;
  }
  hfb_term_form form = plan->form; /* in memory: narrow i64 terms are 64 bits wide */
  if (term->dtype == HFB_I64)
    form = HFB_FORM_I64;
  else if (term->per_row)
    form = term->dtype == HFB_F32 ? HFB_FORM_F32 : term->dtype == HFB_BOOL ? HFB_FORM_MASK : HFB_FORM_I32;
  hfb_codegen_memory_helper(term, form, "store", g->out);
  hfb_strbuf_append(g->out, stride != 1 ? "_lanes(" : c->count ? "_part(" : "(");
  hfb_codegen_address(g, g->store_pointer[s], store->slot, stride, g->out);
  hfb_strbuf_append(g->out, ", ");
  hfb_codegen_operand(g, store->term, form, g->out);
  if (stride != 1) hfb_strbuf_printf(g->out, ", %" PRId64, stride);
  if (c->count)
    hfb_strbuf_printf(g->out, ", %s", c->count);
  else if (stride != 1)
    hfb_strbuf_printf(g->out, ", %d", g->lanes);
  hfb_strbuf_append(g->out, ")");
  hfb_codegen_end_line(g);
}

/* What a pass does at one index: terms, then reductions, then, in the last pass, stores. */
static void write_body(hfb_codegen *g, const pass_context *c) {
  for (int t = 0; t < g->loop->term_count; t++) {
    if (!g->loop->terms[t].per_row && (g->plan->terms[t].passes >> c->pass & 1)) write_term(g, c, t);
  }
  for (int t = 0; t < g->loop->term_count; t++) {
    if (reduces_in(g, t, c->pass)) write_reduction(g, c, t);
  }
  for (int s = 0; s < g->loop->store_count && stores_in(g, c->pass); s++) {
    if (hfb_loop_store_is_inner(g->loop, &g->loop->stores[s])) write_store(g, c, s);
  }
}

static void write_block(hfb_codegen *g, const pass_context *c) {
  g->indent++;
  write_body(g, c);
  g->indent--;
  hfb_codegen_line(g, "}");
}

/* Several accumulators hide the latency of the additions when there is little else to do. */
static int choose_unroll(const hfb_codegen *g, int pass) {
  bool reduces = false;
  for (int t = 0; t < g->loop->term_count; t++) reduces = reduces || reduces_in(g, t, pass);
  const int64_t vectors = inner_extent(g) / g->lanes;
  const int wanted = !reduces                                    ? 1
                     : g->plan->pass_cost[pass] <= CHEAP_PASS    ? 4
                     : g->plan->pass_cost[pass] <= MODERATE_PASS ? 2
                                                                 : 1;
  for (int unroll = wanted; unroll > wanted / 2; unroll--) {
    if (vectors >= unroll && vectors % unroll == 0) return unroll; /* nothing is left over */
  }
  return vectors >= wanted ? wanted : 1;
}

/* ROWS: the extent of the row is known. */
static void write_row_loops(hfb_codegen *g, pass_context *c) {
  char count[24];
  const char *j = inner_index(g);
  const int64_t extent = inner_extent(g), lanes = g->lanes, block = lanes * c->unroll;
  const int64_t block_end = extent / block * block, vector_end = extent / lanes * lanes;
  if (c->unroll > 1 && block_end > 0) {
    hfb_codegen_line(g, "for (int64_t block = 0; block < %" PRId64 "; block += %" PRId64 ") {", block_end, block);
    g->indent++;
    hfb_codegen_line(g, "UNROLL for (int u = 0; u < %d; u++) {", c->unroll);
    g->indent++;
    hfb_codegen_line(g, "const int64_t %s = block + u * %d;", j, g->lanes);
    g->indent--;
    c->part = "u";
    write_block(g, c);
    g->indent--;
    hfb_codegen_line(g, "}");
  }
  c->part = "0";
  const int64_t single_begin = c->unroll > 1 ? block_end : 0;
  if (single_begin < vector_end) {
    hfb_codegen_line(g, "for (int64_t %s = %" PRId64 "; %s < %" PRId64 "; %s += %d) {", j, single_begin, j, vector_end,
                     j, g->lanes);
    write_block(g, c);
  }
  if (vector_end < extent) {
    snprintf(count, sizeof count, "%" PRId64, extent - vector_end);
    c->count = count;
    hfb_codegen_line(g, "{");
    hfb_codegen_line(g, "  const int64_t %s = %" PRId64 "; /* the last %s */", j, vector_end, count);
    write_block(g, c);
    c->count = NULL;
  }
}

/* TILE and SCORE: the range of columns is given at run time. */
static void write_column_loops(hfb_codegen *g, pass_context *c) {
  const char *j = inner_index(g);
  c->part = "0";
  hfb_codegen_line(g, "int64_t %s = col_begin;", j);
  hfb_codegen_line(g, "for (; %s + %d <= col_end; %s += %d) {", j, g->lanes, j, g->lanes);
  write_block(g, c);
  hfb_codegen_line(g, "if (%s < col_end) {", j);
  hfb_codegen_line(g, "  const int64_t rest = col_end - %s;", j);
  c->count = "rest";
  write_block(g, c);
  c->count = NULL;
}

void hfb_codegen_pass(hfb_codegen *g, int pass) {
  char name[HFB_MAX_NAME];
  const char *j = inner_index(g);
  const bool rows = g->loop->kind == HFB_LOOP_ROWS;
  pass_context c = {.pass = pass, .unroll = g->plan->vector ? choose_unroll(g, pass) : 0};
  hfb_codegen_begin_line(g);
  hfb_strbuf_printf(g->out, "/* pass %d:", pass + 1);
  for (int t = 0; t < g->loop->term_count; t++) {
    if (reduces_in(g, t, pass)) hfb_strbuf_printf(g->out, " %s", hfb_codegen_term_name(g->loop, t, name));
  }
  hfb_strbuf_append(g->out, stores_in(g, pass) ? " stores */\n" : " */\n");
  write_accumulators(g, &c);
  if (!g->plan->vector) {
    if (rows)
      hfb_codegen_line(g, "for (int64_t %s = 0; %s < %" PRId64 "; %s++) {", j, j, inner_extent(g), j);
    else
      hfb_codegen_line(g, "for (int64_t %s = col_begin; %s < col_end; %s++) {", j, j, j);
    write_block(g, &c);
  } else if (rows) {
    write_row_loops(g, &c);
  } else {
    write_column_loops(g, &c);
  }
  for (int t = 0; t < g->loop->term_count; t++) {
    if (reduces_in(g, t, pass)) write_reduced(g, &c, t);
  }
}
