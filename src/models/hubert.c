/* HuBERT (Hsu et al., 2021): the network of Wav2Vec2. */
#include "models/speech.h"

static const hfb_field fields[] = {
    HFB_SPEECH_FIELDS,
    {"feat_proj_layer_norm", HFB_FIELD_BOOL, "true", NULL},
    {"conv_pos_batch_norm", HFB_FIELD_BOOL, "false", "false"},
};

static const hfb_speech_traits traits = {.prefix = "hubert"};

static void bare_model(hfb_nn *nn, const hfb_call *call) {
  hfb_speech_bare_model(nn, call, &traits);
}

static void ctc(hfb_nn *nn, const hfb_call *call) {
  hfb_speech_ctc(nn, call, &traits);
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_speech_sequence_classification(nn, call, &traits);
}

#define TIED    HFB_SPEECH_TIED("hubert.")
#define IGNORED "lm_head.* projector.* classifier.* layer_weights *masked_spec_embed"

static const hfb_class_row classes[] = {
    {"HubertModel", bare_model, HFB_SPEECH_INPUTS, HFB_SPEECH_REFUSED, HFB_SPEECH_TIED(""), IGNORED},
    {"HubertForCTC", ctc, HFB_SPEECH_INPUTS " labels", HFB_SPEECH_REFUSED, TIED, IGNORED},
    {"HubertForSequenceClassification", sequence_classification, HFB_SPEECH_INPUTS " labels", HFB_SPEECH_REFUSED, TIED,
     IGNORED},
};

HFB_FAMILY(hubert, "hubert", "hubert", fields, classes);
