#include "bench/row.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/strbuf.h"

static const hfb_column_info columns[HFB_COLUMN_COUNT] = {
#define HFB_COLUMN(id, name, csv_name, kind, phase, missing, meaning) \
  [HFB_COLUMN_##id] = {name, csv_name, HFB_COLUMN_##kind, HFB_PHASE_##phase, missing, meaning},
#include "bench/columns.def"
#undef HFB_COLUMN
};

const hfb_column_info *hfb_column_info_of(hfb_column column) {
  assert((unsigned)column < HFB_COLUMN_COUNT);
  return &columns[column];
}

hfb_status hfb_row_init(hfb_row *row) {
  row->object = json_object();
  return row->object ? HFB_OK : HFB_FAIL(HFB_OUT_OF_MEMORY, "no memory for a result row");
}

void hfb_row_deinit(hfb_row *row) {
  json_decref(row->object);
  row->object = NULL;
}

/* A NULL value clears the field. */
static void set(hfb_row *row, hfb_column column, json_t *value) {
  if (value) json_object_set_new(row->object, columns[column].name, value);
  else json_object_del(row->object, columns[column].name);
}

static json_t *get(const hfb_row *row, hfb_column column) { return json_object_get(row->object, columns[column].name); }

/* Messages may quote bytes of a damaged file. */
static json_t *text_without_bad_bytes(const char *text) {
  hfb_strbuf copy;
  hfb_strbuf_init(&copy);
  for (const char *at = text; *at; at++) hfb_strbuf_append_bytes(&copy, (unsigned char)*at < 0x80 ? at : "?", 1);
  json_t *value = hfb_strbuf_status(&copy) == HFB_OK ? json_string(hfb_strbuf_text(&copy)) : NULL;
  hfb_strbuf_deinit(&copy);
  return value;
}

void hfb_row_text(hfb_row *row, hfb_column column, const char *text) {
  assert(columns[column].kind == HFB_COLUMN_TEXT);
  json_t *value = text ? json_string(text) : NULL;
  if (text && !value) value = text_without_bad_bytes(text);
  set(row, column, value);
}

void hfb_row_int(hfb_row *row, hfb_column column, int64_t value) {
  assert(columns[column].kind == HFB_COLUMN_INT);
  set(row, column, json_integer(value));
}

void hfb_row_real(hfb_row *row, hfb_column column, double value) {
  assert(columns[column].kind == HFB_COLUMN_REAL);
  set(row, column, isfinite(value) ? json_real(value) : NULL);
}

void hfb_row_pair(hfb_row *row, hfb_column column, double low, double high) {
  assert(columns[column].kind == HFB_COLUMN_PAIR);
  set(row, column, isfinite(low) && isfinite(high) ? json_pack("[ff]", low, high) : NULL);
}

void hfb_row_json(hfb_row *row, hfb_column column, json_t *value) {
  assert(columns[column].kind == HFB_COLUMN_JSON);
  set(row, column, value);
}

bool hfb_row_has(const hfb_row *row, hfb_column column) { return get(row, column) != NULL; }

const char *hfb_row_get_text(const hfb_row *row, hfb_column column) { return json_string_value(get(row, column)); }

int64_t hfb_row_get_int(const hfb_row *row, hfb_column column) { return json_integer_value(get(row, column)); }

double hfb_row_get_real(const hfb_row *row, hfb_column column) {
  const json_t *value = get(row, column);
  return json_is_number(value) ? json_number_value(value) : NAN;
}

bool hfb_row_get_pair(const hfb_row *row, hfb_column column, double *out_low, double *out_high) {
  const json_t *value = get(row, column);
  *out_low = *out_high = NAN;
  if (json_array_size(value) != 2) return false;
  *out_low = json_number_value(json_array_get(value, 0));
  *out_high = json_number_value(json_array_get(value, 1));
  return true;
}

json_t *hfb_row_export(const hfb_row *row, unsigned phases) {
  json_t *object = json_object();
  for (int i = 0; i < HFB_COLUMN_COUNT && object; i++) {
    if (columns[i].phase != HFB_PHASE_ANY && !(columns[i].phase & phases)) continue;
    json_t *value = get(row, (hfb_column)i);
    int failed = json_object_set_new(object, columns[i].name, value ? json_incref(value) : json_null());
    if (failed) {
      json_decref(object);
      object = NULL;
    }
  }
  return object;
}

static bool kind_fits(hfb_column_kind kind, const json_t *value) {
  switch (kind) {
    case HFB_COLUMN_TEXT: return json_is_string(value);
    case HFB_COLUMN_INT: return json_is_integer(value);
    case HFB_COLUMN_REAL: return json_is_number(value);
    case HFB_COLUMN_PAIR:
      return json_array_size(value) == 2 && json_is_number(json_array_get(value, 0)) &&
             json_is_number(json_array_get(value, 1));
    case HFB_COLUMN_JSON: return value != NULL;
  }
  return false;
}

void hfb_row_merge(hfb_row *row, const json_t *update) {
  for (int i = 0; i < HFB_COLUMN_COUNT; i++) {
    json_t *value = json_object_get(update, columns[i].name);
    if (kind_fits(columns[i].kind, value)) json_object_set(row->object, columns[i].name, value);
  }
}
