/* Shape and dtype rules of every op (column `infer` of ops.def). */
#ifndef HFB_IR_SHAPE_H
#define HFB_IR_SHAPE_H

#include "ir/graph.h"

/* Checks arity and attributes of a node against the op table: every attribute of its row is there once, with a value of
 * its kind, and none besides (SCOPE is allowed everywhere). Failures do not name the op. */
hfb_status hfb_node_check(const hfb_node *node) HFB_MUST_USE;

/* hfb_node_check, then sets dtype and shape of node->results from inputs and attributes; a failure
 * names scope, op and input types: "encoder.0: matmul(f32[2,3], f32[4,5]): 3 columns against 4 rows". */
hfb_status hfb_node_infer(hfb_node *node) HFB_MUST_USE;

#endif
