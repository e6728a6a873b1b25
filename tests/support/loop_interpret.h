/* Loops computed element by element in double, with a bound on the error that single precision may make: what generated
 * code is compared with. */
#ifndef HFB_TESTS_SUPPORT_LOOP_INTERPRET_H
#define HFB_TESTS_SUPPORT_LOOP_INTERPRET_H

#include "compile/loop.h"

/* One value. Integers and bools are in `integer`, floats in `value`, at most `error` away from what correct code gives.
 * unknown: rounding may lead to anything (a comparison of nearly equal numbers, an overflow); not to be compared. */
typedef struct loop_value {
  double value, error;
  int64_t integer;
  bool unknown;
} loop_value;

/* Called for every element that the loop stores, once for a row where a store does not run along it. offset: in
 * elements of the slot; for slot 0 of a TILE or SCORE loop, row * (inner extent) + column. */
typedef void (*loop_stored_fn)(void *context, int store, int64_t offset, loop_value value);

/* Computes the rows of the whole space. `slots` as for the generated code, before it ran; slot 0 of a TILE or SCORE
 * loop is a matrix of all rows and columns for one `batch` and `head`. */
hfb_status loop_interpret(const hfb_loop *loop, void *const *slots, int64_t batch, int64_t head, loop_stored_fn stored,
                          void *context) HFB_MUST_USE;

#endif
