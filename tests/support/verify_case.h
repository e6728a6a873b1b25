/* Copies of golden cases that a test may spoil, and what verify must say of them. */
#ifndef HFB_TESTS_SUPPORT_VERIFY_CASE_H
#define HFB_TESTS_SUPPORT_VERIFY_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/verify.h"
#include "support/scratch.h"

static inline scratch copy_of_case(const char *folder) {
  scratch s = scratch_create();
  static const char *const files[] = {"config.json", "model.safetensors", "inputs.safetensors", "expected.safetensors"};
  for (int i = 0; i < 4; i++) scratch_copy(&s, files[i], folder);
  return s;
}

/* The verdict on a spoilt case, whose reason is one line that holds `text`; removes the case. */
static inline void assert_case_verdict(const hfb_verify_options *options, const scratch *s, hfb_verdict verdict,
                                       const char *text) {
  hfb_verify_result result;
  hfb_verify_case(options, s->folder, &result);
  if (result.verdict != verdict || !strstr(result.reason, text)) {
    fail_msg("%s '%s' instead of %s '%s'", hfb_verdict_name(result.verdict), result.reason, hfb_verdict_name(verdict),
             text);
  }
  assert_null(strchr(result.reason, '\n'));
  hfb_verify_result_deinit(&result);
  scratch_destroy(s);
}

/* One element of a stored weight becomes nan. */
static inline void spoil_with_nan(const scratch *s, const char *folder, const char *name) {
  tensor_list list = tensor_list_read(folder, "model.safetensors");
  hfb_stored_tensor *tensor = tensor_list_find(&list, name);
  float *changed = malloc(tensor->bytes);
  assert_non_null(changed);
  memcpy(changed, tensor->data, tensor->bytes);
  changed[5] = NAN;
  tensor->data = (const unsigned char *)changed;
  tensor_list_write(&list, scratch_path(s, "model.safetensors"));
  free(changed);
}

#endif
