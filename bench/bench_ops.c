/* Eager kernels on the shapes of real models: milliseconds, bandwidth or rate, and the part of what the machine can do.
 *
 *   bench_ops [--threads N] [--rounds N] [--reference] ["gelu | f 2048x3072" ...]
 *
 * A case is a line as in tests/support/op_cases.h; without any, the list below. Rounds go over all cases in turn, so
 * that a slow moment of the machine meets each case alike; the best round counts. HFBENCH_ISA lowers the instruction
 * set. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "ir/transform.h"
#include "kernels/kernel.h"
#include "kernels/peak.h"
#include "support/op_cases.h"

/* BERT and GPT-2 (D 768, 12 heads, 4 x 512 tokens), T5 (512), ALBERT-xxlarge's GELU, FNet. */
static const char *const default_cases[] = {
    "linear | f 2048x768 | f 768x768 | f 768 | transpose_b=1",
    "linear | f 2048x768 | f 3072x768 | f 3072 | transpose_b=1",
    "linear | f 2048x3072 | f 768x3072 | f 768 | transpose_b=1",
    "linear | f 2048x768 | f 30522x768 | f 30522 | transpose_b=1",
    "linear | f 2048x768 | f 768x2304 | f 2304 | transpose_b=0",
    "linear | f 4x768 | f 768x768 | f 768 | transpose_b=1",
    "matmul | f 4x12x512x64 | f 4x12x512x64 | transpose_a=0 transpose_b=1",
    "matmul | f 4x12x512x512 | f 4x12x512x64 | transpose_a=0 transpose_b=0",
    "add | f 2048x768 | f 2048x768",
    "add | f 4x12x512x512 | m 4x1x1x512",
    "add | f 4x12x512x512 | f 1x12x512x512",
    "mul | f 2048x2048 | f 2048x2048",
    "mul_scalar | f 4x12x512x512 | value=0.125",
    "where | b 1x1x512x512 | f 4x12x512x512 | f -",
    "relu | f 2048x2048",
    "gelu | f 2048x3072",
    "gelu_tanh | f 2048x16384",
    "silu | f 2048x3072",
    "tanh | f 2048x768",
    "softmax | f 4x12x512x512 | axis=3",
    "log_softmax | f 2048x30522 | axis=1",
    "layer_norm | f 2048x768 | f 768 | f 768 | eps=1e-12",
    "rms_norm | f 4096x512 | f 512 | eps=1e-6",
    "nll_loss | f 2048x30522 | i30522 2048 | ignore_index=-100",
    "embedding | f 30522x768 | i30522 4x512 | padding_idx=-1",
    "reshape | f 4x512x12x64 | shape=2048,768",
    "reshape | f 4x64x12x512 t | shape=2048,768",
    "reshape | f 2048x768 t | shape=1572864",
    "concat | f 4x12x512x64 | f 4x12x512x64 | axis=2",
    "reduce_mean | f 2048x768 | axes=1 keepdim=0",
    "reduce_sum | f 2048x768 | axes=0 keepdim=0",
    "cumsum | i2 16x512 | axis=1",
    "le | i512 512 | i512 512x1",
    "and | b 4x1x512x512 | b 1x1x512x512",
    "cast | b 4x1x512x512 | dtype=f32",
    "full | shape=4,12,512,512 dtype=f32 value=0",
    "fft2_real | f 4x512x768",

    /* Training: BERT with 2 x 512 tokens, T5's relative positions, DeBERTa's gathers. */
    "add | f 1024x768 | f 1024x768",
    "add | f 1024x30522 | f 1024x30522",
    "dropout | f 1024x768 | S 2 | p=0.1 site=1",
    "dropout | f 2x12x512x512 | S 2 | p=0.1 site=1",
    "relu_backward | f 1024x3072 | f 1024x3072",
    "gelu_backward | f 1024x3072 | f 1024x3072",
    "gelu_tanh_backward | f 1024x3072 | f 1024x3072",
    "silu_backward | f 1024x3072 | f 1024x3072",
    "tanh_backward | f 1024x768 | f 1024x768",
    "softmax_backward | f 2x12x512x512 | f 2x12x512x512 | axis=3",
    "log_softmax_backward | f 1024x30522 | f 1024x30522 | axis=1",
    "layer_norm_backward | f 1024x768 | f 1024x768 | f 768 | eps=1e-12",
    "layer_norm_backward | f 8192x768 | f 8192x768 | f 768 | eps=1e-12",
    "rms_norm_backward | f 4096x512 | f 4096x512 | f 512 | eps=1e-6",
    "reduce_sum | f 1024x3072 | axes=0 keepdim=0",
    "reduce_sum | f 1024x30522 | axes=0 keepdim=0",
    "reduce_sum | f 8192x2 | axes=0 keepdim=0",
    "reduce_sum | f 2x512x768 | axes=0,1 keepdim=0",
    "reduce_sum | f 2x12x512x512 | axes=0 keepdim=1",
    "embedding_backward | f 2x512x768 | i30522 2x512 | shape=30522,768 padding_idx=0",
    "embedding_backward | f 2x512x768 | i512 2x512 | shape=512,768 padding_idx=-1",
    "embedding_backward | f 2x512x768 | i2 2x512 | shape=2,768 padding_idx=-1",
    "embedding_backward | f 512x512x12 | i32 512x512 | shape=32,12 padding_idx=-1",
    "take_along | f 2x12x512x512 | i512 2x12x512x512 | axis=3",
    "take_along_backward | f 2x12x512x512 | i512 2x12x512x512 | shape=2,12,512,512 axis=3",
    "nll_loss_backward | f - | i30522 1024 | shape=1024,30522 ignore_index=-100",
    "pad | f 1024x768 | starts=0,768 limits=0,768 value=0",
    "matmul | f 1024x768 | f 1024x3072 | transpose_a=1 transpose_b=0",
    "matmul | f 1024x30522 | f 1024x768 | transpose_a=1 transpose_b=0",
    "sgd | f 30522x768 | f 30522x768 | learning_rate=0.01",
    "adam | f 3072x768 | f 3072x768 | p 3072x768 | f 3072x768 | d9 - | learning_rate=0.01 beta1=0.9 beta2=0.999 "
    "eps=1e-8",
    "adam | f 30522x768 | f 30522x768 | p 30522x768 | f 30522x768 | d9 - | learning_rate=0.01 beta1=0.9 beta2=0.999 "
    "eps=1e-8",
};

enum { MAX_CASES = 96, MAX_RESULTS = 4 };

typedef struct timed_case {
  const char *line;
  hfb_graph *graph;
  op_case_data data;
  hfb_tensor results[MAX_RESULTS];
  hfb_tensor inputs[OP_CASE_MAX_INPUTS];
  hfb_kernel_call call;
  const hfb_kernel *kernel;
  int64_t best_ns, bytes, multiply_adds;
} timed_case;

/* The op's inputs: graph inputs, or the views that movement ops in front of it make of them. */
static hfb_tensor input_of(const timed_case *t, const hfb_value *value) {
  if (value->node->op == HFB_OP_INPUT) {
    for (int i = 0; i < t->graph->input_count; i++) {
      if (t->graph->inputs[i] == value) return t->data.inputs[i];
    }
  }
  hfb_tensor source = input_of(t, value->node->inputs[0]), view = {0};
  return hfb_view_try(value->node, &source, &view) ? view : (hfb_tensor){0};
}

static hfb_status prepare(const char *line, hfb_device *device, bool reference, timed_case *t) {
  *t = (timed_case){.line = line, .best_ns = INT64_MAX};
  op_case parsed;
  HFB_TRY(op_case_parse(line, &parsed));
  HFB_TRY(op_case_build(&parsed, &t->graph));
  HFB_TRY(op_case_make_inputs(&parsed, t->graph, device, 1, false, &t->data));
  const hfb_node *node = t->graph->outputs[0].value->node;
  for (int i = 0; i < node->result_count; i++) {
    t->results[i] = hfb_tensor_borrow(node->results[i].dtype, &node->results[i].shape, NULL);
    t->bytes += (int64_t)hfb_tensor_bytes(&t->results[i]);
  }
  for (int i = 0; i < node->input_count; i++) {
    t->inputs[i] = input_of(t, node->inputs[i]);
    t->bytes += (int64_t)hfb_tensor_bytes(&t->inputs[i]);
  }
  if (node->op == HFB_OP_EMBEDDING) t->bytes = 2 * (int64_t)hfb_tensor_bytes(&t->results[0]); /* not the whole table */
  if (node->op == HFB_OP_NLL_LOSS) t->bytes = 0; /* one element of each row */
  t->multiply_adds = hfb_node_multiply_adds(node);
  t->call = (hfb_kernel_call){.node = node,
                              .input_count = node->input_count,
                              .result_count = node->result_count,
                              .inputs = t->inputs,
                              .results = t->results,
                              .pool = hfb_device_pool(device)};
  t->kernel = hfb_kernel_select(&t->call, hfb_cpu()->isa, reference);
  return t->kernel ? HFB_OK : HFB_FAIL(HFB_UNSUPPORTED, "\"%s\": no kernel", line);
}

static void release(timed_case *t) {
  op_case_release(&t->data);
  hfb_graph_destroy(t->graph);
}

/* Eager gives an optimizer the old values as its results. */
static bool is_optimizer(const hfb_node *node) { return node->op == HFB_OP_SGD || node->op == HFB_OP_ADAM; }

static hfb_status make_results(timed_case *t, hfb_device *device) {
  const hfb_node *node = t->call.node;
  for (int i = 0; i < node->result_count; i++) {
    if (is_optimizer(node)) {
      t->results[i] = hfb_tensor_retain(&t->inputs[i]);
    } else {
      const hfb_value *value = &node->results[i];
      HFB_TRY(hfb_tensor_create(device, value->dtype, &value->shape, &t->results[i]));
    }
  }
  return HFB_OK;
}

/* With the results allocated and given back, as eager does: it often is the block that the last op left. */
static hfb_status time_once(timed_case *t, hfb_device *device) {
  for (int i = 0; i < MAX_RESULTS; i++) t->results[i] = (hfb_tensor){0};
  int64_t start_ns = hfb_clock_ns();
  hfb_status status = make_results(t, device);
  if (status == HFB_OK) status = t->kernel->run(&t->call);
  for (int i = 0; i < t->call.result_count; i++) hfb_tensor_release(&t->results[i]);
  HFB_TRY(status);
  int64_t elapsed_ns = hfb_clock_ns() - start_ns;
  if (elapsed_ns < t->best_ns) t->best_ns = elapsed_ns;
  return HFB_OK;
}

static void print(const timed_case *t, double peak_flops, double peak_bytes_per_s) {
  double seconds = (double)t->best_ns * 1e-9;
  printf("%9.3f ms  ", seconds * 1e3);
  if (t->multiply_adds > 0) {
    double flops = 2 * (double)t->multiply_adds / seconds;
    printf("%7.1f GFLOP/s  %4.0f%%", flops * 1e-9, 100 * flops / peak_flops);
  } else {
    double bytes_per_s = (double)t->bytes / seconds;
    printf("%7.1f GB/s     %4.0f%%", bytes_per_s * 1e-9, 100 * bytes_per_s / peak_bytes_per_s);
  }
  printf("  %-28s %s\n", t->kernel->name, t->line);
}

static hfb_status run_all(int count, const char *const *lines, hfb_device *device, int rounds, bool reference) {
  static timed_case cases[MAX_CASES];
  double peak_bytes_per_s, peak_flops = hfb_peak_f32_flops(hfb_cpu()->isa, hfb_device_pool(device));
  HFB_TRY(hfb_peak_memory_bytes_per_s(hfb_device_pool(device), &peak_bytes_per_s));
  printf("%s, %s, %d threads: %.0f GFLOP/s f32, %.1f GB/s (tensors within the caches go beyond)\n",
         hfb_cpu()->model_name, hfb_isa_name(hfb_cpu()->isa), hfb_pool_size(hfb_device_pool(device)),
         peak_flops * 1e-9, peak_bytes_per_s * 1e-9);
  int prepared = 0;
  hfb_status status = HFB_OK;
  for (; prepared < count && status == HFB_OK; prepared++) {
    status = prepare(lines[prepared], device, reference, &cases[prepared]);
  }
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < count && status == HFB_OK; i++) status = time_once(&cases[i], device);
  }
  for (int i = 0; i < count && status == HFB_OK; i++) print(&cases[i], peak_flops, peak_bytes_per_s);
  for (int i = 0; i < prepared; i++) release(&cases[i]);
  return status;
}

int main(int argc, char **argv) {
  int threads = 0, rounds = 15, count = 0;
  bool reference = false;
  const char *lines[MAX_CASES];
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
      threads = atoi(argv[++i]);
    } else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
      rounds = atoi(argv[++i]);
    } else if (strcmp(argv[i], "--reference") == 0) {
      reference = true;
    } else if (count < MAX_CASES) {
      lines[count++] = argv[i];
    }
  }
  bool is_default = count == 0;
  hfb_device *device = NULL;
  hfb_status status = hfb_device_cpu_create(threads, 0, &device);
  if (status == HFB_OK && is_default) {
    status = run_all((int)(sizeof(default_cases) / sizeof(default_cases[0])), default_cases, device, rounds, reference);
  } else if (status == HFB_OK) {
    status = run_all(count, lines, device, rounds, reference);
  }
  if (status != HFB_OK) fprintf(stderr, "bench_ops: %s\n", hfb_error_message());
  hfb_device_destroy(device);
  return status == HFB_OK ? 0 : 1;
}
