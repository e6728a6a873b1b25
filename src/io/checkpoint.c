#include "io/checkpoint.h"

#include <string.h>

#include "base/file.h"
#include "io/json.h"

/* "metadata" holds sizes, "weight_map" one value for each tensor. */
static const hfb_json_limits index_limits = {.depth = 4, .values = (size_t)1 << 21};
static const size_t index_max_bytes = (size_t)100 * 1000 * 1000;

enum { SHARD_MAX_COUNT = 4096 };

struct hfb_checkpoint {
  hfb_arena arena;
  const char *path;
  hfb_names shard_names;
  hfb_safetensors **shards; /* SHARD_MAX_COUNT pointers for an index, 1 for a plain file */
  int shard_count;
  const hfb_stored_tensor **tensors;
  int count;
};

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* ---- Sharded checkpoints ---- */

/* A shard lies beside its index: a path could name any file of the machine. */
static bool is_plain_name(const char *name) {
  return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static hfb_status open_shard(hfb_checkpoint *checkpoint, const char *name, const hfb_safetensors **out_shard) {
  int index = hfb_names_find(&checkpoint->shard_names, name);
  if (index >= 0) {
    *out_shard = checkpoint->shards[index];
    return HFB_OK;
  }
  if (!is_plain_name(name)) {
    return HFB_FAIL(HFB_CORRUPT, "'%s': '%.96s' is not the plain name of a file beside it", checkpoint->path, name);
  }
  if (checkpoint->shard_count == SHARD_MAX_COUNT) {
    return HFB_FAIL(HFB_CORRUPT, "'%s' names more than %d shards", checkpoint->path, SHARD_MAX_COUNT);
  }
  const char *slash = strrchr(checkpoint->path, '/');
  int folder_bytes = slash ? (int)(slash - checkpoint->path) + 1 : 0;
  const char *path = hfb_arena_printf(&checkpoint->arena, "%.*s%s", folder_bytes, checkpoint->path, name);
  const char *key = hfb_arena_strdup(&checkpoint->arena, name);
  if (!path || !key) return HFB_OUT_OF_MEMORY;
  HFB_TRY(hfb_names_reserve(&checkpoint->shard_names, &checkpoint->arena));
  hfb_safetensors *shard = NULL;
  HFB_TRY(hfb_safetensors_open(path, &shard));
  hfb_names_add(&checkpoint->shard_names, key, checkpoint->shard_count);
  checkpoint->shards[checkpoint->shard_count++] = shard;
  *out_shard = shard;
  return HFB_OK;
}

static hfb_status add_mapped_tensors(hfb_checkpoint *checkpoint, json_t *weight_map) {
  size_t count = json_object_size(weight_map);
  checkpoint->tensors = hfb_arena_alloc(&checkpoint->arena, count + 1, sizeof(*checkpoint->tensors));
  checkpoint->shards = hfb_arena_alloc(&checkpoint->arena, SHARD_MAX_COUNT, sizeof(*checkpoint->shards));
  if (!checkpoint->tensors || !checkpoint->shards) return HFB_OUT_OF_MEMORY;
  const char *name;
  json_t *value;
  json_object_foreach(weight_map, name, value) {
    if (!json_is_string(value)) {
      return HFB_FAIL(HFB_CORRUPT, "'%s': the shard of '%.96s' is not a text", checkpoint->path, name);
    }
    const hfb_safetensors *shard = NULL;
    HFB_TRY(open_shard(checkpoint, json_string_value(value), &shard));
    const hfb_stored_tensor *tensor = hfb_safetensors_find(shard, name);
    if (!tensor) {
      return HFB_FAIL(HFB_CORRUPT, "'%s': tensor '%.96s' is not in '%.96s', where the index puts it; fetch both again",
                      checkpoint->path, name, json_string_value(value));
    }
    checkpoint->tensors[checkpoint->count++] = tensor;
  }
  return HFB_OK;
}

static hfb_status open_index(hfb_checkpoint *checkpoint) {
  char *text = NULL;
  size_t bytes = 0;
  HFB_TRY(hfb_file_read(checkpoint->path, index_max_bytes, &text, &bytes));
  const char *what = hfb_arena_printf(&checkpoint->arena, "'%s'", checkpoint->path);
  json_t *index = NULL;
  hfb_status status = what ? hfb_json_parse_object(what, text, bytes, index_limits, &index) : HFB_OUT_OF_MEMORY;
  hfb_mem_free(text);
  HFB_TRY(status);
  json_t *weight_map = json_object_get(index, "weight_map");
  if (json_is_object(weight_map)) {
    status = add_mapped_tensors(checkpoint, weight_map);
  } else {
    status = HFB_FAIL(HFB_CORRUPT, "'%s' has no \"weight_map\" object", checkpoint->path);
  }
  json_decref(index);
  return status;
}

/* ---- Opening ---- */

static hfb_status open_single(hfb_checkpoint *checkpoint) {
  checkpoint->shards = hfb_arena_alloc(&checkpoint->arena, 1, sizeof(*checkpoint->shards));
  if (!checkpoint->shards) return HFB_OUT_OF_MEMORY;
  HFB_TRY(hfb_safetensors_open(checkpoint->path, &checkpoint->shards[0]));
  checkpoint->shard_count = 1;
  const hfb_safetensors *file = checkpoint->shards[0];
  int count = hfb_safetensors_count(file);
  checkpoint->tensors = hfb_arena_alloc(&checkpoint->arena, (size_t)count + 1, sizeof(*checkpoint->tensors));
  if (!checkpoint->tensors) return HFB_OUT_OF_MEMORY;
  for (int i = 0; i < count; i++) checkpoint->tensors[i] = hfb_safetensors_at(file, i);
  checkpoint->count = count;
  return HFB_OK;
}

/* The file behind the path that the user gave. */
static hfb_status resolve_path(hfb_checkpoint *checkpoint, const char *path) {
  checkpoint->path = hfb_arena_strdup(&checkpoint->arena, path);
  if (!checkpoint->path) return HFB_OUT_OF_MEMORY;
  if (ends_with(path, ".safetensors") || ends_with(path, ".json")) return HFB_OK;
  static const char *const usual_names[] = {"model.safetensors", "model.safetensors.index.json"};
  for (int i = 0; i < 2; i++) {
    const char *file = hfb_arena_printf(&checkpoint->arena, "%s/%s", path, usual_names[i]);
    if (!file) return HFB_OUT_OF_MEMORY;
    if (!hfb_file_exists(file)) continue;
    checkpoint->path = file;
    return HFB_OK;
  }
  return HFB_FAIL(HFB_NOT_FOUND,
                  "no weights: '%s' has neither model.safetensors nor model.safetensors.index.json; checkpoints in "
                  "other formats must be saved again as safetensors",
                  path);
}

hfb_status hfb_checkpoint_open(const char *path, hfb_checkpoint **out_checkpoint) {
  *out_checkpoint = NULL;
  hfb_checkpoint *checkpoint = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof(*checkpoint), &checkpoint));
  hfb_arena_init(&checkpoint->arena);
  hfb_status status = resolve_path(checkpoint, path);
  if (status == HFB_OK) {
    status = ends_with(checkpoint->path, ".json") ? open_index(checkpoint) : open_single(checkpoint);
  }
  if (status != HFB_OK) {
    hfb_checkpoint_destroy(checkpoint);
    return status;
  }
  *out_checkpoint = checkpoint;
  return HFB_OK;
}

void hfb_checkpoint_destroy(hfb_checkpoint *checkpoint) {
  if (!checkpoint) return;
  for (int i = 0; i < checkpoint->shard_count; i++) hfb_safetensors_destroy(checkpoint->shards[i]);
  hfb_arena_deinit(&checkpoint->arena);
  hfb_mem_free(checkpoint);
}

const char *hfb_checkpoint_path(const hfb_checkpoint *checkpoint) {
  return checkpoint->path;
}
int hfb_checkpoint_count(const hfb_checkpoint *checkpoint) {
  return checkpoint->count;
}

const hfb_stored_tensor *hfb_checkpoint_at(const hfb_checkpoint *checkpoint, int index) {
  return checkpoint->tensors[index];
}
