/* SpecAugment: which places it hides, how often, and that every engine hides the same ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "compile/native.h"
#include "eager/eager.h"
#include "ir/transform.h"
#include "nn/nn.h"
#include "support/device_fixture.h"

enum { LENGTH = 31, ROWS = 3, STATES = 600 };

static const int64_t row_lengths[ROWS] = {LENGTH, 15, 4};

/* A compiled mask [rows,LENGTH], and the state that it is drawn from. */
typedef struct drawing {
  const hfb_backend *backend;
  hfb_program *program;
  int64_t state[2];
} drawing;

static hfb_graph *mask_graph(const hfb_nn_spans *how, int64_t rows, const int64_t *lengths) {
  hfb_builder b;
  hfb_graph *graph = NULL;
  need_ok(hfb_builder_init(&b, "mask"), "builder");
  hfb_nn nn = {.b = &b, .training = true};
  hfb_value *known = lengths == NULL ? NULL : hfb_constant_i64(&b, hfb_shape_of(1, &rows), lengths);
  hfb_output_add(&b, "mask", hfb_nn_spec_augment(&nn, how, rows, LENGTH, known));
  need_ok(hfb_builder_finish(&b, &graph), "graph");
  hfb_builder_deinit(&b);
  return graph;
}

static void open_drawing(const hfb_backend *backend, const hfb_graph *graph, bool reference, drawing *out) {
  hfb_backend_options options = {.reference = reference};
  *out = (drawing){.backend = backend};
  need_ok(backend->compile(graph, device, &options, &out->program), "compile");
  hfb_shape two = hfb_shape_of(1, (int64_t[]){2});
  hfb_tensor state = hfb_tensor_borrow(HFB_I64, &two, out->state);
  need_ok(backend->bind_parameters(out->program, &state), "bind");
}

static void draw(drawing *d, int64_t seed, int64_t step, int64_t rows, bool *mask) {
  hfb_tensor result;
  d->state[0] = seed;
  d->state[1] = step;
  need_ok(d->backend->run(d->program, NULL, &result), "run");
  assert_int_equal(hfb_shape_elements(&result.shape), rows * LENGTH);
  for (int64_t i = 0; i < rows * LENGTH; i++) mask[i] = hfb_tensor_get(&result, i) != 0;
  hfb_tensor_release(&result);
}

static int64_t count(const bool *mask) {
  int64_t hidden = 0;
  for (int64_t t = 0; t < LENGTH; t++) hidden += mask[t];
  return hidden;
}

/* The share of states in which an event of probability p happens lies within five deviations of it. */
static void check_share(const char *what, int64_t at, int64_t seen, double p) {
  double share = (double)seen / STATES, allowed = 5 * sqrt(p * (1 - p) / STATES) + 1e-9;
  if (fabs(share - p) > allowed) fail_msg("%s %lld: %.4f of the states instead of %.4f", what, (long long)at, share, p);
}

/* Two spans of ten at different places: 22 places in a row of 31, 6 in one of 15, none in one of 4. */
static void test_spans(void **state) {
  const hfb_nn_spans how = {.p = 0.05, .span = 10, .min_spans = 2, .span_field = "length"};
  hfb_graph *graph = mask_graph(&how, ROWS, row_lengths);
  drawing d;
  bool mask[ROWS * LENGTH];
  int64_t hidden[ROWS * LENGTH] = {0};
  open_drawing(hfb_backend_eager(), graph, false, &d);
  for (int i = 0; i < STATES; i++) {
    draw(&d, 5, i, ROWS, mask);
    for (int t = 0; t < ROWS * LENGTH; t++) hidden[t] += mask[t];
    for (int row = 0; row < ROWS; row++) {
      int64_t total = count(mask + row * LENGTH);
      if (row < 2)
        assert_in_range(total, how.span + 1, 2 * how.span);
      else
        assert_int_equal(total, 0);
    }
  }
  for (int row = 0; row < 2; row++) {
    int64_t places = row_lengths[row] - how.span + 1;
    for (int64_t t = 0; t < LENGTH; t++) {
      int64_t first = t - how.span + 1 > 0 ? t - how.span + 1 : 0, last = t < places ? t : places - 1;
      double without = (double)(places - (last >= first ? last - first + 1 : 0));
      double p = 1 - without * (without - 1) / (double)(places * (places - 1));
      check_share("hidden place", row * LENGTH + t, hidden[row * LENGTH + t], p);
    }
  }
  d.backend->destroy(d.program);
  hfb_graph_destroy(graph);
}

/* 0.05 * 31 = 1.55 spans: two in 55 % of the steps, else one. At least three, when the configuration says so. */
static void test_number_of_spans(void **state) {
  hfb_nn_spans how = {.p = 0.05, .span = 1, .span_field = "length"};
  bool mask[LENGTH];
  for (how.min_spans = 0; how.min_spans <= 3; how.min_spans += 3) {
    hfb_graph *graph = mask_graph(&how, 1, NULL);
    drawing d;
    int64_t twice = 0;
    open_drawing(hfb_backend_eager(), graph, false, &d);
    for (int i = 0; i < STATES; i++) {
      draw(&d, i, 3, 1, mask);
      if (how.min_spans == 0)
        assert_in_range(count(mask), 1, 2);
      else
        assert_int_equal(count(mask), 3);
      twice += count(mask) == 2;
    }
    if (how.min_spans == 0) check_share("spans", 2, twice, 0.55);
    d.backend->destroy(d.program);
    hfb_graph_destroy(graph);
  }
}

static void test_engines_agree(void **state) {
  const hfb_nn_spans how = {.p = 0.2, .span = 4, .min_spans = 1, .span_field = "length"};
  hfb_graph *graph = mask_graph(&how, ROWS, row_lengths), *wide;
  need_ok(hfb_graph_convert(graph, HFB_F64, &wide), "convert");
  drawing eager, reference, native;
  bool masks[4][ROWS * LENGTH];
  open_drawing(hfb_backend_eager(), graph, false, &eager);
  open_drawing(hfb_backend_eager(), wide, true, &reference);
  open_drawing(hfb_backend_native(), graph, false, &native);
  int changes = 0;
  for (int i = 0; i < 40; i++) {
    draw(&eager, 11, i, ROWS, masks[0]);
    draw(&reference, 11, i, ROWS, masks[1]);
    draw(&native, 11, i, ROWS, masks[2]);
    assert_memory_equal(masks[0], masks[1], sizeof masks[0]);
    assert_memory_equal(masks[0], masks[2], sizeof masks[0]);
    changes += i > 0 && memcmp(masks[0], masks[3], sizeof masks[0]) != 0;
    memcpy(masks[3], masks[0], sizeof masks[0]);
  }
  assert_in_range(changes, 35, 39); /* each step has spans of its own */
  eager.backend->destroy(eager.program);
  reference.backend->destroy(reference.program);
  native.backend->destroy(native.program);
  hfb_graph_destroy(wide);
  hfb_graph_destroy(graph);
}

/* Nothing in evaluation and at probability 0; spans longer than a row are refused by the field's name. */
static void test_nothing_to_hide(void **state) {
  hfb_builder b;
  need_ok(hfb_builder_init(&b, "mask"), "builder");
  hfb_nn nn = {.b = &b};
  hfb_nn_spans how = {.p = 0.5, .span = 10, .min_spans = 2, .span_field = "mask_time_length"};
  assert_null(hfb_nn_spec_augment(&nn, &how, 1, LENGTH, NULL));
  nn.training = true;
  assert_non_null(hfb_nn_spec_augment(&nn, &how, 1, LENGTH, NULL));
  how.p = 0;
  assert_null(hfb_nn_spec_augment(&nn, &how, 1, LENGTH, NULL));
  assert_int_equal(b.status, HFB_OK);
  how = (hfb_nn_spans){.p = 0.5, .span = LENGTH + 1, .span_field = "mask_time_length"};
  assert_null(hfb_nn_spec_augment(&nn, &how, 1, LENGTH, NULL));
  assert_int_equal(b.status, HFB_INVALID_ARGUMENT);
  assert_non_null(strstr(b.message, "mask_time_length is 32"));
  hfb_builder_deinit(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_spans),
      cmocka_unit_test(test_number_of_spans),
      cmocka_unit_test(test_engines_agree),
      cmocka_unit_test(test_nothing_to_hide),
  };
  return cmocka_run_group_tests(tests, set_up_one_thread, tear_down);
}
