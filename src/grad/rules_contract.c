/* Gradient rules of contractions. Operands are read transposed where that is needed, never transposed in memory. */
#include "grad/gradient_rules.h"

/* [rows, columns] of x [.., columns] */
static hfb_value *as_matrix(hfb_builder *b, hfb_value *x) {
  if (!x || x->shape.rank == 2) return x;
  hfb_shape shape = {.rank = 2, .dim = {1, x->shape.dim[x->shape.rank - 1]}};
  for (int i = 0; i < x->shape.rank - 1; i++) shape.dim[0] *= x->shape.dim[i];
  return hfb_reshape(b, x, 2, shape.dim);
}

/* One matmul over all rows for the weight, whatever the rank of x. */
void hfb_gradient_linear(const hfb_gradient *g) {
  hfb_builder *b = g->b;
  bool is_nk = hfb_node_int(g->node, HFB_ATTR_TRANSPOSE_B) != 0;
  if (g->wanted[0]) g->in_gradients[0] = hfb_linear_op(b, g->gradients[0], g->in[1], NULL, !is_nk);
  bool wants_bias = g->node->input_count == 3 && g->wanted[2];
  if (!g->wanted[1] && !wants_bias) return;
  hfb_value *rows = as_matrix(b, g->gradients[0]);
  if (g->wanted[1]) {
    hfb_value *x = as_matrix(b, g->in[0]);
    g->in_gradients[1] = is_nk ? hfb_matmul(b, rows, x, true, false) : hfb_matmul(b, x, rows, true, false);
  }
  if (wants_bias) g->in_gradients[2] = hfb_reduce(b, HFB_OP_REDUCE_SUM, rows, 1, (int[]){0}, false);
}

static int64_t batch_elements(const hfb_value *x) {
  hfb_shape batch = x->shape;
  batch.rank -= 2;
  return hfb_shape_elements(&batch);
}

/* The second operand's gradient, before the batches along which it was broadcast are summed. */
static hfb_value *second_gradient(const hfb_gradient *g, bool transpose_a, bool transpose_b) {
  hfb_builder *b = g->b;
  hfb_value *x = g->in[0], *gradient = g->gradients[0];
  if (!transpose_a && batch_elements(g->in[1]) == 1) { /* one matrix for all batches: their rows are one long sum */
    x = as_matrix(b, x);
    gradient = as_matrix(b, gradient);
  }
  return transpose_b ? hfb_matmul(b, gradient, x, true, transpose_a) : hfb_matmul(b, x, gradient, !transpose_a, false);
}

/* C = op(A) op(B): dA is G op(B)^T or, stored transposed, op(B) G^T; dB is op(A)^T G or G^T op(A). */
void hfb_gradient_matmul(const hfb_gradient *g) {
  hfb_builder *b = g->b;
  bool transpose_a = hfb_node_int(g->node, HFB_ATTR_TRANSPOSE_A) != 0;
  bool transpose_b = hfb_node_int(g->node, HFB_ATTR_TRANSPOSE_B) != 0;
  hfb_value *gradient = g->gradients[0], *y = g->in[1];
  if (g->wanted[0]) {
    hfb_value *first = transpose_a ? hfb_matmul(b, y, gradient, transpose_b, true)
                                   : hfb_matmul(b, gradient, y, false, !transpose_b);
    g->in_gradients[0] = hfb_grad_sum_to(b, first, &g->in[0]->shape);
  }
  if (!g->wanted[1]) return;
  hfb_value *second = second_gradient(g, transpose_a, transpose_b);
  bool is_folded = second && second->shape.rank < y->shape.rank;
  g->in_gradients[1] =
    is_folded ? hfb_grad_reshape(b, second, &y->shape) : hfb_grad_sum_to(b, second, &y->shape);
}
