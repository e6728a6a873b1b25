/* Any bytes as a config.json: refused with one line, or a configuration whose class is built or refused with one line.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition, const char *what) {
  if (condition) return;
  fprintf(stderr, "%s: %s\n", what, hfb_error_message());
  abort();
}

static void require_one_line(void) {
  const char *message = hfb_error_message();
  require(message[0] != '\0', "refused without a message");
  require(strchr(message, '\n') == NULL, "more than one line");
}

static void print_fields(const hfb_config *config) {
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  for (int i = 0; i < hfb_config_field_count(config); i++) {
    require(hfb_config_has(config, hfb_config_field_name(config, i)), "a field without a name");
    hfb_config_field_value(config, i, &text);
  }
  require(hfb_strbuf_status(&text) == HFB_OK && text.length > 0, "print");
  hfb_strbuf_deinit(&text);
}

/* Thousands of layers are legal and slow: they find nothing that a few do not. */
static bool is_shallow(const hfb_config *config) {
  static const char *const depths[] = {"num_hidden_layers",  "n_layers",       "n_layer",        "num_layers",
                                       "num_decoder_layers", "encoder_layers", "decoder_layers", "inner_group_num"};
  for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
    if (hfb_config_has(config, depths[i]) && hfb_config_int(config, depths[i]) > 16) return false;
  }
  return true;
}

static void build(const hfb_config *config) {
  hfb_model_input inputs[] = {{.name = "input_ids", .dtype = HFB_I64, .shape = {.rank = 2, .dim = {2, 7}}},
                              {.name = "labels", .dtype = HFB_I64, .shape = {.rank = 2, .dim = {2, 7}}}};
  hfb_model_request request = {
      .class_name = hfb_config_class(config), .config = config, .input_count = 2, .inputs = inputs};
  bool spans = strstr(request.class_name, "QuestionAnswering") != NULL;
  if (spans) request.input_count = 1;
  if (strstr(request.class_name, "SequenceClassification") != NULL)
    inputs[1].shape = (hfb_shape){.rank = 1, .dim = {2}};
  hfb_graph *graph = NULL;
  hfb_error_clear();
  if (hfb_model_build(&request, &graph) != HFB_OK) {
    require(graph == NULL, "a graph in spite of a failure");
    require_one_line();
    return;
  }
  require(hfb_graph_verify(graph) == HFB_OK, "verify");
  hfb_graph_destroy(graph);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hfb_config *config = NULL;
  hfb_error_clear();
  if (hfb_config_parse((const char *)data, size, NULL, &config) != HFB_OK) {
    require(config == NULL, "a configuration in spite of a failure");
    require_one_line();
    return 0;
  }
  print_fields(config);
  if (is_shallow(config)) build(config);
  hfb_config_destroy(config);
  return 0;
}
