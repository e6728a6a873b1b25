/* Reads the text form of a graph (print.c shows it). The text may come from anybody: every size is bounded by the
 * length of the text before memory is taken, and every node passes the checks of hfb_graph_add.
 *
 * Beyond what print.c writes: values may have any name of letters, digits and '_', and '#' starts a comment. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "ir/element.h"
#include "ir/graph.h"

enum { MAX_WORD_BYTES = 64 };

typedef struct parser {
  char *text; /* a NUL-terminated copy; owned */
  char *at;
  hfb_graph *graph;
  hfb_arena arena;    /* names of values, text attributes */
  hfb_names names;    /* of values, to the index in `values` */
  hfb_value **values; /* by order of definition; owned */
  int value_count, value_capacity;
  hfb_value **inputs; /* of the node being read; owned */
  int input_count, input_capacity;
} parser;

/* One node while it is read. */
typedef struct node_text {
  hfb_op op;
  int attr_count;
  hfb_attr attrs[HFB_ATTR_COUNT];
  uint64_t seen;
  int64_t ints[HFB_ATTR_COUNT][HFB_MAX_RANK]; /* storage of INTS attributes, by key */
  char *data_begin, *data_end;                /* of the list of a DATA attribute, brackets left out */
  int result_count;
  const char *result_names[HFB_MAX_RESULTS];
  hfb_dtype dtypes[HFB_MAX_RESULTS];
  hfb_shape shapes[HFB_MAX_RESULTS];
} node_text;

/* Puts the line that is being read in front of the message of a failure. */
static hfb_status at_line(const parser *p, hfb_status status) {
  if (status == HFB_OK) return status;
  int line = 1;
  for (const char *c = p->text; c < p->at; c++) line += *c == '\n';
  hfb_error_prefix("line %d", line);
  return status;
}

#define PARSE_FAIL(p, ...) at_line((p), HFB_FAIL(HFB_CORRUPT, __VA_ARGS__))

/* ---- words, numbers, texts ---- */

static void skip_space(parser *p) {
  for (;;) {
    while (*p->at && strchr(" \t\r\n", *p->at)) p->at++;
    if (*p->at != '#') return;
    while (*p->at && *p->at != '\n') p->at++;
  }
}

static bool peek(parser *p, char c) {
  skip_space(p);
  return *p->at == c;
}

static bool accept(parser *p, char c) {
  if (!peek(p, c)) return false;
  p->at++;
  return true;
}

static hfb_status expect(parser *p, char c) {
  if (accept(p, c)) return HFB_OK;
  if (!*p->at) return PARSE_FAIL(p, "expected '%c' but the text ends", c);
  return PARSE_FAIL(p, "expected '%c' before '%.20s'", c, p->at);
}

static bool is_word_char(char c) {
  return isalnum((unsigned char)c) || c == '_';
}

static hfb_status read_word(parser *p, const char *what, char out_word[MAX_WORD_BYTES]) {
  skip_space(p);
  size_t length = 0;
  while (is_word_char(p->at[length])) length++;
  if (length == 0) {
    return *p->at ? PARSE_FAIL(p, "expected %s before '%.20s'", what, p->at)
                  : PARSE_FAIL(p, "expected %s but the text ends", what);
  }
  if (length >= MAX_WORD_BYTES) return PARSE_FAIL(p, "%s is longer than %d bytes", what, MAX_WORD_BYTES - 1);
  memcpy(out_word, p->at, length);
  out_word[length] = '\0';
  p->at += length;
  return HFB_OK;
}

static hfb_status read_int(parser *p, int64_t *out_value) {
  skip_space(p);
  char *end;
  errno = 0;
  long long value = strtoll(p->at, &end, 10);
  if (end == p->at) return PARSE_FAIL(p, "expected a whole number before '%.20s'", p->at);
  if (errno == ERANGE) return PARSE_FAIL(p, "the number %.24s does not fit in 64 bits", p->at);
  p->at = end;
  *out_value = value;
  return HFB_OK;
}

static hfb_status read_float(parser *p, double *out_value) {
  skip_space(p);
  char *end;
  double value = strtod(p->at, &end); /* out of range gives an infinity or 0, which is the nearest there is */
  if (end == p->at) return PARSE_FAIL(p, "expected a number before '%.20s'", p->at);
  p->at = end;
  *out_value = value;
  return HFB_OK;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/* The character behind a backslash; moves on behind it. */
static hfb_status read_escape(parser *p, char *out_char) {
  char c = *p->at;
  if (c == '"' || c == '\\') {
    *out_char = c;
    p->at++;
    return HFB_OK;
  }
  int high = c == 'x' ? hex_digit(p->at[1]) : -1;
  int low = high >= 0 ? hex_digit(p->at[2]) : -1;
  if (low < 0 || high * 16 + low == 0) {
    return PARSE_FAIL(p, "\\%.3s is no escape; use \\\", \\\\ or \\x01 to \\xff", p->at);
  }
  *out_char = (char)(high * 16 + low);
  p->at += 3;
  return HFB_OK;
}

/* A quoted text, copied into the parser's arena. */
static hfb_status read_text(parser *p, const char **out_text) {
  HFB_TRY(expect(p, '"'));
  char *text = NULL;
  for (int pass = 0; pass < 2; pass++) { /* measure, then copy: a line may hold many short texts */
    char *begin = p->at;
    size_t length = 0;
    while (*p->at != '"') {
      if (!*p->at || *p->at == '\n') return PARSE_FAIL(p, "a text without a closing '\"'");
      char c = *p->at++;
      if (c == '\\') HFB_TRY(read_escape(p, &c));
      if (text) text[length] = c;
      length++;
    }
    if (pass == 0) {
      text = hfb_arena_alloc(&p->arena, length + 1, 1);
      if (!text) return HFB_OUT_OF_MEMORY;
      p->at = begin;
    }
  }
  p->at++;
  *out_text = text;
  return HFB_OK;
}

/* "[1,2,3]", at most HFB_MAX_RANK values. */
static hfb_status read_ints(parser *p, int64_t out_values[HFB_MAX_RANK], int *out_count) {
  HFB_TRY(expect(p, '['));
  int count = 0;
  while (!accept(p, ']')) {
    if (count > 0) HFB_TRY(expect(p, ','));
    if (count == HFB_MAX_RANK) return PARSE_FAIL(p, "a list of more than %d numbers", HFB_MAX_RANK);
    HFB_TRY(read_int(p, &out_values[count]));
    count++;
  }
  *out_count = count;
  return HFB_OK;
}

static hfb_status read_dtype(parser *p, hfb_dtype *out_dtype) {
  char word[MAX_WORD_BYTES];
  HFB_TRY(read_word(p, "a dtype", word));
  if (!hfb_dtype_parse(word, out_dtype)) return PARSE_FAIL(p, "there is no dtype %s", word);
  return HFB_OK;
}

/* "f32[2,3]" */
static hfb_status read_type(parser *p, hfb_dtype *out_dtype, hfb_shape *out_shape) {
  HFB_TRY(read_dtype(p, out_dtype));
  *out_shape = (hfb_shape){0};
  HFB_TRY(read_ints(p, out_shape->dim, &out_shape->rank));
  return at_line(p, hfb_shape_check(out_shape));
}

/* ---- values ---- */

static hfb_status push_value(hfb_value ***values, int *count, int *capacity, hfb_value *value) {
  if (*count == *capacity) {
    int grown = *capacity ? 2 * *capacity : 64;
    HFB_TRY(hfb_mem_grow(values, (size_t)grown, sizeof(**values)));
    *capacity = grown;
  }
  (*values)[(*count)++] = value;
  return HFB_OK;
}

static hfb_status read_value_name(parser *p, char out_word[MAX_WORD_BYTES]) {
  HFB_TRY(expect(p, '%'));
  if (!is_word_char(*p->at)) return PARSE_FAIL(p, "'%%' without the name of a value");
  return read_word(p, "a value", out_word);
}

static hfb_status read_value(parser *p, hfb_value **out_value) {
  char word[MAX_WORD_BYTES];
  HFB_TRY(read_value_name(p, word));
  int index = hfb_names_find(&p->names, word);
  if (index < 0) return PARSE_FAIL(p, "value %%%s is used before it is defined", word);
  *out_value = p->values[index];
  return HFB_OK;
}

static hfb_status define_value(parser *p, const char *name, hfb_value *value) {
  HFB_TRY(hfb_names_reserve(&p->names, &p->arena));
  HFB_TRY(push_value(&p->values, &p->value_count, &p->value_capacity, value));
  hfb_names_add(&p->names, name, p->value_count - 1);
  return HFB_OK;
}

/* ---- attributes ---- */

static const char *op_name_at(void *context, size_t index) {
  (void)context;
  return hfb_op_info_of((hfb_op)index)->name;
}

static const char *attr_name_at(void *context, size_t index) {
  (void)context;
  return hfb_attr_name((hfb_attr_key)index);
}

static hfb_status fail_unknown(parser *p, const char *what, const char *word, hfb_str_name_fn name_at, size_t count) {
  size_t nearest;
  if (hfb_str_nearest(word, name_at, NULL, count, 1, &nearest) > 0) {
    return PARSE_FAIL(p, "there is no %s \"%s\"; did you mean \"%s\"?", what, word, name_at(NULL, nearest));
  }
  return PARSE_FAIL(p, "there is no %s \"%s\"", what, word);
}

/* The list is kept as text: its elements are read once the type is known. */
static hfb_status skip_data(parser *p, node_text *node) {
  HFB_TRY(expect(p, '['));
  node->data_begin = p->at;
  p->at += strcspn(p->at, "]");
  node->data_end = p->at;
  return expect(p, ']');
}

static hfb_status read_attr_value(parser *p, node_text *node, hfb_attr *attr) {
  switch (hfb_attr_kind_of(attr->key)) {
    case HFB_ATTR_KIND_INT: return read_int(p, &attr->u.i);
    case HFB_ATTR_KIND_FLOAT: return read_float(p, &attr->u.f);
    case HFB_ATTR_KIND_INTS:
      attr->u.ints.values = node->ints[attr->key];
      return read_ints(p, node->ints[attr->key], &attr->u.ints.count);
    case HFB_ATTR_KIND_DTYPE: return read_dtype(p, &attr->u.dtype);
    case HFB_ATTR_KIND_TEXT: return read_text(p, &attr->u.text);
    case HFB_ATTR_KIND_DATA: return skip_data(p, node);
  }
  return HFB_OK;
}

static hfb_status read_attr(parser *p, node_text *node) {
  char word[MAX_WORD_BYTES];
  hfb_attr attr = {0};
  HFB_TRY(read_word(p, "an attribute", word));
  if (!hfb_attr_parse(word, &attr.key)) return fail_unknown(p, "attribute", word, attr_name_at, HFB_ATTR_COUNT);
  if (attr.key == HFB_ATTR_SHAPE || attr.key == HFB_ATTR_DTYPE) {
    return PARSE_FAIL(p, "attribute %s is given by the result type and must not be written", word);
  }
  uint64_t bit = UINT64_C(1) << attr.key;
  if (node->seen & bit) return PARSE_FAIL(p, "attribute %s is given twice", word);
  node->seen |= bit;
  HFB_TRY(expect(p, '='));
  HFB_TRY(read_attr_value(p, node, &attr));
  node->attrs[node->attr_count++] = attr;
  return HFB_OK;
}

/* "(%0, %1; axis=1)", "(name="x")" or "()" */
static hfb_status read_arguments(parser *p, node_text *node) {
  HFB_TRY(expect(p, '('));
  p->input_count = 0;
  bool attrs_follow = !peek(p, '%') && !peek(p, ')');
  while (peek(p, '%')) {
    hfb_value *value;
    HFB_TRY(read_value(p, &value));
    HFB_TRY(push_value(&p->inputs, &p->input_count, &p->input_capacity, value));
    if (accept(p, ',')) {
      if (!peek(p, '%')) return PARSE_FAIL(p, "expected a value before '%.20s' (attributes follow ';')", p->at);
      continue;
    }
    attrs_follow = accept(p, ';');
    break;
  }
  while (attrs_follow) {
    HFB_TRY(read_attr(p, node));
    attrs_follow = accept(p, ',');
  }
  return expect(p, ')');
}

/* ---- constants ---- */

static hfb_status read_element(parser *p, hfb_dtype dtype, void *data, int64_t index) {
  if (hfb_dtype_is_float(dtype)) {
    double value;
    HFB_TRY(read_float(p, &value));
    hfb_element_set_float(dtype, data, index, value);
    return HFB_OK;
  }
  int64_t value;
  HFB_TRY(read_int(p, &value));
  if (hfb_element_set_int(dtype, data, index, value)) return HFB_OK;
  return PARSE_FAIL(p, "element %" PRId64 " is %" PRId64 ", which does not fit in %s", index, value,
                    hfb_dtype_name(dtype));
}

/* Reads the list that skip_data passed over; *out_data is owned by the caller. */
static hfb_status read_elements(parser *p, const node_text *node, void **out_data) {
  int64_t count = hfb_shape_elements(&node->shapes[0]);
  hfb_dtype dtype = node->dtypes[0];
  if (count > node->data_end - node->data_begin) { /* an element takes a character at least */
    return PARSE_FAIL(p, "data has fewer elements than the %" PRId64 " of its type", count);
  }
  void *data;
  HFB_TRY(hfb_mem_alloc((size_t)count, hfb_dtype_bytes(dtype), &data));
  *out_data = data;
  p->at = node->data_begin;
  for (int64_t i = 0; i < count; i++) {
    if (i > 0) HFB_TRY(expect(p, ','));
    HFB_TRY(read_element(p, dtype, data, i));
  }
  skip_space(p);
  if (p->at != node->data_end) {
    return PARSE_FAIL(p, "data goes on after the %" PRId64 " elements of its type: '%.20s'", count, p->at);
  }
  return HFB_OK;
}

/* ---- nodes ---- */

static hfb_status check_types(parser *p, const node_text *text, const hfb_node *node) {
  for (int i = 0; i < node->result_count; i++) {
    const hfb_value *result = &node->results[i];
    if (result->dtype == text->dtypes[i] && hfb_shape_equal(&result->shape, &text->shapes[i])) continue;
    char have[HFB_SHAPE_TEXT_BYTES], want[HFB_SHAPE_TEXT_BYTES];
    return PARSE_FAIL(p, "result %%%s of %s is %s%s, not %s%s", text->result_names[i], hfb_op_info_of(node->op)->name,
                      hfb_dtype_name(result->dtype), hfb_shape_print(&result->shape, have, sizeof(have)),
                      hfb_dtype_name(text->dtypes[i]), hfb_shape_print(&text->shapes[i], want, sizeof(want)));
  }
  return HFB_OK;
}

static void add_type_attrs(node_text *node) {
  uint64_t wanted = hfb_op_info_of(node->op)->attributes;
  if (wanted >> HFB_ATTR_SHAPE & 1) {
    node->attrs[node->attr_count++] =
        (hfb_attr){.key = HFB_ATTR_SHAPE, .u.ints = {node->shapes[0].rank, node->shapes[0].dim}};
  }
  if (wanted >> HFB_ATTR_DTYPE & 1) {
    node->attrs[node->attr_count++] = (hfb_attr){.key = HFB_ATTR_DTYPE, .u.dtype = node->dtypes[0]};
  }
}

/* Adds the node that was read, with `data` as its elements if it has any. */
static hfb_status add_node(parser *p, node_text *text, const void *data) {
  for (int i = 0; i < text->attr_count; i++) {
    if (text->attrs[i].key == HFB_ATTR_DATA) text->attrs[i].u.data = data;
  }
  add_type_attrs(text);
  hfb_node *node;
  HFB_TRY(
      at_line(p, hfb_graph_add(p->graph, text->op, p->input_count, p->inputs, text->attr_count, text->attrs, &node)));
  HFB_TRY(check_types(p, text, node));
  for (int i = 0; i < node->result_count; i++) HFB_TRY(define_value(p, text->result_names[i], &node->results[i]));
  return HFB_OK;
}

/* "%0, %1" in front of '='. */
static hfb_status read_result_names(parser *p, node_text *node) {
  do {
    char word[MAX_WORD_BYTES];
    if (node->result_count == HFB_MAX_RESULTS) return PARSE_FAIL(p, "more than %d results", HFB_MAX_RESULTS);
    HFB_TRY(read_value_name(p, word));
    bool defined = hfb_names_find(&p->names, word) >= 0;
    for (int i = 0; i < node->result_count; i++) defined |= strcmp(node->result_names[i], word) == 0;
    if (defined) return PARSE_FAIL(p, "value %%%s is defined twice", word);
    const char *copy = hfb_arena_strdup(&p->arena, word);
    if (!copy) return HFB_OUT_OF_MEMORY;
    node->result_names[node->result_count++] = copy;
  } while (accept(p, ','));
  return expect(p, '=');
}

static hfb_status read_node(parser *p) {
  node_text node = {0};
  HFB_TRY(read_result_names(p, &node));
  char word[MAX_WORD_BYTES];
  HFB_TRY(read_word(p, "an op", word));
  if (!hfb_op_parse(word, &node.op)) return fail_unknown(p, "op", word, op_name_at, HFB_OP_COUNT);
  const hfb_op_info *info = hfb_op_info_of(node.op);
  if (node.result_count != info->result_count) {
    return PARSE_FAIL(p, "%s has %d results, not %d", word, info->result_count, node.result_count);
  }
  HFB_TRY(read_arguments(p, &node));
  HFB_TRY(expect(p, ':'));
  for (int i = 0; i < node.result_count; i++) {
    if (i > 0) HFB_TRY(expect(p, ','));
    HFB_TRY(read_type(p, &node.dtypes[i], &node.shapes[i]));
  }
  char *behind = p->at;
  void *data = NULL;
  hfb_status status = node.data_begin ? read_elements(p, &node, &data) : HFB_OK;
  if (status == HFB_OK) {
    p->at = behind;
    status = add_node(p, &node, data);
  }
  hfb_mem_free(data);
  return status;
}

static hfb_status read_output(parser *p) {
  const char *name;
  hfb_value *value;
  HFB_TRY(read_text(p, &name));
  HFB_TRY(expect(p, '='));
  HFB_TRY(read_value(p, &value));
  return at_line(p, hfb_graph_add_output(p->graph, name, value));
}

static hfb_status read_update(parser *p) {
  hfb_value *parameter, *value;
  HFB_TRY(read_value(p, &parameter));
  HFB_TRY(expect(p, '='));
  HFB_TRY(read_value(p, &value));
  return at_line(p, hfb_graph_add_update(p->graph, parameter, value));
}

/* "output "name" = %2" or "update %1 = %2" */
static hfb_status read_result(parser *p) {
  char word[MAX_WORD_BYTES];
  HFB_TRY(read_word(p, "output", word));
  if (strcmp(word, "output") == 0) return read_output(p);
  if (strcmp(word, "update") == 0) return read_update(p);
  return PARSE_FAIL(p, "expected output or update, not %s", word);
}

static hfb_status read_keyword(parser *p, const char *keyword) {
  char word[MAX_WORD_BYTES];
  HFB_TRY(read_word(p, keyword, word));
  if (strcmp(word, keyword) != 0) return PARSE_FAIL(p, "expected %s, not %s", keyword, word);
  return HFB_OK;
}

static hfb_status read_graph(parser *p) {
  const char *name;
  HFB_TRY(read_keyword(p, "graph"));
  HFB_TRY(read_text(p, &name));
  HFB_TRY(hfb_graph_create(name, &p->graph));
  HFB_TRY(expect(p, '{'));
  while (!accept(p, '}')) {
    if (peek(p, '%')) {
      HFB_TRY(read_node(p));
    } else {
      HFB_TRY(read_result(p));
    }
  }
  skip_space(p);
  if (*p->at) return PARSE_FAIL(p, "text behind the closing '}': '%.20s'", p->at);
  return HFB_OK;
}

static hfb_status parse_copy(parser *p, const char *text, size_t bytes) {
  if (bytes >= INT_MAX) return HFB_FAIL(HFB_CORRUPT, "a graph of %zu bytes; the limit is 2 GiB", bytes);
  HFB_TRY(hfb_mem_alloc(bytes + 1, 1, &p->text));
  if (bytes > 0) memcpy(p->text, text, bytes);
  p->at = p->text;
  size_t length = strlen(p->text);
  if (length < bytes) {
    p->at += length;
    return PARSE_FAIL(p, "a NUL byte; a graph is text");
  }
  return read_graph(p);
}

hfb_status hfb_graph_parse(const char *text, size_t bytes, hfb_graph **out_graph) {
  parser p = {0};
  hfb_arena_init(&p.arena);
  hfb_status status = parse_copy(&p, text, bytes);
  if (status == HFB_OK) {
    *out_graph = p.graph;
    p.graph = NULL;
  }
  hfb_graph_destroy(p.graph);
  hfb_mem_free(p.values);
  hfb_mem_free(p.inputs);
  hfb_mem_free(p.text);
  hfb_arena_deinit(&p.arena);
  return status;
}
