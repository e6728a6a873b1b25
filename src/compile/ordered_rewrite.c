#include "compile/ordered_rewrite.h"

#include <stdio.h>

bool hfb_ordered_copy(hfb_ordered_rewrite *ordered, const hfb_node *node) {
  for (int i = 0; i < node->input_count; i++) {
    if (!hfb_ordered_mapped(ordered, node->inputs[i])) return false;
  }
  hfb_rewrite_copy(&ordered->rewrite, node);
  return true;
}

static bool take_over(hfb_ordered_rewrite *ordered, const hfb_node *node) {
  hfb_builder *b = &ordered->rewrite.b;
  char scope[HFB_SCOPE_BYTES];
  snprintf(scope, sizeof scope, "%s", b->scope);
  snprintf(b->scope, sizeof b->scope, "%s", hfb_node_text(node, HFB_ATTR_SCOPE, ""));
  const bool done = ordered->take_over(ordered->context, node);
  snprintf(b->scope, sizeof b->scope, "%s", scope);
  return done;
}

/* Until none of them gets on. Returns how many are left. */
static int retry(hfb_ordered_rewrite *ordered, const hfb_node **waiting, int count) {
  for (bool progress = true; progress && count > 0;) {
    int kept = 0;
    for (int i = 0; i < count; i++) {
      if (!take_over(ordered, waiting[i])) waiting[kept++] = waiting[i];
    }
    progress = kept < count;
    count = kept;
  }
  return count;
}

hfb_status hfb_ordered_rewrite_run(hfb_ordered_rewrite *ordered, const hfb_graph *graph, hfb_graph **out_graph) {
  const hfb_node **waiting = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)graph->node_count + 1, sizeof *waiting, &waiting));
  hfb_status status = hfb_rewrite_begin(&ordered->rewrite, graph);
  if (status == HFB_OK) {
    hfb_builder *b = &ordered->rewrite.b;
    int count = 0;
    for (int i = 0; i < graph->node_count && b->status == HFB_OK; i++) {
      if (!take_over(ordered, graph->nodes[i])) waiting[count++] = graph->nodes[i];
      else count = retry(ordered, waiting, count);
    }
    if (b->status == HFB_OK && count > 0) {
      hfb_builder_fail(b, HFB_INTERNAL, "node %d of graph %s has inputs that nothing gives", waiting[0]->id,
                       graph->name);
    }
    status = hfb_rewrite_finish(&ordered->rewrite, out_graph);
    hfb_rewrite_deinit(&ordered->rewrite);
  }
  hfb_mem_free(waiting);
  return status;
}
