/* Copies of elements of one width. The includer defines T, an unsigned integer of that width, and NAME(x).
 * Strides are in bytes. */

/* By memset where the value is 0, by pieces of a cache line elsewhere. */
static void NAME(fill)(T *out, T value, int64_t count) {
  enum { PIECE = 64 / sizeof(T) };
  T piece[PIECE];
  int64_t i = 0;
  if (value == 0) {
    memset(out, 0, (size_t)count * sizeof(T));
    return;
  }
  for (int k = 0; k < PIECE; k++) piece[k] = value;
  for (; i + PIECE <= count; i += PIECE) memcpy(out + i, piece, sizeof(piece));
  memcpy(out + i, piece, (size_t)(count - i) * sizeof(T));
}

static void NAME(row)(void *context, char *const *data, const int64_t *stride, int64_t count) {
  (void)context;
  char *to = data[0];
  const char *from = data[1];
  if (stride[0] == sizeof(T) && stride[1] == sizeof(T)) {
    memcpy(to, from, (size_t)count * sizeof(T));
    return;
  }
  if (stride[0] == sizeof(T) && stride[1] == 0) {
    NAME(fill)((T *)to, *(const T *)from, count);
    return;
  }
  for (int64_t i = 0; i < count; i++) *(T *)(to + i * stride[0]) = *(const T *)(from + i * stride[1]);
}

/* to[r][c] = from[c][r] for r < rows, c < cols: rows of `to` and rows of `from` have unit stride. Squares of
 * TILE_STEP elements keep both sides within a few cache lines. */
static void NAME(transpose)(const char *from, int64_t from_row_stride, char *to, int64_t to_row_stride, int64_t rows,
                            int64_t cols) {
  enum { TILE_STEP = 64 / sizeof(T) < 16 ? 64 / sizeof(T) : 16 };
  for (int64_t c0 = 0; c0 < cols; c0 += TILE_STEP) {
    int64_t c_end = cols - c0 < TILE_STEP ? cols : c0 + TILE_STEP;
    for (int64_t r0 = 0; r0 < rows; r0 += TILE_STEP) {
      int64_t r_end = rows - r0 < TILE_STEP ? rows : r0 + TILE_STEP;
      for (int64_t r = r0; r < r_end; r++) {
        T *out = (T *)(to + r * to_row_stride);
        for (int64_t c = c0; c < c_end; c++) out[c] = ((const T *)(from + c * from_row_stride))[r];
      }
    }
  }
}

#undef T
#undef NAME
