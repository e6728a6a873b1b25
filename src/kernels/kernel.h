/* Kernels: one op on concrete tensors.
 *
 * kernels.def lists them, several for one op, best first within an instruction set. hfb_kernel_select takes the first
 * row whose op, dtypes and ISA fit and whose `accepts` agrees; the plain reference (ref/) accepts everything, so a
 * kernel is always found. The float64 reference run uses ref/ only. */
#ifndef HFB_KERNELS_KERNEL_H
#define HFB_KERNELS_KERNEL_H

#include "base/cpu.h"
#include "device/tensor.h"
#include "ir/graph.h"

/* Results are allocated, row-major, by the caller, and do not overlap the inputs unless the kernel's row says
 * in-place is allowed: then each results[i] may be exactly inputs[i]. Inputs have any strides. */
typedef struct hfb_kernel_call {
  const hfb_node *node; /* op and attributes */
  int input_count, result_count;
  const hfb_tensor *inputs;
  hfb_tensor *results;
  hfb_pool *pool; /* may be NULL; scratch is taken from it only when not NULL */
} hfb_kernel_call;

typedef hfb_status (*hfb_kernel_fn)(const hfb_kernel_call *call);
typedef bool (*hfb_kernel_accepts_fn)(const hfb_kernel_call *call);

typedef struct hfb_kernel {
  const char *name; /* "f32_layer_norm__avx512": shown in profiles and logs */
  hfb_op op;
  hfb_dtype dtype;  /* of inputs[0] (of results[0] for ops without inputs); HFB_DTYPE_COUNT: any */
  hfb_isa isa;
  bool in_place;
  bool reference;   /* plain C of ref/ */
  hfb_kernel_accepts_fn accepts; /* NULL: every call */
  hfb_kernel_fn run;
} hfb_kernel;

/* Never NULL for an op that eager runs as a kernel. `reference_only` restricts to ref/. `isa` is the highest level
 * allowed (hfb_cpu()->isa in production). */
const hfb_kernel *hfb_kernel_select(const hfb_kernel_call *call, hfb_isa isa, bool reference_only);

/* All rows, for tests and listings. */
const hfb_kernel *hfb_kernel_table(int *out_count);

/* Movement without arithmetic: makes out_view a view of `input` for RESHAPE, TRANSPOSE, SLICE, EXPAND when its
 * strides allow. Returns false when the op is no such movement or a copy is needed. Takes no reference. */
bool hfb_view_try(const hfb_node *node, const hfb_tensor *input, hfb_tensor *out_view);

#endif
