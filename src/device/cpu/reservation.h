/* What the caching allocator comes to hold: it is told of the allocations that will be made, and counts blocks by size
 * class as the allocator does, without memory. */
#ifndef HFB_DEVICE_CPU_RESERVATION_H
#define HFB_DEVICE_CPU_RESERVATION_H

#include <stdint.h>

#include "device/cpu/size_class.h"

/* Cleared: nothing was allocated yet. */
typedef struct hfb_reservation {
  struct {
    int32_t live, most;    /* blocks in use, and at most at a time */
    int64_t largest_bytes; /* that was asked for */
  } classes[HFB_SIZE_CLASS_COUNT];
} hfb_reservation;

/* Bytes that a block for this request takes in memory: of a large one the rest beyond the request is never touched, a
 * small one shares its pages with others. */
int64_t hfb_block_resident_bytes(int64_t bytes);

void hfb_reservation_take(hfb_reservation *reservation, int64_t bytes); /* 0 counts as 1, as in a device */
void hfb_reservation_give(hfb_reservation *reservation, int64_t bytes);

/* Bytes in memory of all blocks, those that the cache keeps included. */
int64_t hfb_reservation_bytes(const hfb_reservation *reservation);

#endif
