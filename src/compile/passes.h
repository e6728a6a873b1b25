/* Graph to graph passes of the compiler. Each makes a new graph; inputs, parameters and outputs keep their order. */
#ifndef HFB_COMPILE_PASSES_H
#define HFB_COMPILE_PASSES_H

#include "ir/graph.h"

/* Dead code, common subexpressions (values equal but for their scope become one), algebra that is exact in floating
 * point (x*1, x+0 on integers, views of views), and a canonical form: every reduction has one axis. */
hfb_status hfb_pass_simplify(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* Evaluates nodes whose inputs are all constants, up to a few thousand elements, with the reference kernels. */
hfb_status hfb_pass_fold(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* Framework ops become primitives, but for those that a later pass matches whole: softmax inside attention (when
 * `match_attention`), and ops that have a kernel better than any loop (fft2_real). */
hfb_status hfb_pass_decompose(const hfb_graph *graph, bool match_attention, hfb_graph **out_graph) HFB_MUST_USE;

/* True for a softmax node whose scores come from one matrix product through elementwise ops and whose probabilities go
 * to one other product: what kernels/attention.h runs. */
bool hfb_match_attention(const hfb_graph *graph, const int *use_counts, const hfb_node *softmax);

#endif
