/* Layer builders against plain C: each small graph is run by the float64 reference. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "eager/eager.h"
#include "ir/transform.h"
#include "nn/nn.h"

#define TRY(expr)                                                         \
  do {                                                                    \
    if ((expr) != HFB_OK) fail_msg("%s: %s", #expr, hfb_error_message()); \
  } while (0)

typedef struct fixture {
  hfb_builder b;
  hfb_nn nn;
} fixture;

static void begin(fixture *f) {
  TRY(hfb_builder_init(&f->b, "layer"));
  f->nn = (hfb_nn){.b = &f->b, .init_std = 0.02};
}

/* Runs the graph whose only output is `value` in float64; its elements go to `out`. */
static void finish(fixture *f, hfb_value *value, double *out, int64_t expected_elements) {
  hfb_output_add(&f->b, "out", value);
  hfb_graph *graph = NULL, *wide = NULL;
  TRY(hfb_builder_finish(&f->b, &graph));
  hfb_builder_deinit(&f->b);
  TRY(hfb_graph_convert(graph, HFB_F64, &wide));
  hfb_device *device = NULL;
  hfb_program *program = NULL;
  hfb_tensor result;
  hfb_backend_options options = {.reference = true};
  const hfb_backend *eager = hfb_backend_eager();
  TRY(hfb_device_cpu_create(1, 0, &device));
  TRY(eager->compile(wide, device, &options, &program));
  TRY(eager->bind_parameters(program, NULL));
  TRY(eager->run(program, NULL, &result));
  assert_int_equal(hfb_shape_elements(&result.shape), expected_elements);
  for (int64_t i = 0; i < expected_elements; i++) out[i] = hfb_tensor_get(&result, i);
  hfb_tensor_release(&result);
  eager->destroy(program);
  hfb_device_destroy(device);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(graph);
}

static void assert_near(double got, double want, const char *what, int64_t index) {
  if (!(fabs(got - want) <= 1e-12 * (1 + fabs(want)))) {
    fail_msg("%s [%lld]: %.17g, not %.17g", what, (long long)index, got, want);
  }
}

static hfb_value *floats(fixture *f, int rank, const int64_t *dims, const float *data) {
  return hfb_constant_f32(&f->b, hfb_shape_of(rank, dims), data);
}

static hfb_value *integers(fixture *f, int rank, const int64_t *dims, const int64_t *data) {
  return hfb_constant_i64(&f->b, hfb_shape_of(rank, dims), data);
}

static void fill(float *data, int count, const char *name) {
  hfb_philox stream = hfb_philox_named(7, name);
  for (int i = 0; i < count; i++) data[i] = (float)hfb_philox_normal(stream, (uint64_t)i);
}

/* ---- Activations: the formulas of transformers.activations ---- */

static double normal_cdf(double x) {
  return 0.5 * erfc(-x / sqrt(2.0));
}

static double gelu_tanh(double x) {
  return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double expected_activation(const char *name, double x) {
  if (strcmp(name, "gelu") == 0 || strcmp(name, "gelu_python") == 0) return x * normal_cdf(x);
  if (strncmp(name, "gelu_10", 7) == 0) return fmin(fmax(x * normal_cdf(x), -10), 10);
  if (strncmp(name, "gelu_", 5) == 0) return gelu_tanh(x);
  if (strcmp(name, "laplace") == 0) return 0.5 * (1 + erf((x - 0.707107) / (0.282095 * sqrt(2.0))));
  if (strcmp(name, "leaky_relu") == 0) return x < 0 ? 0.01 * x : x;
  if (strcmp(name, "linear") == 0) return x;
  if (strcmp(name, "mish") == 0) return x * tanh(log1p(exp(x)));
  if (strcmp(name, "quick_gelu") == 0) return x / (1 + exp(-1.702 * x));
  if (strcmp(name, "relu") == 0) return fmax(x, 0);
  if (strcmp(name, "relu2") == 0) return fmax(x, 0) * fmax(x, 0);
  if (strcmp(name, "relu6") == 0) return fmin(fmax(x, 0), 6);
  if (strcmp(name, "sigmoid") == 0) return 1 / (1 + exp(-x));
  if (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0) return x / (1 + exp(-x));
  if (strcmp(name, "tanh") == 0) return tanh(x);
  fail_msg("no formula for '%s'", name);
  return 0;
}

static void test_activations(void **state) {
  enum { COUNT = 49 };
  float x[COUNT];
  double got[COUNT];
  for (int i = 0; i < COUNT; i++) x[i] = (float)(i - COUNT / 2) * 0.5f;
  char names[512];
  strcpy(names, hfb_nn_activation_names());
  int seen = 0;
  for (char *name = strtok(names, ", "); name != NULL; name = strtok(NULL, ", ")) {
    fixture f;
    begin(&f);
    hfb_value *input = floats(&f, 1, (int64_t[]){COUNT}, x);
    finish(&f, hfb_nn_activation(&f.nn, name, input), got, COUNT);
    for (int i = 0; i < COUNT; i++) assert_near(got[i], expected_activation(name, x[i]), name, i);
    seen++;
  }
  assert_int_equal(seen, 19);
}

/* ---- Attention ---- */

enum { B = 2, H = 3, Q = 4, D = 5, E = 2 };

typedef struct attention_case {
  bool causal, masked;
  double query_scale, score_scale;
} attention_case;

static const int64_t padding[B * Q] = {1, 0, 1, 1, 1, 1, 1, 0};

/* Query i, key j of batch b: whether keep lets it pass, and what the bias adds. */
static double expected_score(const attention_case *c, double dot, int b, int i, int j) {
  double score = dot * c->query_scale * c->score_scale;
  if (c->causal && j > i) score = -(double)FLT_MAX;
  if (c->masked && !padding[b * Q + j]) score += -(double)FLT_MAX;
  return score;
}

static void expected_attention(const attention_case *c, const float *q, const float *k, const float *v, double *out) {
  for (int bh = 0; bh < B * H; bh++) {
    for (int i = 0; i < Q; i++) {
      double scores[Q], top = -INFINITY, sum = 0;
      for (int j = 0; j < Q; j++) {
        double dot = 0;
        for (int d = 0; d < D; d++) dot += (double)q[(bh * Q + i) * D + d] * (double)k[(bh * Q + j) * D + d];
        scores[j] = expected_score(c, dot, bh / H, i, j);
        top = fmax(top, scores[j]);
      }
      for (int j = 0; j < Q; j++) sum += scores[j] = exp(scores[j] - top);
      for (int e = 0; e < E; e++) {
        double total = 0;
        for (int j = 0; j < Q; j++) total += scores[j] / sum * (double)v[(bh * Q + j) * E + e];
        out[(bh * Q + i) * E + e] = total;
      }
    }
  }
}

static void test_attention(void **state) {
  static const attention_case cases[] = {{false, false, 1, 1},
                                         {false, false, 0.5, 1},
                                         {true, false, 1, 0.25},
                                         {false, true, 1, 0.25},
                                         {true, true, 0.3, 2}};
  float q[B * H * Q * D], k[B * H * Q * D], v[B * H * Q * E];
  double got[B * H * Q * E], want[B * H * Q * E];
  fill(q, B * H * Q * D, "q");
  fill(k, B * H * Q * D, "k");
  fill(v, B * H * Q * E, "v");
  for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
    const attention_case *c = &cases[n];
    fixture f;
    begin(&f);
    hfb_value *mask = integers(&f, 2, (int64_t[]){B, Q}, padding);
    hfb_nn_attention how = {.query_scale = c->query_scale,
                            .score_scale = c->score_scale,
                            .keep = c->causal ? hfb_nn_causal_keep(&f.nn, Q) : NULL,
                            .bias = c->masked ? hfb_nn_padding_bias(&f.nn, mask) : NULL};
    hfb_value *out =
        hfb_nn_attend(&f.nn, &how, floats(&f, 4, (int64_t[]){B, H, Q, D}, q), floats(&f, 4, (int64_t[]){B, H, Q, D}, k),
                      floats(&f, 4, (int64_t[]){B, H, Q, E}, v));
    finish(&f, out, got, B * H * Q * E);
    expected_attention(c, q, k, v, want);
    for (int i = 0; i < B * H * Q * E; i++) assert_near(got[i], want[i], "attention", i);
  }
}

/* Splitting then merging heads gives the rows back; splitting alone puts head h of token s at [h][s]. */
static void test_heads(void **state) {
  float x[2 * 3 * 8];
  double got[2 * 3 * 8];
  fill(x, 2 * 3 * 8, "x");
  fixture f;
  begin(&f);
  finish(&f, hfb_nn_split_heads(&f.nn, floats(&f, 3, (int64_t[]){2, 3, 8}, x), 4), got, 2 * 3 * 8);
  for (int b = 0; b < 2; b++) {
    for (int h = 0; h < 4; h++) {
      for (int s = 0; s < 3; s++) {
        for (int d = 0; d < 2; d++) {
          assert_near(got[((b * 4 + h) * 3 + s) * 2 + d], x[(b * 3 + s) * 8 + h * 2 + d], "split", s);
        }
      }
    }
  }
  begin(&f);
  hfb_value *split = hfb_nn_split_heads(&f.nn, floats(&f, 3, (int64_t[]){2, 3, 8}, x), 4);
  finish(&f, hfb_nn_merge_heads(&f.nn, split), got, 2 * 3 * 8);
  for (int i = 0; i < 2 * 3 * 8; i++) assert_near(got[i], x[i], "merge", i);
}

/* ---- Masks and positions ---- */

static void test_masks(void **state) {
  double got[16];
  fixture f;
  begin(&f);
  finish(&f, hfb_nn_keep_bias(&f.nn, hfb_nn_causal_keep(&f.nn, 4)), got, 16);
  for (int i = 0; i < 16; i++) assert_true(got[i] == (i % 4 <= i / 4 ? 0 : -(double)FLT_MAX));
  begin(&f);
  finish(&f, hfb_nn_padding_keep(&f.nn, integers(&f, 2, (int64_t[]){B, Q}, padding)), got, B * Q);
  for (int i = 0; i < B * Q; i++) assert_true(got[i] == (double)padding[i]);
  begin(&f);
  finish(&f, hfb_nn_padding_bias(&f.nn, integers(&f, 2, (int64_t[]){B, Q}, padding)), got, B * Q);
  for (int i = 0; i < B * Q; i++) assert_true(got[i] == (padding[i] ? 0 : -(double)FLT_MAX));
}

static void test_positions(void **state) {
  static const int64_t ids[2 * 5] = {0, 5, 1, 7, 1, 1, 1, 3, 4, 9};
  static const int64_t positions[2 * 5] = {2, 3, 1, 4, 1, 1, 1, 2, 3, 4};
  static const int64_t labels[2 * 5] = {4, -100, 6, 7, 8, -100, 2, 3, -100, 5};
  static const int64_t shifted[2 * 5] = {9, 4, 1, 6, 7, 9, 1, 2, 3, 1};
  double got[10];
  fixture f;
  begin(&f);
  finish(&f, hfb_nn_padding_aware_positions(&f.nn, integers(&f, 2, (int64_t[]){2, 5}, ids), 1), got, 10);
  for (int i = 0; i < 10; i++) assert_true(got[i] == (double)positions[i]);
  begin(&f);
  finish(&f, hfb_nn_shift_right(&f.nn, integers(&f, 2, (int64_t[]){2, 5}, labels), 9, 1), got, 10);
  for (int i = 0; i < 10; i++) assert_true(got[i] == (double)shifted[i]);
  begin(&f);
  finish(&f, hfb_nn_positions(&f.nn, 5, 2), got, 5);
  for (int i = 0; i < 5; i++) assert_true(got[i] == i + 2);
}

static void test_relative_bias(void **state) {
  enum { QUERIES = 9, KEYS = 7, HEADS = 2, BUCKETS = 8 };
  float table[BUCKETS * HEADS];
  double got[HEADS * QUERIES * KEYS];
  fill(table, BUCKETS * HEADS, "table");
  for (int bidirectional = 0; bidirectional < 2; bidirectional++) {
    hfb_nn_relative_bias how = {.queries = QUERIES,
                                .keys = KEYS,
                                .heads = HEADS,
                                .buckets = BUCKETS,
                                .max_distance = 6,
                                .bidirectional = bidirectional};
    fixture f;
    begin(&f);
    hfb_value *weight = floats(&f, 2, (int64_t[]){BUCKETS, HEADS}, table);
    finish(&f, hfb_nn_t5_relative_bias(&f.nn, weight, &how), got, HEADS * QUERIES * KEYS);
    for (int h = 0; h < HEADS; h++) {
      for (int i = 0; i < QUERIES; i++) {
        for (int j = 0; j < KEYS; j++) {
          int64_t bucket = hfb_nn_t5_bucket(&how, j - i);
          assert_near(got[(h * QUERIES + i) * KEYS + j], table[bucket * HEADS + h], "bias", i * KEYS + j);
        }
      }
    }
  }
}

/* ---- Losses ---- */

/* Mean of log(sum(exp)) - logit of the target over the rows that count. */
static double expected_cross_entropy(const float *logits, const int64_t *targets, int rows, int classes,
                                     int64_t ignored) {
  double total = 0;
  int counted = 0;
  for (int i = 0; i < rows; i++) {
    if (targets[i] == ignored) continue;
    double sum = 0;
    for (int c = 0; c < classes; c++) sum += exp((double)logits[i * classes + c]);
    total += log(sum) - (double)logits[i * classes + targets[i]];
    counted++;
  }
  return total / counted;
}

static void test_cross_entropy(void **state) {
  enum { BATCH = 2, LENGTH = 4, CLASSES = 5 };
  static const int64_t labels[BATCH * LENGTH] = {0, 4, -100, 2, -100, 1, 3, -100};
  float logits[BATCH * LENGTH * CLASSES];
  double got;
  fill(logits, BATCH * LENGTH * CLASSES, "logits");
  fixture f;
  begin(&f);
  hfb_value *x = floats(&f, 3, (int64_t[]){BATCH, LENGTH, CLASSES}, logits);
  finish(&f, hfb_nn_cross_entropy(&f.nn, x, integers(&f, 2, (int64_t[]){BATCH, LENGTH}, labels)), &got, 1);
  assert_near(got, expected_cross_entropy(logits, labels, BATCH * LENGTH, CLASSES, -100), "cross entropy", 0);

  /* Shifted: rows 0..2 of each sequence against labels 1..3. */
  float predicting[BATCH * (LENGTH - 1) * CLASSES];
  int64_t predicted[BATCH * (LENGTH - 1)];
  for (int b = 0; b < BATCH; b++) {
    for (int i = 0; i + 1 < LENGTH; i++) {
      int row = b * (LENGTH - 1) + i;
      memcpy(predicting + row * CLASSES, logits + (b * LENGTH + i) * CLASSES, CLASSES * sizeof(float));
      predicted[row] = labels[b * LENGTH + i + 1];
    }
  }
  begin(&f);
  x = floats(&f, 3, (int64_t[]){BATCH, LENGTH, CLASSES}, logits);
  finish(&f, hfb_nn_shifted_cross_entropy(&f.nn, x, integers(&f, 2, (int64_t[]){BATCH, LENGTH}, labels)), &got, 1);
  assert_near(got, expected_cross_entropy(predicting, predicted, BATCH * (LENGTH - 1), CLASSES, -100), "shifted", 0);
}

/* Positions below 0 count as 0; those behind the sequence are ignored. */
static void test_span_loss(void **state) {
  enum { BATCH = 3, LENGTH = 4 };
  static const int64_t start[BATCH] = {-3, 9, 2}, end[BATCH] = {3, 1, 4};
  static const int64_t start_clamped[BATCH] = {0, 4, 2}, end_clamped[BATCH] = {3, 1, 4};
  float start_logits[BATCH * LENGTH], end_logits[BATCH * LENGTH];
  double got;
  fill(start_logits, BATCH * LENGTH, "start");
  fill(end_logits, BATCH * LENGTH, "end");
  fixture f;
  begin(&f);
  const int64_t rows[] = {BATCH, LENGTH};
  hfb_value *loss = hfb_nn_span_loss(&f.nn, floats(&f, 2, rows, start_logits), floats(&f, 2, rows, end_logits),
                                     integers(&f, 1, rows, start), integers(&f, 1, rows, end));
  finish(&f, loss, &got, 1);
  double want = (expected_cross_entropy(start_logits, start_clamped, BATCH, LENGTH, LENGTH) +
                 expected_cross_entropy(end_logits, end_clamped, BATCH, LENGTH, LENGTH)) /
                2;
  assert_near(got, want, "span", 0);
}

/* ---- Random sites ---- */

/* The nodes of an op, in the order of the graph; returns how many there are. */
static int nodes_of(const hfb_graph *graph, hfb_op op, int room, const hfb_node **out) {
  int count = 0;
  for (int i = 0; i < graph->node_count; i++) {
    if (graph->nodes[i]->op != op) continue;
    if (count < room) out[count] = graph->nodes[i];
    count++;
  }
  return count;
}

/* dropout(softmax(q k^T), p) v, and dropout at p = 0.25 of the result. */
static hfb_graph *dropping_graph(bool training, bool no_dropout, double p) {
  const int64_t dims[] = {B, H, Q, D};
  fixture f;
  begin(&f);
  f.nn.training = training;
  f.nn.no_dropout = no_dropout;
  hfb_value *x = hfb_input(&f.b, "x", HFB_F32, hfb_shape_of(4, dims));
  hfb_nn_attention how = {.query_scale = 1, .score_scale = 1, .dropout = p};
  hfb_output_add(&f.b, "out", hfb_nn_dropout(&f.nn, hfb_nn_attend(&f.nn, &how, x, x, x), 0.25));
  hfb_graph *graph = NULL;
  TRY(hfb_builder_finish(&f.b, &graph));
  hfb_builder_deinit(&f.b);
  return graph;
}

static void test_dropout(void **state) {
  const hfb_node *sites[2], *products[2];
  hfb_graph *graph = dropping_graph(true, false, 0.1);
  assert_int_equal(nodes_of(graph, HFB_OP_DROPOUT, 2, sites), 2);
  assert_int_equal(nodes_of(graph, HFB_OP_MATMUL, 2, products), 2);
  assert_true(hfb_node_float(sites[0], HFB_ATTR_P) == 0.1);
  assert_true(hfb_node_float(sites[1], HFB_ATTR_P) == 0.25);
  assert_int_equal(hfb_node_int(sites[0], HFB_ATTR_SITE), 0);
  assert_int_equal(hfb_node_int(sites[1], HFB_ATTR_SITE), 1);
  assert_int_equal(sites[0]->inputs[0]->node->op, HFB_OP_SOFTMAX);
  assert_ptr_equal(products[1]->inputs[0]->node, sites[0]);
  assert_ptr_equal(sites[1]->inputs[0]->node, products[1]);
  for (int i = 0; i < 2; i++) {
    const hfb_node *drawn_from = sites[i]->inputs[1]->node;
    assert_string_equal(hfb_node_text(drawn_from, HFB_ATTR_NAME, ""), HFB_RANDOM_STATE);
  }
  hfb_graph_destroy(graph);

  graph = dropping_graph(true, false, 0);
  assert_int_equal(nodes_of(graph, HFB_OP_DROPOUT, 2, sites), 1);
  hfb_graph_destroy(graph);
  for (int training = 0; training < 2; training++) {
    graph = dropping_graph(training, training, 0.1);
    assert_int_equal(nodes_of(graph, HFB_OP_DROPOUT, 2, sites), 0);
    assert_int_equal(graph->parameter_count, 0);
    hfb_graph_destroy(graph);
  }
}

static void test_certain_dropout_is_refused(void **state) {
  for (int training = 0; training < 2; training++) {
    for (int layers = 0; layers < 2; layers++) {
      fixture f;
      begin(&f);
      f.nn.training = training;
      hfb_value *x = hfb_scalar(&f.b, HFB_F32, 1), *y = hfb_scalar(&f.b, HFB_F32, 2);
      hfb_value *out = layers ? hfb_nn_layer_drop(&f.nn, x, y, 1) : hfb_nn_dropout(&f.nn, y, 1);
      hfb_output_add(&f.b, "out", out);
      hfb_graph *graph = NULL;
      hfb_status status = hfb_builder_finish(&f.b, &graph);
      hfb_builder_deinit(&f.b);
      if (!training) {
        assert_int_equal(status, HFB_OK);
      } else {
        assert_int_equal(status, HFB_UNSUPPORTED);
        assert_non_null(strstr(hfb_error_message(), layers ? "layer drop of 1 " : "dropout of 1 "));
      }
      hfb_graph_destroy(graph);
    }
  }
}

/* One scalar draw decides between what a layer read and what it made. */
static void test_layer_drop(void **state) {
  for (int dropping = 0; dropping < 2; dropping++) {
    fixture f;
    begin(&f);
    f.nn.training = true;
    f.nn.no_dropout = !dropping;
    hfb_value *before = hfb_input(&f.b, "before", HFB_F32, hfb_shape_of(1, (int64_t[]){5}));
    hfb_value *after = hfb_unary(&f.b, HFB_OP_EXP, before), *out = hfb_nn_layer_drop(&f.nn, before, after, 0.05);
    hfb_output_add(&f.b, "out", out);
    if (dropping) {
      assert_int_equal(out->node->op, HFB_OP_WHERE);
      const hfb_value *keep = out->node->inputs[0];
      assert_int_equal(keep->node->op, HFB_OP_RANDOM_KEEP);
      assert_int_equal(keep->shape.rank, 0);
      assert_true(hfb_node_float(keep->node, HFB_ATTR_P) == 0.05);
      assert_ptr_equal(out->node->inputs[1], after);
      assert_ptr_equal(out->node->inputs[2], before);
    } else {
      assert_ptr_equal(out, after);
    }
    hfb_graph *graph = NULL;
    TRY(hfb_builder_finish(&f.b, &graph));
    hfb_builder_deinit(&f.b);
    hfb_graph_destroy(graph);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_activations),   cmocka_unit_test(test_attention),
      cmocka_unit_test(test_heads),         cmocka_unit_test(test_masks),
      cmocka_unit_test(test_positions),     cmocka_unit_test(test_relative_bias),
      cmocka_unit_test(test_cross_entropy), cmocka_unit_test(test_span_loss),
      cmocka_unit_test(test_dropout),       cmocka_unit_test(test_certain_dropout_is_refused),
      cmocka_unit_test(test_layer_drop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
