/* Whisper (Radford et al., 2022): a BART that reads the spectrum of speech through two convolutions. */
#include "models/bart_layers.h"

static const hfb_field fields[] = {
    {"vocab_size", HFB_FIELD_SIZE, "51865", NULL},
    {"num_mel_bins", HFB_FIELD_SIZE, "80", NULL},
    {"d_model", HFB_FIELD_SIZE, "384", NULL},
    {"encoder_layers", HFB_FIELD_COUNT, "4", NULL},
    {"encoder_attention_heads", HFB_FIELD_COUNT, "6", NULL},
    {"encoder_ffn_dim", HFB_FIELD_SIZE, "1536", NULL},
    {"encoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"decoder_layers", HFB_FIELD_COUNT, "4", NULL},
    {"decoder_attention_heads", HFB_FIELD_COUNT, "6", NULL},
    {"decoder_ffn_dim", HFB_FIELD_SIZE, "1536", NULL},
    {"decoder_layerdrop", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"max_source_positions", HFB_FIELD_SIZE, "1500", NULL},
    {"max_target_positions", HFB_FIELD_SIZE, "448", NULL},
    {"activation_function", HFB_FIELD_ACTIVATION, "gelu", NULL},
    {"dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"attention_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"activation_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},
    {"init_std", HFB_FIELD_POSITIVE, "0.02", NULL},
    {"apply_spec_augment", HFB_FIELD_BOOL, "false", "false"},
    {"use_cache", HFB_FIELD_BOOL, "true", NULL},
    {"pad_token_id", HFB_FIELD_ID, "50256", NULL},
    {"decoder_start_token_id", HFB_FIELD_ID, "50257", NULL},
};

enum { KERNEL = 3, REDUCTION = 2 /* frames for each token: the stride of the second convolution */ };

static hfb_bart_layers layers_of(const hfb_call *call) {
  return (hfb_bart_layers){.width = hfb_call_int(call, "d_model"),
                           .pre_norm = true,
                           .no_key_bias = true,
                           .activation = hfb_call_text(call, "activation_function"),
                           .dropout = hfb_call_float(call, "dropout"),
                           .attention_dropout = hfb_call_float(call, "attention_dropout"),
                           .activation_dropout = hfb_call_float(call, "activation_dropout")};
}

/* ---- The encoder ---- */

/* Conv1d with a zero at both ends, and exact GELU, whatever activation_function is. [B,T,C] -> [B,T/stride,D] */
static hfb_value *convolve(hfb_nn *nn, const char *name, hfb_value *x, int64_t width, int64_t stride) {
  hfb_nn_conv1d_shape how = {.out_features = width,
                             .kernel = KERNEL,
                             .stride = stride,
                             .with_bias = true,
                             .weight = hfb_init_normal(nn->init_std),
                             .bias = hfb_init_constant(0)};
  x = hfb_pad(nn->b, x, 1, KERNEL / 2, KERNEL / 2, 0);
  return hfb_nn_activation(nn, "gelu", hfb_nn_strided_convolution(nn, name, x, &how));
}

/* input_features [B,bins,frames] -> [B,tokens,D] */
static hfb_value *embed_features(hfb_nn *nn, const hfb_call *call, int64_t width) {
  hfb_value *x = hfb_call_arg(call, "input_features");
  int64_t bins = hfb_call_int(call, "num_mel_bins"), tokens = hfb_call_int(call, "max_source_positions");
  if (x->shape.dim[1] != bins || x->shape.dim[2] != REDUCTION * tokens) {
    char shape[HFB_SHAPE_TEXT_BYTES];
    hfb_builder_fail(
        nn->b, HFB_INVALID_ARGUMENT,
        "argument 'input_features' is %s%s; num_mel_bins and max_source_positions need f32[%lld,%lld,%lld]",
        hfb_dtype_name(x->dtype), hfb_shape_print(&x->shape, shape, sizeof shape), (long long)call->batch,
        (long long)bins, (long long)(REDUCTION * tokens));
    return NULL;
  }
  x = convolve(nn, "conv1", hfb_transpose(nn->b, x, (int[]){0, 2, 1}), width, 1);
  x = convolve(nn, "conv2", x, width, REDUCTION);
  hfb_init sinusoids = {.kind = HFB_INIT_SINUSOID_FAIRSEQ, .padding_idx = -1, .frozen = true};
  hfb_shape table = hfb_shape_of(2, (int64_t[]){tokens, width});
  x = hfb_add(nn->b, x, hfb_parameter(nn->b, "embed_positions.weight", table, sinusoids));
  return hfb_nn_dropout(nn, x, hfb_call_float(call, "dropout"));
}

static hfb_value *encode(hfb_nn *nn, const hfb_call *call) {
  hfb_call_check_heads(nn, call, "d_model", "encoder_attention_heads");
  hfb_bart_layers layers = layers_of(call);
  layers.count = hfb_call_int(call, "encoder_layers");
  layers.heads = hfb_call_int(call, "encoder_attention_heads");
  layers.ffn = hfb_call_int(call, "encoder_ffn_dim");
  layers.layer_drop = hfb_call_float(call, "encoder_layerdrop");
  hfb_scope_push(nn->b, "encoder");
  hfb_value *x = embed_features(nn, call, layers.width);
  hfb_bart_layers_declare(nn, &layers);
  x = hfb_nn_layer_norm(nn, "layer_norm", hfb_bart_layers_run(nn, &layers, x), HFB_BART_NORM_EPS);
  hfb_scope_pop(nn->b);
  return x;
}

/* ---- The decoder ---- */

/* decoder_input_ids, or the labels behind the start. */
static hfb_value *decoder_ids(hfb_nn *nn, const hfb_call *call) {
  if (hfb_call_arg(call, "decoder_input_ids") != NULL) return hfb_call_rows(nn, call, "decoder_input_ids");
  int64_t start = hfb_call_int(call, "decoder_start_token_id"), pad = hfb_call_int(call, "pad_token_id");
  if (hfb_call_arg(call, "labels") == NULL) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT, "%s needs decoder_input_ids or labels", call->request->class_name);
    return NULL;
  }
  if (start < 0 || pad < 0) {
    hfb_builder_fail(nn->b, HFB_INVALID_ARGUMENT,
                     "decoder_start_token_id and pad_token_id must be set to make decoder inputs from labels");
    return NULL;
  }
  return hfb_nn_shift_right(nn, hfb_call_rows(nn, call, "labels"), start, pad);
}

/* *out_words: the token table. */
static hfb_value *decode(hfb_nn *nn, const hfb_call *call, hfb_bart_layers *layers, hfb_value *ids,
                         hfb_value **out_words) {
  int64_t length = ids->shape.dim[1], rows = hfb_call_int(call, "max_target_positions");
  int64_t pad = hfb_call_int(call, "pad_token_id");
  hfb_call_check_length(nn, call, "the decoder input", length, "max_target_positions");
  layers->self_bias = hfb_bart_causal_bias(nn, call, "decoder_attention_mask", length);
  hfb_scope_push(nn->b, "decoder");
  *out_words = hfb_nn_embedding_weight(nn, "embed_tokens", hfb_call_int(call, "vocab_size"), layers->width, pad);
  hfb_value *x = hfb_embedding(nn->b, *out_words, ids, pad), *positions = hfb_nn_positions(nn, length, 0);
  x = hfb_add(nn->b, x, hfb_nn_embedding(nn, "embed_positions", positions, rows, layers->width, -1));
  hfb_bart_layers_declare(nn, layers);
  x = hfb_bart_layers_run(nn, layers, hfb_nn_dropout(nn, x, layers->dropout));
  x = hfb_nn_layer_norm(nn, "layer_norm", x, HFB_BART_NORM_EPS);
  hfb_scope_pop(nn->b);
  return x;
}

/* ---- Classes ---- */

static void conditional_generation(hfb_nn *nn, const hfb_call *call) {
  nn->init_std = hfb_call_float(call, "init_std");
  hfb_call_check_heads(nn, call, "d_model", "decoder_attention_heads");
  hfb_value *ids = decoder_ids(nn, call), *words = NULL;
  if (ids == NULL) return;
  hfb_scope_push(nn->b, "model");
  hfb_bart_layers layers = layers_of(call);
  layers.memory = encode(nn, call);
  layers.memory_width = layers.width;
  layers.count = hfb_call_int(call, "decoder_layers");
  layers.heads = hfb_call_int(call, "decoder_attention_heads");
  layers.ffn = hfb_call_int(call, "decoder_ffn_dim");
  layers.layer_drop = hfb_call_float(call, "decoder_layerdrop");
  layers.cache = hfb_call_values(nn, 4 * layers.count);
  if (layers.cache == NULL) return;
  hfb_value *x = decode(nn, call, &layers, ids, &words);
  hfb_scope_pop(nn->b);
  if (x == NULL) return;
  hfb_value *weight = hfb_head_output_weight(nn, call, "proj_out.weight", words);
  hfb_value *logits = hfb_linear_op(nn->b, x, weight, NULL, true);
  hfb_head_token_logits(nn, call, logits, false);
  if (hfb_call_bool(call, "use_cache")) hfb_bart_layers_output_cache(nn, &layers);
  hfb_output_add(nn->b, "encoder_last_hidden_state", layers.memory);
}

#define REFUSED                                                                                      \
  "attention_mask head_mask decoder_head_mask cross_attn_head_mask encoder_outputs past_key_values " \
  "decoder_inputs_embeds decoder_position_ids use_cache output_attentions output_hidden_states"

static const hfb_class_row classes[] = {
    {"WhisperForConditionalGeneration", conditional_generation,
     "input_features decoder_input_ids decoder_attention_mask labels", REFUSED,
     "proj_out.weight=model.decoder.embed_tokens.weight", ""},
};

HFB_FAMILY(whisper, "whisper", "model", fields, classes);
