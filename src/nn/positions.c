/* Sinusoids and rotary angles. They are computed in f64 and rounded once, so a graph in half precision has the same
 * positions as one in f32, and one in f64 has them exactly. */
#include <math.h>

#include "nn/nn.h"

hfb_value *hfb_nn_angles(hfb_nn *nn, hfb_value *positions, int64_t count, double log_step) {
  hfb_builder *b = nn->b;
  if (positions == NULL) return NULL;
  int64_t dims[HFB_MAX_RANK];
  int rank = positions->shape.rank;
  for (int i = 0; i < rank; i++) dims[i] = positions->shape.dim[i];
  dims[rank] = 1;
  hfb_value *index = hfb_iota(b, HFB_F64, hfb_shape_of(1, &count), 0);
  hfb_value *frequency = hfb_unary(b, HFB_OP_EXP, hfb_mul_scalar(b, index, -log_step));
  return hfb_mul(b, hfb_reshape(b, hfb_cast(b, positions, HFB_F64), rank + 1, dims), frequency);
}

hfb_value *hfb_nn_sinusoids(hfb_nn *nn, hfb_value *positions, int64_t count, double log_step) {
  hfb_builder *b = nn->b;
  hfb_value *angles = hfb_nn_angles(nn, positions, count, log_step);
  hfb_value *sine = hfb_cast(b, hfb_unary(b, HFB_OP_SIN, angles), HFB_F32);
  hfb_value *cosine = hfb_cast(b, hfb_unary(b, HFB_OP_COS, angles), HFB_F32);
  return hfb_concat(b, 2, (hfb_value *[]){sine, cosine}, -1);
}

hfb_value *hfb_nn_fairseq_sinusoids(hfb_nn *nn, hfb_value *positions, int64_t width) {
  if (width < 4 || width % 2 != 0) {
    hfb_builder_fail(nn->b, HFB_UNSUPPORTED, "sinusoidal positions need an even width of at least 4, not %lld",
                     (long long)width);
    return NULL;
  }
  return hfb_nn_sinusoids(nn, positions, width / 2, log(10000) / (double)(width / 2 - 1));
}
