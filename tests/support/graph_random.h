/* Random graphs of small tensors: every way to move, broadcast, reduce, index, multiply and attend, gradients, masks
 * and updates of parameters, with shared subexpressions, dead values, and extents of 1 and 0. */
#ifndef HFB_TESTS_SUPPORT_GRAPH_RANDOM_H
#define HFB_TESTS_SUPPORT_GRAPH_RANDOM_H

#include "device/tensor.h"
#include "ir/graph.h"

enum { GRAPH_RANDOM_MAX_OUTPUTS = 256 };

typedef struct random_graph {
  hfb_graph *graph; /* owned; f32, i64 and bool */
  /* By output: how far a correct f32 engine may be from f64, in absolute terms; 0 for integers and bools. */
  double allowed_f32[GRAPH_RANDOM_MAX_OUTPUTS];
  double allowed_update_f32[GRAPH_RANDOM_MAX_OUTPUTS]; /* by update, likewise */
} random_graph;

/* `parts` subgraphs that share inputs and weights. Equal seeds give equal graphs. */
hfb_status random_graph_create(uint64_t seed, int parts, random_graph *out_graph) HFB_MUST_USE;

/* Fills an input or parameter, whose data depend on its name only: normal floats of at most 4, exact in f32; ids below
 * the bound that ends the name ("ids7_5": below 5); what is named "square" at least 0.25, "step" a small number from 1
 * on.
 */
hfb_status random_graph_fill(const hfb_value *source, hfb_device *device, uint64_t seed,
                             hfb_tensor *out_tensor) HFB_MUST_USE;

#endif
