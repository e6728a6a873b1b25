/* Tables that are the second factor of a product as well: tied word embeddings and heads. A lookup in such a table
 * becomes a step of its own, which can read the table in the layout of the product. */
#include <stdio.h>

#include "compile/passes.h"
#include "compile/users.h"
#include "ir/transform.h"

static bool is_lookup(const hfb_node *node, const hfb_value *table) {
  return node->op == HFB_OP_GATHER && hfb_node_int(node, HFB_ATTR_AXIS) == 0 && node->inputs[0] == table &&
         node->inputs[1] != table;
}

static bool is_product(const hfb_node *node, const hfb_value *table) {
  return node->op == HFB_OP_MATMUL && node->inputs[1] == table && node->inputs[0] != table &&
         hfb_node_int(node, HFB_ATTR_TRANSPOSE_B) != 0;
}

/* Nobody writes or shows the table, and all that read it are lookups and products with its rows. */
static bool is_tied_table(const hfb_users *users, const hfb_value *value) {
  if (value->node->op != HFB_OP_PARAMETER || value->shape.rank != 2 || hfb_users_escapes(users, value)) return false;
  int products = 0;
  for (int i = 0; i < hfb_users_count(users, value); i++) {
    const hfb_node *node = hfb_users_at(users, value, i);
    if (is_product(node, value)) products++;
    else if (!is_lookup(node, value)) return false;
  }
  return products > 0;
}

static void copy_or_replace(hfb_rewrite *rewrite, const hfb_users *users, const hfb_node *node) {
  if (node->op != HFB_OP_GATHER || !is_lookup(node, node->inputs[0]) || !is_tied_table(users, node->inputs[0])) {
    hfb_rewrite_copy(rewrite, node);
    return;
  }
  hfb_builder *b = &rewrite->b;
  snprintf(b->scope, sizeof b->scope, "%s", hfb_node_text(node, HFB_ATTR_SCOPE, ""));
  rewrite->map[node->results[0].id] =
      hfb_embedding(b, rewrite->map[node->inputs[0]->id], rewrite->map[node->inputs[1]->id], -1);
  b->scope[0] = '\0';
}

hfb_status hfb_pass_tables(const hfb_graph *graph, hfb_graph **out_graph) {
  hfb_users users = {0};
  hfb_rewrite rewrite;
  HFB_TRY(hfb_users_init(graph, &users));
  hfb_status status = hfb_rewrite_begin(&rewrite, graph);
  if (status == HFB_OK) {
    for (int i = 0; i < graph->node_count; i++) copy_or_replace(&rewrite, &users, graph->nodes[i]);
    status = hfb_rewrite_finish(&rewrite, out_graph);
    hfb_rewrite_deinit(&rewrite);
  }
  hfb_users_deinit(&users);
  return status;
}
