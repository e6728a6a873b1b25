/* Comparisons of one dtype, giving bool. Included by predicate.c with T the C type and NAME(x) adding the
 * suffix of the dtype. */

typedef bool (*NAME(predicate))(T x, T y);

static bool NAME(is_eq)(T x, T y) { return x == y; }
static bool NAME(is_ne)(T x, T y) { return x != y; }
static bool NAME(is_lt)(T x, T y) { return x < y; }
static bool NAME(is_le)(T x, T y) { return x <= y; }

/* Inlined with a constant function. The three common layouts get loops of their own, for the compiler to unroll. */
static inline __attribute__((always_inline)) void NAME(map)(NAME(predicate) function, char *const *data,
                                                            const int64_t *stride, int64_t count) {
  uint8_t *out = (uint8_t *)data[0];
  const T *x = (const T *)data[1], *y = (const T *)data[2];
  if (stride[1] == sizeof(T) && stride[2] == sizeof(T)) {
    for (int64_t i = 0; i < count; i++) out[i] = function(x[i], y[i]);
  } else if (stride[1] == sizeof(T) && stride[2] == 0) {
    T value = *y;
    for (int64_t i = 0; i < count; i++) out[i] = function(x[i], value);
  } else if (stride[1] == 0 && stride[2] == sizeof(T)) {
    T value = *x;
    for (int64_t i = 0; i < count; i++) out[i] = function(value, y[i]);
  } else {
    for (int64_t i = 0; i < count; i++) {
      out[i] = function(*(const T *)(data[1] + i * stride[1]), *(const T *)(data[2] + i * stride[2]));
    }
  }
}

static void NAME(row)(void *context, char *const *data, const int64_t *stride, int64_t count) {
  switch (*(const hfb_op *)context) {
    case HFB_OP_EQ: NAME(map)(NAME(is_eq), data, stride, count); break;
    case HFB_OP_NE: NAME(map)(NAME(is_ne), data, stride, count); break;
    case HFB_OP_LT: NAME(map)(NAME(is_lt), data, stride, count); break;
    case HFB_OP_LE: NAME(map)(NAME(is_le), data, stride, count); break;
    default: break;
  }
}

#undef T
#undef NAME
