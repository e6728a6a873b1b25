/* One pass over a row: its loops, the reductions that it finishes, the stores of the last one. */
#ifndef HFB_COMPILE_CODEGEN_PASS_H
#define HFB_COMPILE_CODEGEN_PASS_H

#include "compile/codegen_terms.h"

/* Writes the pass and, after it, the reduced values as variables of the row. */
void hfb_codegen_pass(hfb_codegen *g, int pass);

#endif
