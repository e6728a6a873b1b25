/* The CPU as a device: a caching allocator and the thread pool.
 *
 * Freed blocks wait in a list for each size class and are handed out again, most recent first (it may still be in a
 * cache of the processor). The list runs through the blocks themselves, so that freeing never allocates. Under
 * AddressSanitizer waiting blocks are poisoned, and of a block in use all beyond the bytes asked for. */
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "base/memory.h"
#include "device/cpu/size_class.h"
#include "device/device_impl.h"

#if defined(__SANITIZE_ADDRESS__)
#define HFB_HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HFB_HAVE_ASAN 1
#endif
#endif
#ifdef HFB_HAVE_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

typedef struct free_block {
  struct free_block *next;
} free_block;

typedef struct cpu_device {
  hfb_device base;
  int64_t limit_bytes; /* 0: none */
  pthread_mutex_t lock; /* guards everything below */
  hfb_memory_stats stats;
  free_block *free_lists[HFB_SIZE_CLASS_COUNT];
} cpu_device;

static cpu_device *cpu_of(hfb_device *device) { return (cpu_device *)device; }

static void release_cached(cpu_device *cpu) {
  for (int i = 0; i < HFB_SIZE_CLASS_COUNT; i++) {
    size_t bytes = hfb_size_class_bytes(i);
    while (cpu->free_lists[i]) {
      free_block *block = cpu->free_lists[i];
      cpu->free_lists[i] = block->next;
      ASAN_UNPOISON_MEMORY_REGION(block, bytes);
      hfb_mem_free(block);
      cpu->stats.reserved_bytes -= (int64_t)bytes;
    }
  }
}

static hfb_status check_limit(const cpu_device *cpu, size_t bytes) {
  if (cpu->limit_bytes == 0 || cpu->stats.allocated_bytes + (int64_t)bytes <= cpu->limit_bytes) return HFB_OK;
  return HFB_FAIL(HFB_OUT_OF_MEMORY,
                  "out of memory on cpu: %zu bytes more than the %" PRId64
                  " in use would pass the limit of %" PRId64 " bytes; use a smaller batch or a higher limit",
                  bytes, cpu->stats.allocated_bytes, cpu->limit_bytes);
}

/* A new block from the host. What the cache keeps is given up first when it would not fit beside it. */
static hfb_status allocate_block(cpu_device *cpu, size_t block_bytes, void **out_pointer) {
  if (cpu->limit_bytes > 0 && cpu->stats.reserved_bytes + (int64_t)block_bytes > cpu->limit_bytes) release_cached(cpu);
  hfb_status status = hfb_mem_alloc_aligned(block_bytes, HFB_SIZE_UNIT_BYTES, out_pointer);
  if (status != HFB_OK) {
    int64_t reserved_bytes = cpu->stats.reserved_bytes;
    release_cached(cpu);
    if (cpu->stats.reserved_bytes < reserved_bytes) {
      status = hfb_mem_alloc_aligned(block_bytes, HFB_SIZE_UNIT_BYTES, out_pointer);
    }
  }
  if (status == HFB_OK) cpu->stats.reserved_bytes += (int64_t)block_bytes;
  return status;
}

static hfb_status cpu_alloc(hfb_device *device, size_t bytes, void **out_pointer) {
  if (bytes >> 48) return HFB_FAIL(HFB_OUT_OF_MEMORY, "out of memory on cpu: %zu bytes in one block", bytes);
  cpu_device *cpu = cpu_of(device);
  int size_class = hfb_size_class_of(bytes);
  size_t block_bytes = hfb_size_class_bytes(size_class);
  void *block = NULL;
  pthread_mutex_lock(&cpu->lock);
  hfb_status status = check_limit(cpu, bytes);
  if (status == HFB_OK && cpu->free_lists[size_class]) {
    block = cpu->free_lists[size_class];
    cpu->free_lists[size_class] = cpu->free_lists[size_class]->next;
    ASAN_UNPOISON_MEMORY_REGION(block, block_bytes);
  } else if (status == HFB_OK) {
    status = allocate_block(cpu, block_bytes, &block);
  }
  if (status == HFB_OK) {
    cpu->stats.allocated_bytes += (int64_t)bytes;
    if (cpu->stats.allocated_bytes > cpu->stats.peak_bytes) cpu->stats.peak_bytes = cpu->stats.allocated_bytes;
    ASAN_POISON_MEMORY_REGION((char *)block + bytes, block_bytes - bytes);
  }
  pthread_mutex_unlock(&cpu->lock);
  *out_pointer = block;
  return status;
}

static void cpu_free(hfb_device *device, void *pointer, size_t bytes) {
  cpu_device *cpu = cpu_of(device);
  int size_class = hfb_size_class_of(bytes);
  free_block *block = pointer;
  pthread_mutex_lock(&cpu->lock);
  ASAN_UNPOISON_MEMORY_REGION(block, sizeof(*block));
  block->next = cpu->free_lists[size_class];
  ASAN_POISON_MEMORY_REGION(block + 1, hfb_size_class_bytes(size_class) - sizeof(*block));
  cpu->free_lists[size_class] = block;
  cpu->stats.allocated_bytes -= (int64_t)bytes;
  assert(cpu->stats.allocated_bytes >= 0 && "a block was freed twice or with another size");
  pthread_mutex_unlock(&cpu->lock);
}

static hfb_memory_stats cpu_memory(hfb_device *device) {
  cpu_device *cpu = cpu_of(device);
  pthread_mutex_lock(&cpu->lock);
  hfb_memory_stats stats = cpu->stats;
  pthread_mutex_unlock(&cpu->lock);
  return stats;
}

static void cpu_reset_peak(hfb_device *device) {
  cpu_device *cpu = cpu_of(device);
  pthread_mutex_lock(&cpu->lock);
  cpu->stats.peak_bytes = cpu->stats.allocated_bytes;
  pthread_mutex_unlock(&cpu->lock);
}

static void cpu_empty_cache(hfb_device *device) {
  cpu_device *cpu = cpu_of(device);
  pthread_mutex_lock(&cpu->lock);
  release_cached(cpu);
  pthread_mutex_unlock(&cpu->lock);
}

static void cpu_destroy(hfb_device *device) {
  cpu_device *cpu = cpu_of(device);
  assert(cpu->stats.allocated_bytes == 0 && "a device was destroyed before its tensors");
  release_cached(cpu);
  hfb_pool_destroy(cpu->base.pool);
  pthread_mutex_destroy(&cpu->lock);
  hfb_mem_free(cpu);
}

static const hfb_device_ops cpu_ops = {
    .name = "cpu",
    .alloc = cpu_alloc,
    .free = cpu_free,
    .memory = cpu_memory,
    .reset_peak = cpu_reset_peak,
    .empty_cache = cpu_empty_cache,
    .destroy = cpu_destroy,
};

hfb_status hfb_device_cpu_create(int threads, int64_t limit_bytes, hfb_device **out_device) {
  *out_device = NULL;
  if (limit_bytes < 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "a memory limit of %" PRId64 " bytes; give 0 for none", limit_bytes);
  }
  cpu_device *cpu = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof(*cpu), &cpu));
  cpu->base.ops = &cpu_ops;
  cpu->limit_bytes = limit_bytes;
  hfb_status status = hfb_pool_create(threads, &cpu->base.pool);
  if (status != HFB_OK) {
    hfb_mem_free(cpu);
    return status;
  }
  pthread_mutex_init(&cpu->lock, NULL);
  *out_device = &cpu->base;
  return HFB_OK;
}
