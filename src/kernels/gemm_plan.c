/* The cuts are ranked by an estimate of the time in multiply-adds of one thread. What counts: waves of tasks (a task
 * that is left over keeps one thread busy and the others waiting), packing the same block again, and operands that
 * come from the last cache for few rows or columns. */
#include "kernels/gemm_plan.h"

#include <math.h>

#include "kernels/gemm_block.h"
#include "kernels/gemm_pack.h"
#include "kernels/integers.h"

enum {
  ROW_BLOCK = 64,              /* rows that pass by a panel of B, and are then handed to the epilogue */
  ROW_BLOCK_PACKED = 256,      /* the same where A is packed: its columns are read in longer runs */
  B_BLOCK_BYTES = 600 * 1024,  /* of a 1 MiB L2; the rest is for A and C */
  FEW_ROWS = 16,               /* up to here packing B costs more than it gains */
  FEW_COLUMNS = 4,             /* up to here a tile would be mostly empty */
  SHARED_BYTES = 8 << 20,      /* of one block of K, in the last cache; a larger B is cut by columns instead */
  STAGE_BYTES = 1 << 20,       /* that each thread adds to a stage; a stage is one block at least */
  MOST_CUTS = 48,              /* of rows or columns that are tried */
  MOST_TASKS_PER_THREAD = 64,
};

/* In multiply-adds of one thread at full speed. Fitted to bench_gemm, all shapes and layouts, with 16 threads: the mean
 * error of the estimates is 10 %. */
static const double pack_cost = 24;     /* an element of A or B packed */
static const double stream_cost = 4;    /* an element that is read ahead: of A in place, of B in place */
/* A packed element that the last cache provides, or another core's, which gets likelier with their number. */
static const double fetch_cost_base = 6, fetch_cost_per_thread = 1, fetch_cost_most = 16;
static const double task_cost = 5e4;    /* about a microsecond */
static const double meeting_cost = 1e5; /* for each thread: all of them wait for one another */
/* Of a task: what the last ones to end leave the other threads waiting. */
static const double straggler_share = 0.25;

typedef struct cut {
  int64_t row_tasks, column_tasks, rows, panels;
} cut;

/* A ladder of cuts from 1 to `most`: each up to 8, then in steps of a quarter; `most` is always there. */
static int list_cuts(int64_t most, int64_t out_cuts[MOST_CUTS]) {
  int count = 0;
  for (int64_t n = 1; n < most && count < MOST_CUTS - 1; n += n < 8 ? 1 : n / 4) out_cuts[count++] = n;
  out_cuts[count++] = most;
  return count;
}

static cut make_cut(const hfb_gemm *gemm, const hfb_gemm_plan *plan, int64_t row_tasks, int64_t column_tasks) {
  cut c = {.panels = ceil_div(plan->panel_count, column_tasks)};
  c.column_tasks = ceil_div(plan->panel_count, c.panels);
  c.rows = min_i64(gemm->m, round_up(ceil_div(gemm->m, row_tasks), plan->tile_rows));
  c.row_tasks = ceil_div(gemm->m, c.rows);
  return c;
}

static int64_t block_bytes(const hfb_gemm_plan *plan, const hfb_gemm_isa *kernels, int64_t lines) {
  return lines * plan->k_block * kernels->element_bytes;
}

static bool is_allowed(const hfb_gemm_plan *plan, const hfb_gemm_isa *kernels, const cut *c) {
  if (plan->b_mode == HFB_GEMM_B_PACK) {
    return c->panels == 1 || block_bytes(plan, kernels, c->panels * plan->width) <= B_BLOCK_BYTES;
  }
  /* Several tasks read the same rows: they are packed for all. */
  if (plan->b_mode == HFB_GEMM_B_SHARED && c->column_tasks > 1) {
    return c->rows <= ROW_BLOCK_PACKED && block_bytes(plan, kernels, c->rows * c->row_tasks) <= SHARED_BYTES;
  }
  return true;
}

static double estimate(const hfb_gemm *gemm, const hfb_gemm_plan *plan, const hfb_gemm_isa *kernels, int threads,
                       const cut *c) {
  const double rows = (double)c->rows, columns = (double)(c->panels * plan->width), depth = (double)gemm->k;
  const bool stays_in_l2 = block_bytes(plan, kernels, c->panels * plan->width) <= B_BLOCK_BYTES;
  const double b_passes = stays_in_l2 ? 1 : (double)ceil_div(c->rows, plan->row_block);
  const bool packs_b = plan->b_mode == HFB_GEMM_B_PACK;
  const bool shares_a = plan->b_mode == HFB_GEMM_B_SHARED && c->column_tasks > 1;
  const double fetch_cost = fmin(fetch_cost_base + fetch_cost_per_thread * threads, fetch_cost_most);
  const bool in_place = plan->b_mode == HFB_GEMM_B_IN_PLACE || plan->b_mode == HFB_GEMM_B_DOT;
  const double a_cost = plan->a_mode == HFB_GEMM_A_IN_PLACE ? stream_cost : shares_a ? fetch_cost : pack_cost;
  const double b_cost = packs_b    ? pack_cost + fetch_cost * (b_passes - 1)
                        : in_place ? stream_cost
                                   : fetch_cost * b_passes;
  const double one_task = depth * (rows * columns + columns * b_cost + rows * a_cost) + task_cost;
  const int64_t tasks = gemm->batch * c->row_tasks * c->column_tasks;
  const double meeting = threads > 1 && tasks > 1 ? meeting_cost * threads : 0;
  double time = one_task * (double)ceil_div(tasks, threads) + meeting;
  if (meeting > 0) time += one_task * straggler_share;
  if (plan->b_mode == HFB_GEMM_B_SHARED) {
    const double packed = (double)(plan->panel_count * plan->width) + (shares_a ? (double)gemm->m : 0);
    const double stages = (double)ceil_div(gemm->k, plan->stage_depth);
    time += packed * depth * pack_cost / threads + (2 * stages - 1) * meeting;
  }
  return time;
}

/* The best cut of the plan's mode; returns its time. Cuts in one direction only are tried however many tasks they make:
 * a block of B that stays in L2 may need them. */
static double choose_cut(const hfb_gemm *gemm, hfb_gemm_plan *plan, const hfb_gemm_isa *kernels, int threads) {
  const int64_t most_tasks = (int64_t)threads * MOST_TASKS_PER_THREAD;
  int64_t row_cuts[MOST_CUTS], column_cuts[MOST_CUTS];
  const int row_cut_count = list_cuts(ceil_div(gemm->m, plan->tile_rows), row_cuts);
  const int column_cut_count = list_cuts(plan->panel_count, column_cuts);
  double best_time = -1;
  for (int i = 0; i < column_cut_count; i++) {
    for (int j = 0; j < row_cut_count; j++) {
      if (i > 0 && j > 0 && gemm->batch * row_cuts[j] * column_cuts[i] > most_tasks) break;
      const cut c = make_cut(gemm, plan, row_cuts[j], column_cuts[i]);
      if (!is_allowed(plan, kernels, &c)) continue;
      const double time = estimate(gemm, plan, kernels, threads, &c);
      if (best_time >= 0 && time >= best_time) continue;
      best_time = time;
      plan->row_tasks = c.row_tasks;
      plan->column_tasks = c.column_tasks;
      plan->rows_per_task = c.rows;
      plan->panels_per_task = c.panels;
    }
  }
  return best_time;
}

static hfb_gemm_b_mode choose_b_mode(const hfb_gemm *gemm) {
  if (gemm->packed_b) return HFB_GEMM_B_PACKED;
  if (gemm->b_is_bf16) return HFB_GEMM_B_PACK; /* the kernels read f32 */
  const bool few = gemm->m <= FEW_ROWS;
  if (gemm->a_col_stride == 1 && gemm->b_row_stride == 1 && (few || gemm->n <= FEW_COLUMNS)) return HFB_GEMM_B_DOT;
  if (gemm->b_col_stride == 1 && few) return HFB_GEMM_B_IN_PLACE;
  return HFB_GEMM_B_PACK;
}

/* The same product with a shared B, where that is quicker. With A in place it never was, measured: a B that several
 * tasks pack again costs less than the meetings. */
static void consider_sharing(const hfb_gemm *gemm, const hfb_gemm_isa *kernels, int threads, double time,
                             hfb_gemm_plan *plan) {
  hfb_gemm_plan shared = *plan;
  const int64_t b_bytes = block_bytes(plan, kernels, plan->panel_count * plan->width);
  if (b_bytes > SHARED_BYTES) return;
  shared.b_mode = HFB_GEMM_B_SHARED;
  const int64_t blocks = max_i64(1, (int64_t)threads * STAGE_BYTES / max_i64(1, b_bytes));
  shared.stage_depth = min_i64(max_i64(1, ceil_div(gemm->k, plan->k_block)), blocks) * plan->k_block;
  const double shared_time = choose_cut(gemm, &shared, kernels, threads);
  if (shared_time < 0 || shared_time >= time) return;
  if (shared.column_tasks > 1) shared.a_mode = HFB_GEMM_A_SHARED;
  *plan = shared;
}

static size_t aligned(int64_t elements, const hfb_gemm_isa *kernels) {
  return (size_t)round_up(elements * kernels->element_bytes, HFB_GEMM_ALIGNMENT);
}

static void plan_scratch(const hfb_gemm *gemm, const hfb_gemm_isa *kernels, hfb_gemm_plan *plan) {
  const int64_t b_panels = plan->b_mode == HFB_GEMM_B_PACK ? plan->panels_per_task
                                                           : plan->b_mode == HFB_GEMM_B_IN_PLACE ? 1 : 0;
  plan->worker_b_bytes = aligned(b_panels * plan->width * plan->k_block, kernels);
  if (plan->b_mode == HFB_GEMM_B_SHARED) {
    plan->shared_b_bytes = aligned(plan->panel_count * plan->width * plan->stage_depth, kernels);
  }
  if (plan->a_mode == HFB_GEMM_A_SHARED) plan->shared_a_bytes = aligned(gemm->m * plan->stage_depth, kernels);
  if (plan->a_mode == HFB_GEMM_A_PACK) {
    const int64_t rows = min_i64(plan->rows_per_task, plan->row_block + plan->row_block / 4);
    plan->worker_a_bytes = aligned(rows * plan->k_block, kernels);
  }
}

void hfb_gemm_plan_make(const hfb_gemm *gemm, const hfb_gemm_isa *kernels, int threads, hfb_gemm_plan *out_plan) {
  hfb_gemm_plan plan = {.b_mode = choose_b_mode(gemm)};
  const bool packs_a = plan.b_mode != HFB_GEMM_B_DOT && gemm->a_col_stride != 1;
  plan.a_mode = packs_a ? HFB_GEMM_A_PACK : HFB_GEMM_A_IN_PLACE;
  plan.width = gemm->packed_b ? gemm->packed_b->width : hfb_gemm_panel_width(kernels, gemm->n);
  plan.panel_count = ceil_div(gemm->n, plan.width);
  plan.tile_rows = hfb_gemm_tile_rows(kernels, plan.width);
  /* Half the depth leaves room in L2 for twice the columns, so that A is packed half as often. */
  const int64_t deepest = packs_a ? kernels->k_block / 2 : kernels->k_block;
  const int64_t blocks = max_i64(1, ceil_div(gemm->k, deepest));
  plan.k_block = max_i64(1, round_up(ceil_div(gemm->k, blocks), kernels->lanes));
  plan.row_block = round_up(packs_a ? ROW_BLOCK_PACKED : ROW_BLOCK, plan.tile_rows);
  const double time = choose_cut(gemm, &plan, kernels, threads);
  if (packs_a && plan.b_mode == HFB_GEMM_B_PACK && gemm->batch == 1) {
    consider_sharing(gemm, kernels, threads, time, &plan);
  }
  plan_scratch(gemm, kernels, &plan);
  *out_plan = plan;
}
