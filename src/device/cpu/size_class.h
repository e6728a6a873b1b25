/* Size classes of the caching allocator: eight for each power of two, so a block is at most one eighth larger than
 * what was asked for, and every request of a size finds the blocks that earlier requests of about that size left. */
#ifndef HFB_DEVICE_CPU_SIZE_CLASS_H
#define HFB_DEVICE_CPU_SIZE_CLASS_H

#include <stddef.h>

enum { HFB_SIZE_UNIT_BYTES = 64, HFB_SIZE_CLASS_COUNT = 8 * 48 };

/* Number of the smallest class that holds `bytes` (>= 1), below HFB_SIZE_CLASS_COUNT up to 2^53 bytes. */
int hfb_size_class_of(size_t bytes);
/* Bytes of the blocks of a class. */
size_t hfb_size_class_bytes(int size_class);

#endif
