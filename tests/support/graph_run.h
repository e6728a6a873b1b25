/* A graph run node by node on chosen kernels, as directly as can be: what the engines are compared with. */
#ifndef HFB_TESTS_SUPPORT_GRAPH_RUN_H
#define HFB_TESTS_SUPPORT_GRAPH_RUN_H

#include "kernels/kernel.h"

/* Views where hfb_view_try allows them, otherwise the kernel that hfb_kernel_select gives for `isa`. Everything is kept
 * until the end. Outputs are owned by the caller. */
hfb_status graph_run(const hfb_graph *graph, hfb_device *device, hfb_isa isa, bool reference_only,
                     const hfb_tensor *inputs, const hfb_tensor *parameters, hfb_tensor *outputs) HFB_MUST_USE;

/* Name of the kernel that the producer of output 0 ran with, "view" for none; valid after graph_run on this thread. */
const char *graph_run_kernel(void);

#endif
