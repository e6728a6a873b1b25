#include "ir/builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

hfb_status hfb_builder_init(hfb_builder *b, const char *graph_name) {
  *b = (hfb_builder){.status = HFB_OK};
  b->status = hfb_graph_create(graph_name, &b->graph);
  return b->status;
}

void hfb_builder_deinit(hfb_builder *b) {
  hfb_graph_destroy(b->graph);
  b->graph = NULL;
}

/* Keeps the thread's message: later calls may overwrite that one. */
static void record(hfb_builder *b, hfb_status status) {
  if (b->status != HFB_OK) return;
  b->status = status;
  snprintf(b->message, sizeof(b->message), "%s", hfb_error_message());
}

void hfb_builder_fail(hfb_builder *b, hfb_status status, const char *format, ...) {
  if (b->status != HFB_OK) return;
  char text[sizeof(b->message)];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  record(b, HFB_FAIL(status, "%s%s%s", b->scope, b->scope[0] ? ": " : "", text));
}

hfb_status hfb_builder_finish(hfb_builder *b, hfb_graph **out_graph) {
  if (b->status == HFB_OK && b->scope_depth > 0) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "%d scopes were pushed but not popped", b->scope_depth);
  }
  if (b->status == HFB_OK) {
    hfb_status status = hfb_graph_verify(b->graph);
    if (status != HFB_OK) record(b, status);
  }
  if (b->status != HFB_OK) return HFB_FAIL(b->status, "%s", b->message);
  *out_graph = b->graph;
  b->graph = NULL;
  return HFB_OK;
}

void hfb_scope_push(hfb_builder *b, const char *format, ...) {
  if (b->status != HFB_OK) return;
  size_t used = strlen(b->scope);
  if (b->scope_depth == (int)(sizeof(b->scope_marks) / sizeof(b->scope_marks[0]))) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "scopes are nested more than %d deep", b->scope_depth);
    return;
  }
  size_t dot = used > 0 ? 1 : 0;
  va_list args;
  va_start(args, format);
  int length = used + dot < sizeof(b->scope)
                   ? vsnprintf(b->scope + used + dot, sizeof(b->scope) - used - dot, format, args)
                   : -1;
  va_end(args);
  if (length <= 0 || used + dot + (size_t)length >= sizeof(b->scope)) {
    b->scope[used] = '\0';
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "a scope is empty or longer than %d bytes", HFB_SCOPE_BYTES - 1);
    return;
  }
  if (dot) b->scope[used] = '.';
  b->scope_marks[b->scope_depth++] = (short)used;
}

void hfb_scope_pop(hfb_builder *b) {
  if (b->status != HFB_OK) return;
  if (b->scope_depth == 0) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "a scope is popped that was not pushed");
    return;
  }
  b->scope[b->scope_marks[--b->scope_depth]] = '\0';
}

/* A missing input is the trace of an earlier failure; without one it is a mistake of the caller. */
static bool inputs_present(hfb_builder *b, hfb_op op, int count, hfb_value *const *inputs) {
  for (int i = 0; i < count; i++) {
    if (!inputs[i]) {
      hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "%s: input %d is missing", hfb_op_info_of(op)->name, i);
      return false;
    }
  }
  return true;
}

hfb_value *hfb_build(hfb_builder *b, hfb_op op, int input_count, hfb_value *const *inputs, int attr_count,
                     const hfb_attr *attrs) {
  if (b->status != HFB_OK || !inputs_present(b, op, input_count, inputs)) return NULL;
  hfb_attr all[HFB_ATTR_COUNT + 1];
  if (attr_count > HFB_ATTR_COUNT) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "%s: %d attributes", hfb_op_info_of(op)->name, attr_count);
    return NULL;
  }
  if (attr_count > 0) memcpy(all, attrs, (size_t)attr_count * sizeof(*attrs));
  if (b->scope[0]) all[attr_count++] = (hfb_attr){.key = HFB_ATTR_SCOPE, .u.text = b->scope};
  hfb_node *node;
  hfb_status status = hfb_graph_add(b->graph, op, input_count, inputs, attr_count, all, &node);
  if (status != HFB_OK) {
    record(b, status);
    return NULL;
  }
  return &node->results[0];
}

void hfb_output_add(hfb_builder *b, const char *name, hfb_value *value) {
  if (b->status != HFB_OK) return;
  if (!value) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "output \"%s\" is missing", name);
    return;
  }
  hfb_status status = hfb_graph_add_output(b->graph, name, value);
  if (status != HFB_OK) record(b, status);
}

void hfb_update_add(hfb_builder *b, hfb_value *parameter, hfb_value *value) {
  if (b->status != HFB_OK) return;
  if (!parameter || !value) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "an update without %s", parameter ? "a value" : "a parameter");
    return;
  }
  hfb_status status = hfb_graph_add_update(b->graph, parameter, value);
  if (status != HFB_OK) record(b, status);
}

static hfb_attr int_attr(hfb_attr_key key, int64_t value) {
  return (hfb_attr){.key = key, .u.i = value};
}

static hfb_attr float_attr(hfb_attr_key key, double value) {
  return (hfb_attr){.key = key, .u.f = value};
}

static hfb_attr shape_attr(const hfb_shape *shape) {
  return (hfb_attr){.key = HFB_ATTR_SHAPE, .u.ints = {shape->rank, shape->dim}};
}

static hfb_attr dtype_attr(hfb_dtype dtype) {
  return (hfb_attr){.key = HFB_ATTR_DTYPE, .u.dtype = dtype};
}

static hfb_attr name_attr(const char *name) {
  return (hfb_attr){.key = HFB_ATTR_NAME, .u.text = name};
}

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

hfb_value *hfb_input(hfb_builder *b, const char *name, hfb_dtype dtype, hfb_shape shape) {
  hfb_attr attrs[] = {name_attr(name), shape_attr(&shape), dtype_attr(dtype)};
  return hfb_build(b, HFB_OP_INPUT, 0, NULL, COUNT_OF(attrs), attrs);
}

/* The parameter of that name, tied; a failure when its shape is another. */
static hfb_value *tie_parameter(hfb_builder *b, hfb_value *existing, const char *name, const hfb_shape *shape) {
  if (hfb_shape_equal(&existing->shape, shape)) return existing;
  char have[HFB_SHAPE_TEXT_BYTES], want[HFB_SHAPE_TEXT_BYTES];
  hfb_builder_fail(b, HFB_MISMATCH, "parameter \"%s\" is used with shape %s and with shape %s", name,
                   hfb_shape_print(&existing->shape, have, sizeof(have)), hfb_shape_print(shape, want, sizeof(want)));
  return NULL;
}

hfb_value *hfb_parameter(hfb_builder *b, const char *name, hfb_shape shape, hfb_init init) {
  if (b->status != HFB_OK) return NULL;
  char full[2 * HFB_SCOPE_BYTES];
  int length = snprintf(full, sizeof(full), "%s%s%s", b->scope, b->scope[0] ? "." : "", name);
  if (length < 0 || (size_t)length >= sizeof(full)) {
    hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "the name of parameter \"%.64s...\" is too long", name);
    return NULL;
  }
  return hfb_parameter_named(b, full, HFB_F32, shape, init);
}

hfb_value *hfb_parameter_named(hfb_builder *b, const char *full_name, hfb_dtype dtype, hfb_shape shape, hfb_init init) {
  if (b->status != HFB_OK) return NULL;
  int index = hfb_graph_find_parameter(b->graph, full_name);
  if (index >= 0) return tie_parameter(b, b->graph->parameters[index], full_name, &shape);
  hfb_attr attrs[] = {name_attr(full_name),
                      shape_attr(&shape),
                      dtype_attr(dtype),
                      int_attr(HFB_ATTR_INIT, init.kind),
                      float_attr(HFB_ATTR_INIT_A, init.a),
                      float_attr(HFB_ATTR_INIT_B, init.b),
                      int_attr(HFB_ATTR_PADDING_IDX, init.padding_idx),
                      int_attr(HFB_ATTR_TRAINABLE, !init.frozen && !init.buffer),
                      int_attr(HFB_ATTR_BUFFER, init.buffer)};
  return hfb_build(b, HFB_OP_PARAMETER, 0, NULL, COUNT_OF(attrs), attrs);
}

hfb_value *hfb_random_state(hfb_builder *b) {
  const hfb_init init = {.kind = HFB_INIT_RANDOM_STATE, .padding_idx = -1, .buffer = true};
  return hfb_parameter_named(b, HFB_RANDOM_STATE, HFB_I64, hfb_shape_of(1, (int64_t[]){2}), init);
}

hfb_value *hfb_constant(hfb_builder *b, hfb_dtype dtype, hfb_shape shape, const void *data) {
  hfb_attr attrs[] = {shape_attr(&shape), dtype_attr(dtype), {.key = HFB_ATTR_DATA, .u.data = data}};
  return hfb_build(b, HFB_OP_CONSTANT, 0, NULL, COUNT_OF(attrs), attrs);
}

hfb_value *hfb_constant_i64(hfb_builder *b, hfb_shape shape, const int64_t *data) {
  return hfb_constant(b, HFB_I64, shape, data);
}

hfb_value *hfb_constant_f32(hfb_builder *b, hfb_shape shape, const float *data) {
  return hfb_constant(b, HFB_F32, shape, data);
}

hfb_value *hfb_full(hfb_builder *b, hfb_dtype dtype, hfb_shape shape, double value) {
  hfb_attr attrs[] = {shape_attr(&shape), dtype_attr(dtype), float_attr(HFB_ATTR_VALUE, value)};
  return hfb_build(b, HFB_OP_FULL, 0, NULL, COUNT_OF(attrs), attrs);
}

hfb_value *hfb_scalar(hfb_builder *b, hfb_dtype dtype, double value) {
  return hfb_full(b, dtype, (hfb_shape){0}, value);
}

hfb_value *hfb_iota(hfb_builder *b, hfb_dtype dtype, hfb_shape shape, int axis) {
  if (axis < 0) axis += shape.rank;
  hfb_attr attrs[] = {shape_attr(&shape), dtype_attr(dtype), int_attr(HFB_ATTR_AXIS, axis)};
  return hfb_build(b, HFB_OP_IOTA, 0, NULL, COUNT_OF(attrs), attrs);
}
