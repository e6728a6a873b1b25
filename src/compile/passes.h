/* Graph to graph passes of the compiler. Each makes a new graph; inputs, parameters and outputs keep their order. */
#ifndef HFB_COMPILE_PASSES_H
#define HFB_COMPILE_PASSES_H

#include "ir/graph.h"

/* Dead code, common subexpressions (values equal but for their scope become one), algebra that is exact in floating
 * point (x*1, x+0 on integers, views of views), and a canonical form: every reduction has one axis, or
 * hfb_reduces_leading. */
hfb_status hfb_pass_simplify(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* Evaluates nodes whose inputs are all constants, up to a few thousand elements, with the reference kernels. */
hfb_status hfb_pass_fold(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* softmax(scores) v, and its backward nodes, become the attention ops, whose kernels hold no matrix of queries x keys.
 * Matched where the scores come from one matrix product through elementwise ops and the probabilities go, dropped out
 * or not, to one other product; in training the gradient of the scores must go back to that product in the same way (a
 * position bias with a gradient needs the matrix: such attention stays as it is). */
hfb_status hfb_pass_attention(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* In training: the product that gives logits, their cross entropy and the gradients of both become one op, whose kernel
 * never holds the logits of all tokens. Matched where nothing else reads the logits. */
hfb_status hfb_pass_loss(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* Framework ops become primitives, but for those that have a kernel better than any loop (fft2_real). */
hfb_status hfb_pass_decompose(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* Products read weights that are stored as bf16 as they are. */
hfb_status hfb_pass_weights(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* Lookups in tables that products read too become `embedding`, a step of its own. For programs that own their
 * parameters, and so may rearrange such tables. */
hfb_status hfb_pass_tables(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* A large reduction over leading axes: one kernel that goes through memory in order. */
bool hfb_reduces_leading(const hfb_node *node);

#endif
