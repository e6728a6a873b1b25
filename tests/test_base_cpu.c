/* What the processor says must be consistent, and a forced level must hold. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/cpu.h"

static void test_counts_follow_the_affinity_mask(void **state) {
  (void)state;
  const hfb_cpu_info *cpu = hfb_cpu();
  cpu_set_t allowed;
  assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  assert_in_range(cpu->thread_count, 1, CPU_COUNT(&allowed));
  assert_in_range(cpu->core_count, 1, cpu->thread_count);
  assert_true(cpu->memory_bytes > 64 << 20);
  assert_true(cpu->memory_bytes <= (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
  assert_true(strlen(cpu->model_name) > 0);
  if (cpu->l1d_bytes && cpu->l2_bytes) assert_true(cpu->l1d_bytes <= cpu->l2_bytes);
}

/* The compiler's runtime reads the same registers by its own code. */
static void test_isa_agrees_with_the_compiler(void **state) {
  (void)state;
  const hfb_cpu_info *cpu = hfb_cpu();
  assert_true(cpu->isa <= cpu->isa_max);
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  assert_int_equal(cpu->isa_max >= HFB_ISA_AVX2, has_avx2);
  assert_int_equal(cpu->isa_max >= HFB_ISA_AVX512, has_avx512);
#else
  assert_int_equal(cpu->isa_max, HFB_ISA_GENERIC);
#endif
}

/* In a child process, because detection runs once. */
static int isa_of_child(const char *forced, bool one_cpu) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    setenv("HFBENCH_ISA", forced, 1);
    if (one_cpu) {
      cpu_set_t allowed, one;
      if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) _exit(100);
      int cpu = 0;
      while (!CPU_ISSET(cpu, &allowed)) cpu++;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      if (sched_setaffinity(0, sizeof(one), &one) != 0) _exit(100);
      if (hfb_cpu()->core_count != 1 || hfb_cpu()->thread_count != 1) _exit(101);
    }
    if (!freopen("/dev/null", "w", stderr)) _exit(102); /* the expected warning */
    _exit((int)hfb_cpu()->isa);
  }
  int result;
  assert_int_equal(waitpid(child, &result, 0), child);
  assert_true(WIFEXITED(result));
  return WEXITSTATUS(result);
}

static void test_the_environment_lowers_but_never_raises(void **state) {
  (void)state;
  int isa_max = isa_of_child("", true);
  assert_in_range(isa_max, HFB_ISA_GENERIC, HFB_ISA_COUNT - 1);
  for (int isa = 0; isa < HFB_ISA_COUNT; isa++) {
    int got = isa_of_child(hfb_isa_name((hfb_isa)isa), false);
    assert_int_equal(got, isa < isa_max ? isa : isa_max);
  }
  assert_int_equal(isa_of_child("sse9", false), isa_max);
  assert_string_equal(hfb_isa_name(HFB_ISA_COUNT), "unknown");
}

static void test_the_clock_runs_forward(void **state) {
  (void)state;
  int64_t start = hfb_clock_ns(), previous = start;
  usleep(2000);
  for (int i = 0; i < 1000; i++) {
    int64_t now = hfb_clock_ns();
    assert_true(now >= previous);
    previous = now;
  }
  assert_true(previous - start >= 2000000);
}

int main(void) {
  /* The environment test must be first: its children need a processor not yet detected. */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_environment_lowers_but_never_raises),
      cmocka_unit_test(test_counts_follow_the_affinity_mask),
      cmocka_unit_test(test_isa_agrees_with_the_compiler),
      cmocka_unit_test(test_the_clock_runs_forward),
  };
  return cmocka_run_group_tests_name("base_cpu", tests, NULL, NULL);
}
