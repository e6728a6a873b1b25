/* Gradients of one op against finite differences and against those of its decomposition, for the cases of
 * grad_cases.def, all in f64 on the reference kernels. */
#ifndef HFB_TESTS_SUPPORT_GRAD_CHECK_H
#define HFB_TESTS_SUPPORT_GRAD_CHECK_H

#include "support/op_cases.h"

int grad_case_count(void);
const char *grad_case_line(int index);

/* loss = sum(c op(inputs)) in f64, and one run of it: what the checks start from. */
typedef struct grad_case {
  op_case c;
  hfb_graph *forward; /* inputs: those of the case, then c; output "loss" */
  op_case_data data;
  hfb_device *device;
} grad_case;

hfb_status grad_case_open(const char *line, hfb_device *device, grad_case *out_case) HFB_MUST_USE;
void grad_case_close(grad_case *g);

/* True when input i is a float of the case, so that it has a gradient. */
bool grad_case_has_gradient(const grad_case *g, int input);

/* `forward` (the case's or an equal one) with its backward pass: outputs "grad/<i>" by those float inputs whose bit is
 * set in `inputs`. */
hfb_status grad_case_backward(const grad_case *g, const hfb_graph *forward, uint32_t inputs,
                              hfb_graph **out_graph) HFB_MUST_USE;

/* Runs a graph with the inputs of the case; outputs are owned by the caller. */
hfb_status grad_case_run(const grad_case *g, const hfb_graph *graph, hfb_tensor *outputs) HFB_MUST_USE;

/* Each returns false, with what is wrong in `text`, when a gradient is wrong: against central differences, to 1e-6 of
 * its largest element; against hfb_backward of the decomposed graph, and against the decomposed backward pass, to
 * 1e-10; with every input wanted alone, bit for bit and without a node that nothing needs. */
bool grad_case_check_differences(const grad_case *g, char *text, size_t text_bytes);
bool grad_case_check_decomposition(const grad_case *g, char *text, size_t text_bytes);
bool grad_case_check_wanted(const grad_case *g, char *text, size_t text_bytes);

/* Opens a case, runs all of these checks and closes it. */
bool grad_case_passes(const char *line, hfb_device *device, char *text, size_t text_bytes);

/* A node from id `first` on that no output and no update needs, inputs and parameters left out; NULL when there is
 * none. */
const hfb_node *grad_dead_node(const hfb_graph *graph, int first);

#endif
