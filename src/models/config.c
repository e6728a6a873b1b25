#include "models/config.h"

#include <assert.h>
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "models/family.h"

enum { CONFIG_JSON_MAX_BYTES = 1 << 20, SIZE_MAX_VALUE = 1 << 24, COUNT_MAX_VALUE = 4096 };

const hfb_field hfb_common_fields[] = {
    {"num_labels", HFB_FIELD_COUNT, "2", NULL},
    {"problem_type", HFB_FIELD_TEXT, "null", "regression|single_label_classification|multi_label_classification|null"},
    {"tie_word_embeddings", HFB_FIELD_BOOL, "true", NULL},
    /* Options of every HF model that change outputs or weights. */
    {"output_attentions", HFB_FIELD_BOOL, "false", "false"},
    {"output_hidden_states", HFB_FIELD_BOOL, "false", "false"},
    {"add_cross_attention", HFB_FIELD_BOOL, "false", "false"},
    {"tie_encoder_decoder", HFB_FIELD_BOOL, "false", "false"},
    {"pruned_heads", HFB_FIELD_EMPTY, "null", NULL},
    {"quantization_config", HFB_FIELD_EMPTY, "null", NULL},
};
const int hfb_common_field_count = (int)(sizeof hfb_common_fields / sizeof hfb_common_fields[0]);

typedef struct field_value {
  bool null;
  int64_t i; /* SIZE, COUNT, ID, LIMIT, BOOL */
  double f;  /* PROBABILITY, POSITIVE */
  const char *text;
  const int64_t *list; /* SIZES: i entries; NULL: the single size i */
} field_value;

struct hfb_config {
  const hfb_family *family;
  const char *class_name; /* of the class table */
  hfb_arena arena;
  field_value *values; /* the family's fields, then the common ones */
};

static int field_count(const hfb_config *config) {
  return config->family->field_count + hfb_common_field_count;
}

static const hfb_field *field_at(const hfb_config *config, int index) {
  int own = config->family->field_count;
  return index < own ? &config->family->fields[index] : &hfb_common_fields[index - own];
}

static int field_index(const hfb_config *config, const char *name) {
  for (int i = 0; i < field_count(config); i++) {
    if (strcmp(field_at(config, i)->name, name) == 0) return i;
  }
  return -1;
}

/* ---- Checking and setting one value ---- */

static const char *json_kind(const json_t *json) {
  switch (json_typeof(json)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a text";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: break;
  }
  return "null";
}

static hfb_status wrong_type(const hfb_field *field, const char *expected, const json_t *json) {
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "configuration field '%s' must be %s, not %s", field->name, expected,
                  json_kind(json));
}

/* Whether `value` is one of the words of "a|b|c". */
static bool is_accepted(const char *accepted, const char *value) {
  size_t length = strlen(value);
  for (const char *word = accepted; word != NULL; word = strchr(word, '|')) {
    if (*word == '|') word++;
    if (strncmp(word, value, length) == 0 && (word[length] == '\0' || word[length] == '|')) return true;
  }
  return false;
}

static bool is_nullable(const hfb_field *field) {
  return field->kind == HFB_FIELD_ID || (field->accepted != NULL && is_accepted(field->accepted, "null"));
}

static hfb_status set_integer(const hfb_field *field, const json_t *json, field_value *out) {
  bool nullable = is_nullable(field);
  if (nullable && json_is_null(json)) {
    *out = (field_value){.null = true, .i = -1};
    return HFB_OK;
  }
  if (!json_is_integer(json)) return wrong_type(field, nullable ? "an integer or null" : "an integer", json);
  int64_t low = field->kind == HFB_FIELD_ID ? 0 : field->kind == HFB_FIELD_LIMIT ? -1 : 1;
  int64_t high = field->kind == HFB_FIELD_COUNT ? COUNT_MAX_VALUE : SIZE_MAX_VALUE;
  int64_t value = json_integer_value(json);
  if (value < low || value > high) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "configuration field '%s' is %lld; it must lie in [%lld, %lld]", field->name,
                    (long long)value, (long long)low, (long long)high);
  }
  *out = (field_value){.i = value};
  return HFB_OK;
}

static hfb_status set_number(const hfb_field *field, const json_t *json, field_value *out) {
  if (is_nullable(field) && json_is_null(json)) {
    *out = (field_value){.null = true, .f = -1};
    return HFB_OK;
  }
  if (!json_is_number(json)) return wrong_type(field, is_nullable(field) ? "a number or null" : "a number", json);
  double value = json_number_value(json);
  bool probability = field->kind == HFB_FIELD_PROBABILITY;
  if (probability ? !(value >= 0 && value <= 1) : !(value > 0 && value <= 1e9)) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "configuration field '%s' is %g; it must %s", field->name, value,
                    probability ? "lie in [0, 1]" : "be positive and at most 1e9");
  }
  *out = (field_value){.f = value};
  return HFB_OK;
}

static hfb_status check_accepted(const hfb_field *field, const char *value) {
  if (field->accepted == NULL || is_accepted(field->accepted, value)) return HFB_OK;
  return HFB_FAIL(HFB_UNSUPPORTED, "configuration field '%s' is %s, which is not implemented; accepted: %s",
                  field->name, hfb_shown(value).text, field->accepted);
}

static hfb_status set_text(hfb_config *config, const hfb_field *field, const json_t *json, field_value *out) {
  if (is_nullable(field) && json_is_null(json)) {
    *out = (field_value){.null = true};
    return HFB_OK;
  }
  if (!json_is_string(json)) return wrong_type(field, "a text", json);
  const char *text = json_string_value(json);
  if (field->kind == HFB_FIELD_ACTIVATION && !hfb_nn_activation_known(text)) {
    return HFB_FAIL(HFB_UNSUPPORTED, "configuration field '%s' is %s, which is not implemented; accepted: %s",
                    field->name, hfb_shown(text).text, hfb_nn_activation_names());
  }
  if (field->kind == HFB_FIELD_TEXT) HFB_TRY(check_accepted(field, text));
  char *copy = hfb_arena_strdup(&config->arena, text);
  if (copy == NULL) return HFB_OUT_OF_MEMORY;
  *out = (field_value){.text = copy};
  return HFB_OK;
}

/* Appends the words of "A | b" to `words` as "a|b". */
static hfb_status append_words(const hfb_field *field, const char *text, hfb_strbuf *words) {
  while (true) {
    size_t length = strcspn(text, "|"), from = strspn(text, " ");
    char word[64] = "";
    size_t size = 0;
    for (size_t i = from; i < length && text[i] != ' ' && size + 1 < sizeof word; i++) {
      word[size++] = (char)tolower((unsigned char)text[i]);
    }
    HFB_TRY(check_accepted(field, word));
    hfb_strbuf_printf(words, "%s%s", hfb_strbuf_text(words)[0] == '\0' ? "" : "|", word);
    if (text[length] == '\0') return HFB_OK;
    text += length + 1;
  }
}

static hfb_status read_words(const hfb_field *field, const json_t *json, hfb_strbuf *words) {
  if (json_is_string(json)) return append_words(field, json_string_value(json), words);
  if (!json_is_array(json)) return wrong_type(field, "a text or a list of texts", json);
  size_t index;
  const json_t *entry;
  json_array_foreach(json, index, entry) {
    if (!json_is_string(entry)) return wrong_type(field, "a text or a list of texts", entry);
    HFB_TRY(append_words(field, json_string_value(entry), words));
  }
  return hfb_strbuf_status(words);
}

static hfb_status set_words(hfb_config *config, const hfb_field *field, const json_t *json, field_value *out) {
  if (is_nullable(field) && json_is_null(json)) {
    *out = (field_value){.null = true};
    return HFB_OK;
  }
  hfb_strbuf words;
  hfb_strbuf_init(&words);
  hfb_status status = read_words(field, json, &words);
  char *copy = status == HFB_OK ? hfb_arena_strdup(&config->arena, hfb_strbuf_text(&words)) : NULL;
  hfb_strbuf_deinit(&words);
  if (status != HFB_OK) return status;
  if (copy == NULL) return HFB_OUT_OF_MEMORY;
  *out = (field_value){.text = copy};
  return HFB_OK;
}

static hfb_status set_list(hfb_config *config, const hfb_field *field, const json_t *json, field_value *out) {
  if (is_nullable(field) && json_is_null(json)) {
    *out = (field_value){.null = true};
    return HFB_OK;
  }
  if (!json_is_array(json)) return wrong_type(field, "a list", json);
  char *text = json_dumps(json, JSON_COMPACT);
  char *copy = text == NULL ? NULL : hfb_arena_strdup(&config->arena, text);
  free(text);
  if (copy == NULL) return HFB_OUT_OF_MEMORY;
  *out = (field_value){.text = copy};
  return HFB_OK;
}

static hfb_status check_size(const hfb_field *field, const json_t *json) {
  if (!json_is_integer(json)) return wrong_type(field, "an integer or a list of integers", json);
  long long value = (long long)json_integer_value(json);
  if (value >= 1 && value <= SIZE_MAX_VALUE) return HFB_OK;
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "configuration field '%s' holds %lld; sizes lie in [1, %d]", field->name, value,
                  SIZE_MAX_VALUE);
}

static hfb_status set_sizes(hfb_config *config, const hfb_field *field, const json_t *json, field_value *out) {
  if (is_nullable(field) && json_is_null(json)) {
    *out = (field_value){.null = true, .i = -1};
    return HFB_OK;
  }
  if (!json_is_array(json)) {
    HFB_TRY(check_size(field, json));
    *out = (field_value){.i = json_integer_value(json)};
    return HFB_OK;
  }
  size_t count = json_array_size(json);
  int64_t *list = hfb_arena_alloc(&config->arena, count + 1, sizeof *list);
  if (list == NULL) return HFB_OUT_OF_MEMORY;
  for (size_t i = 0; i < count; i++) {
    HFB_TRY(check_size(field, json_array_get(json, i)));
    list[i] = json_integer_value(json_array_get(json, i));
  }
  *out = (field_value){.i = (int64_t)count, .list = list};
  return HFB_OK;
}

static hfb_status set_empty(const hfb_field *field, const json_t *json, field_value *out) {
  *out = (field_value){.null = true};
  bool empty = json_is_null(json) || (json_is_object(json) && json_object_size(json) == 0) ||
               (json_is_array(json) && json_array_size(json) == 0);
  if (empty) return HFB_OK;
  return HFB_FAIL(HFB_UNSUPPORTED, "configuration field '%s' is not empty, which is not implemented; remove it",
                  field->name);
}

static hfb_status set_value(hfb_config *config, int index, const json_t *json) {
  const hfb_field *field = field_at(config, index);
  field_value *out = &config->values[index];
  switch (field->kind) {
    case HFB_FIELD_SIZE:
    case HFB_FIELD_COUNT:
    case HFB_FIELD_ID:
    case HFB_FIELD_LIMIT: return set_integer(field, json, out);
    case HFB_FIELD_PROBABILITY:
    case HFB_FIELD_POSITIVE: return set_number(field, json, out);
    case HFB_FIELD_BOOL:
      if (is_nullable(field) && json_is_null(json)) {
        *out = (field_value){.null = true, .i = -1};
        return HFB_OK;
      }
      if (!json_is_boolean(json)) return wrong_type(field, "true or false", json);
      *out = (field_value){.i = json_is_true(json)};
      return check_accepted(field, json_is_true(json) ? "true" : "false");
    case HFB_FIELD_ACTIVATION:
    case HFB_FIELD_TEXT: return set_text(config, field, json, out);
    case HFB_FIELD_WORDS: return set_words(config, field, json, out);
    case HFB_FIELD_SIZES: return set_sizes(config, field, json, out);
    case HFB_FIELD_LIST: return set_list(config, field, json, out);
    case HFB_FIELD_EMPTY: return set_empty(field, json, out);
  }
  return HFB_FAIL(HFB_INTERNAL, "field '%s' has no kind", field->name);
}

/* A value of the tables or of an override: JSON, where texts need no quotes. */
static hfb_status set_from_text(hfb_config *config, int index, const char *text) {
  hfb_field_kind kind = field_at(config, index)->kind;
  unsigned texts = 1u << HFB_FIELD_TEXT | 1u << HFB_FIELD_ACTIVATION | 1u << HFB_FIELD_WORDS;
  bool is_text = (texts >> kind & 1) && strcmp(text, "null") != 0;
  json_t *json = is_text ? json_string(text) : json_loads(text, JSON_DECODE_ANY, NULL);
  if (json == NULL) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "configuration field '%s' cannot be '%s'", field_at(config, index)->name,
                    text);
  }
  hfb_status status = set_value(config, index, json);
  json_decref(json);
  return status;
}

/* ---- Creation ---- */

static hfb_status apply_override(hfb_config *config, const char *word, size_t length) {
  char pair[256];
  const char *equals = memchr(word, '=', length);
  if (equals == NULL || length >= sizeof pair) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "override '%.*s' is not of the form name=value", (int)(length & 0xff), word);
  }
  memcpy(pair, word, length);
  pair[length] = '\0';
  pair[equals - word] = '\0';
  int index = field_index(config, pair);
  if (index < 0) {
    return HFB_FAIL(HFB_NOT_FOUND, "a %s configuration has no field '%s'", config->family->model_type, pair);
  }
  return set_from_text(config, index, pair + (equals - word) + 1);
}

/* "name=value name=value"; NULL: none. */
static hfb_status apply_overrides(hfb_config *config, const char *overrides) {
  const char *word = overrides == NULL ? "" : overrides + strspn(overrides, " ");
  while (*word != '\0') {
    size_t length = strcspn(word, " ");
    HFB_TRY(apply_override(config, word, length));
    word += length;
    word += strspn(word, " ");
  }
  return HFB_OK;
}

static hfb_status config_with_defaults(const hfb_family *family, hfb_config **out_config) {
  hfb_config *config = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof *config, &config));
  config->family = family;
  hfb_arena_init(&config->arena);
  hfb_status status = HFB_OK;
  config->values = hfb_arena_alloc(&config->arena, (size_t)field_count(config), sizeof *config->values);
  if (config->values == NULL) status = HFB_OUT_OF_MEMORY;
  for (int i = 0; status == HFB_OK && i < field_count(config); i++) {
    status = set_from_text(config, i, field_at(config, i)->initial);
  }
  if (status == HFB_OK) status = apply_overrides(config, family->defaults);
  if (status != HFB_OK) {
    hfb_config_destroy(config);
    return status;
  }
  *out_config = config;
  return HFB_OK;
}

hfb_status hfb_config_create(const char *model_type, const char *overrides, hfb_config **out_config) {
  const hfb_family *family = hfb_family_find(model_type);
  if (family == NULL)
    return HFB_FAIL(HFB_UNSUPPORTED, "model type '%s' is not implemented", hfb_shown(model_type).text);
  hfb_config *config = NULL;
  HFB_TRY(config_with_defaults(family, &config));
  hfb_status status = apply_overrides(config, overrides);
  if (status != HFB_OK) {
    hfb_config_destroy(config);
    return status;
  }
  *out_config = config;
  return HFB_OK;
}

/* PretrainedConfig: the size of id2label wins over num_labels. */
static hfb_status read_labels(hfb_config *config, const json_t *root) {
  const json_t *labels = json_object_get(root, "id2label");
  if (labels == NULL || json_is_null(labels)) return HFB_OK;
  if (!json_is_object(labels)) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "configuration field 'id2label' must be an object, not %s",
                    json_kind(labels));
  }
  size_t count = json_object_size(labels);
  if (count < 1 || count > COUNT_MAX_VALUE) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "configuration field 'id2label' has %zu labels; it must have 1 to %d", count,
                    COUNT_MAX_VALUE);
  }
  config->values[field_index(config, "num_labels")].i = (int64_t)count;
  return HFB_OK;
}

hfb_field_name hfb_field_of(const char *nested, const char *name) {
  hfb_field_name field;
  snprintf(field.text, sizeof field.text, "%s%s%s", nested, nested[0] == '\0' ? "" : ".", name);
  return field;
}

/* The value of `name` in the file, NULL when it is left to the default. "text_config.hidden_size" lies in the object
 * "text_config"; where an old file has "text_config_dict" too, that one holds all that counts, as in CLIPConfig. */
static hfb_status find_value(const json_t *root, const char *name, const json_t **out_value) {
  const char *dot = strchr(name, '.');
  *out_value = json_object_get(root, name);
  if (dot == NULL) return HFB_OK;
  char outer[64];
  snprintf(outer, sizeof outer, "%.*s_dict", (int)(dot - name), name);
  const json_t *object = json_object_get(root, outer);
  if (object == NULL || json_is_null(object)) {
    outer[dot - name] = '\0';
    object = json_object_get(root, outer);
  }
  if (object != NULL && !json_is_object(object) && !json_is_null(object)) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "configuration field '%s' must be an object, not %s", outer,
                    json_kind(object));
  }
  *out_value = json_object_get(object, dot + 1);
  return HFB_OK;
}

static hfb_status read_fields(hfb_config *config, const json_t *root) {
  const json_t *type = json_object_get(root, "model_type");
  const char *model_type = config->family->model_type;
  if (type != NULL && (!json_is_string(type) || strcmp(json_string_value(type), model_type) != 0)) {
    return HFB_FAIL(HFB_MISMATCH, "configuration field 'model_type' is %s, but %s reads '%s'",
                    hfb_shown(json_is_string(type) ? json_string_value(type) : json_kind(type)).text,
                    config->class_name, model_type);
  }
  for (int i = 0; i < field_count(config); i++) {
    const json_t *json = NULL;
    HFB_TRY(find_value(root, field_at(config, i)->name, &json));
    if (json != NULL) HFB_TRY(set_value(config, i, json));
  }
  return read_labels(config, root);
}

static hfb_status class_of(const json_t *root, const char *class_name, const char **out_name) {
  if (class_name != NULL) {
    *out_name = class_name;
    return HFB_OK;
  }
  const json_t *first = json_array_get(json_object_get(root, "architectures"), 0);
  if (!json_is_string(first)) {
    return HFB_FAIL(
        HFB_INVALID_ARGUMENT,
        "configuration field 'architectures' must be a list with the class name, as in [\"BertForMaskedLM\"]");
  }
  *out_name = json_string_value(first);
  return HFB_OK;
}

static hfb_status config_from_json(const json_t *root, const char *class_name, hfb_config **out_config) {
  if (!json_is_object(root)) {
    return HFB_FAIL(HFB_CORRUPT, "a configuration must be a JSON object, not %s", json_kind(root));
  }
  HFB_TRY(class_of(root, class_name, &class_name));
  hfb_model_class known;
  HFB_TRY(hfb_model_class_find(class_name, &known));
  hfb_config *config = NULL;
  HFB_TRY(config_with_defaults(hfb_family_find(known.model_type), &config));
  config->class_name = known.name;
  hfb_status status = read_fields(config, root);
  if (status != HFB_OK) {
    hfb_config_destroy(config);
    return status;
  }
  *out_config = config;
  return HFB_OK;
}

hfb_status hfb_config_parse(const char *json, size_t bytes, const char *class_name, hfb_config **out_config) {
  if (bytes > CONFIG_JSON_MAX_BYTES) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "the configuration has %zu bytes; at most %d are read", bytes,
                    CONFIG_JSON_MAX_BYTES);
  }
  json_error_t error;
  json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &error);
  if (root == NULL) {
    return HFB_FAIL(HFB_CORRUPT, "not valid JSON: %s (line %d, column %d)", hfb_shown(error.text).text, error.line,
                    error.column);
  }
  hfb_status status = config_from_json(root, class_name, out_config);
  json_decref(root);
  return status;
}

hfb_status hfb_config_load(const char *path, const char *class_name, hfb_config **out_config) {
  char *data = NULL;
  size_t bytes = 0;
  HFB_TRY(hfb_file_read(path, CONFIG_JSON_MAX_BYTES, &data, &bytes));
  hfb_status status = hfb_config_parse(data == NULL ? "" : data, bytes, class_name, out_config);
  hfb_mem_free(data);
  if (status != HFB_OK) hfb_error_prefix("%s", path);
  return status;
}

void hfb_config_destroy(hfb_config *config) {
  if (config == NULL) return;
  hfb_arena_deinit(&config->arena);
  hfb_mem_free(config);
}

/* ---- Reading ---- */

const char *hfb_config_model_type(const hfb_config *config) {
  return config->family->model_type;
}

const char *hfb_config_class(const hfb_config *config) {
  return config->class_name;
}

bool hfb_config_has(const hfb_config *config, const char *name) {
  return field_index(config, name) >= 0;
}

static const field_value *value_of(const hfb_config *config, const char *name, unsigned kinds) {
  int index = field_index(config, name);
  bool known = index >= 0 && (kinds >> field_at(config, index)->kind & 1);
  if (!known)
    hfb_log(HFB_LOG_ERROR, "a %s configuration has no field '%s' of this kind", config->family->model_type, name);
  assert(known);
  return &config->values[index];
}

int64_t hfb_config_int(const hfb_config *config, const char *name) {
  unsigned kinds =
      1u << HFB_FIELD_SIZE | 1u << HFB_FIELD_COUNT | 1u << HFB_FIELD_ID | 1u << HFB_FIELD_LIMIT | 1u << HFB_FIELD_BOOL;
  return value_of(config, name, kinds)->i;
}

int64_t hfb_config_size_count(const hfb_config *config, const char *name) {
  const field_value *value = value_of(config, name, 1u << HFB_FIELD_SIZES);
  return value->list == NULL ? 0 : value->i;
}

int64_t hfb_config_size_at(const hfb_config *config, const char *name, int64_t index) {
  const field_value *value = value_of(config, name, 1u << HFB_FIELD_SIZES);
  if (value->list == NULL) return value->i;
  return index < value->i ? value->list[index] : -1;
}

double hfb_config_float(const hfb_config *config, const char *name) {
  return value_of(config, name, 1u << HFB_FIELD_PROBABILITY | 1u << HFB_FIELD_POSITIVE)->f;
}

bool hfb_config_bool(const hfb_config *config, const char *name) {
  return value_of(config, name, 1u << HFB_FIELD_BOOL)->i != 0;
}

const char *hfb_config_text(const hfb_config *config, const char *name) {
  unsigned kinds = 1u << HFB_FIELD_TEXT | 1u << HFB_FIELD_ACTIVATION | 1u << HFB_FIELD_WORDS | 1u << HFB_FIELD_LIST;
  return value_of(config, name, kinds)->text;
}

int hfb_config_field_count(const hfb_config *config) {
  return field_count(config);
}

const char *hfb_config_field_name(const hfb_config *config, int index) {
  return field_at(config, index)->name;
}

static void print_sizes(const field_value *value, hfb_strbuf *text) {
  if (value->list == NULL) {
    hfb_strbuf_printf(text, "%lld", (long long)value->i);
    return;
  }
  for (int64_t i = 0; i < value->i; i++) {
    hfb_strbuf_printf(text, "%s%lld", i == 0 ? "[" : ",", (long long)value->list[i]);
  }
  hfb_strbuf_append(text, value->i == 0 ? "[]" : "]");
}

void hfb_config_field_value(const hfb_config *config, int index, hfb_strbuf *text) {
  const field_value *value = &config->values[index];
  if (value->null) {
    hfb_strbuf_append(text, "null");
    return;
  }
  switch (field_at(config, index)->kind) {
    case HFB_FIELD_SIZE:
    case HFB_FIELD_COUNT:
    case HFB_FIELD_ID:
    case HFB_FIELD_LIMIT: hfb_strbuf_printf(text, "%lld", (long long)value->i); break;
    case HFB_FIELD_BOOL: hfb_strbuf_append(text, value->i ? "true" : "false"); break;
    case HFB_FIELD_PROBABILITY:
    case HFB_FIELD_POSITIVE: {
      char shortest[32];
      snprintf(shortest, sizeof shortest, "%.15g", value->f);
      if (strtod(shortest, NULL) != value->f) snprintf(shortest, sizeof shortest, "%.17g", value->f);
      hfb_strbuf_append(text, shortest);
      break;
    }
    case HFB_FIELD_ACTIVATION:
    case HFB_FIELD_WORDS:
    case HFB_FIELD_TEXT: hfb_strbuf_printf(text, "\"%s\"", value->text); break;
    case HFB_FIELD_SIZES: print_sizes(value, text); break;
    case HFB_FIELD_LIST: hfb_strbuf_append(text, value->text); break;
    case HFB_FIELD_EMPTY: hfb_strbuf_append(text, "null"); break;
  }
}
