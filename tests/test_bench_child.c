/* Jobs that end in every way a job can end. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "bench/child.h"
#include "bench/memory_limit.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

typedef struct seen {
  char text[4096];
  int line_count, tick_count;
  int interrupt_at_line; /* raise SIGINT in the parent at this line */
} seen;

static void on_line(void *context, const char *line) {
  seen *s = context;
  if (!line) {
    s->tick_count++;
    return;
  }
  s->line_count++;
  size_t have = strlen(s->text);
  snprintf(s->text + have, sizeof(s->text) - have, "%.100s|", line);
  if (s->line_count == s->interrupt_at_line) raise(SIGINT);
}

static hfb_child_result run(hfb_child_fn job, void *context, hfb_child_options options, seen *s) {
  hfb_child_result result;
  assert_int_equal(hfb_child_run(job, context, &options, on_line, s, &result), HFB_OK);
  return result;
}

static int job_talks(void *context, hfb_child_link *link) {
  hfb_child_send(link, "one");
  hfb_child_send(link, "two");
  fprintf(stderr, "a word of warning\n");
  return *(int *)context;
}

static void test_lines_and_exit_code(void **state) {
  (void)state;
  for (int code = 0; code < 4; code += 3) {
    seen s = {0};
    hfb_child_result result = run(job_talks, &code, (hfb_child_options){.timeout_s = 60}, &s);
    assert_int_equal(result.end, HFB_CHILD_EXITED);
    assert_int_equal(result.code, code);
    assert_string_equal(s.text, "one|two|");
    assert_string_equal(result.stderr_tail, "a word of warning\n");
    assert_false(result.out_of_memory);
    assert_true(result.peak_rss_bytes > 0);
  }
}

static int job_long_line(void *context, hfb_child_link *link) {
  size_t bytes = *(size_t *)context;
  char *line = malloc(bytes + 1);
  memset(line, 'x', bytes);
  line[bytes] = '\0';
  hfb_child_send(link, line);
  hfb_child_send(link, "after");
  free(line);
  return 0;
}

static void test_line_longer_than_the_pipe(void **state) {
  (void)state;
  size_t bytes = 1 << 20;
  seen s = {0};
  run(job_long_line, &bytes, (hfb_child_options){.timeout_s = 60}, &s);
  assert_int_equal(s.line_count, 2);
  assert_string_equal(s.text + 100, "|after|");
}

static int job_noisy(void *context, hfb_child_link *link) {
  (void)context;
  (void)link;
  for (int i = 0; i < 20000; i++) fprintf(stderr, "line %d\n", i);
  return 1;
}

static void test_stderr_tail(void **state) {
  (void)state;
  seen s = {0};
  hfb_child_result result = run(job_noisy, NULL, (hfb_child_options){.timeout_s = 60}, &s);
  assert_int_equal(result.code, 1);
  assert_int_equal(strlen(result.stderr_tail), HFB_CHILD_STDERR_BYTES - 1);
  assert_non_null(strstr(result.stderr_tail, "line 19999\n"));
}

static int job_crashes(void *context, hfb_child_link *link) {
  hfb_child_send(link, "before");
  signal(*(int *)context, SIG_DFL);
  kill(getpid(), *(int *)context);
  return 0;
}

static void test_signals(void **state) {
  (void)state;
  const int signals[] = {SIGSEGV, SIGABRT, SIGFPE};
  for (size_t i = 0; i < 3; i++) {
    int number = signals[i];
    seen s = {0};
    hfb_child_result result = run(job_crashes, &number, (hfb_child_options){.timeout_s = 60}, &s);
    assert_int_equal(result.end, HFB_CHILD_SIGNALLED);
    assert_int_equal(result.code, number);
    assert_false(result.out_of_memory);
    assert_string_equal(s.text, "before|");
  }
}

/* Starts a grandchild that would outlive it, then hangs. */
static int job_hangs(void *context, hfb_child_link *link) {
  int *grandchild = context;
  pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  *grandchild = pid;
  hfb_child_send(link, "hanging");
  while (pid > 0) pause();
  return 0;
}

static int *shared_int(void) {
  int *value = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(value != MAP_FAILED);
  return value;
}

/* A killed process stays visible until its parent, here init, has taken note. */
static void assert_process_ends(pid_t pid) {
  char path[64], text[512];
  snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
  for (int i = 0; i < 500; i++) {
    FILE *file = fopen(path, "re");
    if (!file) return;
    size_t count = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[count] = '\0';
    const char *name_end = strrchr(text, ')');
    if (name_end && name_end[1] && (name_end[2] == 'Z' || name_end[2] == 'X')) return;
    usleep(10000);
  }
  fail_msg("process %d is still there", (int)pid);
}

static void test_timeout_kills_the_group(void **state) {
  (void)state;
  int *grandchild = shared_int();
  seen s = {0};
  hfb_child_result result = run(job_hangs, grandchild, (hfb_child_options){.timeout_s = 0.7}, &s);
  assert_int_equal(result.end, HFB_CHILD_TIMED_OUT);
  assert_true(result.wall_s >= 0.7 && result.wall_s < 20);
  assert_string_equal(s.text, "hanging|");
  assert_true(s.tick_count >= 1);
  assert_process_ends(*grandchild);
  munmap(grandchild, sizeof(int));
}

static int job_takes_memory(void *context, hfb_child_link *link) {
  size_t bytes = *(size_t *)context;
  char *block = malloc(bytes);
  hfb_child_send(link, block ? "got it" : "refused");
  free(block);
  return 0;
}

static void test_memory_limit(void **state) {
  (void)state;
#ifdef SANITIZED
  skip(); /* their malloc ends the process instead of returning NULL */
#else
  size_t bytes = (size_t)4 << 30;
  seen s = {0};
  run(job_takes_memory, &bytes, (hfb_child_options){.timeout_s = 60, .memory_bytes = 1 << 30}, &s);
  assert_string_equal(s.text, "refused|");
  bytes = (size_t)512 << 20;
  seen small = {0};
  run(job_takes_memory, &bytes, (hfb_child_options){.timeout_s = 60, .memory_bytes = 1 << 30}, &small);
  assert_string_equal(small.text, "got it|");
#endif
}

static int job_resident(void *context, hfb_child_link *link) {
  (void)context;
  enum { BYTES = 64 << 20 };
  bool has_reset = hfb_resident_peak_reset();
  int64_t before = hfb_resident_peak_bytes();
  char *block = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(block, 1, BYTES);
  munmap(block, BYTES);
  int64_t peak = hfb_resident_peak_bytes();
  bool reset_again = hfb_resident_peak_reset();
  int64_t after = hfb_resident_peak_bytes();
  bool grew = before < 0 || peak - before > BYTES / 2, shrank = !reset_again || after < peak - BYTES / 2;
  hfb_child_send(link, has_reset == reset_again && grew && shrank ? "ok" : "wrong");
  return 0;
}

static void test_resident_peak(void **state) {
  (void)state;
  seen s = {0};
  run(job_resident, NULL, (hfb_child_options){.timeout_s = 60}, &s);
  assert_string_equal(s.text, "ok|");
}

static void test_available_memory(void **state) {
  (void)state;
  int64_t bytes = hfb_memory_available_bytes();
  assert_true(bytes > 1 << 20 && bytes < (int64_t)1 << 50);
}

/* Last: the process remembers the signal. */
static void test_interrupt(void **state) {
  (void)state;
  int *grandchild = shared_int();
  hfb_interrupt_install();
  assert_int_equal(hfb_interrupted(), 0);
  seen s = {.interrupt_at_line = 1};
  hfb_child_result result = run(job_hangs, grandchild, (hfb_child_options){.timeout_s = 60}, &s);
  assert_int_equal(result.end, HFB_CHILD_INTERRUPTED);
  assert_true(result.wall_s < 20);
  assert_int_equal(hfb_interrupted(), SIGINT);
  assert_process_ends(*grandchild);
  munmap(grandchild, sizeof(int));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lines_and_exit_code),
      cmocka_unit_test(test_line_longer_than_the_pipe),
      cmocka_unit_test(test_stderr_tail),
      cmocka_unit_test(test_signals),
      cmocka_unit_test(test_timeout_kills_the_group),
      cmocka_unit_test(test_memory_limit),
      cmocka_unit_test(test_resident_peak),
      cmocka_unit_test(test_available_memory),
      cmocka_unit_test(test_interrupt),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
