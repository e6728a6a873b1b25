/* A folder of a test's own, and safetensors files in it. */
#ifndef HFB_TESTS_SUPPORT_SCRATCH_H
#define HFB_TESTS_SUPPORT_SCRATCH_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/safetensors.h"

typedef struct scratch {
  char folder[64];
} scratch;

static inline scratch scratch_create(void) {
  scratch s = {.folder = "/tmp/hfb_test_XXXXXX"};
  if (!mkdtemp(s.folder)) abort();
  return s;
}

/* The folder must hold files only. */
static inline void scratch_destroy(const scratch *s) {
  DIR *folder = opendir(s->folder);
  for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", s->folder, entry->d_name);
    if (entry->d_name[0] != '.') unlink(path);
  }
  if (folder) closedir(folder);
  rmdir(s->folder);
}

/* Valid until the fourth next call. */
static inline const char *scratch_path(const scratch *s, const char *name) {
  static char paths[4][256];
  static int next;
  next = (next + 1) % 4;
  snprintf(paths[next], sizeof(paths[next]), "%s/%s", s->folder, name);
  return paths[next];
}

static inline void scratch_write(const scratch *s, const char *name, const void *data, size_t bytes) {
  if (hfb_file_write_atomic(scratch_path(s, name), data, bytes) != HFB_OK) abort();
}

static inline void scratch_copy(const scratch *s, const char *name, const char *from_folder) {
  char path[512], *data = NULL;
  size_t bytes = 0;
  snprintf(path, sizeof(path), "%s/%s", from_folder, name);
  if (hfb_file_read(path, (size_t)64 << 20, &data, &bytes) != HFB_OK) abort();
  scratch_write(s, name, data, bytes);
  hfb_mem_free(data);
}

/* A stored file taken apart, to be changed and written again. */
typedef struct tensor_list {
  hfb_safetensors *file;
  hfb_stored_tensor tensors[256];
  int count;
} tensor_list;

static inline tensor_list tensor_list_read(const char *folder, const char *name) {
  char path[512];
  tensor_list list = {0};
  snprintf(path, sizeof(path), "%s/%s", folder, name);
  if (hfb_safetensors_open(path, &list.file) != HFB_OK || hfb_safetensors_count(list.file) > 250) abort();
  for (int i = 0; i < hfb_safetensors_count(list.file); i++)
    list.tensors[list.count++] = *hfb_safetensors_at(list.file, i);
  return list;
}

/* Writes and frees the list. */
static inline void tensor_list_write(tensor_list *list, const char *path) {
  if (hfb_safetensors_write(path, list->tensors, list->count) != HFB_OK) abort();
  hfb_safetensors_destroy(list->file);
}

static inline hfb_stored_tensor *tensor_list_find(tensor_list *list, const char *name) {
  for (int i = 0; i < list->count; i++) {
    if (strcmp(list->tensors[i].name, name) == 0) return &list->tensors[i];
  }
  abort();
}

static inline void tensor_list_remove(tensor_list *list, const char *name) {
  hfb_stored_tensor *tensor = tensor_list_find(list, name);
  *tensor = list->tensors[--list->count];
}

#endif
