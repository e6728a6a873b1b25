/* Stored tensors to parameters of a graph. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/checkpoint.h"

enum { NAMED_PROBLEMS = 4 };

/* How a tensor came to a parameter; the lower the better. */
typedef enum match { MATCH_EXACT, MATCH_OTHER_SPELLING, MATCH_ALIAS, MATCH_NONE } match;

typedef struct binder {
  const hfb_checkpoint *checkpoint;
  const char *class_name;
  const hfb_config *config;
  const hfb_graph *graph;
  hfb_arena arena;
  hfb_names parameters; /* name to index */
  match *matches;       /* by parameter */
  hfb_checkpoint_binding *binding;
} binder;

static const char *parameter_name(const hfb_graph *graph, int index) {
  return hfb_node_text(graph->parameters[index]->node, HFB_ATTR_NAME, "");
}

static hfb_status index_parameters(binder *b) {
  for (int i = 0; i < b->graph->parameter_count; i++) {
    HFB_TRY(hfb_names_reserve(&b->parameters, &b->arena));
    hfb_names_add(&b->parameters, parameter_name(b->graph, i), i);
  }
  b->matches = hfb_arena_alloc(&b->arena, (size_t)b->graph->parameter_count + 1, sizeof(*b->matches));
  if (!b->matches) return HFB_OUT_OF_MEMORY;
  for (int i = 0; i < b->graph->parameter_count; i++) b->matches[i] = MATCH_NONE;
  return HFB_OK;
}

static void note_unknown(binder *b, const hfb_stored_tensor *tensor) {
  if (b->binding->unknown_count++ == 0) b->binding->first_unknown = tensor->name;
}

static hfb_status offer_tensor(binder *b, const hfb_stored_tensor *tensor) {
  hfb_name_use use;
  const char *name = NULL;
  hfb_status status = hfb_model_checkpoint_name(b->class_name, b->config, b->graph, tensor->name, &use, &name);
  if (status == HFB_NOT_FOUND) {
    note_unknown(b, tensor);
    return HFB_OK;
  }
  HFB_TRY(status);
  if (use == HFB_NAME_IGNORED) {
    b->binding->ignored_count++;
    return HFB_OK;
  }
  int index = hfb_names_find(&b->parameters, name);
  if (index < 0) {
    note_unknown(b, tensor);
    return HFB_OK;
  }
  match found = use == HFB_NAME_ALIAS             ? MATCH_ALIAS
                : strcmp(tensor->name, name) == 0 ? MATCH_EXACT
                                                  : MATCH_OTHER_SPELLING;
  const hfb_stored_tensor **source = &b->binding->sources[index];
  if (found == b->matches[index] && found != MATCH_ALIAS) {
    return HFB_FAIL(HFB_MISMATCH, "'%s': '%.96s' and '%.96s' are both values of the weight '%.96s'; remove one",
                    hfb_checkpoint_path(b->checkpoint), (*source)->name, tensor->name, name);
  }
  if (found < b->matches[index]) {
    b->matches[index] = found;
    *source = tensor;
  }
  return HFB_OK;
}

/* A buffer or a frozen table may be left out of a file: its initialiser computes it. */
static bool may_be_missing(const hfb_node *parameter) {
  return hfb_node_int(parameter, HFB_ATTR_BUFFER) != 0 || hfb_node_int(parameter, HFB_ATTR_TRAINABLE) == 0;
}

/* A count and the first few in words. */
typedef struct problems {
  hfb_strbuf text;
  int count;
} problems;

static HFB_PRINTF(2, 3) void add_problem(problems *list, const char *format, ...) {
  list->count++;
  if (list->count > NAMED_PROBLEMS) return;
  char line[256];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof(line), format, args);
  va_end(args);
  hfb_strbuf_printf(&list->text, "%s%s", list->count > 1 ? ", " : "", line);
}

static void append_problems(hfb_strbuf *text, const char *what, const problems *list) {
  if (list->count == 0) return;
  hfb_strbuf_printf(text, "%s%d %s: %s", text->length ? "; " : "", list->count, what, hfb_strbuf_text(&list->text));
  if (list->count > NAMED_PROBLEMS) hfb_strbuf_printf(text, " and %d more", list->count - NAMED_PROBLEMS);
}

static void check_source(binder *b, int index, problems *missing, problems *misshaped) {
  const hfb_value *parameter = b->graph->parameters[index];
  const hfb_stored_tensor *source = b->binding->sources[index];
  if (!source) {
    b->binding->computed_count++;
    if (!may_be_missing(parameter->node)) add_problem(missing, "'%.96s'", parameter_name(b->graph, index));
    return;
  }
  if (b->matches[index] == MATCH_ALIAS) b->binding->alias_count++;
  if (hfb_shape_equal(&source->shape, &parameter->shape)) return;
  char got[HFB_SHAPE_TEXT_BYTES], wanted[HFB_SHAPE_TEXT_BYTES];
  add_problem(misshaped, "'%.96s' is %s instead of %s", source->name, hfb_shape_print(&source->shape, got, sizeof(got)),
              hfb_shape_print(&parameter->shape, wanted, sizeof(wanted)));
}

static hfb_status check_sources(binder *b) {
  problems missing = {0}, misshaped = {0};
  hfb_strbuf text;
  hfb_strbuf_init(&missing.text);
  hfb_strbuf_init(&misshaped.text);
  hfb_strbuf_init(&text);
  for (int i = 0; i < b->graph->parameter_count; i++) check_source(b, i, &missing, &misshaped);
  append_problems(&text, "missing", &missing);
  append_problems(&text, "of another shape", &misshaped);
  hfb_status status = HFB_OK;
  if (missing.count || misshaped.count) {
    status = HFB_FAIL(HFB_MISMATCH, "'%s' does not hold the weights of %s: %s; does config.json belong to it?",
                      hfb_checkpoint_path(b->checkpoint), b->class_name, hfb_strbuf_text(&text));
  }
  hfb_strbuf_deinit(&text);
  hfb_strbuf_deinit(&misshaped.text);
  hfb_strbuf_deinit(&missing.text);
  return status;
}

static hfb_status bind_all(binder *b) {
  HFB_TRY(index_parameters(b));
  HFB_TRY(hfb_mem_alloc((size_t)b->graph->parameter_count, sizeof(*b->binding->sources), &b->binding->sources));
  b->binding->count = b->graph->parameter_count;
  for (int i = 0; i < hfb_checkpoint_count(b->checkpoint); i++) {
    HFB_TRY(offer_tensor(b, hfb_checkpoint_at(b->checkpoint, i)));
  }
  return check_sources(b);
}

hfb_status hfb_checkpoint_bind(const hfb_checkpoint *checkpoint, const char *class_name, const hfb_config *config,
                               const hfb_graph *graph, hfb_checkpoint_binding *out_binding) {
  *out_binding = (hfb_checkpoint_binding){0};
  binder b = {.checkpoint = checkpoint, .class_name = class_name, .config = config, .graph = graph};
  b.binding = out_binding;
  hfb_arena_init(&b.arena);
  hfb_status status = bind_all(&b);
  hfb_arena_deinit(&b.arena);
  if (status != HFB_OK) hfb_checkpoint_binding_deinit(out_binding);
  return status;
}

void hfb_checkpoint_binding_deinit(hfb_checkpoint_binding *binding) {
  hfb_mem_free(binding->sources);
  *binding = (hfb_checkpoint_binding){0};
}
