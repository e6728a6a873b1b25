#include "compile/schedule.h"

#include <string.h>

#include "compile/block_gather.h"
#include "compile/causal.h"
#include "compile/lower.h"
#include "compile/partition.h"

/* One attempt to lower the whole partition. */
typedef struct attempt {
  hfb_schedule *s;
  hfb_partition *p;
  bool blocked;  /* something was forced: sweep and try again */
} attempt;

static hfb_op_class class_of(const hfb_node *node) { return hfb_op_info_of(node->op)->op_class; }

static void force(attempt *a, const hfb_value *value) {
  a->p->forced[value->id] = true;
  a->blocked = true;
}

static void forbid_tile(attempt *a, const hfb_value *product) {
  a->p->no_tile[product->id] = true;
  a->blocked = true;
}

static void forbid_extra(attempt *a, const hfb_value *value) {
  a->p->no_extra[value->id] = true;
  a->blocked = true;
}

/* ---- operands ---------------------------------------- */

static hfb_status add_operand(attempt *a, hfb_step *step, const hfb_value *value) {
  for (int i = 0; i < step->operand_count; i++) {
    if (step->operands[i] == value) return HFB_OK;
  }
  if (step->operand_count % 8 == 0) {
    const hfb_value **grown = hfb_arena_alloc(&a->s->arena, (size_t)step->operand_count + 8, sizeof *grown);
    if (!grown) return HFB_OUT_OF_MEMORY;
    if (step->operand_count) memcpy(grown, step->operands, (size_t)step->operand_count * sizeof *grown);
    step->operands = grown;
  }
  step->operands[step->operand_count++] = value;
  return HFB_OK;
}

/* The last two dimensions as a matrix, swapped if asked, the others as batch strides of `batch_rank` dimensions. */
static bool matrix_view(attempt *a, const hfb_value *value, bool transposed, int batch_rank, hfb_matrix_view *out) {
  const hfb_value *blocker = NULL;
  if (!hfb_partition_view(a->p, a->s->storage, value, &out->view, &blocker)) {
    force(a, blocker);
    return false;
  }
  const int rank = value->shape.rank;
  out->row_stride = out->view.strides[rank - (transposed ? 1 : 2)];
  out->col_stride = out->view.strides[rank - (transposed ? 2 : 1)];
  for (int d = 0; d < batch_rank; d++) {
    const int own = d - (batch_rank - (rank - 2));
    out->batch_strides[d] = own < 0 || value->shape.dim[own] == 1 ? 0 : out->view.strides[own];
  }
  return true;
}

static bool is_result(const hfb_step *step, const hfb_value *value) {
  for (int i = 0; i < step->result_count; i++) {
    if (step->results[i] == value) return true;
  }
  return false;
}

static hfb_status attach_loop(attempt *a, hfb_step *step, const hfb_value *root, hfb_step_code *code) {
  hfb_lowered lowered;
  HFB_TRY(hfb_lower_root(a->p, a->s->storage, root, &a->s->arena, &lowered));
  if (lowered.blocked) {
    if (lowered.blocked_tile) forbid_tile(a, lowered.blocked);
    else if (lowered.blocked_extra) forbid_extra(a, lowered.blocked);
    else force(a, lowered.blocked);
    return HFB_OK;
  }
  code->loop = lowered.loop;
  code->slot_values = lowered.slot_values;
  for (int i = 0; i < code->loop->slot_count; i++) {
    if (lowered.slot_values[i] && !is_result(step, lowered.slot_values[i]))
      HFB_TRY(add_operand(a, step, lowered.slot_values[i]));
  }
  return HFB_OK;
}

/* ---- matrix products ---------------------------------------- */

/* Batch dimensions that the second operand does not have, and that follow each other in memory in the first operand and
 * the result, become rows. Returns false, and changes nothing, when the operand must be copied for that. */
static bool batch_to_rows(hfb_step *step) {
  bool shared = true;
  for (int d = 0; d < step->batch_rank; d++)
    shared = shared && (step->b.batch_strides[d] == 0 || step->batch_dims[d] == 1);
  if (!shared || step->batch_rank == 0) return true;
  int64_t row_stride = step->a.row_stride, a_next = row_stride * step->m, rows = step->m;
  for (int d = step->batch_rank - 1; d >= 0; d--) {
    if (step->batch_dims[d] == 1) continue;
    if (step->a.batch_strides[d] != a_next && rows != 1) return false;
    if (rows == 1) row_stride = step->a.batch_strides[d];
    rows *= step->batch_dims[d];
    a_next = row_stride * rows;
  }
  step->a.row_stride = row_stride;
  step->m = rows;
  step->batch_rank = 0;
  return true;
}

/* A lone bias over the columns: the product adds it itself. */
static void take_bias(hfb_step *step) {
  const hfb_loop *loop = step->code[0].loop;
  if (!loop || loop->store_count != 1 || loop->term_count != 3) return;
  if (loop->terms[2].kind != HFB_TERM_OP || loop->terms[2].op != HFB_OP_ADD || loop->terms[0].dtype != HFB_F32) return;
  for (int t = 0; t < 2; t++) {
    const hfb_term *bias = &loop->terms[t], *tile = &loop->terms[1 - t];
    if (bias->kind != HFB_TERM_LOAD || tile->kind != HFB_TERM_LOAD || tile->slot != 0 || bias->slot == 0) continue;
    const bool along_columns =
        bias->strides[0] == 0 && bias->strides[1] == 0 && (bias->strides[2] == 1 || step->n == 1);
    if (!along_columns || bias->offset != 0 || bias->args[0] >= 0) continue;
    step->bias = step->code[0].slot_values[bias->slot];
    step->code[0].loop = NULL;
    return;
  }
}

static hfb_status plan_gemm(attempt *a, hfb_step *step, const hfb_node *node) {
  const hfb_shape *c = &node->results[0].shape;
  const bool transpose_a = hfb_node_int(node, HFB_ATTR_TRANSPOSE_A) != 0,
             transpose_b = hfb_node_int(node, HFB_ATTR_TRANSPOSE_B) != 0;
  step->kind = HFB_STEP_GEMM;
  step->node = node;
  step->m = c->dim[c->rank - 2];
  step->n = c->dim[c->rank - 1];
  const hfb_shape *x = &node->inputs[0]->shape;
  step->k = x->dim[x->rank - (transpose_a ? 2 : 1)];
  step->batch_rank = c->rank - 2;
  memcpy(step->batch_dims, c->dim, (size_t)step->batch_rank * sizeof(int64_t));
  if (!matrix_view(a, node->inputs[0], transpose_a, step->batch_rank, &step->a)) return HFB_OK;
  if (!matrix_view(a, node->inputs[1], transpose_b, step->batch_rank, &step->b)) return HFB_OK;
  int64_t strides[HFB_MAX_RANK];
  hfb_shape_strides(c, strides);
  memcpy(step->c.batch_strides, strides, sizeof step->c.batch_strides);
  step->c.row_stride = step->n;
  /* An epilogue's loop takes rows and batches as the shapes say. */
  const bool merges = step->result == &node->results[0] || node->inputs[1]->shape.rank == 2;
  /* Windows that overlap are more than what they show. */
  const bool grows = hfb_shape_elements(x) > hfb_shape_elements(&step->a.view.base->shape);
  if (merges && !batch_to_rows(step) && !grows && !hfb_partition_is_stored(a->p, node->inputs[0])) {
    force(a, node->inputs[0]); /* a copy in order; what is stored out of order stays a batch of products */
    return HFB_OK;
  }
  HFB_TRY(add_operand(a, step, step->a.view.base));
  HFB_TRY(add_operand(a, step, step->b.view.base));
  step->batch = 1;
  for (int d = 0; d < step->batch_rank; d++) step->batch *= step->batch_dims[d];
  if (step->result != &node->results[0]) {
    HFB_TRY(attach_loop(a, step, step->result, &step->code[0]));
    const hfb_loop *loop = step->code[0].loop;
    if (loop && (loop->extent[0] != step->batch || loop->extent[1] != step->m)) {
      forbid_tile(a, node->results); /* a batch out of order in memory, of what the loop sees as rows */
      return HFB_OK;
    }
    take_bias(step);
  }
  return HFB_OK;
}

/* ---- attention ---------------------------------------- */

static hfb_status unsupported_attention(const char *why) {
  return HFB_FAIL(HFB_UNSUPPORTED, "native: attention %s", why);
}

/* A score function that only scales is a number, and a first factor can always be taken out of it. */
static float take_scale(hfb_step_code *code) {
  hfb_loop *loop = code->loop;
  int users = 0, user = -1;
  if (!loop || loop->terms[0].kind != HFB_TERM_LOAD || loop->terms[0].slot != 0) return 1.0f;
  for (int i = 1; i < loop->term_count; i++) {
    for (int k = 0; k < 3; k++) {
      if (loop->terms[i].args[k] == 0) users++, user = i;
    }
  }
  if (users != 1 || loop->terms[user].op != HFB_OP_MUL_SCALAR || loop->terms[user].kind != HFB_TERM_OP) return 1.0f;
  const float scale = (float)loop->terms[user].value;
  for (int i = user; i + 1 < loop->term_count; i++)
    loop->terms[i] = loop->terms[i + 1]; /* term `user` becomes term 0 */
  loop->term_count--;
  for (int i = 0; i < loop->term_count; i++) {
    for (int k = 0; k < 3; k++) {
      int *arg = &loop->terms[i].args[k];
      *arg = *arg == user ? 0 : *arg > user ? *arg - 1 : *arg;
    }
  }
  int *stored = &loop->stores[0].term;
  *stored = *stored == user ? 0 : *stored > user ? *stored - 1 : *stored;
  if (*stored == 0) code->loop = NULL;
  return scale;
}

/* A last factor, of the gradient of the scores: it can be multiplied into the products that follow. */
static float take_last_scale(hfb_step_code *code) {
  hfb_loop *loop = code->loop;
  if (!loop) return 1.0f;
  const int last = loop->stores[0].term;
  const hfb_term *term = &loop->terms[last];
  if (last != loop->term_count - 1 || term->kind != HFB_TERM_OP || term->op != HFB_OP_MUL_SCALAR) return 1.0f;
  const float scale = (float)term->value;
  loop->stores[0].term = term->args[0];
  loop->term_count--;
  const hfb_term *stored = &loop->terms[loop->stores[0].term];
  if (stored->kind == HFB_TERM_LOAD && stored->slot == 0) code->loop = NULL;
  return scale;
}

/* Keys or values [..,keys,d], or [..,d,keys] if swapped, as rows with unit stride: side by side, or in blocks. */
static hfb_status plan_key_rows(attempt *a, hfb_step *step, const hfb_value *value, bool swapped,
                                hfb_matrix_view *out) {
  hfb_block_gather blocks;
  if (!hfb_block_gather_of(value, swapped, &blocks) || !a->p->by_blocks[blocks.gather->results[0].id]) {
    if (!matrix_view(a, value, swapped, step->batch_rank, out)) return HFB_OK;
    if (out->col_stride != 1) return unsupported_attention("keys or values do not have unit stride along the head");
    return add_operand(a, step, out->view.base);
  }
  const hfb_value *matrix = blocks.gather->inputs[0], *numbers = blocks.gather->inputs[1], *blocker = NULL;
  if (!matrix_view(a, matrix, false, 0, out)) return HFB_OK;
  if (out->col_stride != 1) force(a, matrix);
  if (!hfb_partition_view(a->p, a->s->storage, numbers, &step->block_numbers, &blocker)) {
    force(a, blocker);
  } else if (numbers->shape.rank != 1 || step->block_numbers.strides[0] != 1) {
    return unsupported_attention("numbers of blocks are no list");
  }
  if (a->blocked) return HFB_OK;
  out->batch_strides[0] = out->row_stride; /* from block to block */
  out->batch_strides[1] = blocks.head_stride;
  out->row_stride = blocks.key_stride;
  memcpy(step->block_number_strides, blocks.number_strides, sizeof step->block_number_strides);
  step->block_rows = blocks.rows;
  step->block_count = matrix->shape.dim[0];
  HFB_TRY(add_operand(a, step, step->block_numbers.base));
  return add_operand(a, step, out->view.base);
}

/* The scores' product gives q and k, sizes and the function; both attention steps read them alike. */
static hfb_status plan_scores(attempt *a, hfb_step *step, const hfb_value *scores) {
  const hfb_node *product = hfb_score_source(scores);
  const int batch_rank = scores->shape.rank - 2;
  if (product->results != scores && a->p->tile[scores->id] != product->results) {
    return unsupported_attention("scores do not come from one product");
  }
  step->m = scores->shape.dim[batch_rank];
  step->n = scores->shape.dim[batch_rank + 1];
  step->k = product->inputs[0]->shape.dim[batch_rank + 1];
  step->batch_rank = batch_rank;
  step->batch = 1;
  step->scale = 1.0f;
  memcpy(step->batch_dims, scores->shape.dim, (size_t)batch_rank * sizeof(int64_t));
  if (!matrix_view(a, product->inputs[0], false, batch_rank, &step->a)) return HFB_OK;
  if (step->a.col_stride != 1) return unsupported_attention("queries do not have unit stride along the head");
  HFB_TRY(add_operand(a, step, step->a.view.base));
  const bool swapped = !hfb_node_int(product, HFB_ATTR_TRANSPOSE_B);
  HFB_TRY(plan_key_rows(a, step, product->inputs[1], swapped, &step->b));
  if (a->blocked) return HFB_OK;
  step->causal = step->m == step->n && hfb_is_causal_scores(scores);
  if (product->results == scores) return HFB_OK;
  HFB_TRY(attach_loop(a, step, scores, &step->code[0]));
  if (a->blocked && a->p->no_tile[product->results[0].id])
    return unsupported_attention("scores cannot be computed in blocks");
  step->scale = take_scale(&step->code[0]);
  return HFB_OK;
}

/* Operands that are read as they are stored: the random state. */
static hfb_status plan_stored_operands(attempt *a, hfb_step *step, const hfb_node *node, int first) {
  for (int i = first; i < node->input_count; i++) {
    hfb_view view;
    const hfb_value *blocker = NULL;
    if (!hfb_partition_view(a->p, a->s->storage, node->inputs[i], &view, &blocker)) {
      force(a, blocker);
      return HFB_OK;
    }
    if (view.base != node->inputs[i]) {
      force(a, node->inputs[i]);
      return HFB_OK;
    }
    HFB_TRY(add_operand(a, step, view.base));
  }
  return HFB_OK;
}

static hfb_status plan_attention(attempt *a, hfb_step *step, const hfb_node *node) {
  step->kind = HFB_STEP_ATTENTION;
  HFB_TRY(plan_scores(a, step, node->inputs[0]));
  if (a->blocked) return HFB_OK;
  HFB_TRY(plan_key_rows(a, step, node->inputs[1], false, &step->v));
  return plan_stored_operands(a, step, node, 2);
}

/* attention_backward(d, scores, lse, q, k, g, [state]), where d comes from attention_scores_backward(scores, lse,
 * delta, g, v, [state]). */
static hfb_status plan_attention_backward(attempt *a, hfb_step *step, const hfb_node *node) {
  const hfb_value *d = node->inputs[0];
  const hfb_node *source = hfb_score_source(d);
  step->kind = HFB_STEP_ATTENTION_BACKWARD;
  HFB_TRY(plan_scores(a, step, node->inputs[1]));
  if (a->blocked) return HFB_OK;
  HFB_TRY(plan_key_rows(a, step, source->inputs[4], false, &step->v));
  if (a->blocked || !matrix_view(a, node->inputs[5], false, step->batch_rank, &step->g)) return HFB_OK;
  if (step->g.col_stride != 1) return unsupported_attention("a gradient does not have unit stride along the values");
  HFB_TRY(add_operand(a, step, step->g.view.base));
  HFB_TRY(plan_stored_operands(a, step, node, 6));
  step->lse = node->inputs[2];
  step->delta = source->inputs[2];
  for (int i = 0; i < 2; i++) {
    const hfb_value *statistics = i == 0 ? step->lse : step->delta;
    if (a->p->root[statistics->id] != statistics) {
      force(a, statistics);
      return HFB_OK;
    }
    HFB_TRY(add_operand(a, step, statistics));
  }
  step->gradient_scale = 1.0f;
  if (source->results == d) return HFB_OK;
  if (a->p->tile[d->id] != source->results) return unsupported_attention("the gradient of scores is not elementwise");
  HFB_TRY(attach_loop(a, step, d, &step->code[1]));
  if (a->blocked && a->p->no_tile[source->results[0].id])
    return unsupported_attention("the gradient of scores cannot be computed in blocks");
  step->gradient_scale = take_last_scale(&step->code[1]);
  return HFB_OK;
}

/* ---- all steps ---------------------------------------- */

static hfb_status plan_kernel(attempt *a, hfb_step *step, const hfb_node *node) {
  step->kind = HFB_STEP_KERNEL;
  step->node = node;
  step->operand_views = hfb_arena_alloc(&a->s->arena, (size_t)node->input_count, sizeof *step->operand_views);
  if (!step->operand_views) return HFB_OUT_OF_MEMORY;
  for (int i = 0; i < node->input_count; i++) {
    const hfb_value *blocker = NULL;
    if (!hfb_partition_view(a->p, a->s->storage, node->inputs[i], &step->operand_views[i], &blocker)) {
      force(a, blocker);
      return HFB_OK;
    }
    HFB_TRY(add_operand(a, step, step->operand_views[i].base));
  }
  return HFB_OK;
}

/* The stored results of the root's node, and what its loop stores besides. */
static void collect_results(const attempt *a, hfb_step *step, const hfb_value *root) {
  step->result = root;
  for (int r = 0; r < root->node->result_count; r++) {
    const hfb_value *value = &root->node->results[r];
    if (a->p->root[value->id] == value) step->results[step->result_count++] = value;
  }
  if (!a->p->has_extras[root->id]) return;
  for (int i = 0; i < root->node->id && step->result_count < HFB_STEP_MAX_RESULTS; i++) {
    const hfb_value *value = &a->p->graph->nodes[i]->results[0];
    if (a->p->is_extra[value->id] && a->p->root[value->id] == root) step->results[step->result_count++] = value;
  }
}

static hfb_status plan_step(attempt *a, const hfb_value *root) {
  hfb_step *step = &a->s->steps[a->s->step_count];
  memset(step, 0, sizeof *step);
  step->node = root->node;
  collect_results(a, step, root);
  const hfb_value *tile = a->p->tile[root->id];
  if (root != step->results[0]) return HFB_OK; /* its node has a step */
  if (root->node->result_count == 1 && hfb_shape_elements(&root->shape) == 0) return HFB_OK; /* nothing to compute */
  a->s->step_count++;
  if (hfb_is_attention(root->node)) {
    return root->node->op == HFB_OP_ATTENTION ? plan_attention(a, step, root->node)
                                              : plan_attention_backward(a, step, root->node);
  }
  if (class_of(root->node) == HFB_CLASS_CONTRACT) return plan_gemm(a, step, root->node);
  if (hfb_is_kernel_step(root->node)) return plan_kernel(a, step, root->node);
  if (tile) return plan_gemm(a, step, tile->node);
  if (root->dtype == HFB_BF16 || root->dtype == HFB_F16)
    return plan_kernel(a, step, root->node); /* a copying movement */
  step->kind = HFB_STEP_ROWS;
  return attach_loop(a, step, root, &step->code[0]);
}

static hfb_status plan_output_views(attempt *a) {
  hfb_schedule *s = a->s;
  for (int i = 0; i < s->graph->output_count; i++) {
    const hfb_value *blocker = NULL;
    if (!hfb_partition_view(a->p, s->storage, s->graph->outputs[i].value, &s->output_views[i], &blocker))
      force(a, blocker);
  }
  return HFB_OK;
}

static hfb_status try_schedule(attempt *a) {
  hfb_schedule *s = a->s;
  a->blocked = false;
  hfb_partition_sweep(a->p);
  s->step_count = 0;
  hfb_partition_assign_storage(a->p, s->storage);
  for (int i = 0; i < s->graph->node_count; i++) {
    for (int r = 0; r < s->graph->nodes[i]->result_count; r++) {
      const hfb_value *value = &s->graph->nodes[i]->results[r];
      if (a->p->root[value->id] == value && !a->p->is_score[value->id]) HFB_TRY(plan_step(a, value));
    }
  }
  return plan_output_views(a);
}

hfb_status hfb_schedule_create(const hfb_graph *graph, hfb_schedule **out_schedule) {
  hfb_schedule *s = NULL;
  hfb_partition *p = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof *s, &s));
  hfb_arena_init(&s->arena);
  s->graph = graph;
  hfb_status status = hfb_mem_alloc((size_t)graph->node_count + 1, sizeof *s->steps, &s->steps);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)graph->value_count + 1, sizeof *s->storage, &s->storage);
  if (status == HFB_OK)
    status = hfb_mem_alloc((size_t)graph->output_count + 1, sizeof *s->output_views, &s->output_views);
  if (status == HFB_OK) status = hfb_partition_create(graph, &p);
  attempt a = {.s = s, .p = p, .blocked = true};
  /* Every failed attempt forces one more value, so the number of values bounds the attempts. */
  for (int i = 0; i <= 3 * graph->value_count && a.blocked && status == HFB_OK; i++) {
    hfb_arena_deinit(&s->arena);
    hfb_arena_init(&s->arena);
    status = try_schedule(&a);
  }
  if (status == HFB_OK && a.blocked) status = HFB_FAIL(HFB_INTERNAL, "native: no schedule for graph %s", graph->name);
  hfb_partition_destroy(p);
  if (status == HFB_OK) status = hfb_schedule_place_updates(s);
  if (status != HFB_OK) {
    hfb_schedule_destroy(s);
    return status;
  }
  *out_schedule = s;
  return HFB_OK;
}

void hfb_schedule_destroy(hfb_schedule *schedule) {
  if (!schedule) return;
  hfb_mem_free(schedule->steps);
  hfb_mem_free(schedule->storage);
  hfb_mem_free(schedule->output_views);
  hfb_mem_free(schedule->copied_updates);
  hfb_arena_deinit(&schedule->arena);
  hfb_mem_free(schedule);
}

static const char *step_kind_name(hfb_step_kind kind) {
  static const char *const names[] = {"rows", "gemm", "attention", "attention_backward", "kernel"};
  return names[kind];
}

hfb_status hfb_step_print(const hfb_schedule *schedule, int index, hfb_strbuf *out_text) {
  const hfb_step *step = &schedule->steps[index];
  char shape[HFB_SHAPE_TEXT_BYTES];
  const bool attention = step->kind == HFB_STEP_ATTENTION || step->kind == HFB_STEP_ATTENTION_BACKWARD;
  hfb_strbuf_printf(out_text, "step %d: %s", index, step_kind_name(step->kind));
  if (step->kind == HFB_STEP_GEMM || attention) {
    hfb_strbuf_printf(out_text, " batch=%lld m=%lld n=%lld k=%lld", (long long)step->batch, (long long)step->m,
                      (long long)step->n, (long long)step->k);
    if (step->bias) hfb_strbuf_printf(out_text, " bias=%%%d", step->bias->id);
    if (attention) hfb_strbuf_printf(out_text, " scale=%g causal=%d", step->scale, step->causal);
    if (step->block_numbers.base) hfb_strbuf_printf(out_text, " blocks of %lld keys", (long long)step->block_rows);
  } else if (step->kind == HFB_STEP_KERNEL) {
    hfb_strbuf_printf(out_text, " %s", hfb_op_info_of(step->node->op)->name);
  }
  for (int r = 0; r < step->result_count; r++) {
    const hfb_value *result = step->results[r];
    hfb_strbuf_printf(out_text, " -> %%%d %s%s", result->id, hfb_dtype_name(result->dtype),
                      hfb_shape_print(&result->shape, shape, sizeof shape));
    if (schedule->storage[result->id].kind == HFB_STORAGE_PARAMETER) hfb_strbuf_append(out_text, " (in place)");
  }
  hfb_strbuf_printf(out_text, " reads");
  for (int k = 0; k < step->operand_count; k++) hfb_strbuf_printf(out_text, " %%%d", step->operands[k]->id);
  hfb_strbuf_printf(out_text, "  # %s\n", hfb_node_text(step->node, HFB_ATTR_SCOPE, ""));
  return hfb_strbuf_status(out_text);
}

hfb_status hfb_schedule_print(const hfb_schedule *schedule, hfb_strbuf *out_text) {
  hfb_strbuf_printf(out_text, "schedule of \"%s\": %d steps, %lld bytes of outputs, %lld of working memory\n",
                    schedule->graph->name, schedule->step_count, (long long)schedule->output_bytes,
                    (long long)schedule->arena_bytes);
  for (int i = 0; i < schedule->step_count; i++) {
    const hfb_step *step = &schedule->steps[i];
    HFB_TRY(hfb_step_print(schedule, i, out_text));
    for (int c = 0; c < HFB_STEP_MAX_LOOPS; c++) {
      if (step->code[c].loop) HFB_TRY(hfb_loop_print(step->code[c].loop, out_text));
    }
  }
  return hfb_strbuf_status(out_text);
}
