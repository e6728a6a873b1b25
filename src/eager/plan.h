/* What eager knows before running: where every value lives, which kernel runs each node, when storage is given back. */
#ifndef HFB_EAGER_PLAN_H
#define HFB_EAGER_PLAN_H

#include "base/cpu.h"
#include "kernels/kernel.h"

typedef enum hfb_storage_kind {
  HFB_STORAGE_INPUT,     /* index: of graph->inputs */
  HFB_STORAGE_PARAMETER, /* index: of graph->parameters */
  HFB_STORAGE_CONSTANT,  /* the bytes in the graph */
  HFB_STORAGE_RESULT     /* allocated when its node runs */
} hfb_storage_kind;

/* One block of memory, shared by a value and all its views. */
typedef struct hfb_storage {
  hfb_storage_kind kind;
  int index;
  const hfb_value *value; /* the row-major value that fills it */
  int last_use;           /* node that reads it last, its own node when none does */
  bool is_output;         /* kept until the outputs are handed over */
} hfb_storage;

/* Where a value is: a layout within a storage. tensor.data is NULL. */
typedef struct hfb_place {
  int storage;
  int64_t offset_bytes;
  hfb_tensor tensor;
} hfb_place;

/* One kernel. Views and sources have no step. */
typedef struct hfb_step {
  const hfb_node *node;
  const hfb_kernel *kernel;
  int first_release, release_count; /* into plan->releases: storages read for the last time here */
} hfb_step;

typedef struct hfb_eager_plan {
  hfb_arena arena; /* owns all arrays */
  hfb_place *places; /* by value id */
  hfb_storage *storages;
  int storage_count;
  hfb_step *steps;
  int step_count;
  int *releases;
  int max_input_count, max_result_count;
  int64_t peak_bytes; /* of result storages that are no outputs: the working memory of a run */
} hfb_eager_plan;

/* The graph must outlive the plan. */
hfb_status hfb_eager_plan_init(const hfb_graph *graph, hfb_isa isa, bool reference_only,
                               hfb_eager_plan *out_plan) HFB_MUST_USE;
void hfb_eager_plan_deinit(hfb_eager_plan *plan);

#endif
