/* linear and matmul by way of the blocked matrix product (kernels/gemm.h). Strided operands are passed on as they are;
 * nothing is copied that has a unit stride in one of its last two dimensions. */
#include "kernels/gemm.h"
#include "kernels/kernel_impl.h"

/* Strides of the last two dimensions; an extent of 1 never steps, so its stride is free to be what suits. */
typedef struct matrix_view {
  int64_t rows, columns, row_stride, column_stride;
} matrix_view;

static matrix_view matrix_of(const hfb_tensor *tensor, bool transposed) {
  int last = tensor->shape.rank - 1, row_dim = transposed ? last : last - 1, column_dim = transposed ? last - 1 : last;
  matrix_view view = {tensor->shape.dim[row_dim], tensor->shape.dim[column_dim], tensor->strides[row_dim],
                      tensor->strides[column_dim]};
  if (view.columns == 1) view.column_stride = 1;
  if (view.rows == 1 && view.column_stride != 1) view.row_stride = 1;
  return view;
}

static bool has_unit_stride(const matrix_view *view) { return view->row_stride == 1 || view->column_stride == 1; }

/* linear sees x as [.., M, K]; a vector is one row. */
static hfb_tensor with_rows(const hfb_tensor *tensor) {
  hfb_tensor result = *tensor;
  if (tensor->shape.rank > 1) return result;
  result.shape = hfb_shape_of(2, (int64_t[]){1, tensor->shape.dim[0]});
  result.strides[0] = 1;
  result.strides[1] = tensor->strides[0];
  return result;
}

static bool flag(const hfb_kernel_call *call, hfb_attr_key key) { return hfb_node_int(call->node, key) != 0; }

static bool has_elements(const hfb_tensor *tensor) { return hfb_shape_elements(&tensor->shape) > 0; }

bool hfb_accepts_matmul(const hfb_kernel_call *call) {
  if (!has_elements(&call->inputs[0]) || !has_elements(&call->inputs[1])) return false;
  if (call->inputs[1].dtype != call->inputs[0].dtype) return false; /* bf16, which only native reads as it is */
  matrix_view a = matrix_of(&call->inputs[0], flag(call, HFB_ATTR_TRANSPOSE_A));
  matrix_view b = matrix_of(&call->inputs[1], flag(call, HFB_ATTR_TRANSPOSE_B));
  return has_unit_stride(&a) && has_unit_stride(&b);
}

bool hfb_accepts_linear(const hfb_kernel_call *call) {
  if (!has_elements(&call->inputs[0]) || !has_elements(&call->inputs[1])) return false;
  hfb_tensor x = with_rows(&call->inputs[0]);
  matrix_view a = matrix_of(&x, false), b = matrix_of(&call->inputs[1], flag(call, HFB_ATTR_TRANSPOSE_B));
  bool bias_fits = call->input_count < 3 || hfb_tensor_is_contiguous(&call->inputs[2]);
  return has_unit_stride(&a) && has_unit_stride(&b) && bias_fits;
}

/* Stride of `tensor` in dimension d of the result, 0 where it is broadcast. */
static int64_t batch_stride(const hfb_tensor *tensor, const hfb_tensor *result, int d) {
  int own = d - (result->shape.rank - tensor->shape.rank);
  return own < 0 || tensor->shape.dim[own] == 1 ? 0 : tensor->strides[own];
}

/* The dimensions before the last two: as rows of one larger product where the strides of a and c allow it and b is
 * shared (so that b is packed once), as batch otherwise. */
static void set_batch(hfb_gemm *gemm, const hfb_tensor *a, const hfb_tensor *b, const hfb_tensor *c) {
  gemm->batch = 1;
  for (int d = c->shape.rank - 3; d >= 0; d--) {
    int64_t extent = c->shape.dim[d], a_stride = batch_stride(a, c, d), b_stride = batch_stride(b, c, d);
    if (extent == 1) continue;
    bool continues_rows = gemm->batch_rank == 0 && b_stride == 0 && a_stride == gemm->m * gemm->a_row_stride &&
                          c->strides[d] == gemm->m * gemm->c_row_stride;
    if (continues_rows) {
      gemm->m *= extent;
      continue;
    }
    for (int i = gemm->batch_rank; i > 0; i--) {
      gemm->batch_dims[i] = gemm->batch_dims[i - 1];
      gemm->a_batch_strides[i] = gemm->a_batch_strides[i - 1];
      gemm->b_batch_strides[i] = gemm->b_batch_strides[i - 1];
      gemm->c_batch_strides[i] = gemm->c_batch_strides[i - 1];
    }
    gemm->batch_rank++;
    gemm->batch_dims[0] = extent;
    gemm->a_batch_strides[0] = a_stride;
    gemm->b_batch_strides[0] = b_stride;
    gemm->c_batch_strides[0] = c->strides[d];
    gemm->batch *= extent;
  }
}

static hfb_status run_product(const hfb_tensor *a, bool transpose_a, const hfb_tensor *b, bool transpose_b,
                              const float *bias, const hfb_tensor *c, hfb_isa isa, hfb_pool *pool) {
  matrix_view a_view = matrix_of(a, transpose_a), b_view = matrix_of(b, transpose_b);
  hfb_gemm gemm = {
      .dtype = c->dtype,
      .m = a_view.rows,
      .n = b_view.columns,
      .k = a_view.columns,
      .a = a->data,
      .a_row_stride = a_view.row_stride,
      .a_col_stride = a_view.column_stride,
      .b = b->data,
      .b_row_stride = b_view.row_stride,
      .b_col_stride = b_view.column_stride,
      .c = c->data,
      .c_row_stride = c->strides[c->shape.rank - 2],
      .alpha = 1,
      .bias = bias,
  };
  set_batch(&gemm, a, b, c);
  return hfb_gemm_run(&gemm, isa, pool);
}

static hfb_status run_matmul(const hfb_kernel_call *call, hfb_isa isa) {
  return run_product(&call->inputs[0], flag(call, HFB_ATTR_TRANSPOSE_A), &call->inputs[1],
                     flag(call, HFB_ATTR_TRANSPOSE_B), NULL, &call->results[0], isa, call->pool);
}

static hfb_status run_linear(const hfb_kernel_call *call, hfb_isa isa) {
  hfb_tensor x = with_rows(&call->inputs[0]), result = with_rows(&call->results[0]);
  const float *bias = call->input_count > 2 ? call->inputs[2].data : NULL;
  return run_product(&x, false, &call->inputs[1], flag(call, HFB_ATTR_TRANSPOSE_B), bias, &result, isa, call->pool);
}

hfb_status hfb_k_f32_matmul__generic(const hfb_kernel_call *call) { return run_matmul(call, HFB_ISA_GENERIC); }
hfb_status hfb_k_f32_linear__generic(const hfb_kernel_call *call) { return run_linear(call, HFB_ISA_GENERIC); }
#if defined(__x86_64__)
hfb_status hfb_k_f32_matmul__avx2(const hfb_kernel_call *call) { return run_matmul(call, HFB_ISA_AVX2); }
hfb_status hfb_k_f32_linear__avx2(const hfb_kernel_call *call) { return run_linear(call, HFB_ISA_AVX2); }
hfb_status hfb_k_f32_matmul__avx512(const hfb_kernel_call *call) { return run_matmul(call, HFB_ISA_AVX512); }
hfb_status hfb_k_f32_linear__avx512(const hfb_kernel_call *call) { return run_linear(call, HFB_ISA_AVX512); }
#endif
