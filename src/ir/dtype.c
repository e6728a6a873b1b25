#include "ir/dtype.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bounds every product of extents far below overflow, also in bytes. */
static const int64_t MAX_ELEMENTS = (int64_t)1 << 40;

typedef enum dtype_kind { KIND_FLOAT, KIND_INT, KIND_BOOL } dtype_kind;

typedef struct dtype_info {
  const char *name;
  size_t bytes;
  dtype_kind kind;
} dtype_info;

static const dtype_info dtypes[HFB_DTYPE_COUNT] = {
#define HFB_DTYPE(id, name, c_type, bytes, kind) [HFB_##id] = {name, bytes, KIND_##kind},
#include "ir/dtype.def"
#undef HFB_DTYPE
};

#define HFB_DTYPE(id, name, c_type, bytes, kind) \
  _Static_assert(sizeof(c_type) == (bytes), "dtype.def: the C type of " name " has another size");
#include "ir/dtype.def"
#undef HFB_DTYPE

const char *hfb_dtype_name(hfb_dtype dtype) {
  return (unsigned)dtype < HFB_DTYPE_COUNT ? dtypes[dtype].name : "unknown_dtype";
}

size_t hfb_dtype_bytes(hfb_dtype dtype) {
  return dtypes[dtype].bytes;
}

bool hfb_dtype_is_float(hfb_dtype dtype) {
  return dtypes[dtype].kind == KIND_FLOAT;
}

bool hfb_dtype_is_int(hfb_dtype dtype) {
  return dtypes[dtype].kind == KIND_INT;
}

bool hfb_dtype_parse(const char *name, hfb_dtype *out_dtype) {
  for (int i = 0; i < HFB_DTYPE_COUNT; i++) {
    if (strcmp(name, dtypes[i].name) == 0) {
      *out_dtype = (hfb_dtype)i;
      return true;
    }
  }
  return false;
}

hfb_shape hfb_shape_of(int rank, const int64_t *dims) {
  hfb_shape shape = {.rank = rank};
  /* A rank out of range is kept for hfb_shape_check to refuse; only what fits is stored. */
  for (int i = 0; i < rank && i < HFB_MAX_RANK; i++) shape.dim[i] = dims[i];
  return shape;
}

int64_t hfb_shape_elements(const hfb_shape *shape) {
  int64_t count = 1;
  for (int i = 0; i < shape->rank; i++) count *= shape->dim[i];
  return count;
}

bool hfb_shape_equal(const hfb_shape *a, const hfb_shape *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++) {
    if (a->dim[i] != b->dim[i]) return false;
  }
  return true;
}

bool hfb_shape_broadcast(const hfb_shape *a, const hfb_shape *b, hfb_shape *out_shape) {
  hfb_shape result = {.rank = a->rank > b->rank ? a->rank : b->rank};
  for (int i = 0; i < result.rank; i++) {
    int ai = i - (result.rank - a->rank), bi = i - (result.rank - b->rank);
    int64_t da = ai < 0 ? 1 : a->dim[ai], db = bi < 0 ? 1 : b->dim[bi];
    if (da != db && da != 1 && db != 1) return false;
    result.dim[i] = da == 1 ? db : da;
  }
  *out_shape = result;
  return true;
}

void hfb_shape_strides(const hfb_shape *shape, int64_t out_strides[HFB_MAX_RANK]) {
  int64_t stride = 1;
  for (int i = shape->rank - 1; i >= 0; i--) {
    out_strides[i] = stride;
    stride *= shape->dim[i];
  }
}

char *hfb_shape_print(const hfb_shape *shape, char *text, size_t bytes) {
  int rank = shape->rank < HFB_MAX_RANK ? shape->rank : HFB_MAX_RANK;
  int used = snprintf(text, bytes, "[");
  for (int i = 0; i < rank && used >= 0 && (size_t)used < bytes; i++) {
    used += snprintf(text + used, bytes - (size_t)used, i ? ",%" PRId64 : "%" PRId64, shape->dim[i]);
  }
  if (used >= 0 && (size_t)used < bytes) snprintf(text + used, bytes - (size_t)used, "]");
  return text;
}

/* Without overflow; an extent of 0 counts as 1. */
static double count_roughly(const hfb_shape *shape) {
  double count = 1;
  for (int i = 0; i < shape->rank; i++) count *= shape->dim[i] > 0 ? (double)shape->dim[i] : 1;
  return count;
}

hfb_status hfb_shape_check(const hfb_shape *shape) {
  if (shape->rank < 0 || shape->rank > HFB_MAX_RANK) {
    return HFB_FAIL(HFB_INVALID_ARGUMENT, "a shape of rank %d; ranks go from 0 to %d", shape->rank, HFB_MAX_RANK);
  }
  char text[HFB_SHAPE_TEXT_BYTES];
  int64_t count = 1; /* an extent of 0 counts as 1, so that strides are bounded as well */
  for (int i = 0; i < shape->rank; i++) {
    int64_t extent = shape->dim[i];
    if (extent < 0) {
      return HFB_FAIL(HFB_INVALID_ARGUMENT, "shape %s has a negative extent",
                      hfb_shape_print(shape, text, sizeof(text)));
    }
    if (extent > MAX_ELEMENTS / count) {
      return HFB_FAIL(HFB_OUT_OF_MEMORY, "shape %s has more than 2^40 elements: at least %.2f GB",
                      hfb_shape_print(shape, text, sizeof(text)), count_roughly(shape) * 1e-9);
    }
    if (extent > 0) count *= extent;
  }
  return HFB_OK;
}
