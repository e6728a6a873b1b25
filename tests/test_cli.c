/* The command line: parsing, the tables behind it, and the page that is made from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/args.h"
#include "cli/help.h"
#include "compile/native.h"

/* Arguments end with NULL. */
static hfb_status parse(hfb_command_id command, hfb_args **args, ...) {
  static char *argv[16];
  int argc = 0;
  va_list list;
  va_start(list, args);
  for (char *word; argc < 16 && (word = va_arg(list, char *)) != NULL;) argv[argc++] = word;
  va_end(list);
  *args = NULL;
  return hfb_args_parse(command, argc, argv, args);
}

static void test_values(void **state) {
  (void)state;
  hfb_args *args;
  assert_int_equal(parse(HFB_COMMAND_RUN, &args, NULL), HFB_OK);
  assert_int_equal(hfb_args_int(args, HFB_OPT_REPEAT), 30);
  assert_false(hfb_args_given(args, HFB_OPT_REPEAT));
  assert_null(hfb_args_text(args, HFB_OPT_OUTPUT));
  assert_int_equal(hfb_args_int(args, HFB_OPT_BATCH_SIZE), 0);
  hfb_args_destroy(args);

  assert_int_equal(
      parse(HFB_COMMAND_RUN, &args, "--repeat", "7", "--timeout=2.5", "-t4", "-b", "2", "--accuracy", NULL), HFB_OK);
  assert_int_equal(hfb_args_int(args, HFB_OPT_REPEAT), 7);
  assert_true(hfb_args_real(args, HFB_OPT_TIMEOUT) == 2.5);
  assert_int_equal(hfb_args_int(args, HFB_OPT_THREADS), 4);
  assert_int_equal(hfb_args_int(args, HFB_OPT_BATCH_SIZE), 2);
  assert_true(hfb_args_flag(args, HFB_OPT_ACCURACY) && !hfb_args_flag(args, HFB_OPT_PERFORMANCE));
  hfb_args_destroy(args);
}

static void test_repeated_values(void **state) {
  (void)state;
  hfb_args *args;
  assert_int_equal(parse(HFB_COMMAND_RUN, &args, "-k", "Bert", "--filter=^T5", "-n", "3", "-n", "4", NULL), HFB_OK);
  assert_int_equal(hfb_args_count(args, HFB_OPT_FILTER), 2);
  assert_string_equal(hfb_args_at(args, HFB_OPT_FILTER, 0), "Bert");
  assert_string_equal(hfb_args_all(args, HFB_OPT_FILTER)[1], "^T5");
  assert_int_equal(hfb_args_int(args, HFB_OPT_REPEAT), 4); /* the last one counts */
  hfb_args_destroy(args);
}

static void test_positionals(void **state) {
  (void)state;
  hfb_args *args;
  assert_int_equal(parse(HFB_COMMAND_VERIFY, &args, "a", "--tol", "1e-3", "--", "--b", "-", NULL), HFB_OK);
  assert_int_equal(hfb_args_positional_count(args), 3);
  assert_string_equal(hfb_args_positional(args, 1), "--b");
  assert_string_equal(hfb_args_positional(args, 2), "-");
  hfb_args_destroy(args);
  assert_int_equal(parse(HFB_COMMAND_SHOW, &args, "--help", "--nonsense", NULL),
                   HFB_OK); /* nothing after help matters */
  hfb_args_destroy(args);
}

/* Arguments end with NULL. */
static void refuse(const char *part, hfb_command_id command, ...) {
  char *argv[16];
  int argc = 0;
  hfb_args *args = NULL;
  va_list list;
  va_start(list, command);
  for (char *word; argc < 16 && (word = va_arg(list, char *)) != NULL;) argv[argc++] = word;
  va_end(list);
  assert_int_equal(hfb_args_parse(command, argc, argv, &args), HFB_INVALID_ARGUMENT);
  assert_null(args);
  const char *message = hfb_error_message();
  if (!strstr(message, part) || strchr(message, '\n')) fail_msg("'%s' should contain '%s', on one line", message, part);
}

static void test_refused(void **state) {
  (void)state;
  refuse("did you mean --repeat", HFB_COMMAND_RUN, "--repaet", "3", NULL);
  refuse("unknown option --repeat", HFB_COMMAND_LIST, "--repeat", "3", NULL);
  refuse("unknown option -Z", HFB_COMMAND_RUN, "-Z", NULL);
  refuse("needs a value", HFB_COMMAND_RUN, "--repeat", NULL);
  refuse("from 2", HFB_COMMAND_RUN, "--repeat", "1", NULL);
  refuse("'x'", HFB_COMMAND_RUN, "--repeat=x", NULL);
  refuse("empty", HFB_COMMAND_RUN, "--repeat=", NULL);
  refuse("whole number", HFB_COMMAND_RUN, "--repeat", "3x", NULL);
  refuse("whole number", HFB_COMMAND_RUN, "--repeat", "99999999999999999999", NULL);
  refuse("number from", HFB_COMMAND_RUN, "--timeout", "nan", NULL);
  refuse("f32|f64", HFB_COMMAND_RUN, "--precision", "f", NULL);
  refuse("f32|f64", HFB_COMMAND_RUN, "--precision", "f32|f64", NULL);
  refuse("takes no value", HFB_COMMAND_RUN, "--accuracy=1", NULL);
  refuse("exclude each other", HFB_COMMAND_RUN, "--accuracy", "--performance", NULL);
  refuse("regular expression", HFB_COMMAND_RUN, "-k", "(", NULL);
  refuse("one argument too many", HFB_COMMAND_RUN, "Bert", NULL);
  refuse("needs MODEL", HFB_COMMAND_SHOW, NULL);
  refuse("needs DIR", HFB_COMMAND_VERIFY, NULL);
}

/* ---- The tables ---- */

static void test_option_table(void **state) {
  (void)state;
  for (int i = 0; i < HFB_OPT_COUNT; i++) {
    const hfb_option *a = hfb_option_at((hfb_option_id)i);
    assert_true((a->argument == NULL) == (a->kind == HFB_OPTION_FLAG));
    assert_true(a->commands != 0 && a->help[0] != '\0');
    if (a->kind == HFB_OPTION_INT || a->kind == HFB_OPTION_REAL || a->kind == HFB_OPTION_CHOICE)
      assert_non_null(a->domain);
    for (int j = 0; j < i; j++) {
      const hfb_option *b = hfb_option_at((hfb_option_id)j);
      if (!(a->commands & b->commands)) continue;
      if (strcmp(a->name, b->name) == 0) fail_msg("two options are called --%s", a->name);
      if (a->letter && a->letter == b->letter) fail_msg("--%s and --%s share -%c", a->name, b->name, a->letter);
    }
  }
}

/* A default must be a value that the option takes. */
static void test_defaults_are_valid(void **state) {
  (void)state;
  for (int i = 0; i < HFB_OPT_COUNT; i++) {
    const hfb_option *option = hfb_option_at((hfb_option_id)i);
    for (int c = 0; c < HFB_COMMAND_COUNT && option->fallback; c++) {
      if (!(option->commands & 1u << c)) continue;
      char text[128];
      snprintf(text, sizeof(text), "--%s=%s", option->name, option->fallback);
      hfb_args *args;
      hfb_status status = hfb_command_at((hfb_command_id)c)->min_count > 0
                              ? parse((hfb_command_id)c, &args, text, "X", NULL)
                              : parse((hfb_command_id)c, &args, text, NULL);
      if (status != HFB_OK) fail_msg("%s: %s", text, hfb_error_message());
      hfb_args_destroy(args);
    }
  }
}

static void test_help(void **state) {
  (void)state;
  for (int c = 0; c < HFB_COMMAND_COUNT; c++) {
    hfb_strbuf text;
    hfb_strbuf_init(&text);
    hfb_help_command(&text, (hfb_command_id)c);
    for (int i = 0; i < HFB_OPT_COUNT; i++) {
      const hfb_option *option = hfb_option_at((hfb_option_id)i);
      char label[64], long_label[64]; /* a long name has a line of its own */
      snprintf(label, sizeof(label), "--%s ", option->name);
      snprintf(long_label, sizeof(long_label), "--%s\n", option->name);
      bool belongs = option->commands & 1u << c, shown = strstr(hfb_strbuf_text(&text), label) != NULL ||
                                                         strstr(hfb_strbuf_text(&text), long_label) != NULL;
      if (belongs && !shown) fail_msg("help of %s lacks --%s", hfb_command_at((hfb_command_id)c)->name, option->name);
    }
    for (const char *line = hfb_strbuf_text(&text); *line; line += strcspn(line, "\n") + 1) {
      if (strcspn(line, "\n") > 120) fail_msg("a line of help is too long: %.60s", line);
    }
    hfb_strbuf_deinit(&text);
  }
}

/* The help of --dump names them by hand. */
static void test_help_names_the_passes(void **state) {
  (void)state;
  char text[256] = ": ";
  int count = 0;
  while (hfb_native_pass(count)) count++;
  for (int i = 0; i < count; i++) {
    size_t length = strlen(text);
    snprintf(text + length, sizeof(text) - length, "%s%s", i == 0 ? "" : i + 1 < count ? ", " : " or ",
             hfb_native_pass(i));
  }
  const char *help = strchr(hfb_option_at(HFB_OPT_DUMP)->help, ':');
  assert_non_null(help);
  assert_string_equal(help, text);
}

static void test_usage_page(void **state) {
  (void)state;
  static const char path[] = HFB_TEST_DATA "/../../docs/usage.md";
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_help_markdown(&text);
  assert_int_equal(hfb_strbuf_status(&text), HFB_OK);
  if (getenv("HFB_UPDATE_DOCS")) assert_int_equal(hfb_file_write_atomic(path, text.data, text.length), HFB_OK);
  char *page;
  size_t bytes;
  assert_int_equal(hfb_file_read(path, 1 << 20, &page, &bytes), HFB_OK);
  if (strcmp(page, hfb_strbuf_text(&text)) != 0)
    fail_msg("docs/usage.md is out of date: run this with HFB_UPDATE_DOCS=1");
  hfb_mem_free(page);
  hfb_strbuf_deinit(&text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values),  cmocka_unit_test(test_repeated_values), cmocka_unit_test(test_positionals),
      cmocka_unit_test(test_refused), cmocka_unit_test(test_option_table),    cmocka_unit_test(test_defaults_are_valid),
      cmocka_unit_test(test_help),    cmocka_unit_test(test_help_names_the_passes),
      cmocka_unit_test(test_usage_page),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
