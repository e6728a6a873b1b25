/* Recognising causal attention in a graph. */
#ifndef HFB_COMPILE_CAUSAL_H
#define HFB_COMPILE_CAUSAL_H

#include "ir/graph.h"

/* A bool value that is true exactly where key position (last dimension) <= query position (the one before): iotas that
 * are compared, seen through dimensions of extent 1. */
bool hfb_is_causal_keep(const hfb_value *value);

/* where(causal keep, x, c) with c so low that the softmax gives exactly 0. */
bool hfb_is_causal_where(const hfb_node *node);

/* Scores whose entries beyond the diagonal are masked, and that no other mask hides. */
bool hfb_is_causal_scores(const hfb_value *scores);

#endif
