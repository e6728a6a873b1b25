#include "bench/engine.h"

#include <assert.h>
#include <string.h>

#include "compile/native.h"
#include "eager/eager.h"

static const hfb_engine engines[] = {
    {"native", hfb_backend_native, false, "this project's compiler: fused loops, packed products, planned memory"},
    {"eager", hfb_backend_eager, true, "op by op, one tuned kernel each; compared with eager it shows the noise floor"},
    {"nothing", hfb_backend_eager, true, "the reference harness's name for the same: eager against eager"},
};

int hfb_engine_count(void) { return (int)(sizeof(engines) / sizeof(engines[0])); }

const hfb_engine *hfb_engine_at(int index) {
  assert(index >= 0 && index < hfb_engine_count());
  return &engines[index];
}

const hfb_engine *hfb_engine_find(const char *name) {
  for (int i = 0; i < hfb_engine_count(); i++) {
    if (strcmp(engines[i].name, name) == 0) return &engines[i];
  }
  return NULL;
}
