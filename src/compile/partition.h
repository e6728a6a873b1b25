/* Which values get storage, and which loop computes each of the others.
 *
 * One sweep from the outputs: a value whose users all belong to one loop is computed inside that loop; a value with
 * users in several is stored, unless it costs nothing (iotas and scalars) or less than storing it (recompute.h). A
 * matrix product whose users all belong to one loop without reductions lives only in the tiles of that loop, which
 * becomes its epilogue.
 *
 * A value that must be stored only because it escapes, as an output or as the new value of a parameter, and whose other
 * readers are all in one loop, is stored by that loop: one loop gives all that an optimizer's step leaves behind. The
 * new value of a parameter is no epilogue of a product: a product keeps partial sums where its result goes, and so
 * could not be written over the old value.
 *
 * A value that several loops read is stored by the first of them when that has its shape. So the forward pass stores x
 * and GELU(x) from one tile of a product, and the loop that makes the gradient of a residual sum stores what dropout
 * leaves of it, too.
 *
 * Lowering may find a value that cannot be computed where the sweep put it (a reduction over another axis, a reshape
 * that is not affine): it marks the value `forced`, and the sweep is done again. */
#ifndef HFB_COMPILE_PARTITION_H
#define HFB_COMPILE_PARTITION_H

#include "compile/affine.h"
#include "compile/recompute.h"
#include "compile/schedule.h"
#include "compile/users.h"

typedef struct hfb_partition {
  const hfb_graph *graph;
  hfb_users users;
  bool *forced;            /* by value id: needs storage; only grows */
  bool *no_tile;           /* by value id of a product: must be stored; only grows */
  const hfb_value **root;  /* by value id: the value that ends the loop which computes this one; itself when stored;
                              NULL when dead, free (computed in every user) or from outside */
  const hfb_value **tile;  /* by value id of a root: the product whose tiles the loop rewrites, or NULL */
  const hfb_node **reduce; /* by value id of a root: a reduction in its loop, the one nearest the inputs, or NULL */
  bool *by_blocks;         /* by value id: a gather whose blocks attention reads where they lie (block_gather.h) */
  bool *is_score;          /* by value id: scores of an attention: a root without storage */
  hfb_chain *chains;       /* by value id */
  bool *is_leaf;           /* by value id: where chains end */
  bool *no_extra;          /* by value id: must have a loop of its own; only grows */
  bool *is_update;         /* by value id: the new value of a parameter */
  bool *is_extra;          /* by value id: stored by the loop that ends with root[id], beside that */
  bool *has_extras;        /* by value id of a root */
  bool *rows_only;         /* by value id of a root: its loop stores what escapes, and is no epilogue */
  bool again;              /* the sweep forced a value */
} hfb_partition;

hfb_status hfb_partition_create(const hfb_graph *graph, hfb_partition **out_partition) HFB_MUST_USE;
void hfb_partition_destroy(hfb_partition *partition); /* NULL is allowed */

/* Assigns roots and tiles afresh from `forced` and `no_tile`. */
void hfb_partition_sweep(hfb_partition *partition);

/* Parameters, inputs and constants of more than one element, roots that are not scores, and extras. */
bool hfb_partition_is_stored(const hfb_partition *partition, const hfb_value *value);

/* The product (or gradient of the scores) that attention scores come from through elementwise ops; NULL when there is
 * none, or more than one. */
const hfb_node *hfb_score_source(const hfb_value *scores);

/* An attention op whose scores come from a product: a step of the attention kernels. Others are kernel steps. */
bool hfb_is_attention(const hfb_node *node);

/* Runs as one kernel of kernels.def. */
bool hfb_is_kernel_step(const hfb_node *node);

/* A product, an attention step or a kernel step: its operands are read as strided views of storage. */
bool hfb_is_step(const hfb_node *node);

/* The stored value behind movement ops as a strided view; `storage` gives the strides of stored values. False when the
 * value is not stored or the chain needs a copy; *out_blocker is then the value to store. */
bool hfb_partition_view(const hfb_partition *partition, const hfb_storage *storage, const hfb_value *value,
                        hfb_view *out_view, const hfb_value **out_blocker);

/* Sets `storage` of every stored value: kind, index, strides, bytes. */
void hfb_partition_assign_storage(const hfb_partition *partition, hfb_storage *storage);

#endif
