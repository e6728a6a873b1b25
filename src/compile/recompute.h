/* Which values a loop should compute again rather than read.
 *
 * Training reads a value of the forward pass again in the backward pass. Storing it costs a write, a read and memory
 * from its making to its last use; where it is a few cheap operations on one tensor that is stored anyway, computing it
 * again costs that tensor's read alone. */
#ifndef HFB_COMPILE_RECOMPUTE_H
#define HFB_COMPILE_RECOMPUTE_H

#include "compile/users.h"

/* What a value is computed from, down to what is stored. */
typedef struct hfb_chain {
  const hfb_value *leaf; /* the one large stored value; NULL: none */
  bool leaf_is_tile;     /* `leaf` is a product that only this chain reads: better stored behind its epilogue */
  bool many_leaves;
  bool is_epilogue;      /* reads such a product, if need be beside other leaves */
  bool has_function;     /* an elementary function is in it */
  int cost;              /* operations for one element, roughly */
} hfb_chain;

/* chains: by value id, for all values. is_leaf: by value id: stored for sure, or the work of a step. */
void hfb_chains_find(const hfb_graph *graph, const hfb_users *users, const bool *is_leaf, hfb_chain *out_chains);

/* True when a value with readers in several loops should have no storage. */
bool hfb_chain_is_recomputed(const hfb_users *users, const hfb_chain *chains, const hfb_value *value);

/* In a training graph (one with updates, or gradients among its outputs): a large value that the forward pass makes for
 * a product or another step, and that a step of the backward pass reads again, gets a copy of its chain there, when the
 * chain is cheap and its leaf is alive then anyway. So it need not be kept: the output of a norm, say, beside its
 * input. What goes through an elementary function is kept: as operand of a product it would be made and written a
 * second time, for a GELU 1.5 to 4 % of a step, and the product that it comes from stores both at once
 * (partition.h). */
hfb_status hfb_pass_recompute(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

#endif
