#include <string.h>

#include "ir/graph.h"
#include "ir/shape.h"

#define A(key) (UINT64_C(1) << HFB_ATTR_##key)

static const hfb_op_info ops[HFB_OP_COUNT] = {
#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, gradient, expression, \
               tolerance)                                                                                         \
  [HFB_OP_##id] = {name,  HFB_LEVEL_##level, HFB_CLASS_##op_class, min_in, max_in, results,                        \
                   attrs, expression,        HFB_TOL_##tolerance},
#include "ir/ops.def"
#undef HFB_OP
};

#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, gradient, expression, \
               tolerance)                                                                                         \
  _Static_assert((results) >= 1 && (results) <= HFB_MAX_RESULTS, "ops.def: result count of " name);
#include "ir/ops.def"
#undef HFB_OP

typedef struct attr_info {
  const char *name;
  hfb_attr_kind kind;
} attr_info;

static const attr_info attrs[HFB_ATTR_COUNT] = {
#define HFB_ATTR(id, name, kind) [HFB_ATTR_##id] = {name, HFB_ATTR_KIND_##kind},
#include "ir/attrs.def"
#undef HFB_ATTR
};

_Static_assert(HFB_ATTR_COUNT <= 64, "attributes of an op are a 64-bit mask");

const hfb_op_info *hfb_op_info_of(hfb_op op) {
  return &ops[op];
}

bool hfb_op_parse(const char *name, hfb_op *out_op) {
  for (int i = 0; i < HFB_OP_COUNT; i++) {
    if (strcmp(name, ops[i].name) == 0) {
      *out_op = (hfb_op)i;
      return true;
    }
  }
  return false;
}

const char *hfb_attr_name(hfb_attr_key key) {
  return (unsigned)key < HFB_ATTR_COUNT ? attrs[key].name : "unknown_attribute";
}

hfb_attr_kind hfb_attr_kind_of(hfb_attr_key key) {
  return attrs[key].kind;
}

bool hfb_attr_parse(const char *name, hfb_attr_key *out_key) {
  for (int i = 0; i < HFB_ATTR_COUNT; i++) {
    if (strcmp(name, attrs[i].name) == 0) {
      *out_key = (hfb_attr_key)i;
      return true;
    }
  }
  return false;
}

static hfb_status check_attr(const hfb_attr *attr) {
  const char *name = attrs[attr->key].name;
  switch (attrs[attr->key].kind) {
    case HFB_ATTR_KIND_INTS:
      if (attr->u.ints.count < 0 || attr->u.ints.count > HFB_MAX_RANK ||
          (attr->u.ints.count > 0 && !attr->u.ints.values)) {
        return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s has %d values; at most %d are allowed", name,
                        attr->u.ints.count, HFB_MAX_RANK);
      }
      break;
    case HFB_ATTR_KIND_DTYPE:
      if ((unsigned)attr->u.dtype >= HFB_DTYPE_COUNT) {
        return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s is %d, which is no dtype", name, (int)attr->u.dtype);
      }
      break;
    case HFB_ATTR_KIND_TEXT:
      if (!attr->u.text) return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s has no text", name);
      if (attr->key == HFB_ATTR_SCOPE && strlen(attr->u.text) >= HFB_SCOPE_BYTES) {
        return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s is longer than %d bytes", name, HFB_SCOPE_BYTES - 1);
      }
      if (attr->key == HFB_ATTR_NAME && !attr->u.text[0]) {
        return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s is empty", name);
      }
      break;
    case HFB_ATTR_KIND_INT:
    case HFB_ATTR_KIND_FLOAT:
    case HFB_ATTR_KIND_DATA: /* how many bytes it needs is known to the shape rule */ break;
  }
  return HFB_OK;
}

static hfb_status fail_arity(int given, const hfb_op_info *info) {
  if (info->max_inputs < 0) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%d inputs given; it takes at least %d", given, info->min_inputs);
  }
  if (info->max_inputs > info->min_inputs) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%d inputs given; it takes %d to %d", given, info->min_inputs,
                    info->max_inputs);
  }
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "%d inputs given; it takes %d", given, info->min_inputs);
}

hfb_status hfb_node_check(const hfb_node *node) {
  if ((unsigned)node->op >= HFB_OP_COUNT) return HFB_FAIL(HFB_INVALID_ARGUMENT, "there is no op %d", (int)node->op);
  const hfb_op_info *info = &ops[node->op];
  if (node->input_count < info->min_inputs || (info->max_inputs >= 0 && node->input_count > info->max_inputs)) {
    return fail_arity(node->input_count, info);
  }
  for (int i = 0; i < node->input_count; i++) {
    if (!node->inputs[i]) return HFB_FAIL(HFB_INVALID_ARGUMENT, "input %d is missing", i);
  }
  if (node->result_count != info->result_count) {
    return HFB_FAIL(HFB_INTERNAL, "%d results; the op table has %d", node->result_count, info->result_count);
  }
  uint64_t seen = 0;
  for (int i = 0; i < node->attr_count; i++) {
    const hfb_attr *attr = &node->attrs[i];
    if ((unsigned)attr->key >= HFB_ATTR_COUNT) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "there is no attribute %d", (int)attr->key);
    }
    uint64_t bit = UINT64_C(1) << attr->key;
    if (seen & bit) return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s is given twice", attrs[attr->key].name);
    if (!(bit & (info->attributes | A(SCOPE) | A(REGION)))) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "it has no attribute %s", attrs[attr->key].name);
    }
    HFB_TRY(check_attr(attr));
    seen |= bit;
  }
  uint64_t missing = info->attributes & ~seen;
  if (missing) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "attribute %s is missing", attrs[__builtin_ctzll(missing)].name);
  }
  return HFB_OK;
}
