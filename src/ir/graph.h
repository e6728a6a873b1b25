/* The graph: SSA values in one arena.
 *
 * A node has an op (ops.def), inputs, attributes and one or more results; each result is a value with a dtype and a
 * static shape. Nodes stand in topological order. Everything a graph points to lives in its arena: passes build a new
 * graph instead of editing an old one. A graph is immutable once built and may then be read from many threads. */
#ifndef HFB_IR_GRAPH_H
#define HFB_IR_GRAPH_H

#include "base/memory.h"
#include "base/strbuf.h"
#include "ir/dtype.h"
#include "ir/names.h"

typedef enum hfb_op {
#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, gradient, expression, \
               tolerance)                                                                                         \
  HFB_OP_##id,
#include "ir/ops.def"
#undef HFB_OP
  HFB_OP_COUNT
} hfb_op;

typedef enum hfb_op_level { HFB_LEVEL_FRAMEWORK, HFB_LEVEL_PRIMITIVE, HFB_LEVEL_BOTH } hfb_op_level;

typedef enum hfb_op_class {
  HFB_CLASS_SOURCE,
  HFB_CLASS_ELEMENTWISE,
  HFB_CLASS_REDUCE,
  HFB_CLASS_CONTRACT,
  HFB_CLASS_MOVE,
  HFB_CLASS_GATHER,
  HFB_CLASS_COMPOSITE
} hfb_op_class;

typedef enum hfb_tolerance { HFB_TOL_EXACT, HFB_TOL_ROUND, HFB_TOL_FUNCTION, HFB_TOL_REDUCE } hfb_tolerance;

typedef enum hfb_attr_key {
#define HFB_ATTR(id, name, kind) HFB_ATTR_##id,
#include "ir/attrs.def"
#undef HFB_ATTR
  HFB_ATTR_COUNT
} hfb_attr_key;

typedef enum hfb_attr_kind {
  HFB_ATTR_KIND_INT,
  HFB_ATTR_KIND_FLOAT,
  HFB_ATTR_KIND_INTS,
  HFB_ATTR_KIND_DTYPE,
  HFB_ATTR_KIND_TEXT,
  HFB_ATTR_KIND_DATA
} hfb_attr_kind;

typedef struct hfb_attr {
  hfb_attr_key key;
  union {
    int64_t i;
    double f;
    struct {
      int count;
      const int64_t *values;
    } ints;
    hfb_dtype dtype;
    const char *text;
    const void *data; /* as many bytes as the result of the constant has */
  } u;
} hfb_attr;

/* How a parameter gets its first values (hfb_attr INIT with INIT_A, INIT_B). Row PADDING_IDX (if >= 0) is zeroed. */
typedef enum hfb_init_kind {
  HFB_INIT_CONSTANT,        /* a */
  HFB_INIT_NORMAL,          /* mean a, standard deviation b */
  HFB_INIT_UNIFORM,         /* [a, b) */
  HFB_INIT_TRUNC_NORMAL,    /* mean a, deviation b, cut at two deviations */
  HFB_INIT_SINUSOID_HALVES, /* Marian, Pegasus: sin half then cos half, angle pos / 10000^(2(j/2)/D) */
  HFB_INIT_SINUSOID_FAIRSEQ, /* the same with angle pos / 10000^(j/(D/2-1)), D even: Speech2Text2 */
  HFB_INIT_RANDOM_STATE,    /* i64[2]: the seed of the run, and 0 steps done */
  HFB_INIT_COUNT
} hfb_init_kind;

typedef struct hfb_op_info {
  const char *name; /* as in the text form */
  hfb_op_level level;
  hfb_op_class op_class;
  int min_inputs, max_inputs; /* max -1: any number */
  int result_count;
  uint64_t attributes; /* bit 1 << hfb_attr_key: must be present */
  const char *expression;
  hfb_tolerance tolerance;
} hfb_op_info;

enum {
  HFB_MAX_RESULTS = 4,   /* of one node */
  HFB_SCOPE_BYTES = 256, /* of a SCOPE attribute, NUL included */
};

const hfb_op_info *hfb_op_info_of(hfb_op op);
bool hfb_op_parse(const char *name, hfb_op *out_op);
const char *hfb_attr_name(hfb_attr_key key);
hfb_attr_kind hfb_attr_kind_of(hfb_attr_key key);
bool hfb_attr_parse(const char *name, hfb_attr_key *out_key);

typedef struct hfb_node hfb_node;

typedef struct hfb_value {
  hfb_node *node; /* the producer */
  int result;     /* which result of it */
  int id;         /* dense, unique in the graph: index for side tables */
  hfb_dtype dtype;
  hfb_shape shape;
} hfb_value;

struct hfb_node {
  hfb_op op;
  int id; /* position in graph->nodes */
  int input_count, result_count, attr_count;
  hfb_value **inputs;
  hfb_value *results; /* array of result_count */
  hfb_attr *attrs; /* by ascending key */
};

typedef struct hfb_output {
  const char *name;
  hfb_value *value;
} hfb_output;

/* What a run leaves behind: afterwards the tensor bound to `parameter` holds `value`. Every read of the parameter in
 * the graph sees what it held before. */
typedef struct hfb_update {
  hfb_value *parameter, *value;
} hfb_update;

typedef struct hfb_graph {
  hfb_arena arena;
  const char *name;
  hfb_node **nodes;
  int node_count, node_capacity;
  int value_count;
  hfb_value **inputs; /* in order of creation */
  int input_count, input_capacity;
  hfb_value **parameters; /* in order of creation: the order of every binding array */
  int parameter_count, parameter_capacity;
  hfb_output *outputs; /* in the order of the model's outputs; the first is the loss where the model has one */
  int output_count, output_capacity;
  hfb_update *updates; /* at most one for each parameter */
  int update_count, update_capacity;
  hfb_names input_names, parameter_names, output_names; /* to the index in the arrays above */
} hfb_graph;

hfb_status hfb_graph_create(const char *name, hfb_graph **out_graph) HFB_MUST_USE;
void hfb_graph_destroy(hfb_graph *graph); /* NULL is allowed */

/* Appends a node after checking it against the op table and inferring its results. `attrs` and what they point to are
 * copied. On failure the graph is unchanged and the message names op, inputs and reason. */
hfb_status hfb_graph_add(hfb_graph *graph, hfb_op op, int input_count, hfb_value *const *inputs, int attr_count,
                         const hfb_attr *attrs, hfb_node **out_node) HFB_MUST_USE;

/* Names must be unique among outputs. The same value may be output under several names. */
hfb_status hfb_graph_add_output(hfb_graph *graph, const char *name, hfb_value *value) HFB_MUST_USE;

/* The value must have the parameter's type; a parameter is updated once. */
hfb_status hfb_graph_add_update(hfb_graph *graph, hfb_value *parameter, hfb_value *value) HFB_MUST_USE;

/* Index of a name in inputs, parameters or outputs; -1 when there is none. */
int hfb_graph_find_input(const hfb_graph *graph, const char *name);
int hfb_graph_find_parameter(const hfb_graph *graph, const char *name);
int hfb_graph_find_output(const hfb_graph *graph, const char *name);

/* Of all elements, without gaps. */
int64_t hfb_value_bytes(const hfb_value *value);

/* Attribute access. The attribute must be present (assert) unless a fallback is given. */
const hfb_attr *hfb_node_attr(const hfb_node *node, hfb_attr_key key); /* NULL when absent */
int64_t hfb_node_int(const hfb_node *node, hfb_attr_key key);
double hfb_node_float(const hfb_node *node, hfb_attr_key key);
const int64_t *hfb_node_ints(const hfb_node *node, hfb_attr_key key, int *out_count);
const char *hfb_node_text(const hfb_node *node, hfb_attr_key key, const char *fallback);

/* Checks every invariant above: order, ids, attributes, inferred shapes, unique names, outputs. */
hfb_status hfb_graph_verify(const hfb_graph *graph) HFB_MUST_USE;

/* Text form; hfb_graph_parse(hfb_graph_print(g)) is g. Constants print all their elements. */
hfb_status hfb_graph_print(const hfb_graph *graph, hfb_strbuf *out_text) HFB_MUST_USE;
hfb_status hfb_graph_parse(const char *text, size_t bytes, hfb_graph **out_graph) HFB_MUST_USE;

/* Use counts of values, by value id; outputs and updates count as uses. Owned: hfb_mem_free. */
hfb_status hfb_graph_use_counts(const hfb_graph *graph, int **out_counts) HFB_MUST_USE;

#endif
