#include "device/cpu/size_class.h"

enum { STEPS = 8, STEP_BITS = 3 };

/* Sizes are counted in units of 64 bytes. The first 8 classes are 1..8 units; after that, with u-1 written in binary,
 * a class is the position of the highest bit and the three bits behind it. */
int hfb_size_class_of(size_t bytes) {
  size_t last = (bytes - 1) / HFB_SIZE_UNIT_BYTES; /* units - 1 */
  if (last < STEPS) return (int)last;
  int shift = 63 - __builtin_clzll((unsigned long long)last) - STEP_BITS;
  return STEPS * (shift + 1) + (int)(last >> shift) - STEPS;
}

size_t hfb_size_class_bytes(int size_class) {
  if (size_class < STEPS) return (size_t)(size_class + 1) * HFB_SIZE_UNIT_BYTES;
  int shift = size_class / STEPS - 1;
  size_t leading = (size_t)(size_class % STEPS + STEPS);
  return ((leading + 1) << shift) * HFB_SIZE_UNIT_BYTES;
}
