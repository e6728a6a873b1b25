/* Running the steps of a program. */
#include <string.h>

#include "compile/program.h"
#include "kernels/attention.h"

enum {
  CHUNK_ELEMENTS = 8192,  /* of a loop: less is not worth handing to another core */
  CHUNKS_PER_WORKER = 8,  /* so that a core which was taken away delays the others little */
  MAX_LOOP_SLOTS = 64
};

typedef struct rows_job {
  hfb_rows_fn function;
  void *const *slots;
  int64_t rows, chunk;
  hfb_pool *pool;
  bool scratch;
} rows_job;

static void rows_task(void *context, int64_t index, int worker) {
  const rows_job *job = context;
  const int64_t begin = index * job->chunk;
  const int64_t end = begin + job->chunk < job->rows ? begin + job->chunk : job->rows;
  job->function(job->slots, begin, end, job->scratch ? hfb_pool_scratch(job->pool, worker) : NULL);
}

static void fill_slots(const hfb_program *program, const hfb_step *step, void **slots) {
  for (int i = 0; i < step->loop->slot_count; i++) {
    slots[i] = step->slot_values[i] ? program->storages[step->slot_values[i]->id] : NULL;
  }
}

static hfb_status run_rows(hfb_program *program, const hfb_step *step, void *function) {
  const hfb_loop *loop = step->loop;
  hfb_pool *pool = hfb_device_pool(program->device);
  void *slots[MAX_LOOP_SLOTS];
  rows_job job = {.slots = slots, .rows = 1, .pool = pool, .scratch = hfb_loop_scratch_bytes(loop) != 0};
  memcpy(&job.function, &function, sizeof function); /* POSIX: a function pointer is a pointer */
  fill_slots(program, step, slots);
  for (int d = 0; d + 1 < loop->rank; d++) job.rows *= loop->extent[d];
  const int64_t inner = loop->extent[loop->rank - 1] > 0 ? loop->extent[loop->rank - 1] : 1;
  int64_t chunks = job.rows * inner / CHUNK_ELEMENTS + 1;
  if (chunks > (int64_t)hfb_pool_size(pool) * CHUNKS_PER_WORKER)
    chunks = (int64_t)hfb_pool_size(pool) * CHUNKS_PER_WORKER;
  if (chunks > job.rows) chunks = job.rows > 0 ? job.rows : 1;
  job.chunk = (job.rows + chunks - 1) / chunks;
  if (job.chunk < 1) job.chunk = 1;
  hfb_pool_run(pool, (job.rows + job.chunk - 1) / job.chunk, rows_task, &job);
  return HFB_OK;
}

static const char *operand_data(const hfb_program *program, const hfb_matrix_view *operand) {
  const hfb_value *base = operand->view.base;
  return (const char *)program->storages[base->id] + operand->view.offset * (int64_t)hfb_dtype_bytes(base->dtype);
}

static hfb_status run_gemm(hfb_program *program, int index, const hfb_step *step, void *function) {
  void *slots[MAX_LOOP_SLOTS];
  const int packed = program->packed_of[index];
  hfb_gemm gemm = {
      .dtype = step->result->dtype,
      .m = step->m,
      .n = step->n,
      .k = step->k,
      .batch = step->batch,
      .a = operand_data(program, &step->a),
      .a_row_stride = step->a.row_stride,
      .a_col_stride = step->a.col_stride,
      .b = packed < 0 ? operand_data(program, &step->b) : NULL,
      .b_row_stride = step->b.row_stride,
      .b_col_stride = step->b.col_stride,
      .packed_b = packed < 0 ? NULL : program->packed[packed].packed,
      .c = program->storages[step->result->id],
      .c_row_stride = step->n,
      .batch_rank = step->batch_rank,
      .alpha = 1.0f,
      .bias = step->bias ? program->storages[step->bias->id] : NULL,
  };
  for (int d = 0; d < step->batch_rank; d++) {
    gemm.batch_dims[d] = step->batch_dims[d];
    gemm.a_batch_strides[d] = step->a.batch_strides[d];
    gemm.b_batch_strides[d] = step->b.batch_strides[d];
    gemm.c_batch_strides[d] = step->c.batch_strides[d];
  }
  if (function) {
    fill_slots(program, step, slots);
    memcpy(&gemm.epilogue, &function, sizeof function);
    gemm.epilogue_context = slots;
  }
  return hfb_gemm_run(&gemm, program->isa, hfb_device_pool(program->device));
}

/* Strides of [batch, heads, sequence]; operands of rank 3 have one batch. */
static void attention_strides(const hfb_matrix_view *view, int batch_rank, int64_t out[3]) {
  out[0] = batch_rank == 2 ? view->batch_strides[0] : 0;
  out[1] = view->batch_strides[batch_rank - 1];
  out[2] = view->row_stride;
}

static hfb_status run_attention(hfb_program *program, const hfb_step *step, void *function) {
  void *slots[MAX_LOOP_SLOTS];
  const hfb_storage *result = &program->schedule->storage[step->result->id];
  const hfb_shape *shape = &step->result->shape;
  hfb_attention attention = {
      .batch = step->batch_rank == 2 ? step->batch_dims[0] : 1,
      .heads = step->batch_dims[step->batch_rank - 1],
      .query_count = step->m,
      .key_count = step->n,
      .head_dim = step->k,
      .value_dim = shape->dim[shape->rank - 1],
      .q = (const float *)operand_data(program, &step->a),
      .k = (const float *)operand_data(program, &step->b),
      .v = (const float *)operand_data(program, &step->v),
      .out = program->storages[step->result->id],
      .scale = step->scale,
      .causal = step->causal,
  };
  attention_strides(&step->a, step->batch_rank, attention.q_strides);
  attention_strides(&step->b, step->batch_rank, attention.k_strides);
  attention_strides(&step->v, step->batch_rank, attention.v_strides);
  attention.out_strides[0] = step->batch_rank == 2 ? result->strides[0] : 0;
  attention.out_strides[1] = result->strides[step->batch_rank - 1];
  attention.out_strides[2] = result->strides[step->batch_rank];
  if (function) {
    fill_slots(program, step, slots);
    memcpy(&attention.modify, &function, sizeof function);
    attention.modify_context = slots;
  }
  return hfb_attention_run(&attention, program->isa, hfb_device_pool(program->device));
}

static hfb_status run_kernel(hfb_program *program, int index, const hfb_step *step) {
  hfb_tensor *inputs = NULL, result;
  const hfb_node *node = step->node;
  HFB_TRY(hfb_mem_alloc((size_t)node->input_count, sizeof *inputs, &inputs));
  for (int i = 0; i < node->input_count; i++) {
    const hfb_view *view = &step->operand_views[i];
    inputs[i] = hfb_tensor_borrow(node->inputs[i]->dtype, &node->inputs[i]->shape, NULL);
    memcpy(inputs[i].strides, view->strides, sizeof inputs[i].strides);
    inputs[i].data =
        (char *)program->storages[view->base->id] + view->offset * (int64_t)hfb_dtype_bytes(view->base->dtype);
  }
  result = hfb_tensor_borrow(step->result->dtype, &step->result->shape, program->storages[step->result->id]);
  const hfb_kernel_call call = {node, node->input_count, 1, inputs, &result, hfb_device_pool(program->device)};
  if (!program->kernels[index]) program->kernels[index] = hfb_kernel_select(&call, program->isa, false);
  hfb_status status = program->kernels[index]
                          ? program->kernels[index]->run(&call)
                          : HFB_FAIL(HFB_INTERNAL, "native: no kernel for op %s", hfb_op_info_of(node->op)->name);
  hfb_mem_free(inputs);
  return status;
}

hfb_status hfb_program_execute(hfb_program *program) {
  const hfb_schedule *s = program->schedule;
  if (s->scratch_bytes) HFB_TRY(hfb_pool_reserve_scratch(hfb_device_pool(program->device), s->scratch_bytes));
  for (int i = 0; i < s->step_count; i++) {
    const hfb_step *step = &s->steps[i];
    hfb_status status = HFB_OK;
    switch (step->kind) {
      case HFB_STEP_ROWS:
        status = run_rows(program, step, program->functions[i]);
        break;
      case HFB_STEP_GEMM:
        status = run_gemm(program, i, step, program->functions[i]);
        break;
      case HFB_STEP_ATTENTION:
        status = run_attention(program, step, program->functions[i]);
        break;
      case HFB_STEP_KERNEL:
        status = run_kernel(program, i, step);
        break;
    }
    if (status != HFB_OK) return status;
    program->stats.kernels_run++;
  }
  return HFB_OK;
}
