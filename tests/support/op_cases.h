/* The cases that every engine and kernel is tested on: one line of text for each, several for each row of ops.def.
 *
 *   layer_norm | f 2x3x7 t | f 7 | f 7 | eps=1e-5
 *
 * A line is an op, its inputs and its attributes. An input is a kind of data, an extent for each dimension ("-" for a
 * scalar) and how it is laid out in memory:
 *
 *   kinds    f   normal, deviation 1            w   normal, deviation 6
 *            n   normal, deviation 1/8 (a weight)
 *            p   uniform in [0.1, 3)            m   f, with -inf in a third of the places (an additive mask)
 *            o   f - 300 (a maximum that starts from 0 underflows)
 *            x   f mixed with nan, infinities, zeros of both signs, huge and tiny values
 *            b   bool    iN  i64 in [0,N)    hN  i32 in [-N/2,N/2)    uN  u8 in [0,N)
 *            G   bf16    H   f16              dN  f64, whole numbers in [1,N]
 *            S   i64[2], the state of random ops: a seed of 53 bits, a number of steps
 *   layouts  t   the last two dimensions swapped     r   all dimensions in reverse order
 *            s   cut out of a larger tensor          k   every second element of the last dimension
 *            e   dimension 0 has stride 0
 *            several letters apply from the last to the first: "ts" is a transposed slice
 *
 * Inputs with a layout are graph inputs followed by movement ops, so that eager gives the op a strided view and a
 * compiler sees the movement. */
#ifndef HFB_TESTS_SUPPORT_OP_CASES_H
#define HFB_TESTS_SUPPORT_OP_CASES_H

#include "device/tensor.h"
#include "ir/builder.h"

enum { OP_CASE_MAX_INPUTS = 7, OP_CASE_MAX_RESULTS = HFB_MAX_RESULTS };

typedef struct op_case_input {
  char kind;
  int64_t bound;
  hfb_shape shape;
  char layout[8];
} op_case_input;

typedef struct op_case {
  const char *text;
  hfb_op op;
  int input_count;
  op_case_input inputs[OP_CASE_MAX_INPUTS];
  char attributes[128];
} op_case;

typedef struct op_case_data {
  hfb_tensor inputs[OP_CASE_MAX_INPUTS], parameters[OP_CASE_MAX_INPUTS];
} op_case_data;

int op_case_count(void);
const char *op_case_line(int index);
/* The line must outlive the case. */
hfb_status op_case_parse(const char *line, op_case *out_case) HFB_MUST_USE;
/* inputs -> movement -> the op -> output "y", and "y1", "y2", .. where the op has several results. */
hfb_status op_case_build(const op_case *c, hfb_graph **out_graph) HFB_MUST_USE;
/* Random inputs and parameters for the graph of the case, which may have been converted to f64: the values are the same
 * ones, all exact in f32. absolute: their absolute values. Released by op_case_release. */
hfb_status op_case_make_inputs(const op_case *c, const hfb_graph *graph, hfb_device *device, uint64_t seed,
                               bool absolute, op_case_data *out_data) HFB_MUST_USE;
void op_case_release(op_case_data *data);

#endif
