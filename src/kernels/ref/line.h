/* Reading and writing a strided line as doubles, block by block, for reference kernels of any float dtype. */
#ifndef HFB_KERNELS_REF_LINE_H
#define HFB_KERNELS_REF_LINE_H

#include "device/convert.h"

enum { HFB_LINE_BLOCK = 256 };

typedef struct hfb_line {
  hfb_dtype dtype;
  int64_t length, stride; /* stride in bytes */
  char *data;
} hfb_line;

/* Elements in the block that starts at `begin`. */
static inline int64_t hfb_line_block(const hfb_line *line, int64_t begin) {
  return line->length - begin < HFB_LINE_BLOCK ? line->length - begin : HFB_LINE_BLOCK;
}

static inline void hfb_line_read(const hfb_line *line, int64_t begin, double values[HFB_LINE_BLOCK]) {
  hfb_convert_row(line->dtype, line->data + begin * line->stride, line->stride, HFB_F64, (char *)values, 8,
                  hfb_line_block(line, begin));
}

static inline void hfb_line_write(const hfb_line *line, int64_t begin, const double values[HFB_LINE_BLOCK]) {
  hfb_convert_row(HFB_F64, (const char *)values, 8, line->dtype, line->data + begin * line->stride, line->stride,
                  hfb_line_block(line, begin));
}

#endif
