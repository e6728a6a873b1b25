/* Discrete decisions of a model that rounding may turn: the orders in which it sorts (Reformer's tokens by their
 * hashes). A token between two buckets may fall into one in float32 and into the other in float64; its chunk and all
 * behind it then see other keys, and outputs differ by far more than rounding. So a side whose outputs are far from
 * float64 is compared once more, with a float64 run that sorts as that side did: outputs must agree then, and what is
 * sorted by must differ in next to nothing. */
#ifndef HFB_BENCH_DECISIONS_H
#define HFB_BENCH_DECISIONS_H

#include "bench/job.h"

typedef struct hfb_decisions {
  int64_t keys;   /* that are sorted by, in all sorts together */
  int64_t turned; /* keys that are others in float64, given the decisions before them */
  double error;   /* of the side's outputs against float64 with the side's orders, scaled */
} hfb_decisions;

/* The share of keys that may be turned: one in ten thousand. A hash lies within the rounding of float32 of a border
 * with a chance of some 1e-5; one that is computed wrongly is nearly always another. */
#define HFB_DECISIONS_MOST_TURNED 1e-4

bool hfb_graph_has_decisions(const hfb_graph *graph);

/* Forward passes only. `graph` is the job's, with its workload's inputs; parameters are drawn anew. */
hfb_status hfb_decisions_check(const hfb_job *job, const hfb_backend *backend,
                               hfb_decisions *out_decisions) HFB_MUST_USE;

#endif
