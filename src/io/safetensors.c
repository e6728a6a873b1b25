#include "io/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json.h"

enum { LENGTH_BYTES = 8 };

/* header > tensor > shape; one tensor takes some eight values. */
static const hfb_json_limits header_limits = {.depth = 3, .values = (size_t)1 << 21};

struct hfb_safetensors {
  hfb_arena arena;
  hfb_file_map map; /* empty when the memory is the caller's */
  const char *path;
  const unsigned char *data; /* behind the header */
  size_t data_bytes;
  hfb_stored_tensor *tensors;        /* by their place in the data */
  const hfb_stored_tensor **by_name; /* sorted: bisection has no bad case that a file could provoke */
  int count;
};

typedef struct storage_info {
  const char *name;
  size_t bytes;
  hfb_dtype dtype;
} storage_info;

static const storage_info storages[HFB_STORAGE_COUNT] = {
#define HFB_STORAGE(id, name, bytes, dtype) [HFB_STORAGE_##id] = {name, bytes, dtype},
#include "io/storage.def"
#undef HFB_STORAGE
};

const char *hfb_storage_name(hfb_storage storage) {
  return storages[storage].name;
}
size_t hfb_storage_bytes(hfb_storage storage) {
  return storages[storage].bytes;
}
hfb_dtype hfb_storage_dtype(hfb_storage storage) {
  return storages[storage].dtype;
}

hfb_storage hfb_storage_of(hfb_dtype dtype) {
  int storage = 0;
  while (storages[storage].dtype != dtype || storages[storage].bytes != hfb_dtype_bytes(dtype)) storage++;
  return (hfb_storage)storage;
}

/* ---- One entry of the header ---- */

/* What is wrong with an entry; the caller puts file and tensor in front. */
static hfb_status parse_storage(const json_t *entry, hfb_storage *out_storage) {
  const char *name = json_string_value(json_object_get(entry, "dtype"));
  if (!name) return HFB_FAIL(HFB_CORRUPT, "it has no \"dtype\" text");
  for (int i = 0; i < HFB_STORAGE_COUNT; i++) {
    if (strcmp(storages[i].name, name) == 0) {
      *out_storage = (hfb_storage)i;
      return HFB_OK;
    }
  }
  return HFB_FAIL(HFB_UNSUPPORTED, "its dtype '%.32s' is not implemented; convert the file, e.g. to F32 or BF16", name);
}

static hfb_status parse_shape(const json_t *entry, hfb_shape *out_shape) {
  const json_t *dims = json_object_get(entry, "shape");
  if (!json_is_array(dims)) return HFB_FAIL(HFB_CORRUPT, "it has no \"shape\" array");
  size_t rank = json_array_size(dims);
  if (rank > HFB_MAX_RANK) {
    return HFB_FAIL(HFB_UNSUPPORTED, "its shape has %zu dimensions, at most %d are implemented", rank, HFB_MAX_RANK);
  }
  hfb_shape shape = {.rank = (int)rank};
  for (size_t i = 0; i < rank; i++) {
    const json_t *dim = json_array_get(dims, i);
    if (!json_is_integer(dim)) return HFB_FAIL(HFB_CORRUPT, "dimension %zu of its shape is not an integer", i);
    shape.dim[i] = json_integer_value(dim);
  }
  if (hfb_shape_check(&shape) != HFB_OK) {
    return HFB_FAIL(HFB_CORRUPT, "its shape is impossible: %s", hfb_error_message());
  }
  *out_shape = shape;
  return HFB_OK;
}

static hfb_status parse_offsets(const json_t *entry, size_t data_bytes, size_t *out_begin, size_t *out_end) {
  const json_t *offsets = json_object_get(entry, "data_offsets");
  const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second)) {
    return HFB_FAIL(HFB_CORRUPT, "it has no \"data_offsets\" pair of integers");
  }
  json_int_t begin = json_integer_value(first), end = json_integer_value(second);
  if (begin < 0 || end < begin) {
    return HFB_FAIL(HFB_CORRUPT, "its data_offsets [%" PRId64 ",%" PRId64 "] do not ascend from 0", (int64_t)begin,
                    (int64_t)end);
  }
  if ((uint64_t)end > data_bytes) {
    return HFB_FAIL(HFB_CORRUPT,
                    "its data ends at byte %" PRId64 " of %zu: the file is truncated or damaged, fetch it again",
                    (int64_t)end, data_bytes);
  }
  *out_begin = (size_t)begin;
  *out_end = (size_t)end;
  return HFB_OK;
}

static hfb_status parse_entry(const hfb_safetensors *file, const json_t *entry, hfb_stored_tensor *tensor) {
  if (!json_is_object(entry)) return HFB_FAIL(HFB_CORRUPT, "its entry is not an object");
  size_t begin = 0, end = 0;
  HFB_TRY(parse_storage(entry, &tensor->storage));
  HFB_TRY(parse_shape(entry, &tensor->shape));
  HFB_TRY(parse_offsets(entry, file->data_bytes, &begin, &end));
  /* Cannot overflow: hfb_shape_check allows 2^40 elements. */
  uint64_t wanted = (uint64_t)hfb_shape_elements(&tensor->shape) * hfb_storage_bytes(tensor->storage);
  if (wanted != end - begin) {
    char text[HFB_SHAPE_TEXT_BYTES];
    return HFB_FAIL(HFB_CORRUPT, "%s %s takes %" PRIu64 " bytes but its data_offsets span %zu",
                    hfb_storage_name(tensor->storage), hfb_shape_print(&tensor->shape, text, sizeof(text)), wanted,
                    end - begin);
  }
  tensor->data = file->data + begin;
  tensor->bytes = end - begin;
  return HFB_OK;
}

static hfb_status check_metadata(const json_t *metadata) {
  const char *key;
  json_t *value;
  if (!json_is_object(metadata)) return HFB_FAIL(HFB_CORRUPT, "it is not an object");
  json_object_foreach((json_t *)metadata, key, value) {
    if (!json_is_string(value)) return HFB_FAIL(HFB_CORRUPT, "the value of '%.96s' is not a text", key);
  }
  return HFB_OK;
}

/* ---- The whole header ---- */

static hfb_status parse_entries(hfb_safetensors *file, json_t *header) {
  size_t count = json_object_size(header);
  file->tensors = hfb_arena_alloc(&file->arena, count + 1, sizeof(*file->tensors));
  file->by_name = hfb_arena_alloc(&file->arena, count + 1, sizeof(*file->by_name));
  if (!file->tensors || !file->by_name) return HFB_OUT_OF_MEMORY;
  const char *key;
  json_t *entry;
  json_object_foreach(header, key, entry) {
    bool is_metadata = strcmp(key, "__metadata__") == 0;
    hfb_stored_tensor *tensor = &file->tensors[file->count];
    hfb_status status = is_metadata ? check_metadata(entry) : parse_entry(file, entry, tensor);
    if (status != HFB_OK) {
      hfb_error_prefix("'%s': %s%.96s", file->path, is_metadata ? "" : "tensor ", key);
      return status;
    }
    if (is_metadata) continue;
    tensor->file = file;
    tensor->name = hfb_arena_strdup(&file->arena, key);
    if (!tensor->name) return HFB_OUT_OF_MEMORY;
    file->count++;
  }
  return HFB_OK;
}

static int compare_places(const void *left, const void *right) {
  const hfb_stored_tensor *a = left, *b = right;
  if (a->data != b->data) return a->data < b->data ? -1 : 1;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1;
  return strcmp(a->name, b->name); /* empty tensors share a place */
}

static int compare_names(const void *left, const void *right) {
  const hfb_stored_tensor *const *a = left, *const *b = right;
  return strcmp((*a)->name, (*b)->name);
}

/* The format wants the data covered exactly: a hole could hide anything, an overlap makes one tensor out of two. */
static hfb_status check_coverage(const hfb_safetensors *file) {
  const char *previous = "the header";
  const unsigned char *end = file->data;
  for (int i = 0; i < file->count; i++) {
    const hfb_stored_tensor *tensor = &file->tensors[i];
    if (tensor->data < end) {
      return HFB_FAIL(HFB_CORRUPT, "'%s': tensors %.96s and %.96s overlap; the file is damaged, fetch it again",
                      file->path, previous, tensor->name);
    }
    if (tensor->data > end) {
      return HFB_FAIL(HFB_CORRUPT, "'%s': %zu bytes between %.96s and %.96s belong to no tensor; write the file anew",
                      file->path, (size_t)(tensor->data - end), previous, tensor->name);
    }
    previous = tensor->name;
    end = tensor->data + tensor->bytes;
  }
  size_t rest = file->data_bytes - (size_t)(end - file->data);
  if (rest == 0) return HFB_OK;
  return HFB_FAIL(HFB_CORRUPT, "'%s': %zu bytes behind %.96s belong to no tensor; write the file anew", file->path,
                  rest, previous);
}

static uint64_t load_u64(const unsigned char *bytes) {
  uint64_t value = 0;
  for (int i = LENGTH_BYTES - 1; i >= 0; i--) value = value << 8 | bytes[i];
  return value;
}

/* Where the header is; everything that can be wrong before its JSON is looked at. */
static hfb_status find_header(const char *path, const unsigned char *data, size_t bytes, size_t *out_bytes) {
  if (bytes < LENGTH_BYTES) {
    return HFB_FAIL(HFB_CORRUPT, "'%s': %zu bytes are no safetensors file: it is truncated or something else", path,
                    bytes);
  }
  uint64_t header_bytes = load_u64(data);
  if (header_bytes > HFB_SAFETENSORS_HEADER_MAX_BYTES) {
    return HFB_FAIL(HFB_CORRUPT, "'%s': a header of %" PRIu64 " bytes is over the limit of %zu: is this safetensors?",
                    path, header_bytes, HFB_SAFETENSORS_HEADER_MAX_BYTES);
  }
  if (header_bytes > bytes - LENGTH_BYTES) {
    return HFB_FAIL(HFB_CORRUPT,
                    "'%s': the header should have %" PRIu64
                    " bytes but the file ends after %zu: it is "
                    "truncated, fetch it again",
                    path, header_bytes, bytes - LENGTH_BYTES);
  }
  if (header_bytes == 0 || data[LENGTH_BYTES] != '{') {
    return HFB_FAIL(HFB_CORRUPT, "'%s': the header does not start with '{': is this safetensors?", path);
  }
  *out_bytes = (size_t)header_bytes;
  return HFB_OK;
}

static hfb_status parse_file(hfb_safetensors *file, const unsigned char *data, size_t bytes) {
  size_t header_bytes = 0;
  HFB_TRY(find_header(file->path, data, bytes, &header_bytes));
  file->data = data + LENGTH_BYTES + header_bytes;
  file->data_bytes = bytes - LENGTH_BYTES - header_bytes;
  json_t *header = NULL;
  const char *what = hfb_arena_printf(&file->arena, "'%s': header", file->path);
  if (!what) return HFB_OUT_OF_MEMORY;
  HFB_TRY(hfb_json_parse_object(what, (const char *)data + LENGTH_BYTES, header_bytes, header_limits, &header));
  hfb_status status = parse_entries(file, header);
  json_decref(header);
  HFB_TRY(status);
  qsort(file->tensors, (size_t)file->count, sizeof(*file->tensors), compare_places);
  for (int i = 0; i < file->count; i++) file->by_name[i] = &file->tensors[i];
  qsort(file->by_name, (size_t)file->count, sizeof(*file->by_name), compare_names);
  return check_coverage(file);
}

hfb_status hfb_safetensors_parse(const char *path, const unsigned char *data, size_t bytes,
                                 hfb_safetensors **out_file) {
  *out_file = NULL;
  hfb_safetensors *file = NULL;
  HFB_TRY(hfb_mem_alloc(1, sizeof(*file), &file));
  hfb_arena_init(&file->arena);
  file->path = hfb_arena_strdup(&file->arena, path);
  hfb_status status = file->path ? parse_file(file, data, bytes) : HFB_OUT_OF_MEMORY;
  if (status != HFB_OK) {
    hfb_safetensors_destroy(file);
    return status;
  }
  *out_file = file;
  return HFB_OK;
}

hfb_status hfb_safetensors_open(const char *path, hfb_safetensors **out_file) {
  *out_file = NULL;
  hfb_file_map map;
  HFB_TRY(hfb_file_map_open(path, &map));
  hfb_status status = hfb_safetensors_parse(path, map.data, map.bytes, out_file);
  if (status != HFB_OK) {
    hfb_file_map_close(&map);
    return status;
  }
  (*out_file)->map = map;
  return HFB_OK;
}

void hfb_safetensors_destroy(hfb_safetensors *file) {
  if (!file) return;
  hfb_file_map_close(&file->map);
  hfb_arena_deinit(&file->arena);
  hfb_mem_free(file);
}

const char *hfb_safetensors_path(const hfb_safetensors *file) {
  return file->path;
}
int hfb_safetensors_count(const hfb_safetensors *file) {
  return file->count;
}
const hfb_stored_tensor *hfb_safetensors_at(const hfb_safetensors *file, int index) {
  return &file->tensors[index];
}

const hfb_stored_tensor *hfb_safetensors_find(const hfb_safetensors *file, const char *name) {
  const hfb_stored_tensor key = {.name = name}, *key_pointer = &key;
  const hfb_stored_tensor *const *found =
      bsearch(&key_pointer, file->by_name, (size_t)file->count, sizeof(*file->by_name), compare_names);
  return found ? *found : NULL;
}
