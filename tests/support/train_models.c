#include "support/train_models.h"

#include <stdio.h>
#include <string.h>

#include "models/model.h"

/* Two layers of 128 with two heads. Activations are smooth: of one with a kink, an element at the kink would have one
 * gradient in float64 and another one in f32. */
#define BERT                                                                                               \
  "vocab_size=101 hidden_size=128 num_hidden_layers=2 num_attention_heads=2 intermediate_size=160 "        \
  "max_position_embeddings=64 hidden_dropout_prob=0.1 attention_probs_dropout_prob=0.2 "
#define GPT2 \
  "vocab_size=101 n_embd=128 n_layer=2 n_head=2 n_positions=64 attn_pdrop=0.2 resid_pdrop=0.1 embd_pdrop=0.3 "
#define BART                                                                                                  \
  "vocab_size=101 d_model=128 encoder_layers=2 decoder_layers=2 encoder_attention_heads=2 "                   \
  "decoder_attention_heads=2 encoder_ffn_dim=160 decoder_ffn_dim=160 max_position_embeddings=64 dropout=0.1 " \
  "attention_dropout=0.2 activation_dropout=0.3 pad_token_id=1 decoder_start_token_id=2 "
#define T5                                                                                                         \
  "vocab_size=101 d_model=128 d_kv=64 d_ff=160 num_layers=2 num_decoder_layers=2 num_heads=2 dropout_rate=0.1 "    \
  "decoder_start_token_id=0 pad_token_id=0 feed_forward_proj=gated-gelu "
#define ALBERT                                                                                       \
  "vocab_size=101 embedding_size=64 hidden_size=128 num_hidden_layers=3 num_attention_heads=2 "      \
  "intermediate_size=160 hidden_dropout_prob=0.1 attention_probs_dropout_prob=0.2 "
#define OPT                                                                                               \
  "vocab_size=101 hidden_size=128 num_hidden_layers=2 num_attention_heads=2 ffn_dim=160 "                 \
  "max_position_embeddings=64 word_embed_proj_dim=128 dropout=0.1 attention_dropout=0.2 activation_function=gelu "

static const train_model models[] = {
    {"bert", "BertForMaskedLM", "bert", BERT, "input_ids labels"},
    {"bert-mask", "BertForMaskedLM", "bert", BERT, "input_ids attention_mask labels"},
    {"bert-qa", "BertForQuestionAnswering", "bert", BERT, "input_ids start_positions end_positions"},
    {"gpt2", "GPT2LMHeadModel", "gpt2", GPT2, "input_ids labels"},
    {"gpt2-mask", "GPT2LMHeadModel", "gpt2", GPT2, "input_ids attention_mask labels"},
    {"bart", "BartForConditionalGeneration", "bart", BART, "input_ids labels"},
    {"t5", "T5ForConditionalGeneration", "t5", T5, "input_ids labels"},
    {"albert", "AlbertForMaskedLM", "albert", ALBERT, "input_ids labels"},
    {"opt", "OPTForCausalLM", "opt", OPT, "input_ids labels"},
    {"opt-mask", "OPTForCausalLM", "opt", OPT, "input_ids attention_mask labels"},
};

const train_model *train_model_find(const char *name) {
  for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
    if (strcmp(models[i].name, name) == 0) return &models[i];
  }
  return NULL;
}

enum { MAX_INPUTS = 4 };

static int split_inputs(const char *names, char text[256], hfb_model_input *out_inputs) {
  const int64_t sizes[] = {TRAIN_MODEL_BATCH, TRAIN_MODEL_SEQ};
  int count = 0;
  snprintf(text, 256, "%s", names);
  for (char *name = strtok(text, " "); name && count < MAX_INPUTS; name = strtok(NULL, " ")) {
    const int rank = strstr(name, "_positions") ? 1 : 2;
    out_inputs[count++] = (hfb_model_input){name, HFB_I64, hfb_shape_of(rank, sizes)};
  }
  return count;
}

hfb_status train_model_graph(const train_model *model, const char *more_config, const hfb_training_options *options,
                             hfb_graph **out_graph) {
  char config_text[1024], input_text[256];
  hfb_model_input inputs[MAX_INPUTS];
  hfb_config *config = NULL;
  hfb_graph *forward = NULL;
  snprintf(config_text, sizeof config_text, "%s%s", model->config, more_config ? more_config : "");
  HFB_TRY(hfb_config_create(model->model_type, config_text, &config));
  const int input_count = split_inputs(model->inputs, input_text, inputs);
  const hfb_model_request request = {.class_name = model->class_name,
                                     .config = config,
                                     .training = true,
                                     .input_count = input_count,
                                     .inputs = inputs};
  hfb_status status = hfb_model_build(&request, &forward);
  if (status == HFB_OK) status = hfb_training_graph(forward, options, out_graph);
  hfb_graph_destroy(forward);
  hfb_config_destroy(config);
  return status;
}
