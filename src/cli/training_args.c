#include "cli/training_args.h"

int hfb_cli_training(const hfb_args *args, hfb_job *job, bool *out_suite_optimizer) {
  static const hfb_option_id of_training[] = {HFB_OPT_OPTIMIZER, HFB_OPT_NO_DROPOUT, HFB_OPT_USE_EVAL_MODE,
                                              HFB_OPT_ACTIVATION_CHECKPOINTING};
  *out_suite_optimizer = false;
  job->training = hfb_args_flag(args, HFB_OPT_TRAINING);
  for (size_t i = 0; !job->training && i < sizeof(of_training) / sizeof(of_training[0]); i++) {
    if (!hfb_args_given(args, of_training[i])) continue;
    return hfb_cli_usage_error("--%s is about training steps: give --training too",
                               hfb_option_at(of_training[i])->name);
  }
  if (!job->training) return HFB_EXIT_OK;
  job->no_dropout = hfb_args_flag(args, HFB_OPT_NO_DROPOUT);
  job->eval_mode = hfb_args_flag(args, HFB_OPT_USE_EVAL_MODE);
  job->checkpoint_layers = hfb_args_flag(args, HFB_OPT_ACTIVATION_CHECKPOINTING);
  *out_suite_optimizer = !hfb_optimizer_parse(hfb_args_text(args, HFB_OPT_OPTIMIZER), &job->optimizer);
  return HFB_EXIT_OK;
}
