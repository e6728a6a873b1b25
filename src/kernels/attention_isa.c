#include "kernels/attention_isa.h"

#include <stddef.h>

#include "base/rng.h"

const hfb_attention_isa *hfb_attention_isa_select(hfb_isa isa) {
#if defined(__x86_64__)
  if (isa >= HFB_ISA_AVX512) return &hfb_attention_avx512;
  if (isa >= HFB_ISA_AVX2) return &hfb_attention_avx2;
#endif
  return &hfb_attention_generic;
}

hfb_status hfb_attention_dropout_init(double p, int64_t site, const int64_t *random_state,
                                      hfb_attention_dropout *out_dropout) {
  *out_dropout = (hfb_attention_dropout){.factor = 1};
  if (!(p >= 0 && p < 1)) return HFB_FAIL(HFB_INVALID_ARGUMENT, "attention: dropout of %g is not in [0,1)", p);
  if (p == 0) return HFB_OK;
  if (!random_state) return HFB_FAIL(HFB_INVALID_ARGUMENT, "attention: dropout of %g without a random state", p);
  *out_dropout = (hfb_attention_dropout){
      .seed = random_state[0],
      .step = random_state[1],
      .site = site,
      .threshold = hfb_random_threshold(p),
      .factor = (float)(1 / (1 - p)),
  };
  return HFB_OK;
}
