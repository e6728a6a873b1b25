/* Weights stored as bf16: a product reads them as they are and widens them while it packs them, so that no f32 copy of
 * a weight ever exists. */
#include "compile/passes.h"
#include "ir/transform.h"

/* The bf16 value that a product's second operand is widened from; NULL when it is no such operand. Others than the
 * second are widened by a kernel. */
static const hfb_value *stored_weight(const hfb_node *node) {
  if (node->op != HFB_OP_MATMUL) return NULL;
  const hfb_value *operand = node->inputs[1];
  if (operand->dtype != HFB_F32 || operand->node->op != HFB_OP_CAST) return NULL;
  const hfb_value *stored = operand->node->inputs[0];
  return stored->dtype == HFB_BF16 ? stored : NULL;
}

hfb_status hfb_pass_weights(const hfb_graph *graph, hfb_graph **out_graph) {
  hfb_rewrite rewrite;
  HFB_TRY(hfb_rewrite_begin(&rewrite, graph));
  for (int i = 0; i < graph->node_count; i++) {
    const hfb_node *node = graph->nodes[i];
    const hfb_value *stored = stored_weight(node);
    if (!stored) {
      hfb_rewrite_copy(&rewrite, node);
      continue;
    }
    hfb_value **operand = &rewrite.map[node->inputs[1]->id], *widened = *operand;
    *operand = rewrite.map[stored->id];
    hfb_rewrite_copy(&rewrite, node);
    *operand = widened;
  }
  hfb_status status = hfb_rewrite_finish(&rewrite, out_graph);
  hfb_rewrite_deinit(&rewrite);
  return status;
}
