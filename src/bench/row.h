/* A result row: the fields of columns.def, each set or missing. */
#ifndef HFB_BENCH_ROW_H
#define HFB_BENCH_ROW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef enum hfb_column {
#define HFB_COLUMN(id, name, csv_name, kind, phase, missing, meaning) HFB_COLUMN_##id,
#include "bench/columns.def"
#undef HFB_COLUMN
  HFB_COLUMN_COUNT
} hfb_column;

typedef enum hfb_column_kind {
  HFB_COLUMN_TEXT,
  HFB_COLUMN_INT,
  HFB_COLUMN_REAL,
  HFB_COLUMN_PAIR, /* two reals */
  HFB_COLUMN_JSON
} hfb_column_kind;

/* The parts of a run, as bits; ANY belongs to all. */
enum { HFB_PHASE_ANY = 0, HFB_PHASE_ACCURACY = 1 << 0, HFB_PHASE_PERFORMANCE = 1 << 1 };

typedef struct hfb_column_info {
  const char *name, *csv_name;
  hfb_column_kind kind;
  unsigned phase;
  const char *missing;
  const char *meaning;
} hfb_column_info;

const hfb_column_info *hfb_column_info_of(hfb_column column);

typedef struct hfb_row {
  json_t *object; /* owned; holds only fields that are set, by their names */
} hfb_row;

hfb_status hfb_row_init(hfb_row *row) HFB_MUST_USE;
void hfb_row_deinit(hfb_row *row); /* a cleared struct is allowed */

/* Setters replace. The kind must fit (assert). A number that is not finite, or a NULL text, clears the field. Text that
 * is not UTF-8 is kept with '?' in place of the bytes that are not. Running out of memory leaves the field missing. */
void hfb_row_text(hfb_row *row, hfb_column column, const char *text);
void hfb_row_int(hfb_row *row, hfb_column column, int64_t value);
void hfb_row_real(hfb_row *row, hfb_column column, double value);
void hfb_row_pair(hfb_row *row, hfb_column column, double low, double high);
void hfb_row_json(hfb_row *row, hfb_column column, json_t *value); /* takes the reference */

bool hfb_row_has(const hfb_row *row, hfb_column column);
const char *hfb_row_get_text(const hfb_row *row, hfb_column column); /* NULL when missing */
int64_t hfb_row_get_int(const hfb_row *row, hfb_column column);      /* 0 when missing */
double hfb_row_get_real(const hfb_row *row, hfb_column column);      /* of INT or REAL; NaN when missing */
bool hfb_row_get_pair(const hfb_row *row, hfb_column column, double *out_low, double *out_high);

/* The fields as an object in table order, missing ones as null; new reference, NULL when out of memory. Fields of
 * phases that are not in `phases` are left out. */
json_t *hfb_row_export(const hfb_row *row, unsigned phases);

/* Takes over every known field of `update` (what a child process sends). Unknown names and kinds that do not fit are
 * ignored: the row stays well-formed whatever comes. */
void hfb_row_merge(hfb_row *row, const json_t *update);

#endif
