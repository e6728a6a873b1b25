/* Text to index, kept in an arena: an open-addressing hash table that only grows. */
#ifndef HFB_IR_NAMES_H
#define HFB_IR_NAMES_H

#include "base/memory.h"

typedef struct hfb_name_slot {
  const char *name; /* NULL: free */
  int index;
} hfb_name_slot;

typedef struct hfb_names {
  hfb_name_slot *slots;
  int capacity; /* 0 or a power of two, at least twice the count */
  int count;
} hfb_names;

/* The index of a name, -1 when it is not there. */
int hfb_names_find(const hfb_names *names, const char *name);

/* Makes room for one more name, so that the next hfb_names_add cannot fail. */
hfb_status hfb_names_reserve(hfb_names *names, hfb_arena *arena) HFB_MUST_USE;

/* Adds a name that is not there yet; the text is not copied. Room must have been reserved. */
void hfb_names_add(hfb_names *names, const char *name, int index);

#endif
