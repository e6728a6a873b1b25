/* What verify says of cases that are damaged. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/golden.h"
#include "support/verify_case.h"

#define BERT HFB_TEST_DATA "/golden/BertForMaskedLM"

/* A copy of the tiny BERT that a test may spoil. */
static scratch copy_of_bert(void) { return copy_of_case(BERT); }

static void assert_verdict(const scratch *s, hfb_verdict verdict, const char *text) {
  const hfb_verify_options options = golden_options("eager", HFB_F32, "");
  assert_case_verdict(&options, s, verdict, text);
}

static void test_unspoilt_copy_passes(void **state) {
  (void)state;
  scratch s = copy_of_bert();
  assert_verdict(&s, HFB_VERDICT_PASS, "");
}

static void test_missing_files(void **state) {
  (void)state;
  static const char *const files[] = {"config.json", "inputs.safetensors", "expected.safetensors"};
  for (int i = 0; i < 3; i++) {
    scratch s = copy_of_bert();
    unlink(scratch_path(&s, files[i]));
    assert_verdict(&s, HFB_VERDICT_FAIL, files[i]);
  }
  scratch s = copy_of_bert();
  unlink(scratch_path(&s, "model.safetensors"));
  assert_verdict(&s, HFB_VERDICT_FAIL, "no weights");
  const hfb_verify_options options = golden_options("eager", HFB_F32, "");
  hfb_verify_result result;
  hfb_verify_case(&options, "/nonexistent/case", &result);
  assert_int_equal(result.verdict, HFB_VERDICT_FAIL);
  assert_non_null(strstr(result.reason, "/nonexistent/case/config.json"));
  hfb_verify_result_deinit(&result);
}

static void test_missing_weight(void **state) {
  (void)state;
  scratch s = copy_of_bert();
  tensor_list list = tensor_list_read(BERT, "model.safetensors");
  tensor_list_remove(&list, "bert.encoder.layer.0.output.dense.bias");
  tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
  assert_verdict(&s, HFB_VERDICT_FAIL, "1 missing: 'bert.encoder.layer.0.output.dense.bias'");
}

/* A weight that is a little off must show: the check of the check. */
static void test_changed_weight_fails(void **state) {
  (void)state;
  tensor_list list = tensor_list_read(BERT, "model.safetensors");
  int count = list.count, noticed = 0;
  hfb_safetensors_destroy(list.file);
  for (int i = 0; i < count; i++) {
    scratch s = copy_of_bert();
    list = tensor_list_read(BERT, "model.safetensors");
    hfb_stored_tensor *tensor = &list.tensors[i];
    float *changed = malloc(tensor->bytes);
    assert_non_null(changed);
    memcpy(changed, tensor->data, tensor->bytes);
    for (size_t k = 0; k < tensor->bytes / sizeof(float); k++) changed[k] += 0.01f * (float)(k % 3);
    tensor->data = (const unsigned char *)changed;
    char name[128];
    snprintf(name, sizeof(name), "%s", tensor->name);
    tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
    free(changed);
    const hfb_verify_options options = golden_options("eager", HFB_F32, "");
    hfb_verify_result result;
    hfb_verify_case(&options, s.folder, &result);
    /* A bias of the keys moves all scores of a row alike: softmax does not see it. */
    bool invisible = strstr(name, "key.bias") != NULL;
    if ((result.verdict == HFB_VERDICT_PASS) != invisible) fail_msg("%s: %s", name, hfb_verdict_name(result.verdict));
    noticed += result.verdict == HFB_VERDICT_FAIL;
    hfb_verify_result_deinit(&result);
    scratch_destroy(&s);
  }
  assert_true(noticed > 30);
}

static void test_expected_tensors(void **state) {
  (void)state;
  float one = 1;
  scratch s = copy_of_bert();
  tensor_list list = tensor_list_read(BERT, "expected.safetensors");
  tensor_list_find(&list, "eval/logits")->name = "eval/logit";
  tensor_list_write(&list, scratch_path(&s, "expected.safetensors"));
  assert_verdict(&s, HFB_VERDICT_FAIL, "'eval/logit' is expected, but BertForMaskedLM has no such output");

  s = copy_of_bert();
  const hfb_stored_tensor other = {.name = "train/loss", .storage = HFB_STORAGE_F32, .data = (void *)&one, .bytes = 4};
  assert_int_equal(hfb_safetensors_write(scratch_path(&s, "expected.safetensors"), &other, 1), HFB_OK);
  assert_verdict(&s, HFB_VERDICT_FAIL, "holds no tensor \"eval/<output>\"");

  s = copy_of_bert();
  list = tensor_list_read(BERT, "expected.safetensors");
  hfb_stored_tensor *logits = tensor_list_find(&list, "eval/logits");
  logits->shape = hfb_shape_of(2, (int64_t[]){logits->shape.dim[0] * logits->shape.dim[1], logits->shape.dim[2]});
  tensor_list_write(&list, scratch_path(&s, "expected.safetensors"));
  assert_verdict(&s, HFB_VERDICT_FAIL, "eval/logits: shape [2,13,99] instead of [26,99]");

  /* A part of the outputs is enough. */
  s = copy_of_bert();
  list = tensor_list_read(BERT, "expected.safetensors");
  tensor_list_remove(&list, "eval/loss");
  tensor_list_write(&list, scratch_path(&s, "expected.safetensors"));
  assert_verdict(&s, HFB_VERDICT_PASS, "");
}

static void test_values_that_are_not_finite(void **state) {
  (void)state;
  scratch s = copy_of_bert();
  spoil_with_nan(&s, BERT, "cls.predictions.bias");
  assert_verdict(&s, HFB_VERDICT_FAIL, "elements are not finite");
}

static void test_inputs(void **state) {
  (void)state;
  scratch s = copy_of_bert();
  tensor_list list = tensor_list_read(BERT, "inputs.safetensors");
  tensor_list_find(&list, "labels")->name = "head_mask";
  tensor_list_write(&list, scratch_path(&s, "inputs.safetensors"));
  assert_verdict(&s, HFB_VERDICT_SKIP, "head_mask");

  s = copy_of_bert();
  list = tensor_list_read(BERT, "inputs.safetensors");
  tensor_list_find(&list, "labels")->name = "lables";
  tensor_list_write(&list, scratch_path(&s, "inputs.safetensors"));
  assert_verdict(&s, HFB_VERDICT_FAIL, "lables");

  /* A word that the vocabulary does not have. */
  static const int64_t words[] = {99, -1, INT64_MAX, INT64_MIN, (int64_t)1 << 32};
  for (int i = 0; i < 5; i++) {
    s = copy_of_bert();
    list = tensor_list_read(BERT, "inputs.safetensors");
    hfb_stored_tensor *ids = tensor_list_find(&list, "input_ids");
    int64_t *changed = malloc(ids->bytes);
    assert_non_null(changed);
    memcpy(changed, ids->data, ids->bytes);
    changed[3] = words[i];
    ids->data = (const unsigned char *)changed;
    tensor_list_write(&list, scratch_path(&s, "inputs.safetensors"));
    free(changed);
    assert_verdict(&s, HFB_VERDICT_FAIL, "99");
  }

  /* The same ids and labels in 32 bits. */
  s = copy_of_bert();
  list = tensor_list_read(BERT, "inputs.safetensors");
  int32_t narrow[2][26];
  for (int t = 0; t < 2; t++) {
    hfb_stored_tensor *tensor = &list.tensors[t];
    assert_int_equal(hfb_shape_elements(&tensor->shape), 26);
    assert_int_equal(hfb_safetensors_convert(tensor, 0, 26, HFB_I32, narrow[t]), HFB_OK);
    tensor->storage = HFB_STORAGE_I32;
    tensor->bytes = sizeof(narrow[t]);
    tensor->data = (const unsigned char *)narrow[t];
  }
  tensor_list_write(&list, scratch_path(&s, "inputs.safetensors"));
  assert_verdict(&s, HFB_VERDICT_PASS, "");
}

static void write_config(const scratch *s, const char *from, const char *to) {
  char *text = NULL;
  size_t bytes = 0;
  assert_int_equal(hfb_file_read(BERT "/config.json", 1 << 20, &text, &bytes), HFB_OK);
  char *at = strstr(text, from);
  assert_non_null(at);
  char *changed = malloc(bytes + strlen(to) + 1);
  assert_non_null(changed);
  int length = sprintf(changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
  scratch_write(s, "config.json", changed, (size_t)length);
  free(changed);
  hfb_mem_free(text);
}

static void test_configurations(void **state) {
  (void)state;
  scratch s = copy_of_bert();
  write_config(&s, "\"BertForMaskedLM\"", "\"BertForEverything\"");
  assert_verdict(&s, HFB_VERDICT_SKIP, "BertForEverything");
  s = copy_of_bert();
  write_config(&s, "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"snake\"");
  assert_verdict(&s, HFB_VERDICT_SKIP, "hidden_act");
  s = copy_of_bert();
  write_config(&s, "\"absolute\"", "\"rotary\"");
  assert_verdict(&s, HFB_VERDICT_SKIP, "position_embedding_type");
  s = copy_of_bert();
  write_config(&s, "\"hidden_size\": 32", "\"hidden_size\": \"32\"");
  assert_verdict(&s, HFB_VERDICT_FAIL, "hidden_size");
  s = copy_of_bert();
  write_config(&s, "\"vocab_size\": 99", "\"vocab_size\": 98");
  assert_verdict(&s, HFB_VERDICT_FAIL, "instead of [98");
  s = copy_of_bert();
  scratch_write(&s, "config.json", "{", 1);
  assert_verdict(&s, HFB_VERDICT_FAIL, "config.json");
}

static void test_write(void **state) {
  (void)state;
  scratch s = scratch_create();
  hfb_verify_options options = golden_options("eager", HFB_F32, "");
  char path[128];
  snprintf(path, sizeof(path), "%s/got.safetensors", s.folder);
  options.write_path = path;
  hfb_verify_result result;
  hfb_verify_case(&options, HFB_TEST_DATA "/golden/BartForConditionalGeneration", &result);
  assert_int_equal(result.verdict, HFB_VERDICT_PASS);
  tensor_list got = tensor_list_read(s.folder, "got.safetensors");
  tensor_list expected = tensor_list_read(HFB_TEST_DATA "/golden/BartForConditionalGeneration", "expected.safetensors");
  assert_int_equal(got.count, result.output_count);
  for (int i = 0; i < got.count; i++) {
    const hfb_stored_tensor *want = tensor_list_find(&expected, got.tensors[i].name);
    int64_t count = hfb_shape_elements(&want->shape);
    assert_true(hfb_shape_equal(&got.tensors[i].shape, &want->shape));
    for (int64_t k = 0; k < count; k++) {
      double a = 0, b = 0;
      assert_int_equal(hfb_safetensors_convert(&got.tensors[i], k, 1, HFB_F64, &a), HFB_OK);
      assert_int_equal(hfb_safetensors_convert(want, k, 1, HFB_F64, &b), HFB_OK);
      assert_true(fabs(a - b) < 1e-4);
    }
  }
  hfb_safetensors_destroy(expected.file);
  hfb_safetensors_destroy(got.file);
  hfb_verify_result_deinit(&result);
  options.write_path = "/nonexistent/got.safetensors";
  hfb_verify_case(&options, BERT, &result);
  assert_int_equal(result.verdict, HFB_VERDICT_FAIL);
  assert_non_null(strstr(result.reason, "/nonexistent/got.safetensors"));
  hfb_verify_result_deinit(&result);
  scratch_destroy(&s);
}

static void test_tolerance(void **state) {
  (void)state;
  hfb_verify_options options = golden_options("eager", HFB_F32, "");
  options.tolerance = 1e-12;
  hfb_verify_result result;
  hfb_verify_case(&options, BERT, &result);
  assert_int_equal(result.verdict, HFB_VERDICT_FAIL);
  assert_string_equal(result.reason, "");
  assert_true(result.tensors[result.worst].distance.scaled > 1e-12);
  hfb_verify_result_deinit(&result);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_unspoilt_copy_passes),
      cmocka_unit_test(test_missing_files),
      cmocka_unit_test(test_missing_weight),
      cmocka_unit_test(test_changed_weight_fails),
      cmocka_unit_test(test_expected_tensors),
      cmocka_unit_test(test_values_that_are_not_finite),
      cmocka_unit_test(test_inputs),
      cmocka_unit_test(test_configurations),
      cmocka_unit_test(test_write),
      cmocka_unit_test(test_tolerance),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
