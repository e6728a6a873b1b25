#include "support/op_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static const char *const lines[] = {
#define OP_CASE(text) text,
#include "support/op_cases.def"
#undef OP_CASE
};

int op_case_count(void) { return (int)(sizeof(lines) / sizeof(lines[0])); }

static hfb_status malformed(const char *line, const char *what) {
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "case \"%s\": %s", line, what);
}

static hfb_status parse_shape(const char *line, const char *text, hfb_shape *out_shape) {
  *out_shape = (hfb_shape){0};
  if (strcmp(text, "-") == 0) return HFB_OK;
  for (const char *at = text; *at;) {
    char *end;
    int64_t extent = strtoll(at, &end, 10);
    if (end == at || (*end && *end != 'x') || out_shape->rank == HFB_MAX_RANK) return malformed(line, "bad shape");
    out_shape->dim[out_shape->rank++] = extent;
    at = *end ? end + 1 : end;
  }
  return HFB_OK;
}

static hfb_status parse_input(const char *line, const char *text, op_case_input *out_input) {
  char kind[16], shape[64];
  *out_input = (op_case_input){0};
  if (sscanf(text, "%15s %63s %7s", kind, shape, out_input->layout) < 2) return malformed(line, "bad input");
  out_input->kind = kind[0];
  out_input->bound = atoll(kind + 1);
  if (!strchr("fwnpomxbihudGHS", kind[0])) return malformed(line, "unknown kind of data");
  return parse_shape(line, shape, &out_input->shape);
}

const char *op_case_line(int index) { return lines[index]; }

hfb_status op_case_parse(const char *line, op_case *out_case) {
  *out_case = (op_case){.text = line};
  char copy[256], *rest = copy;
  if (snprintf(copy, sizeof(copy), "%s", line) >= (int)sizeof(copy)) return malformed(line, "too long");
  for (int field = 0; rest; field++) {
    char *text = strsep(&rest, "|");
    text += strspn(text, " ");
    for (size_t length = strlen(text); length > 0 && text[length - 1] == ' '; length--) text[length - 1] = '\0';
    if (field == 0) {
      if (!hfb_op_parse(text, &out_case->op)) return malformed(line, "unknown op");
    } else if (strchr(text, '=')) {
      snprintf(out_case->attributes, sizeof(out_case->attributes), "%.127s", text);
    } else {
      if (out_case->input_count == OP_CASE_MAX_INPUTS) return malformed(line, "too many inputs");
      HFB_TRY(parse_input(line, text, &out_case->inputs[out_case->input_count++]));
    }
  }
  return HFB_OK;
}

static hfb_dtype dtype_of(char kind) {
  switch (kind) {
    case 'b': return HFB_BOOL;
    case 'i':
    case 'S': return HFB_I64;
    case 'd': return HFB_F64;
    case 'h': return HFB_I32;
    case 'u': return HFB_U8;
    case 'G': return HFB_BF16;
    case 'H': return HFB_F16;
    default: return HFB_F32;
  }
}

/* An input of `shape` after the movements of `layout`; the stored tensor is what they start from. */
static hfb_value *build_input(hfb_builder *b, const char *name, hfb_dtype dtype, hfb_shape shape, const char *layout) {
  int rank = shape.rank, perm[HFB_MAX_RANK];
  hfb_shape stored = shape;
  hfb_value *value = NULL;
  switch (*layout) {
    case '\0': return hfb_input(b, name, dtype, shape);
    case 't':
    case 'r':
      for (int i = 0; i < rank; i++) perm[i] = *layout == 'r' ? rank - 1 - i : i;
      if (*layout == 't') perm[rank - 1] = rank - 2, perm[rank - 2] = rank - 1;
      for (int i = 0; i < rank; i++) stored.dim[perm[i]] = shape.dim[i];
      return hfb_transpose(b, build_input(b, name, dtype, stored, layout + 1), perm);
    case 's':
      for (int i = 0; i < rank; i++) stored.dim[i] += 3;
      value = build_input(b, name, dtype, stored, layout + 1);
      for (int i = 0; i < rank; i++) value = hfb_slice(b, value, i, 1, 1 + shape.dim[i]);
      return value;
    case 'k': {
      int64_t starts[HFB_MAX_RANK] = {0}, limits[HFB_MAX_RANK], steps[HFB_MAX_RANK];
      stored.dim[rank - 1] *= 2;
      for (int i = 0; i < rank; i++) {
        limits[i] = stored.dim[i];
        steps[i] = i == rank - 1 ? 2 : 1;
      }
      hfb_attr attrs[3] = {{.key = HFB_ATTR_STARTS, .u.ints = {rank, starts}},
                           {.key = HFB_ATTR_LIMITS, .u.ints = {rank, limits}},
                           {.key = HFB_ATTR_STEPS, .u.ints = {rank, steps}}};
      value = build_input(b, name, dtype, stored, layout + 1);
      return hfb_build(b, HFB_OP_SLICE, 1, &value, 3, attrs);
    }
    case 'e':
      stored.dim[0] = 1;
      return hfb_expand(b, build_input(b, name, dtype, stored, layout + 1), rank, shape.dim);
    default: hfb_builder_fail(b, HFB_INVALID_ARGUMENT, "unknown layout \"%s\"", layout); return NULL;
  }
}

enum { MAX_ATTRS = 10, MAX_INTS = 8 };

typedef struct parsed_attrs {
  int count;
  hfb_attr attrs[MAX_ATTRS];
  int64_t ints[MAX_ATTRS][MAX_INTS];
  float data[MAX_ATTRS][MAX_INTS];
  char text[MAX_ATTRS][32];
} parsed_attrs;

/* "axis=1 shape=2,3 dtype=f32": the kind of each attribute is in attrs.def. */
static bool parse_attr(const char *text, parsed_attrs *parsed) {
  char name[32];
  hfb_attr *attr = &parsed->attrs[parsed->count];
  int64_t *ints = parsed->ints[parsed->count];
  float *data = parsed->data[parsed->count];
  const char *value = strchr(text, '=');
  if (!value || parsed->count == MAX_ATTRS || value - text >= (int)sizeof(name)) return false;
  snprintf(name, sizeof(name), "%.*s", (int)(value - text), text);
  value++;
  if (!hfb_attr_parse(name, &attr->key)) return false;
  char *at = (char *)value;
  switch (hfb_attr_kind_of(attr->key)) {
    case HFB_ATTR_KIND_INT: attr->u.i = atoll(value); break;
    case HFB_ATTR_KIND_FLOAT: attr->u.f = atof(value); break;
    case HFB_ATTR_KIND_DTYPE:
      if (!hfb_dtype_parse(value, &attr->u.dtype)) return false;
      break;
    case HFB_ATTR_KIND_INTS:
      attr->u.ints.values = ints;
      while (*at && attr->u.ints.count < MAX_INTS) {
        ints[attr->u.ints.count++] = strtoll(at, &at, 10);
        at += *at == ',';
      }
      break;
    case HFB_ATTR_KIND_TEXT:
      snprintf(parsed->text[parsed->count], sizeof(parsed->text[0]), "%s", value);
      attr->u.text = parsed->text[parsed->count];
      break;
    case HFB_ATTR_KIND_DATA:
      attr->u.data = data;
      for (int i = 0; *at && i < MAX_INTS; i++) {
        data[i] = strtof(at, &at);
        at += *at == ',';
      }
      break;
  }
  parsed->count++;
  return true;
}

hfb_status op_case_build(const op_case *c, hfb_graph **out_graph) {
  hfb_builder b;
  HFB_TRY(hfb_builder_init(&b, c->text));
  hfb_value *inputs[OP_CASE_MAX_INPUTS] = {0};
  for (int i = 0; i < c->input_count; i++) {
    const op_case_input *input = &c->inputs[i];
    char name[16];
    snprintf(name, sizeof(name), "x%d", i);
    inputs[i] = build_input(&b, name, dtype_of(input->kind), input->shape, input->layout);
  }
  parsed_attrs parsed = {0};
  char attributes[sizeof(c->attributes)], *rest = attributes;
  snprintf(attributes, sizeof(attributes), "%s", c->attributes);
  for (char *text; (text = strsep(&rest, " "));) {
    if (*text && !parse_attr(text, &parsed)) {
      hfb_builder_fail(&b, HFB_INVALID_ARGUMENT, "case \"%s\": bad attribute %s", c->text, text);
    }
  }
  hfb_value *first = hfb_build(&b, c->op, c->input_count, inputs, parsed.count, parsed.attrs);
  hfb_output_add(&b, "y", first);
  for (int i = 1; first && i < first->node->result_count; i++) {
    char name[16];
    snprintf(name, sizeof(name), "y%d", i);
    hfb_output_add(&b, name, &first->node->results[i]);
  }
  hfb_status status = hfb_builder_finish(&b, out_graph);
  hfb_builder_deinit(&b);
  return status;
}

static double draw(const op_case_input *input, hfb_philox stream, uint64_t index) {
  static const float special[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 2e-38f, 3e38f, -3e38f, 88.8f, -104.0f};
  float normal = (float)hfb_philox_normal(stream, 3 * index);
  uint32_t die = hfb_philox_u32(stream, 3 * index + 1);
  switch (input->kind) {
    case 'w': return (double)(6 * normal);
    case 'n': return (double)(normal / 8);
    case 'p': return (double)(0.1f + 2.9f * hfb_philox_uniform(stream, index));
    case 'o': return (double)(normal - 300);
    case 'm': return die % 3 == 0 ? -INFINITY : (double)normal;
    case 'x': return die % 2 == 0 ? (double)special[die / 2 % (sizeof(special) / sizeof(special[0]))] : (double)normal;
    case 'b': return die % 2;
    case 'i':
    case 'u': return (double)hfb_philox_below(stream, index, input->bound);
    case 'h': return (double)(hfb_philox_below(stream, index, input->bound) - input->bound / 2);
    case 'd': return (double)(1 + hfb_philox_below(stream, index, input->bound));
    case 'S': return index == 0 ? (double)die * 0x1p21 + (double)(die >> 11) : (double)(die % 1000);
    default: return (double)normal;
  }
}

static hfb_status make_tensor(const op_case_input *input, const hfb_value *value, hfb_device *device, uint64_t seed,
                              bool absolute, hfb_tensor *out_tensor) {
  HFB_TRY(hfb_tensor_create(device, value->dtype, &value->shape, out_tensor));
  hfb_philox stream = hfb_philox_named(seed, hfb_node_text(value->node, HFB_ATTR_NAME, ""));
  int64_t count = hfb_shape_elements(&value->shape);
  double *values = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)count, sizeof(double), &values));
  for (int64_t i = 0; i < count; i++) {
    double drawn = draw(input, stream, (uint64_t)i);
    values[i] = absolute ? fabs(drawn) : drawn;
  }
  hfb_tensor source = hfb_tensor_borrow(HFB_F64, &value->shape, values);
  hfb_status status = hfb_tensor_copy(&source, out_tensor, NULL);
  hfb_mem_free(values);
  return status;
}

hfb_status op_case_make_inputs(const op_case *c, const hfb_graph *graph, hfb_device *device, uint64_t seed,
                               bool absolute, op_case_data *out_data) {
  /* The inputs and parameters of the cases of these two ops have no entry of their own. */
  static const op_case_input plain = {.kind = 'f'};
  *out_data = (op_case_data){0};
  hfb_status status = HFB_OK;
  for (int i = 0; i < graph->input_count && status == HFB_OK; i++) {
    const op_case_input *input = i < c->input_count ? &c->inputs[i] : &plain;
    status = make_tensor(input, graph->inputs[i], device, seed, absolute, &out_data->inputs[i]);
  }
  for (int i = 0; i < graph->parameter_count && status == HFB_OK; i++) {
    status = make_tensor(&plain, graph->parameters[i], device, seed, absolute, &out_data->parameters[i]);
  }
  if (status != HFB_OK) op_case_release(out_data);
  return status;
}

void op_case_release(op_case_data *data) {
  for (int i = 0; i < OP_CASE_MAX_INPUTS; i++) {
    hfb_tensor_release(&data->inputs[i]);
    hfb_tensor_release(&data->parameters[i]);
  }
}
