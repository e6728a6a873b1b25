/* The device that the tests of a program share: cmocka_run_group_tests(tests, set_up_threads, tear_down). */
#ifndef HFB_TESTS_SUPPORT_DEVICE_FIXTURE_H
#define HFB_TESTS_SUPPORT_DEVICE_FIXTURE_H

#include "device/device.h"
#include "support/need_ok.h"

static hfb_device *device;

static inline int set_up_one_thread(void **state) {
  (void)state;
  return hfb_device_cpu_create(1, 0, &device) == HFB_OK ? 0 : -1;
}

/* Three, so that shares of work are uneven. */
static inline int set_up_threads(void **state) {
  (void)state;
  return hfb_device_cpu_create(3, 0, &device) == HFB_OK ? 0 : -1;
}

static inline int tear_down(void **state) {
  (void)state;
  hfb_device_destroy(device);
  return 0;
}

#endif
