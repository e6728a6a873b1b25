/* Wav2Vec2 (Baevski et al., 2020), without its quantizer, adapters and x-vectors. */
#include "models/speech.h"

static const hfb_field fields[] = {
    HFB_SPEECH_FIELDS,
};

static const hfb_speech_traits traits = {.prefix = "wav2vec2", .spans_know_lengths = true, .scaled_init = true};

#define TIED HFB_SPEECH_TIED("wav2vec2.")
#define IGNORED \
  "quantizer.* project_q.* project_hid.* lm_head.* projector.* classifier.* layer_weights *masked_spec_embed"

static const hfb_class_row classes[] = {
    {"Wav2Vec2Model", hfb_speech_bare_model, HFB_SPEECH_INPUTS, HFB_SPEECH_REFUSED, HFB_SPEECH_TIED(""), IGNORED},
    {"Wav2Vec2ForCTC", hfb_speech_ctc, HFB_SPEECH_INPUTS " labels", HFB_SPEECH_REFUSED, TIED, IGNORED},
    {"Wav2Vec2ForSequenceClassification", hfb_speech_sequence_classification, HFB_SPEECH_INPUTS " labels",
     HFB_SPEECH_REFUSED, TIED, IGNORED},
};

HFB_FAMILY_WITH(wav2vec2, "wav2vec2", "wav2vec2", fields, classes, .traits = &traits);
