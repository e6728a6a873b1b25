#include "compile/users.h"

#include <string.h>

/* Compressed rows, filled by counting. */
static hfb_status collect(const hfb_graph *graph, hfb_users *users) {
  const size_t values = (size_t)graph->value_count + 1;
  int *cursor = NULL;
  HFB_TRY(hfb_mem_alloc(values, sizeof(int), &users->begin));
  for (int i = 0; i < graph->node_count; i++) {
    for (int k = 0; k < graph->nodes[i]->input_count; k++) users->begin[graph->nodes[i]->inputs[k]->id + 1]++;
  }
  for (int v = 0; v < graph->value_count; v++) users->begin[v + 1] += users->begin[v];
  HFB_TRY(hfb_mem_alloc((size_t)users->begin[graph->value_count] + 1, sizeof *users->nodes, &users->nodes));
  HFB_TRY(hfb_mem_alloc(values, sizeof(int), &cursor));
  memcpy(cursor, users->begin, values * sizeof(int));
  for (int i = 0; i < graph->node_count; i++) {
    for (int k = 0; k < graph->nodes[i]->input_count; k++)
      users->nodes[cursor[graph->nodes[i]->inputs[k]->id]++] = graph->nodes[i];
  }
  hfb_mem_free(cursor);
  return HFB_OK;
}

hfb_status hfb_users_init(const hfb_graph *graph, hfb_users *out_users) {
  *out_users = (hfb_users){0};
  hfb_status status = hfb_graph_use_counts(graph, &out_users->use_counts);
  if (status == HFB_OK) status = collect(graph, out_users);
  if (status != HFB_OK) hfb_users_deinit(out_users);
  return status;
}

void hfb_users_deinit(hfb_users *users) {
  hfb_mem_free(users->use_counts);
  hfb_mem_free(users->begin);
  hfb_mem_free(users->nodes);
  *users = (hfb_users){0};
}
