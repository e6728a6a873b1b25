/* matmul, linear and the discrete Fourier transform as products of matrices. */
#include <math.h>

#include "base/memory.h"
#include "kernels/kernel_impl.h"
#include "kernels/ref/gemm.h"

static hfb_tensor swap_last_two(const hfb_tensor *tensor) {
  hfb_tensor result = *tensor;
  int last = tensor->shape.rank - 1;
  result.shape.dim[last] = tensor->shape.dim[last - 1];
  result.shape.dim[last - 1] = tensor->shape.dim[last];
  result.strides[last] = tensor->strides[last - 1];
  result.strides[last - 1] = tensor->strides[last];
  return result;
}

hfb_status hfb_k_matmul__ref(const hfb_kernel_call *call) {
  hfb_tensor a = call->inputs[0], b = call->inputs[1];
  if (hfb_node_int(call->node, HFB_ATTR_TRANSPOSE_A)) a = swap_last_two(&a);
  if (hfb_node_int(call->node, HFB_ATTR_TRANSPOSE_B)) b = swap_last_two(&b);
  return hfb_ref_gemm(&a, &b, NULL, &call->results[0], call->pool);
}

/* x may have any strides, so its leading dimensions cannot always be merged to rows; a vector becomes one row. */
hfb_status hfb_k_linear__ref(const hfb_kernel_call *call) {
  hfb_tensor x = call->inputs[0], weight = call->inputs[1], result = call->results[0];
  if (hfb_node_int(call->node, HFB_ATTR_TRANSPOSE_B)) weight = swap_last_two(&weight);
  if (x.shape.rank == 1) {
    x = hfb_tensor_borrow(x.dtype, &(hfb_shape){2, {1, x.shape.dim[0]}}, x.data);
    x.strides[1] = call->inputs[0].strides[0];
    result = hfb_tensor_borrow(result.dtype, &(hfb_shape){2, {1, result.shape.dim[0]}}, result.data);
  }
  const hfb_tensor *bias = call->input_count > 2 ? &call->inputs[2] : NULL;
  if (hfb_tensor_is_contiguous(&x) && x.shape.rank > 2) { /* one large product instead of many small ones */
    int64_t depth = x.shape.dim[x.shape.rank - 1], columns = result.shape.dim[result.shape.rank - 1], rows = 1;
    for (int d = 0; d < x.shape.rank - 1; d++) rows *= x.shape.dim[d];
    x = hfb_tensor_borrow(x.dtype, &(hfb_shape){2, {rows, depth}}, x.data);
    result = hfb_tensor_borrow(result.dtype, &(hfb_shape){2, {rows, columns}}, result.data);
  }
  return hfb_ref_gemm(&x, &weight, bias, &result, call->pool);
}

/* out[i][j] = function(2 pi i j / n). i*j is reduced exactly, modulo n, so that large products lose nothing. */
static void fill_table(int64_t n, double (*function)(double), double *residues, double sign, double *out,
                       int64_t row_stride) {
  for (int64_t i = 0; i < n; i++) residues[i] = sign * function(2 * M_PI * (double)i / (double)n);
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < n; j++) out[i * row_stride + j] = residues[i * j % n];
  }
}

/* With F = C - iS the DFT matrix of a dimension: Re(F_r X F_c) = C_r (X C_c) - S_r (X S_c), which is one product
 * [C_r, -S_r] [X C_c; X S_c] with the halves stacked. */
hfb_status hfb_k_fft2_real__ref(const hfb_kernel_call *call) {
  const hfb_tensor *x = &call->inputs[0];
  int rank = x->shape.rank;
  int64_t rows = x->shape.dim[rank - 2], columns = x->shape.dim[rank - 1];
  int64_t elements = hfb_shape_elements(&x->shape);
  if (elements == 0) return HFB_OK;
  double *column_tables = NULL, *row_table = NULL, *halves = NULL;
  /* Each with room for one line of residues behind. */
  hfb_status status = hfb_mem_alloc((size_t)((2 * columns + 1) * columns), sizeof(double), &column_tables);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)((2 * rows + 1) * rows), sizeof(double), &row_table);
  if (status == HFB_OK) status = hfb_mem_alloc_aligned((size_t)(2 * elements) * sizeof(double), 64, &halves);
  if (status != HFB_OK) goto cleanup;

  double *column_residues = column_tables + 2 * columns * columns, *row_residues = row_table + 2 * rows * rows;
  fill_table(columns, cos, column_residues, 1, column_tables, columns);
  fill_table(columns, sin, column_residues, 1, column_tables + columns * columns, columns);
  fill_table(rows, cos, row_residues, 1, row_table, 2 * rows);
  fill_table(rows, sin, row_residues, -1, row_table + rows, 2 * rows);
  /* halves: [batch.., 2 rows, columns] */
  hfb_shape stacked_shape = x->shape;
  stacked_shape.dim[rank - 2] = 2 * rows;
  hfb_tensor stacked = hfb_tensor_borrow(HFB_F64, &stacked_shape, halves);
  hfb_tensor row_matrix = hfb_tensor_borrow(HFB_F64, &(hfb_shape){2, {rows, 2 * rows}}, row_table);
  for (int half = 0; half < 2 && status == HFB_OK; half++) {
    hfb_tensor table = hfb_tensor_borrow(HFB_F64, &(hfb_shape){2, {columns, columns}},
                                         column_tables + half * columns * columns);
    hfb_tensor part = stacked;
    part.shape.dim[rank - 2] = rows;
    part.data = halves + half * rows * columns;
    status = hfb_ref_gemm(x, &table, NULL, &part, call->pool);
  }
  if (status == HFB_OK) status = hfb_ref_gemm(&row_matrix, &stacked, NULL, &call->results[0], call->pool);
cleanup:
  hfb_mem_free(column_tables);
  hfb_mem_free(row_table);
  hfb_mem_free(halves);
  return status;
}
