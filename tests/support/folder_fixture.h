/* A folder that the tests of a program share, for a cache or for files:
 * cmocka_run_group_tests(tests, make_folder, remove_folder). */
#ifndef HFB_TESTS_SUPPORT_FOLDER_FIXTURE_H
#define HFB_TESTS_SUPPORT_FOLDER_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

static char own_folder[64];

static inline int make_folder(void **state) {
  (void)state;
  snprintf(own_folder, sizeof(own_folder), "/tmp/hfb_test_XXXXXX");
  return mkdtemp(own_folder) ? 0 : -1;
}

static inline int remove_folder(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof(command), "rm -rf '%s'", own_folder);
  return system(command);
}

#endif
