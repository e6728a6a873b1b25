/* doctor: the machine, its speed, and which engines work here. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/build.h"
#include "base/cpu.h"
#include "bench/engine.h"
#include "bench/machine.h"
#include "bench/memory_limit.h"
#include "cli/cli.h"
#include "compile/jit.h"
#include "ir/builder.h"

enum { VERSION_BYTES = 160, MESSAGE_BYTES = 256 };

/* NaN where the machine cannot do it. */
typedef struct rates {
  double f32_gflops, f64_gflops, bf16_gflops, bandwidth_gbs;
} rates;

static double peak_or_nan(hfb_dtype dtype, int threads) {
  double gflops;
  return hfb_machine_peak(dtype, threads, &gflops) == HFB_OK ? gflops : NAN;
}

static rates measure(int threads) {
  rates r = {peak_or_nan(HFB_F32, threads), peak_or_nan(HFB_F64, threads), peak_or_nan(HFB_BF16, threads), NAN};
  double gigabytes;
  if (hfb_machine_bandwidth(threads, &gigabytes) == HFB_OK) r.bandwidth_gbs = gigabytes;
  return r;
}

/* First line of "cc --version"; "" when it does not run. */
static void compiler_version(const char *path, char version[VERSION_BYTES]) {
  char command[1024];
  version[0] = '\0';
  if (strchr(path, '\'') ||
      snprintf(command, sizeof(command), "'%s' --version 2>/dev/null", path) >= (int)sizeof(command)) {
    return;
  }
  FILE *pipe = popen(command, "re");
  if (!pipe) return;
  if (fgets(version, VERSION_BYTES, pipe)) version[strcspn(version, "\n")] = '\0';
  while (fgetc(pipe) != EOF) continue; /* or the compiler would die of a closed pipe */
  pclose(pipe);
}

/* ---- Engines: each runs a small product with a known answer ---- */

static hfb_status build_probe(hfb_graph **out_graph) {
  hfb_builder b;
  HFB_TRY(hfb_builder_init(&b, "probe"));
  const int64_t dims[] = {4, 8};
  hfb_value *x = hfb_input(&b, "x", HFB_F32, hfb_shape_of(2, dims));
  hfb_value *product = hfb_matmul(&b, x, x, false, true);
  hfb_value *shifted = hfb_add_scalar(&b, product, 0.5);
  hfb_value *y = hfb_unary(&b, HFB_OP_TANH, shifted);
  hfb_status status = b.status == HFB_OK ? hfb_graph_add_output(b.graph, "y", y) : HFB_OK;
  if (status == HFB_OK) status = hfb_builder_finish(&b, out_graph);
  hfb_builder_deinit(&b);
  return status;
}

static hfb_status run_program(const hfb_backend *backend, hfb_program *program, hfb_device *device,
                              const hfb_graph *graph) {
  hfb_tensor input = {0}, output = {0};
  HFB_TRY(hfb_tensor_create(device, HFB_F32, &graph->inputs[0]->shape, &input));
  for (int i = 0; i < 32; i++) ((float *)input.data)[i] = (float)(i % 5 - 2) / 8.0f;
  hfb_status status = backend->bind_parameters(program, NULL);
  if (status == HFB_OK) status = backend->run(program, &input, &output);
  for (int i = 0; i < 4 && status == HFB_OK; i++) {
    for (int j = 0; j < 4 && status == HFB_OK; j++) {
      double sum = 0.5, got = hfb_tensor_get(&output, 4 * i + j);
      for (int k = 0; k < 8; k++) sum += (double)((float *)input.data)[8 * i + k] * ((float *)input.data)[8 * j + k];
      if (!(fabs(got - tanh(sum)) < 1e-6))
        status = HFB_FAIL(HFB_MISMATCH, "it computes %g in place of %g", got, tanh(sum));
    }
  }
  hfb_tensor_release(&output);
  hfb_tensor_release(&input);
  return status;
}

static hfb_status probe_engine(const hfb_backend *backend) {
  hfb_graph *graph = NULL;
  hfb_device *device = NULL;
  hfb_program *program = NULL;
  const hfb_backend_options options = {0};
  hfb_status status = build_probe(&graph);
  if (status == HFB_OK) status = hfb_device_cpu_create(1, 0, &device);
  if (status == HFB_OK) status = backend->compile(graph, device, &options, &program);
  if (status == HFB_OK) status = run_program(backend, program, device, graph);
  if (program) backend->destroy(program);
  hfb_device_destroy(device);
  hfb_graph_destroy(graph);
  return status;
}

/* What is missing, "" when the engine works. */
static void examine_engine(const hfb_engine *engine, char message[MESSAGE_BYTES]) {
  hfb_error_clear();
  hfb_status status = probe_engine(engine->backend());
  snprintf(message, MESSAGE_BYTES, "%s", status == HFB_OK ? "" : hfb_error_message());
}

/* ---- Output ---- */

static void print_rate(const char *name, double value, const char *unit, const char *absent) {
  if (isnan(value)) printf("  %-18s %s\n", name, absent);
  else printf("  %-18s %.1f %s\n", name, value, unit);
}

static void print_cache(const char *name, int64_t bytes) {
  if (bytes > 0) printf("  %-18s %lld KiB\n", name, (long long)(bytes / 1024));
  else printf("  %-18s unknown\n", name);
}

static bool print_text(int threads) {
  const hfb_cpu_info *cpu = hfb_cpu();
  printf("machine\n  %-18s %s\n  %-18s %s", "processor", cpu->model_name, "instructions", hfb_isa_name(cpu->isa));
  if (cpu->isa != cpu->isa_max) printf(" (lowered; the machine has %s)", hfb_isa_name(cpu->isa_max));
  printf("\n  %-18s %d cores, %d hardware threads\n", "usable", cpu->core_count, cpu->thread_count);
  print_cache("L1d of a core", cpu->l1d_bytes);
  print_cache("L2 of a core", cpu->l2_bytes);
  print_cache("L3", cpu->l3_bytes);
  printf("  %-18s %.1f GB, %.1f GB free for this process\n", "memory", (double)cpu->memory_bytes * 1e-9,
         (double)hfb_memory_available_bytes() * 1e-9);
  printf("build\n  %-18s hfbench %s (%s), %s, %s\n", "program", hfb_build_version(), hfb_build_commit(),
         hfb_build_type(), hfb_build_compiler());
  char version[VERSION_BYTES];
  const char *compiler = hfb_jit_compiler();
  if (compiler) compiler_version(compiler, version);
  printf("  %-18s %s%s%s\n", "C compiler",
         compiler ? compiler : "none: native needs one; install gcc or set HFBENCH_CC", compiler ? ", " : "",
         compiler ? version : "");
  fflush(stdout);
  rates r = measure(threads);
  printf("measured peak on %d threads\n", threads > 0 ? threads : cpu->core_count);
  print_rate("f32", r.f32_gflops, "GFLOP/s", "not measured");
  print_rate("f64", r.f64_gflops, "GFLOP/s", "not measured");
  print_rate("bf16", r.bf16_gflops, "GFLOP/s", "this processor has no bf16 arithmetic");
  print_rate("memory", r.bandwidth_gbs, "GB/s", "not measured");
  printf("backends\n");
  bool all_work = true;
  for (int i = 0; i < hfb_engine_count(); i++) {
    char message[MESSAGE_BYTES];
    examine_engine(hfb_engine_at(i), message);
    printf("  %-18s %s%s\n", hfb_engine_at(i)->name, message[0] ? "does not work: " : "works", message);
    all_work = all_work && !message[0];
  }
  return all_work;
}

static json_t *number_or_null(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static bool print_json(int threads) {
  const hfb_cpu_info *cpu = hfb_cpu();
  rates r = measure(threads);
  bool all_work = true;
  json_t *backends = json_object();
  for (int i = 0; i < hfb_engine_count(); i++) {
    char message[MESSAGE_BYTES];
    examine_engine(hfb_engine_at(i), message);
    json_object_set_new(backends, hfb_engine_at(i)->name,
                        json_pack("{s:b, s:o}", "works", message[0] == '\0', "error",
                                  message[0] ? json_string(message) : json_null()));
    all_work = all_work && !message[0];
  }
  char version[VERSION_BYTES] = "";
  const char *compiler = hfb_jit_compiler();
  if (compiler) compiler_version(compiler, version);
  json_t *object = json_pack(
      "{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:o, s:s, s:i, s:o, s:o, s:o, s:o, s:o}",
      "version", hfb_build_version(), "commit", hfb_build_commit(), "build", hfb_build_type(), "cpu", cpu->model_name,
      "isa", hfb_isa_name(cpu->isa), "isa_max", hfb_isa_name(cpu->isa_max), "cores", cpu->core_count,
      "hardware_threads", cpu->thread_count, "l1d_bytes", (json_int_t)cpu->l1d_bytes, "l2_bytes",
      (json_int_t)cpu->l2_bytes, "l3_bytes", (json_int_t)cpu->l3_bytes, "memory_bytes", (json_int_t)cpu->memory_bytes,
      "available_bytes", (json_int_t)hfb_memory_available_bytes(), "compiler",
      compiler ? json_string(compiler) : json_null(), "compiler_version", version, "threads",
      threads > 0 ? threads : cpu->core_count, "f32_gflops", number_or_null(r.f32_gflops), "f64_gflops",
      number_or_null(r.f64_gflops), "bf16_gflops", number_or_null(r.bf16_gflops), "memory_gb_per_s",
      number_or_null(r.bandwidth_gbs), "backends", backends);
  int failed = !object || json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
  putchar('\n');
  json_decref(object);
  return all_work && !failed;
}

int hfb_cmd_doctor(const hfb_args *args) {
  int threads = (int)hfb_args_int(args, HFB_OPT_THREADS);
  bool works = hfb_args_flag(args, HFB_OPT_JSON) ? print_json(threads) : print_text(threads);
  return works ? HFB_EXIT_OK : HFB_EXIT_FAILURE;
}
