/* hfb_tensor_copy: contiguous rows by memcpy, transposed matrices in tiles, everything else element by element. */
#include <string.h>

#include "device/convert.h"
#include "device/strided.h"

enum {
  COPY_GRAIN_BYTES = 128 << 10, /* of one task: long beside handing it out, short beside a whole tensor */
  TILE_ELEMENTS = 64,           /* side of a transposed tile */
};

#define T uint8_t
#define NAME(x) x##_1
#include "device/copy_tmpl.c"
#define T uint16_t
#define NAME(x) x##_2
#include "device/copy_tmpl.c"
#define T uint32_t
#define NAME(x) x##_4
#include "device/copy_tmpl.c"
#define T uint64_t
#define NAME(x) x##_8
#include "device/copy_tmpl.c"

typedef uint32_t vec_4 __attribute__((vector_size(16)));

static vec_4 load_vec_4(const char *from) {
  vec_4 value;
  memcpy(&value, from, sizeof(value));
  return value;
}

/* to[r][c] = from[c][r] for a square of four: two rounds of interleaving the halves. */
static inline void transpose_square(const char *from, int64_t from_row_stride, char *to, int64_t to_row_stride) {
  vec_4 a = load_vec_4(from), b = load_vec_4(from + from_row_stride);
  vec_4 c = load_vec_4(from + 2 * from_row_stride), d = load_vec_4(from + 3 * from_row_stride);
  vec_4 ac_low = __builtin_shufflevector(a, c, 0, 4, 1, 5), ac_high = __builtin_shufflevector(a, c, 2, 6, 3, 7);
  vec_4 bd_low = __builtin_shufflevector(b, d, 0, 4, 1, 5), bd_high = __builtin_shufflevector(b, d, 2, 6, 3, 7);
  const vec_4 rows[4] = {
      __builtin_shufflevector(ac_low, bd_low, 0, 4, 1, 5), __builtin_shufflevector(ac_low, bd_low, 2, 6, 3, 7),
      __builtin_shufflevector(ac_high, bd_high, 0, 4, 1, 5), __builtin_shufflevector(ac_high, bd_high, 2, 6, 3, 7)};
  for (int r = 0; r < 4; r++) memcpy(to + r * to_row_stride, &rows[r], sizeof(rows[r]));
}

/* As transpose_4, by squares: floats are what models transpose. */
static void transpose_squares(const char *from, int64_t from_row_stride, char *to, int64_t to_row_stride, int64_t rows,
                              int64_t cols) {
  int64_t whole_rows = rows / 4 * 4, whole_cols = cols / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4) {
    for (int64_t c = 0; c < whole_cols; c += 4) {
      transpose_square(from + c * from_row_stride + r * 4, from_row_stride, to + r * to_row_stride + c * 4,
                       to_row_stride);
    }
  }
  transpose_4(from + whole_cols * from_row_stride, from_row_stride, to + whole_cols * 4, to_row_stride, rows,
              cols - whole_cols);
  transpose_4(from + whole_rows * 4, from_row_stride, to + whole_rows * to_row_stride, to_row_stride,
              rows - whole_rows, whole_cols);
}

typedef struct width_copy {
  hfb_strided_row_fn row;
  void (*transpose)(const char *from, int64_t from_row_stride, char *to, int64_t to_row_stride, int64_t rows,
                    int64_t cols);
} width_copy;

static const width_copy width_copies[9] = {
    [1] = {row_1, transpose_1},
    [2] = {row_2, transpose_2},
    [4] = {row_4, transpose_squares},
    [8] = {row_8, transpose_8},
};

typedef struct conversion {
  hfb_dtype from, to;
} conversion;

static void convert_row(void *context, char *const *data, const int64_t *stride, int64_t count) {
  const conversion *pair = context;
  hfb_convert_row(pair->from, data[1], stride[1], pair->to, data[0], stride[0], count);
}

/* A copy whose innermost dimension is contiguous in `to` while another one, `row_dim`, is contiguous in `from`. */
typedef struct transposition {
  const hfb_strided *walk;
  const width_copy *copy;
  int row_dim;
  int64_t row_tiles, col_tiles;
} transposition;

static void transpose_task(void *context, int64_t index, int worker) {
  (void)worker;
  const transposition *job = context;
  const hfb_strided *walk = job->walk;
  int col_dim = walk->rank - 1;
  int64_t col = index % job->col_tiles * TILE_ELEMENTS;
  int64_t row = index / job->col_tiles % job->row_tiles * TILE_ELEMENTS;
  int64_t rest = index / job->col_tiles / job->row_tiles;
  char *to = walk->data[0] + row * walk->stride[0][job->row_dim] + col * walk->stride[0][col_dim];
  const char *from = walk->data[1] + row * walk->stride[1][job->row_dim] + col * walk->stride[1][col_dim];
  for (int d = col_dim - 1; d >= 0; d--) {
    if (d == job->row_dim) continue;
    to += rest % walk->dim[d] * walk->stride[0][d];
    from += rest % walk->dim[d] * walk->stride[1][d];
    rest /= walk->dim[d];
  }
  int64_t rows = walk->dim[job->row_dim] - row, cols = walk->dim[col_dim] - col;
  job->copy->transpose(from, walk->stride[1][col_dim], to, walk->stride[0][job->row_dim],
                       rows < TILE_ELEMENTS ? rows : TILE_ELEMENTS, cols < TILE_ELEMENTS ? cols : TILE_ELEMENTS);
}

/* Returns false when the walk is no transposition worth tiles. */
static bool try_transpose(const hfb_strided *walk, const width_copy *copy, int64_t width, hfb_pool *pool) {
  int last = walk->rank - 1;
  if (walk->stride[0][last] != width || walk->stride[1][last] == width || walk->stride[1][last] == 0) return false;
  transposition job = {.walk = walk, .copy = copy, .row_dim = -1};
  for (int d = 0; d < last; d++) {
    if (walk->stride[1][d] == width) job.row_dim = d;
  }
  if (job.row_dim < 0 || walk->dim[job.row_dim] < 4 || walk->dim[last] < 4) return false;
  job.row_tiles = (walk->dim[job.row_dim] + TILE_ELEMENTS - 1) / TILE_ELEMENTS;
  job.col_tiles = (walk->dim[last] + TILE_ELEMENTS - 1) / TILE_ELEMENTS;
  int64_t matrices = walk->count / (walk->dim[job.row_dim] * walk->dim[last]);
  bool is_small = walk->count * width <= COPY_GRAIN_BYTES;
  hfb_pool_run(is_small ? NULL : pool, matrices * job.row_tiles * job.col_tiles, transpose_task, &job);
  return true;
}

hfb_status hfb_tensor_copy(const hfb_tensor *from, const hfb_tensor *to, hfb_pool *pool) {
  if (!hfb_shape_equal(&from->shape, &to->shape)) {
    char a[HFB_SHAPE_TEXT_BYTES], b[HFB_SHAPE_TEXT_BYTES];
    return HFB_FAIL(HFB_MISMATCH, "a copy from shape %s to shape %s; the shapes must be equal",
                    hfb_shape_print(&from->shape, a, sizeof(a)), hfb_shape_print(&to->shape, b, sizeof(b)));
  }
  hfb_strided walk = hfb_strided_make(&to->shape, 2, (const hfb_tensor *const[]){to, from});
  if (walk.count == 0) return HFB_OK;
  int64_t width = (int64_t)hfb_dtype_bytes(to->dtype);
  if (from->dtype != to->dtype) {
    conversion pair = {from->dtype, to->dtype};
    hfb_strided_run(&walk, COPY_GRAIN_BYTES / width, pool, convert_row, &pair);
    return HFB_OK;
  }
  const width_copy *copy = &width_copies[width];
  if (try_transpose(&walk, copy, width, pool)) return HFB_OK;
  hfb_strided_run(&walk, COPY_GRAIN_BYTES / width, pool, copy->row, NULL);
  return HFB_OK;
}
