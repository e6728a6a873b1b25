/* HuBERT (Hsu et al., 2021): the network of Wav2Vec2. */
#include "models/speech.h"

static const hfb_field fields[] = {
    HFB_SPEECH_FIELDS,
    {"feat_proj_layer_norm", HFB_FIELD_BOOL, "true", NULL},
    {"conv_pos_batch_norm", HFB_FIELD_BOOL, "false", "false"},
};

static const hfb_speech_traits traits = {.prefix = "hubert"};

#define TIED    HFB_SPEECH_TIED("hubert.")
#define IGNORED "lm_head.* projector.* classifier.* layer_weights *masked_spec_embed"

static const hfb_class_row classes[] = {
    {"HubertModel", hfb_speech_bare_model, HFB_SPEECH_INPUTS, HFB_SPEECH_REFUSED, HFB_SPEECH_TIED(""), IGNORED},
    {"HubertForCTC", hfb_speech_ctc, HFB_SPEECH_INPUTS " labels", HFB_SPEECH_REFUSED, TIED, IGNORED},
    {"HubertForSequenceClassification", hfb_speech_sequence_classification, HFB_SPEECH_INPUTS " labels",
     HFB_SPEECH_REFUSED, TIED, IGNORED},
};

HFB_FAMILY_WITH(hubert, "hubert", "hubert", fields, classes, .traits = &traits);
