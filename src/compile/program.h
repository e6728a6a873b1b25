/* A compiled program: what native.c builds and execute.c runs. Private to compile/. */
#ifndef HFB_COMPILE_PROGRAM_H
#define HFB_COMPILE_PROGRAM_H

#include "compile/codegen.h"
#include "compile/emit.h"
#include "compile/jit.h"
#include "compile/schedule.h"
#include "hfbench/backend.h"
#include "kernels/gemm.h"
#include "kernels/kernel.h"

/* A parameter matrix in the layout of the product kernels; steps that multiply by the same matrix share it. */
typedef struct hfb_packed_weight {
  const hfb_value *parameter;
  int64_t offset, k, n, row_stride, col_stride;
  hfb_packed_b *packed;
  void *memory;
  size_t bytes;
} hfb_packed_weight;

/* An id input that indexes a table: checked before every run. */
typedef struct hfb_id_check {
  int input;      /* of the graph */
  int64_t extent; /* ids must be in [0, extent) */
} hfb_id_check;

struct hfb_program {
  hfb_program_base base; /* first, for generic code */
  hfb_device *device;
  hfb_isa isa;
  hfb_graph *graph; /* of primitives; owned */
  hfb_schedule *schedule;
  hfb_code code;
  hfb_strbuf code_text; /* all units, for show --code; filled when asked */
  hfb_jit *jit;
  hfb_program_stats stats;

  void **functions;  /* HFB_STEP_MAX_LOOPS for each step: the generated function or NULL */
  const hfb_kernel **kernels; /* by step: KERNEL */
  int *packed_of;    /* by step: index of the packed weight, -1: none */
  hfb_packed_weight *packed;
  int packed_count;
  int64_t *step_ns;  /* by step, over all runs; NULL when not profiled */
  void **storages;   /* by value id: where it is in this run */
  hfb_tensor output_memory; /* of all outputs, bytes; during a run */
  hfb_id_check *id_checks;
  int id_check_count;
};

/* Runs the steps; `storages` are set. */
hfb_status hfb_program_execute(hfb_program *program) HFB_MUST_USE;

#endif
