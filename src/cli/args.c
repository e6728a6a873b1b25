#include "cli/args.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"

static const hfb_option options[HFB_OPT_COUNT] = {
#define HFB_OPTION(id, name, letter, argument, kind, fallback, domain, group, commands, help) \
  [HFB_OPT_##id] = {name, letter, argument, HFB_OPTION_##kind, fallback, domain, group, commands, help},
#include "cli/options.def"
#undef HFB_OPTION
};

static const hfb_command commands[HFB_COMMAND_COUNT] = {
#define HFB_COMMAND(id, name, positional, min_count, max_count, run, summary) \
  [HFB_COMMAND_##id] = {name, positional, min_count, max_count, run, summary},
#include "cli/commands.def"
#undef HFB_COMMAND
};

const hfb_option *hfb_option_at(hfb_option_id id) { return &options[id]; }
const hfb_command *hfb_command_at(hfb_command_id id) { return &commands[id]; }

struct hfb_args {
  hfb_command_id command;
  const char **values[HFB_OPT_COUNT]; /* room for argc entries each, made on first use */
  int counts[HFB_OPT_COUNT];
  const char **positionals;
  int positional_count;
  int argc;
};

/* ---- Access ---- */

static void check_belongs(const hfb_args *args, hfb_option_id id) {
  assert(options[id].commands & 1u << args->command);
  (void)args;
  (void)id;
}

bool hfb_args_given(const hfb_args *args, hfb_option_id id) {
  check_belongs(args, id);
  return args->counts[id] > 0;
}

bool hfb_args_flag(const hfb_args *args, hfb_option_id id) { return hfb_args_given(args, id); }

const char *hfb_args_text(const hfb_args *args, hfb_option_id id) {
  check_belongs(args, id);
  return args->counts[id] > 0 ? args->values[id][args->counts[id] - 1] : options[id].fallback;
}

int64_t hfb_args_int(const hfb_args *args, hfb_option_id id) {
  const char *text = hfb_args_text(args, id);
  return text ? strtoll(text, NULL, 10) : 0;
}

double hfb_args_real(const hfb_args *args, hfb_option_id id) {
  const char *text = hfb_args_text(args, id);
  return text ? strtod(text, NULL) : 0.0;
}

int hfb_args_count(const hfb_args *args, hfb_option_id id) {
  check_belongs(args, id);
  return args->counts[id];
}

const char *hfb_args_at(const hfb_args *args, hfb_option_id id, int index) {
  assert(index >= 0 && index < hfb_args_count(args, id));
  return args->values[id][index];
}

const char *const *hfb_args_all(const hfb_args *args, hfb_option_id id) {
  check_belongs(args, id);
  return args->values[id];
}

int hfb_args_positional_count(const hfb_args *args) { return args->positional_count; }

const char *hfb_args_positional(const hfb_args *args, int index) {
  assert(index >= 0 && index < args->positional_count);
  return args->positionals[index];
}

hfb_command_id hfb_args_command(const hfb_args *args) { return args->command; }

/* ---- Checks of values ---- */

static hfb_status check_int(const hfb_option *option, const char *value) {
  char *end;
  errno = 0;
  long long number = strtoll(value, &end, 10), low, high;
  int fields = sscanf(option->domain, "%lld..%lld", &low, &high);
  assert(fields == 2);
  (void)fields;
  if (end == value || *end || errno || number < low || number > high) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "--%s '%s': a whole number from %lld to %lld is needed", option->name, value,
                    low, high);
  }
  return HFB_OK;
}

static hfb_status check_real(const hfb_option *option, const char *value) {
  char *end;
  double number = strtod(value, &end);
  const char *dots = strstr(option->domain, ".."); /* not sscanf, which reads "0..1" as "0." and ".1" */
  assert(dots);
  double low = strtod(option->domain, NULL), high = strtod(dots + 2, NULL);
  if (end == value || *end || !(number >= low && number <= high)) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "--%s '%s': a number from %g to %g is needed", option->name, value, low,
                    high);
  }
  return HFB_OK;
}

/* True when `value` is one of the words of "a|b|c". */
static bool is_choice(const char *domain, const char *value) {
  size_t length = strcspn(value, "|");
  if (value[length]) return false;
  for (const char *at = domain; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
    if (strncmp(at, value, length) == 0 && (at[length] == '|' || at[length] == '\0') && length > 0) return true;
  }
  return false;
}

static hfb_status check_regex(const hfb_option *option, const char *value) {
  regex_t compiled;
  char why[128];
  int error = regcomp(&compiled, value, REG_EXTENDED | REG_ICASE | REG_NOSUB);
  if (error == 0) {
    regfree(&compiled);
    return HFB_OK;
  }
  regerror(error, &compiled, why, sizeof(why));
  return HFB_FAIL(HFB_INVALID_ARGUMENT, "--%s '%s' is not a regular expression: %s", option->name, value, why);
}

static hfb_status check_value(const hfb_option *option, const char *value) {
  if (!value[0]) return HFB_FAIL(HFB_INVALID_ARGUMENT, "--%s: the value is empty", option->name);
  switch (option->kind) {
    case HFB_OPTION_INT: return check_int(option, value);
    case HFB_OPTION_REAL: return check_real(option, value);
    case HFB_OPTION_REGEX: return check_regex(option, value);
    case HFB_OPTION_CHOICE:
      if (is_choice(option->domain, value)) return HFB_OK;
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "--%s '%s': one of %s is needed", option->name, value, option->domain);
    case HFB_OPTION_FLAG:
    case HFB_OPTION_TEXT: return HFB_OK;
  }
  return HFB_OK;
}

/* ---- Parsing ---- */

static bool belongs(hfb_command_id command, int id) { return options[id].commands & 1u << command; }

typedef struct name_list {
  const char *names[HFB_OPT_COUNT];
} name_list;

static const char *name_at(void *context, size_t index) { return ((name_list *)context)->names[index]; }

/* Says what is near among the command's own options, or which command has it. */
static hfb_status unknown_option(hfb_command_id command, const char *name, size_t length) {
  char word[64];
  snprintf(word, sizeof(word), "%.*s", (int)(length < 60 ? length : 60), name);
  name_list list;
  size_t count = 0, near[3];
  for (int i = 0; i < HFB_OPT_COUNT; i++) {
    if (belongs(command, i)) list.names[count++] = options[i].name;
  }
  hfb_strbuf text;
  hfb_strbuf_init(&text);
  hfb_strbuf_printf(&text, "unknown option --%s", word);
  size_t found = hfb_str_nearest(word, name_at, &list, count, 3, near);
  for (size_t i = 0; i < found; i++) {
    hfb_strbuf_printf(&text, "%s--%s%s", i == 0 ? " (did you mean " : ", ", list.names[near[i]],
                      i + 1 == found ? "?)" : "");
  }
  hfb_strbuf_printf(&text, "; see hfbench %s --help", commands[command].name);
  hfb_status status = HFB_FAIL(HFB_INVALID_ARGUMENT, "%s", hfb_strbuf_text(&text));
  hfb_strbuf_deinit(&text);
  return status;
}

static int find_long(hfb_command_id command, const char *name, size_t length) {
  for (int i = 0; i < HFB_OPT_COUNT; i++) {
    if (belongs(command, i) && strlen(options[i].name) == length && strncmp(options[i].name, name, length) == 0)
      return i;
  }
  return -1;
}

static int find_short(hfb_command_id command, char letter) {
  for (int i = 0; i < HFB_OPT_COUNT; i++) {
    if (belongs(command, i) && options[i].letter && options[i].letter == letter) return i;
  }
  return -1;
}

static hfb_status check_group(const hfb_args *args, int id) {
  for (int i = 0; options[id].group && i < HFB_OPT_COUNT; i++) {
    if (i == id || args->counts[i] == 0 || !options[i].group || strcmp(options[i].group, options[id].group) != 0)
      continue;
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "--%s and --%s exclude each other: give one of them", options[i].name,
                    options[id].name);
  }
  return HFB_OK;
}

static hfb_status add_value(hfb_args *args, int id, const char *value) {
  HFB_TRY(check_group(args, id));
  if (options[id].kind != HFB_OPTION_FLAG) HFB_TRY(check_value(&options[id], value));
  if (!args->values[id]) HFB_TRY(hfb_mem_alloc((size_t)args->argc, sizeof(*args->values[id]), &args->values[id]));
  args->values[id][args->counts[id]++] = value;
  return HFB_OK;
}

/* Takes "--name", "--name=value" or "-n"; *index moves on when the value is the next argument. */
static hfb_status parse_option(hfb_args *args, char *const *argv, int *index) {
  const char *text = argv[*index], *value = NULL;
  int id;
  if (text[1] == '-') {
    size_t length = strcspn(text + 2, "=");
    if (text[2 + length] == '=') value = text + 2 + length + 1;
    id = find_long(args->command, text + 2, length);
    if (id < 0) return unknown_option(args->command, text + 2, length);
  } else {
    id = find_short(args->command, text[1]);
    if (id < 0) return HFB_FAIL(HFB_INVALID_ARGUMENT, "unknown option -%c; see hfbench %s --help", text[1],
                                commands[args->command].name);
    if (text[2]) value = text + 2; /* -n30 */
  }
  if (options[id].kind == HFB_OPTION_FLAG) {
    if (value) return HFB_FAIL(HFB_INVALID_ARGUMENT, "--%s takes no value", options[id].name);
    return add_value(args, id, "");
  }
  if (!value) {
    if (*index + 1 >= args->argc) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "--%s needs a value: --%s %s", options[id].name, options[id].name,
                      options[id].argument);
    }
    value = argv[++*index];
  }
  return add_value(args, id, value);
}

static hfb_status check_positionals(const hfb_args *args) {
  const hfb_command *command = &commands[args->command];
  if (args->counts[HFB_OPT_HELP] || args->counts[HFB_OPT_VERSION]) return HFB_OK;
  if (args->positional_count < command->min_count) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s needs %s; see hfbench %s --help", command->name, command->positional,
                    command->name);
  }
  if (command->max_count >= 0 && args->positional_count > command->max_count) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "%s: '%s' is one argument too many; see hfbench %s --help", command->name,
                    args->positionals[command->max_count], command->name);
  }
  return HFB_OK;
}

static hfb_status parse_all(hfb_args *args, char *const *argv) {
  bool only_positionals = false;
  for (int i = 0; i < args->argc; i++) {
    const char *text = argv[i];
    if (!only_positionals && strcmp(text, "--") == 0) only_positionals = true;
    else if (!only_positionals && text[0] == '-' && text[1]) HFB_TRY(parse_option(args, argv, &i));
    else args->positionals[args->positional_count++] = text;
    if (args->counts[HFB_OPT_HELP] || args->counts[HFB_OPT_VERSION]) break;
  }
  return check_positionals(args);
}

hfb_status hfb_args_parse(hfb_command_id command, int argc, char *const *argv, hfb_args **out_args) {
  hfb_args *args = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof(*args), &args));
  args->command = command;
  args->argc = argc;
  hfb_status status = hfb_mem_alloc((size_t)argc, sizeof(*args->positionals), &args->positionals);
  if (status == HFB_OK) status = parse_all(args, argv);
  if (status == HFB_OK) *out_args = args;
  else hfb_args_destroy(args);
  return status;
}

void hfb_args_destroy(hfb_args *args) {
  if (!args) return;
  for (int i = 0; i < HFB_OPT_COUNT; i++) hfb_mem_free(args->values[i]);
  hfb_mem_free(args->positionals);
  hfb_mem_free(args);
}
