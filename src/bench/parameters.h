/* The parameters of a graph as tensors on a device, in the order of graph->parameters.
 *
 * Drawn values depend on (seed, parameter name, element) alone: not on the order of parameters, the number of threads
 * or the device. */
#ifndef HFB_BENCH_PARAMETERS_H
#define HFB_BENCH_PARAMETERS_H

#include "device/tensor.h"
#include "io/checkpoint.h"
#include "ir/graph.h"

typedef struct hfb_parameters {
  hfb_tensor *tensors; /* owned, row-major; as many as graph->parameter_count */
  int count;
} hfb_parameters;

/* From the initialisers of the graph. Parallel on the device's pool. */
hfb_status hfb_parameters_draw(const hfb_graph *graph, hfb_device *device, uint64_t seed,
                               hfb_parameters *out_parameters) HFB_MUST_USE;

/* From a checkpoint, converted to the dtypes of the graph. */
hfb_status hfb_parameters_load(const hfb_graph *graph, hfb_device *device, const hfb_checkpoint_binding *binding,
                               hfb_parameters *out_parameters) HFB_MUST_USE;

/* A cleared struct is allowed. */
void hfb_parameters_deinit(hfb_parameters *parameters);

#endif
