/* Running the C compiler: one process for each translation unit, no shell. */
#ifndef HFB_COMPILE_JIT_CC_H
#define HFB_COMPILE_JIT_CC_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/cpu.h"
#include "base/status.h"

/* NULL-terminated. Everything that changes the code but the compiler itself. */
const char *const *hfb_cc_flags(hfb_isa isa);

/* HFB_COMPILE: no compiler, and what to do. */
hfb_status hfb_cc_fail_missing(void) HFB_MUST_USE;

typedef struct hfb_cc_job {
  bool started;
  pid_t pid;
  const char *compiler;
  char *source_path, *object_path, *log_path; /* in the build directory; removed by deinit */
} hfb_cc_job;

/* Writes `code` to a file of its own in `directory` and starts the compiler on it. `job` must be zeroed. HFB_IO when
 * the directory cannot be written to. */
hfb_status hfb_cc_start(hfb_cc_job *job, const char *compiler, hfb_isa isa, const char *directory, const char *name,
                        const char *code) HFB_MUST_USE;
/* Waits. A failure is reported when `report`, else only the process is collected. HFB_IO when the disk is full. */
hfb_status hfb_cc_wait(hfb_cc_job *job, bool report) HFB_MUST_USE;
void hfb_cc_job_deinit(hfb_cc_job *job);

#endif
