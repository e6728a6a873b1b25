/* A growing string. Errors are sticky: append freely, then check once with hfb_strbuf_status. */
#ifndef HFB_BASE_STRBUF_H
#define HFB_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef struct hfb_strbuf {
  char *data; /* always NUL-terminated once something was appended; owned */
  size_t length;
  size_t capacity;
  hfb_status status;
} hfb_strbuf;

void hfb_strbuf_init(hfb_strbuf *buffer);
void hfb_strbuf_deinit(hfb_strbuf *buffer);
void hfb_strbuf_append(hfb_strbuf *buffer, const char *text);
void hfb_strbuf_append_bytes(hfb_strbuf *buffer, const char *bytes, size_t count);
void hfb_strbuf_printf(hfb_strbuf *buffer, const char *format, ...) HFB_PRINTF(2, 3);
/* "" when empty; valid until the next append. */
const char *hfb_strbuf_text(const hfb_strbuf *buffer);
hfb_status hfb_strbuf_status(const hfb_strbuf *buffer) HFB_MUST_USE;
void hfb_strbuf_clear(hfb_strbuf *buffer);

#endif
