/* The engines by name, as in --backend. */
#ifndef HFB_BENCH_ENGINE_H
#define HFB_BENCH_ENGINE_H

#include <stdbool.h>

#include "hfbench/backend.h"

typedef struct hfb_engine {
  const char *name;
  const hfb_backend *(*backend)(void);
  bool is_control; /* eager again: what is measured is noise */
  const char *help;
} hfb_engine;

int hfb_engine_count(void);
const hfb_engine *hfb_engine_at(int index);
const hfb_engine *hfb_engine_find(const char *name); /* NULL when there is none */

#endif
