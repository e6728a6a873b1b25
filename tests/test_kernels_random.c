/* Random shapes and layouts for a fixed time: the fastest kernels against float64. A failure prints the case as a line
 * of support/op_cases.def, ready to be added there. HFB_TEST_SEED and HFB_TEST_MS choose another seed and time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "ir/transform.h"
#include "support/compare.h"
#include "support/graph_run.h"
#include "support/need_ok.h"
#include "support/op_cases.h"

typedef struct dice {
  hfb_philox stream;
  uint64_t count;
} dice;

static int64_t roll(dice *d, int64_t bound) { return hfb_philox_below(d->stream, d->count++, bound); }

static const char *pick(dice *d, int count, const char *const *texts) { return texts[roll(d, count)]; }

/* Mostly small, now and then beyond a vector, a block or a task. */
static int64_t random_extent(dice *d) {
  int64_t kind = roll(d, 20);
  return kind == 0 ? 0 : kind < 14 ? 1 + roll(d, 9) : kind < 19 ? 1 + roll(d, 70) : 1 + roll(d, 400);
}

static hfb_shape random_shape(dice *d, int min_rank, int max_rank) {
  hfb_shape shape = {.rank = min_rank + (int)roll(d, max_rank - min_rank + 1)};
  int64_t count = 1;
  for (int i = shape.rank - 1; i >= 0; i--) {
    shape.dim[i] = random_extent(d);
    if (count * shape.dim[i] > 60000) shape.dim[i] = 1 + roll(d, 3);
    count *= shape.dim[i] > 0 ? shape.dim[i] : 1;
  }
  return shape;
}

static void append_input(dice *d, char *line, size_t bytes, const char *kind, const hfb_shape *shape) {
  static const char *const layouts[] = {"", "", "", "t", "r", "s", "k", "ts", "st", "ks", "rs", "e", "es", "ke"};
  const char *layout = shape->rank >= 2 && shape->dim[0] > 0 ? pick(d, 14, layouts) : "";
  size_t used = strlen(line);
  used += (size_t)snprintf(line + used, bytes - used, " | %s ", kind);
  if (shape->rank == 0) used += (size_t)snprintf(line + used, bytes - used, "-");
  for (int i = 0; i < shape->rank; i++) {
    used += (size_t)snprintf(line + used, bytes - used, i ? "x%lld" : "%lld", (long long)shape->dim[i]);
  }
  snprintf(line + used, bytes - used, " %s", layout);
}

/* Some dimensions become 1, leading ones may be left out. */
static hfb_shape broadcast_to(dice *d, const hfb_shape *shape) {
  hfb_shape result = {0};
  int skipped = roll(d, 3) == 0 ? (int)roll(d, shape->rank + 1) : 0;
  for (int i = skipped; i < shape->rank; i++) result.dim[result.rank++] = roll(d, 3) == 0 ? 1 : shape->dim[i];
  return result;
}

static void append(char *line, size_t bytes, const char *format, ...) HFB_PRINTF(3, 4);
static void append(char *line, size_t bytes, const char *format, ...) {
  va_list args;
  va_start(args, format);
  size_t used = strlen(line);
  vsnprintf(line + used, bytes - used, format, args);
  va_end(args);
}

static void random_elementwise(dice *d, char *line, size_t bytes) {
  static const char *const unary[] = {"neg",  "abs",     "exp",  "tanh", "erf",
                                      "relu", "sigmoid", "silu", "gelu", "gelu_tanh"};
  static const char *const binary[] = {"add", "sub", "mul", "maximum", "minimum"};
  static const char *const predicates[] = {"eq", "ne", "lt", "le"};
  hfb_shape shape = random_shape(d, 1, 5), other = broadcast_to(d, &shape), third = broadcast_to(d, &shape);
  switch (roll(d, 4)) {
    case 0:
      append(line, bytes, "%s", pick(d, 10, unary));
      append_input(d, line, bytes, "f", &shape);
      break;
    case 1: {
      bool swapped = roll(d, 2) == 0;
      append(line, bytes, "%s", pick(d, 5, binary));
      append_input(d, line, bytes, "f", swapped ? &other : &shape);
      append_input(d, line, bytes, "f", swapped ? &shape : &other);
      break;
    }
    case 2: {
      const char *kind = roll(d, 2) ? "i5" : "f";
      append(line, bytes, "%s", pick(d, 4, predicates));
      append_input(d, line, bytes, kind, &shape);
      append_input(d, line, bytes, kind, &other);
      break;
    }
    default:
      append(line, bytes, "where");
      append_input(d, line, bytes, "b", &other);
      append_input(d, line, bytes, "f", &shape);
      append_input(d, line, bytes, "f", &third);
  }
}

static void random_lines(dice *d, char *line, size_t bytes) {
  static const char *const ops[] = {"softmax", "log_softmax", "layer_norm", "rms_norm"};
  const char *op = pick(d, 4, ops);
  hfb_shape shape = random_shape(d, 1, 4);
  /* Of two or three features the deviation can be tiny beside the mean, and the result has few correct digits in any
   * float32 arithmetic. */
  if (strcmp(op, "layer_norm") == 0) shape.dim[shape.rank - 1] += 8;
  hfb_shape features = {1, {shape.dim[shape.rank - 1]}};
  append(line, bytes, "%s", op);
  append_input(d, line, bytes, "f", &shape);
  if (strstr(op, "norm")) append_input(d, line, bytes, "f", &features);
  if (strcmp(op, "layer_norm") == 0) append_input(d, line, bytes, "f", &features);
  if (strstr(op, "norm")) {
    append(line, bytes, " | eps=1e-5");
  } else {
    append(line, bytes, " | axis=%d", roll(d, 3) ? shape.rank - 1 : (int)roll(d, shape.rank));
  }
}

static void random_reduction(dice *d, char *line, size_t bytes) {
  static const char *const ops[] = {"reduce_sum", "reduce_mean"};
  hfb_shape shape = random_shape(d, 1, 4);
  append(line, bytes, "%s", pick(d, 2, ops));
  append_input(d, line, bytes, "f", &shape);
  int first = (int)roll(d, shape.rank);
  append(line, bytes, " | axes=%d", first);
  for (int i = first + 1; i < shape.rank; i++) {
    if (roll(d, 2)) append(line, bytes, ",%d", i);
  }
  append(line, bytes, " keepdim=%d", (int)roll(d, 2));
}

static void swap_last(hfb_shape *shape) {
  int64_t last = shape->dim[shape->rank - 1];
  shape->dim[shape->rank - 1] = shape->dim[shape->rank - 2];
  shape->dim[shape->rank - 2] = last;
}

static void random_product(dice *d, char *line, size_t bytes) {
  hfb_shape batch = random_shape(d, 0, 2);
  for (int i = 0; i < batch.rank; i++) batch.dim[i] = 1 + batch.dim[i] % 4;
  hfb_shape a = batch, b = roll(d, 2) ? batch : broadcast_to(d, &batch);
  int64_t m = random_extent(d) % 130, n = random_extent(d) % 130, k = random_extent(d);
  bool transpose_a = roll(d, 2), transpose_b = roll(d, 2), is_linear = roll(d, 2);
  a.dim[a.rank++] = m, a.dim[a.rank++] = k;
  if (is_linear) b.rank = 0;
  b.dim[b.rank++] = k, b.dim[b.rank++] = n;
  if (transpose_a && !is_linear) swap_last(&a);
  if (transpose_b) swap_last(&b);
  append(line, bytes, is_linear ? "linear" : "matmul");
  append_input(d, line, bytes, "f", &a);
  append_input(d, line, bytes, "f", &b);
  if (is_linear && roll(d, 2)) append_input(d, line, bytes, "f", &(hfb_shape){1, {n}});
  if (!is_linear) append(line, bytes, " | transpose_a=%d transpose_b=%d", transpose_a, transpose_b);
  if (is_linear) append(line, bytes, " | transpose_b=%d", transpose_b);
}

static void random_move(dice *d, char *line, size_t bytes) {
  hfb_shape shape = random_shape(d, 2, 4);
  int64_t count = hfb_shape_elements(&shape);
  int axis = (int)roll(d, shape.rank);
  switch (roll(d, 3)) {
    case 0:
      append(line, bytes, "reshape");
      append_input(d, line, bytes, "f", &shape);
      if (roll(d, 2)) {
        append(line, bytes, " | shape=%lld", (long long)count);
      } else { /* merge two neighbours */
        append(line, bytes, " | shape=%lld", (long long)(shape.dim[0] * shape.dim[1]));
        for (int i = 2; i < shape.rank; i++) append(line, bytes, ",%lld", (long long)shape.dim[i]);
      }
      break;
    case 1:
      append(line, bytes, "concat");
      append_input(d, line, bytes, "f", &shape);
      shape.dim[axis] = 1 + roll(d, 9);
      append_input(d, line, bytes, "f", &shape);
      append(line, bytes, " | axis=%d", axis);
      break;
    default: {
      hfb_shape index = random_shape(d, 0, 2);
      shape.dim[axis]++;
      char kind[24];
      snprintf(kind, sizeof(kind), "i%lld", (long long)shape.dim[axis]);
      for (int i = 0; i < index.rank; i++) index.dim[i] %= 40;
      append(line, bytes, "gather");
      append_input(d, line, bytes, "f", &shape);
      append_input(d, line, bytes, kind, &index);
      append(line, bytes, " | axis=%d", axis);
    }
  }
}

static void random_activation_backward(dice *d, char *line, size_t bytes) {
  static const char *const ops[] = {"relu_backward", "sigmoid_backward", "tanh_backward", "silu_backward",
                                    "gelu_backward", "gelu_tanh_backward", "quick_gelu_backward"};
  hfb_shape shape = random_shape(d, 1, 4);
  append(line, bytes, "%s", pick(d, 7, ops));
  append_input(d, line, bytes, "f", &shape);
  append_input(d, line, bytes, "f", &shape);
}

static void random_lines_backward(dice *d, char *line, size_t bytes) {
  static const char *const ops[] = {"softmax_backward", "log_softmax_backward", "layer_norm_backward",
                                    "rms_norm_backward"};
  const char *op = pick(d, 4, ops);
  bool is_norm = strstr(op, "norm") != NULL;
  hfb_shape shape = random_shape(d, 1, 4);
  if (is_norm) shape.dim[shape.rank - 1] += 8; /* as forward */
  hfb_shape features = {1, {shape.dim[shape.rank - 1]}};
  append(line, bytes, "%s", op);
  append_input(d, line, bytes, "f", &shape);
  append_input(d, line, bytes, "f", &shape);
  if (is_norm) append_input(d, line, bytes, "f", &features);
  if (is_norm) append(line, bytes, " | eps=1e-5");
  if (!is_norm) append(line, bytes, " | axis=%d", roll(d, 3) ? shape.rank - 1 : (int)roll(d, shape.rank));
}

static void append_shape(char *line, size_t bytes, const hfb_shape *shape) {
  for (int i = 0; i < shape->rank; i++) append(line, bytes, i ? ",%lld" : "shape=%lld", (long long)shape->dim[i]);
}

/* embedding_backward and gather_backward: small tables, tables of several ranges, gradients of any layout. */
static void random_scatter(dice *d, char *line, size_t bytes) {
  hfb_shape table = {2, {1 + random_extent(d), random_extent(d)}}, index = random_shape(d, 0, 2), g = {0};
  if (roll(d, 3) == 0) table.dim[0] += 700, table.dim[1] += 30;
  for (int i = 0; i < index.rank; i++) index.dim[i] = 1 + index.dim[i] % 60;
  bool is_gather = roll(d, 2);
  int axis = is_gather ? (int)roll(d, 2) : 0;
  if (table.dim[axis] == 0) table.dim[axis] = 3;
  char kind[24];
  snprintf(kind, sizeof(kind), "i%lld", (long long)table.dim[axis]);
  if (axis == 1) g.dim[g.rank++] = table.dim[0];
  for (int i = 0; i < index.rank; i++) g.dim[g.rank++] = index.dim[i];
  if (axis == 0) g.dim[g.rank++] = table.dim[1];
  append(line, bytes, is_gather ? "gather_backward" : "embedding_backward");
  append_input(d, line, bytes, "f", &g);
  append_input(d, line, bytes, kind, &index);
  append(line, bytes, " | ");
  append_shape(line, bytes, &table);
  if (is_gather) append(line, bytes, " axis=%d", axis);
  if (!is_gather) append(line, bytes, " padding_idx=%d", (int)roll(d, table.dim[0] + 1) - 1);
}

static void random_table(dice *d, char *line, size_t bytes) {
  hfb_shape shape = random_shape(d, 1, 3);
  int last = shape.rank - 1;
  int64_t extent = shape.dim[last] + 1;
  char kind[24];
  switch (roll(d, 4)) {
    case 0: {
      hfb_shape table = shape;
      table.dim[last] = extent;
      snprintf(kind, sizeof(kind), "i%lld", (long long)extent);
      append(line, bytes, "take_along");
      append_input(d, line, bytes, "f", &table);
      append_input(d, line, bytes, kind, &shape);
      append(line, bytes, " | axis=%d", last);
      break;
    }
    case 1:
      snprintf(kind, sizeof(kind), "i%lld", (long long)extent);
      append(line, bytes, "take_along_backward");
      append_input(d, line, bytes, "f", &shape);
      append_input(d, line, bytes, kind, &shape);
      shape.dim[last] = extent;
      append(line, bytes, " | ");
      append_shape(line, bytes, &shape);
      append(line, bytes, " axis=%d", last);
      break;
    case 2: {
      hfb_shape scores = {2, {1 + random_extent(d), 1 + random_extent(d)}}, rows = {1, {scores.dim[0]}};
      snprintf(kind, sizeof(kind), "i%lld", (long long)scores.dim[1]);
      bool is_backward = roll(d, 2);
      append(line, bytes, is_backward ? "nll_loss_backward" : "nll_loss");
      append_input(d, line, bytes, "f", is_backward ? &(hfb_shape){0} : &scores);
      append_input(d, line, bytes, kind, &rows);
      append(line, bytes, " | ");
      if (is_backward) append_shape(line, bytes, &scores);
      append(line, bytes, " ignore_index=%d", (int)roll(d, 3) - 1);
      break;
    }
    default: random_scatter(d, line, bytes);
  }
}

/* Dropout, optimizers, padding, sums down tall matrices. */
static void random_step(dice *d, char *line, size_t bytes) {
  hfb_shape shape = random_shape(d, 1, 4);
  switch (roll(d, 5)) {
    case 0:
      append(line, bytes, "dropout");
      append_input(d, line, bytes, "f", &shape);
      append(line, bytes, " | S 2 | p=0.%d site=%d", (int)roll(d, 10), (int)roll(d, 1000));
      break;
    case 1:
      append(line, bytes, "sgd");
      for (int i = 0; i < 2; i++) append_input(d, line, bytes, "f", &shape);
      append(line, bytes, " | learning_rate=0.01");
      break;
    case 2:
      append(line, bytes, "adam");
      for (int i = 0; i < 4; i++) append_input(d, line, bytes, i == 2 ? "p" : "f", &shape);
      append(line, bytes, " | d%d - | learning_rate=0.01 beta1=0.9 beta2=0.999 eps=1e-8", 1 + (int)roll(d, 999));
      break;
    case 3:
      append(line, bytes, "pad");
      append_input(d, line, bytes, "f", &shape);
      append(line, bytes, " | starts=%d", (int)roll(d, 3));
      for (int i = 1; i < shape.rank; i++) append(line, bytes, ",%d", (int)roll(d, 3));
      append(line, bytes, " limits=%d", (int)roll(d, 3));
      for (int i = 1; i < shape.rank; i++) append(line, bytes, ",%d", (int)roll(d, 3));
      append(line, bytes, " value=%d", (int)roll(d, 2));
      break;
    default: {
      hfb_shape tall = {2, {2000 + roll(d, 3000), 1 + roll(d, 60)}};
      append(line, bytes, "reduce_sum");
      append_input(d, line, bytes, "f", &tall);
      append(line, bytes, " | axes=0 keepdim=%d", (int)roll(d, 2));
    }
  }
}

static void run(const op_case *c, const hfb_graph *graph, hfb_device *device, hfb_isa isa, uint64_t seed,
                bool reference, bool absolute, hfb_tensor *results) {
  op_case_data data;
  need_ok(op_case_make_inputs(c, graph, device, seed, absolute, &data), c->text);
  need_ok(graph_run(graph, device, isa, reference, data.inputs, data.parameters, results), c->text);
  op_case_release(&data);
}

typedef struct devices {
  hfb_device *several, *one; /* threads */
} devices;

/* The results on several threads against float64, and bit for bit against one thread. */
static void check_line(const char *line, const devices *on, hfb_isa isa, uint64_t seed) {
  op_case c;
  hfb_graph *graph, *wide;
  char text[256];
  need_ok(op_case_parse(line, &c), line);
  need_ok(op_case_build(&c, &graph), line);
  need_ok(hfb_graph_convert(graph, HFB_F64, &wide), line);
  hfb_tensor expected[OP_CASE_MAX_RESULTS], results[OP_CASE_MAX_RESULTS], alone[OP_CASE_MAX_RESULTS], magnitude = {0};
  run(&c, wide, on->several, isa, seed, true, false, expected);
  bool is_sum = c.op == HFB_OP_MATMUL || c.op == HFB_OP_LINEAR || c.op == HFB_OP_REDUCE_SUM ||
                c.op == HFB_OP_REDUCE_MEAN;
  if (is_sum) run(&c, wide, on->several, isa, seed, true, true, &magnitude);
  run(&c, graph, on->several, isa, seed, false, false, results);
  run(&c, graph, on->one, isa, seed, false, false, alone);
  for (int i = 0; i < graph->output_count; i++) {
    if (!compare_with_f64(&results[i], &expected[i], is_sum ? &magnitude : NULL, hfb_op_info_of(c.op)->tolerance, text,
                          sizeof(text))) {
      fail_msg("OP_CASE(\"%s\") on %s with seed %llu, result %d: %s", line, graph_run_kernel(),
               (unsigned long long)seed, i, text);
    }
    if (!compare_equal(&results[i], &alone[i], text, sizeof(text))) {
      fail_msg("OP_CASE(\"%s\") on %s with seed %llu, result %d, several threads here and one there: %s", line,
               graph_run_kernel(), (unsigned long long)seed, i, text);
    }
    hfb_tensor_release(&expected[i]);
    hfb_tensor_release(&results[i]);
    hfb_tensor_release(&alone[i]);
  }
  hfb_tensor_release(&magnitude);
  hfb_graph_destroy(graph);
  hfb_graph_destroy(wide);
}

static int64_t number_from(const char *variable, int64_t fallback) {
  const char *text = getenv(variable);
  return text ? atoll(text) : fallback;
}

static void test_random_cases_for_a_fixed_time(void **state) {
  (void)state;
  static void (*const families[])(dice *, char *, size_t) = {
      random_elementwise,         random_lines,          random_reduction, random_product, random_move,
      random_activation_backward, random_lines_backward, random_table,     random_step};
  devices on;
  need_ok(hfb_device_cpu_create(3, 0, &on.several), "device");
  need_ok(hfb_device_cpu_create(1, 0, &on.one), "device");
  uint64_t seed = (uint64_t)number_from("HFB_TEST_SEED", 1);
  int64_t end_ns = hfb_clock_ns() + number_from("HFB_TEST_MS", 1500) * 1000000;
  dice d = {.stream = hfb_philox_named(seed, "cases")};
  int count = 0;
  for (; hfb_clock_ns() < end_ns || count < 50; count++) {
    char line[256] = "";
    families[roll(&d, sizeof(families) / sizeof(families[0]))](&d, line, sizeof(line));
    check_line(line, &on, (hfb_isa)roll(&d, hfb_cpu()->isa + 1), seed + (uint64_t)count);
  }
  print_message("%d cases, seed %llu\n", count, (unsigned long long)seed);
  hfb_device_destroy(on.several);
  hfb_device_destroy(on.one);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_cases_for_a_fixed_time)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
