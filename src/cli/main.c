#include "cli/cli.h"

int main(int argc, char **argv) { return hfb_cli_main(argc, argv); }
