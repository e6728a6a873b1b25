/* Training steps of the golden cases on eager, in f32 and in f64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/golden.h"

static void check(hfb_dtype precision) {
  const hfb_verify_options options = golden_training_options("eager", precision, "");
  assert_int_equal(golden_failures(HFB_TEST_DATA "/golden", 75, &options), 0);
}

static void test_f32(void **state) {
  (void)state;
  check(HFB_F32);
}

static void test_f64(void **state) {
  (void)state;
  check(HFB_F64);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_f32),
      cmocka_unit_test(test_f64),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
