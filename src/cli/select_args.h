/* The options that choose models, for the commands that take several. */
#ifndef HFB_CLI_SELECT_ARGS_H
#define HFB_CLI_SELECT_ARGS_H

#include "bench/select.h"
#include "cli/cli.h"

/* no_skip: rows that a run leaves out unless asked for, too. HFB_EXIT_OK, or a usage error that has been printed.
 * Owned: hfb_mem_free. */
int hfb_cli_select(const hfb_args *args, bool no_skip, const hfb_model_row ***out_models, int *out_count);

/* Whether any of these options was given. */
bool hfb_cli_selects(const hfb_args *args);

#endif
