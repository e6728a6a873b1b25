#include "base/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define HUGE_PAGE_THRESHOLD_BYTES ((size_t)4 << 20)
#define LARGEST_BLOCK_BYTES (SIZE_MAX / 4)

enum { ARENA_ALIGNMENT = 16, ARENA_FIRST_BLOCK_BYTES = 4096, ARENA_LARGEST_BLOCK_BYTES = 1 << 20 };

static _Atomic int64_t allocation_count;
static _Atomic int64_t failing_allocation;
static atomic_bool failure_is_sticky;

int64_t hfb_mem_fail_at(int64_t nth, int sticky) {
  atomic_store(&failing_allocation, 0);
  int64_t count = atomic_exchange(&allocation_count, 0);
  atomic_store(&failure_is_sticky, sticky != 0);
  atomic_store(&failing_allocation, nth);
  return count;
}

static bool failure_is_injected(void) {
  int64_t index = atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed) + 1;
  int64_t nth = atomic_load_explicit(&failing_allocation, memory_order_relaxed);
  if (nth <= 0 || index < nth) return false;
  return index == nth || atomic_load_explicit(&failure_is_sticky, memory_order_relaxed);
}

static hfb_status out_of_memory(size_t count, size_t size) {
  return HFB_FAIL(HFB_OUT_OF_MEMORY, "out of memory: %zu * %zu bytes of host memory were asked for", count, size);
}

/* False for sizes that no address space holds; some allocators treat those as a bug of the caller. */
static bool size_is_possible(size_t count, size_t size, size_t *out_bytes) {
  return !__builtin_mul_overflow(count, size, out_bytes) && *out_bytes <= LARGEST_BLOCK_BYTES;
}

/* The callers pass the address of a pointer of any type; memcpy keeps that within the aliasing rules. */
static void store_pointer(void *out_pointer, void *value) { memcpy(out_pointer, &value, sizeof(value)); }

hfb_status hfb_mem_alloc(size_t count, size_t size, void *out_pointer) {
  store_pointer(out_pointer, NULL);
  if (count == 0 || size == 0) return HFB_OK;
  size_t bytes = 0;
  if (!size_is_possible(count, size, &bytes)) return out_of_memory(count, size);
  void *block = failure_is_injected() ? NULL : calloc(count, size);
  if (!block) return out_of_memory(count, size);
  store_pointer(out_pointer, block);
  return HFB_OK;
}

hfb_status hfb_mem_grow(void *pointer, size_t count, size_t size) {
  size_t bytes = 0;
  if (!size_is_possible(count, size, &bytes)) return out_of_memory(count, size);
  if (bytes == 0) return HFB_OK;
  void *old_block = NULL;
  memcpy(&old_block, pointer, sizeof(old_block));
  void *block = failure_is_injected() ? NULL : realloc(old_block, bytes);
  if (!block) return out_of_memory(count, size);
  store_pointer(pointer, block);
  return HFB_OK;
}

hfb_status hfb_mem_alloc_aligned(size_t bytes, size_t alignment, void *out_pointer) {
  store_pointer(out_pointer, NULL);
  if (bytes == 0) return HFB_OK;
  if (alignment < 64) alignment = 64;
  if (bytes > LARGEST_BLOCK_BYTES) return out_of_memory(1, bytes);
  bool huge = bytes >= HUGE_PAGE_THRESHOLD_BYTES;
  if (huge && alignment < HUGE_PAGE_BYTES) alignment = HUGE_PAGE_BYTES;
  void *block = NULL;
  if (failure_is_injected() || posix_memalign(&block, alignment, bytes) != 0) return out_of_memory(1, bytes);
  /* Advice only: a kernel without transparent huge pages still gives correct memory. */
  if (huge) madvise(block, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, MADV_HUGEPAGE);
  store_pointer(out_pointer, block);
  return HFB_OK;
}

void hfb_mem_free(void *pointer) { free(pointer); }

hfb_status hfb_mem_strdup(const char *text, char **out) {
  size_t bytes = strlen(text) + 1;
  HFB_TRY(hfb_mem_alloc(bytes, 1, out));
  memcpy(*out, text, bytes);
  return HFB_OK;
}

typedef struct hfb_arena_block {
  struct hfb_arena_block *next;
  size_t capacity_bytes;
  size_t used_bytes;
  _Alignas(ARENA_ALIGNMENT) char data[];
} hfb_arena_block;

void hfb_arena_init(hfb_arena *arena) { *arena = (hfb_arena){0}; }

void hfb_arena_deinit(hfb_arena *arena) {
  hfb_arena_block *block = arena->head;
  while (block) {
    hfb_arena_block *next = block->next;
    hfb_mem_free(block);
    block = next;
  }
  *arena = (hfb_arena){0};
}

/* Blocks double up to a limit. A request larger than the next block gets one of its own, which goes behind the head
 * so that the room left in the head stays in use. */
static hfb_arena_block *arena_grow(hfb_arena *arena, size_t bytes) {
  size_t capacity = ARENA_FIRST_BLOCK_BYTES;
  if (arena->head) capacity = 2 * arena->head->capacity_bytes;
  if (capacity > ARENA_LARGEST_BLOCK_BYTES) capacity = ARENA_LARGEST_BLOCK_BYTES;
  bool own_block = bytes > capacity;
  if (own_block) capacity = bytes;
  hfb_arena_block *block;
  if (hfb_mem_alloc(1, sizeof(*block) + capacity, &block) != HFB_OK) return NULL;
  block->capacity_bytes = capacity;
  if (own_block && arena->head) {
    block->next = arena->head->next;
    arena->head->next = block;
  } else {
    block->next = arena->head;
    arena->head = block;
  }
  return block;
}

void *hfb_arena_alloc(hfb_arena *arena, size_t count, size_t size) {
  size_t bytes = 0;
  if (!size_is_possible(count, size, &bytes)) {
    (void)out_of_memory(count, size);
    return NULL;
  }
  bytes = bytes ? (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT : ARENA_ALIGNMENT;
  hfb_arena_block *block = arena->head;
  if (!block || block->capacity_bytes - block->used_bytes < bytes) block = arena_grow(arena, bytes);
  if (!block) return NULL;
  void *result = block->data + block->used_bytes;
  block->used_bytes += bytes;
  arena->used_bytes += bytes;
  return result;
}

char *hfb_arena_strdup(hfb_arena *arena, const char *text) {
  size_t bytes = strlen(text) + 1;
  char *copy = hfb_arena_alloc(arena, bytes, 1);
  if (copy) memcpy(copy, text, bytes);
  return copy;
}

char *hfb_arena_printf(hfb_arena *arena, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int length = vsnprintf(NULL, 0, format, args);
  va_end(args);
  if (length < 0) {
    (void)HFB_FAIL(HFB_INTERNAL, "the format \"%s\" cannot be printed", format);
    return NULL;
  }
  char *text = hfb_arena_alloc(arena, (size_t)length + 1, 1);
  if (!text) return NULL;
  va_start(args, format);
  vsnprintf(text, (size_t)length + 1, format, args);
  va_end(args);
  return text;
}
