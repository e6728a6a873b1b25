/* For the rules of shape.c and shape_move.c: what they share, and each of them by its name in column `infer`. Failures
 * say what is wrong with which input; hfb_node_infer puts op, scope and types in front. */
#ifndef HFB_IR_SHAPE_RULES_H
#define HFB_IR_SHAPE_RULES_H

#include "ir/shape.h"

#define HFB_OP(id, name, level, op_class, min_in, max_in, results, attrs, infer, decompose, gradient, expression, \
               tolerance)                                                                                         \
  hfb_status hfb_infer_##infer(hfb_node *node) HFB_MUST_USE;
#include "ir/ops.def"
#undef HFB_OP

/* "[4,8]", for messages; print_type: "f32[4,8]". */
typedef struct hfb_type_text {
  char text[16 + HFB_SHAPE_TEXT_BYTES];
} hfb_type_text;
const char *hfb_rule_print_shape(const hfb_shape *shape, hfb_type_text *out_text);
const char *hfb_rule_print_type(const hfb_value *value, hfb_type_text *out_text);

/* Sets result 0. */
void hfb_rule_set_result(hfb_node *node, hfb_dtype dtype, hfb_shape shape);

hfb_status hfb_rule_need_float(const hfb_node *node, int input) HFB_MUST_USE;
hfb_status hfb_rule_need_number(const hfb_node *node, int input) HFB_MUST_USE; /* not bool */
hfb_status hfb_rule_need_dtype(const hfb_node *node, int input, hfb_dtype wanted) HFB_MUST_USE;
/* Inputs first..last have one dtype: nothing is promoted. */
hfb_status hfb_rule_need_equal_dtypes(const hfb_node *node, int first, int last) HFB_MUST_USE;
hfb_status hfb_rule_need_rank(const hfb_node *node, int input, int rank) HFB_MUST_USE;
hfb_status hfb_rule_need_rank_at_least(const hfb_node *node, int input, int rank) HFB_MUST_USE;

/* Attributes: a flag is 0 or 1, AXIS lies in [0, rank), read_per_dim has one value for each of `rank` dimensions,
 * VALUE can be represented in `dtype` (integers take whole numbers in range, bool takes 0 and 1). */
hfb_status hfb_rule_read_flag(const hfb_node *node, hfb_attr_key key, bool *out_flag) HFB_MUST_USE;
hfb_status hfb_rule_read_axis(const hfb_node *node, int rank, int *out_axis) HFB_MUST_USE;
hfb_status hfb_rule_read_per_dim(const hfb_node *node, hfb_attr_key key, int rank,
                                 const int64_t **out_values) HFB_MUST_USE;
hfb_status hfb_rule_read_shape(const hfb_node *node, hfb_shape *out_shape) HFB_MUST_USE;
hfb_status hfb_rule_check_eps(const hfb_node *node) HFB_MUST_USE;
hfb_status hfb_rule_check_ignore_index(const hfb_node *node) HFB_MUST_USE; /* a double holds it */
hfb_status hfb_rule_check_value(const hfb_node *node, hfb_dtype dtype) HFB_MUST_USE;

/* The shape that inputs first..last broadcast to. */
hfb_status hfb_rule_broadcast_inputs(const hfb_node *node, int first, int last, hfb_shape *out_shape) HFB_MUST_USE;

#endif
