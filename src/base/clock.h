/* Monotonic time. */
#ifndef HFB_BASE_CLOCK_H
#define HFB_BASE_CLOCK_H

#include <stdint.h>

int64_t hfb_clock_ns(void);

#endif
