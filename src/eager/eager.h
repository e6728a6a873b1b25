/* eager: runs a graph op by op, each framework op as one tuned kernel, as PyTorch's eager mode does. Views cost
 * nothing, buffers are freed at their last use and reused through the device's caching allocator. With
 * options.reference it runs the plain kernels only: on a float64 graph this is the reference of all accuracy checks. */
#ifndef HFB_EAGER_EAGER_H
#define HFB_EAGER_EAGER_H

#include "hfbench/backend.h"

const hfb_backend *hfb_backend_eager(void);

#endif
