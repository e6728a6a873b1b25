/* Status values and the error message of the current thread.
 *
 * Every fallible function returns an hfb_status that must be looked at. The first function that fails
 * records one line of text ("what was wrong, with which value, what to do") for its thread with HFB_FAIL;
 * callers pass the status up with HFB_TRY and may put context in front with hfb_error_prefix. Nothing is
 * allocated, so nothing can leak and an out-of-memory error can always be reported. */
#ifndef HFB_BASE_STATUS_H
#define HFB_BASE_STATUS_H

typedef enum hfb_status {
#define HFB_STATUS(id, name, meaning) HFB_##id,
#include "base/status.def"
#undef HFB_STATUS
  HFB_STATUS_COUNT
} hfb_status;

#define HFB_MUST_USE __attribute__((warn_unused_result))
#define HFB_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))

/* Records the message of this thread; called by HFB_FAIL. */
void hfb_fail_at(const char *file, int line, const char *format, ...) HFB_PRINTF(3, 4);

/* Records a message and has the value `status`: visible in the macro, so that the compiler knows it is not HFB_OK. */
#define HFB_FAIL(status, ...) (hfb_fail_at(__FILE__, __LINE__, __VA_ARGS__), (status))

/* Returns from the calling function when `expr` is not HFB_OK. */
#define HFB_TRY(expr)                        \
  do {                                       \
    hfb_status hfb_try_status_ = (expr);     \
    if (hfb_try_status_ != HFB_OK) return hfb_try_status_; \
  } while (0)

/* "out_of_memory", never NULL. */
const char *hfb_status_name(hfb_status status);

/* The last message recorded on this thread, "" if none; valid until the next failure on this thread. */
const char *hfb_error_message(void);

/* "file.c:123" of the last failure, for logs. */
const char *hfb_error_location(void);

/* Puts "context: " in front of the recorded message. */
void hfb_error_prefix(const char *format, ...) HFB_PRINTF(1, 2);

void hfb_error_clear(void);

#endif
