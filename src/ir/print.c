/* The text form of a graph; parse.c reads it.
 *
 *   graph "tiny" {
 *     %0 = input(name="ids") : i64[4,512]
 *     %1 = parameter(name="table", init=1, ...) : f32[100,8]
 *     %2 = embedding(%1, %0; padding_idx=-1, scope="model") : f32[4,512,8]
 *     output "hidden" = %2
 *     update %1 = %7
 *   }
 *
 * SHAPE and DTYPE attributes are those of the result by definition, so the type behind the colon carries them. */
#include <inttypes.h>
#include <math.h>

#include "ir/element.h"
#include "ir/graph.h"

static void print_text(hfb_strbuf *out, const char *text) {
  hfb_strbuf_append(out, "\"");
  for (const char *at = text; *at; at++) {
    unsigned char c = (unsigned char)*at;
    if (c == '"' || c == '\\') {
      hfb_strbuf_printf(out, "\\%c", c);
    } else if (c < 0x20 || c == 0x7f) {
      hfb_strbuf_printf(out, "\\x%02x", c);
    } else {
      hfb_strbuf_append_bytes(out, at, 1);
    }
  }
  hfb_strbuf_append(out, "\"");
}

/* `digits` significant ones: 17 bring every double back, 9 every float. */
static void print_float(hfb_strbuf *out, double value, int digits) {
  if (isnan(value)) {
    hfb_strbuf_append(out, "nan"); /* printf may write "-nan" */
  } else {
    hfb_strbuf_printf(out, "%.*g", digits, value);
  }
}

static void print_ints(hfb_strbuf *out, int count, const int64_t *values) {
  hfb_strbuf_append(out, "[");
  for (int i = 0; i < count; i++) hfb_strbuf_printf(out, i ? ",%" PRId64 : "%" PRId64, values[i]);
  hfb_strbuf_append(out, "]");
}

static void print_data(hfb_strbuf *out, const hfb_value *result, const void *data) {
  int64_t count = hfb_shape_elements(&result->shape);
  bool is_float = hfb_dtype_is_float(result->dtype);
  int digits = result->dtype == HFB_F64 ? 17 : 9;
  hfb_strbuf_append(out, "[");
  for (int64_t i = 0; i < count && out->status == HFB_OK; i++) {
    if (i > 0) hfb_strbuf_append(out, ",");
    if (is_float) {
      print_float(out, hfb_element_float(result->dtype, data, i), digits);
    } else {
      hfb_strbuf_printf(out, "%" PRId64, hfb_element_int(result->dtype, data, i));
    }
  }
  hfb_strbuf_append(out, "]");
}

static void print_attr(hfb_strbuf *out, const hfb_node *node, const hfb_attr *attr) {
  hfb_strbuf_printf(out, "%s=", hfb_attr_name(attr->key));
  switch (hfb_attr_kind_of(attr->key)) {
    case HFB_ATTR_KIND_INT: hfb_strbuf_printf(out, "%" PRId64, attr->u.i); break;
    case HFB_ATTR_KIND_FLOAT: print_float(out, attr->u.f, 17); break;
    case HFB_ATTR_KIND_INTS: print_ints(out, attr->u.ints.count, attr->u.ints.values); break;
    case HFB_ATTR_KIND_DTYPE: hfb_strbuf_append(out, hfb_dtype_name(attr->u.dtype)); break;
    case HFB_ATTR_KIND_TEXT: print_text(out, attr->u.text); break;
    case HFB_ATTR_KIND_DATA: print_data(out, &node->results[0], attr->u.data); break;
  }
}

static void print_node(hfb_strbuf *out, const hfb_node *node) {
  hfb_strbuf_append(out, "  ");
  for (int i = 0; i < node->result_count; i++) hfb_strbuf_printf(out, i ? ", %%%d" : "%%%d", node->results[i].id);
  hfb_strbuf_printf(out, " = %s(", hfb_op_info_of(node->op)->name);
  for (int i = 0; i < node->input_count; i++) hfb_strbuf_printf(out, i ? ", %%%d" : "%%%d", node->inputs[i]->id);
  bool first = true;
  for (int i = 0; i < node->attr_count; i++) {
    hfb_attr_key key = node->attrs[i].key;
    if (key == HFB_ATTR_SHAPE || key == HFB_ATTR_DTYPE) continue;
    hfb_strbuf_append(out, !first ? ", " : node->input_count > 0 ? "; " : "");
    print_attr(out, node, &node->attrs[i]);
    first = false;
  }
  hfb_strbuf_append(out, ") : ");
  for (int i = 0; i < node->result_count; i++) {
    const hfb_value *result = &node->results[i];
    hfb_strbuf_printf(out, i ? ", %s" : "%s", hfb_dtype_name(result->dtype));
    print_ints(out, result->shape.rank, result->shape.dim);
  }
  hfb_strbuf_append(out, "\n");
}

hfb_status hfb_graph_print(const hfb_graph *graph, hfb_strbuf *out_text) {
  hfb_strbuf_append(out_text, "graph ");
  print_text(out_text, graph->name);
  hfb_strbuf_append(out_text, " {\n");
  for (int i = 0; i < graph->node_count; i++) print_node(out_text, graph->nodes[i]);
  for (int i = 0; i < graph->output_count; i++) {
    hfb_strbuf_append(out_text, "  output ");
    print_text(out_text, graph->outputs[i].name);
    hfb_strbuf_printf(out_text, " = %%%d\n", graph->outputs[i].value->id);
  }
  for (int i = 0; i < graph->update_count; i++) {
    hfb_strbuf_printf(out_text, "  update %%%d = %%%d\n", graph->updates[i].parameter->id, graph->updates[i].value->id);
  }
  hfb_strbuf_append(out_text, "}\n");
  return hfb_strbuf_status(out_text);
}
