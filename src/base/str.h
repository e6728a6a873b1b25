/* Text helpers: nearest names for "did you mean". */
#ifndef HFB_BASE_STR_H
#define HFB_BASE_STR_H

#include <stddef.h>

/* Edits (insert, delete, replace, swap of neighbours) between two texts, ignoring ASCII case. Texts longer than 255
 * characters are compared by their first 255. */
size_t hfb_str_distance(const char *a, const char *b);

typedef const char *(*hfb_str_name_fn)(void *context, size_t index);

/* Indices of up to `limit` of the `count` names that a person who typed `word` may have meant, best first. Returns how
 * many; 0 when nothing is near. A name that contains the word counts as near. */
size_t hfb_str_nearest(const char *word, hfb_str_name_fn name_at, void *context, size_t count, size_t limit,
                       size_t *out_indices);

#endif
