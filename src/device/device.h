/* A device: memory with accounting, and the threads that run kernels. One vtable; cpu/ implements it.
 *
 * Allocation goes through a caching allocator: a freed block is kept for the next request of about its size, as the
 * frameworks do, so that eager execution does not pay for page faults on every op. */
#ifndef HFB_DEVICE_DEVICE_H
#define HFB_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/thread.h"

typedef struct hfb_device hfb_device;

/* Bytes handed out to tensors now, and their high-water mark since the last reset; `reserved` adds what the cache
 * keeps. Scratch of the pool is not included (hfb_pool_scratch_bytes). */
typedef struct hfb_memory_stats {
  int64_t allocated_bytes;
  int64_t peak_bytes;
  int64_t reserved_bytes;
} hfb_memory_stats;

/* limit_bytes: allocations beyond it fail with HFB_OUT_OF_MEMORY; 0 = no limit. threads: as hfb_pool_create. */
hfb_status hfb_device_cpu_create(int threads, int64_t limit_bytes, hfb_device **out_device) HFB_MUST_USE;
void hfb_device_destroy(hfb_device *device); /* NULL is allowed; all buffers must have been released */

const char *hfb_device_name(const hfb_device *device); /* "cpu" */
hfb_pool *hfb_device_pool(const hfb_device *device);

/* 64-byte aligned, not zeroed, at least 1 byte. Thread-safe. */
hfb_status hfb_device_alloc(hfb_device *device, size_t bytes, void **out_pointer) HFB_MUST_USE;
void hfb_device_free(hfb_device *device, void *pointer, size_t bytes);

hfb_memory_stats hfb_device_memory(const hfb_device *device);
void hfb_device_reset_peak(hfb_device *device);
void hfb_device_empty_cache(hfb_device *device);

#endif
