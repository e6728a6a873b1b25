/* JSON from files that nobody vouches for: nesting and size are bounded before the parser builds anything, because its
 * tree takes some fifty times the bytes of the text. */
#ifndef HFB_IO_JSON_H
#define HFB_IO_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

typedef struct hfb_json_limits {
  int depth;     /* of nested objects and arrays */
  size_t values; /* in all of them together */
} hfb_json_limits;

/* An object, without duplicate keys. `what` names the text in messages. Owned: json_decref. */
hfb_status hfb_json_parse_object(const char *what, const char *text, size_t bytes, hfb_json_limits limits,
                                 json_t **out_object) HFB_MUST_USE;

#endif
