/* Weights in the layout of the product kernels, in the memory that they were bound in. */
#include "compile/program.h"

static bool is_updated(const hfb_graph *graph, const hfb_value *parameter) {
  for (int i = 0; i < graph->update_count; i++) {
    if (graph->updates[i].parameter == parameter || graph->updates[i].value == parameter) return true;
  }
  return false;
}

static bool is_output(const hfb_schedule *s, const hfb_value *parameter) {
  for (int i = 0; i < s->graph->output_count; i++) {
    if (s->output_views[i].base == parameter) return true;
  }
  return false;
}

/* The step reads the value in no other way than as the second factor of its product. */
static bool reads_as_factor(const hfb_step *step, const hfb_value *value) {
  if (step->kind != HFB_STEP_GEMM || step->batch_rank != 0 || step->b.view.base != value) return false;
  if (step->a.view.base == value || step->bias == value) return false;
  const hfb_loop *loop = step->code[0].loop;
  for (int i = 0; loop && i < loop->slot_count; i++) {
    if (step->code[0].slot_values[i] == value) return false;
  }
  return true;
}

static bool has_same_factor(const hfb_step *x, const hfb_step *y) {
  return x->b.view.offset == y->b.view.offset && x->k == y->k && x->n == y->n &&
         x->b.row_stride == y->b.row_stride && x->b.col_stride == y->b.col_stride;
}

/* The step looks up whole rows of the value. */
static bool reads_as_table(const hfb_step *step, const hfb_value *value) {
  if (step->kind != HFB_STEP_KERNEL || step->node->op != HFB_OP_EMBEDDING) return false;
  const hfb_view *table = &step->operand_views[0];
  return table->base == value && table->offset == 0 && table->strides[1] == 1 &&
         table->strides[0] == value->shape.dim[value->shape.rank - 1] && step->operand_views[1].base != value;
}

/* All steps that read the value read it as `step` does, or look up columns of that factor. */
static bool is_read_alike(const hfb_schedule *s, const hfb_step *step) {
  const hfb_value *value = step->b.view.base;
  for (int i = 0; i < s->step_count; i++) {
    const hfb_step *other = &s->steps[i];
    bool reads = false;
    for (int k = 0; k < other->operand_count && !reads; k++) reads = other->operands[k] == value;
    const bool is_same = reads_as_factor(other, value) && has_same_factor(step, other);
    const bool is_lookup = step->b.row_stride == 1 && step->b.col_stride == step->k && reads_as_table(other, value);
    if (reads && !is_same && !is_lookup) return false;
  }
  return true;
}

static hfb_gemm_in_place plan_in_place(const hfb_program *p, const hfb_step *step) {
  return hfb_gemm_plan_in_place(step->result->dtype, step->k, step->n, step->b.row_stride, step->b.col_stride, p->isa,
                                p->device ? hfb_device_pool(p->device) : NULL);
}

/* A whole parameter that nobody reads but products of the same kind and lookups. A weight of another dtype (bf16) stays
 * as it is: products widen it while they pack it. */
static bool wants_packing(const hfb_program *p, const hfb_step *step) {
  if (!p->owns_parameters || step->kind != HFB_STEP_GEMM || step->batch_rank != 0) return false;
  const hfb_value *value = step->b.view.base;
  return value->node->op == HFB_OP_PARAMETER && value->dtype == step->result->dtype && step->b.view.offset == 0 &&
         step->k * step->n == hfb_shape_elements(&value->shape) && plan_in_place(p, step).is_possible &&
         !is_updated(p->graph, value) && !is_output(p->schedule, value) && is_read_alike(p->schedule, step);
}

static int find_packed(const hfb_program *p, const hfb_value *parameter) {
  int known = 0;
  while (known < p->packed_count && p->packed[known].parameter != parameter) known++;
  return known;
}

/* The room that packing needs is given back at once. */
static hfb_status pack(hfb_program *p, const hfb_step *step, hfb_packed_weight *w) {
  const hfb_gemm_in_place plan = plan_in_place(p, step);
  void *work = NULL;
  HFB_TRY(hfb_device_alloc(p->device, plan.work_bytes, &work));
  hfb_status status = plan.rest_bytes > 0 ? hfb_device_alloc(p->device, plan.rest_bytes, &w->rest) : HFB_OK;
  if (status == HFB_OK) {
    w->rest_bytes = plan.rest_bytes;
    status = hfb_gemm_pack_b_in_place(step->result->dtype, step->k, step->n, p->storages[w->parameter->id],
                                      step->b.row_stride, step->b.col_stride, p->isa, hfb_device_pool(p->device), work,
                                      w->rest, &w->packed);
  }
  hfb_device_free(p->device, work, plan.work_bytes);
  return status;
}

hfb_status hfb_program_pack_weights(hfb_program *p) {
  enum { ALIGNMENT = 64 };
  for (int i = 0; i < p->schedule->step_count; i++) {
    const hfb_step *step = &p->schedule->steps[i];
    p->packed_of[i] = -1;
    if (!wants_packing(p, step) || (uintptr_t)p->storages[step->b.view.base->id] % ALIGNMENT != 0) continue;
    const int known = find_packed(p, step->b.view.base);
    if (known == p->packed_count) {
      p->packed[p->packed_count++] = (hfb_packed_weight){.parameter = step->b.view.base};
      HFB_TRY(pack(p, step, &p->packed[known]));
      p->stats.packed_bytes += (int64_t)p->packed[known].rest_bytes;
    }
    p->packed_of[i] = known;
  }
  for (int i = 0; i < p->schedule->step_count; i++) {
    const hfb_step *step = &p->schedule->steps[i];
    if (step->kind != HFB_STEP_KERNEL || step->node->op != HFB_OP_EMBEDDING) continue;
    const int known = find_packed(p, step->operand_views[0].base);
    p->packed_of[i] = known < p->packed_count ? known : -1;
  }
  return HFB_OK;
}

void hfb_program_release_packed(hfb_program *p) {
  for (int i = 0; i < p->packed_count; i++) {
    hfb_gemm_packed_destroy(p->packed[i].packed);
    if (p->packed[i].rest) hfb_device_free(p->device, p->packed[i].rest, p->packed[i].rest_bytes);
  }
  p->packed_count = 0;
  p->stats.packed_bytes = 0;
}

int64_t hfb_program_plan_packed_bytes(const hfb_program *p) {
  int64_t bytes = 0;
  for (int i = 0; i < p->schedule->step_count; i++) {
    const hfb_step *step = &p->schedule->steps[i];
    if (!wants_packing(p, step)) continue;
    bool is_known = false;
    for (int k = 0; k < i && !is_known; k++) {
      is_known = p->schedule->steps[k].kind == HFB_STEP_GEMM && p->schedule->steps[k].b.view.base == step->b.view.base;
    }
    if (!is_known) bytes += (int64_t)plan_in_place(p, step).rest_bytes;
  }
  return bytes;
}
