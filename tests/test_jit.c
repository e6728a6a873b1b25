/* Compiling, caching and everything that goes wrong with files and compilers. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "compile/jit.h"

static const char unit_a[] = "int answer_a(void) { return 42; }\n";
static const char unit_b[] = "int answer_b(void) { return 43; }\n";
static const char *const both_units[] = {unit_a, unit_b};

/* ---- a folder for each test ---- */

static char folder[64];

static const char *in_folder(const char *name) {
  static char paths[4][320];
  static int next;
  next = (next + 1) % 4;
  snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
  return paths[next];
}

static void remove_tree(const char *path) {
  DIR *directory = opendir(path);
  for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;) {
    char child[600];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
    if (unlink(child) != 0) remove_tree(child);
  }
  if (directory) closedir(directory);
  rmdir(path);
}

static int count_files(const char *path) {
  int count = 0;
  DIR *directory = opendir(path);
  for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;) {
    count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
  }
  if (directory) closedir(directory);
  return directory ? count : -1;
}

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/hfb_test_XXXXXX");
  if (!mkdtemp(folder)) return -1;
  unsetenv("HFBENCH_CC");
  unsetenv("HFBENCH_CACHE");
  unsetenv("TMPDIR");
  return 0;
}

static int teardown(void **state) {
  (void)state;
  remove_tree(folder);
  return 0;
}

/* ---- helpers ---- */

static int call(const hfb_jit *jit, const char *name) {
  int (*function)(void);
  void *symbol = hfb_jit_symbol(jit, name);
  assert_non_null(symbol);
  memcpy(&function, &symbol, sizeof function);
  return function();
}

/* Builds, calls, destroys. Returns how many compilers were started. */
static int64_t build_both(const char *cache, bool *out_hit) {
  hfb_jit *jit = NULL;
  hfb_jit_stats stats;
  const int64_t before = hfb_jit_compiler_runs();
  if (hfb_jit_build(2, both_units, HFB_ISA_GENERIC, cache, &jit, &stats) != HFB_OK) fail_msg("%s", hfb_error_message());
  assert_int_equal(call(jit, "answer_a"), 42);
  assert_int_equal(call(jit, "answer_b"), 43);
  assert_null(hfb_jit_symbol(jit, "answer_c"));
  hfb_jit_destroy(jit);
  if (out_hit) *out_hit = stats.cache_hit;
  return hfb_jit_compiler_runs() - before;
}

static void assert_build_fails(const char *const *units, int count, const char *cache, hfb_status wanted,
                               const char *fragment) {
  hfb_jit *jit = NULL;
  assert_int_equal(hfb_jit_build(count, units, HFB_ISA_GENERIC, cache, &jit, NULL), wanted);
  assert_null(jit);
  if (!strstr(hfb_error_message(), fragment)) fail_msg("'%s' does not say '%s'", hfb_error_message(), fragment);
  assert_null(strchr(hfb_error_message(), '\n'));
}

/* A compiler that does what the shell commands say. */
static void use_fake_compiler(const char *commands) {
  char script[512];
  const int length = snprintf(script, sizeof script, "#!/bin/sh\n%s\n", commands);
  assert_int_equal(hfb_file_write_atomic(in_folder("fake-cc"), script, (size_t)length), HFB_OK);
  assert_int_equal(chmod(in_folder("fake-cc"), 0755), 0);
  setenv("HFBENCH_CC", in_folder("fake-cc"), 1);
}

/* ---- the cache ---- */

static void test_hit(void **state) {
  (void)state;
  bool hit = true;
  const char *cache = in_folder("deep/cache"); /* made when missing */
  assert_int_equal(build_both(cache, &hit), 2);
  assert_false(hit);
  assert_int_equal(build_both(cache, &hit), 0);
  assert_true(hit);
  assert_int_equal(count_files(cache), 2); /* two entries, nothing else */
}

static void test_units_are_cached_one_by_one(void **state) {
  (void)state;
  const char *const more[] = {unit_a, "int answer_c(void) { return 44; }\n"};
  build_both(folder, NULL);
  hfb_jit *jit = NULL;
  hfb_jit_stats stats;
  const int64_t before = hfb_jit_compiler_runs();
  assert_int_equal(hfb_jit_build(2, more, HFB_ISA_GENERIC, folder, &jit, &stats), HFB_OK);
  assert_int_equal(call(jit, "answer_c"), 44);
  assert_false(stats.cache_hit);
  hfb_jit_destroy(jit);
  assert_int_equal(hfb_jit_compiler_runs() - before, 1);
}

static void test_key(void **state) {
  (void)state;
  build_both(folder, NULL);
  hfb_jit *jit = NULL;
  if (hfb_cpu()->isa_max >= HFB_ISA_AVX2) { /* other flags */
    assert_int_equal(hfb_jit_build(2, both_units, HFB_ISA_AVX2, folder, &jit, NULL), HFB_OK);
    hfb_jit_destroy(jit);
    assert_int_equal(count_files(folder), 4);
  }
  const int entries = count_files(folder);
  use_fake_compiler("exec cc \"$@\""); /* another compiler; its script is one file more */
  assert_int_equal(build_both(folder, NULL), 2);
  assert_int_equal(count_files(folder), entries + 3);
  use_fake_compiler("exec cc  \"$@\""); /* the compiler was changed */
  assert_int_equal(build_both(folder, NULL), 2);
}

static void test_default_directory(void **state) {
  (void)state;
  setenv("HFBENCH_CACHE", in_folder("own"), 1);
  build_both(NULL, NULL);
  assert_int_equal(count_files(in_folder("own")), 2);
  unsetenv("HFBENCH_CACHE");
  char *old_xdg = getenv("XDG_CACHE_HOME") ? strdup(getenv("XDG_CACHE_HOME")) : NULL;
  setenv("XDG_CACHE_HOME", folder, 1);
  build_both(NULL, NULL);
  assert_int_equal(count_files(in_folder("hfbench")), 2);
  if (old_xdg)
    setenv("XDG_CACHE_HOME", old_xdg, 1);
  else
    unsetenv("XDG_CACHE_HOME");
  free(old_xdg);
}

static void test_no_cache(void **state) {
  (void)state;
  setenv("TMPDIR", folder, 1);
  assert_int_equal(build_both("", NULL), 2);
  assert_int_equal(build_both("", NULL), 2);
  assert_int_equal(count_files(folder), 0); /* nothing is left behind */
}

/* ---- damage ---- */

/* Changes the bytes of every entry. */
static void damage_entries(const char *cache, void (*damage)(char *data, size_t *bytes)) {
  char names[8][600];
  int count = 0;
  DIR *directory = opendir(cache);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_name[0] != '.' && count < 8) snprintf(names[count++], sizeof names[0], "%s/%s", cache, entry->d_name);
  }
  closedir(directory);
  assert_int_equal(count, 2);
  for (int i = 0; i < count; i++) {
    char *data = NULL;
    size_t bytes = 0;
    assert_int_equal(hfb_file_read(names[i], 1 << 24, &data, &bytes), HFB_OK);
    damage(data, &bytes);
    assert_int_equal(hfb_file_write_atomic(names[i], data, bytes), HFB_OK);
    hfb_mem_free(data);
  }
}

static void truncate_half(char *data, size_t *bytes) {
  (void)data;
  *bytes /= 2;
}
static void truncate_to_nothing(char *data, size_t *bytes) {
  (void)data;
  *bytes = 0;
}
static void cut_last_byte(char *data, size_t *bytes) {
  (void)data;
  *bytes -= 1;
}
static void flip_one_bit(char *data, size_t *bytes) {
  data[*bytes / 3] ^= 4;
}
static void spoil_program_headers(char *data, size_t *bytes) {
  memset(data + 64, 0xff, *bytes > 300 ? 200 : 0);
}
static void fill_with_garbage(char *data, size_t *bytes) {
  for (size_t i = 4; i < *bytes; i++) data[i] = (char)(i * 131); /* the ELF magic stays */
}

static void test_damage(void **state) {
  (void)state;
  void (*const damages[])(char *, size_t *) = {truncate_half, truncate_to_nothing,   cut_last_byte,
                                               flip_one_bit,  spoil_program_headers, fill_with_garbage};
  build_both(folder, NULL);
  for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
    bool hit = true;
    damage_entries(folder, damages[i]);
    assert_int_equal(build_both(folder, &hit), 2); /* rebuilt */
    assert_false(hit);
    assert_int_equal(build_both(folder, &hit), 0); /* and whole again */
    assert_true(hit);
  }
}

static void test_unusable_directory(void **state) {
  (void)state;
  assert_int_equal(hfb_file_write_atomic(in_folder("file"), "x", 1), HFB_OK);
  assert_int_equal(build_both(in_folder("file"), NULL), 2); /* a file in the way: built elsewhere */
  assert_int_equal(build_both(in_folder("file/deeper"), NULL), 2);
  assert_int_equal(count_files(folder), 1);
}

/* As a user who may not write: entries are used, what is missing is built elsewhere. Returns 0 when all went well. */
static int use_read_only_directory(void) {
  const char *const fresh[] = {"int answer_d(void) { return 45; }\n"};
  hfb_jit *jit = NULL;
  hfb_jit_stats stats;
  if (geteuid() == 0 && seteuid(65534) != 0) return 1; /* everything is writable for root */
  if (hfb_jit_build(2, both_units, HFB_ISA_GENERIC, folder, &jit, &stats) != HFB_OK || !stats.cache_hit) return 2;
  hfb_jit_destroy(jit);
  if (hfb_jit_build(1, fresh, HFB_ISA_GENERIC, folder, &jit, &stats) != HFB_OK || stats.cache_hit) return 3;
  return hfb_jit_symbol(jit, "answer_d") ? 0 : 4;
}

static void test_read_only_directory(void **state) {
  (void)state;
  build_both(folder, NULL);
  assert_int_equal(chmod(folder, 0555), 0);
  const pid_t child = fork();
  if (child == 0) _exit(use_read_only_directory());
  int wait_status = 0;
  assert_int_equal(waitpid(child, &wait_status, 0), child);
  assert_int_equal(wait_status, 0);
  chmod(folder, 0755);
  assert_int_equal(count_files(folder), 2);
}

/* ---- compilers ---- */

static void test_no_compiler(void **state) {
  (void)state;
  setenv("HFBENCH_CC", "/nonexistent", 1);
  assert_null(hfb_jit_compiler());
  assert_build_fails(both_units, 2, folder, HFB_COMPILE, "HFBENCH_CC=/nonexistent");
  setenv("HFBENCH_CC", folder, 1); /* a directory is no program */
  assert_build_fails(both_units, 2, folder, HFB_COMPILE, "HFBENCH_CC");
  unsetenv("HFBENCH_CC");
  char *path = strdup(getenv("PATH"));
  setenv("PATH", folder, 1);
  assert_build_fails(both_units, 2, folder, HFB_COMPILE, "apt install gcc");
  setenv("PATH", path, 1);
  free(path);
  assert_int_equal(count_files(folder), 0);
}

static void test_compiler_names(void **state) {
  (void)state;
  static const char *const names[] = {"gcc", "clang"};
  for (int i = 0; i < 2; i++) {
    setenv("HFBENCH_CC", names[i], 1);
    if (hfb_jit_compiler()) assert_int_equal(build_both(folder, NULL), 2);
  }
}

static void test_error_in_code(void **state) {
  (void)state;
  const char *const bad[] = {unit_a, "int f(void) { return no_such_name; }\n"};
  assert_build_fails(bad, 2, folder, HFB_COMPILE, "no_such_name");
  assert_true(count_files(folder) <= 1); /* no sources, logs or objects; the good unit may stay */
  const char *const unresolved[] = {"int g(void); int f(void) { return g(); }\n"};
  assert_build_fails(unresolved, 1, folder, HFB_IO, "undefined symbol");
}

static void test_failing_compilers(void **state) {
  (void)state;
  use_fake_compiler("exit 3");
  assert_build_fails(both_units, 2, in_folder("c"), HFB_COMPILE, "exit code 3");
  use_fake_compiler("kill -9 $$");
  assert_build_fails(both_units, 2, in_folder("c"), HFB_COMPILE, "signal 9");
  use_fake_compiler("echo 'note: first'; echo 'x.c:1: error: second' >&2; exit 1");
  assert_build_fails(both_units, 2, in_folder("c"), HFB_COMPILE, "x.c:1: error: second");
  use_fake_compiler("echo 'as: cannot write: No space left on device' >&2; exit 1");
  assert_build_fails(both_units, 2, in_folder("c"), HFB_IO, "no space left");
  use_fake_compiler("exit 0"); /* and no output */
  assert_build_fails(both_units, 2, in_folder("c"), HFB_COMPILE, "wrote no output");
  assert_int_equal(count_files(in_folder("c")), 0);
}

/* A limit on the size of files stands for a full disk. */
static void test_full_disk(void **state) {
  (void)state;
  const pid_t child = fork();
  if (child == 0) {
    const struct rlimit none = {0, 0};
    hfb_jit *jit = NULL;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    const hfb_status status = hfb_jit_build(2, both_units, HFB_ISA_GENERIC, folder, &jit, NULL);
    _exit(status == HFB_IO && !jit && strstr(hfb_error_message(), "cannot write") ? 0 : 1);
  }
  int wait_status = 0;
  assert_int_equal(waitpid(child, &wait_status, 0), child);
  assert_true(WIFEXITED(wait_status));
  assert_int_equal(WEXITSTATUS(wait_status), 0);
  assert_int_equal(count_files(folder), 0);
}

/* ---- processes and memory ---- */

static void test_many_processes(void **state) {
  (void)state;
  enum { PROCESSES = 6 };
  pid_t children[PROCESSES];
  for (int i = 0; i < PROCESSES; i++) {
    children[i] = fork();
    if (children[i] != 0) continue;
    hfb_jit *jit = NULL;
    int (*function)(void) = NULL;
    if (hfb_jit_build(2, both_units, HFB_ISA_GENERIC, in_folder("shared"), &jit, NULL) != HFB_OK) _exit(1);
    void *symbol = hfb_jit_symbol(jit, "answer_b");
    if (!symbol) _exit(2);
    memcpy(&function, &symbol, sizeof function);
    _exit(function() == 43 ? 0 : 3);
  }
  for (int i = 0; i < PROCESSES; i++) {
    int wait_status = 0;
    assert_int_equal(waitpid(children[i], &wait_status, 0), children[i]);
    assert_int_equal(wait_status, 0);
  }
  bool hit = false;
  assert_int_equal(count_files(in_folder("shared")), 2);
  assert_int_equal(build_both(in_folder("shared"), &hit), 0);
  assert_true(hit);
}

/* Whichever allocation fails, the build reports it or manages without; no file is left but entries. */
static void test_failing_memory(void **state) {
  (void)state;
  for (int nth = 1;; nth++) {
    hfb_jit *jit = NULL;
    hfb_mem_fail_at(nth, 1);
    const hfb_status status = hfb_jit_build(1, both_units, HFB_ISA_GENERIC, folder, &jit, NULL);
    hfb_mem_fail_at(0, 0);
    hfb_jit_destroy(jit);
    if (status == HFB_OK) break;
    assert_int_equal(status, HFB_OUT_OF_MEMORY);
    assert_null(jit);
    assert_true(count_files(folder) <= 1);
    assert_true(nth < 200);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_hit),
      TEST(test_units_are_cached_one_by_one),
      TEST(test_key),
      TEST(test_default_directory),
      TEST(test_no_cache),
      TEST(test_damage),
      TEST(test_unusable_directory),
      TEST(test_read_only_directory),
      TEST(test_no_compiler),
      TEST(test_compiler_names),
      TEST(test_error_in_code),
      TEST(test_failing_compilers),
      TEST(test_full_disk),
      TEST(test_many_processes),
      TEST(test_failing_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
