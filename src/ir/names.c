#include "ir/names.h"

#include <assert.h>
#include <string.h>

enum { FIRST_CAPACITY = 64 };

/* FNV-1a. */
static uint32_t hash_text(const char *text) {
  uint32_t hash = 2166136261u;
  for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 16777619u;
  return hash;
}

/* The slot of a name, or the free one where it would go. The table is never full. */
static hfb_name_slot *find_slot(const hfb_names *names, const char *name) {
  uint32_t mask = (uint32_t)names->capacity - 1;
  for (uint32_t i = hash_text(name) & mask;; i = (i + 1) & mask) {
    hfb_name_slot *slot = &names->slots[i];
    if (!slot->name || strcmp(slot->name, name) == 0) return slot;
  }
}

int hfb_names_find(const hfb_names *names, const char *name) {
  if (names->capacity == 0) return -1;
  const hfb_name_slot *slot = find_slot(names, name);
  return slot->name ? slot->index : -1;
}

hfb_status hfb_names_reserve(hfb_names *names, hfb_arena *arena) {
  if (names->capacity >= 2 * (names->count + 1)) return HFB_OK;
  if (names->capacity > INT32_MAX / 4) return HFB_FAIL(HFB_OUT_OF_MEMORY, "out of memory: %d names", names->count);
  hfb_names grown = {.capacity = names->capacity ? 2 * names->capacity : FIRST_CAPACITY, .count = names->count};
  grown.slots = hfb_arena_alloc(arena, (size_t)grown.capacity, sizeof(*grown.slots));
  if (!grown.slots) return HFB_OUT_OF_MEMORY;
  for (int i = 0; i < names->capacity; i++) {
    if (names->slots[i].name) *find_slot(&grown, names->slots[i].name) = names->slots[i];
  }
  *names = grown;
  return HFB_OK;
}

void hfb_names_add(hfb_names *names, const char *name, int index) {
  hfb_name_slot *slot = find_slot(names, name);
  assert(!slot->name && names->capacity >= 2 * (names->count + 1));
  *slot = (hfb_name_slot){name, index};
  names->count++;
}
