/* The bias over start and end of spans is NaN, for a program that must say so although all engines agree: linked with
 * -Wl,--wrap=hfb_parameter, so that the library itself knows nothing of it. */
#include <math.h>

#include "ir/builder.h"

hfb_value *__real_hfb_parameter(hfb_builder *b, const char *name, hfb_shape shape, hfb_init init);
hfb_value *__wrap_hfb_parameter(hfb_builder *b, const char *name, hfb_shape shape, hfb_init init);

hfb_value *__wrap_hfb_parameter(hfb_builder *b, const char *name, hfb_shape shape, hfb_init init) {
  const hfb_init nan_init = {.kind = HFB_INIT_CONSTANT, .a = NAN, .padding_idx = -1};
  const bool is_span_bias = shape.rank == 1 && shape.dim[0] == 2;
  return __real_hfb_parameter(b, name, shape, is_span_bias ? nan_init : init);
}
