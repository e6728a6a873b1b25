/* What a family file gives: the fields of its configuration, its classes and how they are built. Internal to models/.
 *
 * A family is one model type of transformers ("bert"). Its file has a table of fields, a table of classes and the
 * functions that build them; a row in families.def makes it known. */
#ifndef HFB_MODELS_FAMILY_H
#define HFB_MODELS_FAMILY_H

#include "base/str.h"
#include "models/model.h"
#include "nn/nn.h"

/* ---- Configuration tables ---- */

typedef enum hfb_field_kind {
  HFB_FIELD_SIZE,  /* integer in [1, 2^24] */
  HFB_FIELD_COUNT, /* number of layers or heads: integer in [1, 4096] */
  HFB_FIELD_ID,    /* token id: integer in [0, 2^24], or null */
  HFB_FIELD_LIMIT, /* integer in [-1, 2^24]; -1: none */
  HFB_FIELD_BOOL,
  HFB_FIELD_PROBABILITY, /* [0, 1] */
  HFB_FIELD_POSITIVE,    /* > 0 and <= 1e9: an epsilon, a deviation, a base */
  HFB_FIELD_ACTIVATION,  /* an ACT2FN name */
  HFB_FIELD_TEXT,
  HFB_FIELD_WORDS, /* a list of texts, or one text "a|b": read by hfb_config_text as "a|b", each word accepted */
  HFB_FIELD_SIZES, /* one size for all layers or a list with one for each: read by hfb_config_size_at */
  HFB_FIELD_LIST,  /* read by hfb_config_text, as JSON without blanks */
  HFB_FIELD_EMPTY /* an object, list or null that must be empty */
} hfb_field_kind;

typedef struct hfb_field {
  const char *name; /* "outer.name": of the object `outer` */
  hfb_field_kind kind;
  const char *initial; /* the default of the HF configuration class, as JSON without quotes */
  /* Texts and booleans: the implemented values, "absolute|null". Others: "null" allows null. NULL: all. */
  const char *accepted;
} hfb_field;

/* Fields that every configuration has (config.c). */
extern const hfb_field hfb_common_fields[];
extern const int hfb_common_field_count;

/* A field of a nested configuration: ("text_config", "hidden_size") is the field "text_config.hidden_size". "" stands
 * for the outer one. */
typedef struct hfb_field_name {
  char text[64];
} hfb_field_name;
hfb_field_name hfb_field_of(const char *nested, const char *name);

/* ---- A call of forward() while its graph is built ---- */

typedef struct hfb_call {
  const hfb_config *config;
  const hfb_model_request *request;
  const void *traits;    /* of the class's family */
  hfb_value **values;    /* graph inputs, as request->inputs */
  int64_t batch, length; /* of the first input, its first and last dimension; of images the length is 0 */
  int64_t choices;       /* multiple choice: rows of `batch` that belong together; 1 elsewhere */
} hfb_call;

/* The argument, NULL when it is not given. */
hfb_value *hfb_call_arg(const hfb_call *call, const char *name);
/* The same for integers of shape [batch, length]; anything else is an error that names the argument. */
hfb_value *hfb_call_ids(hfb_nn *nn, const hfb_call *call, const char *name, int64_t batch, int64_t length);
/* The same for [batch, any length >= 1]: the argument must be given. */
hfb_value *hfb_call_rows(hfb_nn *nn, const hfb_call *call, const char *name);
/* position_ids: [batch, length] or [1, length]; NULL when not given. */
hfb_value *hfb_call_positions(hfb_nn *nn, const hfb_call *call, const char *name, int64_t length);
/* Fails when `length` exceeds the configuration's `field`. */
void hfb_call_check_length(hfb_nn *nn, const hfb_call *call, const char *what, int64_t length, const char *field);
/* Fails when the width does not divide into heads. */
void hfb_call_check_heads(hfb_nn *nn, const hfb_call *call, const char *width_field, const char *heads_field);

/* Room for `count` values, owned by the graph; NULL (and the builder failed) when out of memory. */
hfb_value **hfb_call_values(hfb_nn *nn, int64_t count);

int64_t hfb_call_int(const hfb_call *call, const char *field);
int64_t hfb_call_size_at(const hfb_call *call, const char *field, int64_t index); /* hfb_config_size_at */
double hfb_call_float(const hfb_call *call, const char *field);
bool hfb_call_bool(const hfb_call *call, const char *field);
const char *hfb_call_text(const hfb_call *call, const char *field);

/* ---- Images (images.c) ---- */

/* How the argument pixel_values falls into patches. */
typedef struct hfb_image_grid {
  int64_t batch, side; /* patches along each side */
  int64_t patch, channels;
} hfb_image_grid;

/* By the fields image_size, patch_size and num_channels of the nested configuration, "" for the outer one. Fails when
 * the argument has another shape, or when no patch fits. */
hfb_image_grid hfb_call_image_grid(hfb_nn *nn, const hfb_call *call, const char *nested);

/* ---- Classes ---- */

/* Adds the graph of one class: parameters in registration order, then outputs in the order of the HF class. */
typedef void (*hfb_build_fn)(hfb_nn *nn, const hfb_call *call);

typedef struct hfb_class_row {
  const char *name;
  hfb_build_fn build;
  const char *inputs;  /* arguments, the required one first; "stem.#": one for each layer */
  const char *refused; /* arguments of the HF class that are not implemented */
  const char *tied;    /* "alias=parameter ..": other names of parameters in checkpoints */
  const char *ignored; /* patterns with *: tensors of checkpoints that this class has no use for */
} hfb_class_row;

typedef struct hfb_family {
  const char *model_type;
  const char *prefix; /* base_model_prefix: "bert" */
  const hfb_field *fields;
  int field_count;
  const hfb_class_row *classes;
  int class_count;
  const char *defaults; /* of common fields, where they differ: "tie_word_embeddings=false"; NULL: none */
  const void *traits;   /* how families with the same build functions differ, of a type that those know; NULL: none */
} hfb_family;

/* What most families lack comes last, by name: `.defaults = ".."`, `.traits = &traits`. */
#define HFB_FAMILY_WITH(id, type, base_prefix, field_table, class_table, ...) \
  const hfb_family hfb_family_##id = {                                        \
      .model_type = (type),                                                   \
      .prefix = (base_prefix),                                                \
      .fields = (field_table),                                                \
      .field_count = (int)(sizeof(field_table) / sizeof((field_table)[0])),   \
      .classes = (class_table),                                               \
      .class_count = (int)(sizeof(class_table) / sizeof((class_table)[0])),   \
      __VA_ARGS__,                                                            \
  }
#define HFB_FAMILY(id, type, base_prefix, field_table, class_table) \
  HFB_FAMILY_WITH(id, type, base_prefix, field_table, class_table, .defaults = NULL)

/* Arguments that most HF classes take and that are not implemented here. */
#define HFB_REFUSED_ENCODER "head_mask inputs_embeds output_attentions output_hidden_states"
#define HFB_REFUSED_CAUSAL \
  HFB_REFUSED_ENCODER " past_key_values use_cache encoder_hidden_states encoder_attention_mask cross_attn_head_mask"
#define HFB_REFUSED_SEQ2SEQ                                                            \
  HFB_REFUSED_ENCODER                                                                  \
  " past_key_values use_cache encoder_outputs decoder_head_mask cross_attn_head_mask " \
  "decoder_inputs_embeds"

/* NULL when not known. */
const hfb_family *hfb_family_find(const char *model_type);
/* The family and row of a class; false when not known. */
bool hfb_class_find(const char *class_name, const hfb_family **out_family, const hfb_class_row **out_row);
/* Whether `word` is one of the blank-separated words of `list`. */
bool hfb_word_in(const char *list, const char *word);

/* The beginning of a text from outside, without control characters: fit for a message of one line. */
typedef struct hfb_shown_text {
  char text[128];
} hfb_shown_text;
hfb_shown_text hfb_shown(const char *text);

/* "; did you mean A, B or C?" or "", into HFB_SUGGESTION_BYTES of text. */
void hfb_suggest(const char *word, hfb_str_name_fn name_at, size_t count, char *text);
enum { HFB_SUGGESTION_BYTES = 256 };

/* ---- Heads that families share (heads.c) ---- */

/* One label for each of `rows` rows, i64 [rows] or [rows,1]; NULL when not given. */
hfb_value *hfb_head_row_labels(hfb_nn *nn, const hfb_call *call, const char *name, int64_t rows);
/* Outputs "loss" (when labels are given) and "logits". */
void hfb_head_token_logits(hfb_nn *nn, const hfb_call *call, hfb_value *logits, bool shifted);
/* qa_outputs [2,D] on hidden [B,S,D]; outputs "loss", "start_logits", "end_logits". */
void hfb_head_question_answering(hfb_nn *nn, const hfb_call *call, hfb_value *hidden);
/* The same for logits [B,S,2]. */
void hfb_head_spans(hfb_nn *nn, const hfb_call *call, hfb_value *logits);
/* The loss of logits [B,num_labels] by problem_type, NULL without labels. */
hfb_value *hfb_head_classification_loss(hfb_nn *nn, const hfb_call *call, hfb_value *logits);
/* Outputs "loss" and "logits" of a classification of whole sequences. */
void hfb_head_classification(hfb_nn *nn, const hfb_call *call, hfb_value *logits);
/* score [num_labels,D] without bias on the token in front of the first padding id, as decoders do it; outputs "loss"
 * and "logits". */
void hfb_head_last_token_classification(hfb_nn *nn, const hfb_call *call, hfb_value *hidden);
/* dropout, classifier [num_labels,D] on every token; outputs "loss" and "logits". */
void hfb_head_token_classification(hfb_nn *nn, const hfb_call *call, hfb_value *hidden, double dropout);
/* seq_relationship's loss and outputs: logits [B,2], labels i64 [B]. */
void hfb_head_next_sentence(hfb_nn *nn, const hfb_call *call, hfb_value *logits);
/* Two heads at once: predictions [B,S,V] and relation [B,2]. Outputs "loss" (when "labels" and `relation_label` are
 * given: the sum of both), "prediction_logits" and `relation_output`. */
typedef struct hfb_pretraining {
  hfb_value *predictions, *relation;
  const char *relation_label, *relation_output;
  bool relation_optional; /* "labels" alone make a loss, too */
} hfb_pretraining;
void hfb_head_pretraining(hfb_nn *nn, const hfb_call *call, const hfb_pretraining *heads);
/* dropout, classifier [1,D] on each choice; outputs "loss" and "logits" [batch,choices]. */
void hfb_head_multiple_choice(hfb_nn *nn, const hfb_call *call, hfb_value *pooled, double dropout);
/* Outputs past_key_values/<layer>/<i>. */
void hfb_head_cache(hfb_nn *nn, int layer, int count, hfb_value *const *values);

/* A language-model head's last matrix: the embedding when tied, else its own weight `name`. */
hfb_value *hfb_head_output_weight(hfb_nn *nn, const hfb_call *call, const char *name, hfb_value *embedding);

#endif
