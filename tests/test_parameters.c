/* Parameters: bulk draws against single ones, initialisers, independence of threads and vector units, checkpoints. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/half.h"
#include "base/memory.h"
#include "bench/draw.h"
#include "bench/parameters.h"
#include "ir/transform.h"
#include "support/scratch.h"

/* ---- Bulk draws ---- */

static void test_normals_are_those_of_single_draws(void **state) {
  (void)state;
  enum { COUNT = 300000 };
  float *values = malloc(COUNT * sizeof(float));
  assert_non_null(values);
  hfb_philox stream = hfb_philox_named(1337, "bert.pooler.dense.weight");
  static const uint64_t firsts[] = {0, 1, 2, 3, 4, 127, 128, 1000003, ((uint64_t)1 << 34) - 5};
  for (size_t f = 0; f < sizeof(firsts) / sizeof(firsts[0]); f++) {
    size_t count = f == 0 ? COUNT : 1000;
    hfb_draw_normal(stream, firsts[f], count, 0.5, 0.02, values);
    for (size_t i = 0; i < count; i++) {
      double want = 0.5 + 0.02 * hfb_philox_normal(stream, firsts[f] + i);
      /* One rounding of nearly the same double. */
      if (fabs(values[i] - want) > fabs(want) * 0x1.0001p-24) fail_msg("%zu: %.9g, %.17g", i, values[i], want);
    }
  }
  free(values);
}

static void test_any_range_of_a_stream(void **state) {
  (void)state;
  enum { COUNT = 700 };
  float whole[COUNT], part[COUNT + 1];
  hfb_philox stream = hfb_philox_named(7, "range");
  hfb_draw_normal(stream, 0, COUNT, 0, 1, whole);
  for (size_t first = 0; first < COUNT; first += first < 10 ? 1 : 37) {
    for (size_t count = 0; first + count <= COUNT; count += count < 10 ? 1 : 61) {
      part[count] = 42;
      hfb_draw_normal(stream, first, count, 0, 1, part);
      assert_memory_equal(part, whole + first, count * sizeof(float));
      assert_true(part[count] == 42);
    }
  }
}

/* Mean, deviation, and the share of values beyond one, two and three deviations, within five standard errors. */
static void test_normals_are_normal(void **state) {
  (void)state;
  enum { COUNT = 1 << 20 };
  float *values = malloc(COUNT * sizeof(float));
  assert_non_null(values);
  hfb_draw_normal(hfb_philox_named(11, "moments"), 0, COUNT, 0, 1, values);
  double sum = 0, squares = 0, cross = 0;
  int beyond[4] = {0};
  for (int i = 0; i < COUNT; i++) {
    sum += values[i];
    squares += (double)values[i] * values[i];
    cross += i ? (double)values[i] * values[i - 1] : 0;
    for (int k = 1; k < 4; k++) beyond[k] += fabsf(values[i]) > (float)k;
  }
  double error = 5 / sqrt(COUNT);
  assert_true(fabs(sum / COUNT) < error);
  assert_true(fabs(squares / COUNT - 1) < error * sqrt(2));
  assert_true(fabs(cross / COUNT) < error);
  for (int k = 1; k < 4; k++) {
    double share = erfc(k / sqrt(2));
    assert_true(fabs((double)beyond[k] / COUNT - share) < error * sqrt(share));
  }
  free(values);
}

static void test_truncated_normals(void **state) {
  (void)state;
  enum { COUNT = 1 << 18 };
  float *values = malloc(COUNT * sizeof(float)), *plain = malloc(COUNT * sizeof(float));
  assert_true(values && plain);
  hfb_philox stream = hfb_philox_named(5, "truncated");
  hfb_draw_truncated(stream, 0, COUNT, 1, 0.5, values);
  hfb_draw_normal(stream, 0, COUNT, 0, 1, plain);
  double sum = 0, squares = 0;
  int redrawn = 0;
  for (int i = 0; i < COUNT; i++) {
    double z = ((double)values[i] - 1) / 0.5;
    assert_true(fabs(z) <= 2.00001);
    if (fabsf(plain[i]) < 1.999f) assert_true(fabs(z - plain[i]) < 1e-6);
    redrawn += fabsf(plain[i]) > 2;
    sum += z;
    squares += z * z;
  }
  assert_true(redrawn > COUNT / 25 && redrawn < COUNT / 20); /* 4.55 % */
  assert_true(fabs(sum / COUNT) < 0.01);
  assert_true(fabs(squares / COUNT - 0.774) < 0.01); /* 1 - 4 phi(2) / (1 - 2 Phi(-2)) */
  free(plain);
  free(values);
}

static void test_uniforms(void **state) {
  (void)state;
  enum { COUNT = 1 << 16 };
  float *values = malloc(COUNT * sizeof(float));
  assert_non_null(values);
  hfb_philox stream = hfb_philox_named(5, "uniform");
  hfb_draw_uniform(stream, 3, COUNT, -2, 6, values);
  double sum = 0;
  for (int i = 0; i < COUNT; i++) {
    assert_true(values[i] == (float)(-2 + 8 * (double)hfb_philox_uniform(stream, (uint64_t)i + 3)));
    sum += values[i];
  }
  assert_true(fabs(sum / COUNT - 2) < 5 * 8 / sqrt(12.0 * COUNT));
  free(values);
}

/* ---- Parameters of a graph ---- */

enum { ROWS = 310, COLUMNS = 407 }; /* more than one chunk of work */

static hfb_graph *make_graph(void) {
  hfb_builder b;
  assert_int_equal(hfb_builder_init(&b, "parameters"), HFB_OK);
  hfb_shape matrix = hfb_shape_of(2, (int64_t[]){ROWS, COLUMNS}), row = hfb_shape_of(1, (int64_t[]){COLUMNS});
  hfb_init normal = {.kind = HFB_INIT_NORMAL, .b = 0.02, .padding_idx = 1};
  hfb_value *table = hfb_parameter(&b, "table", matrix, normal);
  normal.padding_idx = -1;
  hfb_value *weight = hfb_parameter(&b, "weight", matrix, normal);
  hfb_value *ones = hfb_parameter(&b, "ones", row, (hfb_init){.kind = HFB_INIT_CONSTANT, .a = 1, .padding_idx = -1});
  hfb_value *uniform =
      hfb_parameter(&b, "uniform", row, (hfb_init){.kind = HFB_INIT_UNIFORM, .a = -1, .b = 1, .padding_idx = -1});
  hfb_value *cut =
      hfb_parameter(&b, "cut", row, (hfb_init){.kind = HFB_INIT_TRUNC_NORMAL, .b = 0.5, .padding_idx = -1});
  hfb_value *positions = hfb_parameter(&b, "positions", matrix,
                                       (hfb_init){.kind = HFB_INIT_SINUSOID_HALVES, .padding_idx = -1, .frozen = true});
  hfb_value *sum = hfb_add(&b, hfb_add(&b, table, weight), positions);
  sum = hfb_add(&b, hfb_add(&b, sum, ones), hfb_add(&b, uniform, cut));
  hfb_output_add(&b, "sum", sum);
  hfb_graph *graph = NULL;
  if (hfb_builder_finish(&b, &graph) != HFB_OK) fail_msg("%s", hfb_error_message());
  hfb_builder_deinit(&b);
  return graph;
}

static const hfb_tensor *find(const hfb_graph *graph, const hfb_parameters *parameters, const char *name) {
  for (int i = 0; i < graph->parameter_count; i++) {
    if (strcmp(hfb_node_text(graph->parameters[i]->node, HFB_ATTR_NAME, ""), name) == 0) return &parameters->tensors[i];
  }
  fail_msg("no parameter %s", name);
  return NULL;
}

static hfb_device *make_device(int threads) {
  hfb_device *device = NULL;
  assert_int_equal(hfb_device_cpu_create(threads, 0, &device), HFB_OK);
  return device;
}

static void test_initialisers(void **state) {
  (void)state;
  hfb_graph *graph = make_graph();
  hfb_device *device = make_device(2);
  hfb_parameters p;
  assert_int_equal(hfb_parameters_draw(graph, device, 42, &p), HFB_OK);
  assert_int_equal(p.count, 6);
  const float *table = find(graph, &p, "table")->data, *weight = find(graph, &p, "weight")->data;
  hfb_philox table_stream = hfb_philox_named(42, "table"), weight_stream = hfb_philox_named(42, "weight");
  for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
    double want = i / COLUMNS == 1 ? 0 : 0.02 * hfb_philox_normal(table_stream, (uint64_t)i);
    assert_true(fabs(table[i] - want) <= 1e-7 * fabs(want));
    want = 0.02 * hfb_philox_normal(weight_stream, (uint64_t)i);
    assert_true(fabs(weight[i] - want) <= 1e-7 * fabs(want));
  }
  const float *ones = find(graph, &p, "ones")->data, *uniform = find(graph, &p, "uniform")->data;
  const float *cut = find(graph, &p, "cut")->data, *positions = find(graph, &p, "positions")->data;
  for (int i = 0; i < COLUMNS; i++) {
    assert_true(ones[i] == 1);
    assert_true(uniform[i] >= -1 && uniform[i] < 1);
    assert_true(fabsf(cut[i]) <= 1);
  }
  /* 407 columns: 204 sines of even frequencies, then 203 cosines. */
  assert_true(positions[0] == 0 && positions[204] == 1);
  assert_true(positions[3 * COLUMNS + 0] == (float)sin(3));
  assert_true(positions[3 * COLUMNS + 5] == (float)sin(3 / pow(10000, 10.0 / COLUMNS)));
  assert_true(positions[3 * COLUMNS + 204 + 7] == (float)cos(3 / pow(10000, 14.0 / COLUMNS)));
  hfb_parameters_deinit(&p);
  hfb_device_destroy(device);
  hfb_graph_destroy(graph);
}

/* Speech2Text2: the frequencies end at 1/10000, and the padding row is zero. */
static void test_fairseq_positions(void **state) {
  (void)state;
  enum { WIDTH = 10 };
  hfb_builder b;
  assert_int_equal(hfb_builder_init(&b, "positions"), HFB_OK);
  hfb_init init = {.kind = HFB_INIT_SINUSOID_FAIRSEQ, .padding_idx = 1, .frozen = true};
  hfb_value *table = hfb_parameter(&b, "table", hfb_shape_of(2, (int64_t[]){5, WIDTH}), init);
  hfb_output_add(&b, "same", hfb_mul_scalar(&b, table, 1));
  hfb_graph *graph = NULL;
  assert_int_equal(hfb_builder_finish(&b, &graph), HFB_OK);
  hfb_device *device = make_device(1);
  hfb_parameters p;
  assert_int_equal(hfb_parameters_draw(graph, device, 42, &p), HFB_OK);
  const float *values = p.tensors[0].data;
  for (int row = 0; row < 5; row++) {
    for (int j = 0; j < WIDTH / 2; j++) {
      double angle = row * exp(-log(10000) * j / 4), seen = row == 1 ? 0 : 1;
      assert_true(fabs(values[row * WIDTH + j] - seen * sin(angle)) < 1e-7);
      assert_true(fabs(values[row * WIDTH + 5 + j] - seen * cos(angle)) < 1e-7);
    }
  }
  hfb_parameters_deinit(&p);
  hfb_device_destroy(device);
  hfb_graph_destroy(graph);
}

static void test_draws_depend_on_seed_and_name_only(void **state) {
  (void)state;
  hfb_graph *graph = make_graph();
  hfb_device *one = make_device(1), *three = make_device(3);
  hfb_parameters a, b, c;
  assert_int_equal(hfb_parameters_draw(graph, one, 42, &a), HFB_OK);
  assert_int_equal(hfb_parameters_draw(graph, three, 42, &b), HFB_OK);
  assert_int_equal(hfb_parameters_draw(graph, three, 43, &c), HFB_OK);
  for (int i = 0; i < a.count; i++) {
    assert_memory_equal(a.tensors[i].data, b.tensors[i].data, hfb_tensor_bytes(&a.tensors[i]));
  }
  size_t bytes = hfb_tensor_bytes(find(graph, &a, "weight"));
  assert_true(memcmp(find(graph, &a, "weight")->data, find(graph, &c, "weight")->data, bytes) != 0);
  assert_true(memcmp(find(graph, &a, "weight")->data, find(graph, &a, "table")->data, COLUMNS * sizeof(float)) != 0);
  hfb_parameters_deinit(&a);
  hfb_parameters_deinit(&b);
  hfb_parameters_deinit(&c);
  hfb_device_destroy(one);
  hfb_device_destroy(three);
  hfb_graph_destroy(graph);
}

static void test_float64_form_has_the_same_values(void **state) {
  (void)state;
  hfb_graph *graph = make_graph(), *wide = NULL;
  assert_int_equal(hfb_graph_convert(graph, HFB_F64, &wide), HFB_OK);
  hfb_device *device = make_device(2);
  hfb_parameters p, drawn;
  assert_int_equal(hfb_parameters_draw(graph, device, 42, &p), HFB_OK);
  assert_int_equal(hfb_parameters_draw(wide, device, 42, &drawn), HFB_OK);
  for (int i = 0; i < p.count; i++) {
    assert_int_equal(drawn.tensors[i].dtype, HFB_F64);
    for (int64_t k = 0; k < hfb_shape_elements(&p.tensors[i].shape); k++) {
      assert_true(((double *)drawn.tensors[i].data)[k] == ((float *)p.tensors[i].data)[k]);
    }
  }
  hfb_graph *empty = NULL;
  assert_int_equal(hfb_graph_create("empty", &empty), HFB_OK);
  hfb_parameters none;
  assert_int_equal(hfb_parameters_draw(empty, device, 1, &none), HFB_OK);
  assert_int_equal(none.count, 0);
  hfb_parameters_deinit(&none);
  hfb_graph_destroy(empty);
  hfb_parameters_deinit(&drawn);
  hfb_parameters_deinit(&p);
  hfb_device_destroy(device);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(graph);
}

/* The state of the masks holds every bit of the seed; the optimizer's state starts at 0, its step in f64. */
static void test_state_of_training(void **state) {
  (void)state;
  hfb_builder b;
  hfb_graph *graph = NULL;
  const hfb_init zero = {.kind = HFB_INIT_CONSTANT, .padding_idx = -1, .buffer = true};
  assert_int_equal(hfb_builder_init(&b, "training"), HFB_OK);
  hfb_value *random = hfb_random_state(&b);
  hfb_value *step = hfb_parameter_named(&b, "optimizer/step", HFB_F64, hfb_shape_of(0, NULL), zero);
  hfb_output_add(&b, "state", random);
  hfb_output_add(&b, "step", step);
  assert_int_equal(hfb_builder_finish(&b, &graph), HFB_OK);
  hfb_builder_deinit(&b);
  hfb_device *device = make_device(2);
  static const uint64_t seeds[] = {0, 1337, ((uint64_t)1 << 62) + 1, INT64_MAX};
  for (int i = 0; i < 4; i++) {
    hfb_parameters p;
    assert_int_equal(hfb_parameters_draw(graph, device, seeds[i], &p), HFB_OK);
    const int64_t *words = find(graph, &p, HFB_RANDOM_STATE)->data;
    assert_true(words[0] == (int64_t)seeds[i] && words[1] == 0);
    assert_int_equal(find(graph, &p, "optimizer/step")->dtype, HFB_F64);
    assert_true(*(const double *)find(graph, &p, "optimizer/step")->data == 0);
    hfb_parameters_deinit(&p);
  }
  hfb_device_destroy(device);
  hfb_graph_destroy(graph);
}

static void test_memory_limit_is_reported(void **state) {
  (void)state;
  hfb_graph *graph = make_graph();
  hfb_device *device = NULL;
  assert_int_equal(hfb_device_cpu_create(1, 600000, &device), HFB_OK);
  hfb_parameters p;
  assert_int_equal(hfb_parameters_draw(graph, device, 1, &p), HFB_OUT_OF_MEMORY);
  assert_non_null(strstr(hfb_error_message(), "parameter 'weight'"));
  assert_true(p.tensors == NULL && p.count == 0);
  assert_int_equal(hfb_device_memory(device).allocated_bytes, 0);
  hfb_device_destroy(device);
  hfb_graph_destroy(graph);
}

/* ---- From a checkpoint ---- */

/* All parameters stored as `storage`: values that are exact in every float type. */
static void check_load(const hfb_graph *graph, hfb_storage storage, int threads) {
  hfb_device *device = make_device(threads);
  hfb_stored_tensor stored[8] = {0};
  const hfb_stored_tensor *sources[8] = {0};
  hfb_checkpoint_binding binding = {.sources = sources, .count = graph->parameter_count};
  for (int i = 0; i < graph->parameter_count; i++) {
    int64_t count = hfb_shape_elements(&graph->parameters[i]->shape);
    size_t item = hfb_storage_bytes(storage);
    unsigned char *data = malloc((size_t)count * item + 1);
    assert_non_null(data);
    for (int64_t k = 0; k < count; k++) {
      float value = (float)((k * 7 + i) % 256) / 8 - 16;
      double wide = value;
      uint16_t half = storage == HFB_STORAGE_F16 ? hfb_f32_to_f16(value) : hfb_f32_to_bf16(value);
      const void *from = storage == HFB_STORAGE_F64   ? (void *)&wide
                         : storage == HFB_STORAGE_F32 ? (void *)&value
                                                      : &half;
      memcpy(data + 1 + (size_t)k * item, from, item); /* at an odd address */
    }
    stored[i] = (hfb_stored_tensor){.name = "w", .storage = storage, .shape = graph->parameters[i]->shape};
    stored[i].data = data + 1;
    stored[i].bytes = (size_t)count * item;
    sources[i] = &stored[i];
  }
  sources[graph->parameter_count - 1] = NULL; /* the frozen table */
  hfb_parameters p, drawn;
  assert_int_equal(hfb_parameters_load(graph, device, &binding, &p), HFB_OK);
  assert_int_equal(hfb_parameters_draw(graph, device, 0, &drawn), HFB_OK);
  for (int i = 0; i < p.count; i++) {
    for (int64_t k = 0; k < hfb_shape_elements(&p.tensors[i].shape); k++) {
      double want = sources[i] ? (double)((k * 7 + i) % 256) / 8 - 16 : hfb_tensor_get(&drawn.tensors[i], k);
      assert_true(hfb_tensor_get(&p.tensors[i], k) == want);
    }
    free((void *)(stored[i].data - 1));
  }
  hfb_parameters_deinit(&drawn);
  hfb_parameters_deinit(&p);
  hfb_device_destroy(device);
}

static void test_load_converts(void **state) {
  (void)state;
  hfb_graph *graph = make_graph(), *wide = NULL;
  assert_int_equal(hfb_graph_convert(graph, HFB_F64, &wide), HFB_OK);
  static const hfb_storage storages[] = {HFB_STORAGE_F64, HFB_STORAGE_F32, HFB_STORAGE_F16, HFB_STORAGE_BF16};
  for (int i = 0; i < 4; i++) {
    check_load(graph, storages[i], 1 + i % 3);
    check_load(wide, storages[i], 2);
  }
  hfb_graph_destroy(wide);
  hfb_graph_destroy(graph);
}

/* Integers where floats belong: the file and the tensor are named, whichever thread met them. */
static void test_load_refuses_wrong_types(void **state) {
  (void)state;
  scratch s = scratch_create();
  const char *folder = HFB_TEST_DATA "/golden/BertForMaskedLM";
  tensor_list list = tensor_list_read(folder, "model.safetensors");
  tensor_list_find(&list, "bert.embeddings.LayerNorm.bias")->storage = HFB_STORAGE_I32;
  tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
  hfb_config *config = NULL;
  hfb_graph *graph = NULL;
  hfb_checkpoint *checkpoint = NULL;
  hfb_checkpoint_binding binding;
  assert_int_equal(hfb_config_load(HFB_TEST_DATA "/golden/BertForMaskedLM/config.json", NULL, &config), HFB_OK);
  const hfb_model_input input = {"input_ids", HFB_I64, hfb_shape_of(2, (int64_t[]){2, 5})};
  const hfb_model_request request = {
      .class_name = hfb_config_class(config), .config = config, .input_count = 1, .inputs = &input};
  assert_int_equal(hfb_model_build(&request, &graph), HFB_OK);
  assert_int_equal(hfb_checkpoint_open(s.folder, &checkpoint), HFB_OK);
  assert_int_equal(hfb_checkpoint_bind(checkpoint, request.class_name, config, graph, &binding), HFB_OK);
  hfb_device *device = make_device(3);
  hfb_parameters p;
  assert_int_equal(hfb_parameters_load(graph, device, &binding, &p), HFB_MISMATCH);
  assert_non_null(strstr(hfb_error_message(), "bert.embeddings.LayerNorm.bias has dtype I32 where f32 is wanted"));
  assert_non_null(strstr(hfb_error_message(), s.folder));
  assert_int_equal(hfb_device_memory(device).allocated_bytes, 0);
  hfb_device_destroy(device);
  hfb_checkpoint_binding_deinit(&binding);
  hfb_checkpoint_destroy(checkpoint);
  hfb_graph_destroy(graph);
  hfb_config_destroy(config);
  scratch_destroy(&s);
}

static void test_every_failed_allocation(void **state) {
  (void)state;
  hfb_graph *graph = make_graph();
  hfb_device *device = make_device(2);
  bool worked = false;
  int failures = 0;
  for (int nth = 1; !worked && nth < 200; nth++) {
    hfb_parameters p;
    hfb_device_empty_cache(device);
    hfb_mem_fail_at(nth, 0);
    hfb_status status = hfb_parameters_draw(graph, device, 1, &p);
    hfb_mem_fail_at(0, 0);
    worked = status == HFB_OK;
    if (!worked) assert_int_equal(status, HFB_OUT_OF_MEMORY);
    failures += !worked;
    hfb_parameters_deinit(&p);
    assert_int_equal(hfb_device_memory(device).allocated_bytes, 0);
  }
  assert_true(worked && failures >= 3);
  hfb_device_destroy(device);
  hfb_graph_destroy(graph);
}

static int run_all(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_normals_are_those_of_single_draws),
      cmocka_unit_test(test_any_range_of_a_stream),
      cmocka_unit_test(test_normals_are_normal),
      cmocka_unit_test(test_truncated_normals),
      cmocka_unit_test(test_uniforms),
      cmocka_unit_test(test_initialisers),
      cmocka_unit_test(test_fairseq_positions),
      cmocka_unit_test(test_draws_depend_on_seed_and_name_only),
      cmocka_unit_test(test_float64_form_has_the_same_values),
      cmocka_unit_test(test_state_of_training),
      cmocka_unit_test(test_memory_limit_is_reported),
      cmocka_unit_test(test_load_converts),
      cmocka_unit_test(test_load_refuses_wrong_types),
      cmocka_unit_test(test_every_failed_allocation),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Once for each instruction set of the draws; the level is read once in a process, so each gets its own. */
int main(void) {
  static const char *const levels[] = {"generic", "avx2", "avx512"};
  int failures = 0;
  for (int i = 0; i < 3; i++) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
      setenv("HFBENCH_ISA", levels[i], 1);
      printf("with HFBENCH_ISA=%s, used: %s\n", levels[i], hfb_isa_name(hfb_cpu()->isa));
      int failed = run_all();
      fflush(NULL);
      exit(failed != 0);
    }
    int status = 0;
    failures += child < 0 || waitpid(child, &status, 0) != child || status != 0;
  }
  return failures;
}
