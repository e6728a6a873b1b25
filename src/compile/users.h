/* Who reads each value of a graph. */
#ifndef HFB_COMPILE_USERS_H
#define HFB_COMPILE_USERS_H

#include "ir/graph.h"

typedef struct hfb_users {
  int *use_counts;        /* by value id; outputs and updates count */
  int *begin;             /* by value id, one more than values */
  const hfb_node **nodes; /* nodes[begin[id] .. begin[id + 1]): a node that reads a value twice is there twice */
} hfb_users;

hfb_status hfb_users_init(const hfb_graph *graph, hfb_users *out_users) HFB_MUST_USE;
void hfb_users_deinit(hfb_users *users); /* a cleared struct is allowed */

/* How many inputs of nodes read the value. */
static inline int hfb_users_count(const hfb_users *users, const hfb_value *value) {
  return users->begin[value->id + 1] - users->begin[value->id];
}

/* User number `index`. */
static inline const hfb_node *hfb_users_at(const hfb_users *users, const hfb_value *value, int index) {
  return users->nodes[users->begin[value->id] + index];
}

/* True when an output or an update shows the value. */
static inline bool hfb_users_escapes(const hfb_users *users, const hfb_value *value) {
  return users->use_counts[value->id] > hfb_users_count(users, value);
}

#endif
