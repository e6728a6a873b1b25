/* Random loops of every kind, with memory of exactly the size that they may touch. */
#ifndef HFB_TESTS_SUPPORT_LOOP_RANDOM_H
#define HFB_TESTS_SUPPORT_LOOP_RANDOM_H

#include "base/rng.h"
#include "compile/loop.h"

enum { LOOP_CASE_TERMS = 56, LOOP_CASE_SLOTS = 36, LOOP_CASE_STORES = 4, LOOP_CASE_SITES = 2 };

typedef struct random_source {
  hfb_philox stream;
  uint64_t next;
} random_source;

int64_t random_below(random_source *random, int64_t bound);

typedef struct loop_case {
  hfb_loop loop;
  hfb_term terms[LOOP_CASE_TERMS];
  hfb_store stores[LOOP_CASE_STORES];
  hfb_dtype dtypes[LOOP_CASE_SLOTS];
  int64_t elements[LOOP_CASE_SLOTS]; /* of each slot but that of the tile */
  int64_t bound[LOOP_CASE_SLOTS];    /* values of integer slots are in [-bound, bound) */
  int in_place[LOOP_CASE_STORES];    /* a loaded slot whose memory the store goes over, -1: none */
  int64_t sites[LOOP_CASE_SITES];
  random_source random;
} loop_case;

/* Equal seeds give equal loops. */
void loop_case_init(loop_case *c, uint64_t seed);

/* Fills a slot with values that loops are sensitive to: small and large, zeros, sometimes nan and infinities. */
void loop_case_fill(loop_case *c, int slot, void *data, int64_t elements);

#endif
