/* Rewriting a graph when some nodes must wait: a pattern may be replaced where its last part stood, while nodes in
 * between read its first results. They are taken over as soon as their inputs are there; all keep their order else. */
#ifndef HFB_COMPILE_ORDERED_REWRITE_H
#define HFB_COMPILE_ORDERED_REWRITE_H

#include "ir/transform.h"

typedef struct hfb_ordered_rewrite {
  hfb_rewrite rewrite;
  /* Takes a node over: builds what stands for it and sets rewrite.map for its results. False when that needs a value
   * which is not there yet; then nothing was built. The builder's scope is the node's. */
  bool (*take_over)(void *context, const hfb_node *node);
  void *context;
} hfb_ordered_rewrite;

/* Runs through the graph. `ordered` must be set up but for `rewrite`. */
hfb_status hfb_ordered_rewrite_run(hfb_ordered_rewrite *ordered, const hfb_graph *graph,
                                   hfb_graph **out_graph) HFB_MUST_USE;

static inline hfb_value *hfb_ordered_mapped(const hfb_ordered_rewrite *ordered, const hfb_value *value) {
  return ordered->rewrite.map[value->id];
}

/* take_over of a node that is in no pattern. */
bool hfb_ordered_copy(hfb_ordered_rewrite *ordered, const hfb_node *node);

#endif
