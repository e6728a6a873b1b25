/* Shape and dtype rules of every op (column `infer` of ops.def). */
#ifndef HFB_IR_SHAPE_H
#define HFB_IR_SHAPE_H

#include "ir/graph.h"

/* Sets dtype and shape of node->results from inputs and attributes; fails with a message that names the op. */
hfb_status hfb_node_infer(hfb_node *node) HFB_MUST_USE;

#endif
