/* For decompose.c and decompose_backward.c: each rule by its name in column `decompose`, and the pieces they share.
 *
 * No call takes two arguments that build nodes: C leaves their order open, and the text of a graph must not depend on
 * the compiler. */
#ifndef HFB_IR_DECOMPOSE_RULES_H
#define HFB_IR_DECOMPOSE_RULES_H

#include "ir/builder.h"

/* in: the mapped inputs, never NULL. out: what replaces the results; a rule sets all of them. The caller casts floats
 * that were computed in f32 to the dtype of the result. */
typedef void (*hfb_decompose_fn)(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out);

/* hfb_decompose_self marks a primitive. */
#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, gradient, expression, \
               tolerance)                                                                                         \
  void hfb_decompose_##decompose(hfb_builder *b, const hfb_node *node, hfb_value *const *in, hfb_value **out);
#include "ir/ops.def"
#undef HFB_OP

/* Pieces take the dtype beside the value, which is NULL once anything failed. */

/* op over one axis, kept with extent 1. */
hfb_value *hfb_piece_reduce_axis(hfb_builder *b, hfb_op op, hfb_value *x, int axis);
/* The mean over the last dimension, kept with extent 1; of no features 0/0, as in a framework. */
hfb_value *hfb_piece_mean_last(hfb_builder *b, hfb_value *x, hfb_dtype dtype, int64_t features);
/* 1 / (1 + exp(-x)) */
hfb_value *hfb_piece_sigmoid(hfb_builder *b, hfb_value *x, hfb_dtype dtype);

/* What normalises rows: x - mean(x) (x itself for rms_norm), the 1 / sqrt(mean(centred^2) + eps) of each row, and their
 * product. The backward op builds the same nodes as the forward op, so that they merge. */
typedef struct hfb_piece_rows {
  hfb_value *scale, *normal;
} hfb_piece_rows;
hfb_piece_rows hfb_piece_normalize(hfb_builder *b, hfb_value *x, double eps, bool has_mean);

/* The same for the channels of x[..,T,C], over T. */
hfb_piece_rows hfb_piece_normalize_channels(hfb_builder *b, hfb_value *x, double eps);
/* The mean over the last dimension but one, kept with extent 1. */
hfb_value *hfb_piece_mean_channels(hfb_builder *b, hfb_value *x, hfb_dtype dtype, int64_t length);

/* bool: the targets that are not ignored; and how many they are, a scalar of `dtype`. */
hfb_value *hfb_piece_is_counted(hfb_builder *b, hfb_value *target, int64_t ignore_index);
hfb_value *hfb_piece_count(hfb_builder *b, hfb_value *is_counted, hfb_dtype dtype);

#endif
