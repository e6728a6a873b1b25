#include "bench/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/strbuf.h"
#include "bench/memory_limit.h"

enum { TICK_MS = 200, LINE_BYTES_MAX = 16 << 20 };

static volatile sig_atomic_t interrupt_signal;

static void remember_signal(int number) { interrupt_signal = number; }

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { STOP_SIGNAL_COUNT = sizeof(stop_signals) / sizeof(stop_signals[0]) };

static sigset_t stop_set(void) {
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < STOP_SIGNAL_COUNT; i++) sigaddset(&set, stop_signals[i]);
  return set;
}

void hfb_interrupt_install(void) {
  struct sigaction action = {.sa_handler = remember_signal}, old;
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < STOP_SIGNAL_COUNT; i++) {
    bool is_nohup = stop_signals[i] == SIGHUP && sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
    if (!is_nohup) sigaction(stop_signals[i], &action, NULL);
  }
  /* A closed pipe and a limit on file sizes are errors of write, reported as such. */
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  sigemptyset(&ignore.sa_mask);
  sigaction(SIGPIPE, &ignore, NULL);
  sigaction(SIGXFSZ, &ignore, NULL);
}

int hfb_interrupted(void) { return (int)interrupt_signal; }

static bool write_all(int fd, const char *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t count = write(fd, data, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    data += count;
    bytes -= (size_t)count;
  }
  return true;
}

void hfb_child_send(hfb_child_link *link, const char *line) {
  if (write_all(link->fd, line, strlen(line))) write_all(link->fd, "\n", 1);
}

/* ---- Child side ---- */

static _Noreturn void child_main(hfb_child_fn job, void *context, const hfb_child_options *options, int line_fd,
                                 int error_fd, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  for (int i = 0; i < STOP_SIGNAL_COUNT; i++) signal(stop_signals[i], SIG_DFL);
  sigset_t set = stop_set();
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  dup2(error_fd, STDERR_FILENO);
  int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null_fd >= 0) {
    dup2(null_fd, STDIN_FILENO);
    dup2(null_fd, STDOUT_FILENO);
  }
  hfb_memory_limit_apply(options->memory_bytes);
  hfb_child_link link = {line_fd};
  int code = job(context, &link);
  fflush(NULL);
  _exit(code); /* not exit(): what the parent registered with atexit is the parent's */
}

/* ---- Parent side ---- */

typedef struct watch {
  pid_t pid;
  int line_fd, error_fd; /* -1 once closed */
  hfb_strbuf pending;    /* a line that has not ended yet */
  hfb_child_line_fn on_line;
  void *line_context;
  bool pass_stderr;
  char *tail;
} watch;

static void keep_tail(char *tail, const char *data, size_t bytes) {
  size_t room = HFB_CHILD_STDERR_BYTES - 1, have = strlen(tail);
  if (bytes > room) {
    data += bytes - room;
    bytes = room;
  }
  if (have + bytes > room) {
    size_t drop = have + bytes - room;
    memmove(tail, tail + drop, have - drop);
    have -= drop;
  }
  for (size_t i = 0; i < bytes; i++) tail[have + i] = data[i] ? data[i] : ' ';
  tail[have + bytes] = '\0';
}

static void take_lines(watch *w, const char *data, size_t bytes) {
  for (const char *end; (end = memchr(data, '\n', bytes)) != NULL;) {
    hfb_strbuf_append_bytes(&w->pending, data, (size_t)(end - data));
    bytes -= (size_t)(end + 1 - data);
    data = end + 1;
    if (hfb_strbuf_status(&w->pending) == HFB_OK) w->on_line(w->line_context, hfb_strbuf_text(&w->pending));
    hfb_strbuf_clear(&w->pending);
  }
  if (w->pending.length + bytes <= LINE_BYTES_MAX) hfb_strbuf_append_bytes(&w->pending, data, bytes);
}

/* Reads what is there; false at the end of the stream. */
static bool drain(watch *w, int fd) {
  char data[8192];
  for (;;) {
    ssize_t count = read(fd, data, sizeof(data));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN;
    if (count == 0) return false;
    if (fd == w->line_fd) {
      take_lines(w, data, (size_t)count);
    } else {
      if (w->pass_stderr) write_all(STDERR_FILENO, data, (size_t)count);
      keep_tail(w->tail, data, (size_t)count);
    }
  }
}

static void drain_both(watch *w) {
  if (w->line_fd >= 0 && !drain(w, w->line_fd)) {
    close(w->line_fd);
    w->line_fd = -1;
  }
  if (w->error_fd >= 0 && !drain(w, w->error_fd)) {
    close(w->error_fd);
    w->error_fd = -1;
  }
}

/* Sleeps until something was written or the tick is over. The stop signals are blocked everywhere else, so that none
 * can slip in between a look at interrupt_signal and the sleep. */
static void wait_for_output(watch *w, int milliseconds) {
  struct pollfd fds[2] = {{w->line_fd, POLLIN, 0}, {w->error_fd, POLLIN, 0}};
  struct timespec limit = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
  sigset_t open_mask;
  sigprocmask(SIG_BLOCK, NULL, &open_mask);
  for (int i = 0; i < STOP_SIGNAL_COUNT; i++) sigdelset(&open_mask, stop_signals[i]);
  ppoll(fds, 2, &limit, &open_mask);
}

static void kill_group(pid_t pid) {
  kill(-pid, SIGKILL);
  kill(pid, SIGKILL); /* in case it has not made its group yet */
}

/* Runs until the process has ended; returns how. */
static hfb_child_end watch_child(watch *w, double timeout_s, int *out_wait_status, struct rusage *out_usage) {
  hfb_child_end end = HFB_CHILD_EXITED;
  int64_t start = hfb_clock_ns(), last_tick = start;
  for (;;) {
    /* Looking at the process first: all it wrote before it ended is then in the pipes. */
    pid_t done = wait4(w->pid, out_wait_status, end == HFB_CHILD_EXITED ? WNOHANG : 0, out_usage);
    drain_both(w);
    if (done == w->pid) {
      if (end == HFB_CHILD_EXITED && WIFSIGNALED(*out_wait_status)) end = HFB_CHILD_SIGNALLED;
      kill(-w->pid, SIGKILL); /* what it may have left running */
      return end;
    }
    int64_t now = hfb_clock_ns();
    if (now - last_tick >= (int64_t)TICK_MS * 1000000) {
      last_tick = now;
      w->on_line(w->line_context, NULL);
    }
    double left_s = timeout_s > 0 ? timeout_s - (double)(now - start) * 1e-9 : 1e9;
    if (interrupt_signal) end = HFB_CHILD_INTERRUPTED;
    else if (left_s <= 0) end = HFB_CHILD_TIMED_OUT;
    if (end != HFB_CHILD_EXITED) {
      kill_group(w->pid);
      continue;
    }
    /* With both pipes closed the process is ending, or has closed them: look again soon. */
    int tick = w->line_fd < 0 && w->error_fd < 0 ? 5 : TICK_MS;
    wait_for_output(w, left_s * 1000 < tick ? (int)(left_s * 1000) + 1 : tick);
  }
}

static hfb_status make_pipes(int lines[2], int errors[2]) {
  if (pipe2(lines, O_CLOEXEC) != 0) return HFB_FAIL(HFB_IO, "cannot make a pipe: %s", strerror(errno));
  if (pipe2(errors, O_CLOEXEC) != 0) {
    int error = errno;
    close(lines[0]);
    close(lines[1]);
    return HFB_FAIL(HFB_IO, "cannot make a pipe: %s", strerror(error));
  }
  fcntl(lines[0], F_SETFL, O_NONBLOCK);
  fcntl(errors[0], F_SETFL, O_NONBLOCK);
  return HFB_OK;
}

hfb_status hfb_child_run(hfb_child_fn job, void *job_context, const hfb_child_options *options,
                         hfb_child_line_fn on_line, void *line_context, hfb_child_result *out_result) {
  *out_result = (hfb_child_result){0};
  int lines[2], errors[2];
  HFB_TRY(make_pipes(lines, errors));
  fflush(NULL); /* or the child would write it again */
  sigset_t stop = stop_set(), old_mask;
  sigprocmask(SIG_BLOCK, &stop, &old_mask);
  int64_t start = hfb_clock_ns(), kills_before = hfb_memory_kill_count();
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) child_main(job, job_context, options, lines[1], errors[1], parent);
  int fork_error = errno;
  close(lines[1]);
  close(errors[1]);
  if (pid < 0) {
    close(lines[0]);
    close(errors[0]);
    sigprocmask(SIG_SETMASK, &old_mask, NULL);
    return HFB_FAIL(HFB_IO, "cannot start a child process: %s", strerror(fork_error));
  }
  setpgid(pid, pid); /* here too: whoever comes first */
  watch w = {pid, lines[0], errors[0], {0}, on_line, line_context, options->pass_stderr, out_result->stderr_tail};
  hfb_strbuf_init(&w.pending);
  int wait_status = 0;
  struct rusage usage = {0};
  out_result->end = watch_child(&w, options->timeout_s, &wait_status, &usage);
  hfb_strbuf_deinit(&w.pending);
  if (w.line_fd >= 0) close(w.line_fd);
  if (w.error_fd >= 0) close(w.error_fd);
  sigprocmask(SIG_SETMASK, &old_mask, NULL);
  out_result->wall_s = (double)(hfb_clock_ns() - start) * 1e-9;
  out_result->peak_rss_bytes = (int64_t)usage.ru_maxrss * 1024;
  out_result->code = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
  /* Nobody else sends SIGKILL: when we did not, the kernel did, and it does so when memory runs out. */
  out_result->out_of_memory = out_result->end == HFB_CHILD_SIGNALLED && out_result->code == SIGKILL &&
                              (kills_before < 0 || hfb_memory_kill_count() != kills_before);
  return HFB_OK;
}
