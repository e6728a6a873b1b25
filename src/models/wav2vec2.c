/* Wav2Vec2 (Baevski et al., 2020), without its quantizer, adapters and x-vectors. */
#include "models/speech.h"

static const hfb_field fields[] = {
    HFB_SPEECH_FIELDS,
};

static const hfb_speech_traits traits = {.prefix = "wav2vec2", .spans_know_lengths = true, .scaled_init = true};

static void bare_model(hfb_nn *nn, const hfb_call *call) {
  hfb_speech_bare_model(nn, call, &traits);
}

static void ctc(hfb_nn *nn, const hfb_call *call) {
  hfb_speech_ctc(nn, call, &traits);
}

static void sequence_classification(hfb_nn *nn, const hfb_call *call) {
  hfb_speech_sequence_classification(nn, call, &traits);
}

#define TIED HFB_SPEECH_TIED("wav2vec2.")
#define IGNORED \
  "quantizer.* project_q.* project_hid.* lm_head.* projector.* classifier.* layer_weights *masked_spec_embed"

static const hfb_class_row classes[] = {
    {"Wav2Vec2Model", bare_model, HFB_SPEECH_INPUTS, HFB_SPEECH_REFUSED, HFB_SPEECH_TIED(""), IGNORED},
    {"Wav2Vec2ForCTC", ctc, HFB_SPEECH_INPUTS " labels", HFB_SPEECH_REFUSED, TIED, IGNORED},
    {"Wav2Vec2ForSequenceClassification", sequence_classification, HFB_SPEECH_INPUTS " labels", HFB_SPEECH_REFUSED,
     TIED, IGNORED},
};

HFB_FAMILY(wav2vec2, "wav2vec2", "wav2vec2", fields, classes);
