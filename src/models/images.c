/* Images as arguments. */
#include "models/family.h"

hfb_image_grid hfb_call_image_grid(hfb_nn *nn, const hfb_call *call, const char *nested) {
  const hfb_value *pixels = hfb_call_arg(call, "pixel_values");
  int64_t image = hfb_call_int(call, hfb_field_of(nested, "image_size").text);
  hfb_image_grid g = {.batch = pixels == NULL || pixels->shape.rank == 0 ? 1 : pixels->shape.dim[0],
                      .patch = hfb_call_int(call, hfb_field_of(nested, "patch_size").text),
                      .channels = hfb_call_int(call, hfb_field_of(nested, "num_channels").text)};
  g.side = image / g.patch;
  hfb_shape expected = hfb_shape_of(4, (int64_t[]){g.batch, g.channels, image, image});
  if (g.side < 1) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "image_size %lld holds no patch of patch_size %lld", (long long)image,
                     (long long)g.patch);
  } else if (pixels == NULL) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%s needs the argument 'pixel_values'", call->request->class_name);
  } else if (pixels->dtype != HFB_F32 || g.batch < 1 || !hfb_shape_equal(&pixels->shape, &expected)) {
    char shape[HFB_SHAPE_TEXT_BYTES];
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "argument 'pixel_values' is %s%s; num_channels and image_size need f32[%lld,%lld,%lld,%lld]",
                     hfb_dtype_name(pixels->dtype), hfb_shape_print(&pixels->shape, shape, sizeof shape),
                     (long long)g.batch, (long long)g.channels, (long long)image, (long long)image);
  }
  return g;
}
