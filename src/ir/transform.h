/* Graph to graph: copying with replacement, precision, storage of parameters, decomposition, cost. */
#ifndef HFB_IR_TRANSFORM_H
#define HFB_IR_TRANSFORM_H

#include "ir/builder.h"
#include "ir/graph.h"

/* The state of one rewrite: `map[old value id]` is the value of the new graph, NULL while not copied. */
typedef struct hfb_rewrite {
  const hfb_graph *from;
  hfb_builder b; /* builds the new graph */
  hfb_value **map;
} hfb_rewrite;

hfb_status hfb_rewrite_begin(hfb_rewrite *rewrite, const hfb_graph *from) HFB_MUST_USE;
/* Copies one node with its inputs mapped and its own scope; sets map for its results. */
void hfb_rewrite_copy(hfb_rewrite *rewrite, const hfb_node *node);
/* Copies the outputs and updates and hands the new graph over. All inputs and parameters of the old graph must have
 * been copied: binding orders stay the same. */
hfb_status hfb_rewrite_finish(hfb_rewrite *rewrite, hfb_graph **out_graph) HFB_MUST_USE;
void hfb_rewrite_deinit(hfb_rewrite *rewrite);

/* The same graph with every f32 value in `dtype` (F64 for the reference, F32 to copy). Integer values stay. */
hfb_status hfb_graph_convert(const hfb_graph *graph, hfb_dtype dtype, hfb_graph **out_graph) HFB_MUST_USE;

/* The same graph with parameter i stored in dtypes[i] (floating-point where it differs). Each reader converts it right
 * before it computes, in a cast of its own, so that what is converted lives for one use; lookups and views select first
 * and convert what they selected. Converting to a wider dtype changes no bit of any result. HFB_UNSUPPORTED for
 * parameters that are updated or are outputs themselves. */
hfb_status hfb_graph_store_parameters(const hfb_graph *graph, const hfb_dtype *dtypes,
                                      hfb_graph **out_graph) HFB_MUST_USE;

/* Replaces a framework op by primitives inside a rewrite: appends to rewrite->b under the node's scope and sets map of
 * its results. Copies a primitive. bf16 and f16 are computed in f32 and rounded at the end. */
void hfb_decompose_node(hfb_rewrite *rewrite, const hfb_node *node);
/* The whole graph in primitives. */
hfb_status hfb_graph_decompose(const hfb_graph *graph, hfb_graph **out_graph) HFB_MUST_USE;

/* What one run costs; sums saturate. Multiply-adds count contractions only, at their nominal size (a causal mask does
 * not lower them). */
typedef struct hfb_cost {
  int64_t multiply_adds;
  int64_t parameter_bytes; /* of all that is bound as a parameter, buffers too */
  int64_t parameter_count; /* trainable and frozen parameters, buffers left out */
  int64_t input_bytes, output_bytes;
} hfb_cost;
hfb_cost hfb_graph_cost(const hfb_graph *graph);
/* Of one node. */
int64_t hfb_node_multiply_adds(const hfb_node *node);

#endif
