#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#include "bench/engine.h"

enum { LABEL_WIDTH = 30, TEXT_WIDTH = 84 };

/* Words of `value` in lines of TEXT_WIDTH, the first line going on after a label, the others indented below it. */
static void append_wrapped(hfb_strbuf *text, const char *value) {
  size_t column = 0;
  for (const char *at = value; *at;) {
    size_t length = strcspn(at, " ");
    if (column > 0 && column + 1 + length > TEXT_WIDTH) {
      hfb_strbuf_printf(text, "\n%*s", LABEL_WIDTH, "");
      column = 0;
    } else if (column > 0) {
      hfb_strbuf_append(text, " ");
      column++;
    }
    hfb_strbuf_append_bytes(text, at, length);
    column += length;
    at += length;
    while (*at == ' ') at++;
  }
  hfb_strbuf_append(text, "\n");
}

static void append_labelled(hfb_strbuf *text, const char *label, const char *value) {
  hfb_strbuf_printf(text, "%-*s", LABEL_WIDTH, label);
  if (strlen(label) >= LABEL_WIDTH) hfb_strbuf_printf(text, "\n%*s", LABEL_WIDTH, "");
  append_wrapped(text, value);
}

/* What follows the help of an option: its default and its domain, where these say something. */
static void describe_values(const hfb_option *option, hfb_strbuf *text) {
  if (option->kind == HFB_OPTION_CHOICE) hfb_strbuf_printf(text, " (%s)", option->domain);
  if (option->fallback) hfb_strbuf_printf(text, " [%s]", option->fallback);
}

static void append_option(hfb_strbuf *text, const hfb_option *option) {
  char label[64], letter[8] = "    ";
  if (option->letter) snprintf(letter, sizeof(letter), "-%c, ", option->letter);
  snprintf(label, sizeof(label), "  %s--%s%s%s", letter, option->name, option->argument ? " " : "",
           option->argument ? option->argument : "");
  hfb_strbuf value;
  hfb_strbuf_init(&value);
  hfb_strbuf_append(&value, option->help);
  describe_values(option, &value);
  append_labelled(text, label, hfb_strbuf_text(&value));
  hfb_strbuf_deinit(&value);
}

void hfb_help_program(hfb_strbuf *text) {
  hfb_strbuf_append(
      text,
      "hfbench: transformer models of the Hugging Face benchmark suite on this machine: are engines right, "
      "and how fast?\n\n"
      "usage: hfbench COMMAND [options]\n\n");
  for (int i = 0; i < HFB_COMMAND_COUNT; i++) {
    const hfb_command *command = hfb_command_at((hfb_command_id)i);
    char label[64];
    snprintf(label, sizeof(label), "  %s %s", command->name, command->positional);
    append_labelled(text, label, command->summary);
  }
  hfb_strbuf_append(text,
                    "\nhfbench COMMAND --help lists the options of a command; hfbench --version tells the version.\n");
}

static bool takes_backend(hfb_command_id id) {
  unsigned commands = hfb_option_at(HFB_OPT_BACKEND)->commands | hfb_option_at(HFB_OPT_VERIFY_BACKEND)->commands;
  return commands & 1u << id;
}

void hfb_help_command(hfb_strbuf *text, hfb_command_id id) {
  const hfb_command *command = hfb_command_at(id);
  hfb_strbuf_printf(text, "usage: hfbench %s%s%s [options]\n\n%s\n\n", command->name, command->positional[0] ? " " : "",
                    command->positional, command->summary);
  for (int i = 0; i < HFB_OPT_COUNT; i++) {
    const hfb_option *option = hfb_option_at((hfb_option_id)i);
    if (option->commands & 1u << id) append_option(text, option);
  }
  if (!takes_backend(id)) return;
  hfb_strbuf_append(text, "\nbackends\n");
  for (int i = 0; i < hfb_engine_count(); i++) {
    char label[64];
    snprintf(label, sizeof(label), "  %s", hfb_engine_at(i)->name);
    append_labelled(text, label, hfb_engine_at(i)->help);
  }
}

static void append_markdown_option(hfb_strbuf *text, const hfb_option *option) {
  hfb_strbuf_append(text, "| `");
  if (option->letter) hfb_strbuf_printf(text, "-%c`, `", option->letter);
  hfb_strbuf_printf(text, "--%s%s%s` | %s | ", option->name, option->argument ? " " : "",
                    option->argument ? option->argument : "", option->fallback ? option->fallback : "");
  for (const char *at = option->help; *at; at++) {
    if (*at == '|') hfb_strbuf_append(text, "\\");
    hfb_strbuf_append_bytes(text, at, 1);
  }
  if (option->domain && option->kind == HFB_OPTION_CHOICE) {
    hfb_strbuf_append(text, "; one of");
    for (const char *at = option->domain; *at;) {
      size_t length = strcspn(at, "|");
      hfb_strbuf_printf(text, " `%.*s`", (int)length, at);
      at += length + (at[length] == '|');
    }
  } else if (option->domain) {
    hfb_strbuf_printf(text, "; %s", option->domain);
  }
  hfb_strbuf_append(text, " |\n");
}

static void append_markdown_backends(hfb_strbuf *text) {
  hfb_strbuf_append(text, "\n| backend | what it is |\n|---|---|\n");
  for (int i = 0; i < hfb_engine_count(); i++) {
    const hfb_engine *engine = hfb_engine_at(i);
    hfb_strbuf_printf(text, "| `%s` | %s |\n", engine->name, engine->help);
  }
}

void hfb_help_markdown(hfb_strbuf *text) {
  hfb_strbuf_append(
      text,
      "# Usage\n\nThe script `./hfbench` at the root builds what is out of date and passes its arguments to "
      "the program. This page is\nmade from the tables of options and commands; a test compares it with "
      "them.\n\nA long option takes its value as `--name value` or `--name=value`, a short one as `-n 30` or "
      "`-n30`. Exit codes: 0 success,\n1 something failed or did not pass, 2 the command line is wrong, 130 "
      "interrupted.\n");
  for (int i = 0; i < HFB_COMMAND_COUNT; i++) {
    const hfb_command *command = hfb_command_at((hfb_command_id)i);
    hfb_strbuf_printf(text, "\n## hfbench %s%s%s\n\n%s.\n", command->name, command->positional[0] ? " " : "",
                      command->positional, command->summary);
    if (!command->run) continue;
    hfb_strbuf_append(text, "\n| option | default | meaning |\n|---|---|---|\n");
    for (int o = 0; o < HFB_OPT_COUNT; o++) {
      const hfb_option *option = hfb_option_at((hfb_option_id)o);
      if (option->commands & 1u << i) append_markdown_option(text, option);
    }
    if (takes_backend((hfb_command_id)i)) append_markdown_backends(text);
  }
}
