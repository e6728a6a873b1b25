/* Parsing of a command's arguments by the option table. */
#ifndef HFB_CLI_ARGS_H
#define HFB_CLI_ARGS_H

#include "cli/cli.h"

/* argv after the command's name. Values are checked here; HFB_INVALID_ARGUMENT with a one-line message otherwise.
 * --help and --version end the parsing: what comes after them is not looked at. argv must outlive args. */
hfb_status hfb_args_parse(hfb_command_id command, int argc, char *const *argv, hfb_args **out_args) HFB_MUST_USE;
void hfb_args_destroy(hfb_args *args); /* NULL is allowed */

/* Whose arguments they are. */
hfb_command_id hfb_args_command(const hfb_args *args);

#endif
