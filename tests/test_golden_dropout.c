/* Training steps with dropout against transformers under the same masks: outputs and every gradient. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/folder_fixture.h"
#include "support/golden.h"

enum { CASES = 24 };

static void check(const char *engine, hfb_dtype precision) {
  const hfb_verify_options options = golden_training_options(engine, precision, own_folder);
  assert_int_equal(golden_failures(HFB_TEST_DATA "/golden-dropout", CASES, &options), 0);
}

static void test_eager_f64(void **state) {
  check("eager", HFB_F64);
}

static void test_eager_f32(void **state) {
  check("eager", HFB_F32);
}

static void test_native_f32(void **state) {
  check("native", HFB_F32);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_eager_f64),
      cmocka_unit_test(test_eager_f32),
      cmocka_unit_test(test_native_f32),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
