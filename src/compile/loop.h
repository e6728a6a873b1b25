/* The lowered form between fusion and code generation: one fused loop nest, as a list of terms.
 *
 * Iteration space: `rank` dimensions; all but the last are the outer ones (flattened to a row number, split over
 * threads), the last is the inner one (vectorised). A term is a value at one point of that space; terms stand in
 * topological order. Movement ops are gone: they became strides and offsets of loads and stores.
 *
 * Three uses of the same form:
 *   ROWS   a kernel of its own, called for a range of rows
 *   TILE   an epilogue of a matrix product, dimensions (batch, row, column); slot 0 is the tile
 *   SCORE  a change of attention scores, dimensions (batch, head, query, key); slot 0 is the score block
 *
 * Reductions run over the inner dimension and give a per-row value; only ROWS loops may have them. A term that uses a
 * reduced value belongs to a later stage: the generator makes one pass over the row for each stage and keeps in the
 * row scratch what a later stage needs and is dear to compute again.
 *
 * A loop may have several stores, of any dtypes and levels. In place: the stores along a row happen in its last pass,
 * those of an element after all loads of that element; the stores of one value for a row happen after the last pass. So
 * a store may go over what is loaded with the same offset and strides, through the same slot or another, but not over
 * what any other load reads. In a TILE or SCORE loop, which does a row in several pieces, a store of one value for each
 * row may go over nothing that is loaded. Loads and stores of slot 0 of such a loop are at the current point, whatever
 * their strides say.
 *
 * Random masks: the sites of RANDOM_KEEP terms are not part of the code, so that layers share it. They are read at run
 * time from the slot `site_slot`, which points at the numbers in `sites`.
 *
 * Under PADDED: a load is done only where one of its uses keeps the value (as a box over all of them), so its address
 * may be wrong elsewhere. */
#ifndef HFB_COMPILE_LOOP_H
#define HFB_COMPILE_LOOP_H

#include "base/memory.h"
#include "ir/graph.h"

enum { HFB_LOOP_MAX_RANK = 6 };

typedef enum hfb_loop_kind { HFB_LOOP_ROWS, HFB_LOOP_TILE, HFB_LOOP_SCORE } hfb_loop_kind;

typedef enum hfb_term_kind {
  HFB_TERM_LOAD,   /* slot[offset + sum(index * strides) + value(args[0]) * index_stride]; args[0] = -1: not indexed */
  HFB_TERM_SCALAR, /* `value` */
  HFB_TERM_INDEX,  /* offset + sum(index * strides), as dtype: what iota became */
  HFB_TERM_OP,     /* an elementwise primitive (its ops.def expression) of args */
  HFB_TERM_REDUCE, /* REDUCE_SUM or REDUCE_MAX of args[0] over the inner dimension */
  HFB_TERM_PADDED  /* args[0] where low <= index[pad_dim] < high, else `value`: what pad became */
} hfb_term_kind;

typedef struct hfb_term {
  hfb_term_kind kind;
  hfb_dtype dtype;
  hfb_op op;    /* OP, REDUCE */
  int args[3];  /* term numbers, -1 = none */
  double value; /* SCALAR, PADDED; the VALUE of add_scalar, mul_scalar; P of random_keep */
  int site;     /* of random_keep: a number of the loop's `sites` */
  int slot;     /* LOAD */
  int64_t offset, strides[HFB_LOOP_MAX_RANK]; /* LOAD, INDEX: in elements, by dimension; 0 where it does not vary */
  int64_t index_stride;                       /* LOAD with an index term (i64) */
  int pad_dim;                                /* PADDED */
  int64_t low, high;
  bool per_row; /* does not vary along the inner dimension */
} hfb_term;

typedef struct hfb_store {
  int term;
  int slot;
  int64_t offset, strides[HFB_LOOP_MAX_RANK]; /* a per_row term without inner stride is stored once for each row */
} hfb_store;

typedef struct hfb_loop {
  hfb_loop_kind kind;
  int rank;
  int64_t extent[HFB_LOOP_MAX_RANK]; /* TILE, SCORE: known extents too; the function gets the sub-range to do */
  int term_count, store_count;
  hfb_term *terms;
  hfb_store *stores;
  int slot_count; /* slots are numbered 0..slot_count-1, each a pointer given at run time */
  hfb_dtype *slot_dtypes;
  int site_count; /* of random masks */
  int64_t *sites;
  int site_slot; /* with sites: a slot of i64 that no term loads or stores */
} hfb_loop;

/* Checks the rules above; what codegen may rely on. */
hfb_status hfb_loop_verify(const hfb_loop *loop) HFB_MUST_USE;

/* Bytes of row scratch that one thread needs for a ROWS loop (0 when nothing is kept between stages). */
size_t hfb_loop_scratch_bytes(const hfb_loop *loop);

/* Text for --dump=schedule and for tests. */
hfb_status hfb_loop_print(const hfb_loop *loop, hfb_strbuf *out_text) HFB_MUST_USE;

#endif
