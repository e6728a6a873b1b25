/* Memory of a run: each stored value at an offset that is known before the first run.
 *
 * Lives are intervals of steps. A loop may write its result over an operand that dies in it. Outputs live to the end;
 * they come first, the last to be written lowest, so that what is free until they are written is one range that shrinks
 * from its end: activations die in the reverse of the order in which their gradients are written. Then, largest first,
 * each value gets the lowest offset that no value with an overlapping life has taken (Pisarchyk and Lee, "Efficient
 * memory management for deep neural net inference", 2020: greedy by size). */
#include <stdlib.h>
#include <string.h>

#include "compile/schedule.h"

enum { ALIGNMENT = 64 };

typedef struct block {
  int value; /* id of the first value that lives in it */
  int first_step, last_step;
  int64_t bytes, offset;
  bool is_output;
} block;

typedef struct plan {
  hfb_schedule *s;
  int *block_of; /* by value id, -1: none */
  block *blocks;
  int block_count;
} plan;

static void find_lives(hfb_schedule *s) {
  for (int i = 0; i < s->step_count; i++) {
    for (int r = 0; r < s->steps[i].result_count; r++) {
      hfb_storage *result = &s->storage[s->steps[i].results[r]->id];
      result->first_step = result->last_step = i;
    }
  }
  for (int i = 0; i < s->step_count; i++) {
    for (int k = 0; k < s->steps[i].operand_count; k++) s->storage[s->steps[i].operands[k]->id].last_step = i;
  }
  for (int i = 0; i < s->copied_update_count; i++)
    s->storage[s->copied_updates[i]->value->id].last_step = s->step_count;
  for (int i = 0; i < s->graph->output_count; i++) {
    hfb_storage *output = &s->storage[s->output_views[i].base->id];
    if (output->kind == HFB_STORAGE_OUTPUT) output->last_step = s->step_count;
  }
}

bool hfb_step_overwrites_safely(const hfb_step *step, const hfb_value *operand, const hfb_value *result) {
  const hfb_loop *loop = step->code[0].loop;
  const hfb_value *const *slots = step->code[0].slot_values;
  const hfb_store *store = NULL;
  for (int i = 0; i < loop->store_count; i++) {
    if (slots[loop->stores[i].slot] == result) store = &loop->stores[i];
  }
  if (!store) return false;
  for (int i = 0; i < loop->term_count; i++) {
    const hfb_term *term = &loop->terms[i];
    if (term->kind != HFB_TERM_LOAD || slots[term->slot] != operand) continue;
    if (term->args[0] >= 0 || term->offset != store->offset) return false;
    for (int d = 0; d < loop->rank; d++) {
      if (loop->extent[d] != 1 && term->strides[d] != store->strides[d]) return false;
    }
  }
  return true;
}

/* The operand whose memory a result of the step may take over, or NULL. `taken`: operands that other results took. */
static const hfb_value *reusable_operand(const plan *p, int step_index, const hfb_value *result, uint64_t *taken) {
  const hfb_step *step = &p->s->steps[step_index];
  if (step->kind != HFB_STEP_ROWS) return NULL;
  for (int k = 0; k < step->operand_count && k < 64; k++) {
    const hfb_value *operand = step->operands[k];
    const hfb_storage *storage = &p->s->storage[operand->id];
    if (*taken >> k & 1 || storage->kind != HFB_STORAGE_ARENA || storage->last_step != step_index) continue;
    if (storage->bytes != p->s->storage[result->id].bytes || operand->dtype != result->dtype) continue;
    if (!hfb_step_overwrites_safely(step, operand, result)) continue;
    *taken |= UINT64_C(1) << k;
    return operand;
  }
  return NULL;
}

static void make_block(plan *p, int step_index, const hfb_value *result, uint64_t *taken) {
  const hfb_storage *storage = &p->s->storage[result->id];
  const bool is_output = storage->kind == HFB_STORAGE_OUTPUT;
  if ((storage->kind != HFB_STORAGE_ARENA && !is_output) || storage->bytes == 0) return;
  const hfb_value *reused = reusable_operand(p, step_index, result, taken);
  if (reused) {
    const int b = p->block_of[reused->id];
    p->block_of[result->id] = b;
    p->blocks[b].last_step = storage->last_step;
    p->blocks[b].is_output = is_output;
    return;
  }
  p->block_of[result->id] = p->block_count;
  p->blocks[p->block_count++] = (block){.value = result->id,
                                        .first_step = storage->first_step,
                                        .last_step = storage->last_step,
                                        .bytes = (storage->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT,
                                        .offset = -1,
                                        .is_output = is_output};
}

static void make_blocks(plan *p) {
  for (int i = 0; i < p->s->step_count; i++) {
    const hfb_step *step = &p->s->steps[i];
    uint64_t taken = 0;
    for (int r = 0; r < step->result_count; r++) make_block(p, i, step->results[r], &taken);
  }
}

/* Outputs, the last to be written first; other blocks are equal. */
static int compare_outputs(const block *x, const block *y) {
  if (x->is_output != y->is_output) return x->is_output ? -1 : 1;
  if (x->is_output && x->first_step != y->first_step) return x->first_step < y->first_step ? 1 : -1;
  return 0;
}

static int compare_size(const void *a, const void *b) {
  const block *x = *(block *const *)a, *y = *(block *const *)b;
  const int outputs = compare_outputs(x, y);
  if (outputs) return outputs;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  return x->value - y->value;
}

/* What is needed longest lies lowest, away from the outputs that are written while it lives. */
static int compare_end(const void *a, const void *b) {
  const block *x = *(block *const *)a, *y = *(block *const *)b;
  const int outputs = compare_outputs(x, y);
  if (outputs || x->last_step == y->last_step) return outputs ? outputs : compare_size(a, b);
  return x->last_step < y->last_step ? 1 : -1;
}

static int compare_start(const void *a, const void *b) {
  const block *x = *(block *const *)a, *y = *(block *const *)b;
  const int outputs = compare_outputs(x, y);
  if (outputs || x->first_step == y->first_step) return outputs ? outputs : compare_size(a, b);
  return x->first_step < y->first_step ? -1 : 1;
}

/* The first is tried first; the others only where it leaves gaps. */
static int (*const orders[])(const void *, const void *) = {compare_size, compare_end, compare_start};
enum { ORDER_COUNT = sizeof orders / sizeof orders[0] };

static int compare_offset(const void *a, const void *b) {
  const block *x = *(block *const *)a, *y = *(block *const *)b;
  return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* A block lies in the memory of the outputs or in the arena, not in both. */
static int64_t past_boundary(const block *b, int64_t at, int64_t boundary) {
  return at < boundary && at + b->bytes > boundary ? boundary : at;
}

/* `placed` holds the blocks that have offsets; `overlapping` is work space of the same size. */
static void place(block *b, int64_t boundary, block **placed, int placed_count, block **overlapping) {
  int count = 0;
  for (int i = 0; i < placed_count; i++) {
    if (placed[i]->first_step <= b->last_step && b->first_step <= placed[i]->last_step)
      overlapping[count++] = placed[i];
  }
  qsort(overlapping, (size_t)count, sizeof *overlapping, compare_offset);
  int64_t at = 0;
  for (int i = 0; i < count; i++) {
    at = past_boundary(b, at, boundary);
    if (overlapping[i]->offset - at >= b->bytes) break;
    const int64_t end = overlapping[i]->offset + overlapping[i]->bytes;
    if (end > at) at = end;
  }
  at = past_boundary(b, at, boundary);
  b->offset = at;
}

/* Places all blocks in an order; returns the bytes of the arena. */
static int64_t place_in_order(plan *p, int (*compare)(const void *, const void *), block **order,
                              block **overlapping) {
  int64_t output_bytes = 0, arena_bytes = 0;
  int i = 0;
  for (int k = 0; k < p->block_count; k++) order[k] = &p->blocks[k];
  qsort(order, (size_t)p->block_count, sizeof *order, compare);
  for (; i < p->block_count && order[i]->is_output; i++) {
    order[i]->offset = output_bytes;
    output_bytes += order[i]->bytes;
  }
  for (; i < p->block_count; i++) {
    place(order[i], output_bytes, order, i, overlapping);
    const int64_t end = order[i]->offset + order[i]->bytes;
    if (end - output_bytes > arena_bytes) arena_bytes = end - output_bytes;
  }
  p->s->output_bytes = output_bytes;
  return arena_bytes;
}

/* The most that lives at a time: no plan needs less. */
static hfb_status find_least_bytes(const plan *p, int64_t *out_bytes) {
  int64_t *change = NULL, live = 0;
  HFB_TRY(hfb_mem_alloc((size_t)p->s->step_count + 2, sizeof *change, &change));
  for (int i = 0; i < p->block_count; i++) {
    change[p->blocks[i].first_step] += p->blocks[i].bytes;
    change[p->blocks[i].last_step + 1] -= p->blocks[i].bytes;
  }
  *out_bytes = 0;
  for (int i = 0; i <= p->s->step_count; i++) {
    live += change[i];
    if (live > *out_bytes) *out_bytes = live;
  }
  hfb_mem_free(change);
  return HFB_OK;
}

static hfb_status place_blocks(plan *p) {
  block **order = NULL, **overlapping = NULL;
  int64_t least_bytes = 0;
  hfb_status status = find_least_bytes(p, &least_bytes);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)p->block_count + 1, sizeof *order, &order);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)p->block_count + 1, sizeof *overlapping, &overlapping);
  if (status == HFB_OK) {
    int best = 0, last = 0;
    int64_t bytes = place_in_order(p, orders[0], order, overlapping), best_bytes = bytes;
    while (p->s->output_bytes + best_bytes > least_bytes && last + 1 < ORDER_COUNT) {
      bytes = place_in_order(p, orders[++last], order, overlapping);
      if (bytes < best_bytes) best = last, best_bytes = bytes;
    }
    if (last != best) bytes = place_in_order(p, orders[best], order, overlapping);
    p->s->arena_bytes = bytes;
  }
  hfb_mem_free(order);
  hfb_mem_free(overlapping);
  return status;
}

hfb_status hfb_memory_plan(hfb_schedule *schedule) {
  plan p = {.s = schedule};
  const int values = schedule->graph->value_count;
  schedule->output_bytes = schedule->arena_bytes = 0;
  find_lives(schedule);
  hfb_status status = hfb_mem_alloc((size_t)values + 1, sizeof(int), &p.block_of);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)values + 1, sizeof(block), &p.blocks);
  if (status == HFB_OK) {
    for (int v = 0; v < values; v++) p.block_of[v] = -1;
    make_blocks(&p);
    status = place_blocks(&p);
    for (int v = 0; v < values && status == HFB_OK; v++) {
      if (p.block_of[v] >= 0) schedule->storage[v].offset = p.blocks[p.block_of[v]].offset;
    }
  }
  hfb_mem_free(p.block_of);
  hfb_mem_free(p.blocks);
  return status;
}
