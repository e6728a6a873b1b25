#include "bench/outcome.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"

static int compare_items(const void *left, const void *right) {
  return strcmp(((const hfb_outcome_item *)left)->name, ((const hfb_outcome_item *)right)->name);
}

static hfb_status add_item(hfb_outcome *outcome, const char *prefix, const char *name, hfb_outcome_kind kind,
                           int index) {
  const char *full_name = hfb_arena_printf(&outcome->arena, "%s%s", prefix, name);
  if (!full_name) return HFB_OUT_OF_MEMORY;
  outcome->items[outcome->count++] = (hfb_outcome_item){full_name, kind, index};
  return HFB_OK;
}

static hfb_status list_outputs(const hfb_graph *graph, hfb_outcome *outcome) {
  for (int i = 0; i < graph->output_count; i++) {
    const char *name = graph->outputs[i].name;
    bool is_gradient = strncmp(name, HFB_GRADIENT_PREFIX, strlen(HFB_GRADIENT_PREFIX)) == 0;
    HFB_TRY(add_item(outcome, "", name, is_gradient ? HFB_OUTCOME_GRADIENT : HFB_OUTCOME_OUTPUT, i));
  }
  return HFB_OK;
}

static hfb_status list_parameters(const hfb_graph *graph, hfb_outcome *outcome) {
  for (int i = 0; i < graph->update_count; i++) {
    const char *name = hfb_node_text(graph->updates[i].parameter->node, HFB_ATTR_NAME, "");
    int index = hfb_graph_find_parameter(graph, name);
    if (hfb_graph_parameter_is_trainable(graph, index)) {
      HFB_TRY(add_item(outcome, "param/", name, HFB_OUTCOME_PARAMETER, index));
    }
  }
  return HFB_OK;
}

/* Only where gradients are outputs: a forward pass has none. */
static hfb_status list_missing_gradients(const hfb_graph *graph, hfb_outcome *outcome) {
  bool has_gradients = false;
  for (int i = 0; i < outcome->count; i++) has_gradients |= outcome->items[i].kind == HFB_OUTCOME_GRADIENT;
  for (int i = 0; has_gradients && i < graph->parameter_count; i++) {
    const char *name = hfb_graph_parameter_name(graph, i);
    if (!hfb_graph_parameter_is_trainable(graph, i) || hfb_graph_find_gradient(graph, name) >= 0) continue;
    HFB_TRY(add_item(outcome, HFB_GRADIENT_PREFIX, name, HFB_OUTCOME_NO_GRADIENT, i));
  }
  return HFB_OK;
}

static hfb_status list_all(const hfb_graph *graph, hfb_outcome *outcome) {
  size_t most = (size_t)graph->output_count + 2 * (size_t)graph->parameter_count;
  outcome->items = hfb_arena_alloc(&outcome->arena, most + 1, sizeof(*outcome->items));
  if (!outcome->items) return HFB_OUT_OF_MEMORY;
  HFB_TRY(list_outputs(graph, outcome));
  HFB_TRY(list_parameters(graph, outcome));
  HFB_TRY(list_missing_gradients(graph, outcome));
  qsort(outcome->items, (size_t)outcome->count, sizeof(*outcome->items), compare_items);
  return HFB_OK;
}

hfb_status hfb_outcome_list(const hfb_graph *graph, hfb_outcome *out_outcome) {
  *out_outcome = (hfb_outcome){0};
  hfb_arena_init(&out_outcome->arena);
  hfb_status status = list_all(graph, out_outcome);
  if (status != HFB_OK) hfb_outcome_deinit(out_outcome);
  return status;
}

void hfb_outcome_deinit(hfb_outcome *outcome) {
  hfb_arena_deinit(&outcome->arena);
  *outcome = (hfb_outcome){0};
}

const hfb_tensor *hfb_outcome_tensor(const hfb_side *side, const hfb_outcome_item *item) {
  if (item->kind == HFB_OUTCOME_NO_GRADIENT) return NULL;
  return item->kind == HFB_OUTCOME_PARAMETER ? &side->own.tensors[item->index] : &side->outputs[item->index];
}

/* ---- Hash ---- */

static hfb_status hash_tensor(XXH3_state_t *state, const hfb_side *side, const hfb_tensor *tensor) {
  hfb_tensor packed;
  HFB_TRY(hfb_tensor_pack(tensor, side->device, &packed));
  XXH3_128bits_update(state, packed.data, hfb_tensor_bytes(&packed));
  hfb_tensor_release(&packed);
  return HFB_OK;
}

/* A row-major tensor is hashed where it is. */
static hfb_status hash_alone(const hfb_side *side, const hfb_tensor *tensor, hfb_hash *out_hash) {
  hfb_tensor packed;
  HFB_TRY(hfb_tensor_pack(tensor, side->device, &packed));
  const XXH128_hash_t hash = XXH3_128bits(packed.data, hfb_tensor_bytes(&packed));
  hfb_tensor_release(&packed);
  *out_hash = (hfb_hash){hash.low64, hash.high64};
  return HFB_OK;
}

hfb_status hfb_outcome_hashes(const hfb_outcome *outcome, const hfb_side *side, hfb_hash *out_hashes) {
  for (int i = 0; i < outcome->count; i++) {
    const hfb_tensor *tensor = hfb_outcome_tensor(side, &outcome->items[i]);
    out_hashes[i] = (hfb_hash){0};
    if (tensor) HFB_TRY(hash_alone(side, tensor, &out_hashes[i]));
  }
  return HFB_OK;
}

hfb_status hfb_outcome_hash(const hfb_outcome *outcome, const hfb_side *side, char out_text[HFB_STATE_HASH_BYTES]) {
  XXH3_state_t *state = XXH3_createState();
  if (!state) return HFB_FAIL(HFB_OUT_OF_MEMORY, "no memory for the state of a hash");
  XXH3_128bits_reset(state);
  hfb_status status = HFB_OK;
  for (int i = 0; i < outcome->count && status == HFB_OK; i++) {
    const hfb_tensor *tensor = hfb_outcome_tensor(side, &outcome->items[i]);
    if (tensor) status = hash_tensor(state, side, tensor);
  }
  XXH128_hash_t hash = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  snprintf(out_text, HFB_STATE_HASH_BYTES, "%016llx%016llx", (unsigned long long)hash.high64,
           (unsigned long long)hash.low64);
  return status;
}
