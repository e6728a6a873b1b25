#include "kernels/kernel.h"

#include "kernels/kernel_impl.h"

static const hfb_kernel kernels[] = {
#define HFB_KERNEL(name, op, dtype, isa, in_place, reference, accepts, run) \
  {name, HFB_OP_##op, dtype, HFB_ISA_##isa, in_place, reference, accepts, run},
#include "kernels/kernels.def"
#undef HFB_KERNEL
};

const hfb_kernel *hfb_kernel_table(int *out_count) {
  *out_count = (int)(sizeof(kernels) / sizeof(kernels[0]));
  return kernels;
}

const hfb_kernel *hfb_kernel_select(const hfb_kernel_call *call, hfb_isa isa, bool reference_only) {
  hfb_dtype dtype = call->input_count > 0 ? call->inputs[0].dtype : call->results[0].dtype;
  int count;
  const hfb_kernel *table = hfb_kernel_table(&count);
  for (int i = 0; i < count; i++) {
    const hfb_kernel *kernel = &table[i];
    if (kernel->op != call->node->op || kernel->isa > isa || (reference_only && !kernel->reference)) continue;
    if (kernel->dtype != HFB_DTYPE_COUNT && kernel->dtype != dtype) continue;
    if (!kernel->accepts || kernel->accepts(call)) return kernel;
  }
  return NULL;
}
