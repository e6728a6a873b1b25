#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/build.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "cli/args.h"
#include "cli/help.h"

/* ---- Messages and exit codes ---- */

int hfb_cli_usage_error(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("hfbench: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  return HFB_EXIT_USAGE;
}

int hfb_cli_unknown(const char *what, const char *word, hfb_str_name_fn name_at, void *context, size_t count) {
  size_t near[3], found = hfb_str_nearest(word, name_at, context, count, 3, near);
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_strbuf_printf(&text, "unknown %s '%.80s'", what, word);
  for (size_t i = 0; i < found; i++) {
    hfb_strbuf_printf(&text, "%s%s%s", i == 0 ? " (did you mean " : ", ", name_at(context, near[i]),
                      i + 1 == found ? "?)" : "");
  }
  int code = hfb_cli_usage_error("%s", hfb_strbuf_text(&text));
  hfb_strbuf_deinit(&text);
  return code;
}

int hfb_cli_failure(hfb_status status) {
  const char *message = hfb_error_message();
  fprintf(stderr, "hfbench: %s\n", message[0] ? message : hfb_status_name(status));
  hfb_log(HFB_LOG_DEBUG, "%s at %s", hfb_status_name(status), hfb_error_location());
  return status == HFB_INTERRUPTED ? HFB_EXIT_INTERRUPTED : HFB_EXIT_FAILURE;
}

int hfb_cli_finish(int exit_code) {
  errno = 0;
  if (fflush(stdout) == 0 && !ferror(stdout)) return exit_code;
  fprintf(stderr, "hfbench: cannot write to standard output: %s\n",
          errno ? strerror(errno) : "an earlier write failed");
  return exit_code == HFB_EXIT_OK ? HFB_EXIT_FAILURE : exit_code;
}

/* ---- Dispatch ---- */

static const char *command_name_at(void *context, size_t index) {
  (void)context;
  return hfb_command_at((hfb_command_id)index)->name;
}

static int print_text(hfb_strbuf *text) {
  fputs(hfb_strbuf_text(text), stdout);
  hfb_strbuf_deinit(text);
  return HFB_EXIT_OK;
}

static int print_version(void) {
  printf("hfbench %s (%s, %s, %s)\n", hfb_build_version(), hfb_build_commit(), hfb_build_type(), hfb_build_compiler());
  return HFB_EXIT_OK;
}

static int print_program_help(void) {
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_help_program(&text);
  return print_text(&text);
}

static void set_loudness(const hfb_args *args, hfb_command_id command) {
  unsigned bit = 1u << command;
  if (hfb_option_at(HFB_OPT_VERBOSE)->commands & bit && hfb_args_flag(args, HFB_OPT_VERBOSE)) {
    hfb_log_set_level(HFB_LOG_DEBUG);
  }
  if (hfb_option_at(HFB_OPT_QUIET)->commands & bit && hfb_args_flag(args, HFB_OPT_QUIET))
    hfb_log_set_level(HFB_LOG_ERROR);
}

static int run_command(hfb_command_id id, int argc, char *const *argv) {
  const hfb_command *command = hfb_command_at(id);
  if (!command->run) {
    return hfb_cli_usage_error("%s is a command of the script ./hfbench at the root of the sources", command->name);
  }
  hfb_args *args = NULL;
  if (hfb_args_parse(id, argc, argv, &args) != HFB_OK) return hfb_cli_usage_error("%s", hfb_error_message());
  int code;
  if (hfb_args_flag(args, HFB_OPT_HELP)) {
    hfb_strbuf text;
    hfb_strbuf_init(&text);
    hfb_help_command(&text, id);
    code = print_text(&text);
  } else if (hfb_args_flag(args, HFB_OPT_VERSION)) {
    code = print_version();
  } else {
    set_loudness(args, id);
    code = command->run(args);
  }
  hfb_args_destroy(args);
  return code;
}

static int dispatch(int argc, char **argv) {
  if (argc < 2) {
    print_program_help();
    return HFB_EXIT_USAGE;
  }
  const char *word = argv[1];
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) return print_program_help();
  if (strcmp(word, "--version") == 0) return print_version();
  if (word[0] == '-')
    return hfb_cli_usage_error("unknown option %.80s; a command comes first, see hfbench --help", word);
  for (int i = 0; i < HFB_COMMAND_COUNT; i++) {
    if (strcmp(hfb_command_at((hfb_command_id)i)->name, word) == 0) {
      return run_command((hfb_command_id)i, argc - 2, argv + 2);
    }
  }
  return hfb_cli_unknown("command", word, command_name_at, NULL, HFB_COMMAND_COUNT);
}

int hfb_cli_main(int argc, char **argv) { return hfb_cli_finish(dispatch(argc, argv)); }
