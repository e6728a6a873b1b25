/* Patches of images as tokens. */
#include "nn/nn.h"

/* pixels [B,C,H,W] -> [B,patches,C*patch*patch]. First the rows of a patch come together, then its channels: two moves
 * of rank 4, where one would have rank 6. */
static hfb_value *patch_rows(hfb_nn *nn, hfb_value *pixels, int64_t patch) {
  hfb_builder *b = nn->b;
  int64_t batch = pixels->shape.dim[0], channels = pixels->shape.dim[1];
  int64_t down = pixels->shape.dim[2] / patch, across = pixels->shape.dim[3] / patch;
  if (pixels->shape.dim[2] != down * patch) pixels = hfb_slice(b, pixels, 2, 0, down * patch);
  if (pixels != NULL && pixels->shape.dim[3] != across * patch) pixels = hfb_slice(b, pixels, 3, 0, across * patch);
  hfb_value *x = hfb_reshape(b, pixels, 4, (int64_t[]){batch * channels * down, patch, across, patch});
  x = hfb_transpose(b, x, (int[]){0, 2, 1, 3});
  x = hfb_reshape(b, x, 4, (int64_t[]){batch, channels, down * across, patch * patch});
  x = hfb_transpose(b, x, (int[]){0, 2, 1, 3});
  return hfb_reshape(b, x, 3, (int64_t[]){batch, down * across, channels * patch * patch});
}

hfb_value *hfb_nn_patch_convolution(hfb_nn *nn, const char *name, hfb_value *pixels, int64_t patch, int64_t width,
                                    bool with_bias) {
  if (pixels == NULL) return NULL;
  int64_t channels = pixels->shape.dim[1];
  hfb_scope_push(nn->b, "%s", name);
  hfb_value *weight = hfb_parameter(nn->b, "weight", hfb_shape_of(4, (int64_t[]){width, channels, patch, patch}),
                                    hfb_init_normal(nn->init_std));
  hfb_value *bias = NULL;
  if (with_bias) bias = hfb_parameter(nn->b, "bias", hfb_shape_of(1, &width), hfb_init_constant(0));
  hfb_scope_pop(nn->b);
  hfb_value *rows = patch_rows(nn, pixels, patch);
  weight = hfb_reshape(nn->b, weight, 2, (int64_t[]){width, channels * patch * patch});
  return hfb_linear_op(nn->b, rows, weight, bias, true);
}
