#include "bench/select.h"

#include <regex.h>
#include <string.h>

#include "base/memory.h"

typedef struct patterns {
  regex_t *compiled;
  int count;
} patterns;

static void patterns_deinit(patterns *p) {
  for (int i = 0; i < p->count; i++) regfree(&p->compiled[i]);
  hfb_mem_free(p->compiled);
  *p = (patterns){0};
}

static hfb_status patterns_init(patterns *p, const char *const *texts, int count) {
  *p = (patterns){0};
  if (count == 0) return HFB_OK;
  HFB_TRY(hfb_mem_alloc((size_t)count, sizeof(*p->compiled), &p->compiled));
  for (; p->count < count; p->count++) {
    int error = regcomp(&p->compiled[p->count], texts[p->count], REG_EXTENDED | REG_ICASE | REG_NOSUB);
    if (error == 0) continue;
    char why[128];
    regerror(error, &p->compiled[p->count], why, sizeof(why));
    patterns_deinit(p);
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "'%s' is not a regular expression: %s", texts[p->count], why);
  }
  return HFB_OK;
}

static bool any_matches(const patterns *p, const char *name) {
  for (int i = 0; i < p->count; i++) {
    if (regexec(&p->compiled[i], name, 0, NULL, 0) == 0) return true;
  }
  return false;
}

static bool is_named(const char *const *names, int count, const char *name) {
  for (int i = 0; i < count; i++) {
    if (strcmp(names[i], name) == 0) return true;
  }
  return false;
}

static hfb_status check_names(const char *const *names, int count) {
  const hfb_model_row *row;
  for (int i = 0; i < count; i++) HFB_TRY(hfb_model_find(names[i], &row));
  return HFB_OK;
}

static bool wanted(const hfb_selection *s, const patterns *filters, const patterns *excludes,
                   const hfb_model_row *row) {
  const unsigned left_out = HFB_MODEL_SKIP | HFB_MODEL_SKIP_CPU | HFB_MODEL_MORE;
  if (s->only_count > 0 && !is_named(s->only, s->only_count, row->name)) return false;
  if (s->only_count == 0 && !s->no_skip && row->flags & left_out) return false;
  if (filters->count > 0 && !any_matches(filters, row->name)) return false;
  return !any_matches(excludes, row->name) && !is_named(s->exact_excludes, s->exact_exclude_count, row->name);
}

hfb_status hfb_select_models(const hfb_selection *selection, const hfb_model_row ***out_models, int *out_count) {
  *out_models = NULL;
  *out_count = 0;
  int parts = selection->partition_count, part = selection->partition, count = hfb_model_row_count();
  if (parts < 1 || part < 0 || part >= parts) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "partition %d of %d: the first is 0, the last %d", part, parts, parts - 1);
  }
  HFB_TRY(check_names(selection->only, selection->only_count));
  HFB_TRY(check_names(selection->exact_excludes, selection->exact_exclude_count));
  patterns filters, excludes = {0};
  const hfb_model_row **models = NULL;
  HFB_TRY(patterns_init(&filters, selection->filters, selection->filter_count));
  hfb_status status = patterns_init(&excludes, selection->excludes, selection->exclude_count);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)count + 1, sizeof(*models), &models);
  if (status == HFB_OK) {
    int begin = count / parts * part, end = part == parts - 1 ? count : begin + count / parts, taken = 0;
    for (int i = begin; i < end; i++) {
      const hfb_model_row *row = hfb_model_row_at(i);
      if (wanted(selection, &filters, &excludes, row)) models[taken++] = row;
    }
    *out_models = models;
    *out_count = taken;
  }
  patterns_deinit(&filters);
  patterns_deinit(&excludes);
  return status;
}
