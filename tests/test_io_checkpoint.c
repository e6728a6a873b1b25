/* Checkpoints: single files and shards, names as Hugging Face writes them, weights that are missing or do not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/checkpoint.h"
#include "support/scratch.h"

#define BERT HFB_TEST_DATA "/golden/BertForMaskedLM"

/* The tiny BERT of the golden cases. */
typedef struct model {
  hfb_config *config;
  hfb_graph *graph;
} model;

static model load_model(const char *folder) {
  char path[512];
  model m = {0};
  snprintf(path, sizeof(path), "%s/config.json", folder);
  assert_int_equal(hfb_config_load(path, NULL, &m.config), HFB_OK);
  const hfb_model_input input = {"input_ids", HFB_I64, hfb_shape_of(2, (int64_t[]){2, 5})};
  const hfb_model_request request = {
      .class_name = hfb_config_class(m.config), .config = m.config, .input_count = 1, .inputs = &input};
  assert_int_equal(hfb_model_build(&request, &m.graph), HFB_OK);
  return m;
}

static void free_model(model *m) {
  hfb_graph_destroy(m->graph);
  hfb_config_destroy(m->config);
}

static hfb_status bind(const model *m, const char *path, hfb_checkpoint **out_checkpoint,
                       hfb_checkpoint_binding *out_binding) {
  *out_binding = (hfb_checkpoint_binding){0};
  HFB_TRY(hfb_checkpoint_open(path, out_checkpoint));
  return hfb_checkpoint_bind(*out_checkpoint, hfb_config_class(m->config), m->config, m->graph, out_binding);
}

static const char *parameter_name(const model *m, int index) {
  return hfb_node_text(m->graph->parameters[index]->node, HFB_ATTR_NAME, "");
}

static int parameter_index(const model *m, const char *name) {
  for (int i = 0; i < m->graph->parameter_count; i++) {
    if (strcmp(parameter_name(m, i), name) == 0) return i;
  }
  fail_msg("no parameter '%s'", name);
  return -1;
}

/* Every parameter of BERT bound to the tensor that the golden file holds for it. */
static void assert_all_bound(const model *m, const hfb_checkpoint_binding *binding) {
  tensor_list golden = tensor_list_read(BERT, "model.safetensors");
  assert_int_equal(binding->count, m->graph->parameter_count);
  for (int i = 0; i < binding->count; i++) {
    const hfb_stored_tensor *want = tensor_list_find(&golden, parameter_name(m, i));
    assert_int_equal(binding->sources[i]->bytes, want->bytes);
    assert_memory_equal(binding->sources[i]->data, want->data, want->bytes);
  }
  hfb_safetensors_destroy(golden.file);
}

static void assert_binds(const char *path, int alias_count, int ignored_count, int unknown_count) {
  model m = load_model(BERT);
  hfb_checkpoint *checkpoint = NULL;
  hfb_checkpoint_binding binding;
  hfb_status status = bind(&m, path, &checkpoint, &binding);
  if (status != HFB_OK) fail_msg("%s", hfb_error_message());
  assert_all_bound(&m, &binding);
  assert_int_equal(binding.alias_count, alias_count);
  assert_int_equal(binding.ignored_count, ignored_count);
  assert_int_equal(binding.unknown_count, unknown_count);
  assert_int_equal(binding.computed_count, 0);
  hfb_checkpoint_binding_deinit(&binding);
  hfb_checkpoint_destroy(checkpoint);
  free_model(&m);
}

/* Opening or binding fails with this status, and the one-line message holds the texts. */
static void assert_refused(const char *path, hfb_status status, int text_count, const char *const *texts) {
  model m = load_model(BERT);
  hfb_checkpoint *checkpoint = NULL;
  hfb_checkpoint_binding binding;
  hfb_status got = bind(&m, path, &checkpoint, &binding);
  if (got != status)
    fail_msg("%s instead of %s: %s", hfb_status_name(got), hfb_status_name(status), hfb_error_message());
  assert_null(binding.sources);
  assert_null(strchr(hfb_error_message(), '\n'));
  for (int i = 0; i < text_count; i++) {
    if (!strstr(hfb_error_message(), texts[i])) fail_msg("'%s' is not in: %s", texts[i], hfb_error_message());
  }
  hfb_checkpoint_destroy(checkpoint);
  free_model(&m);
}

#define TEXTS(...)                                                                  \
  (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]) { \
    __VA_ARGS__                                                                     \
  }

static void test_plain_file_and_folder(void **state) {
  (void)state;
  assert_binds(BERT "/model.safetensors", 0, 0, 0);
  assert_binds(BERT, 0, 0, 0);
  assert_refused("/nonexistent", HFB_NOT_FOUND, TEXTS("/nonexistent", "model.safetensors"));
}

/* "bert.embeddings.LayerNorm.weight" as old files have it. */
static void test_old_norm_names(void **state) {
  (void)state;
  scratch s = scratch_create();
  tensor_list list = tensor_list_read(BERT, "model.safetensors");
  char names[256][128];
  int renamed = 0;
  for (int i = 0; i < list.count; i++) {
    const char *name = list.tensors[i].name;
    const char *norm = strstr(name, "LayerNorm.");
    if (!norm) continue;
    snprintf(names[i], sizeof(names[i]), "%.*sLayerNorm.%s", (int)(norm - name), name,
             strstr(norm, "weight") ? "gamma" : "beta");
    list.tensors[i].name = names[i];
    renamed++;
  }
  assert_true(renamed >= 10);
  tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
  assert_binds(s.folder, 0, 0, 0);
  scratch_destroy(&s);
}

/* A file saved from the bare BertModel has no "bert." in front; its head comes from elsewhere. */
static void test_without_base_prefix(void **state) {
  (void)state;
  scratch s = scratch_create();
  tensor_list list = tensor_list_read(BERT, "model.safetensors");
  for (int i = 0; i < list.count; i++) {
    if (strncmp(list.tensors[i].name, "bert.", 5) == 0) list.tensors[i].name += 5;
  }
  tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
  assert_binds(s.folder, 0, 0, 0);
  scratch_destroy(&s);
}

static void test_tied_names_and_extra_tensors(void **state) {
  (void)state;
  scratch s = scratch_create();
  const float zero = 0;
  tensor_list list = tensor_list_read(BERT, "model.safetensors");
  /* The tied matrix under its second name only; the bias of the decoder, which must not win, under both. */
  tensor_list_find(&list, "bert.embeddings.word_embeddings.weight")->name = "cls.predictions.decoder.weight";
  hfb_stored_tensor other = *tensor_list_find(&list, "bert.embeddings.LayerNorm.bias");
  hfb_stored_tensor *bias = tensor_list_find(&list, "cls.predictions.bias");
  hfb_stored_tensor second = *bias;
  second.name = "cls.predictions.decoder.bias";
  list.tensors[list.count++] = second;
  other.name = "something.else.weight";
  list.tensors[list.count++] = other;
  list.tensors[list.count++] = (hfb_stored_tensor){.name = "bert.embeddings.position_ids",
                                                   .storage = HFB_STORAGE_F32,
                                                   .data = (const unsigned char *)&zero,
                                                   .bytes = 4};
  tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
  assert_binds(s.folder, 1, 1, 1);
  scratch_destroy(&s);
}

static void test_missing_weights_are_named(void **state) {
  (void)state;
  scratch s = scratch_create();
  tensor_list list = tensor_list_read(BERT, "model.safetensors");
  tensor_list_remove(&list, "bert.encoder.layer.1.output.dense.bias");
  tensor_list_remove(&list, "cls.predictions.bias");
  tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
  assert_refused(s.folder, HFB_MISMATCH,
                 TEXTS(s.folder, "BertForMaskedLM", "2 missing", "'bert.encoder.layer.1.output.dense.bias'",
                       "'cls.predictions.bias'"));
  const hfb_stored_tensor none = {
      .name = "x", .storage = HFB_STORAGE_F32, .data = (const unsigned char *)"abcd", .bytes = 4};
  assert_int_equal(hfb_safetensors_write(scratch_path(&s, "model.safetensors"), &none, 1), HFB_OK);
  assert_refused(s.folder, HFB_MISMATCH, TEXTS(" missing: 'bert.embeddings.word_embeddings.weight'", " more"));
  scratch_destroy(&s);
}

static void test_wrong_shapes_are_named(void **state) {
  (void)state;
  scratch s = scratch_create();
  tensor_list list = tensor_list_read(BERT, "model.safetensors");
  hfb_stored_tensor *table = tensor_list_find(&list, "bert.embeddings.position_embeddings.weight");
  table->shape = hfb_shape_of(2, (int64_t[]){16, 64});
  hfb_stored_tensor *bias = tensor_list_find(&list, "cls.predictions.transform.dense.bias");
  bias->shape = hfb_shape_of(2, (int64_t[]){1, 32});
  tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
  assert_refused(
      s.folder, HFB_MISMATCH,
      TEXTS("2 of another shape", "'bert.embeddings.position_embeddings.weight' is [16,64] instead of [32,32]",
            "[1,32] instead of [32]"));
  scratch_destroy(&s);
}

static void test_one_weight_twice_is_refused(void **state) {
  (void)state;
  scratch s = scratch_create();
  tensor_list list = tensor_list_read(BERT, "model.safetensors");
  hfb_stored_tensor gamma = *tensor_list_find(&list, "bert.embeddings.LayerNorm.weight");
  tensor_list_remove(&list, "bert.embeddings.LayerNorm.weight");
  gamma.name = "bert.embeddings.LayerNorm.gamma";
  list.tensors[list.count++] = gamma;
  gamma.name = "embeddings.LayerNorm.weight";
  list.tensors[list.count++] = gamma;
  tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
  assert_refused(s.folder, HFB_MISMATCH, TEXTS("both values of the weight 'bert.embeddings.LayerNorm.weight'"));
  scratch_destroy(&s);
}

/* ---- Shards ---- */

/* The golden file in two shards; returns the text of the index. */
static void write_shards(const scratch *s, char *index, size_t index_bytes) {
  tensor_list first = tensor_list_read(BERT, "model.safetensors");
  tensor_list second = tensor_list_read(BERT, "model.safetensors");
  size_t used = (size_t)snprintf(index, index_bytes, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
  int half = first.count / 2, count = first.count;
  for (int i = 0; i < count; i++) {
    used += (size_t)snprintf(index + used, index_bytes - used, "%s\"%s\":\"%s\"", i ? "," : "", first.tensors[i].name,
                             i < half ? "a.safetensors" : "b.safetensors");
  }
  snprintf(index + used, index_bytes - used, "}}");
  first.count = half;
  memmove(second.tensors, second.tensors + half, (size_t)(count - half) * sizeof(second.tensors[0]));
  second.count = count - half;
  tensor_list_write(&first, scratch_path(s, "a.safetensors"));
  tensor_list_write(&second, scratch_path(s, "b.safetensors"));
}

static void write_index(const scratch *s, const char *text) {
  scratch_write(s, "model.safetensors.index.json", text, strlen(text));
}

static void test_shards(void **state) {
  (void)state;
  static char index[1 << 15];
  scratch s = scratch_create();
  write_shards(&s, index, sizeof(index));
  write_index(&s, index);
  assert_binds(s.folder, 0, 0, 0);
  assert_binds(scratch_path(&s, "model.safetensors.index.json"), 0, 0, 0);
  unlink(scratch_path(&s, "b.safetensors"));
  assert_refused(s.folder, HFB_NOT_FOUND, TEXTS("b.safetensors"));
  scratch_copy(&s, "config.json", BERT);
  rename(scratch_path(&s, "config.json"), scratch_path(&s, "b.safetensors"));
  assert_refused(s.folder, HFB_CORRUPT, TEXTS("b.safetensors"));
  scratch_destroy(&s);
}

static void test_bad_indices(void **state) {
  (void)state;
  static char index[1 << 15];
  static const struct {
    const char *text;
    hfb_status status;
    const char *message;
  } bad[] = {
      {"", HFB_CORRUPT, "not valid JSON"},
      {"{\"weight_map\":", HFB_CORRUPT, "not valid JSON"},
      {"[1]", HFB_CORRUPT, "not an object"},
      {"{}", HFB_CORRUPT, "weight_map"},
      {"{\"weight_map\":[]}", HFB_CORRUPT, "weight_map"},
      {"{\"weight_map\":{\"w\":1}}", HFB_CORRUPT, "'w' is not a text"},
      {"{\"weight_map\":{\"w\":\"\"}}", HFB_CORRUPT, "plain name"},
      {"{\"weight_map\":{\"w\":\"..\"}}", HFB_CORRUPT, "plain name"},
      {"{\"weight_map\":{\"w\":\"/etc/passwd\"}}", HFB_CORRUPT, "plain name"},
      {"{\"weight_map\":{\"w\":\"../a.safetensors\"}}", HFB_CORRUPT, "plain name"},
      {"{\"weight_map\":{\"w\":\"none.safetensors\"}}", HFB_NOT_FOUND, "none.safetensors"},
      {"{\"weight_map\":{\"w\":\"a.safetensors\"}}", HFB_CORRUPT, "'w' is not in 'a.safetensors'"},
      {"{\"weight_map\":{\"w\":\"a.safetensors\",\"w\":\"b.safetensors\"}}", HFB_CORRUPT, "duplicate"},
      {"{\"weight_map\":{},\"metadata\":[[[[[]]]]]}", HFB_CORRUPT, "nested deeper"},
      {"{\"weight_map\":{}}", HFB_MISMATCH, "missing"},
  };
  scratch s = scratch_create();
  write_shards(&s, index, sizeof(index));
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    write_index(&s, bad[i].text);
    assert_refused(s.folder, bad[i].status, TEXTS(bad[i].message, s.folder));
  }
  scratch_destroy(&s);
}

/* ---- What may be left out ---- */

static void test_buffers_may_be_missing(void **state) {
  (void)state;
  const char *folder = HFB_TEST_DATA "/golden/BartForConditionalGeneration";
  scratch s = scratch_create();
  tensor_list list = tensor_list_read(folder, "model.safetensors");
  tensor_list_remove(&list, "final_logits_bias");
  tensor_list_write(&list, scratch_path(&s, "model.safetensors"));
  model m = load_model(folder);
  hfb_checkpoint *checkpoint = NULL;
  hfb_checkpoint_binding binding;
  assert_int_equal(bind(&m, s.folder, &checkpoint, &binding), HFB_OK);
  assert_int_equal(binding.computed_count, 1);
  assert_null(binding.sources[parameter_index(&m, "final_logits_bias")]);
  hfb_checkpoint_binding_deinit(&binding);
  hfb_checkpoint_destroy(checkpoint);
  free_model(&m);
  scratch_destroy(&s);
}

static void test_every_failed_allocation(void **state) {
  (void)state;
  static char index[1 << 15];
  scratch s = scratch_create();
  write_shards(&s, index, sizeof(index));
  write_index(&s, index);
  model m = load_model(BERT);
  bool worked = false;
  int failures = 0;
  for (int nth = 1; !worked && nth < 1000; nth++) {
    hfb_checkpoint *checkpoint = NULL;
    hfb_checkpoint_binding binding;
    hfb_mem_fail_at(nth, 0);
    hfb_status status = bind(&m, s.folder, &checkpoint, &binding);
    hfb_mem_fail_at(0, 0);
    worked = status == HFB_OK;
    if (!worked) assert_int_equal(status, HFB_OUT_OF_MEMORY);
    failures += !worked;
    hfb_checkpoint_binding_deinit(&binding);
    hfb_checkpoint_destroy(checkpoint);
  }
  assert_true(worked && failures > 5);
  free_model(&m);
  scratch_destroy(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_plain_file_and_folder),
      cmocka_unit_test(test_old_norm_names),
      cmocka_unit_test(test_without_base_prefix),
      cmocka_unit_test(test_tied_names_and_extra_tensors),
      cmocka_unit_test(test_missing_weights_are_named),
      cmocka_unit_test(test_wrong_shapes_are_named),
      cmocka_unit_test(test_one_weight_twice_is_refused),
      cmocka_unit_test(test_shards),
      cmocka_unit_test(test_bad_indices),
      cmocka_unit_test(test_buffers_may_be_missing),
      cmocka_unit_test(test_every_failed_allocation),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
