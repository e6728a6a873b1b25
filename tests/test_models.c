/* Every suite row at its full configuration against the parameter tables, the suite table and the golden cases. */
#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "ir/builder.h"
#include "models/model.h"

#define TRY(expr)                                                         \
  do {                                                                    \
    if ((expr) != HFB_OK) fail_msg("%s: %s", #expr, hfb_error_message()); \
  } while (0)

static hfb_graph *build_row(const hfb_model_row *row, const hfb_config *config, int64_t batch, int64_t seq) {
  hfb_suite_input inputs[HFB_SUITE_INPUT_MAX];
  hfb_model_input given[HFB_SUITE_INPUT_MAX];
  int count = 0;
  TRY(hfb_model_suite_inputs(row, config, batch, seq, inputs, &count));
  for (int i = 0; i < count; i++) given[i] = inputs[i].input;
  hfb_model_request request = {.class_name = row->class_name, .config = config, .input_count = count, .inputs = given};
  hfb_graph *graph = NULL;
  TRY(hfb_model_build(&request, &graph));
  return graph;
}

static const char *name_of(const hfb_value *parameter) {
  return hfb_node_text(parameter->node, HFB_ATTR_NAME, "");
}

/* ---- Parameters ---- */

typedef struct walk {
  const hfb_graph *graph;
  const char *model;
  int next; /* parameter that the next line must describe */
  int64_t elements;
  int tensors;
} walk;

/* "name 768x768 1|0|buffer" with # replaced by index; a shape of "scalar" has no dimensions. */
static void check_parameter(walk *w, const char *line, int index) {
  char pattern[256], shape_text[64], kind[16], name[300] = "";
  assert_int_equal(sscanf(line, "%255s %63s %15s", pattern, shape_text, kind), 3);
  for (const char *at = pattern; *at != '\0'; at++) {
    size_t used = strlen(name);
    if (*at == '#') {
      snprintf(name + used, sizeof name - used, "%d", index);
    } else {
      snprintf(name + used, sizeof name - used, "%c", *at);
    }
  }
  if (w->next >= w->graph->parameter_count) fail_msg("%s: '%s' is missing", w->model, name);
  /* The state of what a class draws in evaluation too is none of its parameters. */
  w->next += strcmp(name_of(w->graph->parameters[w->next]), HFB_RANDOM_STATE) == 0;
  assert_true(w->next < w->graph->parameter_count);
  const hfb_value *parameter = w->graph->parameters[w->next++];
  char got[HFB_SHAPE_TEXT_BYTES] = "";
  if (parameter->shape.rank == 0) snprintf(got, sizeof got, "scalar");
  for (int d = 0; d < parameter->shape.rank; d++) {
    size_t used = strlen(got);
    snprintf(got + used, sizeof got - used, "%s%lld", d == 0 ? "" : "x", (long long)parameter->shape.dim[d]);
  }
  bool buffer = strcmp(kind, "buffer") == 0;
  if (strcmp(name_of(parameter), name) != 0 || strcmp(got, shape_text) != 0) {
    fail_msg("%s: parameter %d is %s %s, not %s %s", w->model, w->next - 1, name_of(parameter), got, name, shape_text);
  }
  assert_int_equal(hfb_node_int(parameter->node, HFB_ATTR_BUFFER), buffer);
  assert_int_equal(hfb_node_int(parameter->node, HFB_ATTR_TRAINABLE), strcmp(kind, "1") == 0);
  if (!buffer) {
    w->tensors++;
    w->elements += hfb_shape_elements(&parameter->shape);
  }
}

/* Lines from `text` up to its end or to "end"; returns where it stopped. */
static const char *check_lines(walk *w, const char *text, int index) {
  while (*text != '\0') {
    size_t length = strcspn(text, "\n");
    char line[400];
    snprintf(line, sizeof line, "%.*s", (int)length, text);
    text += length + (text[length] == '\n');
    int first, limit;
    if (strcmp(line, "end") == 0) return text;
    if (sscanf(line, "repeat %d %d", &first, &limit) == 2) {
      const char *after = text;
      for (int i = first; i < limit; i++) after = check_lines(w, text, i);
      text = after;
    } else {
      check_parameter(w, line, index);
    }
  }
  return text;
}

static void check_parameters(const char *model, const hfb_graph *graph) {
  char path[512], *text = NULL;
  size_t bytes = 0;
  snprintf(path, sizeof path, "%s/params/%s.txt", HFB_TEST_DATA, model);
  TRY(hfb_file_read(path, 1 << 20, &text, &bytes));
  long long elements = 0;
  int tensors = 0;
  assert_int_equal(sscanf(text, "total %lld %d", &elements, &tensors), 2);
  walk w = {.graph = graph, .model = model};
  check_lines(&w, strchr(text, '\n') + 1, 0);
  assert_int_equal(w.next, graph->parameter_count);
  assert_int_equal(w.elements, elements);
  assert_int_equal(w.tensors, tensors);
  hfb_mem_free(text);
}

/* What each class returns with labels; KV2 and KV4: that many cache tensors for each layer; MEMS: one memory for each.
 */
static const char *expected_outputs(const char *class_name) {
  static const char *const outputs[][2] = {
      {"AlbertForPreTraining", "loss prediction_logits sop_logits"},
      {"BartForCausalLM", "loss logits KV2"},
      {"BartForConditionalGeneration", "loss logits encoder_last_hidden_state"},
      {"BlenderbotForCausalLM", "loss logits KV2"},
      {"BlenderbotForConditionalGeneration", "loss logits encoder_last_hidden_state"},
      {"BlenderbotModel", "last_hidden_state KV4 encoder_last_hidden_state"},
      {"BlenderbotSmallForCausalLM", "loss logits KV2"},
      {"BlenderbotSmallForConditionalGeneration", "loss logits encoder_last_hidden_state"},
      {"BlenderbotSmallModel", "last_hidden_state KV4 encoder_last_hidden_state"},
      {"CLIPModel",
       "loss logits_per_image logits_per_text text_embeds image_embeds text_model_output.last_hidden_state "
       "text_model_output.pooler_output vision_model_output.last_hidden_state vision_model_output.pooler_output"},
      {"CLIPVisionModel", "last_hidden_state pooler_output"},
      {"GPT2LMHeadModel", "loss logits KV2"},
      {"GPT2ForSequenceClassification", "loss logits KV2"},
      {"GPTJForCausalLM", "loss logits KV2"},
      {"GPTJForSequenceClassification", "loss logits KV2"},
      {"GPTNeoForCausalLM", "loss logits KV2"},
      {"GPTNeoForSequenceClassification", "loss logits KV2"},
      {"LxmertForPreTraining", "loss prediction_logits cross_relationship_score question_answering_score"},
      {"LxmertForQuestionAnswering", "loss question_answering_score"},
      {"M2M100ForConditionalGeneration", "loss logits KV4 encoder_last_hidden_state"},
      {"MBartForCausalLM", "loss logits KV2"},
      {"MBartForConditionalGeneration", "loss logits encoder_last_hidden_state"},
      {"MT5ForConditionalGeneration", "loss logits KV4 encoder_last_hidden_state"},
      {"MarianForCausalLM", "loss logits KV2"},
      {"MarianMTModel", "loss logits encoder_last_hidden_state"},
      {"MarianModel", "last_hidden_state KV4 encoder_last_hidden_state"},
      {"OPTForCausalLM", "loss logits KV2"},
      {"PLBartForCausalLM", "loss logits KV2"},
      {"PLBartForConditionalGeneration", "loss logits KV4 encoder_last_hidden_state"},
      {"PegasusForCausalLM", "loss logits KV2"},
      {"PegasusForConditionalGeneration", "loss logits encoder_last_hidden_state"},
      {"PegasusModel", "last_hidden_state KV4 encoder_last_hidden_state"},
      {"Speech2Text2ForCausalLM", "loss logits KV2"},
      {"T5ForConditionalGeneration", "loss logits KV4 encoder_last_hidden_state"},
      {"TrOCRForCausalLM", "loss logits KV2"},
      {"ViTForMaskedImageModeling", "loss reconstruction"},
      {"ViTModel", "last_hidden_state pooler_output"},
      {"XGLMForCausalLM", "loss logits KV2"},
      {"XLNetLMHeadModel", "loss logits MEMS"},
  };
  for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) {
    if (strcmp(outputs[i][0], class_name) == 0) return outputs[i][1];
  }
  return strstr(class_name, "QuestionAnswering") != NULL ? "loss start_logits end_logits" : "loss logits";
}

static int64_t cached_layers(const hfb_config *config) {
  static const char *const fields[] = {"decoder_layers", "n_layer", "num_layers", "num_hidden_layers"};
  for (int i = 0; i < 4; i++) {
    if (hfb_config_has(config, fields[i])) return hfb_config_int(config, fields[i]);
  }
  return 0;
}

static void check_outputs(const hfb_model_row *row, const hfb_config *config, const hfb_graph *graph) {
  int next = 0;
  char list[256];
  snprintf(list, sizeof list, "%s", expected_outputs(row->class_name));
  for (char *word = strtok(list, " "); word != NULL; word = strtok(NULL, " ")) {
    int tensors = strcmp(word, "MEMS") == 0;
    if (tensors == 0 && sscanf(word, "KV%d", &tensors) != 1) {
      assert_true(next < graph->output_count);
      assert_string_equal(graph->outputs[next++].name, word);
      continue;
    }
    for (int layer = 0; layer < cached_layers(config); layer++) {
      for (int i = 0; i < tensors; i++) {
        char name[64];
        if (word[0] == 'M') {
          snprintf(name, sizeof name, "mems/%d", layer);
        } else {
          snprintf(name, sizeof name, "past_key_values/%d/%d", layer, i);
        }
        assert_true(next < graph->output_count);
        assert_string_equal(graph->outputs[next++].name, name);
      }
    }
  }
  assert_int_equal(next, graph->output_count);
  assert_int_equal(graph->outputs[0].value->shape.rank == 0, row->labels != HFB_LABELS_NONE);
}

static void test_rows_build(void **state) {
  double slowest = 0;
  const char *slowest_name = "";
  for (int i = 0; i < hfb_model_row_count(); i++) {
    const hfb_model_row *row = hfb_model_row_at(i);
    hfb_config *config = NULL;
    TRY(hfb_model_row_config(row, &config));
    int64_t batches[] = {1, row->default_batch};
    for (int j = 0; j < 2; j++) {
      int64_t start = hfb_clock_ns();
      hfb_graph *graph = build_row(row, config, batches[j], row->seq_len);
      double ms = (double)(hfb_clock_ns() - start) / 1e6;
      if (ms > slowest) {
        slowest = ms;
        slowest_name = row->name;
      }
      TRY(hfb_graph_verify(graph));
      check_parameters(row->name, graph);
      check_outputs(row, config, graph);
      hfb_graph_destroy(graph);
    }
    hfb_config_destroy(config);
  }
  print_message("slowest build: %.1f ms (%s)\n", slowest, slowest_name);
}

/* ---- The suite table ---- */

static void describe_flags(const hfb_model_row *row, char *text, size_t bytes) {
  static const struct {
    unsigned flag;
    const char *name;
  } names[] = {{HFB_MODEL_SKIP, "skip"},
               {HFB_MODEL_SKIP_CPU, "skip_cpu"},
               {HFB_MODEL_SKIP_ACCURACY_LARGE, "skip_accuracy_large"},
               {HFB_MODEL_ONLY_EVAL, "only_eval"},
               {HFB_MODEL_FP32_ONLY, "fp32_only"},
               {HFB_MODEL_CONTROL_FLOW, "control_flow"}};
  text[0] = '\0';
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    size_t used = strlen(text);
    if (row->flags & names[i].flag) snprintf(text + used, bytes - used, "%s%s", used > 0 ? "," : "", names[i].name);
  }
  size_t used = strlen(text);
  if (strstr(row->overrides, "pad_token_id=0") != NULL) {
    snprintf(text + used, bytes - used, "%spad_token_id=0", used > 0 ? "," : "");
  } else if (used == 0) {
    snprintf(text, bytes, "-");
  }
}

static void describe(const hfb_model_row *row, char *text, size_t bytes) {
  static const char *const ids[] = {"[0,vocab)", "[0,vocab), last = eos", "all 0", "images"};
  static const char *const decoder[] = {"-", "= input_ids"};
  static const char *const labels[] = {"labels:[0,vocab) of (batch,seq)",
                                       "labels:[0,vocab-1) of (batch,seq)",
                                       "start_positions,end_positions:[0,seq) of (batch)",
                                       "labels:[0,num_labels-1) of (batch)",
                                       "labels:[0,1) of (batch,seq)",
                                       "labels:[0,vocab) of (batch,seq), sentence_order_label:[0,1) of (batch)",
                                       "bool_masked_pos of (batch,patches)",
                                       "-"};
  char tolerance[2][16], flags[128];
  for (int i = 0; i < 2; i++) {
    double value = i == 0 ? row->tol_training : row->tol_inference;
    snprintf(tolerance[i], sizeof tolerance[i], "%ge-%d", value * (value >= 0.0099 ? 100 : 1000),
             value >= 0.0099 ? 2 : 3);
  }
  describe_flags(row, flags, sizeof flags);
  snprintf(text, bytes, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s", row->name, row->class_name, row->config,
           row->known_batch, row->divisor, row->default_batch, row->seq_len, ids[row->ids], decoder[row->decoder],
           labels[row->labels], tolerance[0], tolerance[1], flags);
}

static char *read_suite_table(void) {
  char *table = NULL;
  size_t bytes = 0;
  TRY(hfb_file_read(HFB_TEST_DATA "/suite.tsv", 1 << 20, &table, &bytes));
  return table;
}

/* Rows stand in the table's order; those under `more` follow, and are not in it. */
static void test_rows_equal_suite_table(void **state) {
  char *table = read_suite_table();
  const char *from = table;
  bool more = false;
  for (int i = 0; i < hfb_model_row_count(); i++) {
    const hfb_model_row *row = hfb_model_row_at(i);
    char line[512], name[128];
    more = more || row->flags & HFB_MODEL_MORE;
    if (more) {
      assert_true(row->flags & HFB_MODEL_MORE);
      snprintf(name, sizeof name, "\n%s\t", row->name);
      if (strstr(table, name) != NULL) fail_msg("%s is in the suite table", row->name);
      continue;
    }
    describe(row, line, sizeof line - 1);
    strcat(line, "\n");
    const char *found = strstr(from, line);
    if (found == NULL || found[-1] != '\n') fail_msg("not in the suite table, or out of its order: %s", line);
    from = found;
  }
  hfb_mem_free(table);
}

/* No name of the table is left out whose class can be built. */
static void test_suite_table_has_its_rows(void **state) {
  char *table = read_suite_table(), *rest = table;
  int names = 0;
  for (char *line = strtok_r(table, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
    char name[128], class_name[128];
    hfb_model_class known;
    const hfb_model_row *row = NULL;
    if (sscanf(line, "%127[^\t]\t%127[^\t]", name, class_name) != 2 || strcmp(name, "name") == 0) continue;
    if (hfb_model_class_find(class_name, &known) != HFB_OK) continue;
    names++;
    TRY(hfb_model_find(name, &row));
  }
  assert_true(names >= 18);
  hfb_mem_free(table);
}

static void test_unknown_names(void **state) {
  const hfb_model_row *row = NULL;
  assert_int_equal(hfb_model_find("BertForMaskedLN", &row), HFB_NOT_FOUND);
  assert_non_null(strstr(hfb_error_message(), "BertForMaskedLM"));
  TRY(hfb_model_find("T5Small", &row));
  assert_string_equal(row->class_name, "T5ForConditionalGeneration");
  hfb_model_class found;
  assert_int_equal(hfb_model_class_find("BertForMaskedML", &found), HFB_UNSUPPORTED);
  assert_non_null(strstr(hfb_error_message(), "BertForMaskedLM"));
  for (int i = 0; i < hfb_model_class_count(); i++) {
    hfb_model_class at = hfb_model_class_at(i);
    TRY(hfb_model_class_find(at.name, &found));
    assert_string_equal(found.model_type, at.model_type);
  }
}

static void test_suite_inputs(void **state) {
  const hfb_model_row *row = NULL;
  hfb_config *config = NULL;
  hfb_suite_input inputs[HFB_SUITE_INPUT_MAX];
  int count = 0;
  TRY(hfb_model_find("BartForConditionalGeneration", &row));
  TRY(hfb_model_row_config(row, &config));
  TRY(hfb_model_suite_inputs(row, config, 2, 8, inputs, &count));
  assert_int_equal(count, 2);
  assert_int_equal(inputs[0].high, 50265);
  assert_int_equal(inputs[0].last, 2);
  assert_string_equal(inputs[1].input.name, "labels");
  assert_int_equal(inputs[1].high, 50264);
  hfb_config_destroy(config);

  TRY(hfb_model_find("T5Small", &row));
  TRY(hfb_model_row_config(row, &config));
  TRY(hfb_model_suite_inputs(row, config, 2, 8, inputs, &count));
  assert_int_equal(count, 3);
  assert_string_equal(inputs[1].input.name, "decoder_input_ids");
  assert_int_equal(inputs[1].copy_of, 0);
  assert_int_equal(inputs[2].high, 32128);
  hfb_config_destroy(config);

  TRY(hfb_model_find("CLIPModel", &row));
  TRY(hfb_model_row_config(row, &config));
  TRY(hfb_model_suite_inputs(row, config, 2, 8, inputs, &count));
  assert_int_equal(count, 2);
  assert_int_equal(inputs[0].high, 49408);
  assert_int_equal(inputs[0].last, 49407);
  assert_string_equal(inputs[1].input.name, "pixel_values");
  assert_true(inputs[1].normal);
  assert_int_equal(inputs[1].input.shape.dim[3], 224);
  hfb_config_destroy(config);

  TRY(hfb_model_find("LxmertForQuestionAnswering", &row));
  TRY(hfb_model_row_config(row, &config));
  TRY(hfb_model_suite_inputs(row, config, 2, 8, inputs, &count));
  assert_int_equal(count, 4);
  assert_string_equal(inputs[1].input.name, "visual_feats");
  assert_int_equal(inputs[1].input.shape.dim[1], 42);
  assert_int_equal(inputs[1].input.shape.dim[2], 2048);
  assert_string_equal(inputs[2].input.name, "visual_pos");
  assert_true(inputs[2].normal);
  assert_int_equal(inputs[3].high, 9500);
  hfb_config_destroy(config);

  TRY(hfb_model_find("RobertaForQuestionAnswering", &row));
  TRY(hfb_model_row_config(row, &config));
  TRY(hfb_model_suite_inputs(row, config, 3, 8, inputs, &count));
  assert_int_equal(count, 3);
  assert_int_equal(inputs[0].high, 1);
  assert_int_equal(inputs[2].high, 8);
  assert_int_equal(inputs[2].input.shape.dim[0], 3);
  assert_int_equal(hfb_model_suite_inputs(row, config, 0, 8, inputs, &count), HFB_INVALID_ARGUMENT);
  hfb_config_destroy(config);
}

/* ---- Golden cases: outputs, parameters and ties ---- */

static hfb_graph *build_case(const json_t *info, const hfb_config *config, bool training) {
  enum { CASE_INPUTS = 16 };
  hfb_model_input inputs[CASE_INPUTS];
  int count = 0;
  const char *name;
  json_t *entry;
  json_object_foreach(json_object_get(info, "inputs"), name, entry) {
    assert_true(count < CASE_INPUTS);
    hfb_model_input *input = &inputs[count++];
    const json_t *dims = json_array_get(entry, 1);
    *input = (hfb_model_input){.name = name, .shape = {.rank = (int)json_array_size(dims)}};
    const char *dtype = json_string_value(json_array_get(entry, 0));
    input->dtype = strcmp(dtype, "I64") == 0 ? HFB_I64 : strcmp(dtype, "BOOL") == 0 ? HFB_BOOL : HFB_F32;
    for (int d = 0; d < input->shape.rank; d++) {
      input->shape.dim[d] = json_integer_value(json_array_get(dims, (size_t)d));
    }
  }
  hfb_model_request request = {.class_name = hfb_config_class(config),
                               .config = config,
                               .training = training,
                               .input_count = count,
                               .inputs = inputs};
  hfb_graph *graph = NULL;
  TRY(hfb_model_build(&request, &graph));
  return graph;
}

static void check_output_names(const hfb_graph *graph, const json_t *names) {
  assert_int_equal(graph->output_count, json_array_size(names));
  for (int i = 0; i < graph->output_count; i++) {
    assert_string_equal(graph->outputs[i].name, json_string_value(json_array_get(names, (size_t)i)));
  }
}

static void check_case(const char *case_name) {
  char path[512];
  snprintf(path, sizeof path, "%s/golden/%s/config.json", HFB_TEST_DATA, case_name);
  hfb_config *config = NULL;
  TRY(hfb_config_load(path, NULL, &config));
  snprintf(path, sizeof path, "%s/golden/%s/case.json", HFB_TEST_DATA, case_name);
  json_t *info = json_load_file(path, 0, NULL);
  assert_non_null(info);
  assert_string_equal(hfb_config_class(config), json_string_value(json_object_get(info, "class")));
  hfb_graph *graph = build_case(info, config, true);
  check_output_names(graph, json_object_get(info, "train_outputs"));
  hfb_graph_destroy(graph);
  graph = build_case(info, config, false);
  check_output_names(graph, json_object_get(info, "eval_outputs"));
  const char *alias, *target = NULL;
  json_t *tied;
  hfb_name_use use;
  json_object_foreach(json_object_get(info, "tied"), alias, tied) {
    TRY(hfb_model_checkpoint_name(hfb_config_class(config), config, graph, alias, &use, &target));
    assert_int_equal(use, HFB_NAME_ALIAS);
    assert_string_equal(target, json_string_value(tied));
  }
  /* Each expected gradient names a parameter of the graph, and no parameter is without one. */
  int gradients = 0;
  const char *tensor;
  json_t *entry;
  json_object_foreach(json_object_get(info, "expected"), tensor, entry) {
    if (strncmp(tensor, "grad/", 5) != 0) continue;
    gradients++;
    TRY(hfb_model_checkpoint_name(hfb_config_class(config), config, graph, tensor + 5, &use, &target));
    assert_int_equal(use, HFB_NAME_PARAMETER);
    assert_string_equal(target, tensor + 5);
  }
  int trainable = 0;
  for (int i = 0; i < graph->parameter_count; i++) {
    trainable += !hfb_node_int(graph->parameters[i]->node, HFB_ATTR_BUFFER);
  }
  assert_int_equal(trainable, gradients);
  hfb_graph_destroy(graph);
  json_decref(info);
  hfb_config_destroy(config);
}

static void test_golden_outputs_and_ties(void **state) {
  for (int i = 0; i < hfb_model_row_count(); i++) check_case(hfb_model_row_at(i)->name);
  DIR *folder = opendir(HFB_TEST_DATA "/golden");
  assert_non_null(folder);
  for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    if (strchr(entry->d_name, '-') != NULL) check_case(entry->d_name);
  }
  closedir(folder);
}

/* ---- Names in checkpoints ---- */

static void test_checkpoint_names(void **state) {
  static const struct {
    const char *name;
    hfb_name_use use;
    const char *parameter;
  } cases[] = {
      {"bert.embeddings.LayerNorm.weight", HFB_NAME_PARAMETER, "bert.embeddings.LayerNorm.weight"},
      {"bert.embeddings.LayerNorm.gamma", HFB_NAME_PARAMETER, "bert.embeddings.LayerNorm.weight"},
      {"embeddings.LayerNorm.beta", HFB_NAME_PARAMETER, "bert.embeddings.LayerNorm.bias"},
      {"encoder.layer.11.output.dense.weight", HFB_NAME_PARAMETER, "bert.encoder.layer.11.output.dense.weight"},
      {"cls.predictions.decoder.weight", HFB_NAME_ALIAS, "bert.embeddings.word_embeddings.weight"},
      {"cls.predictions.decoder.bias", HFB_NAME_ALIAS, "cls.predictions.bias"},
      {"bert.embeddings.position_ids", HFB_NAME_IGNORED, NULL},
      {"bert.pooler.dense.weight", HFB_NAME_IGNORED, NULL},
      {"pooler.dense.weight", HFB_NAME_IGNORED, NULL},
      {"cls.seq_relationship.bias", HFB_NAME_IGNORED, NULL},
  };
  const hfb_model_row *row = NULL;
  hfb_config *config = NULL;
  TRY(hfb_model_find("BertForMaskedLM", &row));
  TRY(hfb_model_row_config(row, &config));
  hfb_graph *graph = build_row(row, config, 1, 8);
  hfb_name_use use;
  const char *target = NULL;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    TRY(hfb_model_checkpoint_name(row->class_name, config, graph, cases[i].name, &use, &target));
    assert_int_equal(use, cases[i].use);
    if (cases[i].parameter != NULL) assert_string_equal(target, cases[i].parameter);
  }
  assert_int_equal(hfb_model_checkpoint_name(row->class_name, config, graph,
                                             "bert.encoder.layer.12.output.dense.weight", &use, &target),
                   HFB_NOT_FOUND);
  hfb_graph_destroy(graph);
  hfb_config_destroy(config);
}

/* A file saved with a head, loaded into the bare model; tables that a configuration ties or does not. */
static void test_checkpoint_names_of_bare_and_split_models(void **state) {
  static const struct {
    const char *class_name, *overrides, *name;
    hfb_name_use use;
    const char *parameter;
  } cases[] = {
      {"MarianModel", "", "model.shared.weight", HFB_NAME_PARAMETER, "shared.weight"},
      {"MarianModel", "", "model.encoder.layers.0.fc1.bias", HFB_NAME_PARAMETER, "encoder.layers.0.fc1.bias"},
      {"MarianModel", "", "decoder.embed_tokens.weight", HFB_NAME_ALIAS, "shared.weight"},
      {"MarianModel", "", "final_logits_bias", HFB_NAME_IGNORED, NULL},
      {"MarianMTModel", "", "lm_head.weight", HFB_NAME_ALIAS, "model.shared.weight"},
      {"MarianMTModel", "share_encoder_decoder_embeddings=false", "lm_head.weight", HFB_NAME_ALIAS,
       "model.decoder.embed_tokens.weight"},
      {"MarianMTModel", "share_encoder_decoder_embeddings=false", "model.encoder.embed_tokens.weight",
       HFB_NAME_PARAMETER, "model.encoder.embed_tokens.weight"},
      {"MarianMTModel", "tie_word_embeddings=false", "lm_head.weight", HFB_NAME_PARAMETER, "lm_head.weight"},
      {"MarianForCausalLM", "", "model.encoder.layers.0.fc1.bias", HFB_NAME_IGNORED, NULL},
  };
  hfb_shape tokens = hfb_shape_of(2, (int64_t[]){1, 4});
  const hfb_model_input inputs[] = {{"input_ids", HFB_I64, tokens}, {"decoder_input_ids", HFB_I64, tokens}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    hfb_config *config = NULL;
    TRY(hfb_config_create("marian", cases[i].overrides, &config));
    hfb_model_request request = {.class_name = cases[i].class_name, .config = config, .inputs = inputs};
    request.input_count = strstr(cases[i].class_name, "CausalLM") != NULL ? 1 : 2;
    hfb_graph *graph = NULL;
    TRY(hfb_model_build(&request, &graph));
    hfb_name_use use;
    const char *target = NULL;
    TRY(hfb_model_checkpoint_name(cases[i].class_name, config, graph, cases[i].name, &use, &target));
    assert_int_equal(use, cases[i].use);
    if (cases[i].parameter != NULL) assert_string_equal(target, cases[i].parameter);
    hfb_graph_destroy(graph);
    hfb_config_destroy(config);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rows_build),
      cmocka_unit_test(test_rows_equal_suite_table),
      cmocka_unit_test(test_suite_table_has_its_rows),
      cmocka_unit_test(test_unknown_names),
      cmocka_unit_test(test_suite_inputs),
      cmocka_unit_test(test_checkpoint_names),
      cmocka_unit_test(test_checkpoint_names_of_bare_and_split_models),
      cmocka_unit_test(test_golden_outputs_and_ties),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
