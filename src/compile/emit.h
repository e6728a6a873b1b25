/* The generated C of a schedule: names for loops, translation units of about equal size. */
#ifndef HFB_COMPILE_EMIT_H
#define HFB_COMPILE_EMIT_H

#include "base/cpu.h"
#include "compile/schedule.h"

enum { HFB_MAX_UNITS = 16 };

typedef struct hfb_code {
  hfb_strbuf units[HFB_MAX_UNITS];
  int unit_count;
  int function_count; /* unique loops */
} hfb_code;

/* Sets step->function of every step with a loop (equal loops share one function) and schedule->scratch_bytes, and
 * writes the functions into at most `max_units` units. */
hfb_status hfb_emit(hfb_schedule *schedule, hfb_isa isa, int max_units, hfb_code *out_code) HFB_MUST_USE;
void hfb_code_deinit(hfb_code *code);

#endif
