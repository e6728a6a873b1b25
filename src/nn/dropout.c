/* What training draws: each call is a site with a stream of its own (base/rng.h). */
#include "nn/nn.h"

/* Whether the site draws at all. */
static bool is_active(hfb_nn *nn, double p, const char *what) {
  if (!nn->training || nn->no_dropout || p == 0) return false;
  if (p >= 1) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "%s of %g in training leaves nothing; set it below 1", what, p);
    return false;
  }
  return true;
}

hfb_value *hfb_nn_dropout(hfb_nn *nn, hfb_value *x, double p) {
  return is_active(nn, p, "dropout") ? hfb_dropout(nn->b, x, p) : x;
}

hfb_value *hfb_nn_layer_drop(hfb_nn *nn, hfb_value *before, hfb_value *after, double p) {
  if (!is_active(nn, p, "layer drop")) return after;
  return hfb_where(nn->b, hfb_random_mask(nn->b, (hfb_shape){0}, p), after, before);
}
