/* Any bytes as a safetensors file: refused with one line, or tensors that lie inside it, cover it, are found by name
 * and can be converted. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition, const char *what) {
  if (condition) return;
  fprintf(stderr, "%s: %s\n", what, hfb_error_message());
  abort();
}

static void require_one_line(void) {
  const char *message = hfb_error_message();
  require(message[0] != '\0', "refused without a message");
  require(strchr(message, '\n') == NULL, "more than one line");
}

/* Every element, in pieces, to every dtype: a failure has a message, a success has written. */
static void convert_all(const hfb_stored_tensor *tensor) {
  enum { PIECE = 700 };
  static uint64_t out[PIECE]; /* the widest element has eight bytes */
  int64_t count = hfb_shape_elements(&tensor->shape);
  for (int dtype = 0; dtype < HFB_DTYPE_COUNT; dtype++) {
    for (int64_t first = 0; first < count; first += PIECE) {
      int64_t piece = count - first < PIECE ? count - first : PIECE;
      hfb_error_clear();
      if (hfb_safetensors_convert(tensor, first, piece, (hfb_dtype)dtype, out) != HFB_OK) {
        require_one_line();
        break;
      }
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hfb_safetensors *file = NULL;
  hfb_error_clear();
  if (hfb_safetensors_parse("input", data, size, &file) != HFB_OK) {
    require(file == NULL, "a file in spite of a failure");
    require_one_line();
    return 0;
  }
  size_t covered = 0;
  for (int i = 0; i < hfb_safetensors_count(file); i++) {
    const hfb_stored_tensor *tensor = hfb_safetensors_at(file, i);
    size_t wanted = (size_t)hfb_shape_elements(&tensor->shape) * hfb_storage_bytes(tensor->storage);
    require(tensor->bytes == wanted, "a size that is not that of the shape");
    require(tensor->data >= data && tensor->data + tensor->bytes <= data + size, "data outside the file");
    require(hfb_safetensors_find(file, tensor->name) == tensor, "a tensor that is not found by its name");
    covered += tensor->bytes;
    convert_all(tensor);
  }
  require(size >= covered + 8, "tensors that overlap");
  hfb_safetensors_destroy(file);
  return 0;
}
