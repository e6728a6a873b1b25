#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { COMPARED_CHARACTERS = 255 };

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

size_t hfb_str_distance(const char *a, const char *b) {
  /* Optimal string alignment: three rows of the table of prefix distances. */
  size_t rows[3][COMPARED_CHARACTERS + 1];
  size_t *before = rows[0], *previous = rows[1], *current = rows[2];
  size_t length_a = strnlen(a, COMPARED_CHARACTERS), length_b = strnlen(b, COMPARED_CHARACTERS);
  for (size_t j = 0; j <= length_b; j++) previous[j] = j;
  for (size_t i = 1; i <= length_a; i++) {
    current[0] = i;
    for (size_t j = 1; j <= length_b; j++) {
      char ca = lower(a[i - 1]), cb = lower(b[j - 1]);
      size_t best = smaller(smaller(previous[j], current[j - 1]) + 1, previous[j - 1] + (ca != cb));
      if (i > 1 && j > 1 && ca == lower(b[j - 2]) && lower(a[i - 2]) == cb) best = smaller(best, before[j - 2] + 1);
      current[j] = best;
    }
    size_t *oldest = before;
    before = previous;
    previous = current;
    current = oldest;
  }
  return previous[length_b];
}

static bool contains(const char *text, const char *word, size_t word_length) {
  for (; *text; text++) {
    if (strncasecmp(text, word, word_length) == 0) return true;
  }
  return false;
}

/* SIZE_MAX: not near. A name that contains the word is nearer than any that needs edits, shorter ones first. */
static size_t name_score(const char *word, size_t word_length, const char *name) {
  size_t name_length = strlen(name);
  if (word_length >= 2 && contains(name, word, word_length)) return name_length - word_length;
  size_t distance = hfb_str_distance(word, name);
  size_t longer = word_length > name_length ? word_length : name_length;
  return distance * 5 <= longer * 2 ? 1000 + distance : SIZE_MAX;
}

size_t hfb_str_nearest(const char *word, hfb_str_name_fn name_at, void *context, size_t count, size_t limit,
                       size_t *out_indices) {
  size_t word_length = strlen(word), found = 0;
  for (size_t index = 0; index < count && limit > 0; index++) {
    size_t score = name_score(word, word_length, name_at(context, index));
    if (score == SIZE_MAX) continue;
    size_t place = found;
    while (place > 0 && score < name_score(word, word_length, name_at(context, out_indices[place - 1]))) place--;
    if (place >= limit) continue;
    size_t kept = smaller(found, limit - 1);
    memmove(out_indices + place + 1, out_indices + place, (kept - place) * sizeof(*out_indices));
    out_indices[place] = index;
    found = kept + 1;
  }
  return found;
}
