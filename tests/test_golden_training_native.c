/* Training steps of the golden cases on native, in f32 and in f64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/golden.h"

static char cache_dir[64];

static void check(hfb_dtype precision) {
  const hfb_verify_options options = golden_training_options("native", precision, cache_dir);
  assert_int_equal(golden_failures(HFB_TEST_DATA "/golden", 75, &options), 0);
}

static void test_cases_f32(void **state) {
  (void)state;
  check(HFB_F32);
}

static void test_cases_f64(void **state) {
  (void)state;
  check(HFB_F64);
}

static int make_cache(void **state) {
  (void)state;
  snprintf(cache_dir, sizeof(cache_dir), "/tmp/hfb_test_cache_XXXXXX");
  return mkdtemp(cache_dir) ? 0 : -1;
}

static int remove_cache(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof(command), "rm -rf '%s'", cache_dir);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cases_f32),
      cmocka_unit_test(test_cases_f64),
  };
  return cmocka_run_group_tests(tests, make_cache, remove_cache);
}
