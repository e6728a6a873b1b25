/* Names of tensors in published checkpoints. */
#include <stdio.h>
#include <string.h>

#include "models/family.h"

enum { NAME_BYTES = 512 };

/* `*` matches any text, also none. */
static bool matches(const char *pattern, size_t length, const char *name) {
  const char *end = pattern + length, *star = NULL, *resume = NULL;
  while (*name != '\0') {
    if (pattern < end && *pattern == '*') {
      star = ++pattern;
      resume = name;
    } else if (pattern < end && *pattern == *name) {
      pattern++;
      name++;
    } else if (star != NULL) {
      pattern = star;
      name = ++resume;
    } else {
      return false;
    }
  }
  while (pattern < end && *pattern == '*') pattern++;
  return pattern == end;
}

static bool is_ignored(const char *patterns, const char *name) {
  for (const char *at = patterns + strspn(patterns, " "); *at != '\0'; at += strspn(at, " ")) {
    size_t length = strcspn(at, " ");
    if (matches(at, length, name)) return true;
    at += length;
  }
  return false;
}

/* The state of the random generator is a parameter of the graph, but not one of the model. */
static const char *parameter_named(const hfb_graph *graph, const char *name) {
  if (strcmp(name, HFB_RANDOM_STATE) == 0) return NULL;
  for (int i = 0; i < graph->parameter_count; i++) {
    const char *candidate = hfb_node_text(graph->parameters[i]->node, HFB_ATTR_NAME, "");
    if (strcmp(candidate, name) == 0) return candidate;
  }
  return NULL;
}

/* The parameter that `name` is tied to by "alias=parameter ..", NULL if none. */
static const char *tied_to(const char *tied, const hfb_graph *graph, const char *name) {
  size_t size = strlen(name);
  for (const char *at = tied + strspn(tied, " "); *at != '\0'; at += strspn(at, " ")) {
    size_t length = strcspn(at, " ");
    if (length > size && memcmp(at, name, size) == 0 && at[size] == '=') {
      char target[NAME_BYTES];
      snprintf(target, sizeof target, "%.*s", (int)(length - size - 1), at + size + 1);
      const char *parameter = parameter_named(graph, target);
      if (parameter != NULL) return parameter;
    }
    at += length;
  }
  return NULL;
}

static bool resolve(const hfb_class_row *row, const hfb_graph *graph, const char *name, hfb_name_use *out_use,
                    const char **out_name) {
  *out_use = HFB_NAME_PARAMETER;
  *out_name = parameter_named(graph, name);
  if (*out_name != NULL) return true;
  *out_use = HFB_NAME_ALIAS;
  *out_name = tied_to(row->tied, graph, name);
  if (*out_name != NULL) return true;
  *out_use = HFB_NAME_IGNORED;
  return is_ignored(row->ignored, name);
}

/* "..gamma" -> "..weight", "..beta" -> "..bias": names from TensorFlow in the first checkpoints. */
static void modern_name(const char *name, char out[NAME_BYTES]) {
  static const char *const renamed[][2] = {{".gamma", ".weight"}, {".beta", ".bias"}};
  snprintf(out, NAME_BYTES, "%s", name);
  for (int i = 0; i < 2; i++) {
    size_t length = strlen(out), suffix = strlen(renamed[i][0]);
    if (length > suffix && strcmp(out + length - suffix, renamed[i][0]) == 0) {
      snprintf(out + length - suffix, NAME_BYTES - (length - suffix), "%s", renamed[i][1]);
    }
  }
}

hfb_status hfb_model_checkpoint_name(const char *class_name, const hfb_config *config, const hfb_graph *graph,
                                     const char *name, hfb_name_use *out_use, const char **out_name) {
  const hfb_family *family = NULL;
  const hfb_class_row *row = NULL;
  if (!hfb_class_find(class_name, &family, &row) || strcmp(family->model_type, hfb_config_model_type(config)) != 0) {
    return HFB_FAIL(HFB_UNSUPPORTED, "a %s configuration has no class '%s'", hfb_config_model_type(config),
                    hfb_shown(class_name).text);
  }
  char modern[NAME_BYTES], prefixed[NAME_BYTES + 64];
  modern_name(name, modern);
  if (resolve(row, graph, modern, out_use, out_name)) return HFB_OK;
  snprintf(prefixed, sizeof prefixed, "%s.%s", family->prefix, modern);
  if (resolve(row, graph, prefixed, out_use, out_name)) return HFB_OK;
  size_t prefix = strlen(family->prefix);
  if (prefix > 0 && strncmp(modern, family->prefix, prefix) == 0 && modern[prefix] == '.') {
    if (resolve(row, graph, modern + prefix + 1, out_use, out_name)) return HFB_OK;
  }
  return HFB_FAIL(HFB_NOT_FOUND, "%s has no parameter '%s'", row->name, hfb_shown(name).text);
}
