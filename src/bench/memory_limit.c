#include "bench/memory_limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/cpu.h"

enum { PATH_BYTES = 4096, LINE_BYTES = 4352, MAPPED_BYTES = 1 << 20 };

/* The number after `key` at the start of a line of a file ("" : the first number of the file); -1 when there is none,
 * which includes "max". */
static int64_t read_value(const char *path, const char *key) {
  FILE *file = fopen(path, "re");
  if (!file) return -1;
  char line[LINE_BYTES];
  int64_t value = -1;
  size_t length = strlen(key);
  while (value < 0 && fgets(line, sizeof(line), file)) {
    char *end;
    if (strncmp(line, key, length) != 0) continue;
    int64_t number = strtoll(line + length, &end, 10);
    if (end != line + length) value = number;
  }
  fclose(file);
  return value;
}

/* The names that the two versions of the interface use for the same things. */
typedef struct cgroup_layout {
  const char *controller; /* in /proc/self/cgroup, between the colons */
  const char *root;
  const char *limit, *usage, *cache_key, *kill_file;
} cgroup_layout;

static const cgroup_layout layouts[] = {
    {"", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file ", "memory.events"},
    {"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ",
     "memory.oom_control"},
};
enum { LAYOUT_COUNT = sizeof(layouts) / sizeof(layouts[0]) };

/* Our group's path below the root of the controller; false when the process is in none. */
static bool find_group(const cgroup_layout *layout, char path[PATH_BYTES]) {
  FILE *file = fopen("/proc/self/cgroup", "re");
  if (!file) return false;
  char line[LINE_BYTES];
  bool found = false;
  while (!found && fgets(line, sizeof(line), file)) {
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) continue;
    *group++ = '\0';
    found = strcmp(controllers + 1, layout->controller) == 0;
    if (found) snprintf(path, PATH_BYTES, "%s", strcmp(group, "/") == 0 ? "" : group);
  }
  fclose(file);
  return found;
}

static int64_t group_value(const cgroup_layout *layout, const char *group, const char *file, const char *key) {
  char path[2 * PATH_BYTES];
  snprintf(path, sizeof(path), "%s%s/%s", layout->root, group, file);
  return read_value(path, key);
}

/* What is left under the limit of one group; INT64_MAX without a limit. */
static int64_t group_available(const cgroup_layout *layout, const char *group) {
  int64_t limit = group_value(layout, group, layout->limit, ""), usage = group_value(layout, group, layout->usage, "");
  if (limit < 0 || usage < 0) return INT64_MAX;
  int64_t cache = group_value(layout, group, "memory.stat", layout->cache_key);
  int64_t taken = usage - (cache > 0 ? cache : 0);
  return limit > taken ? limit - taken : 0;
}

int64_t hfb_memory_available_bytes(void) {
  int64_t kilobytes = read_value("/proc/meminfo", "MemAvailable:");
  int64_t available = kilobytes >= 0 ? kilobytes * 1024 : hfb_cpu()->memory_bytes;
  for (int i = 0; i < LAYOUT_COUNT; i++) {
    char group[PATH_BYTES];
    if (!find_group(&layouts[i], group)) continue;
    /* Every group up to the root may limit. Inside a container the path may name a place that is not visible here;
     * the root then is the container's own group. */
    for (;;) {
      int64_t left = group_available(&layouts[i], group);
      if (left < available) available = left;
      char *slash = strrchr(group, '/');
      if (!slash) break;
      *slash = '\0';
    }
  }
  return available;
}

int64_t hfb_memory_kill_count(void) {
  for (int i = 0; i < LAYOUT_COUNT; i++) {
    char group[PATH_BYTES];
    if (!find_group(&layouts[i], group)) continue;
    int64_t count = group_value(&layouts[i], group, layouts[i].kill_file, "oom_kill ");
    if (count < 0) count = group_value(&layouts[i], "", layouts[i].kill_file, "oom_kill ");
    if (count >= 0) return count;
  }
  return -1;
}

void hfb_memory_limit_apply(int64_t bytes) {
  FILE *score = fopen("/proc/self/oom_score_adj", "we");
  if (score) {
    fputs("1000", score);
    fclose(score);
  }
#ifdef __GLIBC__
  /* What is freed goes back to the kernel at once, also blocks that the heap would keep: they would come on top of what
   * the next part of the job takes. */
  mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES);
#endif
  if (bytes <= 0) return;
  /* RLIMIT_DATA counts private writable memory, reserved address space included: what is there already (the shadow
   * memory of a sanitizer is huge) and the stacks of threads come on top. */
  int64_t now = read_value("/proc/self/status", "VmData:");
  if (now < 0) return;
  struct rlimit stack, limit;
  int64_t stack_bytes = 8 << 20;
  if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur != RLIM_INFINITY) stack_bytes = (int64_t)stack.rlim_cur;
  int64_t stacks = stack_bytes * 4 * hfb_cpu()->thread_count;
  if (getrlimit(RLIMIT_DATA, &limit) != 0) return;
  rlim_t wanted = (rlim_t)(now * 1024 + bytes + stacks);
  if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur <= wanted) return;
  limit.rlim_cur = wanted;
  setrlimit(RLIMIT_DATA, &limit);
}

static int64_t highest_before_reset;

bool hfb_resident_peak_reset(void) {
  highest_before_reset = hfb_resident_highest_bytes();
  /* proc(5): 5 resets the peak resident set size to the current one. */
  FILE *file = fopen("/proc/self/clear_refs", "we");
  if (!file) return false;
  fputs("5", file);
  if (fclose(file) != 0) return false;
  int64_t peak = read_value("/proc/self/status", "VmHWM:"), now = read_value("/proc/self/status", "VmRSS:");
  return peak >= 0 && peak <= now + 1024;
}

static int64_t status_bytes(const char *key) {
  int64_t kilobytes = read_value("/proc/self/status", key);
  return kilobytes < 0 ? -1 : kilobytes * 1024;
}

int64_t hfb_resident_peak_bytes(void) { return status_bytes("VmHWM:"); }

int64_t hfb_resident_bytes(void) { return status_bytes("VmRSS:"); }

int64_t hfb_resident_highest_bytes(void) {
  const int64_t peak = hfb_resident_peak_bytes();
  return peak > highest_before_reset ? peak : highest_before_reset;
}
