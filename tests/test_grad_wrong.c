/* A wrong gradient rule is noticed: this program is linked so that one rule is off by a hundredth
 * (support/grad_wrong.h), and the checks that all rules pass in test_grad_rules must report that one and no other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/grad_check.h"
#include "support/grad_wrong.h"
#include "support/need_ok.h"

static bool has_elements(const hfb_shape *shape) { return hfb_shape_elements(shape) > 0; }

static void test_only_the_wrong_rule_is_reported(void **state) {
  (void)state;
  int caught = 0;
  hfb_device *device;
  need_ok(hfb_device_cpu_create(1, 0, &device), "device");
  for (int i = 0; i < grad_case_count(); i++) {
    const char *line = grad_case_line(i);
    char text[512] = "";
    grad_case g;
    need_ok(grad_case_open(line, device, &g), line);
    bool by_differences = grad_case_check_differences(&g, text, sizeof(text));
    bool by_decomposition = grad_case_check_decomposition(&g, text, sizeof(text));
    bool is_wrong = g.c.op == HFB_TEST_WRONG_OP && has_elements(&g.c.inputs[0].shape);
    if (by_differences == is_wrong) fail_msg("\"%s\", differences: %s", line, is_wrong ? "not noticed" : text);
    if (by_decomposition == is_wrong) fail_msg("\"%s\", decomposition: %s", line, is_wrong ? "not noticed" : text);
    caught += is_wrong;
    grad_case_close(&g);
  }
  hfb_device_destroy(device);
  assert_true(caught >= 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_only_the_wrong_rule_is_reported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
