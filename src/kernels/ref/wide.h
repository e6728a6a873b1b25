/* The operands of a call as row-major arrays of double and int64, for reference kernels that are loops over them.
 *
 *   hfb_wide wide;
 *   HFB_TRY(hfb_wide_begin(call, &wide));
 *   ... read wide.in[i] and wide.index[i], set every element of wide.out[i] ...
 *   return hfb_wide_end(call, &wide, HFB_OK);
 *
 * Row-major f64 operands are used where they lie, so a kernel that may run in place reads an element of inputs[i]
 * before it writes that of results[i], and no other. */
#ifndef HFB_KERNELS_REF_WIDE_H
#define HFB_KERNELS_REF_WIDE_H

#include "kernels/kernel.h"

enum { HFB_WIDE_MAX_INPUTS = 8 };

typedef struct hfb_wide {
  const double *in[HFB_WIDE_MAX_INPUTS];      /* NULL for an integer input */
  const int64_t *index[HFB_WIDE_MAX_INPUTS];  /* NULL for a float input */
  double *out[HFB_MAX_RESULTS];
  void *owned[HFB_WIDE_MAX_INPUTS + HFB_MAX_RESULTS];
  int owned_count;
} hfb_wide;

hfb_status hfb_wide_begin(const hfb_kernel_call *call, hfb_wide *out_wide) HFB_MUST_USE;
/* Rounds the results to their dtype if `status` is HFB_OK, frees the arrays, and returns the first failure. */
hfb_status hfb_wide_end(const hfb_kernel_call *call, hfb_wide *wide, hfb_status status) HFB_MUST_USE;

/* Elements before, along and behind an axis: element (o, a, i) is number (o * length + a) * inner + i. */
typedef struct hfb_axis_split {
  int64_t outer, length, inner;
} hfb_axis_split;
hfb_axis_split hfb_axis_split_of(const hfb_shape *shape, int axis);

#endif
