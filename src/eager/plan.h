/* What eager knows before running: where every value lives, which kernel runs each node, when storage is given back,
 * which parameters are updated in place. */
#ifndef HFB_EAGER_PLAN_H
#define HFB_EAGER_PLAN_H

#include "base/cpu.h"
#include "kernels/kernel.h"

typedef enum hfb_eager_storage_kind {
  HFB_EAGER_INPUT,     /* index: of graph->inputs */
  HFB_EAGER_PARAMETER, /* index: of graph->parameters; also what a kernel writes over the parameter */
  HFB_EAGER_CONSTANT,  /* the bytes in the graph */
  HFB_EAGER_RESULT     /* allocated when its node runs; index: of plan->steps */
} hfb_eager_storage_kind;

/* One block of memory, shared by a value and all its views. */
typedef struct hfb_eager_storage {
  hfb_eager_storage_kind kind;
  int index;
  const hfb_value *value; /* the row-major value that fills it */
  int last_use;           /* node that reads it last, its own node when none does */
  bool is_output;         /* kept until the outputs are handed over */
  bool is_update;         /* some parameter's new value lies here: kept until it is written */
} hfb_eager_storage;

/* Where a value is: a layout within a storage. tensor.data is NULL. */
typedef struct hfb_eager_place {
  int storage;
  int64_t offset_bytes;
  hfb_tensor tensor;
} hfb_eager_place;

/* One kernel. Views and sources have no step. */
typedef struct hfb_eager_step {
  const hfb_node *node;
  const hfb_kernel *kernel;
  int first_release, release_count; /* into plan->releases: storages read for the last time here */
} hfb_eager_step;

/* An update that no kernel made in place: written when every node has run and the outputs were handed over. */
typedef struct hfb_eager_copy {
  int parameter; /* index of graph->parameters */
  const hfb_value *value;
  bool is_saved; /* lies in a parameter that is written too: saved before the first one is */
} hfb_eager_copy;

typedef struct hfb_eager_plan {
  hfb_arena arena; /* owns all arrays */
  hfb_eager_place *places; /* by value id */
  hfb_eager_storage *storages;
  int storage_count;
  hfb_eager_step *steps;
  int step_count;
  hfb_eager_copy *copies;
  int copy_count;
  int *releases;
  int max_input_count, max_result_count;
  int64_t peak_bytes; /* of result storages that are no outputs: the working memory of a run */
  int64_t output_bytes; /* of the storages of outputs */
  int64_t run_bytes;    /* taken by the device once a run is over: outputs and what its cache keeps */
} hfb_eager_plan;

/* The graph must outlive the plan. */
hfb_status hfb_eager_plan_init(const hfb_graph *graph, hfb_isa isa, bool reference_only,
                               hfb_eager_plan *out_plan) HFB_MUST_USE;
void hfb_eager_plan_deinit(hfb_eager_plan *plan);

#endif
