#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "io/safetensors.h"

enum { LENGTH_BYTES = 8, HEADER_ALIGNMENT = 8, LARGEST_ELEMENT_BYTES = 8 };

/* A JSON text; names are UTF-8 already, so only what JSON reserves is escaped. */
static void append_json_text(hfb_strbuf *json, const char *text) {
  hfb_strbuf_append(json, "\"");
  for (const char *c = text; *c; c++) {
    if ((unsigned char)*c < 0x20) {
      hfb_strbuf_printf(json, "\\u%04x", (unsigned)*c);
      continue;
    }
    if (*c == '"' || *c == '\\') hfb_strbuf_append(json, "\\");
    hfb_strbuf_append_bytes(json, c, 1);
  }
  hfb_strbuf_append(json, "\"");
}

/* The entry of a tensor whose data begins at `offset`. */
static void append_entry(hfb_strbuf *header, const hfb_stored_tensor *tensor, size_t offset) {
  append_json_text(header, tensor->name);
  hfb_strbuf_printf(header, ":{\"dtype\":\"%s\",\"shape\":[", hfb_storage_name(tensor->storage));
  for (int i = 0; i < tensor->shape.rank; i++) {
    hfb_strbuf_printf(header, "%s%" PRId64, i ? "," : "", tensor->shape.dim[i]);
  }
  hfb_strbuf_printf(header, "],\"data_offsets\":[%zu,%zu]}", offset, offset + tensor->bytes);
}

static hfb_status check_names(const hfb_stored_tensor *tensors, int count) {
  for (int i = 0; i < count; i++) {
    for (int j = 0; j < i; j++) {
      if (strcmp(tensors[i].name, tensors[j].name) == 0) {
        return HFB_FAIL(HFB_INVALID_ARGUMENT, "two tensors to be written are called '%.96s'", tensors[i].name);
      }
    }
  }
  return HFB_OK;
}

/* The same walk for header and data: by element size 8, 4, 2, 1, then by position. */
typedef void (*visit_fn)(void *context, const hfb_stored_tensor *tensor, size_t offset);

static size_t visit_in_layout(const hfb_stored_tensor *tensors, int count, visit_fn visit, void *context) {
  size_t offset = 0;
  for (size_t bytes = LARGEST_ELEMENT_BYTES; bytes > 0; bytes /= 2) {
    for (int i = 0; i < count; i++) {
      if (hfb_storage_bytes(tensors[i].storage) != bytes) continue;
      visit(context, &tensors[i], offset);
      offset += tensors[i].bytes;
    }
  }
  return offset;
}

static void visit_header(void *context, const hfb_stored_tensor *tensor, size_t offset) {
  hfb_strbuf *header = context;
  hfb_strbuf_append(header, header->length > 1 ? "," : "");
  append_entry(header, tensor, offset);
}

static void visit_data(void *context, const hfb_stored_tensor *tensor, size_t offset) {
  unsigned char *data = context;
  if (tensor->bytes) memcpy(data + offset, tensor->data, tensor->bytes);
}

hfb_status hfb_safetensors_write(const char *path, const hfb_stored_tensor *tensors, int count) {
  HFB_TRY(check_names(tensors, count));
  hfb_strbuf header;
  hfb_strbuf_init(&header);
  hfb_strbuf_append(&header, "{");
  size_t data_bytes = visit_in_layout(tensors, count, visit_header, &header);
  hfb_strbuf_append(&header, "}");
  while (header.status == HFB_OK && header.length % HEADER_ALIGNMENT != 0) hfb_strbuf_append(&header, " ");
  hfb_status status = hfb_strbuf_status(&header);
  unsigned char *file = NULL;
  size_t head_bytes = LENGTH_BYTES + header.length;
  if (status == HFB_OK) status = hfb_mem_alloc(head_bytes + data_bytes, 1, &file);
  if (status == HFB_OK) {
    for (int i = 0; i < LENGTH_BYTES; i++) file[i] = (unsigned char)((uint64_t)header.length >> (8 * i));
    memcpy(file + LENGTH_BYTES, header.data, header.length);
    visit_in_layout(tensors, count, visit_data, file + head_bytes);
    status = hfb_file_write_atomic(path, file, head_bytes + data_bytes);
  }
  hfb_mem_free(file);
  hfb_strbuf_deinit(&header);
  return status;
}
