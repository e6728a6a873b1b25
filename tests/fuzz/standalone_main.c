/* Runs a fuzz function without libFuzzer, for compilers that lack it: every file of the corpus first, then seeded
 * mutations of them until the time is over. Understands the options of libFuzzer that the test runner uses:
 *   fuzz_x [-max_total_time=S] [-seed=N] [-timeout=S] [-artifact_prefix=P] [FILE|DIRECTORY]...
 * An input that crashes or hangs is written to <P>crash. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

enum { MAX_INPUT_BYTES = 1 << 16, MAX_MUTATIONS = 8 };

typedef struct input {
  uint8_t *data;
  size_t size;
} input;

static struct {
  input *inputs;
  size_t input_count, input_capacity;
  char artifact_path[512];
  int64_t seconds;
  uint64_t seed;
  unsigned timeout_seconds;
} fuzz = {.artifact_path = "crash", .seconds = 10, .timeout_seconds = 10};

/* The input being run, for the crash handler. */
static uint8_t current_data[2 * MAX_INPUT_BYTES];
static size_t current_size;

static uint64_t draw_count;

/* Uniform in [0, bound). */
static size_t draw(size_t bound) {
  hfb_philox stream = {.key = {(uint32_t)fuzz.seed, (uint32_t)(fuzz.seed >> 32)}};
  return (size_t)hfb_philox_below(stream, draw_count++, (int64_t)bound);
}

static void write_artifact(void) {
  int fd = open(fuzz.artifact_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) return;
  ssize_t written = write(fd, current_data, current_size);
  close(fd);
  static const char text[] = "the input that failed was written to ";
  written += write(STDERR_FILENO, text, sizeof(text) - 1);
  written += write(STDERR_FILENO, fuzz.artifact_path, strlen(fuzz.artifact_path));
  written += write(STDERR_FILENO, "\n", 1);
  (void)written;
}

static void on_signal(int number) {
  write_artifact();
  signal(number, SIG_DFL);
  raise(number == SIGALRM ? SIGKILL : number);
}

static void install_handlers(void) {
  static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
  bool sanitized = __sanitizer_set_death_callback != NULL;
  if (sanitized) __sanitizer_set_death_callback(write_artifact);
  /* A sanitizer handles faults itself and prints where they happened. */
  for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
    if (!sanitized || fatal[i] == SIGABRT) signal(fatal[i], on_signal);
  }
  signal(SIGALRM, on_signal);
}

static void run_current(void) {
  /* A copy of exactly the size, so that a read past the end is seen. */
  uint8_t *copy = malloc(current_size > 0 ? current_size : 1);
  if (!copy) return;
  memcpy(copy, current_data, current_size);
  alarm(fuzz.timeout_seconds);
  LLVMFuzzerTestOneInput(copy, current_size);
  alarm(0);
  free(copy);
}

static hfb_status add_input(const char *path) {
  char *data;
  size_t size;
  HFB_TRY(hfb_file_read(path, MAX_INPUT_BYTES, &data, &size));
  if (fuzz.input_count == fuzz.input_capacity) {
    fuzz.input_capacity = fuzz.input_capacity ? 2 * fuzz.input_capacity : 64;
    hfb_status status = hfb_mem_grow(&fuzz.inputs, fuzz.input_capacity, sizeof(*fuzz.inputs));
    if (status != HFB_OK) {
      hfb_mem_free(data);
      return status;
    }
  }
  fuzz.inputs[fuzz.input_count++] = (input){(uint8_t *)data, size};
  return HFB_OK;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static hfb_status add_inputs(const char *path) {
  struct stat info;
  if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) return add_input(path);
  struct dirent **entries;
  int count = scandir(path, &entries, NULL, by_name); /* sorted: the order must not depend on the file system */
  hfb_status status = count < 0 ? HFB_FAIL(HFB_IO, "cannot list '%s'", path) : HFB_OK;
  for (int i = 0; i < count; i++) {
    char file[1024];
    snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
    if (status == HFB_OK && entries[i]->d_name[0] != '.') status = add_input(file);
    free(entries[i]);
  }
  if (count >= 0) free(entries);
  return status;
}

/* Replaces [at, at + removed) by `count` bytes, if the result fits. */
static void replace_bytes(size_t at, size_t removed, const uint8_t *bytes, size_t count) {
  if (current_size - removed + count > MAX_INPUT_BYTES) return;
  uint8_t copied[64];
  memcpy(copied, bytes, count);
  memmove(current_data + at + count, current_data + at + removed, current_size - at - removed);
  memcpy(current_data + at, copied, count);
  current_size += count - removed;
}

/* Numbers and marks at which parsers break. */
static const char *const tokens[] = {
    "0",   "-1",  "1e999", "18446744073709551615", "9223372036854775807", "-9223372036854775808", "4294967296",
    "nan", "",    "{",     "}",                    "[",                   "]",                    "\"",
    ":",   ",",   "\\u0000", "\xff",               "null",                "true",                 "%",
    "(",   ")",   "=",     "\n",                   "[[[[[[[[[[[[[[[[",    "0.1",                  "2147483648",
};
static const uint64_t words[] = {0, 1, 7, 8, 127, 255, 65535, 1u << 20, UINT32_MAX, INT64_MAX, UINT64_MAX, 1ull << 63};

static void replace_number(size_t at, const char *token) {
  while (at < current_size && (current_data[at] < '0' || current_data[at] > '9')) at++;
  size_t end = at;
  while (end < current_size && current_data[end] >= '0' && current_data[end] <= '9') end++;
  replace_bytes(at, end - at, (const uint8_t *)token, strlen(token));
}

static void mutate_once(void) {
  size_t at = draw(current_size + 1);
  size_t rest = current_size - at;
  const char *token = tokens[draw(sizeof(tokens) / sizeof(tokens[0]))];
  uint8_t chunk[64];
  size_t length = rest > 0 ? 1 + draw(rest < sizeof(chunk) ? rest : sizeof(chunk)) : 0;
  memcpy(chunk, current_data + at, length);
  switch (draw(9)) {
    case 0: /* flip a bit */
      if (rest > 0) current_data[at] ^= (uint8_t)(1u << draw(8));
      break;
    case 1: /* any byte */
      if (rest > 0) current_data[at] = (uint8_t)draw(256);
      break;
    case 2: /* remove */
      replace_bytes(at, length, chunk, 0);
      break;
    case 3: /* repeat somewhere */
      replace_bytes(draw(current_size + 1), 0, chunk, length);
      break;
    case 4: /* a token in between */
      replace_bytes(at, 0, (const uint8_t *)token, strlen(token));
      break;
    case 5: /* a number becomes another */
    case 6: replace_number(at, token); break;
    case 7: /* a little-endian word */
      if (rest >= sizeof(uint64_t)) memcpy(current_data + at, &words[draw(sizeof(words) / sizeof(words[0]))], 8);
      break;
    case 8: /* cut off */
      current_size = at;
      break;
  }
}

static void mutate(void) {
  current_size = 0;
  if (fuzz.input_count > 0) {
    const input *base = &fuzz.inputs[draw(fuzz.input_count)];
    memcpy(current_data, base->data, base->size);
    current_size = base->size;
  }
  for (size_t count = 1 + draw(MAX_MUTATIONS); count > 0; count--) mutate_once();
}

static hfb_status parse_arguments(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    const char *value = strchr(arguments[i], '=');
    if (arguments[i][0] != '-') {
      HFB_TRY(add_inputs(arguments[i]));
    } else if (!value) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "unknown option '%s'", arguments[i]);
    } else if (strncmp(arguments[i], "-max_total_time=", 16) == 0) {
      fuzz.seconds = atoll(value + 1);
    } else if (strncmp(arguments[i], "-seed=", 6) == 0) {
      fuzz.seed = strtoull(value + 1, NULL, 10);
    } else if (strncmp(arguments[i], "-timeout=", 9) == 0) {
      fuzz.timeout_seconds = (unsigned)atoi(value + 1);
    } else if (strncmp(arguments[i], "-artifact_prefix=", 17) == 0) {
      snprintf(fuzz.artifact_path, sizeof(fuzz.artifact_path), "%scrash", value + 1);
    } else {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "unknown option '%s'", arguments[i]);
    }
  }
  return HFB_OK;
}

int main(int argument_count, char **arguments) {
  if (parse_arguments(argument_count, arguments) != HFB_OK) {
    fprintf(stderr, "%s\n", hfb_error_message());
    return 2;
  }
  install_handlers();
  int64_t deadline_ns = hfb_clock_ns() + fuzz.seconds * 1000000000, runs = 0;
  for (size_t i = 0; i < fuzz.input_count; i++, runs++) {
    current_size = fuzz.inputs[i].size;
    memcpy(current_data, fuzz.inputs[i].data, current_size);
    run_current();
  }
  for (; hfb_clock_ns() < deadline_ns; runs++) {
    mutate();
    run_current();
  }
  printf("%lld runs, seed %llu, %zu inputs in the corpus\n", (long long)runs, (unsigned long long)fuzz.seed,
         fuzz.input_count);
  for (size_t i = 0; i < fuzz.input_count; i++) hfb_mem_free(fuzz.inputs[i].data);
  hfb_mem_free(fuzz.inputs);
  return 0;
}
