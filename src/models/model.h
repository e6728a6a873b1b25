/* The models: Hugging Face classes as graphs, and the suite of benchmarked names.
 *
 * A class (classes.def) is built for one configuration and for exactly the arguments of forward() that are given; its
 * outputs are those of the HF class, in order: "loss", "logits", "past_key_values/0/1", "encoder_last_hidden_state".
 * Parameters have HF's names and stand in HF's registration order; a tied weight appears once, under the name that is
 * registered first. A suite row (models.def) is a name that the benchmark knows: class, configuration, sizes, inputs.
 */
#ifndef HFB_MODELS_MODEL_H
#define HFB_MODELS_MODEL_H

#include "ir/graph.h"
#include "models/config.h"

/* ---- Classes ---- */

typedef struct hfb_model_class {
  const char *name;       /* "BertForMaskedLM" */
  const char *model_type; /* "bert" */
  const char *inputs;     /* arguments of forward() that may be given, separated by blanks; the first is required;
                             # stands for the number of a layer */
} hfb_model_class;

int hfb_model_class_count(void);
hfb_model_class hfb_model_class_at(int index);
/* HFB_UNSUPPORTED with the nearest names when the class is not known. */
hfb_status hfb_model_class_find(const char *name, hfb_model_class *out_class) HFB_MUST_USE;

/* An argument of forward() that is given. Ids, masks, labels and positions are I64; regression and multi-label labels
 * are F32. Ids are [batch, seq], masks likewise; labels as the class wants them. Sound is F32 [batch, samples], its
 * spectrum F32 [batch, bins, frames]. Images are F32 [batch, channels, height, width], marks of their patches BOOL
 * [batch, patches], features of their regions F32 [batch, regions, features]. Parts of dictionaries and tuples stand
 * alone: obj_labels["obj"][0] is "obj_labels/obj/0". */
typedef struct hfb_model_input {
  const char *name;
  hfb_dtype dtype;
  hfb_shape shape;
} hfb_model_input;

typedef struct hfb_model_request {
  const char *class_name;
  const hfb_config *config;
  bool training;   /* dropout sites are active, and what else the HF class does in train() only */
  bool no_dropout; /* in training: every dropout and layer drop counts as 0, for debugging */
  int input_count;
  const hfb_model_input *inputs;
} hfb_model_request;

/* Graph inputs are the request's, in its order. Unknown arguments are HFB_INVALID_ARGUMENT, arguments that the HF class
 * takes but that are not implemented (inputs_embeds, head_mask, past_key_values) HFB_UNSUPPORTED; each is named. */
hfb_status hfb_model_build(const hfb_model_request *request, hfb_graph **out_graph) HFB_MUST_USE;

/* ---- Names in checkpoints ---- */

typedef enum hfb_name_use {
  HFB_NAME_PARAMETER, /* load it into the parameter *out_name */
  HFB_NAME_ALIAS,     /* another name of the tied parameter *out_name: load it when that one is not in the file */
  HFB_NAME_IGNORED    /* not used by this class: position_ids, heads of other classes */
} hfb_name_use;

/* What a tensor of a checkpoint is for. Takes care of ties ("cls.predictions.decoder.weight"), of old names
 * ("LayerNorm.gamma") and of files that were saved from the bare model (no "bert." in front), or are loaded into it.
 * `graph` is one that hfb_model_build gave for class and configuration; *out_name belongs to it. HFB_NOT_FOUND when the
 * class has no such parameter. */
hfb_status hfb_model_checkpoint_name(const char *class_name, const hfb_config *config, const hfb_graph *graph,
                                     const char *name, hfb_name_use *out_use, const char **out_name) HFB_MUST_USE;

/* ---- The suite ---- */

enum {
  HFB_MODEL_SKIP = 1 << 0,                /* left out unless asked for by name */
  HFB_MODEL_SKIP_CPU = 1 << 1,            /* left out on the CPU */
  HFB_MODEL_SKIP_ACCURACY_LARGE = 1 << 2, /* float64 reference too large */
  HFB_MODEL_ONLY_EVAL = 1 << 3,           /* accuracy in inference only */
  HFB_MODEL_FP32_ONLY = 1 << 4,
  HFB_MODEL_CONTROL_FLOW = 1 << 5,
  HFB_MODEL_MORE = 1 << 6 /* not one of the 52: listed under `more` */
};

typedef enum hfb_ids_rule {
  HFB_IDS_VOCAB,
  HFB_IDS_VOCAB_LAST_EOS,
  HFB_IDS_ZERO,
  HFB_IDS_PIXELS,      /* images in place of ids */
  HFB_IDS_WAVES,       /* sound in place of ids */
  HFB_IDS_TEXT_PIXELS, /* texts that end, and an image for each */
  HFB_IDS_TEXT_REGIONS /* texts, and 42 regions of an image for each: their features and places */
} hfb_ids_rule;
typedef enum hfb_decoder_rule { HFB_DECODER_NONE, HFB_DECODER_SAME_IDS } hfb_decoder_rule;
typedef enum hfb_labels_rule {
  HFB_LABELS_VOCAB,          /* labels in [0,vocab) of (batch,seq) */
  HFB_LABELS_VOCAB_LESS_1,   /* labels in [0,vocab-1) of (batch,seq) */
  HFB_LABELS_POSITIONS,      /* start_positions, end_positions in [0,seq) of (batch) */
  HFB_LABELS_CLASSES_LESS_1, /* labels in [0,num_labels-1) of (batch) */
  HFB_LABELS_ZERO,           /* labels in [0,1) of (batch,seq) */
  HFB_LABELS_SENTENCE_ORDER, /* labels in [0,vocab) of (batch,seq), sentence_order_label in [0,1) of (batch) */
  HFB_LABELS_TRANSCRIPT,     /* attention_mask in [0,2) of (batch,seq), labels in [0,vocab) of (batch,100) */
  HFB_LABELS_ANSWERS,        /* labels in [0,num_qa_labels) of (batch) */
  HFB_LABELS_PATCHES,        /* bool_masked_pos of (batch,patches), half of them */
  HFB_LABELS_PAIRS,          /* none: the loss asks which text belongs to which image */
  HFB_LABELS_NONE            /* the class has no loss */
} hfb_labels_rule;

typedef struct hfb_model_row {
  const char *name;       /* "CamemBert" */
  const char *class_name; /* "CamembertForMaskedLM" */
  const char *config;     /* where the configuration comes from: "class default", "camembert-base" */
  const char *overrides;  /* what it changes in the class defaults, for hfb_config_create */
  int known_batch, divisor, default_batch;
  int seq_len;
  hfb_ids_rule ids;
  hfb_decoder_rule decoder;
  hfb_labels_rule labels;
  double tol_training, tol_inference;
  unsigned flags;
} hfb_model_row;

int hfb_model_row_count(void);
const hfb_model_row *hfb_model_row_at(int index); /* the suite in its order, then `more` */
/* HFB_NOT_FOUND with the nearest names. */
hfb_status hfb_model_find(const char *name, const hfb_model_row **out_row) HFB_MUST_USE;
hfb_status hfb_model_row_config(const hfb_model_row *row, hfb_config **out_config) HFB_MUST_USE;

/* An argument of the benchmark and how it is filled: uniform integers in [low, high), N(0, 1) when it is `normal`, or
 * the same values as the earlier input `copy_of`. `last` >= 0 is then put at the end of each row.
 * drawn > 0: only so many of each row are drawn, the others are -100, which losses leave out. */
typedef struct hfb_suite_input {
  hfb_model_input input;
  int64_t low, high;
  int64_t last, drawn;
  int copy_of; /* -1: drawn */
  bool normal;
} hfb_suite_input;

enum { HFB_SUITE_INPUT_MAX = 8 };

/* Fills at most HFB_SUITE_INPUT_MAX rows, in the order of forward()'s arguments, labels last. */
hfb_status hfb_model_suite_inputs(const hfb_model_row *row, const hfb_config *config, int64_t batch, int64_t seq,
                                  hfb_suite_input *out_inputs, int *out_count) HFB_MUST_USE;

#endif
