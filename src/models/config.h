/* Configurations: the hyper-parameters of a Hugging Face model type, as named values.
 *
 * Each family has a table of fields (config_fields.def: name, kind, default, what is accepted). A configuration starts
 * from the defaults of the HF configuration class; a config.json or "name=value" overrides replace some of them. The
 * field "text_config.hidden_size" belongs to a configuration inside of it, the object "text_config" of a file. Fields
 * that the table does not know have no influence on the forward pass and are ignored. A value that the code does not
 * implement is HFB_UNSUPPORTED, a wrong type or size HFB_INVALID_ARGUMENT; the message names field, value and what is
 * accepted. A configuration is immutable once created. */
#ifndef HFB_MODELS_CONFIG_H
#define HFB_MODELS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/strbuf.h"

typedef struct hfb_config hfb_config;

/* The defaults of the model type ("bert", "gpt2"), then the overrides: "vocab_size=32005 layer_norm_eps=1e-05"
 * (NULL or "": none; "null" is a value). */
hfb_status hfb_config_create(const char *model_type, const char *overrides, hfb_config **out_config) HFB_MUST_USE;

/* A config.json of at most 1 MiB. class_name: whose model type is read; NULL takes architectures[0] of the file. */
hfb_status hfb_config_parse(const char *json, size_t bytes, const char *class_name,
                            hfb_config **out_config) HFB_MUST_USE;
hfb_status hfb_config_load(const char *path, const char *class_name, hfb_config **out_config) HFB_MUST_USE;

void hfb_config_destroy(hfb_config *config); /* NULL is allowed */

const char *hfb_config_model_type(const hfb_config *config);
/* The class that hfb_config_parse settled on; NULL for hfb_config_create. */
const char *hfb_config_class(const hfb_config *config);

/* Values by name. The field must be in the family's table with that kind (assert): use hfb_config_has before asking
 * for a field that only some families have. A null number is -1, a null text NULL. A boolean is also readable as an
 * int: 0, 1 or -1 for null. */
bool hfb_config_has(const hfb_config *config, const char *name);
int64_t hfb_config_int(const hfb_config *config, const char *name);
/* A field with a size for each layer: the entries of its list, 0 for a single size that all layers have; and entry
 * `index`, -1 beyond the end of the list and for null. */
int64_t hfb_config_size_count(const hfb_config *config, const char *name);
int64_t hfb_config_size_at(const hfb_config *config, const char *name, int64_t index);
double hfb_config_float(const hfb_config *config, const char *name);
bool hfb_config_bool(const hfb_config *config, const char *name);
const char *hfb_config_text(const hfb_config *config, const char *name);

/* All fields in table order, for `show`: the value as JSON text into `text`. */
int hfb_config_field_count(const hfb_config *config);
const char *hfb_config_field_name(const hfb_config *config, int index);
void hfb_config_field_value(const hfb_config *config, int index, hfb_strbuf *text);

#endif
