/* Files: round trips, and every refusal as a one-line message that names the path. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"

static char directory[64];

static const char *in_directory(const char *name) {
  static char path[4][160];
  static int turn;
  char *result = path[turn++ % 4];
  snprintf(result, sizeof(path[0]), "%s/%s", directory, name);
  return result;
}

static int set_up(void **state) {
  (void)state;
  snprintf(directory, sizeof(directory), "/tmp/hfbench-test-XXXXXX");
  return mkdtemp(directory) ? 0 : -1;
}

static int count_entries(const char *path) {
  DIR *dir = opendir(path);
  int count = 0;
  for (struct dirent *entry; dir && (entry = readdir(dir));) count += entry->d_name[0] != '.';
  if (dir) closedir(dir);
  return count;
}

static int tear_down(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof(command), "rm -rf '%s'", directory);
  return system(command);
}

static void expect_failure(hfb_status status, hfb_status expected, const char *named) {
  assert_int_equal(status, expected);
  if (!strstr(hfb_error_message(), named)) fail_msg("\"%s\" does not name \"%s\"", hfb_error_message(), named);
}

static void test_write_read_and_map(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 1000000};
  const char *path = in_directory("data");
  for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
    char *data = malloc(sizes[s] + 1), *back;
    for (size_t i = 0; i < sizes[s]; i++) data[i] = (char)(i * 31 + s);
    assert_int_equal(hfb_file_write_atomic(path, data, sizes[s]), HFB_OK);
    size_t bytes;
    assert_int_equal(hfb_file_read(path, sizes[s], &back, &bytes), HFB_OK);
    assert_int_equal(bytes, sizes[s]);
    if (bytes) assert_memory_equal(back, data, bytes);
    assert_int_equal(back[bytes], 0);
    hfb_mem_free(back);
    hfb_file_map map;
    assert_int_equal(hfb_file_map_open(path, &map), HFB_OK);
    assert_int_equal(map.bytes, sizes[s]);
    if (bytes) assert_memory_equal(map.data, data, bytes);
    if (!bytes) assert_null(map.data);
    hfb_file_map_close(&map);
    free(data);
  }
  assert_int_equal(count_entries(directory), 1); /* no temporary file is left */
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  mode_t mask = umask(0);
  umask(mask);
  assert_int_equal(info.st_mode & 0777, 0666 & ~mask);
}

static void test_read_limits_and_pipes(void **state) {
  (void)state;
  const char *path = in_directory("limited");
  assert_int_equal(hfb_file_write_atomic(path, "12345678", 8), HFB_OK);
  char *data = (char *)path;
  size_t bytes = 7;
  expect_failure(hfb_file_read(path, 7, &data, &bytes), HFB_CORRUPT, "limited");
  assert_null(data);
  assert_int_equal(bytes, 0);
  /* No size is known in advance here. */
  assert_int_equal(hfb_file_read("/proc/self/status", 1 << 20, &data, &bytes), HFB_OK);
  assert_int_equal(strlen(data), bytes);
  assert_non_null(strstr(data, "Threads:"));
  hfb_mem_free(data);
  expect_failure(hfb_file_read("/dev/zero", 100000, &data, &bytes), HFB_CORRUPT, "/dev/zero");
}

static void test_missing_files_are_named(void **state) {
  (void)state;
  const char *path = in_directory("missing");
  char *data;
  size_t bytes;
  hfb_file_map map;
  expect_failure(hfb_file_read(path, 10, &data, &bytes), HFB_NOT_FOUND, path);
  expect_failure(hfb_file_map_open(path, &map), HFB_NOT_FOUND, path);
  expect_failure(hfb_file_map_open(directory, &map), HFB_IO, directory);
  expect_failure(hfb_file_read(directory, 10, &data, &bytes), HFB_IO, directory);
  path = in_directory("missing/file");
  expect_failure(hfb_file_write_atomic(path, "x", 1), HFB_NOT_FOUND, path);
  expect_failure(hfb_file_append(path, "x", 1), HFB_NOT_FOUND, path);
  expect_failure(hfb_file_write_atomic(directory, "x", 1), HFB_IO, directory);
  assert_false(hfb_file_exists(path));
  assert_true(hfb_file_exists(directory));
}

static void test_a_failed_write_keeps_the_old_file(void **state) {
  (void)state;
  const char *path = in_directory("kept");
  assert_int_equal(hfb_file_write_atomic(path, "old", 3), HFB_OK);
  int entries = count_entries(directory);
  /* A file size limit stands in for a full disk: write fails half-way. */
  struct rlimit previous, small = {.rlim_cur = 1000};
  getrlimit(RLIMIT_FSIZE, &previous);
  small.rlim_max = previous.rlim_max;
  signal(SIGXFSZ, SIG_IGN);
  static char big[100000];
  setrlimit(RLIMIT_FSIZE, &small);
  hfb_status status = hfb_file_write_atomic(path, big, sizeof(big));
  setrlimit(RLIMIT_FSIZE, &previous);
  expect_failure(status, HFB_IO, path);
  char *data;
  size_t bytes;
  assert_int_equal(hfb_file_read(path, 100, &data, &bytes), HFB_OK);
  assert_string_equal(data, "old");
  hfb_mem_free(data);
  assert_int_equal(count_entries(directory), entries);
}

static void test_full_disk_is_reported(void **state) {
  (void)state;
  expect_failure(hfb_file_append("/dev/full", "row\n", 4), HFB_IO, "'/dev/full': No space left on device");
  expect_failure(hfb_file_write_atomic("/dev/full", "row\n", 4), HFB_IO, "free some space");
  assert_int_equal(hfb_file_write_atomic("/dev/null", "row\n", 4), HFB_OK);
}

static void test_append(void **state) {
  (void)state;
  const char *path = in_directory("rows");
  assert_int_equal(hfb_file_append(path, "a\n", 2), HFB_OK);
  assert_int_equal(hfb_file_append(path, "bc\n", 3), HFB_OK);
  char *data;
  size_t bytes;
  assert_int_equal(hfb_file_read(path, 100, &data, &bytes), HFB_OK);
  assert_string_equal(data, "a\nbc\n");
  hfb_mem_free(data);
}

static void test_directories(void **state) {
  (void)state;
  const char *deep = in_directory("a/b//c/");
  assert_int_equal(hfb_dir_create(deep), HFB_OK);
  assert_true(hfb_file_exists(deep));
  assert_int_equal(hfb_dir_create(deep), HFB_OK);
  assert_int_equal(hfb_dir_create("/"), HFB_OK);
  assert_int_equal(hfb_dir_create("."), HFB_OK);
  expect_failure(hfb_dir_create(""), HFB_NOT_FOUND, "''");
  assert_int_equal(hfb_file_write_atomic(in_directory("plain"), "x", 1), HFB_OK);
  expect_failure(hfb_dir_create(in_directory("plain")), HFB_IO, "plain");
  expect_failure(hfb_dir_create(in_directory("plain/below")), HFB_IO, "plain/below");
}

static void test_a_read_only_directory_is_refused(void **state) {
  (void)state;
  /* /proc refuses new files even to root. */
  expect_failure(hfb_file_write_atomic("/proc/hfbench", "x", 1), HFB_NOT_FOUND, "/proc/hfbench");
  if (geteuid() == 0) return;
  const char *locked = in_directory("locked");
  assert_int_equal(mkdir(locked, 0500), 0);
  expect_failure(hfb_file_write_atomic(in_directory("locked/file"), "x", 1), HFB_IO, "choose a place");
}

static hfb_status read_and_write(const char *path) {
  char *data = NULL;
  size_t bytes;
  HFB_TRY(hfb_file_write_atomic(path, "text", 4));
  HFB_TRY(hfb_file_read("/proc/self/status", 1 << 20, &data, &bytes));
  hfb_mem_free(data);
  return hfb_dir_create(path[0] ? directory : path);
}

static void test_every_failing_allocation_is_reported(void **state) {
  (void)state;
  const char *path = in_directory("fault");
  int64_t nth = 1;
  for (;; nth++) {
    hfb_mem_fail_at(nth, 0);
    hfb_status status = read_and_write(path);
    int64_t used = hfb_mem_fail_at(0, 0);
    if (used < nth) {
      assert_int_equal(status, HFB_OK);
      break;
    }
    /* The name of the directory to sync is the one allocation that may be missed. */
    assert_true(status == HFB_OUT_OF_MEMORY || (status == HFB_OK && nth == 2));
  }
  assert_true(nth > 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_write_read_and_map),
      cmocka_unit_test(test_read_limits_and_pipes),
      cmocka_unit_test(test_missing_files_are_named),
      cmocka_unit_test(test_a_failed_write_keeps_the_old_file),
      cmocka_unit_test(test_full_disk_is_reported),
      cmocka_unit_test(test_append),
      cmocka_unit_test(test_directories),
      cmocka_unit_test(test_a_read_only_directory_is_refused),
      cmocka_unit_test(test_every_failing_allocation_is_reported),
  };
  return cmocka_run_group_tests_name("base_file", tests, set_up, tear_down);
}
