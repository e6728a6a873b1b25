/* Files: whole reads, read-only maps, atomic writes. Messages name the path and errno's text. */
#ifndef HFB_BASE_FILE_H
#define HFB_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* Reads a whole file of at most max_bytes; NUL-terminated. Owned: hfb_mem_free. */
hfb_status hfb_file_read(const char *path, size_t max_bytes, char **out_data, size_t *out_bytes) HFB_MUST_USE;

/* A private read-only map. An empty file maps to data == NULL, bytes == 0. */
typedef struct hfb_file_map {
  const unsigned char *data;
  size_t bytes;
} hfb_file_map;
hfb_status hfb_file_map_open(const char *path, hfb_file_map *out_map) HFB_MUST_USE;
void hfb_file_map_close(hfb_file_map *map);

/* Writes to a temporary file beside `path`, syncs and renames: a reader sees the old file or the whole new one. */
hfb_status hfb_file_write_atomic(const char *path, const void *data, size_t bytes) HFB_MUST_USE;

/* Appends with one write call; the file is created when missing. */
hfb_status hfb_file_append(const char *path, const void *data, size_t bytes) HFB_MUST_USE;

/* mkdir -p. */
hfb_status hfb_dir_create(const char *path) HFB_MUST_USE;
bool hfb_file_exists(const char *path);

#endif
