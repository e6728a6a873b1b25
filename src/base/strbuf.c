#include "base/strbuf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

void hfb_strbuf_init(hfb_strbuf *buffer) { *buffer = (hfb_strbuf){.status = HFB_OK}; }

void hfb_strbuf_deinit(hfb_strbuf *buffer) {
  hfb_mem_free(buffer->data);
  hfb_strbuf_init(buffer);
}

/* Room for `count` more characters and the NUL. */
static bool make_room(hfb_strbuf *buffer, size_t count) {
  if (buffer->status != HFB_OK) return false;
  if (count > SIZE_MAX / 4 - buffer->length) {
    buffer->status = HFB_FAIL(HFB_OUT_OF_MEMORY, "out of memory: a text of more than %zu bytes", SIZE_MAX / 4);
    return false;
  }
  size_t needed = buffer->length + count + 1;
  if (needed <= buffer->capacity) return true;
  size_t capacity = buffer->capacity ? buffer->capacity : 64;
  while (capacity < needed) capacity *= 2;
  buffer->status = hfb_mem_grow(&buffer->data, capacity, 1);
  if (buffer->status != HFB_OK) return false;
  buffer->capacity = capacity;
  return true;
}

void hfb_strbuf_append(hfb_strbuf *buffer, const char *text) { hfb_strbuf_append_bytes(buffer, text, strlen(text)); }

void hfb_strbuf_append_bytes(hfb_strbuf *buffer, const char *bytes, size_t count) {
  if (!make_room(buffer, count)) return;
  if (count > 0) memcpy(buffer->data + buffer->length, bytes, count);
  buffer->length += count;
  buffer->data[buffer->length] = '\0';
}

void hfb_strbuf_printf(hfb_strbuf *buffer, const char *format, ...) {
  if (!make_room(buffer, 0)) return;
  size_t room = buffer->capacity - buffer->length;
  va_list args;
  va_start(args, format);
  int length = vsnprintf(buffer->data + buffer->length, room, format, args);
  va_end(args);
  if (length < 0) {
    buffer->data[buffer->length] = '\0';
    buffer->status = HFB_FAIL(HFB_INTERNAL, "the format \"%s\" cannot be printed", format);
    return;
  }
  if ((size_t)length >= room) {
    buffer->data[buffer->length] = '\0'; /* what was cut off is printed again in full, or not at all */
    if (!make_room(buffer, (size_t)length)) return;
    va_start(args, format);
    vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, args);
    va_end(args);
  }
  buffer->length += (size_t)length;
}

const char *hfb_strbuf_text(const hfb_strbuf *buffer) { return buffer->length > 0 ? buffer->data : ""; }

hfb_status hfb_strbuf_status(const hfb_strbuf *buffer) { return buffer->status; }

void hfb_strbuf_clear(hfb_strbuf *buffer) {
  buffer->length = 0;
  buffer->status = HFB_OK;
  if (buffer->data) buffer->data[0] = '\0';
}
