/* What the tests of the graph share: the table of cases and graphs made from text. */
#ifndef HFB_TEST_IR_SUPPORT_H
#define HFB_TEST_IR_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ir/builder.h"
#include "ir/graph.h"
#include "ir/shape.h"
#include "ir/transform.h"

typedef struct ir_case {
  hfb_op op;
  const char *inputs, *attrs, *result;
  const char *message; /* NULL: the op is accepted */
} ir_case;

static const ir_case ir_cases[] = {
#define GOOD(op, inputs, attrs, result)         {HFB_OP_##op, inputs, attrs, result, NULL},
#define BAD(op, inputs, attrs, result, message) {HFB_OP_##op, inputs, attrs, result, message},
#include "test_ir_cases.def"
#undef GOOD
#undef BAD
};

enum { IR_CASE_COUNT = sizeof(ir_cases) / sizeof(ir_cases[0]) };

/* The text of a graph with one op: an input for each type in `c->inputs`, the op, its results as outputs "out", "out1",
 * ... */
static inline void ir_case_text(const ir_case *c, hfb_strbuf *out) {
  hfb_strbuf_printf(out, "graph \"case\" {\n");
  char types[256], *rest = types, *type;
  snprintf(types, sizeof(types), "%s", c->inputs);
  int count = 0, results = 1;
  while ((type = strtok_r(rest, " ", &rest))) {
    hfb_strbuf_printf(out, "  %%%d = input(name=\"in%d\") : %s\n", count, count, type);
    count++;
  }
  for (const char *at = c->result; *at; at++) results += *at == ' ';
  for (int i = 0; i < results; i++) hfb_strbuf_printf(out, i ? ", %%%d" : "  %%%d", count + i);
  hfb_strbuf_printf(out, " = %s(", hfb_op_info_of(c->op)->name);
  for (int i = 0; i < count; i++) hfb_strbuf_printf(out, i ? ", %%%d" : "%%%d", i);
  hfb_strbuf_printf(out, "%s%s) : ", count > 0 && c->attrs[0] ? "; " : "", c->attrs);
  for (const char *at = c->result; *at; at++) hfb_strbuf_printf(out, *at == ' ' ? ", " : "%c", *at);
  hfb_strbuf_printf(out, "\n  output \"out\" = %%%d\n", count);
  for (int i = 1; i < results; i++) hfb_strbuf_printf(out, "  output \"out%d\" = %%%d\n", i, count + i);
  hfb_strbuf_printf(out, "}\n");
  assert_int_equal(hfb_strbuf_status(out), HFB_OK);
}

/* Parses a text that must be good. */
static inline hfb_graph *ir_parse(const char *text) {
  hfb_graph *graph = NULL;
  hfb_status status = hfb_graph_parse(text, strlen(text), &graph);
  if (status != HFB_OK) fail_msg("%s\nin\n%s", hfb_error_message(), text);
  return graph;
}

static inline hfb_graph *ir_case_graph(const ir_case *c) {
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  ir_case_text(c, &text);
  hfb_graph *graph = ir_parse(hfb_strbuf_text(&text));
  hfb_strbuf_deinit(&text);
  return graph;
}

/* The graph prints as `expected`. */
static inline void ir_assert_prints(const hfb_graph *graph, const char *expected) {
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  assert_int_equal(hfb_graph_print(graph, &text), HFB_OK);
  assert_string_equal(hfb_strbuf_text(&text), expected);
  hfb_strbuf_deinit(&text);
}

/* The thread's last message holds `part`. */
static inline void ir_assert_message(const char *part) {
  if (!strstr(hfb_error_message(), part)) {
    fail_msg("the message is\n  %s\nwithout\n  %s", hfb_error_message(), part);
  }
}

#endif
