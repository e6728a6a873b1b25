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

/* A parameter matrix that lies in its memory in the layout of the product kernels; all steps that read it share it. */
typedef struct hfb_packed_weight {
  const hfb_value *parameter;
  hfb_packed_b *packed;
  void *rest; /* columns that fill no panel; NULL: none */
  size_t rest_bytes;
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
  bool owns_parameters; /* as the option */
  int64_t *step_ns;  /* by step, over all runs; NULL when not profiled */
  void **storages;   /* by value id: where it is in this run */
  hfb_tensor output_memory; /* of all outputs, bytes; during a run */
  hfb_id_check *id_checks;
  int id_check_count;
};

/* Rearranges the parameters that nothing but products reads, if the program owns them: `storages` of parameters are set
 * and row-major. A failure leaves them undefined. */
hfb_status hfb_program_pack_weights(hfb_program *program) HFB_MUST_USE;
void hfb_program_release_packed(hfb_program *program);
/* What that takes beyond the memory of the parameters. */
int64_t hfb_program_plan_packed_bytes(const hfb_program *program);

/* Runs the steps; `storages` are set. */
hfb_status hfb_program_execute(hfb_program *program) HFB_MUST_USE;

#endif
