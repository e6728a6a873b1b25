/* What verify says of training cases that are damaged: the check of the check. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/golden.h"
#include "support/verify_case.h"

#define BERT HFB_TEST_DATA "/golden/BertForMaskedLM"

static hfb_verify_result verify(const char *folder) {
  const hfb_verify_options options = golden_training_options("eager", HFB_F32, "");
  hfb_verify_result result;
  hfb_verify_case(&options, folder, &result);
  return result;
}

static void assert_verdict(const scratch *s, hfb_verdict verdict, const char *text) {
  const hfb_verify_options options = golden_training_options("eager", HFB_F32, "");
  assert_case_verdict(&options, s, verdict, text);
}

/* Every expected gradient in turn is changed by a little of its largest entry, or of all gradients' where it is zero:
 * each change is noticed, and the tensor is named. */
static void test_changed_gradients_fail(void **state) {
  (void)state;
  tensor_list list = tensor_list_read(BERT, "expected.safetensors");
  int count = list.count, changed_count = 0;
  hfb_safetensors_destroy(list.file);
  for (int i = 0; i < count; i++) {
    list = tensor_list_read(BERT, "expected.safetensors");
    hfb_stored_tensor *tensor = &list.tensors[i];
    if (strncmp(tensor->name, "grad/", 5) != 0) {
      hfb_safetensors_destroy(list.file);
      continue;
    }
    float *changed = malloc(tensor->bytes), largest = 1e-4f;
    assert_non_null(changed);
    memcpy(changed, tensor->data, tensor->bytes);
    size_t elements = tensor->bytes / sizeof(float);
    for (size_t k = 0; k < elements; k++) largest = fmaxf(largest, fabsf(changed[k]));
    changed[elements / 2] += 0.01f * largest;
    tensor->data = (const unsigned char *)changed;
    char name[160];
    snprintf(name, sizeof(name), "%s", tensor->name);
    scratch s = copy_of_case(BERT);
    tensor_list_write(&list, scratch_path(&s, "expected.safetensors"));
    free(changed);
    hfb_verify_result result = verify(s.folder);
    bool is_key_bias = strstr(name, "key.bias") != NULL; /* 0, and what is added is little beside all other gradients */
    if (!is_key_bias) {
      if (result.verdict != HFB_VERDICT_FAIL) fail_msg("%s: %s", name, hfb_verdict_name(result.verdict));
      assert_string_equal(result.tensors[result.worst].name, name);
      assert_true(result.tensors[result.worst].error > 2e-4);
      changed_count++;
    }
    hfb_verify_result_deinit(&result);
    scratch_destroy(&s);
  }
  assert_true(changed_count > 35);
}

static void test_counts_and_median(void **state) {
  (void)state;
  hfb_verify_result result = verify(BERT);
  assert_int_equal(result.verdict, HFB_VERDICT_PASS);
  assert_int_equal(result.output_count, 2);
  assert_int_equal(result.gradient_count, 42);
  assert_int_equal(result.tensor_count, 44);
  assert_string_equal(result.tensors[0].name, "train/loss");
  assert_string_equal(result.tensors[1].name, "train/logits"); /* stored as eval/logits, which it equals */
  int below = 0;
  for (int i = 0; i < result.tensor_count; i++) {
    below += result.tensors[i].is_gradient && result.tensors[i].error <= result.gradient_median;
  }
  assert_int_equal(below, 21);
  hfb_verify_result_deinit(&result);
}

/* 2e-4 apart, beside a gradient of 1 and beside none. */
static void test_measure(void **state) {
  (void)state;
  const hfb_distance distance = {.max_abs = 2e-4, .max_expected = 1};
  assert_true(fabs(hfb_gradient_error(&distance, 200) - 1e-4) < 1e-12);
  const hfb_distance of_zeros = {.max_abs = 2e-4};
  assert_true(fabs(hfb_gradient_error(&of_zeros, 10) - 4e-3) < 1e-12);
  const hfb_distance all_zero = {0};
  assert_true(hfb_gradient_error(&all_zero, 0) == 0);
}

static void test_expected_tensors(void **state) {
  (void)state;
  scratch s = copy_of_case(BERT);
  tensor_list list = tensor_list_read(BERT, "expected.safetensors");
  tensor_list_find(&list, "grad/cls.predictions.bias")->name = "grad/bert.encoder.layer.0.output.dense.bios";
  tensor_list_write(&list, scratch_path(&s, "expected.safetensors"));
  assert_verdict(&s, HFB_VERDICT_FAIL,
                 "'grad/bert.encoder.layer.0.output.dense.bios' is expected, but BertForMaskedLM has no such "
                 "parameter");

  s = copy_of_case(BERT);
  list = tensor_list_read(BERT, "expected.safetensors");
  tensor_list_find(&list, "train/loss")->name = "train/lost";
  tensor_list_write(&list, scratch_path(&s, "expected.safetensors"));
  assert_verdict(&s, HFB_VERDICT_FAIL, "'train/lost' is expected, but BertForMaskedLM has no such output");

  s = copy_of_case(BERT);
  list = tensor_list_read(BERT, "expected.safetensors");
  hfb_stored_tensor *weight = tensor_list_find(&list, "grad/cls.predictions.transform.dense.weight");
  weight->shape = hfb_shape_of(1, (int64_t[]){weight->shape.dim[0] * weight->shape.dim[1]});
  tensor_list_write(&list, scratch_path(&s, "expected.safetensors"));
  assert_verdict(&s, HFB_VERDICT_FAIL, "grad/cls.predictions.transform.dense.weight: shape [32,32] instead of [1024]");

  /* A part of the gradients is enough; none, and no output of training, is not. */
  s = copy_of_case(BERT);
  list = tensor_list_read(BERT, "expected.safetensors");
  tensor_list_remove(&list, "grad/cls.predictions.bias");
  tensor_list_write(&list, scratch_path(&s, "expected.safetensors"));
  assert_verdict(&s, HFB_VERDICT_PASS, "");
  s = copy_of_case(BERT);
  float one = 1;
  const hfb_stored_tensor other = {.name = "eval/loss", .storage = HFB_STORAGE_F32, .data = (void *)&one, .bytes = 4};
  assert_int_equal(hfb_safetensors_write(scratch_path(&s, "expected.safetensors"), &other, 1), HFB_OK);
  assert_verdict(&s, HFB_VERDICT_FAIL, "holds no tensor \"train/<output>\" or \"grad/<parameter>\"");
}

/* A parameter that the loss does not depend on has zeros, and nothing else will do. */
static void test_missing_gradient(void **state) {
  (void)state;
  static const char folder[] = HFB_TEST_DATA "/golden/BartForCausalLM";
  static const char name[] = "grad/model.decoder.layers.0.encoder_attn.out_proj.bias";
  hfb_verify_result result = verify(folder);
  assert_int_equal(result.verdict, HFB_VERDICT_PASS);
  hfb_verify_result_deinit(&result);
  scratch s = copy_of_case(folder);
  tensor_list list = tensor_list_read(folder, "expected.safetensors");
  hfb_stored_tensor *bias = tensor_list_find(&list, name);
  float *changed = malloc(bias->bytes);
  assert_non_null(changed);
  memcpy(changed, bias->data, bias->bytes);
  assert_true(changed[0] == 0);
  changed[0] = 0.1f;
  bias->data = (const unsigned char *)changed;
  tensor_list_write(&list, scratch_path(&s, "expected.safetensors"));
  free(changed);
  result = verify(s.folder);
  assert_int_equal(result.verdict, HFB_VERDICT_FAIL);
  assert_string_equal(result.tensors[result.worst].name, name);
  hfb_verify_result_deinit(&result);
  scratch_destroy(&s);
}

static void test_values_that_are_not_finite(void **state) {
  (void)state;
  scratch s = copy_of_case(BERT);
  spoil_with_nan(&s, BERT, "cls.predictions.bias");
  assert_verdict(&s, HFB_VERDICT_FAIL, "elements are not finite");
}

/* Everything that is expected is written, zeros too, and verifies itself. */
static void test_write(void **state) {
  (void)state;
  static const char folder[] = HFB_TEST_DATA "/golden/BartForCausalLM";
  scratch s = copy_of_case(folder);
  hfb_verify_options options = golden_training_options("eager", HFB_F32, "");
  char path[128];
  snprintf(path, sizeof(path), "%s/expected.safetensors", s.folder);
  options.write_path = path;
  hfb_verify_result result;
  hfb_verify_case(&options, folder, &result);
  assert_int_equal(result.verdict, HFB_VERDICT_PASS);
  int gradients = result.gradient_count, outputs = result.output_count;
  hfb_verify_result_deinit(&result);
  result = verify(s.folder);
  assert_int_equal(result.verdict, HFB_VERDICT_PASS);
  assert_int_equal(result.gradient_count, gradients);
  assert_int_equal(result.tensor_count, gradients + outputs);
  for (int i = 0; i < result.tensor_count; i++) assert_true(result.tensors[i].error == 0);
  hfb_verify_result_deinit(&result);
  scratch_destroy(&s);
}

static void test_tolerances(void **state) {
  (void)state;
  hfb_verify_options options = golden_training_options("eager", HFB_F32, "");
  options.gradient_tolerance = 1e-12;
  hfb_verify_result result;
  hfb_verify_case(&options, BERT, &result);
  assert_int_equal(result.verdict, HFB_VERDICT_FAIL);
  assert_true(result.tensors[result.worst].is_gradient);
  hfb_verify_result_deinit(&result);
  options.gradient_tolerance = 2e-4;
  options.tolerance = 1e-12;
  hfb_verify_case(&options, BERT, &result);
  assert_int_equal(result.verdict, HFB_VERDICT_FAIL);
  assert_false(result.tensors[result.worst].is_gradient);
  hfb_verify_result_deinit(&result);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_changed_gradients_fail),
      cmocka_unit_test(test_counts_and_median),
      cmocka_unit_test(test_measure),
      cmocka_unit_test(test_expected_tensors),
      cmocka_unit_test(test_missing_gradient),
      cmocka_unit_test(test_values_that_are_not_finite),
      cmocka_unit_test(test_write),
      cmocka_unit_test(test_tolerances),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
