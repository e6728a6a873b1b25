/* The options that say how a training step is made up, for the commands that make one. */
#ifndef HFB_CLI_TRAINING_ARGS_H
#define HFB_CLI_TRAINING_ARGS_H

#include "bench/job.h"
#include "cli/cli.h"

/* Sets what `job` says of training. *out_suite_optimizer: the suite's choice for each model is wanted, instead of
 * job->optimizer. HFB_EXIT_OK, or a usage error that has been printed: one of the options without --training. */
int hfb_cli_training(const hfb_args *args, hfb_job *job, bool *out_suite_optimizer);

#endif
