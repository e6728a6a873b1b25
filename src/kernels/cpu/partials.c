#include "kernels/cpu/partials.h"

hfb_status hfb_partials_init(hfb_pool *pool, int64_t pieces, size_t piece_bytes, hfb_partials *out_partials) {
  *out_partials = (hfb_partials){.areas = hfb_pool_size(pool), .piece_bytes = (piece_bytes + 63) / 64 * 64};
  size_t pieces_per_area = (size_t)((pieces + out_partials->areas - 1) / out_partials->areas);
  if (pieces_per_area == 0) pieces_per_area = 1;
  return hfb_scratch_init(pool, pieces_per_area * out_partials->piece_bytes, &out_partials->scratch);
}

void hfb_partials_deinit(hfb_partials *partials) { hfb_scratch_deinit(&partials->scratch); }
