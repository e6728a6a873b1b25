/* FNet (Lee-Thorp et al., 2021): Fourier transforms in place of attention. */
#include "models/bert_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "32000", NULL},
    {"hidden_size", HFB_FIELD_SIZE, "768", NULL},
    {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL},
    {"intermediate_size", HFB_FIELD_SIZE, "3072", NULL},
    {"hidden_act", HFB_FIELD_ACTIVATION, "gelu_new", NULL},
    {"hidden_dropout_prob", HFB_FIELD_PROBABILITY, "0.1", NULL},
    {"max_position_embeddings", HFB_FIELD_SIZE, "512", NULL},
    {"type_vocab_size", HFB_FIELD_SIZE, "4", NULL},
    {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-12", NULL},
    {"use_tpu_fourier_optimizations", HFB_FIELD_BOOL, "false", "false"},
    {"pad_token_id", HFB_FIELD_ID, "3", NULL},
    {"bos_token_id", HFB_FIELD_ID, "1", NULL},
    {"eos_token_id", HFB_FIELD_ID, "2", NULL},
};

/* LayerNorm(x + Re(FFT2(x))), the transform unnormalised over sequence and features. */
static hfb_value *fourier(hfb_nn *nn, const hfb_call *call, hfb_value *x) {
  hfb_value *mixed = hfb_add(nn->b, x, hfb_fft2_real(nn->b, x));
  return hfb_nn_layer_norm(nn, "fourier.output.LayerNorm", mixed, hfb_call_float(call, "layer_norm_eps"));
}

/* FNetModel. The pooler belongs to it and is run by the classes that classify sequences only: the others own its
 * weights without a use (add_pooling_layer is left at its default). */
static hfb_value *model(hfb_nn *nn, const hfb_call *call, hfb_value **out_pooled) {
  int64_t width = hfb_call_int(call, "hidden_size"), layers = hfb_call_int(call, "num_hidden_layers");
  nn->init_std = hfb_call_float(call, "initializer_range");
  hfb_scope_push(nn->b, "fnet");
  hfb_value *x = hfb_bert_embed_plain(nn, call, width);
  x = hfb_nn_dropout(nn, hfb_nn_linear(nn, "embeddings.projection", x, width, true),
                     hfb_call_float(call, "hidden_dropout_prob"));
  for (int64_t i = 0; i < layers; i++) {
    hfb_scope_push(nn->b, "encoder.layer.%d", (int)i);
    x = hfb_bert_feed_forward(nn, call, fourier(nn, call, x));
    hfb_scope_pop(nn->b);
  }
  if (out_pooled != NULL) {
    *out_pooled = hfb_bert_pool(nn, call, x);
  } else {
    hfb_nn_linear_declare(nn, "pooler.dense", width, width, true);
  }
  hfb_scope_pop(nn->b);
  return x;
}

static void masked_lm(hfb_nn *nn, const hfb_call *call) {
  hfb_value *x = model(nn, call, NULL);
  hfb_value *words = hfb_nn_embedding_weight(nn, "fnet.embeddings.word_embeddings", hfb_call_int(call, "vocab_size"),
                                             hfb_call_int(call, "hidden_size"), hfb_call_int(call, "pad_token_id"));
  hfb_head_token_logits(nn, call, hfb_bert_predictions(nn, call, x, words), false);
}

static void question_answering(hfb_nn *nn, const hfb_call *call) {
  hfb_head_question_answering(nn, call, model(nn, call, NULL));
}

static void token_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_head_token_classification(nn, call, model(nn, call, NULL), hfb_call_float(call, "hidden_dropout_prob"));
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_value *pooled = NULL;
  model(nn, call, &pooled);
  pooled = hfb_nn_dropout(nn, pooled, hfb_call_float(call, "hidden_dropout_prob"));
  hfb_head_classification(nn, call, hfb_nn_linear(nn, "classifier", pooled, hfb_call_int(call, "num_labels"), true));
}

#define INPUTS  "input_ids token_type_ids position_ids labels"
#define REFUSED "inputs_embeds output_hidden_states"
#define IGNORED "*.position_ids *.token_type_ids cls.* qa_outputs.* classifier.*"

static const hfb_class_row classes[] = {
    {"FNetForMaskedLM", masked_lm, INPUTS, REFUSED,
     "cls.predictions.decoder.weight=fnet.embeddings.word_embeddings.weight "
     "cls.predictions.decoder.bias=cls.predictions.bias",
     IGNORED},
    {"FNetForQuestionAnswering", question_answering,
     "input_ids token_type_ids position_ids start_positions end_positions", REFUSED, "", IGNORED},
    {"FNetForSequenceClassification", sequence_classification, INPUTS, REFUSED, "", IGNORED},
    {"FNetForTokenClassification", token_classification, INPUTS, REFUSED, "", IGNORED},
};

HFB_FAMILY(fnet, "fnet", "fnet", fields, classes);
