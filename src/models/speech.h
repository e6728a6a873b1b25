/* Encoders of sound: what Wav2Vec2 and Hubert share. Samples become frames by convolutions, frames are read by a
 * transformer. Internal to models/. */
#ifndef HFB_MODELS_SPEECH_H
#define HFB_MODELS_SPEECH_H

#include "models/family.h"

/* How the two differ. */
typedef struct hfb_speech_traits {
  const char *prefix;       /* "wav2vec2": the scope of the model inside a class with a head */
  bool spans_know_lengths;  /* SpecAugment stays within the frames that the attention mask keeps */
  bool scaled_init;         /* starting values of convolutions and projection by their fan-in, as Wav2Vec2 has them */
} hfb_speech_traits;

/* The classes of a family whose traits are an hfb_speech_traits: the bare model, the others with a head on it. */
void hfb_speech_bare_model(hfb_nn *nn, const hfb_call *call);
void hfb_speech_ctc(hfb_nn *nn, const hfb_call *call);
void hfb_speech_sequence_classification(hfb_nn *nn, const hfb_call *call);

/* Fields of both configurations. conv_kernel and conv_stride have an entry for each of conv_dim. */
#define HFB_SPEECH_FIELDS                                                                                            \
  {"vocab_size", HFB_FIELD_SIZE, "32", NULL}, {"hidden_size", HFB_FIELD_SIZE, "768", NULL},                          \
      {"num_hidden_layers", HFB_FIELD_COUNT, "12", NULL}, {"num_attention_heads", HFB_FIELD_COUNT, "12", NULL},      \
      {"intermediate_size", HFB_FIELD_SIZE, "3072", NULL}, {"hidden_act", HFB_FIELD_ACTIVATION, "gelu", NULL},       \
      {"hidden_dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},                                                        \
      {"activation_dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},                                                    \
      {"attention_dropout", HFB_FIELD_PROBABILITY, "0.1", NULL},                                                     \
      {"feat_proj_dropout", HFB_FIELD_PROBABILITY, "0.0", NULL},                                                     \
      {"final_dropout", HFB_FIELD_PROBABILITY, "0.1", NULL}, {"layerdrop", HFB_FIELD_PROBABILITY, "0.1", NULL},      \
      {"initializer_range", HFB_FIELD_POSITIVE, "0.02", NULL}, {"layer_norm_eps", HFB_FIELD_POSITIVE, "1e-5", NULL}, \
      {"feat_extract_norm", HFB_FIELD_TEXT, "group", "group|layer"},                                                 \
      {"feat_extract_activation", HFB_FIELD_ACTIVATION, "gelu", NULL},                                               \
      {"conv_dim", HFB_FIELD_SIZES, "[512,512,512,512,512,512,512]", NULL},                                          \
      {"conv_kernel", HFB_FIELD_SIZES, "[10,3,3,3,3,2,2]", NULL},                                                    \
      {"conv_stride", HFB_FIELD_SIZES, "[5,2,2,2,2,2,2]", NULL}, {"conv_bias", HFB_FIELD_BOOL, "false", NULL},       \
      {"num_conv_pos_embeddings", HFB_FIELD_SIZE, "128", NULL},                                                      \
      {"num_conv_pos_embedding_groups", HFB_FIELD_COUNT, "16", NULL},                                                \
      {"do_stable_layer_norm", HFB_FIELD_BOOL, "false", NULL},                                                       \
      {"apply_spec_augment", HFB_FIELD_BOOL, "true", NULL},                                                          \
      {"mask_time_prob", HFB_FIELD_PROBABILITY, "0.05", NULL}, {"mask_time_length", HFB_FIELD_SIZE, "10", NULL},     \
      {"mask_time_min_masks", HFB_FIELD_LIMIT, "2", NULL},                                                           \
      {"mask_feature_prob", HFB_FIELD_PROBABILITY, "0.0", NULL},                                                     \
      {"mask_feature_length", HFB_FIELD_SIZE, "10", NULL}, {"mask_feature_min_masks", HFB_FIELD_LIMIT, "0", NULL},   \
      {"ctc_loss_reduction", HFB_FIELD_TEXT, "sum", "sum|mean"}, {"ctc_zero_infinity", HFB_FIELD_BOOL, "false", NULL}, \
      {"use_weighted_layer_sum", HFB_FIELD_BOOL, "false", NULL},                                                     \
      {"classifier_proj_size", HFB_FIELD_SIZE, "256", NULL}, {"pad_token_id", HFB_FIELD_ID, "0", NULL},              \
      {"adapter_attn_dim", HFB_FIELD_EMPTY, "null", NULL}, {"add_adapter", HFB_FIELD_BOOL, "false", "false"}

#define HFB_SPEECH_INPUTS  "input_values attention_mask"
#define HFB_SPEECH_REFUSED "mask_time_indices output_attentions output_hidden_states"

/* The names that newer torch gives the parts of a normalised weight. */
#define HFB_SPEECH_TIED(prefix)                                                                                   \
  prefix "encoder.pos_conv_embed.conv.parametrizations.weight.original0=" prefix                                  \
         "encoder.pos_conv_embed.conv.weight_g "                                                                  \
  prefix "encoder.pos_conv_embed.conv.parametrizations.weight.original1=" prefix "encoder.pos_conv_embed.conv.weight_v"

#endif
