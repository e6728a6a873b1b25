/* All parameters frozen, for a program that must say that its optimizer has nothing to step: linked with
 * -Wl,--wrap=hfb_parameter, so that the library itself knows nothing of it. */
#include "ir/builder.h"

hfb_value *__real_hfb_parameter(hfb_builder *b, const char *name, hfb_shape shape, hfb_init init);
hfb_value *__wrap_hfb_parameter(hfb_builder *b, const char *name, hfb_shape shape, hfb_init init);

hfb_value *__wrap_hfb_parameter(hfb_builder *b, const char *name, hfb_shape shape, hfb_init init) {
  init.frozen = true;
  return __real_hfb_parameter(b, name, shape, init);
}
