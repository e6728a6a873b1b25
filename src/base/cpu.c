#include "base/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/log.h"

enum { MAX_CPUS = 8192, LINE_BYTES = 512 };

static const char *const isa_names[HFB_ISA_COUNT] = {
    [HFB_ISA_GENERIC] = "generic",         [HFB_ISA_AVX2] = "avx2", [HFB_ISA_AVX512] = "avx512",
    [HFB_ISA_AVX512_BF16] = "avx512_bf16", [HFB_ISA_AMX] = "amx",
};

const char *hfb_isa_name(hfb_isa isa) { return (unsigned)isa < HFB_ISA_COUNT ? isa_names[isa] : "unknown"; }

#if defined(__x86_64__)

/* Tile registers are off until a process asks the kernel for them (Documentation/arch/x86/xstate.rst). */
static bool request_tiles(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* XCR0: the register files that the operating system saves. */
static uint64_t enabled_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

static bool has_bits(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

/* Bit numbers: Intel SDM volume 2, CPUID leaves 1 and 7; volume 1, section 13.3 for XCR0. */
static hfb_isa detect_isa(void) {
  const uint64_t avx_state = 1u << 1 | 1u << 2, avx512_state = avx_state | 7u << 5, tile_state = 3u << 17;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return HFB_ISA_GENERIC;
  if (!has_bits(c, 1u << 12 | 1u << 27 | 1u << 28)) return HFB_ISA_GENERIC; /* FMA, OSXSAVE, AVX */
  uint64_t state = enabled_state();
  uint32_t a7, b7, c7, d7;
  if (!has_bits(state, avx_state) || !__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7)) return HFB_ISA_GENERIC;
  if (!has_bits(b7, 1u << 5)) return HFB_ISA_GENERIC; /* AVX2 */
  bool has_avx512 = has_bits(b7, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31); /* F, DQ, BW, VL */
  if (!has_avx512 || !has_bits(state, avx512_state)) return HFB_ISA_AVX2;
  bool has_bf16 = a7 >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has_bits(a, 1u << 5);
  if (!has_bf16) return HFB_ISA_AVX512;
  bool has_tiles = has_bits(d7, 1u << 22 | 1u << 24) && has_bits(state, tile_state); /* AMX-BF16, AMX-TILE */
  return has_tiles && request_tiles() ? HFB_ISA_AMX : HFB_ISA_AVX512_BF16;
}

static void read_model_name(char *out, size_t bytes) {
  uint32_t brand[12] = {0};
  for (uint32_t i = 0; i < 3; i++) {
    uint32_t *words = brand + 4 * i;
    if (!__get_cpuid(0x80000002u + i, &words[0], &words[1], &words[2], &words[3])) break;
  }
  char text[sizeof(brand) + 1] = {0};
  memcpy(text, brand, sizeof(brand));
  const char *start = text + strspn(text, " ");
  snprintf(out, bytes, "%s", *start ? start : "unknown x86-64 processor");
  for (size_t length = strlen(out); length > 0 && out[length - 1] == ' '; length--) out[length - 1] = '\0';
}

#else

static hfb_isa detect_isa(void) { return HFB_ISA_GENERIC; }

static void read_model_name(char *out, size_t bytes) { snprintf(out, bytes, "unknown processor"); }

#endif

/* First line of a small file of /sys or /proc, without the newline. */
static bool read_line(const char *path, char line[LINE_BYTES]) {
  FILE *file = fopen(path, "re");
  if (!file) return false;
  bool ok = fgets(line, LINE_BYTES, file) != NULL;
  fclose(file);
  if (ok) line[strcspn(line, "\n")] = '\0';
  return ok;
}

/* First number of a file; -1 when there is none ("max", no such file). */
static int64_t read_number(const char *path) {
  char line[LINE_BYTES], *end;
  if (!read_line(path, line)) return -1;
  int64_t value = strtoll(line, &end, 10);
  return end == line ? -1 : value;
}

/* Counts the processors of the affinity mask and, among them, one for each core. */
static void count_cores(hfb_cpu_info *info, int *out_first_cpu) {
  *out_first_cpu = 0;
  info->thread_count = info->core_count = 1;
  size_t bytes = CPU_ALLOC_SIZE(MAX_CPUS);
  cpu_set_t *allowed = CPU_ALLOC(MAX_CPUS);
  if (!allowed) return;
  CPU_ZERO_S(bytes, allowed);
  int threads = 0, cores = 0;
  if (sched_getaffinity(0, bytes, allowed) == 0) {
    for (int cpu = 0; cpu < MAX_CPUS; cpu++) {
      if (!CPU_ISSET_S(cpu, bytes, allowed)) continue;
      if (threads++ == 0) *out_first_cpu = cpu;
      /* A core counts at its first allowed thread; the list of its threads reads "0,64" or "0-1". */
      char path[128], list[LINE_BYTES];
      snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
      bool counted = false;
      if (read_line(path, list)) {
        for (char *at = list; *at && !counted;) {
          long first = strtol(at, &at, 10), last = first;
          if (*at == '-') last = strtol(at + 1, &at, 10);
          for (long sibling = first; sibling <= last && sibling < cpu; sibling++) {
            if (sibling >= 0 && CPU_ISSET_S((size_t)sibling, bytes, allowed)) counted = true;
          }
          if (*at != ',') break;
          at++;
        }
      }
      if (!counted) cores++;
    }
  }
  CPU_FREE(allowed);
  if (threads > 0) info->thread_count = threads;
  if (cores > 0) info->core_count = cores;
}

static void read_caches(hfb_cpu_info *info, int cpu) {
  for (int index = 0; index < 8; index++) {
    char path[128], type[LINE_BYTES], size[LINE_BYTES], *unit;
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cache/index%d/level", cpu, index);
    int64_t level = read_number(path);
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cache/index%d/type", cpu, index);
    if (level < 0 || !read_line(path, type) || strcmp(type, "Instruction") == 0) continue;
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cache/index%d/size", cpu, index);
    if (!read_line(path, size)) continue;
    int64_t bytes = strtoll(size, &unit, 10);
    if (*unit == 'K') bytes <<= 10;
    if (*unit == 'M') bytes <<= 20;
    if (level == 1) info->l1d_bytes = bytes;
    if (level == 2) info->l2_bytes = bytes;
    if (level == 3) info->l3_bytes = bytes;
  }
}

static void apply_memory_limit(hfb_cpu_info *info, int64_t limit) {
  if (limit > 0 && limit < info->memory_bytes) info->memory_bytes = limit;
}

/* A container's quota of processor time, rounded up: more threads than that would only be throttled. */
static void apply_time_quota(hfb_cpu_info *info, int64_t quota, int64_t period) {
  if (quota <= 0 || period <= 0) return;
  int64_t cores = (quota + period - 1) / period;
  if (cores < info->core_count) info->core_count = (int)cores;
  if (cores < info->thread_count) info->thread_count = (int)cores;
}

/* Version 2: the limits of this group and of every one above it hold (Documentation/admin-guide/cgroup-v2.rst). */
static void apply_cgroup2_limits(hfb_cpu_info *info, char *group) {
  for (;;) {
    char path[LINE_BYTES + 64], line[LINE_BYTES], *end;
    snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", group);
    apply_memory_limit(info, read_number(path));
    snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", group);
    if (read_line(path, line)) {
      int64_t quota = strtoll(line, &end, 10);
      if (end != line) apply_time_quota(info, quota, strtoll(end, NULL, 10));
    }
    char *slash = strrchr(group, '/');
    if (!slash) return;
    *slash = '\0';
  }
}

static void apply_cgroup_limits(hfb_cpu_info *info) {
  FILE *file = fopen("/proc/self/cgroup", "re");
  char line[LINE_BYTES];
  while (file && fgets(line, sizeof(line), file)) {
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "0::", 3) == 0) apply_cgroup2_limits(info, line + 3);
  }
  if (file) fclose(file);
  /* Version 1, as containers mount it. */
  apply_memory_limit(info, read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
  apply_time_quota(info, read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
                   read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
}

static hfb_isa lowered_isa(hfb_isa isa_max) {
  const char *wanted = getenv("HFBENCH_ISA");
  if (!wanted || !*wanted) return isa_max;
  for (int isa = 0; isa < HFB_ISA_COUNT; isa++) {
    if (strcmp(wanted, isa_names[isa]) != 0) continue;
    if (isa > (int)isa_max) {
      hfb_log(HFB_LOG_WARNING, "HFBENCH_ISA=%s: this processor has only %s, which is used", wanted,
              isa_names[isa_max]);
    }
    return isa < (int)isa_max ? (hfb_isa)isa : isa_max;
  }
  hfb_log(HFB_LOG_WARNING, "HFBENCH_ISA=%s is ignored; give generic, avx2, avx512, avx512_bf16 or amx", wanted);
  return isa_max;
}

static hfb_cpu_info cpu_info;

static void detect(void) {
  int first_cpu = 0;
  read_model_name(cpu_info.model_name, sizeof(cpu_info.model_name));
  cpu_info.isa_max = detect_isa();
  cpu_info.isa = lowered_isa(cpu_info.isa_max);
  count_cores(&cpu_info, &first_cpu);
  read_caches(&cpu_info, first_cpu);
  cpu_info.memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  apply_cgroup_limits(&cpu_info);
}

const hfb_cpu_info *hfb_cpu(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, detect);
  return &cpu_info;
}
