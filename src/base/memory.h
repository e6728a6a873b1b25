/* Host memory: checked allocation, fault injection, arenas.
 *
 * All host allocations of the project go through these functions, so that a test can make the Nth one fail
 * (hfb_mem_fail_at) and check that the failure is reported and nothing leaks. Tensor storage is the business of
 * device/, which counts bytes and peaks. */
#ifndef HFB_BASE_MEMORY_H
#define HFB_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Allocates count*size bytes, zeroed, overflow-checked. *out is NULL when count*size is 0. Owned: hfb_mem_free. */
hfb_status hfb_mem_alloc(size_t count, size_t size, void *out_pointer) HFB_MUST_USE;

/* Grows *pointer (an hfb_mem_alloc block or NULL) to hold count*size bytes; new bytes are not zeroed. On failure the
 * old block stays valid. `pointer` is the address of the pointer variable. */
hfb_status hfb_mem_grow(void *pointer, size_t count, size_t size) HFB_MUST_USE;

/* 64-byte (or more) aligned block, not zeroed; huge pages are asked for from 4 MiB up. Owned: hfb_mem_free. */
hfb_status hfb_mem_alloc_aligned(size_t bytes, size_t alignment, void *out_pointer) HFB_MUST_USE;

void hfb_mem_free(void *pointer); /* NULL is allowed */

hfb_status hfb_mem_strdup(const char *text, char **out) HFB_MUST_USE;

/* Fault injection for tests: the nth allocation from now (1 = the next) on any thread fails, and every later one too
 * if `sticky`; 0 switches it off. Returns the number of allocations since the last call. */
int64_t hfb_mem_fail_at(int64_t nth, int sticky);

/* An arena: many small blocks, freed together. Not thread-safe. */
typedef struct hfb_arena {
  struct hfb_arena_block *head;
  size_t used_bytes; /* sum of all blocks handed out */
} hfb_arena;

void hfb_arena_init(hfb_arena *arena);
void hfb_arena_deinit(hfb_arena *arena);
/* 16-byte aligned, zeroed. NULL only when out of memory; then the thread's error message is set. */
void *hfb_arena_alloc(hfb_arena *arena, size_t count, size_t size);
char *hfb_arena_strdup(hfb_arena *arena, const char *text);
char *hfb_arena_printf(hfb_arena *arena, const char *format, ...) HFB_PRINTF(2, 3);

#endif
