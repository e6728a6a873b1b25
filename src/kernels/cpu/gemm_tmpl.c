/* The matrix-product kernels of one instruction set and element type. Included by <isa>/gemm_f32.c and gemm_f64.c,
 * which include a vec header and gemm_<type>_types.h first, and define
 *   GEMM_ISA       the name of the table that comes out
 *   GEMM_TILES     the list of micro-kernels
 *   GEMM_DOTS      the list of dot-product kernels
 *   GEMM_MAX_ROWS  rows of the tile whose accumulators fill the registers, by vectors of columns
 *   GEMM_ROW_COST  cycles for one row and one k of such a tile, by vectors
 *   GEMM_K_BLOCK   depth of a block */
#include <string.h>

#include "kernels/cpu/unroll.h"
#include "kernels/gemm_isa.h"

enum {
  LINE_ELEMENTS = 64 / (int)sizeof(gemm_scalar), /* of a cache line */
  PACK_PREFETCH_ELEMENTS = 4 * LINE_ELEMENTS,    /* how far ahead of the transposition its rows are fetched */
  COPY_ROWS = 16,                                /* rows of a matrix that are split over the panels together */
  DOT_MAX_ROWS = 6,
  DOT_COLUMNS = 4,
  DOT_PREFETCH_ELEMENTS = 4096 / (int)sizeof(gemm_scalar),
};

HFB_ALWAYS_INLINE gemm_vec load_first(const gemm_scalar *p, int64_t count) {
  return count >= GEMM_LANES ? gemm_vec_load(p) : gemm_vec_load_partial(p, count);
}

HFB_ALWAYS_INLINE void store_first(gemm_scalar *p, gemm_vec v, int64_t count) {
  if (count >= GEMM_LANES) {
    gemm_vec_store(p, v);
  } else {
    gemm_vec_store_partial(p, v, count);
  }
}

static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

/* acc += the outer products of `steps` values of k. */
HFB_ALWAYS_INLINE void multiply_steps(const int rows, const int vectors, int64_t steps, const hfb_gemm_tile *tile,
                                      const gemm_scalar *a, const gemm_scalar *b, gemm_vec *acc) {
  const int64_t a_row_stride = tile->a_row_stride;
  HFB_NO_UNROLL for (int64_t k = 0; k < steps; k++) {
    gemm_vec b_row[HFB_GEMM_MAX_VECTORS];
    HFB_UNROLL for (int j = 0; j < vectors; j++) b_row[j] = gemm_vec_load(b + j * GEMM_LANES);
    HFB_UNROLL for (int i = 0; i < rows; i++) {
      gemm_vec a_value = gemm_vec_set1(a[i * a_row_stride]);
      HFB_UNROLL for (int j = 0; j < vectors; j++) {
        acc[i * vectors + j] = gemm_vec_fma(a_value, b_row[j], acc[i * vectors + j]);
      }
    }
    a += tile->a_k_stride;
    b += tile->b_k_stride;
  }
}

/* C = alpha * acc [+ C] [+ bias]. */
HFB_ALWAYS_INLINE void finish_tile(const int rows, const int vectors, const hfb_gemm_tile *tile, gemm_vec *acc) {
  gemm_scalar *c = tile->c;
  const gemm_scalar *bias = tile->bias;
  const int64_t last_count = tile->columns - (vectors - 1) * GEMM_LANES;
  if (tile->alpha != 1.0f) {
    gemm_vec alpha = gemm_vec_set1(tile->alpha);
    HFB_UNROLL for (int i = 0; i < rows * vectors; i++) acc[i] = acc[i] * alpha;
  }
  if (tile->accumulate) {
    HFB_UNROLL for (int i = 0; i < rows; i++) {
      HFB_UNROLL for (int j = 0; j < vectors; j++) {
        const gemm_scalar *p = c + i * tile->c_row_stride + j * GEMM_LANES;
        acc[i * vectors + j] = acc[i * vectors + j] + (j < vectors - 1 ? gemm_vec_load(p) : load_first(p, last_count));
      }
    }
  }
  if (bias) {
    HFB_UNROLL for (int j = 0; j < vectors; j++) {
      const gemm_scalar *p = bias + j * GEMM_LANES;
      gemm_vec value = j < vectors - 1 ? gemm_vec_load(p) : load_first(p, last_count);
      HFB_UNROLL for (int i = 0; i < rows; i++) acc[i * vectors + j] = acc[i * vectors + j] + value;
    }
  }
  HFB_UNROLL for (int i = 0; i < rows; i++) {
    HFB_UNROLL for (int j = 0; j < vectors; j++) {
      gemm_scalar *p = c + i * tile->c_row_stride + j * GEMM_LANES;
      store_first(p, acc[i * vectors + j], j < vectors - 1 ? GEMM_LANES : last_count);
    }
  }
}

/* Inlined with constant rows and vectors, so that the accumulators are registers. The lines of C are fetched before
 * the loop and those of the next A inside it, one of each row for every cache line of k. */
HFB_ALWAYS_INLINE void multiply_tile(const int rows, const int vectors, const hfb_gemm_tile *tile) {
  gemm_vec acc[HFB_GEMM_MAX_ROWS * HFB_GEMM_MAX_VECTORS] = {{0}};
  const gemm_scalar *c = tile->c;
  HFB_UNROLL for (int i = 0; i < rows; i++) {
    HFB_UNROLL for (int j = 0; j < vectors * GEMM_LANES; j += LINE_ELEMENTS) {
      __builtin_prefetch(c + i * tile->c_row_stride + j, 1, 3);
    }
  }
  const gemm_scalar *a = tile->a, *b = tile->b, *next = tile->next_a;
  const int64_t next_row_stride = tile->a_k_stride == 1 ? tile->a_row_stride : LINE_ELEMENTS;
  const int64_t a_line = LINE_ELEMENTS * tile->a_k_stride, b_line = LINE_ELEMENTS * tile->b_k_stride;
  int64_t k = tile->k;
  for (; k >= LINE_ELEMENTS; k -= LINE_ELEMENTS) {
    HFB_UNROLL for (int i = 0; i < rows; i++) __builtin_prefetch(next + i * next_row_stride, 0, 3);
    multiply_steps(rows, vectors, LINE_ELEMENTS, tile, a, b, acc);
    a += a_line;
    b += b_line;
    next += a_line;
  }
  multiply_steps(rows, vectors, k, tile, a, b, acc);
  finish_tile(rows, vectors, tile, acc);
}

#define HFB_GEMM_TILE(rows, vectors) \
  static void multiply_##rows##x##vectors(const hfb_gemm_tile *tile) { multiply_tile(rows, vectors, tile); }
#include GEMM_TILES
#undef HFB_GEMM_TILE

/* to[j][i] = from[i][j], one vector by one vector. Not inlined: inside the loops, the compiler would carry every one of
 * its addresses along. */
static __attribute__((noinline)) void transpose_square(const gemm_scalar *from, int64_t from_stride, gemm_scalar *to,
                                                       int64_t to_stride) {
  gemm_vec square[GEMM_LANES];
  HFB_UNROLL for (int i = 0; i < GEMM_LANES; i++) {
    square[i] = gemm_vec_load(from + i * from_stride);
    __builtin_prefetch(from + i * from_stride + PACK_PREFETCH_ELEMENTS, 0, 2);
  }
  gemm_vec_transpose(square);
  HFB_UNROLL for (int i = 0; i < GEMM_LANES; i++) gemm_vec_store(to + i * to_stride, square[i]);
}

/* The same for a corner of from: `rows` x `depth` elements exist; the rest of each row of `to` becomes 0. */
static __attribute__((noinline)) void transpose_corner(const gemm_scalar *from, int64_t from_stride, int64_t rows,
                                                       int64_t depth, gemm_scalar *to, int64_t to_stride) {
  gemm_vec square[GEMM_LANES];
  HFB_UNROLL for (int i = 0; i < GEMM_LANES; i++) {
    square[i] = i < rows ? load_first(from + i * from_stride, depth) : gemm_vec_zero();
  }
  gemm_vec_transpose(square);
  HFB_UNROLL for (int i = 0; i < GEMM_LANES; i++) {
    if (i < depth) gemm_vec_store(to + i * to_stride, square[i]);
  }
}

/* `columns` columns of B, each contiguous along k, into out[k][width]. */
static void pack_columns(const gemm_scalar *b, int64_t col_stride, int64_t k, int64_t columns, int64_t width,
                         gemm_scalar *out) {
  for (int64_t k0 = 0; k0 < k; k0 += GEMM_LANES) {
    for (int64_t n0 = 0; n0 < width; n0 += GEMM_LANES) {
      const gemm_scalar *from = b + n0 * col_stride + k0;
      gemm_scalar *to = out + k0 * width + n0;
      if (k - k0 >= GEMM_LANES && columns - n0 >= GEMM_LANES) {
        transpose_square(from, col_stride, to, width);
      } else {
        transpose_corner(from, col_stride, columns - n0, min_i64(k - k0, GEMM_LANES), to, width);
      }
    }
  }
}

/* `rows` rows of one panel of the full width, which is a constant here. */
HFB_ALWAYS_INLINE void copy_panel(const int vectors, const gemm_scalar *b, int64_t row_stride, int64_t rows,
                                  gemm_scalar *out) {
  HFB_NO_UNROLL for (int64_t row = 0; row < rows; row++) {
    HFB_UNROLL for (int j = 0; j < vectors; j++) {
      gemm_vec_store(out + j * GEMM_LANES, gemm_vec_load(b + j * GEMM_LANES));
    }
    b += row_stride;
    out += vectors * GEMM_LANES;
  }
}

static void copy_part(const gemm_scalar *b, int64_t row_stride, int64_t rows, int64_t columns, int64_t width,
                      gemm_scalar *out) {
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t j = 0; j < width; j += GEMM_LANES) {
      const int64_t left = columns - j;
      gemm_vec v = left > 0 ? load_first(b + row * row_stride + j, left) : gemm_vec_zero();
      gemm_vec_store(out + row * width + j, v);
    }
  }
}

/* B with contiguous rows: each row is cut into the panels; a few rows at a time, so that both sides stay in cache. */
static void pack_rows(const gemm_scalar *b, int64_t row_stride, int64_t k, int64_t n, int64_t width, gemm_scalar *out) {
  for (int64_t k0 = 0; k0 < k; k0 += COPY_ROWS) {
    const int64_t rows = min_i64(k - k0, COPY_ROWS);
    for (int64_t n0 = 0; n0 < n; n0 += width) {
      const gemm_scalar *from = b + k0 * row_stride + n0;
      gemm_scalar *to = out + n0 * k + k0 * width;
      const int64_t vectors = n - n0 >= width ? width / GEMM_LANES : 0;
      switch (vectors) {
        case 1: copy_panel(1, from, row_stride, rows, to); break;
        case 2: copy_panel(2, from, row_stride, rows, to); break;
        case 3: copy_panel(3, from, row_stride, rows, to); break;
        case 4: copy_panel(4, from, row_stride, rows, to); break;
        default: copy_part(from, row_stride, rows, n - n0, width, to); break;
      }
    }
  }
}

static void pack_elements(const gemm_scalar *b, int64_t row_stride, int64_t col_stride, int64_t k, int64_t n,
                          int64_t width, gemm_scalar *out) {
  for (int64_t n0 = 0; n0 < n; n0 += width) {
    gemm_scalar *panel = out + n0 * k;
    for (int64_t row = 0; row < k; row++) {
      for (int64_t j = 0; j < width; j++) {
        panel[row * width + j] = n0 + j < n ? b[row * row_stride + (n0 + j) * col_stride] : 0;
      }
    }
  }
}

static void pack_b(const void *b, int64_t row_stride, int64_t col_stride, int64_t k, int64_t n, int64_t width,
                   void *out) {
  const gemm_scalar *from = b;
  gemm_scalar *to = out;
  if (col_stride == 1) {
    pack_rows(from, row_stride, k, n, width, to);
  } else if (row_stride == 1) {
    for (int64_t n0 = 0; n0 < n; n0 += width) {
      pack_columns(from + n0 * col_stride, col_stride, k, min_i64(n - n0, width), width, to + n0 * k);
    }
  } else {
    pack_elements(from, row_stride, col_stride, k, n, width, to);
  }
}

/* `steps` runs of `count` contiguous elements, which is a constant here. */
HFB_ALWAYS_INLINE void copy_runs(const int count, const gemm_scalar *from, int64_t from_stride, int64_t steps,
                                 gemm_scalar *to) {
  for (int64_t step = 0; step < steps; step++) {
    memcpy(to, from, (size_t)count * sizeof(gemm_scalar));
    from += from_stride;
    to += count;
  }
}

/* `count` rows of A for `steps` values of k into one strip. Column-major A comes in runs, most of them as long as the
 * tiles of the instruction sets are high. */
static void pack_strip(const gemm_scalar *a, int64_t row_stride, int64_t col_stride, int64_t count, int64_t steps,
                       gemm_scalar *out) {
  if (row_stride == 1 && count == 8) {
    copy_runs(8, a, col_stride, steps, out);
  } else if (row_stride == 1 && count == 6) {
    copy_runs(6, a, col_stride, steps, out);
  } else {
    for (int64_t step = 0; step < steps; step++, a += col_stride, out += count) {
      for (int64_t i = 0; i < count; i++) out[i] = a[i * row_stride];
    }
  }
}

/* A few k at a time through all strips: where A is stored column by column, a handful of lines is read along. */
static void pack_a(const void *a, int64_t row_stride, int64_t col_stride, int64_t rows, int64_t strips, int64_t k,
                   void *out) {
  for (int64_t k0 = 0; k0 < k; k0 += COPY_ROWS) {
    int64_t count;
    for (int64_t strip = 0, first = 0; strip < strips; strip++, first += count) {
      count = rows / strips + (strip < rows % strips);
      pack_strip((const gemm_scalar *)a + first * row_stride + k0 * col_stride, row_stride, col_stride, count,
                 min_i64(k - k0, COPY_ROWS), (gemm_scalar *)out + first * k + k0 * count);
    }
  }
}

/* acc += rows of A times columns of B for one vector of k. */
HFB_ALWAYS_INLINE void dot_step(const int rows, const int columns, const hfb_gemm_dot *dot, const gemm_scalar *a,
                                const gemm_scalar *b, int64_t depth, gemm_vec *acc) {
  gemm_vec b_part[DOT_COLUMNS];
  HFB_UNROLL for (int j = 0; j < columns; j++) b_part[j] = load_first(b + j * dot->b_col_stride, depth);
  HFB_UNROLL for (int i = 0; i < rows; i++) {
    gemm_vec a_part = load_first(a + i * dot->a_row_stride, depth);
    HFB_UNROLL for (int j = 0; j < columns; j++) {
      acc[i * columns + j] = gemm_vec_fma(a_part, b_part[j], acc[i * columns + j]);
    }
  }
}

HFB_ALWAYS_INLINE void dot_tile(const int rows, const int columns, const hfb_gemm_dot *dot, int64_t row, int64_t col) {
  gemm_vec acc[DOT_MAX_ROWS * DOT_COLUMNS] = {{0}};
  const gemm_scalar *a = (const gemm_scalar *)dot->a + row * dot->a_row_stride;
  const gemm_scalar *b = (const gemm_scalar *)dot->b + col * dot->b_col_stride;
  /* Short columns end before the hardware has learned to fetch them, so the next ones are fetched here. */
  const int64_t next = dot->k <= DOT_PREFETCH_ELEMENTS ? columns * dot->b_col_stride : 0;
  int64_t k = 0;
  HFB_NO_UNROLL for (; k + LINE_ELEMENTS <= dot->k; k += LINE_ELEMENTS) {
    HFB_UNROLL for (int j = 0; j < columns; j++) __builtin_prefetch(b + k + next + j * dot->b_col_stride, 0, 3);
    HFB_UNROLL for (int i = 0; i < LINE_ELEMENTS; i += GEMM_LANES) {
      dot_step(rows, columns, dot, a + k + i, b + k + i, GEMM_LANES, acc);
    }
  }
  HFB_NO_UNROLL for (; k + GEMM_LANES <= dot->k; k += GEMM_LANES) {
    dot_step(rows, columns, dot, a + k, b + k, GEMM_LANES, acc);
  }
  if (k < dot->k) dot_step(rows, columns, dot, a + k, b + k, dot->k - k, acc);
  const gemm_scalar *bias = dot->bias;
  HFB_UNROLL for (int i = 0; i < rows; i++) {
    gemm_scalar sums[DOT_COLUMNS];
    if (columns == DOT_COLUMNS) {
      gemm_vec_hsum4(acc + i * columns, sums);
    } else {
      HFB_UNROLL for (int j = 0; j < columns; j++) sums[j] = gemm_vec_hsum(acc[i * columns + j]);
    }
    gemm_scalar *c = (gemm_scalar *)dot->c + (row + i) * dot->c_row_stride + col;
    HFB_UNROLL for (int j = 0; j < columns; j++) {
      gemm_scalar value = sums[j] * (gemm_scalar)dot->alpha;
      if (dot->accumulate) value += c[j];
      if (bias) value += bias[col + j];
      c[j] = value;
    }
  }
}

typedef void (*dot_tile_fn)(const hfb_gemm_dot *dot, int64_t row, int64_t col);

#define HFB_GEMM_DOT(rows, columns)                                                        \
  static void dot_##rows##x##columns(const hfb_gemm_dot *dot, int64_t row, int64_t col) { \
    dot_tile(rows, columns, dot, row, col);                                                \
  }
#include GEMM_DOTS
#undef HFB_GEMM_DOT

static const dot_tile_fn dot_tiles[DOT_MAX_ROWS + 1][DOT_COLUMNS + 1] = {
#define HFB_GEMM_DOT(rows, columns) [rows][columns] = dot_##rows##x##columns,
#include GEMM_DOTS
#undef HFB_GEMM_DOT
};

/* A few columns of B, which stay in L1, meet all rows of A. */
static void dot_product(const hfb_gemm_dot *dot) {
  int64_t most_rows = DOT_MAX_ROWS;
  while (!dot_tiles[most_rows][1]) most_rows--;
  const int64_t groups = (dot->m + most_rows - 1) / most_rows;
  for (int64_t col = 0; col < dot->n; col += DOT_COLUMNS) {
    const int64_t columns = min_i64(DOT_COLUMNS, dot->n - col);
    for (int64_t group = 0, row = 0, rows; group < groups; group++, row += rows) {
      rows = dot->m / groups + (group < dot->m % groups);
      dot_tiles[rows][columns](dot, row, col);
    }
  }
}

const hfb_gemm_isa GEMM_ISA = {
    .dtype = GEMM_DTYPE,
    .element_bytes = sizeof(gemm_scalar),
    .lanes = GEMM_LANES,
    .max_rows = GEMM_MAX_ROWS,
    .row_cost = GEMM_ROW_COST,
    .k_block = GEMM_K_BLOCK,
#define HFB_GEMM_TILE(rows, vectors) .tile[vectors][rows] = multiply_##rows##x##vectors,
#include GEMM_TILES
#undef HFB_GEMM_TILE
    .pack_b = pack_b,
    .pack_a = pack_a,
    .dot = dot_product,
};
