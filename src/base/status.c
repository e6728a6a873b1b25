#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024, LOCATION_BYTES = 96 };

static _Thread_local char error_message[MESSAGE_BYTES];
static _Thread_local char error_location[LOCATION_BYTES];

static const char *const status_names[HFB_STATUS_COUNT] = {
#define HFB_STATUS(id, name, meaning) [HFB_##id] = name,
#include "base/status.def"
#undef HFB_STATUS
};

/* A message is one line: a newline in a value (a file name, a compiler's output) would break rows and logs. */
static void replace_control_characters(char *text) {
  for (; *text; text++) {
    if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = ' ';
  }
}

/* Appends what fits; returns the new length. */
static size_t append_text(char text[MESSAGE_BYTES], size_t used, const char *more) {
  size_t length = strnlen(more, MESSAGE_BYTES - 1 - used);
  memcpy(text + used, more, length);
  text[used + length] = '\0';
  return used + length;
}

void hfb_fail_at(const char *file, int line, const char *format, ...) {
  /* Formatted apart, because an argument may be the message recorded before. */
  char text[MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  replace_control_characters(text);
  memcpy(error_message, text, strlen(text) + 1);
  const char *slash = strrchr(file, '/');
  snprintf(error_location, sizeof(error_location), "%s:%d", slash ? slash + 1 : file, line);
}

const char *hfb_status_name(hfb_status status) {
  /* Through unsigned: whether the enum type is signed is the compiler's choice. */
  return (unsigned)status < HFB_STATUS_COUNT ? status_names[status] : "unknown_status";
}

const char *hfb_error_message(void) { return error_message; }

const char *hfb_error_location(void) { return error_location; }

void hfb_error_prefix(const char *format, ...) {
  char text[MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  if (length < 0) return;
  size_t used = (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1;
  /* Truncation of an over-long message is intended, so no printf here: compilers warn of it. */
  used = append_text(text, used, ": ");
  append_text(text, used, error_message);
  replace_control_characters(text);
  memcpy(error_message, text, strlen(text) + 1);
}

void hfb_error_clear(void) {
  error_message[0] = '\0';
  error_location[0] = '\0';
}
