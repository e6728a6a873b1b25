/* Running the steps of a program. */
#include <string.h>

#include "base/clock.h"
#include "compile/program.h"
#include "kernels/attention.h"
#include "kernels/attention_backward.h"

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

static void fill_slots(const hfb_program *program, const hfb_step_code *code, void **slots) {
  for (int i = 0; i < code->loop->slot_count; i++) {
    slots[i] = code->slot_values[i] ? program->storages[code->slot_values[i]->id] : NULL;
  }
  if (code->loop->site_count > 0) slots[code->loop->site_slot] = code->loop->sites;
}

/* The generated function `number` of step `index`; NULL: none. */
static void *function_of(const hfb_program *program, int index, int number) {
  return program->functions[index * HFB_STEP_MAX_LOOPS + number];
}

static hfb_status run_rows(hfb_program *program, int index, const hfb_step *step) {
  void *function = function_of(program, index, 0);
  const hfb_loop *loop = step->code[0].loop;
  hfb_pool *pool = hfb_device_pool(program->device);
  void *slots[MAX_LOOP_SLOTS];
  rows_job job = {.slots = slots, .rows = 1, .pool = pool, .scratch = step->code[0].scratch_bytes != 0};
  memcpy(&job.function, &function, sizeof function); /* POSIX: a function pointer is a pointer */
  fill_slots(program, &step->code[0], slots);
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

static hfb_status run_gemm(hfb_program *program, int index, const hfb_step *step) {
  void *function = function_of(program, index, 0);
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
      .b_is_bf16 = step->b.view.base->dtype == HFB_BF16,
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
    fill_slots(program, &step->code[0], slots);
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

/* The same of a stored result. */
static void storage_strides(const hfb_program *program, const hfb_value *value, int batch_rank, int64_t out[3]) {
  const int64_t *strides = program->schedule->storage[value->id].strides;
  out[0] = batch_rank == 2 ? strides[0] : 0;
  out[1] = strides[batch_rank - 1];
  out[2] = strides[batch_rank];
}

/* Strides of keys or values: of block instead of batch where they lie in blocks. */
static void key_strides(const hfb_step *step, const hfb_matrix_view *view, int64_t out[3]) {
  attention_strides(view, step->block_numbers.base ? 2 : step->batch_rank, out);
}

static hfb_attention_blocks key_blocks(const hfb_program *program, const hfb_step *step) {
  const hfb_view *numbers = &step->block_numbers;
  if (!numbers->base) return (hfb_attention_blocks){0};
  return (hfb_attention_blocks){
      .numbers = (const int64_t *)program->storages[numbers->base->id] + numbers->offset,
      .strides = {step->block_number_strides[0], step->block_number_strides[1]},
      .rows = step->block_rows,
      .count = step->block_count,
  };
}

/* Where result `result` of the step's op is stored; NULL when nobody reads it. */
static float *result_data(const hfb_program *program, const hfb_step *step, int result) {
  const hfb_value *value = &step->node->results[result];
  for (int r = 0; r < step->result_count; r++) {
    if (step->results[r] == value) return program->storages[value->id];
  }
  return NULL;
}

/* The random state is an attention op's last input, where it has one. */
static const int64_t *random_state(const hfb_program *program, const hfb_step *step) {
  const hfb_node *node = step->node;
  if (node->input_count == hfb_op_info_of(node->op)->min_inputs) return NULL;
  return program->storages[node->inputs[node->input_count - 1]->id];
}

static hfb_status run_attention(hfb_program *program, int index, const hfb_step *step) {
  void *function = function_of(program, index, 0);
  void *slots[MAX_LOOP_SLOTS];
  const hfb_value *out = &step->node->results[0];
  hfb_attention attention = {
      .batch = step->batch_rank == 2 ? step->batch_dims[0] : 1,
      .heads = step->batch_dims[step->batch_rank - 1],
      .query_count = step->m,
      .key_count = step->n,
      .head_dim = step->k,
      .value_dim = out->shape.dim[out->shape.rank - 1],
      .q = (const float *)operand_data(program, &step->a),
      .k = (const float *)operand_data(program, &step->b),
      .v = (const float *)operand_data(program, &step->v),
      .out = result_data(program, step, 0),
      .lse = result_data(program, step, 1),
      .blocks = key_blocks(program, step),
      .scale = step->scale,
      .causal = step->causal,
      .dropout_p = hfb_node_float(step->node, HFB_ATTR_P),
      .dropout_site = hfb_node_int(step->node, HFB_ATTR_SITE),
      .random_state = random_state(program, step),
  };
  attention_strides(&step->a, step->batch_rank, attention.q_strides);
  key_strides(step, &step->b, attention.k_strides);
  key_strides(step, &step->v, attention.v_strides);
  storage_strides(program, out, step->batch_rank, attention.out_strides);
  if (function) {
    fill_slots(program, &step->code[0], slots);
    memcpy(&attention.modify, &function, sizeof function);
    attention.modify_context = slots;
  }
  return hfb_attention_run(&attention, program->isa, hfb_device_pool(program->device));
}

static hfb_status run_attention_backward(hfb_program *program, int index, const hfb_step *step) {
  void *modify = function_of(program, index, 0), *modify_gradient = function_of(program, index, 1);
  void *slots[MAX_LOOP_SLOTS], *gradient_slots[MAX_LOOP_SLOTS];
  const hfb_node *node = step->node;
  const hfb_value *g = node->inputs[5];
  hfb_attention_backward backward = {
      .batch = step->batch_rank == 2 ? step->batch_dims[0] : 1,
      .heads = step->batch_dims[step->batch_rank - 1],
      .query_count = step->m,
      .key_count = step->n,
      .head_dim = step->k,
      .value_dim = g->shape.dim[g->shape.rank - 1],
      .q = (const float *)operand_data(program, &step->a),
      .k = (const float *)operand_data(program, &step->b),
      .v = (const float *)operand_data(program, &step->v),
      .g = (const float *)operand_data(program, &step->g),
      .lse = program->storages[step->lse->id],
      .delta = program->storages[step->delta->id],
      .dq = result_data(program, step, 0),
      .dk = result_data(program, step, 1),
      .dv = result_data(program, step, 2),
      .blocks = key_blocks(program, step),
      .scale = step->scale,
      .gradient_scale = step->gradient_scale,
      .causal = step->causal,
      .dropout_p = hfb_node_float(node, HFB_ATTR_P),
      .dropout_site = hfb_node_int(node, HFB_ATTR_SITE),
      .random_state = random_state(program, step),
  };
  attention_strides(&step->a, step->batch_rank, backward.q_strides);
  key_strides(step, &step->b, backward.k_strides);
  key_strides(step, &step->v, backward.v_strides);
  attention_strides(&step->g, step->batch_rank, backward.g_strides);
  storage_strides(program, &node->results[0], step->batch_rank, backward.dq_strides);
  storage_strides(program, &node->results[1], step->batch_rank, backward.dk_strides);
  storage_strides(program, &node->results[2], step->batch_rank, backward.dv_strides);
  if (modify) {
    fill_slots(program, &step->code[0], slots);
    memcpy(&backward.modify, &modify, sizeof modify);
    backward.modify_context = slots;
  }
  if (modify_gradient) {
    fill_slots(program, &step->code[1], gradient_slots);
    memcpy(&backward.modify_gradient, &modify_gradient, sizeof modify_gradient);
    backward.modify_gradient_context = gradient_slots;
  }
  return hfb_attention_backward_run(&backward, program->isa, hfb_device_pool(program->device));
}

static hfb_tensor operand_tensor(const hfb_program *program, const hfb_step *step, int operand) {
  const hfb_value *value = step->node->inputs[operand];
  const hfb_view *view = &step->operand_views[operand];
  hfb_tensor tensor = hfb_tensor_borrow(value->dtype, &value->shape, NULL);
  memcpy(tensor.strides, view->strides, sizeof tensor.strides);
  tensor.data = (char *)program->storages[view->base->id] + view->offset * (int64_t)hfb_dtype_bytes(view->base->dtype);
  return tensor;
}

/* A lookup in a table that lies in the layout of the products. */
static hfb_status run_packed_lookup(hfb_program *program, const hfb_step *step, const hfb_packed_b *table) {
  const hfb_tensor ids = operand_tensor(program, step, 1);
  hfb_tensor packed_ids;
  HFB_TRY(hfb_tensor_pack(&ids, program->device, &packed_ids));
  hfb_gemm_unpack_columns(table, packed_ids.data, hfb_shape_elements(&ids.shape), hfb_device_pool(program->device),
                          program->storages[step->result->id]);
  hfb_tensor_release(&packed_ids);
  return HFB_OK;
}

static hfb_status run_kernel(hfb_program *program, int index, const hfb_step *step) {
  hfb_tensor *inputs = NULL, results[HFB_MAX_RESULTS];
  const hfb_node *node = step->node;
  if (program->packed_of[index] >= 0) {
    return run_packed_lookup(program, step, program->packed[program->packed_of[index]].packed);
  }
  HFB_TRY(hfb_mem_alloc((size_t)node->input_count, sizeof *inputs, &inputs));
  for (int i = 0; i < node->input_count; i++) {
    inputs[i] = operand_tensor(program, step, i);
  }
  for (int r = 0; r < node->result_count; r++) {
    results[r] = hfb_tensor_borrow(node->results[r].dtype, &node->results[r].shape, result_data(program, step, r));
  }
  const hfb_kernel_call call = {
      node, node->input_count, node->result_count, inputs, results, hfb_device_pool(program->device)};
  if (!program->kernels[index]) program->kernels[index] = hfb_kernel_select(&call, program->isa, false);
  hfb_status status = program->kernels[index]
                          ? program->kernels[index]->run(&call)
                          : HFB_FAIL(HFB_INTERNAL, "native: no kernel for op %s", hfb_op_info_of(node->op)->name);
  hfb_mem_free(inputs);
  return status;
}

typedef hfb_status (*run_step_fn)(hfb_program *program, int index, const hfb_step *step);

hfb_status hfb_program_execute(hfb_program *program) {
  static const run_step_fn run_step[] = {
      [HFB_STEP_ROWS] = run_rows,
      [HFB_STEP_GEMM] = run_gemm,
      [HFB_STEP_ATTENTION] = run_attention,
      [HFB_STEP_ATTENTION_BACKWARD] = run_attention_backward,
      [HFB_STEP_KERNEL] = run_kernel,
  };
  const hfb_schedule *s = program->schedule;
  if (s->scratch_bytes) HFB_TRY(hfb_pool_reserve_scratch(hfb_device_pool(program->device), s->scratch_bytes));
  for (int i = 0; i < s->step_count; i++) {
    const int64_t start_ns = program->step_ns ? hfb_clock_ns() : 0;
    HFB_TRY(run_step[s->steps[i].kind](program, i, &s->steps[i]));
    if (program->step_ns) program->step_ns[i] += hfb_clock_ns() - start_ns;
    program->stats.kernels_run++;
  }
  return HFB_OK;
}
