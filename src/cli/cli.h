/* The command line: one table of options, one of commands; parsing, --help and docs/usage.md come from them.
 *
 * A command is a function that gets its parsed and validated options and returns an exit code. */
#ifndef HFB_CLI_CLI_H
#define HFB_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"
#include "base/str.h"

enum {
  HFB_EXIT_OK = 0,
  HFB_EXIT_FAILURE = 1,      /* something failed or did not pass */
  HFB_EXIT_USAGE = 2,        /* the command line is wrong or asks for something that does not exist */
  HFB_EXIT_INTERRUPTED = 130 /* Ctrl-C */
};

typedef enum hfb_command_id {
#define HFB_COMMAND(id, name, positional, min_count, max_count, run, summary) HFB_COMMAND_##id,
#include "cli/commands.def"
#undef HFB_COMMAND
  HFB_COMMAND_COUNT
} hfb_command_id;

/* Bits of the column `commands` of options.def. */
#define HFB_IN(id) (1u << HFB_COMMAND_##id)

typedef enum hfb_option_id {
#define HFB_OPTION(id, name, letter, argument, kind, fallback, domain, group, commands, help) HFB_OPT_##id,
#include "cli/options.def"
#undef HFB_OPTION
  HFB_OPT_COUNT
} hfb_option_id;

typedef enum hfb_option_kind {
  HFB_OPTION_FLAG,
  HFB_OPTION_INT,    /* domain "low..high" */
  HFB_OPTION_REAL,   /* domain "low..high" */
  HFB_OPTION_TEXT,   /* any text that is not empty */
  HFB_OPTION_CHOICE, /* domain "a|b|c" */
  HFB_OPTION_REGEX   /* a POSIX extended regular expression; may be given several times */
} hfb_option_kind;

typedef struct hfb_option {
  const char *name;     /* without the dashes */
  char letter;          /* of the short form; 0: none */
  const char *argument; /* as in help; NULL for a flag */
  hfb_option_kind kind;
  const char *fallback; /* value when not given; NULL: none */
  const char *domain;   /* what the kind says; NULL: no limit */
  const char *group;    /* options of one group exclude each other; NULL: none */
  unsigned commands;    /* HFB_IN bits */
  const char *help;
} hfb_option;

typedef struct hfb_args hfb_args;

typedef struct hfb_command {
  const char *name;
  const char *positional; /* as in help, "" for none */
  int min_count, max_count; /* of positional arguments; max -1: any number */
  int (*run)(const hfb_args *args); /* the exit code; NULL: done by the front-door script */
  const char *summary;
} hfb_command;

/* Access to parsed options. All texts live as long as args. The option must belong to the command (assert). */
bool hfb_args_given(const hfb_args *args, hfb_option_id id);        /* on the command line */
bool hfb_args_flag(const hfb_args *args, hfb_option_id id);
int64_t hfb_args_int(const hfb_args *args, hfb_option_id id);       /* the fallback when not given */
double hfb_args_real(const hfb_args *args, hfb_option_id id);
const char *hfb_args_text(const hfb_args *args, hfb_option_id id);  /* NULL when neither given nor defaulted */
/* Options that may be repeated (TEXT and REGEX keep every value; text() is the last one). */
int hfb_args_count(const hfb_args *args, hfb_option_id id);
const char *hfb_args_at(const hfb_args *args, hfb_option_id id, int index);
const char *const *hfb_args_all(const hfb_args *args, hfb_option_id id); /* count() values */
int hfb_args_positional_count(const hfb_args *args);
const char *hfb_args_positional(const hfb_args *args, int index);

/* Prints "hfbench: <text>" on stderr and returns HFB_EXIT_USAGE. */
int hfb_cli_usage_error(const char *format, ...) HFB_PRINTF(1, 2);
/* As above for a name that does not exist, with the nearest names: unknown model "Bort" (did you mean Bart?). */
int hfb_cli_unknown(const char *what, const char *word, hfb_str_name_fn name_at, void *context, size_t count);
/* Prints the message of a failed call on stderr and returns HFB_EXIT_FAILURE. */
int hfb_cli_failure(hfb_status status);
/* Flushes stdout; a full disk or a closed pipe is reported and turns success into HFB_EXIT_FAILURE. */
int hfb_cli_finish(int exit_code);

/* The program: parses argv, runs a command, returns the exit code. */
int hfb_cli_main(int argc, char **argv);

/* Tables, for help, tests and docs. */
const hfb_option *hfb_option_at(hfb_option_id id);
const hfb_command *hfb_command_at(hfb_command_id id);

/* The commands (commands.def names them). */
int hfb_cmd_run(const hfb_args *args);
int hfb_cmd_list(const hfb_args *args);
int hfb_cmd_show(const hfb_args *args);
int hfb_cmd_verify(const hfb_args *args);
int hfb_cmd_doctor(const hfb_args *args);

#endif
