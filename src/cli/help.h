/* Help texts, made from the tables. */
#ifndef HFB_CLI_HELP_H
#define HFB_CLI_HELP_H

#include "base/strbuf.h"
#include "cli/cli.h"

void hfb_help_program(hfb_strbuf *text);
void hfb_help_command(hfb_strbuf *text, hfb_command_id command);
/* docs/usage.md: every command and option. */
void hfb_help_markdown(hfb_strbuf *text);

#endif
