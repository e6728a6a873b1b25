/* The suite: its rows and the arguments that the benchmark gives. */
#include <string.h>

#include "models/family.h"

/* clang-format off */
#define HFB_MODEL(name, class_name, config, overrides, known, divisor, batch, seq, ids, decoder, labels, tol_training, \
                  tol_inference, flags)                                                                               \
  {name, class_name, config, overrides, known, divisor, batch, seq, HFB_IDS_##ids, HFB_DECODER_##decoder,             \
   HFB_LABELS_##labels, tol_training, tol_inference, flags},
/* clang-format on */
static const hfb_model_row rows[] = {
#include "models/models.def"
};
#undef HFB_MODEL
enum { ROW_COUNT = (int)(sizeof rows / sizeof rows[0]) };

int hfb_model_row_count(void) {
  return ROW_COUNT;
}

const hfb_model_row *hfb_model_row_at(int index) {
  return &rows[index];
}

static const char *row_name_at(void *context, size_t index) {
  return rows[index].name;
}

hfb_status hfb_model_find(const char *name, const hfb_model_row **out_row) {
  for (int i = 0; i < ROW_COUNT; i++) {
    if (strcmp(rows[i].name, name) == 0) {
      *out_row = &rows[i];
      return HFB_OK;
    }
  }
  char suggestion[HFB_SUGGESTION_BYTES];
  hfb_suggest(name, row_name_at, ROW_COUNT, suggestion);
  return HFB_FAIL(HFB_NOT_FOUND, "no model is called '%s'%s", hfb_shown(name).text, suggestion);
}

hfb_status hfb_model_row_config(const hfb_model_row *row, hfb_config **out_config) {
  hfb_model_class known;
  HFB_TRY(hfb_model_class_find(row->class_name, &known));
  return hfb_config_create(known.model_type, row->overrides, out_config);
}

static hfb_suite_input *append(hfb_suite_input *inputs, int *count, const char *name, hfb_shape shape, int64_t high) {
  hfb_suite_input *input = &inputs[(*count)++];
  *input = (hfb_suite_input){.input = {.name = name, .dtype = HFB_I64, .shape = shape},
                             .low = 0,
                             .high = high > 0 ? high : 1,
                             .last = -1,
                             .copy_of = -1};
  return input;
}

static void append_normal(hfb_suite_input *inputs, int *count, const char *name, hfb_shape shape) {
  hfb_suite_input *input = append(inputs, count, name, shape, 1);
  input->input.dtype = HFB_F32;
  input->normal = true;
}

/* Images of the size of the nested configuration, "" for the outer one. */
static void append_pixels(const hfb_config *config, const char *nested, int64_t batch, hfb_suite_input *inputs,
                          int *count) {
  int64_t size = hfb_config_int(config, hfb_field_of(nested, "image_size").text);
  int64_t channels = hfb_config_int(config, hfb_field_of(nested, "num_channels").text);
  append_normal(inputs, count, "pixel_values", hfb_shape_of(4, (int64_t[]){batch, channels, size, size}));
}

/* Images alone; their number of patches is the length of the sequence. */
static hfb_status append_images(const hfb_model_row *row, const hfb_config *config, int64_t batch, int64_t seq,
                                hfb_suite_input *inputs, int *count) {
  int64_t side = hfb_config_int(config, "image_size") / hfb_config_int(config, "patch_size");
  if (seq != row->seq_len) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s reads images: its sequence length is %d, not %lld", row->name,
                    row->seq_len, (long long)seq);
  }
  append_pixels(config, "", batch, inputs, count);
  if (row->labels == HFB_LABELS_PATCHES) {
    hfb_shape patches = hfb_shape_of(2, (int64_t[]){batch, side * side});
    append(inputs, count, "bool_masked_pos", patches, 2)->input.dtype = HFB_BOOL;
  } else if (row->labels == HFB_LABELS_CLASSES_LESS_1) {
    append(inputs, count, "labels", hfb_shape_of(1, &batch), hfb_config_int(config, "num_labels") - 1);
  }
  return HFB_OK;
}

/* Sound of `seq` samples. Of the 100 labels all but the first few are padding: the suite draws all of them, with which
 * the loss is infinite, since half of the samples count and make 15 frames of 10000; and an infinite loss has no
 * gradients to compare. */
static void append_waves(const hfb_model_row *row, const hfb_config *config, int64_t batch, int64_t seq,
                         hfb_suite_input *inputs, int *count) {
  enum { TRANSCRIPT_LENGTH = 100, TRANSCRIPT_DRAWN = 7 };
  hfb_shape samples = hfb_shape_of(2, (int64_t[]){batch, seq});
  append_normal(inputs, count, "input_values", samples);
  if (row->labels == HFB_LABELS_TRANSCRIPT) {
    append(inputs, count, "attention_mask", samples, 2);
    append(inputs, count, "labels", hfb_shape_of(2, (int64_t[]){batch, TRANSCRIPT_LENGTH}),
           hfb_config_int(config, "vocab_size"))
        ->drawn = TRANSCRIPT_DRAWN;
  } else if (row->labels == HFB_LABELS_CLASSES_LESS_1) {
    append(inputs, count, "labels", hfb_shape_of(1, &batch), hfb_config_int(config, "num_labels") - 1);
  }
}

enum { REGIONS = 42 };

/* What belongs to the texts besides. */
static void append_company(const hfb_model_row *row, const hfb_config *config, int64_t batch, hfb_suite_input *inputs,
                           int *count) {
  if (row->ids == HFB_IDS_TEXT_PIXELS) append_pixels(config, "vision_config", batch, inputs, count);
  if (row->ids != HFB_IDS_TEXT_REGIONS) return;
  static const char *const names[][2] = {{"visual_feats", "visual_feat_dim"}, {"visual_pos", "visual_pos_dim"}};
  for (int i = 0; i < 2; i++) {
    int64_t dims[] = {batch, REGIONS, hfb_config_int(config, names[i][1])};
    append_normal(inputs, count, names[i][0], hfb_shape_of(3, dims));
  }
}

hfb_status hfb_model_suite_inputs(const hfb_model_row *row, const hfb_config *config, int64_t batch, int64_t seq,
                                  hfb_suite_input *out_inputs, int *out_count) {
  if (batch < 1 || seq < 1) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s needs a batch and a length of at least 1, got %lld and %lld", row->name,
                    (long long)batch, (long long)seq);
  }
  *out_count = 0;
  if (row->ids == HFB_IDS_PIXELS) return append_images(row, config, batch, seq, out_inputs, out_count);
  if (row->ids == HFB_IDS_WAVES) {
    append_waves(row, config, batch, seq, out_inputs, out_count);
    return HFB_OK;
  }
  const char *text = row->ids == HFB_IDS_TEXT_PIXELS ? "text_config" : "";
  int64_t vocab = hfb_config_int(config, hfb_field_of(text, "vocab_size").text);
  hfb_shape tokens = hfb_shape_of(2, (int64_t[]){batch, seq}), rows_only = hfb_shape_of(1, (int64_t[]){batch});
  int count = 0;
  hfb_suite_input *ids = append(out_inputs, &count, "input_ids", tokens, row->ids == HFB_IDS_ZERO ? 1 : vocab);
  if (row->ids == HFB_IDS_VOCAB_LAST_EOS || row->ids == HFB_IDS_TEXT_PIXELS) {
    ids->last = hfb_config_int(config, hfb_field_of(text, "eos_token_id").text);
  }
  append_company(row, config, batch, out_inputs, &count);
  if (row->decoder == HFB_DECODER_SAME_IDS) {
    append(out_inputs, &count, "decoder_input_ids", tokens, vocab)->copy_of = 0;
  }
  switch (row->labels) {
    case HFB_LABELS_VOCAB: append(out_inputs, &count, "labels", tokens, vocab); break;
    case HFB_LABELS_VOCAB_LESS_1: append(out_inputs, &count, "labels", tokens, vocab - 1); break;
    case HFB_LABELS_POSITIONS:
      append(out_inputs, &count, "start_positions", rows_only, seq);
      append(out_inputs, &count, "end_positions", rows_only, seq);
      break;
    case HFB_LABELS_CLASSES_LESS_1:
      append(out_inputs, &count, "labels", rows_only, hfb_config_int(config, "num_labels") - 1);
      break;
    case HFB_LABELS_ZERO: append(out_inputs, &count, "labels", tokens, 1); break;
    case HFB_LABELS_SENTENCE_ORDER:
      append(out_inputs, &count, "labels", tokens, vocab);
      append(out_inputs, &count, "sentence_order_label", rows_only, 1);
      break;
    case HFB_LABELS_ANSWERS:
      append(out_inputs, &count, "labels", rows_only, hfb_config_int(config, "num_qa_labels"));
      break;
    case HFB_LABELS_TRANSCRIPT:
    case HFB_LABELS_PATCHES:
    case HFB_LABELS_PAIRS:
    case HFB_LABELS_NONE: break;
  }
  *out_count = count;
  return HFB_OK;
}
