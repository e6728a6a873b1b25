/* Where new values of parameters are written: over the old ones, as early as nobody needs those any more. */
#include <stdlib.h>
#include <string.h>

#include "compile/schedule.h"

typedef struct placement {
  hfb_schedule *s;
  int *maker;                   /* by value id: the step that writes it, -1: none */
  const hfb_update **update_of; /* by value id: the first update with that value, NULL: none */
  int *key;                     /* by step: the step behind which it goes; its own number when it stays */
} placement;

typedef struct ordered_step {
  int key;
  bool is_moved;
  int index;
} ordered_step;

static bool reads(const hfb_step *step, const hfb_value *value) {
  for (int k = 0; k < step->operand_count; k++) {
    if (step->operands[k] == value) return true;
  }
  return false;
}

static bool is_update_step(const placement *p, const hfb_step *step) {
  for (int r = 0; r < step->result_count; r++) {
    if (p->update_of[step->results[r]->id]) return true;
  }
  return false;
}

/* The last step that must come before step `index`; `index` itself when that is a later one. */
static int find_key(const placement *p, int index) {
  const hfb_step *step = &p->s->steps[index];
  int key = -1;
  for (int k = 0; k < step->operand_count; k++) {
    const int maker = p->maker[step->operands[k]->id];
    if (maker >= 0 && p->key[maker] > key) key = p->key[maker];
  }
  for (int r = 0; r < step->result_count; r++) {
    const hfb_update *update = p->update_of[step->results[r]->id];
    for (int i = 0; update && i < p->s->step_count; i++) {
      if (i == index || !reads(&p->s->steps[i], update->parameter)) continue;
      if (i > index) return index;
      if (p->key[i] > key) key = p->key[i];
    }
  }
  return key;
}

static int compare_steps(const void *a, const void *b) {
  const ordered_step *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  if (x->is_moved != y->is_moved) return x->is_moved ? 1 : -1;
  return x->index - y->index;
}

/* A few numbers that optimizers need, bias corrections: made early, they keep no update waiting. */
static bool is_tiny(const hfb_step *step) {
  enum { TINY_ELEMENTS = 16 };
  return step->kind == HFB_STEP_ROWS && step->result_count == 1 &&
         hfb_shape_elements(&step->result->shape) <= TINY_ELEMENTS;
}

static hfb_status reorder(placement *p) {
  hfb_schedule *s = p->s;
  ordered_step *order = NULL;
  hfb_step *steps = NULL;
  HFB_TRY(hfb_mem_alloc((size_t)s->step_count + 1, sizeof *order, &order));
  hfb_status status = hfb_mem_alloc((size_t)s->step_count + 1, sizeof *steps, &steps);
  if (status == HFB_OK) {
    for (int i = 0; i < s->step_count; i++) {
      const bool is_moved = is_update_step(p, &s->steps[i]) || is_tiny(&s->steps[i]);
      p->key[i] = is_moved ? find_key(p, i) : i;
      order[i] = (ordered_step){p->key[i], is_moved, i};
    }
    qsort(order, (size_t)s->step_count, sizeof *order, compare_steps);
    for (int i = 0; i < s->step_count; i++) steps[i] = s->steps[order[i].index];
    memcpy(s->steps, steps, (size_t)s->step_count * sizeof *steps);
  }
  hfb_mem_free(order);
  hfb_mem_free(steps);
  return status;
}

static void find_makers(placement *p) {
  for (int i = 0; i < p->s->step_count; i++) {
    for (int r = 0; r < p->s->steps[i].result_count; r++) p->maker[p->s->steps[i].results[r]->id] = i;
  }
}

/* Nobody needs the old value when, or after, `update` is written: neither a later step, nor an output, nor another
 * update that copies it. The step that writes may read it element by element. */
static bool may_overwrite(const placement *p, const hfb_update *update) {
  const hfb_schedule *s = p->s;
  const int maker = p->maker[update->value->id];
  const hfb_storage *storage = &s->storage[update->value->id];
  if (maker < 0 || storage->kind != HFB_STORAGE_ARENA || p->update_of[update->value->id] != update) return false;
  int64_t row_major[HFB_MAX_RANK];
  hfb_shape_strides(&update->value->shape, row_major);
  if (memcmp(storage->strides, row_major, (size_t)update->value->shape.rank * sizeof(int64_t)) != 0) return false;
  for (int i = maker; i < s->step_count; i++) {
    const hfb_step *step = &s->steps[i];
    if (!reads(step, update->parameter)) continue;
    if (i > maker || step->kind != HFB_STEP_ROWS) return false;
    if (!hfb_step_overwrites_safely(step, update->parameter, update->value)) return false;
  }
  for (int i = 0; i < s->graph->output_count; i++) {
    if (s->output_views[i].base == update->parameter) return false;
  }
  for (int i = 0; i < s->graph->update_count; i++) {
    if (s->graph->updates[i].value == update->parameter) return false;
  }
  return true;
}

hfb_status hfb_schedule_place_updates(hfb_schedule *schedule) {
  const hfb_graph *graph = schedule->graph;
  const size_t values = (size_t)graph->value_count + 1;
  placement p = {.s = schedule};
  if (graph->update_count == 0) return HFB_OK;
  hfb_status status = hfb_mem_alloc(values, sizeof *p.maker, &p.maker);
  if (status == HFB_OK) status = hfb_mem_alloc(values, sizeof *p.update_of, &p.update_of);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)schedule->step_count + 1, sizeof *p.key, &p.key);
  if (status == HFB_OK)
    status = hfb_mem_alloc((size_t)graph->update_count, sizeof *schedule->copied_updates, &schedule->copied_updates);
  if (status == HFB_OK) {
    for (int v = 0; v < graph->value_count; v++) p.maker[v] = -1;
    for (int i = graph->update_count - 1; i >= 0; i--) p.update_of[graph->updates[i].value->id] = &graph->updates[i];
    find_makers(&p);
    status = reorder(&p);
  }
  if (status == HFB_OK) {
    find_makers(&p);
    for (int i = 0; i < graph->update_count; i++) {
      const hfb_update *update = &graph->updates[i];
      hfb_storage *storage = &schedule->storage[update->value->id];
      if (may_overwrite(&p, update)) {
        storage->kind = HFB_STORAGE_PARAMETER;
        storage->index = schedule->storage[update->parameter->id].index;
      } else {
        schedule->copied_updates[schedule->copied_update_count++] = update;
      }
    }
  }
  hfb_mem_free(p.maker);
  hfb_mem_free(p.update_of);
  hfb_mem_free(p.key);
  return status;
}
