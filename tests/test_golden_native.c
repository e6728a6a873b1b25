/* The golden cases on native, in f32 and in f64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/folder_fixture.h"
#include "support/golden.h"

static void check(const char *folder, int least, hfb_dtype precision) {
  const hfb_verify_options options = golden_options("native", precision, own_folder);
  assert_int_equal(golden_failures(folder, least, &options), 0);
}

static void test_cases_f32(void **state) {
  (void)state;
  check(HFB_TEST_DATA "/golden", 25, HFB_F32);
}

static void test_cases_f64(void **state) {
  (void)state;
  check(HFB_TEST_DATA "/golden", 25, HFB_F64);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cases_f32),
      cmocka_unit_test(test_cases_f64),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
