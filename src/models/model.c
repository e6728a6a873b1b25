/* The registries of families, classes and suite rows, and the entry that builds a graph. */
#include "models/model.h"

#include <stdio.h>
#include <string.h>

#include "models/family.h"

/* ---- Families and classes ---- */

#define HFB_FAMILY_ROW(id) extern const hfb_family hfb_family_##id;
#include "models/families.def"
#undef HFB_FAMILY_ROW

static const hfb_family *const families[] = {
#define HFB_FAMILY_ROW(id) &hfb_family_##id,
#include "models/families.def"
#undef HFB_FAMILY_ROW
};
enum { FAMILY_COUNT = (int)(sizeof families / sizeof families[0]) };

const hfb_family *hfb_family_find(const char *model_type) {
  for (int i = 0; i < FAMILY_COUNT; i++) {
    if (strcmp(families[i]->model_type, model_type) == 0) return families[i];
  }
  return NULL;
}

bool hfb_class_find(const char *class_name, const hfb_family **out_family, const hfb_class_row **out_row) {
  for (int i = 0; i < FAMILY_COUNT; i++) {
    for (int j = 0; j < families[i]->class_count; j++) {
      if (strcmp(families[i]->classes[j].name, class_name) != 0) continue;
      *out_family = families[i];
      *out_row = &families[i]->classes[j];
      return true;
    }
  }
  return false;
}

int hfb_model_class_count(void) {
  int count = 0;
  for (int i = 0; i < FAMILY_COUNT; i++) count += families[i]->class_count;
  return count;
}

hfb_model_class hfb_model_class_at(int index) {
  int family = 0;
  while (index >= families[family]->class_count) index -= families[family++]->class_count;
  const hfb_class_row *row = &families[family]->classes[index];
  return (hfb_model_class){.name = row->name, .model_type = families[family]->model_type, .inputs = row->inputs};
}

static const char *class_name_at(void *context, size_t index) {
  return hfb_model_class_at((int)index).name;
}

enum { SUGGESTIONS = 3 };

void hfb_suggest(const char *word, hfb_str_name_fn name_at, size_t count, char *text) {
  size_t nearest[SUGGESTIONS];
  size_t found = hfb_str_nearest(word, name_at, NULL, count, SUGGESTIONS, nearest);
  text[0] = '\0';
  for (size_t i = 0; i < found; i++) {
    const char *before = i == 0 ? "; did you mean " : i + 1 == found ? " or " : ", ";
    size_t used = strlen(text);
    snprintf(text + used, HFB_SUGGESTION_BYTES - used, "%s%s%s", before, name_at(NULL, nearest[i]),
             i + 1 == found ? "?" : "");
  }
}

hfb_status hfb_model_class_find(const char *name, hfb_model_class *out_class) {
  for (int i = 0; i < hfb_model_class_count(); i++) {
    *out_class = hfb_model_class_at(i);
    if (strcmp(out_class->name, name) == 0) return HFB_OK;
  }
  char suggestion[HFB_SUGGESTION_BYTES];
  hfb_suggest(name, class_name_at, (size_t)hfb_model_class_count(), suggestion);
  return HFB_FAIL(HFB_UNSUPPORTED, "class '%s' is not implemented%s", hfb_shown(name).text, suggestion);
}

hfb_shown_text hfb_shown(const char *text) {
  hfb_shown_text out = {0};
  for (size_t i = 0; i + 1 < sizeof out.text && text[i] != '\0'; i++) {
    bool control = (unsigned char)text[i] < ' ' || text[i] == 127;
    out.text[i] = control ? '?' : text[i];
  }
  return out;
}

bool hfb_word_in(const char *list, const char *word) {
  size_t length = strlen(word);
  for (const char *at = list + strspn(list, " "); *at != '\0'; at += strspn(at, " ")) {
    size_t size = strcspn(at, " ");
    if (size == length && memcmp(at, word, size) == 0) return true;
    at += size;
  }
  return false;
}

/* ---- The arguments of a call ---- */

hfb_value *hfb_call_arg(const hfb_call *call, const char *name) {
  for (int i = 0; i < call->request->input_count; i++) {
    if (strcmp(call->request->inputs[i].name, name) == 0) return call->values[i];
  }
  return NULL;
}

static bool has_shape(const hfb_value *value, int64_t batch, int64_t length) {
  return value->shape.rank == 2 && value->shape.dim[0] == batch && value->shape.dim[1] == length;
}

/* length -1: any. */
static hfb_value *checked_ids(hfb_nn *nn, const char *name, hfb_value *value, bool fits, int64_t batch,
                              int64_t length) {
  if (value == NULL) return NULL;
  if (value->dtype == HFB_I64 && fits) return value;
  char shape[HFB_SHAPE_TEXT_BYTES], wanted[32];
  if (length < 0) {
    snprintf(wanted, sizeof wanted, "length");
  } else {
    snprintf(wanted, sizeof wanted, "%lld", (long long)length);
  }
  hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "argument '%s' is %s%s; it must be i64[%lld,%s]", name,
                   hfb_dtype_name(value->dtype), hfb_shape_print(&value->shape, shape, sizeof shape), (long long)batch,
                   wanted);
  return NULL;
}

hfb_value *hfb_call_ids(hfb_nn *nn, const hfb_call *call, const char *name, int64_t batch, int64_t length) {
  hfb_value *value = hfb_call_arg(call, name);
  return checked_ids(nn, name, value, value != NULL && has_shape(value, batch, length), batch, length);
}

hfb_value *hfb_call_rows(hfb_nn *nn, const hfb_call *call, const char *name) {
  hfb_value *value = hfb_call_arg(call, name);
  int64_t length = value != NULL && value->shape.rank == 2 ? value->shape.dim[1] : -1;
  return checked_ids(nn, name, value, length > 0 && has_shape(value, call->batch, length), call->batch, -1);
}

hfb_value **hfb_call_values(hfb_nn *nn, int64_t count) {
  hfb_value **values = hfb_arena_alloc(&nn->b->graph->arena, (size_t)count, sizeof *values);
  if (values == NULL) hfb_builder_fail(nn->b, HFB_OUT_OF_MEMORY, "no memory for %lld values", (long long)count);
  return values;
}

hfb_value *hfb_call_positions(hfb_nn *nn, const hfb_call *call, const char *name, int64_t length) {
  hfb_value *value = hfb_call_arg(call, name);
  bool fits = value != NULL && (has_shape(value, call->batch, length) || has_shape(value, 1, length));
  return checked_ids(nn, name, value, fits, call->batch, length);
}

void hfb_call_check_length(hfb_nn *nn, const hfb_call *call, const char *what, int64_t length, const char *field) {
  int64_t limit = hfb_call_int(call, field);
  if (length <= limit) return;
  hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%s has %lld tokens, but %s is %lld; use a shorter sequence", what,
                   (long long)length, field, (long long)limit);
}

void hfb_call_check_heads(hfb_nn *nn, const hfb_call *call, const char *width_field, const char *heads_field) {
  int64_t width = hfb_call_int(call, width_field), heads = hfb_call_int(call, heads_field);
  if (width % heads == 0) return;
  hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%s %lld is not a multiple of %s %lld", width_field, (long long)width,
                   heads_field, (long long)heads);
}

int64_t hfb_call_int(const hfb_call *call, const char *field) {
  return hfb_config_int(call->config, field);
}

int64_t hfb_call_size_at(const hfb_call *call, const char *field, int64_t index) {
  return hfb_config_size_at(call->config, field, index);
}

double hfb_call_float(const hfb_call *call, const char *field) {
  return hfb_config_float(call->config, field);
}

bool hfb_call_bool(const hfb_call *call, const char *field) {
  return hfb_config_bool(call->config, field);
}

const char *hfb_call_text(const hfb_call *call, const char *field) {
  return hfb_config_text(call->config, field);
}

/* ---- Building ---- */

enum { INPUT_MAX = 32 };

/* Whether `list` has the argument, or "stem.#" and the argument is "stem.<layer>". */
static bool takes_argument(const char *list, const char *name) {
  char pattern[64];
  const char *dot = strrchr(name, '.');
  if (dot == NULL || dot[1] == '\0' || strspn(dot + 1, "0123456789") != strlen(dot + 1)) return hfb_word_in(list, name);
  snprintf(pattern, sizeof pattern, "%.*s.#", (int)(dot - name < 60 ? dot - name : 60), name);
  return hfb_word_in(list, pattern);
}

static hfb_status check_arguments(const hfb_model_request *request, const hfb_class_row *row) {
  if (request->input_count < 1 || request->input_count > INPUT_MAX) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s takes 1 to %d arguments, got %d", row->name, INPUT_MAX,
                    request->input_count);
  }
  for (int i = 0; i < request->input_count; i++) {
    const char *name = request->inputs[i].name;
    HFB_TRY(hfb_shape_check(&request->inputs[i].shape));
    if (hfb_word_in(row->refused, name)) {
      return HFB_FAIL(HFB_UNSUPPORTED, "argument '%s' of %s is not implemented; implemented: %s", name, row->name,
                      row->inputs);
    }
    if (!takes_argument(row->inputs, name)) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s has no argument '%s'; it takes: %s", row->name, hfb_shown(name).text,
                      row->inputs);
    }
    for (int j = 0; j < i; j++) {
      if (strcmp(request->inputs[j].name, name) == 0) {
        return HFB_FAIL(HFB_INVALID_ARGUMENT, "argument '%s' is given twice", name);
      }
    }
  }
  return HFB_OK;
}

/* Classes of this name take [batch, choices, length]: rows of the batch that one label chooses from. */
static bool is_multiple_choice(const char *class_name) {
  static const char suffix[] = "ForMultipleChoice";
  size_t length = strlen(class_name), tail = sizeof suffix - 1;
  return length > tail && strcmp(class_name + length - tail, suffix) == 0;
}

/* Required arguments that are no ids: F32 of that rank. */
static const struct {
  const char *name, *dimensions;
  int rank;
} real_arguments[] = {
    {"pixel_values", "batch,channels,height,width", 4},
    {"input_values", "batch,samples", 2},
    {"input_features", "batch,bins,frames", 3},
};
enum { REAL_ARGUMENTS = (int)(sizeof real_arguments / sizeof real_arguments[0]) };

/* The length is that of the last dimension; images have none. */
static hfb_status check_reals(const hfb_model_input *input, int kind, hfb_call *call) {
  int rank = real_arguments[kind].rank;
  if (input->dtype == HFB_F32 && input->shape.rank == rank && hfb_shape_elements(&input->shape) > 0) {
    call->choices = 1;
    call->batch = input->shape.dim[0];
    call->length = rank == 4 ? 0 : input->shape.dim[rank - 1];
    return HFB_OK;
  }
  char shape[HFB_SHAPE_TEXT_BYTES];
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "argument '%s' is %s%s; it must be f32[%s] and not empty", input->name,
                  hfb_dtype_name(input->dtype), hfb_shape_print(&input->shape, shape, sizeof shape),
                  real_arguments[kind].dimensions);
}

/* The required argument fixes batch and length. */
static hfb_status check_first(const hfb_model_request *request, const hfb_class_row *row, hfb_call *call) {
  char required[64];
  snprintf(required, sizeof required, "%.*s", (int)strcspn(row->inputs, " "), row->inputs);
  bool choices = is_multiple_choice(row->name);
  for (int i = 0; i < request->input_count; i++) {
    const hfb_model_input *input = &request->inputs[i];
    const int64_t *dim = input->shape.dim;
    if (strcmp(input->name, required) != 0) continue;
    for (int j = 0; j < REAL_ARGUMENTS; j++) {
      if (strcmp(required, real_arguments[j].name) == 0) return check_reals(input, j, call);
    }
    if (input->dtype != HFB_I64 || input->shape.rank != 2 + choices || hfb_shape_elements(&input->shape) == 0) {
      char shape[HFB_SHAPE_TEXT_BYTES];
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "argument '%s' is %s%s; it must be i64[batch,%slength] and not empty",
                      required, hfb_dtype_name(input->dtype), hfb_shape_print(&input->shape, shape, sizeof shape),
                      choices ? "choices," : "");
    }
    call->choices = choices ? dim[1] : 1;
    call->batch = dim[0] * call->choices;
    call->length = dim[1 + choices];
    return HFB_OK;
  }
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s needs the argument '%s'", row->name, required);
}

/* Multiple choice runs every choice as a row of its own. */
static hfb_value *merge_choices(hfb_builder *b, const hfb_call *call, hfb_value *value) {
  if (value == NULL || value->shape.rank != 3 || !is_multiple_choice(call->request->class_name)) return value;
  const int64_t *dim = value->shape.dim;
  return hfb_reshape(b, value, 2, (int64_t[]){dim[0] * dim[1], dim[2]});
}

hfb_status hfb_model_build(const hfb_model_request *request, hfb_graph **out_graph) {
  hfb_model_class known;
  HFB_TRY(hfb_model_class_find(request->class_name, &known));
  const hfb_family *family = NULL;
  const hfb_class_row *row = NULL;
  hfb_class_find(request->class_name, &family, &row);
  if (strcmp(hfb_config_model_type(request->config), family->model_type) != 0) {
    return HFB_FAIL(HFB_MISMATCH, "%s needs a %s configuration, not a %s one", row->name, family->model_type,
                    hfb_config_model_type(request->config));
  }
  hfb_value *values[INPUT_MAX];
  hfb_call call = {.config = request->config, .request = request, .traits = family->traits, .values = values};
  HFB_TRY(check_arguments(request, row));
  HFB_TRY(check_first(request, row, &call));

  hfb_builder builder;
  HFB_TRY(hfb_builder_init(&builder, row->name));
  for (int i = 0; i < request->input_count; i++) {
    const hfb_model_input *input = &request->inputs[i];
    hfb_value *given = hfb_input(&builder, input->name, input->dtype, input->shape);
    values[i] = merge_choices(&builder, &call, given);
  }
  hfb_nn nn = {.b = &builder, .training = request->training, .no_dropout = request->no_dropout, .init_std = 0.02};
  row->build(&nn, &call);
  hfb_status status = hfb_builder_finish(&builder, out_graph);
  hfb_builder_deinit(&builder);
  return status;
}
