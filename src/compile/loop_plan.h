/* How a loop is computed: which terms in which pass over the row, what is kept between passes, in which form.
 *
 * Level of a term: the number of passes that must be over before it can be computed. A reduction of a term of level L
 * is done by pass L and has level L + 1. Stores along the row are done by the last pass.
 *
 * Values that vary along no dimension are computed before the first row. The bits of a random mask whose elements
 * follow each other along the row are drawn before its passes, 64 at a time, since one evaluation gives as many.
 *
 * A term needed in several passes is computed again when that is cheap, else put into the row scratch by the first pass
 * that computes it. Cheap: at most HFB_LOOP_CHEAP, counting 1 for a contiguous load, 1 for an arithmetic operation,
 * more for other loads, divisions and elementary functions. Reading back what was kept counts 1. */
#ifndef HFB_COMPILE_LOOP_PLAN_H
#define HFB_COMPILE_LOOP_PLAN_H

#include "compile/loop.h"

enum { HFB_LOOP_CHEAP = 2, HFB_LOOP_MAX_PASSES = 32, HFB_LOOP_MOST_DRAWN = 1 << 16 };

/* What holds the values of a term that varies along the row. LANES forms are vectors; a loop with a term that has no
 * such form is computed element by element. */
typedef enum hfb_term_form {
  HFB_FORM_SCALAR, /* a C variable of the term's dtype */
  HFB_FORM_F32,    /* f32v */
  HFB_FORM_MASK,   /* i32v of 0 and -1 */
  HFB_FORM_I32,    /* i32v; also of i64 terms whose range is known to fit */
  HFB_FORM_I64     /* i64v */
} hfb_term_form;

typedef struct hfb_term_plan {
  bool needed; /* for a store */
  hfb_term_form form;
  int level;
  bool invariant;     /* the same in all rows: computed once for each call */
  bool drawn;         /* RANDOM_KEEP: one bit for each element of the row is drawn before the passes */
  uint32_t passes;    /* bit p: pass p computes it or reads it back; only terms that vary along the row */
  int keep_pass;      /* the pass that puts it into the scratch, -1: none */
  size_t keep_offset; /* bytes */
  int64_t min, max;   /* of integer terms: bounds of the value */
  /* LOAD: where the value is used; smaller than the iteration space only under PADDED. */
  int64_t low[HFB_LOOP_MAX_RANK], high[HFB_LOOP_MAX_RANK];
} hfb_term_plan;

typedef struct hfb_loop_plan {
  hfb_term_plan *terms;
  bool vector;
  int pass_count;
  int pass_cost[HFB_LOOP_MAX_PASSES]; /* operations for one element, roughly */
  size_t scratch_bytes;
} hfb_loop_plan;

/* The loop must have passed hfb_loop_verify. */
hfb_status hfb_loop_plan_init(const hfb_loop *loop, hfb_loop_plan *out_plan) HFB_MUST_USE;
void hfb_loop_plan_deinit(hfb_loop_plan *plan);

/* The pass that does the reduction `term`. */
int hfb_loop_plan_reduce_pass(const hfb_loop *loop, const hfb_loop_plan *plan, int term);
/* True when the load must be skipped at some points of dimension `dim`. */
bool hfb_loop_plan_is_guarded(const hfb_loop *loop, const hfb_loop_plan *plan, int term, int dim);
/* A store that runs along the row: of a varying term, or one value repeated. */
bool hfb_loop_store_is_inner(const hfb_loop *loop, const hfb_store *store);
/* How many args the term has: they come first. */
int hfb_term_arg_count(const hfb_term *term);

#endif
