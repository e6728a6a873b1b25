#include "compile/jit_cc.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "compile/jit.h"

enum { MAX_ARGUMENTS = 40, MAX_PATH_BYTES = 4096, LARGEST_LOG_BYTES = 1 << 20 };

extern char **environ;

static _Atomic int64_t compiler_runs;

int64_t hfb_jit_compiler_runs(void) {
  return atomic_load(&compiler_runs);
}

/* ---- which compiler ---- */

static bool is_program(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

/* Looks for `name` as a path, or in the directories of PATH. */
static bool find_program(const char *name, char out_path[MAX_PATH_BYTES]) {
  if (strchr(name, '/')) {
    snprintf(out_path, MAX_PATH_BYTES, "%s", name);
    return is_program(out_path);
  }
  const char *path = getenv("PATH");
  while (path && *path) {
    const size_t length = strcspn(path, ":");
    snprintf(out_path, MAX_PATH_BYTES, "%.*s/%s", (int)length, path, name);
    if (length > 0 && is_program(out_path)) return true;
    path += length;
    if (*path == ':') path++;
  }
  return false;
}

const char *hfb_jit_compiler(void) {
  static const char *const names[] = {"cc", "gcc", "clang"};
  static _Thread_local char path[MAX_PATH_BYTES];
  const char *chosen = getenv("HFBENCH_CC");
  if (chosen && chosen[0]) return find_program(chosen, path) ? path : NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (find_program(names[i], path)) return path;
  }
  return NULL;
}

hfb_status hfb_cc_fail_missing(void) {
  const char *chosen = getenv("HFBENCH_CC");
  if (chosen && chosen[0]) {
    return HFB_FAIL(HFB_COMPILE,
                    "HFBENCH_CC=%s is no program; set it to a C compiler such as gcc or clang, or unset it", chosen);
  }
  return HFB_FAIL(HFB_COMPILE, "no C compiler: install gcc or clang (apt install gcc), or set HFBENCH_CC to one");
}

/* No fast-math: infinities of masks must stay what they are. Contraction and wrapping integers are what the generated
 * code expects. Nothing of the C library is linked in: what kernels call is in the process already. */
#define COMMON_FLAGS                                                                                            \
  "-std=gnu11", "-O2", "-w", "-pipe", "-fPIC", "-shared", "-nostdlib", "-ffp-contract=fast", "-fno-math-errno", \
      "-fno-trapping-math", "-fwrapv", "-fno-strict-aliasing", "-fno-asynchronous-unwind-tables",               \
      "-fno-stack-protector"

const char *const *hfb_cc_flags(hfb_isa isa) {
  static const char *const generic[] = {COMMON_FLAGS, NULL};
  static const char *const avx2[] = {COMMON_FLAGS, "-mavx2", "-mfma", NULL};
  static const char *const avx512[] = {COMMON_FLAGS, "-mavx2",     "-mfma",      "-mavx512f",
                                       "-mavx512bw", "-mavx512dq", "-mavx512vl", NULL};
  return isa >= HFB_ISA_AVX512 ? avx512 : isa == HFB_ISA_AVX2 ? avx2 : generic;
}

/* ---- one job ---- */

static hfb_status job_path(const char *directory, const char *name, const char *suffix, char **out_path) {
  static _Atomic unsigned number;
  const size_t bytes = strlen(directory) + strlen(name) + strlen(suffix) + 64;
  HFB_TRY(hfb_mem_alloc(bytes, 1, out_path));
  snprintf(*out_path, bytes, "%s/.%s.%ld.%u%s", directory, name, (long)getpid(), atomic_fetch_add(&number, 1), suffix);
  return HFB_OK;
}

static hfb_status write_file(const char *path, const char *text) {
  const size_t bytes = strlen(text);
  FILE *file = fopen(path, "we");
  const bool written = file && fwrite(text, 1, bytes, file) == bytes;
  const int write_error = errno;
  const bool closed = file && fclose(file) == 0;
  if (written && closed) return HFB_OK;
  return HFB_FAIL(HFB_IO, "cannot write '%s': %s", path, strerror(written ? errno : write_error));
}

/* The environment with messages in English, since one of them is looked for. Freed with hfb_mem_free. */
static hfb_status english_environment(char ***out_environment) {
  size_t count = 0, kept = 0;
  while (environ[count]) count++;
  HFB_TRY(hfb_mem_alloc(count + 2, sizeof **out_environment, out_environment));
  for (size_t i = 0; i < count; i++) {
    if (strncmp(environ[i], "LC_ALL=", 7) != 0) (*out_environment)[kept++] = environ[i];
  }
  (*out_environment)[kept] = "LC_ALL=C";
  return HFB_OK;
}

static hfb_status spawn(hfb_cc_job *job, hfb_isa isa) {
  const char *arguments[MAX_ARGUMENTS] = {job->compiler};
  int count = 1;
  for (const char *const *flag = hfb_cc_flags(isa); *flag; flag++) arguments[count++] = *flag;
  arguments[count++] = "-o";
  arguments[count++] = job->object_path;
  arguments[count++] = job->source_path;
  char **environment = NULL;
  HFB_TRY(english_environment(&environment));
  posix_spawn_file_actions_t actions;
  int error = posix_spawn_file_actions_init(&actions);
  if (error == 0) {
    error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (error == 0)
      error =
          posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, job->log_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    if (error == 0)
      error = posix_spawn(&job->pid, job->compiler, &actions, NULL, (char *const *)arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
  }
  hfb_mem_free(environment);
  if (error != 0) return HFB_FAIL(HFB_COMPILE, "cannot run the C compiler '%s': %s", job->compiler, strerror(error));
  job->started = true;
  atomic_fetch_add(&compiler_runs, 1);
  return HFB_OK;
}

hfb_status hfb_cc_start(hfb_cc_job *job, const char *compiler, hfb_isa isa, const char *directory, const char *name,
                        const char *code) {
  job->compiler = compiler;
  HFB_TRY(job_path(directory, name, ".c", &job->source_path));
  HFB_TRY(job_path(directory, name, ".so", &job->object_path));
  HFB_TRY(job_path(directory, name, ".log", &job->log_path));
  HFB_TRY(write_file(job->source_path, code));
  return spawn(job, isa);
}

/* The first line that says "error", else the first line. */
static void first_error(char *log) {
  char *error = strstr(log, "error");
  while (error && error > log && error[-1] != '\n') error--;
  if (error) memmove(log, error, strlen(error) + 1);
  log[strcspn(log, "\n")] = '\0';
}

static hfb_status report_failure(const hfb_cc_job *job, int wait_status) {
  char *log = NULL;
  size_t bytes = 0;
  if (hfb_file_read(job->log_path, LARGEST_LOG_BYTES, &log, &bytes) != HFB_OK) log = NULL;
  hfb_status status;
  if (log && strstr(log, "No space left on device")) {
    status = HFB_FAIL(
        HFB_IO,
        "the C compiler found no space left for '%s'; free some, or set HFBENCH_CACHE and TMPDIR to places with space",
        job->object_path);
  } else if (log && log[0]) {
    first_error(log);
    status = HFB_FAIL(HFB_COMPILE, "the C compiler '%s' failed: %s", job->compiler, log);
  } else if (WIFSIGNALED(wait_status)) {
    status = HFB_FAIL(HFB_COMPILE, "the C compiler '%s' was ended by signal %d", job->compiler, WTERMSIG(wait_status));
  } else {
    status = HFB_FAIL(HFB_COMPILE, "the C compiler '%s' failed with exit code %d and no message", job->compiler,
                      WEXITSTATUS(wait_status));
  }
  hfb_mem_free(log);
  return status;
}

hfb_status hfb_cc_wait(hfb_cc_job *job, bool report) {
  int wait_status = 0;
  pid_t waited;
  do waited = waitpid(job->pid, &wait_status, 0);
  while (waited < 0 && errno == EINTR);
  if (waited < 0) return HFB_FAIL(HFB_COMPILE, "cannot wait for the C compiler: %s", strerror(errno));
  if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) return HFB_OK;
  return report ? report_failure(job, wait_status) : HFB_COMPILE;
}

static void remove_file(char *path) {
  if (path) unlink(path);
  hfb_mem_free(path);
}

void hfb_cc_job_deinit(hfb_cc_job *job) {
  remove_file(job->source_path);
  remove_file(job->object_path);
  remove_file(job->log_path);
  *job = (hfb_cc_job){0};
}
