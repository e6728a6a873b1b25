/* The text of single terms: names, types, operands, expressions. Shared by the files of the code generator. */
#ifndef HFB_COMPILE_CODEGEN_TERMS_H
#define HFB_COMPILE_CODEGEN_TERMS_H

#include "base/strbuf.h"
#include "compile/loop_plan.h"

enum { HFB_MAX_NAME = 48 };

/* One function being written. */
typedef struct hfb_codegen {
  const hfb_loop *loop;
  const hfb_loop_plan *plan;
  int lanes;
  hfb_strbuf *out;
  int indent;
  const char *index[HFB_LOOP_MAX_RANK]; /* C variables of the dimensions */
  int *term_pointer;                    /* by term: which of its slot's row pointers a load uses */
  int *store_pointer;                   /* by store */
} hfb_codegen;

/* A line: printf, indented. */
void hfb_codegen_line(hfb_codegen *g, const char *format, ...) HFB_PRINTF(2, 3);
/* A statement in pieces: begin, append to g->out, end with ";". */
void hfb_codegen_begin_line(hfb_codegen *g);
void hfb_codegen_end_line(hfb_codegen *g);

/* "add5", "sum7", "in3": the C variable of a term. Returns text. */
const char *hfb_codegen_term_name(const hfb_loop *loop, int term, char text[HFB_MAX_NAME]);
/* "const float", of one element in memory or in a scalar variable. */
const char *hfb_codegen_c_type(hfb_dtype dtype);
/* "f32v" */
const char *hfb_codegen_form_type(hfb_term_form form);
/* "v_", "vi_", "vl_": the helpers of a form; `memory` is "load" or "store": "vi_load_bool" for masks of bool terms. */
void hfb_codegen_memory_helper(const hfb_term *term, hfb_term_form form, const char *memory, hfb_strbuf *out);

/* A literal of this dtype. */
void hfb_codegen_literal(hfb_dtype dtype, double value, hfb_strbuf *out);

/* "128 + i0 * 768": offset and the dimensions [0, rank) of an access. */
void hfb_codegen_affine(const hfb_codegen *g, int64_t offset, const int64_t *strides, int rank, hfb_strbuf *out);

/* The value of a term as an operand of the form asked for. */
void hfb_codegen_operand(const hfb_codegen *g, int term, hfb_term_form form, hfb_strbuf *out);

/* The expression that gives the term its value. `count`: NULL in the full vectors of a row, else the number of lanes in
 * use, as text. Terms that do not vary along the row, and all terms of scalar loops, give scalars. */
void hfb_codegen_expression(const hfb_codegen *g, int term, const char *count, hfb_strbuf *out);

/* "draw_row(random_keep3_bits, i0 * 768, 768, load1, load2, sites[0], 1677722)": the bits of a drawn mask. */
void hfb_codegen_draw(const hfb_codegen *g, int term, hfb_strbuf *out);

/* "in0_row + j * 4": where the row pointer and the inner index point. */
void hfb_codegen_address(const hfb_codegen *g, int pointer, int slot, int64_t inner_stride, hfb_strbuf *out);
/* "out3_row[j * 4]": the element there. */
void hfb_codegen_element(const hfb_codegen *g, int pointer, int slot, int64_t inner_stride, hfb_strbuf *out);
/* "in0_row", "in0_row2": a row pointer. */
void hfb_codegen_pointer_name(const hfb_codegen *g, int pointer, int slot, hfb_strbuf *out);
/* "in0", "out3", "io2", "tile": a slot. */
void hfb_codegen_slot_name(const hfb_codegen *g, int slot, hfb_strbuf *out);

/* "i0 >= 2 && i0 < 8": the outer dimensions in which a guarded load is allowed; false when there is no limit. */
bool hfb_codegen_is_guarded(const hfb_codegen *g, int term);
bool hfb_codegen_outer_guard(const hfb_codegen *g, int term, hfb_strbuf *out);

#endif
