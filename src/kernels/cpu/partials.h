/* Partial results of a reduction: one piece of scratch memory for each task, so that they can be added up in the order
 * of the tasks whichever worker computed them. */
#ifndef HFB_KERNELS_CPU_PARTIALS_H
#define HFB_KERNELS_CPU_PARTIALS_H

#include "kernels/kernel_impl.h"

typedef struct hfb_partials {
  hfb_scratch scratch;
  int64_t areas; /* of the scratch: one for each worker; the pieces are dealt out to them in turn */
  size_t piece_bytes;
} hfb_partials;

/* Pieces are 64-byte aligned and undefined. The pool's scratch is used until deinit. */
hfb_status hfb_partials_init(hfb_pool *pool, int64_t pieces, size_t piece_bytes,
                             hfb_partials *out_partials) HFB_MUST_USE;
void hfb_partials_deinit(hfb_partials *partials);

static inline void *hfb_partials_at(const hfb_partials *partials, int64_t piece) {
  char *area = hfb_scratch_of(&partials->scratch, (int)(piece % partials->areas));
  return area + (size_t)(piece / partials->areas) * partials->piece_bytes;
}

#endif
