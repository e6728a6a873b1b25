/* Status messages, strings, nearest names, log lines. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/status.h"
#include "base/str.h"
#include "base/strbuf.h"

static void test_status_names_are_distinct(void **state) {
  (void)state;
  for (int a = 0; a < HFB_STATUS_COUNT; a++) {
    assert_true(strlen(hfb_status_name((hfb_status)a)) > 0);
    for (int b = 0; b < a; b++) {
      assert_string_not_equal(hfb_status_name((hfb_status)a), hfb_status_name((hfb_status)b));
    }
  }
  assert_string_equal(hfb_status_name(HFB_OUT_OF_MEMORY), "out_of_memory");
  assert_string_equal(hfb_status_name((hfb_status)999), "unknown_status");
}

static hfb_status fail_below(int value) {
  if (value < 0) return HFB_FAIL(HFB_INVALID_ARGUMENT, "value %d is negative", value);
  return HFB_OK;
}

static hfb_status pass_up(int value) {
  HFB_TRY(fail_below(value));
  return HFB_OK;
}

static void test_messages_gather_context(void **state) {
  (void)state;
  hfb_error_clear();
  assert_string_equal(hfb_error_message(), "");
  assert_int_equal(pass_up(3), HFB_OK);
  assert_string_equal(hfb_error_message(), "");
  assert_int_equal(pass_up(-3), HFB_INVALID_ARGUMENT);
  assert_string_equal(hfb_error_message(), "value -3 is negative");
  hfb_error_prefix("model %s", "Bert");
  assert_string_equal(hfb_error_message(), "model Bert: value -3 is negative");
  assert_int_equal(strncmp(hfb_error_location(), "test_base_text.c:", 17), 0);
  /* The old message as an argument of the new one. */
  (void)HFB_FAIL(HFB_IO, "[%s] and [%s]", hfb_error_message(), hfb_error_message());
  assert_string_equal(hfb_error_message(), "[model Bert: value -3 is negative] and [model Bert: value -3 is negative]");
}

static void test_messages_are_one_bounded_line(void **state) {
  (void)state;
  static char text[5000];
  memset(text, 'x', sizeof(text) - 1);
  text[10] = '\n';
  text[11] = '\x1b';
  (void)HFB_FAIL(HFB_CORRUPT, "%s", text);
  size_t length = strlen(hfb_error_message());
  assert_in_range(length, 100, 2000);
  assert_null(strpbrk(hfb_error_message(), "\n\x1b"));
  for (int i = 0; i < 50; i++) hfb_error_prefix("context number %d", i);
  assert_int_equal(strlen(hfb_error_message()), length);
  assert_int_equal(strncmp(hfb_error_message(), "context number 49: context number 48: ", 38), 0);
  hfb_error_prefix("%s", text);
  assert_int_equal(strlen(hfb_error_message()), length);
}

static void *fail_on_thread(void *argument) {
  (void)argument;
  (void)HFB_FAIL(HFB_IO, "another thread");
  return NULL;
}

static void test_messages_belong_to_a_thread(void **state) {
  (void)state;
  (void)HFB_FAIL(HFB_IO, "this thread");
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, fail_on_thread, NULL), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_string_equal(hfb_error_message(), "this thread");
}

static void test_strbuf_grows(void **state) {
  (void)state;
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  assert_string_equal(hfb_strbuf_text(&text), "");
  hfb_strbuf_append(&text, "");
  assert_string_equal(hfb_strbuf_text(&text), "");
  static char expected[200000];
  size_t length = 0;
  for (int i = 0; i < 5000; i++) {
    hfb_strbuf_printf(&text, "%d:%0*d ", i, i % 120 + 1, i);
    length += (size_t)snprintf(expected + length, sizeof(expected) - length, "%d:%0*d ", i, i % 120 + 1, i);
    if (length > sizeof(expected) - 500) break;
  }
  assert_int_equal(hfb_strbuf_status(&text), HFB_OK);
  assert_int_equal(text.length, length);
  assert_string_equal(hfb_strbuf_text(&text), expected);
  hfb_strbuf_clear(&text);
  assert_string_equal(hfb_strbuf_text(&text), "");
  hfb_strbuf_append_bytes(&text, "a\0b", 3);
  assert_int_equal(text.length, 3);
  assert_memory_equal(text.data, "a\0b", 4);
  hfb_strbuf_deinit(&text);
  assert_null(text.data);
}

static void test_distance(void **state) {
  (void)state;
  static const struct {
    const char *a, *b;
    size_t expected;
  } cases[] = {
      {"", "", 0},           {"", "abc", 3},          {"kitten", "sitting", 3},     {"BERT", "bert", 0},
      {"ab", "ba", 1},       {"GPT2", "GTP2", 1},     {"T5Small", "T5Smal", 1},     {"flaw", "lawn", 2},
      {"abcdef", "fedcba", 5},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    assert_int_equal(hfb_str_distance(cases[i].a, cases[i].b), cases[i].expected);
    assert_int_equal(hfb_str_distance(cases[i].b, cases[i].a), cases[i].expected);
  }
  static char longest[1000];
  memset(longest, 'a', sizeof(longest) - 1);
  assert_int_equal(hfb_str_distance(longest, ""), 255);
}

static const char *name_at(void *context, size_t index) { return ((const char *const *)context)[index]; }

static void test_nearest_names(void **state) {
  (void)state;
  static const char *const names[] = {"BertForMaskedLM",       "RobertaForCausalLM", "T5Small",
                                      "BertForQuestionAnswering", "DistillGPT2",     "GoogleFnet"};
  size_t found[3];
  assert_int_equal(hfb_str_nearest("BertForMaskedML", name_at, (void *)names, 6, 3, found), 1);
  assert_int_equal(found[0], 0);
  assert_int_equal(hfb_str_nearest("bert", name_at, (void *)names, 6, 3, found), 3);
  assert_int_equal(found[0], 0); /* the shortest of those that contain it */
  assert_int_equal(found[1], 1);
  assert_int_equal(found[2], 3);
  assert_int_equal(hfb_str_nearest("bert", name_at, (void *)names, 6, 1, found), 1);
  assert_int_equal(found[0], 0);
  assert_int_equal(hfb_str_nearest("T5Smal", name_at, (void *)names, 6, 3, found), 1);
  assert_int_equal(found[0], 2);
  assert_int_equal(hfb_str_nearest("zzzzzz", name_at, (void *)names, 6, 3, found), 0);
  assert_int_equal(hfb_str_nearest("bert", name_at, (void *)names, 6, 0, found), 0);
}

/* Sends stderr to a file while three lines are logged. */
static void test_log_levels(void **state) {
  (void)state;
  FILE *captured = tmpfile();
  assert_non_null(captured);
  fflush(stderr);
  int saved = dup(STDERR_FILENO);
  dup2(fileno(captured), STDERR_FILENO);
  hfb_log(HFB_LOG_WARNING, "low %d", 1);
  hfb_log(HFB_LOG_INFO, "not shown");
  hfb_log_set_level(HFB_LOG_INFO);
  hfb_log(HFB_LOG_INFO, "shown");
  hfb_log(HFB_LOG_INFO, "%5000d", 1);
  hfb_log_set_level(HFB_LOG_WARNING);
  fflush(stderr);
  dup2(saved, STDERR_FILENO);
  close(saved);
  char text[4096] = {0};
  rewind(captured);
  size_t length = fread(text, 1, sizeof(text) - 1, captured);
  fclose(captured);
  assert_int_equal(strncmp(text, "warning: low 1\nshown\n  ", 23), 0);
  assert_int_equal(text[length - 1], '\n');
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_status_names_are_distinct),
      cmocka_unit_test(test_messages_gather_context),
      cmocka_unit_test(test_messages_are_one_bounded_line),
      cmocka_unit_test(test_messages_belong_to_a_thread),
      cmocka_unit_test(test_strbuf_grows),
      cmocka_unit_test(test_distance),
      cmocka_unit_test(test_nearest_names),
      cmocka_unit_test(test_log_levels),
  };
  return cmocka_run_group_tests_name("base_text", tests, NULL, NULL);
}
