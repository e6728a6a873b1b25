#include "bench/need.h"

#include <stdio.h>

#include "base/cpu.h"
#include "bench/memory_limit.h"
#include "device/cpu/reservation.h"

/* Beyond what this process holds before it starts: generated code, graphs of the engine, results. And for each thread:
 * its stack, and the blocks that products and attention pack. Holes between blocks come to a share of all. */
static const int64_t program_bytes = 24 << 20, thread_bytes = 6 << 20;
enum { HOLES_DIVISOR = 50 };

static const double gigabyte = 1e9;

int64_t hfb_memory_need_total(const hfb_memory_need *need) {
  const int64_t tensors =
      need->parameter_bytes + need->optimizer_bytes + need->working_bytes + need->reference_bytes;
  return tensors + tensors / HOLES_DIVISOR + need->process_bytes;
}

static int64_t bytes_of(const hfb_value *value) {
  return hfb_block_resident_bytes(hfb_value_bytes(value));
}

/* What the tensors of one graph take. */
typedef struct graph_bytes {
  int64_t parameters, optimizer, inputs;
} graph_bytes;

static graph_bytes measure(const hfb_graph *graph) {
  graph_bytes bytes = {0};
  for (int i = 0; i < graph->parameter_count; i++) {
    const bool is_state = hfb_graph_parameter_is_of_optimizer(graph, i);
    *(is_state ? &bytes.optimizer : &bytes.parameters) += bytes_of(graph->parameters[i]);
  }
  for (int i = 0; i < graph->input_count; i++) bytes.inputs += bytes_of(graph->inputs[i]);
  return bytes;
}

static int thread_count(const hfb_job *job) { return job->threads > 0 ? job->threads : hfb_cpu()->core_count; }

/* An engine that cannot tell is taken to need what eager needs. */
static hfb_status plan(const hfb_job *job, const hfb_backend *backend, const hfb_graph *graph, bool reference,
                       hfb_program_memory *out_memory) {
  const hfb_backend_options options = {.reference = reference, .owns_parameters = !reference};
  if (!backend->plan) backend = hfb_engine_find("eager")->backend();
  return backend->plan(graph, thread_count(job), &options, out_memory);
}

/* `stage` becomes the peak when it is the largest so far. */
static void note_stage(hfb_memory_need *peak, hfb_memory_need stage) {
  stage.process_bytes = peak->process_bytes;
  if (hfb_memory_need_total(&stage) > hfb_memory_need_total(peak)) *peak = stage;
}

static hfb_memory_need start(const hfb_job *job) {
  const int64_t now = hfb_resident_bytes();
  return (hfb_memory_need){.process_bytes = (now > 0 ? now : 0) + program_bytes + thread_count(job) * thread_bytes};
}

/* What the reference keeps for the comparison; notes the stages until then. */
static hfb_status note_reference(const hfb_job *job, const graph_bytes *own, const hfb_graph *graph64,
                                 const hfb_graph *loss64, hfb_memory_need *peak, int64_t *out_kept) {
  const hfb_backend *eager = hfb_engine_find("eager")->backend();
  const graph_bytes wide = measure(graph64);
  const int64_t inputs = wide.inputs, parameters = job->training ? wide.parameters : 0;
  const int64_t shared = job->training ? 0 : own->parameters;
  hfb_program_memory run;
  HFB_TRY(plan(job, eager, graph64, true, &run));
  note_stage(peak, (hfb_memory_need){.parameter_bytes = shared,
                                     .working_bytes = own->inputs,
                                     .reference_bytes = parameters + wide.optimizer + inputs + run.run_bytes});
  *out_kept = parameters + run.output_bytes;
  if (!loss64) return HFB_OK;
  const graph_bytes forward = measure(loss64);
  hfb_program_memory loss;
  HFB_TRY(plan(job, eager, loss64, false, &loss));
  note_stage(peak, (hfb_memory_need){.working_bytes = own->inputs,
                                     .reference_bytes = *out_kept + wide.optimizer + inputs + forward.parameters +
                                                        loss.run_bytes});
  return HFB_OK;
}

static hfb_status accuracy_need(const hfb_job *job, const hfb_graph *graph, const hfb_graph *graph64,
                                const hfb_graph *loss64, hfb_memory_need *out_need) {
  const graph_bytes own = measure(graph);
  hfb_memory_need peak = start(job);
  hfb_program_memory eager, compiled;
  int64_t reference_bytes = 0;
  if (graph64) HFB_TRY(note_reference(job, &own, graph64, loss64, &peak, &reference_bytes));
  HFB_TRY(plan(job, hfb_engine_find("eager")->backend(), graph, false, &eager));
  HFB_TRY(plan(job, job->engine->backend(), graph, false, &compiled));
  note_stage(&peak, (hfb_memory_need){.parameter_bytes = own.parameters,
                                      .optimizer_bytes = own.optimizer,
                                      .working_bytes = own.inputs + eager.run_bytes + eager.packed_bytes,
                                      .reference_bytes = reference_bytes});
  note_stage(&peak, (hfb_memory_need){.parameter_bytes = own.parameters * (job->training ? 2 : 1),
                                      .optimizer_bytes = own.optimizer,
                                      .working_bytes = own.inputs + eager.output_bytes + compiled.run_bytes +
                                                       compiled.packed_bytes,
                                      .reference_bytes = reference_bytes});
  *out_need = peak;
  return HFB_OK;
}

/* In training the gradients of the reference are checked against its loss. */
hfb_status hfb_accuracy_need(const hfb_job *job, const hfb_graph *graph, const hfb_graph *graph64,
                             hfb_memory_need *out_need) {
  hfb_graph *loss64 = NULL;
  hfb_job wide = *job;
  wide.precision = HFB_F64;
  if (graph64 && job->training) HFB_TRY(hfb_job_loss_graph(&wide, &loss64));
  hfb_status status = accuracy_need(job, graph, graph64, loss64, out_need);
  hfb_graph_destroy(loss64);
  return status;
}

/* Both sides next to each other: each of them alone needs less. */
hfb_status hfb_performance_need(const hfb_job *job, const hfb_graph *graph, bool shares_parameters,
                                hfb_memory_need *out_need) {
  const graph_bytes own = measure(graph);
  const int copies = shares_parameters ? 1 : 2;
  hfb_program_memory eager, compiled;
  HFB_TRY(plan(job, hfb_engine_find("eager")->backend(), graph, false, &eager));
  HFB_TRY(plan(job, job->engine->backend(), graph, false, &compiled));
  *out_need = start(job);
  out_need->process_bytes += thread_count(job) * thread_bytes; /* each side has threads of its own */
  out_need->parameter_bytes = own.parameters * copies;
  out_need->optimizer_bytes = own.optimizer * 2;
  out_need->working_bytes =
      own.inputs + eager.run_bytes + eager.packed_bytes + compiled.run_bytes + compiled.packed_bytes;
  return HFB_OK;
}

static int64_t allowed_bytes(const hfb_job *job) {
  return job->memory_bytes > 0 ? job->memory_bytes : hfb_memory_available_bytes();
}

bool hfb_memory_need_fits(const hfb_job *job, const hfb_memory_need *need) {
  return hfb_memory_need_total(need) <= allowed_bytes(job);
}

static hfb_status need_of_graph(const hfb_job *job, unsigned phase, const hfb_graph *graph, hfb_memory_need *out_need) {
  if (phase == HFB_PHASE_PERFORMANCE) return hfb_performance_need(job, graph, !job->training, out_need);
  hfb_graph *graph64 = NULL;
  HFB_TRY(hfb_job_reference_graph(job, graph, &graph64));
  hfb_status status = hfb_accuracy_need(job, graph, graph64, out_need);
  hfb_graph_destroy(graph64);
  return status;
}

/* What the job would need with weights in bf16; 0 where they are no way out. */
static int64_t total_with_bf16(const hfb_job *job, unsigned phase) {
  hfb_job narrow = *job;
  hfb_graph *graph = NULL;
  hfb_memory_need need;
  narrow.weights = HFB_BF16;
  if (job->training || job->precision != HFB_F32 || job->weights == HFB_BF16) return 0;
  if (hfb_job_graph(&narrow, true, NULL, &graph) != HFB_OK) return 0;
  hfb_status status = need_of_graph(&narrow, phase, graph, &need);
  hfb_graph_destroy(graph);
  return status == HFB_OK ? hfb_memory_need_total(&need) : 0;
}

hfb_status hfb_memory_need_fail(const hfb_job *job, unsigned phase, const hfb_memory_need *need) {
  const int64_t total = hfb_memory_need_total(need), with_bf16 = total_with_bf16(job, phase);
  const int64_t process =
      total - need->parameter_bytes - need->optimizer_bytes - need->working_bytes - need->reference_bytes;
  char optimizer[48] = "", reference[48] = "", advice[64] = "";
  if (need->optimizer_bytes > 0) {
    snprintf(optimizer, sizeof(optimizer), ", optimizer %.2f", (double)need->optimizer_bytes / gigabyte);
  }
  if (need->reference_bytes > 0) {
    snprintf(reference, sizeof(reference), ", float64 reference %.2f", (double)need->reference_bytes / gigabyte);
  }
  if (with_bf16 > 0 && with_bf16 < total) {
    snprintf(advice, sizeof(advice), "; --weights bf16 needs %.2f GB", (double)with_bf16 / gigabyte);
  }
  return HFB_FAIL(HFB_OUT_OF_MEMORY,
                  "needs %.2f GB (parameters %.2f%s, working memory %.2f%s, process %.2f), %.2f GB %s%s",
                  (double)total / gigabyte, (double)need->parameter_bytes / gigabyte, optimizer,
                  (double)need->working_bytes / gigabyte, reference, (double)process / gigabyte,
                  (double)allowed_bytes(job) / gigabyte, job->memory_bytes > 0 ? "may be taken" : "are free", advice);
}
