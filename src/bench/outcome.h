/* What a run leaves behind and an accuracy check compares: the outputs, and in training the updated parameters. */
#ifndef HFB_BENCH_OUTCOME_H
#define HFB_BENCH_OUTCOME_H

#include "bench/job.h"

typedef enum hfb_outcome_kind {
  HFB_OUTCOME_OUTPUT, /* the loss, in inference all outputs */
  HFB_OUTCOME_GRADIENT,
  HFB_OUTCOME_PARAMETER, /* after the step */
  HFB_OUTCOME_NO_GRADIENT /* of a trainable parameter that the loss does not depend on: zeros, nothing is stored */
} hfb_outcome_kind;

typedef struct hfb_outcome_item {
  const char *name; /* "loss", "grad/<parameter>", "param/<parameter>" */
  hfb_outcome_kind kind;
  int index; /* of the output, or of the parameter */
} hfb_outcome_item;

typedef struct hfb_outcome {
  hfb_outcome_item *items; /* sorted by name */
  int count;
  hfb_arena arena; /* of everything here */
} hfb_outcome;

/* Of a side that runs `graph`, or its form in another precision; `graph` must live as long. */
hfb_status hfb_outcome_list(const hfb_graph *graph, hfb_outcome *out_outcome) HFB_MUST_USE;
void hfb_outcome_deinit(hfb_outcome *outcome); /* a cleared struct is allowed */

/* Borrowed; NULL for NO_GRADIENT. */
const hfb_tensor *hfb_outcome_tensor(const hfb_side *side, const hfb_outcome_item *item);

/* 128 bits of XXH3. */
typedef struct hfb_hash {
  uint64_t low, high;
} hfb_hash;

/* Of the bits of each item by itself: equal for equal tensors. out_hashes: outcome->count. */
hfb_status hfb_outcome_hashes(const hfb_outcome *outcome, const hfb_side *side, hfb_hash *out_hashes) HFB_MUST_USE;

enum { HFB_STATE_HASH_BYTES = 33 };
/* Of the bits of all items in their order, as 32 hexadecimal digits. */
hfb_status hfb_outcome_hash(const hfb_outcome *outcome, const hfb_side *side,
                            char out_text[HFB_STATE_HASH_BYTES]) HFB_MUST_USE;

#endif
