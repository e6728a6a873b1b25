/* safetensors files (https://github.com/huggingface/safetensors): reading over a read-only map, and writing.
 *
 * A file is checked completely when it is opened: header, names, dtypes, shapes, and that the tensors cover the data
 * without overlap or hole, as the format demands. Afterwards every tensor's bytes can be read without a check. Data
 * need not be aligned: element access goes through hfb_safetensors_convert. */
#ifndef HFB_IO_SAFETENSORS_H
#define HFB_IO_SAFETENSORS_H

#include "ir/dtype.h"

typedef enum hfb_storage {
#define HFB_STORAGE(id, name, bytes, dtype) HFB_STORAGE_##id,
#include "io/storage.def"
#undef HFB_STORAGE
  HFB_STORAGE_COUNT
} hfb_storage;

const char *hfb_storage_name(hfb_storage storage); /* "F32" */
size_t hfb_storage_bytes(hfb_storage storage);
/* The dtype that holds such elements without loss. */
hfb_dtype hfb_storage_dtype(hfb_storage storage);
/* How elements of a dtype are stored. */
hfb_storage hfb_storage_of(hfb_dtype dtype);

typedef struct hfb_safetensors hfb_safetensors;

typedef struct hfb_stored_tensor {
  const char *name;
  hfb_storage storage;
  hfb_shape shape;
  const unsigned char *data; /* little-endian elements, row-major; any alignment */
  size_t bytes;
  const hfb_safetensors *file; /* where it comes from, for messages; NULL when it is to be written */
} hfb_stored_tensor;

/* The limit of the reference implementation. */
#define HFB_SAFETENSORS_HEADER_MAX_BYTES ((size_t)100 * 1000 * 1000)

hfb_status hfb_safetensors_open(const char *path, hfb_safetensors **out_file) HFB_MUST_USE;
/* The same over memory that the caller keeps alive; `path` is only used in messages. */
hfb_status hfb_safetensors_parse(const char *path, const unsigned char *data, size_t bytes,
                                 hfb_safetensors **out_file) HFB_MUST_USE;
void hfb_safetensors_destroy(hfb_safetensors *file); /* NULL is allowed; tensors must not be used any more */

const char *hfb_safetensors_path(const hfb_safetensors *file);
int hfb_safetensors_count(const hfb_safetensors *file);
/* In the order of their data. */
const hfb_stored_tensor *hfb_safetensors_at(const hfb_safetensors *file, int index);
/* NULL when there is none of that name. */
const hfb_stored_tensor *hfb_safetensors_find(const hfb_safetensors *file, const char *name);

/* Elements [first, first+count) as `dtype` into `out`. Floats become floats of any width, integers integers that can
 * hold the value; HFB_MISMATCH for anything else, HFB_CORRUPT for a BOOL that is neither 0 nor 1. */
hfb_status hfb_safetensors_convert(const hfb_stored_tensor *tensor, int64_t first, int64_t count, hfb_dtype dtype,
                                   void *out) HFB_MUST_USE;

/* Writes a file whole or not at all. Names must be unique. Tensors are laid out by falling element size, so that each
 * is aligned, otherwise in the order given. */
hfb_status hfb_safetensors_write(const char *path, const hfb_stored_tensor *tensors, int count) HFB_MUST_USE;

#endif
