/* Speed and memory: each side first alone (memory, compile time, time to first result), then both in turns.
 *
 * Work is matched: the same parameters and inputs, the same number of calls, outputs allocated anew in every call and
 * freed outside the clock; each engine has its own device, so its own memory and threads. Each side has parameters of
 * its own, which it may rearrange and training steps change; they start alike. Where memory does not suffice for two
 * copies, and where weights are stored as bf16, which no engine rearranges, inference shares one.
 *
 * With the suite's learning rate some models diverge within a few steps. A step without a finite loss is no sample: the
 * side begins again with the parameters that it began with, outside the clock, and the row says so. Who diverges in the
 * first or second step has nothing that could be timed, and fails. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "bench/compare.h"
#include "bench/loss.h"
#include "bench/machine.h"
#include "bench/memory_limit.h"
#include "bench/need.h"
#include "bench/stats.h"

enum { WARMUP_RUNS_MIN = 1, WARMUP_RUNS_MAX = 5, REPEAT_MIN = 6, FINITE_STEPS_MIN = 2 };

/* After a job the threads of an engine look for the next one for a moment before they sleep: waiting here keeps them
 * out of the other engine's sample. */
static const int64_t settle_ns = 200000;
static const double warmup_limit_s = 2.0;

typedef struct bench {
  const hfb_job *job;
  const hfb_monitor *monitor;
  hfb_row *row;
  hfb_workload work;
  bool shares_parameters;
  int64_t input_bytes, parameter_bytes, optimizer_bytes, multiply_adds;
  int restart_count; /* of sides that diverged */
} bench;

/* What one side needs when it is alone. */
typedef struct alone {
  double first_result_s;
  double run_s;          /* of the last warm-up call */
  int64_t peak_bytes;    /* parameters and inputs included */
  int64_t working_bytes; /* of one call, beyond parameters, rearranged weights, inputs and outputs */
  int64_t resident_bytes; /* -1: unknown */
  hfb_program_stats stats;
} alone;

/* The clock runs for the call alone. */
static hfb_status time_call(const bench *b, hfb_side *side, int64_t *out_ns) {
  int64_t start = hfb_clock_ns();
  HFB_TRY(hfb_side_run(side, b->work.inputs));
  *out_ns = hfb_clock_ns() - start;
  return HFB_OK;
}

static hfb_status check_loss(const bench *b, const hfb_side *side) {
  return b->job->training ? hfb_loss_check(b->job, &b->work, side) : HFB_OK;
}

static void note_restart(bench *b, const hfb_side *side) {
  char note[160];
  snprintf(note, sizeof(note),
           "the loss of %s is not finite in step %lld; training began anew %d times, outside the clock",
           side->backend->name, (long long)side->run_count, ++b->restart_count);
  hfb_row_text(b->row, HFB_COLUMN_TIMING_NOTE, note);
}

/* One call, which must have a loss when it is a training step. */
static hfb_status run_call(bench *b, hfb_side *side, int64_t *out_ns) {
  HFB_TRY(time_call(b, side, out_ns));
  if (!b->job->training || isfinite(hfb_side_loss(side)) || side->run_count <= FINITE_STEPS_MIN)
    return check_loss(b, side);
  note_restart(b, side);
  hfb_side_drop_outputs(side);
  HFB_TRY(hfb_side_restart(side, b->job->seed));
  HFB_TRY(time_call(b, side, out_ns)); /* warms up; its time is not used */
  HFB_TRY(check_loss(b, side));
  hfb_side_drop_outputs(side);
  HFB_TRY(time_call(b, side, out_ns));
  return check_loss(b, side);
}

static double seconds_since(int64_t start_ns) { return (double)(hfb_clock_ns() - start_ns) * 1e-9; }

static const double gigabyte = 1e9;

static void record_ratio(const bench *b, hfb_column column, double numerator, double denominator) {
  hfb_row_real(b->row, column, denominator > 0 ? numerator / denominator : NAN);
}

/* More calls after the first: at least one, at most five, fewer when they are long. */
static hfb_status warm_up(bench *b, hfb_side *side, hfb_stage stage, double *out_run_s) {
  int64_t start = hfb_clock_ns();
  for (int i = 0; i < WARMUP_RUNS_MAX; i++) {
    if (i >= WARMUP_RUNS_MIN && seconds_since(start) > warmup_limit_s) break;
    hfb_monitor_step(b->monitor, stage, i, WARMUP_RUNS_MAX);
    int64_t run_ns;
    HFB_TRY(run_call(b, side, &run_ns));
    *out_run_s = (double)run_ns * 1e-9;
    hfb_side_drop_outputs(side);
  }
  return HFB_OK;
}

/* Memory of one call: the peak while it runs, and what its outputs hold afterwards. */
static hfb_status measure_step_memory(bench *b, hfb_side *side, alone *out) {
  int64_t ignored_ns, own_bytes = b->shares_parameters ? 0 : b->parameter_bytes + b->optimizer_bytes;
  hfb_device_reset_peak(side->device);
  HFB_TRY(run_call(b, side, &ignored_ns));
  int64_t with_outputs = hfb_device_memory(side->device).allocated_bytes, peak = hfb_side_peak_bytes(side);
  hfb_side_drop_outputs(side);
  int64_t output_bytes = with_outputs - hfb_device_memory(side->device).allocated_bytes;
  out->stats = hfb_side_stats(side);
  out->working_bytes = peak - own_bytes - output_bytes - out->stats.packed_bytes;
  return HFB_OK;
}

/* Opens a side with nothing else alive but shared parameters, runs it, measures it. `options` may name a cache
 * folder. */
static hfb_status measure_alone(bench *b, const hfb_backend *backend, const hfb_backend_options *options,
                                hfb_stage stage, hfb_side *side, alone *out) {
  bool has_resident = hfb_resident_peak_reset();
  int64_t run_ns, shared_bytes = b->shares_parameters ? b->parameter_bytes : 0;
  HFB_TRY(hfb_side_open_job(side, backend, b->job, &b->work, options));
  hfb_monitor_stage(b->monitor, stage);
  HFB_TRY(run_call(b, side, &run_ns));
  out->first_result_s = (double)(side->open_ns + run_ns) * 1e-9;
  hfb_side_drop_outputs(side);
  HFB_TRY(warm_up(b, side, stage, &out->run_s));
  out->peak_bytes = shared_bytes + b->input_bytes + hfb_side_peak_bytes(side);
  out->resident_bytes = has_resident ? hfb_resident_peak_bytes() : -1;
  return measure_step_memory(b, side, out);
}

static hfb_status measure_eager_alone(bench *b, alone *out) {
  hfb_monitor_stage(b->monitor, HFB_STAGE_EAGER_WARMUP);
  const hfb_backend_options options = {0};
  hfb_side side = {0};
  hfb_status status =
      measure_alone(b, hfb_engine_find("eager")->backend(), &options, HFB_STAGE_EAGER_WARMUP, &side, out);
  hfb_side_close(&side);
  HFB_TRY(status);
  hfb_row_real(b->row, HFB_COLUMN_EAGER_FIRST_RESULT_S, out->first_result_s);
  hfb_row_real(b->row, HFB_COLUMN_EAGER_PEAK_MEM, (double)out->peak_bytes / gigabyte);
  hfb_row_real(b->row, HFB_COLUMN_EAGER_WORKING_MEM, (double)out->working_bytes / gigabyte);
  if (out->resident_bytes >= 0) hfb_row_real(b->row, HFB_COLUMN_EAGER_RSS_MEM, (double)out->resident_bytes / gigabyte);
  return HFB_OK;
}

static void record_compiled_alone(const bench *b, const alone *cold) {
  const hfb_program_stats *stats = &cold->stats;
  double cold_s = (double)stats->compile_ns * 1e-9;
  hfb_row_real(b->row, HFB_COLUMN_COMPILE_COLD_S, cold_s);
  hfb_row_real(b->row, HFB_COLUMN_COMPILATION_LATENCY, cold_s);
  hfb_row_json(b->row, HFB_COLUMN_COMPILE_PHASES,
               json_pack("{s:f, s:f, s:f, s:f}", "passes", (double)stats->passes_ns * 1e-9, "codegen",
                         (double)stats->codegen_ns * 1e-9, "cc", (double)stats->cc_ns * 1e-9, "load",
                         (double)stats->load_ns * 1e-9));
  hfb_row_real(b->row, HFB_COLUMN_FIRST_RESULT_S, cold->first_result_s);
  hfb_row_real(b->row, HFB_COLUMN_DYNAMO_PEAK_MEM, (double)cold->peak_bytes / gigabyte);
  hfb_row_real(b->row, HFB_COLUMN_WORKING_MEM, (double)cold->working_bytes / gigabyte);
  hfb_row_real(b->row, HFB_COLUMN_PACKED_MEM, (double)stats->packed_bytes / gigabyte);
  if (stats->planned_peak_bytes >= 0) {
    hfb_row_real(b->row, HFB_COLUMN_PLANNED_PEAK_MEM, (double)stats->planned_peak_bytes / gigabyte);
  }
  if (cold->resident_bytes >= 0) hfb_row_real(b->row, HFB_COLUMN_RSS_MEM, (double)cold->resident_bytes / gigabyte);
}

/* The cold run first, with an empty cache; then one more compile, which finds everything in it. */
static hfb_status measure_compiled_alone(bench *b, alone *out) {
  hfb_monitor_stage(b->monitor, HFB_STAGE_COMPILE);
  const hfb_backend *backend = b->job->engine->backend();
  const hfb_backend_options options = {.cache_dir = b->job->cache_dir};
  hfb_side side = {0};
  hfb_status status = measure_alone(b, backend, &options, HFB_STAGE_COMPILED_WARMUP, &side, out);
  if (status == HFB_OK) record_compiled_alone(b, out);
  hfb_side_close(&side);
  HFB_TRY(status);
  hfb_device *device = NULL;
  hfb_program *program = NULL;
  hfb_backend_options warm = options;
  warm.owns_parameters = !b->shares_parameters; /* as a side that has its own: the same code is asked for */
  HFB_TRY(hfb_device_cpu_create(b->job->threads, b->job->memory_bytes, &device));
  status = backend->compile(b->work.graph, device, &warm, &program);
  if (status == HFB_OK) {
    hfb_program_stats stats = {0};
    backend->stats(program, &stats);
    hfb_row_real(b->row, HFB_COLUMN_COMPILE_WARM_S, (double)stats.compile_ns * 1e-9);
    backend->destroy(program);
  }
  hfb_device_destroy(device);
  return status;
}

/* ---- Both in turns ---- */

typedef struct duel {
  hfb_side eager, compiled;
  int repeat;
  double *eager_s, *compiled_s; /* samples */
} duel;

/* One sample: the clock runs during the calls alone. */
static hfb_status take_sample(bench *b, hfb_side *side, double *out_s) {
  for (int64_t start = hfb_clock_ns(); hfb_clock_ns() - start < settle_ns;) continue;
  int64_t total_ns = 0;
  for (int call = 0; call < b->job->calls; call++) {
    int64_t call_ns;
    HFB_TRY(run_call(b, side, &call_ns));
    total_ns += call_ns;
    hfb_side_drop_outputs(side);
  }
  *out_s = (double)total_ns * 1e-9;
  return HFB_OK;
}

/* A number without a right answer behind it is worth nothing: both sides must agree on these inputs too. The tolerance
 * is that of the accuracy check, without its float64 rule, since at this batch size there is no reference. In training
 * it is the loss of the first step. */
static hfb_status check_agreement(bench *b, duel *d) {
  int64_t ignored_ns;
  HFB_TRY(run_call(b, &d->eager, &ignored_ns));
  HFB_TRY(run_call(b, &d->compiled, &ignored_ns));
  const hfb_same_options options = {.tolerance = hfb_job_tolerance(b->job), .equal_nan = true};
  hfb_status status = HFB_OK;
  for (int i = 0; i < b->work.graph->output_count && status == HFB_OK; i++) {
    hfb_same_result result = hfb_same(&d->eager.outputs[i], &d->compiled.outputs[i], NULL, &options,
                                      hfb_device_pool(b->work.device));
    if (result.same) continue;
    status =
        HFB_FAIL(HFB_MISMATCH, "output %s: %s; %lld elements, max|eager - got| %.3g", b->work.graph->outputs[i].name,
                 hfb_same_rule_meaning(result.rule), (long long)result.outside_count, result.max_abs);
  }
  hfb_side_drop_outputs(&d->eager);
  hfb_side_drop_outputs(&d->compiled);
  return status;
}

static hfb_status open_duel(bench *b, duel *d) {
  const hfb_backend_options eager_options = {0}, options = {.cache_dir = b->job->cache_dir};
  double ignored;
  HFB_TRY(hfb_side_open_job(&d->eager, hfb_engine_find("eager")->backend(), b->job, &b->work, &eager_options));
  HFB_TRY(hfb_side_open_job(&d->compiled, b->job->engine->backend(), b->job, &b->work, &options));
  hfb_monitor_stage(b->monitor, HFB_STAGE_COMPARE);
  HFB_TRY(check_agreement(b, d));
  hfb_monitor_stage(b->monitor, HFB_STAGE_TIMING);
  HFB_TRY(take_sample(b, &d->eager, &ignored));
  return take_sample(b, &d->compiled, &ignored);
}

static hfb_status run_duel(bench *b, duel *d) {
  HFB_TRY(open_duel(b, d));
  int64_t kernels_before = hfb_side_stats(&d->compiled).kernels_run;
  for (int i = 0; i < d->repeat; i++) {
    hfb_monitor_step(b->monitor, HFB_STAGE_TIMING, i, d->repeat);
    HFB_TRY(take_sample(b, &d->eager, &d->eager_s[i]));
    HFB_TRY(take_sample(b, &d->compiled, &d->compiled_s[i]));
  }
  int64_t kernels = hfb_side_stats(&d->compiled).kernels_run - kernels_before,
          calls = (int64_t)d->repeat * b->job->calls;
  if (kernels < calls) {
    return HFB_FAIL(HFB_INTERNAL, "%s launched %lld kernels in %lld calls: it did not do the work",
                    b->job->engine->name, (long long)kernels, (long long)calls);
  }
  hfb_row_int(b->row, HFB_COLUMN_KERNELS_RUN, kernels / calls);
  return HFB_OK;
}

static json_t *milliseconds(const double *samples_s, int count) {
  json_t *array = json_array();
  for (int i = 0; i < count && array; i++) json_array_append_new(array, json_real(samples_s[i] * 1e3));
  return array;
}

static hfb_status record_spread(const bench *b, hfb_column column, const double *samples, int count, double median) {
  double low, high;
  HFB_TRY(hfb_stats_quantile(samples, (size_t)count, 0.25, &low));
  HFB_TRY(hfb_stats_quantile(samples, (size_t)count, 0.75, &high));
  hfb_row_real(b->row, column, (high - low) / median * 100);
  return HFB_OK;
}

/* The clock of a shared or a hot machine changes within minutes, so the peak is measured again beside the samples; a
 * higher one from the start of the run stands. 0: unknown, or not wanted. */
static double machine_peak_now(const hfb_job *job) {
  double gflops;
  if (job->machine_gflops <= 0 || hfb_machine_peak(job->precision, job->threads, &gflops) != HFB_OK)
    return job->machine_gflops;
  return fmax(gflops, job->machine_gflops);
}

static hfb_status record_duel(const bench *b, const duel *d) {
  hfb_paired_ratio ratio;
  double eager_s, compiled_s;
  size_t count = (size_t)d->repeat;
  hfb_row_json(b->row, HFB_COLUMN_EAGER_SAMPLES, milliseconds(d->eager_s, d->repeat));
  hfb_row_json(b->row, HFB_COLUMN_BACKEND_SAMPLES, milliseconds(d->compiled_s, d->repeat));
  HFB_TRY(hfb_stats_paired_ratio(d->eager_s, d->compiled_s, count, &ratio));
  HFB_TRY(hfb_stats_median(d->eager_s, count, &eager_s));
  HFB_TRY(hfb_stats_median(d->compiled_s, count, &compiled_s));
  HFB_TRY(record_spread(b, HFB_COLUMN_EAGER_SPREAD, d->eager_s, d->repeat, eager_s));
  HFB_TRY(record_spread(b, HFB_COLUMN_BACKEND_SPREAD, d->compiled_s, d->repeat, compiled_s));
  hfb_row_int(b->row, HFB_COLUMN_REPEAT, d->repeat);
  hfb_row_int(b->row, HFB_COLUMN_CALLS, b->job->calls);
  hfb_row_real(b->row, HFB_COLUMN_SPEEDUP, ratio.ratio);
  hfb_row_pair(b->row, HFB_COLUMN_SPEEDUP_CI95, ratio.low, ratio.high);
  hfb_row_real(b->row, HFB_COLUMN_P_VALUE, ratio.p_value);
  hfb_row_real(b->row, HFB_COLUMN_EAGER_MS, eager_s * 1e3);
  hfb_row_real(b->row, HFB_COLUMN_ABS_LATENCY, compiled_s * 1e3);
  double peak = machine_peak_now(b->job);
  double eager_call_s = eager_s / b->job->calls, call_s = compiled_s / b->job->calls;
  double flops = 2.0 * (double)b->multiply_adds;
  hfb_row_real(b->row, HFB_COLUMN_SAMPLES_PER_S, (double)b->job->batch / call_s);
  hfb_row_real(b->row, HFB_COLUMN_TOKENS_PER_S, (double)(b->job->batch * b->job->seq_len) / call_s);
  hfb_row_real(b->row, HFB_COLUMN_GFLOPS, flops / call_s * 1e-9);
  if (peak > 0) {
    hfb_row_real(b->row, HFB_COLUMN_MACHINE_GFLOPS, peak);
    hfb_row_real(b->row, HFB_COLUMN_PEAK_PCT, flops / call_s * 1e-7 / peak);
    hfb_row_real(b->row, HFB_COLUMN_EAGER_PEAK_PCT, flops / eager_call_s * 1e-7 / peak);
  }
  return HFB_OK;
}

/* The wished number of pairs, or as many as fit into the budget. */
static int affordable_repeat(const hfb_job *job, const alone *eager, const alone *compiled) {
  double pair_s = (eager->run_s + compiled->run_s) * job->calls;
  if (job->timing_budget_s <= 0 || pair_s * job->repeat <= job->timing_budget_s) return job->repeat;
  int repeat = (int)(job->timing_budget_s / pair_s);
  if (repeat < REPEAT_MIN) repeat = REPEAT_MIN;
  return repeat < job->repeat ? repeat : job->repeat;
}

static hfb_status time_both(bench *b, const alone *eager, const alone *compiled) {
  duel d = {.repeat = affordable_repeat(b->job, eager, compiled)};
  hfb_status status = hfb_mem_alloc((size_t)d.repeat, sizeof(*d.eager_s), &d.eager_s);
  if (status == HFB_OK) status = hfb_mem_alloc((size_t)d.repeat, sizeof(*d.compiled_s), &d.compiled_s);
  if (status == HFB_OK) status = run_duel(b, &d);
  if (status == HFB_OK) status = record_duel(b, &d);
  hfb_side_close(&d.compiled);
  hfb_side_close(&d.eager);
  hfb_mem_free(d.eager_s);
  hfb_mem_free(d.compiled_s);
  return status;
}

static hfb_status describe_work(bench *b) {
  hfb_cost cost = hfb_graph_cost(b->work.graph);
  b->optimizer_bytes = hfb_graph_optimizer_bytes(b->work.graph);
  b->parameter_bytes = cost.parameter_bytes - b->optimizer_bytes;
  b->input_bytes = cost.input_bytes;
  HFB_TRY(hfb_job_multiply_adds(b->job, b->work.graph, &b->multiply_adds));
  hfb_row_int(b->row, HFB_COLUMN_PARAMETERS, cost.parameter_count);
  hfb_row_int(b->row, HFB_COLUMN_MULTIPLY_ADDS, b->multiply_adds);
  hfb_row_real(b->row, HFB_COLUMN_PARAMETER_MEM, (double)b->parameter_bytes / gigabyte);
  if (b->job->training) hfb_row_real(b->row, HFB_COLUMN_OPTIMIZER_MEM, (double)b->optimizer_bytes / gigabyte);
  return HFB_OK;
}

/* Nothing is drawn for a job that will not fit. */
static hfb_status check_memory(bench *b) {
  hfb_memory_need need;
  b->shares_parameters = hfb_job_weights(b->job) != b->job->precision;
  HFB_TRY(hfb_performance_need(b->job, b->work.graph, b->shares_parameters, &need));
  if (!b->job->training && !b->shares_parameters && !hfb_memory_need_fits(b->job, &need)) {
    b->shares_parameters = true;
    HFB_TRY(hfb_performance_need(b->job, b->work.graph, true, &need));
  }
  hfb_row_real(b->row, HFB_COLUMN_NEEDED_MEM, (double)hfb_memory_need_total(&need) / gigabyte);
  return hfb_memory_need_fits(b->job, &need) ? HFB_OK : hfb_memory_need_fail(b->job, HFB_PHASE_PERFORMANCE, &need);
}

static hfb_status run_bench(bench *b) {
  hfb_monitor_stage(b->monitor, HFB_STAGE_LOAD);
  hfb_job_describe_training(b->job, b->row);
  HFB_TRY(hfb_workload_init(b->job, false, &b->work));
  HFB_TRY(describe_work(b));
  HFB_TRY(check_memory(b));
  HFB_TRY(hfb_workload_fill(b->job, b->shares_parameters, &b->work));
  alone eager = {0}, compiled = {0};
  HFB_TRY(measure_eager_alone(b, &eager));
  HFB_TRY(measure_compiled_alone(b, &compiled));
  record_ratio(b, HFB_COLUMN_COMPRESSION_RATIO, (double)eager.peak_bytes, (double)compiled.peak_bytes);
  return time_both(b, &eager, &compiled);
}

hfb_status hfb_performance_measure(const hfb_job *job, const hfb_monitor *monitor, hfb_row *row) {
  bench b = {.job = job, .monitor = monitor, .row = row};
  hfb_status status = run_bench(&b);
  hfb_workload_deinit(&b.work);
  const int64_t process_bytes = hfb_resident_highest_bytes();
  if (process_bytes >= 0) hfb_row_real(row, HFB_COLUMN_PROCESS_MEM, (double)process_bytes / gigabyte);
  return status;
}
