/* One job in a child process, with limits: whatever the job does, the parent learns how it ended.
 *
 * The child talks to the parent in lines over a pipe. It runs in a process group of its own: a Ctrl-C at the terminal
 * reaches the parent only, which then ends the whole group (a C compiler that the child started too). When the parent
 * dies, the child is killed. The parent must have one thread only, since the child is made by fork. */
#ifndef HFB_BENCH_CHILD_H
#define HFB_BENCH_CHILD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* The job: writes lines with hfb_child_send and returns the exit code of the process. */
typedef struct hfb_child_link {
  int fd;
} hfb_child_link;
typedef int (*hfb_child_fn)(void *context, hfb_child_link *link);

/* One line without '\n', written as a whole. A parent that is gone is ignored. */
void hfb_child_send(hfb_child_link *link, const char *line);

typedef enum hfb_child_end {
  HFB_CHILD_EXITED,     /* code: exit code */
  HFB_CHILD_SIGNALLED,  /* code: signal */
  HFB_CHILD_TIMED_OUT,
  HFB_CHILD_INTERRUPTED /* by hfb_interrupted */
} hfb_child_end;

enum { HFB_CHILD_STDERR_BYTES = 2048 };

typedef struct hfb_child_result {
  hfb_child_end end;
  int code;
  bool out_of_memory; /* the kernel killed it for memory */
  double wall_s;
  int64_t peak_rss_bytes;
  char stderr_tail[HFB_CHILD_STDERR_BYTES]; /* the last bytes that it wrote to stderr; NUL-terminated */
} hfb_child_result;

typedef struct hfb_child_options {
  double timeout_s;     /* 0: none */
  int64_t memory_bytes; /* 0: none. Private memory of the process beyond what it has at the start */
  bool pass_stderr;     /* copy the child's stderr to ours as it comes */
} hfb_child_options;

/* Called in the parent: for every line, and about five times a second with line == NULL. */
typedef void (*hfb_child_line_fn)(void *context, const char *line);

hfb_status hfb_child_run(hfb_child_fn job, void *job_context, const hfb_child_options *options,
                         hfb_child_line_fn on_line, void *line_context, hfb_child_result *out_result) HFB_MUST_USE;

/* Makes SIGINT, SIGTERM and SIGHUP end the current child and be remembered instead of ending this process. */
void hfb_interrupt_install(void);
int hfb_interrupted(void); /* the signal; 0: none */

#endif
