#include "cli/select_args.h"

#include "base/memory.h"

static const hfb_option_id selecting[] = {HFB_OPT_ONLY,          HFB_OPT_FILTER,           HFB_OPT_EXCLUDE,
                                          HFB_OPT_EXCLUDE_EXACT, HFB_OPT_TOTAL_PARTITIONS, HFB_OPT_PARTITION_ID};

bool hfb_cli_selects(const hfb_args *args) {
  for (size_t i = 0; i < sizeof(selecting) / sizeof(selecting[0]); i++) {
    if (hfb_args_given(args, selecting[i])) return true;
  }
  return false;
}

int hfb_cli_select(const hfb_args *args, bool no_skip, const hfb_model_row ***out_models, int *out_count) {
  const hfb_selection selection = {
      .only = hfb_args_all(args, HFB_OPT_ONLY),
      .only_count = hfb_args_count(args, HFB_OPT_ONLY),
      .filters = hfb_args_all(args, HFB_OPT_FILTER),
      .filter_count = hfb_args_count(args, HFB_OPT_FILTER),
      .excludes = hfb_args_all(args, HFB_OPT_EXCLUDE),
      .exclude_count = hfb_args_count(args, HFB_OPT_EXCLUDE),
      .exact_excludes = hfb_args_all(args, HFB_OPT_EXCLUDE_EXACT),
      .exact_exclude_count = hfb_args_count(args, HFB_OPT_EXCLUDE_EXACT),
      .no_skip = no_skip,
      .partition_count = (int)hfb_args_int(args, HFB_OPT_TOTAL_PARTITIONS),
      .partition = (int)hfb_args_int(args, HFB_OPT_PARTITION_ID),
  };
  hfb_status status = hfb_select_models(&selection, out_models, out_count);
  if (status == HFB_OUT_OF_MEMORY) return hfb_cli_failure(status);
  if (status != HFB_OK) return hfb_cli_usage_error("%s", hfb_error_message());
  if (*out_count > 0) return HFB_EXIT_OK;
  hfb_mem_free(*out_models);
  return hfb_cli_usage_error("no model is left: loosen --filter, --exclude or --partition-id (hfbench list shows all)");
}
