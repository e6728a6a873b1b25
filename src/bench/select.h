/* Which models of the suite a run takes: names, regular expressions, partitions. */
#ifndef HFB_BENCH_SELECT_H
#define HFB_BENCH_SELECT_H

#include "models/model.h"

typedef struct hfb_selection {
  const char *const *only; /* exact names; any of them; none: all models that are not skipped */
  int only_count;
  const char *const *filters; /* extended regular expressions, ignoring case; any of them */
  int filter_count;
  const char *const *excludes;
  int exclude_count;
  const char *const *exact_excludes;
  int exact_exclude_count;
  bool no_skip; /* rows that the suite skips, or has beyond its own list, too */
  int partition_count, partition; /* the sorted list is cut first: equal parts, the last takes the rest */
} hfb_selection;

/* In the suite's order; models named in `only` are taken even when the suite skips them. Owned: hfb_mem_free.
 * HFB_NOT_FOUND, with the nearest names, for a name that the suite does not have; HFB_INVALID_ARGUMENT for a bad
 * expression or partition. An empty result is no failure. */
hfb_status hfb_select_models(const hfb_selection *selection, const hfb_model_row ***out_models,
                             int *out_count) HFB_MUST_USE;

#endif
