/* Configurations and arguments that users may give: what is read, what is refused and with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "models/deberta_layers.h"
#include "models/model.h"
#include "nn/nn.h"

#define TRY(expr)                                                         \
  do {                                                                    \
    if ((expr) != HFB_OK) fail_msg("%s: %s", #expr, hfb_error_message()); \
  } while (0)

static hfb_status parse(const char *json, const char *class_name, hfb_config **out_config) {
  return hfb_config_parse(json, strlen(json), class_name, out_config);
}

static const struct {
  const char *json;
  const char *class_name;
  hfb_status status;
  const char *words[3]; /* that the message must contain */
} refused_configurations[] = {
    {"", NULL, HFB_CORRUPT, {"JSON"}},
    {"{\"a\": 1,", NULL, HFB_CORRUPT, {"line 1"}},
    {"{\"vocab_size\": 5, \"vocab_size\": 6}", "BertForMaskedLM", HFB_CORRUPT, {"vocab_size"}},
    {"[1]", "BertForMaskedLM", HFB_CORRUPT, {"object", "a list"}},
    {"{}", NULL, HFB_INVALID_ARGUMENT, {"architectures", "BertForMaskedLM"}},
    {"{\"architectures\": [7]}", NULL, HFB_INVALID_ARGUMENT, {"architectures"}},
    {"{\"architectures\": [\"BertForMaskdLM\"]}",
     NULL,
     HFB_UNSUPPORTED,
     {"BertForMaskdLM", "did you mean", "BertForMaskedLM"}},
    {"{\"model_type\": \"gpt2\"}", "BertForMaskedLM", HFB_MISMATCH, {"model_type", "gpt2", "bert"}},
    {"{\"model_type\": 3}", "BertForMaskedLM", HFB_MISMATCH, {"model_type", "an integer"}},
    {"{\"hidden_size\": \"big\"}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"hidden_size", "an integer", "a text"}},
    {"{\"hidden_size\": 768.0}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"hidden_size", "fraction"}},
    {"{\"hidden_size\": -1}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"hidden_size", "-1", "[1, 16777216]"}},
    {"{\"hidden_size\": 0}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"hidden_size"}},
    {"{\"vocab_size\": 99999999999}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"vocab_size", "99999999999"}},
    {"{\"num_hidden_layers\": 100000}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"num_hidden_layers", "4096"}},
    {"{\"hidden_size\": null}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"hidden_size", "null"}},
    {"{\"layer_norm_eps\": -1e-5}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"layer_norm_eps", "positive"}},
    {"{\"layer_norm_eps\": true}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"layer_norm_eps", "a boolean"}},
    {"{\"hidden_dropout_prob\": 1.5}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"hidden_dropout_prob", "[0, 1]"}},
    {"{\"pad_token_id\": -1}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"pad_token_id"}},
    {"{\"hidden_act\": \"gelu_2\"}", "BertForMaskedLM", HFB_UNSUPPORTED, {"hidden_act", "gelu_2", "gelu_new"}},
    {"{\"hidden_act\": \"a\\nb\"}", "BertForMaskedLM", HFB_UNSUPPORTED, {"hidden_act", "a?b"}},
    {"{\"architectures\": [\"a\\nb\"]}", NULL, HFB_UNSUPPORTED, {"a?b"}},
    {"{\"hidden_act\": null}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"hidden_act"}},
    {"{\"position_embedding_type\": \"rotary\"}",
     "BertForMaskedLM",
     HFB_UNSUPPORTED,
     {"position_embedding_type", "rotary", "relative_key"}},
    {"{\"is_decoder\": true}", "BertForMaskedLM", HFB_UNSUPPORTED, {"is_decoder", "true"}},
    {"{\"is_decoder\": 1}", "BertForMaskedLM", HFB_INVALID_ARGUMENT, {"is_decoder", "true or false"}},
    {"{\"add_cross_attention\": true}", "BertForMaskedLM", HFB_UNSUPPORTED, {"add_cross_attention"}},
    {"{\"output_attentions\": true}", "BertForMaskedLM", HFB_UNSUPPORTED, {"output_attentions"}},
    {"{\"pruned_heads\": {\"0\": [1]}}", "BertForMaskedLM", HFB_UNSUPPORTED, {"pruned_heads"}},
    {"{\"quantization_config\": {\"bits\": 4}}", "BertForMaskedLM", HFB_UNSUPPORTED, {"quantization_config"}},
    {"{\"problem_type\": \"ranking\"}", "GPT2ForSequenceClassification", HFB_UNSUPPORTED, {"problem_type", "ranking"}},
    {"{\"id2label\": {}}", "GPT2ForSequenceClassification", HFB_INVALID_ARGUMENT, {"id2label", "0 labels"}},
    {"{\"id2label\": [\"a\"]}", "GPT2ForSequenceClassification", HFB_INVALID_ARGUMENT, {"id2label", "a list"}},
    {"{\"feed_forward_proj\": \"gated-tanh\"}",
     "T5ForConditionalGeneration",
     HFB_UNSUPPORTED,
     {"feed_forward_proj", "gated-tanh", "gated-gelu"}},
    {"{\"sinusoidal_pos_embds\": true}", "DistilBertForMaskedLM", HFB_UNSUPPORTED, {"sinusoidal_pos_embds"}},
    {"{\"use_tpu_fourier_optimizations\": true}", "FNetForMaskedLM", HFB_UNSUPPORTED, {"use_tpu_fourier"}},
    {"{\"attention_window\": 512.0}", "LongformerForMaskedLM", HFB_INVALID_ARGUMENT, {"attention_window", "fraction"}},
    {"{\"attention_window\": [4, 0]}", "LongformerForMaskedLM", HFB_INVALID_ARGUMENT, {"attention_window", "holds 0"}},
    {"{\"attention_window\": \"wide\"}", "LongformerForMaskedLM", HFB_INVALID_ARGUMENT, {"attention_window", "a text"}},
    {"{\"attention_type\": \"sparse\"}", "BigBirdForMaskedLM", HFB_UNSUPPORTED, {"attention_type", "original_full"}},
    {"{\"talking_head\": true}", "DebertaForMaskedLM", HFB_UNSUPPORTED, {"talking_head"}},
    {"{\"pos_att_type\": \"c2p|p2p\"}", "DebertaForMaskedLM", HFB_UNSUPPORTED, {"pos_att_type", "p2p", "c2p|p2c"}},
    {"{\"pos_att_type\": [\"c2p\", 3]}", "DebertaForMaskedLM", HFB_INVALID_ARGUMENT, {"pos_att_type", "an integer"}},
    {"{\"pos_att_type\": {}}", "DebertaV2ForMaskedLM", HFB_INVALID_ARGUMENT, {"pos_att_type", "an object"}},
    {"{\"normalization_type\": \"rms\"}", "MobileBertForMaskedLM", HFB_UNSUPPORTED, {"normalization_type", "no_norm"}},
    {"{\"tie_encoder_decoder\": true}", "BartForConditionalGeneration", HFB_UNSUPPORTED, {"tie_encoder_decoder"}},
    {"{\"attention_types\": \"local\"}", "GPTNeoForCausalLM", HFB_INVALID_ARGUMENT, {"attention_types", "a list"}},
    {"{\"attention_types\": null}", "GPTNeoForCausalLM", HFB_INVALID_ARGUMENT, {"attention_types", "null"}},
    {"{\"clamp_len\": -2}", "XLNetLMHeadModel", HFB_INVALID_ARGUMENT, {"clamp_len", "[-1, 16777216]"}},
    {"{\"num_buckets\": 8.5}", "ReformerForMaskedLM", HFB_INVALID_ARGUMENT, {"num_buckets", "fraction"}},
    {"{\"add_adapter\": true}", "Wav2Vec2ForCTC", HFB_UNSUPPORTED, {"add_adapter", "true"}},
    {"{\"adapter_attn_dim\": 16}", "Wav2Vec2ForCTC", HFB_UNSUPPORTED, {"adapter_attn_dim"}},
    {"{\"feat_extract_norm\": \"batch\"}", "HubertModel", HFB_UNSUPPORTED, {"feat_extract_norm", "group|layer"}},
    {"{\"ctc_loss_reduction\": \"none\"}", "HubertForCTC", HFB_UNSUPPORTED, {"ctc_loss_reduction", "sum|mean"}},
    {"{\"conv_pos_batch_norm\": true}", "HubertModel", HFB_UNSUPPORTED, {"conv_pos_batch_norm"}},
    {"{\"attn_layers\": [\"local\", \"full\"]}", "ReformerForMaskedLM", HFB_UNSUPPORTED, {"attn_layers", "full"}},
    {"{\"axial_pos_shape\": null}", "ReformerForMaskedLM", HFB_INVALID_ARGUMENT, {"axial_pos_shape", "null"}},
    {"{\"bi_data\": true}", "XLNetLMHeadModel", HFB_UNSUPPORTED, {"bi_data"}},
    {"{\"rope_scaling\": {\"type\": \"yarn\"}}",
     "LlamaForCausalLM",
     HFB_UNSUPPORTED,
     {"rope_scaling.type", "yarn", "llama3"}},
    {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": \"2\"}}",
     "LlamaForCausalLM",
     HFB_INVALID_ARGUMENT,
     {"rope_scaling.factor", "a number", "a text"}},
    {"{\"mlp_bias\": true}", "LlamaForCausalLM", HFB_UNSUPPORTED, {"mlp_bias"}},
    {"{\"use_sliding_window\": true}", "Qwen2ForCausalLM", HFB_UNSUPPORTED, {"use_sliding_window"}},
    {"{\"hidden_activation\": \"silu\"}", "GemmaForCausalLM", HFB_UNSUPPORTED, {"hidden_activation", "silu"}},
    {"{\"apply_spec_augment\": true}", "WhisperForConditionalGeneration", HFB_UNSUPPORTED, {"apply_spec_augment"}},
    {"{\"text_config\": [1]}", "CLIPModel", HFB_INVALID_ARGUMENT, {"text_config", "an object", "a list"}},
    {"{\"text_config\": {\"hidden_size\": \"big\"}}",
     "CLIPModel",
     HFB_INVALID_ARGUMENT,
     {"text_config.hidden_size", "an integer", "a text"}},
    {"{\"vision_config_dict\": 4}", "CLIPModel", HFB_INVALID_ARGUMENT, {"vision_config_dict", "an object"}},
    {"{\"vision_config\": {\"hidden_act\": \"gelu_2\"}}",
     "CLIPModel",
     HFB_UNSUPPORTED,
     {"vision_config.hidden_act", "gelu_2", "quick_gelu"}},
    {"{\"attn_type\": \"both\"}", "XLNetLMHeadModel", HFB_UNSUPPORTED, {"attn_type", "both", "bi|uni"}},
};

static void test_refused_configurations(void **state) {
  for (size_t i = 0; i < sizeof refused_configurations / sizeof refused_configurations[0]; i++) {
    hfb_config *config = NULL;
    hfb_status status = parse(refused_configurations[i].json, refused_configurations[i].class_name, &config);
    if (status != refused_configurations[i].status) {
      fail_msg("%s: %s, not %s (%s)", refused_configurations[i].json, hfb_status_name(status),
               hfb_status_name(refused_configurations[i].status), hfb_error_message());
    }
    for (int j = 0; j < 3 && refused_configurations[i].words[j] != NULL; j++) {
      if (strstr(hfb_error_message(), refused_configurations[i].words[j]) == NULL) {
        fail_msg("%s: '%s' is not in: %s", refused_configurations[i].json, refused_configurations[i].words[j],
                 hfb_error_message());
      }
    }
    assert_null(strchr(hfb_error_message(), '\n'));
    assert_null(config);
  }
}

static void test_values_and_defaults(void **state) {
  hfb_config *config = NULL;
  TRY(
      parse("{\"architectures\": [\"BertForSequenceClassification\"], \"hidden_size\": 64, \"no_such_field\": [1],"
            " \"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}, \"num_labels\": 7, \"pad_token_id\": null,"
            " \"problem_type\": \"regression\", \"hidden_dropout_prob\": 0, \"pruned_heads\": {}}",
            NULL, &config));
  assert_string_equal(hfb_config_class(config), "BertForSequenceClassification");
  assert_string_equal(hfb_config_model_type(config), "bert");
  assert_int_equal(hfb_config_int(config, "hidden_size"), 64);
  assert_int_equal(hfb_config_int(config, "intermediate_size"), 3072);
  assert_int_equal(hfb_config_int(config, "num_labels"), 3); /* id2label wins */
  assert_int_equal(hfb_config_int(config, "pad_token_id"), -1);
  assert_string_equal(hfb_config_text(config, "problem_type"), "regression");
  assert_true(hfb_config_float(config, "hidden_dropout_prob") == 0);
  assert_true(hfb_config_float(config, "layer_norm_eps") == 1e-12);
  assert_true(hfb_config_bool(config, "tie_word_embeddings"));
  assert_false(hfb_config_has(config, "n_embd"));
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  for (int i = 0; i < hfb_config_field_count(config); i++) {
    hfb_strbuf_printf(&text, "%s=", hfb_config_field_name(config, i));
    hfb_config_field_value(config, i, &text);
    hfb_strbuf_append(&text, " ");
  }
  assert_non_null(strstr(hfb_strbuf_text(&text), "hidden_size=64 "));
  assert_non_null(strstr(hfb_strbuf_text(&text), "layer_norm_eps=1e-12 "));
  assert_non_null(strstr(hfb_strbuf_text(&text), "attention_probs_dropout_prob=0.1 "));
  assert_non_null(strstr(hfb_strbuf_text(&text), "problem_type=\"regression\" "));
  assert_non_null(strstr(hfb_strbuf_text(&text), "pad_token_id=null "));
  hfb_strbuf_deinit(&text);
  hfb_config_destroy(config);
}

static void test_sizes(void **state) {
  static const struct {
    const char *json, *text;
    int64_t count, first, third;
  } cases[] = {{"512", "512", 0, 512, 512}, {"[4, 6]", "[4,6]", 2, 4, -1}, {"[]", "[]", 0, -1, -1}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char json[64];
    hfb_config *config = NULL;
    snprintf(json, sizeof json, "{\"attention_window\": %s}", cases[i].json);
    TRY(parse(json, "LongformerForMaskedLM", &config));
    assert_int_equal(hfb_config_size_count(config, "attention_window"), cases[i].count);
    assert_int_equal(hfb_config_size_at(config, "attention_window", 0), cases[i].first);
    assert_int_equal(hfb_config_size_at(config, "attention_window", 2), cases[i].third);
    hfb_strbuf text;
    hfb_strbuf_init(&text);
    for (int f = 0; f < hfb_config_field_count(config); f++) {
      if (strcmp(hfb_config_field_name(config, f), "attention_window") == 0) hfb_config_field_value(config, f, &text);
    }
    assert_string_equal(hfb_strbuf_text(&text), cases[i].text);
    hfb_strbuf_deinit(&text);
    hfb_config_destroy(config);
  }
}

/* Objects inside of a configuration; "_dict" is how the first CLIP files call them. */
static void test_nested(void **state) {
  static const struct {
    const char *json;
    int64_t text_width, text_layers, image_width;
  } cases[] = {
      {"{}", 512, 12, 768},
      {"{\"hidden_size\": 3, \"text_config\": null}", 512, 12, 768},
      {"{\"text_config\": {\"hidden_size\": 24}, \"vision_config\": {\"hidden_size\": 32}}", 24, 12, 32},
      {"{\"text_config\": {\"hidden_size\": 24}, \"text_config_dict\": null}", 24, 12, 768},
      {"{\"text_config\": {\"hidden_size\": 24}, \"text_config_dict\": {\"num_hidden_layers\": 2}}", 512, 2, 768},
      {"{\"vision_config_dict\": {\"hidden_size\": 32}}", 512, 12, 32},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    hfb_config *config = NULL;
    TRY(parse(cases[i].json, "CLIPModel", &config));
    assert_int_equal(hfb_config_int(config, "text_config.hidden_size"), cases[i].text_width);
    assert_int_equal(hfb_config_int(config, "text_config.num_hidden_layers"), cases[i].text_layers);
    assert_int_equal(hfb_config_int(config, "vision_config.hidden_size"), cases[i].image_width);
    assert_false(hfb_config_has(config, "hidden_size"));
    hfb_config_destroy(config);
  }
}

static void test_words(void **state) {
  static const char *const spellings[] = {"\"P2C | c2p\"", "[\"p2c\", \"c2p\"]", "[\"p2c|c2p\"]"};
  for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
    char json[128];
    hfb_config *config = NULL;
    snprintf(json, sizeof json, "{\"pos_att_type\": %s}", spellings[i]);
    TRY(parse(json, "DebertaForMaskedLM", &config));
    assert_string_equal(hfb_config_text(config, "pos_att_type"), "p2c|c2p");
    hfb_config_destroy(config);
  }
}

static void test_overrides(void **state) {
  hfb_config *config = NULL;
  TRY(hfb_config_create("gpt2", " n_layer=3  activation_function=relu n_inner=null scale_attn_weights=false ",
                        &config));
  assert_int_equal(hfb_config_int(config, "n_layer"), 3);
  assert_string_equal(hfb_config_text(config, "activation_function"), "relu");
  assert_int_equal(hfb_config_int(config, "n_inner"), -1);
  assert_false(hfb_config_bool(config, "scale_attn_weights"));
  hfb_config_destroy(config);
  TRY(hfb_config_create("gpt_neo", "attention_layers=[\"local\",\"global\"]", &config));
  assert_string_equal(hfb_config_text(config, "attention_layers"), "[\"local\",\"global\"]");
  assert_string_equal(hfb_config_text(config, "attention_types"), "[[[\"global\",\"local\"],12]]");
  assert_true(hfb_config_bool(config, "tie_word_embeddings"));
  hfb_config_destroy(config);
  TRY(hfb_config_create("xlnet", "", &config));
  assert_int_equal(hfb_config_int(config, "clamp_len"), -1);
  hfb_config_destroy(config);
  /* Defaults of common fields that a configuration class changes. */
  TRY(hfb_config_create("gptj", "", &config));
  assert_false(hfb_config_bool(config, "tie_word_embeddings"));
  hfb_config_destroy(config);
  TRY(parse("{}", "MT5ForConditionalGeneration", &config));
  assert_false(hfb_config_bool(config, "tie_word_embeddings"));
  hfb_config_destroy(config);
  assert_int_equal(hfb_config_create("gpt2", "n_layers=3", &config), HFB_NOT_FOUND);
  assert_non_null(strstr(hfb_error_message(), "n_layers"));
  assert_int_equal(hfb_config_create("gpt2", "n_layer", &config), HFB_INVALID_ARGUMENT);
  assert_int_equal(hfb_config_create("gpt2", "n_layer=two", &config), HFB_INVALID_ARGUMENT);
  assert_int_equal(hfb_config_create("gpt9", NULL, &config), HFB_UNSUPPORTED);
}

/* ---- Building ---- */

/* "input_ids:2x8 labels:f:2" -> arguments; returns how many. `text` must outlive them. */
static int arguments(char *text, hfb_model_input *inputs) {
  int count = 0;
  for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
    hfb_model_input *input = &inputs[count++];
    char *dims = strrchr(word, ':') + 1;
    *input = (hfb_model_input){.name = word, .dtype = strstr(word, ":f:") != NULL ? HFB_F32 : HFB_I64};
    while (true) {
      long long dim = 0;
      int used = 0;
      if (sscanf(dims, "%lld%n", &dim, &used) != 1) break;
      input->shape.dim[input->shape.rank++] = dim;
      dims += used;
      if (*dims != 'x') break;
      dims++;
    }
    *strchr(word, ':') = '\0';
  }
  return count;
}

static hfb_status build(const char *class_name, const char *overrides, const char *given, bool training,
                        hfb_graph **out_graph) {
  char text[512];
  snprintf(text, sizeof text, "%s", given);
  hfb_model_input inputs[16];
  int count = arguments(text, inputs);
  hfb_model_class known;
  TRY(hfb_model_class_find(class_name, &known));
  hfb_config *config = NULL;
  TRY(hfb_config_create(known.model_type, overrides, &config));
  hfb_model_request request = {
      .class_name = class_name, .config = config, .training = training, .input_count = count, .inputs = inputs};
  hfb_status status = hfb_model_build(&request, out_graph);
  hfb_config_destroy(config);
  return status;
}

#define BERT   "hidden_size=32 num_attention_heads=4 intermediate_size=40 num_hidden_layers=2 vocab_size=99"
#define FNET   "hidden_size=32 intermediate_size=40 num_hidden_layers=2 vocab_size=99"
#define NARROW "embedding_size=16 " BERT
#define MOBILE "hidden_size=32 embedding_size=8 intra_bottleneck_size=16 num_hidden_layers=2 vocab_size=99"
#define REFORMER                                                                                   \
  "hidden_size=32 num_attention_heads=3 attention_head_size=6 feed_forward_size=20 vocab_size=30 " \
  "attn_layers=local|lsh axial_pos_shape=[4,6] axial_pos_embds_dim=[8,24] "                        \
  "local_attn_chunk_length=4 lsh_attn_chunk_length=4"
#define GPT2 "n_embd=32 n_head=4 n_layer=2 vocab_size=99"
#define T5   "d_model=24 d_kv=6 d_ff=36 num_layers=2 num_heads=4 vocab_size=99"
#define VIT  "image_size=12 patch_size=4 encoder_stride=4 hidden_size=32 num_attention_heads=4 num_hidden_layers=1"
#define SPEECH                                                                              \
  "hidden_size=32 num_attention_heads=4 intermediate_size=40 num_hidden_layers=2 "          \
  "vocab_size=20 conv_dim=[16,12,16] conv_kernel=[10,3,2] conv_stride=[5,2,2] "             \
  "num_conv_pos_embeddings=8 num_conv_pos_embedding_groups=4 classifier_proj_size=12"
#define CLIP                                                                                      \
  "text_config.hidden_size=24 text_config.num_attention_heads=3 text_config.num_hidden_layers=1 " \
  "text_config.vocab_size=99 text_config.eos_token_id=98 vision_config.hidden_size=24 "           \
  "vision_config.num_hidden_layers=1 "                                                            \
  "vision_config.num_attention_heads=2 vision_config.image_size=12 vision_config.patch_size=4"
#define LXMERT                                                                                                \
  "hidden_size=32 num_attention_heads=4 intermediate_size=40 vocab_size=99 l_layers=1 r_layers=1 x_layers=1 " \
  "visual_feat_dim=7"
#define LLAMA \
  "hidden_size=32 num_attention_heads=4 num_key_value_heads=2 intermediate_size=40 num_hidden_layers=1 vocab_size=99"
#define WHISPER BART " num_mel_bins=8 max_source_positions=6 max_target_positions=12 pad_token_id=0"
#define REGIONS " visual_feats:f:2x6x7 visual_pos:f:2x6x4"
#define XLNET   "d_model=32 n_head=4 n_layer=2 d_inner=40 vocab_size=99"
#define BART                                                                                          \
  "d_model=24 encoder_layers=2 decoder_layers=2 encoder_attention_heads=4 decoder_attention_heads=4 " \
  "encoder_ffn_dim=36 decoder_ffn_dim=36 vocab_size=99"

static const struct {
  const char *class_name, *overrides, *given;
  bool training;
  hfb_status status;
  const char *words[3];
} refused_calls[] = {
#include "test_models_refused_calls.def"
};

static void test_refused_calls(void **state) {
  for (size_t i = 0; i < sizeof refused_calls / sizeof refused_calls[0]; i++) {
    hfb_graph *graph = NULL;
    hfb_status status = build(refused_calls[i].class_name, refused_calls[i].overrides, refused_calls[i].given,
                              refused_calls[i].training, &graph);
    if (status != refused_calls[i].status) {
      fail_msg("%s %s: %s, not %s (%s)", refused_calls[i].class_name, refused_calls[i].given, hfb_status_name(status),
               hfb_status_name(refused_calls[i].status), hfb_error_message());
    }
    for (int j = 0; j < 3 && refused_calls[i].words[j] != NULL; j++) {
      if (strstr(hfb_error_message(), refused_calls[i].words[j]) == NULL) {
        fail_msg("%s %s: '%s' is not in: %s", refused_calls[i].class_name, refused_calls[i].given,
                 refused_calls[i].words[j], hfb_error_message());
      }
    }
    assert_null(graph);
  }
}

static bool has_parameter(const hfb_graph *graph, const char *name) {
  for (int i = 0; i < graph->parameter_count; i++) {
    if (strcmp(hfb_node_text(graph->parameters[i]->node, HFB_ATTR_NAME, ""), name) == 0) return true;
  }
  return false;
}

static int count_op(const hfb_graph *graph, hfb_op op) {
  int count = 0;
  for (int i = 0; i < graph->node_count; i++) count += graph->nodes[i]->op == op;
  return count;
}

static bool has_output(const hfb_graph *graph, const char *name) {
  for (int i = 0; i < graph->output_count; i++) {
    if (strcmp(graph->outputs[i].name, name) == 0) return true;
  }
  return false;
}

/* Values of published checkpoints that change the structure of the graph. */
static const struct {
  const char *class_name, *overrides, *given;
  const char *parameter, *no_parameter; /* must (not) exist; NULL: not checked */
  const char *output, *no_output;
  hfb_op op;
  int op_count; /* of that op */
} variants[] = {
    {"BertForMaskedLM", BERT " tie_word_embeddings=false", "input_ids:2x8", "cls.predictions.decoder.weight", NULL,
     "logits", "loss", HFB_OP_GELU, 3},
    {"BertForMaskedLM", BERT " hidden_act=relu", "input_ids:2x8 labels:2x8", NULL, "cls.predictions.decoder.weight",
     "loss", NULL, HFB_OP_RELU, 3},
    {"BertForSequenceClassification", BERT " problem_type=regression num_labels=1", "input_ids:2x8 labels:f:2",
     "bert.pooler.dense.weight", NULL, "loss", NULL, HFB_OP_MSE_LOSS, 1},
    {"BertForSequenceClassification", BERT, "input_ids:2x8 labels:2", "classifier.weight", NULL, "loss", NULL,
     HFB_OP_NLL_LOSS, 1},
    {"RobertaForSequenceClassification", BERT " num_labels=4", "input_ids:2x8 labels:f:2x4",
     "classifier.out_proj.weight", NULL, "loss", NULL, HFB_OP_BCE_WITH_LOGITS, 1},
    {"BertForPreTraining", BERT, "input_ids:2x8 labels:2x8", "cls.seq_relationship.weight", NULL,
     "seq_relationship_logits", "loss", HFB_OP_TANH, 1},
    {"BertForMultipleChoice", BERT, "input_ids:2x3x8 token_type_ids:2x3x8 labels:2", "classifier.weight", NULL, "loss",
     NULL, HFB_OP_NLL_LOSS, 1},
    {"LayoutLMForMaskedLM", BERT, "input_ids:2x8 bbox:2x8x4", "layoutlm.pooler.dense.weight", NULL, "logits", "loss",
     HFB_OP_EMBEDDING, 9},
    {"MegatronBertForCausalLM", BERT, "input_ids:2x8", "bert.encoder.ln.weight", "bert.embeddings.LayerNorm.weight",
     "logits", "loss", HFB_OP_LAYER_NORM, 6},
    {"MobileBertForMaskedLM", MOBILE, "input_ids:2x1", "cls.predictions.dense.weight", NULL, "logits", "loss",
     HFB_OP_LAYER_NORM, 1},
    {"MobileBertForNextSentencePrediction", MOBILE " classifier_activation=false", "input_ids:2x8", NULL,
     "mobilebert.pooler.dense.weight", "logits", NULL, HFB_OP_TANH, 0},
    {"ConvBertForMaskedLM", NARROW " num_groups=2 head_ratio=8", "input_ids:2x8",
     "convbert.encoder.layer.1.attention.self.key_conv_attn_layer.depthwise.weight", "generator_lm_head.weight",
     "logits", "loss", HFB_OP_PAD, 4},
    {"LongformerForMaskedLM", BERT " attention_window=[2,4]", "input_ids:2x8 global_attention_mask:2x8",
     "longformer.encoder.layer.1.attention.self.query_global.weight", "longformer.pooler.dense.weight", "logits", NULL,
     HFB_OP_SOFTMAX, 4},
    {"LongformerForMaskedLM", BERT, "input_ids:2x8", "longformer.encoder.layer.1.attention.self.query_global.weight",
     NULL, "logits", NULL, HFB_OP_SOFTMAX, 2},
    {"LongformerForSequenceClassification", BERT, "input_ids:2x8", "classifier.out_proj.bias", NULL, "logits", NULL,
     HFB_OP_SOFTMAX, 4},
    /* Up to eleven blocks of 64 tokens attention is full; beyond, each layer has five softmaxes. */
    {"BigBirdForMaskedLM", BERT, "input_ids:1x704", "bert.pooler.weight", NULL, "logits", NULL, HFB_OP_SOFTMAX, 2},
    {"BigBirdForMaskedLM", BERT, "input_ids:1x705", "bert.pooler.weight", NULL, "logits", NULL, HFB_OP_SOFTMAX, 6},
    {"BigBirdForMaskedLM", BERT " attention_type=original_full", "input_ids:1x705", NULL, NULL, "logits", NULL,
     HFB_OP_SOFTMAX, 2},
    {"BigBirdForMaskedLM", BERT " use_bias=false", "input_ids:1x8", NULL,
     "bert.encoder.layer.0.attention.self.key.bias", "logits", NULL, HFB_OP_SOFTMAX, 2},
    {"DebertaForMaskedLM", BERT " relative_attention=true pos_att_type=c2p position_biased_input=false",
     "input_ids:2x600", "deberta.encoder.layer.1.attention.self.pos_proj.weight",
     "deberta.embeddings.position_embeddings.weight", "logits", "loss", HFB_OP_TAKE_ALONG, 2},
    {"DebertaV2ForMaskedLM",
     BERT
     " relative_attention=true pos_att_type=c2p|p2c position_buckets=4 max_relative_positions=9 conv_kernel_size=3",
     "input_ids:2x20", "deberta.encoder.conv.conv.weight", "deberta.encoder.conv.conv.2.weight", "logits", "loss",
     HFB_OP_TAKE_ALONG, 4},
    {"BertForTokenClassification", BERT, "input_ids:2x8 labels:2x8", "classifier.weight", "bert.pooler.dense.weight",
     "loss", NULL, HFB_OP_NLL_LOSS, 1},
    {"AlbertForSequenceClassification", NARROW, "input_ids:2x8", "albert.pooler.weight", NULL, "logits", "loss",
     HFB_OP_TANH, 1},
    {"AlbertForMaskedLM", NARROW " num_hidden_layers=4 num_hidden_groups=2 inner_group_num=2", "input_ids:2x8",
     "albert.encoder.albert_layer_groups.1.albert_layers.1.ffn.weight",
     "albert.encoder.albert_layer_groups.2.albert_layers.0.ffn.weight", NULL, NULL, HFB_OP_SOFTMAX, 8},
    {"ElectraForCausalLM", NARROW " embedding_size=32", "input_ids:2x8", NULL, "electra.embeddings_project.weight",
     NULL, NULL, HFB_OP_LAYER_NORM, 6},
    {"ElectraForSequenceClassification", NARROW, "input_ids:2x8", "classifier.out_proj.bias", NULL, NULL, NULL,
     HFB_OP_GELU, 3},
    {"DistilBertForSequenceClassification", "dim=32 n_heads=4 hidden_dim=40 n_layers=1", "input_ids:2x8",
     "pre_classifier.weight", NULL, NULL, NULL, HFB_OP_RELU, 1},
    {"FNetForSequenceClassification", FNET, "input_ids:2x8 labels:2", "fnet.pooler.dense.weight", NULL, NULL, NULL,
     HFB_OP_FFT2_REAL, 2},
    {"ReformerForMaskedLM", REFORMER, "input_ids:2x24",
     "reformer.encoder.layers.1.attention.self_attention.query_key.weight",
     "reformer.encoder.layers.1.attention.self_attention.key.weight", "logits", "loss", HFB_OP_ARGSORT, 2},
    {"ReformerForMaskedLM", REFORMER, "input_ids:2x24 lsh_rotations.1:f:3x6x1x4", NULL, NULL, "logits", "loss",
     HFB_OP_RANDOM_NORMAL, 0},
    {"ReformerForMaskedLM", REFORMER " num_hidden_layers=1", "input_ids:2x24", NULL,
     "reformer.encoder.layers.1.attention.layer_norm.weight", "logits", NULL, HFB_OP_RANDOM_NORMAL, 0},
    {"ReformerForMaskedLM", REFORMER " attn_layers=lsh num_hidden_layers=3 num_buckets=[4,8]", "input_ids:2x24",
     "reformer.encoder.layers.2.attention.self_attention.query_key.weight", NULL, "logits", NULL, HFB_OP_ARGMAX, 6},
    {"ReformerForMaskedLM", REFORMER " axial_pos_embds=false", "input_ids:2x24",
     "reformer.embeddings.position_embeddings.embedding.weight", "reformer.embeddings.position_embeddings.weights.0",
     "logits", NULL, HFB_OP_EMBEDDING, 2},
    {"ReformerForMaskedLM", REFORMER " chunk_size_feed_forward=6 chunk_size_lm_head=8", "input_ids:2x24", NULL, NULL,
     "logits", NULL, HFB_OP_RELU, 8},
    {"ReformerModelWithLMHead", REFORMER " is_decoder=true", "input_ids:2x24", "lm_head.decoder.weight",
     "lm_head.decoder.bias", "past_buckets_states/1/0", "past_buckets_states/0/0", HFB_OP_ARGSORT, 2},
    {"ReformerModelWithLMHead", REFORMER " is_decoder=true use_cache=false", "input_ids:2x24", NULL, NULL, "logits",
     "past_buckets_states/0/1", HFB_OP_ARGSORT, 2},
    {"ReformerModelWithLMHead", REFORMER " is_decoder=true", "input_ids:2x4", NULL, NULL, "past_buckets_states/1/1",
     "past_buckets_states/1/0", HFB_OP_ARGSORT, 0}, /* one chunk hashes nothing */
    {"GPT2LMHeadModel", GPT2 " use_cache=false", "input_ids:2x8", NULL, "lm_head.weight", "logits",
     "past_key_values/0/0", HFB_OP_MUL_SCALAR, 2},
    {"GPT2LMHeadModel", GPT2 " scale_attn_weights=false n_inner=40 tie_word_embeddings=false", "input_ids:2x8",
     "lm_head.weight", NULL, "past_key_values/1/1", NULL, HFB_OP_MUL_SCALAR, 0},
    {"GPT2LMHeadModel", GPT2 " scale_attn_weights=false scale_attn_by_inverse_layer_idx=true", "input_ids:2x8", NULL,
     NULL, NULL, NULL, HFB_OP_MUL_SCALAR, 1}, /* layer 0 divides by 1 */
    {"GPT2LMHeadModel", GPT2, "input_ids:2x8 token_type_ids:2x8", NULL, NULL, NULL, NULL, HFB_OP_EMBEDDING, 3},
    {"GPT2ForSequenceClassification", GPT2, "input_ids:1x8 labels:1", "score.weight", "score.bias",
     "past_key_values/1/1", NULL, HFB_OP_ARGMAX, 0},
    {"T5ForConditionalGeneration", T5 " feed_forward_proj=gated-gelu tie_word_embeddings=false",
     "input_ids:2x8 decoder_input_ids:2x6 labels:2x6", "encoder.block.1.layer.1.DenseReluDense.wi_1.weight",
     "encoder.block.1.layer.1.DenseReluDense.wi.weight", "loss", NULL, HFB_OP_GELU_TANH, 4},
    {"T5ForConditionalGeneration", T5 " num_decoder_layers=3 decoder_start_token_id=0", "input_ids:2x8 labels:2x6",
     "decoder.block.2.layer.1.EncDecAttention.q.weight", "lm_head.weight", "past_key_values/2/3", NULL, HFB_OP_SOFTMAX,
     8},
    {"T5ForConditionalGeneration", T5 " use_cache=false", "input_ids:2x8 decoder_input_ids:2x6", NULL, NULL,
     "encoder_last_hidden_state", "past_key_values/0/0", HFB_OP_RELU, 4},
    {"BartForConditionalGeneration", BART, "input_ids:2x8", NULL, "lm_head.weight", "past_key_values/1/3", "loss",
     HFB_OP_LAYER_NORM, 12},
    {"BartForConditionalGeneration", BART " scale_embedding=true tie_word_embeddings=false", "input_ids:2x8 labels:2x6",
     "lm_head.weight", NULL, "loss", "past_key_values/0/0", HFB_OP_MUL_SCALAR, 8},
    {"BartForCausalLM", BART, "input_ids:2x8 attention_mask:2x8", "model.decoder.layers.1.encoder_attn.out_proj.weight",
     "model.encoder.layers.0.fc1.weight", "past_key_values/1/1", "loss", HFB_OP_SOFTMAX, 2},
};

static void test_variants(void **state) {
  for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
    hfb_graph *graph = NULL;
    TRY(build(variants[i].class_name, variants[i].overrides, variants[i].given, false, &graph));
    TRY(hfb_graph_verify(graph));
    if (variants[i].parameter != NULL) assert_true(has_parameter(graph, variants[i].parameter));
    if (variants[i].no_parameter != NULL) assert_false(has_parameter(graph, variants[i].no_parameter));
    if (variants[i].output != NULL) assert_true(has_output(graph, variants[i].output));
    if (variants[i].no_output != NULL) assert_false(has_output(graph, variants[i].no_output));
    if (count_op(graph, variants[i].op) != variants[i].op_count) {
      fail_msg("%s %s: %d of %s, not %d", variants[i].class_name, variants[i].overrides,
               count_op(graph, variants[i].op), hfb_op_info_of(variants[i].op)->name, variants[i].op_count);
    }
    hfb_graph_destroy(graph);
  }
}

/* A failed allocation anywhere is reported and leaks nothing. */
/* As build(), where allocation number `nth` fails. */
static hfb_status build_without(int64_t nth, const char *class_name, const char *overrides, const char *given) {
  char text[512];
  snprintf(text, sizeof text, "%s", given);
  hfb_model_input inputs[16];
  int count = arguments(text, inputs);
  hfb_model_class known;
  TRY(hfb_model_class_find(class_name, &known));
  hfb_graph *graph = NULL;
  hfb_config *config = NULL;
  hfb_mem_fail_at(nth, 1);
  hfb_status status = hfb_config_create(known.model_type, overrides, &config);
  if (status == HFB_OK) {
    hfb_model_request request = {.class_name = class_name, .config = config, .input_count = count, .inputs = inputs};
    status = hfb_model_build(&request, &graph);
  }
  hfb_mem_fail_at(0, 0);
  hfb_graph_destroy(graph);
  hfb_config_destroy(config);
  return status;
}

static void test_out_of_memory(void **state) {
  static const char *const cases[][3] = {
      {"T5ForConditionalGeneration", T5 " decoder_start_token_id=0", "input_ids:1x8 labels:1x8"},
      {"CLIPModel", CLIP, "input_ids:2x8 pixel_values:f:2x3x12x12 attention_mask:2x8"},
      {"LlamaForCausalLM", LLAMA " rope_scaling.type=llama3", "input_ids:1x8 attention_mask:1x8 labels:1x8"},
      {"WhisperForConditionalGeneration", WHISPER, "input_features:f:1x8x12 labels:1x8"},
      {"LxmertForPreTraining", LXMERT,
       "input_ids:1x8 visual_feats:f:1x6x7 visual_pos:f:1x6x4 obj_labels/obj/0:1x6 obj_labels/obj/1:f:1x6 "
       "obj_labels/attr/0:1x6 obj_labels/attr/1:f:1x6 obj_labels/feat/0:f:1x6x7 obj_labels/feat/1:f:1x6 ans:1"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int64_t nth = 1;
    hfb_status status = HFB_OUT_OF_MEMORY;
    while (status == HFB_OUT_OF_MEMORY) status = build_without(nth++, cases[i][0], cases[i][1], cases[i][2]);
    if (status != HFB_OK) fail_msg("%s without allocation %lld: %s", cases[i][0], (long long)nth, hfb_error_message());
    assert_true(nth > 4);
  }
}

/* Values of T5Attention._relative_position_bucket. */
static void test_t5_buckets(void **state) {
  static const struct {
    bool bidirectional;
    int64_t position, bucket;
  } cases[] = {
      {true, 0, 0},     {true, -1, 1},    {true, 1, 17},    {true, -7, 7},     {true, -8, 8},      {true, 8, 24},
      {true, -12, 9},   {true, -16, 10},  {true, -22, 10},  {true, -23, 11},   {true, -32, 12},    {true, -64, 14},
      {true, -127, 15}, {true, 1000, 31}, {false, 5, 0},    {false, 0, 0},     {false, -15, 15},   {false, -16, 16},
      {false, -18, 16}, {false, -19, 17}, {false, -32, 21}, {false, -127, 31}, {false, -5000, 31},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    hfb_nn_relative_bias how = {.buckets = 32, .max_distance = 128, .bidirectional = cases[i].bidirectional};
    assert_int_equal(hfb_nn_t5_bucket(&how, cases[i].position), cases[i].bucket);
  }
}

/* Values of make_log_bucket_position. */
static void test_deberta_buckets(void **state) {
  static const struct {
    int64_t buckets, longest, distance, bucket;
  } cases[] = {
      {256, 512, 0, 0},       {256, 512, -5, -5},   {256, 512, 127, 127}, {256, 512, 128, 128}, {256, 512, 129, 129},
      {256, 512, -130, -130}, {256, 512, 140, 137}, {256, 512, 200, 169}, {256, 512, 255, 192}, {256, 512, 256, 192},
      {256, 512, -300, -207}, {256, 512, 400, 233}, {256, 512, 510, 255}, {256, 512, 511, 255}, {256, 512, -511, -255},
      {256, 512, 5000, 465},  {6, 16, 3, 3},        {6, 16, 4, 4},        {6, 16, -6, -4},      {6, 16, 8, 5},
      {6, 16, 15, 5},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_int_equal(hfb_deberta_log_bucket(cases[i].distance, cases[i].buckets, cases[i].longest), cases[i].bucket);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_refused_configurations),
      cmocka_unit_test(test_values_and_defaults),
      cmocka_unit_test(test_nested),
      cmocka_unit_test(test_words),
      cmocka_unit_test(test_sizes),
      cmocka_unit_test(test_overrides),
      cmocka_unit_test(test_refused_calls),
      cmocka_unit_test(test_variants),
      cmocka_unit_test(test_out_of_memory),
      cmocka_unit_test(test_t5_buckets),
      cmocka_unit_test(test_deberta_buckets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
