#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static atomic_int log_level = HFB_LOG_WARNING;

static const char *const level_prefixes[] = {
    [HFB_LOG_ERROR] = "error: ", [HFB_LOG_WARNING] = "warning: ", [HFB_LOG_INFO] = "", [HFB_LOG_DEBUG] = "debug: "};

void hfb_log_set_level(hfb_log_level level) { atomic_store_explicit(&log_level, (int)level, memory_order_relaxed); }

void hfb_log(hfb_log_level level, const char *format, ...) {
  if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed)) return;
  /* One write for each line, so that lines of several threads and processes do not mix. */
  char line[2048];
  size_t prefix_length = strlen(level_prefixes[level]);
  memcpy(line, level_prefixes[level], prefix_length);
  size_t room = sizeof(line) - prefix_length - 1;
  va_list args;
  va_start(args, format);
  int length = vsnprintf(line + prefix_length, room, format, args);
  va_end(args);
  if (length < 0) return;
  size_t used = prefix_length + ((size_t)length < room ? (size_t)length : room - 1);
  line[used++] = '\n';
  fwrite(line, 1, used, stderr);
}
