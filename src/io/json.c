#include "io/json.h"

#include <stdbool.h>

/* Counts brackets and commas outside strings. Malformed text may pass: the parser refuses it afterwards. */
static hfb_status check_limits(const char *what, const char *text, size_t bytes, hfb_json_limits limits) {
  int depth = 0;
  size_t values = 0;
  bool in_string = false;
  for (size_t i = 0; i < bytes; i++) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') i++;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '}' || c == ']') depth--;
    if (c == '{' || c == '[') depth++;
    if (c == '{' || c == '[' || c == ',') values++;
    if (depth > limits.depth) {
      return HFB_FAIL(HFB_CORRUPT, "%s: JSON is nested deeper than %d levels at byte %zu", what, limits.depth, i);
    }
    if (values > limits.values) {
      return HFB_FAIL(HFB_CORRUPT, "%s: JSON has more than %zu values", what, limits.values);
    }
  }
  return HFB_OK;
}

hfb_status hfb_json_parse_object(const char *what, const char *text, size_t bytes, hfb_json_limits limits,
                                 json_t **out_object) {
  *out_object = NULL;
  HFB_TRY(check_limits(what, text, bytes, limits));
  json_error_t error;
  json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
  if (!root && json_error_code(&error) == json_error_out_of_memory) {
    return HFB_FAIL(HFB_OUT_OF_MEMORY, "%s: out of memory while reading %zu bytes of JSON", what, bytes);
  }
  if (!root) {
    return HFB_FAIL(HFB_CORRUPT, "%s: not valid JSON, line %d column %d: %.120s", what, error.line, error.column,
                    error.text);
  }
  if (!json_is_object(root)) {
    json_decref(root);
    return HFB_FAIL(HFB_CORRUPT, "%s: the JSON is not an object", what);
  }
  *out_object = root;
  return HFB_OK;
}
