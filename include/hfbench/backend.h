/* The interface of an engine: eager, native, and any engine that somebody plugs in.
 *
 * compile turns a graph into a program for a device; parameters are bound once (an engine may rearrange them); run
 * executes one step. The harness measures every engine through these functions only. */
#ifndef HFBENCH_BACKEND_H
#define HFBENCH_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "device/tensor.h"
#include "ir/graph.h"

typedef struct hfb_program hfb_program; /* defined by each engine; starts with hfb_program_base */

typedef struct hfb_backend_options {
  bool reference;        /* eager: plain kernels only (the float64 reference) */
  bool profile;          /* keep per-node times */
  /* eager: a run fails at the first op whose results are not finite although all of its float inputs are; the message
   * is "<scope>: <op> gives nan" (or inf). Sources, where and movement are not blamed: masks hold -inf. */
  bool find_nonfinite;
  /* Nobody else reads the parameters from bind_parameters to destroy: an engine may keep them in another layout, within
   * the memory that was bound. Afterwards, and after a bind_parameters that failed, they hold nothing of use. */
  bool owns_parameters;
  const char *cache_dir; /* native: NULL = the default (HFBENCH_CACHE, XDG_CACHE_HOME), "" = no cache */
  const char *dump_pass; /* native: print the graph or schedule after this pass to dump_text; NULL = none */
  struct hfb_strbuf *dump_text;
} hfb_backend_options;

typedef struct hfb_program_stats {
  int64_t compile_ns;          /* all of compile */
  int64_t passes_ns, codegen_ns, cc_ns, load_ns; /* parts of it; 0 where they do not apply */
  bool cache_hit;
  int64_t kernels_run;         /* kernels launched by all runs so far: proof that the program did the work */
  /* Working memory known before running, beyond parameters, inputs and outputs; -1 unknown. */
  int64_t planned_peak_bytes;
  int64_t packed_bytes;        /* parts of parameters that the program keeps beside what was bound */
} hfb_program_stats;

/* What a program of a graph takes beyond the parameters and inputs that are bound to it. */
typedef struct hfb_program_memory {
  int64_t packed_bytes; /* parts of parameters beside what was bound, from bind_parameters to destroy */
  int64_t output_bytes; /* of one run */
  int64_t run_bytes;    /* what the device has taken after a run, outputs and what its cache keeps included */
} hfb_program_memory;

typedef struct hfb_backend {
  const char *name; /* as in --backend */
  const char *help;
  /* From the graph alone, in the time of a compile without the C compiler. NULL: the engine cannot tell. */
  hfb_status (*plan)(const hfb_graph *graph, int threads, const hfb_backend_options *options,
                     hfb_program_memory *out_memory) HFB_MUST_USE;
  /* The graph must outlive the program. On failure the message says why (HFB_UNSUPPORTED: the engine cannot run it). */
  hfb_status (*compile)(const hfb_graph *graph, hfb_device *device, const hfb_backend_options *options,
                        hfb_program **out_program) HFB_MUST_USE;
  /* In the order of graph->parameters; row-major tensors that must stay alive and unmoved until destroy. Called before
   * the first run, and again, with row-major values, after parameters were changed from outside. A run writes the
   * tensors of updated parameters (graph->updates): no other tensor may share their memory, and between two runs they
   * hold the new values. */
  hfb_status (*bind_parameters)(hfb_program *program, const hfb_tensor *parameters) HFB_MUST_USE;
  /* inputs in the order of graph->inputs. outputs, in the order of graph->outputs, are made by the program and owned
   * by the caller afterwards (hfb_tensor_release each); on failure none is. Outputs may share buffers, never with
   * parameters. After a failed run the values of updated parameters are undefined; all others are as before. */
  hfb_status (*run)(hfb_program *program, const hfb_tensor *inputs, hfb_tensor *outputs) HFB_MUST_USE;
  void (*stats)(const hfb_program *program, hfb_program_stats *out_stats);
  /* Per-node times of all runs since compile, in ns, by node id of the compiled graph; NULL when not profiled. */
  const int64_t *(*profile)(const hfb_program *program);
  void (*destroy)(hfb_program *program); /* NULL is allowed */
} hfb_backend;

/* What every program starts with, so that generic code can find its engine. */
typedef struct hfb_program_base {
  const hfb_backend *backend;
} hfb_program_base;

#endif
