/* For calls that a test takes for granted: a failure ends the test and says what failed. */
#ifndef HFB_TESTS_SUPPORT_NEED_OK_H
#define HFB_TESTS_SUPPORT_NEED_OK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"

static inline void need_ok(hfb_status status, const char *what) {
  if (status != HFB_OK) fail_msg("%s: %s", what, hfb_error_message());
}

#endif
